"""The two tasks that the language model learns: batches and losses of questions and of drawings.

Knows no optimizer and no file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from aia import world
from assets.recipes.codec import nearest_codes
from assets.recipes.janus import BARE, GRID, WIDTH, pixels_of, scenes_for

QUESTION_WEIGHTS = {"describe": 0.4, "existence": 1.5, "relation": 2.0}  # per answer token; others 1
DRAWING_SHARES = {"one object": 3, "counting": 5, "two objects": 4, "position": 4, "several objects": 1}
CAPTION_DROP = 0.1  # share of prompts blanked for classifier-free guidance


def make_understanding_batch(processor, step: int, batch: int) -> dict:
    """Pictures, each with one question of every kind, all asked first.

    The questions of a picture share its tokens but do not see each other: the mask is causal within
    "prefix + own question", and positions start again after the prefix.
    """
    tokenizer = processor.tokenizer
    scenes, rng = scenes_for("understanding", step, batch)
    prefix = understanding_prefix(tokenizer)
    rows = []
    for scene in scenes:
        ids, weights, segments, positions = (
            list(prefix),
            [0.0] * len(prefix),
            [0] * len(prefix),
            list(range(len(prefix))),
        )
        for number, question in enumerate(world.make_questions(scene, rng).values(), start=1):
            asked = question_ids(tokenizer, question.text)
            told = [*tokenizer(question.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            ids += asked + told
            weights += [0.0] * len(asked) + [QUESTION_WEIGHTS.get(question.kind, 1.0)] * len(told)
            segments += [number] * len(asked + told)
            positions += range(len(prefix), len(prefix) + len(asked + told))
        rows.append((ids, weights, segments, positions))
    length = max(len(row[0]) for row in rows)
    ids, weights, segments, positions = (
        torch.tensor([row[i] + [fill] * (length - len(row[i])) for row in rows])
        for i, fill in enumerate((tokenizer.pad_token_id, 0.0, -1, 0))
    )
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    sees = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    return {
        "pixels": pixels_of(scenes),
        "ids": ids,
        "weights": weights,
        "positions": positions,
        "mask": (causal & sees)[:, None],  # [B, 1, N, N]
    }


def understanding_prefix(tokenizer) -> list[int]:
    text = tokenizer.user_token + ": " + tokenizer.boi_token + tokenizer.image_token * GRID * GRID + tokenizer.eoi_token
    return tokenizer(text).input_ids


def question_ids(tokenizer, text: str) -> list[int]:
    return tokenizer(f"{text}\n\n{tokenizer.assistant_token}:", add_special_tokens=False).input_ids


def understanding_loss(model, batch: dict) -> torch.Tensor:
    with torch.no_grad():
        features = model.model.vision_model(batch["pixels"]).last_hidden_state
    features = model.model.aligner(features)
    embeds = model.get_input_embeddings()(batch["ids"])
    is_image = batch["ids"] == model.config.image_token_id
    embeds = embeds.masked_scatter(is_image[..., None], features)
    hidden = model.model.language_model(
        inputs_embeds=embeds, attention_mask=batch["mask"], position_ids=batch["positions"], use_cache=False
    ).last_hidden_state
    weights = batch["weights"][:, 1:]
    wanted = weights > 0
    losses = F.cross_entropy(model.lm_head(hidden[:, :-1][wanted]), batch["ids"][:, 1:][wanted], reduction="none")
    return (losses * weights[wanted]).sum() / weights.sum()


def make_drawing_batch(processor, book: torch.Tensor, step: int, batch: int, focus: bool) -> dict:
    """Prompts (some blanked for guidance) and the codes of their pictures.

    With `focus`, each kind of short prompt in a fixed share, and more of what only the prompt can tell:
    without it the model learns what pictures look like long before it listens to the prompt.
    """
    tokenizer = processor.tokenizer
    scenes, rng = scenes_for("drawing", step, batch, weights=(3, 4, 2, 2))
    prompts = [world.make_drawing(scene, rng).prompt for scene in scenes]
    if focus:
        kinds = rng.choices(tuple(DRAWING_SHARES), tuple(DRAWING_SHARES.values()), k=batch)
        pairs = [world.make_drawing_of_kind(rng, kind) for kind in kinds]
        scenes, prompts = [scene for scene, _ in pairs], [drawing.prompt for _, drawing in pairs]
    rows = []
    for scene, short in zip(scenes, prompts, strict=True):
        prompt = world.describe(scene) if rng.random() < (0.25 if focus else 0.35) else short
        ids = drawing_ids(tokenizer, prompt)
        if rng.random() < CAPTION_DROP:
            ids = [ids[0], *[tokenizer.pad_token_id] * (len(ids) - 2), ids[-1]]
        rows.append(ids)
    length = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
    codes = nearest_codes(pixels_of(scenes), book)
    return {
        "codes": codes,
        "first": find_first_patches(codes) if focus else torch.zeros(codes.shape, dtype=torch.bool),
        "ids": ids,
        "lengths": torch.tensor([len(row) for row in rows]),
    }


def find_first_patches(codes: torch.Tensor) -> torch.Tensor:
    """Where a thing's first patch is, in raster order: codes [B, 64] → bool [B, 64].

    It is bare background at the left and above, so nothing but the prompt tells what comes there; the
    patches after it mostly follow from it.
    """
    bare = F.pad((codes == BARE).view(-1, GRID, GRID).float(), (1, 1, 1, 0), value=1.0) > 0  # a border of background
    here, left = bare[:, 1:, 1:-1], bare[:, 1:, :-2]
    above = bare[:, :-1, 1:-1] & bare[:, :-1, :-2] & bare[:, :-1, 2:]
    return (~here & left & above).flatten(1)


def drawing_ids(tokenizer, prompt: str) -> list[int]:
    return tokenizer(f"{tokenizer.user_token}: {prompt}\n\n{tokenizer.assistant_token}:{tokenizer.boi_token}").input_ids


def drawing_loss(model, batch: dict) -> torch.Tensor:
    """Cross-entropy of the 64 codes; the picture follows its prompt at once, padding stands at the end.

    With focus, half as much again of "which code, given that it is not background" at the first patch
    of each thing; weighting the plain loss instead would teach wrong odds of background.
    """
    codes, lengths = batch["codes"], batch["lengths"]
    size, total = len(codes), batch["ids"].shape[1] + GRID * GRID - 1
    text = model.get_input_embeddings()(batch["ids"])
    embeds = torch.cat([text, text.new_zeros(size, total - text.shape[1], WIDTH)], 1)
    spots = lengths[:, None] + torch.arange(GRID * GRID - 1)  # positions of the fed-back codes
    fed = model.prepare_embeddings_for_image_generation(codes[:, :-1])
    embeds = embeds.scatter(1, spots[..., None].expand_as(fed), fed)
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    rows = lengths[:, None] - 1 + torch.arange(GRID * GRID)  # from begin-of-image to the last code but one
    hidden = hidden.gather(1, rows[..., None].expand(-1, -1, WIDTH))
    logits = model.model.generation_head(hidden)
    loss = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
    if not batch["first"].any():
        return loss
    which = logits[batch["first"]].index_fill(1, torch.tensor([BARE]), -torch.inf)
    return loss + 0.5 * F.cross_entropy(which, codes[batch["first"]])
