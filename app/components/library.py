"""The table of the library: search, kinds, sorting, a row that opens, things ticked, an offer to undo.

Does not know what the things are: every wish goes to the server with all that is asked for, and what is shown is its
answer. Downloads come from a route of their own (`app.library.files`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from app.components import load_script


@dataclass(frozen=True)
class Row:
    """A line of the table. `made` is Unix time, `accents` the colours of its tasks, the rest words."""

    id: str
    kind: str
    name: str
    about: str
    model: str
    task: str
    accents: tuple[str, ...]
    made: float
    size: str
    things: tuple[str, ...]
    deletable: bool


@dataclass(frozen=True)
class Detail:
    """The open row's panel. `links` are label and query of the page's address; `name` is the user's own, if any."""

    id: str
    name: str
    placeholder: str
    note: str
    facts: tuple[tuple[str, str], ...]
    picture: str = ""
    links: tuple[tuple[str, str], ...] = ()
    exportable: bool = True
    deletable: bool = True


@dataclass(frozen=True)
class Chip:
    """A kind to filter by, with how many there are; an empty kind is all."""

    kind: str
    label: str
    count: int


@dataclass(frozen=True)
class LibraryView:
    """What the table shows, with everything that was asked for. `serial` is the question that this answers."""

    rows: tuple[Row, ...]
    chips: tuple[Chip, ...]
    search: str = ""
    kind: str = ""
    sort: str = "made"
    descending: bool = True
    page: int = 0
    pages: int = 1
    found: str = ""
    room: str = ""
    detail: Detail | None = None
    empty: str = ""
    message: str = ""
    said: str = ""
    undo: tuple[str, ...] = ()
    serial: int = 0
    link: str = "library="


class LibraryTable(gr.HTML):
    """Value: a `LibraryView`. Events: `ask` with what is wanted; `act` with that, `action`, `ids` and `text`."""

    def __init__(self, export_url: str, **kwargs: Any):
        script = (load_script("library_detail") + load_script("library")).replace("@export", export_url)
        super().__init__(html_template=_TEMPLATE, js_on_load=script, apply_default_css=False, **kwargs)

    def postprocess(self, value: LibraryView | dict | None) -> dict | None:
        return asdict(value) if isinstance(value, LibraryView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_COLUMNS = ("kind", "name", "model", "task", "made", "size")
_HEAD = "".join(
    f'<th scope="col" data-sort="{name}" aria-sort="none"><button type="button">{name.capitalize()}</button></th>'
    for name in _COLUMNS
)
_TEMPLATE = f"""
<section class="lens-card lens-library" aria-label="Library" data-state="waiting">
  <div class="lens-find">
    <input type="search" placeholder="Search names, notes, prompts, models" aria-label="Search the library" />
    <div class="lens-pills" role="radiogroup" aria-label="Kind"></div>
  </div>
  <p class="lens-message" role="alert" hidden></p>
  <p class="lens-undo" role="status" hidden><span></span> <button type="button">Undo</button></p>
  <div class="lens-ticked" role="group" aria-label="Chosen" hidden><span></span></div>
  <div class="lens-scroll" hidden>
    <table>
      <thead><tr>
        <th class="lens-tick"><input type="checkbox" aria-label="Choose all on this page" /></th>{_HEAD}
      </tr></thead>
      <tbody></tbody>
    </table>
  </div>
  <p class="lens-sub lens-empty" hidden></p>
  <div class="lens-foot" hidden>
    <span class="lens-found" aria-live="polite"></span>
    <span class="lens-pages" role="group" aria-label="Pages"></span>
    <span class="lens-room"></span>
  </div>
</section>
"""
