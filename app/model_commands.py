"""The command line's verbs on models themselves: how much quantisation changes what they attend to.

Thin over `backend.fidelity`; knows no page.
"""

from __future__ import annotations

from typing import Annotated

import typer

from aia.intensity import Definition, Task
from app.console import Json, Model, Seed, check_parent, choice, quiet_transformers, show_progress, write_json
from backend.specs import Precision, find_spec


def fidelity(
    model: Model = "tiny-janus",
    precision: Annotated[
        list[str] | None, typer.Option("--precision", help="int8 or nf4, compared with full; both unless told.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Held-out samples per task.")] = 50,
    definition: Annotated[str, typer.Option("--definition", help="figure, training or strict.")] = "figure",
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Compare curves and answers of a model in full precision with the same model quantised."""
    check_parent(json_file)
    quantised = [p.value for p in Precision if p != Precision.FULL]
    asked = [Precision(choice("precision", name, quantised)) for name in precision or quantised]
    counted = Definition(choice("definition", definition, list(Definition)))
    spec = find_spec(model)
    from backend.families import load_model
    from backend.fidelity import check_fidelity

    quiet_transformers()
    report = check_fidelity(
        lambda one: load_model(spec, precision=one),
        [Precision.FULL, *dict.fromkeys(asked)],
        [task for task in Task if task in spec.tasks],
        samples,
        seed,
        counted,
        show_progress,
    )
    print_fidelity(report)
    write_json(json_file, report)


def print_fidelity(report: dict) -> None:
    """By task a line per layer: the curve, and how far each precision is from it at most and on average."""
    for name, share in report["equal_answers"].items():
        weights = report["weights_mib"]
        equal = "" if share is None else f", {share:.0%} of answers equal"
        typer.echo(f"{name}: {weights[name]:,.1f} MiB of weights instead of {weights[report['reference']]:,.1f}{equal}")
    for task in (t.value for t in Task if t.value in report):
        part, others = report[task], list(report["equal_answers"])
        typer.echo(
            f"{task}, {report['definition']} definition; largest (mean) difference over {report['samples']} samples"
        )
        for layer, value in enumerate(part["reference"]):
            row = "  ".join(
                f"{name} {part[name]['largest_difference'][layer]:.4f} ({part[name]['mean_difference'][layer]:.4f})"
                for name in others
            )
            typer.echo(f"layer {layer + 1:>2}  {value:.3f}  {row}")
        typer.echo("next-token loss  " + "  ".join(f"{name} {value:.4f}" for name, value in part["loss"].items()))
