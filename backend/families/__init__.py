"""One file per architecture: the only places that know its tokens, templates and decoding."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from aia.batch import Trainable
from backend.interface import UnifiedModel, UserError
from backend.models.specs import ModelSpec, Precision


class Family(NamedTuple):
    """Where a family's classes are, as "file:class" in this package; imported when a model of it is loaded."""

    model: str
    training: str | None = None  # None for a family that cannot be trained


FAMILIES: dict[str, Family] = {
    "janus": Family("janus:JanusModel", "janus_training:JanusTraining"),
    "emu3": Family("emu3:Emu3Model", "emu3_training:Emu3Training"),
    "qwen3_vl": Family("qwen_vl:Qwen3VLModel", "seeing_training:SeeingTraining"),
    "qwen2_5_vl": Family("qwen_vl:Qwen25VLModel", "seeing_training:SeeingTraining"),
    "internvl": Family("internvl:InternVLModel", "seeing_training:SeeingTraining"),
    "llava_onevision": Family("llava_onevision:LlavaOnevisionModel", "seeing_training:SeeingTraining"),
    "chameleon": Family("chameleon:ChameleonModel", "seeing_training:ChameleonTraining"),
}


def load_model(spec: ModelSpec, adapter: Path | None = None, precision: Precision = Precision.FULL) -> UnifiedModel:
    """Load the model of a spec with its family's class; `adapter` is a folder that a fine-tune left.

    That is a PEFT adapter, put onto the spec's weights, or whole weights, taken instead of them.
    Raises `UserError` if the folder is neither or belongs to another model.
    """
    model_class = _find_class(FAMILIES[spec.family].model)
    if adapter is None:
        return model_class(spec, precision)
    from backend.models.adapters import apply_adapter, whole_weights  # PEFT is slow to import: only here

    model = model_class(whole_weights(spec, adapter), precision)
    apply_adapter(model, adapter)
    return model


def as_trainable(model: UnifiedModel) -> Trainable:
    """The same loaded model as the trainer sees it. Raises `UserError` for a family that cannot be trained."""
    for family in FAMILIES.values():
        if family.training and isinstance(model, _find_class(family.model)):
            return _find_class(family.training)(model)
    can = ", ".join(name for name, family in FAMILIES.items() if family.training)
    raise UserError(f"{model.name} cannot be fine-tuned; choose a model of one of these families: {can}.")


def _find_class(place: str) -> type:
    """The class at "file:class" in this package."""
    file, name = place.split(":")
    return getattr(import_module(f"{__name__}.{file}"), name)
