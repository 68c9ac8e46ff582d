"""The block "Look closer" of the Explore tab: the row of views and a card for each. Holds no data, has no handler."""

from __future__ import annotations

import gradio as gr

from app.closer.registry import VIEWS
from app.components.viewbar import ViewBar


def build_closer() -> None:
    """Create the block inside the current Gradio context. The cards fetch what they show; see `route.py`."""
    with gr.Column(elem_id="lens-closer"):
        ViewBar([(view.name, view.title) for view in VIEWS], elem_id="lens-views")
        for view in VIEWS:
            view.card(view.name)
