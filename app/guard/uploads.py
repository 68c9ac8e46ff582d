"""Files that clients name: only such as they uploaded, in the one folder that Gradio keeps uploads in.

Owns that folder's rules: what counts as an upload, how much of it there may be, what is swept away. Does not look into
files (`backend.pictures`, `backend.finetuning.image_zips`, `backend.kept.archives` do).
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from backend.interface import UserError

KEPT_SECONDS = 86_400
PART_SECONDS = 3_600  # after which an upload that never ended is removed
HOUR_SECONDS = 3_600
SWEEP_SECONDS = 60  # between two looks at the folder


def find_upload(path: Any, what: str) -> Path:
    """The path of an uploaded file. Raises `UserError` for any other file of this machine, and for none."""
    if not isinstance(path, str) or not is_upload(path):
        raise UserError(f"Expected an uploaded {what}, got another file; choose the {what} again.")
    return Path(path).resolve()


def is_upload(path: str) -> bool:
    """Whether a path leads into the folder of uploads; links are followed first."""
    try:
        folder, found = Path(get_upload_folder()).resolve(), Path(path).resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL, a loop of links
        return False
    return found != folder and found.is_relative_to(folder)


def uploaded_path(value: Any, what: str) -> Path:
    """The file of a program's argument, as `gradio_client.handle_file` makes it. Raises `UserError`."""
    marked = isinstance(value, dict) and isinstance(value.get("meta"), dict)
    if not marked or value["meta"].get("_type") != "gradio.FileData" or not isinstance(value.get("path"), str):
        raise UserError(f"Expected an uploaded {what}, got something else; upload it first (handle_file does).")
    return find_upload(value["path"], what)


class Allowance:
    """How much may be uploaded: files per person and hour, and bytes that lie in the folder at once."""

    def __init__(self, files_per_hour: int, folder_bytes: int, clock: Callable[[], float] = time.monotonic):
        self._files_per_hour, self._folder_bytes, self._clock = files_per_hour, folder_bytes, clock
        self._sent: defaultdict[str, deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._held_bytes, self._looked = 0, -SWEEP_SECONDS

    def check(self, person: str) -> None:
        """Raise `UserError` if that person, or the folder, has had enough for now."""
        with self._lock:
            now = self._clock()
            sent = self._recent(person, now)
            if len(sent) >= self._files_per_hour:
                minutes = max(1, round((sent[0] + HOUR_SECONDS - now) / 60))
                raise UserError(
                    f"Expected at most {self._files_per_hour:,} uploaded files an hour from one person, got more; "
                    f"go on in {minutes} min."
                )
            if now - self._looked >= SWEEP_SECONDS:
                self._held_bytes, self._looked = sweep(Path(get_upload_folder())), now
            if self._held_bytes >= self._folder_bytes:
                raise UserError(
                    f"Expected room for uploads, but the {self._folder_bytes / 2**20:,.0f} MiB for them are full; "
                    "try again tomorrow, when they are cleared."
                )

    def note(self, person: str, files: int, size_bytes: int) -> None:
        """Files have come."""
        with self._lock:
            now = self._clock()
            self._recent(person, now).extend([now] * files)
            self._held_bytes += size_bytes

    def _recent(self, person: str, now: float) -> deque[float]:
        """When a person's files of the last hour came, the oldest first; whoever sent none for an hour is forgotten."""
        for name in [name for name, sent in self._sent.items() if not sent or sent[-1] <= now - HOUR_SECONDS]:
            del self._sent[name]
        sent = self._sent[person]
        while sent and sent[0] <= now - HOUR_SECONDS:
            sent.popleft()
        return sent


def sweep(folder: Path, now: float | None = None) -> int:
    """Remove uploads that never ended and such as are a day old; return the bytes that stay.

    Gradio forgets what it was sent when the server is restarted, and never knew of what was cut off.
    """
    now, held = time.time() if now is None else now, 0
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return 0
    for entry in entries:
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            if now - entry.stat(follow_symlinks=False).st_mtime > (KEPT_SECONDS if is_folder else PART_SECONDS):
                shutil.rmtree(entry.path) if is_folder else os.unlink(entry.path)
            else:
                held += _size(entry, is_folder)
        except OSError:  # another thread was quicker
            continue
    return held


def _size(entry: os.DirEntry[str], is_folder: bool) -> int:
    if not is_folder:
        return entry.stat(follow_symlinks=False).st_size
    return sum(inner.stat(follow_symlinks=False).st_size for inner in os.scandir(entry.path) if inner.is_file())
