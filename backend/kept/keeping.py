"""Which results are computed and on their way to the disk. Whoever asks for the same waits for that instead.

Knows ids; no capture and no store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MOST_SECONDS = 60.0  # that somebody waits for another's result to be written, before computing it again


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

    def wait(self, capture_id: str, seconds: float = MOST_SECONDS) -> None:
        """Return as soon as that one is not on its way, at most so much later."""
        with self._changed:
            self._changed.wait_for(lambda: capture_id not in self._ids, seconds)
