"""A row of example prompts; a click on one writes it into the page's text field. Knows no prompt itself."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components import load_script


class ExampleChips(gr.HTML):
    """Value: a dict of `examples` (a list of prompts) and `chosen` (the last one clicked, or None)."""

    def __init__(self, examples: list[str], label: str, **kwargs: Any):
        super().__init__(
            value={"examples": examples, "chosen": None},
            html_template=f'<div class="lens-chips" role="group" aria-label="{label}"></div>',
            js_on_load=load_script("chips"),
            apply_default_css=False,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}
