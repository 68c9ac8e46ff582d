"""The verb that times things: drawing, a long drawing, a training step, the large models.

Thin over tests/benchmarks, which say how each is measured; shows their figures.
"""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.console import Json, Model, check_parent, quiet_transformers, show_progress, write_json
from backend.interface import UserError


def bench(
    model: Model = "tiny-janus",
    rounds: Annotated[int | None, typer.Option(min=1, help="Turns of each way, interleaved.")] = None,
    training: Annotated[bool, typer.Option("--training", help="Time a training step instead of drawing.")] = False,
    long: Annotated[bool, typer.Option("--long", help="576 image tokens by a random Janus of real depth.")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="Large models at their true sizes, random weights.")] = False,
    json_file: Json = None,
) -> None:
    """Time drawing, or a training step, with the probe, without, and the usual way; figures as ratios."""
    check_parent(json_file)
    if training + long + gpu > 1:
        raise UserError("Expected one of --training, --long and --gpu, got several; run them one after the other.")
    quiet_transformers()
    if training:
        report = bench_training(rounds or 7)
    elif long:
        report = bench_long(rounds or 3)
    elif gpu:
        report = bench_gpu()
    else:
        report = bench_drawing(model, rounds or 7)
    write_json(json_file, report)


def bench_drawing(model: str, rounds: int) -> dict:
    from tests.benchmarks.generation import compare_ways

    report = compare_ways(model, rounds)
    for name, row in report["ways"].items():
        typer.echo(
            f"{name:20}{row['tokens_per_second']:8.1f} tokens/s  "
            f"{row['speed_ratio']:5.2f} of the speed without capture  {row['peak_memory_mib']:6.1f} MiB more at peak"
        )
    return report


def bench_long(rounds: int) -> dict:
    from tests.benchmarks.long_drawing import compare_long_drawing

    report = compare_long_drawing(rounds, progress=show_progress)
    for way, speed in report["tokens_per_processor_second"].items():
        typer.echo(f"{way:20}{speed:8.2f} tokens per second of processor time")
    by_round = ", ".join(f"{ratio:.3f}" for ratio in report["speed_ratio_by_round"])
    typer.echo(
        f"{report['speed_ratio']:.3f} of the speed without capture (by round {by_round}; goal {report['goal']}): "
        f"{report['model']}, {report['image_tokens']} image tokens with guidance"
    )
    return report


def bench_gpu() -> dict:
    from tests.benchmarks.true_size import GOAL, measure_true_sizes

    check_gpu()
    report = measure_true_sizes(progress=show_progress)
    for name, rows in report["models"].items():
        for precision, row in rows.items():
            typer.echo(f"{name}  {precision}: {row}")
    typer.echo(f"Speed with capture: goal {GOAL} of that without, on {report['device']}.")
    return report


def check_gpu() -> None:
    """Raise `UserError` on a machine without one."""
    import torch

    if not torch.cuda.is_available():
        raise UserError("Expected a GPU for models of 7 billion weights, found none; run it where there is one.")


def bench_training(rounds: int) -> dict:
    from tests.benchmarks.training import compare_training_steps

    report = compare_training_steps(rounds, progress=show_progress)
    for length in report["lengths"]:
        for way, row in length["ways"].items():
            told = f"{length['task']} {length['tokens']:,}  {way:12}"
            if "skipped" in row:
                typer.echo(f"{told}skipped: {row['skipped']}")
                continue
            typer.echo(
                f"{told}{row['seconds']:8.2f} s  {row['time_ratio']:.2f} of NTP only  "
                f"{row['peak_memory_mib']:8.1f} MiB  {row['memory_ratio']:.2f}"
            )
    return report
