"""Targets that people make: fitted to curves, edited as a table of stages, saved by name, kept for runs.

Owns the folder of targets, the table's form and its sentences, which count layers from 1 as pages do. What targets are
is said by `aia.targets`. Knows no page, and not where a curve comes from.

    <name>.json          saved by the one person of an installation, who may save it anew
    <person>/<name>.json saved by one of many
    kept/<digest>.json   what a run was started with: never changed, so that a run's config holds for good
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aia.intensity import Task
from aia.stages import Stage, fit_stages, stretch_stages
from aia.targets import (
    FORMAT,
    FORMAT_VERSION,
    PRESETS,
    StageTargets,
    format_targets,
    load_targets,
    parse_targets,
    save_targets,
)
from backend.interface import UserError, as_sentence
from backend.people.person import owner_of_new, part_of

LONGEST_NAME = 60
MOST_SAVED = 500
TASKS = (Task.GENERATION, Task.UNDERSTANDING)  # columns of the table

Row = tuple[int, float, float, float, float]  # last layer, from 1; T and δ of generation, T and δ of understanding

_STEM = re.compile(r"[\w-]{1,60}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


# --- the table ---


def make_rows(targets: StageTargets) -> list[Row]:
    """The table of targets: a row wherever one of the tasks begins a stage."""
    lasts = sorted({stage.last for task in TASKS for stage in targets.stages(task)})
    curves = [curve for task in TASKS for curve in targets.as_arrays(task)]
    return [(last + 1, *(round(float(curve[last]), 4) for curve in curves)) for last in lasts]


def read_rows(rows: Any, layers: int, name: str = "own stages", source: str = "edited by hand") -> StageTargets:
    """Targets from a table. Raises `UserError` naming the first thing that is wrong."""
    if not isinstance(rows, list) or not all(isinstance(row, list | tuple) and len(row) == 5 for row in rows):
        raise UserError("Expected a table of stages, got something else; choose a preset and edit that.")
    if not 1 <= len(rows) <= layers:
        raise UserError(f"Expected 1 to {layers} stages for {layers} layers, got {len(rows)}; add or remove some.")
    stages: dict[Task, list[Stage]] = {task: [] for task in TASKS}
    first = 1
    for number, (last, *values) in enumerate(rows, start=1):
        last = _read_last(last, number, first, layers, is_end=number == len(rows))
        for task, (target, delta) in zip(TASKS, (values[:2], values[2:]), strict=True):
            stages[task].append(_read_stage(task, first, last, target, delta))
        first = last + 1
    return StageTargets(name, source, *(tuple(stages[task]) for task in TASKS), layers=layers)


def _read_last(value: Any, number: int, first: int, layers: int, is_end: bool) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    got = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else "nothing"
    if is_end and not (whole and value == layers and first <= layers):
        raise UserError(f"Expected the last stage to end with layer {layers}, got {got}; let it end there.")
    if not (whole and first <= value <= layers):
        raise UserError(f"Expected stage {number} to end with a layer from {first} to {layers}, got {got}; change it.")
    return int(value)


def _read_stage(task: Task, first: int, last: int, target: Any, delta: Any) -> Stage:
    where = f"{task}, {'layer' if first == last else 'layers'} {first}" + (f" to {last}" if last > first else "")
    for what, value, low in (("T", target, "from 0 to 1"), ("δ", delta, "above 0")):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"Expected a number {low} as {what} of {where}, got nothing; give one.")
    if not 0 <= target <= 1:
        raise UserError(f"Expected T from 0 to 1 for {where}, got {target:g}; it is a share of attention.")
    if not 0 < delta <= 1:
        raise UserError(f"Expected δ above 0 and at most 1 for {where}, got {delta:g}; 0.05 is usual.")
    return Stage(first - 1, last - 1, float(target), float(delta))


def read_stages(given: dict[str, Any], layers: int) -> StageTargets:
    """Targets from plain data: a file's content, or only its two lists of stages. Raises `UserError`."""
    usual = {"format": FORMAT, "version": FORMAT_VERSION, "name": "own stages", "source": "sent", "layers": layers}
    try:
        found = parse_targets({**usual, **given})
    except (ValueError, TypeError) as error:
        raise UserError(as_sentence(error)) from error
    return found.stretch(layers)


# --- fitting ---


def fit_task(
    targets: StageTargets, task: Task, mean: Sequence[float], std: Sequence[float] | None, stages: int
) -> StageTargets:
    """Targets with one task's stages fitted to a curve [L], the other task's left as they are.

    A curve of another depth is fitted as it is, and its stages stretched. Raises `UserError` for a number of stages
    that the curve has not.
    """
    curve = np.clip(np.asarray(mean, np.float64), 0, 1)
    spread = np.zeros_like(curve) if std is None else np.clip(np.asarray(std, np.float64), 0, 1)
    try:
        fitted = fit_stages(curve, spread, stages)
    except ValueError as error:
        raise UserError(as_sentence(error)) from error
    rounded = tuple(replace(s, target=round(s.target, 4), delta=max(round(s.delta, 4), 1e-4)) for s in fitted)
    return replace(targets, **{task.value: stretch_stages(rounded, targets.layers)})


# --- files ---


class TargetFiles:
    """Targets saved in one folder, to each person their own."""

    def __init__(self, folder: Path):
        self.folder = Path(folder).resolve()

    def list(self) -> list[tuple[str, str]]:
        """(name, stem of the file) of all that can be read, by name."""
        found = []
        for path in sorted(self._home.glob("*.json"))[:MOST_SAVED]:
            try:
                found.append((load_targets(path).name, path.stem))
            except ValueError:
                continue
        return sorted(found, key=lambda named: named[0].lower())

    def load(self, stem: str, layers: int) -> StageTargets:
        """Saved targets, stretched where they were made for another depth. Raises `UserError` if there are none."""
        path = self.find(stem)
        try:
            return load_targets(path, layers, stretch=True)
        except ValueError as error:
            raise UserError("Expected saved targets, got a file that cannot be read; choose others.") from error

    def find(self, stem: str) -> Path:
        """The file of saved targets. Raises `UserError` if there is none."""
        path = self._home / f"{stem}.json"
        if not _STEM.fullmatch(stem) or not path.is_file():
            raise UserError(f"Expected the name of saved targets, got “{stem[:40]}”; choose from the list.")
        return path

    def save(self, targets: StageTargets, name: str) -> str:
        """Save under a name, over what was saved under it before; → the file's stem. Raises `UserError`."""
        name = clean_name(name)
        owner_of_new()  # a stranger has none
        stem = re.sub(r"[^\w-]+", "-", name).strip("-_").lower()
        if not stem:
            raise UserError(f"Expected a name with letters or digits, got “{name}”; give another.")
        if stem in PRESETS:
            raise UserError(f"Expected a name of your own, got that of a preset, “{name}”; give another.")
        self._write(replace(targets, name=name), self._home / f"{stem}.json")
        return stem

    def keep(self, targets: StageTargets) -> Path:
        """A file with exactly these targets that nothing changes or deletes. Raises `UserError` as the disk does."""
        digest = hashlib.sha256(format_targets(targets).encode()).hexdigest()[:16]
        path = self.folder / "kept" / f"{digest}.json"
        if not path.is_file():
            self._write(targets, path)
        return path

    @property
    def _home(self) -> Path:
        """The folder of who asks."""
        return part_of(self.folder)

    def _write(self, targets: StageTargets, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            save_targets(targets, path)
        except OSError as error:
            if error.errno in _FULL:
                raise UserError("Expected room on the disk for targets, got a full one; free some space.") from error
            raise UserError("Expected a folder for targets that can be written; check its permissions.") from error


def clean_name(name: Any) -> str:
    """A name on one line. Raises `UserError` for none, or one that is too long."""
    text = name if isinstance(name, str) else ""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not clean:
        raise UserError("Expected a name for the targets, got none; give one.")
    if len(clean) > LONGEST_NAME:
        raise UserError(f"Expected a name of at most {LONGEST_NAME} characters, got {len(clean)}; shorten it.")
    return clean
