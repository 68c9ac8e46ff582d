"""One file per architecture: the only places that know its tokens, templates and decoding."""

from __future__ import annotations

from backend.interface import UnifiedModel
from backend.specs import ModelSpec


def load_model(spec: ModelSpec) -> UnifiedModel:
    """Load the model of a spec with its family's class."""
    from backend.families.janus import JanusModel

    families = {"janus": JanusModel}
    return families[spec.family](spec)
