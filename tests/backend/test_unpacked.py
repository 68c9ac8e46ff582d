"""Captures that stay unpacked: the same object while it is in front, gone with its file, and never more than a pair."""

import numpy as np
import pytest

from backend.engine import Engine
from backend.interface import UserError
from backend.kept.store import CaptureStore
from backend.kept.unpacked import MOST, Unpacked
from tests.made_captures import make_answer


@pytest.fixture
def store(tmp_path):
    store = CaptureStore(tmp_path / "captures")
    yield store
    store.close()


def keep(store, number):
    store.put(capture := make_answer(np.full((2, 2, 3), 0.5, np.float32), prompt=f"question {number}"))
    return capture.id


def test_a_capture_is_unpacked_once_and_a_pair_is_kept(store):
    unpacked = Unpacked(store)
    for number in range(5):
        own = keep(store, number)
        assert unpacked.get(own) is unpacked.get(own)
    assert len(unpacked) == MOST


def test_what_was_deleted_is_not_shown_from_memory(store):
    unpacked, own = Unpacked(store), keep(store, 1)
    unpacked.get(own)
    store.delete(own)
    with pytest.raises(UserError, match="is stored here"):
        unpacked.get(own)


def test_what_cannot_be_read_has_a_sentence_of_its_own(store, tmp_path):
    own = keep(store, 1)
    (file,) = (tmp_path / "captures").rglob("*.val")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged or was written by another version"):
        Unpacked(store).get(own)
    for wrong in ("../../etc/passwd", "x", ""):
        with pytest.raises(UserError, match="24 hexadecimal digits"):
            Unpacked(store).get(wrong)


def test_the_engine_opens_through_it(store):
    engine, own = Engine(store), keep(store, 1)
    assert engine.capture(own) is engine.unpacked.get(own)
