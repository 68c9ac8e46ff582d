"""Draws targets, losses and layer curves of a run as Plotly figures. Knows no run, no model and no page.

Plain dicts like those of `app/figures.py`, whose axes and colours these share. Generation is blue, understanding red;
before is thin grey, the present solid, a target dotted in its ±δ band, the control dashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aia.intensity import Task
from aia.targets import StageTargets
from app.figures import (
    ACCENT,
    BAND,
    FONT,
    LINE,
    PAGE,
    SOFT,
    base_layout,
    layer_axis,
    make_axis,
    make_band,
    rounded,
    share_axis,
)

TITLES = {Task.GENERATION: "generation: image → text", Task.UNDERSTANDING: "understanding: answer → image"}
TASKS = (Task.GENERATION, Task.UNDERSTANDING)  # left and right
LOSSES = ("NTP loss (nats per token)", "AIA loss (Huber, before λ)")  # left and right
LEFT, RIGHT = [0, 0.44], [0.56, 1]
MOST_POINTS = 150  # sent anew with every step; two plots are some 400 px wide each
BEFORE = "var(--lens-before)"

Curve = Sequence[float]


@dataclass(frozen=True)
class Curves:
    """Mean intensity [L] per task at several moments of a run; a task without a share of the run has none."""

    before: dict[Task, Curve] = field(default_factory=dict)
    now: dict[Task, Curve] = field(default_factory=dict)
    control: dict[Task, Curve] = field(default_factory=dict)


# --- layers ---


def make_layers_figure(targets: StageTargets, curves: Curves) -> dict[str, Any]:
    """Both tasks side by side. The trace of the present is the last of each task: see `moving_traces`."""
    data = []
    for column, task in enumerate(TASKS, 1):
        layers = list(range(1, targets.layers + 1))
        axes = {"xaxis": f"x{column}", "yaxis": f"y{column}"} if column > 1 else {}
        lines = [
            *target_traces(targets, task),
            _line("before", layers, curves.before.get(task, ()), BEFORE, 1.3),
            _line("control", layers, curves.control.get(task, ()), SOFT, 1.5, "dash"),
            _line("now", layers, curves.now.get(task, ()), ACCENT[task], 2.4),
        ]
        data += [trace | axes for trace in lines]
    layout = _layout(300, [layer_axis(targets.layers)] * 2, [share_axis(), share_axis() | {"title": None}])
    layout["annotations"] = [_title(TITLES[task], column, task) for column, task in enumerate(TASKS)]
    return {"data": data, "layout": layout}


def moving_traces() -> dict[Task, int]:
    """Index of the trace of `make_layers_figure` that shows the present."""
    return {task: 5 * column + 4 for column, task in enumerate(TASKS)}


def make_targets_figure(targets: StageTargets, curves: dict[Task, Curve]) -> dict[str, Any]:
    """A small chart: both tasks' targets over layers, and thin grey the model's own curves where they are known."""
    layers = list(range(1, targets.layers + 1))
    data = [trace for task in TASKS for trace in target_traces(targets, task)]
    data += [_line(f"{task} now", layers, curves.get(task, ()), BEFORE, 1.3) for task in TASKS]
    upright = make_axis("share of attention", standoff=8) | {
        "gridcolor": LINE,
        "tickvals": [0, 0.5, 1],
        "range": [0, 1],
    }
    layout = _layout(190, [layer_axis(targets.layers)], [upright])
    layout["margin"] = {"l": 50, "r": 6, "t": 8, "b": 40}
    layout["xaxis"]["domain"] = [0, 1]
    layout["plot_bgcolor"] = PAGE  # it stands in the form, on no card
    return {"data": data, "layout": layout}


def target_traces(targets: StageTargets, task: Task) -> list[dict[str, Any]]:
    """T in steps over the layers, and the band T ± δ, cut off at 0 and 1."""
    x, target, delta = [], [], []
    for stage in targets.stages(task):
        x += [stage.first + 0.5, stage.last + 1.5]
        target += [stage.target] * 2
        delta += [stage.delta] * 2
    low, high = (np.clip(np.array(target) + sign * np.array(delta), 0, 1) for sign in (-1, 1))
    band = make_band("±δ", x, low, high, BAND[task])
    layers = list(range(1, targets.layers + 1))
    steps = {
        "type": "scatter",
        "name": "target",
        "x": layers,
        "y": rounded(targets.as_arrays(task)[0]),
        "mode": "lines",
        "line": {"color": ACCENT[task], "width": 1.5, "dash": "dot", "shape": "hvh"},
        "hovertemplate": "target %{y:.2f}<extra></extra>",
    }
    return [band, steps]


def _line(
    name: str, x: Sequence[float], y: Sequence[float], colour: str, width: float, dash: str = "solid"
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": name,
        "x": list(x),
        "y": list(y) if len(y) else [None] * len(x),
        "mode": "lines",
        "line": {"color": colour, "width": width, "dash": dash},
        "hovertemplate": name + " %{y:.3f}<extra></extra>",
    }


# --- losses ---


def make_losses_figure(steps: Sequence[dict], control: Sequence[dict], of: int) -> dict[str, Any]:
    """NTP on the left, AIA on the right, over steps: dots, their running mean, and dashed the control's."""
    data = []
    for column, kind in enumerate(("ntp", "aia"), 1):
        axes = {"xaxis": f"x{column}", "yaxis": f"y{column}"} if column > 1 else {}
        for task in TASKS:
            x, y = loss_of(steps, task, kind)
            cx, cy = loss_of(control, task, kind)
            lines = [
                _dots(*thin_out(x, y), task),
                _line(f"{task}, control", *thin_out(cx, running_mean(cy)), ACCENT[task], 1.3, "dash"),
                _line(str(task), *thin_out(x, running_mean(y)), ACCENT[task], 2.2),
            ]
            data += [trace | axes for trace in lines]
    across = make_axis("step", standoff=8) | {"range": [0, of + 0.5], "showgrid": False, "showline": True}
    across |= {"linecolor": LINE, "hoverformat": "d", "unifiedhovertitle": {"text": "step %{x}"}, "nticks": 6}
    up = {"rangemode": "tozero", "gridcolor": LINE, "gridwidth": 1, "showline": False, "nticks": 5}
    layout = _layout(280, [across] * 2, [make_axis(title, standoff=10) | up for title in LOSSES])
    layout["margin"] = layout["margin"] | {"t": 10}
    return {"data": data, "layout": layout}


def loss_of(steps: Sequence[dict], task: Task, kind: str) -> tuple[list[int], list[float]]:
    """Steps of one task and their loss, "ntp" or "aia"."""
    name = kind if kind == "ntp" else f"aia_{task}"
    rows = [(e["step"], e[name]) for e in steps if e.get("task") == task and e.get(name) is not None]
    return [step for step, _ in rows], [float(value) for _, value in rows]


def running_mean(values: Sequence[float]) -> list[float]:
    """Mean over the twelfth of the points around each, at least three; itself for fewer than six."""
    if len(values) < 6:
        return list(values)
    half = max(1, len(values) // 24)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    stop = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return ((sums[stop] - sums[first]) / (stop - first)).tolist()


def thin_out(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most `MOST_POINTS` points of a longer curve, the last among them, y with four digits."""
    if len(x) > MOST_POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
        x, y = [x[i] for i in kept], [y[i] for i in kept]
    return list(x), [float(f"{value:.4g}") for value in y]


def _dots(x: Sequence[float], y: Sequence[float], task: Task) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": f"{task}, single steps",
        "x": list(x),
        "y": list(y),
        "mode": "markers",
        "marker": {"color": ACCENT[task], "size": 4, "opacity": 0.35},
        "hoverinfo": "skip",
    }


# --- both ---


def _layout(height: int, across: list[dict[str, Any]], up: list[dict[str, Any]]) -> dict[str, Any]:
    """One plot, or two beside each other."""
    axes: dict[str, Any] = {}
    for number, (x, y) in enumerate(zip(across, up, strict=True), 1):
        suffix = "" if number == 1 else str(number)
        axes[f"xaxis{suffix}"] = {**x, "domain": [LEFT, RIGHT][number - 1], "anchor": f"y{suffix}"}
        axes[f"yaxis{suffix}"] = {**y, "anchor": f"x{suffix}"}
    return {
        **base_layout(height),
        **axes,
    }


def _title(text: str, column: int, task: Task) -> dict[str, Any]:
    """Words above one of two plots."""
    return {
        "text": text,
        "x": [LEFT, RIGHT][column][0],
        "xref": "paper",
        "xanchor": "left",
        "y": 1.02,
        "yref": "paper",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": ACCENT[task], "size": 12, "family": FONT},
    }
