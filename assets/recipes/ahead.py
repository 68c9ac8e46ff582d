"""Batches made ahead of the steps by worker processes, for a device that is faster than one processor makes them.

Knows no task: what makes a batch of a step is handed in, and a step's batch is the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader

Make = Callable[[int, int], dict]  # (step, size) → a batch
STEPS = 1_000_000  # of a loader: more than any training has


class Ahead:
    """`make(step, size)`, called for step after step, computed by `workers` processes beforehand; 0: here and then."""

    def __init__(self, make: Make, workers: int = 0, device: str = "cpu"):
        self.make, self.workers, self.device = make, workers, device
        self._batches: Iterator[dict] | None = None

    def __call__(self, step: int, size: int) -> dict:
        """The batch of this step on the device. With workers, steps must follow on each other at one size."""
        if not self.workers:
            batch = self.make(step, size)
        else:
            self._batches = self._batches or iter(self._loader(step, size))
            made_for, batch = next(self._batches)
            assert made_for == (step, size), (
                f"expected step {made_for[0]} of size {made_for[1]} next, got {step}, {size}"
            )
        return {k: v.to(self.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}

    def _loader(self, first: int, size: int) -> DataLoader:
        return DataLoader(
            _Steps(self.make, first, size),
            batch_size=None,
            collate_fn=lambda made: made,
            num_workers=self.workers,
            prefetch_factor=4,
            multiprocessing_context="fork",
            worker_init_fn=lambda _: torch.set_num_threads(1),
        )


class _Steps(torch.utils.data.Dataset):
    def __init__(self, make: Make, first: int, size: int):
        self.make, self.first, self.size = make, first, size

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, index: int) -> tuple[tuple[int, int], dict]:
        step = self.first + index
        return (step, self.size), self.make(step, self.size)
