"""The table of the Measure tab, as HTML. Everything that comes from outside is escaped. Knows groups, no handler."""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.compare.cards import make_card, make_table
from app.measure import words
from app.measure.groups import Group, correlate_tasks
from app.measure.views import Shown, groups_of
from app.words import signed
from backend.kept.measurements import Measurement

NONE = "–"


def numbers_card(measurements: Sequence[tuple[str, Measurement]], shown: Shown) -> str:
    """How many samples, how high, how much they differ: a row for each curve; then r of each measurement's tasks."""
    groups = groups_of(measurements, shown)
    named = len(measurements) > 1 and not groups[0].label
    split = bool(groups[0].label)
    columns = [*["measurement"] * named, "task", *["part"] * split, "samples", "mean intensity", "spread", "highest"]
    rows = [_row(one, named, split) for one in groups]
    body = make_table(columns, rows)
    if not split:
        body += _correlations(measurements, shown)
    return make_card("Numbers", words.SPREAD_SAYS, body)


def _row(one: Group, named: bool, split: bool) -> list[str]:
    top = int(one.mean.argmax())
    spread = NONE if one.spread is None else f"{one.spread:.3f}"
    facts = [f"{one.n:,}", f"{one.mean.mean():.3f}", spread, f"layer {top + 1} ({one.mean[top]:.3f})"]
    return [*[one.name] * named, one.task.value, *[one.label] * split, *facts]


def _correlations(measurements: Sequence[tuple[str, Measurement]], shown: Shown) -> str:
    """r of every measurement, where several are shown; the chart below says it of one."""
    if len(measurements) < 2:
        return ""
    rows = []
    for place, (name, measurement) in enumerate(measurements):
        found = correlate_tasks(measurement, shown.definition)
        if found is None or math.isnan(found.r):
            told = [NONE, NONE]
        else:
            interval = NONE if math.isnan(found.low) else f"{signed(found.low)} to {signed(found.high)}"
            told = [signed(found.r), interval]
        rows.append([f"{chr(ord('A') + place)} {name}", *told])
    return make_table(["measurement", "r of the two tasks", "95 % interval"], rows)
