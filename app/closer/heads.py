"""Heads: the intensity of every head, and the curve of one over the steps. Pure functions on captures."""

from __future__ import annotations

from typing import Any

import numpy as np

from aia.intensity import Definition, head_intensity, sum_groups
from app.closer import words
from app.closer.asked import Asked
from app.closer.maps import common_limits, encode, even_limits
from app.closer.space import head_of
from app.closer.time import describe_steps, rows_of_tokens
from backend.interface import UserError
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
    """First minus second, float64 [H, L]; None without a second, and where `words.heads_note` says why.

    Heads of an answer and a drawing are compared by rank; see `tasks.py`.
    """
    if asked.second is None or words.heads_note(asked.captures):
        return None
    return head_map(asked.first, definition) - head_map(asked.second, definition)


# --- one head ---


def read_head(asked: Asked) -> dict[str, Any]:
    """The head of `head`, "layer.head": its curve over the steps and that of its layer, of each capture.

    By tokens as in Time. Its mean over the steps that count, by each definition, is that of the map.
    """
    return {
        "captures": [_read_head(one, asked) for one in asked.captures],
        "means": [_means_of(one, asked) for one in asked.captures],
    }


def _read_head(capture: Capture, asked: Asked) -> dict[str, Any]:
    try:
        layer, head = head_of(asked, capture) or _raise_none()
    except UserError as error:
        return {**words.describe(capture), "error": str(error)}
    fed = asked.values.get("fed") == "1"
    rows = rows_of_tokens(capture, fed)
    by_head = sum_groups(capture.mass[0][layer], capture.task, asked.definition)  # [H, Q]
    curves = np.where(rows >= 0, np.stack([by_head[head], by_head.mean(0)])[:, rows], np.nan)
    steps = describe_steps(capture, fed)
    return {
        **words.describe(capture),
        **steps,
        "curves": encode(curves, common_limits([curves])),  # the head, its layer
        "sentence": words.describe_head(curves[:, int(steps["prefill"]) :], layer, head),
    }


def _raise_none() -> tuple[int, int]:
    raise UserError("Expected a head to look at, got none; choose one on the map.")


def _means_of(capture: Capture, asked: Asked) -> dict[str, float] | None:
    """Mean over the steps by each definition; None for a head that is not there, or without a step."""
    try:
        layer, head = head_of(asked, capture) or _raise_none()
    except UserError:
        return None
    mass = capture.mass[0][layer : layer + 1, head : head + 1]
    found = {d.value: float(head_intensity(mass, capture.task, d)[0, 0]) for d in Definition}
    return {name: round(value, 6) for name, value in found.items()} if np.isfinite([*found.values()]).all() else None
