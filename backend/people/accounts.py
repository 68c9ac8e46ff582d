"""Accounts: names and hashed passwords in one text file, that an operator may read and edit.

Owns the file's form, and what a password is checked against. Knows no session and no page.

    # a line each: name:scrypt$16384$8$1$<salt>$<hash>, both base64; n, r and p as scrypt has them
    anna:scrypt$16384$8$1$3q2+7w…$Vg8…
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from backend.interface import UserError
from backend.kept.documents import alone_with, write_bytes_whole

logger = logging.getLogger(__name__)

N, R, P = 2**14, 8, 1  # 16 MiB and some 50 ms a password
SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 200
MOST_FAILURES, FAILURES_SECONDS = 10, 600.0  # of one name, after which it waits
MOST_NAMES_WATCHED = 10_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}")
_HASH = re.compile(r"scrypt\$(\d{1,7})\$(\d{1,2})\$(\d{1,2})\$([A-Za-z0-9+/=]{16,64})\$([A-Za-z0-9+/=]{32,128})")


@dataclass(frozen=True)
class Hashed:
    """A password as it is kept."""

    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str) -> Hashed:
        salt = secrets.token_bytes(16)
        return cls(N, R, P, salt, _scrypt(password, N, R, P, salt, 32))

    @classmethod
    def parse(cls, text: str) -> Hashed | None:
        found = _HASH.fullmatch(text)
        if not found:
            return None
        n, r, p = (int(number) for number in found.groups()[:3])
        if n < 2 or n & (n - 1) or not r or not p or 128 * n * r > 2**28:
            return None
        try:
            return cls(n, r, p, *(base64.b64decode(part, validate=True) for part in found.groups()[3:]))
        except ValueError:
            return None

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        return f"scrypt${self.n}${self.r}${self.p}${salt}${digest}"

    def matches(self, password: str) -> bool:
        found = _scrypt(password, self.n, self.r, self.p, self.salt, len(self.digest))
        return hmac.compare_digest(found, self.digest)


def _scrypt(password: str, n: int, r: int, p: int, salt: bytes, size: int) -> bytes:
    text = password.encode(errors="replace")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=2**29, dklen=size)


NOBODY = Hashed(N, R, P, bytes(16), bytes(32))  # takes as long to refuse as anybody


class Accounts:
    """The accounts of one file. Safe to share between threads; an edited file holds at once."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._lock = threading.Lock()
        self._failures: dict[str, list[float]] = {}  # when, of late, by name

    def names(self) -> list[str]:
        """All names. Raises `UserError` where the file cannot be read, or a line is no account, as does all below."""
        return sorted(self._read())

    def check(self, name: str, password: str) -> bool:
        """Whether that is the account's password. After many failures a name has to wait, right or wrong."""
        if len(password) > LONGEST_PASSWORD or self._must_wait(name):
            return False
        known = self._read()
        right = known.get(name, NOBODY).matches(password) and name in known
        self._note(name, right)
        return right

    def add(self, name: str, password: str) -> None:
        """Make an account, or give one another password."""
        if not _NAME.fullmatch(name):
            raise UserError(
                f"Expected a name of letters, digits and . _ @ -, at most 60, got “{name[:60]}”; choose another."
            )
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise UserError(
                f"Expected a password of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, got {len(password)}; "
                "choose another."
            )
        self._change(name, str(Hashed.of(password)))

    def remove(self, name: str) -> None:
        """Remove an account; what is its own stays, and is its own again when it comes back."""
        if name not in self._read():
            raise UserError(f"Expected the name of an account, got “{name[:60]}”; `user list` says which there are.")
        self._change(name, None)

    # --- the file ---

    def _read(self) -> dict[str, Hashed]:
        found = {}
        for number, line in enumerate(self._lines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, _, text = line.strip().partition(":")
            hashed = Hashed.parse(text)
            if hashed is None or not _NAME.fullmatch(name):
                raise UserError(
                    f"Expected name:scrypt$… in line {number} of the accounts, got something else; make the line with "
                    "`python -m app user add NAME`."
                )
            found[name] = hashed
        return found

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"Expected a file of accounts that can be read, got {self.path.name}; check it.") from error

    def _change(self, name: str, text: str | None) -> None:
        """Put a line in place of a name's; all other lines stay as they are."""
        self._read()
        with alone_with(self.path.parent, "accounts"):
            lines = [line for line in self._lines() if line.strip().partition(":")[0] != name]
            lines += [f"{name}:{text}"] if text else []
            write_bytes_whole(self.path, "".join(f"{line}\n" for line in lines).encode())
            os.chmod(self.path, 0o600)

    # --- guessing ---

    def _must_wait(self, name: str) -> bool:
        with self._lock:
            since = time.monotonic() - FAILURES_SECONDS
            late = [when for when in self._failures.get(name, ()) if when > since]
            return len(late) >= MOST_FAILURES

    def _note(self, name: str, right: bool) -> None:
        with self._lock:
            if right:
                self._failures.pop(name, None)
                return
            if len(self._failures) >= MOST_NAMES_WATCHED:
                self._failures.pop(next(iter(self._failures)))
            self._failures.setdefault(name, []).append(time.monotonic())
            self._failures[name] = self._failures[name][-MOST_FAILURES:]
        logger.warning("a wrong password was given for %.60r", name)
