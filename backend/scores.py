"""Puts a loaded model to the shapes world's two tests. Knows `UnifiedModel`, not how scores are counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image

from aia import world
from aia.evaluation import score_generation, score_understanding
from aia.intensity import Task
from backend.interface import UnifiedModel
from backend.kept.captures import Sampling

Progress = Callable[[str, int, int], None]  # what, done, total


def evaluate_model(
    model: UnifiedModel, samples: int, seed: int, sampling: Sampling, progress: Progress | None = None
) -> dict:
    """Scores on `samples` held-out scenes: `understanding`, `generation`, `samples`, `seed`, `sampling`.

    What the model cannot do has none.
    """

    def answer(pictures: list[np.ndarray], questions: list[str]) -> list[str]:
        return model.answer_batch([Image.fromarray(p) for p in pictures], questions)

    batches = itertools.count()

    def draw(prompts: list[str]) -> list[np.ndarray]:
        # Each batch has a seed of its own: drawings that share their noise would not be independent.
        drawn = model.draw_batch(prompts, replace(sampling, seed=sampling.seed + next(batches)))
        return [fit_canvas(picture) for picture in drawn]

    def told(what: str):
        return None if progress is None else lambda done, total: progress(what, done, total)

    scores = {}
    if Task.UNDERSTANDING in model.tasks:
        scores["understanding"] = score_understanding(answer, samples, seed, progress=told("questions")).as_dict()
    if Task.GENERATION in model.tasks:
        scores["generation"] = score_generation(draw, samples, seed, progress=told("drawings")).as_dict()
    return {
        "model": model.name,
        **scores,
        "samples": samples,
        "seed": seed,
        "sampling": {"temperature": sampling.temperature, "guidance": sampling.guidance},
    }


def fit_canvas(picture: Image.Image) -> np.ndarray:
    """A drawing of any size as the world's reader takes it: uint8 [64, 64, 3]."""
    size = (world.CANVAS_PX, world.CANVAS_PX)
    return np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS))
