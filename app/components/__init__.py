"""Our own page components: a Python class each, and beside it the JavaScript that draws it.

`shared.js` and `run.js` go into the page's head once: what several of them need, and what sends a
run and hands its updates to the cards. None of these files knows an engine or a model.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def load_script(name: str) -> str:
    """The JavaScript of that name, as text."""
    return (FOLDER / f"{name}.js").read_text(encoding="utf-8")
