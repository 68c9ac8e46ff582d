"""The form of the Fine-tune tab: its fields, and what they hold when sent.

What a field means and may hold is said by `TrainingConfig` alone; what may be named in one by `request.py`. Data
and targets are fields of their own (`own_data.py`, `targets.py`). Starts nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args, get_origin

import gradio as gr

from aia.config import TrainingConfig
from aia.intensity import Task
from app.components.chips import ExampleChips
from app.components.off import make_off_note
from app.finetune.own_data import DataFields, make_data_fields
from app.finetune.request import label_of
from app.finetune.run_words import describe_lambda
from app.finetune.targets import OWN, TargetFields, make_target_fields
from app.rules import ALL, Rules
from backend.background.runs import LONGEST_NAME
from backend.models.specs import ModelSpec

METHODS = [("LoRA", "lora"), ("QLoRA", "qlora"), ("Full", "full")]
BASE = ("none", "")
WEIGHTS = {"paper, 40 / 40": (40, 40), "released code, 5 / 10": (5, 10)}
MAIN = (
    "model",
    "start_from",
    "data",
    "skip_bad_rows",
    "method",
    "steps",
    "batch_size",
    "targets",
    "aia_weight_generation",
    "aia_weight_understanding",
)
APART = ("images", "format_version", "aia")  # no choice of the page's
ADVANCED = tuple(name for name in TrainingConfig.model_fields if name not in MAIN + APART)
NAMES = MAIN + ADVANCED
SELECT = {"elem_classes": "lens-select"}
_WEIGHTS_JS = f"(chips) => ({json.dumps(WEIGHTS)})[chips.chosen]"


@dataclass(frozen=True)
class TuneForm:
    """The tab's controls. `values` are those of `NAMES`, then the table of stages, the control, the name."""

    fields: dict[str, gr.components.Component]
    data: DataFields
    targets: TargetFields
    control: gr.Checkbox
    name: gr.Textbox
    start: gr.Button
    message: gr.HTML
    estimate: gr.HTML

    @property
    def values(self) -> list[gr.components.Component]:
        return [*(self.fields[name] for name in NAMES), self.targets.table, self.control, self.name]

    @property
    def around(self) -> list[gr.components.Component]:
        """What the chart of the targets depends on beside them."""
        return [*(self.fields[name] for name in ("model", "start_from", "definition")), self.targets.reference]

    @property
    def fit_inputs(self) -> list[gr.components.Component]:
        """What `Desk.fit_to` needs of the form."""
        return [self.targets.choice, self.targets.table, self.targets.stages, *self.around]

    @property
    def fit_outputs(self) -> list[gr.components.Component]:
        """What `Desk.fit_to` fills."""
        targets = self.targets
        fitted = [targets.preview, targets.message, targets.table, targets.choice]
        return [*fitted, *targets.sources, targets.editor]


def read_form(values: tuple[Any, ...]) -> tuple[dict[str, Any], bool, str]:
    """Settings as `Requests` takes them, whether there is to be a control, and a name."""
    *settings, table, control, name = values
    found = dict(zip(NAMES, settings, strict=True))
    return found | {"targets": named_targets(found["targets"], table)}, bool(control), name or ""


def named_targets(choice: Any, table: Any) -> Any:
    """What the choice of targets stands for: the table, once it was edited, whatever the choice still says."""
    edited = isinstance(table, dict) and table.get("edited")
    return {"rows": table.get("rows")} if isinstance(table, dict) and (edited or choice == OWN) else choice


def make_tune_form(specs: tuple[ModelSpec, ...], rules: Rules = ALL) -> TuneForm:
    """Create the controls inside the current Gradio context; where they are off, with the reason above them."""
    make_off_note(rules.tuning)
    fields: dict[str, gr.components.Component] = {}
    fields["model"] = gr.Dropdown(
        [(spec.title, spec.name) for spec in specs], value=specs[0].name, label="Base model", filterable=False, **SELECT
    )
    fields["start_from"] = gr.Dropdown(
        [BASE], value="", label="Adapter to continue from", filterable=False, elem_id="lens-start-from", **SELECT
    )
    data = make_data_fields(rules.bringing_in)
    fields["data"], fields["skip_bad_rows"] = data.choice, data.good_only
    fields["method"] = gr.Radio(METHODS, value="lora", label="Method", elem_classes="lens-segments lens-three")
    with gr.Row(elem_classes="lens-pair"):
        fields["steps"], fields["batch_size"] = make_field("steps", ""), make_field("batch_size", "")
    targets = make_target_fields(specs[0])
    fields["targets"] = targets.choice
    _make_weights(fields)
    control = gr.Checkbox(True, label="Also train a control without AIA", elem_id="lens-control")
    with gr.Accordion("Advanced", open=False, elem_classes="lens-fold", elem_id="lens-advanced"):
        name = gr.Textbox(label="Name", max_length=LONGEST_NAME, info="Shown in the list of runs.")
        fields |= {field: make_field(field) for field in ADVANCED}
    _share_by_tasks(fields, specs)
    estimate = gr.HTML("", apply_default_css=False, js_on_load=None, elem_classes="lens-note", elem_id="lens-estimate")
    start = gr.Button(
        "Start", variant="primary", interactive=not rules.tuning, elem_id="lens-start", elem_classes="lens-go"
    )
    message = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="lens-start-message")
    return TuneForm(fields, data, targets, control, name, start, message, estimate)


def _share_by_tasks(fields: dict[str, gr.components.Component], specs: tuple[ModelSpec, ...]) -> None:
    """Another model sets the shares of steps: none for a task that it cannot do."""
    shares = [fields[f"ratio_{task}"] for task in Task]
    can = json.dumps({spec.name: [int(task in spec.tasks) for task in Task] for spec in specs})
    fields["model"].change(fn=None, js=f"(name) => ({can})[name]", inputs=fields["model"], outputs=shares)


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
