"""The Compare tab: two to four captures, fine-tunes or curves of the paper over each other.

Components and thin handlers: what the cards show is made in `views.py` and `cards.py`. Nothing is kept
per page: the chosen ids travel with every event, and come from the address on loading.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import gradio as gr

from aia.intensity import Definition
from app.arrival import Arrival
from app.compare import cards, views
from app.components.picker import Picker
from app.components.plot import PlotCard
from app.words import BROKEN
from backend.comparison import Choice, Comparables, Series, parse_ids
from backend.interface import UserError

logger = logging.getLogger(__name__)

COMPARE_ID, COMPARE_TAB = "compare", "Compare"
CARDS = 7
_TURN_JS = f"(...values) => {{ lens.turnTo('{COMPARE_ID}'); return values; }}"
_TASKS = [("both", views.BOTH), ("drawing", "generation"), ("answering", "understanding")]


class Compare:
    """One tab of one app. Holds no user's data."""

    def __init__(self, things: Comparables):
        self.things = things

    # --- components ---

    def build(self, arrival: Arrival, tabs: gr.Tabs, tab: gr.Tab) -> None:
        """Create the tab's content inside the current Gradio context, which is `tab`."""
        plain: dict[str, Any] = {"apply_default_css": False, "js_on_load": None}
        with gr.Row(elem_id="lens-compare", equal_height=False):
            with gr.Column(elem_id="lens-compare-form", scale=0):
                names = [d.value for d in Definition]
                definition = gr.Radio(names, value=names[0], label="Definition", elem_classes="lens-segments")
                task = gr.Radio(_TASKS, value=views.BOTH, label="Task", elem_classes="lens-segments")
                picker = Picker(COMPARE_ID, elem_id="lens-picker")
            with gr.Column(elem_id="lens-compare-results"):
                shown = [
                    gr.HTML("", elem_id="lens-compare-empty", **plain),
                    PlotCard("Compared by layer", elem_id="lens-overlay"),
                    PlotCard("Difference by layer", elem_id="lens-difference"),
                    PlotCard("Difference by head", elem_id="lens-heads"),
                    gr.HTML("", elem_id="lens-outputs", **plain),
                    gr.HTML("", elem_id="lens-numbers", **plain),
                    gr.HTML("", elem_id="lens-compare-scores", **plain),
                ]
        board, told = [picker, *shown], [picker, definition, task]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        picker.choose(self.on_choose, [definition, task], board, **quiet)
        picker.paste(self.on_paste, [definition, task], board, **quiet)
        gr.on([definition.input, task.input], self.on_switch, told, board, **quiet)
        tab.select(self.on_turn, told, board, js=_TURN_JS, **quiet)
        arrival.add(self.on_load, [tabs, definition, task, *board])

    # --- handlers ---

    def on_load(self, request: gr.Request) -> list[Any]:
        """Where the address names a comparison, turn to this tab and show it; else wait for the tab to be opened."""
        query = dict(request.query_params)
        if "compare" not in query:
            return [gr.skip()] * (4 + CARDS)
        definition, task = views.read_definition(query.get("definition")), views.read_task(query.get("task"))
        return [gr.Tabs(selected=COMPARE_ID), definition.value, task, *self.show([query["compare"]], definition, task)]

    def on_switch(self, picker: Any, definition: Any, task: Any) -> list[Any]:
        """Another definition or task: the same things anew."""
        return self._show_again(picker, definition, task)

    def on_turn(self, picker: Any, definition: Any, task: Any) -> list[Any]:
        """The tab came to the front, perhaps right after loading: the same things, and what was said of them."""
        said = picker.get("message") if isinstance(picker, dict) else ""
        return self._show_again(picker, definition, task, str(said or "")[:500])

    def _show_again(self, picker: Any, definition: Any, task: Any, message: str = "") -> list[Any]:
        chosen = picker.get("chosen") if isinstance(picker, dict) else None
        ids = [item.get("id") for item in chosen or () if isinstance(item, dict)]
        return self.show(ids, views.read_definition(definition), views.read_task(task), message)

    def on_choose(self, definition: Any, task: Any, event: gr.EventData) -> list[Any]:
        return self.show(_sent_ids(event), views.read_definition(definition), views.read_task(task))

    def on_paste(self, definition: Any, task: Any, event: gr.EventData) -> list[Any]:
        """Something typed or pasted; what cannot be added leaves the rest as it is, with a sentence why."""
        ids, text = _sent_ids(event), str(_sent(event).get("text") or "")[:2000]
        told = views.read_definition(definition), views.read_task(task)
        try:
            added = list(dict.fromkeys([*ids, *parse_ids(text)]))
            self.series(added, told[0])
            return self.show(added, *told)
        except UserError as error:
            return self.show(ids, *told, message=str(error))

    # --- what the cards show ---

    def show(self, ids: Sequence[Any], definition: Definition, task: str, message: str = "") -> list[Any]:
        """Values of the list and the seven cards. What cannot be shown is left out, with a sentence why."""
        chosen: list[Choice] = []
        try:
            for thing in parse_ids(",".join(map(str, ids))):
                try:
                    self.things.series(thing, definition)
                    chosen.append(self.things.choice(thing))
                except UserError as error:
                    message = message or str(error)
        except UserError as error:
            message = message or str(error)
        try:
            return self._show(chosen, definition, task, message)
        except Exception:
            logger.exception("a comparison could not be shown")
            broken = views.picker_view(self.things.choices(), (), "", BROKEN)
            return [broken, cards.empty_card(0), *[None] * 3, *[""] * 3]

    def _show(self, chosen: Sequence[Choice], definition: Definition, task: str, message: str) -> list[Any]:
        things = [choice.id for choice in chosen]
        link = views.make_link(things, definition, task)
        by_definition = {d: views.of_task(self.series(things, d), task) for d in Definition}
        series = by_definition[definition]
        return [
            views.picker_view(self.things.choices(), chosen, link, message),
            cards.empty_card(len(things), views.make_link(self.things.first(), next(iter(Definition)), views.BOTH)),
            views.overlay_view(series, definition, link) or {},
            views.difference_view(series, definition) or {},
            views.heads_view(by_definition, definition) or {},
            cards.outputs_card(series),
            cards.numbers_card(series),
            cards.scores_card(series),
        ]

    def series(self, things: Sequence[str], definition: Definition) -> list[Series]:
        """All curves of the things, in their order. Raises `UserError`."""
        return [one for thing in things for one in self.things.series(thing, definition)]


def _sent(event: gr.EventData) -> dict[str, Any]:
    return event._data if isinstance(event._data, dict) else {}


def _sent_ids(event: gr.EventData) -> list[str]:
    ids = _sent(event).get("ids")
    return [str(one)[:200] for one in ids[:8]] if isinstance(ids, list) else []
