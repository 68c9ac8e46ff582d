"""Measuring a model: which prompts, which rows count, and a report that is plain data."""

import json
import math
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from aia import world
from aia.curves import task_correlation
from aia.evaluation import held_out_drawings
from aia.intensity import Definition, Task
from backend.interface import Cancelled, UserError
from backend.kept.captures import Sampling
from backend.measurement import DEFAULT_SAMPLING, fit_report, iterate_captures, measure_model, pick_questions
from tests.app.fakes import FakeModel

CURVE = {"mean", "std", "spread", "n", "left_out", "definition", "model", "sampling", "intensities"}
CURVE |= {"heads", "kinds", "tokens", "others"}


class Silent(FakeModel):
    """Answers nothing to every third question, so that these captures have the prefill row only."""

    def __init__(self, every: int = 3):
        super().__init__()
        self.every = every
        self.asked: list[tuple[str, Sampling]] = []

    def understand(self, image, prompt, sampling, cancel=None):
        self.asked.append((prompt, sampling))
        silent = len(self.asked) % self.every == 0
        yield from super().understand(image, prompt, replace(sampling, max_new_tokens=0 if silent else 64), cancel)


@pytest.fixture(scope="module")
def report(tiny_janus):
    return measure_model(tiny_janus, tuple(Task), samples=3, seed=5)


def test_questions_are_held_out_one_a_scene_and_even_over_kinds():
    pairs = pick_questions(60, seed=0)
    assert len(pairs) == 60 and all(scene.held_out for scene, _ in pairs)
    assert len({id(scene) for scene, _ in pairs}) == 60
    counts = Counter(question.kind for _, question in pairs)
    assert set(counts) == set(world.QUESTION_KINDS) and max(counts.values()) - min(counts.values()) <= 1
    assert pick_questions(10, seed=0) == pairs[:10] != pick_questions(10, seed=1)


def test_the_report_is_plain_data_with_one_curve_per_task(report):
    assert set(report) == {"model", "seed", "samples", "understanding", "generation", "correlation"}
    assert (report["model"], report["seed"], report["samples"]) == ("tiny-janus", 5, 3)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    for task in Task:
        part = report[task]
        assert set(part) == CURVE and part["definition"] == "figure" and part["n"] == 3 and part["left_out"] == []
        rows = np.array(part["intensities"])
        assert rows.shape == (3, 8) and (rows >= 0).all() and (rows <= 1).all()
        assert np.array_equal(rows, np.round(rows, 5))
        np.testing.assert_allclose(part["mean"], rows.mean(0), atol=1e-5)
        np.testing.assert_allclose(part["std"], rows.std(0, ddof=1), atol=1e-5)
        assert part["spread"] == pytest.approx(np.mean(part["std"]), abs=1e-6)


def test_a_row_is_the_intensity_of_the_conditional_branch_while_decoding(report, tiny_janus):
    sampling = DEFAULT_SAMPLING[Task.GENERATION]
    assert sampling.guidance > 1
    prompt = held_out_drawings(3, seed=5)[2].prompt
    *_, last = tiny_janus.generate(prompt, replace(sampling, seed=sampling.seed + 2))
    assert last.capture.mass.shape[0] == 2  # both branches were there to choose from
    curve = last.capture.intensity(Definition.FIGURE)
    np.testing.assert_allclose(report["generation"]["intensities"][2], curve, atol=1e-5)

    scene, question = pick_questions(3, seed=5)[1]
    picture = Image.fromarray(world.draw_scene(scene))
    *_, last = tiny_janus.understand(picture, question.text, DEFAULT_SAMPLING[Task.UNDERSTANDING])
    curve = last.capture.intensity(Definition.FIGURE)
    np.testing.assert_allclose(report["understanding"]["intensities"][1], curve, atol=1e-5)


def test_the_correlation_is_that_of_the_rows(report):
    rows = [np.array(report[task]["intensities"]) for task in (Task.GENERATION, Task.UNDERSTANDING)]
    found = task_correlation(*rows, seed=5)
    assert report["correlation"] == pytest.approx(
        {"r": found.r, "low": found.low, "high": found.high, "resamples": 1000}, abs=1e-3
    )
    assert report["correlation"]["low"] <= report["correlation"]["r"] <= report["correlation"]["high"]


def test_the_same_seed_gives_the_same_report_and_another_one_other_curves():
    first, again, other = (measure_model(FakeModel(), (Task.GENERATION,), 4, seed) for seed in (0, 0, 1))
    assert first == again and first["generation"]["mean"] != other["generation"]["mean"]
    assert "understanding" not in first and "correlation" not in first


def test_each_sample_has_a_seed_of_its_own():
    model = Silent()
    sampling = Sampling(seed=40, temperature=1.0, max_new_tokens=9)
    captures = list(iterate_captures(model, Task.UNDERSTANDING, 3, 0, sampling))
    assert [s for _, s in model.asked] == [replace(sampling, seed=seed) for seed in (40, 41, 42)]
    assert [prompt for prompt, _ in model.asked] == [q.text for _, q in pick_questions(3, 0)]
    assert len(captures) == 3
    drawn = list(iterate_captures(FakeModel(), Task.GENERATION, 3, 0, sampling))
    assert [c.key.sampling.seed for c in drawn] == [40, 41, 42]
    assert [c.key.prompt for c in drawn] == [d.prompt for d in held_out_drawings(3, 0)]


def test_samples_without_answer_tokens_are_counted_out():
    part = measure_model(Silent(), (Task.UNDERSTANDING,), 7, 0)["understanding"]
    assert part["n"] == 5 and part["left_out"] == [2, 5] and len(part["intensities"]) == 5
    assert all(math.isfinite(v) for row in part["intensities"] for v in row)
    np.testing.assert_allclose(part["mean"], np.mean(part["intensities"], 0), atol=1e-5)


def test_a_model_that_answers_nothing_is_named():
    with pytest.raises(UserError) as caught:
        measure_model(Silent(every=1), (Task.UNDERSTANDING,), 4, 0)
    words = "Expected at least 2 samples with answer tokens from tiny-janus, got 0 of 4; measure more samples."
    assert str(caught.value) == words


@pytest.mark.parametrize("definition", Definition)
def test_the_definition_chosen_is_the_one_measured(definition):
    part = measure_model(FakeModel(), (Task.GENERATION,), 2, 0, definition)["generation"]
    captures = list(iterate_captures(FakeModel(), Task.GENERATION, 2, 0, DEFAULT_SAMPLING[Task.GENERATION]))
    assert part["definition"] == definition.value
    np.testing.assert_allclose(part["intensities"], [c.intensity(definition) for c in captures], atol=1e-5)


def test_progress_counts_each_task_up_to_its_end():
    seen = []
    measure_model(FakeModel(), tuple(Task), 2, 0, progress=lambda *step: seen.append(step))
    assert seen == [("questions", 1, 2), ("questions", 2, 2), ("drawings", 1, 2), ("drawings", 2, 2)]


def test_a_set_flag_ends_the_measurement():
    flag, model = threading.Event(), FakeModel()

    def stop_after_one(what, done, total):
        flag.set()

    with pytest.raises(Cancelled):
        measure_model(model, (Task.GENERATION,), 50, 0, progress=stop_after_one, cancel=flag)
    assert model.runs == 2


def test_one_sample_is_refused_before_any_work():
    model = FakeModel()
    with pytest.raises(UserError, match=r"at least 2 samples.*got 1"):
        measure_model(model, tuple(Task), 1, 0)
    assert model.runs == 0


def test_targets_are_fitted_to_both_curves(report):
    targets = fit_report(report, 2, "mine")
    assert targets.layers == 8 and targets.name == "mine"
    assert targets.source == "measured on tiny-janus, figure definition, 3 samples a task, seed 5"
    for task in Task:
        target, _ = targets.as_arrays(task)
        assert len(set(target.tolist())) == 2
        assert target.mean() == pytest.approx(np.mean(report[task]["mean"]), abs=1e-5)  # least squares keeps the mean


def test_a_mean_a_little_above_one_is_fitted_as_one(report):
    full = {**report, "generation": {**report["generation"], "mean": [1.0008] * 8}}
    assert fit_report(full, 1, "mine").generation[0].target == 1


@pytest.mark.parametrize(
    ("change", "stages", "says"),
    [
        ({"understanding": None}, 2, "Expected both tasks to be measured for targets, got no understanding; add it."),
        ({}, 9, "Expected 1 to 8 stages for 8 layers, got 9; choose a number in this range."),
        ({}, 0, "Expected 1 to 8 stages for 8 layers, got 0; choose a number in this range."),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_sentence(report, change, stages, says):
    with pytest.raises(UserError) as caught:
        fit_report({**report, **change}, stages, "mine")
    assert str(caught.value) == says
