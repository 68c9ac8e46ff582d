"""The Compare tab without a browser: what can be compared, and what the page answers."""

import html
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from aia.intensity import Definition, Task
from app.compare import views
from app.compare.api import CompareEndpoint
from app.compare.page import Compare
from backend.background.runs import Runs
from backend.comparison import Comparables, parse_ids
from backend.embedded import load_embedded
from backend.interface import UserError
from backend.kept.captures import Sampling
from tests.app.made_runs import CONTROL, LAYERS, RUN, make_pair

FIGURE, TRAINING, STRICT = Definition
CAPTURE = "0123456789abcdef01234567"


@pytest.fixture
def things(engine, tmp_path):
    make_pair(tmp_path / "runs")
    return Comparables(engine.store, Runs(tmp_path / "runs"))


@pytest.fixture
def page(things):
    return Compare(things)


def by_role(series, task):
    return {s.role: s for s in series if s.task == task}


# --- ids ---


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (f"run:{RUN}", [f"run:{RUN}"]),
        (f" {CAPTURE} , {RUN},", [f"capture:{CAPTURE}", f"run:{RUN}"]),
        (f"http://127.0.0.1:7860/?capture={CAPTURE}&definition=strict", [f"capture:{CAPTURE}"]),
        (f"https://x.org/lens/?run={RUN}", [f"run:{RUN}"]),
        (f"?compare=run%3A{RUN},paper:fig1-emu3", [f"run:{RUN}", "paper:fig1-emu3"]),
        ("paper:fig1-emu3,paper:fig1-emu3", ["paper:fig1-emu3"]),
        ("", []),
    ],
)
def test_ids_are_read_from_what_is_typed_or_pasted(text, ids):
    assert parse_ids(text) == ids


@pytest.mark.parametrize("text", ["x", "run:../../etc", "capture:" + "g" * 24, "http://[", "paper:" + "a" * 99, "run:"])
def test_anything_else_is_refused_in_one_sentence(text):
    with pytest.raises(UserError) as refused:
        parse_ids(text)
    assert len(str(refused.value)) < 200 and "\n" not in str(refused.value)


def test_a_fifth_thing_is_refused():
    with pytest.raises(UserError, match=r"at most 4 .* got 5"):
        parse_ids(",".join(f"paper:p{i}" for i in range(5)))


# --- series ---


def test_a_run_brings_before_after_control_and_targets(things):
    drawn = by_role(things.series(f"run:{RUN}", TRAINING), Task.GENERATION)
    assert set(drawn) == {"before", "after", "control", "target"}
    assert drawn["before"].mean == pytest.approx(0.6 - 0.02 * np.arange(LAYERS))
    assert drawn["after"].mean == pytest.approx(0.45 - 0.02 * np.arange(LAYERS))
    assert drawn["control"].mean == pytest.approx(0.62 - 0.02 * np.arange(LAYERS))
    assert drawn["target"].mean[0] == pytest.approx(0.4) and drawn["target"].std[0] == pytest.approx(0.2)
    assert drawn["after"].scores["overall"] == pytest.approx(0.74, abs=0.01)


def test_a_control_by_itself_has_no_control(things):
    roles = {s.role for s in things.series(f"run:{CONTROL}", TRAINING)}
    assert roles == {"before", "after", "target"}


def test_distances_as_measured_belong_to_the_definition_of_the_training_only(things):
    assert by_role(things.series(f"run:{RUN}", TRAINING), Task.GENERATION)["after"].distance["aia_loss"] == 0.0123
    strict = by_role(things.series(f"run:{RUN}", STRICT), Task.GENERATION)
    assert strict["after"].distance is None
    assert strict["after"].mean[0] == pytest.approx(0.35)
    assert strict["target"].definition == TRAINING


def test_a_capture_has_its_heads_and_its_output(things, answer):
    things.store.put(answer)
    [series] = things.series(f"capture:{answer.id}", STRICT)
    assert series.heads.shape == (8, 4)
    assert series.mean == pytest.approx(answer.intensity(STRICT), abs=1e-6)
    assert series.output.prompt == "what is there?" and series.output.picture_png == answer.picture_png


def test_the_papers_curves_have_a_value_for_each_native_layer(things):
    layers = {
        choice.id: {s.task: s.layers for s in things.series(choice.id, STRICT)}
        for choice in things.choices()
        if choice.id.startswith("paper:")
    }
    assert layers["paper:fig5-emu3-with-aia"] == {Task.UNDERSTANDING: 32, Task.GENERATION: 32}  # drawn with 36 samples
    assert layers["paper:fig4-flux"] == {Task.GENERATION: 19}  # drawn with 64
    assert layers["paper:fig1-janus-pro"] == {Task.GENERATION: 30, Task.UNDERSTANDING: 30}
    [emu, _] = things.series("paper:fig1-emu3", STRICT)
    assert emu.mean[:3].tolist() == [0.015, 0.0101, 0.0214] and emu.definition == FIGURE


def test_an_embedded_model_has_the_curves_it_comes_with_by_each_definition(things):
    known = load_embedded()["tiny-janus"]
    for definition in Definition:
        for one in things.series("model:tiny-janus", definition):
            assert (one.definition, one.role, one.name) == (definition, "measurement", "tiny-janus")
            assert one.mean == pytest.approx(known.curve(one.task, definition)[0])
    with pytest.raises(UserError, match="No model called “tiny-llama”"):
        things.series("model:tiny-llama", FIGURE)


def test_an_empty_comparison_links_to_the_embedded_models_beside_the_papers_figure(page, things):
    picker, empty, *_ = page.show([], FIGURE, "both")
    [query] = re.findall(r'href="\?([^"]*)"', empty)
    ids = parse_ids("?" + html.unescape(query))
    assert ids == things.first() and ids[0] == "model:tiny-janus" and "paper:fig1-janus-pro" in ids
    picker, empty, overlay, *_ = page.show(ids, FIGURE, "both")
    assert [item.id for item in picker.chosen] == ids and picker.message == "" and empty == ""
    assert len(overlay.legend) == len(ids) == 2 * len(load_embedded())


def test_the_list_has_finished_runs_captures_and_the_paper(things, answer, drawing, tmp_path):
    things.store.put(answer)
    things.store.put(drawing)
    (tmp_path / "runs" / CONTROL / "result.json").unlink()  # no longer finished
    names = {c.id: (c.name, c.about) for c in things.choices()}
    assert names[f"run:{RUN}"] == ("first try", "tiny-janus · 100 steps · with AIA")
    assert f"run:{CONTROL}" not in names
    assert names[f"capture:{drawing.id}"] == ("“a red circle”", "tiny-janus drew · seed 3")
    assert names[f"capture:{answer.id}"][1] == "tiny-janus: a red circle and a blue square"
    assert "paper:fig1-bagel" in names


@pytest.mark.parametrize(
    "thing", [f"capture:{CAPTURE}", "run:" + "0" * 16, "paper:fig9-nobody", f"run:{CONTROL}"], ids=lambda t: t[:9]
)
def test_what_is_not_there_or_not_finished_is_one_sentence(things, tmp_path, thing):
    (tmp_path / "runs" / CONTROL / "result.json").unlink()
    with pytest.raises(UserError) as refused:
        things.series(thing, FIGURE)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r["after"].update(intensity={"generation": {"figure": {"mean": ["x"], "std": [0]}}}),
        lambda r: r["after"].update(intensity={"generation": {"figure": {"mean": [0.1, 0.2], "std": [0.1]}}}),
        lambda r: r["after"].update(intensity=[1]),
        lambda r: r.update(after=None),
    ],
)
def test_a_damaged_result_is_one_sentence(things, tmp_path, damage):
    path = tmp_path / "runs" / RUN / "result.json"
    result = json.loads(path.read_text())
    damage(result)
    path.write_text(json.dumps(result))
    with pytest.raises(UserError, match="cannot be read"):
        things.series(f"run:{RUN}", FIGURE)


# --- the page ---


def load(page, **query):
    return page.on_load(SimpleNamespace(query_params=query))


def sent(**data):
    return SimpleNamespace(_data=data)


def test_a_page_without_a_comparison_in_its_address_is_left_alone(page):
    assert load(page, capture=CAPTURE) == [gr.skip()] * 11


def test_a_permalink_brings_the_view_back(page):
    tabs, definition, task, picker, *cards = load(
        page, compare=f"run:{RUN},paper:fig1-emu3", definition="strict", task="generation"
    )
    assert (tabs.selected, definition, task) == ("compare", "strict", "generation")
    assert [item.id for item in picker.chosen] == [f"run:{RUN}", "paper:fig1-emu3"]
    assert picker.link == f"compare=run:{RUN},paper:fig1-emu3&definition=strict&task=generation"
    assert cards[1].link == picker.link
    assert picker.message == ""


def test_nothing_chosen_says_what_to_do(page):
    _, _, _, picker, empty, *cards = load(page, compare="")
    assert "Choose two to 4 things" in empty
    assert not any(cards) and picker.link == "compare="


@pytest.mark.parametrize("bad", ["run:" + "0" * 16, "paper:nope", "zz", "run:../..", "a" * 5000, f"capture:{CAPTURE}"])
def test_a_bad_id_is_one_sentence(page, bad):
    _, _, _, picker, empty, *_ = load(page, compare=bad)
    assert picker.message and len(picker.message) < 250 and empty


def test_what_is_good_of_a_link_is_shown_beside_the_sentence(page):
    _, _, _, picker, empty, overlay, *_ = load(page, compare="paper:nope,paper:fig1-emu3")
    assert "nope" in picker.message and not empty
    assert [item.id for item in picker.chosen] == ["paper:fig1-emu3"] and overlay.figure["data"]


def test_turning_to_the_tab_keeps_the_message(page):
    picker, *_ = page.on_turn({"chosen": [{"id": "paper:fig1-emu3"}], "message": "No such run."}, "figure", "both")
    assert picker.message == "No such run." and len(picker.chosen) == 1


def test_pasting_adds_and_a_refusal_changes_nothing(page):
    added, *_ = page.on_paste("figure", "both", sent(ids=["paper:fig1-emu3"], text=f"?run={RUN}"))
    assert [item.id for item in added.chosen] == ["paper:fig1-emu3", f"run:{RUN}"]
    refused, *_ = page.on_paste("figure", "both", sent(ids=["paper:fig1-emu3"], text="nonsense"))
    assert [item.id for item in refused.chosen] == ["paper:fig1-emu3"] and "nonsense" in refused.message


@pytest.mark.parametrize("data", [None, {}, {"ids": "x"}, {"ids": [None, 3, {}]}])
def test_whatever_a_page_sends_is_answered(page, data):
    picker, empty, *_ = page.on_choose("nope", 7, SimpleNamespace(_data=data))
    assert not picker.chosen and empty
    assert (
        page.on_paste("nope", 7, SimpleNamespace(_data=data if data is None else {**data, "text": 5}))[0].chosen == ()
    )
    assert page.on_switch("x", None, None)[0].chosen == ()


def test_two_captures_of_a_task_have_a_map_of_heads_and_their_outputs(page, answer):
    other = replace(answer, key=replace(answer.key, prompt="what is here?"), mass=answer.mass[..., ::-1].copy())
    for capture in (answer, other):
        page.things.store.put(capture)
    _, _, _, difference, heads, outputs, *_ = page.show(
        [f"capture:{answer.id}", f"capture:{other.id}"], FIGURE, views.BOTH
    )
    cells = heads.figure["data"][0]
    expected = answer.head_intensity(FIGURE) - other.head_intensity(FIGURE)
    assert np.array(cells["z"]) == pytest.approx(expected.T, abs=1e-5)
    assert cells["zmin"] == -cells["zmax"]
    assert difference.figure["data"][0]["y"] == pytest.approx(expected.mean(1), abs=1e-5)
    assert outputs.count("<img") == 2 and "what is here?" in outputs


def test_prompts_are_text_not_markup(page, answer):
    evil = replace(answer, key=replace(answer.key, prompt="<img src=x onerror=alert(1)>"), text="<b>&")
    for capture in (answer, evil):
        page.things.store.put(capture)
    *_, outputs, _, _ = page.show([f"capture:{answer.id}", f"capture:{evil.id}"], FIGURE, views.BOTH)
    assert "<img src=x" not in outputs and "&lt;img src=x" in outputs and "&lt;b&gt;&amp;" in outputs


def test_an_answer_too_short_to_measure_is_one_sentence(page, answer):
    short = replace(
        answer,
        key=replace(answer.key, sampling=Sampling(max_new_tokens=1)),
        mass=answer.mass[:, :, :, :1].copy(),
        query_positions=answer.query_positions[:1].copy(),
        cross=answer.cross[:, :1].copy(),
    )
    page.things.store.put(short)
    assert "too short" in page.show([f"capture:{short.id}"], FIGURE, views.BOTH)[0].message


# --- the endpoint ---


def test_the_endpoint_gives_series_differences_and_a_sentence(things):
    found = CompareEndpoint(things).compare([f"run:{RUN}"], "training")
    assert found["sentence"] == (
        "Understanding, A after against A before: most different in layer 1, 0.30 against 0.70; on average 0.40 lower."
    )
    drawing = next(d for d in found["differences"] if d["tasks"][0] == "generation")
    assert drawing["difference"] == pytest.approx([-0.15] * LAYERS) and not drawing["matched_by_depth"]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("ids", "definition"), [([], "figure"), ("x", "figure"), (["paper:fig1-emu3"], "x"), ([1], "x")]
)
def test_the_endpoint_refuses_in_one_sentence(things, ids, definition):
    with pytest.raises(gr.Error) as refused:
        CompareEndpoint(things).compare(ids, definition)
    assert len(refused.value.message) < 200
