"""The engine: one loaded model at a time, results from the store where they are known already.

Gives turns, streams events, keeps captures. Knows no family's tokens, no page, and not what may be asked
(`sampling.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

from aia.intensity import Task
from backend.background.room import MADE_ROOM, Room
from backend.families import load_model
from backend.interface import (
    CancelFlag,
    Computed,
    Event,
    Finished,
    Looks,
    Notice,
    Preparing,
    UnifiedModel,
    UserError,
    Waiting,
)
from backend.kept.captures import Capture, CaptureKey, Sampling
from backend.kept.keeping import Keeping
from backend.kept.store import CaptureStore
from backend.kept.unpacked import Unpacked
from backend.models.downloads import at_hand, bring_here, fetched
from backend.models.drawing_sizes import check_size
from backend.models.loading import interruptible
from backend.models.specs import SPECS, ModelSpec, Precision, find_spec
from backend.people.closing import Closing
from backend.people.queue import FairQueue, Ticket
from backend.sampling import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING, check_request

logger = logging.getLogger(__name__)

Step = TypeVar("Step")

STORED = "stored"  # work of a turn that computed nothing, so that the next ones' expected wait is not taken from it
LAST_SECONDS = 5.0  # for a step that is at work when nothing may go on


@dataclass(frozen=True)
class Adapter:
    """What a fine-tune learnt, by its id, and how much of it: 0 is the base model, 1 the adapter as trained."""

    id: str = ""
    strength: float = 1.0


BASE = Adapter()


@dataclass(frozen=True, eq=False)
class Ready:
    """A loaded model without an adapter: while the engine holds this very object, nothing about it changes."""

    model: UnifiedModel
    source: tuple[ModelSpec, Precision]


@dataclass(frozen=True)
class Wanted:
    """A model as a request wants it."""

    spec: ModelSpec
    adapter: Adapter = BASE
    precision: Precision = Precision.FULL
    task: Task | None = None  # what for
    size: str = ""  # of a drawing


@dataclass(frozen=True)
class OnItsWay:
    """What was asked is being written, for somebody who asked before."""

    id: str


def no_adapters(adapter_id: str) -> Path:
    raise UserError("No adapter is stored here; fine-tune a model first, or choose none.")


def no_fine_tunes(key: CaptureKey) -> Adapter:
    if key.adapter:
        raise UserError("This needs the model once more, and the adapter of this capture is not here any more.")
    return BASE


class Engine:
    """Runs models for the front ends. Safe to share between threads: one model runs at a time."""

    def __init__(
        self,
        store: CaptureStore,
        specs: tuple[ModelSpec, ...] = SPECS,
        find_adapter: Callable[[str], Path] = no_adapters,
        room: Room | None = None,
        queue: FairQueue | None = None,
        find_fine_tune: Callable[[CaptureKey], Adapter] = no_fine_tunes,
    ):
        """`find_adapter` turns an adapter's id into its folder, `find_fine_tune` a capture's key into what made it.

        Both raise `UserError`. `queue` gives the turns.
        """
        self.specs = specs
        self.find_adapter = find_adapter
        self.find_fine_tune = find_fine_tune
        self.store = store
        self.unpacked = Unpacked(store)
        self.queue = queue or FairQueue()
        self.closing = Closing()
        self._keeping = Keeping()
        self._lock = threading.Lock()
        self._loaded: UnifiedModel | None = None
        self._source: tuple[ModelSpec, Precision] | None = None  # of what is loaded
        self._ready: Ready | None = None
        self._room = room or Room()

    def spec(self, name: str) -> ModelSpec:
        """The spec of that name. Raises `UserError` naming the known ones."""
        return find_spec(name, self.specs)

    def state(self) -> str:
        """One line on what is loaded, such as "tiny-janus · float32 · CPU"."""
        model = self._loaded
        if model is None:
            return MADE_ROOM if self._room.made else "no model loaded"
        device = "CPU" if model.device.type == "cpu" else model.device.type.upper()
        return f"{model.name} · {model.precision} · {device}"

    def load(self, name: str, adapter: Adapter = BASE, precision: Precision = Precision.FULL) -> UnifiedModel:
        """The model of that name, loaded if it is not, with that adapter put on or none."""
        wanted = Wanted(fetched(self.spec(name)), adapter, precision)
        with self._lock:
            return self._prepare(wanted)

    def adopt(self, model: UnifiedModel) -> None:
        """Take over a model that was loaded elsewhere, as the one of its name."""
        self._loaded, self._source, self._ready = model, (self.spec(model.name), Precision.FULL), None

    def unload(self) -> str:
        """Let the model go and give its memory back → what `state` says then. Raises `UserError` while it works."""
        if not self._lock.acquire(blocking=False):
            raise UserError("The model is at work; stop it or wait for its end, then unload it.")
        try:
            self._let_go()
            self._room.give_back()
        finally:
            self._lock.release()
        return self.state()

    def make_room(self, needed: int) -> bool:
        """Let the model go if fewer bytes than these are free: a fine-tune is about to start.

        → False while the model is at work, which has to end first; ask again later.
        """
        if self._loaded is None or not self._room.is_short(needed):
            return True
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._let_go()
            self._room.make()
            logger.info(MADE_ROOM)
        finally:
            self._lock.release()
        return True

    def close(self, grace_seconds: float) -> None:
        """Begin nothing new; let what is at work end, for so long, then stop it between two tokens; close the store."""
        self.closing.begun.set()
        _wait_until(self._is_idle, grace_seconds)
        self.closing.over.set()
        self.queue.look()
        _wait_until(self._is_idle, LAST_SECONDS)
        self.store.close()

    def _is_idle(self) -> bool:
        return not self.queue.length and not self._keeping.busy

    def _let_go(self) -> None:
        self._loaded = self._source = self._ready = None

    def _prepare(self, wanted: Wanted, cancel: CancelFlag | None = None) -> UnifiedModel:
        """Under the lock: what runs next must find the model as it was asked for. Raises `Cancelled` while loading."""
        adapter = wanted.adapter
        folder = self.find_adapter(adapter.id) if adapter.id and adapter.strength else None
        source = _source_of(wanted.spec, folder, adapter.strength), wanted.precision
        if self._loaded is None or self._source != source:
            self._let_go()
            self._room.check(wanted.spec, wanted.precision, wanted.size)
            with interruptible(cancel):
                self._loaded, self._source = load_model(source[0], precision=source[1]), source
            self._room.made = False
        if folder is not None or self._loaded.adapter:
            from backend.models.adapters import apply_adapter

            self._ready = None
            apply_adapter(self._loaded, folder, adapter.strength)
        if folder is None and self._ready is None:
            self._ready = Ready(self._loaded, source)
        return self._loaded

    def capture(self, capture_id: str) -> Capture:
        """A stored capture. Raises `UserError` for a malformed or unknown id, and for what cannot be read any more."""
        return self.unpacked.get(capture_id)

    def link(self, capture: Capture) -> str | None:
        """What opens a capture for whoever is given it; None where it was not kept."""
        link = self.store.link(capture.id)
        return link if link in self.store else None

    def look(self, capture: Capture | str, rows: range, head: tuple[int, int] | None = None) -> Looks:
        """What single heads of some rows of a stored capture looked at, by one more pass of the model that made it.

        `capture` is one, or an id. `head` is a layer and a head of it; without one, all heads of all layers. Raises
        `UserError` where there is no such capture, or its model, precision or adapter is not at hand.
        """
        capture = self.capture(capture) if isinstance(capture, str) else capture
        wanted = self.maker(capture.key)
        with self.queue.join(work=f"{wanted.spec.name} look") as ticket:
            for _ in ticket.places():
                pass  # whoever asks waits
            with self._lock:
                loaded = self._prepare(wanted)
                check_made_by(loaded, capture.key)
                return loaded.look_again(capture, rows, head)

    def maker(self, key: CaptureKey) -> Wanted:
        """The model that made a capture, as far as it is on this machine. Raises `UserError` where it is not."""
        spec = next((spec for spec in self.specs if spec.name == key.model), None)
        here = spec and at_hand(spec)
        if here is None:
            raise UserError(
                f"This needs the model once more, and {key.model[:60]} is not on this machine; "
                + ("run a prompt with it first, which fetches it." if spec else "open a capture of a known model.")
            )
        return Wanted(here, self.find_fine_tune(key), key_precision(key), key.task)

    def work_on(
        self,
        key: CaptureKey,
        what: str,
        start: Callable[[UnifiedModel], Iterator[Step]],
        cancel: CancelFlag | None = None,
    ) -> Iterator[Event | Step]:
        """Other work on the model that made a capture, in its turn: what to tell meanwhile, then the work's own steps.

        `what` names the kind of work, for the queue to learn how long it takes. Raises as `look`; `Cancelled`.
        """
        wanted = self.maker(key)
        with self.queue.join(work=f"{wanted.spec.name} {what}") as ticket:
            yield from self.turn(ticket, cancel)
            if self._source is None or self._source[0].name != wanted.spec.name:
                yield Preparing(f"loading {wanted.spec.title}")
            with self._lock:
                loaded = self._prepare(wanted)
                check_made_by(loaded, key)
                yield from start(loaded)

    def understand(
        self,
        model: str,
        image: Image.Image,
        prompt: str,
        sampling: Sampling = UNDERSTANDING_SAMPLING,
        cancel: CancelFlag | None = None,
        adapter: Adapter = BASE,
        precision: Precision = Precision.FULL,
    ) -> Iterator[Event]:
        """Answer `prompt` about `image`: events, the last one `Finished`.

        Raises `UserError` for what the user can mend, `Cancelled` when the flag was set.
        """
        prompt, sampling = check_request(prompt, sampling, Task.UNDERSTANDING)
        cancel = self.closing.or_(cancel)
        yield from self._run(
            Wanted(self._spec_for(model, Task.UNDERSTANDING), adapter, precision, Task.UNDERSTANDING),
            prompt,
            cancel,
            lambda loaded: loaded.understanding_key(image, prompt, sampling),
            lambda loaded: loaded.understand(image, prompt, sampling, cancel),
        )

    def generate(
        self,
        model: str,
        prompt: str,
        sampling: Sampling = GENERATION_SAMPLING,
        cancel: CancelFlag | None = None,
        adapter: Adapter = BASE,
        precision: Precision = Precision.FULL,
    ) -> Iterator[Event]:
        """Draw `prompt`: events, the last one `Finished`. Raises as `understand`."""
        prompt, sampling = check_request(prompt, sampling, Task.GENERATION)
        spec = self._spec_for(model, Task.GENERATION)
        check_size(spec, sampling.size)
        cancel = self.closing.or_(cancel)
        yield from self._run(
            Wanted(spec, adapter, precision, Task.GENERATION, sampling.size),
            prompt,
            cancel,
            lambda loaded: loaded.generation_key(prompt, sampling),
            lambda loaded: loaded.generate(prompt, sampling, cancel),
        )

    def _spec_for(self, name: str, task: Task) -> ModelSpec:
        spec = self.spec(name)
        if task not in spec.tasks:
            raise UserError(f"{spec.title} cannot do {task.value}; choose a model that can.")
        return spec

    def _run(self, wanted: Wanted, prompt: str, cancel: CancelFlag | None, make_key, start) -> Iterator[Event]:
        """Notices first; then the stored capture at once, or the model's events and a new one."""
        yield from self.closing.told(self._run_or_find(wanted, prompt, cancel, make_key, start))

    def _run_or_find(self, wanted: Wanted, prompt: str, cancel: CancelFlag, make_key, start) -> Iterator[Event]:
        here = yield from bring_here(wanted.spec, cancel)  # outside the queue: others go on meanwhile
        wanted, patient = replace(wanted, spec=here), True
        while True:
            if known := self._known(wanted, prompt, make_key):
                yield from known
                return
            with self.queue.join(work=f"{here.name} {wanted.task}") as ticket:
                yield from self.turn(ticket, cancel)
                found = yield from self._run_in_turn(wanted, prompt, cancel, ticket, make_key, start, patient)
            if not isinstance(found, OnItsWay):
                break
            patient = self._keeping.wait(found.id, cancel=cancel)
        if found is None:
            return
        if not found.cached:  # the disk and whoever looks at it hold nobody up any more
            yield from self._show_and_keep(found.capture)
        yield found

    def _known(self, wanted: Wanted, prompt: str, make_key) -> list[Event]:
        """What the store has of the model as it is loaded: that takes no turn, so nobody waits for it. Else nothing."""
        ready, adapter = self._ready, wanted.adapter
        if ready is None or ready.source != (wanted.spec, wanted.precision) or (adapter.id and adapter.strength):
            return []
        key = make_key(ready.model)
        stored = self.store.computed(key.id) if self._ready is ready else None  # else of another model
        if stored is None:
            return []
        unknown = ready.model.unknown_words(prompt)
        notices = [Notice(say_unknown(ready.model.name, unknown))] if unknown else []
        return [*notices, Finished(stored, cached=True)]

    def turn(self, ticket: Ticket, cancel: CancelFlag | None = None) -> Iterator[Event]:
        """Wait for one's turn: what to tell meanwhile. Raises `Cancelled` when the flag is set."""
        for place in ticket.places(cancel):
            yield Waiting(place.ahead, place.seconds)

    def _run_in_turn(
        self, wanted: Wanted, prompt: str, cancel: CancelFlag | None, ticket: Ticket, make_key, start, patient: bool
    ) -> Generator[Event, None, Finished | OnItsWay | None]:
        """All events but the last, which is returned. `patient`: what is being written is not computed once more."""
        if self._source is None or self._source[0].name != wanted.spec.name:
            yield Preparing(f"loading {wanted.spec.title}")
        with self._lock:
            made_room, loaded = self._room.made, self._prepare(wanted, cancel)
            if made_room:
                yield Notice(f"{loaded.name} had made room for a run and was loaded again.")
            key = make_key(loaded)
            if patient and self._keeping.has(key.id):
                ticket.work = STORED
                return OnItsWay(key.id)
            unknown = loaded.unknown_words(prompt)
            if unknown:
                yield Notice(say_unknown(loaded.name, unknown))
            stored = self.store.computed(key.id)
            if stored is not None:
                ticket.work = STORED
                return Finished(stored, cached=True)
            if wanted.task == Task.GENERATION:
                self._room.check_drawing(wanted.spec, wanted.size)
            finished = yield from _hold_back(start(loaded))
            if finished is not None:
                self._keeping.begin(finished.capture.key.id)
            return finished

    def _show_and_keep(self, capture: Capture) -> Iterator[Event]:
        """Whoever asked sees it before it is written; it is kept even if that is all they wanted."""
        with self._keeping.until_kept(capture.key.id):
            try:
                yield Computed(capture)
            finally:
                notice = self._keep(capture)
        if notice:
            yield notice

    def _keep(self, capture: Capture) -> Notice | None:
        """Store a capture; a full disk costs the permalink, not the result."""
        about = {"capture": capture.id, "seconds": round(capture.seconds, 3)}
        try:
            self.store.put(capture)
        except UserError as error:
            logger.warning("capture %s was not stored: %s", capture.id, error, extra=about)
            return Notice(str(error))
        logger.info("capture kept", extra=about)
        return None


def _hold_back(events: Iterator[Event]) -> Generator[Event, None, Finished | None]:
    """All events but `Finished`, which is returned."""
    finished = None
    for event in events:
        if isinstance(event, Finished):
            finished = event
        else:
            yield event
    return finished


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)


def _source_of(spec: ModelSpec, folder: Path | None, strength: float) -> ModelSpec:
    """The spec to load: itself, or with the whole weights of a full fine-tune. PEFT is slow to import: only here."""
    if folder is None:
        return spec
    from backend.models.adapters import whole_weights

    source = whole_weights(spec, folder)
    if source is not spec and strength != 1:
        raise UserError("Expected strength 1 for whole weights, which cannot be scaled; set it to 1.")
    return source


def key_precision(key: CaptureKey) -> Precision:
    """How the weights were held that made a capture."""
    return Precision(key.precision) if key.precision in set(Precision) else Precision.FULL


def check_made_by(model: UnifiedModel, key: CaptureKey) -> None:
    """Raise `UserError` unless a loaded model is the one that made a capture, in the same precision."""
    for what, made, here in (
        ("weights", key.revision, model.revision),
        ("precision", key.precision, model.precision),
        ("adapter", key.adapter, model.adapter),
    ):
        if made != here:
            raise UserError(
                f"This needs the very model that made this capture, and {key.model} has the {what} "
                f"{here or 'none'} here, not {made or 'none'}; run the prompt again here."
            )


def say_unknown(model: str, words: list[str]) -> str:
    """One sentence that names the words."""
    named = ", ".join(f"“{word[:40]}”" for word in words[:5]) + (" and others" if len(words) > 5 else "")
    if len(words) == 1:
        return f"{model} has never seen the word {named} and reads past it."
    return f"{model} has never seen the words {named} and reads past them."
