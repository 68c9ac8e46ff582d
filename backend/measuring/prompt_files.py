"""Text files of prompts, one a line: checked line by line, and kept by content, so that a config can name them.

Owns what a good line is, and the folder. Reads a file as if a stranger had written it. Knows neither models nor pages.

    <id>.txt     the good lines
    <id>.json    what the file was called, and its bad lines
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from backend.finetuning.image_zips import shorten
from backend.interface import UserError
from backend.kept.documents import alone_with, now, write_bytes_whole
from backend.people.person import is_mine, owner_of_new
from backend.sampling import MAX_PROMPT_CHARACTERS

MAX_FILE_BYTES = 4 * 2**20
KEPT_BAD_LINES = 200
LINES_NAMED = 3

_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be used, counted from 1, and one phrase why."""

    line: int
    problem: str


@dataclass(frozen=True)
class PromptFile:
    """What is in a file: its good lines, and the first of its bad ones."""

    prompts: tuple[str, ...]
    bad: int = 0
    bad_lines: tuple[BadLine, ...] = ()


@dataclass(frozen=True)
class KeptPrompts:
    """A file that is kept."""

    id: str
    name: str
    created: float
    count: int
    bad: int
    bad_lines: tuple[BadLine, ...]
    owner: str = ""


def parse_prompts(data: bytes) -> PromptFile:
    """Good and bad lines of a text; empty lines count for nothing, a prompt that is there twice counts once."""
    good: dict[str, None] = {}
    bad = []
    for number, raw in enumerate(data.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        try:
            good |= dict.fromkeys(_read_line(raw))
        except ValueError as error:
            bad.append(BadLine(number, str(error)))
    return PromptFile(tuple(good), len(bad), tuple(bad[:KEPT_BAD_LINES]))


def _read_line(raw: bytes) -> list[str]:
    """The prompt of a line, or none. Raises `ValueError` with a phrase."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    if any(not c.isprintable() and c != "\t" for c in text):
        raise ValueError("characters that are no text")
    text = " ".join(text.split())
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"{len(text):,} characters, more than {MAX_PROMPT_CHARACTERS:,}")
    return [text] if text else []


def read_prompt_file(path: Path, skip_bad: bool = True) -> PromptFile:
    """A file's prompts. Raises `UserError` for one that cannot be read, holds none, or any bad unless `skip_bad`."""
    try:
        if not path.is_file():  # a pipe or a device would block or never end
            raise FileNotFoundError(None, "no such file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise UserError(f"Expected a text file of prompts, got {path.name[:60]} ({reason}); choose another.") from error
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"Expected a text of at most {MAX_FILE_BYTES // 2**20} MiB, got more; split the file.")
    found = parse_prompts(data)
    listed = "; ".join(f"line {bad.line}: {bad.problem}" for bad in found.bad_lines[:LINES_NAMED])
    more = "; …" if found.bad > LINES_NAMED else ""
    if not found.prompts:
        told = f", all bad ({listed}{more})" if found.bad else ""
        raise UserError(f"Expected prompts, one a line, got {found.bad or 'no'} lines{told}; choose another file.")
    if found.bad and not skip_bad:
        raise UserError(f"Expected only good lines, got {found.bad} bad ({listed}{more}); correct or skip them.")
    return found


class PromptFiles:
    """All files of prompts in one folder."""

    def __init__(self, folder: Path):
        self.folder = Path(folder).resolve()

    def take(self, path: Path, name: str) -> KeptPrompts:
        """Check a file and keep its good lines; the same ones a second time are the same. Raises `UserError`."""
        found = read_prompt_file(path)
        data = "".join(f"{prompt}\n" for prompt in found.prompts).encode()
        owner = owner_of_new()
        own = hashlib.sha256(data + owner.encode()).hexdigest()[:16]
        bad = [[line.line, line.problem] for line in found.bad_lines]
        about = {"name": shorten(name), "created": now(), "count": len(found.prompts), "bad": found.bad, "lines": bad}
        about |= {"owner": owner}
        with alone_with(self.folder, "prompts"):
            write_bytes_whole(self.folder / f"{own}.txt", data)
            write_bytes_whole(self.folder / f"{own}.json", json.dumps(about).encode())
        return self.get(own)

    def list(self) -> list[KeptPrompts]:
        """The files of who asks, the newest first; damaged ones are passed over."""
        found = (self._read(path.stem) for path in self.folder.glob("*.txt") if _ID.fullmatch(path.stem))
        return sorted((one for one in found if one and is_mine(one.owner)), key=lambda one: (-one.created, one.id))

    def get(self, own: str) -> KeptPrompts:
        """One file. Raises `UserError` if there is none of that id, as does `path`."""
        found = self._read(own) if isinstance(own, str) and _ID.fullmatch(own) else None
        if found is None:
            raise UserError("Expected the id of a file of prompts, got another; choose one, or upload it again.")
        return found

    def path(self, own: str) -> Path:
        """The text itself, as a config names it."""
        return self.folder / f"{self.get(own).id}.txt"

    def id_of(self, path: str) -> str | None:
        """The file that a config names; None for any other."""
        found = Path(path)
        return found.stem if found.parent == self.folder and _ID.fullmatch(found.stem) else None

    def _read(self, own: str) -> KeptPrompts | None:
        try:
            about = json.loads((self.folder / f"{own}.json").read_bytes())
            lines = tuple(BadLine(int(line), str(problem)) for line, problem in about["lines"])
            counts = int(about["count"]), int(about["bad"])
            owner = str(about.get("owner", ""))
            return KeptPrompts(own, str(about["name"]), float(about["created"]), *counts, lines, owner)
        except (OSError, ValueError, KeyError, TypeError):
            return None
