"""How much each person may take: runs at once, runs a day, bytes on the disk. Each refusal says how to go on.

Owns the limits and the count of a person's runs of the last day, which is a small file of theirs. Knows neither what
a run does nor pages.

    <person>/runs.json    when the runs of the last day were asked for, Unix time
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from backend.background.run_state import ACTIVE
from backend.interface import UserError
from backend.kept.documents import say, write_bytes_whole
from backend.people.limits import Limits
from backend.people.person import who_asks

DAY_SECONDS = 86_400


Things = Callable[[], Iterable[Any]]  # of who asks; each thing has `size_bytes`, a run also `state`


class Quotas:
    """The limits of one installation, and what counts towards them."""

    def __init__(self, limits: Limits, folder: Path, runs: Sequence[Things] = (), others: Sequence[Things] = ()):
        """`folder` is that of people; `runs` and `others` list what belongs to who asks."""
        self.limits, self.folder = limits, Path(folder)
        self.runs, self.others = runs, others

    def admit_runs(self, count: int, again: bool = False) -> None:
        """Count runs that are about to be queued, `again` or for the first time. Raises `UserError` for too many."""
        self.check_queued(count)
        self.check_disk()
        if not again:
            self._count_today(count)

    def check_queued(self, count: int) -> None:
        """Raise `UserError` if so many more runs would be too many at once."""
        most = self.limits.queued
        if most is None:
            return
        active = sum(run.state in ACTIVE for things in self.runs for run in things())
        if active + count > most:
            raise UserError(
                f"Expected at most {most} of your runs to wait or be at work, and with this there would be "
                f"{active + count}; let one end, or cancel one."
            )

    def check_disk(self, more_bytes: int = 0) -> None:
        """Raise `UserError` if what is kept for who asks, and that much more, is too large."""
        most = self.limits.disk_mib
        if most is None:
            return
        used = sum(one.size_bytes for things in (*self.runs, *self.others) for one in things()) + more_bytes
        if used > most * 2**20:
            raise UserError(
                f"Expected at most {most:,} MiB kept for one person, and yours would be {used / 2**20:,.0f}; "
                "delete something in the Library, or data that you uploaded."
            )

    def _count_today(self, count: int) -> None:
        most = self.limits.runs_a_day
        if most is None:
            return
        now, path = time.time(), self.folder / who_asks().id / "runs.json"
        times = sorted(when for when in _read_times(path) if now - DAY_SECONDS < when <= now)
        if len(times) + count > most:
            free = times[len(times) + count - most - 1] if count <= most else now
            raise UserError(
                f"Expected at most {most} runs a day for one person, and with this there would be "
                f"{len(times) + count}; go on in {describe_wait(free + DAY_SECONDS - now)}."
            )
        try:
            write_bytes_whole(path, json.dumps([*times, *[now] * count]).encode())
        except OSError as error:
            raise say(error, "runs") from error


def describe_wait(seconds: float) -> str:
    """ "12 minutes", "5 hours": not less than it is."""
    minutes = max(1, -int(-seconds // 60))
    if minutes < 120:
        return f"{minutes} {'minute' if minutes == 1 else 'minutes'}"
    return f"{-(-minutes // 60)} hours"


def _read_times(path: Path) -> list[float]:
    """None where the file is not there, or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    return [when for when in found if type(when) in (int, float)] if isinstance(found, list) else []
