"""Knock-outs of stored captures: those that are kept at once, else on the model that made the capture, in the queue.

Owns how that model is found again, its adapter among it. Knows the engine and what is kept; neither tokens nor masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from backend.engine import BASE, Adapter, Engine, Wanted
from backend.interface import CancelFlag, Event, UnifiedModel, UserError
from backend.kept.captures import Capture, CaptureKey
from backend.kept.knockouts import Cut, KnockoutReport, Knockouts, Remade, Settings
from backend.models.specs import ModelSpec, Precision


class Matters:
    """Answers for all front ends. Holds no user's data but what is kept."""

    def __init__(self, engine: Engine, kept: Knockouts, adapters: Callable[[], list[str]] = list):
        """`adapters` gives the ids that the engine has adapters for."""
        self.engine, self.kept, self._adapters = engine, kept, adapters

    def knock_out(
        self, capture: Capture, settings: Settings, cancel: CancelFlag | None = None
    ) -> Iterator[Event | KnockoutReport]:
        """What to tell meanwhile, `backend.knockout.Progress` among it; last the report. Raises as the engine."""
        from backend.knockout import check_settings, knock_out  # takes torch, which takes seconds

        check_settings(settings, capture.layers)
        found = self.kept.report(capture.id, settings)
        if found is None:
            for step in self._work(capture, "knock-out", lambda m: knock_out(m, capture, settings, cancel), cancel):
                if isinstance(step, KnockoutReport):
                    self.kept.keep_report(capture.id, settings, step)
                yield step
            return
        yield found

    def remake(self, capture: Capture, cut: Cut, cancel: CancelFlag | None = None) -> Iterator[Event | Remade]:
        """What to tell meanwhile; last what is made without. Raises as the engine."""
        from backend.knockout import remake

        found = self.kept.remade(capture.id, cut)
        if found is None:
            for step in self._work(capture, "remake", lambda m: iter([remake(m, capture, cut, cancel)]), cancel):
                if isinstance(step, Remade):
                    self.kept.keep_remade(capture.id, cut, step)
                yield step
            return
        yield found

    def _work(self, capture: Capture, what: str, start: Callable[[UnifiedModel], Iterator], cancel) -> Iterator:
        def checked(model: UnifiedModel) -> Iterator:
            check_same(model, capture.key)
            return start(model)

        return self.engine.work_on(self._wanted(capture.key), f"{what} of {capture.task}", checked, cancel)

    def _wanted(self, key: CaptureKey) -> Wanted:
        """The model that made a capture. Raises `UserError` where its adapter is gone."""
        spec = self.engine.spec(key.model)
        precision = Precision(key.precision) if key.precision in set(Precision) else Precision.FULL
        return Wanted(spec, self._adapter(key, spec), precision, key.task)

    def _adapter(self, key: CaptureKey, spec: ModelSpec) -> Adapter:
        """The adapter by its digest, or the whole weights of a fine-tune by their revision."""
        if not key.adapter and key.revision == base_revision(spec):
            return BASE
        from backend.models.adapters import adapter_digest, whole_weights  # PEFT is slow to import: only here

        digest, _, strength = key.adapter.partition("@")
        for adapter in self._adapters():
            folder = self.engine.find_adapter(adapter)
            whole = whole_weights(spec, folder)
            if digest and whole is spec and adapter_digest(folder) == digest:
                return Adapter(adapter, float(strength or 1))
            if not digest and whole is not spec and base_revision(whole) == key.revision:
                return Adapter(adapter)
        if not digest:
            return BASE  # `check_same` says what is wrong
        raise UserError("Expected the adapter that this was made with, found none like it; run its prompt again.")


def base_revision(spec: ModelSpec) -> str:
    """The revision that a spec's weights have once they are loaded, as far as they are on this machine."""
    from backend.models.downloads import find_here
    from backend.models.loading import weights_revision

    if Path(spec.source).is_dir():
        return weights_revision(spec)
    folder = find_here(spec)
    return spec.revision if folder is None else folder.name


def check_same(model: UnifiedModel, key: CaptureKey) -> None:
    """Raises `UserError` unless these are the very weights that made a capture."""
    for name in ("revision", "precision", "adapter"):
        now, then = getattr(model, name), getattr(key, name)
        if now != then:
            raise UserError(
                f"Expected {key.model} with the {name} that this was made with, {then or 'none'}, got {now or 'none'}; "
                "run its prompt again."
            )
