"""The Measure tab: start what the form says, watch it, and see mean curves and whether the two tasks conflict.

Components and thin handlers. A measurement is a process of its own in one queue with fine-tunes
(`backend.measuring.runs`), so nothing here waits for one: the page asks every second or two while any is active, as on
the Fine-tune tab. What the cards show is made in `board.py`, what the form does before a start in `desk.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from aia.intensity import Definition
from app.arrival import Arrival
from app.components.partners import Partners
from app.components.plot import PlotCard
from app.components.runcard import RunCard
from app.components.runs import RunList
from app.components.taskheads import TaskHeads
from app.finetune.board import Watch, read_watch
from app.finetune.desk import message_html
from app.finetune.page import ID as FINETUNE_ID
from app.finetune.page import Finetune, sent_text
from app.measure.board import Board, partner_choices
from app.measure.desk import QUICK, MeasureDesk
from app.measure.form import MeasureForm, make_measure_form, read_form
from app.measure.groups import ALL, KIND, LENGTH
from app.measure.request import MeasureRequests
from app.measure.shelf import Shelf
from app.measure.views import Shown, read_shown
from app.words import BROKEN
from backend.background.runs import LONGEST_NAME
from backend.comparison import MOST_THINGS
from backend.interface import UserError
from backend.kept.store import CaptureStore

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.5
MEASURE_ID, MEASURE_TAB = "measure", "Measure"
BOARD = 9  # values that the board gives
SPLITS = [("all samples", ALL), ("by kind", KIND), ("by length", LENGTH)]
_TURN_JS = f"(watch, ...rest) => {{ lens.turnTo('{MEASURE_ID}'); return [watch, ...rest]; }}"
_POLL_JS = f"(watch, ...rest) => [lens.watching('{MEASURE_ID}', watch), ...rest]"
_START_JS = f"(...values) => {{ lens.chooseRun('{MEASURE_ID}', ''); return values; }}"


class Measure:
    """One tab of one app. Holds no user's data."""

    def __init__(self, requests: MeasureRequests, shelf: Shelf, store: CaptureStore):
        self.requests, self.measures, self.shelf = requests, requests.measures, shelf
        self.desk, self.show = MeasureDesk(requests), Board(shelf, store).show

    # --- components ---

    def build(self, arrival: Arrival, tabs: gr.Tabs, tab: gr.Tab, finetune: Finetune) -> None:
        """Create the tab's content inside the current Gradio context, which is `tab`."""
        with gr.Row(elem_id="lens-measure", equal_height=False):
            with gr.Column(elem_id="lens-measure-form", scale=0):
                form = make_measure_form(self.requests.specs, self.requests.rules)
            with gr.Column(elem_id="lens-measure-results"):
                first = [
                    RunList(MEASURE_ID, "Measurements", elem_id="lens-measure-list"),
                    RunCard(LONGEST_NAME, MEASURE_ID, "measure", "measurement", elem_id="lens-measure-card"),
                ]
                look = self._make_look()
                cards = [
                    PlotCard("Curves", elem_id="lens-measure-curves"),
                    gr.HTML("", elem_id="lens-measure-numbers", apply_default_css=False, js_on_load=None),
                    PlotCard("Do the tasks conflict?", elem_id="lens-conflict"),
                    TaskHeads(elem_id="lens-task-heads"),
                ]
        watch = gr.JSON({}, visible="hidden", elem_id="lens-measure-watch")
        timer = gr.Timer(POLL_SECONDS, active=False)
        self._connect(arrival, form, look, [*first, *cards, look[2], watch, timer], (tabs, tab))
        self._connect_targets(tabs, first[1], finetune)

    def _make_look(self) -> list[Any]:
        """How the charts are looked at: definition, parts, what to compare with."""
        with gr.Row(elem_id="lens-measure-look"):
            names = [d.value for d in Definition]
            definition = gr.Radio(
                names, value=names[0], label="Definition", elem_classes="lens-segments lens-three", min_width=200
            )
            split = gr.Radio(SPLITS, value=ALL, label="Samples", elem_classes="lens-segments lens-three", min_width=260)
            others = Partners(
                [],
                value=[],
                multiselect=True,
                max_choices=MOST_THINGS - 1,
                label="Compare with, up to three",
                elem_id="lens-measure-with",
                min_width=220,
            )
        return [definition, split, others]

    def _connect(self, arrival: Arrival, form: MeasureForm, look: list[Any], board: list[Any], around: tuple) -> None:
        runs, card, *_, watch, timer = board
        tabs, tab = around
        told = [watch, *look]
        timer.tick(self.on_poll, told, board, js=_POLL_JS, trigger_mode="once", **QUICK)
        tab.select(self.on_turn, told, board, js=_TURN_JS, **QUICK)
        tabs.select(self.on_leave, None, timer, **QUICK)
        runs.choose(self.on_choose, told, board, **QUICK)
        runs.undo(self.on_undo, told, board, **QUICK)
        card.act(self.on_act, told, board, **QUICK)
        gr.on([one.input for one in look], self.on_look, told, board, trigger_mode="always_last", **QUICK)
        form.start.click(self.on_start, [*told, *form.values], [form.message, *board], js=_START_JS, **QUICK)
        self.desk.connect(tab, form)
        arrival.add(self.on_load, [tabs, *look, *board])

    def _connect_targets(self, tabs: gr.Tabs, card: RunCard, finetune: Finetune) -> None:
        """One click takes a measurement to the Fine-tune form, fitted."""
        self._fit, outputs = finetune.desk.fit_to, finetune.form.fit_outputs
        self._fitted = len(outputs)
        card.act(self.on_targets, finetune.form.fit_inputs, [tabs, *outputs], **QUICK)

    # --- handlers ---

    def on_load(self, request: gr.Request) -> list[Any]:
        """Where the address names a measurement, turn to this tab and show it."""
        query = dict(request.query_params)
        if "measure" not in query:
            return [gr.skip()] * (4 + BOARD)
        shown = read_shown(query.get("definition"), query.get("split"), query.get("with"))
        values = self.show(Watch(query["measure"][:40]), shown)
        there = {own for _, own in partner_choices(self.shelf.entries(), None)}
        others = [own for own in shown.others if own in there]
        return [gr.Tabs(selected=MEASURE_ID), shown.definition.value, shown.split, others, *values]

    def on_poll(self, watch: Any, *look: Any) -> list[Any]:
        """What is new since the page asked last."""
        self.measures.tick()
        return self.show(read_watch(watch), read_shown(*look))

    def on_turn(self, watch: Any, *look: Any) -> list[Any]:
        """The tab came to the front: everything, as nothing was asked meanwhile."""
        return self.show(replace(read_watch(watch), seen={}), read_shown(*look))

    def on_look(self, watch: Any, *look: Any) -> list[Any]:
        """Another definition, other parts, or others beside it."""
        return self.show(replace(read_watch(watch), message=""), read_shown(*look))

    def on_leave(self, event: gr.EventData) -> Any:
        """Another tab came to the front: ask no more."""
        return gr.skip() if sent_text(event, "value") == MEASURE_TAB else gr.Timer(active=False)

    def on_choose(self, watch: Any, definition: Any, split: Any, others: Any, event: gr.EventData) -> list[Any]:
        shown = read_shown(definition, split, others)
        return self.show(Watch(sent_text(event, "run"), read_watch(watch).seen), shown)

    def on_act(self, watch: Any, definition: Any, split: Any, others: Any, event: gr.EventData) -> list[Any]:
        """Cancel, resume, keep, rename or delete."""
        told, shown = replace(read_watch(watch), message=""), read_shown(definition, split, others)
        own, action = sent_text(event, "run"), sent_text(event, "action")
        acts: dict[str, Callable[[], Watch | None]] = {
            "cancel": lambda: self.measures.cancel(own),
            "resume": lambda: self.measures.resume(own),
            "keep": lambda: Watch(self.shelf.keep(self.shelf.find(own)), told.seen),
            "rename": lambda: self.shelf.rename(own, sent_text(event, "name")),
            "delete": lambda: self._delete(own, told.seen),
        }
        return self._change(told, shown, acts[action]) if action in acts else self.show(told, shown)

    def on_undo(self, watch: Any, definition: Any, split: Any, others: Any, event: gr.EventData) -> list[Any]:
        told, own = read_watch(watch), sent_text(event, "run")

        def undo() -> Watch:
            self.shelf.undelete(own)
            return Watch(own, told.seen)

        return self._change(told, read_shown(definition, split, others), undo)

    def on_start(self, watch: Any, *values: Any) -> list[Any]:
        """Queue what the form says. A refusal is one sentence under the button; the form stays as it is."""
        told, shown = replace(read_watch(watch), message=""), read_shown(*values[:3])
        try:
            settings, name = read_form(values[3:])
            run = self.requests.start(settings | {"definition": shown.definition.value}, name)
            self.measures.tick()
            return ["", *self.show(Watch(run, told.seen), replace(shown, others=()))]
        except UserError as error:
            return [message_html(str(error)), *self.show(told, shown)]
        except Exception:
            logger.exception("a measurement could not be started")
            return [message_html(BROKEN), *self.show(told, shown)]

    def on_targets(  # gradio fills in the event by its place, so every field has a name
        self,
        choice: str,
        table: Any,
        stages: Any,
        model: str,
        start_from: str,
        definition: str,
        reference: str,
        event: gr.EventData,
    ) -> list[Any]:
        """Fit the Fine-tune form's targets to a measurement, and turn to that tab."""
        nothing = [gr.skip()] * (1 + self._fitted)
        if sent_text(event, "action") != "targets":
            return nothing
        try:
            entry = self.shelf.find(sent_text(event, "run"))
            own = self.shelf.keep(entry)
            tasks = tuple(entry.measurement.report.tasks) if entry.measurement else ()
            around = (model, start_from, definition, reference)
            fitted = self._fit(f"measurement:{own}", tasks, choice, table, stages, *around)
            return [gr.Tabs(selected=FINETUNE_ID), *fitted]
        except UserError:  # gone meanwhile: the board says so
            return nothing

    # --- changing ---

    def _change(self, told: Watch, shown: Shown, change: Callable[[], Watch | None]) -> list[Any]:
        """Do it and show what came of it; a refusal is a sentence above the list."""
        try:
            after = change() or told
            self.measures.tick()
            return self.show(after, shown)
        except UserError as error:
            return self.show(told, shown, str(error))

    def _delete(self, own: str, seen: dict[str, str]) -> Watch:
        entry = self.shelf.find(own)
        self.shelf.delete(entry)
        return Watch("", seen, entry.id, entry.name)
