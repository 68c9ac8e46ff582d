"""Who asks: a person, and the one for whom the present work is done.

A front end says who asks with `asked_by`; whatever runs inside finds out with `who_asks`. The person travels in a
context variable, so that each request has its own and nothing is shared. Knows no cookie, no login and no rule of who
may see what (`backend.people.own`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    """`id` names the person's folder and is not what they show to be known by; `name` is that of who signed in."""

    id: str
    name: str = ""


LOCAL = Person("local")  # the one person of an installation for one; the command line
STRANGER = Person("stranger")  # somebody who shows nothing to be known by: may open links, keeps nothing

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
