"""A chart with a slider through the steps at which it was drawn; without steps a plain chart. Knows nothing of runs.

One figure is sent, and per step only the curves that move, so scrubbing asks no server. A page that stands at the
last step follows new ones; one that was moved to an earlier step stays there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.components import as_plain, load_script


@dataclass(frozen=True)
class Frame:
    """One step: `values` are the y of the traces that move, by the trace's index."""

    step: int
    label: str
    sentence: str
    values: dict[str, list[float]]


@dataclass(frozen=True)
class StepsView:
    """What the chart shows. Another `key` is another chart, whose last step is shown.

    With a `stem`, which its files' names begin with, it can be taken along: `plots` names the plots side by side,
    `axes` what x and y are.
    """

    key: str
    title: str
    subtitle: str
    figure: dict[str, Any]  # a Plotly figure as plain data; colours may be CSS variables
    sentence: str = ""  # where there are no frames
    frames: tuple[Frame, ...] = ()
    stem: str = ""
    plots: tuple[str, ...] = ()
    axes: tuple[str, str] = ("x", "y")


class StepsChart(gr.HTML):
    """Value: a `StepsView` or None; the page gets it as plain data."""

    def __init__(self, label: str, height_px: int, **kwargs: Any):
        template = _TEMPLATE.replace("@label", label).replace("@height", str(height_px))
        super().__init__(html_template=template, js_on_load=load_script("steps"), apply_default_css=False, **kwargs)

    def postprocess(self, value: StepsView | dict | None) -> dict | None:
        return as_plain(value) if isinstance(value, StepsView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-card lens-steps" aria-label="@label" hidden>
  <h2></h2>
  <p class="lens-sub"></p>
  <div class="lens-scrub" hidden>
    <input type="range" min="0" step="1" aria-label="Step shown" />
    <output></output>
  </div>
  <div class="lens-plot" role="img" style="height: @heightpx"></div>
  <p class="lens-says" aria-live="polite"></p>
  <div class="lens-actions" role="group" aria-label="Export" hidden></div>
</section>
"""
