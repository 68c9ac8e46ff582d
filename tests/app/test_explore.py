import io
import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.data_classes import FileData
from PIL import Image

from app.components.picture import PictureChoice
from app.components.result import ResultView, State
from app.explore.form import FILLED, about_models, drawn_with, make_form
from app.explore.page import Explore
from app.explore.samples import load_samples
from backend.interface import Finished
from backend.kept.captures import Sampling
from backend.kept.store import MENDED
from backend.models.catalogue import CURVES_ONLY
from backend.models.specs import SPECS
from backend.sampling import RANGES

SAMPLES = load_samples()


@pytest.fixture
def explore(engine):
    return Explore(engine, SAMPLES, lambda: [("none", "")])


def load(explore, **query):
    return explore.on_load(SimpleNamespace(session_hash="s", query_params=query))


def test_a_first_visit_shows_a_finished_capture_without_a_run(explore):
    runs = explore.engine.model.runs
    *filled, result, curve, _ = load(explore)
    assert result.state == State.FINISHED
    assert curve.link == {"capture": explore.welcome.id}
    assert filled[2].sample == SAMPLES.pictures[0].file
    settings = filled[5:14]  # as the form starts: what somebody has typed already is left alone
    assert settings == [gr.skip()] * 9
    assert explore.engine.model.runs == runs


def test_a_permalink_fills_the_form_and_shows_the_capture_without_a_run(explore):
    *_, last = explore.engine.generate("tiny-janus", "a red square", Sampling(seed=5, guidance=2.0))
    assert isinstance(last, Finished)
    runs = explore.engine.model.runs
    *filled, result, curve, _ = load(explore, capture=last.capture.id, definition="strict")
    assert filled[0:2] == ["tiny-janus", "generation"]
    assert (filled[4], filled[5], filled[9]) == ("a red square", 5, 2.0)
    assert result.prompt == "a red square"
    assert curve.chosen == "strict"
    assert explore.engine.model.runs == runs


@pytest.mark.parametrize("capture", ["0" * 24, "x", "../../etc/passwd", "a" * 5000])
def test_an_unknown_capture_is_one_sentence_over_the_first_visit(explore, capture):
    *_, result, curve, _ = load(explore, capture=capture)
    assert result.message
    assert len(result.message) < 300
    assert result.chips
    assert curve.link == {}


def test_a_page_says_that_the_list_of_results_was_damaged_and_mended(explore):
    def notices():
        return next(value for value in load(explore) if isinstance(value, ResultView)).notices

    assert notices() == ()
    explore.engine.store.mended = MENDED
    assert notices() == (MENDED,)


def test_an_upload_gets_a_preview_or_a_reason(explore, uploads):
    good, bad = uploads / "good.png", uploads / "bad.png"
    Image.new("RGB", (3000, 20), "red").save(good)
    bad.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    shown = explore.on_upload(PictureChoice(file=FileData(path=str(good))))
    assert shown.preview.startswith("data:image/")
    assert len(shown.preview) < 20_000
    refused = explore.on_upload(PictureChoice(file=FileData(path=str(bad))))
    assert "SVG" in refused.message
    assert refused.file is None


def test_samples_are_small_world_pictures_with_three_questions():
    assert len(SAMPLES.pictures) == 8
    for sample in SAMPLES.pictures:
        assert Image.open(io.BytesIO(sample.path.read_bytes())).size == (64, 64)
        assert len(set(sample.questions)) == 3


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


def test_sliders_cover_what_the_engine_takes(explore):
    with gr.Blocks():
        form = make_form(explore.engine.specs, SAMPLES, [("none", "")])
    assert len(form.filled) == FILLED
    sliders = [field for field in form.fields if isinstance(field, gr.Slider)]
    names = ("temperature", "max_new_tokens", "temperature", "guidance")  # the last slider is the adapter's
    assert [(s.minimum, s.maximum) for s in sliders[:-1]] == [RANGES[name] for name in names]


def test_the_form_knows_of_every_model_what_it_takes_and_can_do():
    about = about_models(SPECS)
    assert list(about) == [*(spec.name for spec in SPECS), *(other.name for other in CURVES_ONLY)]
    assert [name for name, (*_, sized) in about.items() if sized] == ["emu3-gen"]
    assert about["qwen3-vl-8b"][2] == ["understanding"] and about["bagel"][2] == []
    assert re.fullmatch(
        r"With one request about \d+ GiB in full, \d+ GiB in int8, \d+ GiB in NF4\.", about["emu3-gen"][1]
    )


def test_a_chosen_model_draws_with_its_own_guidance():
    own = drawn_with(SPECS)
    assert own["tiny-janus"] == [0.5, 1.5] and own["janus-pro-7b"] == [1.0, 5.0] and own["emu3-gen"] == [1.0, 3.0]
    assert set(own) == set(about_models(SPECS))
