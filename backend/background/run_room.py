"""What the folder of all runs holds and takes: ids, names, room on the disk, and what a disk's refusal is called.

Knows folders by their names, and what a config will need; neither states, nor processes, nor what is in a run.
"""

from __future__ import annotations

import errno
import math
import re
import shutil
from pathlib import Path

from aia.config import TrainingConfig
from backend.interface import UserError
from backend.models.specs import find_spec

LONGEST_NAME = 80
SPARE_BYTES = 64 * 2**20  # on the disk, beyond what a run is thought to need

_ID = re.compile(r"[0-9a-f]{16}")
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}


def find_in(folder: Path, run_id: str) -> Path:
    """The run folder of that id. Raises `UserError` for anything that is not an id or not a folder of its own."""
    if isinstance(run_id, str) and _ID.fullmatch(run_id):
        path = folder / run_id
        if path.is_dir() and not path.is_symlink():
            return path
    raise UserError(f"Expected the id of a run, got {str(run_id)[:40]!r}, of which there is none; reload the page.")


def list_folders(folder: Path) -> list[Path]:
    """All run folders in a folder; none if it is not there."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise say_refusal(error) from error
    return [path for path in entries if _ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]


def clean_name(name: str) -> str:
    """A name on one line. Raises `UserError` if it is too long."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if len(name) > LONGEST_NAME:
        raise UserError(f"Expected a name of at most {LONGEST_NAME} characters, got {len(name):,}; shorten it.")
    return name


def needed_bytes(config: TrainingConfig) -> int:
    """What a run will take on the disk, roughly: checkpoints with AdamW's two moments, the adapter, the events.

    The width of the model, which decides how much adapters hold, is reckoned from its parameters and layers.
    Raises `UserError` if the model is unknown.
    """
    spec = find_spec(config.model)
    width = math.sqrt(spec.parameters / (12 * spec.layers))
    share = 1.0 if config.method == "full" else min(1.0, 2 * config.lora_rank / width)
    weights = 4 * spec.parameters * share
    return int(weights * (3 * (config.keep_checkpoints + 1) + 1)) + 500 * config.steps  # one draft beside those kept


def check_room(configs: list[TrainingConfig], folder: Path) -> None:
    """Raises `UserError` if the folder's disk has no room for runs of these configs."""
    needed = sum(needed_bytes(config) for config in configs) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"Expected {needed / 2**20:,.0f} MiB on the disk for checkpoints, got {free / 2**20:,.0f}; "
            "free some space, or keep fewer checkpoints."
        )


def say_refusal(error: BaseException) -> UserError:
    """A disk's refusal in one sentence, without paths."""
    if isinstance(error, UserError):
        return error
    if getattr(error, "errno", None) in _FULL_ERRNOS:
        return UserError("Expected room on the disk for runs, got a full one; free some space, then try again.")
    reason = getattr(error, "strerror", None) or "the disk refused"
    return UserError(f"Expected a folder for runs that can be read and written, got “{reason}”; check its permissions.")
