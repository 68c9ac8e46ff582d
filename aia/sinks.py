"""Attention sinks among patches: those that nearly every row looks at, whatever it is about.

Owns the definition. Such patches take up a map's scale and say nothing of the word that was asked for. They are told
by their rows alone, so a thing that every word is about cannot be told from a sink; that is why the rule is strict, and
why sinks are excluded by name and not by subtracting each patch's mean over rows, which would also take away what all
words rightly look at. Does not know models, captures or pages.
"""

from __future__ import annotations

import numpy as np

FAR = 5.0  # times the row's median over the patches it can see
NEARLY_ALL = 0.9  # of the rows that can see the patch
FEWEST = 4  # rows that must see a patch, and patches that a row must see, to say anything


def find_sinks(shares: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    """Which patches are sinks: attention [Q, P] of rows on patches → bool [P].

    A patch is one if at least `NEARLY_ALL` of the rows give it more than `FAR` times their median over patches.
    `seen` bool [Q, P]: which patches were there for a row; all by default.
    """
    shares = np.asarray(shares, np.float32)
    if seen is None:
        seen = np.ones(shares.shape, bool)
    judges = seen.sum(1) >= FEWEST
    shares, seen = shares[judges], seen[judges]
    counts = seen.sum(0)
    if not len(shares):
        return np.zeros(shares.shape[1], bool)
    median = np.nanmedian(np.where(seen, shares, np.nan), 1, keepdims=True)  # [Q, 1]
    far = (seen & (shares > FAR * median)).sum(0)
    return (counts >= FEWEST) & (far >= NEARLY_ALL * counts)
