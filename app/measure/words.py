"""Every sentence of the Measure tab. Knows runs' states, groups of samples and numbers; no page, no figure."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from aia.curves import Correlation
from aia.intensity import Definition, Task
from app.finetune.run_words import STATES, format_duration
from app.measure.groups import ALL, KIND, LENGTH, Group
from app.measure.shelf import Entry
from app.words import signed
from backend.background.runs import RunStatus
from backend.comparison import MOST_THINGS
from backend.kept.measurements import Measurement, Report
from backend.measuring.config import MeasureConfig

TITLES = {Task.GENERATION: "generation: image → text", Task.UNDERSTANDING: "understanding: answer → image"}
DOES = {Task.GENERATION: "drawings look most at the text", Task.UNDERSTANDING: "answers look most at the image"}
EMPTY = (
    "No measurement yet. Choose a model on the left and start: 100 samples of each task, in the background, also when "
    "this page is closed. “python -m app measure” keeps its results here too."
)
EXAMPLE = "came with the program"
EXAMPLE_SAYS = (
    "An example that came with the program, made by “python -m app measure --samples 100” on the weights in this "
    "repository. Start your own on the left, or keep this one to compare, fit targets and name it."
)
SUBTITLE = {
    ALL: "Share of attention that crosses to the other modality, layer by layer. Line: mean over samples; band: ±1 "
    "standard deviation between samples.",
    KIND: "The same, a line for each kind of prompt. Lines: means; the deviation is in the numbers below and on hover.",
    LENGTH: "The same, a line for each length of the prompt. Lines: means; the deviation is in the numbers below and "
    "on hover.",
}
BY_DEPTH = " The models have different numbers of layers, so layers stand at their depth, from 0 (first) to 1 (last)."
DEFINITIONS = {
    Definition.FIGURE: "figure, as the published figures count it.",
    Definition.TRAINING: "training, as the authors' training code counts it.",
    Definition.STRICT: "strict, closest to the paper's text.",
}
NOT_SPLIT = {
    KIND: "Kinds of prompts are known in the shapes world alone, and older measurements did not note them.",
    LENGTH: "This measurement did not note how long its prompts were; measure anew.",
}
SPREAD_SAYS = (
    "Spread: standard deviation over samples, mean over layers (the statistic of the paper's Table 1, which leaves "
    "open how layers become one number). The paper has Emu3 0.13, Janus-Pro 0.02, BAGEL 0.03, task-specific models 0.1."
)
CONFLICT_SUBTITLE = (
    "A point is a layer: how much it looks across while drawing (to the right) and while answering (upwards). Points "
    "that fall from the upper left to the lower right are the conflict that the paper claims."
)
CONFLICT_EXPLAINS = (
    "Pearson's r over layers of the two mean curves; the interval is a percentile bootstrap over samples, layers stay. "
    "So it says how much r depends on the samples, not how another model would be, and a model with few layers has few "
    "points. Read off the paper's Fig. 1: Emu3 −0.32, Janus-Pro −0.46, BAGEL −0.72, the task-specific pair −0.19."
)
HEADS_SUBTITLE = (
    "Every cell is one head: the share of all heads that look across less than it does while answering, less the same "
    "while drawing. Orange: carries answers and not drawings; purple: the reverse. Click one to look closer."
)
HEADS_FLAT = "Answers and drawings rank all heads alike, so none disagrees."
NO_CAPTURE = (
    "Ask this model something in Explore, or have it draw, and single heads of that can be looked at from here."
)


def describe_state(entry: Entry) -> str:
    """The word of the state's chip."""
    if entry.example:
        return "example"
    run = entry.run
    if run is None:
        return "kept"
    return f"waiting, no. {run.place}" if run.state == "queued" and run.place else STATES[run.state]


def describe_row(entry: Entry) -> str:
    """What the list says beside a name."""
    when = time.strftime("%d %b, %H:%M", time.localtime(entry.created))
    if entry.measurement is None:
        return when
    tasks = entry.measurement.report.tasks
    counts = {part.n for part in tasks.values()}
    samples = f"{max(counts):,} sample{'s' if max(counts) > 1 else ''}"
    what = "both tasks" if len(tasks) > 1 else next(iter(tasks)).value
    return f"{what} · {samples} · {EXAMPLE if entry.example else when}"


def describe_about(entry: Entry) -> str:
    """The line of small facts on what was measured, or is."""
    if entry.measurement is not None:
        return " · ".join(_report_facts(entry.measurement))
    config = entry.run.config if entry.run else None
    return " · ".join(_config_facts(config)) if isinstance(config, MeasureConfig) else ""


def _report_facts(measurement: Measurement) -> list[str]:
    report = measurement.report
    facts = [report.model, *(["fine-tuned"] if report.adapter else [])]
    facts += [f"{part.n:,} {_what(task, part.n)}" for task, part in _ordered(report)]
    facts.append(f"prompts of {report.data}" if report.data else "prompts of the shapes world")
    facts.append(f"seed {report.seed}")
    return [*facts, *([report.precision] if report.precision else [])]


def _config_facts(config: MeasureConfig) -> list[str]:
    facts = [config.model, *(["fine-tuned"] if config.adapter else [])]
    facts += [f"{config.count(task):,} {_what(task, config.count(task))}" for task in reversed(config.tasks)]
    facts.append(f"prompts of {config.data_name}" if config.data_name else "prompts of the shapes world")
    return [*facts, f"seed {config.seed}", str(config.precision)]


def _what(task: Task, n: int) -> str:
    word = "drawing" if task == Task.GENERATION else "answer"
    return word if n == 1 else f"{word}s"


def _ordered(report: Report):
    return [(task, report.tasks[task]) for task in (Task.GENERATION, Task.UNDERSTANDING) if task in report.tasks]


def describe_progress(run: RunStatus, step_seconds: float | None) -> str:
    """Samples done, speed and remaining time, as far as they are known."""
    facts = [f"{run.step:,} of {run.steps:,} samples"]
    if step_seconds is not None:
        facts.append(f"{step_seconds:.2g}\u00a0s per sample of each task")
    if run.state in ("running", "stopping"):
        facts.append(f"{format_duration(run.remaining_seconds)} left" if run.remaining_seconds else "loading the model")
    return " · ".join(facts)


def describe_kept(entry: Entry) -> str:
    """What the card of a measurement says below its facts."""
    if entry.example:
        return EXAMPLE_SAYS
    parts = _ordered(entry.measurement.report)
    left = [(len(part.left_out), task) for task, part in parts if part.left_out]
    said = [f"{count:,} {_what(task, count)} had no token to measure and are left out." for count, task in left]
    one = [task for task, part in parts if part.n == 1]
    said += [f"One sample of {' and '.join(one)}: a curve without a deviation."] if one else []
    return " ".join(said)


def describe_estimate(seconds: float, known: bool) -> str:
    """How long it will take, and how that is known."""
    source = "going by an earlier measurement here" if known else "a rough figure for two cores, none was made here yet"
    return f"About {format_duration(seconds)}; {source}."


def describe_peaks(groups: Sequence[Group]) -> str:
    """Where each task's curve of the first measurement is highest, and how sure that is."""
    said = []
    for one in groups:
        if one.place == 0 and not one.label:
            top = int(one.mean.argmax())
            sd = "" if one.std is None else f" ± {one.std[top]:.2f}"
            said.append(f"{DOES[one.task]} in layer {top + 1} ({one.mean[top]:.2f}{sd})")
    text = "; ".join(said)
    counts = {one.n for one in groups if one.place == 0}
    over = f"Over {max(counts):,} sample{'s' if max(counts) > 1 else ''}, " if counts else ""
    return f"{over}{text}." if text else ""


def describe_parts(groups: Sequence[Group]) -> str:
    """Which two parts of a task are furthest apart in one layer."""
    said = []
    for task in dict.fromkeys(one.task for one in groups):
        of_task = [one for one in groups if one.task == task]
        if len(of_task) < 2:
            continue
        curves = np.stack([one.mean for one in of_task])
        layer = int(np.ptp(curves, 0).argmax())
        high, low = of_task[int(curves[:, layer].argmax())], of_task[int(curves[:, layer].argmin())]
        said.append(
            f"{task.capitalize()} differs most in layer {layer + 1}: {high.label} {high.mean[layer]:.2f}, "
            f"{low.label} {low.mean[layer]:.2f}."
        )
    return " ".join(said)


def describe_counted(asked: Definition, groups: Sequence[Group]) -> str:
    """The definition, and which curves were counted by another."""
    text = f"Counted as {DEFINITIONS[asked]}"
    others = sorted({one.definition.value for one in groups if one.definition != asked})
    if others:
        text += f" An older measurement knows {' and '.join(others)} alone and is shown so."
    return text


def describe_conflict(found: Correlation) -> str:
    """r with its interval, and what that means for the paper's claim."""
    if math.isnan(found.r):
        return "No correlation: a curve is flat, or has fewer than 3 layers."
    r = f"r = {signed(found.r)}"
    if math.isnan(found.low):
        return f"{r}, without an interval, as that takes two samples of each task."
    interval = f"{r} (95 % {signed(found.low)} to {signed(found.high)}, {found.resamples:,} resamples)"
    if found.low <= 0 <= found.high:
        return f"{interval}: these samples do not settle whether the tasks conflict."
    if found.r < 0:
        return f"{interval}: layers that look across more while drawing do so less while answering."
    return f"{interval}: layers that look across more while drawing do so more while answering, too: no conflict."


def describe_head(layer: int, head: int, generation: float, understanding: float, disagreement: float) -> str:
    """The head that disagrees most; layer and head from 0."""
    to, less = ("answer", "draw") if disagreement > 0 else ("draw", "answer")
    return (
        f"Layer {layer + 1}, head {head + 1} disagrees most: {understanding:.2f} of its attention crosses to answer, "
        f"{generation:.2f} to draw; among all heads it stands high to {to} and low to {less}."
    )


TOO_MANY = f"Expected at most {MOST_THINGS} measurements in one chart, got more; the first {MOST_THINGS} are shown."
