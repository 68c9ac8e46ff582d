"""Results on their way to the disk: who asks for the same waits for that, and not for ever."""

import threading
import time

import pytest
from PIL import Image

from backend.kept.keeping import Keeping
from backend.kept.store import CaptureStore
from tests.app.fakes import FakeEngine
from tests.backend.stand_ins import wait_for


@pytest.fixture
def engine(tmp_path):
    """An engine without weights over a real store."""
    store = CaptureStore(tmp_path / "captures")
    yield FakeEngine(store)
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
    keeping.wait("one", 0.05)
    assert 0.04 < time.monotonic() - started < 5


def test_the_same_asked_while_the_first_is_written_is_not_computed_twice(engine, monkeypatch):
    """The queue is free by then, so the second one's turn comes at once."""
    put, may_write = engine.store.put, threading.Event()
    monkeypatch.setattr(engine.store, "put", lambda capture: may_write.wait(10) and put(capture))
    found = []
    threads = [threading.Thread(target=lambda: found.append(ask(engine))) for _ in range(2)]
    threads[0].start()
    wait_for(lambda: engine._keeping.busy and not engine.queue.length)
    threads[1].start()
    wait_for(lambda: engine.queue.length)
    time.sleep(0.1)
    assert engine.model.runs == 1 and not found
    may_write.set()
    for thread in threads:
        thread.join(10)
    assert engine.model.runs == 1 and sorted(event.cached for event in found) == [False, True]


def test_the_end_of_the_server_waits_for_what_is_being_written(engine, monkeypatch):
    put = engine.store.put
    monkeypatch.setattr(engine.store, "put", lambda capture: time.sleep(0.3) or put(capture))
    asking = threading.Thread(target=ask, args=[engine])
    asking.start()
    wait_for(lambda: engine._keeping.busy)
    engine.close(10)
    asking.join(10)
    assert not engine._keeping.busy
