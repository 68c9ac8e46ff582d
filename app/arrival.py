"""What happens when a page has loaded: every tab reads the address, all in one event.

One event and not one for each tab, since each costs the server some ten milliseconds and the page a request. Owns the
event; knows no tab. What only a tab in front needs is for the tab's own `select`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

logger = logging.getLogger(__name__)

Read = Callable[[gr.Request], list[Any]]  # the address in, a value for each output out, `gr.skip()` for none


class Arrival:
    """The one event of loading. Tabs add to it while they are built; `connect` comes last."""

    def __init__(self) -> None:
        self._readers: list[tuple[Read, list[gr.components.Component]]] = []

    def add(self, read: Read, outputs: list[gr.components.Component]) -> None:
        """Have the outputs filled on loading. Where two fill one output, the one that was added first does."""
        self._readers.append((read, outputs))

    def connect(self, blocks: gr.Blocks) -> None:
        outputs = {output._id: output for _, each in self._readers for output in each}
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        blocks.load(self.on_load, None, [*outputs.values()], **quiet)

    def on_load(self, request: gr.Request) -> list[Any]:
        """Values of all outputs. A tab that fails is left as it is, and the log says why."""
        skip = gr.skip()
        found = {output._id: skip for _, outputs in self._readers for output in outputs}
        for read, outputs in self._readers:
            try:
                values = read(request)
            except Exception:
                logger.exception("a tab could not read the address")
                continue
            for output, value in zip(outputs, values, strict=True):
                if found[output._id] == skip:
                    found[output._id] = value
        return [*found.values()]
