"""Whose history a capture is in, and links that let others open it.

A capture's id follows from its prompt, picture and settings: who guesses these could guess the id. So an id alone opens
only what is in one's own history, or was made for everyone. A link carries a token beside the id, which nobody can make
without the installation's secret: `<id>.<token>`. Where one person has an installation, ids alone are links.

Knows ids and persons; no capture.

    secret                       32 random bytes
    <person>/captures/<id>       empty; its time is when the person last asked for it
    foreign/<id>                 empty; somebody brought the capture in, so it answers nobody's request
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from backend.people.person import EVERYONE, LOCAL, STRANGER, who_asks

logger = logging.getLogger(__name__)

MOST_NOTED = 10_000  # captures of one person; the store drops the least recently used long before
ID, TOKEN = r"[0-9a-f]{24}", r"[0-9a-f]{16}"

_LINK = re.compile(rf"({ID})(?:\.({TOKEN}))?")


class Histories:
    """The histories of one installation's people. Everything is about who asks."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    # --- one's own ---

    def ids(self, there: Sequence[str]) -> list[str]:
        """Which of these are in the history, what was asked for last first; for one alone all, the others last."""
        noted = self._noted(who_asks().id)
        if who_asks() == LOCAL:
            return sorted(there, key=lambda own: -noted.get(own, 0))
        return sorted(noted.keys() & set(there), key=lambda own: (-noted[own], own))

    def has(self, capture_id: str) -> bool:
        return who_asks() == LOCAL or (who_asks() != STRANGER and self._mark(who_asks().id, capture_id).exists())

    def note(self, capture_id: str) -> None:
        """It was asked for just now. A disk that refuses is logged: the result is not lost."""
        person = who_asks()
        if person == STRANGER:
            return
        mark = self._mark(person.id, capture_id)
        try:
            mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mark.touch()
            os.utime(mark, ns=(time.time_ns(),) * 2)  # the file system's own clock ticks too seldom to order by
            self._drop_oldest(person.id)
        except OSError as error:
            logger.warning("a capture was not noted in a history: %s", error.strerror)

    def forget(self, capture_id: str) -> None:
        """Take it out of the history; nothing happens where it is not in."""
        self._mark(who_asks().id, capture_id).unlink(missing_ok=True)

    def others_have(self, capture_id: str) -> bool:
        """Whether it is in anybody else's history."""
        with suppress(FileNotFoundError):
            own = who_asks().id
            return any((path / "captures" / capture_id).exists() for path in self.folder.iterdir() if path.name != own)
        return False

    # --- links ---

    def link(self, capture_id: str) -> str:
        """What opens the capture for anybody who is given it."""
        return capture_id if who_asks() == LOCAL or self._is_public(capture_id) else self._sealed(capture_id)

    def opened(self, text: str) -> str | None:
        """The id that an id or a link opens for who asks; None where it opens nothing, or is neither."""
        found = _LINK.fullmatch(text) if isinstance(text, str) else None
        if not found:
            return None
        own = found[1]
        if found[2]:
            return own if hmac.compare_digest(text, self._sealed(own)) else None
        return own if self.has(own) or self._is_public(own) else None

    def _sealed(self, capture_id: str) -> str:
        token = hmac.new(self._secret(), capture_id.encode(), hashlib.sha256).hexdigest()
        return f"{capture_id}.{token[:16]}"

    def _secret(self) -> bytes:
        """The installation's secret, made when it is first needed. Raises `OSError`."""
        path = self.folder / "secret"
        with suppress(FileNotFoundError):
            return path.read_bytes()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.folder / f".secret-{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_bytes(secrets.token_bytes(32))
        with suppress(FileExistsError):  # another process was quicker
            os.link(draft, path)
        draft.unlink()
        return path.read_bytes()

    # --- brought in ---

    def is_foreign(self, capture_id: str) -> bool:
        """Whether somebody brought it in. A stranger's file must not answer another's request."""
        return who_asks() != LOCAL and (self.folder / "foreign" / capture_id).exists()

    def note_foreign(self, capture_id: str) -> None:
        """Raises `OSError`."""
        (self.folder / "foreign").mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "foreign" / capture_id).touch()

    def note_made(self, capture_id: str) -> None:
        """It was made here."""
        with suppress(OSError):
            (self.folder / "foreign" / capture_id).unlink(missing_ok=True)

    # --- files ---

    def _is_public(self, capture_id: str) -> bool:
        return self._mark(EVERYONE.id, capture_id).exists()

    def _mark(self, person: str, capture_id: str) -> Path:
        return self.folder / person / "captures" / capture_id

    def _noted(self, person: str) -> dict[str, int]:
        """When each was asked for."""
        found = {}
        with suppress(FileNotFoundError), os.scandir(self.folder / person / "captures") as marks:
            for mark in marks:
                with suppress(OSError):
                    found[mark.name] = mark.stat().st_mtime_ns
        return found

    def _drop_oldest(self, person: str) -> None:
        with os.scandir(self.folder / person / "captures") as marks:
            count = sum(1 for _ in marks)
        if count > MOST_NOTED:
            noted = self._noted(person)
            for capture_id in sorted(noted, key=noted.__getitem__)[: count - MOST_NOTED]:
                self._mark(person, capture_id).unlink(missing_ok=True)
