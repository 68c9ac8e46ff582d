"""One background run on the disk: the small files beside those of its training, and reading what all of them say.

Owns these files' content and how each is read and written; reading never raises, since anything may be in there. Knows
neither the queue nor other runs, starts and ends no process (`backend.background.runs`,
`backend.background.run_children`), and does not say what state the files amount to (`backend.background.run_state`).

    meta.json     name, time, pair and role
    queued        there while the run waits; its number is its turn
    process.json  the last process: number, start time, where its part of events and log begins, how it ended
    stopping      there since a running one was told to stop, and how long it may take
    log.txt       what its processes printed
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aia.config import TrainingConfig, make_config
from backend.background.run_process import is_alive
from backend.finetuning.finetune import RunFolder, write_whole

FORMAT_VERSION = 1
TAIL_BYTES = 2**16  # of events and log: some 200 steps
STEPS_TIMED = 20

Role = Literal["aia", "control", "single"]

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class SmallFile(BaseModel):
    """One file of JSON that is written whole: no reader ever finds half of it."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Meta(SmallFile):
    """What the run is called, whose it is, when it was asked for (Unix time), and the other run of a comparison.

    `owner` is as `backend.people.person` has it; runs made before people were told apart have none.
    """

    format_version: Literal[1] = FORMAT_VERSION
    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    name: str
    created: float
    pair: str | None = Field(None, pattern=r"^[0-9a-f]{16}$")
    role: Role = "single"
    owner: str = ""


class Ticket(SmallFile):
    """A run's turn in the queue: the lowest round is next, in it the lowest number. A person has a turn a round."""

    number: int = 0  # a damaged one goes first rather than never
    round: int = 0


class Stopping(SmallFile):
    """`deadline` by the clock that nobody can set and that all processes of a boot share; `asked` is for reading."""

    asked: float
    grace_seconds: float
    deadline: float


class Process(SmallFile):
    """`exit` is known only where the server that started the process saw it end; `swept`: nothing of it is left."""

    pid: int = Field(gt=1)
    started: str
    events_from: int = 0
    log_from: int = 0
    exit: int | None = None
    swept: bool = False


class Beat(SmallFile):
    """The process' last sign of life; `backend.background.run_process` writes it."""

    pid: int = Field(gt=1)
    started: str
    time: float


_Kind = TypeVar("_Kind", bound=SmallFile)


def load(path: Path, kind: type[_Kind]) -> _Kind | None:
    """A small file's content; None if it is missing or damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def keep(path: Path, content: SmallFile) -> None:
    """Write a small file. Raises `OSError`."""
    write_whole(path, content.model_dump_json() + "\n")


def try_keep(path: Path, content: SmallFile) -> None:
    """Keep what is good to know but must not hold up the rest, as on a full disk."""
    with suppress(OSError):
        keep(path, content)


def read_object(path: Path) -> dict | None:
    """An object of JSON; None if the file is missing, damaged or something else."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class Run(RunFolder):
    """A run folder with the files that this module adds. Reading it never raises: anything may be in there.

    Runs that do other work than training have a class of their own: what `load_config` and `load_result` read is
    theirs, the config with at least a `model` and `steps`.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        self.id = path.name
        self.meta, self.queued, self.stopping = path / "meta.json", path / "queued", path / "stopping"
        self.process, self.heartbeat, self.log = path / "process.json", path / "heartbeat", path / "log.txt"

    def live_process(self) -> Process | Beat | None:
        """The process at work on this run.

        The heartbeat counts too: a server may have died between starting a process and writing that down.
        """
        for found in (load(self.process, Process), load(self.heartbeat, Beat)):
            if found is not None and is_alive(found.pid, found.started):
                return found
        return None

    def load_meta(self) -> Meta | None:
        found = load(self.meta, Meta)
        return found if found is not None and found.id == self.id else None

    def owner(self) -> str:
        """Whose the run is; a damaged one is the installation's own."""
        meta = self.load_meta()
        return meta.owner if meta else ""

    def load_config(self) -> TrainingConfig | None:
        try:
            return make_config(**(read_object(self.config) or {"format_version": 0}))
        except ValueError:
            return None

    def fault(self) -> str | None:
        """What is wrong with the folder itself, in one sentence."""
        if self.load_meta() is None:
            version = (read_object(self.meta) or {}).get("format_version", FORMAT_VERSION)
            if version != FORMAT_VERSION:
                return (
                    f"Expected a run of format version {FORMAT_VERSION}, got {str(version)[:20]}; open it with the "
                    "program that made it, or delete it."
                )
            return "Expected the run's meta.json, got none that can be read; put it back, or delete the run."
        if self.load_config() is None:
            return "Expected the run's settings in config.json, got none that are valid; delete the run."
        return None

    def load_result(self) -> dict | None:
        found = read_object(self.result)
        return found if found is not None and {"before", "after", "losses", "config"} <= found.keys() else None

    def has_result(self) -> bool:
        try:
            about = self.result.stat()
        except OSError:
            return False
        return _is_result(type(self), self.result, about.st_mtime_ns, about.st_size)

    def look_through(self) -> Traces:
        """What the events say."""
        process = load(self.process, Process)
        try:
            about = self.events.stat()
        except OSError:
            return Traces()
        return _look_through(self.events, about.st_mtime_ns, about.st_size, process.events_from if process else 0)

    def mend_events(self) -> int:
        """End a line that a kill cut off, so that the next one stays whole; → where the next one begins."""
        with self.events.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":
                    size += file.write(b"\n")
        return size

    def last_lines(self, lines: int, since: int = 0) -> list[str]:
        """The end of the log, of what lies from byte `since` on."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(since, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                text = file.read(TAIL_BYTES).decode(errors="replace")
        except OSError:
            return []
        whole = (line.rstrip("\r").rpartition("\r")[2] for line in _ANSI.sub("", text).split("\n"))  # bars redraw
        return [line.rstrip() for line in whole if line.strip()][-lines:] if lines > 0 else []


@lru_cache(maxsize=512)
def _is_result(kind: type[Run], path: Path, _mtime_ns: int, _size: int) -> bool:
    return kind(path.parent).load_result() is not None


@dataclass(frozen=True)
class Traces:
    """What a run's last events say: where it stands, how long a step takes, and the last event of its last process."""

    step: int = 0
    step_seconds: float | None = None
    last: str | None = None
    reason: str = ""


@lru_cache(maxsize=512)
def _look_through(path: Path, _mtime_ns: int, size: int, since: int) -> Traces:
    """Read the end of the events; the last process' part begins at byte `since`."""
    first = max(size - TAIL_BYTES, 0)
    try:
        with path.open("rb") as file:
            file.seek(first)
            data = file.read(size - first)
    except OSError:
        return Traces()
    events = [*parse_events(data if not first else data.partition(b"\n")[2])]  # first, perhaps a line's end
    own = events if since <= first else [*parse_events(data[since - first :])]
    stands = [e["step"] for e in events if e["event"] in ("step", "resumed") and type(e.get("step")) is int]
    seconds = [e.get("seconds") for e in events if e["event"] == "step"][-STEPS_TIMED:]
    known = [s for s in seconds if isinstance(s, int | float) and 0 <= s < math.inf]
    return Traces(
        step=max(stands[-1], 0) if stands else 0,
        step_seconds=statistics.median(known) if known else None,
        last=own[-1]["event"] if own else None,
        reason=str(own[-1].get("reason") or "") if own else "",
    )


def parse_events(data: bytes) -> Iterator[dict]:
    """Events of whole lines; a corrupt line is passed over."""
    for line in data.split(b"\n"):
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                yield event
