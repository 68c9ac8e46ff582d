"""Measures a loaded model's curves over many prompts, by decoding under the probe, and reports them as plain data.

Owns the report. Knows `UnifiedModel`; neither its tokens, nor statistics (`aia.curves`), nor which prompts there are
(`backend.measuring.prompts`), nor processes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from aia.curves import spread_over_samples, summarise_curves, task_correlation
from aia.intensity import Definition, Task
from aia.targets import StageTargets, fit_targets
from backend.interface import CancelFlag, Finished, UnifiedModel, UserError
from backend.kept.captures import Capture, Sampling, round_finite
from backend.measuring.prompts import Prompt, pick_questions, world_prompts
from backend.measuring.rows import DEFINITIONS, Row, make_row
from backend.sampling import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING
from backend.scores import Progress

__all__ = ["DEFAULT_SAMPLING", "MIN_SAMPLES", "check_samples", "fit_report", "measure_model", "pick_questions"]

DEFAULT_SAMPLING: dict[Task, Sampling] = {
    Task.UNDERSTANDING: UNDERSTANDING_SAMPLING,
    Task.GENERATION: GENERATION_SAMPLING,
}
MIN_SAMPLES = 2  # a standard deviation needs two
_WHAT = {Task.UNDERSTANDING: "questions", Task.GENERATION: "drawings"}


def measure_model(
    model: UnifiedModel,
    tasks: Collection[Task],
    samples: int,
    seed: int,
    definition: Definition = Definition.FIGURE,
    sampling: Mapping[Task, Sampling] = DEFAULT_SAMPLING,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> dict:
    """Decode `samples` held-out prompts of the shapes world per task and report the curves: see `make_report`.

    The same arguments give the same prompts, so reports with one seed can be compared before and after training.

    Raises: UserError for fewer than two samples asked for, or fewer than two with answer tokens; `Cancelled`.
    """
    check_samples(samples)
    rows: dict[Task, list[Row]] = {}
    for task in (t for t in Task if t in tasks):
        rows[task] = []
        prompts = world_prompts(task, samples, seed)
        for index, capture in enumerate(iterate_captures(model, task, samples, seed, sampling[task], cancel)):
            rows[task].append(make_row(capture, index, prompts[index].kind))
            if progress:
                progress(_WHAT[task], len(rows[task]), samples)
    return make_report(model.name, rows, samples, seed, definition, sampling)


def check_samples(samples: int) -> None:
    """Refuse fewer samples than a spread needs. Raises `UserError`."""
    if samples < MIN_SAMPLES:
        raise UserError(
            f"Expected at least {MIN_SAMPLES} samples for a mean and its spread, got {samples}; ask for more."
        )


def iterate_captures(
    model: UnifiedModel,
    task: Task,
    samples: int,
    seed: int,
    sampling: Sampling,
    cancel: CancelFlag | None = None,
) -> Iterator[Capture]:
    """The captures of `samples` held-out prompts of the shapes world, one by one; see `decode`."""
    for index, prompt in enumerate(world_prompts(task, samples, seed)):
        yield decode(model, task, prompt, index, sampling, cancel)


def decode(
    model: UnifiedModel, task: Task, prompt: Prompt, index: int, sampling: Sampling, cancel: CancelFlag | None = None
) -> Capture:
    """The capture of one prompt; the one numbered i is decoded with `sampling.seed + i`. Raises `Cancelled`."""
    own = replace(sampling, seed=sampling.seed + index)
    if task == Task.UNDERSTANDING:
        events = model.understand(prompt.picture(), prompt.text, own, cancel)
    else:
        events = model.generate(prompt.text, own, cancel)
    *_, last = events
    assert isinstance(last, Finished), "an event stream ends with Finished"
    return last.capture


# --- the report ---


def make_report(
    model: str,
    rows: Mapping[Task, Sequence[Row]],
    samples: int,
    seed: int,
    definition: Definition,
    sampling: Mapping[Task, Sampling],
) -> dict:
    """Rows as plain data: `model`, `seed`, `samples` (asked for); each task of the rows, see `describe_task`.

    With both tasks also `correlation`: r, low, high, resamples of `aia.curves.task_correlation` by the definition asked
    for, None where there is none. Raises `UserError` for fewer than two samples with answer tokens.
    """
    report: dict = {"model": model, "seed": seed, "samples": samples}
    for task in (t for t in Task if t in rows):
        report[task.value] = describe_task(rows[task], model, definition, sampling[task])
    if len(rows) == len(Task):
        curves = (np.stack([r.intensity(definition) for r in rows[t]]) for t in (Task.GENERATION, Task.UNDERSTANDING))
        found = task_correlation(*curves, seed=seed)
        rounded = {name: round_finite(value) for name, value in asdict(found).items()}
        report["correlation"] = rounded | {"resamples": found.resamples}
    return report


def describe_task(rows: Sequence[Row], model: str, definition: Definition, sampling: Sampling) -> dict:
    """One task's part of the report.

    `n` samples used, `left_out` the numbers of those without answer tokens, `definition`, `model`, `sampling`; by the
    definition what `describe_definition` says, by the `others` the same; `kinds` and prompt lengths in `tokens` of
    the samples used.
    """
    used = [row for row in rows if not row.empty]
    if len(used) < MIN_SAMPLES:
        raise UserError(
            f"Expected at least {MIN_SAMPLES} samples with answer tokens from {model}, got {len(used)} of "
            f"{len(rows)}; measure more samples."
        )
    return {
        **describe_definition(used, definition),
        "n": len(used),
        "left_out": [row.index for row in rows if row.empty],
        "model": model,
        "sampling": sampling.plain(),
        "kinds": [row.kind for row in used] if all(row.kind for row in used) else None,
        "tokens": [row.tokens for row in used],
        "others": [describe_definition(used, other) for other in DEFINITIONS if other != definition],
    }


def describe_definition(used: Sequence[Row], definition: Definition) -> dict[str, Any]:
    """Curves by one definition: `mean`, `std` [L], `spread` (paper Table 1), `heads` the mean of each [L, H],
    `intensities` [n, L] to five decimals, `definition`."""
    intensities = np.stack([row.intensity(definition) for row in used])
    curve = summarise_curves(intensities)
    heads = np.mean([row.heads[DEFINITIONS.index(definition)] for row in used], 0, np.float64)
    return {
        "mean": [round_finite(v) for v in curve.mean],
        "std": [round_finite(v) for v in curve.std],
        "spread": round_finite(spread_over_samples(intensities)),
        "definition": definition.value,
        "intensities": np.round(intensities.astype(np.float64), 5).tolist(),
        "heads": np.round(heads, 5).tolist(),
    }


def fit_report(report: Mapping, stages: int, name: str) -> StageTargets:
    """Fit stage targets to both curves of a `measure_model` report; see `aia.stages.fit_stages`.

    Raises: UserError if a task was not measured, or for a number of stages outside 1…L.
    """
    missing = [task.value for task in Task if not report.get(task.value)]
    if missing:
        raise UserError(f"Expected both tasks to be measured for targets, got no {' and no '.join(missing)}; add it.")
    # Rounded half precision may add up to a little more than all of a row's attention.
    curves = {t: (np.clip(report[t.value]["mean"], 0, 1), np.clip(report[t.value]["std"], 0, 1)) for t in Task}
    part = report[Task.GENERATION.value]
    source = f"measured on {report['model']}, {part['definition']} definition, "
    source += f"{report['samples']} samples a task, seed {report['seed']}"
    try:
        return fit_targets(name, source, curves[Task.GENERATION], curves[Task.UNDERSTANDING], stages)
    except ValueError as error:
        raise UserError(f"E{str(error)[1:]}.") from error  # "expected …" becomes a sentence
