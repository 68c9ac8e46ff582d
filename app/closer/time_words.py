"""The sentences of the Time view. Knows captures; no map on its way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aia.intensity import Definition, Task
from app.closer.asked import Asked
from app.closer.words import OTHER_SIDE
from app.explore.views import answer_tokens
from backend.kept.captures import Capture

ALIKE = 5e-4  # a difference that no reader sees
TREND_FROM = 20  # tokens, below which a tenth of them says little


def missing(capture: Capture, tokens: int) -> str:
    """Why there is no map at all; empty where there is one."""
    if tokens:
        return ""
    if capture.task == Task.UNDERSTANDING:
        return "This answer has no words, so there is no step to look at; ask something that it answers."
    return "This capture does not say which row chose which patch, so its steps have no place; draw it again."


def describe(
    captures: Sequence[Capture], found: Sequence[Sequence[np.ndarray]], differences: Sequence[tuple[str, np.ndarray]]
) -> str:
    """What to see: where a pair differs most, or which token looks most and how it goes on; maps are [L, tokens]."""
    if len(captures) > 1 and differences:
        return _describe_pair(captures, found, differences[0][1])
    capture, values = captures[0], found[0][0]
    if not np.isfinite(values).any():
        return missing(capture, values.shape[1]) or "No token of it was fed back; choose the row that chose it."
    layer, token = np.unravel_index(np.nanargmax(values.round(6)), values.shape)
    who, other = _capital(name_token(capture, token)), OTHER_SIDE[capture.task]
    share = f"{values[layer, token]:.2f} of its attention"
    return f"{who} looks most at {other}, in layer {layer + 1}: {share}.{_trend(values, other)}"


def _describe_pair(captures: Sequence[Capture], found: Sequence[Sequence[np.ndarray]], difference: np.ndarray) -> str:
    if not np.isfinite(difference).any():
        return "A and B have no token in common; choose the row that chose it."
    layer, token = np.unravel_index(np.nanargmax(np.abs(difference).round(6)), difference.shape)
    most = float(difference[layer, token])
    if abs(most) < ALIKE:
        return "A and B are alike in every step."
    a = float(found[0][0][layer, token])
    owner = " of A" if captures[0].task == Task.UNDERSTANDING else ""  # B may say another word there
    place = f"{name_token(captures[0], token)}{owner}"
    return f"They differ most at {place}, in layer {layer + 1}: {a:.3f} in A, {a - most:.3f} in B."


def _trend(values: np.ndarray, other: str) -> str:
    """How the mean over layers goes from the first tenth of many tokens to the last."""
    over_layers = values.mean(0)
    over_layers = over_layers[np.isfinite(over_layers)]
    if len(over_layers) < TREND_FROM:
        return ""
    tenth = len(over_layers) // 10
    first, last = float(over_layers[:tenth].mean()), float(over_layers[-tenth:].mean())
    return f" In the mean of layers, the first tenth of tokens give {other} {first:.2f}, the last tenth {last:.2f}."


def name_token(capture: Capture, token: int) -> str:
    """A token as a sentence names it, from its place in its map."""
    if capture.task == Task.UNDERSTANDING:
        return f"word {token + 1} “{answer_tokens(capture)[token]}”"
    row, column = divmod(int(token), capture.grid[1])
    return f"the patch in row {row + 1}, column {column + 1}"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


# --- what cannot be shown, or needs a word ---


def apart(a: Capture, b: Capture) -> str:
    """Why two captures have no difference over steps; empty where they have one."""
    if a.task != b.task:
        return "One answers and one draws: their steps are of different things, so there is no difference of them."
    if a.task == Task.GENERATION and a.grid != b.grid:
        (rows, columns), (other_rows, other_columns) = a.grid, b.grid
        return (
            f"A has {rows} × {columns} patches, B {other_rows} × {other_columns}: no patch of one is a patch of the "
            "other, so there is no difference of their steps."
        )
    return ""


def note(asked: Asked, fed: bool) -> str:
    """What a reader must know beside the maps."""
    notes = [] if asked.second is None else [*_pair_notes(asked.first, asked.second)]
    guided = any(len(capture.mass) > 1 for capture in asked.captures)
    if guided and asked.definition == Definition.STRICT:
        notes.append("The unconditional branch has no prompt words, so by this definition it has nothing to show.")
    elif guided:
        notes.append(
            "Guidance runs the drawing twice: the conditional branch reads the prompt, the unconditional one sees only "
            "what else stands before the image."
        )
    if any(len(capture.query_positions) > len(capture.patch_rows) > 0 for capture in asked.captures):
        notes.append("Row ends are steps too; they count in the curve, but have no place on the picture, nor here.")
    if not fed:
        notes.append(
            "The line sets apart the first step, whose query is the prompt's end: the curve does not count it."
        )
    return " ".join(notes)


def _pair_notes(a: Capture, b: Capture):
    if apart(a, b):
        yield apart(a, b)
        return
    if a.layers != b.layers:
        yield f"A has {a.layers} layers, B {b.layers}: for A − B they are matched by normalised depth, as in Compare."
    if a.task == Task.UNDERSTANDING:
        yield from _word_notes(answer_tokens(a), answer_tokens(b))


def _word_notes(first: Sequence[str], second: Sequence[str]):
    both = min(len(first), len(second))
    if len(first) != len(second):
        yield f"A has {len(first)} words, B {len(second)}: A − B covers the first {both}."
    other = next((place for place in range(both) if first[place] != second[place]), None)
    if other is not None:
        yield f"From word {other + 1} on they say different words, compared by their place."
