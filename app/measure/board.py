"""What the right side of the Measure tab shows to a page that says what it has seen already, as on the Fine-tune tab.

Nothing is kept per page. Knows the shelf and its views; no handler and no form.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from aia.intensity import Task
from app.finetune.board import Watch, digest
from app.measure import views, words
from app.measure.cards import numbers_card
from app.measure.shelf import Entry, Shelf
from app.measure.views import Shown
from backend.comparison import MOST_THINGS
from backend.interface import UserError
from backend.kept.measurements import Measurement
from backend.kept.store import CaptureStore

logger = logging.getLogger(__name__)

LOG_LINES = 40
CARDS = ("list", "card", "curves", "numbers", "conflict", "heads")
RECENT_CAPTURES = 60
GONE = "Expected the address of a measurement, got one of which there is none; choose another below."


@dataclass(frozen=True)
class Front:
    """The entry that is shown, with what there is of it by now, and the others beside it by name."""

    entry: Entry
    measurement: Measurement | None
    others: tuple[tuple[str, str, Measurement], ...]  # id, name, measurement
    shown: Shown

    @property
    def named(self) -> list[tuple[str, Measurement]]:
        own = [(self.entry.name, self.measurement)] if self.measurement else []
        return own + [(name, measurement) for _, name, measurement in self.others]

    @property
    def mark(self) -> str:
        """Changes with whatever the charts show."""
        step = f" {self.entry.run.step}" if self.entry.run else ""
        return f"{self.entry.id}{step} {self.entry.name} {self.shown.link('')} {[name for _, name, _ in self.others]}"


class Board:
    """The cards of all pages, over one shelf."""

    def __init__(self, shelf: Shelf, store: CaptureStore):
        self.shelf, self.store = shelf, store

    def show(self, told: Watch, shown: Shown, message: str = "") -> list[Any]:
        """Values of the cards, of “compare with”, watch and timer; what the page has seen already is skipped."""
        try:
            return self._show(told, shown, message)
        except UserError as error:  # a disk that refuses
            empty = [gr.skip()] * (len(CARDS) - 1)
            return [views.list_view([], "", str(error), "", ""), *empty, gr.skip(), asdict(Watch(told.run)), gr.skip()]

    def _show(self, told: Watch, shown: Shown, message: str) -> list[Any]:
        entries, message = self.shelf.entries(), message or told.message
        wanted = self.shelf.resolve(told.run) if told.run else ""
        chosen = next((entry for entry in entries if entry.id == wanted), None)
        if chosen is None and told.run:
            try:
                chosen = self.shelf.find(wanted)
            except UserError:
                message = message or GONE
        chosen = chosen or (entries[0] if entries else None)
        made = self._make_views(entries, chosen, told, shown, message)
        seen, values = {}, []
        for name, (mark, view) in made.items():
            seen[name] = mark
            values.append(gr.skip() if told.seen.get(name) == mark else view())
        partners = partner_choices(entries, chosen)
        seen["partners"] = digest(partners)
        choices = gr.skip() if told.seen.get("partners") == seen["partners"] else gr.update(choices=partners)
        watch = Watch(chosen.id if chosen else "", seen, told.undo, told.undo_name, message)
        active = any(entry.state in views.ACTIVE for entry in (*entries, *filter(None, [chosen])))
        return [*values, choices, gr.skip() if told == watch else asdict(watch), gr.Timer(active=active)]

    def _make_views(
        self, entries: list[Entry], chosen: Entry | None, told: Watch, shown: Shown, message: str
    ) -> dict[str, tuple[str, Callable[[], Any]]]:
        """By card: a mark that changes with what it shows, and what makes it."""
        found = self._front(entries, chosen, shown)
        front, refused = found if found else (None, "")
        listed = views.list_view(entries, chosen.id if chosen else "", message or refused, told.undo, told.undo_name)
        made: dict[str, tuple[str, Callable[[], Any]]] = {"list": (digest(asdict(listed)), lambda: listed)}
        if chosen is None or front is None:
            return made | {name: ("", lambda: {}) for name in CARDS[1:3]} | _nothing()
        log, pace = self._of_run(chosen)
        card = views.card_view(chosen, front.shown.link(chosen.id), log, pace)
        made["card"] = (digest(asdict(card)), lambda: card)
        if not front.named or front.measurement is None:
            return made | {"curves": ("", lambda: {})} | _nothing()
        captures = self._captures(front.measurement)
        step = f"-{chosen.run.step}" if chosen.run else ""
        mark = front.mark
        return made | {
            "curves": (mark, lambda: views.curves_view(chosen, front.named, front.shown, step)),
            "numbers": (mark, lambda: numbers_card(front.named, front.shown)),
            "conflict": (mark, lambda: views.conflict_view(chosen, front.measurement, front.shown, step) or {}),
            "heads": (
                f"{mark} {captures}",
                lambda: views.heads_view(chosen, front.measurement, front.shown, captures) or {},
            ),
        }

    def _front(self, entries: list[Entry], chosen: Entry | None, shown: Shown) -> tuple[Front, str] | None:
        """What is shown, and a sentence on others that are not there any more."""
        if chosen is None:
            return None
        by_id = {entry.id: entry for entry in (*entries, *self._by_links(shown.others, entries)) if entry.measurement}
        there = [by_id[other] for other in shown.others if other in by_id and other != chosen.id]
        missing = [other for other in shown.others if other not in by_id]
        others = tuple((one.id, one.name, one.measurement) for one in there[: MOST_THINGS - 1])
        own = chosen.measurement or (self.shelf.so_far(chosen.run) if chosen.run else None)
        kept = Shown(shown.definition, shown.split, tuple(own_id for own_id, *_ in others))
        refused = "Expected measurements to compare with, got some that are gone; they are left out." if missing else ""
        return Front(chosen, own, others, kept), refused

    def _by_links(self, wanted: tuple[str, ...], entries: list[Entry]) -> list[Entry]:
        """Others' measurements that an address names."""
        found = []
        for own in wanted:
            if own not in {entry.id for entry in entries}:
                with suppress(UserError):
                    found.append(self.shelf.find(own))
        return found

    def _of_run(self, entry: Entry) -> tuple[str, float | None]:
        """The end of its log, and seconds per sample; nothing for what is kept."""
        if entry.run is None or not entry.mine:
            return "", None
        return (
            self.shelf.measures.log_tail(entry.id, LOG_LINES),
            self.shelf.measures.run(entry.id).look_through().step_seconds,
        )

    def _captures(self, measurement: Measurement) -> dict[str, str]:
        """The newest capture of the same model by task: there a single head can be looked at."""
        found: dict[str, str] = {}
        if measurement.report.adapter is not None:  # a capture does not say which run its adapter is of
            return found
        for key, _ in self.store.recent(RECENT_CAPTURES):
            if key.model == measurement.report.model and not key.adapter:
                found.setdefault(Task(key.task).value, self.store.link(key.id))
        return found


def _nothing() -> dict[str, tuple[str, Callable[[], Any]]]:
    return {"numbers": ("", lambda: ""), "conflict": ("", lambda: {}), "heads": ("", lambda: {})}


def partner_choices(entries: list[Entry], chosen: Entry | None) -> list[tuple[str, str]]:
    """What the chosen one can be compared with: name and id; names that are there twice are told apart by more."""
    there = [entry for entry in entries if entry.measurement and (chosen is None or entry.id != chosen.id)]
    names = Counter(entry.name for entry in there)
    return [
        (entry.name if names[entry.name] == 1 else f"{entry.name} · {words.describe_row(entry)}"[:90], entry.id)
        for entry in there
    ]
