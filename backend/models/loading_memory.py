"""How much memory a model takes to run: weights by precision, the cache of keys and values, the capture, pictures.

Owns that reckoning and the refusal where it does not fit. Training is `backend.finetuning.memory`, which also knows
what is free.
"""

from __future__ import annotations

from collections.abc import Iterator

from aia.intensity import GROUPS, Task
from backend.finetuning.memory import NF4_BYTES, Part, format_bytes, free_memory, has_gpu
from backend.interface import UserError
from backend.kept.captures import MOST_DRAWN
from backend.models.drawing_sizes import FREE, allows_sizes, image_tokens
from backend.models.model_spec import ModelSpec, Precision

LINEAR_SHARE = 0.85  # of a model's weights that are quantised, where the registry does not say
TEXT_TOKENS = 320  # of prompt and answer, beside the picture's
DRAWN_WORDS = 64  # of a drawing's prompt
IMAGE_TOKENS = 1_280  # of a picture whose number is not known
WORKING_BYTES = 300 * 2**20  # activations of one pass, and what libraries set aside
LARGE = 10**8  # parameters from which on pictures and passes count
# Values that are held at once for a pixel while a picture is made or read by the large models' own VQ tokenizers:
# measured on a CPU with their true sizes and random weights.
DRAWN_VALUES = {"emu3": 10_500, "janus": 550}
SEEN_VALUES = {"emu3": 5_200}
JANUS_PATCH_PX = 16
SMALL = 64 * 2**20  # what a drawing may take without a look at what is free
SIDES = (96, 80, 64, 48, 32, 24, 16, 8)  # of squares that a refusal names


def loading_memory(spec: ModelSpec, precision: Precision, gpu: bool | None = None, size: str = "") -> dict[str, Part]:
    """What loading a model and one longest request hold, in bytes, by part.

    `size` of the drawing, where it may have any; `gpu`: None for this machine's own.
    """
    gpu = has_gpu() if gpu is None else gpu
    weights = Part(weights_bytes(spec, precision, gpu), f"{spec.parameters / 1e6:,.0f} million in {precision}")
    return {"weights": weights, **request_memory(spec, gpu, size)}


def request_memory(spec: ModelSpec, gpu: bool, size: str = "") -> dict[str, Part]:
    """What one longest request holds beside the weights, in bytes, by part."""
    draws, each = Task.GENERATION in spec.tasks, 2 if gpu else 4
    branches, image = 2 if draws else 1, image_tokens(spec, size) or IMAGE_TOKENS
    tokens, heads = image + TEXT_TOKENS, spec.kv_heads or spec.heads
    head_width = (spec.hidden or 64 * spec.heads) // spec.heads
    cache = branches * 2 * spec.layers * heads * head_width * tokens * each
    rows = image if draws else TEXT_TOKENS
    return {
        "cache": Part(cache, f"keys and values of {tokens:,} tokens in {branches} branch{'es' * (branches > 1)}"),
        "capture": Part(
            capture_bytes(spec, rows, image, draws), f"{rows:,} rows of {spec.layers} layers × {spec.heads} heads"
        ),
        "pictures": Part(picture_bytes(spec, image, each), "the VQ tokenizer at work"),
        "working": Part(WORKING_BYTES if spec.parameters > LARGE else 0, "one pass"),
    }


def capture_bytes(spec: ModelSpec, rows: int, image: int, draws: bool) -> int:
    """Masses of every head, and head averages on the other modality; in float32, and twice while they are joined."""
    branches = 2 if draws else 1
    mass = spec.layers * spec.heads * rows * len(GROUPS)
    cross = spec.layers * rows * (DRAWN_WORDS if draws else image)
    if draws and spec.layers * rows * image <= MOST_DRAWN:
        cross += spec.layers * rows * image
    return branches * (mass + cross) * 4 * 2


def picture_bytes(spec: ModelSpec, image: int, each: int) -> int:
    """What a large model's VQ tokenizer holds while it draws, or reads, a picture of that many tokens."""
    if spec.parameters <= LARGE:
        return 0
    draws = Task.GENERATION in spec.tasks
    values = (DRAWN_VALUES if draws else SEEN_VALUES).get(spec.family, 0)
    return image * FREE.get(spec.family, JANUS_PATCH_PX) ** 2 * values * each


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


def check_loading_fits(
    spec: ModelSpec, precision: Precision, free: int | None = None, gpu: bool | None = None, size: str = ""
) -> None:
    """Raise `UserError` where a model and its request would not fit, naming the precision or the size that would."""
    free = free_memory() if free is None else free
    gpu = has_gpu() if gpu is None else gpu

    def needed(one: Precision, other: str = size) -> int:
        return sum(part.bytes for part in loading_memory(spec, one, gpu, other).values())

    if needed(precision) <= free:
        return
    kind = "GPU memory" if gpu else "memory"
    named = f" with a drawing of {size}" if size else ""
    todo = next(
        (
            f"choose {way} ({format_bytes(needed(one, other))})"
            for one, other, way in _smaller(spec, precision, size)
            if needed(one, other) <= min(free, needed(precision) - 1)
        ),
        "choose a smaller model, or free some memory",
    )
    raise UserError(
        f"Expected {format_bytes(needed(precision))} of free {kind} for {spec.title} in {precision} precision{named}, "
        f"got {format_bytes(free)}; {todo}."
    )


def _smaller(spec: ModelSpec, precision: Precision, size: str) -> Iterator[tuple[Precision, str, str]]:
    """Settings that take less, the mildest first: weights, then the drawing's size, then both."""
    quantised = [(Precision.INT8, "int8"), (Precision.NF4, "NF4")]
    yield from ((one, size, name) for one, name in quantised if one != precision)
    sides = [f"{side}x{side}" for side in smaller_sides(spec, size)]
    yield from ((precision, side, f"a size of {side}") for side in sides)
    yield from ((Precision.NF4, side, f"NF4 and a size of {side}") for side in sides)


def smaller_sides(spec: ModelSpec, size: str) -> list[int]:
    """Squares with fewer patches than that size, largest first; none for a model of one size."""
    if not allows_sizes(spec):
        return []
    return [side for side in SIDES if side * (side + 1) < (image_tokens(spec, size) or IMAGE_TOKENS)]


def check_drawing_fits(spec: ModelSpec, size: str, free: int, gpu: bool | None = None) -> None:
    """Raise `UserError` where a drawing would not fit beside its model, which is loaded, naming a size that would."""
    gpu = has_gpu() if gpu is None else gpu

    def needed(other: str) -> int:
        return sum(part.bytes for part in request_memory(spec, gpu, other).values())

    if needed(size) <= max(free, SMALL):
        return
    fits = next((side for side in smaller_sides(spec, size) if needed(f"{side}x{side}") <= free), None)
    todo = f"choose a size of {fits}x{fits} ({format_bytes(needed(f'{fits}x{fits}'))})" if fits else "free some memory"
    kind = "GPU memory" if gpu else "memory"
    what = f"a drawing of {size}" if size else "a drawing"
    raise UserError(
        f"Expected {format_bytes(needed(size))} of free {kind} for {what} by {spec.title}, got {format_bytes(free)}; "
        f"{todo}."
    )
