"""A slider that hands on what it got, an emptied number box included.

Gradio's own breaks off on values outside its range and on none, in words of its own; whoever takes
the value says that better.
"""

from __future__ import annotations

import gradio as gr


class PlainSlider(gr.Slider):
    """`gr.Slider` whose value may be None or out of range."""

    def preprocess(self, payload: float | None) -> float | None:
        return payload

    def get_block_name(self) -> str:
        return "slider"  # the part of the page that draws it
