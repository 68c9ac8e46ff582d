"""Results on their way to the disk: who asks for the same waits for that, and not for ever."""

import threading
import time

import pytest
from PIL import Image

from backend.interface import UserError
from backend.kept.keeping import Keeping
from backend.kept.store import CaptureStore
from tests.app.fakes import FakeEngine
from tests.backend.stand_ins import wait_for


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """An engine without weights over a real store; `waited` has one entry for each who began to wait for another's."""
    store = CaptureStore(tmp_path / "captures")
    engine, began = FakeEngine(store), []
    wait = engine._keeping.wait
    monkeypatch.setattr(engine._keeping, "wait", lambda *told, **named: began.append(told[0]) or wait(*told, **named))
    engine.waited = began
    yield engine
    store.close()


def ask(engine):
    """The last event of a question, the same one each time."""
    return list(engine.understand("tiny-janus", Image.new("RGB", (64, 64)), "what is there?"))[-1]


def test_who_asks_for_the_same_waits_and_who_asks_for_another_does_not():
    keeping, came = Keeping(), []
    keeping.begin("one")
    waiting = threading.Thread(target=lambda: came.append(keeping.wait("one")))
    with keeping.until_kept("one"):
        waiting.start()
        keeping.wait("another")
        assert keeping.busy and not came
    waiting.join(5)
    assert came and not keeping.busy


def test_what_fails_on_the_way_lets_the_others_go():
    keeping = Keeping()
    keeping.begin("one")
    with pytest.raises(OSError), keeping.until_kept("one"):
        raise OSError
    keeping.wait("one")
    assert not keeping.busy


def test_nobody_waits_for_ever():
    keeping = Keeping()
    keeping.begin("one")
    started = time.monotonic()
    assert not keeping.wait("one", 0.05)
    assert 0.04 < time.monotonic() - started < 5


def test_who_stops_does_not_wait():
    keeping, stopped = Keeping(), threading.Event()
    keeping.begin("one")
    stopped.set()
    started = time.monotonic()
    assert not keeping.wait("one", cancel=stopped)
    assert time.monotonic() - started < 5


@pytest.fixture
def slow_disk(engine, monkeypatch):
    """The first capture is written when this is set; others are written at once."""
    put, may_write, first = engine.store.put, threading.Event(), []

    def put_slowly(capture):
        first.append(capture.key.id)
        if capture.key.id == first[0]:
            may_write.wait(10)
        put(capture)

    monkeypatch.setattr(engine.store, "put", put_slowly)
    return may_write


def start_asking(engine, times):
    """So many people ask the same, the first one first: their threads, and where their last events will be."""
    found = []
    threads = [threading.Thread(target=lambda: found.append(ask(engine))) for _ in range(times)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_for(lambda number=number: len(engine.waited) == number and (number or engine._keeping.busy))
    return threads, found


def test_the_same_asked_while_the_first_is_written_is_not_computed_twice(engine, slow_disk):
    threads, found = start_asking(engine, 3)
    assert engine.model.runs == 1 and not found
    slow_disk.set()
    for thread in threads:
        thread.join(10)
    assert engine.model.runs == 1 and sorted(event.cached for event in found) == [False, True, True]


def test_who_waits_for_a_slow_disk_holds_nobody_up(engine, slow_disk):
    threads, found = start_asking(engine, 2)
    other = list(engine.understand("tiny-janus", Image.new("RGB", (64, 64)), "how many?"))[-1]
    assert not other.cached and not found
    slow_disk.set()
    for thread in threads:
        thread.join(10)
    assert len(found) == 2


def test_what_could_not_be_written_is_computed_for_who_waited(engine, monkeypatch):
    put, full = engine.store.put, [True]

    def put_or_fail(capture):
        if full:
            wait_for(lambda: engine.waited)
            full.clear()
            raise UserError("The disk is full.")
        put(capture)

    monkeypatch.setattr(engine.store, "put", put_or_fail)
    threads, found = start_asking(engine, 2)
    for thread in threads:
        thread.join(10)
    assert engine.model.runs == 2 and [event.cached for event in found] == [False, False]
    assert found[0].capture.id == found[1].capture.id in engine.store


def test_the_end_of_the_server_waits_for_what_is_being_written(engine, monkeypatch):
    put = engine.store.put
    monkeypatch.setattr(engine.store, "put", lambda capture: time.sleep(0.3) or put(capture))
    asking = threading.Thread(target=ask, args=[engine])
    asking.start()
    wait_for(lambda: engine._keeping.busy)
    engine.close(10)
    asking.join(10)
    assert not engine._keeping.busy
