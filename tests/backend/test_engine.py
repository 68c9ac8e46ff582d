"""The engine: what it refuses, what it keeps, what it serves from the store."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aia import world
from aia.intensity import Task
from backend.engine import Adapter, Engine, say_unknown
from backend.interface import Cancelled, Finished, Notice, Preparing, UserError
from backend.kept.captures import Sampling
from backend.kept.store import CaptureStore, StoreFull
from backend.models.loading import weights_revision
from backend.models.specs import SPECS, Precision
from backend.sampling import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING, check_request, normal_sampling

PICTURE = Image.fromarray(world.draw_scene(world.Scene((world.Thing("red", "star", "large", 32, 32),))))


@pytest.fixture
def engine(tmp_path, tiny_janus):
    engine = Engine(CaptureStore(tmp_path / "captures"))
    engine.adopt(tiny_janus)  # the session's copy: loading is tested once, below
    return engine


def run(events):
    events = list(events)
    assert isinstance(events[-1], Finished)
    return events


def test_an_answer_is_kept_and_served_from_the_store_the_second_time(engine):
    first = run(engine.understand("tiny-janus", PICTURE, "what colour is the star?"))
    again = run(engine.understand("tiny-janus", PICTURE, "  what colour is the star? "))
    assert not first[-1].cached and again[-1].cached and len(again) == 1
    assert np.array_equal(first[-1].capture.mass, again[-1].capture.mass)
    assert engine.capture(first[-1].capture.id).text == first[-1].capture.text


def test_a_drawing_is_kept_and_another_seed_is_another_capture(engine):
    first = run(engine.generate("tiny-janus", "a red star"))[-1]
    other = run(engine.generate("tiny-janus", "a red star", replace(GENERATION_SAMPLING, seed=1)))[-1]
    again = run(engine.generate("tiny-janus", "a red star"))[-1]
    assert again.cached and not other.cached
    assert first.capture.id == again.capture.id != other.capture.id


def test_the_same_picture_in_another_file_format_is_the_same_capture(engine):
    key = engine.load("tiny-janus").understanding_key(PICTURE, "x", UNDERSTANDING_SAMPLING)
    copy = Image.frombytes("RGB", PICTURE.size, PICTURE.tobytes())
    assert engine.load("tiny-janus").understanding_key(copy, "x", UNDERSTANDING_SAMPLING).id == key.id


def test_unknown_words_are_named_before_the_answer_also_from_the_store(engine):
    for _ in range(2):
        events = run(engine.understand("tiny-janus", PICTURE, "is there a zebra?"))
        assert isinstance(events[0], Notice) and "“zebra”" in events[0].text


def test_a_full_disk_costs_the_link_but_not_the_result(engine, monkeypatch):
    def refuse(capture):
        raise StoreFull("Expected free disk space for the capture, found none; free some.")

    monkeypatch.setattr(engine.store, "put", refuse)
    *_, notice, last = run(engine.understand("tiny-janus", PICTURE, "is there a star?"))
    assert isinstance(notice, Notice) and "disk" in notice.text
    assert last.capture.text


def test_a_cancelled_run_keeps_nothing_and_frees_the_model(engine):
    flag = threading.Event()
    events = engine.generate("tiny-janus", "a red star", cancel=flag)
    next(events)
    flag.set()
    with pytest.raises(Cancelled):
        list(events)
    assert engine.store.ids() == []
    run(engine.generate("tiny-janus", "a red star"))


def test_a_closed_stream_frees_the_model(engine):
    events = engine.generate("tiny-janus", "a red star")
    next(events)
    events.close()
    run(engine.understand("tiny-janus", PICTURE, "is there a star?"))


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("red " * 25_000, r"100,000|99,999"),
        ("a <begin_of_image> star", "begin_of_image"),
    ],
)
def test_a_bad_prompt_is_refused_in_one_sentence(engine, prompt, says):
    with pytest.raises(UserError, match=says) as caught:
        run(engine.generate("tiny-janus", prompt))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 2**60},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"guidance": 0.5},
        {"guidance": float("inf")},
        {"seed": 10**400},
    ],
)
def test_settings_out_of_range_are_refused_by_name(change):
    with pytest.raises(UserError, match=next(iter(change))):
        check_request("a red star", replace(GENERATION_SAMPLING, **change), Task.GENERATION)


def test_an_unknown_model_or_capture_is_named(engine):
    with pytest.raises(UserError, match="tiny-janus"):
        run(engine.generate("gpt-9", "a red star"))
    with pytest.raises(UserError, match=r"f{24}"):
        engine.capture("f" * 24)
    with pytest.raises(UserError):
        engine.capture("../../etc/passwd")


def test_a_model_that_cannot_do_the_task_says_so(engine):
    engine.specs = (replace(SPECS[0], tasks=frozenset({Task.UNDERSTANDING})),)
    with pytest.raises(UserError, match="generation"):
        run(engine.generate("tiny-janus", "a red star"))


def test_settings_that_a_task_ignores_do_not_change_the_id():
    greedy = replace(UNDERSTANDING_SAMPLING, seed=9, guidance=7.0)
    assert normal_sampling(greedy, Task.UNDERSTANDING) == UNDERSTANDING_SAMPLING
    sampled = replace(UNDERSTANDING_SAMPLING, seed=9, temperature=1.0)
    assert normal_sampling(sampled, Task.UNDERSTANDING).seed == 9
    assert normal_sampling(Sampling(max_new_tokens=5), Task.GENERATION) == normal_sampling(Sampling(), Task.GENERATION)
    assert normal_sampling(Sampling(size=" 4 × 12"), Task.GENERATION).size == "4x12"
    assert normal_sampling(Sampling(size="4x12"), Task.UNDERSTANDING).size == ""


def test_many_unknown_words_make_one_short_sentence():
    text = say_unknown("tiny-janus", [f"word{i}" for i in range(50)])
    assert "and others" in text and len(text) < 150


def test_the_engine_loads_the_embedded_model_and_says_what_runs(tmp_path):
    engine = Engine(CaptureStore(tmp_path / "captures"))
    assert engine.state() == "no model loaded"
    engine.load("tiny-janus")
    assert engine.state() == "tiny-janus · float32 · CPU"


def test_precisions_are_captures_of_their_own_and_hardly_change_the_curve(engine):
    asked = ("tiny-janus", PICTURE, "what colour is the star?", UNDERSTANDING_SAMPLING)
    full, int8, nf4 = (run(engine.understand(*asked, precision=p))[-1].capture for p in Precision)
    assert [c.key.precision for c in (full, int8, nf4)] == ["float32", "int8", "nf4"]
    assert len({full.id, int8.id, nf4.id}) == 3 and full.text == int8.text == nf4.text
    apart = [np.abs(c.intensity("figure") - full.intensity("figure")).max() for c in (int8, nf4)]
    assert 0 < apart[0] < apart[1] < 0.05
    assert "nf4" in engine.state()
    assert run(engine.understand(*asked))[-1].cached


def test_a_model_that_is_being_fetched_says_so_and_then_runs(engine, monkeypatch):
    def bring_here(spec, cancel=None):
        yield Preparing(f"fetching {spec.title}", 1, 2)
        return spec

    monkeypatch.setattr("backend.engine.bring_here", bring_here)
    events = run(engine.understand("tiny-janus", PICTURE, "what colour is the star?"))
    assert events[0] == Preparing("fetching tiny-janus", 1, 2)


def test_an_equal_request_that_was_ahead_in_the_queue_is_not_computed_again(engine):
    ahead = engine.generate("tiny-janus", "a red star")
    next(ahead)  # holds the model
    behind = []
    thread = threading.Thread(target=lambda: behind.extend(engine.generate("tiny-janus", "a red star")))
    thread.start()
    run(ahead)
    thread.join(30)
    assert behind[-1].cached


def test_what_is_kept_is_there_at_once_while_somebody_else_draws(engine):
    asked = ("tiny-janus", PICTURE, "is there a zebra or a star?")
    first = run(engine.understand(*asked))
    ahead = engine.generate("tiny-janus", "a red star", replace(GENERATION_SAMPLING, seed=9))
    next(ahead)  # holds the model
    again = run(engine.understand(*asked))
    assert again[-1].cached and again[-1].capture.id == first[-1].capture.id
    assert [e.text for e in again[:-1]] == [e.text for e in first if isinstance(e, Notice)] and "zebra" in again[0].text
    ahead.close()


def test_what_an_adapter_made_is_no_answer_of_the_base_model(engine, tiny_janus, monkeypatch):
    """While an adapter is on, nothing is said to be known without looking at the model in its turn."""
    asked = ("tiny-janus", PICTURE, "how many stars are there?")
    run(engine.understand(*asked))
    monkeypatch.setattr(tiny_janus, "adapter", "")  # put back at the end
    monkeypatch.setattr(engine, "find_adapter", lambda adapter_id: Path("nowhere"))
    monkeypatch.setattr("backend.models.adapters.whole_weights", lambda spec, folder: spec)
    monkeypatch.setattr("backend.models.adapters.apply_adapter", lambda model, *_: setattr(model, "adapter", "tuned@1"))
    tuned = run(engine.understand(*asked, adapter=Adapter("tuned")))[-1]
    assert not tuned.cached and tuned.capture.key.adapter == "tuned@1"
    assert engine._ready is None


def test_damaged_weights_are_one_sentence(tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(SPECS[0].source, folder)
    shard = next(folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:1000])
    specs = (replace(SPECS[0], source=str(folder)),)
    with pytest.raises(UserError, match="could not be read"):
        Engine(CaptureStore(tmp_path / "captures"), specs).load("tiny-janus")


def test_scores_beside_the_weights_do_not_change_the_revision(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(SPECS[0].source, folder)
    spec = replace(SPECS[0], source=str(folder))
    before = weights_revision(spec)
    (folder / "scores.json").write_text("{}")
    assert weights_revision(spec) == before
    (folder / "config.json").write_text("{}")
    assert weights_revision(spec) != before


def test_missing_weights_are_one_sentence_without_a_path(tmp_path):
    specs = (replace(SPECS[0], source=str(tmp_path / "nowhere")),)
    with pytest.raises(UserError, match="could not be read") as caught:
        Engine(CaptureStore(tmp_path / "captures"), specs).load("tiny-janus")
    assert str(tmp_path) not in str(caught.value)


def test_a_model_is_unloaded_and_loaded_again_when_it_is_wanted(tmp_path, monkeypatch):
    engine = Engine(CaptureStore(tmp_path / "captures"))
    assert engine.unload() == "no model loaded"
    run(engine.understand("tiny-janus", PICTURE, "how many objects are there?"))
    assert engine.state().startswith("tiny-janus")
    assert engine.unload() == engine.state() == "no model loaded"
    *told, finished = run(engine.understand("tiny-janus", PICTURE, "is there a red star?"))
    assert Preparing("loading tiny-janus") in told and not finished.cached


def test_a_model_at_work_is_not_unloaded(engine):
    drawing = engine.generate("tiny-janus", "a red star", replace(GENERATION_SAMPLING, seed=3))
    while not hasattr(next(drawing), "picture"):
        pass
    with pytest.raises(UserError, match="The model is at work; stop it"):
        engine.unload()
    assert engine.state().startswith("tiny-janus")
    drawing.close()
    assert engine.unload() == "no model loaded"


class FlagAfter:
    """Set when it was looked at so many times."""

    def __init__(self, looks):
        self.looks = looks

    def is_set(self):
        self.looks -= 1
        return self.looks < 0


def test_loading_can_be_cancelled_between_two_tensors(tmp_path):
    engine = Engine(CaptureStore(tmp_path / "captures"))
    flag = FlagAfter(40)
    with pytest.raises(Cancelled):
        list(engine.understand("tiny-janus", PICTURE, "how many objects are there?", cancel=flag))
    assert -5 < flag.looks < 0, "it ended while the weights came"
    assert engine.state() == "no model loaded"
    assert run(engine.understand("tiny-janus", PICTURE, "how many objects are there?"))[-1].capture.text


def test_a_size_is_refused_before_a_model_that_has_none_is_loaded(tmp_path):
    engine = Engine(CaptureStore(tmp_path / "captures"))
    with pytest.raises(UserError, match="tiny-janus, which draws one size only, got 16:9"):
        list(engine.generate("tiny-janus", "a red star", replace(GENERATION_SAMPLING, size="16:9")))
    assert engine.state() == "no model loaded"
