"""Knock-outs of stored captures: those that are kept at once, else on the model that made the capture, in the queue.

Knows the engine and what is kept; neither tokens nor masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backend.engine import Engine
from backend.interface import CancelFlag, Event, UnifiedModel
from backend.kept.captures import Capture
from backend.kept.knockouts import Cut, HeadReport, HeadSettings, KnockoutReport, Knockouts, Remade, Settings


class Matters:
    """Answers for all front ends. Holds no user's data but what is kept."""

    def __init__(self, engine: Engine, kept: Knockouts):
        self.engine, self.kept = engine, kept

    def knock_out(
        self, capture: Capture, settings: Settings, cancel: CancelFlag | None = None
    ) -> Iterator[Event | KnockoutReport]:
        """What to tell meanwhile, `backend.knockout.Progress` among it; last the report. Raises as the engine."""
        from backend.knockout import check_settings, knock_out  # takes torch, which takes seconds

        check_settings(settings, capture.layers)
        found = self.kept.report(capture.id, settings)
        if found is not None:
            yield found
            return
        for step in self._work(capture, "knock-out", lambda m: knock_out(m, capture, settings, cancel), cancel):
            if isinstance(step, KnockoutReport):
                self.kept.keep_report(capture.id, settings, step)
            yield step

    def knock_out_heads(
        self, capture: Capture, settings: HeadSettings, cancel: CancelFlag | None = None
    ) -> Iterator[Event | HeadReport]:
        """The same of single heads."""
        from backend.knockout import knock_out_heads

        found = self.kept.heads(capture.id, settings)
        if found is not None:
            yield found
            return
        for step in self._work(capture, "heads", lambda m: knock_out_heads(m, capture, settings, cancel), cancel):
            if isinstance(step, HeadReport):
                self.kept.keep_heads(capture.id, settings, step)
            yield step

    def remake(self, capture: Capture, cut: Cut, cancel: CancelFlag | None = None) -> Iterator[Event | Remade]:
        """What to tell meanwhile; last what is made without. Raises as the engine."""
        from backend.knockout import remake

        found = self.kept.remade(capture.id, cut)
        if found is not None:
            yield found
            return
        for step in self._work(capture, "remake", lambda m: iter([remake(m, capture, cut, cancel)]), cancel):
            if isinstance(step, Remade):
                self.kept.keep_remade(capture.id, cut, step)
            yield step

    def _work(self, capture: Capture, what: str, start: Callable[[UnifiedModel], Iterator], cancel) -> Iterator:
        return self.engine.work_on(capture.key, f"{what} of {capture.task}", start, cancel)
