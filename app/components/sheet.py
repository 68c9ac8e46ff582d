"""A card of samples at a step: what was asked, and beside each other what was made of it before, now and by a control.

Rows and steps come with the value; the words and pictures of a step are fetched when it is shown, and kept by the page.
Follows the slider of the chart with the same key (`lens.scrubTo`). Does not know what made the samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.components import as_plain, load_script


@dataclass(frozen=True)
class SheetRow:
    """One item: `group` heads the rows that follow each other, `accent` is its colour's name."""

    group: str
    accent: str
    text: str
    answer: str = ""  # wanted; without one the picture is


@dataclass(frozen=True)
class Moment:
    """A step that has samples, and in words how good they are."""

    step: int
    label: str
    says: str


@dataclass(frozen=True)
class SheetView:
    """What the card shows. `key` and `control` name whose samples are fetched."""

    key: str
    title: str
    subtitle: str
    rows: tuple[SheetRow, ...]
    moments: tuple[Moment, ...]
    control: str = ""
    others: tuple[Moment, ...] = ()  # the control's


class SampleSheet(gr.HTML):
    """Value: a `SheetView` or None. `fetch` gets {"key", "step"}, the step "asked" for what is asked, and gives
    {"cells": [{"text", "mark", "good", "url"}, …]}, one per row."""

    def __init__(self, fetch: Callable[[Any], dict], **kwargs: Any):
        def fetch_cells(asked: Any) -> dict:
            return fetch(asked)

        super().__init__(
            html_template=_TEMPLATE,
            js_on_load=load_script("sheet"),
            apply_default_css=False,
            server_functions=[fetch_cells],
            **kwargs,
        )

    def postprocess(self, value: SheetView | dict | None) -> dict | None:
        return as_plain(value) if isinstance(value, SheetView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-card lens-sheet" aria-label="Samples" hidden>
  <h2></h2>
  <p class="lens-sub"></p>
  <div class="lens-sheet-scroll" tabindex="0" role="region" aria-label="Samples, scrolls sideways">
    <table><thead></thead></table>
  </div>
  <p class="lens-says" aria-live="polite"></p>
</section>
"""
