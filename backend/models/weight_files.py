"""Tensors out of files that somebody else wrote: .safetensors, or pickled .bin, .pt, .pth, whole or in shards.

Owns what makes that safe: of a pickle nothing but tensors is ever made (`weights_only`), and shards are only looked for
in the folder of their index. Tensors stay on the disk until they are read. Knows no model.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from backend.interface import UserError

INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE = ("model.safetensors", "pytorch_model.bin")
PICKLED = (".bin", ".pt", ".pth")
NESTS = ("state_dict", "model_state_dict", "model", "module")  # where trainers put the weights beside other things


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, of an index's shards, or of a folder that holds either.

    Raises `UserError` with one sentence for what is missing, damaged, or not only tensors.
    """
    path = find_weights(path)
    if path.suffix == ".json":
        return {name: tensor for shard in shards_of(path) for name, tensor in _read_one(shard).items()}
    return _read_one(path)


def find_weights(path: Path) -> Path:
    """The file itself, or a folder's index or only file of weights. Raises `UserError`."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"Expected a file of weights, found none at {path}; check the path.")
    known = [path / name for name in (*INDICES, *SINGLE) if (path / name).is_file()]
    loose = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", *PICKLED) and p.is_file())
    if known:
        return known[0]
    if len(loose) != 1:
        raise UserError(f"Expected one file of weights in {path}, found {len(loose)}; name the file or its index.")
    return loose[0]


def shards_of(index: Path) -> list[Path]:
    """The files that an index names, in order. Raises `UserError` for one that is missing or lies elsewhere."""
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
            raise ValueError("names of files expected")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"Expected an index of weights in {index.name}, got something else; copy it again.") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(f"Expected {len(names)} files beside {index.name}, {missing[0]} is missing; copy it there.")
    return [index.parent / name for name in names]


def _read_one(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise UserError(
            f"Expected nothing but tensors in {path.name}, got a pickle of other things, of which nothing was run; "
            "save the state dict alone, or as .safetensors."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"The weights {path.name} are damaged or cut off; copy or fetch them again.") from error
    return unwrap(content, path.name)


def unwrap(content: Any, name: str) -> dict[str, torch.Tensor]:
    """The tensors by name, out of what a trainer may have put around them. Raises `UserError` if there are none."""
    for _ in NESTS:
        if not isinstance(content, dict):
            break
        tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
        inner = next((content[nest] for nest in NESTS if isinstance(content.get(nest), dict)), None)
        if tensors and (inner is None or len(tensors) > len(inner)):
            return tensors
        content = inner
    raise UserError(f"Expected tensors by name in {name}, found none; save the model's state dict.")
