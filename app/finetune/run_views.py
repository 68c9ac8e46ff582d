"""What the cards of the Fine-tune tab show of the runs: pure functions from states and records to views.

Knows runs' states, figures and sentences; no handler, no Gradio event, no folder.
"""

from __future__ import annotations

from collections.abc import Sequence

from aia.config import TrainingConfig
from aia.targets import StageTargets, load_targets
from app.components.runcard import Action, Link, RunView
from app.components.runs import RunRow, RunsView
from app.components.steps import Frame, StepsView
from app.finetune import run_words as words
from app.finetune.run_figures import (
    LOSSES,
    TASKS,
    Curve,
    Curves,
    make_layers_figure,
    make_losses_figure,
    moving_traces,
)
from app.finetune.run_record import RunRecord
from backend.background.runs import RunStatus
from backend.finetuning.finetune import name_targets
from backend.interface import UserError
from backend.models.specs import find_spec

ACTIVE = ("queued", "running", "stopping")
_ACTIONS = {
    "queued": (Action("cancel", "Cancel"),),
    "running": (Action("cancel", "Cancel"),),
    "stopping": (),
    "finished": (Action("delete", "Delete"),),
    "stopped": (Action("resume", "Resume"), Action("delete", "Delete")),
    "failed": (Action("resume", "Resume"), Action("delete", "Delete")),
    "interrupted": (Action("resume", "Resume"), Action("delete", "Delete")),
}


def list_view(
    runs: Sequence[RunStatus], chosen: str, message: str = "", undo: str = "", undo_name: str = ""
) -> RunsView:
    """The list of runs, the newest first."""
    rows = tuple(
        RunRow(run.id, run.title, words.describe_row(run), run.state, words.describe_state(run), share_done(run))
        for run in runs
    )
    return RunsView(rows, chosen, words.EMPTY, message, undo, undo_name)


def share_done(run: RunStatus) -> float:
    return min(run.step / run.steps, 1.0) if run.steps else 0.0


def run_view(run: RunStatus, record: RunRecord, control: RunRecord, log: str) -> RunView:
    """The card of one run; `control` is the record of its control run, empty where there is none."""
    finished = run.state == "finished"
    columns, table = score_table(record, control, run.steps)
    return RunView(
        id=run.id,
        name=run.title,
        about=words.describe_settings(run) + ("" if run.mine else words.NOT_MINE),
        state=run.state,
        label=words.describe_state(run),
        share=share_done(run),
        facts=words.describe_progress(run, record),
        message=run.reason or "",
        says=words.describe_outcome(record, control, run.steps) if finished else "",
        columns=columns,
        table=table,
        actions=_ACTIONS[run.state] if run.mine else (),
        links=(Link(words.describe_comparison(run), f"compare=run:{run.id}"),) if finished else (),
        log=log if run.mine else "",
        mine=run.mine,
    )


def score_table(
    record: RunRecord, control: RunRecord, steps: int
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Scores before and after by task, next to the control's; none before the first were taken."""
    before, after, other = record.score(0), record.score(steps), control.score(steps)
    if before is None:
        return (), ()
    moments = [("before", before), ("after", after)] + ([("control after", other)] if control.steps else [])
    columns = ("score (95 % interval)", *(name for name, _ in moments))
    rows = [
        (task.value, *(words.format_score(scores and scores.get(task)) for _, scores in moments))
        for task in TASKS
        if task in before
    ]
    return columns, tuple(rows)


def losses_view(run: RunStatus, record: RunRecord, control: RunRecord) -> StepsView | None:
    """Losses over steps; None before the first step."""
    if not record.steps:
        return None
    figure = make_losses_figure(record.steps, control.steps, run.steps)
    return StepsView(
        f"{run.id}:{len(record.steps)}",
        "Losses",
        words.LOSSES_SUBTITLE,
        figure,
        stem=f"{file_stem(run)}-losses",
        plots=LOSSES,
        axes=("step", "loss"),
    )


def layers_view(run: RunStatus, record: RunRecord, control: RunRecord) -> StepsView | None:
    """Curves against targets at every measured step; None before the first measurement."""
    if not record.measured or run.config is None:
        return None
    definition = run.config.definition.value
    first, last = (curves_at(m, definition) for m in (record.measured[0], record.measured[-1]))
    layers = len(next(iter(first.values())))
    targets = find_targets(run.config, layers)
    if targets is None:
        return None
    other = curves_at(control.measured[-1], definition) if control.measured else {}
    moving = moving_traces()
    frames = tuple(
        Frame(
            m["step"],
            f"step {m['step']:,} of {run.steps:,}",
            words.describe_frame(m),
            {str(moving[task]): list(curve) for task, curve in curves_at(m, definition).items()},
        )
        for m in record.measured
    )
    figure = make_layers_figure(targets, Curves(before=first, now=last, control=other))
    return StepsView(
        run.id,
        "Layers against their targets",
        words.LAYERS_SUBTITLE,
        figure,
        frames=frames,
        stem=f"{file_stem(run)}-layers",
        plots=tuple(task.value for task in TASKS),
        axes=("layer", "share of attention"),
    )


def file_stem(run: RunStatus) -> str:
    """What the names of a run's exported files begin with."""
    return f"aia-lens-run-{run.id[:8]}"


def curves_at(measured: dict, definition: str) -> dict[str, Curve]:
    """Mean curves by task of one measurement."""
    found = measured["intensity"]
    return {task: found[task][definition]["mean"] for task in TASKS if definition in found.get(task, {})}


def find_targets(config: TrainingConfig, layers: int) -> StageTargets | None:
    """The targets a run was told to use; None where their file, or the model, is gone."""
    try:
        return load_targets(name_targets(config, find_spec(config.model)), layers)
    except (ValueError, UserError):
        return None
