"""What the table of the library shows: pure functions from a listing to a view, and every sentence of it.

Knows items, sizes and words; no handler, no Gradio event and no folder.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aia.intensity import Task
from app.components.library import Chip, Detail, LibraryView, Row
from backend.kept.captures import Capture
from backend.kept.library import KINDS, LONGEST_SEARCH, SORTS, Listing, Room
from backend.kept.library_items import Item, Kind

NAMES: dict[Kind, tuple[str, str]] = {
    "capture": ("Capture", "Captures"),
    "measurement": ("Measurement", "Measurements"),
    "run": ("Run", "Runs"),
    "adapter": ("Adapter", "Adapters"),
    "bundle": ("Bundle", "Bundles"),
}
TASKS = {Task.GENERATION: "drawing", Task.UNDERSTANDING: "answering"}
ACCENTS = {Task.GENERATION: "gen", Task.UNDERSTANDING: "und"}
NOTHING = (
    "Nothing is kept yet. Ask or draw something in Explore, start a run in Fine-tune, measure a model in "
    "Measure, or import a file that another installation exported."
)
NONE_FOUND = "Nothing matches. Take a word out of the search, or choose All."
STATES = {"queued": "waiting", "running": "running", "stopping": "stopping", "finished": "finished"}


@dataclass(frozen=True)
class Wanted:
    """What a page asks for; `serial` counts its questions."""

    search: str = ""
    kind: Kind | None = None
    sort: str = "made"
    descending: bool = True
    page: int = 0
    open: str = ""
    serial: int = 0


def read_wanted(sent: Any) -> Wanted:
    """What a page asks for, whatever it sends."""
    sent = sent if isinstance(sent, dict) else {}
    detail = sent.get("detail")
    opened = sent.get("open") or (detail.get("id") if isinstance(detail, dict) else "")
    return Wanted(
        search=str(sent.get("search") or "")[:LONGEST_SEARCH],
        kind=next((kind for kind in KINDS if kind == sent.get("kind")), None),
        sort=next((sort for sort in SORTS if sort == sent.get("sort")), "made"),
        descending=sent.get("descending") is not False,
        page=_whole(sent.get("page")),
        open=str(opened or "")[:60],
        serial=_whole(sent.get("serial")),
    )


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**31 else 0


def make_link(wanted: Wanted) -> str:
    """The query of the page's address that brings the list back."""
    kind = {"kind": wanted.kind} if wanted.kind else {}
    return urlencode({"library": wanted.search, **kind})


def library_view(listing: Listing, wanted: Wanted, detail: Detail | None = None, **said: Any) -> LibraryView:
    """The table. `said` is what else it says: message, said, undo."""
    everything = sum(listing.counts.values())
    there = listing.room.captures_bytes or listing.room.others_bytes
    empty = "" if listing.items else NONE_FOUND if wanted.search or everything else NOTHING
    return LibraryView(
        rows=tuple(row_of(item) for item in listing.items),
        chips=(Chip("", "All", everything), *(Chip(k, NAMES[k][1], listing.counts[k]) for k in KINDS)),
        search=wanted.search,
        kind=wanted.kind or "",
        sort=wanted.sort,
        descending=wanted.descending,
        page=listing.page,
        pages=listing.pages,
        found=f"{listing.total:,} {'thing' if listing.total == 1 else 'things'}" if listing.items else "",
        room=describe_room(listing.room) if there else "",
        detail=detail,
        empty=empty,
        serial=wanted.serial,
        link=make_link(wanted),
        **said,
    )


def row_of(item: Item) -> Row:
    state = "" if item.kind != "run" or item.state == "finished" else f"{STATES.get(item.state, item.state)} · "
    return Row(
        id=item.id,
        kind=NAMES[item.kind][0],
        name=item.name,
        about=_shorten(f"{state}{item.about}" + (f" — {item.note}" if item.note else "")),
        model=item.model,
        task=" + ".join(TASKS[task] for task in item.tasks) if len(item.tasks) < len(Task) else "both",
        accents=tuple(ACCENTS[task] for task in item.tasks),
        made=item.made,
        size=describe_size(item.size_bytes),
        things=item.things,
        deletable=item.kind != "adapter",
    )


def detail_view(item: Item, capture: Capture | None = None) -> Detail:
    """The panel of the row that is open; `capture` is its capture, where it is one."""
    picture = "data:image/png;base64," + base64.b64encode(capture.picture_png).decode() if capture else ""
    return Detail(
        id=item.id,
        name=item.own_name,
        placeholder=_shorten(item.name, 60),
        note=item.note,
        facts=tuple(facts_of(item, capture)),
        picture=picture,
        links=tuple(links_of(item)),
        exportable=item.kind == "adapter" or not item.state or item.state == "finished",
        deletable=item.kind != "adapter",
    )


def facts_of(item: Item, capture: Capture | None) -> list[tuple[str, str]]:
    facts = []
    if capture is not None:
        sampling = capture.key.sampling
        facts.append(("Prompt", capture.key.prompt))
        facts += [("Answer", capture.text)] if capture.text else []
        how = f"seed {sampling.seed}, temperature {sampling.temperature:g}"
        facts.append(("Sampling", how + (f", guidance {sampling.guidance:g}" if sampling.guidance != 1 else "")))
        shape = f"{capture.layers} layers × {capture.heads} heads"
        facts.append(("Model", f"{item.model}, {shape}, {capture.key.precision}"))
    else:
        facts.append(("About", item.about))
    if item.kind == "adapter":
        facts.append(("Part of", "its run: deleted, named and exported with it"))
    if item.imported:
        facts.append(("Imported", time.strftime("%Y-%m-%d %H:%M", time.localtime(item.imported))))
    facts.append(("Made", time.strftime("%Y-%m-%d %H:%M", time.localtime(item.made))))
    facts.append(("Id", item.id))
    return facts


def links_of(item: Item) -> list[tuple[str, str]]:
    """Where a thing can be looked at: label and query of the page's address."""
    own = item.id.partition(":")[2]
    links = []
    if item.kind == "capture":
        links.append(("Open in Explore", f"capture={own}"))
    if item.kind == "measurement":
        links.append(("Open in Measure", f"measure={own}"))
    if item.kind in ("run", "adapter"):
        links.append(("Open in Fine-tune", f"run={own}"))
    if item.things:
        links.append(("Compare", "compare=" + ",".join(item.things)))
    return links


# --- words ---


def describe_size(size_bytes: int) -> str:
    """ "0.4 MiB"; below a twentieth of one, KiB."""
    if size_bytes < 2**20 / 20:
        return f"{max(size_bytes, 1) / 2**10:,.1f} KiB"
    return f"{size_bytes / 2**20:,.1f} MiB" if size_bytes < 2**30 else f"{size_bytes / 2**30:,.1f} GiB"


def describe_room(room: Room) -> str:
    """How much is used of what there is."""
    captures = f"captures {describe_size(room.captures_bytes)} of at most {describe_size(room.captures_limit_bytes)}"
    return captures + (f" · the rest {describe_size(room.others_bytes)}" if room.others_bytes else "")


def describe_deleted(items: Sequence[Item]) -> str:
    if len(items) == 1:
        return f"{_quote(items[0].name)} was deleted."
    return f"{len(items)} things were deleted."


def describe_imported(items: Sequence[Item], already: int) -> str:
    """What came of an import; `already` of them were here before."""
    new = len(items) - already
    if len(items) == 1:
        word = "is here already; it stays as it was." if already else "was imported."
        return f"{NAMES[items[0].kind][0]} {_quote(items[0].name)} {word}"
    here = f" {already} were here already and stay as they were." if already else ""
    return f"{new} things were imported.{here}"


def _quote(name: str) -> str:
    return f"“{_shorten(name.strip('“”'), 60)}”"


def _shorten(text: str, most: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
