"""The command line: thin verbs over the engine. Bad input ends with one line and exit code 2.

Knows neither the page nor any model's insides.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from aia.intensity import Task
from app.commands import bench as bench_commands
from app.commands import knockout as knockout_commands
from app.commands import measuring as measuring_commands
from app.commands import models as model_commands
from app.commands import training as training_commands
from app.commands import users as user_commands
from app.commands.console import (
    Adapter,
    Guidance,
    Json,
    Model,
    Prompt,
    Seed,
    Size,
    Temperature,
    Weights,
    check_parent,
    chosen_sampling,
    existing_file,
    find_model,
    follow,
    load_with_adapter,
    open_engine,
    print_curve,
    print_scores,
    quiet_bitsandbytes,
    read_precision,
    show_progress,
    write_file,
    write_json,
)
from backend.interface import UserError
from backend.sampling import UNDERSTANDING_SAMPLING

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, help="AIA Lens: how much image and text look at each other."
)


def main() -> None:
    """Run the command line; a `UserError` becomes one line on stderr and exit code 2."""
    quiet_bitsandbytes()
    try:
        cli()
    except UserError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless told otherwise.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535)] = None,
    auth: Annotated[Path | None, typer.Option(help="Ask for a login: a file that `user add` makes.")] = None,
    demo: Annotated[bool | None, typer.Option("--demo", help="For looking around: only tiny models train.")] = None,
) -> None:
    """Start the page."""
    from app.serve import serve as serve_page

    serve_page(host=host, port=port, auth=auth, demo=demo)


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
    guidance: Guidance = None,
    temperature: Temperature = None,
    size: Size = "",
    precision: Weights = "full",
    json_file: Json = None,
) -> None:
    """Draw a prompt and measure how much the image looks at it."""
    check_parent(out)
    check_parent(json_file)
    spec = find_model(model)
    sampling = chosen_sampling(spec, seed, guidance, temperature, size)
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
    guidance: Guidance = None,
    temperature: Temperature = None,
    precision: Weights = "full",
    json_file: Json = None,
) -> None:
    """Score a model, or a fine-tuned adapter, on held-out scenes of the shapes world."""
    from backend.scores import evaluate_model

    check_parent(json_file)
    spec = find_model(model)
    sampling = chosen_sampling(spec, seed, guidance, temperature)
    loaded = load_with_adapter(spec, adapter, read_precision(precision))
    report = evaluate_model(loaded, samples, seed, sampling, show_progress)
    for task in (t for t in Task if t in report):
        print_scores(task, report[task])
    write_json(json_file, report)


cli.command()(bench_commands.bench)
cli.command()(model_commands.models)
cli.command()(model_commands.fidelity)
cli.command()(measuring_commands.measure)
cli.command()(knockout_commands.knockout)
cli.command()(training_commands.finetune)
cli.command()(training_commands.study)
cli.add_typer(user_commands.users, name="user")
