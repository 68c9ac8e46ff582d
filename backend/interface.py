"""What every model family offers, and the events that long work streams. Knows no family.

A front end iterates over the events of `engine.understand()` or `engine.generate()`; the last one
is always a `Finished`. Everything a user can get wrong is a `UserError` with one clear sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from aia.intensity import Task
from backend.kept.captures import Capture, CaptureKey, Sampling

if TYPE_CHECKING:  # importing torch takes seconds, and only an annotation needs it here
    import torch


class UserError(ValueError):
    """Something the user can mend: one sentence saying what was expected, what came, what to do."""


def as_sentence(said: object) -> str:
    """What an error says, from a capital to a full stop."""
    text = str(said).strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…", "!", "?")) else ".")


class Cancelled(Exception):
    """Raised out of an event stream whose cancel flag was set."""


@dataclass(frozen=True)
class Notice:
    """A sentence for the user that does not stop the work, such as words the model has never seen."""

    text: str


@dataclass(frozen=True)
class Waiting:
    """Others come first: how many, and the expected seconds until they are done; None where nobody knows."""

    ahead: int
    seconds: float | None = None


@dataclass(frozen=True)
class Preparing:
    """The model is on its way: what is being done, and bytes so far of how many; 0 of 0 where nobody knows."""

    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class TextGrown:
    """One more answer token. `text` is the whole answer so far."""

    text: str


@dataclass(frozen=True)
class PictureGrown:
    """The drawing so far; tokens not made yet are shown as background."""

    picture: Image.Image
    done: int
    total: int


@dataclass(frozen=True)
class Computed:
    """The result, before it is written to the disk; `Finished` follows."""

    capture: Capture


@dataclass(frozen=True)
class Finished:
    """The result. `cached` says that it came from the store and no model ran."""

    capture: Capture
    cached: bool


@dataclass(frozen=True)
class Looks:
    """What single heads looked at in some rows of a capture, from a pass of the same tokens.

    `cross` float32 [L, H, R, X]: attention on the keys of `Capture.cross`; `drawn` float32 [L, H, R, rows · columns]:
    of a drawing, on the patches made before, as `Capture.drawn`; None for an answer. Of one head: [R, X] and
    [R, rows · columns].
    """

    cross: np.ndarray
    drawn: np.ndarray | None = None


Event = Notice | Waiting | Preparing | TextGrown | PictureGrown | Computed | Finished


class CancelFlag(Protocol):
    """Anything with `is_set()`, such as a `threading.Event`; looked at between tokens."""

    def is_set(self) -> bool: ...


class UnifiedModel(Protocol):
    """One loaded model. The only thing above the families that views, loss and evaluation ever see."""

    name: str
    tasks: frozenset[Task]  # what it can do
    revision: str
    precision: str
    adapter: str  # digest of the adapter at work and its strength; empty for none
    device: torch.device

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt that the tokenizer cannot represent, in order, each once."""
        ...

    def see(self, image: Image.Image) -> Image.Image:
        """The picture as the model gets it after resizing and padding."""
        ...

    def understanding_key(self, image: Image.Image, prompt: str, sampling: Sampling) -> CaptureKey:
        """The key of the capture that `understand` would make. Cheap: no model runs."""
        ...

    def generation_key(self, prompt: str, sampling: Sampling) -> CaptureKey:
        """The key of the capture that `generate` would make. Cheap: no model runs."""
        ...

    def understand(
        self, image: Image.Image, prompt: str, sampling: Sampling, cancel: CancelFlag | None = None
    ) -> Iterator[Event]:
        """Answer the prompt about the image, token by token; then `Finished`."""
        ...

    def generate(self, prompt: str, sampling: Sampling, cancel: CancelFlag | None = None) -> Iterator[Event]:
        """Draw the prompt, a few tokens at a time; then `Finished`."""
        ...

    def look_again(self, capture: Capture, rows: range, head: tuple[int, int] | None = None) -> Looks:
        """What single heads of those rows of a capture of this model looked at, in all layers or of one (layer, head).

        Raises `UserError` where reading the capture's prompt again does not give its tokens.
        """
        ...

    def answer_batch(self, images: list[Image.Image], prompts: list[str], max_new_tokens: int = 64) -> list[str]:
        """Greedy answers without capture, many at once."""
        ...

    def draw_batch(self, prompts: list[str], sampling: Sampling) -> list[Image.Image]:
        """Drawings without capture, many at once, from one seed."""
        ...
