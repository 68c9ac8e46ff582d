"""A page on which leaving a component as it is costs nothing. Knows no component and no handler.

For every `gr.skip()` Gradio makes the component anew, a third of a millisecond each, to find that nothing changed. Most
of what a page asks on loading, and all of what a poll finds unchanged, is skipped.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.state_holder import SessionState


class SparingBlocks(gr.Blocks):
    """Gradio's page; outputs that a handler skips are sent as that, and only the others are made anew."""

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list | dict, state: SessionState | None
    ) -> list[Any]:
        outputs, skip = block_fn.outputs, gr.skip()
        several = isinstance(predictions, list | tuple) and len(predictions) == len(outputs) > 1
        if not several or block_fn.batch:
            return await super().postprocess_data(block_fn, predictions, state)
        kept = [i for i, value in enumerate(predictions) if outputs[i].stateful or not _is_skip(value)]
        sent: list[Any] = [dict(skip) for _ in outputs]
        if kept:
            fewer = copy(block_fn)
            fewer.outputs = [outputs[i] for i in kept]
            values = [predictions[i] for i in kept]
            made = await super().postprocess_data(fewer, values if len(kept) > 1 else values[0], state)
            for i, value in zip(kept, made, strict=True):
                sent[i] = value
        return sent


def _is_skip(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()
