"""One file per architecture: the only places that know its tokens, templates and decoding."""

from __future__ import annotations

from pathlib import Path

from aia.batch import Trainable
from backend.interface import UnifiedModel, UserError
from backend.specs import ModelSpec


def load_model(spec: ModelSpec, adapter: Path | None = None, four_bit: bool = False) -> UnifiedModel:
    """Load the model of a spec with its family's class; `adapter` is a folder that a fine-tune left.

    That is a PEFT adapter, put onto the spec's weights, or whole weights, taken instead of them.
    Raises `UserError` if the folder is neither or belongs to another model.
    """
    from backend.adapters import apply_adapter, whole_weights
    from backend.families.janus import JanusModel

    families = {"janus": JanusModel}
    model = families[spec.family](whole_weights(spec, adapter) if adapter else spec, four_bit)
    if adapter:
        apply_adapter(model, adapter)
    return model


def as_trainable(model: UnifiedModel) -> Trainable:
    """The same loaded model as the trainer sees it. Raises `UserError` for a family that cannot be trained."""
    from backend.families.janus import JanusModel
    from backend.families.janus_training import JanusTraining

    if isinstance(model, JanusModel):
        return JanusTraining(model)
    raise UserError(f"{model.name} cannot be fine-tuned; choose a model of the Janus family.")
