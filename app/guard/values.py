"""A page whose controls refuse, in one sentence, values that do not fit: the request's fault, not the server's."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

logger = logging.getLogger(__name__)

_MISFIT = "Expected the values of this page's controls, got others; reload the page and try again."


class CheckedBlocks(gr.Blocks):
    """Gradio's page; what its controls cannot make anything of becomes `gr.Error`, before any handler of ours runs."""

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.Error as error:
            error.print_exception = False  # a choice that there is not: nothing for the log
            raise
        except Exception as error:  # pydantic's, gradio's and Python's own, whatever was sent
            logger.info("values were refused: %s", type(error).__name__)
            raise gr.Error(_MISFIT, print_exception=False) from None
