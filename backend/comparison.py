"""What can be compared, as plain curves: captures, fine-tunes, measurements, imported comparisons, the paper's figures.

Owns the ids (`capture:…`, `run:…`, `measurement:…`, `bundle:….1` for a bundle's first thing, `model:…` for an embedded
model, `paper:…`) and turns each into `Series`. A capture's id is what opens it for whoever gets it
(`CaptureStore.link`). Knows neither pages nor charts, nor how two series are set against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from aia.config import TrainingConfig
from aia.intensity import Definition, Task
from aia.targets import load_targets
from backend.background.runs import Runs, RunStatus
from backend.embedded import load_embedded
from backend.finetuning.finetune import name_targets
from backend.interface import UserError
from backend.kept.bundles import MOST_THINGS, Bundle, BundledSeries, Bundles, Role, Thing
from backend.kept.captures import CaptureKey
from backend.kept.measurements import Measurement, Measurements
from backend.kept.store import CaptureStore
from backend.models.specs import find_spec
from backend.paper import load_paper

RECENT_CAPTURES = 24
LONGEST_NAME = 34

_HEX = {24: "capture", 41: "capture", 16: "run"}
_ID = re.compile(
    r"(capture:[0-9a-f]{24}(\.[0-9a-f]{16})?|run:[0-9a-f]{16}|measurement:[0-9a-f]{16}|bundle:[0-9a-f]{16}\.[1-4]"
    r"|(model|paper):[a-z0-9-]{1,60})"
)


@dataclass(frozen=True)
class Output:
    """What a capture was about: a drawing with its prompt, or a picture with question and answer."""

    prompt: str
    text: str
    picture_png: bytes = field(repr=False)


@dataclass(frozen=True)
class Series:
    """One curve of one task: mean float64 [L] in 0…1, and what is known beside it.

    `std` is over heads (capture), over samples (run, measurement), or δ (target). `definition` is the one it was
    counted by: the paper's curves, targets, old measurements and imported curves have their own, whatever was asked
    for. `distance` is to the thing's own targets.
    """

    source: str
    name: str
    task: Task
    role: Role
    definition: Definition
    mean: np.ndarray
    std: np.ndarray | None = None
    heads: np.ndarray | None = None  # [L, H]
    scores: dict[str, Any] | None = None  # of this task
    distance: dict[str, float] | None = None  # aia_loss, mean_absolute; by `definition`
    output: Output | None = None

    @property
    def layers(self) -> int:
        return len(self.mean)


@dataclass(frozen=True)
class Choice:
    """Something that can be compared, as a list shows it."""

    id: str
    name: str
    about: str
    group: str
    tasks: tuple[Task, ...]


def parse_ids(text: str) -> list[str]:
    """Ids in what a person types or pastes: ids with commas between, also bare ones, or a link of the page.

    Raises `UserError` for anything else, and for more than can be compared.
    """
    ids = list(dict.fromkeys(_normal(part) for part in _parts(text.strip())))
    if len(ids) > MOST_THINGS:
        raise UserError(f"Expected at most {MOST_THINGS} things to compare, got {len(ids)}; leave some out.")
    return ids


def _parts(text: str) -> list[str]:
    if "://" in text or text.startswith(("?", "/")):
        try:
            query = parse_qs(urlsplit(text).query)
        except ValueError:
            return [text]
        found = query.get("compare") or [f"{kind}:{query[kind][0]}" for kind in ("capture", "run") if kind in query]
        text = found[0] if found else text
    return [part.strip() for part in text.split(",") if part.strip()]


def _normal(part: str) -> str:
    whole = f"{_HEX.get(len(part))}:{part}" if ":" not in part and len(part) in _HEX else part
    if not _ID.fullmatch(whole):
        raise UserError(
            f"Expected an id such as capture:…, run:… or paper:…, got “{part[:40]}”; choose from the list, "
            "or copy it anew."
        )
    return whole


class Comparables:
    """All that can be compared: the store's captures, the runs, measurements, bundles, the paper's curves."""

    def __init__(
        self,
        store: CaptureStore,
        runs: Runs,
        measurements: Measurements | None = None,
        bundles: Bundles | None = None,
    ):
        """Measurements and bundles lie beside the runs unless told otherwise."""
        self.store, self.runs = store, runs
        self.measurements = measurements or Measurements(runs.folder.parent / "measurements")
        self.bundles = bundles or Bundles(runs.folder.parent / "bundles")

    def choices(self) -> list[Choice]:
        """Finished runs, measurements, recent captures, what was imported, embedded models, the paper by figure."""
        finished = [self._run_choice(run) for run in self.runs.list() if run.state == "finished"]
        measured = [measurement_choice(one.id, one.document) for one in self.measurements.list()]
        imported = [choice for one in self.bundles.list() for choice in bundle_choices(one.id, one.document)]
        return [*finished, *measured, *self.captures(), *imported, *_embedded_choices(), *self._paper_choices()]

    def first(self) -> list[str]:
        """Ids of what suits a first comparison: the embedded models, and the paper's curves of their architectures."""
        here = [find_spec(name) for name in load_embedded()]
        return [f"model:{spec.name}" for spec in here] + [f"paper:{spec.paper_curve}" for spec in here]

    def captures(self) -> list[Choice]:
        """Recent captures, the newest first."""
        return [self._capture_choice(key, text) for key, text in self.store.recent(RECENT_CAPTURES)]

    def choice(self, thing: str) -> Choice:
        """One thing by its id. Raises `UserError` if there is none, as does all below."""
        kind, _, own = thing.partition(":")
        if kind == "capture":
            capture = self._capture(own)
            return self._capture_choice(capture.key, capture.text)
        if kind == "run":
            return self._run_choice(self.runs.status(own))
        if kind == "measurement":
            return measurement_choice(own, self.measurements.get(own))
        if kind == "bundle":
            return _find_part(own, self.bundles.get(own.partition(".")[0]))[0]
        if kind == "model":
            return _find_embedded(own)
        known = {choice.id: choice for choice in self._paper_choices()}
        if thing not in known:
            raise UserError(f"The paper has no curve called “{own[:40]}”; choose one from the list.")
        return known[thing]

    def series(self, thing: str, definition: Definition) -> list[Series]:
        """All curves of one thing: a run's are before, after, those of its control, and its targets, task by task."""
        kind, _, own = thing.partition(":")
        if kind == "capture":
            return [self._capture_series(own, definition)]
        if kind == "run":
            return list(self._run_series(own, definition))
        if kind == "measurement":
            return list(_measured_series(self.choice(thing), self.measurements.get(own), definition))
        if kind == "bundle":
            choice, part = _find_part(own, self.bundles.get(own.partition(".")[0]))
            return [_imported_series(choice, one) for one in part.series]
        if kind == "model":
            return list(_measured_series(_find_embedded(own), load_embedded()[own], definition))
        return self._paper_series(self.choice(thing))

    # --- captures ---

    def _capture_choice(self, key: CaptureKey, text: str) -> Choice:
        return capture_choice(key, text, self.store.link(key.id))

    def _capture(self, capture_id: str):
        found = self.store.get(capture_id)
        if found is None:
            raise UserError(f"No capture “{capture_id}” is stored here; run its prompt again, or check the link.")
        return found

    def _capture_series(self, capture_id: str, definition: Definition) -> Series:
        capture = self._capture(capture_id)
        heads = capture.head_intensity(definition).astype(np.float64)
        if not np.isfinite(heads).all():
            raise UserError("That answer is too short to compare: no token of it was fed back; choose another.")
        about = self._capture_choice(capture.key, capture.text)
        output = Output(capture.key.prompt, capture.text, capture.picture_png)
        return Series(
            about.id,
            about.name,
            capture.task,
            "capture",
            definition,
            heads.mean(1),
            heads.std(1),
            heads=heads,
            output=output,
        )

    # --- runs ---

    def _run_choice(self, run: RunStatus) -> Choice:
        what = "with AIA" if run.config and run.config.aia else "control" if run.role == "control" else "without AIA"
        name = f"{run.title}, control" if run.role == "control" else run.title
        steps = f"{run.config.model} · {run.steps:,} steps · {what}" if run.config else what
        return Choice(f"run:{run.id}", name, steps, "Fine-tuned here", tuple(Task))

    def _run_series(self, run_id: str, definition: Definition) -> Iterator[Series]:
        status = self.runs.status(run_id)
        result = self.runs.result(run_id) if status.state == "finished" else None
        if result is None or status.config is None:
            raise UserError(f"Expected a finished run, got one that is {status.state}; compare it when it is done.")
        thing = self._run_choice(status)
        counted = status.config.definition
        moments: list[tuple[Role, Any]] = [("before", result["before"]), ("after", result["after"])]
        pair = self.runs.result(status.pair) if status.role == "aia" and status.pair else None
        if pair is not None:
            moments.append(("control", pair["after"]))
        for role, moment in moments:
            yield from _moment_series(thing, role, moment, definition, counted)
        layers = {len(s.mean) for s in _moment_series(thing, "after", result["after"], definition, counted)}
        if len(layers) == 1:
            yield from _target_series(thing, status.config, layers.pop())

    # --- the paper ---

    def _paper_choices(self) -> list[Choice]:
        return [
            Choice(f"paper:{slug}", found.name, " and ".join(found.curves), found.group, tuple(found.curves))
            for slug, found in load_paper().items()
        ]

    def _paper_series(self, choice: Choice) -> list[Series]:
        curves = load_paper()[choice.id.partition(":")[2]].curves
        return [
            Series(choice.id, choice.name, task, "reference", Definition.FIGURE, np.array(curve))
            for task, curve in curves.items()
        ]


def capture_choice(key: CaptureKey, text: str, link: str) -> Choice:
    """A capture by its prompt, and by what tells it from others: its seed, or its answer. `link` opens it."""
    adapted = ", fine-tuned" if key.adapter else ""
    if key.task == Task.GENERATION:
        about = f"{key.model}{adapted} drew · seed {key.sampling.seed}"
    else:
        about = f"{key.model}{adapted}: {_shorten(text) or 'no answer'}"
    return Choice(f"capture:{link}", f"“{_shorten(key.prompt)}”", about, "Captures", (key.task,))


def measurement_choice(measurement_id: str, measurement: Measurement) -> Choice:
    """A measurement by its name, or by what was measured."""
    report, tasks = measurement.report, tuple(measurement.report.tasks)
    adapted = ", fine-tuned" if report.adapter else ""
    name = measurement.name or f"{report.model}{adapted}, {report.samples:,} samples"
    about = f"{report.model}{adapted} · {report.samples:,} samples · seed {report.seed} · {measurement.definition}"
    return Choice(f"measurement:{measurement_id}", name, about, "Measured here", tasks)


def _embedded_choices() -> list[Choice]:
    """The embedded models as they were measured for this program."""
    return [
        Choice(
            f"model:{model}",
            measurement.name,
            f"{measurement.report.samples:,} samples, measured once",
            "Embedded models",
            tuple(measurement.report.tasks),
        )
        for model, measurement in load_embedded().items()
    ]


def _find_embedded(model: str) -> Choice:
    found = next((choice for choice in _embedded_choices() if choice.id == f"model:{model}"), None)
    if found is None:
        raise UserError(f"No model called “{model[:40]}” comes with its curves; choose one from the list.")
    return found


def bundle_choices(bundle_id: str, bundle: Bundle) -> list[Choice]:
    """Each thing of a bundle as something to compare."""
    return [
        Choice(
            f"bundle:{bundle_id}.{number}",
            thing.name,
            f"of the bundle “{_shorten(bundle.name)}”",
            "Imported",
            tuple(task for task in Task if any(one.task == task for one in thing.series)),
        )
        for number, thing in enumerate(bundle.things, start=1)
    ]


def _find_part(own: str, bundle: Bundle) -> tuple[Choice, Thing]:
    """The thing of a bundle that an id names, such as "0123456789abcdef.2"."""
    bundle_id, _, number = own.partition(".")
    if not number.isdecimal() or not 1 <= int(number) <= len(bundle.things):
        raise UserError(f"That bundle has {len(bundle.things)} things to compare, no “{number[:8]}”; choose another.")
    index = int(number) - 1
    return bundle_choices(bundle_id, bundle)[index], bundle.things[index]


def _measured_series(choice: Choice, measurement: Measurement, definition: Definition) -> Iterator[Series]:
    for task in measurement.report.tasks:
        found = measurement.counted(task, definition)
        mean, std = measurement.curve(task, definition)
        heads = None if found.heads is None else np.array(found.heads, np.float64)
        yield Series(choice.id, choice.name, task, "measurement", found.definition, mean, std, heads)


def _imported_series(choice: Choice, one: BundledSeries) -> Series:
    """A bundle's curve, with the role that it had where it was made."""
    mean, std, heads = (None if v is None else np.array(v, np.float64) for v in (one.mean, one.std, one.heads))
    distance = None if one.aia_loss is None else {"aia_loss": one.aia_loss, "mean_absolute": one.mean_absolute}
    scores = None if one.scores is None else one.scores.model_dump()
    output = one.shown and Output(one.shown.prompt, one.shown.text, one.shown.picture_png)
    return Series(
        choice.id, choice.name, one.task, one.role, one.definition, mean, std, heads, scores, distance, output
    )


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1].rstrip() + "…"


def _moment_series(thing: Choice, role: Role, moment: Any, definition: Definition, counted: Definition):
    """Curves of one moment of a run; a task that was not measured has none. The files may hold anything."""
    try:
        for task, by_definition in (moment["intensity"] or {}).items():
            found = by_definition[definition.value]
            mean, std = (np.array(found[name], np.float64) for name in ("mean", "std"))
            if mean.ndim != 1 or mean.shape != std.shape or not mean.size or not np.isfinite(mean).all():
                raise ValueError("no curve")
            distance = (moment.get("distance") or {}).get(task) if definition == counted else None
            scores = (moment.get("scores") or {}).get(task)
            yield Series(
                thing.id, thing.name, Task(task), role, definition, mean, std, scores=scores, distance=distance
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"The result of {thing.name} cannot be read; choose another run.") from error


def _target_series(thing: Choice, config: TrainingConfig, layers: int) -> Iterator[Series]:
    """A run's targets of both tasks; none where their file is gone, or its model."""
    try:
        targets = load_targets(name_targets(config, find_spec(config.model)), layers)
    except (ValueError, UserError):
        return
    for task in Task:
        mean, delta = (values.astype(np.float64) for values in targets.as_arrays(task))
        yield Series(thing.id, thing.name, task, "target", config.definition, mean, delta)
