"""One head over the steps, and heads of both tasks by rank: hand-made captures and measurements with known answers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from aia.intensity import Definition, Task
from app.closer.asked import Asked
from app.closer.heads import head_map, read_head, read_heads
from app.closer.maps import decode
from app.closer.tasks import PARTNER, rank, read_tasks, tasks_sources
from backend.kept.measurements import Measurements
from backend.models.specs import SPECS
from tests.made_captures import make_answer, make_drawing


def head_in_step(layers=3, heads=4, rows=5, layer=2, head=1, row=3):
    """Shares of an answer in which one head looks at the image, in one step."""
    shares = np.zeros((layers, heads, rows), np.float32)
    shares[layer, head, row] = 0.8
    return shares


def both_tasks(understanding, generation, rows=4):
    """An answer and a drawing whose heads [L, H] give these shares in every step."""
    answer, drawing = (np.repeat(np.float32(v)[..., None], rows, -1) for v in (understanding, generation))
    return make_answer(answer), make_drawing(drawing[None], (1, rows))


def report(understanding=None, generation=None, model="tiny-janus", definition="figure", **rest):
    """A measurement of one sample: heads [L, H] by task."""
    sampling = {"seed": 0, "temperature": 1.0, "guidance": 1.0, "max_new_tokens": 8}
    tasks = {}
    for task, heads in ((Task.UNDERSTANDING, understanding), (Task.GENERATION, generation)):
        if heads is not None:
            mean = np.mean(heads, 1).round(6).tolist()
            tasks[task.value] = {
                "mean": mean,
                "std": [0.0] * len(mean),
                "spread": None,
                "n": 1,
                "left_out": [],
                "definition": definition,
                "model": model,
                "sampling": sampling,
                "intensities": [mean],
                "heads": np.round(heads, 6).tolist(),
            }
    return {"adapter": None, "model": model, "seed": 0, "samples": 1, **tasks, **rest}


@pytest.fixture
def measurements(tmp_path):
    return Measurements(tmp_path / "measurements")


# --- one head ---


def test_a_head_s_curve_is_its_own_steps_beside_its_layer():
    data = read_head(Asked(make_answer(head_in_step()), values={"head": "3.2"}))
    own, layer = decode(data["captures"][0]["curves"])
    np.testing.assert_allclose(own, [0, 0, 0, 0.8, 0], atol=1e-4)
    np.testing.assert_allclose(layer, [0, 0, 0, 0.2, 0], atol=1e-4)
    assert (
        "gives 0.20 in the mean of its steps, its layer 0.05; it lies above its layer in 1 of 4"
        in (data["captures"][0]["sentence"])
    )
    other = read_head(Asked(make_answer(head_in_step()), values={"head": "3.1"}))
    assert decode(other["captures"][0]["curves"])[0].max() == 0


def test_the_row_fed_in_is_one_step_later():
    data = read_head(Asked(make_answer(head_in_step()), values={"head": "3.2", "fed": "1"}))["captures"][0]
    own = decode(data["curves"])[0]
    np.testing.assert_allclose(own[:4], [0, 0, 0.8, 0], atol=1e-4)
    assert np.isnan(own[4]) and not data["prefill"]


def test_the_point_on_the_curve_is_the_cell_on_the_map():
    capture = make_drawing(np.random.default_rng(0).random((2, 3, 2, 6), np.float32))
    means = read_head(Asked(capture, values={"head": "2.1"}))["means"][0]
    for definition in Definition:
        assert means[definition.value] == pytest.approx(head_map(capture, definition)[0, 1], abs=1e-6)


def test_a_head_that_a_partner_does_not_have_is_said_and_the_other_is_shown():
    small = make_answer(np.ones((1, 1, 3), np.float32), prompt="small")
    data = read_head(Asked(make_answer(head_in_step()), small, values={"head": "3.2"}))
    assert "curves" in data["captures"][0] and data["means"][1] is None
    assert "B has 1 layers of 1 heads, other than A" in data["captures"][1]["error"]
    none = read_head(Asked(small))
    assert "choose one on the map" in none["captures"][0]["error"] and none["means"] == [None]


def test_a_head_of_an_answer_without_a_step_that_counts():
    for text in ("word1", ""):
        capture = replace(make_answer(np.ones((2, 2, 1), np.float32)), text=text)
        data = read_head(Asked(capture, values={"head": "1.1"}))
        assert data["means"] == [None] and "too short" in data["captures"][0]["empty"]
        assert "no step that counts" in data["captures"][0]["sentence"] and json.dumps(data, allow_nan=False)


# --- both tasks ---


def test_ranks_are_shares_of_other_heads_and_ties_count_half():
    np.testing.assert_allclose(rank(np.array([[0.1, 0.4], [0.2, 0.3]])), [[0, 1], [1 / 3, 2 / 3]])
    np.testing.assert_allclose(rank(np.array([[0.1, 0.1, 0.5]])), [[0.25, 0.25, 1]])
    assert rank(np.array([[0.7]])) == [[0.5]]


def test_a_head_that_leads_in_answers_and_trails_in_drawings_comes_first(measurements):
    answers, drawings = [[0.9, 0.2], [0.3, 0.1]], [[0.5, 0.6], [0.55, 0.8]]  # layers of heads
    for pair in (both_tasks(answers, drawings), both_tasks(answers, drawings)[::-1]):
        data = read_tasks(Asked(*pair), measurements)
        assert data["chosen"] == PARTNER and data["choices"] == [{"id": PARTNER, "name": "A and B"}]
        np.testing.assert_allclose(decode(data["understanding"]), np.transpose(answers), atol=1e-4)
        np.testing.assert_allclose(decode(data["generation"]), np.transpose(drawings), atol=1e-4)
        # Ranks of answers 1, 1/3, 2/3, 0 and of drawings 0, 2/3, 1/3, 1.
        np.testing.assert_allclose(decode(data["difference"]), [[1, 1 / 3], [-1 / 3, -1]], atol=1e-4)
        assert data["sentence"].startswith("Most of all, head 1 of layer 1 (0.90 on the image, 0.50 on the text)")
        assert "head 2 of layer 2 (0.10 on the image, 0.80 on the text) the reverse" in data["sentence"]


def test_measurements_of_the_same_model_and_shape_serve_too(measurements):
    answer, _ = both_tasks([[0.9, 0.2], [0.3, 0.1]], [[0.5, 0.6], [0.55, 0.8]])
    whole = measurements.save(report([[0.1, 0.2], [0.3, 0.4]], [[0.8, 0.7], [0.6, 0.5]]), "many")
    measurements.save(report([[0.1, 0.2], [0.3, 0.4]]), "answers alone")
    measurements.save(report([[0.1, 0.2]], [[0.8, 0.7]]), "of other layers")
    measurements.save(report([[0.1, 0.2], [0.3, 0.4]], [[0.8, 0.7], [0.6, 0.5]], model="tiny-emu3"), "another model")
    data = tasks_sources(measurements)["head-tasks"](Asked(answer))
    assert data["choices"] == [{"id": whole, "name": "many"}] and data["note"] == ""
    np.testing.assert_allclose(decode(data["difference"]), [[-1, 1 / 3], [-1 / 3, 1]], atol=1e-4)
    other = read_tasks(Asked(answer, definition=Definition.STRICT), measurements)
    assert other["note"] == "That was measured by figure alone."


def test_the_reference_is_the_one_that_was_asked_for(measurements):
    pair = both_tasks([[0.9, 0.2], [0.3, 0.1]], [[0.5, 0.6], [0.55, 0.8]])
    kept = measurements.save(report([[0.1, 0.2], [0.3, 0.4]], [[0.8, 0.7], [0.6, 0.5]]))
    data = read_tasks(Asked(*pair, values={"tasks": kept}), measurements)
    assert data["chosen"] == kept and [one["id"] for one in data["choices"]] == [PARTNER, kept]
    assert data["choices"][1]["name"] == "measured: tiny-janus, 1 samples, seed 0"
    assert read_tasks(Asked(*pair, values={"tasks": "0" * 16}), measurements)["chosen"] == PARTNER


@pytest.mark.parametrize(
    ("model", "second", "words"),
    [
        ("tiny-janus", None, "choose a drawing by it under “Compare with”, or measure both in the Measure tab."),
        ("nobody-knows", None, "choose a drawing by it"),
        ("Qwen3-VL 2B", None, "does not draw"),
        ("tiny-janus", {}, "A and B are of one task."),
        ("tiny-janus", {"model": "tiny-emu3"}, "A and B are of two models."),
    ],
)
def test_what_is_missing_is_said(measurements, model, second, words):
    named = {spec.title: spec.name for spec in SPECS}.get(model, model)
    answer = make_answer(head_in_step(), model=named)
    if second is not None and second:
        second = make_drawing(np.ones((1, 3, 4, 5), np.float32), (1, 5), **second)
    elif second is not None:
        second = make_answer(head_in_step(), prompt="another")
    found = read_tasks(Asked(answer, second), measurements)
    assert found["choices"] == [] and words in found["sentence"] and "\n" not in found["sentence"]


def test_an_answer_and_a_drawing_have_no_difference_of_shares():
    data = read_heads(Asked(*both_tasks([[0.9, 0.2]], [[0.5, 0.6]])))
    assert data["definitions"]["figure"]["difference"] is None
    assert "no common scale" in data["note"] and "by rank" in data["note"]


def test_a_pair_of_which_one_has_no_step_has_no_difference():
    short = make_answer(np.ones((3, 4, 1), np.float32), prompt="short")
    data = read_heads(Asked(make_answer(head_in_step()), short))
    assert data["note"] == "B took one step alone, so there is no A − B." and data["captures"][1]["empty"]
    assert data["definitions"]["figure"]["difference"] is None and json.dumps(data, allow_nan=False)
