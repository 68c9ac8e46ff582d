"""A list to choose several things from whose choices come and go while a page is open."""

from __future__ import annotations

from typing import Any

import gradio as gr


class Partners(gr.Dropdown):
    """A dropdown with `multiselect`; its value is ids.

    Gradio refuses an event whole when a chosen thing has gone meanwhile; here the handler says so. It has no
    constructor of its own, since the page is told what the constructor's signature names.
    """

    is_template = True  # to the page it is a dropdown

    def preprocess(self, payload: Any) -> list[str]:
        return [str(one) for one in payload] if isinstance(payload, list) else []
