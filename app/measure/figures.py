"""Draws measurements as Plotly figures: mean curves in their bands, parts of the samples, layers of both tasks.

Plain dicts like those of `app/figures.py` and `app/compare/figures.py`, whose axes and colours these share. The first
measurement of a task has the task's colour. Knows groups of samples and numbers; no page, no store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aia.intensity import Task
from app.compare.figures import OTHER_BANDS, OTHERS, axes_of, depth_axis, lay_out
from app.compare.numbers import depths
from app.components.plot import Key
from app.figures import (
    ACCENT,
    BAND,
    CARD,
    FONT,
    INK,
    LINE,
    SOFT,
    base_layout,
    layer_axis,
    make_axis,
    make_band,
    rounded,
    share_axis,
)
from app.measure.groups import TASKS, Group
from app.measure.words import TITLES

HEIGHT, SCATTER_HEIGHT = 320, 400
PART_COLOURS = (*OTHERS, "var(--lens-before)", "var(--lens-soft)")  # after the task's own
PART_DASHES = ("solid", "solid", "dash", "dot", "dashdot", "longdash")
DEPTH_SCALE = [[0, "var(--lens-plus)"], [1, "var(--lens-minus)"]]
MARGIN = 0.04  # of a scatter's axes, in shares of attention


def make_curves_figure(groups: Sequence[Group]) -> dict[str, Any]:
    """Mean and ±1 standard deviation; one measurement's tasks in one plot, several measurements' in a plot each."""
    alone = all(one.place == 0 and not one.label for one in groups)
    tasks = [task for task in TASKS if any(one.task == task for one in groups)]
    by_depth = len({len(one.mean) for one in groups}) > 1
    bands, lines = [], []  # no band covers another's line
    for column, task in enumerate(tasks):
        of_task = [one for one in groups if one.task == task]
        at = axes_of(0 if alone else column)
        bands += [_band(one, by_depth) | at for one in of_task if one.std is not None and not one.label]
        lines += [_line(one, style_of(one, of_task), by_depth) | at for one in of_task]
    data = bands + lines
    across = depth_axis() if by_depth else layer_axis(len(groups[0].mean))
    if alone:
        return {"data": data, "layout": lay_out(HEIGHT, [across], [share_axis()], [], []) | _top(8)}
    titles = [TITLES[task] for task in tasks]
    layout = lay_out(HEIGHT, [across] * len(tasks), [share_axis()] * len(tasks), titles, tasks)
    return {"data": data, "layout": layout | ({"hovermode": "closest"} if by_depth else {})}


def _top(pixels: int) -> dict[str, Any]:
    return {"margin": base_layout(HEIGHT)["margin"] | {"t": pixels}}


def style_of(one: Group, of_task: Sequence[Group]) -> dict[str, Any]:
    """Colour and dash: the task's own for the first, then those of other things, or of further parts."""
    if not one.label:
        return {"color": ACCENT[one.task] if one.place == 0 else OTHERS[(one.place - 1) % len(OTHERS)], "width": 2.4}
    rank = of_task.index(one)
    colours = (ACCENT[one.task], *PART_COLOURS)
    return {"color": colours[rank % len(colours)], "width": 2.0, "dash": PART_DASHES[rank % len(PART_DASHES)]}


def _x(one: Group, by_depth: bool) -> list[float]:
    return rounded(depths(len(one.mean))) if by_depth else list(range(1, len(one.mean) + 1))


def _band(one: Group, by_depth: bool) -> dict[str, Any]:
    """±1 standard deviation, cut off at 0 and 1."""
    low, high = np.clip(one.mean - one.std, 0, 1), np.clip(one.mean + one.std, 0, 1)
    colour = BAND[one.task] if one.place == 0 else OTHER_BANDS[(one.place - 1) % len(OTHER_BANDS)]
    return make_band(f"{label_of(one)}, ±1 SD", _x(one, by_depth), low, high, colour)


def _line(one: Group, style: dict[str, Any], by_depth: bool) -> dict[str, Any]:
    std = np.full(len(one.mean), np.nan) if one.std is None else one.std
    told = "" if one.std is None else " ± %{customdata[1]:.3f}"
    name = label_of(one).replace("<", "&lt;").replace("%{", "% {")
    where = "<br>layer %{customdata[0]}, depth %{x:.2f}<br>" if by_depth else " "
    return {
        "type": "scatter",
        "name": label_of(one),
        "x": _x(one, by_depth),
        "y": rounded(one.mean),
        "customdata": [[layer, None if np.isnan(sd) else round(float(sd), 6)] for layer, sd in enumerate(std, start=1)],
        "mode": "lines+markers",
        "line": style,
        "marker": {"color": style["color"], "size": 5, "line": {"color": CARD, "width": 1}},
        "hovertemplate": f"{name}{where}%{{y:.3f}}{told}<extra></extra>",
    }


def label_of(one: Group) -> str:
    """What legend and hover call a curve."""
    return one.label or (one.name if one.place or one.name else one.task.value)


def legend_of(groups: Sequence[Group]) -> tuple[Key, ...]:
    """A key for each line; a measurement that has both tasks has one key in both colours."""
    keys: dict[str, list[dict[str, Any]]] = {}
    for one in groups:
        of_task = [other for other in groups if other.task == one.task]
        text = f"{one.task.value}: {one.label}" if one.label else label_of(one)
        keys.setdefault(f"{text}{' ' * one.place}", []).append(style_of(one, of_task))
    return tuple(
        Key(
            label.rstrip(),
            tuple(dict.fromkeys(style["color"] for style in styles)),
            styles[0]["width"],
            styles[0].get("dash", "solid"),
        )
        for label, styles in keys.items()
    )


# --- both tasks ---


def make_conflict_figure(generation: np.ndarray, understanding: np.ndarray) -> dict[str, Any]:
    """A point per layer: mean intensities float [L] of drawing across and of answering upwards, coloured by depth."""
    layers = list(range(1, len(generation) + 1))
    few = len(layers) <= 12
    path = {
        "type": "scatter",
        "name": "from layer to layer",
        "x": rounded(generation),
        "y": rounded(understanding),
        "mode": "lines",
        "line": {"color": LINE, "width": 1.2},
        "hoverinfo": "skip",
    }
    points = path | {
        "name": "layers",
        "customdata": layers,
        "mode": "markers+text",
        "text": [str(layer) for layer in layers],
        "textposition": "top center",
        "textfont": {"color": INK, "size": 12 if few else 10, "family": FONT},
        "marker": {
            "color": layers,
            "colorscale": DEPTH_SCALE,
            "cmin": 1,
            "cmax": max(len(layers), 2),
            "size": 11 if few else 8,
            "line": {"color": CARD, "width": 1.5},
            "colorbar": _depth_bar(len(layers)),
        },
        "hoverinfo": "text",
        "hovertemplate": "layer %{customdata}<br>drawing %{x:.3f}<br>answering %{y:.3f}<extra></extra>",
    }
    del points["line"]
    axes = [
        _share_range(values, f"{task.value}: intensity (share of attention)", task)
        for values, task in ((generation, Task.GENERATION), (understanding, Task.UNDERSTANDING))
    ]
    layout = base_layout(SCATTER_HEIGHT) | {"hovermode": "closest", "xaxis": axes[0], "yaxis": axes[1]}
    layout["margin"] = {"l": 62, "r": 12, "t": 14, "b": 46}
    return {"data": [path, points], "layout": layout}


def _share_range(values: np.ndarray, title: str, task: Task) -> dict[str, Any]:
    axis = make_axis(title, standoff=10)
    axis["title"]["font"] = {"size": 12, "color": ACCENT[task]}
    low, high = float(values.min()) - MARGIN, float(values.max()) + MARGIN
    return axis | {"range": [max(low, -MARGIN), min(high, 1 + MARGIN)], "gridcolor": LINE, "showline": False}


def _depth_bar(layers: int) -> dict[str, Any]:
    step = max(1, round(layers / 6))
    return {
        "title": {"text": "layer", "font": {"size": 12, "color": SOFT}, "side": "right"},
        "tickvals": list(range(1, layers + 1, step)),
        "thickness": 10,
        "outlinewidth": 0,
        "tickfont": {"color": SOFT, "size": 12},
    }
