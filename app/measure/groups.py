"""Splits a measurement's samples by kind of prompt or by its length, and says what the two tasks have to do with each
other. Pure functions on `backend.kept.measurements`; knows no chart and no page.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from aia.curves import Correlation, task_correlation
from aia.intensity import Definition, Task
from app.closer.tasks import rank
from backend.kept.measurements import Measurement

TASKS = (Task.GENERATION, Task.UNDERSTANDING)  # left and right, as on the other tabs
ALL, KIND, LENGTH = "all", "kind", "length"
SPLITS = (ALL, KIND, LENGTH)
MOST_LENGTHS = 4  # more lengths than this are put into thirds


@dataclass(frozen=True, eq=False)
class Group:
    """Samples of one task of one measurement: mean and deviation [L] over `n` of them; of one there is no deviation.

    `place` is that of the measurement among those shown, from 0; `label` names a part of it, empty for all.
    """

    place: int
    name: str
    task: Task
    definition: Definition
    mean: np.ndarray = field(repr=False)
    std: np.ndarray | None = field(repr=False)
    n: int
    label: str = ""

    @property
    def spread(self) -> float | None:
        """The paper's Table 1 statistic: mean over layers of the deviation over samples."""
        return None if self.std is None else float(self.std.mean())


def whole_groups(measurement: Measurement, place: int, name: str, definition: Definition) -> list[Group]:
    """All samples of each task."""
    found = []
    for task in TASKS:
        if task in measurement.report.tasks:
            counted, part = measurement.counted(task, definition), measurement.report.tasks[task]
            mean, std = measurement.curve(task, definition)
            found.append(Group(place, name, task, counted.definition, mean, std if part.n > 1 else None, part.n))
    return found


def split_groups(measurement: Measurement, name: str, definition: Definition, split: str) -> list[Group]:
    """The samples of each task by kind of prompt, or by its length in tokens; none where that was not noted."""
    found = []
    for task in TASKS:
        if task not in measurement.report.tasks:
            continue
        part, counted = measurement.report.tasks[task], measurement.counted(task, definition)
        labels = part.kinds if split == KIND else length_labels(part.tokens)
        rows = counted.rows()
        if labels is None or len(rows) != len(labels):
            continue
        order = list(dict.fromkeys(labels)) if split == KIND else sorted(set(labels), key=_first_number)
        for label in order:
            own = rows[[one == label for one in labels]]
            std = own.std(0, ddof=1) if len(own) > 1 else None
            found.append(Group(0, name, task, counted.definition, own.mean(0), std, len(own), label))
    return found


def length_labels(tokens: list[int] | None) -> list[str] | None:
    """A label such as "4–6 tokens" for each sample: each length its own, or thirds where there are many lengths."""
    if not tokens:
        return None
    lengths = sorted(set(tokens))
    if len(lengths) <= MOST_LENGTHS:
        return [_say_lengths(one, one) for one in tokens]
    edges = np.quantile(tokens, (1 / 3, 2 / 3))
    places = np.searchsorted(edges, tokens)  # 0, 1 or 2
    ends = {place: [t for t, p in zip(tokens, places, strict=True) if p == place] for place in set(places.tolist())}
    return [_say_lengths(min(ends[place]), max(ends[place])) for place in places.tolist()]


def _say_lengths(low: int, high: int) -> str:
    return f"{low} tokens" if low == high else f"{low}–{high} tokens"


def _first_number(label: str) -> int:
    return int(label.partition(" ")[0].partition("–")[0])


# --- both tasks ---


def correlate_tasks(measurement: Measurement, definition: Definition) -> Correlation | None:
    """Pearson's r over layers of the two tasks' curves; None where a task, or a definition of one, is not there.

    The interval draws samples anew, so there is none where a report has means alone.
    """
    curves = _both(measurement, definition)
    if curves is None:
        return None
    rows = [counted.rows() for counted in curves]
    if min(map(len, rows)) < 1:
        rows = [np.array([counted.mean], np.float64) for counted in curves]
    return task_correlation(*rows, seed=measurement.report.seed)


def disagreeing_heads(measurement: Measurement, definition: Definition) -> np.ndarray | None:
    """Rank of each head among answers less its rank among drawings, as Look closer has it: float64 [L, H] in −1…1.

    None where a task or its heads are not there.
    """
    heads = both_heads(measurement, definition)
    return None if heads is None else rank(heads[1]) - rank(heads[0])


def furthest_heads(disagreement: np.ndarray, most: int) -> list[tuple[int, int]]:
    """(layer, head) from 0 of the heads furthest from 0: the largest first, of equal ones the first; none for all 0."""
    size = np.abs(disagreement).round(6)
    order = np.argsort(-size, axis=None, kind="stable")[: most if size.any() else 0]
    return [(int(layer), int(head)) for layer, head in zip(*np.unravel_index(order, size.shape), strict=True)]


def both_heads(measurement: Measurement, definition: Definition) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean intensity of every head for generation and for understanding, [L, H] each."""
    curves = _both(measurement, definition)
    if curves is None or any(counted.heads is None for counted in curves):
        return None
    generation, understanding = (np.array(counted.heads, np.float64) for counted in curves)
    return (generation, understanding) if generation.shape == understanding.shape else None


def _both(measurement: Measurement, definition: Definition):
    if len(measurement.report.tasks) < len(TASKS):
        return None
    curves = [measurement.counted(task, definition) for task in TASKS]
    alike = len({counted.definition for counted in curves}) == 1 and len({len(counted.mean) for counted in curves}) == 1
    return curves if alike else None
