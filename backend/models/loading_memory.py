"""How much memory a model takes to run: weights by precision, the cache of keys and values, and the capture.

Owns that reckoning and the refusal where it does not fit. Training is `backend.finetuning.memory`, which also knows
what is free.
"""

from __future__ import annotations

from aia.intensity import GROUPS, Task
from backend.finetuning.memory import NF4_BYTES, Part, format_bytes, free_memory, has_gpu
from backend.interface import UserError
from backend.models.model_spec import ModelSpec, Precision

LINEAR_SHARE = 0.85  # of a model's weights that are quantised, where the registry does not say
TEXT_TOKENS = 320  # of prompt and answer, beside the picture's
IMAGE_TOKENS = 1_280  # of a picture whose number is not known
WORKING_BYTES = 300 * 2**20  # activations of one pass, and what libraries set aside


def loading_memory(spec: ModelSpec, precision: Precision, gpu: bool | None = None) -> dict[str, Part]:
    """What loading a model and one longest request hold, in bytes, by part. `gpu`: None for this machine's own."""
    gpu = has_gpu() if gpu is None else gpu
    branches = 2 if Task.GENERATION in spec.tasks else 1
    tokens = (spec.image_tokens or IMAGE_TOKENS) + TEXT_TOKENS
    each = 2 if gpu else 4
    heads = spec.kv_heads or spec.heads
    head_width = (spec.hidden or 64 * spec.heads) // spec.heads
    cache = branches * 2 * spec.layers * heads * head_width * tokens * each
    rows = spec.image_tokens or IMAGE_TOKENS if branches == 2 else TEXT_TOKENS
    mass = branches * spec.layers * spec.heads * rows * len(GROUPS) * 4
    cross = spec.layers * rows * (TEXT_TOKENS if branches == 2 else spec.image_tokens or IMAGE_TOKENS) * 4
    return {
        "weights": Part(weights_bytes(spec, precision, gpu), f"{spec.parameters / 1e6:,.0f} million in {precision}"),
        "cache": Part(cache, f"keys and values of {tokens:,} tokens in {branches} branch{'es' * (branches > 1)}"),
        "capture": Part(mass + cross, f"{rows:,} rows of {spec.layers} layers × {spec.heads} heads"),
        "working": Part(WORKING_BYTES if spec.parameters > 10**8 else 0, "one pass"),
    }


def weights_bytes(spec: ModelSpec, precision: Precision, gpu: bool) -> int:
    """Bytes of the weights: half precision on a GPU, single on a CPU, unless quantised."""
    each = 2 if gpu else 4
    if precision == Precision.FULL:
        return each * spec.parameters
    known = spec.memory_mib.get(precision.value)
    if known and gpu:
        return known * 2**20
    quantised = NF4_BYTES if precision == Precision.NF4 else 1.0
    linear = _linear_share(spec)
    return int(spec.parameters * (linear * quantised + (1 - linear) * each))


def _linear_share(spec: ModelSpec) -> float:
    """From the registry's sizes in half precision and int8, whose difference is one byte a quantised weight."""
    half, int8 = spec.memory_mib.get("bfloat16"), spec.memory_mib.get("int8")
    return (half - int8) * 2**20 / spec.parameters if half and int8 else LINEAR_SHARE


def check_loading_fits(spec: ModelSpec, precision: Precision, free: int | None = None, gpu: bool | None = None) -> None:
    """Raise `UserError` where a model would not fit, naming the precision that would."""
    free = free_memory() if free is None else free
    gpu = has_gpu() if gpu is None else gpu

    def needed(one: Precision) -> int:
        return sum(part.bytes for part in loading_memory(spec, one, gpu).values())

    if needed(precision) <= free:
        return
    kind = "GPU memory" if gpu else "memory"
    fits = next(
        (one for one in (Precision.INT8, Precision.NF4) if needed(one) <= min(free, needed(precision) - 1)), None
    )
    todo = f"choose {'NF4' if fits == Precision.NF4 else 'int8'} ({format_bytes(needed(fits))})" if fits else ""
    raise UserError(
        f"Expected {format_bytes(needed(precision))} of free {kind} for {spec.title} in {precision} precision, got "
        f"{format_bytes(free)}; {todo or 'choose a smaller model, or free some memory'}."
    )
