"""Our own page components: a Python class each, and beside it the JavaScript that draws it.

`shared.js` and `run.js` go into the page's head once: what several of them need, and what sends a
run and hands its updates to the cards. None of these files knows an engine or a model.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


@cache
def load_script(name: str) -> str:
    """The JavaScript of that name, as text."""
    return (FOLDER / f"{name}.js").read_text(encoding="utf-8")


def as_plain(view: Any) -> Any:
    """A view as plain data: like `dataclasses.asdict`, but plain data inside it are handed on, not copied.

    Copying every number of a figure took longer than making it.
    """
    if is_dataclass(view) and not isinstance(view, type):
        return {field.name: as_plain(getattr(view, field.name)) for field in fields(view)}
    return [as_plain(part) for part in view] if isinstance(view, tuple) else view
