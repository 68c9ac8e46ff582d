"""The Fine-tune tab: say what to train, watch it, stop it, go on with it.

Components and thin handlers. A run is a process of its own (`backend.runs`), so nothing here waits for one: the page
asks every second or two while any run is active, says what it has seen already, and gets what is new from
`tune_board.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from aia.config import TrainingConfig
from app import run_views as views
from app.components.runcard import RunCard
from app.components.runs import RunList
from app.components.steps import StepsChart
from app.run_record import RunReader, Timings, estimate_seconds, find_timings, rough_timings
from app.run_words import describe_estimate, name_of
from app.tune_board import Board, Watch, read_watch
from app.tune_form import TuneForm, make_tune_form, read_form
from app.words import BROKEN
from backend.interface import UserError
from backend.runs import Runs
from backend.specs import ModelSpec, find_spec

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.5
ID, TAB = "finetune", "Fine-tune"
_TURN_JS = f"(watch) => {{ lens.turnTo('{ID}'); return [watch]; }}"
_POLL_JS = "(watch) => [lens.watching(watch)]"
_START_JS = "(...values) => { lens.chooseRun(''); return values; }"
_LEAVE_JS = "() => { lens.turnTo('explore'); return []; }"


class Finetune:
    """One tab of one app. Holds no user's data."""

    def __init__(self, runs: Runs, specs: tuple[ModelSpec, ...]):
        self.runs, self.specs, self.reader = runs, specs, RunReader(runs)
        self.show = Board(runs, self.reader).show

    # --- components ---

    def build(self, blocks: gr.Blocks, tabs: gr.Tabs, explore: gr.Tab, tab: gr.Tab) -> None:
        """Create the tab's content inside the current Gradio context, which is `tab`."""
        with gr.Row(elem_id="lens-tune", equal_height=False):
            with gr.Column(elem_id="lens-tune-form", scale=0):
                form = make_tune_form(self.specs)
            with gr.Column(elem_id="lens-tune-results"):
                cards = [
                    RunList(elem_id="lens-run-list"),
                    RunCard(elem_id="lens-run-card"),
                    StepsChart("Layers against their targets", 300, elem_id="lens-layers"),
                    StepsChart("Losses", 280, elem_id="lens-losses"),
                ]
        watch = gr.JSON({}, visible="hidden", elem_id="lens-watch")
        timer = gr.Timer(POLL_SECONDS, active=False)
        self._connect(blocks, form, [*cards, watch, timer], (tabs, explore, tab))

    def _connect(self, blocks: gr.Blocks, form: TuneForm, board: list[Any], around: tuple) -> None:
        runs, card, *_, watch, timer = board
        tabs, explore, tab = around
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        timer.tick(self.on_poll, watch, board, js=_POLL_JS, trigger_mode="once", **quiet)
        tab.select(self.on_turn, watch, board, js=_TURN_JS, **quiet)
        explore.select(fn=None, js=_LEAVE_JS)
        tabs.select(self.on_leave, None, timer, **quiet)
        runs.choose(self.on_choose, watch, board, **quiet)
        runs.undo(self.on_undo, watch, board, **quiet)
        card.act(self.on_act, watch, board, **quiet)
        form.start.click(self.on_start, [watch, *form.values], [form.message, *board], js=_START_JS, **quiet)
        shape = [form.fields[name] for name in ("model", "targets", "definition")]
        gr.on([field.change for field in shape], self.on_preview, shape, form.preview, **quiet)
        sizes = ("model", "method", "steps", "batch_size", "probe_every", "probe_samples", "score_samples")
        changes = [*(form.fields[name].change for name in sizes), form.control.change, tab.select, blocks.load]
        gr.on(changes, self.on_estimate, form.values, form.estimate, trigger_mode="always_last", **quiet)
        blocks.load(self.on_load, None, [tabs, form.preview, *board], **quiet)

    # --- handlers ---

    def on_load(self, request: gr.Request) -> list[Any]:
        """Where the address names a run, turn to this tab and show it; else only what the form needs."""
        preview = self.on_preview(self.specs[0].name, "auto", "training")
        run = dict(request.query_params).get("run")
        if run is None:
            return [gr.skip(), preview, *[gr.skip()] * 6]
        return [gr.Tabs(selected=ID), preview, *self.show(Watch(run))]

    def on_poll(self, watch: Any) -> list[Any]:
        """What is new since the page asked last."""
        self.runs.tick()
        return self.show(read_watch(watch))

    def on_turn(self, watch: Any) -> list[Any]:
        """The tab came to the front: everything, as nothing was asked meanwhile."""
        told = read_watch(watch)
        return self.show(replace(told, seen={}))

    def on_leave(self, event: gr.SelectData) -> Any:
        """Another tab came to the front: ask no more."""
        return gr.skip() if event.value == TAB else gr.Timer(active=False)

    def on_choose(self, watch: Any, event: gr.EventData) -> list[Any]:
        return self.show(Watch(_sent(event, "run"), read_watch(watch).seen))

    def on_act(self, watch: Any, event: gr.EventData) -> list[Any]:
        """Cancel, resume or delete a run."""
        told, run, action = replace(read_watch(watch), message=""), _sent(event, "run"), _sent(event, "action")
        if action == "delete":
            return self._change(told, lambda: self._delete(run, told.seen))
        change = {"cancel": self.runs.cancel, "resume": self.runs.resume}.get(action)
        return self._change(told, lambda: change(run)) if change else self.show(told)

    def on_undo(self, watch: Any, event: gr.EventData) -> list[Any]:
        told, run = read_watch(watch), _sent(event, "run")

        def undo() -> Watch:
            self.runs.undelete(run)
            return Watch(run, told.seen)

        return self._change(told, undo)

    def on_start(self, watch: Any, *values: Any) -> list[Any]:
        """Queue what the form says. A refusal is one sentence under the button; the form stays as it is."""
        told = replace(read_watch(watch), message="")
        try:
            config, control, name = read_form(values)
            ids = self.runs.start(config, name, control)
            self.runs.tick()
            return ["", *self.show(Watch(ids[0], told.seen))]
        except UserError as error:
            return [message_html(str(error)), *self.show(told)]
        except Exception:
            logger.exception("a run could not be started")
            return [message_html(BROKEN), *self.show(told)]

    def on_preview(self, model: str, targets: str, definition: str) -> Any:
        """The targets as drawn steps, over the model's own curves where a run has measured them."""
        try:
            spec = find_spec(model, self.specs)
            name = spec.targets if targets == "auto" else targets
            return views.targets_view(name, spec.layers, self._known_curves(model, definition))
        except (UserError, ValueError):
            return gr.skip()

    def on_estimate(self, *values: Any) -> str:
        """How long it would take; nothing where the form is not ready."""
        try:
            config, control, _ = read_form(values)
            timings = self._timings(config)
            both = control and config.aia
            return escape(describe_estimate(estimate_seconds(config, timings, both), timings, both))
        except UserError:
            return ""

    # --- changing runs ---

    def _change(self, told: Watch, change: Callable[[], Watch | None]) -> list[Any]:
        """Do it and show what came of it; a refusal is a sentence above the list."""
        try:
            after = change() or told
            self.runs.tick()
            return self.show(after)
        except UserError as error:
            return self.show(told, str(error))

    def _delete(self, run: str, seen: dict[str, str]) -> Watch:
        status = self.runs.status(run)
        self.runs.delete(run)
        return Watch("", seen, run, name_of(status))

    # --- what earlier runs know ---

    def _known_curves(self, model: str, definition: str) -> dict[str, Any]:
        """The base model's curves as the newest run of it measured them before its first step."""
        for run in self.runs.list():
            if run.config is not None and run.config.model == model:
                measured = self.reader.record(run.id).measured_at(0)
                if measured:
                    return views.curves_at(measured, definition)
        return {}

    def _timings(self, config: TrainingConfig) -> Timings:
        """Seconds of the newest run with this model and method, else a rule of thumb."""
        rough = rough_timings(find_spec(config.model, self.specs).parameters)
        for run in self.runs.list():
            if run.config and (run.config.model, run.config.method) == (config.model, config.method):
                record = self.reader.record(run.id)
                if record.steps:
                    return find_timings(record, run.config, rough)
        return rough


def message_html(sentence: str) -> str:
    return f'<p class="lens-message" role="alert">{escape(sentence)}</p>'


def _sent(event: gr.EventData, name: str) -> str:
    """A text that a component sent along with its event."""
    sent = event._data if isinstance(event._data, dict) else {}
    return str(sent.get(name) or "")[:200]
