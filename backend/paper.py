"""The paper's curves, read off its figures (`assets/paper_curves.json` says how), by model. Knows nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from aia.intensity import Task
from backend.models.specs import ASSETS

PAPER_CURVES = ASSETS / "paper_curves.json"


@dataclass(frozen=True)
class PaperModel:
    """One model in one figure: mean intensity per layer of each task that is drawn."""

    name: str
    group: str
    curves: dict[Task, tuple[float, ...]]


@cache
def load_paper() -> dict[str, PaperModel]:
    """All models by slug, such as "fig5-emu3-with-aia"; a reference that several panels repeat is there once.

    Curves have a value per native layer; where the authors drew them resampled, that is the derived one.
    """
    data = json.loads(PAPER_CURVES.read_text(encoding="utf-8"))
    native = {_key(curve): curve["intensity"] for curve in data["derived_native_layer_curves"]}
    models: dict[str, PaperModel] = {}
    for curve in sorted(data["curves"], key=lambda c: c["figure"]):
        figure = curve["figure"]
        variant = curve["variant"] if curve["variant"].endswith("AIA") else ""
        label = f"{curve['model']} {variant}".strip()
        slug = re.sub(r"[^a-z0-9]+", "-", f"fig{figure} {label}".lower()).strip("-")
        model = models.setdefault(slug, PaperModel(f"{label}, fig. {figure}", f"Paper, figure {figure}", {}))
        model.curves.setdefault(Task(curve["task"]), tuple(native.get(_key(curve), curve["intensity"])))
    return models


def _key(curve: dict[str, Any]) -> tuple[str, ...]:
    return tuple(curve[name] for name in ("figure", "panel", "model", "task", "variant"))
