"""What a model draws and answers at moments of its fine-tune: the same prompts, pictures and seeds in every run.

Owns which few items these are, when one is due, and the pictures in the run folder; the words go into the run's events.
What it does leaves no trace on the training: `aia.training` puts the random state back. Knows no loss and no page.

    samples/asked/item-0.png     the picture asked about, or one that the prompt fits
    samples/<step>/item-0.png    what the model drew at that step

    {"event": "asked", "items": [{"task", "text", "answer", "file"}, …]}           once: a question has an answer
    {"event": "sampled", "step": 25, "items": [{"file" or "text", "right"}, …]}     in the same order
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image

from aia import world
from aia.config import TrainingConfig
from aia.data import Sample
from aia.evaluation import plain
from aia.intensity import Task
from backend.interface import UnifiedModel, UserError
from backend.pictures import picture_to_png
from backend.sampling import GENERATION_SAMPLING
from backend.scores import fit_canvas

SEED = 11  # of prompts, questions and the noise that drawings begin with
MOST_MOMENTS = 100  # steps of a run at which there are samples
KEPT_PX = 384  # larger pictures are kept this size
LONGEST_TEXT = 1000
# Kinds in turn, those that a model finds hard first: they show what changes.
DRAWINGS = ("two objects", "position", "counting", "one object")
QUESTIONS = ("relation", "count", "describe", "existence", "colour", "shape")
THINGS = 3  # in a scene that is asked about

Listener = Callable[[dict], None]


@dataclass(frozen=True, eq=False)
class Item:
    """A prompt to draw, or a question with its answer; `drawing` is what the world's reader checks, where it can."""

    task: Task
    text: str
    picture: np.ndarray  # uint8 [H, W, 3]: asked about, or a drawing that the prompt fits
    answer: str = ""
    drawing: world.Drawing | None = None
    checked: bool = False  # whether right and wrong can be told


def choose_items(
    config: TrainingConfig, rows: Mapping[Task, Sequence[Sample]], tasks: Collection[Task] = tuple(Task)
) -> list[Item]:
    """What a run's samples are of, in the tasks a model can do; `rows` are the first of data that are no world."""
    count = config.sample_count
    items = world_items(count) if config.data == "world" else row_items(rows, count)
    return [item for item in items if item.task in tasks]


def world_items(count: int) -> list[Item]:
    """`count` prompts and as many questions on held-out scenes, kinds in turn; fewer are the first of more."""
    return [*(_world_drawing(i) for i in range(count)), *(_world_question(i) for i in range(count))]


def _world_drawing(number: int) -> Item:
    rng = random.Random(f"samples/{Task.GENERATION}/{SEED}/{number}")
    scene, drawing = world.make_drawing_of_kind(rng, DRAWINGS[number % len(DRAWINGS)], held_out=True)
    return Item(Task.GENERATION, drawing.prompt, world.draw_scene(scene), drawing=drawing, checked=True)


def _world_question(number: int) -> Item:
    rng, kind = random.Random(f"samples/{Task.UNDERSTANDING}/{SEED}/{number}"), QUESTIONS[number % len(QUESTIONS)]
    question = None
    while question is None:  # not every scene has something to the left of something
        scene = world.make_scene(rng, held_out=True, count=THINGS)
        question = world.make_questions(scene, rng).get(kind)
    return Item(Task.UNDERSTANDING, question.text, world.draw_scene(scene), question.answer, checked=True)


def row_items(samples: Mapping[Task, Sequence[Sample]], count: int) -> list[Item]:
    """The first rows of each task of a file; of a conversation its first turn. Nobody can say what is right there."""
    drawn, asked = (samples.get(task, ())[:count] for task in (Task.GENERATION, Task.UNDERSTANDING))
    questions = [Item(s.task, s.turns[0].question, s.picture, s.turns[0].answer) for s in asked]
    return [*(Item(s.task, s.prompt, s.picture) for s in drawn), *questions]


def is_due(step: int, config: TrainingConfig) -> bool:
    """Whether a measured step has samples: first and last always, of very many measurements every few."""
    stride = max(1, math.ceil(config.steps // config.probe_every / MOST_MOMENTS))
    return step in (0, config.steps) or step % (stride * config.probe_every) == 0


def sample_when_due(sampler: Sampler, config: TrainingConfig, accelerator: Accelerator) -> Callable[[int], None]:
    """What a training calls at measured steps: the first process takes samples where they are due, the others wait."""

    def at_probe(step: int) -> None:
        if accelerator.is_main_process and sampler.items and is_due(step, config):
            sampler.take(step)
        accelerator.wait_for_everyone()

    return at_probe


class Sampler:
    """Takes a run's samples with the model in training."""

    def __init__(self, model: UnifiedModel, items: Sequence[Item], folder: Path, told: bool, tell: Listener):
        """`told`: whether the run's events have what is asked already."""
        self.model, self.items, self.folder, self.tell, self._told = model, items, folder, tell, told

    def take(self, step: int) -> None:
        """Draw and answer, keep the pictures, tell the events. The model is in eval mode.

        Raises `UserError` if the disk refuses.
        """
        if not self._told:
            self._ask()
        drawn, said = self._draw(), self._answer()
        files = self._keep(str(step), drawn)
        told = [
            {"file": files[i], "right": _drawn_right(item, drawn[i])}
            if i in files
            else {"text": said[i][:LONGEST_TEXT], "right": _said_right(item, said[i])}
            for i, item in enumerate(self.items)
        ]
        self.tell({"event": "sampled", "step": step, "items": told})

    def _ask(self) -> None:
        files = self._keep("asked", {i: Image.fromarray(item.picture) for i, item in enumerate(self.items)})
        items = [
            {"task": item.task.value, "text": item.text[:LONGEST_TEXT], "answer": item.answer[:LONGEST_TEXT]}
            | {"file": files[i]}
            for i, item in enumerate(self.items)
        ]
        self.tell({"event": "asked", "items": items})
        self._told = True

    def _draw(self) -> dict[int, Image.Image]:
        """Pictures by the item's number, all in one batch from one seed."""
        items, sampling = self._of(Task.GENERATION), replace(GENERATION_SAMPLING, seed=SEED)
        drawn = self.model.draw_batch([item.text for item in items.values()], sampling) if items else []
        return dict(zip(items, drawn, strict=True))

    def _answer(self) -> dict[int, str]:
        """Greedy answers by the item's number, all in one batch."""
        items = self._of(Task.UNDERSTANDING)
        pictures = [Image.fromarray(item.picture) for item in items.values()]
        said = self.model.answer_batch(pictures, [item.text for item in items.values()]) if items else []
        return dict(zip(items, said, strict=True))

    def _of(self, task: Task) -> dict[int, Item]:
        return {number: item for number, item in enumerate(self.items) if item.task == task}

    def _keep(self, name: str, pictures: Mapping[int, Image.Image]) -> dict[int, str]:
        """Write a folder of pictures whole, over a former one; → their files within `samples/`, by number."""
        whole, draft = self.folder / name, self.folder / f".{name}.part"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            for number, picture in pictures.items():
                (draft / f"item-{number}.png").write_bytes(picture_to_png(_limit(picture)))
            shutil.rmtree(whole, ignore_errors=True)
            draft.rename(whole)
        except OSError as error:
            raise UserError(
                f"The run's samples could not be written ({error.strerror}); make room, then resume the run."
            ) from error
        return {number: f"{name}/item-{number}.png" for number in pictures}


def _limit(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((KEPT_PX, KEPT_PX))
    return small


def _drawn_right(item: Item, picture: Image.Image) -> bool | None:
    """What the world's reader finds; None where it cannot read."""
    return None if item.drawing is None else bool(world.check_drawing(item.drawing, fit_canvas(picture)))


def _said_right(item: Item, answer: str) -> bool | None:
    return plain(answer) == plain(item.answer) if item.checked else None
