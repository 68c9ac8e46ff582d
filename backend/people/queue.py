"""A fair queue for one device: one at a time, people in turns, what somebody looks at before work in the background.

    with queue.join() as ticket:
        for place in ticket.places(cancel):   # until it is its turn
            …show place.ahead and place.seconds…
        …the work…

Owns the order and what is known of how long work takes. A place is free as soon as its `with` is left, for whatever
reason. Knows no model, no page and no thread but those that wait.

**The order.** Every ticket has a round: the one that is served now, or the one after its owner's last ticket if that is
later. Rounds are served in their order, within a round first come first served: nobody has two turns while another who
came meanwhile waits for one. A `PATIENCE_SECONDS` of waiting counts for a round, so that nobody starves behind ever new
people. Background work has rounds of its own and waits until nobody else does; where that lasts longer than
`PATIENCE_SECONDS`, every second turn is its.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from backend.interface import CancelFlag, Cancelled, UserError
from backend.people.person import who_asks

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.2  # between two looks at a cancel flag while waiting
REMEMBERED = 20  # durations of each kind of work
MOST_WAITING = 64


@dataclass(frozen=True)
class Place:
    """`ahead` counts who comes first, the one at work among them; `seconds` is the expected wait, None if unknown."""

    ahead: int
    seconds: float | None = None


class Ticket:
    """A place in the queue. Entered as a context; leaving it, at any time, frees the place."""

    def __init__(self, queue: FairQueue, owner: str, work: str, background: bool, number: int, joined: float):
        self._queue, self.owner, self.work, self.background = queue, owner, work, background
        self.number, self.joined, self.round = number, joined, 0
        self.begun: float | None = None

    def is_of(self, owner: str, background: bool) -> bool:
        return (self.owner, self.background) == (owner, background)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.leave(self)

    def places(self, cancel: CancelFlag | None = None) -> Iterator[Place]:
        """The place whenever it changes, until it is this ticket's turn. Raises `Cancelled` when the flag is set."""
        told: Place | None = None
        while (place := self._queue.wait(self, told, cancel)) is not None:
            told = place
            yield place


class FairQueue:
    """The queue of one device. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most_each: int | None = None):
        """`most_each` is how many places one person may have at once; None: as many as there are."""
        self._clock, self._most_each = clock, most_each
        self._changed = threading.Condition()
        self._waiting: list[Ticket] = []
        self._serving: Ticket | None = None
        self._numbers, self._rounds = 0, {False: 0, True: 0}  # rounds served now, of background work or not
        self._served: dict[tuple[str, bool], int] = {}  # the round of an owner's last turn, while it matters
        self._last_was_background = False
        self._seconds: dict[str, deque[float]] = {}

    def join(self, owner: str | None = None, work: str = "", background: bool = False) -> Ticket:
        """A place at the end of one's own line; `owner` is who asks unless told otherwise.

        `work` names what takes about as long. Raises `UserError` where no more may wait.
        """
        owner = who_asks().id if owner is None else owner
        with self._changed:
            self._check_room(owner)
            self._numbers += 1
            ticket = Ticket(self, owner, work, background, self._numbers, self._clock())
            own = [other.round for other in self._waiting if other.is_of(owner, background)]
            last = max([*own, self._served.get((owner, background), -1)])
            ticket.round = max(self._rounds[background], last + 1)
            self._waiting.append(ticket)
            self._advance()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a place up, or end the turn; again: nothing happens."""
        with self._changed:
            if ticket is self._serving:
                self._note(ticket)
                self._serving = None
            elif ticket in self._waiting:
                self._waiting.remove(ticket)
                for other in self._waiting:  # the owner's other tickets move up
                    if other.is_of(ticket.owner, ticket.background) and other.round > ticket.round:
                        other.round -= 1
            else:
                return
            self._advance()
            self._changed.notify_all()

    def wait(self, ticket: Ticket, told: Place | None, cancel: CancelFlag | None = None) -> Place | None:
        """Wait until the place differs from what was told → the new one; None when it is the ticket's turn."""
        with self._changed:
            while True:
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                if ticket is self._serving:
                    return None
                if ticket not in self._waiting:
                    raise Cancelled  # somebody gave it up
                self._advance()  # patience may have ended
                place = self._place(ticket)
                if place != told:
                    return place
                self._changed.wait(LOOK_SECONDS)

    def look(self) -> None:
        """Have those who wait look at their cancel flags now."""
        with self._changed:
            self._changed.notify_all()

    @property
    def length(self) -> int:
        """How many wait or are at work."""
        return len(self._waiting) + (self._serving is not None)

    # --- under the lock ---

    def _check_room(self, owner: str) -> None:
        if len(self._waiting) >= MOST_WAITING:
            raise UserError(f"Expected a place in the queue, but {MOST_WAITING} wait already; try again in a minute.")
        own = sum(other.owner == owner for other in [*self._waiting, *filter(None, [self._serving])])
        if self._most_each is not None and own >= self._most_each:
            raise UserError(
                f"Expected at most {self._most_each} of your runs to wait or be at work at once, got one more; "
                "let one end, or stop one."
            )

    def _order(self) -> list[Ticket]:
        now = self._clock()

        def rank(ticket: Ticket) -> tuple[int, int, int]:
            waited = int((now - ticket.joined) / PATIENCE_SECONDS)
            overdue = waited and not self._last_was_background
            kind = (0 if overdue else 2) if ticket.background else 1
            return kind, ticket.round - waited, ticket.number

        return sorted(self._waiting, key=rank)

    def _advance(self) -> None:
        """Begin the next turn if none is on, and tell everybody who waits."""
        if self._serving is None and self._waiting:
            self._serving = ticket = self._order()[0]
            self._waiting.remove(ticket)
            self._note_round(ticket)
            ticket.begun = self._clock()
            self._changed.notify_all()

    def _note_round(self, ticket: Ticket) -> None:
        kind = self._last_was_background = ticket.background
        now = self._rounds[kind] = max(self._rounds[kind], ticket.round)
        self._served[ticket.owner, kind] = ticket.round
        self._served = {who: last for who, last in self._served.items() if who[1] != kind or last >= now}

    def _place(self, ticket: Ticket) -> Place:
        order = self._order()
        before = order[: order.index(ticket)]
        if self._serving is None:
            return Place(len(before), 0.0)
        expected = [self._remaining(self._serving), *(self._typical(other.work) for other in before)]
        known = None not in expected
        return Place(1 + len(before), float(math.ceil(sum(expected))) if known else None)

    def _remaining(self, serving: Ticket) -> float | None:
        typical = self._typical(serving.work)
        return None if typical is None else max(typical - (self._clock() - serving.begun), 0.0)

    def _typical(self, work: str) -> float | None:
        """The median of the last turns with that work; of all work where there was none."""
        known = self._seconds.get(work) or [seconds for each in self._seconds.values() for seconds in each]
        return median(known) if known else None

    def _note(self, ticket: Ticket) -> None:
        seconds = self._clock() - ticket.begun
        self._seconds.setdefault(ticket.work, deque(maxlen=REMEMBERED)).append(seconds)
