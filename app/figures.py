"""Draws arrays as Plotly figures. Knows no model, no page and no device.

Figures are plain dicts in Plotly's own JSON form: building and checking them as `graph_objects` took
145 ms beside an answer of 210 ms; the tests check them instead. Colours are CSS variables of the
page (`assets/style.css`), so that one figure serves light and dark; the page puts the real colours
in when it draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aia.intensity import Task

ACCENT = {Task.GENERATION: "var(--lens-gen)", Task.UNDERSTANDING: "var(--lens-und)"}
BAND = {Task.GENERATION: "var(--lens-gen-band)", Task.UNDERSTANDING: "var(--lens-und-band)"}
SOFT, LINE, INK, CARD = "var(--lens-soft)", "var(--lens-line)", "var(--lens-ink)", "var(--lens-card)"
PAGE = "var(--lens-bg)"
FONT = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif"
EVERY_LAYER_UP_TO = 16  # more layers than this get a tick every fifth
_HOVER = (
    "mean %{y:.3f}<br>spread ±%{customdata[0]:.3f}<br>heads %{customdata[1]:.3f} – %{customdata[2]:.3f}<extra></extra>"
)
_LEGEND = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom", "traceorder": "reversed"}


def make_curve_figure(heads: np.ndarray, task: Task, unguided: np.ndarray | None = None) -> dict[str, Any]:
    """Intensity over layers: heads float [L, H] in 0…1 → mean line and band of ±1 standard deviation.

    The band is cut off at 0 and 1. `unguided` float [L] adds a thin grey line: the branch of
    classifier-free guidance that does not see the prompt. NaN draws an empty chart.
    """
    layers = list(range(1, len(heads) + 1))
    mean, spread = heads.mean(1), heads.std(1)
    traces = []
    if np.isfinite(mean).all():
        low, high = np.clip(mean - spread, 0, 1), np.clip(mean + spread, 0, 1)
        traces.append(make_band("spread", layers, low, high, BAND[task]) | {"showlegend": False})
        if unguided is not None:
            traces.append(_thin_line(layers, unguided))
        traces.append(_mean_line(layers, heads, task))
    return {"data": traces, "layout": _curve_layout(len(layers), legend=len(traces) == 3)}


def base_layout(height: int) -> dict[str, Any]:
    """What the layouts of charts with two plots share: size in px, colours, hover; axes and words are their own."""
    return {
        "height": height,
        "margin": {"l": 58, "r": 12, "t": 26, "b": 42},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": CARD,  # what hovering is set off against
        "font": {"family": FONT, "size": 12, "color": SOFT},
        "dragmode": False,
        "hovermode": "x unified",
        "hoverdistance": -1,
        "hoverlabel": {"bgcolor": CARD, "bordercolor": LINE, "font": {"color": INK, "family": FONT, "size": 12}},
        "showlegend": False,
    }


def make_band(name: str, x: list[float], low: np.ndarray, high: np.ndarray, colour: str) -> dict[str, Any]:
    """The area between two lines over the same x, without an outline and silent on hover."""
    return {
        "type": "scatter",
        "name": name,
        "x": x + x[::-1],
        "y": rounded(high) + rounded(low)[::-1],
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": colour,
        "hoverinfo": "skip",
    }


def _mean_line(layers: list[int], heads: np.ndarray, task: Task) -> dict[str, Any]:
    about_heads = np.stack([heads.std(1), heads.min(1), heads.max(1)], 1)  # [L, 3]
    return {
        "type": "scatter",
        "name": "with the prompt" if task == Task.GENERATION else "answer",
        "x": layers,
        "y": rounded(heads.mean(1)),
        "customdata": [rounded(row) for row in about_heads],
        "mode": "lines+markers",
        "line": {"color": ACCENT[task], "width": 2.4},
        "marker": {"color": ACCENT[task], "size": 6, "line": {"color": CARD, "width": 1.5}},
        "hovertemplate": _HOVER,
    }


def _thin_line(layers: list[int], values: np.ndarray) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": "without the prompt (for guidance)",
        "x": layers,
        "y": rounded(values),
        "mode": "lines",
        "line": {"color": "var(--lens-before)", "width": 1.2},
        "hovertemplate": "without the prompt %{y:.3f}<extra></extra>",
    }


def _curve_layout(layers: int, legend: bool) -> dict[str, Any]:
    return {
        "height": 300,
        "margin": {"l": 58, "r": 12, "t": 10, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": CARD,  # what hovering is set off against
        "font": {"family": FONT, "size": 12, "color": SOFT},
        "dragmode": False,
        "hovermode": "x unified",
        "hoverdistance": -1,  # the nearest layer, however far the pointer is from its point
        "hoverlabel": {"bgcolor": CARD, "bordercolor": LINE, "font": {"color": INK, "family": FONT, "size": 12}},
        "showlegend": legend,
        "legend": _LEGEND,
        "xaxis": layer_axis(layers),
        "yaxis": share_axis(),
    }


def layer_axis(layers: int) -> dict[str, Any]:
    """The horizontal axis: a dotted line follows the pointer from layer to layer."""
    step = 1 if layers <= EVERY_LAYER_UP_TO else 5
    return {
        **make_axis("layer", standoff=8),
        "tickvals": list(range(1, layers + 1, step)),
        "range": [0.8, layers + 0.2],
        "showgrid": False,
        "showline": True,
        "linecolor": LINE,
        "hoverformat": "d",
        "showspikes": True,
        "spikecolor": SOFT,
        "spikethickness": 1,
        "spikedash": "dot",
        "spikemode": "across",
        "spikesnap": "hovered data",
        "unifiedhovertitle": {"text": "layer %{x}"},
    }


def share_axis() -> dict[str, Any]:
    return {
        **make_axis("intensity (share of attention)", standoff=10),
        "range": [0, 1.02],
        "tickvals": [0, 0.25, 0.5, 0.75, 1],
        "gridcolor": LINE,
        "gridwidth": 1,
        "showline": False,
    }


def make_axis(title: str, standoff: int) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 12, "color": SOFT}, "standoff": standoff},
        "zeroline": False,
        "fixedrange": True,
        "tickfont": {"color": SOFT, "size": 12},
    }


def rounded(values: np.ndarray) -> list[float]:
    return np.round(values.astype(float), 6).tolist()
