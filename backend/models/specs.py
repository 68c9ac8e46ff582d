"""The registry of models: those in this repository, those of the hub, and those the user added. Knows no weights."""

from __future__ import annotations

from pathlib import Path

from backend.interface import UserError
from backend.models.added_models import AddedModels
from backend.models.catalogue import CATALOGUE, CURVES_ONLY
from backend.models.model_spec import ASSETS, BOTH_TASKS, ModelSpec, Precision

__all__ = ["ASSETS", "BOTH_TASKS", "SPECS", "ModelSpec", "Precision", "find_spec"]

EMBEDDED: tuple[ModelSpec, ...] = (
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
        paper_curve="fig1-janus-pro",
    ),
    ModelSpec(
        name="tiny-emu3",
        title="tiny-emu3",
        family="emu3",
        source=str(ASSETS / "tiny-emu3"),
        revision="",
        tasks=BOTH_TASKS,
        decoupling="one token space: a VQ tokenizer makes pictures words of one vocabulary (as Emu3)",
        layers=8,
        heads=8,
        image_tokens=72,  # 8 rows of 8 patches and a row end
        parameters=5_389_827,
        licence="Apache-2.0",
        memory_mib={"float32": 21},
        note="embedded, 8 layers, knows coloured shapes",
        targets="tiny-experts",
        paper_curve="fig1-emu3",
        hidden=128,
        inner=352,
        kv_heads=4,
        vocabulary=2_131,
        one_size=True,
    ),
)

SPECS: tuple[ModelSpec, ...] = (
    *(spec for spec in EMBEDDED if Path(spec.source).is_dir()),
    *CATALOGUE,
    *AddedModels().specs(),
)


def find_spec(name: str, specs: tuple[ModelSpec, ...] = SPECS) -> ModelSpec:
    """The spec of that name. Raises `UserError` naming the known ones."""
    for spec in specs:
        if spec.name == name:
            return spec
    for other in CURVES_ONLY:
        if other.name == name:
            raise UserError(
                f"{other.title} is here by its reference curve only ({other.why}); compare with that, or choose "
                "another model."
            )
    known = ", ".join(spec.name for spec in specs)
    raise UserError(f"Expected the name of a known model, got “{name or ''!s:.60}”; choose one of: {known}.")
