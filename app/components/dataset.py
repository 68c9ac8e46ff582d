"""A field for a data set of one's own: a file of rows and a ZIP of images, sent as they are. Looks into neither."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from app.components import load_script


class DataFiles(GradioModel):
    """What the field holds once both files, or a text alone, are on the server; `message` is why they were refused."""

    rows: FileData | None = None
    images: FileData | None = None
    text: FileData | None = None
    message: str | None = None


class DataUpload(gr.HTML):
    """A field whose value is `DataFiles`; Gradio checks that files were really uploaded. Event: `upload`."""

    data_model = DataFiles

    def __init__(self, max_mib: int, texts: bool = False, **kwargs: Any):
        """`texts`: whether a text file of prompts does as well."""
        more = (",.txt", ", or a text file of prompts, one a line") if texts else ("", "")
        super().__init__(
            html_template=_TEMPLATE.replace("@more", more[0]).replace("@hint", more[1]),
            js_on_load=load_script("dataset"),
            apply_default_css=False,
            max_mib=max_mib,
            texts=texts,
            **kwargs,
        )

    def preprocess(self, payload: DataFiles | None) -> DataFiles | None:
        return payload

    def postprocess(self, value: DataFiles | None) -> DataFiles | None:
        return value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<div class="lens-dataset">
  <div class="lens-data-drop">
    <input type="file" multiple accept=".json,.jsonl,.zip@more" aria-label="Choose rows and images" />
    <span class="lens-hint">Drop or choose a JSON or JSONL file and a ZIP of its images@hint</span>
  </div>
  <p class="lens-message" role="alert" hidden></p>
</div>
"""
