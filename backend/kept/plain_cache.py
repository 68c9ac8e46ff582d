"""diskcache without what it trusts too much: pickle, file names in rows, retries for ever.

Knows of captures only how large one may be.

diskcache (5.6.3) unpickles values and even keys if a row says so (CVE-2025-69872) and follows any file name in a row.
Of none of that is anything left here; its stored settings are `store_repair.py`'s.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from typing import Any

import diskcache
from diskcache.core import MODE_BINARY, MODE_RAW, MODE_TEXT

from backend.kept.capture_files import MAX_UNCOMPRESSED_BYTES

logger = logging.getLogger(__name__)

_VALUE_FILE = re.compile(r"[0-9a-f]{2}[/\\][0-9a-f]{2}[/\\][0-9a-f]{28}\.val")


class BadEntry(Exception):
    """A row that we would never have written."""


class PlainDisk(diskcache.Disk):
    """Text keys; values of bytes, text and numbers; files inside the folder. Never pickle."""

    def __init__(self, directory: str, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self._written = threading.local()  # .name: the file made by this thread's last `store`

    def put(self, key: Any) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError(f"a key must be text, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        """Return the key, or an empty one for a row of ours it cannot be: iterating must not stop."""
        return key if raw and type(key) is str else ""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> tuple:
        if read or type(value) not in (bytes, str, int, float):
            raise TypeError(f"a value must be bytes, text or a number, not {type(value).__name__}")
        return super().store(value, read, key)

    def filename(self, key: Any = diskcache.UNKNOWN, value: Any = diskcache.UNKNOWN) -> tuple[str, str]:
        name, path = super().filename(key, value)
        self._written.name = name
        return name, path

    def forget_written(self) -> None:
        self._written.name = None

    def discard_written(self) -> None:
        """Remove the file of this thread's last `store`, whose row could not be written."""
        name = getattr(self._written, "name", None)
        self.forget_written()
        if name is not None:
            self.remove(name)

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes | str | int | float:
        """Return a row's value.

        Raises:
            BadEntry: pickled, of another type, or in a file elsewhere, missing or too large.
        """
        if mode == MODE_RAW and filename is None and type(value) in (bytes, str, int, float):
            return value
        if mode not in (MODE_BINARY, MODE_TEXT) or read:
            raise BadEntry(f"storage mode {mode!r:.20}")
        path = self._path_inside(filename)
        if not os.path.isfile(path):
            raise BadEntry("its file is missing")
        if os.path.getsize(path) > MAX_UNCOMPRESSED_BYTES:
            raise BadEntry("its file is too large")
        try:
            return super().fetch(mode, filename, value, read)
        except OSError as error:  # diskcache takes it for a missing key
            logger.warning("Could not read a file of the capture store: %s", error.strerror)
            raise
        except UnicodeDecodeError as error:
            raise BadEntry("its text is damaged") from error

    def remove(self, file_path: Any) -> None:
        """Delete a value's file, and only that: a row may name any file at all."""
        try:
            self._path_inside(file_path)
        except BadEntry as error:
            logger.warning("Left a file alone that a damaged row of the capture store named: %s.", error)
        else:
            super().remove(file_path)

    def _path_inside(self, filename: Any) -> str:
        if type(filename) is not str or not _VALUE_FILE.fullmatch(filename):
            raise BadEntry("its file name is not one of ours")
        folder = os.path.realpath(self._directory)
        path = os.path.realpath(os.path.join(folder, filename))
        if os.path.commonpath([folder, path]) != folder:
            raise BadEntry("its file lies outside the store")
        return path


def set_entry(cache: diskcache.Cache, key: str, data: bytes) -> None:
    """Write one entry, or nothing: diskcache leaves a file behind, whole or half, when it fails.

    `retry` stays off: with it, diskcache tries for ever on a full disk, too.
    """
    cache.disk.forget_written()
    try:
        cache.set(key, data, retry=False)
    except BaseException:
        cache.disk.discard_written()
        raise


def peek(cache: diskcache.Cache, key: str) -> Any:
    """Read a value without writing its time of use, which a full disk would not take."""
    row = cache._sql("SELECT mode, filename, value FROM Cache WHERE key = ? AND raw = 1", (key,)).fetchone()
    return None if row is None else cache.disk.fetch(*row, False)


def drop_oldest(cache: diskcache.Cache) -> bool:
    """Drop the least recently used row, whatever is in it; False if there was none."""
    with cache.transact():
        row = cache._sql("SELECT rowid, filename FROM Cache ORDER BY access_time LIMIT 1").fetchone()
        if row is None:
            return False
        cache._sql("DELETE FROM Cache WHERE rowid = ?", (row[0],))
    if row[1] is not None:
        cache.disk.remove(row[1])
    return True


def causes_of(error: BaseException | None) -> list[BaseException]:
    """Return an error and those behind it; diskcache hides a full disk behind a failed ROLLBACK or a Timeout."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
