"""Training data as samples by task and index, and the embedded shapes world as such data.

Owns what a sample is and the order of the world's, which follows from a seed alone. Knows neither models nor tokens,
nor files (`aia.conversations`).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np

from aia import world
from aia.intensity import Task

DESCRIBE_SHARE = 0.25  # of the world's prompts name everything, as in the embedded model's own training


@dataclass(frozen=True)
class Turn:
    """One question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """A picture uint8 [H, W, 3] (RGB), and either what is asked about it or the prompt that it is a drawing of."""

    task: Task
    picture: np.ndarray
    turns: tuple[Turn, ...] = ()  # understanding: one or more
    prompt: str = ""  # generation: what to draw


class TrainingData(Protocol):
    """An endless shuffled stream of samples per task, open at any index."""

    def count(self, task: Task) -> int | None:
        """Rows of a task; None: endless."""

    def sample(self, task: Task, index: int) -> Sample:
        """The sample at `index` (0, 1, …): the same for the same seed, whatever was asked for before.

        Raises: ValueError for an index below 0, a task without rows, a picture that can no longer be read.
        """

    def digest(self) -> str:
        """12 hexadecimal digits of all that determines the samples: a run resumes only on the same data."""


class WorldData:
    """Fresh scenes without end, always from the training side of the split; see `world.Scene.held_out`."""

    def __init__(self, seed: int, questions: int = 1) -> None:
        """`questions` is how many turns a picture gets; a scene with fewer kinds of questions gives what it has.

        Raises: ValueError unless 1 <= questions <= the number of kinds.
        """
        if not 1 <= questions <= len(world.QUESTION_KINDS):
            raise ValueError(
                f"expected 1 to {len(world.QUESTION_KINDS)} questions per picture, got {questions!r}; "
                "there is one of each kind"
            )
        self._seed, self._questions = seed, questions

    def count(self, task: Task) -> int | None:
        return None

    def sample(self, task: Task, index: int) -> Sample:
        check_index(index)
        rng = random.Random(f"{self._seed}/{task}/{index}")
        if task == Task.UNDERSTANDING:
            scene = world.make_scene(rng)
            asked = list(world.make_questions(scene, rng).values())
            chosen = rng.sample(asked, min(self._questions, len(asked)))
            return Sample(task, world.draw_scene(scene), tuple(Turn(q.text, q.answer) for q in chosen))
        scene, drawing = world.make_drawing_of_kind(rng, rng.choice(world.DRAWING_KINDS))
        prompt = world.describe(scene) if rng.random() < DESCRIBE_SHARE else drawing.prompt
        return Sample(task, world.draw_scene(scene), prompt=prompt)

    def digest(self) -> str:
        """Covers the words of the first samples too: a changed world is other data, though the seed be the same."""
        first = [self.sample(task, index) for task in Task for index in range(8)]
        return digest_of(["world", self._seed, self._questions], ([s.prompt, plain_turns(s.turns)] for s in first))


def check_index(index: int) -> None:
    """Refuse an index that no stream has. Raises: ValueError."""
    if index < 0:
        raise ValueError(f"expected a sample's index from 0 on, got {index}; ask for one that there is")


def plain_turns(turns: Iterable[Turn]) -> list[list[str]]:
    """Turns as JSON can carry them."""
    return [[turn.question, turn.answer] for turn in turns]


def digest_of(head: list, items: Iterable[list]) -> str:
    """12 hexadecimal digits of plain values, in order."""
    digest = hashlib.sha256()
    for item in chain([head], items):
        digest.update(json.dumps(item).encode() + b"\n")
    return digest.hexdigest()[:12]
