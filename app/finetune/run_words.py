"""Every sentence that the Fine-tune tab makes from data. Knows runs' states and numbers; no page, no figure."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from aia.intensity import Task
from aia.targets import DISAGREEMENTS
from app.finetune.run_record import RunRecord, Timings
from backend.background.runs import RunStatus

STATES = {
    "queued": "waiting",
    "running": "running",
    "stopping": "stopping",
    "finished": "finished",
    "stopped": "stopped",
    "failed": "failed",
    "interrupted": "interrupted",
}
ROLES = {"aia": "with AIA", "control": "control, without AIA", "single": "single"}
PHASES = {
    "": "starting",
    "started": "loading the model",
    "resumed": "going on",
    "scoring": "scoring: answering questions and drawing",
    "scored": "preparing",
}
NOT_MINE = " · somebody else’s, shown by its link"
EMPTY = "No run yet. Start one on the left; it goes on in the background, also when this page is closed."

LOSSES_SUBTITLE = (
    "Left: next-token prediction. Right: distance of attention to its targets. Generation blue, understanding red; "
    "dots: single steps, line: running mean, dashed: the control."
)
LAYERS_SUBTITLE = (
    "Share of attention between image and text, on the same held-out samples each time. Thin grey: before. Solid: at "
    "the step chosen. Dotted, in its ±δ band: target. Dashed: the control, as it is now."
)

SAMPLES_SUBTITLE = (
    "The same held-out prompts and questions with the same seeds, at the step that the slider above stands at. "
    "To be looked at: far too few to score by."
)
NO_ANSWER = "(nothing)"
MARKS = {Task.GENERATION: ("as asked", "not as asked"), Task.UNDERSTANDING: ("right", "wrong")}
COUNTED = {Task.GENERATION: "drawings as asked", Task.UNDERSTANDING: "answers right"}


def describe_lambda() -> str:
    """Where paper and released code disagree on λ."""
    point = DISAGREEMENTS[0]
    paper, code = (re.sub(r" \([^)]*\)", "", text) for text in (point.paper.partition(";")[0], point.released_code))
    return f"λ: the paper has {paper}; the released code {code}."


def format_duration(seconds: float) -> str:
    """ "40 s", "12 min", "2 h 5 min": as finely as a person waits."""
    if seconds < 90:
        return f"{max(1, round(seconds))}\u00a0s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes}\u00a0min"
    return f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def describe_estimate(seconds: float, timings: Timings, control: bool) -> str:
    """How long a run will take, and how that is known."""
    both = ", the control included" if control else ""
    source = "going by an earlier run here" if timings.measured else "a rough figure for two cores, no run here yet"
    return f"About {format_duration(seconds)}{both}; {source}."


def describe_settings(status: RunStatus) -> str:
    """The line of small facts on what a run is."""
    facts = [ROLES[status.role] if status.role != "single" or _has_aia(status) else "without AIA"]
    if status.config is not None:
        config = status.config
        facts += [config.model, config.method, f"{config.steps:,} × {config.batch_size:,} samples"]
        if config.aia:
            facts.append(f"λ {config.aia_weight_generation:g} / {config.aia_weight_understanding:g}")
    return " · ".join(facts)


def _has_aia(status: RunStatus) -> bool:
    return status.config is None or status.config.aia


def describe_row(status: RunStatus) -> str:
    """What the list says under a run's name."""
    when = time.strftime("%d %b, %H:%M", time.localtime(status.created))
    return f"{ROLES[status.role]} · {when}" if status.role != "single" else when


def describe_state(status: RunStatus) -> str:
    """The word of the state's chip."""
    return f"waiting, no. {status.place}" if status.state == "queued" and status.place else STATES[status.state]


def describe_progress(status: RunStatus, record: RunRecord) -> str:
    """Step, speed and remaining time, as far as they are known."""
    facts = [f"step {status.step:,} of {status.steps:,}"]
    if record.step_seconds is not None:
        facts.append(f"{record.step_seconds:.2g}\u00a0s per step")
    if status.state in ("running", "stopping"):
        if record.last in PHASES:
            facts.append(PHASES[record.last])
        elif status.remaining_seconds:
            facts.append(f"{format_duration(status.remaining_seconds)} left, without scoring")
    facts.append(format_size(status.size_bytes))
    return " · ".join(facts)


def format_size(size_bytes: int) -> str:
    mib = size_bytes / 2**20
    return f"{mib:,.0f}\u00a0MiB" if mib >= 10 else f"{mib:.1f}\u00a0MiB"


def describe_comparison(status: RunStatus) -> str:
    """The link to the Compare tab."""
    return "Compare before, after, control" if status.role == "aia" and status.pair else "Compare before and after"


# --- samples ---


def describe_mark(task: str, right: bool | None) -> str:
    """What the world's reader found; empty where it cannot tell."""
    return "" if right is None else MARKS[Task(task)][0 if right else 1]


def describe_samples(asked: Sequence[dict[str, Any]], items: Sequence[dict[str, Any]]) -> str:
    """ "2 of 3 drawings as asked, 3 of 3 answers right"; empty where nothing could be checked."""
    said = []
    for task, counted in COUNTED.items():
        marks = [item.get("right") for about, item in zip(asked, items, strict=False) if about["task"] == task]
        known = [mark for mark in marks if mark is not None]
        if known:
            said.append(f"{sum(known)} of {len(known)} {counted}")
    return ", ".join(said)


# --- what came of it ---


def describe_frame(measured: dict[str, Any]) -> str:
    """Distances to the targets at one step."""
    parts = [f"{task} {found['mean_absolute']:.3f}" for task, found in _in_order(measured["distance"])]
    return f"Step {measured['step']:,}: mean distance to the targets {', '.join(parts)}."


def describe_outcome(record: RunRecord, control: RunRecord, steps: int, control_steps: int | None = None) -> str:
    """What changed between the first and the last step, beside the control; empty before the last step."""
    moved = movements(record, steps)
    if not moved:
        return ""
    others = movements(control, steps if control_steps is None else control_steps)
    sentences = []
    for task, moved_by in moved.items():
        sentence = f"{task.capitalize()} {describe_move(moved_by, 'its targets')}"
        if task in others:
            sentence += f"; the control {describe_move(others[task], None)}"
        sentences.append(sentence + ".")
    return " ".join([*sentences, *describe_scores(record, control, steps)])


def movements(record: RunRecord, steps: int) -> dict[str, float]:
    """How much closer each task came to its targets, in mean absolute distance."""
    first, last = record.measured_at(0), record.measured_at(steps)
    if not (first and last):
        return {}
    return {
        task: found["mean_absolute"] - last["distance"][task]["mean_absolute"]
        for task, found in _in_order(first["distance"])
        if task in last["distance"]
    }


def describe_move(by: float, towards: str | None) -> str:
    """ "moved 0.03 closer to its targets", "moved 0.01 away", "did not move": at two decimals."""
    if f"{abs(by):.2f}" == "0.00":
        return "did not move"
    where = f" to {towards}" if towards and by >= 0 else f" from {towards}" if towards else ""
    return f"moved {abs(by):.2f} {'closer' if by >= 0 else 'away'}{where}"


def describe_scores(record: RunRecord, control: RunRecord, steps: int) -> list[str]:
    """A sentence per task; differences inside the intervals are called so."""
    before, after, other = record.score(0), record.score(steps), control.score(steps)
    if not (before and after):
        return []
    said = []
    for task, found in _in_order(after):
        earlier = before[task]
        then, now = f"{earlier['overall']:.2f}", f"{found['overall']:.2f}"
        text = f"Its {task} score stayed at {now}" if then == now else f"Its {task} score went from {then} to {now}"
        text += "" if then == now or differ(earlier, found) else ", less than the intervals can tell apart"
        if other:
            text += f"; the control's is {other[task]['overall']:.2f}"
            text += "" if differ(found, other[task]) else ", which cannot be told apart from it"
        said.append(text + ".")
    return said


def differ(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two scores' 95 % intervals leave a gap between them: the careful way to call them different."""
    (low, high), (other_low, other_high) = a["interval"]["overall"], b["interval"]["overall"]
    return high < other_low or other_high < low


def format_score(score: dict[str, Any] | None) -> str:
    """ "0.76 (0.73 – 0.78)"; a dash for none."""
    if score is None:
        return "–"
    low, high = score["interval"]["overall"]
    return f"{score['overall']:.2f} ({low:.2f} – {high:.2f})"


def _in_order(by_task: dict[str, Any]) -> list[tuple[str, Any]]:
    """Generation first, as everywhere on the tab."""
    order = (Task.GENERATION, Task.UNDERSTANDING)
    return [(task.value, by_task[task.value]) for task in order if task.value in by_task]
