"""An engine without weights over a real store, and captures to show."""

import pytest
from PIL import Image

from aia.intensity import Task
from backend.kept.captures import CaptureKey, Sampling
from backend.kept.store import CaptureStore
from tests.app.fakes import ANSWER, FakeEngine, make_capture


@pytest.fixture
def engine(tmp_path):
    store = CaptureStore(tmp_path / "captures")
    yield FakeEngine(store)
    store.close()


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    """The folder that holds what was uploaded."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture
def answer():
    """A capture of an answer."""
    key = CaptureKey(
        "tiny-janus", "r", "float32", Task.UNDERSTANDING, "what is there?", "0" * 64, Sampling(temperature=0.0)
    )
    return make_capture(key, " ".join(ANSWER), ANSWER, Image.new("RGB", (64, 64), (23, 23, 27)))


@pytest.fixture
def drawing():
    """A capture of a drawing with guidance: two branches."""
    key = CaptureKey("tiny-janus", "r", "float32", Task.GENERATION, "a red circle", "", Sampling(seed=3, guidance=3.0))
    return make_capture(key, "", tuple(f"code {i}" for i in range(63)), Image.new("RGB", (64, 64), (200, 40, 40)))
