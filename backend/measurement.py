"""Measures a loaded model's curves on held-out prompts of the shapes world, by decoding under the probe.

Owns which prompts are measured, and the report. Knows `UnifiedModel`; neither its tokens nor statistics (`aia.curves`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace

import numpy as np
from PIL import Image

from aia import world
from aia.curves import spread_over_samples, summarise_curves, task_correlation
from aia.evaluation import held_out_drawings, held_out_questions
from aia.intensity import Definition, Task
from aia.targets import StageTargets, fit_targets
from backend.engine import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING
from backend.interface import CancelFlag, Finished, UnifiedModel, UserError
from backend.kept.captures import Capture, Sampling, round_finite
from backend.scores import Progress

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
    """Decode `samples` held-out prompts per task and report the curves, as plain data.

    Keys: `model`, `seed`, `samples` (asked for); each task measured, see `describe_task`; and with both tasks
    `correlation`: r, low, high of `aia.curves.task_correlation`, None where there is none. The same arguments
    give the same prompts, so reports with one seed can be compared before and after training.

    Raises: UserError for fewer than two samples asked for, or fewer than two with answer tokens; `Cancelled`.
    """
    check_samples(samples)
    report: dict = {"model": model.name, "seed": seed, "samples": samples}
    measured: dict[Task, np.ndarray] = {}
    for task in (t for t in Task if t in tasks):
        rows = []
        for capture in iterate_captures(model, task, samples, seed, sampling[task], cancel):
            rows.append(capture.intensity(definition))
            if progress:
                progress(_WHAT[task], len(rows), samples)
        measured[task] = np.stack(rows)
        report[task.value] = describe_task(measured[task], model.name, definition, sampling[task])
    if len(measured) == len(Task):
        found = task_correlation(measured[Task.GENERATION], measured[Task.UNDERSTANDING], seed=seed)
        report["correlation"] = {name: round_finite(value) for name, value in asdict(found).items()}
    return report


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
    """The captures of `samples` held-out prompts, one by one; prompt i is decoded with `sampling.seed + i`.

    The first captures are the same whatever the number asked for. Raises `Cancelled` when the flag was set.
    """
    if task == Task.UNDERSTANDING:
        prompts = [(Image.fromarray(world.draw_scene(s)), q.text) for s, q in pick_questions(samples, seed)]
        start = model.understand
    else:
        prompts = [(drawing.prompt,) for drawing in held_out_drawings(samples, seed)]
        start = model.generate
    for index, prompt in enumerate(prompts):
        *_, last = start(*prompt, replace(sampling, seed=sampling.seed + index), cancel)
        assert isinstance(last, Finished), "an event stream ends with Finished"
        yield last.capture


def pick_questions(samples: int, seed: int) -> list[tuple[world.Scene, world.Question]]:
    """`samples` held-out scenes, one question each: of the kinds a scene can answer, the one asked least so far.

    One question a scene keeps samples independent; not every scene has a question of every kind.
    """
    asked: Counter[str] = Counter()
    picked = []
    for _, group in itertools.groupby(held_out_questions(samples, seed), key=lambda pair: id(pair[0])):
        scene, question = min(group, key=lambda pair: asked[pair[1].kind])  # of equals the first in kind order
        asked[question.kind] += 1
        picked.append((scene, question))
    return picked


def describe_task(intensities: np.ndarray, model: str, definition: Definition, sampling: Sampling) -> dict:
    """One task's part of the report: intensities [N, L], NaN rows where an answer had no token → plain data.

    `mean`, `std` [L], `spread` (paper Table 1), `n` samples used, `left_out` the numbers of those without answer
    tokens, `intensities` [n, L] to five decimals, `definition`, `model`, `sampling`.
    """
    empty = np.isnan(intensities).all(1)
    if (~empty).sum() < MIN_SAMPLES:
        raise UserError(
            f"Expected at least {MIN_SAMPLES} samples with answer tokens from {model}, got {(~empty).sum()} of "
            f"{len(empty)}; measure more samples."
        )
    curve = summarise_curves(intensities)
    return {
        "mean": [round_finite(v) for v in curve.mean],
        "std": [round_finite(v) for v in curve.std],
        "spread": round_finite(spread_over_samples(intensities)),
        "n": curve.samples,
        "left_out": np.flatnonzero(empty).tolist(),
        "definition": definition.value,
        "model": model,
        "sampling": sampling.plain(),
        "intensities": np.round(intensities[~empty].astype(np.float64), 5).tolist(),
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
