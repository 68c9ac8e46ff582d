"""Stages: runs of layers that share one target, and how to cut, fit and stretch them (paper Tables S4, S5).

Owns `Stage`, the optimal fit of stages to a measured curve, and stretching by normalised depth. Knows one
task's curve at a time: neither tables, files, models nor the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral, Real

import numpy as np

MIN_DELTA = 0.01  # a fitted δ never falls below: with δ → 0 Huber turns into δ·|x|, which has no pull
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)  # training is in float32


@dataclass(frozen=True)
class Stage:
    """Layers `first` to `last`, both included and counted from 0, share one target and one Huber δ.

    Raises: ValueError unless 0 <= first <= last, 0 <= target <= 1, and delta is above 0 and finite, also in float32.
    """

    first: int
    last: int
    target: float
    delta: float

    def __post_init__(self) -> None:
        if not (is_whole(self.first) and is_whole(self.last) and 0 <= self.first <= self.last):
            found = f"first={self.first!r} and last={self.last!r}"
            raise ValueError(f"expected layer numbers with 0 <= first <= last, got {found}; count layers from 0")
        where = f"layers {self.first} to {self.last}"
        if not (_is_real(self.target) and 0 <= self.target <= 1):
            raise ValueError(
                f"expected a target from 0 to 1 for {where}, got {self.target!r}; it is a share of attention"
            )
        if not (_is_real(self.delta) and _SMALLEST <= self.delta <= _LARGEST):
            raise ValueError(f"expected a finite delta above 0 for {where}, got {self.delta!r}; 0.05 is usual")
        for name, kind in (("first", int), ("last", int), ("target", float), ("delta", float)):
            object.__setattr__(self, name, kind(getattr(self, name)))  # numpy scalars become plain numbers

    @property
    def layers(self) -> int:
        return self.last - self.first + 1


def fit_stages(mean: Sequence[float], std: Sequence[float], stages: int) -> tuple[Stage, ...]:
    """Cut a measured curve into the K stages that fit it best: mean [L], std [L] over samples → K stages.

    Exact least squares by dynamic programming; every layer counts alike, as in the loss's mean over layers
    (the spread is between samples, not an error of the mean, so it is no weight). T is the mean over the
    stage's layers; δ is the root mean square distance of a measured sample to T, √mean(std² + (mean − T)²),
    at least MIN_DELTA, so that samples like the measured ones lie in Huber's quadratic part. With K = L each
    layer is its own stage: the ablation "per-layer targets". Of equal fits the one that cuts earlier wins.

    Raises: ValueError for curves of different or no length, values that are no intensities, or K outside 1…L.
    """
    mean, std = _check_curve(mean, std)
    if not (is_whole(stages) and 1 <= stages <= len(mean)):
        raise ValueError(
            f"expected 1 to {len(mean)} stages for {len(mean)} layers, got {stages!r}; choose a number in this range"
        )
    return tuple(_fit_stage(mean, std, first, stop) for first, stop in pairwise(_best_cuts(mean, stages)))


def stretch_stages(stages: tuple[Stage, ...], layers: int) -> tuple[Stage, ...]:
    """Lay stages that cover a whole model over another number of layers, by normalised depth.

    Layer l of n stands at depth (l + ½)/n and takes the stage of the native layer there. Depth by centres,
    because each layer then takes up one n-th, so every stage keeps its share of the depth, and a model of one
    layer has a depth at all; l/(n − 1), by which the paper draws its Fig. 5, would give the two outer layers
    half a share. Order is kept, every layer covered once; a stage thinner than one new layer may vanish.
    """
    native = sum(stage.layers for stage in stages)
    owner = [index for index, stage in enumerate(stages) for _ in range(stage.layers)]
    owners = [owner[(2 * layer + 1) * native // (2 * layers)] for layer in range(layers)]  # ⌊(l + ½)/n · native⌋
    kept = sorted(set(owners))
    spans = pairwise([*(owners.index(index) for index in kept), layers])
    return tuple(replace(stages[i], first=first, last=stop - 1) for i, (first, stop) in zip(kept, spans, strict=True))


def _best_cuts(curve: np.ndarray, count: int) -> list[int]:
    """Where the stages of the best fit begin, and the number of layers at the end: count + 1 numbers."""
    size = len(curve)
    cost = np.full((size, size + 1), np.inf)  # of one stage [first, stop)
    for first in range(size):
        away = curve[first:] - curve[first]  # exactly 0 on a flat stretch
        cost[first, first + 1 :] = np.cumsum(away**2) - np.cumsum(away) ** 2 / np.arange(1, size - first + 1)
    cost = np.maximum(cost, 0)
    best = np.full(size + 1, np.inf)  # of layers [0, stop) in as many stages as there were rounds
    best[0] = 0
    origins = []
    for _ in range(count):
        totals = best[:size, None] + cost
        origins.append(totals.argmin(0))
        best = totals.min(0)
    cuts = [size]
    for origin in reversed(origins):
        cuts.append(int(origin[cuts[-1]]))
    return cuts[::-1]


def _fit_stage(mean: np.ndarray, std: np.ndarray, first: int, stop: int) -> Stage:
    part, spread = mean[first:stop], std[first:stop]
    target = float(np.clip(part[0] + (part - part[0]).mean(), 0, 1))  # exact where the stretch is flat
    delta = float(np.sqrt((spread**2 + (part - target) ** 2).mean()))
    return Stage(first, stop - 1, target, max(delta, MIN_DELTA))


def _check_curve(mean: Sequence[float], std: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    if mean.ndim != 1 or mean.shape != std.shape or not mean.size:
        shapes = f"{list(mean.shape)} and {list(std.shape)}"
        raise ValueError(f"expected mean and std of one shape [L], got {shapes}; give one number per layer")
    for what, values in (("mean", mean), ("std", std)):
        if not ((values >= 0) & (values <= 1)).all():  # also refuses NaN
            layer = int(np.argmin((values >= 0) & (values <= 1)))
            raise ValueError(f"expected every {what} from 0 to 1, got {values[layer]} at layer {layer}; measure again")
    return mean, std


def is_whole(value: object) -> bool:
    """Whether it is a whole number, numpy's included, and not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
