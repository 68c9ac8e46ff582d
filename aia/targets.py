"""Stage targets of both tasks: the published tables, fitted ones, and their JSON form (paper Eq. 2, Tables S4, S5).

Knows neither models nor the loss that uses the targets. Where paper and released code disagree both are here,
and `DISAGREEMENTS` says so.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aia.intensity import Task
from aia.stages import Stage, fit_stages, is_whole, stretch_stages

FORMAT = "aia-lens stage targets"
FORMAT_VERSION = 1
MAX_LAYERS = 1024
MAX_FILE_BYTES = 2**20


@dataclass(frozen=True)
class StageTargets:
    """Targets of both tasks for a model of `layers` layers; every layer is in exactly one stage per task.

    Raises: ValueError if a task's stages leave a gap, overlap, or end before or after the last layer.
    """

    name: str
    source: str  # where the numbers come from, for people
    generation: tuple[Stage, ...]
    understanding: tuple[Stage, ...]
    layers: int

    def __post_init__(self) -> None:
        for field in ("name", "source"):
            value = getattr(self, field)
            if not (isinstance(value, str) and value.strip()):
                raise ValueError(f"expected a non-empty text as the targets' {field}, got {value!r}; give them one")
        _check_layers(self.layers)
        for task in Task:
            _check_cover(task, self.stages(task), self.layers)

    def stages(self, task: Task) -> tuple[Stage, ...]:
        """The stages of one task, in order."""
        return self.generation if task == Task.GENERATION else self.understanding

    def as_arrays(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """T and δ of every layer: two float32 arrays [L], 0 <= T <= 1, δ > 0."""
        counts = [stage.layers for stage in self.stages(task)]
        values = np.array([(stage.target, stage.delta) for stage in self.stages(task)], np.float32)
        target, delta = np.repeat(values, counts, 0).T.copy()
        return target, delta

    def stretch(self, layers: int) -> StageTargets:
        """The same targets by normalised depth for another number of layers; itself for its own number.

        See `stretch_stages`. Raises: ValueError for an impossible number of layers.
        """
        _check_layers(layers)
        if layers == self.layers:
            return self
        return replace(
            self,
            source=f"{self.source}, stretched from {self.layers} to {layers} layers",
            generation=stretch_stages(self.generation, layers),
            understanding=stretch_stages(self.understanding, layers),
            layers=layers,
        )

    def as_table(self) -> str:
        """Plain text, one line per run of layers in which neither task changes stage."""
        firsts = sorted({stage.first for task in Task for stage in self.stages(task)})
        curves = [*self.as_arrays(Task.GENERATION), *self.as_arrays(Task.UNDERSTANDING)]
        lines = [f"{self.name}, {self.layers} layers ({self.source})"]
        lines += [f"{'':8}{'generation':^18}{'understanding':^18}", "layers  " + "  target   delta  " * 2]
        for first, stop in pairwise([*firsts, self.layers]):
            span = f"{first}-{stop - 1}" if stop - first > 1 else str(first)
            cells = [f"{values[first]:.3f}" for values in curves]
            lines.append(f"{span:8}" + "".join(f"{t:>8}{d:>8}  " for t, d in (cells[:2], cells[2:])))
        return "\n".join(line.rstrip() for line in lines) + "\n"


def _check_layers(layers: object) -> None:
    if not (is_whole(layers) and 1 <= layers <= MAX_LAYERS):
        raise ValueError(f"expected 1 to {MAX_LAYERS} layers, got {layers!r}; give the model's number of layers")


def _check_cover(task: Task, stages: tuple[Stage, ...], layers: int) -> None:
    due = 0
    for stage in stages:
        if stage.first != due:
            fault = f"a stage from layer {stage.first} where layer {due} is next"
            break
        due = stage.last + 1
    else:
        if due == layers:
            return
        fault = f"an end at layer {due - 1}" if stages else "no stages"
    raise ValueError(
        f"expected the {task} stages to cover layers 0 to {layers - 1} once and in order, got {fault}; "
        "let each stage begin right after the one before it and the last end with the last layer"
    )


class Disagreement(NamedTuple):
    """One point on which the paper and its authors' released code differ, each with its place."""

    topic: str
    paper: str
    released_code: str


# The code is github.com/zhengdian1/AIA, for Janus-Pro only.
DISAGREEMENTS: tuple[Disagreement, ...] = (
    Disagreement(
        "weight λ of the AIA loss",
        '40 by default (section 3.2); best "NTP:AIA 50:1" (ablation)',
        "5 for generation, 10 for understanding (models/modeling_vlm.py)",
    ),
    Disagreement(
        "target of layer 20, understanding, Janus-Pro",
        "0.3 (Table S5)",
        "0.15: the condition is layer_idx <= 20 (models/modeling_vlm.py)",
    ),
    Disagreement(
        "keys and rows, generation",
        "all text tokens; all image tokens (Eq. 1)",
        "one pad column, bos, template and prompt but not begin-of-image; image rows 0 to n-2 (trainer/trainer_t2i.py)",
    ),
    Disagreement(
        "keys, understanding",
        "all image tokens (Eq. 1)",
        "begin-of-image and image tokens 0 to n-2 (dataset/t2i_dataset.py)",
    ),
)


def _stages(*rows: tuple[int, int, float, float]) -> tuple[Stage, ...]:
    return tuple(Stage(first, last, target, delta) for first, last, delta, target in rows)


# Rows are (first, last, δ, T), in the order in which the tables print the pair.
PRESETS: dict[str, StageTargets] = {
    "paper-emu3": StageTargets(
        "paper-emu3",
        "arXiv:2511.22663, Table S4",
        _stages((0, 9, 0.2, 0.4), (10, 19, 0.1, 0.4), (20, 24, 0.1, 0.4), (25, 30, 0.05, 0.2), (31, 31, 0.05, 0.2)),
        _stages((0, 9, 0.05, 0.1), (10, 19, 0.05, 0.15), (20, 24, 0.05, 0.3), (25, 30, 0.05, 0.3), (31, 31, 0.05, 0.2)),
        32,
    ),
    # Differs from paper: the last row of Table S5 (l > 29) is left out, as 30 layers never reach it.
    "paper-janus-pro": StageTargets(
        "paper-janus-pro",
        "arXiv:2511.22663, Table S5",
        _stages((0, 9, 0.2, 0.4), (10, 19, 0.1, 0.4), (20, 24, 0.1, 0.4), (25, 29, 0.05, 0.2)),
        _stages((0, 9, 0.05, 0.1), (10, 19, 0.05, 0.15), (20, 24, 0.05, 0.3), (25, 29, 0.05, 0.3)),
        30,
    ),
    # Differs from paper: layer 20 belongs to the second stage of understanding (see DISAGREEMENTS).
    "released-code": StageTargets(
        "released-code",
        "github.com/zhengdian1/AIA, models/modeling_vlm.py, Janus-Pro",
        _stages((0, 9, 0.2, 0.4), (10, 24, 0.1, 0.4), (25, 29, 0.05, 0.2)),
        _stages((0, 9, 0.05, 0.1), (10, 20, 0.05, 0.15), (21, 29, 0.05, 0.3)),
        30,
    ),
    # As `fit_targets` made them from the study's experts (`backend.finetuning.study`), to three digits.
    "tiny-experts": StageTargets(
        "tiny-experts",
        "fitted to the two single-task experts of the study on the embedded model",
        _stages((0, 0, 0.063, 0.489), (1, 1, 0.056, 0.266), (2, 4, 0.034, 0.216), (5, 7, 0.044, 0.173)),
        _stages((0, 0, 0.062, 0.628), (1, 3, 0.053, 0.765), (4, 4, 0.073, 0.660), (5, 7, 0.038, 0.771)),
        8,
    ),
}


def fit_targets(
    name: str,
    source: str,
    generation: tuple[Sequence[float], Sequence[float]],
    understanding: tuple[Sequence[float], Sequence[float]],
    stages: int,
) -> StageTargets:
    """Fit both tasks; each curve is (mean [L], std [L]). See `fit_stages`.

    Raises: ValueError as `fit_stages` does, or if the two curves are of different models.
    """
    lengths = [len(generation[0]), len(understanding[0])]
    if lengths[0] != lengths[1]:
        raise ValueError(f"expected both curves over the same layers, got {lengths}; measure both on one model")
    fitted = [fit_stages(*curve, stages) for curve in (generation, understanding)]
    return StageTargets(name, source, *fitted, layers=fitted[0][-1].last + 1)


def load_targets(name_or_path: str | Path, layers: int | None = None, stretch: bool = False) -> StageTargets:
    """A preset, stretched if need be, or a saved file.

    `layers` is the model's number; None keeps the targets' own. A file was made for one model, so one with
    another number of layers is refused unless `stretch`.

    Raises: ValueError with one sentence for an unknown name, an unreadable or wrong file, wrong layers.
    """
    if str(name_or_path) in PRESETS:
        targets = PRESETS[str(name_or_path)]
        return targets if layers is None else targets.stretch(layers)
    targets = _read(Path(name_or_path))
    if layers is None or layers == targets.layers:
        return targets
    if not stretch:
        raise ValueError(
            f"expected targets for {layers} layers, got {targets.layers} in {name_or_path}; "
            "choose a file made for this model, or have this one stretched"
        )
    return targets.stretch(layers)


def format_targets(targets: StageTargets) -> str:
    """Targets as the text of a file."""
    return json.dumps({"format": FORMAT, "version": FORMAT_VERSION, **asdict(targets)}, indent=1) + "\n"


def save_targets(targets: StageTargets, path: str | Path) -> None:
    """Write targets as JSON, whole or not at all: an older file survives a full disk or a crash.

    Raises: OSError if the folder is not there or cannot be written to.
    """
    text, path = format_targets(targets), Path(path)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _read(path: Path) -> StageTargets:
    try:
        if not path.is_file():
            raise FileNotFoundError(None, "no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(
                f"expected a file of targets of at most {MAX_FILE_BYTES} bytes, got {path}; choose another"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        known = ", ".join(PRESETS)
        reason = (error.strerror or "cannot be read").lower()
        raise ValueError(f"expected one of {known}, or a file of targets, got {path} ({reason})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"expected targets as JSON text, got other bytes in {path}; choose another file") from error
    try:
        return parse_targets(json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(
            f"expected targets as JSON, got text that is not JSON in {path}; choose another file"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_targets(data: object) -> StageTargets:
    """Targets from a file's content. Raises: ValueError with one sentence for anything else."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f'expected JSON with "format": "{FORMAT}", got something else; save targets to make one')
    if data.get("version") != FORMAT_VERSION:
        raise ValueError(f"expected version {FORMAT_VERSION}, got {data.get('version')!r}; save the targets anew")
    content = {key: value for key, value in data.items() if key not in ("format", "version")}
    _check_fields("targets", content, StageTargets)
    for task in Task:
        rows = content[task]
        if not isinstance(rows, list):
            raise ValueError(f"expected a list of stages as {task}, got {type(rows).__name__}; save the targets anew")
        for row in rows:
            _check_fields(f"each stage of {task}", row, Stage)
        content[task] = tuple(Stage(**row) for row in rows)
    return StageTargets(**content)


def _check_fields(what: str, found: object, kind: type) -> None:
    wanted = [field.name for field in fields(kind)]
    if not isinstance(found, dict) or set(found) != set(wanted):
        got = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"expected {what} to hold {', '.join(wanted)}, got {got or 'nothing'}; save the targets anew")
