"""Every sentence of the Compare tab. Knows series and pairs; no page, no figure, no run and no store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aia.intensity import Definition, Task
from app.compare.numbers import Pair, find_largest
from backend.comparison import MOST_THINGS, Series

TITLES = {Task.GENERATION: "generation: image → text", Task.UNDERSTANDING: "understanding: answer → image"}
SAME_BELOW = 0.005  # differences that two decimals do not show

EMPTY = (
    f"Choose two to {MOST_THINGS} things on the left: answers and drawings made here, finished fine-tunes, "
    "the embedded models, curves of the paper. One fine-tune is enough: it brings its before, after, control and "
    "targets along."
)
FIRST = "The embedded models next to the paper’s Figure 1"
ONE_MORE = "Choose one more thing on the left to set this against."
OVERLAY_SUBTITLE = {
    False: "Share of attention between image and text, layer by layer.",
    True: "Share of attention between image and text. The models have different numbers of layers, so layers stand "
    "at their depth, from 0 (first) to 1 (last).",
}
DIFFERENCE_SUBTITLE = "First minus second: bars above zero mean that the first looks more at the other modality."
HEADS_SUBTITLE = (
    "Every head of every layer, first minus second. Orange: the first looks more; purple: the second. The scale is the "
    "same for all three definitions."
)
OTHERWISE = {
    "reference": "The paper's curves are counted as figure all the same.",
    "target": "A run's targets are those of the definition that it was trained with.",
    "measurement": "A measurement is counted as it was when it was made.",
}
IMPORTED_OTHERWISE = "Imported curves are counted as they were where they were made."
DEFINITIONS = {
    Definition.FIGURE: "figure, as the published figures count it.",
    Definition.TRAINING: "training, as the authors' training code counts it.",
    Definition.STRICT: "strict, closest to the paper's text.",
}

ALONE = ("capture", "reference", "measurement")  # roles of things with one curve a task, which need no other name

Letters = dict[str, str]  # of each thing by its id: "A", "B", …


def make_letters(sources: Sequence[str]) -> Letters:
    return {source: chr(ord("A") + i) for i, source in enumerate(dict.fromkeys(sources))}


def short_label(series: Series, letters: Letters) -> str:
    """ "A", "A before", "A control": as sentences and tables name a curve."""
    letter = letters.get(series.source, series.name)
    return letter if series.role in ALONE else f"{letter} {series.role}"


def long_label(series: Series, letters: Letters) -> str:
    """ "A “a red circle”", "B first try, before": as the legend names a curve."""
    role = "" if series.role in ALONE else f", {series.role}"
    return f"{letters.get(series.source, '')} {series.name}{role}".strip()


def pair_labels(pair: Pair, letters: Letters) -> tuple[str, str]:
    """Both short labels, with the task where it is not the same."""
    labels = [short_label(s, letters) for s in (pair.first, pair.second)]
    if pair.first.task != pair.second.task:
        labels = [f"{labels[0]} {pair.first.task}", f"{labels[1]} {pair.second.task}"]
    return labels[0], labels[1]


def describe_pair(pair: Pair, letters: Letters) -> str:
    """Where two curves differ most, and by how much on average; names the tasks if they differ."""
    task = f"{pair.first.task.capitalize()}, " if pair.first.task == pair.second.task else ""
    intro = f"{task}{' against '.join(pair_labels(pair, letters))}"
    difference = pair.difference
    if np.abs(difference).max() < SAME_BELOW:
        return f"{intro}: the same in every layer, to two decimals.{_matched(pair)}"
    layer = pair.largest
    a, b = pair.first.mean[layer], pair.other[layer]
    return (
        f"{intro}: most different in layer {layer + 1}, {a:.2f} against {b:.2f}; "
        f"on average {_average(float(difference.mean()))}.{_matched(pair)}"
    )


def describe_distance(pair: Pair, letters: Letters) -> str:
    """How far apart two curves are over all layers."""
    names = " and ".join(pair_labels(pair, letters))
    task = f"{pair.first.task.capitalize()}: " if pair.first.task == pair.second.task else ""
    return f"{task}{names} are {pair.mean_absolute:.3f} apart per layer on average, at most {_peak(pair):.3f}."


def _peak(pair: Pair) -> float:
    return float(np.abs(pair.difference).max())


def describe_columns(targets: bool, loss: bool) -> str:
    """How to read the table of numbers."""
    text = "Intensity as a share of attention, mean over layers."
    if targets:
        text += " |I − T|: distance of the mean curve to the run's own targets."
    if loss:
        text += " AIA loss: mean over samples (Huber, before λ), as the run measured it."
    return text


def _average(mean: float) -> str:
    if abs(mean) < SAME_BELOW:
        return "neither higher nor lower"
    return f"{abs(mean):.2f} {'higher' if mean > 0 else 'lower'}"


def _matched(pair: Pair) -> str:
    if not pair.by_depth:
        return ""
    return f" Layers are matched by depth, as there are {pair.first.layers} against {pair.second.layers}."


def describe_change(pairs: Sequence[Pair], letters: Letters) -> str:
    """The one sentence on what differs most; empty without a pair."""
    largest = find_largest(pairs)
    return describe_pair(largest, letters) if largest else ""


def describe_definition(definition: Definition, series: Sequence[Series]) -> str:
    """What is counted, and which curves are counted otherwise."""
    others = [s for s in series if s.definition != definition]
    here = {s.role for s in others if not is_imported(s)}
    imported = [IMPORTED_OTHERWISE] * any(is_imported(s) for s in others)
    return " ".join([DEFINITIONS[definition], *(text for role, text in OTHERWISE.items() if role in here), *imported])


def is_imported(series: Series) -> bool:
    """Whether a curve came in a bundle: it has the definition that it was exported with, and no other."""
    return series.source.startswith("bundle:")


def describe_spread(series: Sequence[Series]) -> str:
    """How the lines of a chart are drawn, of the roles in it."""
    ways = {
        "before": "thin grey: before",
        "after": "solid: after",
        "control": "dashed: the control",
        "target": "dotted in its ±δ band: target",
        "capture": "solid: captures",
        "measurement": "solid: measurements",
        "reference": "thin, broken: the paper",
    }
    there = [text for role, text in ways.items() if any(s.role == role for s in series)]
    text = "; ".join(there)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def describe_heads(difference: np.ndarray, pair: Pair, letters: Letters) -> str:
    """The head that differs most: difference float [L, H]."""
    layer, head = np.unravel_index(int(np.abs(difference).argmax()), difference.shape)
    a, b = pair.first.heads[layer, head], pair.second.heads[layer, head]
    names = [short_label(s, letters) for s in (pair.first, pair.second)]
    return f"Most different: head {head + 1} of layer {layer + 1}, {a:.2f} in {names[0]} against {b:.2f} in {names[1]}."


def describe_correlation(label: str, r: float) -> str:
    """What r between the two tasks says."""
    way = "go against each other" if r < -0.3 else "go together" if r > 0.3 else "have little to do with each other"
    return f"{label}: r = {r:.2f}".replace("-", "−") + f", the two tasks {way} over layers."


def format_score(score: dict, kind: str) -> str:
    """ "0.76 (0.73 – 0.78)"; a dash for none."""
    rate = score.get("overall") if kind == "overall" else score.get("by_kind", {}).get(kind)
    if rate is None:
        return "–"
    low, high = score["interval"][kind]
    return f"{rate:.2f} ({low:.2f} – {high:.2f})"
