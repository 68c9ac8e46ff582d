"""A stored capture's tokens forced through its model again: how likely each one is, with attention knocked out or not.

Owns how the sequence is fed: what precedes the rows of an answer is passed once and cached, since it cannot change; a
drawing goes through the pass that training uses. Knows no family's tokens, how the sequence is found again
(`backend.families.looking`), nor which keys are forbidden where (`backend.knockout`).
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
from backend.families.looking import made_again, read_again
from backend.interface import UserError
from backend.kept.captures import Capture

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


def force(model: FamilyModel, capture: Capture, first: int) -> Forced:
    """A capture's sequence on the model that made it; rows from position `first` on may be knocked out.

    Raises `UserError` where the sequence cannot be read back, or has no token to score.
    """
    prefill = read_again(model, capture)
    made = made_again(model, capture, prefill)
    if capture.task == Task.GENERATION:
        return ForcedDrawing(model, prefill, made)
    written = model.tokenizer(capture.text, add_special_tokens=False).input_ids
    if written[:-1] == made:
        made = written  # the token that was made last but never fed back
    if not made:
        raise UserError(
            "Expected an answer of at least one word to see what it rests on, got an empty one; ask something else."
        )
    if max(made) >= model.text_config.vocab_size:
        raise UserError(f"Expected tokens of {model.name}, got others in the capture; run its prompt again.")
    return ForcedAnswer(model, prefill, made, first)


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
        learnt = torch.tensor([code for code in made if self.trainable.is_learnt(code)], device=model.device)
        if not len(learnt) or not torch.isin(learnt, self.choices).all():
            raise UserError(f"Expected image tokens of {model.name}, got others in the capture; draw it again.")
        self.groups = self.trainable.drawn_batch(prefill, made).groups[0]
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
