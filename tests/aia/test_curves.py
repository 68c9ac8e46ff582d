"""Statistics on curves: hand-computed values, agreement with the loss, and what has no answer."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from aia.curves import (
    Correlation,
    curve_distance,
    spread_over_samples,
    summarise_curves,
    task_correlation,
    without_each_layer,
)
from aia.intensity import Task
from aia.loss import aia_loss
from aia.stages import Stage
from aia.targets import PRESETS, StageTargets

CURVES = Path(__file__).resolve().parents[2] / "assets" / "paper_curves.json"
NAN = [math.nan, math.nan]
TARGETS = StageTargets("two", "by hand", (Stage(0, 1, 0.5, 0.1),), (Stage(0, 0, 0.2, 0.05), Stage(1, 1, 0.4, 0.2)), 2)


def message(function, *arguments) -> str:
    with pytest.raises(ValueError) as error:
        function(*arguments)
    return str(error.value)


def test_mean_and_deviation_leave_out_samples_without_answer_tokens():
    curve = summarise_curves(np.array([[0.1, 0.2], NAN, [0.3, 0.6]]))
    assert curve.samples == 2
    np.testing.assert_allclose(curve.mean, [0.2, 0.4])
    np.testing.assert_allclose(curve.std, [math.sqrt(0.02), math.sqrt(0.08)])  # ddof 1: (0.1² + 0.1²) / 1


def test_one_sample_has_no_deviation():
    curve = summarise_curves(np.array([[0.1, 0.2], NAN]))
    assert curve.std.tolist() == [0, 0] and curve.samples == 1
    assert spread_over_samples(np.array([[0.1, 0.2]])) == 0


def test_the_spread_is_the_mean_over_layers_of_the_deviation_over_samples():
    spread = spread_over_samples(np.array([[0.1, 0.2], [0.3, 0.6], NAN]))
    assert spread == pytest.approx((math.sqrt(0.02) + math.sqrt(0.08)) / 2)
    levels = np.array([[0.1, 0.9], [0.1, 0.9]])  # layers differ, samples do not
    assert spread_over_samples(levels) == 0


def test_distance_is_eq_2_of_each_sample_and_absolute_of_the_mean():
    # Gaps of generation: 0, 0.05 (½x²), 0.4 (0.1·0.4 − ½·0.1²), 0.1 = δ (½x²).
    found = curve_distance(np.array([[0.5, 0.55], [0.9, 0.4], NAN]), TARGETS, Task.GENERATION)
    assert found.aia_loss == pytest.approx((0 + 0.00125 + 0.035 + 0.005) / 4, abs=1e-8)
    assert found.mean_absolute == pytest.approx((0.2 + 0.025) / 2, abs=1e-7)
    # Understanding: gaps 0.1 with δ 0.05, and 0.1 with δ 0.2.
    found = curve_distance(np.array([0.3, 0.3]), TARGETS, Task.UNDERSTANDING)
    assert found.aia_loss == pytest.approx((0.05 * 0.1 - 0.5 * 0.05**2 + 0.5 * 0.1**2) / 2, abs=1e-8)
    assert found.mean_absolute == pytest.approx(0.1, abs=1e-7)


def test_samples_around_a_target_cost_though_their_mean_is_on_it():
    found = curve_distance(np.array([[0.4, 0.4], [0.6, 0.6]]), TARGETS, Task.GENERATION)
    assert found.mean_absolute == pytest.approx(0, abs=1e-12)
    assert found.aia_loss == pytest.approx(0.005)


@pytest.mark.parametrize("task", Task)
def test_distance_equals_the_loss_that_is_trained(task):
    targets = PRESETS["paper-janus-pro"]
    rows = np.random.default_rng(0).random((7, 30)).astype(np.float32)
    t, d = targets.as_arrays(task)
    assert curve_distance(rows, targets, task).aia_loss == pytest.approx(
        float(aia_loss(torch.tensor(rows), t, d)), abs=1e-6
    )
    rows[[1, 4]] = np.nan
    assert curve_distance(rows, targets, task).aia_loss == pytest.approx(
        float(aia_loss(torch.tensor(rows), t, d, divide_by="weighted")), abs=1e-6
    )


def test_targets_of_another_model_are_refused():
    words = "expected targets for 3 layers, got 2 in two; stretch the targets"
    assert message(curve_distance, np.zeros((4, 3)), TARGETS, Task.GENERATION) == words


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([NAN, NAN], "expected at least one sample with answer tokens, got none; measure other prompts"),
        (np.zeros((0, 3)), "expected at least one sample with answer tokens, got none; measure other prompts"),
        ([0.1, 0.2], "expected intensities of shape [N, L], got [2]; give one row per sample"),
        (np.zeros((3, 0)), "expected intensities of shape [N, L], got [3, 0]; give one row per sample"),
        ([[0.1, math.nan]], "expected a finite intensity in every layer of a sample, got gaps; measure again"),
        ([[0.1, math.inf]], "expected a finite intensity in every layer of a sample, got gaps; measure again"),
    ],
)
def test_what_is_no_set_of_samples_is_refused(rows, says):
    assert message(summarise_curves, np.array(rows)) == says
    assert message(spread_over_samples, np.array(rows)) == says


def test_correlation_is_of_the_mean_curves():
    # Means (0.1, 0.2, 0.3) and (0.1, 0.3, 0.2): centred (-1, 0, 1) and (-1, 1, 0), so r = 1 / 2.
    generation = np.array([[0.0, 0.3, 0.1], [0.2, 0.1, 0.5]])
    understanding = np.array([[0.1, 0.3, 0.2], [math.nan] * 3, [0.1, 0.3, 0.2], [0.1, 0.3, 0.2]])
    assert task_correlation(generation, understanding).r == pytest.approx(0.5)
    assert task_correlation(understanding, 1 - understanding).r == pytest.approx(-1)


def test_the_published_correlations_come_out_of_the_digitised_curves():
    published = {"Emu3": -0.32, "Janus-Pro": -0.46, "BAGEL": -0.72, "Task-specific": -0.19}
    drawn = [curve for curve in json.loads(CURVES.read_text())["curves"] if curve["figure"] == "1"]
    for panel, r in published.items():
        pair = {c["task"]: np.array([c["intensity"]]) for c in drawn if c["panel"] == panel}
        assert task_correlation(pair["generation"], pair["understanding"]).r == pytest.approx(r, abs=0.0051)


def test_equal_samples_leave_nothing_to_chance():
    rows = np.tile([0.1, 0.2, 0.4], (5, 1))
    other = np.tile([0.3, 0.1, 0.1], (4, 1))
    found = task_correlation(rows, other)
    assert found.low == pytest.approx(found.r) and found.high == pytest.approx(found.r)


def make_noisy_tasks(samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    falling, rising = np.linspace(0.6, 0.2, 8), np.linspace(0.3, 0.4, 8)
    return tuple(curve + rng.normal(0, 0.1, (samples, 8)) for curve in (falling, rising))


def test_the_interval_is_that_of_drawing_both_sets_anew():
    generation, understanding = make_noisy_tasks(20)
    found = task_correlation(generation, understanding, resamples=4000)
    rng = np.random.default_rng(99)
    drawn = [
        np.corrcoef(*(rows[rng.integers(0, 20, 20)].mean(0) for rows in (generation, understanding)))[0, 1]
        for _ in range(4000)
    ]
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.03)
    assert found.r == pytest.approx(np.corrcoef(generation.mean(0), understanding.mean(0))[0, 1])
    assert found.low < found.r < found.high


def test_the_interval_shrinks_with_samples_and_follows_the_seed():
    few, many = (task_correlation(*make_noisy_tasks(n)) for n in (10, 1000))
    assert many.high - many.low < (few.high - few.low) / 3
    assert few == task_correlation(*make_noisy_tasks(10))
    assert few != task_correlation(*make_noisy_tasks(10), seed=1)


@pytest.mark.parametrize(
    "curve", [[0.1, 0.2], [0.3, 0.3, 0.3], [0.1 + 0.2, 0.3, 0.3]], ids=["two layers", "constant", "but for rounding"]
)
def test_there_is_no_correlation_of_short_or_constant_curves(curve):
    varied = np.random.default_rng(0).random((4, len(curve)))
    for found in (task_correlation(np.tile(curve, (4, 1)), varied), task_correlation(varied, np.tile(curve, (4, 1)))):
        assert all(map(math.isnan, (found.r, found.low, found.high)))


def test_one_sample_on_a_side_has_a_correlation_without_an_interval():
    one, many = np.array([[0.1, 0.2, 0.3]]), np.array([[0.1, 0.3, 0.2], [0.1, 0.3, 0.2]])
    for found in (task_correlation(one, many), task_correlation(many, one)):
        assert isinstance(found, Correlation) and found.r == pytest.approx(0.5)
        assert math.isnan(found.low) and math.isnan(found.high) and found.resamples == 0


def test_r_without_each_layer_shows_what_hangs_on_one():
    generation, understanding = np.array([0.9, 0.1, 0.2, 0.3]), np.array([0.0, 0.5, 0.6, 0.7])
    found = without_each_layer(generation, understanding)
    assert found[0] == pytest.approx(1) and task_correlation(generation[None], understanding[None]).r < 0
    kept = [0, 2, 3]
    assert found[1] == pytest.approx(np.corrcoef(generation[kept], understanding[kept])[0, 1])
    assert np.isnan(without_each_layer(generation[:3], understanding[:3])).all()  # two layers are left


def test_curves_of_two_models_are_not_correlated():
    words = "expected both tasks over the same layers, got [3, 4]; measure both on one model"
    assert message(task_correlation, np.zeros((2, 3)), np.zeros((2, 4))) == words
