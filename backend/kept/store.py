"""Captures on disk: one folder, kept below a size by dropping the least recently used.

Owns the folder. Knows nothing of what a capture means, only its id and its bytes, nor how a row is trusted
(`plain_cache.py`) or a database mended (`store_repair.py`). A lost entry costs a computation, never a result, so
anything damaged or hostile is dropped, logged and made again.
"""

from __future__ import annotations

import errno
import logging
import re
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import diskcache
from diskcache.core import DBNAME
from filelock import FileLock

from backend.interface import UserError
from backend.kept.capture_files import (
    CaptureFormatError,
    CaptureTooLarge,
    OtherVersion,
    capture_from_npz,
    capture_to_npz,
    open_archive,
    parse_header,
    parse_key,
    read_array,
)
from backend.kept.captures import Capture, CaptureKey
from backend.kept.plain_cache import BadEntry, PlainDisk, causes_of, drop_oldest, peek, set_entry
from backend.kept.store_repair import adopt_files, is_damaged, repair_settings, set_aside

logger = logging.getLogger(__name__)

BUSY_SECONDS = 30  # how long one process waits for another's write

MENDED = (
    "The list of kept results was damaged; it was set aside and made again from the kept files. "
    "A result that is missing has to be made again."
)

_ID = re.compile(r"[0-9a-f]{24}")
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """What a list says of a stored capture."""

    key: CaptureKey
    text: str
    created: float  # Unix time
    size_bytes: int  # on the disk


class StoreFailed(UserError):
    """A capture could not be kept. It is not lost: whoever made it still holds it."""


class StoreFull(StoreFailed):
    """No room for a capture. It is not lost: whoever made it still holds it."""


class CaptureStore:
    """Captures by id in a folder of their own. Threads and processes may share the folder.

    `mended`: one sentence for the page once the database was found damaged; empty as long as it never was.
    """

    mended = ""

    def __init__(self, folder: Path, size_limit_bytes: int = 2 * 2**30) -> None:
        """Open the store, making the folder (mode 0700) or mending the database where needed.

        Raises:
            StoreFailed: the folder cannot be used.
        """
        self._folder = Path(folder).resolve()
        self._size_limit_bytes = size_limit_bytes
        self._lock = threading.Lock()
        self._headers: dict[str, Entry] = {}  # read once for `entries`: an id never means another capture
        try:
            _make_private_folder(self._folder)
            self._cache = self._open()
            self._evict()
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            raise StoreFailed(
                f"Expected a folder for captures that can be written to, but {self._folder} cannot "
                f"({error}): free it or choose another folder."
            ) from error

    def put(self, capture: Capture) -> None:
        """Keep a capture, dropping the least recently used ones if there are too many.

        Raises:
            StoreFull: no room on the disk, or the capture alone is larger than the store may be.
            StoreFailed: the folder cannot be written to for another reason, or the capture breaks its format.
        """
        try:
            data = capture_to_npz(capture)
        except CaptureTooLarge as error:
            raise StoreFull(str(error)) from error
        except CaptureFormatError as error:
            # Our own mistake, but no reason for the user to lose the answer on the page.
            logger.error("Capture %s breaks its own format: %s", capture.id, error)
            raise StoreFailed(str(error)) from error
        if len(data) > self._size_limit_bytes:
            raise self._too_large(len(data))
        try:
            self._run(lambda cache: set_entry(cache, capture.id, data))
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            self._cache.close()  # a failed commit leaves the connection inside its transaction
            raise _failure(error) from error
        self._evict()
        if not self._look(lambda cache: capture.id in cache or self._fits(cache, len(data)), True):
            raise self._too_large(len(data))

    def get(self, capture_id: str) -> Capture | None:
        """Return a capture, or None where there is none to be trusted; that entry is then removed.

        One that another version of AIA Lens wrote is None as well, and stays for that version.

        Raises:
            UserError: not an id.
        """
        check_id(capture_id)
        try:
            data = self._read(capture_id)
            if data is None:
                return None
            if type(data) is not bytes:
                raise BadEntry("its value is not bytes")
            capture = capture_from_npz(data)
            if capture.id != capture_id:
                raise BadEntry("it holds another capture")
            return capture
        except OtherVersion as error:
            logger.info("Left capture %s in the store as it is: %s", capture_id, error)
        except (BadEntry, CaptureFormatError) as error:
            logger.warning("Dropped capture %s from the store: %s", capture_id, error)
            self._drop(capture_id)
        except (OSError, sqlite3.Error, diskcache.Timeout, MemoryError) as error:
            logger.warning("Could not read capture %s from the store: %s", capture_id, error)
        return None

    def __contains__(self, capture_id: str) -> bool:
        """Say whether there is an entry, good or not; like `get`, raises UserError for what is no id."""
        check_id(capture_id)
        return bool(self._look(lambda cache: capture_id in cache, False))

    def ids(self) -> list[str]:
        """List the ids in the store, the newest first."""
        keys = self._look(lambda cache: list(reversed(cache)), [])
        return [key for key in keys if _ID.fullmatch(key)]

    def recent(self, limit: int) -> list[tuple[CaptureKey, str]]:
        """Key and answer of the newest captures, the newest first."""
        return [(entry.key, entry.text) for entry in self.entries(limit)]

    def entries(self, limit: int | None = None) -> list[Entry]:
        """The newest captures, the newest first, without unpacking their arrays.

        Looking at the list is no use of a capture: what is dropped next does not change. Bad entries are passed over.
        """
        ids = self.ids()
        there = set(CaptureStore.ids(self))
        self._headers = {i: entry for i, entry in [*self._headers.items()] if i in there}
        found: list[Entry] = []
        for capture_id in ids:
            if len(found) == limit:
                break
            entry = self._headers.get(capture_id)
            entry = entry or self._look(lambda cache, i=capture_id: _read_entry(cache, i), None)
            if entry is not None:
                self._headers[capture_id] = entry
                found.append(entry)
        return found

    def computed(self, capture_id: str) -> Capture | None:
        """What an equal request made before; None where it must be made."""
        return self.get(capture_id)

    def take_in(self, capture: Capture) -> None:
        """Keep a capture that was made elsewhere. Raises as `put`."""
        self.put(capture)

    def link(self, capture_id: str) -> str:
        """What opens a capture for anybody who is given it: here its id."""
        return capture_id

    def id_of(self, link: str) -> str | None:
        """The id that a link opens; None where it opens nothing. Raises `UserError` for what is no link."""
        check_id(link)
        return link

    def raw(self, capture_id: str) -> bytes | None:
        """A capture's file, checked as `get` does, without noting its use; None where there is none to be trusted.

        Raises `UserError` for what is no id.
        """
        check_id(capture_id)
        try:
            data = self._look(lambda cache: peek(cache, capture_id), None)
            return data if type(data) is bytes and capture_from_npz(data).id == capture_id else None
        except (BadEntry, CaptureFormatError) as error:
            logger.warning("Capture %s is damaged: %s", capture_id, error)
            return None

    def delete(self, capture_id: str) -> None:
        """Drop a capture; nothing happens where there is none. Raises `UserError` for what is no id."""
        check_id(capture_id)
        self._drop(capture_id)

    @property
    def size_limit_bytes(self) -> int:
        return self._size_limit_bytes

    def size_bytes(self) -> int:
        """Return what the store takes on the disk."""
        return self._look(lambda cache: cache.volume(), 0)

    def close(self) -> None:
        """Close this thread's connection; other threads' close when they end. Usable again after."""
        self._cache.close()

    def _fits(self, cache: diskcache.Cache, size_bytes: int) -> bool:
        """Whether so much fits beside the database: then it was kept, and dropped as the oldest when others came."""
        return cache.volume() - cache.reset("size") + size_bytes <= self._size_limit_bytes

    def _too_large(self, size_bytes: int) -> StoreFull:
        return StoreFull(
            f"Expected a capture that fits into the store's {self._size_limit_bytes / 2**20:.1f} MiB, but this one "
            f"takes {size_bytes / 2**20:.1f} MiB: it is shown but not kept; ask for fewer tokens or raise the limit."
        )

    def _open(self) -> diskcache.Cache:
        """Open the database, or set it aside and start a new one from the values' files."""
        database = self._folder / DBNAME
        with FileLock(self._folder / "open.lock", timeout=BUSY_SECONDS):
            try:
                new = not repair_settings(database, BUSY_SECONDS)
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
                set_aside(database, error)
                new, self.mended = True, MENDED
            cache = diskcache.Cache(
                str(self._folder),
                timeout=BUSY_SECONDS,
                disk=PlainDisk,
                eviction_policy="least-recently-used",
                cull_limit=0,  # diskcache drops ten at a time, the one just put among them: see `_evict`
                size_limit=self._size_limit_bytes,
                disk_min_file_size=0,  # every capture is a file, so a lost database loses no capture
                # No write-ahead log: it needs shared memory that a full disk or a mounted bucket may not
                # give, even to read. Without fsync, since the files outlive a lost database.
                sqlite_journal_mode="delete",
                sqlite_synchronous=0,
                sqlite_mmap_size=0,  # a mapped database that shrinks on a full disk kills the process
            )
            if new:
                adopt_files(cache, self._folder)
        return cache

    def _run(self, action: Callable[[diskcache.Cache], T]) -> T:
        """Run an action, once more on a rebuilt database if this one turns out damaged."""
        cache = self._cache
        try:
            return action(cache)
        except (sqlite3.DatabaseError, diskcache.Timeout) as error:
            if not is_damaged(error):
                raise
        with self._lock:
            if self._cache is cache:  # else another thread has rebuilt it
                cache.close()
                self._cache = self._open()
        return action(self._cache)

    def _look(self, action: Callable[[diskcache.Cache], T], otherwise: T) -> T:
        try:
            return self._run(action)
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            logger.warning("Could not look into the capture store: %s", error)
            return otherwise

    def _read(self, capture_id: str) -> Any:
        """Return the raw value, noting its use; on a full or busy disk without noting it."""
        try:
            return self._run(lambda cache: cache.get(capture_id))
        except (OSError, sqlite3.Error, diskcache.Timeout):
            self._cache.close()
            return self._run(lambda cache: peek(cache, capture_id))

    def _drop(self, capture_id: str) -> None:
        try:
            self._run(lambda cache: cache.delete(capture_id))
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            self._cache.close()
            logger.warning("Could not drop capture %s from the store: %s", capture_id, error)

    def _evict(self) -> None:
        """Drop the least recently used, one by one, until the limit holds."""
        try:
            while self._cache.volume() > self._size_limit_bytes and drop_oldest(self._cache):
                pass
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            self._cache.close()
            logger.warning("Could not make the capture store smaller: %s", error)


def check_id(capture_id: str) -> None:
    """Raise `UserError` for anything but 24 hexadecimal digits."""
    if not isinstance(capture_id, str) or not _ID.fullmatch(capture_id):
        raise UserError(
            f"Expected 24 hexadecimal digits, but {str(capture_id)[:40]!r} is not a capture id: "
            "copy the whole link or id again."
        )


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        try:
            folder.chmod(0o700)
        except OSError as error:  # some mounted buckets have no modes; the contents are checked anyway
            logger.warning("Could not keep other users out of the capture store's folder: %s", error)


def _read_entry(cache: diskcache.Cache, capture_id: str) -> Entry | None:
    """What an entry's header says; None for a bad entry, which is left to `CaptureStore.get` to drop."""
    try:
        data = peek(cache, capture_id)
        if type(data) is not bytes:
            return None
        header = parse_header(read_array(*open_archive(data), "header"))
        key, text, created = parse_key(header["key"]), header["text"], header["created"]
        good = key.id == capture_id and type(text) is str and type(created) in (int, float) and 0 <= created < 1e11
        return Entry(key, text, created, len(data)) if good else None
    except (OSError, sqlite3.Error):
        raise
    except Exception:  # hostile bytes raise nearly anything, see `capture_from_npz`
        return None


def _failure(error: Exception) -> StoreFailed:
    for cause in causes_of(error):
        full_disk = isinstance(cause, OSError) and cause.errno in _FULL_ERRNOS
        if full_disk or getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL" or "disk is full" in str(cause):
            return StoreFull(
                "Expected room on the disk to keep this capture, but the disk is full: it is shown but not kept; "
                "free some space or delete old captures."
            )
    return StoreFailed(
        "Expected to write this capture to the store, but the folder is busy or cannot be written to: "
        "it is shown but not kept; check the folder and its permissions."
    )
