"""Fine-tunes in the background: each a folder and a process of its own, one at a time, the others in a queue.

Owns the runs folder, the queue, and starting and stopping processes. What a run folder and its process say is the only
truth: a run's state is derived each time it is asked for, so a server that is killed loses nothing, its running child
goes on, and the next server finds it again. Several threads and servers may share the folder; whatever changes
something holds its lock. Knows neither pages nor how a run trains (`backend.finetune`, which owns the files it writes).

    <id>/meta.json     name, time, pair and role
    <id>/queued        there while the run waits; its number is its turn
    <id>/process.json  the last process: number, start time, where its part of events and log begins, how it ended
    <id>/stopping      there since a running one was told to stop, and how long it may take
    <id>/log.txt       what its processes printed
    trash/<id>/        deleted runs
"""

from __future__ import annotations

import builtins
import errno
import json
import logging
import math
import os
import re
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aia.config import TrainingConfig, make_config
from backend.finetune import RunFolder, write_whole
from backend.interface import UserError
from backend.run_process import boot, is_alive, process_start, without_paths
from backend.specs import find_spec

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
BUSY_SECONDS = 10  # how long one server waits for another's change
LONGEST_GRACE_SECONDS = 3600.0
LONGEST_NAME = 80
SPARE_BYTES = 64 * 2**20  # on the disk, beyond what a run is thought to need
EVENTS_AT_ONCE = 4 * 2**20
TAIL_BYTES = 2**16  # of events and log: some 200 steps
STEPS_TIMED = 20

ROOT = Path(__file__).resolve().parents[1]

State = Literal["queued", "running", "stopping", "finished", "stopped", "failed", "interrupted"]
Role = Literal["aia", "control", "single"]

INTERRUPTED = "The process ended without a word: the machine was restarted, or memory ran out. Resume the run."
NO_RESULT = "The process ended without a result; resume the run."

_ID = re.compile(r"[0-9a-f]{16}")
_ENDED = {"stopped", "failed", "interrupted"}
_ACTIVE = {"queued", "running", "stopping"}
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class RunStatus:
    """One run as it is now. `place` is its turn in the queue, from 1; `pair` the other run of a comparison, while it is
    there; `reason` says why it failed or was interrupted; `quiet_seconds` how old its process' last sign of life is,
    which is for showing only: clocks can be set."""

    id: str
    name: str
    role: Role
    pair: str | None
    state: State
    place: int | None
    step: int
    steps: int
    remaining_seconds: float | None
    reason: str | None
    created: float
    config: TrainingConfig | None
    size_bytes: int
    quiet_seconds: float | None = None


# --- files of a run beside those of its training ---


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _Meta(_File):
    format_version: Literal[1] = FORMAT_VERSION
    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    name: str
    created: float
    pair: str | None = Field(None, pattern=r"^[0-9a-f]{16}$")
    role: Role = "single"


class _Ticket(_File):
    number: int = 0  # a damaged one goes first rather than never


class _Stopping(_File):
    """`deadline` by the clock that nobody can set and that all processes of a boot share; `asked` is for reading."""

    asked: float
    grace_seconds: float
    deadline: float


class _Process(_File):
    """`exit` is known only where the server that started the process saw it end; `swept`: nothing of it is left."""

    pid: int = Field(gt=1)
    started: str
    events_from: int = 0
    log_from: int = 0
    exit: int | None = None
    swept: bool = False


class _Heartbeat(_File):
    pid: int = Field(gt=1)
    started: str
    time: float


_Kind = TypeVar("_Kind", bound=_File)


def _load(path: Path, kind: type[_Kind]) -> _Kind | None:
    """A small file's content; None if it is missing or damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _keep(path: Path, content: _File) -> None:
    write_whole(path, content.model_dump_json() + "\n")


def _try_keep(path: Path, content: _File) -> None:
    """Keep what is good to know but must not hold up the rest, as on a full disk."""
    with suppress(OSError):
        _keep(path, content)


def _read_object(path: Path) -> dict | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class _Run(RunFolder):
    """A run folder with the files that this module adds. Reading it never raises: anything may be in there."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.id = path.name
        self.meta, self.queued, self.stopping = path / "meta.json", path / "queued", path / "stopping"
        self.process, self.heartbeat, self.log = path / "process.json", path / "heartbeat", path / "log.txt"

    def live_process(self) -> _Process | _Heartbeat | None:
        """The process at work on this run.

        The heartbeat counts too: a server may have died between starting a process and writing that down.
        """
        for found in (_load(self.process, _Process), _load(self.heartbeat, _Heartbeat)):
            if found is not None and is_alive(found.pid, found.started):
                return found
        return None

    def load_meta(self) -> _Meta | None:
        found = _load(self.meta, _Meta)
        return found if found is not None and found.id == self.id else None

    def load_config(self) -> TrainingConfig | None:
        try:
            return make_config(**(_read_object(self.config) or {"format_version": 0}))
        except ValueError:
            return None

    def fault(self) -> str | None:
        """What is wrong with the folder itself, in one sentence."""
        if self.load_meta() is None:
            version = (_read_object(self.meta) or {}).get("format_version", FORMAT_VERSION)
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
        found = _read_object(self.result)
        return found if found is not None and {"before", "after", "losses", "config"} <= found.keys() else None

    def has_result(self) -> bool:
        try:
            about = self.result.stat()
        except OSError:
            return False
        return _is_result(self.result, about.st_mtime_ns, about.st_size)

    def look_through(self) -> _Traces:
        """What the events say."""
        process = _load(self.process, _Process)
        try:
            about = self.events.stat()
        except OSError:
            return _Traces()
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
def _is_result(path: Path, _mtime_ns: int, _size: int) -> bool:
    return _Run(path.parent).load_result() is not None


@dataclass(frozen=True)
class _Traces:
    """What a run's last events say: where it stands, how long a step takes, and the last event of its last process."""

    step: int = 0
    step_seconds: float | None = None
    last: str | None = None
    reason: str = ""


@lru_cache(maxsize=512)
def _look_through(path: Path, _mtime_ns: int, size: int, since: int) -> _Traces:
    """Read the end of the events; the last process' part begins at byte `since`."""
    first = max(size - TAIL_BYTES, 0)
    try:
        with path.open("rb") as file:
            file.seek(first)
            data = file.read(size - first)
    except OSError:
        return _Traces()
    events = [*_parse_events(data if not first else data.partition(b"\n")[2])]  # first, perhaps a line's end
    own = events if since <= first else [*_parse_events(data[since - first :])]
    stands = [e["step"] for e in events if e["event"] in ("step", "resumed") and type(e.get("step")) is int]
    seconds = [e.get("seconds") for e in events if e["event"] == "step"][-STEPS_TIMED:]
    known = [s for s in seconds if isinstance(s, int | float) and 0 <= s < math.inf]
    return _Traces(
        step=max(stands[-1], 0) if stands else 0,
        step_seconds=statistics.median(known) if known else None,
        last=own[-1]["event"] if own else None,
        reason=str(own[-1].get("reason") or "") if own else "",
    )


def _parse_events(data: bytes) -> Iterator[dict]:
    """Events of whole lines; a corrupt line is passed over."""
    for line in data.split(b"\n"):
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                yield event


# --- the runs ---


def trainer_command(folder: Path) -> list[str]:
    """What runs the fine-tune of a run folder."""
    return [sys.executable, "-m", "backend.run_process", str(folder)]


class Runs:
    """All runs in one folder."""

    def __init__(self, folder: Path, command: Callable[[Path], list[str]] = trainer_command):
        self.folder, self.trash = Path(folder).resolve(), Path(folder).resolve() / "trash"
        self._command = command
        self._children: dict[str, subprocess.Popen] = {}  # to reap them; what counts is in the folders
        self._threads = threading.Lock()

    # --- asking ---

    def list(self) -> builtins.list[RunStatus]:
        """All runs, the newest first; of a pair the one with AIA first."""
        runs = self._all()
        queue = [run.id for run in self._queue(runs)]
        found = [_describe(run, queue) for run in runs if run.path.is_dir()]
        return sorted(found, key=lambda status: (-status.created, status.role == "control", status.id))

    def status(self, run_id: str) -> RunStatus:
        """One run. Raises `UserError` if there is none of that id, as does all below."""
        run = self._find(run_id)
        queue = [other.id for other in self._queue(self._all())] if run.queued.exists() else []
        return _describe(run, queue)

    def events(self, run_id: str, offset: int = 0) -> tuple[builtins.list[dict], int]:
        """Events from byte `offset` on, and the offset to ask with next time; at most some MiB at once.

        A line that is still being written is left for then; a corrupt one is passed over.
        """
        run = self._find(run_id)
        try:
            with run.events.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                offset = min(max(offset, 0), size)
                file.seek(offset)
                data = file.read(EVENTS_AT_ONCE)
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise _say(error) from error
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) == EVENTS_AT_ONCE:  # no line of ours is so long
            return [], offset + len(data)
        return [*_parse_events(data[:whole])], offset + whole

    def log_tail(self, run_id: str, lines: int = 40) -> str:
        """The last lines that the run's processes printed."""
        return "\n".join(self._find(run_id).last_lines(lines))

    def result(self, run_id: str) -> dict | None:
        """What a finished run came to (see `backend.finetune.summarise_run`); None for any other."""
        return self._find(run_id).load_result()

    # --- telling ---

    def start(self, config: TrainingConfig, name: str = "", control: bool = True) -> builtins.list[str]:
        """Queue a run, and with `control` its counterpart without AIA; `tick` starts them. → ids, the AIA run first.

        Raises `UserError` if the model is unknown, the name too long, or the disk has no room or refuses.
        """
        name, paired = _clean(name), control and config.aia
        ids = [secrets.token_hex(8) for _ in range(2 if paired else 1)]
        configs = [config, config.model_copy(update={"aia": False})][: len(ids)]
        roles: tuple[Role, ...] = ("aia", "control") if paired else ("single",)
        created = round(time.time(), 3)
        with self._locked():
            self._check_room(configs)
            number = self._next_number()
            drafts = [self.folder / f".{run_id}.part" for run_id in ids]
            try:
                for i, (draft, own) in enumerate(zip(drafts, configs, strict=True)):
                    pair = ids[1 - i] if paired else None
                    RunFolder(draft).begin(own)
                    _keep(draft / "meta.json", _Meta(id=ids[i], name=name, created=created, pair=pair, role=roles[i]))
                    _keep(draft / "queued", _Ticket(number=number + i))
                for draft, run_id in zip(drafts, ids, strict=True):
                    draft.rename(self.folder / run_id)
            except (OSError, UserError) as error:
                for path in [*drafts, *(self.folder / run_id for run_id in ids)]:
                    shutil.rmtree(path, ignore_errors=True)
                raise _say(error.__cause__ if isinstance(error.__cause__, OSError) else error) from error
        return ids

    def cancel(self, run_id: str, grace_seconds: float = 30) -> None:
        """Stop a run: a queued one at once, a running one after its step and a checkpoint.

        One that has not ended after the grace period is killed by `tick`. Again, with a shorter one: sooner.
        Nothing happens to a run that has ended.
        """
        with self._locked():
            run = self._find(run_id)
            process = run.live_process()
            if process is not None:
                self._ask_to_stop(run, process, grace_seconds)
            elif run.queued.exists():
                with suppress(OSError, UserError):  # where the disk is full, leaving the queue must still be possible
                    run.mend_events()
                    run.append({"event": "stopped"})
            run.queued.unlink(missing_ok=True)

    def resume(self, run_id: str) -> None:
        """Queue a run again that was stopped, failed or was interrupted; it goes on from its last checkpoint."""
        with self._locked():
            run = self._find(run_id)
            state, _ = _derive(run)
            if state not in _ENDED:
                raise UserError(f"Expected a run that ended before it was done, got one that is {state}; let it be.")
            if fault := run.fault():
                raise UserError(fault)
            _keep(run.queued, _Ticket(number=self._next_number()))

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another name."""
        with self._locked():
            run = self._find(run_id)
            meta = run.load_meta()
            if meta is None:
                raise UserError(run.fault() or "Expected a run that can be named, got a damaged one; delete it.")
            _keep(run.meta, meta.model_copy(update={"name": _clean(name)}))

    def delete(self, run_id: str) -> None:
        """Move a run to the trash. Raises `UserError` while it runs or waits."""
        with self._locked():
            run = self._find(run_id)
            if run.live_process() or _derive(run)[0] in _ACTIVE:
                raise UserError("Expected a run that has ended, got one that runs or waits; stop it first.")
            self.trash.mkdir(exist_ok=True)
            with suppress(OSError):
                os.utime(run.path)  # since when it is in the trash; takes no room, which may be what is wanted
            run.path.rename(self.trash / run.id)

    def undelete(self, run_id: str) -> None:
        """Take a run out of the trash."""
        with self._locked():
            path = _find_in(self.trash, run_id)
            if (self.folder / run_id).exists():
                raise UserError("Expected a run that was deleted, got one that is there as well; reload the page.")
            path.rename(self.folder / run_id)

    def empty_trash(self, older_than_days: float = 30) -> int:
        """Remove for good what has been in the trash for so long; → how many runs."""
        with self._locked():
            for draft in self.folder.glob(".????????????????.part"):  # of a start that was killed
                shutil.rmtree(draft, ignore_errors=True)
            old = [p for p in _folders(self.trash) if time.time() - p.stat().st_mtime >= older_than_days * 86_400]
            for path in old:
                shutil.rmtree(path)
        return len(old)

    # --- what goes on by itself ---

    def tick(self) -> None:
        """Whatever is due: note which processes ended, kill what overran its grace, start the next run.

        For every poll, and for a thread of the server; never raises for what a disk does.
        """
        if not self.folder.is_dir():
            return
        try:
            with self._locked():
                runs = self._all()
                self._reap()
                for run in runs:
                    _enforce_grace(run)
                    self._sweep(run)
                busy = [run for run in runs if run.live_process()]
                for run in busy:
                    run.queued.unlink(missing_ok=True)  # its server died while starting it
                if not busy:
                    self._start_next(runs)
        except UserError as error:
            logger.warning("The queue of runs stands still: %s", error)

    def _start_next(self, runs: builtins.list[_Run]) -> None:
        """Start the first run that can be; one that cannot has failed, unless the disk is too full to say so."""
        for run in self._queue(runs):
            try:
                self._launch(run)
                return
            except OSError as error:
                logger.warning("Run %s could not be started: %s", run.id, error)
                reason = f"The run could not be started ({error.strerror or error}); make room or mend it, then resume."
                run.append({"event": "failed", "reason": without_paths(reason)})
                run.queued.unlink(missing_ok=True)

    def _launch(self, run: _Run) -> None:
        """Start a run's process and write down which it is. Raises `OSError`; then none was started."""
        run.stopping.unlink(missing_ok=True)
        events_from = run.mend_events()
        with run.log.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
            log.flush()  # a full disk shows here, before there is a process
            child = subprocess.Popen(
                self._command(run.path),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                close_fds=True,
                start_new_session=True,  # a group of its own, which outlives this server and can be killed whole
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"},
            )
            try:
                started = process_start(child.pid) or ""
                content = _Process(pid=child.pid, started=started, events_from=events_from, log_from=log.tell())
                _keep(run.process, content)
            except OSError:
                _send(child.pid, signal.SIGKILL)
                child.wait()
                raise
        self._children[run.id] = child
        run.queued.unlink()  # last, so that at no moment the run seems neither to wait nor to run

    def _ask_to_stop(self, run: _Run, process: _Process | _Heartbeat, grace_seconds: float) -> None:
        grace_seconds = min(max(grace_seconds, 0.0), LONGEST_GRACE_SECONDS)
        deadline, before = time.monotonic() + grace_seconds, _load(run.stopping, _Stopping)
        if before is not None and before.deadline <= deadline:
            return
        try:
            asked = round(time.time(), 3)
            _keep(run.stopping, _Stopping(asked=asked, grace_seconds=grace_seconds, deadline=deadline))
        except OSError as error:  # a full disk must not keep a run from being stopped; only the kill is lost
            logger.warning("Could not note that run %s was told to stop: %s", run.id, error)
        if before is None:  # a second signal would end it in the middle of its step
            _send(process.pid, signal.SIGTERM)

    def _reap(self) -> None:
        """Note how this server's own children ended."""
        for run_id, child in [*self._children.items()]:
            code = child.poll()
            if code is None:
                continue
            _send_group(child.pid, signal.SIGKILL)  # what it may have left behind
            run = _Run(self.folder / run_id)
            noted = _load(run.process, _Process)
            if noted is not None and noted.pid == child.pid:
                _try_keep(run.process, noted.model_copy(update={"exit": code, "swept": True}))
            del self._children[run_id]

    def _sweep(self, run: _Run) -> None:
        """End, once, what a process left behind that another server started."""
        noted = _load(run.process, _Process)
        if noted is None or noted.swept or run.id in self._children or is_alive(noted.pid, noted.started):
            return
        # A group keeps its number from new processes as long as it has members; after a restart nothing does.
        if boot() and noted.started.endswith(f"@{boot()}") and process_start(noted.pid) in (None, noted.started):
            _send_group(noted.pid, signal.SIGKILL)
        _try_keep(run.process, noted.model_copy(update={"swept": True}))

    # --- the folder ---

    def _all(self) -> builtins.list[_Run]:
        return [_Run(path) for path in _folders(self.folder)]

    def _find(self, run_id: str) -> _Run:
        return _Run(_find_in(self.folder, run_id))

    def _queue(self, runs: builtins.list[_Run]) -> builtins.list[_Run]:
        """The runs that wait, in their order; damaged ones cannot."""
        waiting = [run for run in runs if run.queued.exists() and _derive(run)[0] == "queued"]
        return sorted(waiting, key=lambda run: ((_load(run.queued, _Ticket) or _Ticket()).number, run.id))

    def _next_number(self) -> int:
        """Behind all that wait. No clock: it might have been set back."""
        waiting = (_load(run.queued, _Ticket) for run in self._all())
        return 1 + max((ticket.number for ticket in waiting if ticket), default=0)

    def _check_room(self, configs: builtins.list[TrainingConfig]) -> None:
        needed = sum(needed_bytes(config) for config in configs) + SPARE_BYTES
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise UserError(
                f"Expected {needed / 2**20:,.0f} MiB on the disk for checkpoints, got {free / 2**20:,.0f}; "
                "free some space, or keep fewer checkpoints."
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with the folder, among threads and servers. Raises `UserError` for whatever the disk refuses."""
        with self._threads:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                with FileLock(self.folder / ".lock", timeout=BUSY_SECONDS):
                    yield
            except Timeout as error:
                raise UserError("Expected the runs to be free for a change, got them busy; try again.") from error
            except OSError as error:
                raise _say(error) from error


# --- what a folder says ---


def _describe(run: _Run, queue: list[str]) -> RunStatus:
    state, reason = _derive(run)
    meta, config, traces = run.load_meta(), run.load_config(), run.look_through()
    steps, remaining = config.steps if config else 0, None
    if state == "running" and config and traces.step_seconds is not None:
        remaining = round(traces.step_seconds * max(steps - traces.step, 0), 1)
    pair = meta.pair if meta and (run.path.parent / str(meta.pair)).is_dir() else None
    beat = _load(run.heartbeat, _Heartbeat) if state in ("running", "stopping") else None
    return RunStatus(
        id=run.id,
        name=meta.name if meta else "",
        role=meta.role if meta else "single",
        pair=pair,
        state=state,
        place=queue.index(run.id) + 1 if state == "queued" and run.id in queue else None,
        step=traces.step,
        steps=steps,
        remaining_seconds=remaining,
        reason=reason,
        created=meta.created if meta else _mtime(run.path),
        config=config,
        size_bytes=_size(run.path),
        quiet_seconds=max(time.time() - beat.time, 0.0) if beat else None,
    )


def _derive(run: _Run) -> tuple[State, str | None]:
    """State and, where it ended badly, why. The order of looking matters, since the process goes on meanwhile."""
    queued = run.queued.exists()  # before the process: it is written down before this goes
    if run.live_process() is not None:
        return ("stopping" if run.stopping.exists() else "running"), None
    if fault := run.fault():
        return "failed", fault
    if run.has_result():
        return "finished", None
    if queued:
        return "queued", None
    return _how_it_ended(run)


def _how_it_ended(run: _Run) -> tuple[State, str | None]:
    """Of a run whose process is gone, by what its last process left; an earlier one's end says nothing."""
    process, traces = _load(run.process, _Process), run.look_through()
    if traces.last == "failed":
        return "failed", _sentence(traces.reason or NO_RESULT)
    if traces.last == "stopped" or run.stopping.exists() or (process is None and traces.last is None):
        return "stopped", None
    log = run.last_lines(1, process.log_from if process else 0)
    exit_code = process.exit if process else None
    if exit_code == 0:
        return "failed", NO_RESULT
    if (exit_code or 0) > 0 or (exit_code is None and log and traces.last is None):
        said = without_paths(log[0]) if log else f"The process ended with code {exit_code}; resume the run."
        return "failed", _sentence(said)
    return "interrupted", INTERRUPTED


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…", "!", "?")) else ".")


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    """Bytes of all files; what goes meanwhile counts nothing."""
    total = 0
    for folder, _, files in os.walk(path):
        for file in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, file)).st_size
    return total


# --- ids, names, room ---


def _find_in(folder: Path, run_id: str) -> Path:
    """The run folder of that id. Raises `UserError` for anything that is not an id or not a folder of its own."""
    if isinstance(run_id, str) and _ID.fullmatch(run_id):
        path = folder / run_id
        if path.is_dir() and not path.is_symlink():
            return path
    raise UserError(f"Expected the id of a run, got {str(run_id)[:40]!r}, of which there is none; reload the page.")


def _folders(folder: Path) -> list[Path]:
    """All run folders in a folder; none if it is not there."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _say(error) from error
    return [path for path in entries if _ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]


def _clean(name: str) -> str:
    """A name on one line. Raises `UserError` if it is too long."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if len(name) > LONGEST_NAME:
        raise UserError(f"Expected a name of at most {LONGEST_NAME} characters, got {len(name):,}; shorten it.")
    return name


def needed_bytes(config: TrainingConfig) -> int:
    """What a run will take on the disk, roughly: checkpoints with AdamW's two moments, the adapter, the events.

    The width of the model, which decides how much adapters hold, is reckoned from its parameters and layers.
    Raises `UserError` if the model is unknown.
    """
    spec = find_spec(config.model)
    width = math.sqrt(spec.parameters / (12 * spec.layers))
    share = 1.0 if config.method == "full" else min(1.0, 2 * config.lora_rank / width)
    weights = 4 * spec.parameters * share
    return int(weights * (3 * (config.keep_checkpoints + 1) + 1)) + 500 * config.steps  # one draft beside those kept


def _say(error: BaseException) -> UserError:
    """A disk's refusal in one sentence, without paths."""
    if isinstance(error, UserError):
        return error
    if getattr(error, "errno", None) in _FULL_ERRNOS:
        return UserError("Expected room on the disk for runs, got a full one; free some space, then try again.")
    reason = getattr(error, "strerror", None) or "the disk refused"
    return UserError(f"Expected a folder for runs that can be read and written, got “{reason}”; check its permissions.")


# --- signals ---


def _enforce_grace(run: _Run) -> None:
    """Kill a run, with all it started, that was told to stop and did not in time."""
    if not run.stopping.exists() or (process := run.live_process()) is None:
        return
    asked = _load(run.stopping, _Stopping)
    if asked is None or not 0 < asked.deadline - time.monotonic() <= asked.grace_seconds:
        _send(process.pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    """Signal a run's process, and its whole group where it leads one; one started by hand may be in another's."""
    with suppress(OSError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _send_group(pid: int, number: int) -> None:
    with suppress(OSError):
        os.killpg(pid, number)
