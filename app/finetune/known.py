"""What earlier work knows about a model: its curves as they are now, what can be fitted to, and how long a run takes.

Reads runs, measurements and captures; draws and says nothing but where a curve comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from aia.config import TrainingConfig
from aia.intensity import Definition, Task
from app.finetune import run_views as views
from app.finetune.run_figures import Curve
from app.finetune.run_record import RunReader, Timings, find_timings, rough_timings
from backend.background.runs import Runs
from backend.comparison import Comparables, Series
from backend.embedded import load_embedded
from backend.interface import UserError
from backend.models.specs import ModelSpec, find_spec

MOMENTS = ("after", "before")  # of a run that can be fitted to


class KnownCurves(NamedTuple):
    """Curves [L] by task, and who measured them; none where nobody has."""

    curves: dict[Task, Curve]
    source: str = ""


class Known:
    """All that one data folder knows. `things` is None where only runs are at hand."""

    def __init__(self, runs: Runs, reader: RunReader, specs: tuple[ModelSpec, ...], things: Comparables | None):
        self.runs, self.reader, self.specs, self.things = runs, reader, specs, things

    # --- the model's curves ---

    def curves(self, model: str, start_from: str, definition: str) -> KnownCurves:
        """Those that training would start at: of the adapter to go on from, else of the base model."""
        ways: tuple[Callable[[], KnownCurves], ...] = (
            lambda: self._from_runs(model, definition),
            lambda: self._from_measurements(model, definition),
            lambda: self._embedded(model, definition),
            lambda: self._from_captures(model, definition),
        )
        if start_from:
            ways = (lambda: self._after(start_from, definition),)
        return next((found for found in (way() for way in ways) if found.curves), KnownCurves({}))

    def _after(self, run: str, definition: str) -> KnownCurves:
        try:
            measured = self.reader.record(run).measured
        except UserError:
            return KnownCurves({})
        curves = views.curves_at(measured[-1], definition) if measured else {}
        return KnownCurves(curves, "the run to go on from")

    def _from_runs(self, model: str, definition: str) -> KnownCurves:
        for run in self.runs.list():
            about = run.config and (run.config.model, run.config.start_from, run.config.data)
            if about != (model, None, "world"):  # on other samples the curves are others
                continue
            if measured := self.reader.record(run.id).measured_at(0):
                return KnownCurves(views.curves_at(measured, definition), "an earlier run")
        return KnownCurves({})

    def _from_measurements(self, model: str, definition: str) -> KnownCurves:
        for kept in self.things.measurements.list() if self.things else ():
            report = kept.document.report
            known = all(Definition(definition) in part.counted for part in report.tasks.values())
            if report.model == model and report.adapter is None and report.data is None and known:
                curves = {task: kept.document.curve(task, Definition(definition))[0].tolist() for task in report.tasks}
                return KnownCurves(curves, "a measurement")
        return KnownCurves({})

    def _from_captures(self, model: str, definition: str) -> KnownCurves:
        """The newest capture of each task."""
        found: dict[Task, Curve] = {}
        for key, _ in self.things.store.recent(50) if self.things else ():
            if key.model == model and not key.adapter and key.task not in found:
                for series in self._series(f"capture:{key.id}", definition):
                    found[key.task] = series.mean.tolist()
        return KnownCurves(found, "the newest capture")

    def _embedded(self, model: str, definition: str) -> KnownCurves:
        """What comes with an embedded model."""
        known = load_embedded().get(model)
        tasks = known.report.tasks if known else ()
        curves = {task: known.curve(task, Definition(definition))[0].tolist() for task in tasks}
        return KnownCurves(curves, "the measurement that comes with it")

    # --- what can be fitted to ---

    def fit_choices(self, task: Task) -> list[tuple[str, str]]:
        """(name, id) of whatever has a curve of a task; a run has one after and one before."""
        return list(self._fit_choices(task)) if self.things else []

    def _fit_choices(self, task: Task) -> Iterator[tuple[str, str]]:
        for choice in self.things.choices():
            if task not in choice.tasks:
                continue
            if choice.id.startswith("run:"):
                yield from ((f"{choice.name}, {moment}", f"{choice.id} {moment}") for moment in MOMENTS)
            else:
                yield f"{choice.name} · {choice.about}"[:90], choice.id

    def curve_to_fit(self, thing: str, task: Task, definition: str) -> Series:
        """The curve that one of `fit_choices` stands for. Raises `UserError` if it has gone or has none of the task."""
        named, _, moment = thing.partition(" ")
        if self.things is not None:
            for series in self.things.series(named, Definition(definition)):
                if series.task == task and moment in ("", series.role):
                    return series
        raise UserError(f"Expected something with a curve of {task}, got none; choose another.")

    def _series(self, thing: str, definition: str) -> list[Series]:
        try:
            return self.things.series(thing, Definition(definition))
        except UserError:  # too short an answer
            return []

    # --- how long it takes ---

    def timings(self, config: TrainingConfig) -> Timings:
        """Seconds of the newest run with this model and method, else a rule of thumb."""
        rough = rough_timings(find_spec(config.model, self.specs).parameters)
        for run in self.runs.list():
            if run.config and (run.config.model, run.config.method) == (config.model, config.method):
                record = self.reader.record(run.id)
                if record.steps:
                    return find_timings(record, run.config, rough)
        return rough
