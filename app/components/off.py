"""A sentence in place of what is off on this page. Knows no reason itself."""

from __future__ import annotations

from html import escape

import gradio as gr


def make_off_note(sentence: str) -> None:
    """Create the note inside the current Gradio context; nothing without a sentence."""
    if sentence:
        note = f'<p class="lens-off" role="note">{escape(sentence)}</p>'
        gr.HTML(note, apply_default_css=False, js_on_load=None, elem_classes="lens-off-note")
