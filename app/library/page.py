"""The Library tab: everything that is kept, found, named, deleted, restored, taken along and brought in.

Components and thin handlers: what the table shows is made in `views.py`. Nothing is kept per page: what is
asked for travels with every event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from app.arrival import Arrival
from app.components.importer import ImportChoice, Importer
from app.components.library import LibraryTable, LibraryView
from app.components.off import make_off_note
from app.guard.uploads import find_upload
from app.library import views
from app.library.views import Wanted, read_wanted
from app.rules import ALL, Rules, check
from app.words import BROKEN
from backend.interface import UserError
from backend.kept.archives import MAX_IMPORT_BYTES
from backend.kept.library import Library
from backend.kept.library_files import LibraryFiles
from backend.kept.library_items import Item

logger = logging.getLogger(__name__)

LIBRARY_ID, LIBRARY_TAB = "library", "Library"
EXPORT_URL = "lens/export"
MOST_IDS = 200
_TURN_JS = f"(...values) => {{ lens.turnTo('{LIBRARY_ID}'); return values; }}"


class LibraryPage:
    """One tab of one app. Holds no user's data."""

    def __init__(self, library: Library, rules: Rules = ALL):
        self.library, self.files, self.rules = library, LibraryFiles(library), rules

    # --- components ---

    def build(self, arrival: Arrival, tabs: gr.Tabs, tab: gr.Tab) -> None:
        """Create the tab's content inside the current Gradio context, which is `tab`."""
        with gr.Column(elem_id="lens-library"):
            off = self.rules.bringing_in
            importer = Importer(MAX_IMPORT_BYTES // 2**20, visible=not off, elem_id="lens-import")
            make_off_note(off)
            table = LibraryTable(EXPORT_URL, elem_id="lens-things")
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        table.ask(self.on_ask, None, table, trigger_mode="multiple", **quiet)
        table.act(self.on_act, None, table, trigger_mode="multiple", **quiet)
        importer.upload(self.on_import, [importer, table], [importer, table], **quiet)
        tab.select(self.on_turn, table, table, js=_TURN_JS, **quiet)
        arrival.add(self.on_load, [tabs, table])

    # --- handlers ---

    def on_load(self, request: gr.Request) -> list[Any]:
        """Where the address names the library, turn to this tab; else wait for the tab to be opened."""
        query = dict(request.query_params)
        if "library" not in query:
            return [gr.skip(), gr.skip()]
        wanted = read_wanted({"search": query["library"], "kind": query.get("kind")})
        return [gr.Tabs(selected=LIBRARY_ID), self.show(wanted)]

    def on_turn(self, shown: Any) -> LibraryView:
        """The tab came to the front: what is there by now."""
        return self.show(read_wanted(shown))

    def on_ask(self, event: gr.EventData) -> LibraryView:
        return self.show(read_wanted(event._data))

    def on_act(self, event: gr.EventData) -> LibraryView:
        """Name, note, delete or restore."""
        sent = event._data if isinstance(event._data, dict) else {}
        wanted, ids = read_wanted(sent), sent.get("ids")
        ids = [str(one)[:60] for one in ids[:MOST_IDS]] if isinstance(ids, list) else []
        text = str(sent.get("text") or "")[:20_000]
        acts: dict[str, Callable[[], LibraryView]] = {
            "rename": lambda: self._change(wanted, ids, lambda thing: self.library.rename(thing, text)),
            "note": lambda: self._change(wanted, ids, lambda thing: self.library.note(thing, text)),
            "delete": lambda: self._delete(wanted, ids),
            "undo": lambda: self._change(wanted, ids, self.library.undelete),
        }
        act = acts.get(str(sent.get("action")))
        return act() if act else self.show(wanted)

    def on_import(self, choice: ImportChoice, shown: Any) -> list[Any]:
        """Take in an uploaded file, and show what came of it."""
        wanted = read_wanted(shown)
        emptied = ImportChoice(serial=choice.serial if choice else 0)
        if choice is None or choice.file is None:
            return [emptied, self.show(wanted)]
        try:
            check(self.rules.bringing_in)
            data = read_upload(find_upload(choice.file.path, "file"))
            self.rules.room(len(data))
            came = self.files.take_in(data, choice.file.orig_name or "")
            items = [self.library.item(one.thing) for one in came]
        except UserError as error:
            return [emptied, self.show(wanted, message=str(error))]
        except Exception:
            logger.exception("a file could not be imported")
            return [emptied, self.show(wanted, message=BROKEN)]
        said = views.describe_imported(items, sum(one.already for one in came))
        opened = items[0].id if len(items) == 1 else ""
        return [emptied, self.show(Wanted(open=opened, serial=wanted.serial), said=said)]

    # --- what the table shows ---

    def show(self, wanted: Wanted, **said: Any) -> LibraryView:
        """The table as it is now. `said` is what else it says: message, said, undo."""
        try:
            listing = self.library.find(wanted.search, wanted.kind, wanted.sort, wanted.descending, wanted.page)
            opened = next((item for item in listing.items if item.id == wanted.open), None)
            return views.library_view(listing, wanted, opened and self._detail(opened), **said)
        except UserError as error:
            return LibraryView((), (), message=str(error), serial=wanted.serial)
        except Exception:
            logger.exception("the library could not be shown")
            return LibraryView((), (), message=BROKEN, serial=wanted.serial)

    def _detail(self, item: Item) -> Any:
        is_capture = item.kind == "capture"
        return views.detail_view(item, self.library.store.get(item.id.partition(":")[2]) if is_capture else None)

    def _change(self, wanted: Wanted, ids: Sequence[str], change: Callable[[str], None]) -> LibraryView:
        """Change things one by one; the first refusal is said, what was done stays done."""
        try:
            for thing in ids:
                change(thing)
        except UserError as error:
            return self.show(wanted, message=str(error))
        return self.show(wanted)

    def _delete(self, wanted: Wanted, ids: Sequence[str]) -> LibraryView:
        gone: list[Item] = []
        message = ""
        try:
            for thing in ids:
                item = self.library.item(thing)
                self.library.delete(thing)
                gone.append(item)
        except UserError as error:
            message = str(error)
        said = {"said": views.describe_deleted(gone), "undo": tuple(item.id for item in gone)} if gone else {}
        opened = "" if wanted.open in {item.id for item in gone} else wanted.open
        return self.show(replace(wanted, open=opened), message=message, **said)


def read_upload(path: Path) -> bytes:
    """An uploaded file, no more of it than may be imported. Raises `UserError` where it is gone."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_IMPORT_BYTES + 1)
    except OSError as error:
        raise UserError("Expected an uploaded file, found none; choose it again.") from error
