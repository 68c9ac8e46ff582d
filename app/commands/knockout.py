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
    chosen_sampling,
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
from backend.interface import Preparing, UserError
from backend.kept.captures import Capture
from backend.kept.knockouts import MOST_DRAWS, MOST_LAYERS, KnockoutReport, Knockouts, Settings, Way, default_width
from backend.sampling import UNDERSTANDING_SAMPLING

HEADS_HELP = (
    "Single heads instead of windows of layers: each, or some together as LAYER.HEAD by commas; with --samples."
)
STRONGEST = 6  # heads of a kind that are printed
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
    heads: Annotated[str | None, typer.Option("--heads", help=HEADS_HELP)] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="With --heads: only these still look, all others do not.")
    ] = False,
    adapter: Adapter = None,
    seed: Seed = 0,
    guidance: Guidance = None,
    temperature: Temperature = None,
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
        loaded = load_with_adapter(spec, adapter, weights)
        if heads is None:
            study(loaded, kinds, samples, seed, settings, json_file)
        else:
            study_of_heads(loaded, kinds, samples, seed, settings, heads, keep, json_file)
        return
    if heads is not None or keep:
        raise UserError("Expected --heads with --samples; of one answer, the page's Does it matter? shows every head.")
    if adapter is not None:
        raise UserError("Expected --adapter with --samples only; ask on the page's Explore tab, which takes adapters.")
    engine = open_engine(spec)
    if image is None:
        sampling = chosen_sampling(spec, seed, guidance, temperature)
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
    for names, part in report["differences"].items():
        print_difference(names, part)
    write_json(json_file, report)


def print_kind(kind: str, part: dict, settings: Settings) -> None:
    """Mean drop with its interval by window, its share, the answers that stay, the control, and the intensity."""
    right = "" if part["right"] is None else f", {part['right']:.0%} right"
    typer.echo(
        f"{kind}: {part['n']:,} samples of {part['tokens']:.1f} tokens{right}; {say_layers(settings.width)} a window; "
        "brackets: 95 % bootstrap intervals; share: of the drop of all layers at once"
    )
    for layer, drop in enumerate(part["drop"]):
        looked = "" if part["intensity"] is None else f"  looks {part['intensity'][layer]:.3f}"
        stays = "" if part["intact"] is None else f"  stays {part['intact'][layer]:4.0%}"
        others = "" if part["others"] is None else f"  control {part['others'][layer]:8.3f}"
        share = f"  share {part['share'][layer]:5.2f} [{part['share_low'][layer]:.2f}, {part['share_high'][layer]:.2f}]"
        between = f"[{part['low'][layer]:.3f}, {part['high'][layer]:.3f}]"
        typer.echo(f"layer {layer + 1:>2}{looked}  drop {drop:8.3f} {between:<18}{share}{stays}{others}")
    whole = part["all_layers"]
    stays = "" if whole["intact"] is None else f"  stays {whole['intact']:4.0%}"
    others = "" if part["others"] is None else f"  control {part['others'][-1]:8.3f}"
    typer.echo(f"all layers           drop {whole['drop']:8.3f} ± {whole['error']:.3f}{stays}{others}")
    r = "none" if part["r"] is None else f"{part['r']:+.2f}"
    typer.echo(f"correlation of drop and intensity over layers: {r}")


def study_of_heads(
    model, kinds: str, samples: int, seed: int, settings: Settings, text: str, keep: bool, json_file: Path | None
) -> None:
    """Every head alone, or some together, over many held-out prompts."""
    from backend.knockout_heads import parse_heads, study_heads

    asked = list(dict.fromkeys(kind.strip() for kind in kinds.split(",") if kind.strip()))
    config = model.text_config
    together = [] if text == "each" else parse_heads(text, config.num_hidden_layers, config.num_attention_heads)
    report = study_heads(
        model, asked, samples, seed, settings.way, together, keep, settings.draws, progress=show_progress
    )
    (print_together if together else print_heads)(report, asked)
    write_json(json_file, report)


WHAT_CHANGES = {
    False: "drop in nats when they alone may not look",
    True: "nats that they give back when they alone still look",
}


def print_heads(report: dict, kinds: list[str]) -> None:
    """By kind the heads that change most, and what the same heads change of the other kinds."""
    from backend.knockout_heads import name_heads, strongest

    for kind in kinds:
        part = report[kind]
        whole = f"{part['n']:,} samples, drop {part['all_heads']['change']:.3f} when no head may look"
        typer.echo(f"{kind}: {whole}; {WHAT_CHANGES[report['keep']]}:")
        for layer, head in strongest(part, STRONGEST):
            change, low, high = (part[name][layer][head] for name in ("change", "low", "high"))
            stays = f"  stays {part['intact'][layer][head]:4.0%}" if "intact" in part else ""
            others = "".join(
                f"  {other} {report[other]['change'][layer][head]:.3f}" for other in kinds if other != kind
            )
            typer.echo(
                f"head {name_heads([(layer, head)])[0]:>6}  {change:7.3f} [{low:.3f}, {high:.3f}]{stays}{others}"
            )


def print_together(report: dict, kinds: list[str]) -> None:
    """By kind what the chosen heads change together, and as many others of the same layers."""
    control = f"; control: {report['draws']} random sets of as many others" if report["draws"] else ""
    typer.echo(f"heads {', '.join(report['heads'])} together, {WHAT_CHANGES[report['keep']]}{control}")
    for kind in kinds:
        part, found = report[kind], report[kind]["control"]
        told = [f"all {part['all_heads']['change']:7.3f}", f"these {_say_change(part)}"]
        typer.echo(f"{kind:<10} " + "   ".join([*told, *([f"control {_say_change(found)}"] if found else [])]))


def _say_change(found: dict) -> str:
    stays = f"  stays {found['intact']:4.0%}" if "intact" in found else ""
    return f"{found['change']:7.3f} [{found['low']:.3f}, {found['high']:.3f}]{stays}"


def print_difference(names: str, part: dict) -> None:
    """How the shares of two kinds differ, and in which windows the interval leaves 0 out."""
    typer.echo(f"{names}, difference of shares; *: the 95 % interval leaves 0 out")
    for layer, (share, low, high) in enumerate(zip(part["share"], part["low"], part["high"], strict=True)):
        typer.echo(f"layer {layer + 1:>2}  {share:+.2f} [{low:+.2f}, {high:+.2f}]{' *' if low > 0 or high < 0 else ''}")
