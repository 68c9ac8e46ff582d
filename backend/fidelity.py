"""Does attention survive quantisation? The same sequences through a model in several precisions, curve against curve.

Owns the comparison and its report. Sequences are teacher-forced, so every precision reads the very same tokens; beside
that the answers it gives by itself are compared. Knows `UnifiedModel` and `Trainable`; no file, no page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from aia import world
from aia.batch import Batch, Trainable
from aia.data import Sample
from aia.evaluation import held_out_samples, in_batches
from aia.intensity import Definition, Task
from aia.loss import SequenceProbe
from backend.families import as_trainable
from backend.interface import UnifiedModel, UserError
from backend.kept.captures import round_finite
from backend.measurement import check_samples, pick_questions
from backend.models.specs import Precision
from backend.scores import Progress

BATCH = 8


@dataclass(frozen=True)
class Reading:
    """What one precision made of the samples: intensities [N, L] and next-token loss by task, answers to questions."""

    precision: str
    weights_mib: float
    intensities: dict[Task, np.ndarray]
    loss: dict[Task, float]
    answers: list[str]


def check_fidelity(
    load: Callable[[Precision], UnifiedModel],
    precisions: Sequence[Precision],
    tasks: Collection[Task],
    samples: int,
    seed: int,
    definition: Definition = Definition.FIGURE,
    progress: Progress | None = None,
) -> dict:
    """Compare precisions with the first of them on held-out samples of the shapes world, as plain data.

    One model is held at a time. See `compare_readings` for the report. Raises `UserError` for fewer than two
    precisions or samples.
    """
    check_samples(samples)
    if len(set(precisions)) < 2 or len(set(precisions)) < len(precisions):
        raise UserError("Expected at least two different precisions to compare; name another beside full.")
    readings = []
    for precision in precisions:
        if progress:
            progress("precisions", len(readings), len(precisions))
        model = load(precision)
        readings.append(read_samples(model, tasks, samples, seed, definition))
        name = model.name
        del model
    if progress:
        progress("precisions", len(readings), len(precisions))
    about = {"model": name, "samples": samples, "seed": seed, "definition": definition.value}
    return about | compare_readings(readings)


def read_samples(
    model: UnifiedModel, tasks: Collection[Task], samples: int, seed: int, definition: Definition
) -> Reading:
    """Curves and losses of the held-out samples, and the model's own answers to as many questions."""
    trainable = as_trainable(model)
    read = {t: _read_task(trainable, held_out_samples(t, samples, seed), definition) for t in Task if t in tasks}
    answers: list[str] = []
    if Task.UNDERSTANDING in tasks:
        for part in in_batches(pick_questions(samples, seed), BATCH):
            pictures = [Image.fromarray(world.draw_scene(scene)) for scene, _ in part]
            answers += model.answer_batch(pictures, [question.text for _, question in part])
    return Reading(
        model.precision,
        round(trainable.model.get_memory_footprint() / 2**20, 1),
        {task: curves for task, (curves, _) in read.items()},
        {task: loss for task, (_, loss) in read.items()},
        answers,
    )


@torch.no_grad()
def _read_task(trainable: Trainable, samples: list[Sample], definition: Definition) -> tuple[np.ndarray, float]:
    """Intensities [N, L], and the loss per learnt token."""
    curves, loss, tokens = [], 0.0, 0
    for part in in_batches(samples, BATCH):
        batch: Batch = trainable.collate(part, [False] * len(part))
        probe = SequenceProbe(batch.groups, batch.task, (definition,))
        loss += float(trainable.ntp_sum(batch, probe))
        tokens += int(batch.label_count)
        found = probe.intensities(trainable.layers, definition)
        curves.append(found.float().cpu().numpy())
    return np.concatenate(curves), loss / tokens


def compare_readings(readings: Sequence[Reading]) -> dict:
    """The first reading against each other, as plain data.

    Per task: `reference` (its mean curve [L]) and by precision `mean` [L], `largest_difference` [L] (over samples, of
    |curve − reference curve|), `mean_difference` [L], `loss` per token. Beside them, by precision, `weights_mib`, and
    `equal_answers`, the share of answers that are the reference's word for word (None without answers).
    """
    first, others = readings[0], readings[1:]
    report: dict = {
        "reference": first.precision,
        "weights_mib": {r.precision: r.weights_mib for r in readings},
        "equal_answers": {r.precision: _equal(first.answers, r.answers) for r in others},
    }
    for task, reference in first.intensities.items():
        report[task.value] = {
            "reference": _plain(reference.mean(0)),
            "loss": {r.precision: round(r.loss[task], 5) for r in readings},
            **{r.precision: _compare(reference, r.intensities[task]) for r in others},
        }
    return report


def _compare(reference: np.ndarray, other: np.ndarray) -> dict:
    apart = np.abs(other - reference)  # [N, L]
    return {
        "mean": _plain(other.mean(0)),
        "largest_difference": _plain(apart.max(0)),
        "mean_difference": _plain(apart.mean(0)),
    }


def _plain(values: np.ndarray) -> list[float | None]:
    return [round_finite(v) for v in values]


def _equal(reference: list[str], other: list[str]) -> float | None:
    if not reference:
        return None
    return round(sum(a == b for a, b in zip(reference, other, strict=True)) / len(reference), 4)
