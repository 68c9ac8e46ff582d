"""What the verbs of the command line share: common options, progress, printed results, files written safely.

Knows how a terminal shows things; not what any verb does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from aia.intensity import Task
from aia.targets import StageTargets, save_targets
from app.settings import settings_from_environment
from backend.interface import Event, Finished, Notice, PictureGrown, Preparing, UserError
from backend.kept.captures import Capture, Sampling
from backend.models.specs import ModelSpec, Precision

Model = Annotated[str, typer.Option("--model", help="Name of a model, see `models`, or a folder of weights.")]
Prompt = Annotated[str, typer.Option("--prompt", help="The question, or what to draw.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same result on one machine.")]
Guidance = Annotated[
    float | None, typer.Option("--guidance", help="Classifier-free guidance scale, 1 is none; else the model's own.")
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="Of drawings, 0 takes the likeliest code; else the model's own.")
]
Adapter = Annotated[Path | None, typer.Option("--adapter", help="Folder of a fine-tuned adapter.")]
Size = Annotated[str, typer.Option("--size", help="Rows x columns of patches, or an aspect: Emu3 draws any.")]
Weights = Annotated[str, typer.Option("--precision", help="full, int8 or nf4: how the weights are held.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file as JSON.")]


def find_model(name: str) -> ModelSpec:
    """A known model, or the one in a folder. Only here: a page may not name folders of this machine."""
    from backend.models.specs import SPECS

    if name in {spec.name for spec in SPECS}:
        return next(spec for spec in SPECS if spec.name == name)
    from backend.models import local_models  # takes transformers, which takes seconds

    return local_models.find_model(name)


def chosen_sampling(
    spec: ModelSpec, seed: int, guidance: float | None, temperature: float | None, size: str = ""
) -> Sampling:
    """What was asked for, and the model's own way of drawing for what was not. Raises `UserError`."""
    from backend.sampling import check_sampling, drawing_sampling

    own = drawing_sampling(spec)
    sampling = Sampling(
        seed=seed,
        temperature=own.temperature if temperature is None else temperature,
        guidance=own.guidance if guidance is None else guidance,
        size=size,
    )
    check_sampling(sampling)
    return sampling


def name_in_config(spec: ModelSpec, given: str) -> str:
    """How a run remembers its model: a known name as it is, a folder by its whole path, wherever it is resumed from."""
    from backend.models.specs import SPECS

    return given if given in {known.name for known in SPECS} else spec.source


def quiet_bitsandbytes() -> None:
    """Keep out what it says about processors it is slow on; before it is imported, as some is said then."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def open_engine(spec: ModelSpec):
    """The engine over the same store as the page's; it knows this model too."""
    quiet_transformers()
    from app.serve import make_engine

    engine = make_engine(settings_from_environment())
    engine.specs = (spec, *engine.specs)
    return engine


def quiet_transformers() -> None:
    """Keep its warnings and progress bars out of ours."""
    from transformers.utils import logging as transformers_logging

    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def read_precision(value: str) -> Precision:
    """The precision of that name. Raises `UserError` naming the known ones."""
    return Precision(choice("precision", value, list(Precision)))


def check_adapter(adapter: Path | None) -> None:
    """Refuse, before any work, an adapter that is not there."""
    if adapter is not None and not adapter.is_dir():
        raise UserError(f"Expected an adapter's folder, found none at {adapter}; check the path.")


def load_with_adapter(spec: ModelSpec, adapter: Path | None, precision: Precision = Precision.FULL):
    """A loaded model, with the adapter of that folder where one is given."""
    check_adapter(adapter)
    quiet_transformers()
    from backend.families import load_model
    from backend.models.downloads import bring_here

    return load_model(follow_to_end(bring_here(spec)), adapter, precision)


def follow(events: Iterator[Event]) -> Capture:
    """Show events on stderr as they come and return the capture."""
    for event in events:
        if isinstance(event, Notice):
            typer.echo(event.text, err=True)
        elif isinstance(event, Preparing):
            show_preparing(event)
        elif isinstance(event, PictureGrown):
            show_progress("drawing", event.done, event.total)
        elif isinstance(event, Finished):
            if event.cached:
                typer.echo("from the store", err=True)
            return event.capture
    raise AssertionError("an event stream ends with Finished")


def follow_to_end(preparing: Iterator[Preparing]) -> Any:
    """Show how a model is fetched; → what the iterator returns."""
    while True:
        try:
            show_preparing(next(preparing))
        except StopIteration as end:
            return end.value


def show_preparing(event: Preparing) -> None:
    """A model on its way; bytes in MiB."""
    if event.total:
        show_progress(f"{event.text}, MiB", event.done // 2**20, event.total // 2**20)


def show_progress(what: str, done: int, total: int) -> None:
    """A counter on one line of a terminal; silent where stderr is a file."""
    if sys.stderr.isatty():
        typer.echo(f"\r{what} {done:,} / {total:,}", nl=done >= total, err=True)


def print_curve(capture: Capture) -> None:
    """The figure definition's curve, one layer a line."""
    for layer, value in enumerate(capture.summary()["intensity"]["figure"], start=1):
        shown = "no answer token" if value is None else f"{value:.3f}  {'█' * round(40 * value)}"
        typer.echo(f"layer {layer:>2}  {shown}")


def print_scores(task: str, scores: dict) -> None:
    typer.echo(task)
    for kind in ("overall", *scores["by_kind"]):
        rate = scores["overall"] if kind == "overall" else scores["by_kind"][kind]
        low, high = scores["interval"][kind]
        typer.echo(f"  {kind:14}{rate:6.3f}  (95 % {low:.3f}–{high:.3f}, n = {scores['total'][kind]:,})")


def print_report(report: dict) -> None:
    """Each measured task's mean ± standard deviation, one layer a line; then how the two curves correlate."""
    for task in (t.value for t in Task if report.get(t)):
        part = report[task]
        typer.echo(f"{task}, {part['definition']} definition, mean ± standard deviation over {part['n']:,} samples")
        for layer, (mean, std) in enumerate(zip(part["mean"], part["std"], strict=True), start=1):
            typer.echo(f"layer {layer:>2}  {mean:.3f} ± {std:.3f}  {'█' * round(40 * mean)}".rstrip())
        typer.echo(f"spread over samples, mean over layers: {part['spread']:.3f}")
        if part["left_out"]:
            typer.echo(f"{len(part['left_out']):,} samples had no answer token and are left out")
    if "correlation" in report:
        typer.echo(f"correlation of the two curves over layers: {say_correlation(**report['correlation'])}")
        if hinge := say_hinge(report):
            typer.echo(hinge)


def say_correlation(r: float | None, low: float | None, high: float | None, resamples: int | None = None) -> str:
    if r is None:
        return "none, since a curve is flat or has fewer than 3 layers"
    drawn = "" if resamples is None else f", {resamples:,} resamples"  # reports of before do not say
    return f"{r:+.2f}" + ("" if low is None else f" (95 % {low:+.2f} to {high:+.2f}{drawn})")


def say_hinge(report: dict) -> str:
    """Where the sign of r hangs on a single layer, which; else nothing."""
    from aia.curves import without_each_layer
    from app.words import describe_hinge

    r = report["correlation"]["r"]
    curves = (report[task.value]["mean"] for task in (Task.GENERATION, Task.UNDERSTANDING))
    return "" if r is None else describe_hinge(r, without_each_layer(*curves))


def choice(what: str, value: str, known: list[str]) -> str:
    """The value, if it is one of the known ones; Typer's own refusal takes six lines."""
    if value not in known:
        raise UserError(f"Expected {what} to be one of {', '.join(known)}, got “{value[:40]}”; choose one of them.")
    return value


def check_tasks(spec: ModelSpec, tasks: tuple[Task, ...]) -> None:
    for task in tasks:
        if task not in spec.tasks:
            raise UserError(f"{spec.title} cannot do {task.value}; choose another task, or a model that can.")


def check_fit(spec: ModelSpec, tasks: tuple[Task, ...], stages: int | None, out: Path | None) -> None:
    """Refuse, before any work, targets that could not be fitted."""
    if stages is None and out is None:
        return
    if stages is None or out is None:
        raise UserError("Expected --fit and --targets-out together, got one of them; add the other.")
    if not 1 <= stages <= spec.layers:
        raise UserError(f"Expected 1 to {spec.layers} stages for {spec.title}, got {stages}; change --fit.")
    if len(tasks) < len(Task):
        raise UserError(f"Expected --task both for targets, got {tasks[0].value} alone; measure both.")


def existing_file(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"Expected an image file, found none at {path}; check the path.")
    return path


def check_parent(path: Path | None) -> None:
    """Refuse, before any work, a result that could not be written."""
    if path is None:
        return
    # os.path, since Path's own checks raise for a name that is too long.
    if not os.path.isdir(path.parent):
        raise UserError(f"Expected an existing folder for {path.name}, found none at {path.parent}; create it first.")
    if os.path.isdir(path):
        raise UserError(f"Expected the name of a file to write, got the folder {path}; add a file name.")
    if not os.access(path if os.path.exists(path) else path.parent, os.W_OK):
        raise UserError(f"Expected a place that can be written to, got {path}; choose another.")


def write_file(path: Path, content: bytes) -> None:
    """Write a result. Raises `UserError` where the disk or its rights refuse."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path} could not be written ({error.strerror}); choose another place.") from error


def write_targets(path: Path, targets: StageTargets) -> None:
    """Save targets and show them. Raises `UserError` where the disk or its rights refuse."""
    try:
        save_targets(targets, path)
    except OSError as error:
        raise UserError(f"{path} could not be written ({error.strerror}); choose another place.") from error
    typer.echo(targets.as_table(), nl=False)
    typer.echo(f"wrote {path}")


def write_json(path: Path | None, content: dict) -> None:
    if path is not None:
        write_file(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
