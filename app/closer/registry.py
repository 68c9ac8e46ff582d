"""Which views there are, in the order of their tabs. A new view is a line here; see the package's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.closer.asked import Asked
from app.closer.heads import read_head, read_heads
from app.closer.matters import read_matters
from app.closer.space import read_space
from app.closer.time import read_time
from app.components.viewcard import ViewCard

Read = Callable[[Asked], dict[str, Any]]


@dataclass(frozen=True)
class View:
    """One view: `name` is that of its script and data, `title` that of its tab, `keys` are its own in the address."""

    name: str
    title: str
    card: Callable[[str], ViewCard]  # makes the card inside the current Gradio context
    read: Read
    keys: tuple[str, ...] = ()


VIEWS = (
    View("heads", "Heads", ViewCard, read_heads, ("head", "sort", "tasks", "find")),
    View("time", "Time", ViewCard, read_time, ("step", "fed")),
    View("space", "Space", ViewCard, read_space, ("head", "layer", "word", "patch", "sinks", "smooth", "fed", "play")),
    View("matters", "Does it matter?", ViewCard, read_matters, ("width", "way", "draws", "cut", "alone", "head")),
)

# Data without a card of their own. Those that run a model are made where the engine is: see `space.space_sources`;
# those that need measurements where these are: see `tasks.tasks_sources`.
SOURCES: dict[str, Read] = {"head": read_head}

READERS: dict[str, Read] = {view.name: view.read for view in VIEWS} | SOURCES
KEYS = tuple(dict.fromkeys(key for view in VIEWS for key in view.keys))
