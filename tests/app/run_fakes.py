"""Runs without processes: states and events that a test sets, behind the methods that the page calls."""

from __future__ import annotations

from dataclasses import replace

from aia.config import TrainingConfig
from aia.intensity import Task
from backend.background.runs import RunStatus
from backend.interface import UserError

LAYERS = 8
CURVES = {Task.GENERATION: 0.2, Task.UNDERSTANDING: 0.6}


def make_status(run_id="a" * 16, state="running", role="single", pair=None, step=0, steps=4, **rest):
    config = TrainingConfig(steps=steps, batch_size=2, aia=role != "control")
    known = {"name": "", "place": None, "remaining_seconds": None, "reason": None, "created": 1_760_000_000.0}
    return RunStatus(
        id=run_id,
        role=role,
        pair=pair,
        state=state,
        step=step,
        steps=steps,
        config=config,
        size_bytes=3 * 2**20,
        **(known | rest),
    )


def step_event(step, task, seconds=0.5):
    return {"event": "step", "step": step, "of": 4, "task": task, "ntp": 1.0 / step, f"aia_{task}": 0.1 / step} | {
        "seconds": seconds
    }


def measured_event(step, shift=0.0, distance=0.2, time=0.0):
    """Every definition has the same flat curve."""
    kinds = ("figure", "training", "strict")
    curves = {
        task.value: {kind: {"mean": [level + shift] * LAYERS, "std": [0.1] * LAYERS, "n": 8} for kind in kinds}
        for task, level in CURVES.items()
    }
    distances = {task.value: {"aia_loss": 0.01, "mean_absolute": distance} for task in Task}
    return {"event": "measured", "step": step, "intensity": curves, "distance": distances, "time": time}


def scored_event(step, generation, understanding, half=0.05):
    scores = {
        task: {"overall": rate, "by_kind": {}, "interval": {"overall": [rate - half, rate + half]}}
        for task, rate in (("generation", generation), ("understanding", understanding))
    }
    return {"event": "scored", "step": step, "scores": {"model": "tiny-janus", **scores}, "time": 8.0}


def asked_event():
    items = [
        {"task": "generation", "text": "a red star", "answer": "", "file": "asked/item-0.png"},
        {"task": "understanding", "text": "how many?", "answer": "two", "file": "asked/item-1.png"},
    ]
    return {"event": "asked", "items": items}


def sampled_event(step, drawn=True, answer="two"):
    items = [{"file": f"{step}/item-0.png", "right": drawn}, {"text": answer, "right": answer == "two"}]
    return {"event": "sampled", "step": step, "items": items}


def whole_run(closer=0.1):
    """Events of a finished run of four steps."""
    return [
        {"event": "started"},
        {"event": "scoring", "step": 0, "time": 0.0},
        scored_event(0, 0.5, 0.9),
        measured_event(0, time=8.0),
        asked_event(),
        sampled_event(0),
        {"event": "checkpoint", "step": 0},
        step_event(1, "generation"),
        step_event(2, "understanding"),
        measured_event(2, 0.05, 0.2 - closer / 2, time=10.0),
        sampled_event(2, drawn=False),
        step_event(3, "generation"),
        step_event(4, "understanding"),
        measured_event(4, 0.1, 0.2 - closer, time=12.0),
        sampled_event(4, answer="three"),
        {"event": "scoring", "step": 4, "time": 4.0},
        scored_event(4, 0.55, 0.7),
        {"event": "finished", "seconds": 20},
    ]


class FakeRuns:
    """`runs` and `told` are set and read by tests; `reads` counts the events handed out."""

    def __init__(self, *runs, events=None, folder=None):
        self.runs = {run.id: run for run in runs}
        self.told = {run.id: list(whole_run()) for run in runs} | (events or {})
        self.folder = folder
        self.trash, self.started, self.ticks, self.reads = {}, [], 0, 0

    def list(self, everyones=False):
        return list(self.runs.values())

    def status(self, run_id):
        if run_id not in self.runs:
            raise UserError("Expected the id of a run, got another; reload the page.")
        return self.runs[run_id]

    def events(self, run_id, offset=0):
        self.status(run_id)
        new = self.told[run_id][offset:]
        self.reads += len(new)
        return new, len(self.told[run_id])

    def log_tail(self, run_id, lines=40):
        return "a line of the log"

    def start(self, config, name="", control=True):
        self.started.append((config, name, control))
        ids = [character * 16 for character in "bc"[: 2 if control else 1]]
        for run_id in ids:
            self.runs = {run_id: make_status(run_id, "queued", name=name), **self.runs}
            self.told[run_id] = []
        return ids

    def cancel(self, run_id):
        self._become(run_id, "stopped")

    def resume(self, run_id):
        if self.status(run_id).state == "finished":
            raise UserError("Expected a run that ended before it was done, got one that is finished; let it be.")
        self._become(run_id, "queued")

    def rename(self, run_id, name):
        self.runs[run_id] = replace(self.status(run_id), name=name)

    def delete(self, run_id):
        self.trash[run_id] = self.runs.pop(run_id)

    def undelete(self, run_id):
        self.runs[run_id] = self.trash.pop(run_id)

    def tick(self):
        self.ticks += 1

    def _become(self, run_id, state):
        self.runs[run_id] = replace(self.status(run_id), state=state)
