"""Weights in the original naming become a checkpoint in transformers' layout, key by key, with a report.

Owns what counts as fitting, and the new folder: settings and processor are the base model's files, the weights the
given ones, unchanged. Knows neither where the tensors came from (`weight_files`) nor how names differ
(`original_janus`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from backend.interface import UserError
from backend.models.import_report import DoesNotFit, ImportReport, say_misfit
from backend.models.original_janus import translate
from backend.models.weight_files import read_tensors

SHARD_BYTES = 4 * 2**30
SPARE_BYTES = 2**30  # of disk, beyond the weights
INDEX = "model.safetensors.index.json"
SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model")  # of the base: configuration, tokenizer, pictures
POSITIONS = "position_embedding.weight"  # the original has a batch dimension of 1 before it

Progress = Callable[[str, int, int], None]


def import_weights(weights: Path, base: Path, out: Path, progress: Progress = lambda *_: None) -> ImportReport:
    """Write the weights of a file, or of a folder, as a new checkpoint in `out`, which must not exist yet.

    `base` is a folder with the settings and processor of the same architecture; its weights are not needed.
    Raises `UserError` for what cannot be read or written, `DoesNotFit` with the report for weights of another model;
    there is no folder then.
    """
    if out.exists():
        raise UserError(f"Expected a new folder for the imported model, found {out}; choose another name.")
    shapes = expected_shapes(base)
    placed, report = place(read_tensors(weights), shapes)
    if not report.fits:
        raise DoesNotFit(say_misfit(report, weights.name), report)
    draft = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _check_disk(draft, sum(tensor.nbytes for tensor in placed.values()))
        copy_settings(base, draft)
        write_shards(placed, draft, progress)
        draft.rename(out)
    except OSError as error:
        raise UserError(f"The folder {out} could not be written ({error.strerror}); make room there.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return report


def expected_shapes(base: Path) -> dict[str, torch.Size]:
    """Names and shapes of the base's weights, from its configuration alone. Raises `UserError`."""
    from transformers import JanusForConditionalGeneration

    from backend.models.local_models import load_config

    if not (base / "config.json").is_file():
        raise UserError(f"Expected the base model's folder with a config.json, found none at {base}; check --base.")
    config = load_config(base)
    if config.model_type != "janus":
        raise UserError(
            f"Expected a base of the Janus architecture, whose original naming is known here, got "
            f"{config.model_type!s:.40}; choose another --base."
        )
    with torch.device("meta"):
        model = JanusForConditionalGeneration(config)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def place(
    tensors: dict[str, torch.Tensor], shapes: dict[str, torch.Size]
) -> tuple[dict[str, torch.Tensor], ImportReport]:
    """Tensors by their names in transformers' layout, and what did not map."""
    placed: dict[str, torch.Tensor] = {}
    left_out, unexpected, wrong = [], [], []
    for name, tensor in tensors.items():
        targets = translate(name)
        if targets == ():
            left_out.append(name)
            continue
        if targets is None or any(target not in shapes or target in placed for target in targets):
            unexpected.append(name)
            continue
        parts = tensor.chunk(len(targets)) if len(targets) > 1 else (tensor,)
        for target, part in zip(targets, parts, strict=False):
            if target.endswith(POSITIONS) and part.ndim == 3:
                part = part.squeeze(0)
            placed[target] = part
            if part.shape != shapes[target]:
                wrong.append(f"{target}: expected {list(shapes[target])}, got {list(part.shape)}")
    missing = [name for name in shapes if name not in placed]
    in_order = {name: placed[name] for name in shapes if name in placed}
    return in_order, ImportReport(*map(tuple, (in_order, left_out, unexpected, missing, wrong)))


def copy_settings(base: Path, folder: Path) -> None:
    """Everything of the base but weights and their index."""
    for pattern in SETTINGS:
        for path in base.glob(pattern):
            if not path.name.endswith(".index.json"):
                shutil.copyfile(path, folder / path.name)


def write_shards(tensors: dict[str, torch.Tensor], folder: Path, progress: Progress) -> None:
    """Safetensors and their index; no more than one shard is in memory."""
    groups, index = list(_group(tensors)), {}
    for number, names in enumerate(groups, start=1):
        progress("writing files", number, len(groups))
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        shard = {name: tensors[name].contiguous() for name in names}
        save_file(shard, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1) + "\n")


def _group(tensors: dict[str, torch.Tensor]) -> Iterator[list[str]]:
    """Names of each shard."""
    names, held = [], 0
    for name, tensor in tensors.items():
        if names and held + tensor.nbytes > SHARD_BYTES:
            yield names
            names, held = [], 0
        names.append(name)
        held += tensor.nbytes
    yield names


def _check_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        gib = 2**30
        raise UserError(
            f"Expected {(needed + SPARE_BYTES) / gib:,.1f} GiB on the disk for the imported model, got "
            f"{free / gib:,.1f} GiB; free some space, or set AIA_LENS_DATA to a larger disk."
        )
