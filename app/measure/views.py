"""What the cards of the Measure tab show: pure functions from entries and groups to views.

Knows entries, figures and sentences; no handler, no Gradio event, no folder.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from aia.curves import without_each_layer
from aia.intensity import Definition
from app.components.plot import BinaryFile, PlotView
from app.components.runcard import Action, Link, RunView
from app.components.runs import RunRow, RunsView
from app.components.taskheads import HeadRow, TaskHeadsView
from app.finetune.run_views import share_done
from app.finetune.run_words import NOT_MINE
from app.measure import words
from app.measure.export import curves_csv
from app.measure.figures import legend_of, make_conflict_figure, make_curves_figure
from app.measure.groups import (
    ALL,
    SPLITS,
    TASKS,
    Group,
    both_heads,
    correlate_tasks,
    disagreeing_heads,
    furthest_heads,
    split_groups,
    whole_groups,
)
from app.measure.shelf import Entry
from app.words import describe_hinge
from backend.comparison import MOST_THINGS
from backend.kept.measurements import Measurement

ACTIVE = ("queued", "running", "stopping")
DATA_URL = "lens/measurement"
HEADS_LISTED = 8
_CANCEL, _RESUME, _DELETE = Action("cancel", "Cancel"), Action("resume", "Resume"), Action("delete", "Delete")
_ACTIONS = {
    "queued": (_CANCEL,),
    "running": (_CANCEL,),
    "stopping": (),
    "stopped": (_RESUME, _DELETE),
    "failed": (_RESUME, _DELETE),
    "interrupted": (_RESUME, _DELETE),
}
_TARGETS = Action("targets", "Use as fine-tune targets")


@dataclass(frozen=True)
class Shown:
    """How a page looks at a measurement: by which definition, in which parts, against which others."""

    definition: Definition = Definition.FIGURE
    split: str = ALL
    others: tuple[str, ...] = ()

    def link(self, own: str) -> str:
        """The query of the page's address that brings this back."""
        query = {"measure": own}
        query |= {"definition": self.definition.value} if self.definition != Definition.FIGURE else {}
        query |= {"split": self.split} if self.split != ALL else {}
        query |= {"with": ",".join(self.others)} if self.others else {}
        return urlencode(query, safe=",")


def read_shown(definition: object, split: object, others: object) -> Shown:
    """What a page sends, whatever it is."""
    named = others.split(",") if isinstance(others, str) else others if isinstance(others, list | tuple) else ()
    return Shown(
        next((d for d in Definition if d.value == definition), Definition.FIGURE),
        next((s for s in SPLITS if s == split), ALL),
        tuple(dict.fromkeys(str(one)[:40] for one in named if one))[: MOST_THINGS - 1],
    )


def list_view(entries: Sequence[Entry], chosen: str, message: str, undo: str, undo_name: str) -> RunsView:
    rows = tuple(
        RunRow(
            entry.id,
            entry.name,
            words.describe_row(entry),
            entry.state,
            words.describe_state(entry),
            share_done(entry.run) if entry.run else 1.0,
        )
        for entry in entries
    )
    return RunsView(rows, chosen, words.EMPTY, message, undo, undo_name)


def card_view(entry: Entry, link: str, log: str, step_seconds: float | None) -> RunView:
    """The card of one entry."""
    run, own = entry.run, entry.measurement
    kept = own is not None and run is None
    links = (
        (Link("Compare with other things", f"compare=measurement:{entry.id}"),) if kept and not entry.example else ()
    )
    return RunView(
        id=entry.id,
        name=entry.name,
        about=words.describe_about(entry) + ("" if entry.mine else NOT_MINE),
        state=entry.state,
        label=words.describe_state(entry),
        share=share_done(run) if run else 1.0,
        facts=words.describe_progress(run, step_seconds) if run else "",
        message=(run.reason or "") if run else "",
        says=words.describe_kept(entry) if kept else "",
        actions=_actions_of(entry),
        links=links,
        log=log,
        link=link,
        mine=entry.mine,
    )


def _actions_of(entry: Entry) -> tuple[Action, ...]:
    if entry.run:
        return _ACTIONS[entry.run.state] if entry.mine else ()
    return (_TARGETS, Action("keep", "Keep it")) if entry.example or not entry.mine else (_TARGETS, _DELETE)


def groups_of(measurements: Sequence[tuple[str, Measurement]], shown: Shown) -> list[Group]:
    """What is drawn of the chosen measurement and those beside it: names and measurements, the chosen one first."""
    (name, first), *others = measurements
    if shown.split != ALL and (parts := split_groups(first, name, shown.definition, shown.split)):
        return parts
    alone = not others
    groups = whole_groups(first, 0, "" if alone else f"A {name}", shown.definition)
    for place, (other, measurement) in enumerate(others, start=1):
        groups += whole_groups(measurement, place, f"{chr(ord('A') + place)} {other}", shown.definition)
    return groups


def curves_view(
    entry: Entry, measurements: Sequence[tuple[str, Measurement]], shown: Shown, mark: str = ""
) -> PlotView:
    """Mean curves of all samples, of their parts, or of several measurements; `mark` tells states of one apart."""
    groups = groups_of(measurements, shown)
    split = bool(groups and groups[0].label)
    stem = f"aia-lens-measurement-{entry.id[:8]}-{shown.definition.value}"
    subtitle = words.SUBTITLE[shown.split if split else ALL]
    subtitle += words.BY_DEPTH if len({len(one.mean) for one in groups}) > 1 else ""
    refused = words.NOT_SPLIT[shown.split] if shown.split != ALL and not split else ""
    table = base64.b64encode(curves_csv(groups).encode()).decode()
    files = [BinaryFile("CSV", f"{stem}.csv", "text/csv", table)]
    if entry.run is None:
        files.append(BinaryFile("JSON", f"{stem}.json", "application/json", "", f"{DATA_URL}?id={entry.id}"))
    return PlotView(
        key=f"{stem}-{shown.split}-{'-'.join(shown.others)}{mark}",
        title="Curves",
        subtitle=subtitle,
        figure=make_curves_figure(groups),
        sentence=" ".join(
            part for part in (refused, words.describe_parts(groups) if split else words.describe_peaks(groups)) if part
        ),
        stem=stem,
        explanation=words.describe_counted(shown.definition, groups),
        legend=legend_of(groups),
        files=tuple(files),
        link=shown.link(entry.id) if entry.run is None else "",
    )


def conflict_view(entry: Entry, measurement: Measurement, shown: Shown, mark: str = "") -> PlotView | None:
    """Layers of both tasks against each other, and r; None unless both were measured by one definition."""
    found = correlate_tasks(measurement, shown.definition)
    if found is None:
        return None
    generation, understanding = (measurement.curve(task, shown.definition)[0] for task in TASKS)
    hinge = describe_hinge(found.r, without_each_layer(generation, understanding))
    stem = f"aia-lens-conflict-{entry.id[:8]}-{shown.definition.value}"
    rows = ["layer,generation,understanding"]
    rows += [f"{i},{g:.6f},{u:.6f}" for i, (g, u) in enumerate(zip(generation, understanding, strict=True), start=1)]
    table = base64.b64encode(("\n".join(rows) + "\n").encode()).decode()
    return PlotView(
        key=f"{stem}{mark}",
        title="Do the tasks conflict?",
        subtitle=words.CONFLICT_SUBTITLE,
        figure=make_conflict_figure(generation, understanding),
        sentence=f"{words.describe_conflict(found)} {hinge}".strip(),
        stem=stem,
        explanation=words.CONFLICT_EXPLAINS,
        files=(BinaryFile("CSV", f"{stem}.csv", "text/csv", table),),
        link=shown.link(entry.id) if entry.run is None else "",
    )


def heads_view(entry: Entry, measurement: Measurement, shown: Shown, captures: dict[str, str]) -> TaskHeadsView | None:
    """The heads that the tasks disagree about; `captures` are ids by task that a head can be looked at in."""
    heads, disagreement = both_heads(measurement, shown.definition), disagreeing_heads(measurement, shown.definition)
    if heads is None or disagreement is None:
        return None
    generation, understanding = heads
    ranked = furthest_heads(disagreement, HEADS_LISTED)
    rows = tuple(
        HeadRow(layer, head, *(float(values[layer, head]) for values in (generation, understanding, disagreement)))
        for layer, head in ranked
    )
    stem = f"aia-lens-task-heads-{entry.id[:8]}-{shown.definition.value}"
    first = rows[0] if rows else None
    return TaskHeadsView(
        key=stem,
        title="Heads that disagree",
        subtitle=words.HEADS_SUBTITLE,
        sentence=words.describe_head(first.layer, first.head, first.generation, first.understanding, first.disagreement)
        if first
        else words.HEADS_FLAT,
        stem=stem,
        disagreement=disagreement if rows else None,
        generation=generation,
        understanding=understanding,
        rows=rows,
        captures=captures,
        measurement="" if entry.run or entry.example else entry.id,
        note="" if captures else words.NO_CAPTURE,
        link=shown.link(entry.id) if entry.run is None else "",
    )
