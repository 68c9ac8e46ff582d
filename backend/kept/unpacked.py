"""The captures that were opened last, kept unpacked: a large one takes a fifth of a second and 56 MB.

Knows the store alone, and nothing of who opens a capture, nor why.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from backend.interface import UserError
from backend.kept.captures import Capture
from backend.kept.store import CaptureStore

MOST = 2  # the pair in front of a page
NOT_THERE = "No capture “{}” is stored here; run its prompt again, or check the link."
UNREADABLE = (
    "Expected a capture that can be read, but this one is damaged or was written by another version of AIA Lens; run "
    "its prompt again."
)


class Unpacked:
    """A store seen through its last few captures. Safe to share between threads."""

    def __init__(self, store: CaptureStore):
        self._store = store
        self._kept: OrderedDict[str, Capture] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, link: str) -> Capture:
        """A stored capture by its id or link. Raises `UserError` where there is none, or none that can be read."""
        own = self._store.id_of(link)
        if own is None or link not in self._store:
            raise UserError(NOT_THERE.format(link))
        with self._lock:
            if own in self._kept:
                self._kept.move_to_end(own)
                return self._kept[own]
        found = self._store.get(link)
        if found is None:
            raise UserError(UNREADABLE)
        with self._lock:
            self._kept[own] = found
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return found

    def forget(self) -> None:
        """Let all of them go, where memory is short."""
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
