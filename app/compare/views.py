"""What the cards of the Compare tab show: pure functions from series to views.

Knows series, figures and sentences; no handler, no Gradio event, no store and no run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from urllib.parse import urlencode

import numpy as np

from aia.intensity import Definition, Task
from app.compare import words
from app.compare.export import comparison_zip
from app.compare.figures import (
    line_style,
    make_difference_figure,
    make_heads_figure,
    make_overlay_figure,
    rank_in,
    round_limit,
)
from app.compare.numbers import Pair, find_pairs, heads_difference, merge_alike, same_layers
from app.components.picker import Item, PickerView
from app.components.plot import BinaryFile, Key, PlotView
from backend.comparison import MOST_THINGS, Choice, Series

BOTH = "both"


def make_link(things: Sequence[str], definition: Definition, task: str) -> str:
    """The query of the page's address that brings a comparison back; empty without one."""
    if not things:
        return ""
    query = {"compare": ",".join(things)}
    query |= {"definition": definition.value} if definition != next(iter(Definition)) else {}
    query |= {"task": task} if task != BOTH else {}
    return urlencode(query, safe=":,")


def picker_view(choices: Sequence[Choice], chosen: Sequence[Choice], link: str, message: str = "") -> PickerView:
    """The list on the left."""
    items, above = (tuple(Item(c.id, c.name, c.about, c.group) for c in some) for some in (choices, chosen))
    return PickerView(items, above, MOST_THINGS, message, "Nothing yet.", link or "compare=")


def of_task(series: Sequence[Series], task: str) -> list[Series]:
    """The series that the task filter lets through."""
    return [s for s in series if task in (BOTH, s.task)]


def overlay_view(series: Sequence[Series], definition: Definition, link: str) -> PlotView | None:
    """All curves over each other, with the one sentence on what differs most."""
    if not series:
        return None
    shown, letters = merge_alike(list(series)), words.make_letters([s.source for s in series])
    subtitle = f"{words.OVERLAY_SUBTITLE[not same_layers(shown)]} {words.describe_spread(shown)}"
    stem = file_stem(series, definition)
    packed = base64.b64encode(comparison_zip(series, definition)).decode()
    return PlotView(
        key=stem,
        title="Compared by layer",
        subtitle=subtitle,
        figure=make_overlay_figure(shown, letters),
        sentence=words.describe_change(find_pairs(series), letters) or words.ONE_MORE,
        explanation=words.describe_definition(definition, shown),
        stem=stem,
        legend=legend_of(shown, letters),
        files=(BinaryFile("All of it (ZIP)", f"{stem}.zip", "application/zip", packed),),
        link=link,
    )


def legend_of(series: Sequence[Series], letters: words.Letters) -> tuple[Key, ...]:
    """A line for each thing and role, in the colours that it has in either task."""
    styles: dict[str, list[dict]] = {}
    for one in series:
        styles.setdefault(words.long_label(one, letters), []).append(line_style(one, rank_in(one, series)))
    keys = []
    for label, found in styles.items():
        colours = tuple(dict.fromkeys(style["color"] for style in found))
        keys.append(Key(label, colours, found[0]["width"], found[0].get("dash", "solid")))
    return tuple(keys)


def difference_view(series: Sequence[Series], definition: Definition) -> PlotView | None:
    """First minus second; None where there is only one thing."""
    pairs, letters = find_pairs(series), words.make_letters([s.source for s in series])
    if not pairs:
        return None
    stem = f"{file_stem(series, definition)}-difference"
    return PlotView(
        key=stem,
        title="Difference by layer",
        subtitle=words.DIFFERENCE_SUBTITLE,
        figure=make_difference_figure(pairs, letters),
        sentence=" ".join(words.describe_distance(pair, letters) for pair in pairs),
        stem=stem,
    )


def heads_view(by_definition: dict[Definition, Sequence[Series]], definition: Definition) -> PlotView | None:
    """Difference of every head of the first two captures; the scale is that of all definitions together."""
    maps: dict[Definition, tuple[Pair, np.ndarray]] = {}
    for each, series in by_definition.items():
        for pair in find_pairs(series):
            found = heads_difference(pair)
            if found is not None:
                maps.setdefault(each, (pair, found))
    if definition not in maps:
        return None
    pair, difference = maps[definition]
    series = by_definition[definition]
    letters = words.make_letters([s.source for s in series])
    most = round_limit(max(float(np.abs(found).max()) for _, found in maps.values()))
    stem = f"{file_stem(series, definition)}-heads"
    return PlotView(
        key=stem,
        title="Difference by head",
        subtitle=words.HEADS_SUBTITLE,
        figure=make_heads_figure(difference, most, words.pair_labels(pair, letters)),
        sentence=words.describe_heads(difference, pair, letters),
        stem=stem,
    )


def file_stem(series: Sequence[Series], definition: Definition) -> str:
    """A name for files that tells comparisons apart."""
    told = ",".join(dict.fromkeys(s.source for s in series)) + ",".join(sorted({s.task for s in series}))
    return f"aia-lens-compare-{hashlib.sha256(told.encode()).hexdigest()[:8]}-{definition.value}"


def read_task(value: object) -> str:
    """The task filter, whatever the page sends."""
    return value if value in (BOTH, *(task.value for task in Task)) else BOTH


def read_definition(value: object) -> Definition:
    """The definition, whatever the page sends; an unknown one means the first."""
    return next((d for d in Definition if d.value == value), next(iter(Definition)))
