"""Runs what the form asks for and streams what the cards show: the page's own route, a line of JSON per update.

Not through Gradio's queue: its polling and its client took as long as a short answer. Whose turn it is is the engine's
to say; a page that hangs up, by Stop or by closing, gives its place up at once, or ends its run between two tokens.
Knows the engine and the views; no component and no event of Gradio.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from PIL import Image
from starlette.requests import Request as HttpRequest
from starlette.responses import StreamingResponse

from aia.intensity import Task
from app.components.chart import ChartView, Kept
from app.components.picture import PictureChoice
from app.components.result import ResultView, State
from app.explore import views
from app.explore.form import Request, parse_request
from app.explore.samples import Samples
from app.guard.uploads import find_upload
from app.lines import Lines, read_body, respond_with
from app.words import BROKEN, describe_preparing, describe_run, describe_waiting
from backend.engine import Engine
from backend.interface import (
    Cancelled,
    Computed,
    Event,
    Finished,
    Notice,
    PictureGrown,
    Preparing,
    TextGrown,
    UserError,
    Waiting,
)
from backend.kept.captures import Capture
from backend.pictures import load_picture

logger = logging.getLogger(__name__)

UPDATE_SECONDS = 0.25  # between two updates of a growing result; each costs the page some 20 ms


@dataclass(frozen=True)
class Update:
    """What the page shows next: the result card as it grows, at last with the curve and the header's line on the model.

    Then, in an update of its own, what the cards learn once the result is kept: a curve need not wait for the disk.
    """

    result: ResultView | None = None
    curve: ChartView | None = None
    state: str = ""
    kept: Kept | None = None

    def to_line(self) -> bytes:
        return json.dumps(self, default=vars).encode() + b"\n"


class Stream:
    """The runs of all open pages."""

    def __init__(self, engine: Engine, samples: Samples):
        self._engine = engine
        self._samples = samples
        self._work = Lines(engine.queue, "run")

    # --- the route ---

    async def respond(self, http: HttpRequest) -> StreamingResponse:
        """The form's values in, lines of JSON out."""
        try:
            asked = parse_request(await read_body(http))
        except UserError as error:
            lines, status = iter([failed(str(error)).to_line()]), 400
        else:
            lines, status = self._lines(asked), 200
        return respond_with(lines, status)

    def _lines(self, asked: Request) -> AsyncIterator[bytes]:
        """The lines of one run; when nobody listens any more, the model stops."""
        return self._work.follow(lambda flag: (update.to_line() for update in self.updates(asked, flag)))

    # --- a run ---

    def updates(self, asked: Request, flag: threading.Event) -> Iterator[Update]:
        """Ask or draw: the result card as it grows, then the result with its curve, then what is known once kept.

        What ends a run early becomes the last update.
        """
        try:
            yield from self._run(asked, flag)
        except Cancelled:
            return  # whoever set the flag has stopped listening
        except UserError as error:
            yield failed(str(error))
        except Exception:
            logger.exception("a run failed")
            yield failed(BROKEN)

    def _run(self, asked: Request, flag: threading.Event) -> Iterator[Update]:
        growing, picture = ResultView(State.RUNNING, task=asked.task, prompt=asked.words), None
        if asked.task == Task.UNDERSTANDING:
            picture = load_choice(asked.picture, self._engine, self._samples)
            growing = replace(growing, picture=views.preview_url(picture))
        told = time.monotonic()  # a short answer comes whole: an update costs as much as a token or two
        shown = False
        for event in self._start(asked, picture, flag):
            growing = grow(growing, event)
            if isinstance(event, Computed | Finished):
                if not shown:
                    yield self._show(event.capture, isinstance(event, Finished), growing.notices)
                if isinstance(event, Finished):
                    yield self._tell_kept(event, growing.notices)
                shown = True
            elif not shown and (isinstance(event, Waiting) or time.monotonic() - told >= UPDATE_SECONDS):
                told = time.monotonic()
                yield Update(growing)

    def _start(self, asked: Request, picture: Image.Image | None, flag: threading.Event) -> Iterator[Event]:
        how = (asked.sampling, flag, asked.fine_tuned, asked.precision)
        if picture is not None:
            return self._engine.understand(asked.model, picture, asked.words, *how)
        return self._engine.generate(asked.model, asked.words, *how)

    def _show(self, capture: Capture, cached: bool, notices: tuple[str, ...]) -> Update:
        result = views.finished_view(capture, cached, None, notices)
        return Update(result, views.curve_view(capture, pending=True), self._engine.state())

    def _tell_kept(self, event: Finished, notices: tuple[str, ...]) -> Update:
        link = self._engine.link(event.capture)
        facts = describe_run(event.capture, event.cached, link is not None)
        return Update(kept=Kept(views.query_of(link), views.make_downloads(event.capture), facts, notices))


def grow(view: ResultView, event: Event) -> ResultView:
    """The running card after one more event."""
    if isinstance(event, TextGrown):
        return replace(view, answer=event.text, stage="", progress=None)
    if isinstance(event, PictureGrown):
        return replace(view, stage="", picture=views.preview_url(event.picture), progress=event.done / event.total)
    if isinstance(event, Waiting):
        return replace(view, stage=describe_waiting(event))
    if isinstance(event, Preparing):
        share = event.done / event.total if event.total else None
        return replace(view, stage=describe_preparing(event), progress=share)
    if isinstance(event, Notice):
        return replace(view, notices=(*view.notices, event.text))
    return view


def failed(sentence: str) -> Update:
    return Update(ResultView(State.FAILED, message=sentence))


def load_choice(choice: PictureChoice | None, engine: Engine, samples: Samples) -> Image.Image:
    """The picture that a choice stands for. Raises `UserError` where there is none, or a bad one."""
    if choice and choice.file:
        return load_picture(find_upload(choice.file.path, "image"))
    if choice and choice.capture:
        return load_picture(engine.capture(choice.capture).picture_png)
    sample = samples.find(choice.sample) if choice and choice.sample else None
    if sample is None:
        raise UserError("Expected an image to ask about, got none; choose one, or click a sample.")
    return load_picture(sample.path)
