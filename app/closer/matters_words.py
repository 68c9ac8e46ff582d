"""The sentences of the card "Does it matter?". Knows what was found; no figure's form, no page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aia.curves import correlate_curves
from aia.intensity import Task
from app.closer.asked import Asked
from app.closer.matters_figure import OTHER_SIDE, Half
from app.words import quote
from backend.kept.captures import Capture
from backend.kept.knockouts import HeadReport, Way, window_layers

if TYPE_CHECKING:
    from app.closer.matters import Found

LITTLE = 0.05  # nats: a twentieth less likely, below which nothing is said to matter
SUBJECTS = {Task.UNDERSTANDING: "The answer", Task.GENERATION: "The drawing"}
WHY = (
    "Attention alone explains nothing: it says where a head reads from, not whether what it reads changes the result. "
    "What is read may be empty, ignored later, or at hand elsewhere. So here the reading itself is forbidden in a "
    "window of layers, exactly (a score of −∞ before softmax; the model stays as it is), and the same tokens are "
    "scored again. One nat less is e ≈ 2.7 times less likely."
)
CONTROL = (
    "Grey: as many random other keys forbidden instead (at most half of those that a row sees), mean and range of the "
    "draws; what the other modality costs beyond that is its own."
)
LIMITS = (
    "What earlier layers have read stays with a token, and layers make up for one another, so a window that costs "
    "little may still be used. Method: Geva et al., arXiv 2304.14767."
)
WAYS = {
    Way.DIRECT: "Rows that choose tokens lose it; the words between still see it and may hand it on.",
    Way.ANY: "All rows behind it lose it, so nothing is handed on by the words between.",
}


def missing(capture: Capture) -> str:
    """Why nothing can be knocked out of a capture; empty where it can."""
    if capture.task == Task.UNDERSTANDING and not capture.text.strip():
        return "This answer has no words, so there is nothing that could become less likely; ask something it answers."
    if not len(capture.cross_positions):
        side = OTHER_SIDE[capture.task]
        return f"There is nothing of {side} to look at in this capture, so nothing to forbid; run another prompt."
    return ""


def name_window(layers: range) -> str:
    """Layers from 0 as "layer 3" or "layers 2–4"."""
    first, last = layers[0] + 1, layers[-1] + 1
    return f"layer {first}" if first == last else f"layers {first}–{last}"


def name_windows(layers: int, width: int) -> list[str]:
    """The window centred on each layer."""
    return [name_window(window) for window in window_layers(layers, width)]


def describe_halves(halves: Sequence[Half]) -> str:
    """What was found of each capture, then how two differ."""
    said = [f"{half.letter}: {describe_half(half)}" if half.letter else describe_half(half) for half in halves]
    if len(halves) == 2 and all(half.report is not None for half in halves):
        said.append(describe_pair(*halves))
    return " ".join(said)


def describe_half(half: Half) -> str:
    """Where a capture rests on the other modality, and whether that is where it looks."""
    if half.report is None:
        return f"Not asked yet: press Knock out to see in which layers {OTHER_SIDE[half.task]} matters."
    subject, other, drops = SUBJECTS[half.task], OTHER_SIDE[half.task], half.drops
    top = int(drops.argmax())
    whole = f"with all layers at once {nats(half.all_layers)}"
    if drops[top] < LITTLE:
        lost = f"without {half.windows[top]} {subject.lower()} loses {nats(drops[top])} nats, {whole}"
        return f"No window of layers matters: {lost}."
    control = "" if half.others is None else _describe_control(half.others[:, top].mean(), drops[top])
    rests = (
        f"{subject} rests most on {half.windows[top]}: without looking at {other} there it "
        f"{say_loss(drops[top])} ({whole}{control})."
    )
    return f"{rests} {_describe_looking(half, top)}".strip()


def _describe_control(cost: float, drop: float) -> str:
    if cost >= drop:
        return f"; but as many random other keys cost {nats(cost)} there, no less"
    return f"; random other keys cost {nats(cost)} there"


def _describe_looking(half: Half, top: int) -> str:
    """Attention beside it: the layer that looks most, and how the two curves go together."""
    if not np.isfinite(half.intensity).all() or len(half.intensity) == 1:
        return ""
    looks = int(half.intensity.argmax())
    r = correlate_curves(half.intensity, half.drops)
    found = f"It looks most in layer {looks + 1}"
    if r is None or not np.isfinite(r):
        return f"{found}."
    return f"{found}; over layers, drop and intensity correlate with r = {r:+.2f}.".replace("-", "−")


def describe_heads(
    changes: Sequence[np.ndarray | None],
    reports: Sequence[HeadReport | None],
    found: Sequence[Found],
    letters: Sequence[str],
) -> str:
    """The head that gives back, or costs, most; changes are [L, H]."""
    said = []
    for values, report, one, letter in zip(changes, reports, found, letters, strict=True):
        if values is None:
            continue
        other = OTHER_SIDE[one.capture.task]
        (layer, head), *next_one = _largest(values, 2)
        most = f"head {head + 1} of layer {layer + 1}"
        after = (
            ""
            if not next_one
            else f"; next is {next_one[0][0] + 1}.{next_one[0][1] + 1} with {nats(values[next_one[0]])}"
        )
        whole = f"of the {nats(report.all_heads)} nats that it costs when none may look"
        words = (
            f"Alone still looking at {other}, {most} gives back {nats(values[layer, head])} {whole}{after}."
            if one.keep
            else f"Alone not looking at {other}, {most} costs {nats(values[layer, head])} {whole}{after}."
        )
        said.append(f"{letter}: {words}" if letter else words)
    return " ".join(said)


def _largest(values: np.ndarray, count: int) -> list[tuple[int, int]]:
    places = np.argsort(-values.round(6), axis=None, kind="stable")[:count]
    return [divmod(int(place), values.shape[1]) for place in places]


def describe_pair(a: Half, b: Half) -> str:
    """Where the drops of two captures differ most; why they cannot be compared, where they cannot."""
    if a.task != b.task:
        return "One answers and one draws, so their nats are of different things: compare where they fall, not how far."
    if len(a.windows) != len(b.windows):
        return f"A has {len(a.windows)} layers, B {len(b.windows)}: layers are not matched."
    if list(a.windows) != list(b.windows):
        return "The windows are of different width."
    apart = a.drops - b.drops
    at = int(np.abs(apart).argmax())
    return f"They differ most without {a.windows[at]}: {nats(a.drops[at])} in A, {nats(b.drops[at])} in B."


def explain(halves: Sequence[Half], asked: Asked) -> list[str]:
    """The paragraphs below the chart."""
    control = any(half.others is not None for half in halves)
    fewer = any(half.fewer is not None for half in halves)
    own = "Dotted: as few of the other modality's own keys, chosen at random." if fewer else ""
    way = WAYS[Way(asked.values.get("way") or Way.DIRECT)]
    return [WHY, " ".join(filter(None, [way, CONTROL if control else "", own, LIMITS]))]


def say_loss(drop: float) -> str:
    """1.83 → "becomes 6.2 times less likely, 1.83 nats"; what would be a long number of times is in nats alone."""
    if drop > math.log(1000):
        return f"loses {nats(drop)} nats of log-probability"
    return f"becomes {math.exp(drop):.1f} times less likely, {nats(drop)} nats"


def nats(value: float) -> str:
    """Two decimals; a minus is one, and none stands before 0.00."""
    return f"{round(float(value), 2) + 0.0:.2f}".replace("-", "−")


def describe_answer(found: Found) -> str:
    """Whether an answer that was given again is another."""
    before, after = found.capture.text.strip(), found.remade.text.strip()
    if before == after:
        return "The answer stays, word by word."
    return f"Without looking at the image there, the model answers {quote(after) if after else 'nothing'}."


def describe_drawing(found: Found) -> str:
    """How many patches of a drawing come out otherwise."""
    known = [changed for changed in found.remade.changed if changed is not None]
    if not known:
        return "This capture does not say which code each patch had; compare the pictures."
    return f"{sum(known):,} of {len(known):,} patches come out with another code (same seed, same settings)."
