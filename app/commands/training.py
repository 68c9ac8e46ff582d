"""The verbs that train: `finetune` and `study`. Each shows progress on stderr and can be stopped and resumed.

Knows how a run is asked for and told about; `backend.finetuning.finetune` and `backend.finetuning.study` do it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from aia.config import TrainingConfig, make_config
from aia.intensity import Task
from aia.targets import PRESETS
from app.commands.console import (
    Json,
    Model,
    Seed,
    check_parent,
    choice,
    find_model,
    name_in_config,
    quiet_transformers,
    show_progress,
    write_json,
)
from app.settings import settings_from_environment
from backend.background import run_process
from backend.finetuning.target_files import TargetFiles
from backend.interface import Cancelled, UserError, as_sentence
from backend.models.specs import ModelSpec

DEFAULTS = TrainingConfig()


def help_of(field: str) -> str:
    """A setting's own description."""
    return TrainingConfig.model_fields[field].description


Method = Annotated[str, typer.Option("--method", help=help_of("method"))]
Targets = Annotated[str, typer.Option("--targets", help=help_of("targets"))]
Weight = Annotated[float | None, typer.Option("--aia-weight", min=0, help="λ of both tasks.")]
WeightG = Annotated[float | None, typer.Option("--aia-weight-generation", min=0, help="λ of drawing.")]
WeightU = Annotated[float | None, typer.Option("--aia-weight-understanding", min=0, help="λ of answering.")]
NoAia = Annotated[bool, typer.Option("--no-aia", help="The control run: same data, order and steps without AIA.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help=help_of("steps"))]
Batch = Annotated[int, typer.Option("--batch-size", min=1, help=help_of("batch_size"))]
Rate = Annotated[float, typer.Option("--learning-rate", help=help_of("learning_rate"))]
Data = Annotated[str, typer.Option("--data", help=help_of("data"))]
Images = Annotated[Path | None, typer.Option("--images", help=help_of("images"))]
StartFrom = Annotated[Path | None, typer.Option("--start-from", help=help_of("start_from"))]
SkipBad = Annotated[bool, typer.Option("--skip-bad-rows", help=help_of("skip_bad_rows"))]
RunDir = Annotated[
    Path, typer.Option("--run-dir", help="Folder of the run: config, log, checkpoints, adapter, result.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --run-dir, with its own settings.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting as NAME=VALUE, such as lora_rank=8; --settings lists them."),
]


def finetune(
    model: Model = DEFAULTS.model,
    run_dir: RunDir = Path("run"),
    method: Method = DEFAULTS.method,
    targets: Targets = DEFAULTS.targets,
    aia_weight: Weight = None,
    aia_weight_generation: WeightG = None,
    aia_weight_understanding: WeightU = None,
    no_aia: NoAia = False,
    steps: Steps = DEFAULTS.steps,
    batch_size: Batch = DEFAULTS.batch_size,
    learning_rate: Rate = DEFAULTS.learning_rate,
    data: Data = DEFAULTS.data,
    images: Images = None,
    skip_bad_rows: SkipBad = False,
    start_from: StartFrom = None,
    seed: Seed = DEFAULTS.seed,
    settings: Setting = None,
    resume: Resume = False,
    list_settings: Annotated[bool, typer.Option("--settings", help="List every setting and stop.")] = False,
    json_file: Json = None,
) -> None:
    """Fine-tune with L = L_NTP + λ·L_AIA, or without AIA as a control; curves and scores before and after."""
    if list_settings:
        print_settings()
        return
    from backend.finetuning.finetune import finetune as run_finetune

    check_parent(json_file)
    quiet_transformers()
    config = None
    if not resume:
        spec = find_model(model)
        config = build_config(
            {
                "model": name_in_config(spec, model),
                **shares(spec, settings or []),
                "method": choice("method", method, ["lora", "qlora", "full"]),
                "targets": find_targets(targets),
                "aia": not no_aia,
                **weights(aia_weight, aia_weight_generation, aia_weight_understanding),
                "steps": steps,
                "batch_size": batch_size,
                "learning_rate": learning_rate,
                "data": data,
                "images": None if images is None else str(images),
                "skip_bad_rows": skip_bad_rows,
                "start_from": None if start_from is None else str(start_from),
                "seed": seed,
            },
            settings or [],
        )
    try:
        result = run_finetune(run_dir, config, show_event, stop_on_signals())
    except Cancelled:
        typer.echo(f"stopped; --resume --run-dir {run_dir} goes on", err=True)
        raise typer.Exit(130) from None
    if is_first_process():
        print_result(result)
        write_json(json_file, result)


def study(
    work: Annotated[Path, typer.Option("--work", help="Folder of the study's runs; several processes may share it.")],
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of each run.")] = 150,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Samples per step.")] = 24,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds per arm: 0, 1, …")] = 3,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Scenes and drawings scored per run.")] = 300,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Peak rate.")] = 1e-3,
    report_only: Annotated[bool, typer.Option("--report", help="Report the runs that are done; start none.")] = False,
    json_file: Json = None,
) -> None:
    """The controlled study on the half-trained tiny-janus: experts, fitted targets, then with and without AIA."""
    from backend.finetuning.study import Study, report_study, run_study

    check_parent(json_file)
    quiet_transformers()
    told = Study(steps, batch_size, seeds, samples, learning_rate)
    if report_only:
        report = report_study(work, told)
    else:
        report = run_study(work, told, lambda run, event: show_event(event, f"{run}: "))
    print_study(report)
    write_json(json_file, report)


# --- asking -----------------------------------------------------------------------------------


def weights(both: float | None, generation: float | None, understanding: float | None) -> dict[str, float]:
    """λ per task; the task's own option goes before the common one. Raises `UserError` if all three are given."""
    if None not in (both, generation, understanding):
        raise UserError("Expected --aia-weight or the two tasks' own weights, got all three; drop one.")
    chosen = {"aia_weight_generation": generation, "aia_weight_understanding": understanding}
    chosen = {name: both if value is None else value for name, value in chosen.items()}
    return {name: value for name, value in chosen.items() if value is not None}


def shares(spec: ModelSpec, settings: list[str]) -> dict[str, float]:
    """No share of the steps for what a model cannot do, said on stderr; unless a share was asked for."""
    asked = {text.partition("=")[0] for text in settings}
    missing = [task for task in Task if task not in spec.tasks and f"ratio_{task}" not in asked]
    for task in missing:
        typer.echo(f"{spec.title} has no {task}: every step trains the other task", err=True)
    return {f"ratio_{task}": 0.0 for task in missing}


def find_targets(named: str) -> str:
    """A preset or a file as it is; else the file that the page saved under that name."""
    if named in ("auto", *PRESETS) or Path(named).exists():
        return named
    saved = TargetFiles(settings_from_environment().data / "targets")
    stem = next((stem for name, stem in saved.list() if named in (name, stem)), None)
    return named if stem is None else str(saved.find(stem))


def build_config(given: dict, settings: list[str]) -> TrainingConfig:
    """Options and `--set` together. Raises `UserError` with one sentence."""
    for text in settings:
        name, found, value = text.partition("=")
        if not found or name not in TrainingConfig.model_fields:
            raise UserError(f"Expected --set NAME=VALUE with a known setting, got “{text[:60]}”; see --settings.")
        given[name] = value
    try:
        return make_config(**given)
    except ValueError as error:
        raise UserError(as_sentence(error)) from error


def is_first_process() -> bool:
    """Under `accelerate launch` one process tells for all."""
    return os.environ.get("RANK", "0") == "0"


def stop_on_signals():
    """Ctrl-C, or a polite kill, lets the step end and writes a checkpoint; a second one does as usual."""
    return run_process.stop_on_signals(
        lambda: typer.echo("stopping after this step; once more to stop at once", err=True)
    )


# --- telling ----------------------------------------------------------------------------------


def show_event(event: dict, prefix: str = "") -> None:
    """One line per event; steps share one line of a terminal."""
    kind = event["event"]
    if kind == "step":
        show_progress(f"{prefix}step", event["step"], event["of"])
    elif kind == "scoring":
        typer.echo(f"{prefix}scoring at step {event['step']:,}", err=True)
    elif kind == "scored":
        scores = {task.value: event["scores"][task]["overall"] for task in Task if task in event["scores"]}
        told = ", ".join(f"{task} {rate:.3f}" for task, rate in scores.items())
        typer.echo(f"{prefix}scores at step {event['step']:,}: {told}", err=True)
    elif kind == "measured":
        told = ", ".join(f"{task} {d['mean_absolute']:.3f}" for task, d in event["distance"].items())
        typer.echo(f"{prefix}distance to targets at step {event['step']:,}: {told}", err=True)
    elif kind == "resumed":
        typer.echo(f"{prefix}going on from step {event['step']:,}", err=True)


def print_result(result: dict) -> None:
    """Before and after, side by side."""
    typer.echo(f"{'':34}{'before':>9}{'after':>9}")
    for task in Task:
        moments = [result[when] for when in ("before", "after")]
        if all(m["scores"] and task in m["scores"] for m in moments):
            row(f"{task} score", [m["scores"][task]["overall"] for m in moments])
        if all(m["distance"] and task in m["distance"] for m in moments):
            row(f"{task} distance to targets", [m["distance"][task]["mean_absolute"] for m in moments])
    typer.echo(
        f"{result['seconds']:,.0f} s, at most {result['peak_memory_mib']:,.0f} MiB; adapter in {result['adapter']}"
    )


def row(name: str, values: list[float]) -> None:
    typer.echo(f"{name:34}" + "".join(f"{value:9.3f}" for value in values))


def print_study(report: dict) -> None:
    """Mean ± standard deviation over seeds, an arm a block; without deviation where there is one seed."""
    typer.echo(report["targets_table"])
    for arm, numbers in report["over_seeds"].items():
        seeds = len(report["runs"][arm])
        typer.echo(f"{arm}, {seeds} {'seed' if seeds == 1 else 'seeds'}")
        for name, (mean, std) in numbers.items():
            typer.echo(f"  {name:26}{mean:8.4f}" + (f" ± {std:.4f}" if seeds > 1 else ""))


def print_settings() -> None:
    for name, field in TrainingConfig.model_fields.items():
        typer.echo(f"{name:26}{field.default!s:18}{field.description}")
