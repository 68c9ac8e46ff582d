"""The two tasks that every embedded model learns: which questions and drawings, how packed, where it counts.

Knows no model and no tokenizer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from aia import world
from assets.recipes.codes import BARE
from assets.recipes.pictures import GRID, scenes_for

QUESTION_WEIGHTS = {"describe": 0.4, "existence": 1.5, "relation": 2.0}  # per answer token; others 1
MORE_QUESTIONS = ({"existence", "colour", "count", "relation"}, {"existence", "relation"})
DRAWING_SHARES = {"one object": 3, "counting": 5, "two objects": 4, "position": 4, "several objects": 1}
CAPTION_DROP = 0.1  # share of prompts blanked for classifier-free guidance


@dataclass(frozen=True)
class Asked:
    """A question in token ids: its kind, what is asked, and what is to be said."""

    kind: str
    asked: list[int]
    told: list[int]


def ask_again(scene: world.Scene, rng: random.Random) -> list[world.Question]:
    """Questions of every kind (a description for half of the scenes), then more of the kinds that come slowest."""
    asked = world.make_questions(scene, rng)
    if rng.random() < 0.5:
        del asked["describe"]
    questions = list(asked.values())
    for kinds in MORE_QUESTIONS:
        questions += [question for kind, question in world.make_questions(scene, rng).items() if kind in kinds]
    return list(dict.fromkeys(questions))


def pack_questions(prefix: list[int], pictures: list[list[Asked]], pad: int) -> dict[str, torch.Tensor]:
    """Pictures, each with its questions, all asked first: `ids`, `weights`, `positions`, `segments` [B, N], `mask`.

    The questions of a picture share its prefix but do not see each other: the mask [B, 1, N, N] is causal
    within "prefix + own question", and positions start again after the prefix. `segments` is 0 in the
    prefix, −1 in padding, else the number of the question; `kinds` [B, Q] the place of each question's kind
    in `world.QUESTION_KINDS`, or −1.
    """
    rows = []
    for questions in pictures:
        ids, weights, segments, positions = (
            list(prefix),
            [0.0] * len(prefix),
            [0] * len(prefix),
            list(range(len(prefix))),
        )
        for number, question in enumerate(questions, start=1):
            said = question.asked + question.told
            ids += said
            weight = QUESTION_WEIGHTS.get(question.kind, 1.0)
            weights += [0.0] * len(question.asked) + [weight] * len(question.told)
            segments += [number] * len(said)
            positions += range(len(prefix), len(prefix) + len(said))
        kinds = [world.QUESTION_KINDS.index(question.kind) for question in questions]
        rows.append((ids, weights, segments, positions, kinds))
    ids, weights, segments, positions, kinds = (
        pad_rows([row[i] for row in rows], fill) for i, fill in enumerate((pad, 0.0, -1, 0, -1))
    )
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    sees = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    return {
        "ids": ids,
        "weights": weights,
        "positions": positions,
        "segments": segments,
        "kinds": kinds,
        "mask": (causal & sees)[:, None],
    }


def pad_rows(rows: list[list], fill: float) -> torch.Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [fill] * (length - len(row)) for row in rows])


def answer_loss(hidden: torch.Tensor, lm_head, batch: dict) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean cross-entropy of the said tokens under their weights, and the share of answers right of each kind.

    `hidden` [B, N, D]. An answer is right when each of its tokens is the likeliest: then it is also what
    greedy decoding says, so on fresh scenes this is the score.
    """
    weights, targets, kinds = batch["weights"][:, 1:], batch["ids"][:, 1:], batch["kinds"]
    wanted = weights > 0
    logits = lm_head(hidden[:, :-1][wanted])
    losses = F.cross_entropy(logits, targets[wanted], reduction="none") * weights[wanted]
    wrong = torch.zeros(len(kinds), kinds.shape[1] + 1, device=logits.device)  # wrong tokens of each question
    row, _ = wanted.nonzero(as_tuple=True)
    wrong.index_put_((row, batch["segments"][:, 1:][wanted]), (logits.argmax(-1) != targets[wanted]).float(), True)
    right = {}
    for number, kind in enumerate(world.QUESTION_KINDS):
        if (kinds == number).any():
            right[kind] = (wrong[:, 1:] == 0)[kinds == number].float().mean().item()
    return losses.sum() / weights.sum(), right


def choose_drawings(step: int, batch: int, focus: bool) -> tuple[list[world.Scene], list[tuple[str, bool]]]:
    """The scenes of one step, and for each its prompt and whether it is blanked for guidance.

    With `focus`, each kind of short prompt in a fixed share, and more of what only the prompt can tell:
    without it the model learns what pictures look like long before it listens to the prompt.
    """
    scenes, rng = scenes_for("drawing", step, batch, weights=(3, 4, 2, 2))
    prompts = [world.make_drawing(scene, rng).prompt for scene in scenes]
    if focus:
        kinds = rng.choices(tuple(DRAWING_SHARES), tuple(DRAWING_SHARES.values()), k=batch)
        pairs = [world.make_drawing_of_kind(rng, kind) for kind in kinds]
        scenes, prompts = [scene for scene, _ in pairs], [drawing.prompt for _, drawing in pairs]
    chosen = []
    for scene, short in zip(scenes, prompts, strict=True):
        prompt = world.describe(scene) if rng.random() < (0.25 if focus else 0.35) else short
        chosen.append((prompt, rng.random() < CAPTION_DROP))
    return scenes, chosen


def find_open_patches(codes: torch.Tensor) -> torch.Tensor:
    """Where a thing may begin, in raster order: bare background at the left and above. Codes [B, 64] → bool [B, 64]."""
    bare = F.pad((codes == BARE).view(-1, GRID, GRID).float(), (1, 1, 1, 0), value=1.0) > 0  # a border of background
    left = bare[:, 1:, :-2]
    above = bare[:, :-1, 1:-1] & bare[:, :-1, :-2] & bare[:, :-1, 2:]
    return (left & above).flatten(1)


def find_first_patches(codes: torch.Tensor) -> torch.Tensor:
    """Where a thing's first patch is, in raster order: codes [B, 64] → bool [B, 64].

    It is bare background at the left and above, so nothing but the prompt tells what comes there; the
    patches after it mostly follow from it.
    """
    return find_open_patches(codes) & (codes != BARE)


def first_patch_loss(logits: torch.Tensor, codes: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Which code, given that it is not background, at the first patch of each thing.

    `logits` [B, 64, 2048], `codes` and `first` [B, 64]. Half of it is added to the plain loss: weighting
    the plain loss instead would teach wrong odds of background.
    """
    which = logits[first].index_fill(1, torch.tensor([BARE], device=logits.device), -torch.inf)
    return F.cross_entropy(which, codes[first])


def begin_loss(logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Whether a thing begins, at every patch where one may, a thing drawn: logits [B, 64, 2048], codes [B, 64].

    These decisions make the number and the places of things, and are few among all tokens. Places count
    whatever comes there, so this teaches right odds.
    """
    bare = logits[..., BARE] - logits.logsumexp(-1)
    begins = torch.log(-torch.expm1(bare.clamp(max=-1e-6)))
    here = find_open_patches(codes)
    told = torch.where(codes == BARE, bare, begins)
    return -told[here].sum() / (codes != BARE)[here].sum()
