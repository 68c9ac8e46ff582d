"""What happens on the Fine-tune form before anything starts: lists filled, data checked, targets drawn, an estimate.

Handlers over the form's fields, each of them quick but the check of uploaded data. Starts no run (`page.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from aia.intensity import Task
from aia.targets import PRESETS, StageTargets, format_targets
from app.compare.views import read_definition
from app.components.dataset import DataFiles
from app.explore.adapters import describe_adapter
from app.explore.form import whole_number
from app.finetune.form import BASE, TuneForm, named_targets, read_form
from app.finetune.known import Known
from app.finetune.own_data import data_choices, report_html
from app.finetune.request import DATASET, SAVED, Requests
from app.finetune.run_record import estimate_seconds
from app.finetune.run_words import describe_estimate
from app.finetune.targets import DOWNLOAD_JS, KEEP, OWN, OWN_CHOICE, TARGETS, table_of, targets_view
from app.guard.uploads import find_upload
from app.words import BROKEN
from backend.finetuning.memory import Memory, check_training_fits, format_bytes, free_memory
from backend.finetuning.target_files import TASKS, clean_name, fit_task
from backend.interface import UserError, as_sentence
from backend.models.specs import find_spec
from backend.paper import load_paper

logger = logging.getLogger(__name__)

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
QUICK: dict[str, Any] = QUIET | {"queue": False}
# What time and memory depend on.
SIZES = (
    *("model", "start_from", "data", "skip_bad_rows", "method", "steps", "batch_size", "accumulation"),
    *("gradient_checkpointing", "mixed_precision", "lora_rank", "lora_alpha", "ratio_generation"),
    *("ratio_understanding", "probe_every", "probe_samples", "score_samples", "sample_count"),
)


class Desk:
    """The form's handlers. Keeps nothing of any page."""

    def __init__(self, requests: Requests, known: Known):
        self.requests, self.known = requests, known

    def connect(self, tab: gr.Tab, form: TuneForm) -> None:
        """Listen to the form's fields; `tab` is the one that it is on."""
        fields, data, targets = form.fields, form.data, form.targets
        lists = [data.choice, fields["start_from"], targets.choice, *targets.sources]
        gr.on([tab.select, fields["start_from"].focus], self.on_lists, fields["model"], lists, **QUICK)
        data.choice.change(self.on_data, data.choice, [data.report, data.good_only], **QUICK)
        taken = [data.upload, data.choice, data.report, data.good_only]
        data.upload.upload(self.on_upload, data.upload, taken, concurrency_id="datasets", **QUIET)
        adapter = [fields[name] for name in ("method", "lora_rank", "lora_alpha")]
        fields["start_from"].input(self.on_adapter, fields["start_from"], adapter, **QUICK)
        self._connect_targets(tab, form)
        changes = [*(fields[name].change for name in SIZES), form.control.change, tab.select]
        gr.on(changes, self.on_estimate, form.values, form.estimate, trigger_mode="always_last", **QUICK)

    def _connect_targets(self, tab: gr.Tab, form: TuneForm) -> None:
        fields, targets, around = form.fields, form.targets, form.around
        chosen, drawn = [targets.choice, targets.table], [targets.preview, targets.message]
        anew = [tab.select, targets.choice.input, fields["model"].change]
        chosen_anew = [*drawn, targets.table]
        gr.on(anew, self.on_choice, [*chosen, *around], chosen_anew, trigger_mode="always_last", **QUICK)
        others = [fields["start_from"].change, fields["definition"].change, targets.reference.input]
        gr.on(others, self.on_redraw, [*chosen, *around], drawn, trigger_mode="always_last", **QUICK)
        edited = [*drawn, targets.choice]
        targets.table.edit(self.on_edit, [targets.table, *around], edited, trigger_mode="always_last", **QUICK)
        fitting = [*chosen, *targets.sources, targets.stages, *around]
        targets.fit.click(self.on_fit, fitting, [*drawn, targets.table, targets.choice], **QUICK)
        saving = [*chosen, targets.name, fields["model"]]
        targets.save.click(self.on_save, saving, [targets.message, targets.choice, targets.table], **QUICK)
        packed = targets.download.click(self.on_download, saving, [targets.file, targets.message], **QUICK)
        packed.then(fn=None, js=DOWNLOAD_JS, inputs=targets.file)

    # --- lists and data ---

    def on_lists(self, model: str) -> list[Any]:
        """What can be chosen by now: data sets, adapters of that model, targets, and what targets are fitted to."""
        adapters = [BASE]
        for run in self.requests.runs.list():
            if run.state == "finished" and run.config is not None and run.config.model == model:
                adapters.append((describe_adapter(run), run.id))
        sources = [gr.update(choices=[KEEP, *self.known.fit_choices(task)]) for task in TASKS]
        data = gr.update(choices=data_choices(self.requests.datasets.list()))
        return [data, gr.update(choices=adapters), gr.update(choices=self._target_choices()), *sources]

    def _target_choices(self) -> list[tuple[str, str]]:
        return [*TARGETS, *((name, SAVED + stem) for name, stem in self.requests.targets.list()), OWN_CHOICE]

    def on_data(self, choice: str) -> list[Any]:
        """The report of a data set; the checkbox is there only where it has bad rows."""
        if not str(choice).startswith(DATASET):
            return ["", gr.update(visible=False, value=False)]
        try:
            found = self.requests.datasets.get(choice.removeprefix(DATASET))
            return [report_html(found), gr.update(visible=found.bad > 0, value=False)]
        except UserError as error:
            return [message_html(str(error)), gr.update(visible=False, value=False)]

    def on_upload(self, files: DataFiles | None) -> list[Any]:
        """Check both files and choose what came of them; a refusal is a sentence under the field."""
        if files is None or files.rows is None or files.images is None:
            return [gr.skip()] * 4
        try:
            name = files.rows.orig_name or "rows.jsonl"
            rows, images = (find_upload(file.path, "file") for file in (files.rows, files.images))
            found = self.requests.take_dataset(rows, images, name)
        except UserError as error:
            return [DataFiles(message=str(error)), *[gr.skip()] * 3]
        except Exception:
            logger.exception("a data set could not be taken")
            return [DataFiles(message=BROKEN), *[gr.skip()] * 3]
        chosen = gr.update(choices=data_choices(self.requests.datasets.list()), value=DATASET + found.id)
        return [DataFiles(), chosen, *self.on_data(DATASET + found.id)]

    def on_adapter(self, run: str) -> list[Any]:
        """An adapter goes on with its own method, rank and alpha."""
        try:
            config = self.requests.runs.status(run).config if run else None
        except UserError:
            config = None
        return [config.method, config.lora_rank, config.lora_alpha] if config else [gr.skip()] * 3

    # --- targets ---

    def on_choice(self, choice: str, table: Any, *around: str) -> list[Any]:
        """Other targets, another model, or the tab in front again: chart and table anew.

        One's own stages stay where the model has as many, and so does what was said of them.
        """
        model = around[0]
        try:
            layers = find_spec(model, self.requests.specs).layers
            if choice == OWN and isinstance(table, dict) and table.get("layers") == layers:
                own = self._targets(choice, table, model)
                return [self._view(own, *around), gr.skip(), table | {"edited": True}]
            targets = self.requests.find_targets("auto" if choice == OWN else choice, model)
        except UserError as error:
            return [gr.skip(), message_html(str(error)), gr.skip()]
        return [self._view(targets, *around), "", table_of(targets)]

    def on_redraw(self, choice: str, table: Any, *around: str) -> list[Any]:
        """Chart and sentence for what is chosen, or in the table."""
        try:
            return [self._view(self._targets(choice, table, around[0]), *around), ""]
        except UserError as error:
            return [gr.skip(), message_html(str(error))]

    def on_edit(self, table: Any, *around: str) -> list[Any]:
        """The chart follows every edit; a table that is no targets yet is a sentence, and the chart stays."""
        return [*self.on_redraw(OWN, table, *around), OWN]

    def on_fit(
        self, choice: str, table: Any, generation: str, understanding: str, stages: Any, *around: str
    ) -> list[Any]:
        """Fit one task or both; the other keeps its stages, and the sentence says so."""
        try:
            targets = self._targets(choice, table, around[0])
            fitted, told = self.fit(targets, {TASKS[0]: generation, TASKS[1]: understanding}, stages, around[2])
        except UserError as error:
            return [gr.skip(), message_html(str(error)), gr.skip(), gr.skip()]
        return [self._view(fitted, *around), note_html(told), table_of(fitted, edited=True), OWN]

    def fit_to(
        self, source: str, tasks: Sequence[Task], choice: str, table: Any, stages: Any, *around: str
    ) -> list[Any]:
        """Fit the tasks that a thing has to it, as if it had been chosen on the form, and open the editor."""
        chosen = [source if task in tasks else "" for task in TASKS]
        lists = [
            gr.update(choices=[KEEP, *self.known.fit_choices(task)], value=one)
            for task, one in zip(TASKS, chosen, strict=True)
        ]
        return [*self.on_fit(choice, table, *chosen, stages, *around), *lists, gr.update(open=True)]

    def fit(
        self, targets: StageTargets, sources: dict[Task, str | None], stages: Any, definition: str
    ) -> tuple[StageTargets, str]:
        """Targets with the tasks that have a source fitted to it, and what was done. Raises `UserError`."""
        if not any(sources.values()):
            raise UserError("Expected something to fit to, got nothing; choose a capture, a measurement or a run.")
        count, said = whole_number(stages, "number of stages"), []
        for task, source in sources.items():
            if not source:
                said.append(f"{task} keeps its stages")
                continue
            curve = self.known.curve_to_fit(source, task, definition)
            targets = fit_task(targets, task, curve.mean, curve.std, count)
            other = f", stretched from {curve.layers} layers" if curve.layers != targets.layers else ""
            said.append(f"{task} fitted to {curve.name} in {count} stages{other}")
        return targets, as_sentence("; ".join(said))

    def on_save(self, choice: str, table: Any, name: str, model: str) -> list[Any]:
        """Save what is chosen under a name, and choose that."""
        try:
            targets = self._targets(choice, table, model)
            stem = self.requests.targets.save(targets, name)
        except UserError as error:
            return [message_html(str(error)), gr.skip(), gr.skip()]
        saved = gr.update(choices=self._target_choices(), value=SAVED + stem)
        return [note_html(f"Saved as “{clean_name(name)}”."), saved, table_of(targets)]

    def on_download(self, choice: str, table: Any, name: str, model: str) -> list[Any]:
        try:
            targets = self._targets(choice, table, model)
        except UserError as error:
            return [{}, message_html(str(error))]
        named = choice if choice in PRESETS else "targets"
        stem = "".join(c if c.isalnum() else "-" for c in (name or "").strip()) or named
        return [{"name": f"{stem}.json", "text": format_targets(targets)}, ""]

    def _targets(self, choice: str, table: Any, model: str) -> StageTargets:
        return self.requests.find_targets(named_targets(choice, table), model)

    def _view(self, targets: StageTargets, model: str, start: str, definition: str, reference: str) -> Any:
        known = self.known.curves(model, start or "", read_definition(definition).value)
        return targets_view(targets, known.curves, known.source, load_paper().get(reference or ""))

    # --- before the start ---

    def on_estimate(self, *values: Any) -> str:
        """Time and memory, or why it cannot fit; nothing where the form is not ready."""
        try:
            settings, control, _ = read_form(values)
            config = self.requests.config(settings | {"targets": "auto", "skip_bad_rows": True})
        except UserError:
            return ""
        try:
            spec = find_spec(config.model, self.requests.specs)
            self.requests.rules.check_tuning(spec)
            memory = check_training_fits(config, spec)
        except UserError as error:
            return message_html(str(error))
        timings, both = self.known.timings(config), control and config.aia
        told = describe_estimate(estimate_seconds(config, timings, both), timings, both)
        return f"<p>{escape(told)}</p>{memory_html(memory, free_memory())}"


def memory_html(memory: Memory, free: int) -> str:
    """How much memory of how much; opened, where it goes."""
    parts = "".join(
        f"<li>{escape(name)}: {format_bytes(part.bytes)} ({escape(part.reason)})</li>"
        for name, part in memory.parts().items()
    )
    told = f"Memory: about {format_bytes(memory.total)} of {format_bytes(free)} free."
    return f'<details class="lens-memory"><summary>{told}</summary><ul>{parts}</ul></details>'


def message_html(sentence: str) -> str:
    return f'<p class="lens-message" role="alert">{escape(sentence)}</p>'


def note_html(sentence: str) -> str:
    return f'<p class="lens-note" role="status">{escape(sentence)}</p>'
