"""Starting the processes of runs, telling them to stop, and noting how they ended.

Owns signals and the children of this server. All it needs to know of a process is in the run's folder, so that another
server can go on where this one was killed. Knows no queue, no states and no lock: whoever calls holds it
(`backend.background.runs`). Nor how a run trains: the command is handed in.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backend.background.run_folder import Beat, Process, Run, Stopping, keep, load, try_keep
from backend.background.run_process import boot, is_alive, process_start

logger = logging.getLogger(__name__)

LONGEST_GRACE_SECONDS = 3600.0

ROOT = Path(__file__).resolve().parents[2]


class Children:
    """The processes that this server started. They are held to reap them; what counts is in the folders."""

    def __init__(self, command: Callable[[Path], list[str]]):
        self._command = command
        self._of: dict[str, tuple[Run, subprocess.Popen]] = {}

    def launch(self, run: Run) -> None:
        """Start a run's process and write down which it is. Raises `OSError`; then none was started."""
        run.stopping.unlink(missing_ok=True)
        events_from = run.mend_events()
        with run.log.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
            log.flush()  # a full disk shows here, before there is a process
            child = self._spawn(run, log)
            try:
                started = process_start(child.pid) or ""
                keep(run.process, Process(pid=child.pid, started=started, events_from=events_from, log_from=log.tell()))
            except OSError:
                _send(child.pid, signal.SIGKILL)
                child.wait()
                raise
        self._of[run.id] = run, child
        logger.info("run started", extra={"run": run.id})
        run.queued.unlink()  # last, so that at no moment the run seems neither to wait nor to run

    def _spawn(self, run: Run, log) -> subprocess.Popen:
        return subprocess.Popen(
            self._command(run.path),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            close_fds=True,
            start_new_session=True,  # a group of its own, which outlives this server and can be killed whole
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def reap(self) -> None:
        """Note how this server's own children ended."""
        for run, child in [*self._of.values()]:
            code = child.poll()
            if code is None:
                continue
            _send_group(child.pid, signal.SIGKILL)  # what it may have left behind
            noted = load(run.process, Process)
            if noted is not None and noted.pid == child.pid:
                try_keep(run.process, noted.model_copy(update={"exit": code, "swept": True}))
            del self._of[run.id]
            logger.info("run ended with code %d", code, extra={"run": run.id})

    def sweep(self, run: Run) -> None:
        """End, once, what a process left behind that another server started."""
        noted = load(run.process, Process)
        if noted is None or noted.swept or run.id in self._of or is_alive(noted.pid, noted.started):
            return
        # A group keeps its number from new processes as long as it has members; after a restart nothing does.
        if boot() and noted.started.endswith(f"@{boot()}") and process_start(noted.pid) in (None, noted.started):
            _send_group(noted.pid, signal.SIGKILL)
        try_keep(run.process, noted.model_copy(update={"swept": True}))


def ask_to_stop(run: Run, process: Process | Beat, grace_seconds: float) -> None:
    """Tell a running run to stop, once; again, with a shorter grace, only brings its end nearer."""
    grace_seconds = min(max(grace_seconds, 0.0), LONGEST_GRACE_SECONDS)
    deadline, before = time.monotonic() + grace_seconds, load(run.stopping, Stopping)
    if before is not None and before.deadline <= deadline:
        return
    try:
        asked = round(time.time(), 3)
        keep(run.stopping, Stopping(asked=asked, grace_seconds=grace_seconds, deadline=deadline))
    except OSError as error:  # a full disk must not keep a run from being stopped; only the kill is lost
        logger.warning("Could not note that run %s was told to stop: %s", run.id, error)
    if before is None:  # a second signal would end it in the middle of its step
        _send(process.pid, signal.SIGTERM)


def enforce_grace(run: Run) -> None:
    """Kill a run, with all it started, that was told to stop and did not in time."""
    if not run.stopping.exists() or (process := run.live_process()) is None:
        return
    asked = load(run.stopping, Stopping)
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
