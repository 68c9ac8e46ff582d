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
from backend.background.runs import Runs

KEPT_RUNS = 32
STEPS_TIMED = 20
_OF_A_STEP = ("step", "measured", "scored", "sampled")  # kinds of events
_KEPT = ("step", "task", "ntp", *(f"aia_{task}" for task in Task), "seconds")
STEP_OVERHEAD = 8  # a step takes as long as its samples and so many more: optimizer, small matrices


@dataclass(frozen=True)
class RunRecord:
    """Events in order of steps; one that was done again after a resume counts once."""

    steps: tuple[dict[str, Any], ...] = ()
    measured: tuple[dict[str, Any], ...] = ()
    scores: dict[int, dict[str, Any]] | None = None  # by step
    last: str = ""  # kind of the newest event
    pieces: tuple[tuple[str, int, float], ...] = ()  # (kind, step, seconds) of what is not a step
    asked: tuple[dict[str, Any], ...] = ()  # what samples are of; see `backend.finetuning.samples`
    sampled: dict[int, tuple[dict[str, Any], ...]] | None = None  # by step, in the order asked

    @property
    def step_seconds(self) -> float | None:
        """Median of the newest steps."""
        known = [float(e["seconds"]) for e in self.steps[-STEPS_TIMED:] if "seconds" in e]
        return median(known) if known else None

    def score(self, step: int) -> dict[str, Any] | None:
        return (self.scores or {}).get(step)

    def sampled_at(self, step: int) -> tuple[dict[str, Any], ...] | None:
        return (self.sampled or {}).get(step)

    def measured_at(self, step: int) -> dict[str, Any] | None:
        return next((m for m in self.measured if m["step"] == step), None)


class Notes:
    """A run's events as they come in, each step once. Of steps only what is shown is kept: there may be very many."""

    def __init__(self) -> None:
        self._steps: dict[int, dict[str, Any]] = {}
        self._measured: dict[int, dict[str, Any]] = {}
        self._scores: dict[int, dict[str, Any]] = {}
        self._sampled: dict[int, tuple[dict[str, Any], ...]] = {}
        self._asked: tuple[dict[str, Any], ...] = ()
        self._pieces: list[tuple[str, int, float]] = []
        self._last, self._time = "", None

    def take(self, event: dict[str, Any]) -> None:
        """Sort in the next event."""
        kind, step, time = event["event"], event.get("step"), event.get("time", 0)
        if kind in _OF_A_STEP and type(step) is not int:  # not ours: a file can be written by anything
            return
        if kind == "step":
            self._steps[step] = {name: event[name] for name in _KEPT if name in event}
        elif kind == "measured":
            self._measured[step] = event
        elif kind == "scored":
            self._scores[step] = event["scores"]
        elif kind == "asked":
            self._asked = tuple(event["items"])
        elif kind == "sampled":
            self._sampled[step] = tuple(event["items"])
        if kind in ("measured", "scored", "sampled") and self._time is not None and step > 0:
            self._pieces.append((kind, step, time - self._time))
        self._last, self._time = kind, time

    def record(self) -> RunRecord:
        """What they come to so far."""
        steps, measured = (tuple(found[step] for step in sorted(found)) for found in (self._steps, self._measured))
        sampled = dict(sorted(self._sampled.items()))
        return RunRecord(
            steps, measured, dict(self._scores), self._last, tuple(self._pieces), asked=self._asked, sampled=sampled
        )


def make_record(events: Iterable[dict[str, Any]]) -> RunRecord:
    """Sort a run's events."""
    notes = Notes()
    for event in events:
        notes.take(event)
    return notes.record()


class RunReader:
    """Records of the runs, for all who look at them."""

    def __init__(self, runs: Runs):
        self._runs = runs
        self._read: OrderedDict[str, tuple[Notes, RunRecord, int]] = OrderedDict()
        self._lock = threading.Lock()

    def record(self, run_id: str | None) -> RunRecord:
        """The record of a run as it is now; an empty one for no run. Raises `UserError` if there is none of that id."""
        if not run_id:
            return RunRecord()
        with self._lock:
            notes, record, offset = self._read.pop(run_id, (Notes(), RunRecord(), 0))
            begun = offset
            while True:
                new, following = self._runs.events(run_id, offset)
                if following < offset:  # another run of that id, or none yet
                    notes, record, offset, begun = Notes(), RunRecord(), 0, 0
                    continue
                for event in new:
                    notes.take(event)
                if following == offset:
                    break
                offset = following
            if offset != begun:
                record = notes.record()
            self._read[run_id] = notes, record, offset
            while len(self._read) > KEPT_RUNS:
                self._read.popitem(last=False)
            return record


@dataclass(frozen=True)
class Timings:
    """Seconds per sample on this machine: of a training step (see `STEP_OVERHEAD`), of measuring curves, of scoring, of
    drawing and answering on the way."""

    step: float
    probe: float
    score: float
    measured: bool  # from a run on this machine, or only a rule of thumb
    sample: float = 0.0


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
        sample=per_sample("sampled", config.sample_count, otherwise.sample),
    )


def rough_timings(parameters: int) -> Timings:
    """A rule of thumb for two cores without a GPU: tiny-janus' own seconds, scaled by the number of parameters."""
    size = parameters / 4.06e6
    return Timings(0.07 * size, 0.04 * size, 0.4 * size, measured=False, sample=0.4 * size)


def estimate_seconds(config: TrainingConfig, timings: Timings, control: bool) -> float:
    """Steps, measurements, samples and the scores before and after, of one run or of two."""
    probes = 2 + (config.steps - 1) // config.probe_every
    seconds = (
        config.steps * (config.batch_size + STEP_OVERHEAD) * timings.step
        + probes * len(Task) * config.probe_samples * timings.probe
        + 2 * config.score_samples * timings.score
        + probes * config.sample_count * timings.sample
    )
    return seconds * (2 if control and config.aia else 1)
