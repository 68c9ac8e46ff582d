"""Draws compared curves as Plotly figures: overlay, difference by layer, difference by head.

Plain dicts like those of `app/figures.py`, whose axes and colours these share. Before is thin grey, after and captures
are solid, the control dashed, targets dotted in their ±δ band, the paper's curves thin with a dash of their own. The
first thing of a task has the task's colour. Knows series and pairs; no page, no store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aia.intensity import Task
from app.compare.numbers import TASKS, Pair, depths, same_layers
from app.compare.words import TITLES, Letters, long_label, pair_labels
from app.figures import (
    ACCENT,
    BAND,
    CARD,
    FONT,
    LINE,
    SOFT,
    base_layout,
    layer_axis,
    make_axis,
    make_band,
    rounded,
    share_axis,
)
from backend.comparison import Series

BEFORE = "var(--lens-before)"
OTHERS = ("var(--lens-second)", "var(--lens-third)", "var(--lens-fourth)")
OTHER_BANDS = ("var(--lens-second-band)", "var(--lens-third-band)", "var(--lens-fourth-band)")
REFERENCE_DASHES = ("6px,2px", "6px,2px,1.5px,2px", "3px,1.5px", "11px,2px")  # short gaps: curves are jagged
SIDES = ([0, 0.465], [0.535, 1])
SCALE = [[0, "var(--lens-minus)"], [0.5, "var(--lens-zero)"], [1, "var(--lens-plus)"]]
LIMITS = (0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
HEIGHT, DIFFERENCE_HEIGHT = 320, 240


def make_overlay_figure(series: Sequence[Series], letters: Letters) -> dict[str, Any]:
    """All curves, a plot for each task, over layers or, where their numbers differ, over depth."""
    tasks = [task for task in TASKS if any(s.task == task for s in series)]
    by_depth = not same_layers(series)
    data, named = [], set()
    for column, task in enumerate(tasks):
        of_task = [s for s in series if s.task == task]
        for one in sorted(of_task, key=lambda s: _DRAWN.index(s.role)):
            label = long_label(one, letters)
            for trace in _series_traces(one, rank_in(one, series), label, by_depth):
                first = trace["name"] == label and label not in named
                named |= {label} if first else set()
                data.append(trace | {"legendgroup": label, "showlegend": first} | axes_of(column))
    across = depth_axis() if by_depth else layer_axis(series[0].layers if series else 1)
    layout = lay_out(HEIGHT, [across] * len(tasks), [share_axis()] * len(tasks), [TITLES[t] for t in tasks], tasks)
    if by_depth:
        layout["hovermode"] = "closest"
    return {"data": data, "layout": layout}


_DRAWN = ("target", "before", "control", "reference", "measurement", "after", "capture")  # the last on top


def rank_in(one: Series, series: Sequence[Series]) -> int:
    """0 for the first thing of a task, which has the task's colour; for others their place among all things."""
    first = next(s.source for s in series if s.task == one.task)
    return 0 if one.source == first else list(dict.fromkeys(s.source for s in series)).index(one.source)


def line_style(one: Series, rank: int) -> dict[str, Any]:
    """Colour, width and dash of a curve; `rank` as `rank_in` says."""
    colour = ACCENT[one.task] if rank == 0 else OTHERS[(rank - 1) % len(OTHERS)]
    if one.role == "before":
        return {"color": BEFORE, "width": 1.3}
    if one.role == "control":
        return {"color": colour, "width": 1.5, "dash": "dash"}
    if one.role == "target":
        return {"color": colour, "width": 1.5, "dash": "dot"}
    if one.role == "reference":
        return {"color": colour, "width": 1.6, "dash": REFERENCE_DASHES[rank % len(REFERENCE_DASHES)]}
    return {"color": colour, "width": 2.4}


def _series_traces(one: Series, rank: int, label: str, by_depth: bool) -> list[dict[str, Any]]:
    """The line of a series, before it the band of a target."""
    numbers = list(range(1, one.layers + 1))
    x = rounded(depths(one.layers)) if by_depth else numbers
    line = {
        "type": "scatter",
        "name": label,
        "x": x,
        "y": rounded(one.mean),
        "customdata": numbers,
        "mode": "lines",
        "line": line_style(one, rank) | ({"shape": "hvh"} if one.role == "target" else {}),
        "hovertemplate": _hover(label, one, by_depth),
    }
    if one.role in ("after", "capture", "measurement"):
        line |= {"mode": "lines+markers", "marker": {"size": 5, "line": {"color": CARD, "width": 1}}}
    return [*([_band(one, rank, by_depth)] if one.role == "target" else []), line]


def _hover(label: str, one: Series, by_depth: bool) -> str:
    name = label.replace("<", "&lt;").replace("%{", "% {")
    where = f"<br>layer %{{customdata}} of {one.layers}, depth %{{x:.2f}}<br>" if by_depth else " "
    return f"{name}{where}%{{y:.3f}}<extra></extra>"


def _band(one: Series, rank: int, by_depth: bool) -> dict[str, Any]:
    """T ± δ in steps, cut off at 0 and 1."""
    edges = np.arange(one.layers + 1) / one.layers if by_depth else np.arange(one.layers + 1) + 0.5
    x = rounded(np.repeat(edges, 2)[1:-1])
    low, high = (np.repeat(np.clip(one.mean + sign * one.std, 0, 1), 2) for sign in (-1, 1))
    return make_band("±δ", x, low, high, BAND[one.task] if rank == 0 else OTHER_BANDS[(rank - 1) % len(OTHER_BANDS)])


def make_difference_figure(pairs: Sequence[Pair], letters: Letters) -> dict[str, Any]:
    """First minus second, a bar per layer of the first, a plot for each pair on one scale."""
    most = round_limit(max((float(np.abs(pair.difference).max()) for pair in pairs), default=0))
    data = []
    for column, pair in enumerate(pairs):
        names = pair_labels(pair, letters)
        data.append(
            {
                "type": "bar",
                "name": f"{names[0]} − {names[1]}",
                "x": list(range(1, pair.first.layers + 1)),
                "y": rounded(pair.difference),
                "customdata": [rounded(row) for row in np.stack([pair.first.mean, pair.other], 1)],
                "marker": {"color": ACCENT[pair.first.task], "opacity": 0.85},
                "hovertemplate": f"{names[0]} %{{customdata[0]:.3f}}<br>{names[1]} %{{customdata[1]:.3f}}"
                "<br>difference %{y:+.3f}<extra></extra>",
            }
            | axes_of(column)
        )
    up = make_axis("difference of intensity", standoff=10) | {
        "range": [-most * 1.04, most * 1.04],
        **_signed_ticks(most, most / 2),
        "gridcolor": LINE,
        "zeroline": True,
        "zerolinecolor": SOFT,
        "zerolinewidth": 1,
    }
    across = [
        layer_axis(pair.first.layers) | {"range": [0.4, pair.first.layers + 0.6], "showline": False} for pair in pairs
    ]
    same = [f", {p.first.task}" if p.first.task == p.second.task else "" for p in pairs]
    titles = [f"{trace['name']}{task}" for trace, task in zip(data, same, strict=True)]
    layout = lay_out(DIFFERENCE_HEIGHT, across, [up] * len(pairs), titles, [p.first.task for p in pairs])
    return {"data": data, "layout": layout | {"bargap": 0.35}}


def make_heads_figure(difference: np.ndarray, most: float, labels: tuple[str, str]) -> dict[str, Any]:
    """Difference float [L, H] as cells, layers across and heads upwards, on a scale from −most to most."""
    layers, heads = difference.shape
    cells = {
        "type": "heatmap",
        "name": "difference",
        "x": list(range(1, layers + 1)),
        "y": list(range(1, heads + 1)),
        "z": [rounded(row) for row in difference.T],
        "zmin": -most,
        "zmid": 0,
        "zmax": most,
        "colorscale": SCALE,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": "layer %{x}, head %{y}<br>difference %{z:+.3f}<extra></extra>",
        "colorbar": {
            "title": {"text": " − ".join(labels), "font": {"size": 12, "color": SOFT}, "side": "right"},
            **_signed_ticks(most),
            "thickness": 10,
            "outlinewidth": 0,
            "tickfont": {"color": SOFT, "size": 12},
        },
    }
    step = 1 if heads <= 16 else 4
    up = make_axis("head", standoff=10) | {"tickvals": list(range(1, heads + 1, step)), "showgrid": False, "ticks": ""}
    across = layer_axis(layers) | {"range": [0.5, layers + 0.5], "showline": False, "showspikes": False, "ticks": ""}
    layout = lay_out(min(70 + 26 * heads, 420), [across], [up], [], []) | {"hovermode": "closest"}
    layout["margin"] |= {"t": 6}
    return {"data": [cells], "layout": layout}


def _signed_ticks(*values: float) -> dict[str, Any]:
    """Ticks at 0 and at both signs of the values, in words: a bare 0 has no sign."""
    at = sorted([0.0, *values, *(-v for v in values)])
    return {"tickvals": at, "ticktext": ["0" if v == 0 else f"{v:+.3g}".replace("-", "−") for v in at]}


def round_limit(most: float) -> float:
    """The next larger round number: both ends of a symmetric scale."""
    return next((limit for limit in LIMITS if most <= limit), 1.0)


# --- all ---


def axes_of(column: int) -> dict[str, str]:
    """What a trace says to be in the plot of that column, from 0."""
    return {} if column == 0 else {"xaxis": f"x{column + 1}", "yaxis": f"y{column + 1}"}


def depth_axis() -> dict[str, Any]:
    """The horizontal axis of models with different numbers of layers."""
    at = [0, 0.25, 0.5, 0.75, 1]
    axis = layer_axis(1) | {"range": [0, 1], "showspikes": False, "tickvals": at, "ticktext": list(map(str, at))}
    return axis | make_axis("depth (0: first layer, 1: last)", standoff=8)


def lay_out(
    height: int, across: list[dict[str, Any]], up: list[dict[str, Any]], titles: list[str], tasks: Sequence[Task]
) -> dict[str, Any]:
    """One plot, or two beside each other, with words above each."""
    axes: dict[str, Any] = {}
    sides = SIDES if len(across) > 1 else ([0, 1],)
    for i, (x, y) in enumerate(zip(across, up, strict=True)):
        suffix = "" if i == 0 else str(i + 1)
        axes[f"xaxis{suffix}"] = {**x, "domain": sides[i], "anchor": f"y{suffix}"}
        axes[f"yaxis{suffix}"] = {**y, "anchor": f"x{suffix}"} | ({"title": None} if i else {})
    words = {"xref": "paper", "xanchor": "left", "y": 1.02, "yref": "paper", "yanchor": "bottom", "showarrow": False}
    return {
        **base_layout(height),
        **axes,
        "annotations": [
            words | {"text": title, "x": sides[i][0], "font": {"color": ACCENT[tasks[i]], "size": 12, "family": FONT}}
            for i, title in enumerate(titles)
        ],
    }
