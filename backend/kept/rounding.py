"""Masses of large captures in two bytes each instead of four. Knows arrays; no capture, no file.

A mass m in 0…1 becomes round(65,535 · m), so it is off by at most 1 / 131,070 (7.7e-6), and an intensity, a mean of
sums of masses, by no more than that for each group it sums. Masses are rounded once, when a large capture is made; what
is shown, kept and read back is then the same, bit for bit. Small captures are not rounded.
"""

from __future__ import annotations

import numpy as np

STEPS = 65_535
ROUNDED_FROM_BYTES = 4 * 2**20  # of float32; tiny-janus' drawings take a quarter of a MiB, Janus-Pro's 34


def round_if_large(mass: np.ndarray) -> np.ndarray:
    """Masses float32 [C, L, H, Q, G], on the grid of two bytes where they are many; else as they are."""
    return mass if mass.nbytes < ROUNDED_FROM_BYTES else from_parts(to_parts(mass))


def is_rounded(mass: np.ndarray) -> bool:
    """Whether masses are many, and packing them in two bytes loses nothing."""
    return mass.nbytes >= ROUNDED_FROM_BYTES and np.array_equal(from_parts(to_parts(mass)), mass)


def to_parts(mass: np.ndarray) -> np.ndarray:
    """Masses [C, L, H, Q, G] as uint8 [2, C, L, H, G, Q]: all high bytes, then all low ones, steps side by side.

    In this order, neighbours are alike and deflate makes 10 MiB of what takes 21 as float32.
    """
    codes = np.empty((*mass.shape[:3], mass.shape[4], mass.shape[3]), np.uint16)
    for at in np.ndindex(mass.shape[:2]):  # layer by layer, so that no second copy of all is made
        codes[at] = np.rint(np.clip(mass[at], 0, 1) * np.float32(STEPS)).swapaxes(1, 2)
    return np.stack([(codes >> 8).astype(np.uint8), (codes & 255).astype(np.uint8)])


def from_parts(parts: np.ndarray) -> np.ndarray:
    """The masses float32 [C, L, H, Q, G] that parts stand for, contiguous and never to be made writeable."""
    branches, layers, heads, groups, rows = parts.shape[1:]
    mass = np.empty((branches, layers, heads, rows, groups), np.float32)
    for at in np.ndindex(branches, layers):
        codes = parts[0][at].astype(np.uint16) << 8 | parts[1][at]
        mass[at] = codes.swapaxes(1, 2) / np.float32(STEPS)
    return np.frombuffer(memoryview(mass).toreadonly(), np.float32).reshape(mass.shape)
