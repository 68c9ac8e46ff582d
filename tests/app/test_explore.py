import io
import threading
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.data_classes import FileData
from PIL import Image

from app.components.picture import PictureChoice
from app.components.result import State
from app.components.slider import PlainSlider
from app.explore import Explore
from app.form import FILLED, Request, fill_form, make_form
from app.samples import load_samples
from backend.engine import RANGES
from backend.interface import UserError
from backend.store import StoreFull

SAMPLES = load_samples()
FIELDS = {
    "model": "tiny-janus",
    "task": "understanding",
    "picture": PictureChoice(sample=SAMPLES.pictures[0].file),
    "question": "what is there?",
    "prompt": "a red circle",
    "seed": 0,
    "answer_temperature": 0.0,
    "max_new_tokens": 64,
    "drawing_temperature": 1.0,
    "guidance": 3.0,
}
SESSION = SimpleNamespace(session_hash="s", query_params={})


@pytest.fixture
def explore(engine):
    return Explore(engine, SAMPLES)


def run(explore, **changes):
    """All updates of one run: (result, curve, state) each."""
    return list(explore.on_run(SESSION, *{**FIELDS, **changes}.values()))


def load(explore, **query):
    return explore.on_load(SimpleNamespace(session_hash="s", query_params=query))


def test_an_answer_grows_and_ends_with_its_curve(explore):
    explore.engine.model.step_seconds = 0.06
    *growing, (result, curve, _) = run(explore)
    assert growing
    assert all(update[0].state == State.RUNNING for update in growing)
    assert result.state == State.FINISHED
    assert result.answer == "a red circle and a blue square"
    assert curve.link["capture"] in explore.engine.store


def test_a_drawing_grows_with_its_progress(explore):
    explore.engine.model.step_seconds = 0.11
    *growing, (result, curve, _) = run(explore, task="generation")
    assert [g[0].progress for g in growing if g[0].progress] == sorted(g[0].progress for g in growing if g[0].progress)
    assert result.task == "generation"
    assert curve.alternatives[0].figure["data"][-1]["name"] == "with the prompt"


def test_a_quick_answer_comes_whole(explore):
    assert len(run(explore)) == 1


def test_the_same_run_again_comes_from_the_store_and_says_so(explore):
    first, again = run(explore)[-1], run(explore)[-1]
    runs = explore.engine.model.runs
    assert "from the store" not in first[0].facts
    assert "from the store" in again[0].facts
    assert first[1] == again[1]
    run(explore)
    assert explore.engine.model.runs == runs


def test_unknown_words_are_named(explore):
    assert "“dinosaur”" in run(explore, task="generation", prompt="a dinosaur")[-1][0].notices[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question": "   "}, "empty"),
        ({"question": None}, "empty"),
        ({"question": "x" * 100_000}, "100,000"),
        ({"picture": None}, "image to ask about"),
        ({"picture": PictureChoice()}, "image to ask about"),
        ({"picture": PictureChoice(sample="../../secret.png")}, "image to ask about"),
        ({"picture": PictureChoice(capture="../../secret")}, ""),
        ({"model": "gpt"}, "known model"),
        ({"seed": None}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "without a fraction"),
        ({"seed": float("nan")}, "whole number as seed"),
        ({"answer_temperature": None}, "number as temperature, got nothing"),
        ({"max_new_tokens": None}, "number as longest answer, got nothing"),
        ({"task": "generation", "guidance": None}, "number as guidance, got nothing"),
        ({"task": "generation", "guidance": 21}, "guidance"),
        ({"answer_temperature": float("nan")}, "temperature"),
    ],
)
def test_bad_input_is_one_sentence_and_no_curve(explore, changes, words):
    before = explore.engine.model.runs
    result, curve, _ = run(explore, **changes)[-1]
    assert result.state == State.FAILED
    assert words in result.message
    assert result.message.endswith(".")
    assert "Traceback" not in result.message
    assert curve == {"__type__": "update"}
    assert explore.engine.model.runs == before


def test_a_fault_of_ours_is_told_without_its_insides(explore, monkeypatch):
    monkeypatch.setattr(explore.engine, "understand", lambda *a: 1 / 0)
    result, _, _ = run(explore)[-1]
    assert result.state == State.FAILED
    assert "division" not in result.message


def test_a_full_disk_costs_the_link_not_the_result(explore, monkeypatch):
    def refuse(capture):
        raise StoreFull("The disk is full; free some space.")

    monkeypatch.setattr(explore.engine.store, "put", refuse)
    result, curve, _ = run(explore, question="how many circles are there?")[-1]
    assert result.state == State.FINISHED
    assert result.facts.endswith("not saved")
    assert any("disk is full" in notice for notice in result.notices)
    assert curve.link == {}


def test_stop_ends_a_run_between_tokens(explore):
    explore.engine.model.step_seconds = 0.06
    events = explore.on_run(SESSION, *FIELDS.values())
    next(events)
    explore.on_stop(SESSION)
    *_, (result, _, _) = list(events)
    assert result.state == State.STOPPED
    assert run(explore)[-1][0].state == State.FINISHED


def test_a_dropped_run_lets_go_of_the_model(explore):
    explore.engine.model.step_seconds = 0.06
    events = explore.on_run(SESSION, *FIELDS.values())
    next(events)
    events.close()
    assert run(explore)[-1][0].state == State.FINISHED
    assert explore._flags == {}


def test_a_first_visit_shows_a_finished_capture_without_a_run(explore):
    runs = explore.engine.model.runs
    *filled, result, curve, _ = load(explore)
    assert result.state == State.FINISHED
    assert curve.link == {"capture": explore.welcome.id}
    assert filled[2].sample == SAMPLES.pictures[0].file
    assert explore.engine.model.runs == runs


def test_a_permalink_fills_the_form_and_shows_the_capture_without_a_run(explore):
    _, shown, _ = run(explore, task="generation", prompt="a red square", seed=5, guidance=2.0)[-1]
    runs = explore.engine.model.runs
    *filled, result, curve, _ = load(explore, capture=shown.link["capture"], definition="strict")
    assert filled[0:2] == ["tiny-janus", "generation"]
    assert (filled[4], filled[5], filled[9]) == ("a red square", 5, 2.0)
    assert result.prompt == "a red square"
    assert curve.chosen == "strict"
    assert explore.engine.model.runs == runs


def test_asking_again_from_a_permalink_gives_the_same_capture(explore, tmp_path):
    path = tmp_path / "own.png"
    Image.new("RGB", (90, 64), (10, 200, 30)).save(path)
    _, shown, _ = run(explore, picture=PictureChoice(file=FileData(path=str(path))))[-1]
    capture = explore.engine.capture(shown.link["capture"])
    choice = fill_form(capture, SAMPLES)[2]
    assert choice.capture == capture.id
    result, again, _ = run(explore, picture=choice)[-1]
    assert again.link == shown.link
    assert "from the store" in result.facts


@pytest.mark.parametrize("capture", ["0" * 24, "x", "../../etc/passwd", "a" * 5000])
def test_an_unknown_capture_is_one_sentence_over_the_first_visit(explore, capture):
    *_, result, curve, _ = load(explore, capture=capture)
    assert result.message
    assert len(result.message) < 300
    assert result.chips
    assert curve.link == {}


def test_an_upload_gets_a_preview_or_a_reason(explore, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (3000, 20), "red").save(good)
    bad.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    shown = explore.on_upload(PictureChoice(file=FileData(path=str(good))))
    assert shown.preview.startswith("data:image/")
    assert len(shown.preview) < 20_000
    refused = explore.on_upload(PictureChoice(file=FileData(path=str(bad))))
    assert "SVG" in refused.message
    assert refused.file is None


def test_request_takes_the_words_and_sampling_of_its_task():
    asked = Request(**{**FIELDS, "seed": 7.0})
    assert (asked.words, asked.sampling.seed, asked.sampling.max_new_tokens) == ("what is there?", 7, 64)
    drawn = Request(**{**FIELDS, "task": "generation"})
    assert (drawn.words, drawn.sampling.guidance) == ("a red circle", 3.0)
    with pytest.raises(UserError):
        _ = Request(**{**FIELDS, "seed": None}).sampling


def test_samples_are_small_world_pictures_with_three_questions():
    assert len(SAMPLES.pictures) == 8
    for sample in SAMPLES.pictures:
        assert Image.open(io.BytesIO(sample.path.read_bytes())).size == (64, 64)
        assert len(set(sample.questions)) == 3


def test_no_two_views_are_equal_or_the_page_would_not_notice(explore):
    views = [load(explore)[FILLED] for _ in range(2)]
    for changes in ({}, {"question": " "}):
        views += [run(explore, **changes)[-1][0] for _ in range(3)]
    views += [
        make() for make in (lambda: explore.on_failure(SESSION), lambda: explore.on_stop(SESSION)) for _ in range(2)
    ]
    assert len({view.turn for view in views}) == len(views)
    assert len({replace(view, turn=0) for view in views}) < len(views)


def test_a_run_that_ends_leaves_the_flag_of_the_next_one(explore):
    explore.engine.model.step_seconds = 0.06
    events = explore.on_run(SESSION, *FIELDS.values())
    next(events)
    following = explore._flags["s"] = threading.Event()
    events.close()
    assert explore._flags == {"s": following}
    assert not following.is_set()


def test_finishing_reads_no_capture_back(explore, monkeypatch):
    monkeypatch.setattr(explore.engine, "capture", lambda capture_id: 1 / 0)
    _, curve, _ = run(explore, question="how many squares are there?")[-1]
    assert curve.link["capture"] in explore.engine.store


def test_a_capture_that_cannot_be_shown_gives_way_to_the_first_visit(explore, monkeypatch):
    good = explore.welcome
    bad = replace(good, picture_png=good.picture_png[:60])
    monkeypatch.setattr(explore.engine, "capture", lambda capture_id: bad)
    *filled, result, curve, _ = load(explore, capture="0" * 24)
    assert len(filled) == FILLED
    assert result.message.endswith(".")
    assert result.chips
    assert curve.link == {}
    explore.welcome = bad
    *filled, result, curve, _ = load(explore)
    assert filled == [gr.skip()] * FILLED
    assert (result.state, curve) == (State.FINISHED, None)


def test_sliders_cover_what_the_engine_takes_and_refuse_nothing_themselves(explore):
    with gr.Blocks():
        form = make_form(explore.engine.specs, SAMPLES)
    assert len(form.filled) == FILLED
    sliders = [field for field in form.fields if isinstance(field, PlainSlider)]
    names = ("temperature", "max_new_tokens", "temperature", "guidance")
    assert [(s.minimum, s.maximum) for s in sliders] == [RANGES[name] for name in names]
    assert [s.preprocess(value) for s in sliders for value in (None, 1000)] == [None, 1000] * 4


def test_a_stopped_run_that_gradio_reports_as_failed_still_reads_as_stopped(explore):
    assert explore.on_failure(SESSION).state == State.FAILED
    explore.on_stop(SESSION)
    assert explore.on_failure(SESSION).state == State.STOPPED
    explore.on_leave(SESSION)
    assert explore.on_failure(SESSION).state == State.FAILED
