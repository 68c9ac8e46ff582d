"""The result card: the picture, the answer as it grows, small facts, notices and errors.

An error or a stop leaves the former result where it is. Does not know an engine or a capture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import gradio as gr

from app.components import load_script


class State(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"  # the former result stays
    FAILED = "failed"  # the former result stays


@dataclass(frozen=True)
class Chip:
    """A token of the answer or the prompt. `map` is one byte per patch, row by row, as base64."""

    text: str
    map: str = ""
    says: str = ""
    title: str = ""  # shown on hover where the text alone does not tell


@dataclass(frozen=True)
class ResultView:
    """What the card shows. `message` is the one sentence of an error or a stop."""

    state: State
    task: str = ""
    prompt: str = ""
    picture: str = ""  # data URL
    stage: str = ""  # what is done before the model runs
    answer: str = ""  # while it grows
    progress: float | None = None  # 0…1 of a drawing
    chips: tuple[Chip, ...] = ()
    hint: str = ""
    grid: tuple[int, int] = (1, 1)
    facts: str = ""
    notices: tuple[str, ...] = ()
    message: str = ""


class ResultCard(gr.HTML):
    """Value: a `ResultView` or None; the page gets it as plain data."""

    def __init__(self, **kwargs: Any):
        super().__init__(html_template=_TEMPLATE, js_on_load=load_script("result"), apply_default_css=False, **kwargs)

    def postprocess(self, value: ResultView | dict | None) -> dict | None:
        return asdict(value) if isinstance(value, ResultView) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-card lens-result" data-state="finished" aria-label="Result">
  <p class="lens-message" role="alert" hidden></p>
  <div class="lens-two">
    <div class="lens-pic">
      <img class="lens-pixels" alt="" hidden />
      <canvas class="lens-overlay" aria-hidden="true" hidden></canvas>
      <div class="lens-progress" role="progressbar" aria-label="Drawing" hidden><i></i></div>
    </div>
    <div class="lens-text">
      <div class="lens-row"><h2></h2><span class="lens-facts"></span></div>
      <p class="lens-sub lens-prompt"></p>
      <div class="lens-answer" aria-live="polite"></div>
      <p class="lens-hint"></p>
      <p class="lens-says" aria-live="polite" hidden></p>
      <div class="lens-notices" role="status"></div>
    </div>
  </div>
</section>
"""
