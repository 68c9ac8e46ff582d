"""The registry of models: those in this repository, those of the hub, and those the user added. Knows no weights."""

from __future__ import annotations

from backend.interface import UserError
from backend.models.added_models import AddedModels
from backend.models.catalogue import CATALOGUE
from backend.models.model_spec import ASSETS, BOTH_TASKS, ModelSpec, Precision

__all__ = ["ASSETS", "BOTH_TASKS", "SPECS", "ModelSpec", "Precision", "find_spec"]

SPECS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="tiny-janus",
        title="tiny-janus",
        family="janus",
        source=str(ASSETS / "tiny-janus"),
        revision="",
        tasks=BOTH_TASKS,
        decoupling="two encoders: own vision encoder for seeing, VQ tokenizer for drawing (as Janus-Pro)",
        layers=8,
        heads=8,
        image_tokens=64,
        parameters=4_058_243,
        licence="Apache-2.0",
        memory_mib={"float32": 16},
        note="embedded, 8 layers, knows coloured shapes",
        targets="tiny-experts",
    ),
    *CATALOGUE,
    *AddedModels().specs(),
)


def find_spec(name: str, specs: tuple[ModelSpec, ...] = SPECS) -> ModelSpec:
    """The spec of that name. Raises `UserError` naming the known ones."""
    for spec in specs:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in specs)
    raise UserError(f"Expected the name of a known model, got “{name[:60]}”; choose one of: {known}.")
