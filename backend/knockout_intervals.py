"""Intervals over samples of what knock-outs cost: percentile bootstrap, 95 %. Knows numbers; no model, no kind."""

from __future__ import annotations

import numpy as np

RESAMPLES = 2000
LEVELS = (0.025, 0.975)


def mean_interval(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end for the mean over samples [N, …] → […] twice."""
    flat = values.reshape(len(values), -1)
    return _ends(_weights(len(values), seed) @ flat, values.shape[1:])


def share_interval(drops: np.ndarray, totals: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ends for mean drop / mean total: drops [N, L], totals [N] → [L] twice. Samples keep both together."""
    return _ends(_shares(drops, totals, seed), drops.shape[1:])


def share_difference(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference of the shares of two sets, each (drops [N, L], totals [N]), and its ends: [L] three times.

    Both sets are drawn anew, apart from each other.
    """
    middle = a[0].mean(0) / a[1].mean() - b[0].mean(0) / b[1].mean()
    return middle, *_ends(_shares(*a, seed) - _shares(*b, seed + 1), middle.shape)


def _shares(drops: np.ndarray, totals: np.ndarray, seed: int) -> np.ndarray:
    weights = _weights(len(drops), seed)
    return weights @ drops / (weights @ totals)[:, None]


def _weights(count: int, seed: int) -> np.ndarray:
    """How much each sample counts in each resample, float64 [R, N]; every row sums to 1."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES) / count


def _ends(drawn: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(drawn, LEVELS, axis=0)
    return low.reshape(shape), high.reshape(shape)
