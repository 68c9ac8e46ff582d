"""The targets on the Fine-tune form: a choice, their chart, and folded under it what edits, fits and saves them.

Makes the fields and the chart's view; the handlers are in `desk.py`. Knows presets; reads no file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from aia.intensity import Task
from aia.targets import StageTargets, format_targets, load_targets
from app.components.stages import StageTable
from app.components.steps import StepsChart, StepsView
from app.figures import ACCENT, rounded
from app.finetune.run_figures import Curve, make_targets_figure
from backend.finetuning.target_files import LONGEST_NAME, make_rows
from backend.models.specs import ModelSpec
from backend.paper import PaperModel, load_paper

OWN = "own"
TARGETS = [
    ("those that suit the model", "auto"),
    ("fitted to tiny experts", "tiny-experts"),
    ("paper, Janus-Pro", "paper-janus-pro"),
    ("paper, Emu3", "paper-emu3"),
    ("released code", "released-code"),
]
OWN_CHOICE = ("own stages, as below", OWN)
KEEP = ("keep its stages", "")
NO_REFERENCE = ("none", "")
SELECT = {"elem_classes": "lens-select", "filterable": False}
DOWNLOAD_JS = """(file) => {
  if (file && file.text) lens.download(file.name, new Blob([file.text], { type: "application/json" }));
  return [];
}"""


@dataclass(frozen=True)
class TargetFields:
    """All controls that have to do with targets. `sources` are those of generation and understanding."""

    choice: gr.Dropdown
    preview: StepsChart
    table: StageTable
    message: gr.HTML
    reference: gr.Dropdown
    sources: tuple[gr.Dropdown, gr.Dropdown]
    stages: gr.Number
    fit: gr.Button
    name: gr.Textbox
    save: gr.Button
    download: gr.Button
    file: gr.JSON
    editor: gr.Accordion  # which all but the choice and its chart are folded into


def make_target_fields(spec: ModelSpec) -> TargetFields:
    """Create the controls inside the current Gradio context, for the model that is chosen first."""
    targets = load_targets(spec.targets, spec.layers)
    choice = gr.Dropdown([*TARGETS, OWN_CHOICE], value="auto", label="Targets", elem_id="lens-target-choice", **SELECT)
    preview = StepsChart("Targets", 190, elem_id="lens-targets", value=targets_view(targets, {}))
    plain: dict[str, Any] = {"apply_default_css": False, "js_on_load": None}
    with gr.Accordion(
        "Edit, fit or save targets", open=False, elem_classes="lens-fold", elem_id="lens-editor"
    ) as editor:
        reference = gr.Dropdown(
            reference_choices(), value="", label="Reference from the paper", elem_id="lens-reference", **SELECT
        )
        table = StageTable(value=table_of(targets), elem_id="lens-stages")
        message = gr.HTML("", elem_id="lens-stages-message", **plain)
        sources, stages, fit = _make_fit_fields()
        with gr.Row(elem_classes="lens-line"):
            name = gr.Textbox(label="Save as", max_length=LONGEST_NAME, elem_id="lens-targets-name")
            save = gr.Button("Save", size="sm", elem_id="lens-targets-save")
            download = gr.Button("Download", size="sm", elem_id="lens-targets-download")
    file = gr.JSON({}, visible="hidden", elem_id="lens-targets-file")
    return TargetFields(
        choice, preview, table, message, reference, sources, stages, fit, name, save, download, file, editor
    )


def _make_fit_fields() -> tuple[tuple[gr.Dropdown, gr.Dropdown], gr.Number, gr.Button]:
    sources = tuple(
        gr.Dropdown([KEEP], value="", label=f"Fit {task} to", elem_id=f"lens-fit-{task}", **SELECT)
        for task in (Task.GENERATION, Task.UNDERSTANDING)
    )
    with gr.Row(elem_classes="lens-line"):
        stages = gr.Number(4, precision=0, minimum=1, label="Number of stages", elem_id="lens-fit-stages")
        fit = gr.Button("Fit", size="sm", elem_id="lens-fit")
    return sources, stages, fit


def table_of(targets: StageTargets, edited: bool = False) -> dict[str, Any]:
    """Targets as the table's value."""
    rows = [list(row) for row in make_rows(targets)]
    return {"layers": targets.layers, "rows": rows, "edited": edited}


def reference_choices() -> list[tuple[str, str]]:
    return [NO_REFERENCE, *((model.name, slug) for slug, model in load_paper().items())]


# --- the chart ---


def targets_view(
    targets: StageTargets, curves: dict[Task, Curve], known_from: str = "", reference: PaperModel | None = None
) -> StepsView:
    """Targets over the model's own curves, where `known_from` says who measured them, and a model of the paper."""
    figure = make_targets_figure(targets, curves)
    sentence = "Dotted: targets in their ±δ band, by layer; generation blue, understanding red."
    if curves:
        sentence += f" Grey: the model now, from {known_from}."
    if reference is not None:
        figure["data"] += reference_traces(reference, targets.layers)
        sentence += f" Dashed: {reference.name}, by depth."
    digest = hashlib.sha256(format_targets(targets).encode()).hexdigest()[:12]
    key = f"{targets.name}:{targets.layers}:{digest}:{reference.name if reference else ''}"
    return StepsView(key, "", "", figure, sentence)


def reference_traces(model: PaperModel, layers: int) -> list[dict[str, Any]]:
    """The curves of a model of the paper, laid over another number of layers by normalised depth."""
    return [
        {
            "type": "scatter",
            "name": f"{task}, {model.name}",
            "x": rounded(depth_in_layers(len(curve), layers)),
            "y": rounded(np.asarray(curve)),
            "mode": "lines",
            "line": {"color": ACCENT[task], "width": 1.3, "dash": "6px,2px"},
            "hoverinfo": "skip",
        }
        for task, curve in model.curves.items()
    ]


def depth_in_layers(native: int, layers: int) -> np.ndarray:
    """Where layers of a model of `native` layers stand on an axis of 1…`layers`: float [native]."""
    return (np.arange(native) + 0.5) / native * layers + 0.5
