"""The sentences on heads of both tasks. Knows captures, measurements and the models that there are; no map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aia.intensity import Task
from backend.interface import UserError
from backend.kept.captures import Capture
from backend.kept.documents import Stored
from backend.kept.measurements import Measurement
from backend.models.specs import find_spec


def describe(understanding: np.ndarray, generation: np.ndarray, difference: np.ndarray) -> str:
    """The head furthest on either side; maps are [H, L]."""
    if abs(difference).max() < 1e-6:
        return "Answers and drawings rank all heads alike."

    def name(at: int) -> str:
        head, layer = np.unravel_index(at, difference.shape)
        shares = f"{understanding[head, layer]:.2f} on the image, {generation[head, layer]:.2f} on the text"
        return f"head {head + 1} of layer {layer + 1} ({shares})"

    most, least = difference.round(6).argmax(), difference.round(6).argmin()
    return f"Most of all, {name(most)} carries answers but not drawings; {name(least)} the reverse."


def name_measurement(stored: Stored[Measurement]) -> str:
    """A measurement as a list names it."""
    report = stored.document.report
    adapted = ", fine-tuned" if report.adapter else ""
    return stored.document.name or f"measured: {report.model}{adapted}, {report.samples:,} samples, seed {report.seed}"


def apart(captures: Sequence[Capture]) -> str:
    """Why two captures do not show both tasks of one model; empty where they do."""
    a, b = captures
    if a.task == b.task:
        return "A and B are of one task."
    if (a.layers, a.heads) != (b.layers, b.heads):
        return "A and B have other layers or heads."
    return "" if a.key.model == b.key.model else "A and B are of two models."


def nothing_to_set_against(captures: Sequence[Capture]) -> str:
    """What is missing to see both tasks of a model, and what to do."""
    first = captures[0]
    other = Task.GENERATION if first.task == Task.UNDERSTANDING else Task.UNDERSTANDING
    does, partner = ("draw", "a drawing") if other == Task.GENERATION else ("answer", "an answer")
    model = first.key.model
    if other not in _tasks_of(model):
        return f"{model} does not {does}, so its heads cannot be told apart by task; choose a model that does both."
    why = f" {apart(captures)}" if len(captures) > 1 else ""
    return (
        f"This takes both tasks of {model}: choose {partner} by it under “Compare with”, or measure both in the "
        f"Measure tab.{why}"
    )


def _tasks_of(model: str) -> frozenset[Task]:
    """What a model of the list can do; both for one that is not known here."""
    try:
        return find_spec(model).tasks
    except UserError:
        return frozenset(Task)
