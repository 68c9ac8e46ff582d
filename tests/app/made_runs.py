"""Finished fine-tunes without training: the files that one leaves in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from aia.config import TrainingConfig
from aia.evaluation import Score, TaskScores
from aia.intensity import Definition, Task

RUN, CONTROL = "a1b2c3d4e5f60718", "0918273645546372"
LAYERS = 8
STARTS = {Task.GENERATION: 0.6, Task.UNDERSTANDING: 0.7}


def make_pair(runs: Path, name: str = "first try", run: str = RUN, control: str = CONTROL) -> None:
    """A finished run with AIA and its control. Curves fall or rise evenly, so that means can be reckoned by hand."""
    make_run(runs, run, name, "aia", control, after={Task.GENERATION: 0.45, Task.UNDERSTANDING: 0.3})
    make_run(runs, control, name, "control", run, after={Task.GENERATION: 0.62, Task.UNDERSTANDING: 0.68})


def make_run(runs: Path, run: str, name: str, role: str, pair: str | None, after: dict[Task, float]) -> None:
    """One finished run whose curves begin at `STARTS` before and at `after` after training."""
    folder = runs / run
    folder.mkdir(parents=True)
    config = TrainingConfig(aia=role != "control", steps=100, targets="paper-janus-pro")
    meta = {"id": run, "name": name, "created": 1_760_000_000.0, "pair": pair, "role": role}
    (folder / "config.json").write_text(config.model_dump_json())
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "events.jsonl").write_text(json.dumps({"time": 1.0, "event": "finished"}) + "\n")
    result = {
        "before": make_moment(STARTS, 0.9, 0.7),
        "after": make_moment(after, 0.92, 0.74 if role == "aia" else 0.71),
        "losses": [],
        "config": config.model_dump(mode="json"),
    }
    (folder / "result.json").write_text(json.dumps(result))


def make_moment(starts: dict[Task, float], understood: float, drawn: float) -> dict:
    """Curves that go 0.02 per layer, drawing down and answering up; `strict` lies 0.1 lower."""
    intensity, distance = {}, {}
    for task, start in starts.items():
        step = -0.02 if task == Task.GENERATION else 0.02
        mean = start + step * np.arange(LAYERS)
        lower = {Definition.STRICT: 0.1}
        intensity[task.value] = {
            d.value: {"mean": (mean - lower.get(d, 0)).tolist(), "std": [0.05] * LAYERS, "n": 64} for d in Definition
        }
        distance[task.value] = {"aia_loss": 0.0123, "mean_absolute": 0.2}
    rates = {Task.UNDERSTANDING: understood, Task.GENERATION: drawn}
    kinds = {Task.UNDERSTANDING: ("colour", "shape"), Task.GENERATION: ("one object", "counting")}
    scores = {
        task.value: TaskScores({kind: Score(round(150 * rate), 150) for kind in kinds[task]}).as_dict()
        for task, rate in rates.items()
    }
    return {"intensity": intensity, "distance": distance, "scores": scores}
