"""The sample pictures and example prompts of assets/samples. Knows files; no page and no model."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from backend.models.specs import ASSETS

FOLDER = ASSETS / "samples"

UPLOAD_QUESTIONS = ("describe the image.", "how many objects are there?", "is there a red circle?")


@dataclass(frozen=True)
class Sample:
    """One picture with questions that fit it."""

    file: str
    title: str
    questions: tuple[str, ...]

    @property
    def path(self) -> Path:
        return FOLDER / self.file

    @property
    def url(self) -> str:
        """The picture as a data URL: half a kilobyte, cheaper than a request."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Samples:
    """All of them, in the order shown."""

    pictures: tuple[Sample, ...]
    drawings: tuple[str, ...]

    def find(self, file: str) -> Sample | None:
        return next((sample for sample in self.pictures if sample.file == file), None)


def load_samples() -> Samples:
    """Read samples.json."""
    document = json.loads((FOLDER / "samples.json").read_text(encoding="utf-8"))
    pictures = (
        Sample(entry["file"], entry["title"], tuple(q["text"] for q in entry["questions"]))
        for entry in document["pictures"]
    )
    return Samples(tuple(pictures), tuple(document["drawings"]))
