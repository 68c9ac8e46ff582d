"""What each person may take: too many at once, too many a day, too much on the disk."""

from types import SimpleNamespace

import pytest

from aia.config import make_config
from backend.background.runs import Runs
from backend.interface import UserError
from backend.people import quotas as module
from backend.people.limits import Limits
from backend.people.person import asked_by, browser_person
from backend.people.quotas import DAY_SECONDS, Quotas, describe_wait

ANNA, BERT = browser_person("a" * 43), browser_person("b" * 43)
CONFIG = make_config(steps=2, batch_size=2)


@pytest.fixture
def made(tmp_path):
    """Runs that never start, under some limits."""

    def make(**limits):
        quotas = Quotas(Limits(**limits), tmp_path / "people")
        runs = Runs(tmp_path / "runs", admit=quotas.admit_runs)
        quotas.runs = (runs.list,)
        return runs, quotas

    return make


def start(runs, count=1):
    return [runs.start(CONFIG, control=False)[0] for _ in range(count)]


def refuse(work, says):
    with pytest.raises(UserError, match=says) as found:
        work()
    assert "\n" not in str(found.value)


def test_so_many_runs_at_once_and_one_that_is_cancelled_makes_room(made):
    runs, _ = made(queued=2)
    with asked_by(ANNA):
        first, _ = start(runs, 2)
        refuse(lambda: start(runs), "at most 2 of your runs.*would be 3; let one end, or cancel one")
        assert len(runs.list()) == 2
        runs.cancel(first)
        start(runs)
        refuse(lambda: runs.resume(first), "at most 2")
    with asked_by(BERT):
        start(runs, 2)


def test_a_pair_counts_as_two(made):
    runs, _ = made(queued=1)
    with asked_by(ANNA):
        refuse(lambda: runs.start(CONFIG, control=True), "would be 2")
        assert runs.list() == []


def test_so_many_runs_a_day_and_the_refusal_says_when_to_go_on(made, monkeypatch):
    runs, _ = made(runs_a_day=2)
    now = 1_000_000_000.0
    monkeypatch.setattr(module.time, "time", lambda: now)
    with asked_by(ANNA):
        start(runs)
        now += 3600
        start(runs)
        now += 1800
        refuse(lambda: start(runs), "at most 2 runs a day.*go on in 23 hours")
        runs.cancel(runs.list()[0].id)
        refuse(lambda: start(runs), "go on in 23 hours")  # what was cancelled was asked for all the same
        now += DAY_SECONDS - 5400 + 1
        start(runs)
    with asked_by(BERT):
        start(runs, 2)


def test_going_on_with_a_run_is_no_new_one(made):
    runs, _ = made(runs_a_day=1)
    with asked_by(ANNA):
        (run,) = start(runs)
        runs.cancel(run)
        runs.resume(run)


def test_whoever_keeps_too_much_starts_and_brings_in_nothing_until_something_is_deleted(made):
    runs, quotas = made(disk_mib=1)
    kept = [SimpleNamespace(size_bytes=2**20)]
    quotas.others = (lambda: kept,)
    with asked_by(ANNA):
        quotas.check_disk()
        refuse(lambda: quotas.check_disk(2**20), "at most 1 MiB.*would be 2; delete something")
        kept *= 2
        refuse(lambda: start(runs), "at most 1 MiB")
        kept.clear()
        start(runs)


def test_a_damaged_count_is_begun_anew(made):
    runs, quotas = made(runs_a_day=1)
    (quotas.folder / ANNA.id).mkdir(parents=True)
    for damaged in (b"{", b'{"a": 1}', b'["x", null]', b"[" * 10_000):
        (quotas.folder / ANNA.id / "runs.json").write_bytes(damaged)
        with asked_by(ANNA):
            start(runs)


def test_without_limits_nothing_is_counted(made):
    runs, quotas = made()
    start(runs, 3)
    assert not quotas.folder.exists()


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "1 minute"), (61, "2 minutes"), (7199, "2 hours"), (7201, "3 hours")]
)
def test_a_wait_is_said_as_long_as_it_is(seconds, words):
    assert describe_wait(seconds) == words
