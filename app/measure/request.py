"""What a page or a program asks for becomes a measurement: names of models, adapters and prompts become a config.

Owns what may be named: a page never names a file of the server. Knows no component and no sentence of the page.

    model    one of the registry's
    adapter  the id of a finished run; none: the base model
    data     "world", "prompts:<id>" (a text of prompts for drawings) or "dataset:<id>" (images with questions)
    task     "both", "understanding" or "generation"
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aia.intensity import Definition, Task
from app.explore.adapters import adapter_finder
from app.explore.form import number, whole_number
from app.finetune.request import DATASET, Requests
from app.rules import check
from backend.interface import UserError
from backend.measuring.config import MOST_SAMPLES, WORLD, MeasureConfig, make_config
from backend.measuring.plan import Plan, make_plan
from backend.measuring.prompt_files import KeptPrompts, PromptFiles
from backend.measuring.runs import Measures
from backend.models.loading_memory import check_loading_fits
from backend.models.specs import ModelSpec, Precision, find_spec
from backend.sampling import GENERATION_SAMPLING, RANGES, drawing_sampling

PROMPTS, BOTH = "prompts:", "both"
DEFAULTS: dict[str, Any] = {  # temperature and guidance are the first model's; another has its own
    "model": "tiny-janus",
    "adapter": "",
    "task": BOTH,
    "samples": 100,
    "definition": Definition.FIGURE.value,
    "data": WORLD,
    "skip_bad_rows": False,
    "seed": 0,
    "temperature": GENERATION_SAMPLING.temperature,
    "guidance": GENERATION_SAMPLING.guidance,
    "precision": Precision.FULL.value,
}


@dataclass(frozen=True)
class Asked:
    """A checked config, the model's spec, and what was asked for and cannot be."""

    config: MeasureConfig
    spec: ModelSpec
    notes: tuple[str, ...]


class MeasureRequests:
    """All that measurements of one data folder can be made of."""

    def __init__(self, measures: Measures, requests: Requests):
        self.measures, self.specs, self.rules = measures, requests.specs, requests.rules
        self.runs, self.datasets = requests.runs, requests.datasets
        self.prompts = PromptFiles(measures.folder.parent / "prompts")
        self._find_adapter, self.take_dataset = adapter_finder(requests.runs), requests.take_dataset

    def start(self, settings: dict[str, Any], name: str = "") -> str:
        """Queue a measurement → the run's id. Raises `UserError` for whatever is wrong, memory included."""
        check(self.rules.measuring)
        asked = self.ask(settings)
        check_loading_fits(asked.spec, asked.config.precision)
        return self.measures.start(asked.config, name)

    def take_prompts(self, path: Path, name: str) -> KeptPrompts:
        """Check a text of prompts and keep it. Raises `UserError` as `PromptFiles.take`, and where none is taken in."""
        check(self.rules.bringing_in)
        self.rules.room(path.stat().st_size)
        return self.prompts.take(path, name)

    def ask(self, settings: dict[str, Any]) -> Asked:
        """The config that settings stand for. Raises `UserError` with one sentence."""
        unknown = settings.keys() - DEFAULTS.keys()
        if unknown:
            raise UserError(
                f"Expected settings among {', '.join(DEFAULTS)}, got “{str(min(unknown))[:40]}”; leave it out."
            )
        spec = find_spec(_text((DEFAULTS | settings)["model"], "model"), self.specs)
        own = drawing_sampling(spec)
        told = DEFAULTS | {"temperature": own.temperature, "guidance": own.guidance} | settings
        samples = whole_number(told["samples"], "number of samples")
        if samples > MOST_SAMPLES:
            raise UserError(f"Expected at most {MOST_SAMPLES:,} samples, got {samples:,}; ask for fewer.")
        named, available = self._find_data(told["data"], told["skip_bad_rows"] is True)
        plan = make_plan(spec, read_task(told["task"]), samples, available)
        config = make_config(
            model=spec.name,
            adapter=self._find_folder(told["adapter"], spec),
            precision=_one_of(Precision, told["precision"], "precision"),
            definition=_one_of(Definition, told["definition"], "definition"),
            samples=samples,
            seed=whole_number(told["seed"], "seed"),
            temperature=_in_range("temperature", told["temperature"]),
            guidance=_in_range("guidance", told["guidance"]),
            **named,
            **plan.settings(),
        )
        return Asked(config, spec, (*plan.notes, *_say_limited(plan, samples, available)))

    def describe(self, config: MeasureConfig) -> dict[str, Any]:
        """A config as settings that ask for the same again, without any path of the server."""
        plain = {name: value for name, value in config.model_dump(mode="json").items() if name in DEFAULTS}
        tasks = config.tasks
        plain |= {"task": BOTH if len(tasks) > 1 else tasks[0].value}
        plain |= {"adapter": Path(config.adapter).parent.name if config.adapter else ""}
        if config.data != WORLD:
            prompts, dataset = self.prompts.id_of(config.data), self.datasets.id_of(config.data)
            known = f"{PROMPTS}{prompts}" if prompts else f"{DATASET}{dataset}" if dataset else None
            plain |= {"data": known or config.data_name or Path(config.data).name}
        return plain

    # --- what settings name ---

    def _find_data(self, named: Any, skip: bool) -> tuple[dict[str, Any], dict[Task, int] | None]:
        """The config's words for the data, and how many prompts of each task there are; None for no end of them."""
        if named in (None, "", WORLD):
            return {"data": WORLD}, None
        if isinstance(named, str) and named.startswith(PROMPTS):
            prompts = self.prompts.get(named.removeprefix(PROMPTS))
            path = self.prompts.path(prompts.id)
            return {"data": str(path), "data_name": prompts.name[:80]}, {Task.GENERATION: prompts.count}
        if isinstance(named, str) and named.startswith(DATASET):
            found = self.datasets.get(named.removeprefix(DATASET))
            if found.bad and not skip:
                raise UserError(
                    f"Expected only good rows, got {found.bad:,} bad of {found.total:,}; correct them, or measure the "
                    "good rows only."
                )
            rows, images = (str(path) for path in self.datasets.files(found.id))
            told = {"data": rows, "images": images, "data_name": found.name[:80], "skip_bad_rows": found.bad > 0}
            return told, {task: found.rows.get(task, 0) for task in Task}
        raise UserError("Expected “world”, an uploaded text or an uploaded data set as data, got another; choose one.")

    def _find_folder(self, run: Any, spec: ModelSpec) -> str | None:
        """The folder of a run's adapter. Raises `UserError` for one of another model."""
        if run in (None, ""):
            return None
        folder = self._find_adapter(_text(run, "adapter"))
        config = self.runs.status(run).config
        if config is None or config.model != spec.name:
            raise UserError(f"Expected an adapter of {spec.title}, got one of another model; choose another, or none.")
        return str(folder)


def read_task(value: Any) -> Task | None:
    """The task asked for; None for both."""
    return None if value == BOTH else _one_of(Task, value, "task", BOTH)


def _one_of(kind: type, value: Any, what: str, *more: str) -> Any:
    known = [*more, *(one.value for one in kind)]
    if value not in known:
        raise UserError(f"Expected one of {', '.join(known)} as {what}, got “{str(value)[:40]}”; choose one.")
    return kind(value)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"Expected text as {what}, got {type(value).__name__}; send a string.")
    return value


def _in_range(name: str, value: Any) -> float:
    low, high = RANGES[name]
    found = number(value, name)
    if not low <= found <= high:
        raise UserError(f"Expected a {name} from {low:g} to {high:g}, got {found:g}; change it.")
    return found


def _say_limited(plan: Plan, samples: int, available: dict[Task, int] | None) -> list[str]:
    """Where there are more prompts than samples, that only some of them are measured."""
    more = {task: count for task, count in (available or {}).items() if plan.counts.get(task) and count > samples}
    return [f"Of {max(more.values()):,} prompts, {samples:,} are measured."] if more else []
