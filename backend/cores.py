"""How many cores this process may use: those it may run on, within the quota of its container.

A container is often let run on every core of its machine, for the time of two: as many threads as cores would then
stand in each other's way. Knows neither PyTorch nor who asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """At least 1."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(1, int(min([there, *_quotas()])))


def _quotas() -> Iterator[float]:
    """Cores' worth of time that the container has, where it is limited: by control groups of version 2, or of 1."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (CGROUPS / "cpu.max").read_text().split()  # "max" where there is no limit
        yield int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = ((CGROUPS / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:  # −1 where there is no limit
            yield int(quota) / int(period)
