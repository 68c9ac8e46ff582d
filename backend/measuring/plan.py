"""How many samples of which task there will be: what was asked for, as far as the model can and the prompts go.

Owns that reckoning and the sentences on what is left out. Knows no file and no process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aia.intensity import Task
from backend.interface import UserError
from backend.measurement import MIN_SAMPLES, check_samples
from backend.models.model_spec import ModelSpec

DOING = {Task.UNDERSTANDING: "answering", Task.GENERATION: "drawing"}
PROMPTS = {Task.UNDERSTANDING: "questions", Task.GENERATION: "prompts for drawings"}


@dataclass(frozen=True)
class Plan:
    """How many samples of each task, 0 for none; `notes` say what was asked for and cannot be."""

    counts: dict[Task, int]
    notes: tuple[str, ...] = ()

    def settings(self) -> dict[str, int]:
        """As a config has it."""
        return {task.value: self.counts.get(task, 0) for task in Task}


def make_plan(spec: ModelSpec, task: Task | None, samples: int, available: Mapping[Task, int] | None = None) -> Plan:
    """The plan for one task, or both (None); `available` is how many prompts there are, None for no end of them.

    Of both, a task that the model or the prompts do not have is left out, with a note. Raises `UserError` where
    nothing is left, for too few samples, or a single task that cannot be.
    """
    check_samples(samples)
    notes, counts = [], {}
    for one in Task if task is None else (task,):
        there = samples if available is None else available.get(one, 0)
        if one not in spec.tasks:
            notes.append(f"{spec.title} cannot do {one.value}")
        elif not there:
            notes.append(f"there are no {PROMPTS[one]} in this file")
        elif there < MIN_SAMPLES:
            notes.append(f"this file has 1 of the {PROMPTS[one]}, and a deviation needs {MIN_SAMPLES}")
        else:
            counts[one] = min(samples, there)
    if not counts:
        told = "; ".join(notes)
        raise UserError(
            f"Expected prompts for a task of {spec.title}, got none: {told}; choose other prompts or another model."
        )
    rest = " and ".join(DOING[one] for one in counts)
    said = [f"{note[:1].upper()}{note[1:]}: only {rest} is measured." for note in notes]
    said += [
        f"There are {count:,} {PROMPTS[one]}: all of them are measured."
        for one, count in counts.items()
        if count < samples
    ]
    return Plan(counts, tuple(said))
