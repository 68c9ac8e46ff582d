"""The Fine-tune tab: start what the form says, watch it, stop it, go on with it.

Components and thin handlers. A run is a process of its own (`backend.background.runs`), so nothing here waits for one:
the page asks every second or two while any run is active, says what it has seen already, and gets what is new from
`board.py`. What the form does before a start is in `desk.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from app.arrival import Arrival
from app.components.runcard import RunCard
from app.components.runs import RunList
from app.components.sheet import SampleSheet
from app.components.steps import StepsChart
from app.finetune.board import Board, Watch, read_watch
from app.finetune.desk import Desk, message_html
from app.finetune.form import TuneForm, make_tune_form, read_form
from app.finetune.known import Known
from app.finetune.request import Requests
from app.finetune.run_record import RunReader
from app.finetune.run_samples import SampleCells
from app.words import BROKEN
from backend.background.runs import LONGEST_NAME
from backend.comparison import Comparables
from backend.interface import UserError

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.5
ID, TAB = "finetune", "Fine-tune"
_TURN_JS = f"(watch) => {{ lens.turnTo('{ID}'); return [watch]; }}"
_POLL_JS = f"(watch) => [lens.watching('{ID}', watch)]"
_START_JS = f"(...values) => {{ lens.chooseRun('{ID}', ''); return values; }}"
_LEAVE_JS = "() => { lens.turnTo('explore'); return []; }"


class Finetune:
    """One tab of one app. Holds no user's data."""

    def __init__(self, requests: Requests, things: Comparables | None = None):
        """`things` are what targets can be fitted to, besides runs what curves of a model are known from."""
        self.requests, self.runs, self.reader = requests, requests.runs, RunReader(requests.runs)
        self.desk = Desk(requests, Known(requests.runs, self.reader, requests.specs, things))
        self.show = Board(self.runs, self.reader).show

    # --- components ---

    def build(self, arrival: Arrival, tabs: gr.Tabs, explore: gr.Tab, tab: gr.Tab) -> None:
        """Create the tab's content inside the current Gradio context, which is `tab`."""
        with gr.Row(elem_id="lens-tune", equal_height=False):
            with gr.Column(elem_id="lens-tune-form", scale=0):
                form = self.form = make_tune_form(self.requests.specs, self.requests.rules)
            with gr.Column(elem_id="lens-tune-results"):
                cards = [
                    RunList(ID, "Runs", elem_id="lens-run-list"),
                    RunCard(LONGEST_NAME, ID, "run", "run", elem_id="lens-run-card"),
                    StepsChart("Layers against their targets", 300, elem_id="lens-layers"),
                    SampleSheet(SampleCells(self.runs, self.reader).fetch, elem_id="lens-sheet"),
                    StepsChart("Losses", 280, elem_id="lens-losses"),
                ]
        watch = gr.JSON({}, visible="hidden", elem_id="lens-watch")
        timer = gr.Timer(POLL_SECONDS, active=False)
        self._connect(arrival, form, [*cards, watch, timer], (tabs, explore, tab))

    def _connect(self, arrival: Arrival, form: TuneForm, board: list[Any], around: tuple) -> None:
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
        self.desk.connect(tab, form)
        arrival.add(self.on_load, [tabs, *board])

    # --- handlers ---

    def on_load(self, request: gr.Request) -> list[Any]:
        """Where the address names a run, turn to this tab and show it."""
        run = dict(request.query_params).get("run")
        if run is None:
            return [gr.skip(), *[gr.skip()] * 7]
        return [gr.Tabs(selected=ID), *self.show(Watch(run))]

    def on_poll(self, watch: Any) -> list[Any]:
        """What is new since the page asked last."""
        self.runs.tick()
        return self.show(read_watch(watch))

    def on_turn(self, watch: Any) -> list[Any]:
        """The tab came to the front: everything, as nothing was asked meanwhile."""
        told = read_watch(watch)
        return self.show(replace(told, seen={}))

    def on_leave(self, event: gr.EventData) -> Any:
        """Another tab came to the front: ask no more."""
        return gr.skip() if sent_text(event, "value") == TAB else gr.Timer(active=False)

    def on_choose(self, watch: Any, event: gr.EventData) -> list[Any]:
        return self.show(Watch(sent_text(event, "run"), read_watch(watch).seen))

    def on_act(self, watch: Any, event: gr.EventData) -> list[Any]:
        """Cancel, resume, rename or delete a run."""
        told, run, action = replace(read_watch(watch), message=""), sent_text(event, "run"), sent_text(event, "action")
        if action == "delete":
            return self._change(told, lambda: self._delete(run, told.seen))
        if action == "rename":
            return self._change(told, lambda: self.runs.rename(run, sent_text(event, "name")))
        change = {"cancel": self.runs.cancel, "resume": self.runs.resume}.get(action)
        return self._change(told, lambda: change(run)) if change else self.show(told)

    def on_undo(self, watch: Any, event: gr.EventData) -> list[Any]:
        told, run = read_watch(watch), sent_text(event, "run")

        def undo() -> Watch:
            self.runs.undelete(run)
            return Watch(run, told.seen)

        return self._change(told, undo)

    def on_start(self, watch: Any, *values: Any) -> list[Any]:
        """Queue what the form says. A refusal is one sentence under the button; the form stays as it is."""
        told = replace(read_watch(watch), message="")
        try:
            settings, control, name = read_form(values)
            ids = self.requests.start(settings, name, control)
            self.runs.tick()
            return ["", *self.show(Watch(ids[0], told.seen))]
        except UserError as error:
            return [message_html(str(error)), *self.show(told)]
        except Exception:
            logger.exception("a run could not be started")
            return [message_html(BROKEN), *self.show(told)]

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
        return Watch("", seen, run, status.title)


def sent_text(event: gr.EventData, name: str) -> str:
    """A text that a component sent along with its event."""
    sent = event._data if isinstance(event._data, dict) else {}
    return str(sent.get(name) or "")[:200]
