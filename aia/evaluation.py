"""Scores on the shapes world: exact answers, and drawings read back by plain image processing.

Models come in as two functions, so this file knows neither models nor prompts' templates.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from aia import world
from aia.data import Sample, Turn
from aia.intensity import Task

AnswerBatch = Callable[[list[np.ndarray], list[str]], list[str]]  # pictures uint8 [64, 64, 3], questions → answers
DrawBatch = Callable[[list[str]], list[np.ndarray]]  # prompts → pictures uint8 [64, 64, 3]
Progress = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class Score:
    """Right answers out of a total."""

    correct: int
    total: int

    @property
    def rate(self) -> float:
        return self.correct / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson score interval at 95 %."""
        if not self.total:
            return math.nan, math.nan
        z, n, p = 1.959964, self.total, self.rate
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class TaskScores:
    """One score per kind; the overall score counts every item alike."""

    by_kind: dict[str, Score]

    @property
    def overall(self) -> Score:
        return Score(sum(s.correct for s in self.by_kind.values()), sum(s.total for s in self.by_kind.values()))

    def as_dict(self) -> dict:
        """Rates, with intervals and totals beside them."""
        every = {"overall": self.overall, **self.by_kind}
        return {
            "overall": round(self.overall.rate, 4),
            "by_kind": {kind: round(score.rate, 4) for kind, score in self.by_kind.items()},
            "interval": {kind: [round(v, 4) for v in score.interval] for kind, score in every.items()},
            "total": {kind: score.total for kind, score in every.items()},
        }


def held_out_questions(samples: int, seed: int) -> list[tuple[world.Scene, world.Question]]:
    """`samples` held-out scenes with one question of every kind that each can answer."""
    rng = random.Random(f"questions/{seed}")
    pairs = []
    for _ in range(samples):
        scene = world.make_scene(rng, held_out=True)
        pairs += [(scene, question) for question in world.make_questions(scene, rng).values()]
    return pairs


def held_out_drawings(samples: int, seed: int) -> list[world.Drawing]:
    """`samples` prompts made from held-out scenes, the four kinds in turn."""
    rng = random.Random(f"drawings/{seed}")
    kinds = (world.DRAWING_KINDS[i % len(world.DRAWING_KINDS)] for i in range(samples))
    return [world.make_drawing_of_kind(rng, kind, held_out=True)[1] for kind in kinds]


def held_out_samples(task: Task, samples: int, seed: int) -> list[Sample]:
    """`samples` held-out samples in the form of training data, kinds of questions or prompts in turn."""
    rng = random.Random(f"probe/{task}/{seed}")
    if task == Task.GENERATION:
        kinds = (world.DRAWING_KINDS[i % len(world.DRAWING_KINDS)] for i in range(samples))
        pairs = [world.make_drawing_of_kind(rng, kind, held_out=True) for kind in kinds]
        return [Sample(task, world.draw_scene(scene), prompt=drawing.prompt) for scene, drawing in pairs]
    rows = []
    for number in range(samples):
        scene = world.make_scene(rng, held_out=True)
        asked = list(world.make_questions(scene, rng).values())
        question = asked[number % len(asked)]
        rows.append(Sample(task, world.draw_scene(scene), (Turn(question.text, question.answer),)))
    return rows


def score_understanding(
    answer: AnswerBatch, samples: int, seed: int, batch: int = 64, progress: Progress | None = None
) -> TaskScores:
    """Exact match of answers, ignoring case and spacing, on held-out scenes."""
    pairs = held_out_questions(samples, seed)
    hits: list[tuple[str, bool]] = []
    for chunk in in_batches(pairs, batch):
        answers = answer([world.draw_scene(scene) for scene, _ in chunk], [q.text for _, q in chunk])
        hits += [(q.kind, plain(a) == plain(q.answer)) for (_, q), a in zip(chunk, answers, strict=True)]
        if progress:
            progress(len(hits), len(pairs))
    return tally(hits, world.QUESTION_KINDS)


def score_generation(
    draw: DrawBatch, samples: int, seed: int, batch: int = 50, progress: Progress | None = None
) -> TaskScores:
    """Share of drawings in which the reader finds exactly what was asked for."""
    drawings = held_out_drawings(samples, seed)
    hits: list[tuple[str, bool]] = []
    for chunk in in_batches(drawings, batch):
        pictures = draw([d.prompt for d in chunk])
        hits += [(d.kind, world.check_drawing(d, p)) for d, p in zip(chunk, pictures, strict=True)]
        if progress:
            progress(len(hits), len(drawings))
    return tally(hits, world.DRAWING_KINDS)


def tally(hits: list[tuple[str, bool]], kinds: tuple[str, ...]) -> TaskScores:
    """Count hits per kind; kinds without an item are left out."""
    totals = {kind: [hit for k, hit in hits if k == kind] for kind in kinds}
    return TaskScores({kind: Score(sum(found), len(found)) for kind, found in totals.items() if found})


def plain(text: str) -> str:
    """Lower case, single spaces, no space before a sign, no full stop at the end."""
    return " ".join(text.lower().replace(" ,", ",").split()).rstrip(".").strip()


def in_batches(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
