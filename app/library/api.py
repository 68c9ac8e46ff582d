"""The page's named endpoints on what is kept: list, name, delete, restore, import, export.

They are /library, /rename, /delete_item, /undo_delete, /import_item and /export_item. Thin over the library: plain
values in and out. Knows no component of the page.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import gradio as gr

from app.api import answer_or_refuse, check_text
from app.guard.uploads import uploaded_path
from app.library.page import EXPORT_URL, read_upload
from app.rules import ALL, Rules, check
from backend.interface import UserError
from backend.kept.library import KINDS, SORTS, Library
from backend.kept.library_files import LibraryFiles
from backend.kept.library_items import Item

MAX_INLINE_BYTES = 64 * 2**20


def add_library_endpoints(library: Library, rules: Rules = ALL) -> None:
    """Add the endpoints to the current Gradio context."""
    endpoints = LibraryEndpoints(library, rules)
    for name in ("library", "rename", "delete_item", "undo_delete", "import_item", "export_item"):
        gr.api(getattr(endpoints, name), api_name=name)


class LibraryEndpoints:
    """The endpoints over one library; Gradio shows callers these signatures and docstrings."""

    def __init__(self, library: Library, rules: Rules = ALL):
        self._library, self._files, self._rules = library, LibraryFiles(library), rules

    def library(
        self, search: str = "", kind: str = "", sort: str = "made", descending: bool = True, page: int = 0
    ) -> dict:
        """What is kept and holds every word of `search`, 50 a page; `kind` and `sort` as the page's columns."""

        def work() -> dict[str, Any]:
            wanted = _one_of(kind, ("", *KINDS), "kind") or None
            by = _one_of(sort, SORTS, "sort")
            first = page if type(page) is int else 0
            found = self._library.find(check_text(search, "search"), wanted, by, descending is not False, first)
            return {
                "items": [plain(item) for item in found.items],
                "counts": found.counts,
                "total": found.total,
                "page": found.page,
                "pages": found.pages,
                **asdict(found.room),
            }

        return answer_or_refuse(work)

    def rename(self, item: str, name: str) -> dict:
        """Give a thing another name; an empty one brings back what it is about."""
        return self._change(item, lambda thing: self._library.rename(thing, check_text(name, "name")))

    def delete_item(self, item: str) -> dict:
        """Move a thing to the trash; `/undo_delete` takes it out again."""
        return self._change(item, self._library.delete, gone=True)

    def undo_delete(self, item: str) -> dict:
        """Take a thing out of the trash, as it was."""
        return self._change(item, self._library.undelete)

    def import_item(self, file: dict) -> dict:
        """Take in a file that AIA Lens exported (an uploaded one; `handle_file` in gradio_client), all or nothing."""

        def work() -> dict[str, Any]:
            check(self._rules.bringing_in)
            name = str(file.get("orig_name") or "") if isinstance(file, dict) else ""
            data = read_upload(uploaded_path(file, "file"))
            self._rules.room(len(data))
            came = self._files.take_in(data, name)
            return {"items": [{**plain(self._library.item(one.thing)), "already": one.already} for one in came]}

        return answer_or_refuse(work)

    def export_item(self, item: str) -> dict:
        """A thing as a file: its name and content as base64; several ids with commas between come as a zip.

        The same file, of any size, is at `url`.
        """

        def work() -> dict[str, Any]:
            ids = [one.strip() for one in check_text(item, "item").split(",") if one.strip()]
            file = self._files.export(ids)
            if len(file.content) > MAX_INLINE_BYTES:
                raise UserError(f"Expected at most {MAX_INLINE_BYTES // 2**20} MiB, got more; use the address instead.")
            content = base64.b64encode(file.content).decode()
            url = f"{EXPORT_URL}?ids={','.join(ids)}"
            return {"file_name": file.name, "media_type": file.media_type, "base64": content, "url": url}

        return answer_or_refuse(work)

    def _change(self, item: Any, change: Callable[[str], None], gone: bool = False) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            thing = check_text(item, "item")
            was = plain(self._library.item(thing)) if gone else None
            change(thing)
            return was or plain(self._library.item(thing))

        return answer_or_refuse(work)


def plain(item: Item) -> dict[str, Any]:
    """An item as JSON carries it."""
    found = asdict(item)
    del found["said"]
    return {**found, "tasks": [task.value for task in item.tasks], "things": [*item.things]}


def _one_of(value: Any, known: tuple[str, ...], what: str) -> Any:
    if value not in known:
        names = ", ".join(name for name in known if name)
        raise UserError(f"Expected {what} to be one of {names}, got “{str(value)[:40]}”; choose one of them.")
    return value
