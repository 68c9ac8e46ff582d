"""The rooms' rule: `app → backend → aia`, never back. Every module is imported."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("aia", "backend", "app")
FORBIDDEN = {
    "aia": {"backend", "app", "assets", "gradio", "plotly", "diskcache"},
    "backend": {"app", "assets", "gradio"},
}
FILES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))


def imported_names(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_arrow_points_back(path):
    room = path.relative_to(ROOT).parts[0]
    wrong = imported_names(path) & FORBIDDEN.get(room, set())
    assert not wrong, f"{room} must not import {sorted(wrong)}"


def test_figures_import_no_torch_and_no_gradio():
    assert not imported_names(ROOT / "app" / "figures.py") & {"torch", "gradio", "transformers"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_imports_and_says_what_it_is_for(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-1] == "__main__":
        pytest.skip("runs the command line when imported")
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert module.__doc__ and module.__doc__.strip()


def test_the_arrows_test_sees_an_import_inside_a_function(tmp_path):
    file = tmp_path / "sneaky.py"
    file.write_text("def f():\n    from app.cli import main\n    return main\n")
    assert "app" in imported_names(file)
