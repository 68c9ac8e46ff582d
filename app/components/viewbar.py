"""The row above the closer views: their tabs, and what the capture is compared with. Knows no view."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.components import load_script


class ViewBar(gr.HTML):
    """Value: none; names and titles of the views are fixed."""

    def __init__(self, views: Sequence[tuple[str, str]], **kwargs: Any):
        tabs = "".join(
            f'<button type="button" role="tab" id="lens-tab-{name}" data-view="{name}" '
            f'aria-controls="lens-view-{name}">{html.escape(title)}</button>'
            for name, title in views
        )
        template = _TEMPLATE.replace("@tabs", tabs)
        super().__init__(html_template=template, js_on_load=load_script("viewbar"), apply_default_css=False, **kwargs)

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<section class="lens-viewbar" aria-label="Look closer">
  <h2>Look closer</h2>
  <div class="lens-viewtabs" role="tablist" aria-label="Views">@tabs</div>
  <div class="lens-partner">
    <label>Compare with <select><option value="">nothing</option></select></label>
    <input class="lens-paste" placeholder="link or id of a capture" aria-label="Link or id of a capture" hidden />
    <p class="lens-message" role="alert" hidden></p>
  </div>
</section>
"""
