"""Checkpoints on disk: one folder each, written whole or not at all, read back only if nothing is missing.

Owns names, digests, renaming and pruning. Knows tensors by name and a few plain values beside them, not what
they mean: no model, optimizer or config.

    checkpoints/step-000025/tensors.safetensors   weights, optimizer, random state
    checkpoints/step-000025/state.json            step, digest of the tensors, whatever the trainer adds
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

FORMAT_VERSION = 1
_TENSORS, _STATE = "tensors.safetensors", "state.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or continued: one sentence for the user."""


@dataclass(frozen=True)
class Checkpoint:
    """What was stored after `step` steps: tensors by name, and plain JSON values."""

    step: int
    tensors: dict[str, torch.Tensor]
    values: dict


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, torch.Tensor], values: dict, keep: int | None = None
) -> Path:
    """Write a checkpoint, then drop the oldest beyond `keep`. Until it is whole on the disk nothing older goes.

    Raises: CheckpointError if the disk refuses; what was there before is untouched.
    """
    final = folder / f"step-{step:08d}"
    draft = folder / f".{final.name}.{os.getpid()}.part"
    try:
        for left in folder.glob(".step-*.part"):  # by a process that was killed: only one at a time writes here
            shutil.rmtree(left, ignore_errors=True)
        draft.mkdir(parents=True)
        save_file({name: t.detach().contiguous().cpu() for name, t in tensors.items()}, draft / _TENSORS)
        state = {"format_version": FORMAT_VERSION, "step": step, "sha256": _digest(draft / _TENSORS), "values": values}
        (draft / _STATE).write_text(json.dumps(state))
        for file in draft.iterdir():
            _sync(file)
        shutil.rmtree(final, ignore_errors=True)  # the same step again, after resuming from an older one
        draft.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        reason = getattr(error, "strerror", None) or "the disk refused"
        raise CheckpointError(
            f"The checkpoint of step {step:,} could not be written ({reason}); the one before it is kept: "
            "make room, then resume."
        ) from error
    if keep is not None:
        for old in _folders(folder)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
    return final


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None if there is none. Damaged ones are passed over, not removed."""
    for path in reversed(_folders(folder)):
        try:
            return load_checkpoint(path)
        except CheckpointError:
            continue
    return None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint and check it against its digest. Raises: CheckpointError if anything is wrong with it."""
    try:
        state = json.loads((path / _STATE).read_text())
        if state["format_version"] != FORMAT_VERSION:
            raise CheckpointError(
                f"Expected a checkpoint of version {FORMAT_VERSION}, got {str(state['format_version'])[:20]} in "
                f"{path.name}; start a new run."
            )
        if _digest(path / _TENSORS) != state["sha256"]:
            raise CheckpointError(f"The checkpoint {path.name} is damaged; an older one, or a new run, has to do.")
        return Checkpoint(int(state["step"]), load_file(path / _TENSORS), dict(state["values"]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"The checkpoint {path.name} cannot be read; an older one, or a new run, has to do."
        ) from error


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-????????") if p.is_dir())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
