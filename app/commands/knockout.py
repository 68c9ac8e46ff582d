"""The command line's verb on knock-outs: one answer or drawing, or many held-out ones by kind.

Knows how they are asked for and printed; not how anything is knocked out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from aia.intensity import Definition, Task
from app.commands.console import (
    Adapter,
    Guidance,
    Json,
    Model,
    Seed,
    Temperature,
    Weights,
    check_parent,
    choice,
    existing_file,
    find_model,
    follow,
    load_with_adapter,
    open_engine,
    read_precision,
    show_preparing,
    show_progress,
    write_json,
)
from app.settings import settings_from_environment
from backend.engine import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING
from backend.interface import Preparing, UserError
from backend.kept.captures import Capture, Sampling
from backend.kept.knockouts import MOST_DRAWS, MOST_LAYERS, KnockoutReport, Knockouts, Settings, Way, default_width

KINDS_HELP = "Kinds of held-out questions by commas, drawing among them; with --samples."


def knockout(
    prompt: Annotated[str | None, typer.Option("--prompt", help="The question, or what to draw.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="File to ask about; without one, a drawing.")] = None,
    model: Model = "tiny-janus",
    window: Annotated[int | None, typer.Option("--window", help="Layers of a window; a fifth unless told.")] = None,
    way: Annotated[
        str, typer.Option("--way", help="direct: rows that choose tokens; any: all behind, too.")
    ] = "direct",
    draws: Annotated[int, typer.Option("--draws", help="Controls with random keys; 0 leaves them out.")] = 3,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Many held-out prompts of each kind instead.")
    ] = None,
    kinds: Annotated[str, typer.Option("--kinds", help=KINDS_HELP)] = "colour,describe",
    adapter: Adapter = None,
    seed: Seed = 0,
    guidance: Guidance = GENERATION_SAMPLING.guidance,
    temperature: Temperature = GENERATION_SAMPLING.temperature,
    precision: Weights = "full",
    json_file: Json = None,
) -> None:
    """Forbid an answer to look at its image, or a drawing at its prompt, window by window of layers: does it matter?"""
    check_parent(json_file)
    if (prompt is None) == (samples is None):
        raise UserError("Expected either --prompt or --samples, got both or none; give one of them.")
    spec = find_model(model)
    settings = read_settings(spec.layers if window is None else 0, window, way, draws, seed)
    weights = read_precision(precision)
    if samples is not None:
        study(load_with_adapter(spec, adapter, weights), kinds, samples, seed, settings, json_file)
        return
    if adapter is not None:
        raise UserError("Expected --adapter with --samples only; ask on the page's Explore tab, which takes adapters.")
    engine = open_engine(spec)
    if image is None:
        sampling = Sampling(seed=seed, temperature=temperature, guidance=guidance)
        capture = follow(engine.generate(spec.name, prompt, sampling, precision=weights))
    else:
        from backend.pictures import load_picture

        picture, sampling = load_picture(existing_file(image)), replace(UNDERSTANDING_SAMPLING, seed=seed)
        capture = follow(engine.understand(spec.name, picture, prompt, sampling, precision=weights))
        typer.echo(capture.text)
    report = follow_knockout(engine, capture, settings)
    print_knockout(capture, settings, report)
    write_json(json_file, describe_knockout(capture, settings, report))


def read_settings(layers: int, window: int | None, way: str, draws: int, seed: int) -> Settings:
    """Settings of a knock-out, the window by default a fifth of the layers. Raises `UserError`."""
    width = default_width(layers) if window is None else window
    for name, value, low, high in (("layers in a window", width, 1, MOST_LAYERS), ("draws", draws, 0, MOST_DRAWS)):
        if not low <= value <= high:
            raise UserError(f"Expected {low} to {high} {name}, got {value}; change it.")
    return Settings(width=width, way=Way(choice("way", way, list(Way))), draws=draws, seed=seed)


def follow_knockout(engine, capture: Capture, settings: Settings) -> KnockoutReport:
    """Show progress on stderr and return the report."""
    from backend.knockout import Progress
    from backend.matters import Matters

    for step in Matters(engine, Knockouts(settings_from_environment().knockouts)).knock_out(capture, settings):
        if isinstance(step, Progress):
            show_progress("windows", step.done, step.total)
        elif isinstance(step, Preparing):
            show_preparing(step)
        elif isinstance(step, KnockoutReport):
            return step
    raise AssertionError("a knock-out ends with its report")


def describe_knockout(capture: Capture, settings: Settings, report: KnockoutReport) -> dict:
    """A capture's knock-out as plain data."""
    return {**capture.summary(), "settings": settings.model_dump(mode="json"), "knockout": report.model_dump()}


def print_knockout(capture: Capture, settings: Settings, report: KnockoutReport) -> None:
    """A line per layer: how much the tokens look across, and how far their log-probability drops without."""
    what = "the image" if capture.task == Task.UNDERSTANDING else "the prompt"
    typer.echo(
        f"log-probability {report.total:.3f} nats over {len(report.tokens):,} tokens; drop without looking at {what}, "
        f"{say_layers(settings.width)} a window; control: random other keys forbidden instead"
    )
    drops, controls = report.total_drops, report.controls
    most = max(*drops, sum(report.all_layers), 1e-9)
    for layer, drop in enumerate(drops):
        control = "" if controls is None else f"  control {mean_of(controls.others, layer):8.3f}"
        looked = capture.intensity(Definition.FIGURE)[layer]
        typer.echo(
            f"layer {layer + 1:>2}  looks {looked:.3f}  drop {drop:8.3f}{control}  "
            f"{'█' * round(30 * max(drop, 0) / most)}".rstrip()
        )
    control = "" if controls is None else f"  control {mean_of(controls.others, len(drops)):8.3f}"
    typer.echo(f"all layers           drop {sum(report.all_layers):8.3f}{control}")


def say_layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def mean_of(rows: list[list[float]], column: int) -> float:
    return sum(row[column] for row in rows) / len(rows)


def study(model, kinds: str, samples: int, seed: int, settings: Settings, json_file: Path | None) -> None:
    """Many held-out prompts: by kind a line per layer."""
    from backend.knockout_study import study_knockout

    asked = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    report = study_knockout(model, asked, samples, seed, settings, progress=show_progress)
    for kind in dict.fromkeys(asked):
        print_kind(kind, report[kind], settings)
    write_json(json_file, report)


def print_kind(kind: str, part: dict, settings: Settings) -> None:
    """Mean drop ± standard error by window, the answers that stay, the control, and the intensity beside it."""
    right = "" if part["right"] is None else f", {part['right']:.0%} right"
    typer.echo(
        f"{kind}: {part['n']:,} samples of {part['tokens']:.1f} tokens{right}; {say_layers(settings.width)} a window"
    )
    for layer, (drop, error) in enumerate(zip(part["drop"], part["error"], strict=True)):
        looked = "" if part["intensity"] is None else f"  looks {part['intensity'][layer]:.3f}"
        stays = "" if part["intact"] is None else f"  stays {part['intact'][layer]:4.0%}"
        others = "" if part["others"] is None else f"  control {part['others'][layer]:8.3f}"
        typer.echo(f"layer {layer + 1:>2}{looked}  drop {drop:8.3f} ± {error:.3f}{stays}{others}")
    whole = part["all_layers"]
    stays = "" if whole["intact"] is None else f"  stays {whole['intact']:4.0%}"
    others = "" if part["others"] is None else f"  control {part['others'][-1]:8.3f}"
    typer.echo(f"all layers           drop {whole['drop']:8.3f} ± {whole['error']:.3f}{stays}{others}")
    r = "none" if part["r"] is None else f"{part['r']:+.2f}"
    typer.echo(f"correlation of drop and intensity over layers: {r}")
