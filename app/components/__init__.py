"""Our own page components: a Python class each, and beside it the JavaScript that draws it.

`shared.js` goes into the page's head once and holds what several of them need. None of these files
knows an engine or a model.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def load_script(name: str) -> str:
    """The JavaScript of that name, as text."""
    return (FOLDER / f"{name}.js").read_text(encoding="utf-8")
