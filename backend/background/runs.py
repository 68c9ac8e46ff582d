"""Runs in the background: each a folder and a process of its own, one at a time, the others in a queue.

Owns the runs folder, its lock and the queue. What a run folder and its process say is the only truth: a run's state is
derived each time it is asked for, so a server that is killed loses nothing, its running child goes on, and the next
server finds it again. Several threads and servers may share the folder; whatever changes something holds its lock.
Folders of several kinds of runs can share one queue, since all want the same device (`share_device`).

Knows neither pages nor how a run does its work (`backend.finetuning.finetune` trains); what is in a run's folder
(`backend.background.run_folder`), which state that amounts to (`backend.background.run_state`), names and room
(`backend.background.run_room`) and how processes are started and stopped (`backend.background.run_children`) are known
elsewhere.

    <id>/          one run
    trash/<id>/    deleted runs
    .lock          held while something changes
"""

from __future__ import annotations

import builtins
import logging
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from aia.config import TrainingConfig
from backend.background.run_children import Children, ask_to_stop, enforce_grace
from backend.background.run_folder import Meta, Role, Run, Ticket, keep, load, parse_events
from backend.background.run_process import without_paths
from backend.background.run_room import LONGEST_NAME, check_room, clean_name, find_in, list_folders, say_refusal
from backend.background.run_state import ACTIVE, ENDED, RunStatus, State, derive, describe
from backend.interface import UserError
from backend.people.person import check_mine, is_mine, owner_of_new

logger = logging.getLogger(__name__)

BUSY_SECONDS = 10  # how long one server waits for another's change
EVENTS_AT_ONCE = 4 * 2**20

__all__ = ["LONGEST_NAME", "RunStatus", "Runs", "State", "trainer_command"]


def trainer_command(folder: Path) -> list[str]:
    """What runs the fine-tune of a run folder."""
    return [sys.executable, "-m", "backend.background.run_process", str(folder)]


Turn = tuple[int, int, str]  # round and number of its ticket, and the run's id, where two drew the same


def _turn(run: Run) -> Turn:
    ticket = load(run.queued, Ticket) or Ticket()
    return ticket.round, ticket.number, run.id


def share_device(*rooms: Runs) -> None:
    """Have these folders, which lie beside each other, start one run at a time among them, in one queue."""
    for room in rooms:
        room._beside = tuple(other for other in rooms if other is not room)


class Runs:
    """All runs in one folder."""

    kind: type[Run] = Run

    def __init__(
        self,
        folder: Path,
        command: Callable[[Path], list[str]] = trainer_command,
        make_room: Callable[[TrainingConfig], bool] = lambda config: True,
        admit: Callable[..., None] = lambda count, again=False: None,
    ):
        """`make_room` is told which run is about to start; while it returns False, that waits for the next `tick`.

        `admit` is told how many runs somebody wants to queue, and whether `again`; it raises `UserError` for too many.
        """
        self.folder, self.trash = Path(folder).resolve(), Path(folder).resolve() / "trash"
        self._children, self._make_room, self.admit = Children(command), make_room, admit
        self._threads = threading.Lock()
        self._beside: tuple[Runs, ...] = ()

    # --- asking ---

    def list(self, everyones: bool = False) -> builtins.list[RunStatus]:
        """The runs of who asks, or all, the newest first; of a pair the one with AIA first."""
        runs = self._all()
        queue = [run_id for *_, run_id in self._turns(runs)]
        shown = [run for run in runs if everyones or is_mine(run.owner())]
        found = [describe(run, queue) for run in shown if run.path.is_dir()]
        return sorted(found, key=lambda status: (-status.created, status.role == "control", status.id))

    def status(self, run_id: str) -> RunStatus:
        """One run. Raises `UserError` if there is none of that id, as does all below."""
        run = self._find(run_id)
        queue = [other for *_, other in self._turns(self._all())] if run.queued.exists() else []
        return describe(run, queue)

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
            raise say_refusal(error) from error
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) == EVENTS_AT_ONCE:  # no line of ours is so long
            return [], offset + len(data)
        return [*parse_events(data[:whole])], offset + whole

    def log_tail(self, run_id: str, lines: int = 40) -> str:
        """The last lines that the run's processes printed."""
        return "\n".join(self._find(run_id).last_lines(lines))

    def result(self, run_id: str) -> dict | None:
        """What a finished run came to (see `backend.finetuning.finetune.summarise_run`); None for any other."""
        return self._find(run_id).load_result()

    # --- telling ---

    def start(self, config: TrainingConfig, name: str = "", control: bool = True) -> builtins.list[str]:
        """Queue a run, and with `control` its counterpart without AIA; `tick` starts them. → ids, the AIA run first.

        Raises `UserError` if the model is unknown, the name too long, or the disk has no room or refuses.
        """
        if not (control and config.aia):
            return self._enqueue([config], ("single",), name)
        return self._enqueue([config, config.model_copy(update={"aia": False})], ("aia", "control"), name)

    def _check_room(self, configs: builtins.list[TrainingConfig]) -> None:
        check_room(configs, self.folder)

    def _enqueue(self, configs: builtins.list, roles: tuple[Role, ...], name: str) -> builtins.list[str]:
        """Make the folders of one run, or of a pair, and queue them. → ids"""
        name, created, owner = clean_name(name), round(time.time(), 3), owner_of_new()
        ids = [secrets.token_hex(8) for _ in configs]
        with self._locked():
            self._check_room(configs)
            self.admit(len(configs))
            ticket = self._next_ticket(owner)
            drafts = [self.folder / f".{run_id}.part" for run_id in ids]
            try:
                for i, (draft, own) in enumerate(zip(drafts, configs, strict=True)):
                    pair = ids[1 - i] if len(ids) == 2 else None
                    self.kind(draft).begin(own)
                    about = {"name": name, "created": created, "owner": owner}
                    keep(draft / "meta.json", Meta(id=ids[i], pair=pair, role=roles[i], **about))
                    keep(draft / "queued", ticket.model_copy(update={"number": ticket.number + i}))
                for draft, run_id in zip(drafts, ids, strict=True):
                    draft.rename(self.folder / run_id)
            except (OSError, UserError) as error:
                for path in [*drafts, *(self.folder / run_id for run_id in ids)]:
                    shutil.rmtree(path, ignore_errors=True)
                raise say_refusal(error.__cause__ if isinstance(error.__cause__, OSError) else error) from error
        return ids

    def cancel(self, run_id: str, grace_seconds: float = 30) -> None:
        """Stop a run: a queued one at once, a running one after its step and a checkpoint.

        One that has not ended after the grace period is killed by `tick`. Again, with a shorter one: sooner.
        Nothing happens to a run that has ended.
        """
        with self._locked():
            run = self._find_own(run_id)
            process = run.live_process()
            if process is not None:
                ask_to_stop(run, process, grace_seconds)
            elif run.queued.exists():
                with suppress(OSError, UserError):  # where the disk is full, leaving the queue must still be possible
                    run.mend_events()
                    run.append({"event": "stopped"})
            run.queued.unlink(missing_ok=True)

    def resume(self, run_id: str) -> None:
        """Queue a run again that was stopped, failed or was interrupted; it goes on from its last checkpoint."""
        with self._locked():
            run = self._find_own(run_id)
            state, _ = derive(run)
            if state not in ENDED:
                raise UserError(f"Expected a run that ended before it was done, got one that is {state}; let it be.")
            if fault := run.fault():
                raise UserError(fault)
            self.admit(1, again=True)
            keep(run.queued, self._next_ticket(run.owner()))

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another name."""
        with self._locked():
            run = self._find_own(run_id)
            meta = run.load_meta()
            if meta is None:
                raise UserError(run.fault() or "Expected a run that can be named, got a damaged one; delete it.")
            keep(run.meta, meta.model_copy(update={"name": clean_name(name)}))

    def delete(self, run_id: str) -> None:
        """Move a run to the trash. Raises `UserError` while it runs or waits."""
        with self._locked():
            run = self._find_own(run_id)
            if run.live_process() or derive(run)[0] in ACTIVE:
                raise UserError("Expected a run that has ended, got one that runs or waits; stop it first.")
            self.trash.mkdir(exist_ok=True)
            with suppress(OSError):
                os.utime(run.path)  # since when it is in the trash; takes no room, which may be what is wanted
            run.path.rename(self.trash / run.id)

    def undelete(self, run_id: str) -> None:
        """Take a run out of the trash."""
        with self._locked():
            path = find_in(self.trash, run_id)
            check_mine(self.kind(path).owner(), "run")
            if (self.folder / run_id).exists():
                raise UserError("Expected a run that was deleted, got one that is there as well; reload the page.")
            path.rename(self.folder / run_id)

    def empty_trash(self, older_than_days: float = 30) -> int:
        """Remove for good what has been in the trash for so long; → how many runs."""
        with self._locked():
            for draft in self.folder.glob(".????????????????.part"):  # of a start that was killed
                shutil.rmtree(draft, ignore_errors=True)
            old = [p for p in list_folders(self.trash) if time.time() - p.stat().st_mtime >= older_than_days * 86_400]
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
                self._children.reap()
                for run in runs:
                    enforce_grace(run)
                    self._children.sweep(run)
                busy = [run for run in runs if run.live_process()]
                for run in busy:
                    run.queued.unlink(missing_ok=True)  # its server died while starting it
                if not busy:
                    with self._device() as mine:
                        if mine:
                            self._start_next(runs)
        except UserError as error:
            logger.warning("The queue of runs stands still: %s", error)

    def _start_next(self, runs: builtins.list[Run]) -> None:
        """Start the first run that can be; one that cannot has failed, unless the disk is too full to say so."""
        theirs = min((turn for other in self._beside for turn in other._own_turns()), default=None)
        for run in self._queue(runs):
            if theirs is not None and theirs < _turn(run):
                return  # one of another folder is next, and whoever looks after that starts it
            if not self._make_room(run.load_config()):
                return
            try:
                self._children.launch(run)
                return
            except OSError as error:
                logger.warning("Run %s could not be started: %s", run.id, error)
                reason = f"The run could not be started ({error.strerror or error}); make room or mend it, then resume."
                run.append({"event": "failed", "reason": without_paths(reason)})
                run.queued.unlink(missing_ok=True)

    # --- the folder ---

    def _all(self) -> builtins.list[Run]:
        return [self.kind(path) for path in list_folders(self.folder)]

    def _find(self, run_id: str) -> Run:
        return self.kind(find_in(self.folder, run_id))

    def _find_own(self, run_id: str) -> Run:
        """A run that who asks may change; any other is only to be looked at."""
        run = self._find(run_id)
        check_mine(run.owner(), "run")
        return run

    def _queue(self, runs: builtins.list[Run]) -> builtins.list[Run]:
        """The runs that wait, in their order; damaged ones cannot."""
        waiting = [run for run in runs if run.queued.exists() and derive(run)[0] == "queued"]
        return sorted(waiting, key=_turn)

    def _own_turns(self) -> builtins.list[Turn]:
        return [_turn(run) for run in self._queue(self._all())]

    def _turns(self, runs: builtins.list[Run]) -> builtins.list[Turn]:
        """Whose turn it is, in this folder and those beside it."""
        return sorted([_turn(run) for run in self._queue(runs)] + [t for o in self._beside for t in o._own_turns()])

    def _next_ticket(self, owner: str) -> Ticket:
        """Behind all of one's own that wait, and behind as many of each other's. No clock: it might have been set back.

        Where everything is one person's, first come is first served.
        """
        runs = [run for room in (self, *self._beside) for run in room._all()]
        waiting = [(ticket, run.owner()) for run in runs if (ticket := load(run.queued, Ticket))]
        number = 1 + max((ticket.number for ticket, _ in waiting), default=0)
        first = min((ticket.round for ticket, _ in waiting), default=0)
        own = [ticket.round + 1 for ticket, whose in waiting if whose == owner]
        return Ticket(number=number, round=max([first, *own]))

    @contextmanager
    def _device(self) -> Iterator[bool]:
        """Whether a run may start now. Where folders share a device, one at a time looks and starts."""
        if not self._beside:
            yield True
            return
        lock = FileLock(self.folder.parent / ".device.lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            yield False  # the next tick looks again
            return
        try:
            yield not any(run.live_process() for other in self._beside for run in other._all())
        finally:
            lock.release()

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
                raise say_refusal(error) from error
