"""How work ends when the server does: what is at work may finish, for a while; nothing new begins.

Owns the flag and its sentence. Knows neither the queue's order nor what is at work.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TypeVar

from backend.interface import CancelFlag, Cancelled, UserError

STOPPED = "The server is being stopped, and with it what was asked for; ask again when it is back."

Step = TypeVar("Step")


class Closing:
    """Whether the server is being stopped: `begun` as soon as it is, `over` once nothing may go on any more."""

    def __init__(self):
        self.begun, self.over = threading.Event(), threading.Event()

    def or_(self, cancel: CancelFlag | None) -> CancelFlag:
        """A flag that is set when the other is, or when nothing may go on."""
        return _Either(cancel, self.over)

    def told(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps; where they end because the server does, a `UserError` says so."""
        if self.begun.is_set():
            raise UserError(STOPPED)
        try:
            yield from steps
        except Cancelled:
            if self.over.is_set():
                raise UserError(STOPPED) from None
            raise


class _Either:
    def __init__(self, first: CancelFlag | None, second: CancelFlag):
        self._first, self._second = first, second

    def is_set(self) -> bool:
        return self._second.is_set() or (self._first is not None and self._first.is_set())
