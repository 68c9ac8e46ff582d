"""What can be said of measured curves: mean and spread over samples, distance to targets, correlation of tasks.

Owns the statistics on intensities [N, L], samples by layers. Knows neither models nor how intensities were measured;
a sample without answer tokens is a row of NaN (`aia.intensity.intensity`) and is left out everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aia.intensity import Task
from aia.targets import StageTargets

_FLAT = 1e-9  # a mean curve whose values differ by less is constant: the rest is rounding


@dataclass(frozen=True)
class Curve:
    """Mean and standard deviation of each layer over samples: float64 [L] each, and how many samples they are of."""

    mean: np.ndarray
    std: np.ndarray  # ddof 1; 0 for one sample
    samples: int


@dataclass(frozen=True)
class Distance:
    """How far samples are from their targets; both 0 or more, 0 is on target."""

    aia_loss: float  # of each sample's own curve
    mean_absolute: float  # of the mean curve


@dataclass(frozen=True)
class Correlation:
    """Pearson's r in -1…1 and its 95 % interval, NaN where there is none; how often samples were drawn anew for it."""

    r: float
    low: float
    high: float
    resamples: int = 0


def summarise_curves(intensities: np.ndarray) -> Curve:
    """Mean and standard deviation over samples: intensities [N, L] → `Curve`.

    Raises: ValueError for another shape, a sample measured in some layers only, or no sample with answer tokens.
    """
    rows = _measured_rows(intensities)
    std = rows.std(0, ddof=1) if len(rows) > 1 else np.zeros(rows.shape[1])
    return Curve(rows.mean(0), std, len(rows))


def spread_over_samples(intensities: np.ndarray) -> float:
    """Standard deviation over samples, as one number: intensities [N, L] → 0 or more (paper Table 1).

    The paper prints one number per model, over 100 samples. # Differs from paper: it leaves open how layers and
    tasks become one number; here it is the mean over layers of each layer's deviation, one number per task.

    Raises: as `summarise_curves`.
    """
    return float(summarise_curves(intensities).std.mean())


def curve_distance(intensities: np.ndarray, targets: StageTargets, task: Task) -> Distance:
    """Distance of samples [N, L], or of one sample [L], to a task's targets.

    `aia_loss` is paper Eq. 2 of each sample's own intensities with the targets' δ, then the mean over samples,
    so it also counts their spread; before λ, as `aia.loss.aia_loss(…, divide_by="weighted")`. `mean_absolute` is
    the mean over layers of |mean curve − T| and does not see the spread.

    Raises: ValueError as `summarise_curves`, or for targets of another number of layers.
    """
    rows = _measured_rows(np.atleast_2d(intensities))
    if rows.shape[1] != targets.layers:
        raise ValueError(
            f"expected targets for {rows.shape[1]} layers, got {targets.layers} in {targets.name}; stretch the targets"
        )
    target, delta = (values.astype(np.float64) for values in targets.as_arrays(task))
    gap = np.abs(rows - target)
    huber = np.where(gap <= delta, 0.5 * gap**2, delta * gap - 0.5 * delta**2)
    return Distance(float(huber.mean()), float(np.abs(rows.mean(0) - target).mean()))


def task_correlation(
    generation: np.ndarray, understanding: np.ndarray, resamples: int = 1000, seed: int = 0
) -> Correlation:
    """Pearson correlation over layers of the two tasks' mean curves, the paper's conflict claim (its Fig. 1).

    generation [N, L], understanding [M, L]. The interval is a percentile bootstrap: both sets of samples are drawn
    anew, each with replacement, `resamples` times; layers stay. So it says how much r depends on which samples
    were measured, not how it would be for another model. Fewer than 3 layers or a constant mean curve have no
    correlation: r, low and high are NaN. With one sample on a side there is no interval: low and high are NaN,
    and `resamples` is 0.

    Raises: ValueError as `summarise_curves`, or for sets of different numbers of layers.
    """
    sets = [_measured_rows(generation), _measured_rows(understanding)]
    layers = [rows.shape[1] for rows in sets]
    if layers[0] != layers[1]:
        raise ValueError(f"expected both tasks over the same layers, got {layers}; measure both on one model")
    r = float(correlate_curves(*(rows.mean(0) for rows in sets)))
    if math.isnan(r) or min(map(len, sets)) < 2:
        return Correlation(r, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    drawn = correlate_curves(*(_resampled_means(rows, resamples, rng) for rows in sets))
    drawn = drawn[~np.isnan(drawn)]  # a draw may be constant though the whole is not
    if not drawn.size:
        return Correlation(r, math.nan, math.nan)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Correlation(r, float(low), float(high), resamples)


def without_each_layer(generation: np.ndarray, understanding: np.ndarray) -> np.ndarray:
    """How much `task_correlation` hangs on single layers: mean curves [L] twice → r float64 [L] without that layer.

    NaN where what is left has no correlation.
    """
    kept = ~np.eye(len(generation), dtype=bool)
    parts = [np.stack([np.asarray(curve, np.float64)[row] for row in kept]) for curve in (generation, understanding)]
    return correlate_curves(*parts)


def _measured_rows(intensities: np.ndarray) -> np.ndarray:
    """The rows that hold numbers, as float64 [N, L]; at least one."""
    rows = np.asarray(intensities, np.float64)
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"expected intensities of shape [N, L], got {list(rows.shape)}; give one row per sample")
    rows = rows[~np.isnan(rows).all(1)]
    if not len(rows):
        raise ValueError("expected at least one sample with answer tokens, got none; measure other prompts")
    if not np.isfinite(rows).all():
        raise ValueError("expected a finite intensity in every layer of a sample, got gaps; measure again")
    return rows


def _resampled_means(rows: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Mean curves of samples drawn with replacement: [N, L] → [R, L]."""
    count = len(rows)
    # How often each sample is drawn is all that a mean needs: [R, N] counts instead of [R, N, L] copies.
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples) @ rows / count


def correlate_curves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation over the last axis: [..., L] twice → [...], NaN where a curve is constant or shorter than 3."""
    if a.shape[-1] < 3:
        return np.full(a.shape[:-1], np.nan)
    flat = (np.ptp(a, -1) < _FLAT) | (np.ptp(b, -1) < _FLAT)
    a, b = (x - x.mean(-1, keepdims=True) for x in (a, b))
    scale = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    r = (a * b).sum(-1) / np.where(flat, 1, scale)
    return np.where(flat, np.nan, np.clip(r, -1, 1))
