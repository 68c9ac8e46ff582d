"""What a model family hands to the trainer: token batches with groups and labels, and the model to train.

The seam between the method and the families. Knows no tokens, templates or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from aia.data import Sample
from aia.intensity import Task
from aia.probe import Probe

NO_LABEL = -100  # as torch.nn.functional.cross_entropy ignores


@dataclass(frozen=True)
class Batch:
    """Sequences of one task, padded on the right, so that causal attention needs no mask.

    - `ids` int64 [B, N]: token ids; at drawn image tokens any id, as `codes` stand there.
    - `groups` int64 [B, N]: key group of every position, PAD_GROUP for padding (`aia.intensity.GROUPS`).
    - `labels` int64 [B, N]: what comes next after each position; NO_LABEL where nothing is learnt.
    - `pictures`: pixels [B, 3, H, W] of what is asked about; None when drawing, and where `inputs` has them.
    - `inputs`: what else a pass wants of pictures of several sizes, by the names of the model's arguments.
    - `codes` int64 [B, n]: image tokens being drawn, put in from position `starts` [B] on; None when answering.
    - `weights` float32 [B]: 0 for a sample that L_AIA leaves out (dropped prompt, cut off), else 1.
    """

    task: Task
    ids: torch.Tensor
    groups: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    pictures: torch.Tensor | None = None
    codes: torch.Tensor | None = None
    starts: torch.Tensor | None = None
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def label_count(self) -> int:
        """How many tokens the batch teaches."""
        return int((self.labels != NO_LABEL).sum())


class Trainable(Protocol):
    """A loaded model that can be trained; every family that supports fine-tuning has one."""

    model: nn.Module  # holds all parameters, those of adapters included
    layers: int
    lora_targets: str  # regular expression over module names that adapters go to
    trained_modules: tuple[str, ...]  # prefixes of parameter names that a full fine-tune trains

    def collate(self, samples: Sequence[Sample], dropped: Sequence[bool]) -> Batch:
        """Tokenise samples of one task; `dropped` blanks drawing prompts. Raises `ValueError` in one sentence."""
        ...

    def ntp_sum(self, batch: Batch, probe: Probe | None = None) -> torch.Tensor:
        """Next-token cross-entropy summed over the batch's labels (nats, float32 scalar), the probe looking on."""
        ...
