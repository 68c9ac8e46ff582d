"""Nothing hostile, damaged or foreign in a store's folder gets anywhere."""

from __future__ import annotations

import io
import logging
import os
import pickle
import sqlite3
from pathlib import Path

import diskcache
import numpy as np
import pytest

from backend.kept.capture_files import capture_to_npz
from backend.kept.store import CaptureStore
from tests.backend.stored import make_capture, tamper, value_files


class Marker:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


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
