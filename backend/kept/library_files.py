"""Files that leave the library and come in: one thing, or several in a zip; all of it or nothing.

Owns which file a thing becomes and how a file of unknown origin is told apart; each kind's own module checks it. Knows
no page.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from aia.intensity import Definition
from backend.interface import UserError
from backend.kept.archives import MAX_IMPORT_BYTES, is_zip, member_names, pack, read_members
from backend.kept.bundles import COMPARISON
from backend.kept.capture_files import CaptureFormatError, capture_from_npz
from backend.kept.documents import Document, Documents, clean_line, now
from backend.kept.library import Library, check_thing
from backend.kept.run_archive import RUN, check_run, own_id, pack_run, unpack_run

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 50

_MEMBER = re.compile(r"(capture|measurement|run|bundle)-[0-9a-f]{16,24}\.(npz|json|zip)")
_KNOWN = "a capture (.npz), a measurement (.json), a run or a comparison (.zip)"


@dataclass(frozen=True)
class File:
    """A file to save: its name, its media type, its bytes."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Imported:
    """A thing that came in; `already` says that it was here and stays as it was."""

    thing: str
    already: bool


@dataclass(frozen=True)
class _Ready:
    """A thing that was checked. `keep` puts it where it belongs."""

    thing: str
    already: bool
    keep: Callable[[], object]


class LibraryFiles:
    """Export from and import into one library."""

    def __init__(self, library: Library):
        self.library = library

    # --- out ---

    def export(self, things: Sequence[str]) -> File:
        """One thing as its own file, several as a zip of them; an adapter is its run's. Raises `UserError`."""
        things = list(dict.fromkeys(thing.replace("adapter:", "run:") for thing in things))
        if not 1 <= len(things) <= MOST_AT_ONCE:
            raise UserError(f"Expected 1 to {MOST_AT_ONCE} things to export, got {len(things)}; choose fewer.")
        if len(things) == 1:
            return self._export_one(things[0])
        files: dict[str, bytes] = {}
        for thing in things:
            file = self._export_one(thing)
            files[file.name.removeprefix("aia-lens-")] = file.content
            if sum(map(len, files.values())) > MAX_IMPORT_BYTES:
                limit = MAX_IMPORT_BYTES // 2**20
                raise UserError(f"Expected at most {limit} MiB to export at once, got more; choose fewer things.")
        return File(f"aia-lens-library-{len(files)}-things.zip", "application/zip", pack(files))

    def _export_one(self, thing: str) -> File:
        kind, own = check_thing(thing)
        stem = f"aia-lens-{kind}-{own}"
        if kind == "run":
            return File(f"{stem}.zip", "application/zip", pack_run(self.library.runs, own))
        if kind == "capture":
            data = self.library.store.raw(own)
            if data is None:
                raise UserError("That capture is no longer stored; run its prompt again.")
            return File(f"{stem}.npz", "application/octet-stream", data)
        documents = self.library.measurements if kind == "measurement" else self.library.bundles
        return File(f"{stem}.json", "application/json", documents.raw(own))

    # --- in ---

    def take_in(self, data: bytes, file_name: str = "") -> list[Imported]:
        """Take in a file of unknown origin, all of it or nothing. Raises `UserError` with one sentence."""
        if len(data) > MAX_IMPORT_BYTES:
            limit = MAX_IMPORT_BYTES // 2**20
            raise UserError(f"Expected a file of at most {limit} MiB, got {len(data) / 2**20:,.0f} MiB; split it.")
        ready = self._check(data, file_name, inside=False)
        done: list[_Ready] = []
        for one in ready:
            try:
                if not one.already:
                    one.keep()
                    done.append(one)
                    self.library.labels.set(one.thing, imported=now())
            except UserError:
                self._take_back(done)
                raise
        return [Imported(one.thing, one.already) for one in ready]

    def _take_back(self, done: Sequence[_Ready]) -> None:
        for one in done:
            try:
                self.library.delete(one.thing)
            except UserError as error:
                logger.warning("An import was not undone: %s", error)

    def _check(self, data: bytes, file_name: str, inside: bool) -> list[_Ready]:
        """Everything that is in a file, checked; nothing is kept yet. A zip in a zip in a zip is none of ours."""
        if not data:
            raise UserError(f"Expected {_KNOWN}, got an empty file; choose another.")
        if not is_zip(data):
            return [self._check_json(data, file_name)]
        names = set(member_names(data))
        if "header.npy" in names:
            return [self._check_capture(data)]
        if RUN in names:
            return [self._check_run(data)]
        if COMPARISON in names:
            return [self._document_ready(self.library.bundles, self.library.bundles.unpack(data))]
        if names and not inside and all(_MEMBER.fullmatch(name) for name in names):
            return [ready for name, inner in read_members(data).items() for ready in self._check(inner, name, True)]
        raise UserError(f"Expected {_KNOWN}, got a zip with other files; choose one that AIA Lens exported.")

    def _check_json(self, data: bytes, file_name: str) -> _Ready:
        """A document, or a report as `measure --json` writes it."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UserError(f"Expected {_KNOWN}, got something else; choose a file that AIA Lens exported.")
        if found.get("kind") == "bundle":
            bundles = self.library.bundles
            return self._document_ready(bundles, bundles.parse(data))
        documents = self.library.measurements
        if "kind" in found:
            measurement = documents.parse(data)
        else:
            measurement = documents.wrap(found, clean_line(PurePath(file_name).stem[:60]))
        return self._document_ready(documents, measurement)

    def _document_ready(self, documents: Documents, document: Document) -> _Ready:
        document = documents.owned(document)
        already = (documents.folder / f"{document.id}.json").is_file()
        return _Ready(f"{documents.what}:{document.id}", already, lambda: documents.keep(document))

    def _check_capture(self, data: bytes) -> _Ready:
        try:
            capture = capture_from_npz(data)
        except CaptureFormatError as error:
            raise UserError(
                "Expected a capture as AIA Lens exports it, got one that is damaged or of another version; "
                "export it again."
            ) from error
        # What is here stays: an id names a request, and a stranger's file must not change its answer.
        return _Ready(
            f"capture:{capture.id}", capture.id in self.library.store, lambda: self.library.store.take_in(capture)
        )

    def _check_run(self, data: bytes) -> _Ready:
        runs = self.library.runs
        run_id = own_id(runs, check_run(read_members(data)).id)
        already = (runs.folder / run_id).is_dir()
        deleted = (runs.trash / run_id).is_dir()
        return _Ready(f"run:{run_id}", already, lambda: runs.undelete(run_id) if deleted else self._keep_run(data))

    def _keep_run(self, data: bytes) -> None:
        """Put a run in; one whose curves cannot be read is taken out again."""
        run_id = unpack_run(self.library.runs, data)
        try:
            for definition in Definition:
                self.library.things.series(f"run:{run_id}", definition)
        except UserError:
            shutil.rmtree(self.library.runs.folder / run_id, ignore_errors=True)
            raise
