"""What state a run is in, derived from its folder and its process each time it is asked for.

Owns the states and the order of looking. Changes nothing, and knows neither the queue's rules nor how processes are
started and ended (`backend.background.runs`, `backend.background.run_children`).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aia.config import TrainingConfig
from backend.background.run_folder import Beat, Process, Role, Run, load
from backend.background.run_process import TAKEN, without_paths
from backend.interface import as_sentence
from backend.people.person import is_mine

State = Literal["queued", "running", "stopping", "finished", "stopped", "failed", "interrupted"]

ENDED = {"stopped", "failed", "interrupted"}
ACTIVE = {"queued", "running", "stopping"}
INTERRUPTED = "The process ended without a word: the machine was restarted, or memory ran out. Resume the run."
NO_RESULT = "The process ended without a result; resume the run."


@dataclass(frozen=True)
class RunStatus:
    """One run as it is now. `place` is its turn in the queue, from 1; `pair` the other run of a comparison, while it is
    there; `mine` whether it is of who asks; `reason` says why it failed or was interrupted; `quiet_seconds` how old its
    process' last sign of life is, which is for showing only: clocks can be set."""

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
    mine: bool = True

    @property
    def title(self) -> str:
        """The name it was given, else what it does."""
        if self.name:
            return self.name
        return f"{self.config.model}, {self.config.steps:,} steps" if self.config else "a damaged run"


def describe(run: Run, queue: list[str]) -> RunStatus:
    state, reason = derive(run)
    meta, config, traces = run.load_meta(), run.load_config(), run.look_through()
    steps, remaining = config.steps if config else 0, None
    if state == "running" and config and traces.step_seconds is not None:
        remaining = round(traces.step_seconds * max(steps - traces.step, 0), 1)
    pair = meta.pair if meta and (run.path.parent / str(meta.pair)).is_dir() else None
    beat = load(run.heartbeat, Beat) if state in ("running", "stopping") else None
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
        mine=is_mine(meta.owner if meta else ""),
    )


def derive(run: Run) -> tuple[State, str | None]:
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


def _how_it_ended(run: Run) -> tuple[State, str | None]:
    """Of a run whose process is gone, by what its last process left; an earlier one's end says nothing."""
    process, traces = load(run.process, Process), run.look_through()
    if traces.last == "failed":
        return "failed", as_sentence(traces.reason or NO_RESULT)
    if traces.last == "stopped" or run.stopping.exists() or (process is None and traces.last is None):
        return "stopped", None
    log = run.last_lines(1, process.log_from if process else 0)
    exit_code = process.exit if process else None
    if exit_code == TAKEN:  # another, which a server started that died before it could note it, was at work
        return "interrupted", INTERRUPTED
    if exit_code == 0:
        return "failed", NO_RESULT
    if (exit_code or 0) > 0 or (exit_code is None and log and traces.last is None):
        said = without_paths(log[0]) if log else f"The process ended with code {exit_code}; resume the run."
        return "failed", as_sentence(said)
    return "interrupted", INTERRUPTED


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
