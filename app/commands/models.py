"""The command line's verbs on models themselves: which there are, and how much quantisation changes their attention.

Thin over the registry and `backend.fidelity`; knows no page.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from aia.intensity import Definition, Task
from app.commands.console import (
    Json,
    Model,
    Seed,
    check_parent,
    choice,
    find_model,
    follow_to_end,
    quiet_transformers,
    show_progress,
    write_json,
)
from backend.interface import UserError
from backend.models.added_models import AddedModels
from backend.models.catalogue import CURVES_ONLY
from backend.models.import_report import DoesNotFit, ImportReport
from backend.models.specs import SPECS, ModelSpec, Precision

MOST_PRINTED = 8  # names of a kind


def models(
    add: Annotated[str | None, typer.Option("--add", help="A folder of weights, or a hub id to fetch.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the added model is to be called.")] = None,
    remove: Annotated[str | None, typer.Option("--remove", help="An added model to forget; its files stay.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--import", help="Weights in the original Janus naming: .pt, .bin, .safetensors.")
    ] = None,
    as_name: Annotated[str | None, typer.Option("--as", help="What the imported model is to be called.")] = None,
    base: Annotated[
        str, typer.Option("--base", help="What imported weights were trained from: a model, a folder or a hub id.")
    ] = "janus-pro-7b",
    json_file: Json = None,
) -> None:
    """List the models, add one of your own of a known architecture, or import weights in the original Janus naming."""
    check_parent(json_file)
    if name is not None and add is None:
        raise UserError("Expected --add together with --name, got --name alone; say what to add.")
    if (weights is None) != (as_name is None):
        raise UserError("Expected --import together with --as, got one of them; add the other.")
    if remove is not None:
        AddedModels().remove(remove)
    if add is not None:
        AddedModels().add(describe_added(add, name), SPECS)
    imported = {} if weights is None else {"import": import_model(weights, as_name, base, json_file)}
    listed = [spec for spec in SPECS if spec.name not in {s.name for s in AddedModels().specs()} | {remove}]
    rows = [describe_spec(spec) for spec in (*listed, *AddedModels().specs())]
    for row in rows:
        tasks = " + ".join(row["tasks"])
        size = f"{row['parameters'] / 1e6:,.1f} M parameters"
        typer.echo(f"{row['name']:26}{tasks:28}{row['layers']:>3} layers  {size:>24}  {row['source']}".rstrip())
    for other in CURVES_ONLY:
        typer.echo(f"{other.name:26}reference curve only: {other.why}")
    write_json(json_file, {"models": rows, "curves_only": [asdict(other) for other in CURVES_ONLY]} | imported)


def import_model(weights: Path, name: str, base: str, json_file: Path | None) -> dict:
    """Convert weights onto a base and add the result as a model → the report, printed even where it refuses."""
    from backend.models.imported_models import import_as

    quiet_transformers()
    try:
        report = import_as(weights, name, base, SPECS, follow_to_end, show_progress)
    except DoesNotFit as refused:
        print_report(refused.report)
        write_json(json_file, {"import": refused.report.as_dict()})
        raise
    print_report(report)
    return report.as_dict()


def print_report(report: ImportReport) -> None:
    """How many weights found their place, and the first of those that did not, by kind."""
    typer.echo(f"{len(report.placed):,} weights placed, {len(report.left_out):,} known and not needed")
    for kind, names in (
        ("missing", report.missing),
        ("unknown", report.unexpected),
        ("of another shape", report.wrong_shape),
    ):
        for name in names[:MOST_PRINTED]:
            typer.echo(f"  {kind}: {name}")
        if len(names) > MOST_PRINTED:
            typer.echo(f"  {kind}: and {len(names) - MOST_PRINTED:,} more; --json FILE has them all")


def describe_spec(spec: ModelSpec) -> dict:
    """What the list says of a model; the folder of one in this repository says nothing to anybody."""
    return {
        "name": spec.name,
        "tasks": sorted(task.value for task in spec.tasks),
        "layers": spec.layers,
        "parameters": spec.parameters,
        "memory_mib": spec.memory_mib,
        "licence": spec.licence,
        "decoupling": spec.decoupling,
        "source": "embedded" if spec.embedded else spec.source,
        "checked": spec.checked,
    }


def describe_added(source: str, name: str | None) -> ModelSpec:
    """The description of a folder's model, or of a hub repository's, which is fetched for it. Raises `UserError`."""
    from backend.models.downloads import HUB_ID, bring_here
    from backend.models.local_models import spec_of_folder

    folder, revision = Path(source).expanduser(), ""
    if not folder.is_dir() and HUB_ID.fullmatch(source):
        blank = replace(SPECS[0], title=source, source=source, revision="")
        here = follow_to_end(bring_here(blank))
        folder, revision = Path(here.source), here.revision
    spec = spec_of_folder(folder)
    if revision:
        title = source.split("/")[1]
        spec = replace(spec, source=source, revision=revision, title=title, name=title.lower())
    return spec if name is None else replace(spec, name=name, title=name)


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
    spec = find_model(model)
    from backend.families import load_model
    from backend.fidelity import check_fidelity
    from backend.models.downloads import bring_here

    quiet_transformers()
    here = follow_to_end(bring_here(spec))
    report = check_fidelity(
        lambda one: load_model(here, precision=one),
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
