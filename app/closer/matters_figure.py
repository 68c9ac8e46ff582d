"""Draws drops of log-probability by window of layers, and below, on the same layers, the intensity.

Plain dicts like those of `app/figures.py`, whose axes and colours these share. Knows no capture, no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aia.intensity import Task
from app.figures import ACCENT, BAND, CARD, FONT, LINE, SOFT, base_layout, layer_axis, make_axis, make_band, rounded
from backend.kept.knockouts import KnockoutReport

HEIGHT = 430
DROPS, INTENSITIES = [0.40, 1.0], [0.0, 0.27]  # heights of the two plots
LEAST_RANGE = 0.1  # nats that the axis shows at least, so that nothing is not drawn as something
FARTHEST = 1.6  # times the largest drop: how far away all layers at once may be drawn as a line
SECOND, SECOND_BAND = "var(--lens-second)", "var(--lens-second-band)"
OTHER_SIDE = {Task.UNDERSTANDING: "the image", Task.GENERATION: "the prompt"}


@dataclass(frozen=True)
class Half:
    """One capture's part: windows by name, intensity and its spread between heads [L], the report if there is one."""

    name: str
    task: Task
    windows: Sequence[str]
    intensity: np.ndarray
    spread: np.ndarray
    report: KnockoutReport | None = None
    letter: str = ""

    @property
    def drops(self) -> np.ndarray | None:
        """Nats by window, summed over tokens: float64 [L]."""
        return None if self.report is None else np.array(self.report.total_drops)

    @property
    def all_layers(self) -> float:
        """Nats with all layers at once; 0 without a report."""
        return 0.0 if self.report is None else float(sum(self.report.all_layers))

    @property
    def others(self) -> np.ndarray | None:
        """Drops with random other keys forbidden: float64 [draws, L windows, then all layers]."""
        return self._controls("others")

    @property
    def fewer(self) -> np.ndarray | None:
        """Drops with as few of its own keys forbidden, at random; None where that is all of them."""
        return self._controls("fewer_targets")

    def _controls(self, name: str) -> np.ndarray | None:
        found = getattr(self.report.controls, name) if self.report and self.report.controls else None
        return np.array(found) if found else None


def make_matters_figure(halves: Sequence[Half], chosen: tuple[int, int] | None = None) -> dict[str, Any]:
    """One or two captures' drops above, their intensities below; `chosen` is a window, its layers from 1."""
    layers = max(len(half.windows) for half in halves)
    data = []
    for rank, half in enumerate(halves):
        colour, band = _colours(halves, rank)
        label = f"{half.letter}: " if half.letter else ""
        data += _control_traces(half, label) if rank == 0 else []
        data += _drop_traces(half, label, colour, rank)
        data += _intensity_traces(half, label, colour, band, rank)
    return {"data": data, "layout": _layout(halves, layers, chosen)}


def _colours(halves: Sequence[Half], rank: int) -> tuple[str, str]:
    """The task's own colour, but for a second capture of the same task."""
    task = halves[rank].task
    if rank and halves[0].task == task:
        return SECOND, SECOND_BAND
    return ACCENT[task], BAND[task]


def _control_traces(half: Half, label: str) -> list[dict[str, Any]]:
    layers, traces = list(range(1, len(half.windows) + 1)), []
    for values, name, dash in (
        (half.others, "random other keys instead", "solid"),
        (half.fewer, "as few of its own, at random", "dot"),
    ):
        if values is None:
            continue
        windows = values[:, :-1]
        if dash == "solid":
            band = make_band("draws", layers, windows.min(0), windows.max(0), "var(--lens-chip)")
            traces.append(band | {"showlegend": False})
        traces.append(
            {
                "type": "scatter",
                "name": label + name,
                "x": layers,
                "y": rounded(windows.mean(0)),
                "mode": "lines",
                "line": {"color": SOFT, "width": 1.4, "dash": dash},
                "hovertemplate": f"{label}{name}: %{{y:.3f}}<extra></extra>",
            }
        )
    return traces


def _drop_traces(half: Half, label: str, colour: str, rank: int) -> list[dict[str, Any]]:
    if half.drops is None:  # an empty line, so that the axis is there
        blank = {"type": "scatter", "name": label + "drop", "x": [1], "y": [None], "hoverinfo": "skip"}
        return [blank | {"showlegend": False}]
    stays = [f"{100 * count / len(half.report.tokens):.0f} %" for count in half.report.window_likeliest]
    return [
        {
            "type": "scatter",
            "name": f"{label}without looking at {OTHER_SIDE[half.task]}",
            "x": list(range(1, len(half.drops) + 1)),
            "y": rounded(half.drops),
            "customdata": [list(pair) for pair in zip(half.windows, stays, strict=True)],
            "mode": "lines+markers",
            "line": {"color": colour, "width": 2.4, **({"dash": "dash"} if rank else {})},
            "marker": {"color": colour, "size": 6, "line": {"color": CARD, "width": 1.5}},
            "hovertemplate": f"{label}without %{{customdata[0]}}: drop %{{y:.3f}} nats, "
            "%{customdata[1]} of tokens stay the likeliest<extra></extra>",
        }
    ]


def _intensity_traces(half: Half, label: str, colour: str, band: str, rank: int) -> list[dict[str, Any]]:
    if not np.isfinite(half.intensity).all():
        return []
    layers = list(range(1, len(half.windows) + 1))
    low, high = np.clip(half.intensity - half.spread, 0, 1), np.clip(half.intensity + half.spread, 0, 1)
    line = {
        "type": "scatter",
        "name": f"{label}intensity",
        "x": layers,
        "y": rounded(half.intensity),
        "mode": "lines",
        "line": {"color": colour, "width": 1.8, **({"dash": "dash"} if rank else {})},
        "hovertemplate": f"{label}intensity %{{y:.3f}}<extra></extra>",
    }
    below = {"yaxis": "y2", "showlegend": False}
    return [make_band(f"{label}spread", layers, low, high, band) | below, line | below]


def _layout(halves: Sequence[Half], layers: int, chosen: tuple[int, int] | None) -> dict[str, Any]:
    low, high = _range(halves)
    up = make_axis("drop of log-probability (nats)", standoff=10) | {
        "domain": DROPS,
        "range": [low, high],
        "gridcolor": LINE,
        "zeroline": True,
        "zerolinecolor": SOFT,
        "zerolinewidth": 1,
    }
    below = make_axis("intensity", standoff=10) | {
        "domain": INTENSITIES,
        "range": [0, 1.02],
        "tickvals": [0, 0.5, 1],
        "gridcolor": LINE,
    }
    layout = base_layout(HEIGHT) | {
        "xaxis": layer_axis(layers) | {"anchor": "y2"} | ({"range": [0.5, 1.5]} if layers == 1 else {}),
        "yaxis": up,
        "yaxis2": below,
        "showlegend": True,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"},
        "annotations": _all_layers_words(halves, high),
        "shapes": [*_all_layers_lines(halves, high), *_chosen_shape(chosen)],
    }
    layout["margin"] = layout["margin"] | {"t": 40}
    return layout


def _range(halves: Sequence[Half]) -> tuple[float, float]:
    """From the lowest to the highest that is drawn, all layers at once where they are not far above."""
    drawn = [0.0]
    for half in halves:
        if half.drops is not None:
            drawn += half.drops.tolist()
        for controls in (half.others, half.fewer):
            if controls is not None and half is halves[0]:
                drawn += controls[:, :-1].ravel().tolist()
    low, high = min(drawn), max(*drawn, LEAST_RANGE)
    high = max([high, *(half.all_layers for half in halves if half.all_layers <= FARTHEST * high)])
    return 1.06 * low, 1.1 * high


def _all_layers_lines(halves: Sequence[Half], high: float) -> list[dict[str, Any]]:
    return [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": half.all_layers,
            "y1": half.all_layers,
            "line": {"color": _colours(halves, rank)[0], "width": 1.2, "dash": "dash"},
        }
        for rank, half in enumerate(halves)
        if half.drops is not None and half.all_layers <= high
    ]


def _all_layers_words(halves: Sequence[Half], high: float) -> list[dict[str, Any]]:
    """What all layers at once cost, at its line, or at the top where that is far above."""
    found = []
    if all(half.report is None for half in halves):
        words = {"text": "not knocked out yet", "x": 0.5, "y": 0.5 * high, "xref": "paper", "showarrow": False}
        return [words | {"font": {"color": SOFT, "size": 13, "family": FONT}}]
    for rank, half in enumerate(halves):
        if half.drops is None:
            continue
        above = half.all_layers > high
        control = "" if half.others is None else f" (random other keys {half.others[:, -1].mean() + 0.0:.2f})"
        label = f"{half.letter}: " if half.letter else ""
        found.append(
            {
                "text": f"{label}all layers at once: {half.all_layers:.2f}{' ↑' if above else ''}{control}",
                "xref": "paper",
                "x": 1,
                "xanchor": "right",
                "y": (high - rank * 0.09 * high) if above else half.all_layers,
                "yanchor": "top" if half.all_layers > 0.25 * high else "bottom",  # not over the zero line
                "showarrow": False,
                "font": {"color": _colours(halves, rank)[0], "size": 12, "family": FONT},
            }
        )
    return found


def _chosen_shape(chosen: tuple[int, int] | None) -> list[dict[str, Any]]:
    if chosen is None:
        return []
    first, last = chosen
    return [
        {
            "type": "rect",
            "layer": "below",
            "yref": "paper",
            "x0": first - 0.45,
            "x1": last + 0.45,
            "y0": 0,
            "y1": 1,
            "line": {"color": SOFT, "width": 1.2, "dash": "dot"},
        }
    ]
