"""The Explore tab: choose a model, ask it about an image or have it draw one, see the curve.

Components and thin handlers: what the cards show is made in `views.py`. A run itself does not pass
through Gradio: the page sends it to the route of `stream.py`, and `components/run.js` shows what comes.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from app.arrival import Arrival
from app.closer.page import build_closer
from app.components.chart import ChartCard
from app.components.picture import PictureChoice
from app.components.result import ResultCard, ResultView, State
from app.explore import views
from app.explore.form import FILLED, Form, fill_form, make_form
from app.explore.samples import Samples
from app.explore.stream import load_choice
from app.rules import ALL, Rules, check
from app.words import BROKEN
from backend.engine import Engine
from backend.interface import Finished, UserError
from backend.kept.captures import Capture
from backend.people.person import EVERYONE, asked_by
from backend.pictures import load_picture

logger = logging.getLogger(__name__)

_RUN_JS = "(...values) => { lens.run(values); return []; }"  # not its promise: Gradio would wait for it
_STOP_JS = "() => { lens.stop(); return []; }"


class Explore:
    """One tab of one app. Holds no user's data."""

    def __init__(self, engine: Engine, samples: Samples, list_adapters: Callable[[], list[tuple[str, str]]]):
        """`list_adapters` gives names and ids of what fine-tunes left, "none" first."""
        self.engine = engine
        self.samples = samples
        self.list_adapters = list_adapters
        self.welcome = self._make_welcome()

    def _make_welcome(self) -> Capture | None:
        """The capture of a first visit: the first sample, described. None where no model is at hand."""
        sample = self.samples.pictures[0]
        try:
            with asked_by(EVERYONE):
                asked = self.engine.specs[0].name, load_picture(sample.path), sample.questions[-1]
                events = self.engine.understand(*asked)
                return [event.capture for event in events if isinstance(event, Finished)][-1]
        except UserError as error:
            logger.warning("no capture for a first visit: %s", error)
            return None

    # --- components ---

    def build(self, arrival: Arrival, state: gr.HTML, rules: Rules = ALL) -> None:
        """Create the tab inside the current Gradio context; `state` is the header's line on the model."""
        self.rules = rules
        with gr.Row(elem_id="lens-explore", equal_height=False):
            with gr.Column(elem_id="lens-form", scale=0):
                form = make_form(self.engine.specs, self.samples, self.list_adapters())
                form.unload.visible = not rules.unloading
            with gr.Column(elem_id="lens-results"):
                result = ResultCard(elem_id="lens-result")
                curve = ChartCard("Cross-modal interaction by layer", "Definition", elem_id="lens-curve")
                build_closer()
        self._connect(arrival, form, result, curve, state)

    def _connect(self, arrival: Arrival, form: Form, result: ResultCard, curve: ChartCard, state: gr.HTML) -> None:
        gr.on([form.ask.click, form.draw.click, *form.submits], fn=None, js=_RUN_JS, inputs=form.fields)
        form.stop.click(fn=None, js=_STOP_JS)
        form.unload.click(self.on_unload, outputs=state, show_progress="hidden", api_visibility="private")
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        picture = form.fields[2]
        picture.upload(self.on_upload, inputs=picture, outputs=picture, **quiet)
        adapter = form.fields[-3]
        adapter.focus(self.on_adapters, outputs=adapter, **quiet)
        arrival.add(self.on_load, [*form.filled, result, curve, state])
        arrival.add(lambda request: [self.on_adapters()], [adapter])

    # --- handlers ---

    def on_load(self, request: gr.Request) -> list[Any]:
        """Show the capture that the address names, else the one of a first visit. Runs no model."""
        query = dict(request.query_params)
        asked, definition = query.get("capture", ""), query.get("definition", "")
        message = ""
        if asked:
            try:
                return self._show(self.engine.capture(asked), definition, asked)
            except UserError as error:
                message = str(error)
            except Exception:
                logger.exception("capture %.24s could not be shown", asked)
                message = BROKEN
        if self.welcome is not None:
            try:
                link = None if asked else self.engine.link(self.welcome)
                return self._show(self.welcome, definition, link, message)
            except Exception:
                logger.exception("the capture of a first visit could not be shown")
        result = ResultView(State.FINISHED, message=message)
        return [*[gr.skip()] * FILLED, result, None, state_html(self.engine.state())]

    def _show(self, capture: Capture, definition: str, link: str | None, message: str = "") -> list[Any]:
        """What `on_load` has for a capture."""
        filled = fill_form(capture, self.samples, link or "")
        mended = self.engine.store.mended
        result = views.finished_view(capture, cached=True, notices=(mended,) if mended else ())
        result = replace(result, message=message)
        return [*filled, result, views.curve_view(capture, definition, link), state_html(self.engine.state())]

    def on_unload(self) -> str:
        """Let the model go; the header says so."""
        try:
            check(self.rules.unloading)
            return state_html(self.engine.unload())
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def on_adapters(self) -> dict[str, Any]:
        """The adapters that there are by now: a run may have ended since the page was made."""
        return gr.update(choices=self.list_adapters())

    def on_upload(self, choice: PictureChoice | None) -> PictureChoice:
        """Check an uploaded file; answer with a preview, or with why it is refused."""
        try:
            picture = load_choice(choice, self.engine, self.samples)
            return choice.model_copy(update={"preview": views.preview_url(picture)})
        except UserError as error:
            return PictureChoice(message=str(error), questions=choice and choice.questions)


def state_html(state: str) -> str:
    """The header's line on the model: a dot and words."""
    return f'<span class="lens-dot"></span><span class="lens-words">{html.escape(state)}</span>'
