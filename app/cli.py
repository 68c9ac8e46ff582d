"""The command line: thin verbs over the engine. Bad input ends with one line and exit code 2.

Knows neither the page nor any model's insides.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from app.settings import settings_from_environment
from backend.captures import Capture, Sampling
from backend.engine import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING, check_sampling
from backend.interface import Event, Finished, Notice, PictureGrown, UserError
from backend.specs import SPECS

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, help="AIA Lens: how much image and text look at each other."
)

Model = Annotated[str, typer.Option("--model", help="Name of a model; `models` lists them.")]
Prompt = Annotated[str, typer.Option("--prompt", help="The question, or what to draw.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same result on one machine.")]
Guidance = Annotated[float, typer.Option("--guidance", help="Classifier-free guidance scale; 1 is none.")]
Temperature = Annotated[float, typer.Option("--temperature", help="0 takes the likeliest code each time.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file as JSON.")]


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
def models(json_file: Json = None) -> None:
    """List the models."""
    check_parent(json_file)
    rows = [
        {
            "name": spec.name,
            "tasks": sorted(task.value for task in spec.tasks),
            "layers": spec.layers,
            "parameters": spec.parameters,
            "memory_mib": spec.memory_mib,
            "licence": spec.licence,
            "decoupling": spec.decoupling,
        }
        for spec in SPECS
    ]
    for row in rows:
        tasks = " + ".join(row["tasks"])
        typer.echo(f"{row['name']:16}{tasks:28}{row['layers']:>3} layers  {row['parameters'] / 1e6:,.1f} M parameters")
    write_json(json_file, {"models": rows})


@cli.command()
def understand(
    image: Annotated[Path, typer.Option("--image", help="PNG, JPEG, WebP, GIF, BMP or TIFF file.")],
    prompt: Prompt,
    model: Model = "tiny-janus",
    seed: Seed = 0,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy, as the published figures are.")] = 0.0,
    json_file: Json = None,
) -> None:
    """Ask about an image and measure how much the answer looks at it."""
    from backend.pictures import load_picture

    check_parent(json_file)
    picture = load_picture(existing_file(image))
    sampling = replace(UNDERSTANDING_SAMPLING, seed=seed, temperature=temperature)
    capture = follow(open_engine().understand(model, picture, prompt, sampling))
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
    json_file: Json = None,
) -> None:
    """Draw a prompt and measure how much the image looks at it."""
    check_parent(out)
    check_parent(json_file)
    sampling = Sampling(seed=seed, temperature=temperature, guidance=guidance)
    capture = follow(open_engine().generate(model, prompt, sampling))
    write_file(out, capture.picture_png)
    typer.echo(f"wrote {out}")
    print_curve(capture)
    write_json(json_file, {**capture.summary(), "image": str(out)})


@cli.command()
def evaluate(
    model: Model = "tiny-janus",
    samples: Annotated[int, typer.Option("--samples", min=1, help="Held-out scenes, and as many drawings.")] = 100,
    seed: Seed = 0,
    guidance: Guidance = GENERATION_SAMPLING.guidance,
    temperature: Temperature = GENERATION_SAMPLING.temperature,
    json_file: Json = None,
) -> None:
    """Score a model on held-out scenes of the shapes world."""
    from backend.scores import evaluate_model

    check_parent(json_file)
    sampling = Sampling(seed=seed, temperature=temperature, guidance=guidance)
    check_sampling(sampling)
    report = evaluate_model(open_engine().load(model), samples, seed, sampling, show_progress)
    for task in ("understanding", "generation"):
        print_scores(task, report[task])
    write_json(json_file, report)


@cli.command()
def bench(
    model: Model = "tiny-janus",
    rounds: Annotated[int, typer.Option(min=1, help="Drawings of each way, interleaved.")] = 7,
    json_file: Json = None,
) -> None:
    """Time drawing with capture, without, and the usual way; figures as ratios."""
    from tests.benchmarks.generation import compare_ways

    check_parent(json_file)
    report = compare_ways(model, rounds)
    for name, row in report["ways"].items():
        typer.echo(
            f"{name:20}{row['tokens_per_second']:8.1f} tokens/s  "
            f"{row['speed_ratio']:5.2f} of the speed without capture  {row['peak_memory_mib']:6.1f} MiB more at peak"
        )
    write_json(json_file, report)


# --- shared ---------------------------------------------------------------------------------


def open_engine():
    """The engine over the same store as the page's."""
    from transformers.utils import logging as transformers_logging

    from app.serve import make_engine

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return make_engine(settings_from_environment())


def follow(events: Iterator[Event]) -> Capture:
    """Show events on stderr as they come and return the capture."""
    for event in events:
        if isinstance(event, Notice):
            typer.echo(event.text, err=True)
        elif isinstance(event, PictureGrown):
            show_progress("drawing", event.done, event.total)
        elif isinstance(event, Finished):
            if event.cached:
                typer.echo("from the store", err=True)
            return event.capture
    raise AssertionError("an event stream ends with Finished")


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


def existing_file(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"Expected an image file, found none at {path}; check the path.")
    return path


def check_parent(path: Path | None) -> None:
    """Refuse, before any work, a result that could not be written."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise UserError(f"Expected an existing folder for {path.name}, found none at {path.parent}; create it first.")
    if path.is_dir():
        raise UserError(f"Expected the name of a file to write, got the folder {path}; add a file name.")


def write_file(path: Path, content: bytes) -> None:
    """Write a result. Raises `UserError` where the disk or its rights refuse."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path} could not be written ({error.strerror}); choose another place.") from error


def write_json(path: Path | None, content: dict) -> None:
    if path is not None:
        write_file(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
