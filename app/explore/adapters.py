"""The adapters that finished fine-tunes left, as Explore offers them: names to choose from, ids to folders and back.

Knows runs and their folders; loads nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from backend.background.runs import Runs
from backend.engine import BASE, Adapter
from backend.finetuning.finetune import RunFolder
from backend.interface import UserError
from backend.kept.captures import CaptureKey
from backend.models.loading import folder_revision

NONE = ("none", "")


def list_adapters(runs: Runs, everyones: bool = False) -> list[tuple[str, str]]:
    """(name, id) of the finished runs' adapters of who asks, or of all, newest first, after "none"."""
    finished = (status for status in runs.list(everyones=everyones) if status.state == "finished" and status.config)
    return [NONE, *((describe_adapter(status), status.id) for status in finished)]


def describe_adapter(status) -> str:
    """The run's name and what tells it from its pair, and from others where it was given none."""
    kind = {"aia": "AIA", "control": "control", "single": "AIA" if status.config.aia else "without AIA"}[status.role]
    more = status.config.model if status.name else time.strftime("%d %b, %H:%M", time.localtime(status.created))
    return f"{status.title} ({kind}, {more})"


def adapter_finder(runs: Runs) -> Callable[[str], Path]:
    """What the engine asks for an adapter's folder. It raises `UserError` for an id without one.

    Whoever has the id of another's run may use what it learnt, as they may look at it.
    """

    def find(adapter_id: str) -> Path:
        known = {id for _, id in list_adapters(runs, everyones=True) if id}
        folder = RunFolder(runs.folder / adapter_id).adapter if adapter_id in known else None
        if folder is None or not folder.is_dir():
            raise UserError("Expected the adapter of a finished run, found none by that id; choose another, or none.")
        return folder

    return find


def fine_tune_finder(runs: Runs) -> Callable[[CaptureKey], Adapter]:
    """What the engine asks for what made a capture: an adapter of that digest, or whole weights of that revision."""
    digests: dict[Path, str] = {}  # what a finished run left never changes

    def digest_of(folder: Path, find: Callable[[Path], str]) -> str:
        if folder not in digests:
            digests[folder] = find(folder)
        return digests[folder]

    def find(key: CaptureKey) -> Adapter:
        from backend.models.adapters import adapter_digest, is_adapter  # PEFT is slow to import

        digest, _, strength = key.adapter.partition("@")
        for _, id in list_adapters(runs, everyones=True)[1:]:
            folder = RunFolder(runs.folder / id).adapter
            if not folder.is_dir() or is_adapter(folder) != bool(digest):
                continue
            found = digest_of(folder, adapter_digest if digest else folder_revision)
            if found == (digest or key.revision):
                return Adapter(id, float(strength or 1))
        if digest:
            raise UserError(
                "This needs the model once more, and the adapter that made this capture is not here any more; "
                "choose a capture of another."
            )
        return BASE

    return find
