"""The picture field: drop, paste or choose a file, or take a sample. Decodes nothing itself.

A chosen file goes to the server as it is, so that the checks of `backend.pictures` come before any
decoder; what the field shows is the preview that the server sends back.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from app.components import load_script


class PictureChoice(GradioModel):
    """What the field holds: one of `file`, `sample` or `capture` says where the picture comes from.

    `preview` (a data URL) is for the eye only; `message` is why a file was refused; `questions`
    are example questions that fit the picture.
    """

    file: FileData | None = None
    sample: str | None = None
    capture: str | None = None
    preview: str | None = None
    message: str | None = None
    questions: list[str] | None = None


class PictureField(gr.HTML):
    """A field whose value is a `PictureChoice`; Gradio checks that a file was really uploaded."""

    data_model = PictureChoice

    def __init__(self, samples: list[dict[str, Any]], default_questions: list[str], max_mib: int, **kwargs: Any):
        """`samples`: dicts of file, title, url and questions."""
        super().__init__(
            html_template=_TEMPLATE,
            js_on_load=load_script("picture"),
            apply_default_css=False,
            samples=samples,
            default_questions=default_questions,
            max_mib=max_mib,
            **kwargs,
        )

    def preprocess(self, payload: PictureChoice | None) -> PictureChoice | None:
        return payload

    def postprocess(self, value: PictureChoice | None) -> PictureChoice | None:
        return value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<div class="lens-picture">
  <div class="lens-label" id="lens-picture-label">Image</div>
  <div class="lens-drop" data-empty="true">
    <input type="file" class="lens-file" accept="image/*" aria-label="Choose an image file" />
    <img class="lens-preview" alt="The chosen image" hidden />
    <span class="lens-hint">Drop, paste or choose an image</span>
    <button type="button" class="lens-clear" aria-label="Remove the image" hidden>&times;</button>
  </div>
  <p class="lens-message" role="alert" hidden></p>
  <div class="lens-samples" role="group" aria-label="Sample images"></div>
</div>
"""
