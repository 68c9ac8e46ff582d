"""The small parts of token-by-token decoding that all families share: choosing, guiding, stopping.

Knows logits, seeds and key groups; no model, no tokenizer, no capture.
"""

from __future__ import annotations

import torch

from aia.intensity import Group, group_index
from aia.knockout import Knockout
from aia.probe import Probe
from backend.interface import CancelFlag, Cancelled
from backend.kept.captures import Sampling


class TokenChooser:
    """Greedy at temperature 0, else a seeded draw; the draw is on the CPU so that a seed means one thing."""

    def __init__(self, sampling: Sampling):
        self.temperature = sampling.temperature
        self.generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, logits: torch.Tensor) -> int:
        """Choose from logits [1, V]."""
        if self.temperature == 0:
            return int(logits[0].argmax())
        chances = torch.softmax(logits[0].float().cpu() / self.temperature, -1)
        return int(torch.multinomial(chances, 1, generator=self.generator))


def branches_of(sampling: Sampling) -> int:
    """2 with classifier-free guidance (conditional, unconditional), else 1."""
    return 2 if sampling.guidance > 1 else 1


def guide(scores: torch.Tensor, guidance: float) -> torch.Tensor:
    """Classifier-free guidance over scores [C, V] → [1, V]; a single branch passes through."""
    if len(scores) == 1:
        return scores
    conditional, unconditional = scores
    return (unconditional + guidance * (conditional - unconditional))[None]


def positions_of(groups: torch.Tensor, wanted: tuple[Group, ...]) -> torch.Tensor:
    """Positions whose group is one of `wanted`: groups [N] → int64 [X]."""
    return torch.isin(groups, groups.new_tensor([group_index(g) for g in wanted])).nonzero().flatten()


def mark_last_image_token(groups: list[Group]) -> None:
    """Set the last image token of a sequence apart, in place; nothing where there is none."""
    if Group.IMAGE in groups:
        groups[len(groups) - 1 - groups[::-1].index(Group.IMAGE)] = Group.IMAGE_LAST


def looking_on(probe: Probe | None, knockout: Knockout | None) -> dict[str, Probe | Knockout]:
    """The keywords of a pass that a probe looks on and a knock-out cuts; none of those that are None."""
    return {name: one for name, one in (("probe", probe), ("knockout", knockout)) if one is not None}


def stop_if(cancel: CancelFlag | None) -> None:
    """Raise `Cancelled` when the flag is set."""
    if cancel is not None and cancel.is_set():
        raise Cancelled
