"""The store: captures come back, old ones leave, and nothing hostile in its folder gets anywhere."""

from __future__ import annotations

import errno
import io
import logging
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import diskcache
import numpy as np
import pytest
from PIL import Image

import backend.kept.store as store_module
from aia.intensity import GROUPS, Task
from backend.interface import UserError
from backend.kept.capture_files import capture_to_npz
from backend.kept.captures import Capture, CaptureKey, Sampling
from backend.kept.store import CaptureStore, StoreFailed, StoreFull
from tests.backend.test_capture_files import pack, unpack


def make_capture(number: int = 0, queries: int = 20) -> Capture:
    """A capture of about 16 KB (its masses do not pack well)."""
    random = np.random.default_rng(number)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    return Capture(
        key=CaptureKey("tiny", "abc", "float32", Task.GENERATION, f"prompt {number}", "", Sampling()),
        text="",
        tokens=("x",) * queries,
        token_groups=("prompt",) * queries,
        grid=(8, 8),
        seconds=1.0,
        created=2.0,
        picture_png=picture.getvalue(),
        mass=random.dirichlet(np.ones(len(GROUPS)), (1, 4, 8, queries)).astype(np.float32),
        query_positions=np.arange(queries, dtype=np.int32),
        cross=np.zeros((4, queries, 0), np.float16),
        cross_positions=np.zeros(0, np.int32),
    )


@pytest.fixture
def store(tmp_path):
    opened = CaptureStore(tmp_path / "captures")
    yield opened
    opened.close()


def tamper(store: CaptureStore, statement: str, *values: object) -> None:
    with sqlite3.connect(store._folder / "cache.db") as connection:
        connection.execute(statement, values)
    connection.close()


def value_files(store: CaptureStore) -> list[Path]:
    return sorted(store._folder.rglob("*.val"))


class Marker:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_capture_comes_back_exactly(store):
    capture = make_capture()
    assert store.get(capture.id) is None and capture.id not in store and store.ids() == []
    store.put(capture)
    assert capture_to_npz(store.get(capture.id)) == capture_to_npz(capture)
    assert capture.id in store and store.ids() == [capture.id]


def test_captures_outlive_the_store_object(store):
    store.put(make_capture())
    store.close()
    again = CaptureStore(store._folder)
    assert again.get(make_capture().id).key == make_capture().key
    assert store.get(make_capture().id) is not None, "a closed store opens again by itself"


def test_recent_has_keys_and_answers_newest_first_without_the_bad_and_without_using_them(store):
    captures = [replace(make_capture(number), text=f"answer {number}") for number in range(4)]
    for capture in captures:
        store.put(capture)
    used = "SELECT key, access_time FROM Cache ORDER BY key"
    before = store._cache._sql(used).fetchall()
    tamper(store, "UPDATE Cache SET mode = 4 WHERE key = ?", captures[2].id)
    Path(value_file_of(store, captures[1].id)).write_bytes(b"PK damaged")
    wanted = [(c.key, c.text) for c in (captures[3], captures[0])]
    assert store.recent(4) == wanted and store.recent(4) == wanted  # read, then remembered
    assert store.recent(1) == wanted[:1] and store.recent(0) == []
    assert store._cache._sql(used).fetchall() == before
    store._cache.delete(captures[3].id)
    assert store.recent(4) == wanted[1:]


def value_file_of(store: CaptureStore, capture_id: str) -> Path:
    [(name,)] = store._cache._sql("SELECT filename FROM Cache WHERE key = ?", (capture_id,)).fetchall()
    return store._folder / name


def test_ids_are_listed_newest_first_and_putting_twice_keeps_one(store):
    captures = [make_capture(n) for n in range(4)]
    for capture in [*captures, captures[0]]:
        store.put(capture)
    assert store.ids() == [c.id for c in reversed(captures)]
    assert len(value_files(store)) == 4


def test_the_folder_is_private(tmp_path):
    folder = tmp_path / "open to all"
    folder.mkdir(mode=0o755)
    CaptureStore(folder).put(make_capture())
    CaptureStore(tmp_path / "new" / "deep")
    for path in (folder, tmp_path / "new" / "deep"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("bad", ["../../x", "", "a" * 23, "A" * 24, "a" * 24 + "\n", "' OR 1=1 --", None, 7, "é" * 24])
def test_what_is_no_id_is_refused_before_any_use(store, bad):
    for use in (store.get, store.__contains__):
        with pytest.raises(UserError, match="is not a capture id: "):
            use(bad)


def test_the_least_recently_used_leave_and_the_limit_holds(tmp_path):
    size = len(capture_to_npz(make_capture()))
    limit = 150_000 + 6 * size
    store = CaptureStore(tmp_path / "captures", limit)
    captures = [make_capture(n) for n in range(20)]
    for capture in captures:
        store.put(capture)
        time.sleep(0.001)
        assert store.get(captures[0].id) is not None, "in use all the time, so it stays"
        assert store.size_bytes() <= limit
    kept = store.ids()
    assert 6 <= len(kept) < 15
    assert set(kept) == {captures[0].id} | {c.id for c in captures[-len(kept) + 1 :]}
    assert len(value_files(store)) == len(kept), "their files left with them"


def test_the_newest_stays_even_when_few_fit(tmp_path):
    size = len(capture_to_npz(make_capture()))
    store = CaptureStore(tmp_path / "captures", 60_000 + 2 * size)
    for number in range(5):
        store.put(make_capture(number))
        assert make_capture(number).id in store


def test_a_capture_larger_than_the_store_is_told_and_costs_no_other(tmp_path):
    store = CaptureStore(tmp_path / "captures", 150_000)
    store.put(make_capture())
    with pytest.raises(StoreFull, match="shown but not kept"):
        store.put(make_capture(1, queries=500))
    assert store.ids() == [make_capture().id]


def test_a_capture_that_does_not_fit_beside_the_database_is_told(tmp_path):
    store = CaptureStore(tmp_path / "captures", len(capture_to_npz(make_capture())) + 1000)
    with pytest.raises(StoreFull, match="shown but not kept"):
        store.put(make_capture())
    assert store.ids() == []


def test_one_that_others_pushed_out_before_its_writer_looks_was_kept(tmp_path, monkeypatch):
    store = CaptureStore(tmp_path / "captures", 600_000)
    evict = store._evict

    def others_come_first():
        monkeypatch.setattr(store, "_evict", evict)
        for number in range(1, 60):
            store.put(make_capture(number))

    monkeypatch.setattr(store, "_evict", others_come_first)
    store.put(make_capture(0))
    assert make_capture(0).id not in store and len(store.ids()) > 5


def test_a_capture_too_large_for_its_format_is_told(store, monkeypatch):
    monkeypatch.setattr("backend.kept.capture_files.MAX_UNCOMPRESSED_BYTES", 1000)
    with pytest.raises(StoreFull):
        store.put(make_capture())


def test_a_capture_that_breaks_its_format_is_told_and_not_kept(store, caplog):
    with pytest.raises(StoreFailed, match="values of mass"):
        store.put(replace(make_capture(), mass=make_capture().mass * 2))
    assert store.ids() == [] and "breaks its own format" in caplog.text


def test_a_smaller_limit_holds_from_the_opening(tmp_path):
    store = CaptureStore(tmp_path / "captures")
    for number in range(10):
        store.put(make_capture(number))
    store.close()
    limit = 60_000 + 3 * len(capture_to_npz(make_capture()))
    small = CaptureStore(tmp_path / "captures", limit)
    assert small.size_bytes() <= limit and small.ids()[0] == make_capture(9).id


@pytest.mark.parametrize("in_file", [True, False])
def test_a_pickled_row_is_never_unpickled(store, tmp_path, caplog, in_file):
    capture, marker = make_capture(), tmp_path / "owned"
    payload = pickle.dumps(Marker(marker))
    store.put(capture)
    if in_file:
        value_files(store)[0].write_bytes(payload)
        tamper(store, "UPDATE Cache SET mode = 4")
    else:
        tamper(store, "UPDATE Cache SET mode = 4, filename = NULL, value = ?", payload)
    with caplog.at_level(logging.WARNING):
        assert store.get(capture.id) is None
    assert not marker.exists()
    assert capture.id in caplog.text and "storage mode 4" in caplog.text
    assert capture.id not in store and value_files(store) == ([] if in_file else value_files(store))
    store.put(capture)
    assert store.get(capture.id) is not None


def test_the_payload_of_that_test_would_have_worked_on_diskcache_itself(tmp_path):
    cache, marker = diskcache.Cache(str(tmp_path / "plain")), tmp_path / "owned"
    cache["key"] = b"good"
    with sqlite3.connect(tmp_path / "plain" / "cache.db") as connection:
        connection.execute("UPDATE Cache SET mode = 4, value = ?", (pickle.dumps(Marker(marker)),))
    cache.get("key")
    assert marker.exists()


def test_a_pickled_key_is_never_unpickled(store, tmp_path):
    store.put(make_capture())
    marker = tmp_path / "owned"
    tamper(store, "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 1, 'x')", pickle.dumps(Marker(marker)))
    tamper(store, "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 1, 1, 'x')", b"bytes")
    tamper(store, "INSERT INTO Cache (key, raw, mode, value) VALUES ('../../x', 1, 1, 'x')")
    assert store.ids() == [make_capture().id]
    assert not marker.exists()


@pytest.mark.parametrize("link", [False, True], ids=["by name", "by a symbolic link"])
def test_a_file_outside_the_folder_is_neither_read_nor_deleted(store, tmp_path, link, caplog):
    capture = make_capture()
    store.put(capture)
    outside = tmp_path / "outside.val"
    outside.write_bytes(capture_to_npz(capture))  # so good that only its place is wrong
    if link:
        value_files(store)[0].unlink()
        name = Path("aa/bb") / ("c" * 28 + ".val")
        (store._folder / name).parent.mkdir(parents=True)
        (store._folder / name).symlink_to(outside)
    else:
        name = "../outside.val"
    tamper(store, "UPDATE Cache SET filename = ?", str(name))
    assert store.get(capture.id) is None
    assert outside.exists()
    assert capture.id not in store
    assert "file" in caplog.text
    store.put(capture)
    tamper(store, "UPDATE Cache SET filename = ?", str(name))
    store.put(capture)  # replacing a row deletes the file that the old one names
    assert outside.exists() and store.get(capture.id) is not None


@pytest.mark.parametrize("name", ["cache.db", "/etc/passwd", "../../etc/passwd", "", "aa/bb", None, 7, b"x"])
def test_other_file_names_are_refused(store, name):
    capture = make_capture()
    store.put(capture)
    tamper(store, "UPDATE Cache SET filename = ?", name)
    assert store.get(capture.id) is None
    assert Path("/etc/passwd").exists() and (store._folder / "cache.db").exists()
    store.put(capture)
    assert store.get(capture.id) is not None


def test_evicting_a_hostile_row_deletes_no_other_file(tmp_path):
    store = CaptureStore(tmp_path / "captures", 300_000)
    precious = tmp_path / "precious"
    precious.touch()
    tamper(
        store,
        "INSERT INTO Cache (key, raw, access_time, size, mode, filename) VALUES (?, 0, 0, 1000000, 2, '../precious')",
        b"k",
    )
    store.put(make_capture())
    assert precious.exists() and store.ids() == [make_capture().id] and store.size_bytes() < 300_000


def test_an_entry_of_another_capture_is_refused(store, caplog):
    first, second = make_capture(1), make_capture(2)
    store.put(first)
    store.put(second)
    files = {path.read_bytes(): path for path in value_files(store)}
    files[capture_to_npz(first)].write_bytes(capture_to_npz(second))
    assert store.get(first.id) is None
    assert "another capture" in caplog.text
    assert store.ids() == [second.id]


def test_want_of_memory_drops_nothing(store, tmp_path, monkeypatch, caplog):
    store.put(capture := make_capture())
    with monkeypatch.context() as short:
        short.setattr("zipfile.ZipFile.read", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
        assert store.get(capture.id) is None and "Could not read capture" in caplog.text
        (store._folder / "cache.db").write_bytes(b"no database" * 1000)
        CaptureStore(store._folder).close()  # made again from files that cannot be unpacked now
    assert len(value_files(store)) == 1
    (store._folder / "cache.db").write_bytes(b"no database" * 1000)
    assert CaptureStore(store._folder).get(capture.id) is not None


@pytest.mark.parametrize("damage", ["garbage", "truncated", "missing", "empty", "text", "huge"])
def test_a_damaged_entry_is_dropped_and_can_be_made_again(store, damage, caplog):
    capture = make_capture()
    store.put(capture)
    (path,) = value_files(store)
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        tamper(store, "UPDATE Cache SET mode = 3")
    elif damage == "huge":
        os.truncate(path, 2**40)
    else:
        path.write_bytes({"garbage": b"x" * 5000, "truncated": path.read_bytes()[:-100], "empty": b""}[damage])
    assert store.get(capture.id) is None
    assert capture.id in caplog.text
    assert capture.id not in store and value_files(store) == []
    store.put(capture)
    assert store.get(capture.id) is not None


@pytest.mark.parametrize("value", ["text", 7, 1.5])
def test_a_value_that_is_not_bytes_is_dropped(store, value):
    store.put(make_capture())
    tamper(store, "UPDATE Cache SET mode = 1, filename = NULL, value = ?", value)
    assert store.get(make_capture().id) is None and make_capture().id not in store


def test_the_disk_refuses_to_store_what_would_need_pickle(store):
    for value in ([1], None, {"a": 1}, np.zeros(2), True):
        with pytest.raises(TypeError):
            store._cache.set("a" * 24, value)
    for key in (b"bytes", 7, ("a",), None):
        with pytest.raises(TypeError):
            store._cache.set(key, b"x")
    with pytest.raises(TypeError):
        store._cache.set("a" * 24, io.BytesIO(b"x"), read=True)
    for value in (b"bytes", "text", 7, 1.5):
        store._cache.set("a" * 24, value)
        assert store._cache.get("a" * 24) == value


def test_settings_in_the_database_are_not_obeyed(tmp_path):
    store = CaptureStore(tmp_path / "captures")
    store.put(make_capture())
    store.close()
    for key, value in {
        "_directory": str(tmp_path / "elsewhere"),
        "_disk": "x",
        "sqlite_user_version = 77; --": 1,
        "sqlite_user_version": 78,
        "disk_colour": "red",
        "cull_limit": 1000,
    }.items():
        tamper(store, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", key, value)
    tamper(store, "UPDATE Settings SET value = 'much' WHERE key IN ('size', 'count')")
    again = CaptureStore(tmp_path / "captures")
    again.put(make_capture(1))
    assert again.get(make_capture().id) is not None and len(again.ids()) == 2
    assert again.size_bytes() > 2 * len(capture_to_npz(make_capture())) * 0.9
    with sqlite3.connect(tmp_path / "captures" / "cache.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    assert not (tmp_path / "elsewhere").exists()


def corrupt_files(folder: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in folder.glob("*.corrupt"))


@pytest.mark.parametrize("damage", ["garbage", "page", "columns", "no tables of ours"])
def test_a_damaged_database_is_set_aside_and_its_captures_taken_up_again(tmp_path, damage, caplog):
    store = CaptureStore(tmp_path / "captures")
    captures = [make_capture(n) for n in range(3)]
    for capture in captures:
        store.put(capture)
    store.close()
    database = tmp_path / "captures" / "cache.db"
    (tmp_path / "captures" / "aa" / "bb").mkdir(parents=True)
    (tmp_path / "captures" / "aa" / "bb" / ("0" * 28 + ".val")).write_bytes(b"half a capture")
    if damage == "garbage":
        database.write_bytes(b"garbage" * 1000)
    elif damage == "page":
        content = bytearray(database.read_bytes())
        content[4096:] = os.urandom(len(content) - 4096)
        database.write_bytes(content)
    elif damage == "columns":
        tamper(store, "ALTER TABLE Cache RENAME COLUMN size TO weight")
    else:
        database.unlink()
        tamper(store, "CREATE TABLE Other (x)")
    again = CaptureStore(tmp_path / "captures")
    assert "set it aside" in caplog.text and "Took up 3 captures" in caplog.text
    assert "cache" in corrupt_files(tmp_path / "captures")
    assert sorted(again.ids()) == sorted(c.id for c in captures)
    assert all(again.get(c.id) is not None for c in captures)
    assert len(value_files(again)) == 3, "the half one is gone"
    again.put(make_capture(9))
    assert len(again.ids()) == 4
    assert again.size_bytes() > 4 * 0.9 * len(capture_to_npz(captures[0]))


def test_what_another_version_wrote_is_left_to_it_even_where_the_database_is_lost(store):
    store.put(capture := make_capture())
    (file,) = value_files(store)
    members = unpack(file.read_bytes())
    header = members["header.npy"].replace(b'{"format_version": 1', b'{"format_version": 7', 1)
    file.write_bytes(newer := pack({**members, "header.npy": header}))
    assert store.get(capture.id) is None and file.read_bytes() == newer
    store.close()
    (store._folder / "cache.db").write_bytes(b"no database" * 1000)
    again = CaptureStore(store._folder)
    assert again.ids() == [] and file.read_bytes() == newer
    again.close()


def test_a_store_says_that_it_was_mended_and_only_then(store):
    store.put(make_capture())
    store.close()
    assert CaptureStore(store._folder).mended == ""
    (store._folder / "cache.db").write_bytes(b"no database" * 1000)
    again = CaptureStore(store._folder)
    assert "made again from the kept files" in again.mended and again.get(make_capture().id) is not None
    again.close()


@pytest.mark.parametrize("jump_seconds", [-400 * 86_400, 400 * 86_400])
def test_a_clock_that_jumps_loses_nothing_and_keeps_the_order(tmp_path, monkeypatch, jump_seconds):
    store, real = CaptureStore(tmp_path / "captures"), time.time
    before, after = [[make_capture(n) for n in numbers] for numbers in (range(3), range(3, 6))]
    for capture in before:
        store.put(capture)
    monkeypatch.setattr(time, "time", lambda: real() + jump_seconds)
    for capture in after:
        store.put(capture)
    assert store.ids() == [capture.id for capture in reversed(before + after)]
    assert all(store.get(capture.id) is not None for capture in before + after)
    monkeypatch.undo()
    again = CaptureStore(tmp_path / "captures")
    assert all(again.get(capture.id) is not None for capture in before + after)
    again.close()


def test_a_deleted_database_is_made_again_from_the_files(tmp_path):
    store = CaptureStore(tmp_path / "captures")
    store.put(make_capture())
    store.close()
    for path in (tmp_path / "captures").glob("cache.db*"):
        path.unlink()
    assert CaptureStore(tmp_path / "captures").get(make_capture().id) is not None


@pytest.mark.parametrize("damage", ["garbage", "deleted", "no table"])
def test_a_database_lost_while_open_is_rebuilt_on_the_way(store, damage):
    store.put(make_capture())
    store.close()  # as a thread that looks for the first time
    database = store._folder / "cache.db"
    if damage == "garbage":
        database.write_bytes(b"garbage" * 1000)
    elif damage == "deleted":
        database.unlink()
    else:
        tamper(store, "DROP TABLE Cache")
    assert store.get(make_capture().id) is not None
    store.put(make_capture(1))
    assert len(store.ids()) == 2


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


def test_threads_may_share_a_store(tmp_path):
    store, failures = CaptureStore(tmp_path / "captures", 600_000), []

    def work(worker: int) -> None:
        try:
            for number in range(12):
                store.put(make_capture(worker * 100 + number))
                store.get(make_capture(number).id)
                store.ids()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and store.size_bytes() <= 600_000
    assert len(value_files(store)) == len(store.ids()) > 5


def put_twenty(folder: str) -> None:
    """What another process does."""
    store = CaptureStore(Path(folder))
    for number in range(20):
        store.put(make_capture(number))


def test_processes_may_share_a_folder_even_a_damaged_one(tmp_path, forks):
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "cache.db").write_bytes(b"garbage" * 1000)
    others = [forks.fork("tests.backend.test_store:put_twenty", str(folder)) for _ in range(2)]
    shared = CaptureStore(folder)
    for number in range(20):
        shared.put(make_capture(number + 100))
        shared.get(make_capture(number).id)
    assert [other.wait(300) for other in others] == [0, 0]
    assert len(shared.ids()) == 40 == len(value_files(shared))
    assert all(shared.get(capture_id) is not None for capture_id in shared.ids())
    assert corrupt_files(folder) == ["cache"]
