"""Measurements that are kept: reports of `backend.measurement`, a JSON file each.

Owns their form, and checks it as hostile input. Knows neither models nor pages, nor how anything was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from aia.intensity import Definition, Task
from backend.kept.captures import MASS_TOLERANCE
from backend.kept.documents import Document, Documents, Plain, clean_line, now

MOST_LAYERS, MOST_HEADS = 512, 512
MOST_SAMPLES = 100_000

Share = Annotated[float, Field(ge=0, le=1 + MASS_TOLERANCE)]
Curve = Annotated[list[Share], Field(min_length=1, max_length=MOST_LAYERS)]
Heads = Annotated[list[Share], Field(min_length=1, max_length=MOST_HEADS)]
Deviation = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1, max_length=MOST_LAYERS)]
Whole = Annotated[int, Field(ge=0, lt=2**63)]


class Sampled(Plain):
    """How tokens were chosen; see `backend.kept.captures.Sampling`."""

    seed: Whole
    temperature: float
    guidance: float
    max_new_tokens: Whole


class Counted(Plain):
    """Curves by one definition; see `backend.measurement.describe_definition`. Older files have no `heads`."""

    mean: Curve
    std: Deviation
    spread: float | None
    definition: Definition
    intensities: list[Curve] = Field(max_length=MOST_SAMPLES)
    heads: list[Heads] | None = Field(None, max_length=MOST_LAYERS)

    @model_validator(mode="after")
    def check_shapes(self) -> Counted:
        _check_shapes(self)
        return self

    def rows(self) -> np.ndarray:
        """Intensities of the samples: float64 [n, L]."""
        return np.array(self.intensities, np.float64).reshape(-1, len(self.mean))


class TaskReport(Plain):
    """One task's part of a report; see `backend.measurement.describe_task`.

    Older files have one definition alone, and neither kinds nor prompt lengths (`tokens`) of their samples. Fields
    keep their order, and new ones come last with a default: an id is a digest of what is written.
    """

    mean: Curve
    std: Deviation
    spread: float | None
    n: int = Field(ge=1, le=MOST_SAMPLES)
    left_out: list[Whole] = Field(max_length=MOST_SAMPLES)
    definition: Definition
    model: str = Field(max_length=200)
    sampling: Sampled
    intensities: list[Curve] = Field(max_length=MOST_SAMPLES)
    heads: list[Heads] | None = Field(None, max_length=MOST_LAYERS)
    kinds: list[Annotated[str, Field(max_length=60)]] | None = Field(None, max_length=MOST_SAMPLES)
    tokens: list[Whole] | None = Field(None, max_length=MOST_SAMPLES)
    others: list[Counted] | None = Field(None, max_length=len(Definition) - 1)

    @model_validator(mode="after")
    def check_shapes(self) -> TaskReport:
        _check_shapes(self)
        others = self.others or []
        per_sample = [self.kinds, self.tokens, self.intensities or None, *(other.intensities for other in others)]
        if any(values is not None and len(values) != self.n for values in per_sample):
            raise ValueError("there must be as many rows as samples")
        if any(len(other.mean) != len(self.mean) for other in others):
            raise ValueError("every definition needs a value for each layer")
        if len({self.definition, *(other.definition for other in others)}) != 1 + len(others):
            raise ValueError("every definition may be there once")
        return self

    @property
    def counted(self) -> dict[Definition, Counted]:
        """What is known by each definition, first by the one that was asked for."""
        own = Counted.model_construct(**{name: getattr(self, name) for name in Counted.model_fields})
        return {one.definition: one for one in (own, *(self.others or ()))}


def _check_shapes(part: Counted | TaskReport) -> None:
    if {len(part.std), *map(len, part.intensities)} - {len(part.mean)}:
        raise ValueError("every row needs a value for each layer")
    if part.heads is not None and (len(part.heads) != len(part.mean) or len(set(map(len, part.heads))) != 1):
        raise ValueError("every layer needs as many heads")


class Correlated(Plain):
    r: float | None
    low: float | None
    high: float | None
    resamples: Whole | None = None  # older files do not say


class Report(Plain):
    """What `measure_model` reports, with the adapter that was at work; tasks that were not measured are None."""

    adapter: str | None = Field(None, max_length=400)
    model: str = Field(min_length=1, max_length=200)
    precision: str | None = Field(None, max_length=40)  # of the weights; None where it was not noted
    seed: Whole
    samples: int = Field(ge=1, le=MOST_SAMPLES)
    understanding: TaskReport | None = None
    generation: TaskReport | None = None
    correlation: Correlated | None = None
    data: str | None = Field(None, max_length=200)  # what the prompts came from; None: the shapes world

    @model_validator(mode="after")
    def check_tasks(self) -> Report:
        if not self.tasks:
            raise ValueError("a task must have been measured")
        return self

    @property
    def tasks(self) -> dict[Task, TaskReport]:
        """The tasks that were measured."""
        found = {task: getattr(self, task.value) for task in Task}
        return {task: part for task, part in found.items() if part is not None}


class Measurement(Document):
    kind: Literal["measurement"] = "measurement"
    report: Report

    @property
    def definition(self) -> Definition:
        """The one that was asked for."""
        return next(iter(self.report.tasks.values())).definition

    def counted(self, task: Task, definition: Definition | None = None) -> Counted:
        """A task's curves by a definition; by the one asked for where the other is not known, or none is named."""
        known = self.report.tasks[task].counted
        return known.get(definition, known[self.report.tasks[task].definition])

    def curve(self, task: Task, definition: Definition | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over samples: float64 [L] each; see `counted`."""
        found = self.counted(task, definition)
        return np.array(found.mean, np.float64), np.array(found.std, np.float64)


class Measurements(Documents[Measurement]):
    """All measurements in one folder."""

    kind, what = Measurement, "measurement"

    def save(self, report: Mapping, name: str = "") -> str:
        """Keep a report of `measure_model` → its id; the same report twice is one measurement.

        Raises `UserError` for anything but a report, and where the disk refuses.
        """
        return self.keep(self.wrap(report, name))

    def wrap(self, report: Mapping, name: str = "") -> Measurement:
        """A report as a measurement, checked, without paths of the machine it was made on. Raises `UserError`."""
        adapter = report.get("adapter")
        plain = {**report, "adapter": shorten_path(adapter) if isinstance(adapter, str) else adapter}
        document = {"kind": "measurement", "name": clean_line(name), "created": now(), "report": plain}
        return self.parse(json.dumps(document).encode())


def shorten_path(path: str) -> str:
    """An adapter's folder by its last two names, such as "aia/adapter": enough to tell which, and no one's home."""
    return "/".join(PurePath(path.replace("\\", "/")).parts[-2:]).lstrip("/")
