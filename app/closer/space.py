"""Space: where words and patches looked, on the picture. What the view needs of a capture, and slices of its attention.

Pure functions on captures, but for single heads, which `look` computes anew: it is `Engine.look`. What the page adds
up of a slice (one word, several, patches) it does itself, so that a click asks no server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from aia.intensity import Task
from aia.sinks import find_sinks
from app.closer import space_words, words
from app.closer.asked import Asked
from app.closer.maps import encode
from app.explore.views import answer_tokens, data_url
from backend.interface import Looks, UserError
from backend.kept.captures import Capture

Look = Callable[[Capture, range, tuple[int, int] | None], Looks]

MOST_SENT = 2**22  # values of one map: 8 MiB on their way to the page


# --- what there is to look at ---


def read_space(asked: Asked) -> dict[str, Any]:
    """Pictures, words and rows of each capture."""
    return {
        "captures": [_read_capture(one) for one in asked.captures],
        "note": space_words.pair_note(asked.captures),
        "depth": space_words.depth_note(asked.captures),
    }


def _read_capture(capture: Capture) -> dict[str, Any]:
    texts = _texts(capture)
    return {
        **words.describe(capture),
        "empty": space_words.missing(capture, len(texts)),
        "earlier": space_words.earlier_note(capture),
        "grid": capture.grid,
        "picture": data_url(capture.picture_png),
        "words": [{"text": text, "name": name} for text, name in zip(texts, name_words(texts), strict=True)],
        "rows": [rows_of(capture, fed, len(texts)) for fed in (False, True)],
    }


def _texts(capture: Capture) -> list[str]:
    """An answer's tokens that a row chose, or the words of a drawing's prompt."""
    if capture.task == Task.UNDERSTANDING:
        return answer_tokens(capture)[: capture.mass.shape[3]]
    return [capture.tokens[place].strip() or "␣" for place in capture.cross_positions]


def name_words(texts: list[str]) -> list[str]:
    """Each word; one that comes more than once with its place, counted from 1: "red (3rd word)"."""
    counts = Counter(texts)
    return [
        f"{text} ({space_words.ordinal(place)} word)" if counts[text] > 1 else text
        for place, text in enumerate(texts, start=1)
    ]


def rows_of(capture: Capture, fed: bool, count: int) -> list[int]:
    """The row that chose each of an answer's words, or each patch of a drawing; or that into which it was fed.

    -1 where it was never fed back: the last one.
    """
    rows = np.arange(count) if capture.task == Task.UNDERSTANDING else capture.patch_rows
    rows = rows + 1 if fed else rows
    return np.where(rows < len(capture.query_positions), rows, -1).tolist()


# --- slices: all rows in one layer, in the mean of all, or of one head ---


def space_sources(look: Look) -> dict[str, Callable[[Asked], dict[str, Any]]]:
    """The data of the view that may run a model, by the name of their source."""
    return {"space-map": map_reader(look), "space-row": row_reader(look)}


def map_reader(look: Look) -> Callable[[Asked], dict[str, Any]]:
    """The source of a slice of each capture: `layer`, or `head` as "layer.head"; neither for the mean of layers."""

    def read(asked: Asked) -> dict[str, Any]:
        return {"slices": [_or_sentence(_read_slice, one, asked, look) for one in asked.captures]}

    return read


def row_reader(look: Look) -> Callable[[Asked], dict[str, Any]]:
    """The source of one row's attention on earlier patches, computed anew for captures that do not hold it."""

    def read(asked: Asked) -> dict[str, Any]:
        return {"slices": [_or_sentence(_read_row, one, asked, look) for one in asked.captures]}

    return read


def _or_sentence(read: Callable, capture: Capture, asked: Asked, look: Look) -> dict[str, Any]:
    """Of a pair, one that cannot be shown does not keep the other from it."""
    try:
        return read(capture, asked, look)
    except UserError as error:
        return {"error": str(error)}


def _read_slice(capture: Capture, asked: Asked, look: Look) -> dict[str, Any]:
    head = head_of(asked, capture)
    if head is not None:
        looks = look(capture, range(len(capture.query_positions)), head)
        cross, drawn = looks.cross, looks.drawn
    else:
        layer = layer_of(asked, capture)
        cross, drawn = layer_mean(capture.cross, layer), None
        if capture.drawn is not None:
            drawn = layer_mean(capture.drawn, layer)
    if drawn is not None and drawn.size > MOST_SENT:
        drawn = None
    return {
        "cross": _encode(cross),
        "earlier": None if drawn is None else _encode(drawn),
        "sinks": np.flatnonzero(sinks_of(capture, cross, drawn)).tolist(),
    }


def _read_row(capture: Capture, asked: Asked, look: Look) -> dict[str, Any]:
    if capture.task != Task.GENERATION:
        raise UserError("Expected a drawing, got an answer; choose its words instead.")
    row = asked.number("row", len(capture.query_positions)) - 1
    head = head_of(asked, capture)
    drawn = look(capture, range(row, row + 1), head).drawn
    if head is None:
        layer = layer_of(asked, capture)
        drawn = (drawn.mean(0) if layer is None else drawn[layer]).mean(0)
    return {"earlier": _encode(drawn)}


def layer_mean(kept: np.ndarray, layer: int | None) -> np.ndarray:
    """That layer of [L, Q, X], or the mean of all: float32 [Q, X]."""
    return kept.mean(0, dtype=np.float32) if layer is None else kept[layer].astype(np.float32)


def layer_of(asked: Asked, capture: Capture) -> int | None:
    """The asked layer, from 0; None for the mean of all. Raises `UserError`.

    Of a partner with another number of layers, the one at the same normalised depth, as in Compare.
    """
    if not asked.values.get("layer"):
        return None
    layer, layers = asked.number("layer", asked.first.layers) - 1, asked.first.layers
    return layer if capture.layers == layers else int((layer + 0.5) / layers * capture.layers)


def head_of(asked: Asked, capture: Capture) -> tuple[int, int] | None:
    """Layer and head of "3.5", from 0; None for none. Raises `UserError` for what the capture does not have.

    A partner of another shape has no head that is that of the first.
    """
    text = asked.values.get("head", "")
    if not text:
        return None
    if (capture.layers, capture.heads) != (asked.first.layers, asked.first.heads):
        raise UserError(words.other_heads(capture))
    layer, _, head = text.partition(".")
    found = [int(part[:6]) if part.isascii() and part.isdecimal() else 0 for part in (layer, head)]
    if not (1 <= found[0] <= capture.layers and 1 <= found[1] <= capture.heads):
        raise UserError(
            f"Expected a head of {capture.layers} layers × {capture.heads} heads, such as 1.1, got “{text[:12]}”; "
            "choose one in Heads."
        )
    return found[0] - 1, found[1] - 1


def sinks_of(capture: Capture, cross: np.ndarray, drawn: np.ndarray | None) -> np.ndarray:
    """Which patches are sinks in a slice: bool [patches]; none where attention on patches is not known."""
    patches = capture.grid[0] * capture.grid[1]
    if capture.task == Task.UNDERSTANDING:
        return find_sinks(cross) if cross.shape[1] == patches else np.zeros(patches, bool)
    if drawn is None:
        return np.zeros(patches, bool)
    rows = np.arange(len(drawn))[:, None]
    return find_sinks(drawn, capture.patch_rows < rows)  # row q comes after the q tokens made by then


def _encode(values: np.ndarray) -> dict[str, Any]:
    """Between 0 and the largest value: off by at most 1 / 131,068 of it."""
    return encode(values, (0.0, max(float(values.max(initial=0)), 1e-9)))
