"""The page's named endpoints for programs: /understand, /generate, /capture, /unload. Same content as the command line.

Thin over the engine: arguments in, `Capture.summary()` out. Knows no component of the page.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from aia.intensity import Task
from app.explore.form import number, whole_number
from app.guard.uploads import uploaded_path
from app.rules import ALL, Rules, check
from app.words import BROKEN
from backend.engine import Engine
from backend.interface import Event, Finished, Notice, UserError
from backend.kept.captures import Capture
from backend.pictures import load_picture
from backend.sampling import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING, drawing_sampling

logger = logging.getLogger(__name__)

# How many may wait at once for their turn, which the engine's queue gives; they sleep in threads that others need, too.
MODEL_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 16}


def add_endpoints(engine: Engine, rules: Rules = ALL) -> None:
    """Add the four endpoints to the current Gradio context."""
    endpoints = Endpoints(engine, rules)
    gr.api(endpoints.understand, api_name="understand", **MODEL_QUEUE)
    gr.api(endpoints.generate, api_name="generate", **MODEL_QUEUE)
    gr.api(endpoints.capture, api_name="capture")
    gr.api(endpoints.unload, api_name="unload")


class Endpoints:
    """The endpoints of one engine; Gradio shows callers these signatures and docstrings."""

    def __init__(self, engine: Engine, rules: Rules = ALL):
        self._engine, self._rules = engine, rules

    def understand(
        self,
        model: str,
        image: dict,
        prompt: str,
        seed: int = UNDERSTANDING_SAMPLING.seed,
        temperature: float = UNDERSTANDING_SAMPLING.temperature,
        max_new_tokens: int = UNDERSTANDING_SAMPLING.max_new_tokens,
    ) -> dict:
        """Answer `prompt` about `image` (an uploaded file; `handle_file` in gradio_client)."""

        def events() -> Iterator[Event]:
            sampling = replace(
                UNDERSTANDING_SAMPLING,
                seed=whole_number(seed, "seed"),
                temperature=number(temperature, "temperature"),
                max_new_tokens=whole_number(max_new_tokens, "max_new_tokens"),
            )
            picture = load_picture(uploaded_path(image, "image file"))
            return self._engine.understand(check_text(model, "model"), picture, check_text(prompt, "prompt"), sampling)

        return answer_or_refuse(lambda: self._run(events()))

    def generate(
        self,
        model: str,
        prompt: str,
        seed: int = GENERATION_SAMPLING.seed,
        temperature: float | None = None,
        guidance: float | None = None,
        size: str = "",
    ) -> dict:
        """Draw `prompt`; the picture comes as base64 PNG under `image`. None: as the model draws best.

        `size`, for models that draw more than one: rows and columns of patches such as "32x48", or an aspect.
        """

        def events() -> Iterator[Event]:
            own = drawing_sampling(self._engine.spec(check_text(model, "model")))
            sampling = replace(
                own,
                seed=whole_number(seed, "seed"),
                temperature=own.temperature if temperature is None else number(temperature, "temperature"),
                guidance=own.guidance if guidance is None else number(guidance, "guidance"),
                size=check_text(size, "size"),
            )
            return self._engine.generate(check_text(model, "model"), check_text(prompt, "prompt"), sampling)

        return answer_or_refuse(lambda: self._run(events()))

    def capture(self, capture_id: str) -> dict:
        """A stored capture by its id, or by what `link` said."""
        return answer_or_refuse(lambda: self._describe(self._engine.capture(check_text(capture_id, "capture_id"))))

    def unload(self) -> dict:
        """Let the loaded model go and give its memory back; says what is loaded then."""

        def work() -> dict[str, Any]:
            check(self._rules.unloading)
            return {"state": self._engine.unload()}

        return answer_or_refuse(work)

    def _run(self, events: Iterator[Event]) -> dict[str, Any]:
        """Run to the end: the capture, whether it came from the store, and what the model had to say."""
        notices: list[str] = []
        for event in events:
            if isinstance(event, Notice):
                notices.append(event.text)
            elif isinstance(event, Finished):
                return {**self._describe(event.capture), "cached": event.cached, "notices": notices}
        raise RuntimeError("an event stream ended without Finished")

    def _describe(self, capture: Capture) -> dict[str, Any]:
        """The summary, for a drawing the picture as base64 PNG, and what opens it for others where its id does not."""
        summary, link = capture.summary(), self._engine.link(capture)
        if link not in (None, capture.id):
            summary["link"] = link
        if capture.task == Task.GENERATION:
            summary["image"] = base64.b64encode(capture.picture_png).decode()
        return summary


def answer_or_refuse(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do the work; what a caller can mend becomes Gradio's error with its one sentence."""
    try:
        return work()
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Exception as error:
        logger.exception("an API call failed")
        raise gr.Error(BROKEN, print_exception=False) from error


def check_text(value: Any, name: str) -> str:
    """The value if it is text. Raises `UserError` naming what it is for."""
    if not isinstance(value, str):
        raise UserError(f"Expected text as {name}, got {type(value).__name__}; send a string.")
    return value
