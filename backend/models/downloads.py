"""Brings a model's files from the hub to this machine, with progress, or says in one sentence why it cannot.

Knows huggingface_hub; not what the files hold, nor who asked for them.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from backend.interface import CancelFlag, Cancelled, Preparing, UserError
from backend.models.specs import ModelSpec

logger = logging.getLogger(__name__)

SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model")  # configuration, tokenizer, processor
WANTED = (*SETTINGS, "*.safetensors")  # no pickles, no code
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
SPARE_BYTES = 2**30  # of disk, beyond the files themselves
LOOK_SECONDS = 0.2


def bring_here(spec: ModelSpec, cancel: CancelFlag | None = None) -> Iterator[Preparing]:
    """Fetch what is not on this machine yet; returns the spec with its source in a folder here.

    Raises `UserError` for a repository that is missing, gated or not reachable, and for a full disk; `Cancelled` when
    the flag was set. What was fetched by then is kept, and the next try goes on from there.
    """
    return (yield from _bring(spec, cancel, WANTED, "*.safetensors"))


def bring_settings_here(spec: ModelSpec, cancel: CancelFlag | None = None) -> Iterator[Preparing]:
    """The same without the weights, for who has others: a few megabytes."""
    return (yield from _bring(spec, cancel, SETTINGS, "config.json"))


def _bring(spec: ModelSpec, cancel: CancelFlag | None, wanted: tuple[str, ...], needed: str) -> Iterator[Preparing]:
    if Path(spec.source).is_dir() or not HUB_ID.fullmatch(spec.source):
        return spec
    folder = find_here(spec, wanted, needed)
    if folder is None:
        try:
            folder = yield from _fetch(spec, cancel, wanted, needed)
        except Cancelled:
            raise
        except Exception as error:
            logger.warning("fetching %s failed: %r", spec.source, error)
            raise UserError(say_why(spec, error)) from error
    return replace(spec, source=str(folder), revision=folder.name)  # a snapshot's folder is named by its commit


def fetched(spec: ModelSpec) -> ModelSpec:
    """The same for who does not watch: the spec with its source in a folder here."""
    fetching = bring_here(spec)
    while True:
        try:
            next(fetching)
        except StopIteration as end:
            return end.value


def find_here(spec: ModelSpec, wanted: tuple[str, ...] = WANTED, needed: str = "*.safetensors") -> Path | None:
    """The folder of a hub model whose files are all on this machine; None if any is missing."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            spec.source, revision=spec.revision or None, allow_patterns=list(wanted), local_files_only=True
        )
    except (OSError, ValueError):
        return None
    return Path(found) if any(Path(found).glob(needed)) else None


def at_hand(spec: ModelSpec) -> ModelSpec | None:
    """The spec with its source in a folder of this machine; None where its files would have to be fetched."""
    if Path(spec.source).is_dir() or not HUB_ID.fullmatch(spec.source):
        return spec
    folder = find_here(spec)
    return folder and replace(spec, source=str(folder), revision=folder.name)


def _fetch(spec: ModelSpec, cancel: CancelFlag | None, wanted: tuple[str, ...], needed: str) -> Iterator[Preparing]:
    """Fetch from a thread, telling what has come; returns the snapshot's folder."""
    from huggingface_hub import snapshot_download

    asked = {"revision": spec.revision or None, "allow_patterns": list(wanted)}
    plan = snapshot_download(spec.source, **asked, dry_run=True)
    _check_there(spec, [file.filename for file in plan], needed)
    total = sum(file.file_size or 0 for file in plan if file.will_download)
    _check_disk(spec, total)
    come, gone = _Counter(cancel), queue.SimpleQueue()

    def work() -> None:
        try:
            gone.put(snapshot_download(spec.source, **asked, tqdm_class=come.bar_class()))
        except BaseException as error:  # told where the result is awaited
            gone.put(error)

    threading.Thread(target=work, name="download", daemon=True).start()
    while True:
        yield Preparing(f"fetching {spec.title}", min(come.bytes, total), total)
        try:
            result = gone.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            continue
        if come.stopped:
            raise Cancelled
        if isinstance(result, BaseException):
            raise result
        return Path(result)


class _Counter:
    """Counts the bytes that come, and ends the download from inside when the flag is set."""

    def __init__(self, cancel: CancelFlag | None):
        self._cancel, self._lock = cancel, threading.Lock()
        self.bytes, self.stopped = 0, False

    def bar_class(self) -> type:
        """A progress bar of huggingface_hub that shows nothing and tells this counter."""
        from huggingface_hub.utils import tqdm

        counter = self

        class Bar(tqdm):
            def __init__(self, *args, **kwargs):
                self._is_sum = str(kwargs.get("desc", "")).startswith("Reconstructing")
                super().__init__(*args, **{**kwargs, "disable": True})

            def update(self, n: float | None = 1) -> bool | None:
                if self._is_sum:
                    counter.add(int(n or 0))
                return super().update(n)

        return Bar

    def add(self, count: int) -> None:
        with self._lock:
            self.bytes += count
        if self._cancel is not None and self._cancel.is_set():
            self.stopped = True
            raise Cancelled


def _check_there(spec: ModelSpec, names: list[str], needed: str) -> None:
    """Refuse, before anything is fetched, a repository without what would be loaded from it."""
    if not any(fnmatch(name, needed) for name in names):
        what = "weights as .safetensors" if needed.endswith(".safetensors") else f"a {needed}"
        why = "; pickled weights are not loaded: convert them, or" if needed.endswith(".safetensors") else ";"
        raise UserError(f"Expected {what} at huggingface.co/{spec.source}, found none{why} choose another repository.")


def _check_disk(spec: ModelSpec, needed: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed and free < needed + SPARE_BYTES:
        raise UserError(
            f"Expected {_gib(needed + SPARE_BYTES)} on the disk for {spec.title}, got {_gib(free)}; free some "
            "space, or set HF_HOME to a larger disk."
        )


def say_why(spec: ModelSpec, error: BaseException) -> str:
    """One sentence on why the hub did not give the files, and what to do about it."""
    from huggingface_hub import errors, get_token

    if isinstance(error, UserError):
        return str(error)
    causes = list(_chain(error))
    name, page = spec.title, f"huggingface.co/{spec.source}"
    if _any(causes, errors.GatedRepoError):
        if get_token() is None:
            return (
                f"{name} asks for its licence to be accepted and no token is set; accept it at {page}, then run "
                "`hf auth login` or set HF_TOKEN."
            )
        return f"{name} asks for its licence to be accepted by the account of your token; accept it at {page}."
    if _any(causes, errors.RevisionNotFoundError):
        revision = spec.revision or "main"
        return f"Expected revision {revision} of {page}, found none; update AIA Lens, or choose another model."
    if _any(causes, errors.RepositoryNotFoundError):
        return (
            f"Expected a repository at {page}, found none that this machine may read; check the name, or set HF_TOKEN "
            "if it is private."
        )
    if _any(causes, errors.OfflineModeIsEnabled) or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "ON"):
        return (
            f"The weights of {name} are not on this machine and offline mode is on; unset HF_HUB_OFFLINE, or fetch "
            f"them elsewhere with `hf download {spec.source}`."
        )
    if any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        return f"The disk is full before {name} has come; free some space and try again: what has come is kept."
    return _say_network(name, causes)


def _say_network(name: str, causes: list[BaseException]) -> str:
    for cause in causes:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in (401, 403):
            return f"The hub refused the token for {name}; run `hf auth login` again, or unset HF_TOKEN."
        if status is not None and status >= 429:
            return f"The hub answered with error {status} instead of {name}; try again in a few minutes."
    return f"The weights of {name} are not on this machine and the hub cannot be reached; check the network, try again."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _any(causes: list[BaseException], kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in causes)


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
