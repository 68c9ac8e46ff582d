"""Heads: the intensity of every head, and the curve of one over the steps. Pure functions on captures."""

from __future__ import annotations

from typing import Any

import numpy as np

from aia.intensity import Definition
from app.closer import words
from app.closer.asked import Asked
from app.closer.maps import common_limits, encode, even_limits
from backend.kept.captures import Capture


def read_heads(asked: Asked) -> dict[str, Any]:
    """Maps of heads by layers of each capture, and of their difference, in every definition."""
    return {
        "captures": [words.describe(capture) for capture in asked.captures],
        "definitions": {d.value: _read_definition(asked, d) for d in Definition},
        "note": words.heads_note(asked.captures),
    }


def _read_definition(asked: Asked, definition: Definition) -> dict[str, Any]:
    found = [head_map(capture, definition) for capture in asked.captures]
    limits = common_limits(found)
    difference = head_difference(asked, definition)
    return {
        "maps": [encode(one, limits) for one in found],
        "difference": None if difference is None else encode(difference, even_limits([difference])),
        "sentence": words.describe_heads(found, difference, asked.captures),
    }


def head_map(capture: Capture, definition: Definition) -> np.ndarray:
    """Intensity of every head, a row each, over layers: float64 [H, L]; NaN where the answer has no row."""
    return capture.head_intensity(definition).T.astype(np.float64)


def head_difference(asked: Asked, definition: Definition) -> np.ndarray | None:
    """First minus second, float64 [H, L]; None without a second, or where it has other layers or heads."""
    if asked.second is None or (asked.first.layers, asked.first.heads) != (asked.second.layers, asked.second.heads):
        return None
    return head_map(asked.first, definition) - head_map(asked.second, definition)
