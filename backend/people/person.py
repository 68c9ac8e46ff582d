"""Who asks: a person, and the one for whom the present work is done.

A front end says who asks with `asked_by`; whatever runs inside finds out with `who_asks`. The person travels in a
context variable, so that each request has its own and nothing is shared. What is kept has an `owner`: the id of the
person it was made for, empty for the installation's own. The rule of who may see and change what is `is_mine`. Knows no
cookie and no login.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from backend.interface import UserError


@dataclass(frozen=True)
class Person:
    """`id` names the person's folder and is not what they show to be known by; `name` is that of who signed in."""

    id: str
    name: str = ""


LOCAL = Person("local")  # the one person of an installation for one; the command line
STRANGER = Person("stranger")  # somebody who shows nothing to be known by: may open links, keeps nothing
EVERYONE = Person("everyone")  # for whom the page makes what a first visit sees

_asking: ContextVar[Person] = ContextVar("asking", default=LOCAL)


def browser_person(secret: str) -> Person:
    """The person who shows that secret. Its digest is kept, so that reading the disk makes nobody another."""
    return Person("browser-" + _digest(secret))


def signed_in(name: str) -> Person:
    """The person of an account."""
    return Person("account-" + _digest(name), name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]


def who_asks() -> Person:
    """For whom the present work is done; work that nobody asked for is the installation's own."""
    return _asking.get()


@contextmanager
def asked_by(person: Person) -> Iterator[None]:
    """What runs inside is done for that person, in threads too if they get a copy of the context."""
    token = _asking.set(person)
    try:
        yield
    finally:
        _asking.reset(token)


# --- whose a thing is ---


def owner_of_new() -> str:
    """The owner of what is made now. Raises `UserError` for a stranger, for whom nothing can be kept."""
    person = who_asks()
    if person == STRANGER:
        raise UserError(
            "Expected somebody for whom this can be kept, got a browser without this page's cookie; "
            "allow cookies here, or open the page in a tab of its own."
        )
    return "" if person == LOCAL else person.id


def is_mine(owner: str) -> bool:
    """Whether what has that owner belongs to who asks. All of it does where one person has an installation."""
    person = who_asks()
    return person == LOCAL or (person != STRANGER and owner == person.id)


def part_of(folder: Path) -> Path:
    """Where in a folder lies what belongs to who asks: the folder itself for the one person of an installation."""
    person = who_asks()
    return folder if person == LOCAL else folder / person.id


def check_mine(owner: str, what: str) -> None:
    """Raise `UserError` unless it is."""
    if not is_mine(owner):
        raise UserError(f"Expected a {what} of your own, got somebody else’s, which a link only shows; make your own.")
