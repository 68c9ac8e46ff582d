"""What each person may take at most. Only numbers: what counts towards them is known by `backend.people.quotas`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """For each person; None: as much as there is."""

    queued: int | None = None  # runs that wait or are at work, and as many answers and drawings
    runs_a_day: int | None = None
    disk_mib: int | None = None  # runs, data, measurements and bundles; captures have a limit for all together
