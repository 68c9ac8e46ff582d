"""The Explore tab: choose a model, ask it about an image or have it draw one, see the curve.

Components and thin handlers: what the cards show is made in `views.py`, what models do in the
engine. Running handlers are found again by Gradio's session hash, in the instance, so that Stop or
closing the tab ends them between two tokens.
"""

from __future__ import annotations

import html
import itertools
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from aia.intensity import Task
from app import views
from app.components.chart import ChartCard
from app.components.picture import PictureChoice
from app.components.result import ResultCard, ResultView, State
from app.form import FILLED, Form, Request, fill_form, make_form
from app.samples import Samples
from backend.captures import Capture
from backend.engine import Engine
from backend.interface import Cancelled, Event, Finished, Notice, PictureGrown, TextGrown, UserError
from backend.pictures import load_picture

logger = logging.getLogger(__name__)

UPDATE_SECONDS = 0.25  # between two updates of a growing result; each costs the page some 20 ms
MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
STOPPED = ResultView(State.STOPPED, message="Stopped; the result below is the one before.")
_MARK_RUNNING_JS = "(...values) => { lens.markRunning(); return values; }"
BROKEN = "Something went wrong inside; the server's log says what, and the page can be used on."


class Explore:
    """One tab of one app. Holds no user's data but the cancel flags of what runs right now."""

    def __init__(self, engine: Engine, samples: Samples):
        self.engine = engine
        self.samples = samples
        self._flags: dict[str, threading.Event] = {}  # by session hash
        self._stopped: set[str] = set()  # sessions whose last run was stopped
        self._turns = itertools.count(1)
        self.welcome = self._make_welcome()

    def _make_welcome(self) -> Capture | None:
        """The capture of a first visit: the first sample, described. None where no model is at hand."""
        sample = self.samples.pictures[0]
        try:
            events = self.engine.understand(self.engine.specs[0].name, load_picture(sample.path), sample.questions[-1])
            return [event.capture for event in events if isinstance(event, Finished)][-1]
        except UserError as error:
            logger.warning("no capture for a first visit: %s", error)
            return None

    # --- components ---

    def build(self, blocks: gr.Blocks, state: gr.HTML) -> None:
        """Create the tab inside the current Gradio context; `state` is the header's line on the model."""
        with gr.Row(elem_id="lens-explore", equal_height=False):
            with gr.Column(elem_id="lens-form", scale=0):
                form = make_form(self.engine.specs, self.samples)
            with gr.Column(elem_id="lens-results"):
                result = ResultCard(elem_id="lens-result")
                curve = ChartCard("Cross-modal interaction by layer", "Definition", elem_id="lens-curve")
        self._connect(blocks, form, result, curve, state)

    def _connect(self, blocks: gr.Blocks, form: Form, result: ResultCard, curve: ChartCard, state: gr.HTML) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        run = gr.on(
            [form.ask.click, form.draw.click, *form.submits],
            self.on_run,
            inputs=form.fields,
            outputs=[result, curve, state],
            js=_MARK_RUNNING_JS,
            trigger_mode="once",
            **MODEL_QUEUE,
            **quiet,
        )
        run.failure(self.on_failure, outputs=result, **quiet)
        form.stop.click(self.on_stop, outputs=result, cancels=[run], queue=False, **quiet)
        picture = form.fields[2]
        picture.upload(self.on_upload, inputs=picture, outputs=picture, **quiet)
        blocks.load(self.on_load, outputs=[*form.filled, result, curve, state], **quiet)
        blocks.unload(self.on_leave)

    # --- handlers ---

    def on_load(self, request: gr.Request) -> list[Any]:
        """Show the capture that the address names, else the one of a first visit. Runs no model."""
        query = dict(request.query_params)
        asked, definition = query.get("capture", ""), query.get("definition", "")
        message = ""
        if asked:
            try:
                return self._show(self.engine.capture(asked), definition, linked=True)
            except UserError as error:
                message = str(error)
            except Exception:
                logger.exception("capture %.24s could not be shown", asked)
                message = BROKEN
        if self.welcome is not None:
            try:
                linked = not asked and self.welcome.id in self.engine.store
                return self._show(self.welcome, definition, linked, message)
            except Exception:
                logger.exception("the capture of a first visit could not be shown")
        result = self._next(ResultView(State.FINISHED, message=message))
        return [*[gr.skip()] * FILLED, result, None, state_html(self.engine.state())]

    def _show(self, capture: Capture, definition: str, linked: bool, message: str = "") -> list[Any]:
        """What `on_load` has for a capture."""
        filled = fill_form(capture, self.samples)
        result = self._next(replace(views.finished_view(capture, cached=True), message=message))
        return [*filled, result, views.curve_view(capture, definition, linked), state_html(self.engine.state())]

    def _next(self, view: ResultView) -> ResultView:
        """The view, different from all before it: the page takes no notice of one that equals the last."""
        return replace(view, turn=next(self._turns))

    def on_run(self, request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        """Ask or draw: the result card as it grows, then the result and its curve at once."""
        session = request.session_hash or ""
        flag = self._flags[session] = threading.Event()
        self._stopped.discard(session)
        try:
            for result, *others in self._run_or_say(values, flag):
                yield [self._next(result), *others]
        finally:
            flag.set()  # where Gradio dropped this generator, the model stops as well
            if self._flags.get(session) is flag:  # else the next run's has taken its place
                del self._flags[session]

    def _run_or_say(self, values: tuple[Any, ...], flag: threading.Event) -> Iterator[list[Any]]:
        """A run's updates; what ends it early becomes the last one."""
        try:
            yield from self._run(Request(*values), flag)
        except Cancelled:
            yield [STOPPED, gr.skip(), gr.skip()]
        except UserError as error:
            yield [ResultView(State.FAILED, message=str(error)), gr.skip(), gr.skip()]
        except Exception:
            logger.exception("a run failed")
            yield [ResultView(State.FAILED, message=BROKEN), gr.skip(), gr.skip()]

    def _run(self, asked: Request, flag: threading.Event) -> Iterator[list[Any]]:
        growing, picture = ResultView(State.RUNNING, task=asked.task, prompt=asked.words), None
        if asked.task == Task.UNDERSTANDING:
            picture = self.load_choice(asked.picture)
            growing = replace(growing, picture=views.preview_url(picture))
        notices: tuple[str, ...] = ()
        told = time.monotonic()  # a short answer comes whole: an update costs as much as a token or two
        for event in self._start(asked, picture, flag):
            if isinstance(event, Finished):
                yield self._finish(event, notices)
                return
            if isinstance(event, Notice):
                notices = (*notices, event.text)
            growing = grow(growing, event)
            if time.monotonic() - told >= UPDATE_SECONDS:
                told = time.monotonic()
                yield [growing, gr.skip(), gr.skip()]

    def _start(self, asked: Request, picture: Image.Image | None, flag: threading.Event) -> Iterator[Event]:
        if picture is not None:
            return self.engine.understand(asked.model, picture, asked.words, asked.sampling, flag)
        return self.engine.generate(asked.model, asked.words, asked.sampling, flag)

    def _finish(self, event: Finished, notices: tuple[str, ...]) -> list[Any]:
        saved = event.cached or event.capture.id in self.engine.store
        result = views.finished_view(event.capture, event.cached, saved, notices)
        return [result, views.curve_view(event.capture, linked=saved), state_html(self.engine.state())]

    def on_stop(self, request: gr.Request) -> ResultView:
        """End this session's run between two tokens."""
        self._stopped.add(request.session_hash or "")
        self._set_flag(request)
        return self._next(STOPPED)

    def on_failure(self, request: gr.Request) -> ResultView:
        """Gradio itself gave the run up: because it was stopped, or before or beside our code."""
        if request.session_hash in self._stopped:
            return self._next(STOPPED)
        return self._next(ResultView(State.FAILED, message=BROKEN))

    def on_leave(self, request: gr.Request) -> None:
        """End what a closed tab had running."""
        self._set_flag(request)
        self._stopped.discard(request.session_hash or "")

    def _set_flag(self, request: gr.Request) -> None:
        flag = self._flags.get(request.session_hash or "")
        if flag is not None:
            flag.set()

    def on_upload(self, choice: PictureChoice) -> PictureChoice:
        """Check an uploaded file; answer with a preview, or with why it is refused."""
        try:
            return choice.model_copy(update={"preview": views.preview_url(self.load_choice(choice))})
        except UserError as error:
            return PictureChoice(message=str(error), questions=choice.questions)

    def load_choice(self, choice: PictureChoice | None) -> Image.Image:
        """The picture that a choice stands for. Raises `UserError` where there is none, or a bad one."""
        if choice and choice.file:
            return load_picture(Path(choice.file.path))
        if choice and choice.capture:
            return load_picture(self.engine.capture(choice.capture).picture_png)
        sample = self.samples.find(choice.sample) if choice and choice.sample else None
        if sample is None:
            raise UserError("Expected an image to ask about, got none; choose one, or click a sample.")
        return load_picture(sample.path)


def grow(view: ResultView, event: Event) -> ResultView:
    """The running card after one more event."""
    if isinstance(event, TextGrown):
        return replace(view, answer=event.text)
    if isinstance(event, PictureGrown):
        return replace(view, picture=views.preview_url(event.picture), progress=event.done / event.total)
    if isinstance(event, Notice):
        return replace(view, notices=(*view.notices, event.text))
    return view


def state_html(state: str) -> str:
    """The header's line on the model: a dot and words."""
    return f'<span class="lens-dot"></span>{html.escape(state)}'
