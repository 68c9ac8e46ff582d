"""The user's own words on things: names and notes, by the thing's id. Everybody has words of their own.

Owns one small JSON file per thing, written whole, so that a killed server loses nothing and two may share the folder.
Does not know whether a thing is still there: words on one that was dropped lie unseen, and are back when it is.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from backend.interface import UserError
from backend.kept.documents import LONGEST_NAME, Plain, alone_with, clean_line, write_bytes_whole
from backend.people.person import owner_of_new, part_of

logger = logging.getLogger(__name__)

LONGEST_NOTE = 4000
MAX_BYTES = 2**16

_THING = re.compile(r"(capture|measurement|run|bundle):([0-9a-f]{16,24})")


class Label(Plain):
    """`imported` is when it came from another installation, as Unix time; 0 for what was made here."""

    format_version: Literal[1] = 1
    name: str = Field("", max_length=LONGEST_NAME)
    note: str = Field("", max_length=LONGEST_NOTE)
    imported: float = Field(0.0, ge=0, le=1e11)


NONE = Label()


class Labels:
    """All labels in one folder."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._read: dict[Path, tuple[tuple[int, int], Label]] = {}  # while the file is the same

    def get(self, thing: str) -> Label:
        """The words on a thing; empty ones where there are none. Raises `UserError` for what is no id."""
        return self._load(self._path(thing))

    def all(self) -> dict[str, Label]:
        """Every label by its thing; quicker than one by one, as most things have none."""
        paths = self._home.glob("*.json") if self._home.is_dir() else ()
        return {thing: self._load(path) for path in paths if _THING.fullmatch(thing := path.stem.replace("-", ":", 1))}

    def set(self, thing: str, **changes: str | float) -> None:
        """Change `name`, `note` or `imported`. Raises `UserError` if one is too long or the disk refuses."""
        if "name" in changes:
            changes["name"] = clean_line(str(changes["name"]))
        if "note" in changes:
            changes["note"] = clean_note(str(changes["note"]))
        path = self._path(thing)
        owner_of_new()  # a stranger has none
        with alone_with(self._home, "names and notes"):
            label = self._load(path).model_copy(update=changes)
            if label == NONE:
                path.unlink(missing_ok=True)
            else:
                write_bytes_whole(path, label.model_dump_json().encode() + b"\n")

    def _path(self, thing: str) -> Path:
        found = _THING.fullmatch(thing) if isinstance(thing, str) else None
        if not found:
            raise UserError(f"Expected the id of a thing in the library, got “{str(thing)[:40]}”; reload the page.")
        return self._home / f"{found[1]}-{found[2]}.json"

    @property
    def _home(self) -> Path:
        """The folder of who asks."""
        return part_of(self.folder)

    def _load(self, path: Path) -> Label:
        with suppress(FileNotFoundError):
            try:
                about = path.stat()
                stamp = (about.st_mtime_ns, about.st_size)
                known = self._read.get(path)
                if known and known[0] == stamp:
                    return known[1]
                if about.st_size > MAX_BYTES or path.is_symlink():
                    raise ValueError("not one of ours")
                label = Label.model_validate_json(path.read_bytes())
            except (OSError, ValueError, ValidationError, RecursionError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                logger.warning("A name or note could not be read: %s", type(error).__name__)
                return NONE
            self._read[path] = (stamp, label)
            return label
        return NONE


def clean_note(text: str) -> str:
    """A note without control characters. Raises `UserError` if it is too long."""
    note = "".join(c for c in text.replace("\r\n", "\n") if c.isprintable() or c in "\n\t").strip()
    if len(note) > LONGEST_NOTE:
        raise UserError(f"Expected a note of at most {LONGEST_NOTE:,} characters, got {len(note):,}; shorten it.")
    return note
