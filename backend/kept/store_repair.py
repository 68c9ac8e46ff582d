"""A store's database before diskcache obeys it, and after it was lost: checked, set aside, made again from the files.

Knows that files are captures; does not know when to repair.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path

import diskcache
from diskcache.core import MODE_BINARY

from backend.kept.capture_files import CaptureFormatError, OtherVersion, capture_from_npz
from backend.kept.plain_cache import BadEntry, causes_of

logger = logging.getLogger(__name__)


class Damaged(sqlite3.DatabaseError):
    """A database that opens but is not one of ours any more."""


def repair_settings(database: Path, busy_seconds: float) -> bool:
    """Check the database and forget every setting in it before diskcache obeys them; False if it is empty.

    Waits so long for another's write. diskcache runs stored settings as PRAGMAs and as attributes of itself; ours are
    given when opening.

    Raises:
        Damaged: readable, but not as diskcache left it.
        sqlite3.DatabaseError: no database at all, or not to be read now.
    """
    if not database.exists():
        return False
    connection = sqlite3.connect(database, timeout=busy_seconds, isolation_level=None)
    try:
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise Damaged("its pages are damaged")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return False
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM Settings WHERE key NOT IN ('count', 'size', 'hits', 'misses')")
        total = "UPDATE Settings SET value = (SELECT COALESCE(SUM({}), 0) FROM Cache) WHERE key = ?"
        connection.execute(total.format("size"), ("size",))
        connection.execute(total.format("1"), ("count",))
        connection.execute("COMMIT")
        return True
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname == "SQLITE_ERROR":  # no such table or column
            raise Damaged(str(error)) from error
        raise
    finally:
        connection.close()


def set_aside(database: Path, reason: Exception) -> None:
    """Rename a damaged database, its journals with it: a new database must not read them."""
    logger.warning("The capture store's database is damaged (%s); set it aside and made a new one.", reason)
    stamp = f"{time.time_ns():x}"
    for suffix in ("", "-journal", "-wal", "-shm"):
        path = database.with_name(database.name + suffix)
        if path.exists():
            path.rename(path.with_name(f"{path.name}.{stamp}.corrupt"))


def adopt_files(cache: diskcache.Cache, folder: Path) -> None:
    """Take up the captures whose database was lost, where they lie; delete value files that hold none."""
    adopted = 0
    for path in sorted(folder.glob("*/*/*.val"), key=lambda path: path.lstat().st_mtime):
        name = path.relative_to(folder).as_posix()
        try:
            adopted += _adopt(cache, name)
        except OtherVersion as error:
            logger.info("Left a file of the capture store as it is: %s", error)
        except (BadEntry, CaptureFormatError) as error:
            logger.warning("Deleted a file of the capture store that holds no capture: %s", error)
            cache.disk.remove(name)
        except (OSError, MemoryError) as error:
            logger.warning("Could not read a file of the capture store: %r", error)
    if adopted:
        logger.warning("Took up %d captures again whose database was lost.", adopted)


def _adopt(cache: diskcache.Cache, name: str) -> bool:
    data = cache.disk.fetch(MODE_BINARY, name, None, False)
    capture_id = capture_from_npz(data).id
    if capture_id in cache:
        raise BadEntry("another file holds the same capture")
    with cache.transact():
        cache._row_insert(capture_id, True, time.time(), (None, None, len(data), MODE_BINARY, name, None))
    return True


def is_damaged(error: Exception) -> bool:
    for cause in causes_of(error):
        name = getattr(cause, "sqlite_errorname", None) or ""
        lost = str(cause).startswith("no such table")  # somebody deleted the file under us
        if isinstance(cause, Damaged) or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or lost:
            return True
    return False
