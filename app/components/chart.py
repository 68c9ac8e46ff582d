"""A card with one chart, alternatives of it to switch between, downloads and a permalink.

All alternatives are sent at once and drawn by plotly.js in the page, so switching asks no server.
Does not know what the chart is about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.components import as_plain, load_script


@dataclass(frozen=True)
class Alternative:
    """One of the charts: `explanation` says what it counts, `sentence` what it shows."""

    name: str
    explanation: str
    sentence: str
    figure: dict[str, Any]  # a Plotly figure as plain data; colours may be CSS variables


@dataclass(frozen=True)
class Download:
    """A file that the page makes when its button is clicked."""

    label: str
    name: str
    mime: str
    text: str


@dataclass(frozen=True)
class ChartView:
    """What a chart card shows. `link` is the query of the page's address that brings it back."""

    title: str
    subtitle: str
    alternatives: tuple[Alternative, ...]
    chosen: str
    link: dict[str, str] = field(default_factory=dict)
    link_key: str = "view"  # the query key that holds the chosen alternative, left out for the first
    downloads: tuple[Download, ...] = ()
    png_name: str = "chart.png"
    task: str = ""  # what was done, for the cards below
    pending: bool = False  # link and downloads come a moment later, as `Kept`


@dataclass(frozen=True)
class Kept:
    """What the cards learn of a result once it is kept: the chart's link and files, the line of facts, new notices."""

    link: dict[str, str]
    downloads: tuple[Download, ...]
    facts: str
    notices: tuple[str, ...] = ()


class ChartCard(gr.HTML):
    """Value: a `ChartView` or None; the page gets it as plain data."""

    def __init__(self, label: str, choice_label: str, **kwargs: Any):
        template = _TEMPLATE.replace("@label", label).replace("@choice", choice_label)
        super().__init__(html_template=template, js_on_load=load_script("chart"), apply_default_css=False, **kwargs)

    def postprocess(self, value: ChartView | dict | None) -> dict | None:
        return as_plain(value) if isinstance(value, ChartView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-card lens-chart" aria-label="@label" hidden>
  <div class="lens-row">
    <h2></h2>
    <div class="lens-pills" role="radiogroup" aria-label="@choice"></div>
  </div>
  <p class="lens-sub"></p>
  <div class="lens-plot" role="img"></div>
  <p class="lens-says" aria-live="polite"></p>
  <p class="lens-explains"></p>
  <div class="lens-actions" role="group" aria-label="Export"></div>
</section>
"""
