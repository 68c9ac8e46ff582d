"""What happens on the Measure form before anything starts: lists filled, prompts checked, an estimate.

Handlers over the form's fields, each of them quick but the check of uploaded prompts. Starts nothing (`page.py`).
"""

from __future__ import annotations

import logging
from html import escape
from typing import Any

import gradio as gr

from app.components.dataset import DataFiles
from app.explore.adapters import NONE, describe_adapter
from app.finetune.desk import message_html
from app.finetune.own_data import report_html
from app.finetune.request import DATASET
from app.guard.uploads import find_upload
from app.measure.form import MeasureForm, data_choices, prompts_html, read_form
from app.measure.request import PROMPTS, Asked, MeasureRequests
from app.measure.words import describe_estimate
from app.rules import check
from app.words import BROKEN
from backend.interface import UserError
from backend.models.loading_memory import check_loading_fits

logger = logging.getLogger(__name__)

QUICK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
LOADING_SECONDS = 6.0  # of a process and a small model
SAMPLE_SECONDS = {"understanding": 0.11, "generation": 0.25}  # of tiny-janus on one core
TINY = 4.06e6  # parameters of that


class MeasureDesk:
    """The form's handlers. Keeps nothing of any page."""

    def __init__(self, requests: MeasureRequests):
        self.requests = requests

    def connect(self, tab: gr.Tab, form: MeasureForm) -> None:
        """Listen to the form's fields; `tab` is the one that it is on."""
        fields = form.fields
        lists = [fields["adapter"], fields["data"]]
        gr.on([tab.select, fields["model"].change], self.on_lists, fields["model"], lists, **QUICK)
        fields["data"].change(self.on_data, fields["data"], [form.report, fields["skip_bad_rows"]], **QUICK)
        taken = [form.upload, fields["data"], form.report, fields["skip_bad_rows"]]
        uploaded: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        form.upload.upload(
            self.on_upload, form.upload, taken, concurrency_id="datasets", concurrency_limit=1, **uploaded
        )
        changes = [*(field.change for field in fields.values()), tab.select]
        gr.on(changes, self.on_estimate, form.values, form.estimate, trigger_mode="always_last", **QUICK)

    def on_lists(self, model: str) -> list[Any]:
        """What can be chosen by now: adapters of that model, and prompts."""
        adapters = [NONE]
        for run in self.requests.runs.list():
            if run.state == "finished" and run.config is not None and run.config.model == model:
                adapters.append((describe_adapter(run), run.id))
        data = data_choices(self.requests.prompts.list(), self.requests.datasets.list())
        return [gr.update(choices=adapters), gr.update(choices=data)]

    def on_data(self, choice: Any) -> list[Any]:
        """The report on what was uploaded; the checkbox is there only where a data set has bad rows."""
        hidden = gr.update(visible=False, value=False)
        try:
            if str(choice).startswith(PROMPTS):
                return [prompts_html(self.requests.prompts.get(choice.removeprefix(PROMPTS))), hidden]
            if str(choice).startswith(DATASET):
                found = self.requests.datasets.get(choice.removeprefix(DATASET))
                return [report_html(found), gr.update(visible=found.bad > 0, value=False)]
        except UserError as error:
            return [message_html(str(error)), hidden]
        return ["", hidden]

    def on_upload(self, files: DataFiles | None) -> list[Any]:
        """Check what was sent and choose what came of it; a refusal is a sentence under the field."""
        if files is None or not (files.text or (files.rows and files.images)):
            return [gr.skip()] * 4
        try:
            chosen = self._take(files)
        except UserError as error:
            return [DataFiles(message=str(error)), *[gr.skip()] * 3]
        except Exception:
            logger.exception("prompts could not be taken")
            return [DataFiles(message=BROKEN), *[gr.skip()] * 3]
        choices = data_choices(self.requests.prompts.list(), self.requests.datasets.list())
        return [DataFiles(), gr.update(choices=choices, value=chosen), *self.on_data(chosen)]

    def _take(self, files: DataFiles) -> str:
        if files.text:
            name = files.text.orig_name or "prompts.txt"
            return PROMPTS + self.requests.take_prompts(find_upload(files.text.path, "file"), name).id
        name = files.rows.orig_name or "rows.jsonl"
        rows, images = (find_upload(file.path, "file") for file in (files.rows, files.images))
        return DATASET + self.requests.take_dataset(rows, images, name).id

    def on_estimate(self, *values: Any) -> str:
        """How long it will take and what is left out, or why it cannot be."""
        try:
            check(self.requests.rules.measuring)
            settings, _ = read_form(values)
            asked = self.requests.ask(settings)
            check_loading_fits(asked.spec, asked.config.precision)
        except UserError as error:
            return message_html(str(error))
        said = [self.estimate(asked), *asked.notes]
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in said)

    def estimate(self, asked: Asked) -> str:
        """The sentence on how long it will take."""
        config = asked.config
        seconds = self._known_seconds(asked)
        known = seconds is not None
        if seconds is None:
            size = asked.spec.parameters / TINY
            each = {task.value: SAMPLE_SECONDS[task.value] * size for task in config.tasks}
            seconds = sum(config.count(task) * each[task.value] for task in config.tasks)
        return describe_estimate(LOADING_SECONDS + seconds, known)

    def _known_seconds(self, asked: Asked) -> float | None:
        """Going by the newest measurement of the same model and tasks here."""
        config = asked.config
        for run in self.requests.measures.list():
            same = run.config and (run.config.model, run.config.tasks) == (config.model, config.tasks)
            if same and run.config.precision == config.precision:
                seconds = self.requests.measures.run(run.id).look_through().step_seconds
                if seconds is not None:
                    return seconds * config.steps
        return None
