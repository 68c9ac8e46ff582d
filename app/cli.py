"""The command line: thin verbs over the engine. Bad input ends with one line and exit code 2.

Knows neither the page nor any model's insides.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from aia.intensity import Definition, Task
from app.commands import bench as bench_commands
from app.commands import models as model_commands
from app.commands import training as training_commands
from app.commands.console import (
    Adapter,
    Guidance,
    Json,
    Model,
    Prompt,
    Seed,
    Temperature,
    Weights,
    check_fit,
    check_parent,
    check_tasks,
    choice,
    existing_file,
    find_model,
    follow,
    load_with_adapter,
    open_engine,
    print_curve,
    print_report,
    print_scores,
    read_precision,
    show_progress,
    write_file,
    write_json,
    write_targets,
)
from app.settings import settings_from_environment
from backend.engine import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING, check_sampling
from backend.interface import UserError
from backend.kept.captures import Sampling

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, help="AIA Lens: how much image and text look at each other."
)


def main() -> None:
    """Run the command line; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        cli()
    except UserError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless told otherwise.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535)] = None,
) -> None:
    """Start the page."""
    from app.serve import serve as serve_page

    serve_page(host, port)


@cli.command()
def understand(
    image: Annotated[Path, typer.Option("--image", help="PNG, JPEG, WebP, GIF, BMP or TIFF file.")],
    prompt: Prompt,
    model: Model = "tiny-janus",
    seed: Seed = 0,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy, as the published figures are.")] = 0.0,
    precision: Weights = "full",
    json_file: Json = None,
) -> None:
    """Ask about an image and measure how much the answer looks at it."""
    from backend.pictures import load_picture

    check_parent(json_file)
    picture, spec = load_picture(existing_file(image)), find_model(model)
    sampling = replace(UNDERSTANDING_SAMPLING, seed=seed, temperature=temperature)
    weights = read_precision(precision)
    capture = follow(open_engine(spec).understand(spec.name, picture, prompt, sampling, precision=weights))
    typer.echo(capture.text)
    print_curve(capture)
    write_json(json_file, capture.summary())


@cli.command()
def generate(
    prompt: Prompt,
    out: Annotated[Path, typer.Option("--out", help="Where the drawing goes, as PNG.")],
    model: Model = "tiny-janus",
    seed: Seed = 0,
    guidance: Guidance = GENERATION_SAMPLING.guidance,
    temperature: Temperature = GENERATION_SAMPLING.temperature,
    precision: Weights = "full",
    json_file: Json = None,
) -> None:
    """Draw a prompt and measure how much the image looks at it."""
    check_parent(out)
    check_parent(json_file)
    spec = find_model(model)
    sampling = Sampling(seed=seed, temperature=temperature, guidance=guidance)
    weights = read_precision(precision)
    capture = follow(open_engine(spec).generate(spec.name, prompt, sampling, precision=weights))
    write_file(out, capture.picture_png)
    typer.echo(f"wrote {out}")
    print_curve(capture)
    write_json(json_file, {**capture.summary(), "image": str(out)})


@cli.command()
def evaluate(
    model: Model = "tiny-janus",
    adapter: Adapter = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Held-out scenes, and as many drawings.")] = 100,
    seed: Seed = 0,
    guidance: Guidance = GENERATION_SAMPLING.guidance,
    temperature: Temperature = GENERATION_SAMPLING.temperature,
    precision: Weights = "full",
    json_file: Json = None,
) -> None:
    """Score a model, or a fine-tuned adapter, on held-out scenes of the shapes world."""
    from backend.scores import evaluate_model

    check_parent(json_file)
    sampling = Sampling(seed=seed, temperature=temperature, guidance=guidance)
    check_sampling(sampling)
    loaded = load_with_adapter(find_model(model), adapter, read_precision(precision))
    report = evaluate_model(loaded, samples, seed, sampling, show_progress)
    for task in ("understanding", "generation"):
        print_scores(task, report[task])
    write_json(json_file, report)


@cli.command()
def measure(
    model: Model = "tiny-janus",
    adapter: Adapter = None,
    task: Annotated[str, typer.Option("--task", help="both, understanding or generation.")] = "both",
    samples: Annotated[int, typer.Option("--samples", help="Held-out prompts per task; 100 as in the paper.")] = 100,
    definition: Annotated[str, typer.Option("--definition", help="figure, training or strict.")] = "figure",
    seed: Seed = 0,
    fit: Annotated[int | None, typer.Option("--fit", help="Fit this many stages to the curves as targets.")] = None,
    targets_out: Annotated[Path | None, typer.Option("--targets-out", help="File for the fitted targets.")] = None,
    precision: Weights = "full",
    json_file: Json = None,
) -> None:
    """Measure the curves of both tasks over held-out prompts, and how they correlate."""
    from backend.measurement import DEFAULT_SAMPLING, check_samples, fit_report, measure_model

    tasks = tuple(Task) if task == "both" else (Task(choice("task", task, ["both", *Task])),)
    definition = Definition(choice("definition", definition, list(Definition)))
    spec = find_model(model)
    check_tasks(spec, tasks)
    check_samples(samples)
    check_fit(spec, tasks, fit, targets_out)
    if targets_out is not None and targets_out == json_file:
        raise UserError(f"Expected two files, got {json_file} for both the curves and the targets; rename one.")
    for path in (json_file, targets_out):
        check_parent(path)
    sampling = {task: replace(DEFAULT_SAMPLING[task], seed=seed) for task in tasks}
    for task_sampling in sampling.values():
        check_sampling(task_sampling)
    loaded = load_with_adapter(spec, adapter, read_precision(precision))
    report = measure_model(loaded, tasks, samples, seed, definition, sampling, show_progress)
    report = {"adapter": None if adapter is None else str(adapter), **report}
    print_report(report)
    # One shape whatever was measured: what was not is null.
    write_json(json_file, {**dict.fromkeys(("understanding", "generation", "correlation")), **report})
    if fit is not None:
        write_targets(targets_out, fit_report(report, fit, targets_out.stem))
    keep_measurement({**report, "precision": loaded.precision})


def keep_measurement(report: dict) -> None:
    """Keep a report where the page's Library finds it; a disk that refuses costs nothing that was printed."""
    from backend.kept.measurements import Measurements

    try:
        kept = Measurements(settings_from_environment().measurements).save(report)
        typer.echo(f"kept as measurement:{kept}, for the page's Library and Compare tabs")
    except UserError as error:
        typer.echo(f"The measurement was not kept: {error}", err=True)


cli.command()(bench_commands.bench)
cli.command()(model_commands.models)
cli.command()(model_commands.fidelity)
cli.command()(training_commands.finetune)
cli.command()(training_commands.study)
