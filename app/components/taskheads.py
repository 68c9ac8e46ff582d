"""A card with a map of the heads that two tasks disagree about, and a list of those that do so most.

Does not know how disagreement is reckoned; a click leads to that head in the Explore tab's closer views.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np

from app.components import load_script


@dataclass(frozen=True)
class HeadRow:
    """One line of the list; layer and head count from 0."""

    layer: int
    head: int
    generation: float
    understanding: float
    disagreement: float


@dataclass(frozen=True)
class TaskHeadsView:
    """What the card shows. Arrays are [L, H]; no `disagreement` where there is none.

    `captures` are ids by task; `measurement` is what Look closer sets their heads against, empty for what it finds.
    """

    key: str
    title: str
    subtitle: str
    sentence: str
    stem: str
    disagreement: np.ndarray | None = field(repr=False)
    generation: np.ndarray = field(repr=False)
    understanding: np.ndarray = field(repr=False)
    rows: tuple[HeadRow, ...] = ()
    captures: dict[str, str] = field(default_factory=dict)
    measurement: str = ""
    note: str = ""
    link: str = ""

    def plain(self) -> dict[str, Any]:
        """As the page gets it: maps with heads down and layers across."""
        names = ("key", "title", "subtitle", "sentence", "stem", "note", "link", "measurement")
        words = {name: getattr(self, name) for name in names}
        shown = self.disagreement is not None
        return {
            **words,
            "map": _plain_map(self.disagreement) if shown else None,
            "tasks": {task: _rounded(getattr(self, task)) for task in ("generation", "understanding")},
            "rows": [[row.layer, row.head] for row in self.rows],
            "captures": self.captures,
        }


def _plain_map(values: np.ndarray) -> dict[str, Any]:
    """A map between the limits of what ranks can differ by."""
    layers, heads = values.shape
    return {"rows": heads, "columns": layers, "low": -1.0, "high": 1.0, "values": _rounded(values)}


def _rounded(values: np.ndarray) -> list[float]:
    """Heads down, layers across, row by row."""
    return np.round(values.T, 4).ravel().tolist()


class TaskHeads(gr.HTML):
    """Value: a `TaskHeadsView` or None."""

    def __init__(self, **kwargs: Any):
        super().__init__(
            html_template=_TEMPLATE, js_on_load=load_script("taskheads"), apply_default_css=False, **kwargs
        )

    def postprocess(self, value: TaskHeadsView | dict | None) -> dict | None:
        return value.plain() if isinstance(value, TaskHeadsView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-card lens-taskheads" aria-label="Heads that disagree" hidden>
  <h2></h2>
  <p class="lens-sub"></p>
  <div class="lens-taskheads-two">
    <div class="lens-taskheads-map"></div>
    <div class="lens-table">
      <table>
        <thead><tr><th scope="col">head</th><th scope="col">drawing</th><th scope="col">answering</th>
        <th scope="col">in rank</th></tr></thead>
        <tbody></tbody>
      </table>
    </div>
  </div>
  <p class="lens-says" aria-live="polite"></p>
  <p class="lens-explains" hidden></p>
  <div class="lens-actions" role="group" aria-label="Export"></div>
</section>
"""
