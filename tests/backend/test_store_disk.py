"""A store on a disk that is full, busy or refuses: what is told, and that nothing is half there."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import diskcache
import pytest

import backend.kept.store as store_module
from backend.kept.store import CaptureStore, StoreFailed, StoreFull
from tests.backend.stored import make_capture, value_files


def test_a_full_disk_is_told_and_leaves_no_half_file(store, monkeypatch):
    def write_half(disk, path, *_rest):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", path)

    store.put(make_capture(1))
    monkeypatch.setattr(diskcache.Disk, "_write", write_half)
    with pytest.raises(StoreFull) as caught:
        store.put(make_capture())
    message = str(caught.value)
    assert "the disk is full" in message and "shown but not kept" in message
    assert "/" not in message and message.endswith(".")
    assert len(value_files(store)) == 1
    monkeypatch.undo()
    store.put(make_capture())
    assert len(store.ids()) == 2


@pytest.fixture
def full_database(store):
    """A database that may not grow by a page: SQLite says "database or disk is full"."""
    store.put(make_capture(1))
    store._cache._sql("CREATE TABLE Ballast (x)")
    pages = store._cache._sql("PRAGMA page_count").fetchone()[0]
    store._cache._sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        for _ in range(100):
            store._cache._sql("INSERT INTO Ballast VALUES (?)", ("x" * 900,))
    return store


def test_a_full_database_is_told_and_leaves_no_file(full_database):
    store, number = full_database, 2
    with pytest.raises(StoreFull):
        for number in range(2, 200):
            store.put(make_capture(number, queries=2))
    assert len(value_files(store)) == len(store.ids()) == number - 1
    store.put(make_capture(number, queries=2))  # the new connection has no such limit
    assert make_capture(number, queries=2).id in store


def test_a_folder_that_cannot_be_written_to_is_told(store, monkeypatch):
    monkeypatch.setattr(diskcache.Disk, "_write", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no", "/x")))
    with pytest.raises(StoreFailed, match="permissions") as caught:
        store.put(make_capture())
    assert not isinstance(caught.value, StoreFull) and "/" not in str(caught.value)


def test_reading_works_where_writing_does_not(store, monkeypatch):
    """Noting the time of use is a write; on a full disk it fails, and the capture is read all the same."""
    store.put(make_capture())
    error = sqlite3.OperationalError("database or disk is full")
    monkeypatch.setattr(store._cache, "get", lambda _key: (_ for _ in ()).throw(error))
    assert store.get(make_capture().id) is not None


def test_a_store_busy_elsewhere_still_reads_and_says_that_it_cannot_write(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.1)
    store = CaptureStore(tmp_path / "captures")
    store.put(make_capture())
    other = sqlite3.connect(tmp_path / "captures" / "cache.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert store.get(make_capture().id) is not None
        with pytest.raises(StoreFailed, match="busy"):
            store.put(make_capture(1))
        assert len(value_files(store)) == 1
    finally:
        other.close()
    store.put(make_capture(1))


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="choose another folder"):
        CaptureStore(tmp_path / "file")


@contextmanager
def limited_file_size(size):
    """Forbid this process to write files beyond a size, and no longer: the test runner's log may be a file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [100_000, 0], ids=["in the middle of a file", "from the first byte"])
def test_a_real_limit_on_file_sizes_is_told_as_a_full_disk(store, limit):
    store.put(make_capture())
    large = make_capture(1, queries=500)
    with limited_file_size(limit):
        with pytest.raises(StoreFull, match="the disk is full"):
            store.put(large)
        found = store.get(make_capture().id)
    assert found is not None
    assert len(value_files(store)) == 1


def test_a_really_full_disk_is_told(tmp_path):
    """On a file system of 1 MiB in memory, where this process may mount one."""
    mount = tmp_path / "small"
    mount.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("cannot mount here")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        store = CaptureStore(mount / "captures")
        (mount / "spare").write_bytes(bytes(200_000))
        with pytest.raises(StoreFull, match="the disk is full"):
            for number in range(100):
                store.put(make_capture(number))
        assert len(value_files(store)) == len(store.ids()) == number > 10
        store.close()
        with pytest.raises(OSError), open(mount / "ballast", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert store.get(make_capture(0).id) is not None, "reading works on a disk without one free byte"
        with pytest.raises(StoreFull):
            store.put(make_capture(number))
        (mount / "spare").unlink()
        store.put(replace(make_capture(number), seconds=3.0))
        assert store.get(make_capture(number).id).seconds == 3.0
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
