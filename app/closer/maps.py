"""Dense maps on their way to the page: two bytes a cell between fixed limits, as base64. Knows no capture."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

STEPS = 65_534  # between the limits, so a value is off by at most half of 1 / 65,534 of their distance
MISSING = 65_535
LIMITS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


def encode(values: np.ndarray, limits: tuple[float, float]) -> dict[str, Any]:
    """A map [rows, columns] for `lens.heatmap`; NaN is a missing cell, what lies beyond the limits is cut off there.

    Lossy: a value that is read back is off by at most (high − low) / 131,068, that is 8e-6 for limits 0 and 1.
    """
    low, high = limits
    shares = (np.asarray(values, np.float64) - low) / (high - low)
    codes = np.rint(np.clip(np.nan_to_num(shares), 0, 1) * STEPS)
    codes[~np.isfinite(values)] = MISSING
    rows, columns = values.shape
    packed = base64.b64encode(codes.astype("<u2").tobytes()).decode()
    return {"rows": rows, "columns": columns, "low": low, "high": high, "base64": packed}


def decode(sent: dict[str, Any]) -> np.ndarray:
    """What the page reads from an encoded map: float64 [rows, columns]."""
    codes = np.frombuffer(base64.b64decode(sent["base64"]), "<u2").reshape(sent["rows"], sent["columns"])
    values = sent["low"] + codes / STEPS * (sent["high"] - sent["low"])
    return np.where(codes == MISSING, np.nan, values)


def common_limits(maps: Iterable[np.ndarray]) -> tuple[float, float]:
    """0 and a round number that no value of these maps exceeds: shares of attention with one scale."""
    return 0.0, _round_up(_largest(maps))


def even_limits(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Limits for differences, as far below zero as above it."""
    most = _round_up(_largest(maps))
    return -most, most


def _largest(maps: Iterable[np.ndarray]) -> float:
    return max((float(np.nanmax(np.abs(m))) for m in maps if np.isfinite(m).any()), default=0.0)


def _round_up(value: float) -> float:
    return next((limit for limit in LIMITS if value <= limit + 1e-6), LIMITS[-1])  # a float32's own rounding is none
