"""The store: captures come back, old ones leave, and many may use it at once."""

from __future__ import annotations

import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from backend.interface import UserError
from backend.kept.capture_files import capture_to_npz
from backend.kept.store import CaptureStore, StoreFailed, StoreFull
from tests.backend.stored import corrupt_files, make_capture, tamper, value_file_of, value_files


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
