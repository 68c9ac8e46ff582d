"""The form of the Measure tab: its fields, what they hold when sent, and the report on prompts that were uploaded.

What may be named in a field is said by `request.py`. Starts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from app.components.dataset import DataUpload
from app.components.off import make_off_note
from app.explore.adapters import NONE
from app.explore.form import own_sampling_js
from app.finetune.own_data import ROWS_SHOWN
from app.finetune.request import DATASET
from app.measure.request import BOTH, DEFAULTS, PROMPTS
from app.rules import ALL, Rules
from backend.background.runs import LONGEST_NAME
from backend.finetuning.datasets import Dataset
from backend.finetuning.image_zips import MAX_ARCHIVE_BYTES
from backend.measuring.config import MOST_SAMPLES
from backend.measuring.prompt_files import KeptPrompts
from backend.models.specs import ModelSpec, Precision

NAMES = ("model", "adapter", "task", "samples", "data", "skip_bad_rows", "seed", "guidance", "temperature", "precision")
TASKS = [("both", BOTH), ("drawing", "generation"), ("answering", "understanding")]
WORLD = ("built-in prompts of the shapes world", "world")
PRECISIONS = [("full", Precision.FULL.value), ("int8", Precision.INT8.value), ("NF4", Precision.NF4.value)]
NOTE = (
    "A text file, one prompt a line, is drawn. Questions need images: a JSON or JSONL file of conversations as in the "
    "authors’ format, and a ZIP of its images. Every line, row and image is checked before anything starts."
)
SELECT: dict[str, Any] = {"elem_classes": "lens-select", "filterable": False}
PLAIN: dict[str, Any] = {"apply_default_css": False, "js_on_load": None}


@dataclass(frozen=True)
class MeasureForm:
    """The tab's controls. `values` are those of `NAMES`, then the name."""

    fields: dict[str, gr.components.Component]
    report: gr.HTML
    upload: DataUpload
    name: gr.Textbox
    estimate: gr.HTML
    start: gr.Button
    message: gr.HTML

    @property
    def values(self) -> list[gr.components.Component]:
        return [*(self.fields[name] for name in NAMES), self.name]


def read_form(values: Sequence[Any]) -> tuple[dict[str, Any], str]:
    """Settings as `MeasureRequests` takes them, and a name."""
    *settings, name = values
    return dict(zip(NAMES, settings, strict=True)), name or ""


def make_measure_form(specs: tuple[ModelSpec, ...], rules: Rules = ALL) -> MeasureForm:
    """Create the controls inside the current Gradio context; where they are off, with the reason above them."""
    make_off_note(rules.measuring)
    fields: dict[str, gr.components.Component] = {}
    models = [(spec.title, spec.name) for spec in specs]
    fields["model"] = gr.Dropdown(models, value=specs[0].name, label="Model", elem_id="lens-measure-model", **SELECT)
    fields["adapter"] = gr.Dropdown([NONE], value=NONE[1], label="Adapter", elem_id="lens-measure-adapter", **SELECT)
    fields["task"] = gr.Radio(
        TASKS, value=BOTH, label="Task", elem_classes="lens-segments lens-three", elem_id="lens-measure-task"
    )
    fields["samples"] = gr.Number(
        DEFAULTS["samples"],
        precision=0,
        label=f"Samples of each task, 2 to {MOST_SAMPLES:,}; 100 in the paper",
        elem_id="lens-measure-samples",
    )
    fields["data"] = gr.Dropdown([WORLD], value="world", label="Prompts", elem_id="lens-measure-data", **SELECT)
    report = gr.HTML("", elem_id="lens-measure-report", elem_classes="lens-data-report", **PLAIN)
    fields["skip_bad_rows"] = gr.Checkbox(False, label="Measure the good rows only", visible=False)
    with gr.Accordion("Use your own prompts", open=False, elem_classes="lens-fold", elem_id="lens-own-prompts"):
        make_off_note(rules.bringing_in)
        off = bool(rules.bringing_in)
        upload = DataUpload(MAX_ARCHIVE_BYTES // 2**20, texts=True, visible=not off, elem_id="lens-measure-upload")
        gr.HTML(NOTE, elem_classes="lens-note", **PLAIN)
    with gr.Accordion("Name, seed, sampling, weights", open=False, elem_classes="lens-fold"):
        name = _make_more_fields(fields)
    drawn = [fields["temperature"], fields["guidance"]]
    fields["model"].input(fn=None, js=own_sampling_js(specs), inputs=fields["model"], outputs=drawn)
    estimate = gr.HTML("", elem_classes="lens-note", elem_id="lens-measure-estimate", **PLAIN)
    start = gr.Button(
        "Start",
        variant="primary",
        interactive=not rules.measuring,
        elem_id="lens-measure-start",
        elem_classes="lens-go",
    )
    message = gr.HTML("", elem_id="lens-measure-message", **PLAIN)
    return MeasureForm(fields, report, upload, name, estimate, start, message)


def _make_more_fields(fields: dict[str, gr.components.Component]) -> gr.Textbox:
    name = gr.Textbox(label="Name in the library", max_length=LONGEST_NAME, elem_id="lens-measure-name")
    fields["seed"] = gr.Number(DEFAULTS["seed"], precision=0, label="Seed", elem_id="lens-measure-seed")
    with gr.Row(elem_classes="lens-pair"):
        for setting, label in (("guidance", "Guidance of drawings"), ("temperature", "Temperature of drawings")):
            fields[setting] = gr.Number(DEFAULTS[setting], label=label, elem_id=f"lens-measure-{setting}")
    fields["precision"] = gr.Radio(
        PRECISIONS, value=DEFAULTS["precision"], label="Weights", elem_classes="lens-segments lens-three"
    )
    return name


def data_choices(texts: Sequence[KeptPrompts], datasets: Sequence[Dataset]) -> list[tuple[str, str]]:
    """The world, then what was uploaded, newest first."""
    own = [(one.created, f"{one.name}, {one.count:,} prompts", PROMPTS + one.id) for one in texts]
    own += [(one.created, f"{one.name}, {one.good:,} rows", DATASET + one.id) for one in datasets]
    return [WORLD, *((label, value) for _, label, value in sorted(own, key=lambda one: -one[0]))]


def prompts_html(found: KeptPrompts) -> str:
    """How many prompts there are, and the bad lines, which are left out."""
    left = "1 bad line is left out" if found.bad == 1 else f"{found.bad:,} bad lines are left out"
    told = f"{found.count:,} prompt{'s' * (found.count != 1)} for drawings" + (f"; {left}." if found.bad else ".")
    summary = f'<p class="lens-rows-told">{escape(told)}</p>'
    if not found.bad:
        return summary
    rows = "".join(
        f"<tr><td>{bad.line:,}</td><td>{escape(bad.problem)}</td></tr>" for bad in found.bad_lines[:ROWS_SHOWN]
    )
    return (
        f'{summary}<div class="lens-bad-rows" tabindex="0" role="region" aria-label="Bad lines"><table><thead><tr>'
        f"<th>line</th><th>what is wrong</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
