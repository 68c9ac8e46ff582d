"""How much memory a fine-tune will take, how much is free, and what to change where it does not fit.

Owns the reckoning, of which each number has its reason. Knows configs and specs; loads no model and asks no network.
Constants were fitted to peaks of tiny-janus on a CPU (`tests/backend/test_memory.py` holds them against real runs).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from aia.config import TrainingConfig
from backend.interface import UserError
from backend.models.specs import ModelSpec

GIB = 2**30
PROCESS_BYTES = 540 * 2**20  # PyTorch and all that is imported; on a GPU its context and kernels
# Numbers kept for the backward pass per token, in widths of the model: of a layer, and of all that is around layers.
KEPT_PER_LAYER = {"lora": 33, "qlora": 33, "full": 15}  # adapters keep a copy of each input of their own
KEPT_AROUND = 219
WORLD_TEXT_TOKENS, OWN_TEXT_TOKENS = 32, 256  # beside the image's
NF4_BYTES = 0.56  # per weight, its share of the scales included
LINEAR_SHARE = 0.85  # of a large model's weights that QLoRA quantises
ADAM_BYTES = 16  # per trained weight in float32: gradient, two moments, and what a step works with
INNER = 2.7  # width of an MLP in widths of its model, where no config says it

_CGROUPS = (  # limit and use, of version 2 and 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


class Part(NamedTuple):
    """A share of the memory, and what it comes from."""

    bytes: int
    reason: str


@dataclass(frozen=True)
class Memory:
    """What a fine-tune will hold at most at one moment."""

    process: Part
    weights: Part
    gradients_and_optimizer: Part
    activations: Part

    @property
    def total(self) -> int:
        return sum(part.bytes for part in self.parts().values())

    def parts(self) -> dict[str, Part]:
        names = ("process", "weights", "gradients_and_optimizer", "activations")
        return {name.replace("_", " "): getattr(self, name) for name in names}


class Shape(NamedTuple):
    """Widths of the language model, of its MLPs, and its layers."""

    width: int
    inner: int
    layers: int


# --- what a run takes ---


def training_memory(config: TrainingConfig, spec: ModelSpec, gpu: bool | None = None) -> Memory:
    """Reckon the peak of one process of a run, in bytes. `gpu`: whether it has one; None: as this machine."""
    gpu = has_gpu() if gpu is None else gpu
    shape = find_shape(spec)
    return Memory(
        Part(PROCESS_BYTES, "CUDA’s context and kernels" if gpu else "Python, PyTorch and what else is imported"),
        _weights(config, spec, shape, gpu),
        _optimizer(config, spec, shape),
        _activations(config, spec, shape, gpu),
    )


def _weights(config: TrainingConfig, spec: ModelSpec, shape: Shape, gpu: bool) -> Part:
    each = 2 if gpu else 4
    about = f"{spec.parameters / 1e6:,.0f} million weights in {'half' if gpu else 'single'} precision"
    if config.method == "full":
        about = f"{spec.parameters / 1e6:,.0f} million weights, trained ones in single precision"
        return Part(4 * spec.parameters, about)
    adapters = 4 * adapter_parameters(config.lora_rank, shape)
    if config.method == "qlora":
        packed = LINEAR_SHARE * NF4_BYTES + (1 - LINEAR_SHARE) * each
        return Part(int(spec.parameters * packed) + adapters, f"{spec.parameters / 1e6:,.0f} million weights in 4 bit")
    return Part(each * spec.parameters + adapters, about)


def _optimizer(config: TrainingConfig, spec: ModelSpec, shape: Shape) -> Part:
    full = config.method == "full"
    trained = spec.parameters if full else adapter_parameters(config.lora_rank, shape)
    what = "all weights" if full else f"adapters of rank {config.lora_rank}"
    return Part(ADAM_BYTES * trained, f"{ADAM_BYTES} bytes for each of {trained / 1e6:,.1f} million: {what}")


def _activations(config: TrainingConfig, spec: ModelSpec, shape: Shape, gpu: bool) -> Part:
    samples = math.ceil(config.batch_size / config.accumulation)
    tokens = spec.image_tokens + (WORLD_TEXT_TOKENS if config.data == "world" else OWN_TEXT_TOKENS)
    halved = config.mixed_precision != "no" or (gpu and config.method != "full")
    per_layer, layers = KEPT_PER_LAYER[config.method], shape.layers
    kept = per_layer + layers if config.gradient_checkpointing else per_layer * layers  # else each layer's input
    values = samples * tokens * shape.width * (kept + KEPT_AROUND)
    again = ", computed twice" if config.gradient_checkpointing else ""
    part = f" of {config.batch_size:,} in {config.accumulation} parts" if config.accumulation > 1 else ""
    return Part(values * (2 if halved else 4), f"{samples:,} samples{part} of {tokens:,} tokens at once{again}")


def adapter_parameters(rank: int, shape: Shape) -> int:
    """Weights of LoRA adapters on every projection of attention and MLPs."""
    width, inner, layers = shape
    return rank * layers * (4 * 2 * width + 3 * (width + inner))


def find_shape(spec: ModelSpec) -> Shape:
    """From the model's own config where it is on this disk, else its spec, else reckoned from its parameters."""
    config = _read_config(spec.source, spec.revision)
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    width = text.get("hidden_size") or spec.hidden or round(math.sqrt(spec.parameters / (12 * spec.layers)))
    return Shape(int(width), int(text.get("intermediate_size") or spec.inner or INNER * width), spec.layers)


@lru_cache(maxsize=64)
def _read_config(source: str, revision: str) -> dict:
    path = Path(source) / "config.json"
    if not path.is_file():
        from huggingface_hub import try_to_load_from_cache

        try:
            found = try_to_load_from_cache(source, "config.json", revision=revision or None)
        except ValueError:  # a folder that is not there
            return {}
        if not isinstance(found, str):
            return {}
        path = Path(found)
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


# --- what there is ---


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def free_memory() -> int:
    """Bytes free on the device that a run would use: the GPU, else this machine within its container's limit."""
    if has_gpu():
        import torch

        return torch.cuda.mem_get_info()[0]
    import psutil

    return min([psutil.virtual_memory().available, *_left_in_cgroups()])


def _left_in_cgroups() -> Iterator[int]:
    for limit, used in _CGROUPS:
        try:
            yield max(int(limit.read_text()) - int(used.read_text()) + _reclaimable(used.parent), 0)
        except (OSError, ValueError):  # not there, or "max"
            continue


def _reclaimable(folder: Path) -> int:
    """Files that are cached and that the system drops when it needs the room."""
    try:
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return sum(int(value) for name, value in lines if name in ("inactive_file", "total_inactive_file"))
    except (OSError, ValueError):
        return 0


# --- whether it fits ---


def check_training_fits(config: TrainingConfig, spec: ModelSpec, free: int | None = None) -> Memory:
    """The memory a run will take. Raises `UserError` where that is not free, naming what would fit."""
    free = free_memory() if free is None else free
    memory = training_memory(config, spec)
    if memory.total <= free:
        return memory
    fitting = ((n for n, other in kind if training_memory(other, spec).total <= free) for kind in _smaller(config))
    ways = [name for name in (next(names, None) for names in fitting) if name][:2]
    todo = f"choose {', or '.join(ways)}" if ways else "choose a smaller model, or free some memory"
    kind = "GPU memory" if has_gpu() else "memory"
    raise UserError(f"Expected at most {format_bytes(free)} of {kind}, got {format_bytes(memory.total)}; {todo}.")


def _smaller(config: TrainingConfig) -> Iterator[list[tuple[str, TrainingConfig]]]:
    """Kinds of changes that save memory, those first that leave the result as it is; of each kind the mildest first."""

    def changed(name: str, **changes) -> tuple[str, TrainingConfig]:
        return name, config.model_copy(update=changes)

    size, parts = config.batch_size, range(config.accumulation + 1, min(config.batch_size, 4096) + 1)
    yield [changed(f"accumulation {n:,}", accumulation=n) for n in parts if size % n == 0]
    if not config.gradient_checkpointing:
        yield [changed("gradient checkpointing", gradient_checkpointing=True)]
    if config.method != "qlora":
        yield [changed("QLoRA", method="qlora")]
    smaller = (2**power for power in range(15, -1, -1))
    yield [changed(f"batch size {n:,}", batch_size=n, accumulation=1) for n in smaller if n < size]
    least = {"method": "qlora", "gradient_checkpointing": True, "batch_size": 1, "accumulation": 1}
    yield [changed("QLoRA with gradient checkpointing and batch size 1", **least)]


def format_bytes(size: int) -> str:
    """ "0.9 GiB", "34 GiB", "12 MiB": to two digits."""
    for unit, scale in (("TiB", 2**40), ("GiB", GIB)):
        if size >= 0.1 * scale:
            return f"{size / scale:.1f} {unit}" if size < 10 * scale else f"{size / scale:,.0f} {unit}"
    return f"{size / 2**20:,.0f} MiB"
