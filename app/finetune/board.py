"""What the right side of the Fine-tune tab shows to a page that says what it has seen already.

Nothing is kept per page: it sends a `Watch` and gets back what is new, and the next `Watch` to send. Knows the runs and
their views; no handler and no form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import gradio as gr

from app.finetune import run_views as views
from app.finetune.run_record import RunReader, RunRecord
from app.finetune.run_samples import sheet_view
from backend.background.runs import Runs, RunStatus
from backend.interface import UserError

LOG_LINES = 40


@dataclass(frozen=True)
class Watch:
    """What a page says when it asks: the run it shows, and what it has seen of each card; `undo` was deleted last."""

    run: str = ""
    seen: dict[str, str] = field(default_factory=dict)
    undo: str = ""
    undo_name: str = ""
    message: str = ""  # stays until the user does something else


def read_watch(value: Any) -> Watch:
    """The page's word, whatever it sends."""
    value = value if isinstance(value, dict) else {}
    names = ("run", "undo", "undo_name", "message")
    text = {name: str(value.get(name) or "")[:400] for name in names}
    seen = value.get("seen")
    return Watch(text["run"], seen if isinstance(seen, dict) else {}, text["undo"], text["undo_name"], text["message"])


class Board:
    """The cards of all pages, over one folder of runs."""

    def __init__(self, runs: Runs, reader: RunReader):
        self.runs, self.reader = runs, reader

    def show(self, told: Watch, message: str = "") -> list[Any]:
        """Values of list, card, layers, samples, losses, watch and timer; what the page has seen already is skipped."""
        try:
            return self._show(told, message)
        except UserError as error:  # a run deleted by another page just now, or a disk that refuses
            return [views.list_view([], "", str(error)), *[gr.skip()] * 4, asdict(Watch(told.run)), gr.skip()]

    def _show(self, told: Watch, message: str) -> list[Any]:
        runs, message = self.runs.list(), message or told.message
        chosen = next((run for run in runs if run.id == told.run), None) or self._by_link(told.run)
        if chosen is None and told.run:
            message = message or "Expected the address of a run, got one of which there is none; choose another below."
        chosen = chosen or (runs[0] if runs else None)
        made = self._make_views(runs, chosen, told, message)
        seen, values = {}, []
        for name, (mark, view) in made.items():
            seen[name] = mark
            values.append(gr.skip() if told.seen.get(name) == mark else view())
        watch = Watch(chosen.id if chosen else "", seen, told.undo, told.undo_name, message)
        active = any(run.state in views.ACTIVE for run in (*runs, *filter(None, [chosen])))
        news = gr.skip() if told == watch else asdict(watch)
        return [*values, news, gr.Timer(active=active)]

    def _by_link(self, run: str) -> RunStatus | None:
        """Somebody else's run, whose id is in the address; None where there is none."""
        try:
            return self.runs.status(run) if run else None
        except UserError:
            return None

    def _make_views(
        self, runs: list[RunStatus], chosen: RunStatus | None, told: Watch, message: str
    ) -> dict[str, tuple[str, Callable[[], Any]]]:
        """By card: a mark that changes with what it shows, and what makes it."""
        listed = views.list_view(runs, chosen.id if chosen else "", message, told.undo, told.undo_name)
        made: dict[str, tuple[str, Callable[[], Any]]] = {"list": (digest(asdict(listed)), lambda: listed)}
        if chosen is None:
            return made | {name: ("", lambda: {}) for name in ("run", "layers", "samples", "losses")}
        record, control = self.reader.record(chosen.id), self._control_of(chosen)
        card = views.run_view(chosen, record, control, self.runs.log_tail(chosen.id, LOG_LINES))
        measured = f"{chosen.id} {len(record.measured)} {len(control.measured)}"
        sampled = f"{chosen.id} {len(record.sampled or ())} {len(control.sampled or ())}"
        steps = f"{chosen.id} {len(record.steps)} {len(control.steps)}"
        return made | {
            "run": (digest(asdict(card)), lambda: card),
            "layers": (measured, lambda: views.layers_view(chosen, record, control) or {}),
            "samples": (sampled, lambda: sheet_view(chosen, record, control) or {}),
            "losses": (steps, lambda: views.losses_view(chosen, record, control) or {}),
        }

    def _control_of(self, run: RunStatus) -> RunRecord:
        """The record of the control beside a run with AIA; empty for any other."""
        return self.reader.record(run.pair) if run.role == "aia" and run.pair else RunRecord()


def digest(value: Any) -> str:
    """A short mark of what a card shows."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
