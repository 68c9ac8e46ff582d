"""The form of the Fine-tune tab: its fields, and the config that they stand for.

What a field means and may hold is said by `TrainingConfig` alone. Knows models' specs and presets; starts nothing.
Data and targets are chosen from what the program brings: names of files on the server are not taken from a page.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args, get_origin

import gradio as gr

from aia.config import TrainingConfig, make_config
from aia.targets import PRESETS
from app.components.chips import ExampleChips
from app.components.steps import StepsChart
from app.form import number, whole_number
from app.run_views import targets_view
from app.run_words import describe_lambda
from backend.interface import UserError
from backend.runs import LONGEST_NAME
from backend.specs import ModelSpec

METHODS = [("LoRA", "lora"), ("QLoRA", "qlora"), ("Full", "full")]
TARGETS = [
    ("those that suit the model", "auto"),
    ("fitted to tiny experts", "tiny-experts"),
    ("paper, Janus-Pro", "paper-janus-pro"),
    ("paper, Emu3", "paper-emu3"),
    ("released code", "released-code"),
]
WEIGHTS = {"paper, 40 / 40": (40, 40), "released code, 5 / 10": (5, 10)}
MAIN = ("model", "method", "steps", "batch_size", "targets", "aia_weight_generation", "aia_weight_understanding")
FILES = ("data", "images", "skip_bad_rows", "format_version", "aia")  # no choice of the page's
ADVANCED = tuple(name for name in TrainingConfig.model_fields if name not in MAIN + FILES)
NAMES = MAIN + ADVANCED
SELECT = {"elem_classes": "lens-select"}
_WEIGHTS_JS = f"(chips) => ({json.dumps(WEIGHTS)})[chips.chosen]"


@dataclass(frozen=True)
class TuneForm:
    """The tab's controls. `values` are those of `NAMES`, then the control, then the name."""

    fields: dict[str, gr.components.Component]
    control: gr.Checkbox
    name: gr.Textbox
    start: gr.Button
    message: gr.HTML
    estimate: gr.HTML
    preview: StepsChart

    @property
    def values(self) -> list[gr.components.Component]:
        return [*(self.fields[name] for name in NAMES), self.control, self.name]


def read_form(values: tuple[Any, ...]) -> tuple[TrainingConfig, bool, str]:
    """Config, whether there is to be a control, and a name. Raises `UserError` with one sentence."""
    *settings, control, name = values
    return build_config(dict(zip(NAMES, settings, strict=True))), bool(control), name or ""


def build_config(settings: dict[str, Any]) -> TrainingConfig:
    """A config from what a page or a program sends. Raises `UserError`, also for files on the server."""
    if settings.get("data", "world") != "world" or settings.get("images") is not None:
        raise UserError("Expected “world” as data, got something else; train on files from the command line.")
    if settings.get("targets", "auto") not in ("auto", *PRESETS):
        known = ", ".join(["auto", *PRESETS])
        raise UserError(f"Expected targets from {known}, got something else; use files from the command line.")
    read = {name: read_value(name, value) for name, value in settings.items()}
    try:
        return make_config(**read)
    except (ValueError, TypeError) as error:
        raise UserError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error


def read_value(name: str, value: Any) -> Any:
    """A field's value; a number must be one, since a field that was emptied sends nothing."""
    kind = TrainingConfig.model_fields[name].annotation if name in TrainingConfig.model_fields else None
    if kind is int:
        return whole_number(value, label_of(name).lower())
    return number(value, label_of(name).lower()) if kind is float else value


def make_tune_form(specs: tuple[ModelSpec, ...]) -> TuneForm:
    """Create the controls inside the current Gradio context."""
    fields: dict[str, gr.components.Component] = {}
    fields["model"] = gr.Dropdown(
        [(spec.title, spec.name) for spec in specs], value=specs[0].name, label="Base model", filterable=False, **SELECT
    )
    gr.HTML(
        "trains on the shapes world, made as it goes",
        apply_default_css=False,
        js_on_load=None,
        elem_classes="lens-note",
    )
    fields["method"] = gr.Radio(METHODS, value="lora", label="Method", elem_classes="lens-segments lens-three")
    with gr.Row(elem_classes="lens-pair"):
        fields["steps"], fields["batch_size"] = make_field("steps", ""), make_field("batch_size", "")
    fields["targets"] = gr.Dropdown(TARGETS, value="auto", label="Targets", filterable=False, **SELECT)
    preview = StepsChart(
        "Targets", 190, elem_id="lens-targets", value=targets_view(specs[0].targets, specs[0].layers, {})
    )
    _make_weights(fields)
    control = gr.Checkbox(True, label="Also train a control without AIA", elem_id="lens-control")
    with gr.Accordion("Advanced", open=False, elem_classes="lens-fold", elem_id="lens-advanced"):
        name = gr.Textbox(label="Name", max_length=LONGEST_NAME, info="Shown in the list of runs.")
        fields |= {field: make_field(field) for field in ADVANCED}
    estimate = gr.HTML("", apply_default_css=False, js_on_load=None, elem_classes="lens-note", elem_id="lens-estimate")
    start = gr.Button("Start", variant="primary", elem_id="lens-start", elem_classes="lens-go")
    message = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="lens-start-message")
    return TuneForm(fields, control, name, start, message, estimate, preview)


def _make_weights(fields: dict[str, gr.components.Component]) -> None:
    with gr.Row(elem_classes="lens-pair"):
        for name, label in (("aia_weight_generation", "λ generation"), ("aia_weight_understanding", "λ understanding")):
            fields[name] = make_field(name, "", label)
    chips = ExampleChips(list(WEIGHTS), "Weights", elem_id="lens-weights")
    both = [fields["aia_weight_generation"], fields["aia_weight_understanding"]]
    chips.select(fn=None, js=_WEIGHTS_JS, inputs=chips, outputs=both)
    gr.HTML(describe_lambda(), apply_default_css=False, js_on_load=None, elem_classes="lens-note")


def make_field(name: str, info: str | None = None, label: str = "") -> gr.components.Component:
    """The control that fits a setting, with its own description as help."""
    field = TrainingConfig.model_fields[name]
    told: dict[str, Any] = {"label": label or label_of(name), "elem_id": f"lens-set-{name.replace('_', '-')}"}
    told["info"] = (field.description if info is None else info) or None
    kind, value = field.annotation, field.default
    if get_origin(kind) is not None:  # Literal
        return gr.Dropdown(list(get_args(kind)), value=value, filterable=False, **SELECT, **told)
    if issubclass(kind, Enum):
        return gr.Dropdown([choice.value for choice in kind], value=value.value, filterable=False, **SELECT, **told)
    if kind is bool:
        return gr.Checkbox(value, **told)
    return gr.Number(value, precision=0 if kind is int else None, **told)


def label_of(name: str) -> str:
    return name.replace("_", " ").capitalize().replace("Lora", "LoRA").replace("Adam ", "Adam’s ")
