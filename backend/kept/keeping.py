"""Which results are computed and on their way to the disk. Whoever asks for the same waits for that instead.

Knows ids; no capture and no store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from backend.interface import CancelFlag

MOST_SECONDS = 60.0  # that somebody waits for another's result to be written, before computing it again
LOOK_SECONDS = 0.2  # between two looks at a cancel flag while waiting


class Keeping:
    """Safe to share between threads."""

    def __init__(self):
        self._changed = threading.Condition()
        self._ids: list[str] = []

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._ids)

    def begin(self, capture_id: str) -> None:
        """From now on others wait for it; until the end of `until_kept`."""
        with self._changed:
            self._ids.append(capture_id)

    @contextmanager
    def until_kept(self, capture_id: str) -> Iterator[None]:
        """What begun ends with this block, however it ends."""
        try:
            yield
        finally:
            with self._changed:
                self._ids.remove(capture_id)
                self._changed.notify_all()

    def has(self, capture_id: str) -> bool:
        """Whether that one is on its way."""
        return capture_id in self._ids

    def wait(self, capture_id: str, seconds: float = MOST_SECONDS, cancel: CancelFlag | None = None) -> bool:
        """Until that one is not on its way, the flag is set, or the time is over. → whether it is on its way no more"""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self.has(capture_id) and not (cancel and cancel.is_set()) and time.monotonic() < deadline:
                self._changed.wait(min(LOOK_SECONDS, seconds))
            return not self.has(capture_id)
