"""Knock-outs that are kept, those of stored captures on the model that made them, and those over many samples."""

import dataclasses
import json
import threading

import numpy as np
import pytest
from PIL import Image

from backend.engine import Engine
from backend.interface import Cancelled, UserError
from backend.kept.captures import Sampling
from backend.kept.knockouts import (
    Control,
    Cut,
    HeadReport,
    HeadSettings,
    KnockoutReport,
    Knockouts,
    Remade,
    Settings,
    Way,
    content_id,
    default_width,
)
from backend.kept.store import CaptureStore
from backend.knockout import Progress, knock_out
from backend.knockout_study import describe_kind, study_knockout
from backend.matters import Matters
from backend.sampling import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING
from tests.backend.contract.helpers import PICTURE, finish

CAPTURE = "0123456789abcdef01234567"


def make_report(**changes) -> KnockoutReport:
    settings = {
        "tokens": ["a", "b"],
        "keys": 4,
        "rows": 2,
        "log_probabilities": [-0.5, -0.25],
        "drops": [[1.0, 2.0], [0.5, 0.0], [-0.125, 0.0]],
        "all_layers": [3.0, 1.0],
        "likeliest": 2,
        "window_likeliest": [0, 1, 2],
        "all_likeliest": 0,
        "controls": Control(keys_per_row=2.0, others=[[0.0, 0.5, 1.0, 2.0], [1.0, 0.5, 0.0, 0.0]], fewer_targets=[]),
    }
    return KnockoutReport(**{**settings, **changes})


@pytest.fixture
def kept(tmp_path):
    return Knockouts(tmp_path / "knockouts")


@pytest.fixture
def matters(tmp_path, tiny_janus, kept):
    store = CaptureStore(tmp_path / "captures")
    engine = Engine(store)
    engine.adopt(tiny_janus)
    yield Matters(engine, kept)
    store.close()


def answer_of(matters, question="what colour is the circle?"):
    *_, last = matters.engine.understand("tiny-janus", PICTURE, question)
    return last.capture


# --- kept ---


def test_a_report_comes_back_as_it_was(kept):
    assert kept.report(CAPTURE, Settings(width=2)) is None
    kept.keep_report(CAPTURE, Settings(width=2), make_report())
    assert kept.report(CAPTURE, Settings(width=2)) == make_report()
    for other in (Settings(width=1), Settings(width=2, way=Way.ANY), Settings(width=2, draws=0)):
        assert kept.report(CAPTURE, other) is None
    assert kept.report(CAPTURE[::-1], Settings(width=2)) is None
    assert kept.report("../../etc/passwd", Settings(width=2)) is None


def test_a_report_on_heads_comes_back_as_it_was_and_one_that_does_not_fit_is_refused(kept):
    good = {"tokens": 2, "log_probability": -0.5, "drops": [[0.5, 0.0]], "all_heads": 3.0, "likeliest": 2}
    good |= {"head_likeliest": [[1, 2]]}
    report = HeadReport(**good)
    kept.keep_heads(CAPTURE, HeadSettings(keep=True), report)
    assert kept.heads(CAPTURE, HeadSettings(keep=True)) == report
    assert kept.heads(CAPTURE, HeadSettings()) is None
    for changes in ({"drops": [[0.5, 0.0], [0.5]]}, {"head_likeliest": [[1]]}, {"drops": [[]], "head_likeliest": [[]]}):
        with pytest.raises(ValueError):
            HeadReport(**{**good, **changes})


def test_what_was_made_without_comes_back_as_it_was(kept):
    cut, remade = Cut(way=Way.DIRECT, layers=[1, 2]), Remade(text="blue", changed=[True, None, False])
    kept.keep_remade(CAPTURE, cut, remade)
    assert kept.remade(CAPTURE, cut) == remade
    assert kept.remade(CAPTURE, Cut(way=Way.ANY, layers=[1, 2])) is None


def test_a_damaged_or_hostile_file_is_made_again(kept, tmp_path):
    settings = Settings(width=2)
    path = tmp_path / "knockouts" / "reports" / f"{content_id(CAPTURE, settings)}.json"
    kept.keep_report(CAPTURE, settings, make_report())
    good = json.loads(path.read_text())
    bad = [
        b"\x00garbage",
        b"[" * 100_000,
        json.dumps({**good, "capture": CAPTURE[::-1]}).encode(),  # another capture's under this name
        json.dumps({**good, "report": {**good["report"], "drops": [[1.0]]}}).encode(),
        json.dumps({**good, "report": {**good["report"], "log_probabilities": ["a", 1]}}).encode(),
        json.dumps(good).replace("-0.5", "NaN").encode(),
    ]
    for data in bad:
        path.write_bytes(data)
        assert kept.report(CAPTURE, settings) is None
    kept.keep_report(CAPTURE, settings, make_report())
    assert kept.report(CAPTURE, settings) == make_report()


def test_only_the_last_are_kept(kept, tmp_path, monkeypatch):
    from backend.kept import knockouts

    monkeypatch.setattr(knockouts, "MOST_KEPT", 3)
    for seed in range(5):
        kept.keep_report(CAPTURE, Settings(width=1, seed=seed), make_report())
    assert len(list((tmp_path / "knockouts" / "reports").glob("*.json"))) == 3
    assert kept.report(CAPTURE, Settings(width=1, seed=4)) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": []},
        {"drops": [[1.0, 2.0], [1.0]]},
        {"window_likeliest": [0]},
        {"controls": Control(keys_per_row=1.0, others=[[0.0]], fewer_targets=[])},
        {"controls": Control(keys_per_row=1.0, others=[[0.0] * 4], fewer_targets=[[0.0] * 4] * 2)},
        {"log_probabilities": [float("nan"), 0.0]},
    ],
)
def test_reports_whose_parts_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError):
        make_report(**changes)


# --- of stored captures ---


def test_a_second_look_runs_no_model(matters, monkeypatch):
    capture = answer_of(matters)
    *steps, first = matters.knock_out(capture, Settings(width=2))
    assert any(isinstance(step, Progress) for step in steps)
    monkeypatch.setattr(matters.engine, "work_on", None)
    assert list(matters.knock_out(capture, Settings(width=2))) == [first]


def test_a_remake_is_kept_as_well(matters, monkeypatch):
    capture = answer_of(matters)
    *_, first = matters.remake(capture, Cut(way=Way.DIRECT, layers=list(range(8))))
    assert first.text and first.text != capture.text
    monkeypatch.setattr(matters.engine, "work_on", None)
    assert list(matters.remake(capture, Cut(way=Way.DIRECT, layers=list(range(8))))) == [first]


def test_a_cancelled_knock_out_frees_the_model_and_keeps_nothing(matters):
    capture, flag = answer_of(matters), threading.Event()
    steps = matters.knock_out(capture, Settings(width=1), flag)
    while not isinstance(next(steps), Progress):
        pass
    flag.set()
    with pytest.raises(Cancelled):
        list(steps)
    assert matters.kept.report(capture.id, Settings(width=1)) is None
    assert answer_of(matters, "what colour is the square?").text


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"revision": "other"}, "weights"),
        ({"precision": "float16"}, "precision"),
        ({"adapter": "0123456789ab@0.5"}, "adapter"),
        ({"model": "somebody-else"}, "not on this machine"),
    ],
)
def test_other_weights_than_those_of_the_capture_are_refused(matters, changes, words):
    capture = answer_of(matters)
    other = dataclasses.replace(capture, key=dataclasses.replace(capture.key, **changes))
    with pytest.raises(UserError, match=words):
        list(matters.knock_out(other, Settings(width=1)))


# --- what it finds ---


def test_a_knock_out_of_one_layer_more_is_no_other_baseline(tiny_janus):
    capture = finish(tiny_janus.understand(PICTURE, "how many objects are there?", UNDERSTANDING_SAMPLING))
    narrow, wide = ([*knock_out(tiny_janus, capture, Settings(width=w, draws=0))][-1] for w in (1, 8))
    assert narrow.log_probabilities == wide.log_probabilities and narrow.all_layers == wide.all_layers
    # A window of all layers, where it is not cut off, is all layers at once.
    np.testing.assert_allclose(wide.drops[3], wide.all_layers, atol=1e-4)


def test_an_answer_that_is_one_token_has_one_row(tiny_janus):
    capture = finish(tiny_janus.understand(PICTURE, "what colour is the circle?", UNDERSTANDING_SAMPLING))
    *_, report = knock_out(tiny_janus, capture, Settings(width=2))
    assert capture.text == "red" and report.tokens == ["red"] and report.rows == 1
    assert sum(report.all_layers) > 1  # blind, it does not know


def test_a_cut_off_answer_counts_the_token_that_was_never_fed_back(tiny_janus):
    short = Sampling(temperature=0.0, max_new_tokens=3)
    capture = finish(tiny_janus.understand(PICTURE, "describe the image.", short))
    *_, report = knock_out(tiny_janus, capture, Settings(width=2, draws=0))
    assert len(report.tokens) == 3 == len(capture.text.split())


def test_a_drawing_leaves_its_last_patch_out_whose_code_is_not_kept(tiny_janus):
    capture = finish(tiny_janus.generate("two green squares", GENERATION_SAMPLING))
    *_, report = knock_out(tiny_janus, capture, Settings(width=2, draws=1))
    assert len(report.tokens) == 63 and sum(report.all_layers) > 5


def test_the_default_window_is_a_fifth_of_the_layers():
    assert [default_width(layers) for layers in (1, 2, 8, 30, 32, 48)] == [1, 1, 2, 6, 6, 10]


# --- over many samples ---


def test_a_kinds_part_is_the_mean_over_its_samples():
    first, second = make_report(), make_report(drops=[[0.0, 1.0], [0.5, 0.5], [0.0, 0.0]], window_likeliest=[2, 1, 2])
    curves = [np.array([0.2, 0.4, 0.6], np.float32), np.full(3, np.nan, np.float32)]
    part = describe_kind([(first, curves[0], True), (second, curves[1], False)])
    assert part["drop"] == [2.0, 0.75, -0.0625]
    assert part["error"] == pytest.approx([1.0, 0.25, 0.0625])
    assert part["intact"] == [0.5, 0.0, 1.0] and part["right"] == 0.5
    assert part["all_layers"] == {"drop": 4.0, "error": 0.0, "intact": 0.0}
    assert part["others"] == [0.5, 0.5, 0.5, 1.0] and part["fewer_targets"] is None
    assert part["intensity"] == pytest.approx([0.2, 0.4, 0.6])
    x, y = np.array([0.2, 0.4, 0.6]), np.array([2.0, 0.75, -0.0625])
    assert part["r"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)


def test_a_study_asks_held_out_questions_of_each_kind(tiny_janus):
    told = []
    report = study_knockout(
        tiny_janus, ["colour", "drawing"], 2, 0, Settings(width=2, draws=1), progress=lambda *args: told.append(args)
    )
    assert report["colour"]["n"] == report["drawing"]["n"] == 2 and told[-1] == ("drawing", 2, 2)
    assert report["drawing"]["intact"] is None and report["drawing"]["right"] is None
    assert len(report["colour"]["drop"]) == 8 and report["colour"]["all_layers"]["drop"] > 0
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_study_refuses_what_it_cannot_do(tiny_janus):
    for kinds, samples, width, words in (
        (["mood"], 2, 2, "kinds among"),
        (["colour"], 1, 2, "at least 2"),
        (["colour"], 2, 9, "1 to 8"),
    ):
        with pytest.raises(UserError, match=words):
            study_knockout(tiny_janus, kinds, samples, 0, Settings(width=width))


def test_a_blank_picture_can_be_knocked_out_too(tiny_janus):
    blank = Image.new("RGB", (64, 64))
    capture = finish(tiny_janus.understand(blank, "how many objects are there?", UNDERSTANDING_SAMPLING))
    *_, report = knock_out(tiny_janus, capture, Settings(width=2, draws=0))
    assert np.isfinite(report.all_layers).all()
