"""A store whose database is lost or damaged: what is taken up again, and what is said."""

from __future__ import annotations

import os
import time

import pytest

from backend.kept.capture_files import capture_to_npz
from backend.kept.store import CaptureStore
from tests.backend.stored import corrupt_files, make_capture, tamper, value_files
from tests.backend.test_capture_files import pack, unpack


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
