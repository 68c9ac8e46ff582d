"""The list of runs: a row each to choose from, and an offer to undo the last deletion. Knows no run itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from app.components import load_script


@dataclass(frozen=True)
class RunRow:
    """`state` is for the colour of the chip, `label` its words; `share` is what is done, 0…1."""

    id: str
    name: str
    about: str
    state: str
    label: str
    share: float


@dataclass(frozen=True)
class RunsView:
    """What the list shows; `undo` is the run that was deleted last, with its name."""

    rows: tuple[RunRow, ...]
    chosen: str = ""
    empty: str = ""
    message: str = ""
    undo: str = ""
    undo_name: str = ""


class RunList(gr.HTML):
    """Value: a `RunsView`. Events: `choose` with `run`, `undo` with `run`."""

    def __init__(self, tab: str, title: str, **kwargs: Any):
        """`tab` is the one that the list is on."""
        template = _TEMPLATE.replace("@tab", tab).replace("@title", title)
        super().__init__(html_template=template, js_on_load=load_script("runs"), apply_default_css=False, **kwargs)

    def postprocess(self, value: RunsView | dict | None) -> dict | None:
        return asdict(value) if isinstance(value, RunsView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-card lens-runs" aria-label="@title" data-tab="@tab" hidden>
  <h2>@title</h2>
  <p class="lens-message" role="alert" hidden></p>
  <p class="lens-undo" role="status" hidden><span></span> <button type="button">Undo</button></p>
  <p class="lens-sub lens-empty" hidden></p>
  <div class="lens-rows" role="radiogroup" aria-label="Shown below"></div>
</section>
"""
