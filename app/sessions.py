"""What the server remembers of each open page. Knows no page and no event.

Gradio keeps the settings and values of every component for each page and each call of a program, up to 10,000 of them,
so that a link could bring a page back: a third of a megabyte and 25 ms of work each time. Results here have addresses
of their own, so nothing of that is kept; only choices and ranges that a page was given, which its answers must fit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from types import SimpleNamespace
from typing import Any

from gradio.blocks import Blocks
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

CHECKED = ("choices", "minimum", "maximum")  # what a component holds answers against
MOST_SESSIONS = 2000  # the longest unused go first; a page whose session went is as one that was just opened


class Session(SessionState):
    """One open page, or one call of a program."""

    def __init__(self, blocks: Blocks):
        nothing = SimpleNamespace(blocks={})
        super().__init__(SimpleNamespace(default_config=nothing, blocks=()))  # it would copy all that it is given
        self.blocks_config = self._everybodys = blocks.default_config
        self._newest: tuple[int, Any] = (-1, None)  # the update that Gradio is about to read back and send

    def __getitem__(self, key: int) -> Any:
        return self._newest[1] if key == self._newest[0] else super().__getitem__(key)

    def __setitem__(self, key: int, value: Any) -> None:
        self._newest = (key, value)
        known = self.blocks_config.blocks.get(key)
        if known is not None and all(getattr(known, name, None) == getattr(value, name, None) for name in CHECKED):
            return  # one for all pages does: that its label or value is another changes no answer
        if self.blocks_config is self._everybodys:
            self.blocks_config = copy(self._everybodys)
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


class Sessions(StateHolder):
    """All of them, as Gradio asks for them."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = Session(self.blocks)
        return super().__getitem__(session_id)


@asynccontextmanager
async def keep_little(app: App) -> AsyncIterator[None]:
    """A lifespan: from the server's start on, sessions are ours."""
    app.state_holder = Sessions()
    app.state_holder.set_blocks(app.get_blocks())
    yield
