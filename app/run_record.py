"""What a run's events come to: its steps, measurements and scores so far. Reads only what was appended since last time.

Knows the events' form and `Runs.events`; no sentence, no figure, no page. What is kept between readings belongs to
the runs, not to who looks at them: it can be dropped at any time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from aia.config import TrainingConfig
from aia.intensity import Task
from backend.runs import Runs

KEPT_RUNS = 32
STEPS_TIMED = 20
STEP_OVERHEAD = 8  # a step takes as long as its samples and so many more: optimizer, small matrices


@dataclass(frozen=True)
class RunRecord:
    """Events in order of steps; one that was done again after a resume counts once."""

    steps: tuple[dict[str, Any], ...] = ()
    measured: tuple[dict[str, Any], ...] = ()
    scores: dict[int, dict[str, Any]] | None = None  # by step
    last: str = ""  # kind of the newest event
    pieces: tuple[tuple[str, int, float], ...] = ()  # (kind, step, seconds) of what is not a step

    @property
    def step_seconds(self) -> float | None:
        """Median of the newest steps."""
        known = [float(e["seconds"]) for e in self.steps[-STEPS_TIMED:] if "seconds" in e]
        return median(known) if known else None

    def score(self, step: int) -> dict[str, Any] | None:
        return (self.scores or {}).get(step)

    def measured_at(self, step: int) -> dict[str, Any] | None:
        return next((m for m in self.measured if m["step"] == step), None)


def make_record(events: Iterable[dict[str, Any]]) -> RunRecord:
    """Sort a run's events."""
    steps, measured, scores, pieces, before, kind = {}, {}, {}, [], None, ""
    for event in events:
        kind = event["event"]
        if kind == "step":
            steps[event["step"]] = event
        elif kind == "measured":
            measured[event["step"]] = event
        elif kind == "scored":
            scores[event["step"]] = event["scores"]
        if kind in ("measured", "scored") and before and event["step"] > 0:
            pieces.append((kind, event["step"], event.get("time", 0) - before.get("time", 0)))
        before = event
    in_order = (tuple(found[step] for step in sorted(found)) for found in (steps, measured))
    return RunRecord(*in_order, scores, kind, tuple(pieces))


class RunReader:
    """Records of the runs, for all who look at them."""

    def __init__(self, runs: Runs):
        self._runs = runs
        self._read: OrderedDict[str, tuple[list[dict[str, Any]], int]] = OrderedDict()
        self._lock = threading.Lock()

    def record(self, run_id: str | None) -> RunRecord:
        """The record of a run as it is now; an empty one for no run. Raises `UserError` if there is none of that id."""
        if not run_id:
            return RunRecord()
        with self._lock:
            events, offset = self._read.pop(run_id, ([], 0))
            while True:
                new, following = self._runs.events(run_id, offset)
                if following < offset:  # another run of that id, or none yet
                    events, offset = [], 0
                    continue
                events.extend(new)
                if following == offset:
                    break
                offset = following
            self._read[run_id] = events, offset
            while len(self._read) > KEPT_RUNS:
                self._read.popitem(last=False)
            return make_record(events)


@dataclass(frozen=True)
class Timings:
    """Seconds per sample on this machine: of a training step (see `STEP_OVERHEAD`), of measuring curves, of scoring."""

    step: float
    probe: float
    score: float
    measured: bool  # from a run on this machine, or only a rule of thumb


def find_timings(record: RunRecord, config: TrainingConfig, otherwise: Timings) -> Timings:
    """What a run took per sample; where it says nothing, `otherwise`."""
    if record.step_seconds is None:
        return otherwise

    def per_sample(kind: str, samples: int, fallback: float) -> float:
        known = [seconds for piece, _, seconds in record.pieces if piece == kind and seconds > 0]
        return median(known) / samples if known and samples else fallback

    return Timings(
        record.step_seconds / (config.batch_size + STEP_OVERHEAD),
        per_sample("measured", len(Task) * config.probe_samples, otherwise.probe),
        per_sample("scored", config.score_samples, otherwise.score),
        measured=True,
    )


def rough_timings(parameters: int) -> Timings:
    """A rule of thumb for two cores without a GPU: tiny-janus' own seconds, scaled by the number of parameters."""
    size = parameters / 4.06e6
    return Timings(0.07 * size, 0.04 * size, 0.4 * size, measured=False)


def estimate_seconds(config: TrainingConfig, timings: Timings, control: bool) -> float:
    """Steps, measurements and the scores before and after, of one run or of two."""
    probes = 2 + (config.steps - 1) // config.probe_every
    seconds = (
        config.steps * (config.batch_size + STEP_OVERHEAD) * timings.step
        + probes * len(Task) * config.probe_samples * timings.probe
        + 2 * config.score_samples * timings.score
    )
    return seconds * (2 if control and config.aia else 1)
