"""A model of the user's own: what its files say of it, as a `ModelSpec`, for any architecture that has a family here.

Reads configuration and the headers of weights, never the weights. Knows no tokens; loads nothing.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path

from aia.intensity import Task
from backend.families import FAMILIES
from backend.interface import UserError
from backend.models.catalogue import CATALOGUE
from backend.models.drawing_sizes import FREE
from backend.models.model_spec import BOTH_TASKS, ModelSpec
from backend.models.specs import SPECS, find_spec

DRAWING_FAMILIES = frozenset({"janus", "emu3"})
EMU3_AREA = 720 * 720  # pixels of a drawing where transformers' processor is told nothing else
HEADER_BYTES = 64 * 2**20  # of a safetensors file: more is no model
_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "BOOL": 1}
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_NAME = re.compile(r"[^a-z0-9.-]+")


def find_model(name: str, specs: tuple[ModelSpec, ...] = SPECS) -> ModelSpec:
    """The spec of a known model, or of a folder of weights. Never for names that come from a page.

    Raises `UserError` for a name that is neither, and for what `spec_of_folder` refuses.
    """
    looks_like_folder = "/" in name or name.startswith((".", "~"))
    folder = Path(name).expanduser()
    if name not in {spec.name for spec in specs} and (looks_like_folder or folder.is_dir()):
        return spec_of_folder(folder)
    return find_spec(name, specs)


def spec_of_folder(folder: Path) -> ModelSpec:
    """Describe the checkpoint in a folder. Raises `UserError` if there is none, or of no family known here."""
    if not (folder / "config.json").is_file():
        raise UserError(f"Expected a model's folder with a config.json, found none at {folder}; check the path.")
    config = load_config(folder)
    family = config.model_type
    if family not in FAMILIES:
        raise UserError(
            f"Expected a model of one of these architectures: {', '.join(FAMILIES)}; got {family!s:.40} in {folder}; "
            "choose another folder."
        )
    shapes = list(_tensors(folder))
    parameters = sum(prod(shape) for _, shape in shapes)
    if not parameters:
        raise UserError(f"Expected weights as .safetensors in {folder}, found none; convert them, or copy them there.")
    text = config.get_text_config()
    both = family in DRAWING_FAMILIES
    name = _NAME.sub("-", folder.resolve().name.lower()).strip("-.") or "model"
    return ModelSpec(
        name=name,
        title=folder.resolve().name,
        family=family,
        source=str(folder.resolve()),
        revision="",
        tasks=BOTH_TASKS if both else frozenset({Task.UNDERSTANDING}),
        decoupling="",
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        image_tokens=_image_tokens(config, folder),
        parameters=parameters,
        licence="",
        memory_mib={_common_dtype(shapes): round(sum(prod(s) * _BYTES.get(d, 1) for d, s in shapes) / 2**20)},
        note=f"your own, {text.num_hidden_layers} layers, " + ("answers and draws" if both else "answers only"),
        hidden=text.hidden_size,
        inner=text.intermediate_size,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        vocabulary=text.vocab_size,
        targets=next(spec.targets for spec in CATALOGUE if spec.family == family),
    )


def load_config(folder: Path):
    """The checkpoint's configuration with all defaults filled in; remote code is never run."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The config.json in {folder} is not one that transformers can read; check that it is whole and of one of "
            f"these architectures: {', '.join(FAMILIES)}."
        ) from error


def _image_tokens(config, folder: Path) -> int:
    """Where every picture has as many, how many; of a family that draws any size, those of its usual square; else 0."""
    if config.model_type in FREE:
        side = math.isqrt(_drawing_area(folder)) // FREE[config.model_type]
        return side * (side + 1)
    vision = getattr(config, "vision_config", None)
    if config.model_type != "janus" or vision is None:
        return 0
    return (vision.image_size // vision.patch_size) ** 2


def _drawing_area(folder: Path) -> int:
    """Pixels of a usual drawing: the processor's own number, within what the checkpoint reads."""
    largest = EMU3_AREA
    for name in ("preprocessor_config.json", "processor_config.json"):
        try:
            settings = json.loads((folder / name).read_text())
            largest = min(largest, int(settings.get("image_processor", settings)["max_pixels"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return max(largest, 0)


def _common_dtype(shapes: list[tuple[str, tuple[int, ...]]]) -> str:
    """The dtype that most weights are stored in."""
    sizes: dict[str, int] = {}
    for dtype, shape in shapes:
        sizes[dtype] = sizes.get(dtype, 0) + prod(shape)
    return _DTYPES.get(max(sizes, key=sizes.get), "float32")


def _tensors(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every tensor, from the files' headers. Raises `UserError` for a damaged one."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > HEADER_BYTES:
                    raise ValueError(f"a header of {length} bytes")
                header = json.loads(file.read(length))
            for name, tensor in header.items():
                if name != "__metadata__":
                    yield str(tensor["dtype"]), tuple(int(n) for n in tensor["shape"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise UserError(f"The weights {path.name} in {folder} are damaged; copy or fetch them again.") from error
