"""What a fine-tune leaves and a model takes up again: a PEFT adapter, or whole weights.

Owns the folder's form and the check that it belongs to the model. Knows no run and no training.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel, ProcessorMixin

from aia.batch import Trainable
from aia.config import TrainingConfig
from backend.interface import UserError
from backend.models.specs import ModelSpec

ABOUT = "aia_lens.json"  # beside PEFT's own files: what the adapter belongs to
MAX_STRENGTH = 2.0  # beyond what was trained, to see where it leads
_PEFT, _PEFT_WEIGHTS, _WHOLE = "adapter_config.json", "adapter_model.safetensors", "config.json"


class Loaded(Protocol):
    """The part of a loaded model that an adapter touches."""

    name: str
    revision: str
    model: PreTrainedModel
    adapter: str  # digest of the adapter at work and its strength; empty for none
    adapted: PeftModel | None  # holds every adapter that was ever put on


def prepare_training(
    trainable: Trainable, config: TrainingConfig, start: Path | None = None, revision: str = ""
) -> PeftModel | None:
    """Add adapters, or free the modules of a full fine-tune. New weights come from the config's seed.

    Adapters take the weights of the folder `start` where there is one, which has to belong to the base model at that
    `revision`; for a full fine-tune the model was loaded from it (`whole_weights`).
    Raises `UserError` when there is nothing to train by that method, or what it would go on from does not fit.
    """
    if config.gradient_checkpointing:
        trainable.model.activation_checkpointing_enable({"use_reentrant": False})
    if config.method == "full":
        for name, parameter in trainable.model.named_parameters():
            if name.startswith(trainable.trained_modules):
                parameter.data = parameter.data.float()  # small steps vanish in half precision
                parameter.requires_grad_(True)
        return None
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=trainable.lora_targets,
    )
    try:
        adapted = get_peft_model(trainable.model, settings)
    except ValueError as error:
        raise UserError(f"No layer of this model takes an adapter ({error}); choose the method “full”.") from error
    if start is not None:
        check_start(start, config, revision)
        _take_up(adapted, start)
    return adapted


def check_start(folder: Path, config: TrainingConfig, revision: str = "") -> None:
    """Whether a run can go on from what lies in a folder. Raises `UserError` that says which setting does not fit.

    `revision`: of the base model, where that is known by now.
    """
    about, whole = read_about(folder), not (folder / _PEFT).is_file()
    if about.get("model", config.model) != config.model:
        raise UserError(
            f"Expected an adapter of {config.model} to go on from, got one of {str(about['model'])[:60]}; choose that "
            "as the base model."
        )
    if whole and not (folder / _WHOLE).is_file():
        raise UserError("Expected an adapter or fine-tuned weights to go on from, found neither; choose another run.")
    if whole != (config.method == "full"):
        kind, method = ("whole weights", "full") if whole else ("an adapter", "lora")
        raise UserError(
            f"Expected the method “{method}” to go on from {kind}, got “{config.method}”; choose “{method}”."
        )
    if whole:
        return
    theirs = _read_adapter_settings(folder)
    if theirs != (config.lora_rank, config.lora_alpha):
        raise UserError(
            f"Expected LoRA rank {theirs[0]} and alpha {theirs[1]}, as of the adapter to go on from, got "
            f"{config.lora_rank} and {config.lora_alpha}; set them so."
        )
    if revision and about.get("revision", revision) != revision:
        raise UserError(
            f"Expected an adapter of {config.model} at revision {revision}, got one of {str(about['revision'])[:60]}; "
            "fetch the weights it was trained on, or start from the base model."
        )


def _read_adapter_settings(folder: Path) -> tuple[int, int]:
    """Rank and alpha of an adapter."""
    try:
        settings = json.loads((folder / _PEFT).read_text())
        return int(settings["r"]), int(settings["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            "Expected the settings of an adapter, got none that can be read; choose another run."
        ) from error


def _take_up(adapted: PeftModel, folder: Path) -> None:
    """Put an adapter's weights into adapters that were just made."""
    try:
        weights = load_file(folder / _PEFT_WEIGHTS)
        if weights.keys() != get_peft_model_state_dict(adapted, save_embedding_layers=False).keys():
            raise ValueError("other layers")
        set_peft_model_state_dict(adapted, weights)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            "Expected an adapter of the layers that are trained here, got another or a damaged one; choose another run."
        ) from error


def keep_start(folder: Path, kept: Path) -> None:
    """Keep what a run begins with in its own folder, by links where the disk has them: the other run may be deleted."""
    shutil.copytree(folder, kept, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def start_digest(folder: Path) -> str:
    """12 hexadecimal digits of what a run begins with; empty for whole weights, whose model's revision says it."""
    return adapter_digest(folder) if (folder / _PEFT).is_file() else ""


def save_adapter(
    folder: Path,
    adapted: PeftModel | None,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    weights: Mapping[str, torch.Tensor],
    about: Mapping,
) -> None:
    """Write the adapter, or without one the whole model and its processor.

    `weights` are the model's, by name, none of them sharded; `about` says of which model and run they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if adapted is None:
        model.save_pretrained(folder, state_dict=dict(weights))
        processor.save_pretrained(folder)
    else:
        for settings in adapted.peft_config.values():
            settings.base_model_name_or_path = about["model"]  # a name, not a folder of this machine
        adapted.save_pretrained(
            folder,
            state_dict={f"base_model.model.{name}": t for name, t in weights.items()},
            save_embedding_layers=False,  # none is trained; to find out, PEFT would ask the hub
        )
    (folder / ABOUT).write_text(json.dumps(dict(about), indent=1) + "\n")


def whole_weights(spec: ModelSpec, folder: Path) -> ModelSpec:
    """The spec with its source in the folder if that holds whole weights; else the spec itself.

    Raises `UserError` if the folder holds neither weights nor an adapter.
    """
    if (folder / _PEFT).is_file():
        return spec
    if not (folder / _WHOLE).is_file():
        raise UserError(f"Expected an adapter or fine-tuned weights in {folder}, found neither; check the path.")
    return replace(spec, source=str(folder), revision="")


def apply_adapter(model: Loaded, folder: Path | None, strength: float = 1.0) -> None:
    """Put a PEFT adapter onto a loaded model, in place; None takes the one at work off again.

    `strength` scales what was learnt: 0 is the base model, 1 the adapter as trained. A folder of whole weights has
    nothing to put on: it was loaded instead of the base (`whole_weights`).
    Raises `UserError` if it was trained on another model or does not fit, or for a strength out of 0…2.
    """
    if not 0 <= strength <= MAX_STRENGTH:
        raise UserError(f"Expected a strength from 0 to {MAX_STRENGTH:g}, got {strength:g}; change it.")
    if folder is None or strength == 0:
        model.adapter = ""
        if model.adapted is not None:
            model.adapted.base_model.disable_adapter_layers()
        return
    _check_base(model, folder)
    if not (folder / _PEFT).is_file():
        return
    digest = adapter_digest(folder)
    try:
        _switch(model, folder, digest)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"The adapter in {folder} could not be read or does not fit {model.name}; choose another."
        ) from error
    for part in model.model.modules():
        if isinstance(part, LoraLayer):
            part.set_scale(digest, strength)
    model.adapted.requires_grad_(False).eval()
    model.adapter = digest if strength == 1 else f"{digest}@{strength:g}"


def _switch(model: Loaded, folder: Path, digest: str) -> None:
    """Make the adapter of that digest the only one at work, loading it if it is new."""
    if model.adapted is None:
        model.adapted = PeftModel.from_pretrained(model.model, str(folder), adapter_name=digest)
    elif digest not in model.adapted.peft_config:
        model.adapted.load_adapter(str(folder), adapter_name=digest)
    model.adapted.base_model.enable_adapter_layers()
    model.adapted.set_adapter(digest)


def _check_base(model: Loaded, folder: Path) -> None:
    about = read_about(folder)
    if about.get("model", model.name) != model.name:
        raise UserError(
            f"Expected an adapter of {model.name}, got one of {str(about['model'])[:60]}; choose its own base model."
        )
    base = about.get("revision", model.revision)
    if (folder / _PEFT).is_file() and base != model.revision:
        raise UserError(
            f"Expected an adapter of {model.name} at revision {model.revision}, got one of {str(base)[:60]}; "
            "fetch the weights it was trained on, or train it anew."
        )


def read_about(folder: Path) -> dict:
    """What the adapter belongs to; empty for one made elsewhere. Raises `UserError` if the file is damaged."""
    path = folder / ABOUT
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text())
        if isinstance(about, dict):
            return about
    except (OSError, ValueError):
        pass
    raise UserError(f"The file {ABOUT} in {folder} is damaged; remove it, or take the adapter from its run again.")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter, and not whole weights."""
    return (folder / _PEFT).is_file()


def adapter_digest(folder: Path) -> str:
    """12 hexadecimal digits of the adapter's weights and settings. Raises `UserError` if a file is missing."""
    digest = hashlib.sha256()
    for name in (_PEFT, _PEFT_WEIGHTS):
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise UserError(f"Expected {name} in {folder}, found none; take the adapter from its run again.") from error
    return digest.hexdigest()[:12]
