"""The adapters that finished fine-tunes left, as Explore offers them: names to choose from, ids to folders.

Knows runs and their folders; loads nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from backend.background.runs import Runs
from backend.finetuning.finetune import RunFolder
from backend.interface import UserError

NONE = ("none", "")


def list_adapters(runs: Runs) -> list[tuple[str, str]]:
    """(name, id) of every finished run's adapter, newest first, after "none"."""
    finished = (status for status in runs.list() if status.state == "finished" and status.config)
    return [NONE, *((describe_adapter(status), status.id) for status in finished)]


def describe_adapter(status) -> str:
    """The run's name and what tells it from its pair."""
    kind = {"aia": "AIA", "control": "control", "single": "AIA" if status.config.aia else "without AIA"}[status.role]
    return f"{status.name or status.id[:6]} ({kind}, {status.config.model})"


def adapter_finder(runs: Runs) -> Callable[[str], Path]:
    """What the engine asks for an adapter's folder. It raises `UserError` for an id without one."""

    def find(adapter_id: str) -> Path:
        known = {id for _, id in list_adapters(runs) if id}
        folder = RunFolder(runs.folder / adapter_id).adapter if adapter_id in known else None
        if folder is None or not folder.is_dir():
            raise UserError("Expected the adapter of a finished run, found none by that id; choose another, or none.")
        return folder

    return find
