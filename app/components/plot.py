"""A card with a chart, its legend, and what takes it along: PNG, SVG, files, a link. Does not know what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.components import as_plain, load_script


@dataclass(frozen=True)
class Key:
    """A line of the legend: one stroke per colour in which the curve is drawn."""

    label: str
    colours: tuple[str, ...]
    width: float = 2.0
    dash: str = "solid"


@dataclass(frozen=True)
class BinaryFile:
    """A file that the page makes when its button is clicked, or fetches from `url`."""

    label: str
    name: str
    mime: str
    base64: str
    url: str = ""


@dataclass(frozen=True)
class PlotView:
    """What the card shows. `key` tells one chart from another; `link` is the query that brings the page back."""

    key: str
    title: str
    subtitle: str
    figure: dict[str, Any]  # a Plotly figure as plain data; colours may be CSS variables
    sentence: str
    stem: str  # of the names of exported pictures
    explanation: str = ""
    legend: tuple[Key, ...] = ()
    files: tuple[BinaryFile, ...] = ()
    link: str = ""


class PlotCard(gr.HTML):
    """Value: a `PlotView` or None; the page gets it as plain data."""

    def __init__(self, label: str, **kwargs: Any):
        template = _TEMPLATE.replace("@label", label)
        super().__init__(html_template=template, js_on_load=load_script("plot"), apply_default_css=False, **kwargs)

    def postprocess(self, value: PlotView | dict | None) -> dict | None:
        return as_plain(value) if isinstance(value, PlotView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-card lens-plotcard" aria-label="@label" hidden>
  <h2></h2>
  <p class="lens-sub"></p>
  <ul class="lens-legend" aria-label="Legend"></ul>
  <div class="lens-plot" role="img"></div>
  <p class="lens-says" aria-live="polite"></p>
  <p class="lens-explains"></p>
  <div class="lens-actions" role="group" aria-label="Export"></div>
</section>
"""
