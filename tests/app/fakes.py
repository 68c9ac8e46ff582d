"""A model without weights behind the real engine: answers from a list, masses from a seed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
from PIL import Image

from aia.intensity import GROUPS, Group, Task
from backend.engine import Engine
from backend.interface import CancelFlag, Cancelled, Event, Finished, PictureGrown, TextGrown
from backend.kept.captures import Capture, CaptureKey, Sampling
from backend.pictures import picture_to_png, pixels_sha256

GRID = (8, 8)
LAYERS, HEADS = 8, 4
ANSWER = ("a", "red", "circle", "and", "a", "blue", "square")
KNOWN = set("a an the is there what how many describe image of red circle circles square squares objects are".split())


class FakeModel:
    """Counts its runs; sleeps `step_seconds` per token."""

    name, revision, precision, adapter = "tiny-janus", "fake", "float32", ""
    device = SimpleNamespace(type="cpu")

    def __init__(self, step_seconds: float = 0.0):
        self.step_seconds = step_seconds
        self.runs = 0

    def unknown_words(self, prompt: str) -> list[str]:
        return [w for w in dict.fromkeys(re.findall(r"\w+", prompt)) if w not in KNOWN]

    def see(self, image: Image.Image) -> Image.Image:
        return image.convert("RGB").resize((64, 64))

    def understanding_key(self, image: Image.Image, prompt: str, sampling: Sampling) -> CaptureKey:
        return self._key(Task.UNDERSTANDING, prompt, pixels_sha256(self.see(image)), sampling)

    def generation_key(self, prompt: str, sampling: Sampling) -> CaptureKey:
        return self._key(Task.GENERATION, prompt, "", sampling)

    def _key(self, task: Task, prompt: str, digest: str, sampling: Sampling) -> CaptureKey:
        return CaptureKey(self.name, self.revision, self.precision, task, prompt, digest, sampling)

    def understand(
        self, image: Image.Image, prompt: str, sampling: Sampling, cancel: CancelFlag | None = None
    ) -> Iterator[Event]:
        self.runs += 1
        fed = ANSWER[: sampling.max_new_tokens]
        for count in range(1, len(fed) + 1):
            self._step(cancel)
            yield TextGrown(" ".join(fed[:count]))
        key = self.understanding_key(image, prompt, sampling)
        yield Finished(make_capture(key, " ".join(fed), fed, self.see(image)), cached=False)

    def generate(self, prompt: str, sampling: Sampling, cancel: CancelFlag | None = None) -> Iterator[Event]:
        self.runs += 1
        picture = Image.new("RGBA", (64, 64), (40, 90, 200, 255))
        for row in range(1, 8):
            self._step(cancel)
            yield PictureGrown(picture, row * 8, 64)
        codes = tuple(f"code {i}" for i in range(63))
        yield Finished(make_capture(self.generation_key(prompt, sampling), "", codes, picture), cached=False)

    def _step(self, cancel: CancelFlag | None) -> None:
        time.sleep(self.step_seconds)
        if cancel is not None and cancel.is_set():
            raise Cancelled


class FakeEngine(Engine):
    """The real engine over one `FakeModel`."""

    def __init__(self, store, model: FakeModel | None = None):
        super().__init__(store)
        self.model = model or FakeModel()
        self.adopt(self.model)


def make_capture(key: CaptureKey, text: str, fed: tuple[str, ...], picture: Image.Image) -> Capture:
    """A well-formed capture: masses over groups sum to 1, drawn from the key."""
    rng = np.random.default_rng(int(key.id[:12], 16))
    words = tuple(key.prompt.split())
    generation = key.task == Task.GENERATION
    image = [] if generation else [("<image>", Group.IMAGE)] * 63 + [("<image>", Group.IMAGE_LAST)]
    head = [("<bos>", Group.BOS), *((w, Group.PROMPT) for w in words), ("<boi>", Group.BOI), *image]
    tokens = [*head, *((t, Group.GENERATED) for t in fed)]
    branches = 2 if generation and key.sampling.guidance > 1 else 1
    rows = 1 + len(fed)
    mass = rng.dirichlet(np.ones(len(GROUPS)) * 0.8, (branches, LAYERS, HEADS, rows)).astype(np.float32)
    wanted = (Group.PROMPT,) if generation else (Group.IMAGE, Group.IMAGE_LAST)
    cross_positions = np.array([i for i, (_, g) in enumerate(tokens) if g in wanted], np.int32)
    return Capture(
        key=key,
        text=text,
        tokens=tuple(t for t, _ in tokens),
        token_groups=tuple(g.value for _, g in tokens),
        grid=GRID,
        seconds=0.42,
        created=1_760_000_000.0,
        picture_png=picture_to_png(picture),
        mass=mass,
        query_positions=(len(head) - 1 + np.arange(rows)).astype(np.int32),
        cross=rng.random((LAYERS, rows, len(cross_positions))).astype(np.float16),
        cross_positions=cross_positions,
    )
