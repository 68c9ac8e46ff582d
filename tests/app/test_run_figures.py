import plotly.graph_objects as go
import pytest

from aia.intensity import Task
from aia.targets import load_targets
from app.figures import ACCENT
from app.finetune.run_figures import (
    MOST_POINTS,
    Curves,
    loss_of,
    make_layers_figure,
    make_losses_figure,
    make_targets_figure,
    moving_traces,
    running_mean,
    thin_out,
)
from tests.app.run_fakes import step_event

TARGETS = load_targets("paper-janus-pro", 8)
FLAT = {Task.GENERATION: [0.2] * 8, Task.UNDERSTANDING: [0.6] * 8}


def test_layers_show_before_now_target_and_control_of_both_tasks():
    now = {task: [0.3] * 8 for task in Task}
    figure = go.Figure(make_layers_figure(TARGETS, Curves(before=FLAT, now=now, control=FLAT)))
    for task, axis in ((Task.GENERATION, None), (Task.UNDERSTANDING, "y2")):
        band, target, before, control, current = (t for t in figure.data if t.yaxis == axis)
        assert list(target.y) == pytest.approx(TARGETS.as_arrays(task)[0].tolist())
        assert target.line.dash == "dot"
        assert target.line.color == ACCENT[task]
        assert (list(before.y), before.line.width) == (FLAT[task], 1.3)
        assert (list(control.y), control.line.dash) == (FLAT[task], "dash")
        assert list(current.y) == now[task]
        assert figure.data[moving_traces()[task]] is current
        assert max(band.y) == pytest.approx(0.6 if task == Task.GENERATION else 0.35)  # T + δ of the tables


def test_the_band_is_T_plus_and_minus_delta_over_each_stage():
    band = make_targets_figure(TARGETS, {})["data"][0]
    first = TARGETS.generation[0]
    assert band["x"][:2] == [0.5, first.last + 1.5]
    assert band["y"][0] == pytest.approx(first.target + first.delta)
    assert band["y"][-1] == pytest.approx(first.target - first.delta)


def test_without_a_control_or_curves_nothing_is_drawn_for_them():
    figure = make_layers_figure(TARGETS, Curves(before=FLAT, now=FLAT))
    assert [t["y"] for t in figure["data"] if t["name"] == "control"] == [[None] * 8] * 2
    assert go.Figure(make_targets_figure(TARGETS, {})).data[-1].y == (None,) * 8
    assert list(go.Figure(make_targets_figure(TARGETS, FLAT)).data[-1].y) == FLAT[Task.UNDERSTANDING]


def test_losses_of_each_task_stand_at_its_own_steps():
    steps = [step_event(1, "generation"), step_event(2, "understanding"), step_event(3, "generation")]
    assert loss_of(steps, Task.GENERATION, "ntp") == ([1, 3], [1.0, 1 / 3])
    assert loss_of(steps, Task.UNDERSTANDING, "aia") == ([2], [0.05])
    figure = go.Figure(make_losses_figure(steps, steps[:1], of=4))
    lines = {(t.name, t.yaxis): t for t in figure.data}
    assert list(lines["generation", None].y) == pytest.approx([1.0, 1 / 3], abs=1e-4)
    assert list(lines["understanding", "y2"].x) == [2]
    assert lines["generation, control", "y2"].line.dash == "dash"
    assert figure.layout.xaxis.range[1] > 4


def test_a_running_mean_keeps_a_constant_and_smooths_a_jump():
    assert running_mean([2.0] * 10) == pytest.approx([2.0] * 10)
    assert running_mean([0, 0, 0, 3, 0, 0, 0]) == pytest.approx([0, 0, 1, 1, 1, 0, 0])
    assert running_mean([1.0, 5.0]) == [1.0, 5.0]


def test_long_curves_are_thinned_and_keep_their_ends():
    x, y = thin_out(list(range(10_000)), [2 * value for value in range(10_000)])
    assert len(x) == len(y) == MOST_POINTS
    assert (x[0], x[-1], y[-1]) == (0, 9_999, 20_000)
    assert thin_out([1], [1.23456e-7]) == ([1], [1.235e-7])  # small losses keep their digits
