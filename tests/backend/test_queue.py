import threading
import time
from types import SimpleNamespace

import pytest

from backend.interface import Cancelled, UserError
from backend.people.person import Person, asked_by
from backend.people.queue import MOST_WAITING, PATIENCE_SECONDS, FairQueue, Place


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(clock):
    return FairQueue(clock)


def join(queue, *owners, **how):
    return [queue.join(owner, **how) for owner in owners]


def serve_all(queue, tickets):
    """The order in which they get their turns, each ended at once."""
    order = []
    while left := [t for t in tickets if t not in order]:
        [served] = [t for t in left if t is queue._serving]
        order.append(served)
        queue.leave(served)
    return order


def owners(tickets):
    return "".join(t.owner for t in tickets)


def test_who_is_alone_has_the_turn_at_once(queue):
    with queue.join("a") as ticket:
        assert list(ticket.places()) == []
        assert queue.length == 1
    assert queue.length == 0


def test_people_take_turns_whoever_asked_for_more(queue):
    tickets = join(queue, *"aaaabbc")
    assert owners(serve_all(queue, tickets)) == "abcabaa"


def test_one_person_alone_is_first_come_first_served(queue):
    tickets = join(queue, *"aaaa")
    assert serve_all(queue, tickets) == tickets


def test_who_comes_while_one_is_at_work_goes_before_its_next(queue):
    tickets = join(queue, *"aa")
    tickets += join(queue, *"b")
    assert owners(serve_all(queue, tickets)) == "aba"


def test_who_was_served_waits_for_all_others_of_the_round(queue):
    tickets = join(queue, *"abc")
    queue.leave(tickets[0])
    tickets += join(queue, *"a")
    assert owners(serve_all(queue, tickets[1:])) == "bca"


def test_nobody_starves_behind_ever_new_people(queue, clock):
    """Two new people for every turn of ten seconds; the second ticket of "a" still gets its turn in some minutes."""
    _, second = join(queue, *"aa")
    turns = 0
    while queue._serving is not second:
        join(queue, f"new {turns}", f"also new {turns}")
        clock.now += 10
        queue.leave(queue._serving)
        turns += 1
        assert turns < PATIENCE_SECONDS


def test_interactive_work_goes_before_background_work(queue):
    tickets = [queue.join("a"), *join(queue, *"bc", background=True), *join(queue, *"ad")]
    assert owners(serve_all(queue, tickets)) == "adabc"


def test_background_work_waits_no_longer_than_patience_and_then_takes_every_second_turn(queue, clock):
    running = queue.join("z")
    slow = join(queue, "B", "C", background=True)
    quick = join(queue, *"aaa")
    clock.now = PATIENCE_SECONDS
    assert owners(serve_all(queue, [running, *slow, *quick])) == "zBaCaa"


def test_giving_up_frees_the_place_at_once_and_the_next_begins(queue):
    a, b, c = join(queue, *"abc")
    assert next(c.places()) == Place(2)
    queue.leave(b)
    assert next(c.places()) == Place(1)
    queue.leave(a)
    assert list(c.places()) == []


def test_an_owners_later_tickets_move_up(queue):
    _, gone, kept, *_ = tickets = join(queue, *"aaabb")
    queue.leave(gone)
    tickets.remove(gone)
    assert owners(serve_all(queue, tickets)) == "abab"
    assert kept.round == 1


def test_leaving_twice_or_after_the_turn_does_nothing(queue):
    a, b = join(queue, *"ab")
    queue.leave(a)
    queue.leave(a)
    assert queue._serving is b
    queue.leave(b)
    queue.leave(b)
    assert queue.length == 0


def test_a_fault_in_the_work_frees_the_place(queue):
    with pytest.raises(ZeroDivisionError), queue.join("a"):
        _ = 1 / 0
    assert queue.length == 0


def test_an_abandoned_wait_frees_the_place(queue):
    def work():
        with queue.join("b") as ticket:
            yield from ticket.places()

    queue.join("a")
    waiting = work()
    assert next(waiting) == Place(1)
    waiting.close()
    assert queue.length == 1


def test_the_expected_wait_is_the_median_of_turns_less_what_has_passed(queue, clock):
    for seconds in (8.0, 10.0, 60.0):
        with queue.join("a", work="draw"):
            clock.now += seconds
    queue.join("a", work="draw")
    waiting = queue.join("b", work="draw"), queue.join("c", work="draw")
    assert [next(t.places()) for t in waiting] == [Place(1, 10.0), Place(2, 20.0)]
    clock.now += 4
    assert next(waiting[1].places()) == Place(2, 16.0)
    clock.now += 100  # longer than any before: those ahead still take their time
    assert next(waiting[1].places()) == Place(2, 10.0)


def test_work_of_another_kind_has_its_own_time_and_unknown_work_that_of_all(queue, clock):
    for work, seconds in (("draw", 20.0), ("ask", 2.0)):
        with queue.join("a", work=work):
            clock.now += seconds
    queue.join("a", work="ask")
    assert next(queue.join("b", work="draw").places()) == Place(1, 2.0)
    assert next(queue.join("c", work="new").places()) == Place(2, 22.0)
    assert next(queue.join("d").places()) == Place(3, 33.0)


def test_nothing_is_expected_where_nothing_is_known(queue):
    queue.join("a")
    assert next(queue.join("b").places()) == Place(1, None)


def test_a_person_may_have_so_many_places_and_others_are_not_concerned(clock):
    queue = FairQueue(clock, most_each=2)
    first, _ = join(queue, *"aa")
    with pytest.raises(UserError, match="at most 2 of your runs"):
        queue.join("a")
    queue.join("b")
    queue.leave(first)
    queue.join("a")


def test_the_queue_has_an_end(queue):
    for number in range(MOST_WAITING + 1):
        queue.join(f"person {number}")
    with pytest.raises(UserError, match="try again"):
        queue.join("one more")


def test_the_owner_is_who_asks(queue):
    with asked_by(Person("p")):
        assert queue.join().owner == "p"


def test_a_set_flag_ends_the_wait_and_look_makes_it_quick(monkeypatch):
    monkeypatch.setattr("backend.people.queue.LOOK_SECONDS", 30)
    queue, flag, ended = FairQueue(), threading.Event(), []
    queue.join("a")

    def wait():
        with pytest.raises(Cancelled), queue.join("b") as ticket:
            for _ in ticket.places(flag):
                pass
        ended.append(queue.length)

    thread = threading.Thread(target=wait)
    thread.start()
    while queue.length < 2:
        time.sleep(0.01)
    flag.set()
    queue.look()
    thread.join(10)
    assert ended == [1]


def test_many_threads_one_at_a_time_each_exactly_once():
    queue, lock, done = FairQueue(), threading.Lock(), []

    def work(owner):
        with queue.join(owner) as ticket:
            for _ in ticket.places():
                pass
            assert lock.acquire(blocking=False)
            done.append(owner)
            lock.release()

    threads = [threading.Thread(target=work, args=(f"p{n % 5}",)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == sorted(f"p{n % 5}" for n in range(40))
    assert queue.length == 0


def test_no_flag_of_another_kind_is_needed(queue):
    queue.join("a")
    with pytest.raises(Cancelled):
        list(queue.join("b").places(SimpleNamespace(is_set=lambda: True)))
