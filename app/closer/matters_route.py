"""The route of the card "Does it matter?": `lens/matters`, a question in, lines of JSON out.

A line is `{"stage": words, "share": 0…1 or null}` meanwhile, `{"view": …}` at the end, or `{"error": sentence}`. What
is kept is shown at once; the model runs only where `run` asks for it, in the engine's fair queue, and stops when the
page hangs up. Knows no component and no model.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from app.closer import matters_words
from app.closer.asked import Asked, parse_asked
from app.closer.matters import Found, cut_of, head_settings_of, settings_of, show_matters
from app.lines import Lines, read_body, respond_with
from app.words import BROKEN, describe_preparing, describe_waiting
from backend.interface import Cancelled, Preparing, UserError, Waiting
from backend.kept.captures import Capture
from backend.kept.knockouts import HeadReport, KnockoutReport, Remade
from backend.matters import Matters

logger = logging.getLogger(__name__)

MATTERS_URL = "lens/matters"
KNOCK_OUT, HEADS, REMAKE = RUNS = ("knockout", "heads", "remake")  # what `run` may ask for


class MattersRoute:
    """Answers for all open pages. Holds no user's data."""

    def __init__(self, matters: Matters, find: Callable[[str], Capture]):
        """`find` gives the capture of an id, or raises `UserError`."""
        self._matters, self._find = matters, find
        self._work = Lines(matters.engine.queue, "matters")

    async def respond(self, http: Request) -> StreamingResponse:
        """A question in, lines of JSON out."""
        try:
            query = parse_query(await read_body(http))
        except UserError as error:
            return respond_with(iter([to_line({"error": str(error)})]), 400)
        return respond_with(self._work.follow(lambda flag: map(to_line, self.updates(query, flag))))

    def updates(self, query: dict[str, str], flag: threading.Event) -> Iterator[dict[str, Any]]:
        """What to tell meanwhile, then the view; what ends it early becomes a sentence."""
        try:
            run = query.pop("run", "")
            asked = parse_asked(query, self._find)
            found = []
            for capture in asked.captures:
                found.append((yield from self._find_out(asked, capture, run, flag)))
            yield {"view": show_matters(asked, found)}
        except Cancelled:
            return  # whoever set the flag has stopped listening
        except UserError as error:
            yield {"error": str(error)}
        except Exception:
            logger.exception("a knock-out could not be shown")
            yield {"error": BROKEN}

    def _find_out(self, asked: Asked, capture: Capture, run: str, flag: threading.Event) -> Iterator[dict[str, Any]]:
        """What is kept of a capture, and what is asked to be run; yields stages, returns `Found`."""
        sentence = matters_words.missing(capture)
        if sentence:
            raise UserError(sentence)
        settings, kept = settings_of(asked, capture), self._matters.kept
        cut = cut_of(asked, settings, capture.layers)
        report = kept.report(capture.id, settings)
        remade = None if cut is None else kept.remade(capture.id, cut)
        head_settings = head_settings_of(asked, settings)
        heads = kept.heads(capture.id, head_settings)
        if run == KNOCK_OUT and report is None:
            report = yield from follow(self._matters.knock_out(capture, settings, flag), KnockoutReport)
        if run == HEADS and heads is None:
            heads = yield from follow(self._matters.knock_out_heads(capture, head_settings, flag), HeadReport, "heads")
        if run == REMAKE and cut is not None and remade is None:
            yield {"stage": "made again", "share": None}
            remade = yield from follow(self._matters.remake(capture, cut, flag), Remade)
        return Found(capture, settings, report, heads, head_settings.keep, remade)


def follow(steps: Iterator[Any], last: type, what: str = "windows") -> Iterator[dict[str, Any]]:
    """Stages of a work as the card says them; returns the step of the type that is wanted."""
    for step in steps:
        if isinstance(step, last):
            return step
        if isinstance(step, Waiting):
            yield {"stage": describe_waiting(step), "share": None}
        elif isinstance(step, Preparing):
            yield {"stage": describe_preparing(step), "share": step.done / step.total if step.total else None}
        elif hasattr(step, "done"):
            yield {"stage": f"{step.done:,} of {step.total:,} {what}", "share": step.done / step.total}
    raise AssertionError("work on a capture ends with what was found")


def parse_query(body: bytes) -> dict[str, str]:
    """The body's words. Raises `UserError`."""
    try:
        query = json.loads(body)
    except (ValueError, RecursionError):
        query = None
    if not isinstance(query, dict) or not all(isinstance(value, str) for value in query.values()):
        raise UserError("Expected a question about a capture, got something else; reload the page.")
    if query.get("run", "") not in ("", *RUNS):
        raise UserError(f"Expected to run {', '.join(RUNS)}, got “{query['run'][:20]}”; reload the page.")
    return query


def to_line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
