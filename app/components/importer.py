"""The field that takes a file into the library: chosen or dropped. Opens nothing itself.

The file goes to the server as it is; what became of it is shown by the table.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from app.components import load_script


class ImportChoice(GradioModel):
    """What the field holds: the file; `serial` grows, so that the same file can come again."""

    file: FileData | None = None
    serial: int = 0


class Importer(gr.HTML):
    """A field whose value is an `ImportChoice`. Event: `upload`. Gradio checks that a file was really uploaded."""

    data_model = ImportChoice

    def __init__(self, max_mib: int, **kwargs: Any):
        super().__init__(
            html_template=_TEMPLATE,
            js_on_load=load_script("importer"),
            apply_default_css=False,
            max_mib=max_mib,
            **kwargs,
        )

    def preprocess(self, payload: ImportChoice | None) -> ImportChoice | None:
        return payload

    def postprocess(self, value: ImportChoice | None) -> ImportChoice | None:
        return value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<div class="lens-importer">
  <div class="lens-title">
    <h2>Library</h2>
    <p class="lens-sub">Everything that is kept here. Open a row to name it, look at it again or take it along.</p>
  </div>
  <div class="lens-drop">
    <input type="file" class="lens-file" aria-label="Import a file" />
    <span class="lens-hint">Import: drop or choose a file</span>
  </div>
  <p class="lens-message" role="alert" hidden></p>
</div>
"""
