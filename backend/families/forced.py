"""A stored capture's tokens forced through its model again: how likely each one is, with attention knocked out or not.

Owns how a capture's sequence is read back and fed: what precedes the rows of an answer is passed once and cached, since
it cannot change; a drawing goes through the pass that training uses. Knows no family's tokens, nor which keys are
forbidden where (`backend.knockout`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from transformers import DynamicCache

from aia.batch import NO_LABEL
from aia.intensity import Group, Task, group_index
from aia.knockout import Knockout
from backend.families import as_trainable
from backend.families.base import FamilyModel, Prefill
from backend.interface import CancelFlag, UserError
from backend.kept.captures import Capture
from backend.pictures import load_picture

_MOST_ELEMENTS = 2**27  # of all tensors of one pass that grow with its batch


@dataclass(frozen=True)
class Scores:
    """Of each copy and token: its log-probability in nats, float32 [W, n], and whether it is the likeliest, bool."""

    log_probabilities: torch.Tensor
    likeliest: torch.Tensor


class Forced(Protocol):
    """A sequence whose tokens are known, as `force` makes it."""

    groups: torch.Tensor  # int64 [N] of all tokens fed
    start: int  # position of the row that chose the first token
    tokens: list[str]  # those scored
    most_copies: int  # of the sequence in one pass

    def score(self, knockout: Knockout | None = None, copies: int = 1) -> Scores:
        """Score the tokens in several copies of the sequence, a knock-out's sequences."""
        ...


def force(model: FamilyModel, capture: Capture, first: int | None = None) -> Forced:
    """A capture's sequence on the model that made it; rows from position `first` on may be knocked out.

    By default these are the rows that chose its tokens. Raises `UserError` where the sequence cannot be read back.
    """
    prefill = prefill_of(model, capture)
    made = read_made(model, capture, prefill)
    if not made:
        raise UserError(
            "Expected an answer of at least one word to see what it rests on, got an empty one; ask something else."
        )
    if capture.task == Task.GENERATION:
        return ForcedDrawing(model, prefill, made)
    return ForcedAnswer(model, prefill, made, prefill.length - 1 if first is None else first)


def prefill_of(model: FamilyModel, capture: Capture) -> Prefill:
    """The capture's prompt as its model takes it. Raises `UserError` where that is no longer what was stored."""
    key = capture.key
    if key.task == Task.GENERATION:
        prefill = model.drawing_prefill(key.prompt, key.sampling.size)
    else:
        prefill = model.prefill(key.prompt, load_picture(capture.picture_png))
    length = int(capture.query_positions[0]) + 1
    same = prefill.length == length and prefill.groups.tolist() == [
        group_index(Group(name)) for name in capture.token_groups[:length]
    ]
    if not same:
        raise UserError(
            f"Expected the prompt to become the tokens that are stored, got others from {model.name}; run it again."
        )
    return prefill


def read_made(model: FamilyModel, capture: Capture, prefill: Prefill, cancel: CancelFlag | None = None) -> list[int]:
    """Ids of the tokens that a capture's model made, as far as they are kept. Raises `UserError` if they are lost."""
    stored = list(capture.tokens[prefill.length :])
    if capture.task == Task.GENERATION:
        names = model.code_names()
        if not set(stored) <= names.keys():
            raise UserError(f"Expected image tokens of {model.name}, got others in the capture; draw it again.")
        return [names[name] for name in stored]

    def fits(ids: list[int]) -> bool:
        return [model.tokenizer.decode([i]) for i in ids[: len(stored)]] == stored and len(ids) - len(stored) in (0, 1)

    ids = model.tokenizer(capture.text, add_special_tokens=False).input_ids
    if not fits(ids):  # some texts are cut into other tokens than they were made of
        ids = list(model.answer_tokens(prefill, capture.key.sampling, cancel=cancel))
    if not fits(ids):
        raise UserError(
            "Expected the answer to be cut into the tokens that are stored, got others, as when it was made on another "
            "machine; ask again here."
        )
    return ids


class ForcedAnswer:
    """An answer under its question; what precedes the first row that may be knocked out is passed once and kept."""

    def __init__(self, model: FamilyModel, prefill: Prefill, made: list[int], first: int):
        self.model, self.made, self.first = model, torch.tensor(made, device=model.device), first
        self.start = prefill.length - 1
        generated = prefill.groups.new_full((len(made) - 1,), group_index(Group.GENERATED))
        self.groups = torch.cat([prefill.groups, generated])
        self.tokens = [model.tokenizer.decode([token]) for token in made]
        self.whole = replace(prefill, ids=torch.cat([prefill.ids, self.made[:-1]]), groups=self.groups)
        self.cache = self._pass_prompt()
        self.inputs = model.later_inputs(self.whole, first)

    @torch.inference_mode()
    def _pass_prompt(self) -> DynamicCache:
        cache, whole = DynamicCache(config=self.model.text_config), self.whole
        before = replace(whole, ids=whole.ids[: self.first], groups=whole.groups[: self.first])
        self.model.model(**self.model.first_inputs(before), past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    @property
    def most_copies(self) -> int:
        keys, rows = len(self.groups), len(self.groups) - self.first
        kept = 2 * sum(layer.keys[0].numel() for layer in self.cache.layers) * keys // self.first
        each = kept + rows * keys + 2 * len(self.made) * self.model.text_config.vocab_size
        return max(1, _MOST_ELEMENTS // each)

    @torch.inference_mode()
    def score(self, knockout: Knockout | None = None, copies: int = 1) -> Scores:
        """See `Forced`."""
        cache = DynamicCache(config=self.model.text_config)
        for number, layer in enumerate(self.cache.layers):
            cache.update(layer.keys.expand(copies, -1, -1, -1), layer.values.expand(copies, -1, -1, -1), number)
        passing = {} if knockout is None else {"knockout": knockout}
        # The batch is the last dimension but one of ids and of positions in three dimensions alike.
        inputs = {name: value.expand(*value.shape[:-2], copies, -1) for name, value in self.inputs.items()}
        logits = self.model.model(
            **inputs, past_key_values=cache, use_cache=True, logits_to_keep=len(self.made), **passing
        ).logits
        return _score(logits, self.made)


class ForcedDrawing:
    """A drawing's patches under their prompt, without guidance: one whole pass over prompt and image tokens."""

    def __init__(self, model: FamilyModel, prefill: Prefill, made: list[int]):
        self.model, self.prefill, self.made = model, prefill, made
        self.trainable = as_trainable(model)
        self.start = prefill.length - 1
        self.choices = model.drawing_codes  # ids of what could have been drawn, ascending
        batch = self.trainable.drawn_batch(prefill, made)
        self.groups = batch.groups[0]
        learnt = batch.labels[0][batch.labels[0] != NO_LABEL]
        self.places = torch.searchsorted(self.choices, learnt)  # which choice each was
        self.tokens = [model.describe_code(code) for code in learnt.tolist()]

    @property
    def most_copies(self) -> int:
        length, config = len(self.groups), self.model.text_config
        each = length * (length + 8 * config.hidden_size) + 2 * len(self.tokens) * len(self.choices)
        return max(1, _MOST_ELEMENTS // each)

    @torch.inference_mode()
    def score(self, knockout: Knockout | None = None, copies: int = 1) -> Scores:
        """See `Forced`."""
        batch = self.trainable.drawn_batch(self.prefill, self.made, copies)
        hidden = self.trainable.hidden_states(batch, **({} if knockout is None else {"knockout": knockout}))
        wanted = hidden[batch.labels != NO_LABEL].unflatten(0, (copies, -1))  # [W, n, D]
        logits = self.trainable.head(batch)(wanted)
        if logits.shape[-1] != len(self.choices):
            logits = logits[..., self.choices]
        return _score(logits, self.places)


def _score(logits: torch.Tensor, made: torch.Tensor) -> Scores:
    """logits [W, n, V], made [n]."""
    found = logits.float().log_softmax(-1)
    taken = found.gather(-1, made.expand(len(found), -1)[..., None])[..., 0]
    return Scores(taken.cpu(), (logits.argmax(-1) == made).cpu())
