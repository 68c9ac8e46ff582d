"""The registry of models: what each is, where it comes from, what it can do. Knows no weights."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aia.intensity import Task
from backend.interface import UserError

ASSETS = Path(__file__).resolve().parent.parent / "assets"
BOTH_TASKS = frozenset(Task)


class Precision(StrEnum):
    """How weights are held: as the device wants them (see `backend.loading`), or quantised by bitsandbytes."""

    FULL = "full"
    INT8 = "int8"
    NF4 = "nf4"


@dataclass(frozen=True)
class ModelSpec:
    """One model that can be chosen.

    `source` is a folder or a hub id; `revision` a hub commit, or empty for a folder, whose weights are
    then digested; `memory_mib` the memory of the weights per precision; `targets` a preset of `aia.targets`.
    """

    name: str
    title: str
    family: str
    source: str
    revision: str
    tasks: frozenset[Task]
    decoupling: str
    layers: int
    heads: int
    image_tokens: int
    parameters: int
    licence: str
    memory_mib: dict[str, int]
    note: str
    targets: str = "paper-janus-pro"  # the preset that suits it best


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
)


def find_spec(name: str, specs: tuple[ModelSpec, ...] = SPECS) -> ModelSpec:
    """The spec of that name. Raises `UserError` naming the known ones."""
    for spec in specs:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in specs)
    raise UserError(f"Expected the name of a known model, got “{name[:60]}”; choose one of: {known}.")
