"""The engine's second look at a stored capture: the model that made it, or a sentence why not."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from aia import world
from backend.engine import Adapter, Engine
from backend.interface import Finished, UserError
from backend.kept.store import CaptureStore
from backend.models.specs import SPECS

PICTURE = Image.fromarray(world.draw_scene(world.Scene((world.Thing("red", "star", "large", 32, 32),))))


@pytest.fixture
def engine(tmp_path, tiny_janus):
    engine = Engine(CaptureStore(tmp_path / "captures"))
    engine.adopt(tiny_janus)
    return engine


def answer(engine):
    *_, last = engine.understand("tiny-janus", PICTURE, "describe the image.")
    assert isinstance(last, Finished)
    return last.capture


def test_single_heads_of_a_stored_capture_have_its_mean(engine):
    capture = answer(engine)
    found = engine.look(capture.id, range(len(capture.query_positions)))
    np.testing.assert_allclose(found.cross.mean(1), capture.cross, atol=1e-3)
    one = engine.look(capture.id, range(2, 3), (3, 5)).cross
    np.testing.assert_allclose(one[0], found.cross[3, 5, 2], atol=1e-6)


def test_a_look_at_another_model_s_capture_brings_that_model_back(engine):
    capture = answer(engine)
    *_, last = engine.generate("tiny-emu3", "a red star")
    drawn = last.capture
    assert engine.state().startswith("tiny-emu3") and drawn.key.model == "tiny-emu3" and drawn.grid == (8, 8)
    assert engine.look(drawn.id, range(3)).cross.shape[:2] == (8, 8)
    np.testing.assert_allclose(engine.look(capture.id, range(2)).cross.mean(1), capture.cross[:, :2], atol=1e-3)
    assert engine.state().startswith("tiny-janus")


def test_a_capture_whose_model_made_another_is_told_apart(engine):
    capture = answer(engine)
    cases = {
        "weights": {"revision": "0123456789ab"},
        "precision": {"precision": "bfloat16"},
        "adapter of this capture": {"adapter": "0123456789ab"},
        "is not on this machine": {"model": "somebody-else"},
    }
    for words, change in cases.items():
        other = replace(capture, key=replace(capture.key, **change))
        engine.store.put(other)
        with pytest.raises(UserError, match=words) as refused:
            engine.look(other.id, range(1))
        assert str(refused.value).count(". ") == 0 and "\n" not in str(refused.value)


def test_a_model_that_would_have_to_be_fetched_is_not(engine, monkeypatch):
    capture = answer(engine)
    absent = replace(SPECS[0], source="somebody/tiny-janus")
    monkeypatch.setattr(engine, "specs", (absent,))
    monkeypatch.setattr("backend.models.downloads.find_here", lambda spec: None)
    with pytest.raises(UserError, match="is not on this machine"):
        engine.look(capture.id, range(1))


def test_a_capture_that_is_not_stored_is_named(engine):
    with pytest.raises(UserError, match="is stored here"):
        engine.look("0" * 24, range(1))


def test_the_adapter_that_made_a_capture_is_put_on_again(engine, monkeypatch):
    """Which adapter that is, `find_fine_tune` says; the engine checks that it is the one."""
    capture = answer(engine)
    asked = []
    engine.find_fine_tune = lambda key: asked.append(key) or Adapter("run", 0.5)
    prepared = []
    monkeypatch.setattr(engine, "_prepare", lambda wanted, cancel=None: prepared.append(wanted) or engine._loaded)
    engine.look(capture.id, range(1))
    assert asked == [capture.key] and prepared[0].adapter == Adapter("run", 0.5)
