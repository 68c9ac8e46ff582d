"""The card of one run: progress, what can be done with it, what came of it, its log. Knows no run itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.components import as_plain, load_script


@dataclass(frozen=True)
class Action:
    """A button: `name` goes back with the event."""

    name: str
    label: str


@dataclass(frozen=True)
class Link:
    """A link to another view of the page, by its query."""

    label: str
    query: str


@dataclass(frozen=True)
class RunView:
    """What the card shows. `share` is what is done, 0…1; `columns` and `table` are words, row by row.

    `mine`: whether who looks may change it.
    """

    id: str
    name: str
    about: str
    state: str
    label: str
    share: float
    facts: str
    message: str = ""
    says: str = ""
    columns: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    actions: tuple[Action, ...] = ()
    links: tuple[Link, ...] = ()
    log: str = ""
    mine: bool = True
    link: str = ""  # the query of the page's address that brings it back


class RunCard(gr.HTML):
    """Value: a `RunView` or None. Event: `act` with `action` and `run`; to rename, also `name`."""

    def __init__(self, longest_name: int, tab: str, key: str, what: str, **kwargs: Any):
        """`tab` is the one that the card is on; `key` names what is shown in its address, `what` in labels."""
        template = _TEMPLATE.replace("@longest", str(longest_name)).replace("@tab", tab)
        template = template.replace("@key", key).replace("@what", what)
        super().__init__(html_template=template, js_on_load=load_script("runcard"), apply_default_css=False, **kwargs)

    def postprocess(self, value: RunView | dict | None) -> dict | None:
        return as_plain(value) if isinstance(value, RunView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-card lens-run" aria-label="Chosen @what" data-tab="@tab" data-key="@key" hidden>
  <div class="lens-row lens-title">
    <h2></h2>
    <input class="lens-rename-field" maxlength="@longest" aria-label="Name of the @what" hidden />
    <button type="button" class="lens-rename" aria-label="Rename the @what" title="Rename">✎</button>
    <span class="lens-chip"></span>
  </div>
  <p class="lens-sub"></p>
  <div class="lens-bar" role="progressbar" aria-label="Done" aria-valuemin="0" aria-valuemax="100"><i></i></div>
  <p class="lens-facts"></p>
  <p class="lens-message" role="alert" hidden></p>
  <p class="lens-says" aria-live="polite" hidden></p>
  <div class="lens-scores" hidden><table><thead></thead><tbody></tbody></table></div>
  <div class="lens-actions" role="group" aria-label="This @what"></div>
  <details class="lens-log"><summary>Log</summary><pre tabindex="0" aria-label="End of the log"></pre></details>
</section>
"""
