"""Everything that is kept, as one list: captures, measurements, runs, adapters, bundles; to each person their own.

Owns what a search finds, names, notes, deleting and undoing it, and the trash of captures. Each thing stays with its
own store, which knows its files; an adapter is a part of its run. Knows no page, nor which files leave and come in
(`backend.kept.library_files`).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from backend.background.runs import Runs
from backend.comparison import Comparables
from backend.interface import UserError
from backend.kept.bundles import Bundles
from backend.kept.capture_files import CaptureFormatError, capture_from_npz
from backend.kept.documents import Documents, alone_with, drop_oldest, write_bytes_whole
from backend.kept.labels import NONE as NO_LABEL
from backend.kept.labels import Label, Labels
from backend.kept.library_items import Item, Kind, adapter_item, bundle_item, capture_item, measurement_item, run_item
from backend.kept.measurements import Measurements
from backend.kept.store import CaptureStore
from backend.people.person import part_of

Sort = Literal["kind", "name", "model", "task", "made", "size"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SORTS: tuple[Sort, ...] = get_args(Sort)
PAGE = 50
MOST_IN_TRASH, MOST_TRASH_BYTES = 64, 256 * 2**20
LONGEST_SEARCH = 200
SHORTEST_ID = 6

_THING = re.compile(r"(capture:[0-9a-f]{24}|(measurement|run|adapter|bundle):[0-9a-f]{16})")


@dataclass(frozen=True)
class Room:
    """What everything takes on the disk, and what captures may take."""

    captures_bytes: int
    captures_limit_bytes: int
    others_bytes: int


@dataclass(frozen=True)
class Listing:
    """A page of what was found. `counts` are of each kind, under the search; `page` counts from 0."""

    items: tuple[Item, ...]
    counts: dict[Kind, int]
    total: int
    page: int
    pages: int
    room: Room


class Library:
    """All things of one installation."""

    def __init__(self, things: Comparables):
        """Over what can be compared; names, notes and the trash lie beside the runs."""
        self.things = things
        self.store: CaptureStore = things.store
        self.runs: Runs = things.runs
        self.measurements: Measurements = things.measurements
        self.bundles: Bundles = things.bundles
        self.labels = Labels(self.runs.folder.parent / "labels")

    # --- asking ---

    def items(self) -> list[Item]:
        """Everything, in no order that counts."""
        runs, labels = self.runs.list(), self.labels.all()

        def label(kind: str, own: str) -> Label:
            return labels.get(f"{kind}:{own}", NO_LABEL)

        adapters = [(run, self.runs.folder / run.id / "adapter") for run in runs if run.state == "finished"]
        return [
            *(capture_item(e, label("capture", e.key.id), self.store.link(e.key.id)) for e in self.store.entries()),
            *(measurement_item(one, label("measurement", one.id)) for one in self.measurements.list()),
            *(run_item(run, label("run", run.id)) for run in runs),
            *(adapter_item(run, _size(path), label("run", run.id)) for run, path in adapters if path.is_dir()),
            *(bundle_item(one, label("bundle", one.id)) for one in self.bundles.list()),
        ]

    def item(self, thing: str) -> Item:
        """One thing. Raises `UserError` if there is none of that id, as does all below."""
        check_thing(thing)
        found = next((item for item in self.items() if item.id == thing), None)
        if found is None:
            raise UserError(f"There is no {thing.partition(':')[0]} of that id any more; reload the page.")
        return found

    def find(
        self, search: str = "", kind: Kind | None = None, sort: Sort = "made", descending: bool = True, page: int = 0
    ) -> Listing:
        """A page of the things that hold every word of the search; the beginning of an id will do as well."""
        words, items = search[:LONGEST_SEARCH].casefold().split(), self.items()
        found = [item for item in items if all(_holds(item, word) for word in words)]
        counts = {each: sum(item.kind == each for item in found) for each in KINDS}
        shown = [item for item in found if kind in (None, item.kind)]
        shown.sort(key=lambda item: (-item.made, item.name, KINDS.index(item.kind)))  # equals: the newest first
        shown.sort(key=_SORT_KEYS[sort], reverse=descending)
        pages = max(1, -(-len(shown) // PAGE))
        page = min(max(page, 0), pages - 1)
        others = sum(item.size_bytes for item in items if item.kind not in ("capture", "adapter"))
        room = Room(self.store.size_bytes(), self.store.size_limit_bytes, others)
        return Listing(tuple(shown[PAGE * page : PAGE * (page + 1)]), counts, len(shown), page, pages, room)

    # --- telling ---

    def rename(self, thing: str, name: str) -> None:
        """Give a thing another name; an adapter's is its run's. An empty one brings back what it is about."""
        kind, own = check_thing(thing)
        if kind == "capture":
            self._check_capture(own)
            self.labels.set(thing, name=name)
        elif kind in ("run", "adapter"):
            self.runs.rename(own, name)
        else:
            self._documents(kind).rename(own, name)

    def note(self, thing: str, text: str) -> None:
        """Write a note on a thing; an adapter's is its run's."""
        self.item(thing)
        self.labels.set(label_of(thing), note=text)

    def delete(self, thing: str) -> None:
        """Move a thing to its trash."""
        kind, own = check_thing(thing)
        if kind == "adapter":
            raise UserError("An adapter is a part of its run; delete the run to delete both.")
        if kind == "capture":
            self._delete_capture(own)
        elif kind == "run":
            self.runs.delete(own)
        else:
            self._documents(kind).delete(own)

    def undelete(self, thing: str) -> None:
        """Take a thing out of its trash, as it was."""
        kind, own = check_thing(thing)
        if kind == "capture":
            self._undelete_capture(own)
        elif kind in ("run", "adapter"):
            self.runs.undelete(own)
        else:
            self._documents(kind).undelete(own)

    def _documents(self, kind: str) -> Documents[Any]:
        return self.measurements if kind == "measurement" else self.bundles

    # --- captures ---

    def _check_capture(self, capture_id: str) -> None:
        if capture_id not in self.store.ids():
            raise UserError("That capture is no longer stored; run its prompt again.")

    @property
    def trash(self) -> Path:
        """That of who asks."""
        return part_of(self.runs.folder.parent / "trash")

    def _delete_capture(self, capture_id: str) -> None:
        data = self.store.raw(capture_id)
        if data is None:
            self.store.delete(capture_id)  # a damaged one is not worth keeping
            return
        with alone_with(self.trash, "the trash"):
            path = self.trash / f"{capture_id}.npz"
            write_bytes_whole(path, data)
            os.utime(path, ns=(time.time_ns(),) * 2)  # since when it is in the trash
            self.store.delete(capture_id)
            if capture_id in self.store.ids():
                raise UserError("The capture could not be deleted, since the store is busy; try again.")
            drop_oldest([*self.trash.glob("*.npz")], MOST_IN_TRASH, MOST_TRASH_BYTES)

    def _undelete_capture(self, capture_id: str) -> None:
        path = self.trash / f"{capture_id}.npz"
        with alone_with(self.trash, "the trash"):
            try:
                self.store.take_in(capture_from_npz(path.read_bytes()))
            except (FileNotFoundError, CaptureFormatError) as error:
                raise UserError("That capture is not in the trash any more; run its prompt again.") from error
            path.unlink(missing_ok=True)


def _holds(item: Item, word: str) -> bool:
    """Whether a thing holds a word; in ids, short words would be everywhere."""
    return word in item.words or (len(word) >= SHORTEST_ID and word in item.id)


def check_thing(thing: object) -> tuple[Kind, str]:
    """Kind and own id of a thing's id. Raises `UserError` for anything else."""
    if not isinstance(thing, str) or not _THING.fullmatch(thing):
        raise UserError(f"Expected an id such as capture:… or run:…, got “{str(thing)[:40]}”; reload the page.")
    kind, _, own = thing.partition(":")
    return kind, own  # type: ignore[return-value]


def label_of(thing: str) -> str:
    """The id that carries a thing's note: an adapter has its run's."""
    return thing.replace("adapter:", "run:")


_SORT_KEYS: dict[str, Callable[[Item], Any]] = {
    "kind": lambda item: KINDS.index(item.kind),
    "name": lambda item: item.name.strip("“”").casefold(),
    "model": lambda item: item.model.casefold(),
    "task": lambda item: (len(item.tasks), item.tasks),
    "made": lambda item: item.made,
    "size": lambda item: item.size_bytes,
}


def _size(folder: Path) -> int:
    """Bytes of a folder's files; what goes meanwhile counts nothing."""
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return 0
