"""What a page or a program asks for becomes a run: names of data sets, targets and adapters become a config's files.

Owns what may be named: a page never names a file of the server, and a run's config names nothing that changes later,
so that `python -m app finetune` with the same config gives the same numbers. Knows no component and no sentence of
the page.

    data        "world", or "dataset:<id>"
    targets     "auto", a preset, "saved:<name>", {"rows": …} of the table, or stages as a targets' file has them
    start_from  the id of a finished run; none: the base model
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from aia.config import TrainingConfig, make_config
from aia.intensity import Task
from aia.targets import PRESETS, StageTargets, load_targets
from app.explore.adapters import adapter_finder
from app.explore.form import number, whole_number
from app.rules import ALL, Rules, check
from backend.background.runs import Runs
from backend.finetuning.datasets import Dataset, Datasets
from backend.finetuning.finetune import check_tasks
from backend.finetuning.memory import check_training_fits
from backend.finetuning.target_files import TargetFiles, read_rows, read_stages
from backend.interface import UserError, as_sentence
from backend.models.adapters import check_start
from backend.models.specs import SPECS, ModelSpec, find_spec

DATASET, SAVED = "dataset:", "saved:"
NAMED = ("data", "targets", "start_from")  # settings that stand for files


class Requests:
    """All that runs of one data folder can be made of."""

    def __init__(self, runs: Runs, folder: Path, specs: tuple[ModelSpec, ...] = SPECS, rules: Rules = ALL):
        self.runs, self.specs, self.rules = runs, specs, rules
        self.datasets, self.targets = Datasets(folder / "datasets"), TargetFiles(folder / "targets")
        self._find_adapter = adapter_finder(runs)

    def start(self, settings: dict[str, Any], name: str, control: bool) -> list[str]:
        """Queue a run and perhaps its control → ids. Raises `UserError` for whatever is wrong, memory included."""
        check(self.rules.tuning)
        config = self.config(settings)
        spec = find_spec(config.model, self.specs)
        self.rules.check_tuning(spec)
        config = self.config(settings, keep=True)
        check_tasks(config, spec)
        check_training_fits(config, spec)
        return self.runs.start(config, name, control)

    def config(self, settings: dict[str, Any], keep: bool = False) -> TrainingConfig:
        """The config that settings stand for. Raises `UserError` with one sentence.

        Without `keep` nothing is written: targets that are no preset stand as "auto".
        """
        _refuse_files(settings)
        config = build_config({name: value for name, value in settings.items() if name not in NAMED})
        changes = self._find_data(settings.get("data"), config) | self._find_start(settings.get("start_from"), config)
        targets = settings.get("targets", "auto")
        if not isinstance(targets, str) or targets not in ("auto", *PRESETS):
            found = self.find_targets(targets, config.model)
            changes["targets"] = str(self.targets.keep(found)) if keep else "auto"
        else:
            changes["targets"] = targets
        return config.model_copy(update=changes)

    def find_targets(self, named: Any, model: str) -> StageTargets:
        """The targets of that name, or of that table or stages, over the model's layers. Raises `UserError`."""
        spec = find_spec(model, self.specs)
        if isinstance(named, dict):
            return read_rows(named["rows"], spec.layers) if "rows" in named else read_stages(named, spec.layers)
        named = spec.targets if named == "auto" else named
        if isinstance(named, str) and named.startswith(SAVED):
            return self.targets.load(named.removeprefix(SAVED), spec.layers)
        if isinstance(named, str) and named in PRESETS:
            return load_targets(named, spec.layers)
        known = ", ".join(["auto", *PRESETS])
        raise UserError(f"Expected targets from {known}, saved:NAME, or stages, got something else; choose one.")

    def take_dataset(self, rows: Path, images: Path, name: str) -> Dataset:
        """Check what was sent and keep it. Raises `UserError` as `Datasets.take`, and where nothing is taken in."""
        check(self.rules.bringing_in)
        self.rules.room(rows.stat().st_size + images.stat().st_size)
        return self.datasets.take(rows, images, name)

    def delete_dataset(self, dataset_id: str) -> None:
        """Remove a data set for good. Raises `UserError` while a run needs it to start or to go on."""
        needed = (run for run in self.runs.list(everyones=True) if run.config and run.state != "finished")
        if any(self.datasets.id_of(run.config.data) == dataset_id for run in needed):
            raise UserError(
                "Expected data that no run needs any more, got those of one that is not finished; delete it."
            )
        self.datasets.delete(dataset_id)

    def describe(self, config: TrainingConfig) -> dict[str, Any]:
        """A config as settings that ask for the same again, without any path of the server."""
        plain = config.model_dump(mode="json") | {"images": None}
        dataset = self.datasets.id_of(config.data)
        if config.data != "world":
            plain["data"] = f"{DATASET}{dataset}" if dataset else Path(config.data).name
        if config.start_from is not None:
            plain["start_from"] = Path(config.start_from).parent.name
        if config.targets not in ("auto", *PRESETS):
            plain["targets"] = _read_plain(config.targets)
        return plain

    # --- what settings name ---

    def _find_data(self, named: Any, config: TrainingConfig) -> dict[str, Any]:
        if named in (None, "world"):
            return {"data": "world", "images": None, "skip_bad_rows": False}
        if not (isinstance(named, str) and named.startswith(DATASET)):
            raise UserError("Expected “world” or an uploaded data set as data, got something else; choose one.")
        found = self.datasets.get(named.removeprefix(DATASET))
        _check_rows(found, config)
        rows, images = self.datasets.files(found.id)
        return {"data": str(rows), "images": str(images), "skip_bad_rows": found.bad > 0}

    def _find_start(self, run: Any, config: TrainingConfig) -> dict[str, Any]:
        if run in (None, ""):
            return {"start_from": None}
        if not isinstance(run, str):
            raise UserError("Expected the id of a finished run to go on from, got something else; choose one.")
        folder = self._find_adapter(run)
        check_start(folder, config)
        return {"start_from": str(folder)}


def _check_rows(found: Dataset, config: TrainingConfig) -> None:
    """Refuse bad rows unless they are to be left out, and a task that has steps but no rows."""
    if found.bad and not config.skip_bad_rows:
        raise UserError(
            f"Expected only good rows, got {found.bad:,} bad of {found.total:,}; correct them, or train on the good "
            "rows only."
        )
    for task in Task:
        if config.share(task) > 0 and not found.rows.get(task):
            raise UserError(f"Expected rows of {task} in this data, got none; set the ratio of {task} to 0.")


def _refuse_files(settings: dict[str, Any]) -> None:
    if settings.get("images") is not None:
        raise UserError("Expected no folder of images, got one; upload the images with their data set.")


def build_config(settings: dict[str, Any]) -> TrainingConfig:
    """Settings as a config, numbers checked to be numbers. Raises `UserError`."""
    read = {name: read_value(name, value) for name, value in settings.items()}
    try:
        return make_config(**read)
    except (ValueError, TypeError) as error:
        raise UserError(as_sentence(error)) from error


def read_value(name: str, value: Any) -> Any:
    """A field's value; a number must be one, since a field that was emptied sends nothing."""
    kind = TrainingConfig.model_fields[name].annotation if name in TrainingConfig.model_fields else None
    if kind is int:
        return whole_number(value, label_of(name).lower())
    return number(value, label_of(name).lower()) if kind is float else value


def label_of(name: str) -> str:
    return name.replace("_", " ").capitalize().replace("Lora", "LoRA").replace("Adam ", "Adam’s ")


def _read_plain(path: str) -> dict[str, Any] | None:
    """Stages as data; None where the file is gone."""
    try:
        return plain_targets(load_targets(path))
    except ValueError:
        return None


def plain_targets(targets: StageTargets) -> dict[str, Any]:
    """Targets as `find_targets` takes them."""
    stages = {task.value: [asdict(stage) for stage in targets.stages(task)] for task in Task}
    return {"name": targets.name, "source": targets.source, "layers": targets.layers, **stages}
