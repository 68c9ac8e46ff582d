"""The process of one run that was started in the background: `python -m backend.background.run_process FOLDER` trains.

Owns what such a process does besides its work: it stops politely on a signal, shows that it is alive, lets the page
go first, and turns every way of failing into an event. Also how a process is told from a later one of the
same number. Knows neither the queue nor who started it (`backend.background.runs`), nor how its work is done.

    heartbeat        pid, start time of the process, time; at every event and every few seconds
    process.lock     held as long as the process lives, so that no two work on one run
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout

from backend.cores import count_cores
from backend.interface import Cancelled, UserError

# PyTorch is imported late: how its threads wait has to be said before.

HEARTBEAT_SECONDS = 2.0
NICENESS = 5
LOCK_SECONDS = 10.0  # a killed process holds its lock until the last of its threads has ended, when it seems gone
OUT_OF_MEMORY = "Memory ran out; what was checkpointed is kept: free some, then resume, or choose smaller settings."
FINISHED, FAILED, MISUSED, TAKEN, STOPPED = 0, 1, 2, 3, 130  # exit codes

_DEAD = {"Z", "X", "x"}  # zombies keep their number, but nothing runs
_QUOTED_PATH = re.compile(r"""(["'])(?:~?/|[A-Za-z]:[\\/])[^"']*\1""")
_PATH = re.compile(r"""(?<![^\s("'=<])(?:~?/|[A-Za-z]:[\\/])[^\s"',;:)>]+""")


Work = Callable[[Path, Callable[[dict], None], Callable[[], bool]], object]  # folder, listener, whether to stop


def fine_tune(folder: Path, listen: Callable[[dict], None], should_stop: Callable[[], bool]) -> None:
    """The work of a fine-tune."""
    from backend.finetuning.finetune import finetune

    finetune(folder, None, listen, should_stop)


def main(arguments: list[str], work: Work = fine_tune) -> int:
    """Do the work whose config.json is in the folder; go on with it where it has begun. → exit code."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "config.json").is_file():
        print("Expected the folder of a run with its config.json; name one.", file=sys.stderr)
        return MISUSED
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would take the page's core
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Past Python's buffers: a signal may come in the middle of a line.
    should_stop = stop_on_signals(lambda: os.write(2, b"stopping after this step\n"))
    folder = Path(arguments[0]).resolve()
    try:
        with FileLock(folder / "process.lock", timeout=LOCK_SECONDS):
            return run(folder, should_stop, work)
    except Timeout:
        print("Another process works on this run; wait for it to end.", file=sys.stderr)
        return TAKEN


def run(folder: Path, should_stop: Callable[[], bool], work: Work = fine_tune) -> int:
    """The work under a heartbeat, every failure an event. → exit code."""
    with Heartbeat(folder) as heartbeat:
        from aia.training import is_out_of_memory
        from backend.finetuning.finetune import RunFolder

        leave_a_core_free()
        files = RunFolder(folder)
        known = len(files.read_events())
        try:
            work(folder, lambda event: heartbeat.beat(), should_stop)
            return FINISHED
        except Cancelled:
            return STOPPED
        except UserError as error:
            reason = str(error)
        except Exception as error:
            logging.getLogger(__name__).exception("the run broke off")
            reason = f"The run broke off ({describe(error)}); change its settings, or see its log for more."
            if is_out_of_memory(error):
                reason = OUT_OF_MEMORY
        print(reason, file=sys.stderr, flush=True)
        if not any(event["event"] == "failed" for event in files.read_events()[known:]):
            with suppress(UserError):  # a full disk: the log has the reason, and if not it, the exit code
                files.append({"event": "failed", "reason": reason})
        return FAILED


def give_way() -> None:
    """Have the page's work go first where both want a core; while nothing else does, this takes nothing away.

    Of threads started after this one call, so before PyTorch is imported; and of this whole process, for good.
    """
    with suppress(OSError):
        os.nice(NICENESS)
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # it never cuts in on a thread that has just woken up
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # Linux may share cores out by sessions, and heed niceness only within one
            Path("/proc/self/autogroup").write_text(str(NICENESS))


def leave_a_core_free() -> None:
    """Limit PyTorch's threads, unless the user has, and keep progress bars out of the log."""
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, count_cores() - 1))


def stop_on_signals(tell: Callable[[], object] = lambda: None) -> Callable[[], bool]:
    """Ctrl-C, or a polite kill, lets the step end and writes a checkpoint; a second one does as usual.

    → what says whether one has come; `tell` is called when it does. Only the main thread may set this up.
    """
    asked = threading.Event()

    def stop(number: int, _frame) -> None:
        asked.set()
        signal.signal(number, signal.SIG_DFL)
        tell()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return asked.is_set


class Heartbeat:
    """Writes a run's heartbeat from a thread of its own, also while a step takes long. A full disk only silences it."""

    def __init__(self, folder: Path, seconds: float = HEARTBEAT_SECONDS):
        self._path, self._draft = folder / "heartbeat", folder / ".heartbeat.part"
        self._started, self._seconds = process_start(os.getpid()) or "", seconds
        self._lock, self._over = threading.Lock(), threading.Event()

    def __enter__(self) -> Heartbeat:
        self.beat()
        threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()

    def beat(self) -> None:
        """Write it now."""
        content = {"pid": os.getpid(), "started": self._started, "time": round(time.time(), 3)}
        with self._lock, suppress(OSError):
            self._draft.write_text(json.dumps(content) + "\n")
            self._draft.replace(self._path)

    def _keep_beating(self) -> None:
        while not self._over.wait(self._seconds):
            self.beat()


# --- processes ---


def process_start(pid: int) -> str | None:
    """When the process of that number started, as text that no later process of that number has; None if none is.

    Reads no clock that can be set: ticks since this boot of the kernel, and which boot it was.
    """
    found = _look_up(pid)
    return None if found is None else found[1]


def is_alive(pid: int, started: str) -> bool:
    """Whether that very process still runs; a zombie does not."""
    found = _look_up(pid)
    return found is not None and found[1] == started and found[0] not in _DEAD


@lru_cache(maxsize=1)
def boot() -> str:
    """Which boot of this machine it is; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _look_up(pid: int) -> tuple[str, str] | None:
    """State and start of a process."""
    if not Path("/proc/self/stat").exists():
        return _ask_ps(pid)
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return after_name[0], f"{after_name[19]}@{boot()}"
    except (OSError, IndexError):
        return None


def _ask_ps(pid: int) -> tuple[str, str] | None:
    """The same where there is no /proc, as on macOS; to a second."""
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    try:
        told = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C", "TZ": "UTC"})
    except OSError:
        return None
    state, _, started = told.stdout.strip().partition(" ")
    return (state[0], " ".join(started.split())) if state and started else None


# --- words ---


def describe(error: Exception) -> str:
    """An unexpected error in a few words, without paths of this machine."""
    first = (str(error).strip().splitlines() or [""])[0]
    return without_paths(f"{type(error).__name__}: {first}" if first else type(error).__name__)


def without_paths(text: str, longest: int = 240) -> str:
    """The text with every path of a file as “…”, cut off where it is too long."""
    text = _PATH.sub("…", _QUOTED_PATH.sub("…", text))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


if __name__ == "__main__":
    give_way()
    sys.exit(main(sys.argv[1:]))
