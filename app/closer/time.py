"""Time: the intensity of every step in every layer, for both branches of guidance. Pure functions on captures."""

from __future__ import annotations

from typing import Any

import numpy as np

from aia.intensity import Definition, Task, sum_groups
from app.closer import time_words, words
from app.closer.asked import Asked
from app.closer.maps import common_limits, encode, even_limits
from app.closer.space import name_words, rows_of
from app.closer.space_words import missing
from app.compare.numbers import depths
from app.explore.views import answer_tokens
from backend.kept.captures import Capture

BRANCHES = ("conditional", "unconditional")


def read_time(asked: Asked) -> dict[str, Any]:
    """Maps of layers by tokens: of each branch of each capture, and their differences, all between common limits.

    A token's column is the row that chose it; with `fed`, the row into which it was fed back.
    """
    fed = asked.values.get("fed") == "1"
    found = [time_maps(capture, asked.definition, fed) for capture in asked.captures]
    limits = common_limits([one for maps in found for one in maps])
    differences = find_differences(asked, found)
    scale = even_limits([values for _, values in differences])
    return {
        "captures": [_describe(capture, fed) for capture in asked.captures],
        "maps": [
            [{"branch": name, **encode(one, limits)} for name, one in zip(BRANCHES, maps, strict=False)]
            for maps in found
        ],
        "differences": [{"title": title, **encode(values, scale)} for title, values in differences],
        "sentence": time_words.describe(asked.captures, *_counted(asked.first, fed, found, differences)),
        "note": time_words.note(asked, fed),
    }


def _describe(capture: Capture, fed: bool) -> dict[str, Any]:
    words_there = len(token_texts(capture) if capture.task == Task.UNDERSTANDING else capture.cross_positions)
    return {
        **words.describe(capture),
        **describe_steps(capture, fed),
        "empty": time_words.missing(capture, token_count(capture)),
        "in_space": not missing(capture, words_there),
    }


def describe_steps(capture: Capture, fed: bool) -> dict[str, Any]:
    """What names the steps: an answer's words; a drawing's patches have a row and a column of the grid."""
    texts, rows = token_texts(capture), rows_of_tokens(capture, fed)
    return {
        "grid": capture.grid,
        "tokens": [{"text": text, "name": name} for text, name in zip(texts, name_words(texts), strict=True)],
        "prefill": len(rows) > 0 and int(rows[0]) == 0,
    }


def rows_of_tokens(capture: Capture, fed: bool) -> np.ndarray:
    """The row of each token: int [tokens], -1 for one that was never fed back."""
    return np.array(rows_of(capture, fed, token_count(capture)), int)


def token_texts(capture: Capture) -> list[str]:
    """An answer's tokens that a row chose; a drawing's have no text."""
    return answer_tokens(capture)[: capture.mass.shape[3]] if capture.task == Task.UNDERSTANDING else []


def token_count(capture: Capture) -> int:
    """How many tokens of an answer, or patches of a drawing, a row chose."""
    return len(token_texts(capture)) if capture.task == Task.UNDERSTANDING else len(capture.patch_rows)


def time_maps(capture: Capture, definition: Definition, fed: bool) -> list[np.ndarray]:
    """Intensity of each branch, mean over heads: float64 [L, tokens] each, NaN for a token that was never fed back.

    By the strict definition there is one branch alone: without the prompt there are no prompt words to look at.
    """
    branches = 1 if definition == Definition.STRICT else len(capture.mass)
    rows = rows_of_tokens(capture, fed)
    maps = []
    for mass in capture.mass[:branches]:
        by_row = sum_groups(mass.mean(1, dtype=np.float64), capture.task, definition)  # [L, Q]
        maps.append(np.where(rows >= 0, by_row[:, rows], np.nan))
    return maps


def _counted(
    first: Capture, fed: bool, found: list[list[np.ndarray]], differences: list[tuple[str, np.ndarray]]
) -> tuple[list[list[np.ndarray]], list[tuple[str, np.ndarray]]]:
    """The maps without the first step, which no curve counts: before it there is nothing but the prompt.

    What took no other step keeps it.
    """
    rows = rows_of_tokens(first, fed)
    if len(rows) < 2 or rows[0] != 0:
        return found, differences

    def without(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.full_like(values[:, :1], np.nan), values[:, 1:]], 1)

    return [[without(one) for one in maps] for maps in found], [(title, without(one)) for title, one in differences]


# --- differences ---


def find_differences(asked: Asked, found: list[list[np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """Titles and maps [L, tokens]: of the branches of one capture, or of a pair branch by branch."""
    first = found[0]
    if asked.second is None:
        return [(" − ".join(BRANCHES), first[0] - first[1])] if len(first) > 1 and first[0].size else []
    if time_words.apart(asked.first, asked.second):
        return []
    pairs = list(zip(BRANCHES, *found, strict=False))
    return [(f"A − B, {branch}" if len(pairs) > 1 else "A − B", subtract(a, b)) for branch, a, b in pairs if a.size]


def subtract(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """First minus second [L, tokens], NaN for tokens that the second does not have.

    Where the second has other layers, they are matched by normalised depth, as in Compare.
    """
    layers, tokens = first.shape
    if len(second) != layers:
        at, known = depths(layers), depths(len(second))
        columns = [np.interp(at, known, column) for column in second.T]
        second = np.stack(columns, 1) if columns else np.empty((layers, 0))
    both = min(tokens, second.shape[1])
    difference = np.full(first.shape, np.nan)
    difference[:, :both] = first[:, :both] - second[:, :both]
    return difference
