"""Every sentence of the closer views. Knows captures; no page, no map on its way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aia.intensity import Task
from backend.kept.captures import Capture

LONGEST_PROMPT = 40
OTHER_SIDE = {Task.UNDERSTANDING: "the image", Task.GENERATION: "the text"}
NO_ROWS = {
    Task.UNDERSTANDING: "This answer is too short to look into: no token of it was fed back to the model. "
    "Ask something that takes a longer answer.",
    Task.GENERATION: "This drawing has one image token, and none of it was fed back to the model; draw a larger one.",
}


def describe(capture: Capture) -> dict[str, Any]:
    """What a view's card says of a capture."""
    return {
        "id": capture.id,
        "task": capture.task.value,
        "name": name(capture),
        "layers": capture.layers,
        "heads": capture.heads,
        "empty": NO_ROWS[capture.task] if capture.mass.shape[3] < 2 else "",
    }


def name(capture: Capture) -> str:
    """A capture by its prompt and its model."""
    prompt = " ".join(capture.key.prompt.split())
    if len(prompt) > LONGEST_PROMPT:
        prompt = prompt[: LONGEST_PROMPT - 1].rstrip() + "…"
    adapted = ", fine-tuned" if capture.key.adapter else ""
    return f"“{prompt}”, {capture.key.model}{adapted}"


def heads_note(captures: Sequence[Capture]) -> str:
    """Why there is no difference of heads; empty where there is one, or nothing to compare."""
    if len(captures) < 2:
        return ""
    shapes = [(one.layers, one.heads) for one in captures]
    if len(set(shapes)) < 2:
        if captures[0].task == captures[1].task:
            short = [letter for letter, one in zip("AB", captures, strict=True) if one.mass.shape[3] < 2]
            return f"{' and '.join(short)} took one step alone, so there is no A − B." if short else ""
        return (
            "One answers and one draws: attention on an image and on a text have no common scale, so there is no "
            "A − B. Sort by “answers, not drawings” to set them against each other by rank."
        )
    (layers, heads), (other_layers, other_heads) = shapes
    return (
        f"A has {layers} layers of {heads} heads, B {other_layers} of {other_heads}: no head of one is a head of the "
        "other, so there is no difference to show."
    )


def other_heads(capture: Capture) -> str:
    """Why a partner does not show the head that was chosen."""
    return (
        f"B has {capture.layers} layers of {capture.heads} heads, other than A, so no head of it is the chosen one; "
        "choose a layer instead."
    )


def describe_heads(maps: Sequence[np.ndarray], difference: np.ndarray | None, captures: Sequence[Capture]) -> str:
    """One sentence on the head that looks most, or on the one that differs most; maps are [H, L]."""
    if difference is not None and np.isfinite(difference).all():
        head, layer = np.unravel_index(np.abs(difference).round(6).argmax(), difference.shape)
        a, b = (float(one[head, layer]) for one in maps)
        if abs(a - b) < 5e-4:
            return "A and B are alike in every head."
        return f"Head {head + 1} of layer {layer + 1} differs most: {a:.3f} in A, {b:.3f} in B."
    first, task = maps[0], captures[0].task
    if not np.isfinite(first).all():
        return NO_ROWS[task]
    head, layer = np.unravel_index(first.round(6).argmax(), first.shape)
    other = OTHER_SIDE[task]
    return (
        f"Head {head + 1} of layer {layer + 1} looks most at {other}: {first[head, layer]:.2f} of its attention. "
        f"Half of all heads give {other} less than {np.median(first):.2f}."
    )


def describe_head(curves: np.ndarray, layer: int, head: int) -> str:
    """One sentence on a head beside its layer; curves [2, steps that count]: the head's and the layer's mean."""
    known = np.isfinite(curves).all(0)
    if not known.any():
        return f"Head {head + 1} of layer {layer + 1} has no step that counts."
    own, mean = curves[:, known].mean(1)
    above = int((curves[0, known] > curves[1, known] + 5e-4).sum())
    return (
        f"Head {head + 1} of layer {layer + 1} gives {own:.2f} in the mean of its steps, its layer {mean:.2f}; "
        f"it lies above its layer in {above} of {int(known.sum())} steps."
    )
