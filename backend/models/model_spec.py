"""What a model is before it is loaded: where it comes from, what it can do, how large it is. Knows no single model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aia.intensity import Task

ASSETS = Path(__file__).resolve().parents[2] / "assets"
BOTH_TASKS = frozenset(Task)


class Precision(StrEnum):
    """How weights are held: as the device wants them (see `backend.models.loading`), or quantised by bitsandbytes."""

    FULL = "full"
    INT8 = "int8"
    NF4 = "nf4"


@dataclass(frozen=True)
class ModelSpec:
    """One model that can be chosen.

    `source` is a folder or a hub id; `revision` a hub commit, or empty: for a folder, whose weights are then digested,
    or for a hub's newest files. `memory_mib` is the memory of the weights per precision, `image_tokens` those of a
    picture, the most where they vary; `targets` a preset of `aia.targets`. Zero means not known.
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
    paper_curve: str = ""  # the paper's own curve of its architecture, a slug of `backend.paper`
    hidden: int = 0  # width of the language model
    inner: int = 0  # width of its MLPs
    kv_heads: int = 0
    vocabulary: int = 0
    gated: bool = False  # the hub asks for the licence to be accepted
    temperature: float = 0.5  # that its drawings are sampled at unless somebody says otherwise
    guidance: float = 1.5  # and their classifier-free guidance; both are the embedded models' by default
    one_size: bool = False  # taught on pictures of one size, whatever its family could draw
    checked: str = ""  # which facts were verified, and against what

    @property
    def embedded(self) -> bool:
        """Whether its files come with this program."""
        return Path(self.source).is_relative_to(ASSETS)
