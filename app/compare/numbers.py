"""Sets series against each other: pairs, differences by layer, distances, correlation of the two tasks.

Pure functions on `backend.comparison.Series`. Where two models have different numbers of layers, layers are matched by
normalised depth, as stage targets are stretched: layer l of n (from 0) lies at (l + ½)/n. Knows no chart and no page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aia.curves import task_correlation
from aia.intensity import Task
from backend.comparison import Series

TASKS = (Task.GENERATION, Task.UNDERSTANDING)  # left and right, as on the Fine-tune tab
MAIN = ("capture", "after", "reference", "measurement")  # what stands for a thing when two things are compared


@dataclass(frozen=True)
class Pair:
    """Two series; `other` float [L] is the second at the layers of the first."""

    first: Series
    second: Series
    other: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """First minus second, float [L]."""
        return self.first.mean - self.other

    @property
    def by_depth(self) -> bool:
        """Whether layers were matched by depth, as the numbers of layers differ."""
        return self.first.layers != self.second.layers

    @property
    def mean_absolute(self) -> float:
        return float(np.abs(self.difference).mean())

    @property
    def largest(self) -> int:
        """The layer, from 0, where the two differ most; of equal ones the first, whatever rounding makes of them."""
        return int(np.abs(self.difference).round(6).argmax())


@dataclass(frozen=True)
class ToTargets:
    """Distances of a series to its run's targets; the AIA loss is known only as the run measured it."""

    mean_absolute: float
    aia_loss: float | None


def depths(layers: int) -> np.ndarray:
    """Depth of each layer, the centre of its cell: float [L] in 0…1."""
    return (np.arange(layers) + 0.5) / layers


def match(first: Series, second: Series) -> Pair:
    """Two series as a pair; the second is interpolated by depth where it has another number of layers."""
    if first.layers == second.layers:
        return Pair(first, second, second.mean)
    return Pair(first, second, np.interp(depths(first.layers), depths(second.layers), second.mean))


def find_pairs(series: Sequence[Series]) -> list[Pair]:
    """What is set against what: in each task the first two things, or the only run's after against its before.

    Where the things have no task in common, the first two are compared across tasks.
    """
    pairs = []
    for task in TASKS:
        main = [s for s in series if s.task == task and s.role in MAIN]
        if len(main) == 1:
            main += [s for s in series if (s.task, s.role, s.source) == (task, "before", main[0].source)]
        if len(main) >= 2:
            pairs.append(match(*main[:2]))
    main = [s for s in series if s.role in MAIN]
    if not pairs and len(main) >= 2:
        pairs.append(match(*main[:2]))
    return pairs


def find_largest(pairs: Sequence[Pair]) -> Pair | None:
    """The pair that differs most in a single layer."""
    return max(pairs, key=lambda pair: float(np.abs(pair.difference).max()), default=None)


def merge_alike(series: list[Series]) -> list[Series]:
    """Leave out what is there already: runs from one model start alike, and may share their targets."""
    kept: list[Series] = []
    for one in series:
        if one.role not in ("before", "target") or not any(_alike(one, other) for other in kept):
            kept.append(one)
    return kept


def _alike(a: Series, b: Series) -> bool:
    if (a.task, a.role, a.layers) != (b.task, b.role, b.layers):
        return False
    return np.allclose(a.mean, b.mean, atol=1e-6) and (a.role != "target" or np.allclose(a.std, b.std))


def same_layers(series: Sequence[Series]) -> bool:
    return len({s.layers for s in series}) <= 1


def distance_to_targets(one: Series, series: Sequence[Series]) -> ToTargets | None:
    """How far a run's curve is from the run's own targets; None where it has none."""
    wanted = (one.source, one.task, "target", one.layers)
    target = next((s for s in series if (s.source, s.task, s.role, s.layers) == wanted), None)
    if target is None or one.role == "target":
        return None
    known = one.distance or {}
    return ToTargets(float(np.abs(one.mean - target.mean).mean()), known.get("aia_loss"))


def find_correlations(series: Sequence[Series]) -> list[tuple[Series, float]]:
    """Pearson's r between both tasks' mean curves over layers (paper Fig. 1), where a thing has both at one moment.

    From means alone, so without an interval. → (the drawing's series, r); constant curves have none.
    """
    found = []
    drawing = [s for s in series if s.task == Task.GENERATION and s.role != "target"]
    for one in drawing:
        wanted = (one.source, one.role, Task.UNDERSTANDING, one.layers)
        other = next((s for s in series if (s.source, s.role, s.task, s.layers) == wanted), None)
        if other is not None:
            r = task_correlation(one.mean[None], other.mean[None]).r
            found += [] if math.isnan(r) else [(one, r)]
    return found


def heads_difference(pair: Pair) -> np.ndarray | None:
    """Difference of every head, float [L, H]; None unless both are captures of one task and of one shape."""
    a, b = pair.first, pair.second
    if a.heads is None or b.heads is None or a.task != b.task or a.heads.shape != b.heads.shape:
        return None
    return a.heads - b.heads
