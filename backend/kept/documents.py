"""Small JSON documents in a folder: each a file of its own, named by what it says, written whole.

Owns the files and their trash. Reads each as if a stranger had written it: limited in size, checked by the kind's own
pydantic model, and against its name. Threads and processes may share the folder. Does not know what a document says.

    <id>.json        16 hexadecimal digits of the content; name and time are not part of it
    trash/<id>.json  deleted ones, the last few
"""

from __future__ import annotations

import builtins
import errno
import hashlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.interface import UserError
from backend.people.person import check_mine, is_mine, owner_of_new

logger = logging.getLogger(__name__)

MAX_BYTES = 32 * 2**20
MOST_IN_TRASH = 100
LONGEST_NAME = 80
BUSY_SECONDS = 10

_ID = re.compile(r"[0-9a-f]{16}")
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}


class Plain(BaseModel):
    """Part of a document: exactly its fields, of exactly their types, finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Document(Plain):
    """What every document has. Kinds add a `kind` of their own and their content.

    `owner` is as `backend.people.person` has it: a part of the content, so that equal documents of two people are two,
    and nobody can tell the id of another's.
    """

    format_version: Literal[1] = 1
    name: str = Field("", max_length=LONGEST_NAME)
    created: float = Field(ge=0, le=1e11)  # Unix time
    owner: str = Field("", max_length=64)

    @property
    def id(self) -> str:
        """16 hexadecimal digits of the content; without defaults, so that a field to come changes no id."""
        content = self.model_dump_json(exclude={"name", "created"}, exclude_defaults=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


Kind = TypeVar("Kind", bound=Document)


@dataclass(frozen=True)
class Stored(Generic[Kind]):
    id: str
    document: Kind
    size_bytes: int


class Documents(Generic[Kind]):
    """All documents of one kind."""

    kind: type[Kind]
    what: str  # "measurement", as sentences name it

    def __init__(self, folder: Path):
        self.folder, self.trash = Path(folder), Path(folder) / "trash"
        self._read: dict[str, tuple[tuple[int, int], Stored[Kind]]] = {}  # by id, while the file is the same

    # --- reading ---

    def parse(self, data: bytes) -> Kind:
        """A document from bytes of unknown origin. Raises `UserError`, as does all below."""
        if len(data) > MAX_BYTES:
            raise UserError(
                f"Expected a {self.what} of at most {MAX_BYTES // 2**20} MiB, got {len(data) / 2**20:,.0f} MiB; "
                "choose another file."
            )
        try:
            return self.kind.model_validate_json(data)
        except (ValidationError, RecursionError) as error:
            raise UserError(f"Expected a {self.what}, got a file {_fault(error)}; choose another file.") from error

    def list(self) -> builtins.list[Stored[Kind]]:
        """All documents of who asks, the newest first; damaged ones are passed over."""
        found = {}
        for path in self._files(self.folder):
            with suppress(UserError):
                found[path.stem] = self._load(path)
        self._read = {key: value for key, value in self._read.items() if key in found}
        mine = [one for one in found.values() if is_mine(one.document.owner)]
        return sorted(mine, key=lambda one: (-one.document.created, one.id))

    def get(self, document_id: str) -> Kind:
        return self._load(self._path(self.folder, document_id)).document

    def raw(self, document_id: str) -> bytes:
        """The file as it lies there, but for whose it is."""
        found = self.get(document_id)
        if found.owner:
            return _to_bytes(found.model_copy(update={"owner": ""}))
        return self._path(self.folder, document_id).read_bytes()

    # --- changing ---

    def owned(self, document: Kind) -> Kind:
        """The document as one of who asks, whosever it was."""
        return document.model_copy(update={"owner": owner_of_new()})

    def keep(self, document: Kind) -> str:
        """Write a document down for who asks, unless its content is there already; → its id."""
        document = self.owned(document)
        data = _to_bytes(document)
        if len(data) > MAX_BYTES:
            raise UserError(
                f"Expected a {self.what} of at most {MAX_BYTES // 2**20} MiB, got {len(data) / 2**20:,.0f} MiB; "
                "keep fewer samples."
            )
        with alone_with(self.folder, f"{self.what}s"):
            path = self.folder / f"{document.id}.json"
            if not path.exists():
                write_bytes_whole(path, data)
        return document.id

    def rename(self, document_id: str, name: str) -> None:
        with alone_with(self.folder, f"{self.what}s"):
            self._check_mine(self._path(self.folder, document_id))
            renamed = self.get(document_id).model_copy(update={"name": clean_line(name)})
            write_bytes_whole(self.folder / f"{document_id}.json", _to_bytes(renamed))

    def delete(self, document_id: str) -> None:
        """Move a document to the trash, which holds the last `MOST_IN_TRASH`."""
        with alone_with(self.folder, f"{self.what}s"):
            path = self._path(self.folder, document_id)
            self._check_mine(path)
            self.trash.mkdir(mode=0o700, exist_ok=True)
            os.utime(path, ns=(time.time_ns(),) * 2)  # since when it is in the trash
            path.replace(self.trash / path.name)
            drop_oldest(self._files(self.trash), MOST_IN_TRASH)

    def undelete(self, document_id: str) -> None:
        with alone_with(self.folder, f"{self.what}s"):
            path = self._path(self.trash, document_id)
            self._check_mine(path)
            path.replace(self.folder / path.name)

    # --- files ---

    def _check_mine(self, path: Path) -> None:
        """Raise `UserError` for somebody else's; a damaged one is the installation's own."""
        try:
            owner = self._load(path).document.owner
        except UserError:
            owner = ""
        check_mine(owner, self.what)

    def _path(self, folder: Path, document_id: str) -> Path:
        if isinstance(document_id, str) and _ID.fullmatch(document_id):
            path = folder / f"{document_id}.json"
            if path.is_file() and not path.is_symlink():
                return path
        raise UserError(
            f"Expected the id of a {self.what}, got “{str(document_id)[:40]}”, of which there is none; reload the page."
        )

    def _files(self, folder: Path) -> builtins.list[Path]:
        with suppress(OSError):
            return [path for path in folder.glob("*.json") if _ID.fullmatch(path.stem) and not path.is_symlink()]
        return []

    def _load(self, path: Path) -> Stored[Kind]:
        try:
            about = path.stat()
            stamp = (about.st_mtime_ns, about.st_size)
            known = self._read.get(path.stem)
            if known and known[0] == stamp:
                return known[1]
            document = self.parse(_read_at_most(path, MAX_BYTES + 1))
        except OSError as error:
            raise say(error, f"{self.what}s") from error
        except UserError as error:
            logger.warning("A %s was passed over: %s", self.what, error)
            raise UserError(f"That {self.what} is damaged; delete it, or import it again.") from error
        if document.id != path.stem:
            logger.warning("A %s was passed over, since its content was changed.", self.what)
            raise UserError(f"That {self.what} was changed by something else; delete it, or import it again.")
        stored = Stored(path.stem, document, about.st_size)
        self._read[path.stem] = (stamp, stored)
        return stored


def _to_bytes(document: Document) -> bytes:
    """As it lies on the disk; one of the installation's own says no owner, as before there were any."""
    return document.model_dump_json(exclude=None if document.owner else {"owner"}).encode() + b"\n"


def _fault(error: Exception) -> str:
    """Where a document breaks its form, in a few words."""
    if not isinstance(error, ValidationError):
        return "that is nested too deeply"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:60]
    return f"with a wrong “{where}”" if where else "that is damaged or something else"


# --- files, for others too ---


def clean_line(text: str) -> str:
    """A name on one line. Raises `UserError` if it is too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(line) > LONGEST_NAME:
        raise UserError(f"Expected a name of at most {LONGEST_NAME} characters, got {len(line):,}; shorten it.")
    return line


def write_bytes_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, whoever else writes it. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def drop_oldest(paths: builtins.list[Path], most: int, most_bytes: int | None = None) -> None:
    """Remove the files that were touched longest ago, until at most so many, and so many bytes, are left."""
    newest = sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    total = 0
    for index, path in enumerate(newest):
        total += path.stat().st_size
        if index >= most or (most_bytes is not None and index and total > most_bytes):
            path.unlink(missing_ok=True)


@contextmanager
def alone_with(folder: Path, what: str) -> Iterator[None]:
    """Alone with a folder, among threads and processes. Raises `UserError` for whatever the disk refuses."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=BUSY_SECONDS):
            yield
    except Timeout as error:
        raise UserError(f"Expected the {what} to be free for a change, got them busy; try again.") from error
    except OSError as error:
        raise say(error, what) from error


def say(error: OSError, what: str) -> UserError:
    """A disk's refusal in one sentence, without paths."""
    if error.errno in _FULL_ERRNOS:
        return UserError(f"Expected room on the disk for {what}, got a full one; free some space, then try again.")
    reason = error.strerror or "the disk refused"
    return UserError(
        f"Expected a folder for {what} that can be read and written, got “{reason}”; check its permissions."
    )


def _read_at_most(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most)


def now() -> float:
    """The time a document is made, in whole milliseconds."""
    return round(time.time(), 3)
