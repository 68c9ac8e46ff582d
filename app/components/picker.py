"""A list to choose a few things from, in groups, with a field to search it or to add one by its id or link.

The order of choosing is kept: it gives the letters. Does not know what the things are; every choice goes to the server,
whose answer is what is shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from app.components import load_script


@dataclass(frozen=True)
class Item:
    id: str
    name: str
    about: str
    group: str


@dataclass(frozen=True)
class PickerView:
    """What the list shows. `chosen` are items in their order, also such as are not in the list; `link` is the query of
    the page's address that brings them back."""

    items: tuple[Item, ...]
    chosen: tuple[Item, ...] = ()
    most: int = 4
    message: str = ""
    empty: str = ""
    link: str = ""


class Picker(gr.HTML):
    """Value: a `PickerView`. Events: `choose` with `ids`, a list; `paste` with `ids` and `text`, as typed."""

    def __init__(self, tab: str, **kwargs: Any):
        template = _TEMPLATE.replace("@tab", tab)
        super().__init__(html_template=template, js_on_load=load_script("picker"), apply_default_css=False, **kwargs)

    def postprocess(self, value: PickerView | dict | None) -> dict | None:
        return asdict(value) if isinstance(value, PickerView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<div class="lens-picker" data-tab="@tab">
  <div class="lens-label">Compared</div>
  <ol class="lens-chosen" aria-label="Compared"></ol>
  <p class="lens-nothing"></p>
  <p class="lens-message" role="alert" hidden></p>
  <form>
    <input type="search" placeholder="Search, or paste a link or id" aria-label="Search, or paste a link or id" />
  </form>
  <div class="lens-groups"></div>
</div>
"""
