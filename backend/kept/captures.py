"""A capture: what a model did for one prompt, and where it looked. Immutable, content-addressed.

Does not know how it is written (`capture_files.py`) nor where, nor any model.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from aia.intensity import Definition, Task, head_intensity, intensity

FORMAT_VERSION = 1  # of what a capture is, and of files with masses as float32
MOST_DRAWN = 2**25  # values of `Capture.drawn`, which grows with the square of the patches; Janus-Pro has 10 million
MASS_TOLERANCE = 1e-3  # a sum of rounded probabilities may end a little above 1
LATER_FIELDS = {"size"}  # written only where they differ from their default, as in files and ids without them


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Understanding is greedy at temperature 0."""

    seed: int = 0
    temperature: float = 1.0
    guidance: float = 1.0  # classifier-free guidance scale; 1 means none
    max_new_tokens: int = 128
    size: str = ""  # rows and columns of patches of a drawing, such as "32x48"; empty for the model's own

    def plain(self) -> dict[str, Any]:
        """As plain data; without a size where none was chosen."""
        return {name: value for name, value in asdict(self).items() if value or name not in LATER_FIELDS}


@dataclass(frozen=True)
class CaptureKey:
    """All that determines a capture; its hash is the capture's id."""

    model: str  # name in the registry
    revision: str  # commit or digest of the weights
    precision: str  # "float32", "bfloat16", "nf4", …
    task: Task
    prompt: str
    image_sha256: str  # of the picture's pixels as the model gets them; empty for generation
    sampling: Sampling
    adapter: str = ""  # digest of the adapter, empty for none
    format_version: int = FORMAT_VERSION

    @property
    def id(self) -> str:
        """24 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()[:24]

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"sampling": self.sampling.plain()}


@dataclass(frozen=True)
class Capture:
    """One finished answer or drawing with its attention masses.

    - `tokens`, `token_groups`: the whole sequence fed to the model, in order, as strings and groups;
    - `mass` float32 [C, L, H, Q, G]: masses over groups sum to 1. C is 1, or 2 for a drawing with
      guidance (conditional, unconditional). Row q is decoding step q; row 0 is the prefill step. A large capture's are
      rounded to 1 / 65,535 (see `rounding.py`) and sum to 1 within 6.2e-5;
    - `query_positions` int32 [Q]: position in `tokens` of each row's query;
    - `cross` float16 [L, Q, X]: head-averaged attention of each row on single keys of the other
      modality (patches for an answer, prompt words for a drawing), conditional branch;
    - `cross_positions` int32 [X]: position in `tokens` of those keys;
    - `grid`: rows and columns of the picture's patches;
    - `patch_rows` int32 [rows · columns]: the row that chose each patch of a drawing, in raster order; empty for an
      answer. By default row q chose patch q; a model that makes row ends among its patches has others;
    - `drawn` float16 [L, Q, rows · columns]: head-averaged attention of each row of a drawing on the patches made
      before it, in raster order, conditional branch; 0 on those not made yet. None for an answer, for a drawing too
      large (`MOST_DRAWN`), and for captures made before it was kept;
    - `made_ids` int32 [Q - 1]: token ids of the rows fed back, which strings cannot always give; None as `drawn`;
    - `picture_png`: the picture asked about (as the model sees it) or drawn.
    """

    key: CaptureKey
    text: str  # the answer; empty for a drawing
    tokens: tuple[str, ...]
    token_groups: tuple[str, ...]
    grid: tuple[int, int]
    seconds: float
    created: float  # Unix time
    picture_png: bytes
    mass: np.ndarray = field(repr=False)
    query_positions: np.ndarray = field(repr=False)
    cross: np.ndarray = field(repr=False)
    cross_positions: np.ndarray = field(repr=False)
    patch_rows: np.ndarray = field(default=None, repr=False)
    drawn: np.ndarray | None = field(default=None, repr=False)
    made_ids: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.patch_rows is None:
            object.__setattr__(self, "patch_rows", self.usual_patch_rows())

    def usual_patch_rows(self) -> np.ndarray:
        """One row for each patch of a drawing, in order; none for an answer, or where the counts differ."""
        rows, patches = self.mass.shape[3], self.grid[0] * self.grid[1]
        drawn = self.key.task == Task.GENERATION and rows == patches
        usual = np.arange(rows if drawn else 0, dtype=np.int32)
        return np.frombuffer(usual.tobytes(), np.int32)  # over bytes, so that it can never be made writeable

    @property
    def id(self) -> str:
        return self.key.id

    @property
    def task(self) -> Task:
        return self.key.task

    @property
    def layers(self) -> int:
        return self.mass.shape[1]

    @property
    def heads(self) -> int:
        return self.mass.shape[2]

    @property
    def query_tokens(self) -> tuple[str, ...]:
        return tuple(self.tokens[p] for p in self.query_positions)

    def intensity(self, definition: Definition) -> np.ndarray:
        """Mean over heads and rows, conditional branch: float [L], NaN where the answer has no row."""
        return intensity(self.mass[0], self.task, definition)

    def head_intensity(self, definition: Definition) -> np.ndarray:
        """Per head: float [L, H]."""
        return head_intensity(self.mass[0], self.task, definition)

    def summary(self) -> dict:
        """The capture as plain data: what the command line prints and the page's API returns."""
        curves = {d.value: [round_finite(v) for v in self.intensity(d)] for d in Definition}
        return {
            "capture_id": self.id,
            "model": self.key.model,
            "task": self.task.value,
            "prompt": self.key.prompt,
            **({"text": self.text} if self.task == Task.UNDERSTANDING else {}),
            "layers": self.layers,
            "heads": self.heads,
            "intensity": curves,
            "sampling": self.key.sampling.plain(),
            "precision": self.key.precision,
            "revision": self.key.revision,
            "seconds": round(self.seconds, 4),
        }


def round_finite(value: float) -> float | None:
    """Six decimals; None where there was no row to measure."""
    return round(float(value), 6) if np.isfinite(value) else None
