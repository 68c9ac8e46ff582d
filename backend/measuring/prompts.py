"""What is measured: questions about pictures and prompts for drawings, from the shapes world, a text or a data set.

Owns which samples there are and their order, which follows from the seed: the first ones are the same whatever the
number asked for. Knows neither models nor files.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from PIL import Image

from aia import world
from aia.conversations import ConversationsData
from aia.evaluation import held_out_drawings, held_out_questions
from aia.intensity import Task


@dataclass(frozen=True)
class Prompt:
    """A question with the picture it is about, or what to draw. `kind` is the world's; empty where nobody knows."""

    text: str
    kind: str = ""
    picture: Callable[[], Image.Image] | None = field(default=None, repr=False)


def world_prompts(task: Task, samples: int, seed: int) -> list[Prompt]:
    """`samples` held-out prompts of the shapes world."""
    if task == Task.GENERATION:
        return [Prompt(drawing.prompt, drawing.kind) for drawing in held_out_drawings(samples, seed)]
    return [Prompt(q.text, q.kind, partial(_draw, scene)) for scene, q in pick_questions(samples, seed)]


def text_prompts(lines: Sequence[str], samples: int, seed: int) -> list[Prompt]:
    """At most `samples` of the lines as prompts for drawings, in an order of the seed's; none twice."""
    order = list(range(len(lines)))
    random.Random(f"prompts/{seed}").shuffle(order)
    return [Prompt(lines[place]) for place in order[:samples]]


def data_prompts(data: ConversationsData, task: Task, samples: int) -> Iterator[Prompt]:
    """At most `samples` rows of a task, in the order of the data's own seed; of a conversation its first question."""
    for index in range(min(samples, data.count(task))):
        row = data.sample(task, index)
        if task == Task.GENERATION:
            yield Prompt(row.prompt)
        else:
            yield Prompt(row.turns[0].question, picture=partial(Image.fromarray, np.asarray(row.picture)))


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


def _draw(scene: world.Scene) -> Image.Image:
    return Image.fromarray(world.draw_scene(scene))
