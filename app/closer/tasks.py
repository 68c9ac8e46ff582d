"""Which heads carry understanding but not generation, and the reverse: heads of both tasks by their rank in each.

Attention on an image and on a text have no common scale, so a head counts by the share of all heads that give less than
it does, in answers and in drawings. Both tasks come from a capture with a partner of the other task, or from a
measurement of the same model, which has the mean of many samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from aia.intensity import Definition, Task
from app.closer.asked import Asked
from app.closer.heads import head_map
from app.closer.maps import encode
from app.closer.tasks_words import apart, describe, name_measurement, nothing_to_set_against
from backend.kept.captures import Capture
from backend.kept.documents import Stored
from backend.kept.measurements import Measurement, Measurements

PARTNER = "partner"


@dataclass(frozen=True)
class Both:
    """Both tasks of one model: intensity of every head, float64 [H, L] each."""

    id: str  # a measurement's, or `PARTNER`
    name: str
    understanding: np.ndarray
    generation: np.ndarray
    definition: Definition  # that they were counted by

    @property
    def difference(self) -> np.ndarray:
        """Rank among answers minus rank among drawings: float64 [H, L] in −1…1."""
        return rank(self.understanding) - rank(self.generation)


def tasks_sources(measurements: Measurements) -> dict[str, Callable[[Asked], dict[str, Any]]]:
    """The data of the view that need measurements, by the name of their source."""
    return {"head-tasks": lambda asked: read_tasks(asked, measurements)}


def read_tasks(asked: Asked, measurements: Measurements) -> dict[str, Any]:
    """Heads of both tasks, from what `tasks` names or else from the first there is; where nothing is, a sentence."""
    choices = [*_of_pair(asked), *_of_measurements(asked.first, asked.definition, measurements)]
    if not choices:
        return {"choices": [], "sentence": nothing_to_set_against(asked.captures)}
    wanted = asked.values.get("tasks", "")
    chosen = next((one for one in choices if one.id == wanted), choices[0])
    return {
        "choices": [{"id": one.id, "name": one.name} for one in choices],
        "chosen": chosen.id,
        "understanding": encode(chosen.understanding, (0.0, 1.0)),
        "generation": encode(chosen.generation, (0.0, 1.0)),
        "difference": encode(chosen.difference, (-1.0, 1.0)),
        "sentence": describe(chosen.understanding, chosen.generation, chosen.difference),
        "note": "" if chosen.definition == asked.definition else f"That was measured by {chosen.definition} alone.",
    }


def _of_pair(asked: Asked) -> Iterator[Both]:
    if asked.second is None or apart(asked.captures):
        return
    by_task = {one.task: head_map(one, asked.definition) for one in asked.captures}
    if all(np.isfinite(values).all() for values in by_task.values()):
        yield Both(PARTNER, "A and B", by_task[Task.UNDERSTANDING], by_task[Task.GENERATION], asked.definition)


def _of_measurements(capture: Capture, definition: Definition, measurements: Measurements) -> Iterator[Both]:
    """Measurements of both tasks of the capture's model, those with an adapter first where it has one."""
    found = [one for one in measurements.list() if one.document.report.model == capture.key.model]
    found.sort(key=lambda one: bool(one.document.report.adapter) != bool(capture.key.adapter))
    for one in found:
        both = _both_of(one, definition)
        if both is not None and both.understanding.shape == (capture.heads, capture.layers) == both.generation.shape:
            yield both


def _both_of(stored: Stored[Measurement], definition: Definition) -> Both | None:
    """Both tasks of a measurement; None where one was not measured, or not head by head."""
    if set(stored.document.report.tasks) != set(Task):
        return None
    counted = {task: stored.document.counted(task, definition) for task in Task}
    if any(one.heads is None for one in counted.values()):
        return None
    understanding, generation = (np.array(counted[task].heads, np.float64).T for task in Task)
    return Both(stored.id, name_measurement(stored), understanding, generation, counted[Task.UNDERSTANDING].definition)


def rank(values: np.ndarray) -> np.ndarray:
    """The share of all other heads that give less, ties by half: [H, L] → the same in 0…1; ½ for a single head."""
    flat = values.ravel().round(6)
    if len(flat) == 1:
        return np.full(values.shape, 0.5)
    order = np.sort(flat)
    below, upto = np.searchsorted(order, flat, "left"), np.searchsorted(order, flat, "right")
    return ((below + (upto - below - 1) / 2) / (len(flat) - 1)).reshape(values.shape)
