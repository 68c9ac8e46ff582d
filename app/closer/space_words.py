"""The sentences of the Space view that its data bring along. Knows captures; no map."""

from __future__ import annotations

from collections.abc import Sequence

from aia.intensity import Task
from backend.kept.captures import MOST_DRAWN, Capture


def ordinal(place: int) -> str:
    """1 → "1st"."""
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def missing(capture: Capture, words: int) -> str:
    """Why there is no map at all; empty where there is one."""
    patches = capture.grid[0] * capture.grid[1]
    if capture.task == Task.UNDERSTANDING:
        if not words:
            return "This answer has no words, so nothing looked at the picture; ask something that it answers."
        if capture.cross.shape[2] != patches:
            return (
                f"This capture holds attention on {capture.cross.shape[2]:,} places of a picture of {patches:,} "
                "patches, which cannot be laid over it; run the prompt again."
            )
    elif not len(capture.patch_rows):
        return "This capture does not say which row chose which patch, so nothing can be laid over it; draw it again."
    elif not words:
        return "The prompt has no words of its own, so there is nothing for a patch to look at; draw with some."
    return ""


def earlier_note(capture: Capture) -> str:
    """Why a drawing does not hold what patches looked at among earlier ones; empty where it does, or answers."""
    if capture.task == Task.UNDERSTANDING or capture.drawn is not None:
        return ""
    rows, patches = len(capture.query_positions), capture.grid[0] * capture.grid[1]
    if capture.layers * rows * patches > MOST_DRAWN:
        why = f"With {patches:,} patches, attention between them is too large to be kept"
    else:
        why = "This drawing was captured before attention between patches was kept"
    return why + "; it is computed anew for the patch that you choose, where its model is at hand."


def pair_note(captures: Sequence[Capture]) -> str:
    """Why there is no difference of two captures; empty where there is one, or nothing to compare."""
    if len(captures) < 2:
        return ""
    a, b = captures
    if a.task != b.task:
        return "One answers and one draws: their maps show different things, so there is no difference of them."
    if a.grid != b.grid:
        (rows, columns), (other_rows, other_columns) = a.grid, b.grid
        return (
            f"A has {rows} × {columns} patches, B {other_rows} × {other_columns}: no patch of one is a patch of the "
            "other, so there is no difference of their maps."
        )
    return ""


def depth_note(captures: Sequence[Capture]) -> str:
    """How layers of models of different depth are matched; empty where they need not be."""
    if len({one.layers for one in captures}) < 2:
        return ""
    a, b = captures
    return (
        f"A has {a.layers} layers, B {b.layers}: of B, the layer at the same normalised depth is shown, as in Compare."
    )
