"""The card of one closer view: a frame that the view's own script fills. Knows no view."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components import load_script


class ViewCard(gr.HTML):
    """Value: none; the script named like the view fetches what it shows. See `closer.js`."""

    def __init__(self, name: str, **kwargs: Any):
        template = _TEMPLATE.replace("@name", name)
        super().__init__(html_template=template, js_on_load=load_script(name), apply_default_css=False, **kwargs)

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-card lens-view" role="tabpanel" id="lens-view-@name" aria-labelledby="lens-tab-@name" hidden>
  <div class="lens-row"><h2></h2><div class="lens-tools"></div></div>
  <p class="lens-sub"></p>
  <p class="lens-message" role="alert" hidden></p>
  <div class="lens-view-body"></div>
  <p class="lens-says" aria-live="polite"></p>
  <p class="lens-explains" hidden></p>
  <div class="lens-actions" role="group" aria-label="Export"></div>
</section>
"""
