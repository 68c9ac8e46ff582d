"""The verb `measure`: many samples of one model, in a folder that a stopped measurement goes on from.

Knows how a measurement is asked for and told about; `backend.measuring` does it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

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
    check_adapter,
    check_fit,
    check_parent,
    check_tasks,
    choice,
    chosen_sampling,
    find_model,
    load_with_adapter,
    name_in_config,
    print_report,
    read_precision,
    show_progress,
    write_json,
    write_targets,
)
from app.settings import settings_from_environment
from backend.interface import Cancelled, UserError

Samples = Annotated[int, typer.Option("--samples", help="Prompts per task; 100 as in the paper.")]
TaskName = Annotated[str, typer.Option("--task", help="both, understanding or generation.")]
DefinitionName = Annotated[
    str, typer.Option("--definition", help="figure, training or strict; shown first, all three are kept.")
]
Prompts = Annotated[Path | None, typer.Option("--prompts", help="Text file of prompts for drawings, one a line.")]
Data = Annotated[Path | None, typer.Option("--data", help="JSON or JSONL of conversations in the authors' format.")]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of the images that --data names.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave bad rows or lines out instead of refusing.")]
Fit = Annotated[int | None, typer.Option("--fit", help="Fit this many stages to the curves as targets.")]
TargetsOut = Annotated[Path | None, typer.Option("--targets-out", help="File for the fitted targets.")]
RunDir = Annotated[Path | None, typer.Option("--run-dir", help="Folder that keeps every sample at once.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the measurement in --run-dir.")]


def measure(
    model: Model = "tiny-janus",
    adapter: Adapter = None,
    task: TaskName = "both",
    samples: Samples = 100,
    definition: DefinitionName = "figure",
    seed: Seed = 0,
    prompts: Prompts = None,
    data: Data = None,
    images: Images = None,
    skip_bad_rows: SkipBad = False,
    guidance: Guidance = None,
    temperature: Temperature = None,
    fit: Fit = None,
    targets_out: TargetsOut = None,
    run_dir: RunDir = None,
    resume: Resume = False,
    precision: Weights = "full",
    json_file: Json = None,
) -> None:
    """Measure the curves of both tasks over many prompts, and how they correlate."""
    only = None if task == "both" else Task(choice("task", task, ["both", *Task]))
    counted = Definition(choice("definition", definition, list(Definition)))
    spec = find_model(model)
    check_tasks(spec, () if only is None else (only,))
    check_fit(spec, tuple(t for t in Task if t in spec.tasks) if only is None else (only,), fit, targets_out)
    if targets_out is not None and targets_out == json_file:
        raise UserError(f"Expected two files, got {json_file} for both the curves and the targets; rename one.")
    for path in (json_file, targets_out):
        check_parent(path)
    check_adapter(adapter)
    drawn = chosen_sampling(spec, seed, guidance, temperature)
    settings: dict[str, Any] = {"definition": counted, "seed": seed}
    settings |= {"guidance": drawn.guidance, "temperature": drawn.temperature}
    settings |= {
        "model": name_in_config(spec, model),
        "adapter": adapter and os.path.abspath(adapter),
        "precision": read_precision(precision),
    }
    settings |= find_data(spec, only, samples, prompts, data, images, skip_bad_rows, seed) if not resume else {}
    report = run_in_folder(run_dir, resume, spec, settings)
    print_report(report)
    # One shape whatever was measured: what was not is null.
    write_json(json_file, {**dict.fromkeys(("understanding", "generation", "correlation")), **report})
    if fit is not None:
        from backend.measurement import fit_report

        write_targets(targets_out, fit_report(report, fit, targets_out.stem))
    keep_measurement(report)


def find_data(
    spec,
    only: Task | None,
    samples: int,
    prompts: Path | None,
    data: Path | None,
    images: Path | None,
    skip: bool,
    seed: int,
) -> dict[str, Any]:
    """The settings that say what is asked; notes on what is left out go to stderr."""
    from backend.measuring.config import make_config
    from backend.measuring.plan import make_plan
    from backend.measuring.prompt_files import read_prompt_file
    from backend.measuring.work import load_rows

    if (prompts is not None and data is not None) or (data is None) != (images is None):
        raise UserError("Expected --prompts, or --data and --images together, got another mixture; name one of them.")
    settings: dict[str, Any] = {"samples": samples, "skip_bad_rows": skip}
    available: Mapping[Task, int] | None = None
    if prompts is not None:
        available = {Task.GENERATION: len(read_prompt_file(prompts, skip).prompts)}
        settings |= {"data": os.path.abspath(prompts), "data_name": prompts.name[:80]}
    elif data is not None:
        settings |= {"data": os.path.abspath(data), "images": os.path.abspath(images), "data_name": data.name[:80]}
        rows = load_rows(make_config(**{k: v for k, v in settings.items() if k != "samples"}, seed=seed))
        available = {task: rows.count(task) for task in Task}
    plan = make_plan(spec, only, samples, available)
    for note in plan.notes:
        typer.echo(note, err=True)
    return settings | plan.settings()


def run_in_folder(run_dir: Path | None, resume: bool, spec, settings: dict[str, Any]) -> dict:
    """Measure in a folder, or go on in it; without one nothing is left but the report."""
    from app.commands.training import stop_on_signals
    from backend.measuring.config import make_config
    from backend.measuring.runs import MeasureRun
    from backend.measuring.work import measure_in

    if resume and run_dir is None:
        raise UserError("Expected the folder of a measurement to resume, got none; name it with --run-dir.")
    config = None if resume else make_config(**settings)
    with _folder(run_dir) as folder:
        run = MeasureRun(folder)
        if config is not None:
            run.begin(config)
        elif (config := run.load_config()) is None:
            raise UserError(f"Expected a measurement in {folder}, found none; check the folder.")
        else:
            spec = find_model(config.model)
        adapter = None if config.adapter is None else Path(config.adapter)

        def listen(event: dict) -> None:
            if event["event"] == "step":
                show_progress("samples", event["step"], config.steps)

        def load(_config):
            return load_with_adapter(spec, adapter, config.precision)

        try:
            return measure_in(run, listen, stop_on_signals() if run_dir else bool, load)
        except Cancelled:
            typer.echo(f"stopped; --resume --run-dir {run_dir} goes on", err=True)
            raise typer.Exit(130) from None


@contextmanager
def _folder(run_dir: Path | None):
    if run_dir is not None:
        yield run_dir
        return
    with tempfile.TemporaryDirectory(prefix="aia-lens-measure-") as folder:
        yield Path(folder) / "run"


def keep_measurement(report: dict) -> None:
    """Keep a report where the page finds it; a disk that refuses costs nothing that was printed."""
    from backend.kept.measurements import Measurements

    try:
        kept = Measurements(settings_from_environment().measurements).save(report)
        typer.echo(f"kept as measurement:{kept}, for the page's Measure, Library and Compare tabs")
    except UserError as error:
        typer.echo(f"The measurement was not kept: {error}", err=True)
