"""Where texts stand in a template, and so which key group every token belongs to. Knows no family's template.

A template is rendered with sentinels in place of its texts; the texts are then put in, so that a text that repeats
words of the template, or a template that trims its texts, moves no span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from aia.intensity import Group, group_index
from backend.families.decoding import mark_last_image_token

SENTINEL = "\ue000"  # a private-use character: stands for a text while the template is rendered around it


class Span(NamedTuple):
    """Characters from `start` on, `end` excluded, that belong to a group."""

    start: int
    end: int
    group: Group


def fill(frame: str, texts: Sequence[tuple[str, Group]]) -> tuple[str, list[Span]]:
    """Put one text into each sentinel of a rendered template: → the whole text, and where the texts stand."""
    whole, *pieces = frame.split(SENTINEL)
    spans = []
    for (text, group), piece in zip(texts, pieces, strict=True):
        spans.append(Span(len(whole), len(whole) + len(text), group))
        whole += text + piece
    return whole, spans


def tokenise(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span], special: Mapping[int, Group]
) -> tuple[list[int], list[int]]:
    """Ids and group indices of a text.

    A token of `special` has the group named there, one that overlaps a span that of the span, all others are template.
    """
    encoded = tokenizer(text, return_offsets_mapping=True)
    groups = []
    for token, (first, last) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
        inside = next((span.group for span in spans if first < span.end and last > span.start), Group.TEMPLATE)
        groups.append(special.get(token, inside))
    mark_last_image_token(groups)
    return encoded.input_ids, [group_index(group) for group in groups]
