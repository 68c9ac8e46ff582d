"""The load script itself: a moment of it with a real server, and what it says of figures that are made up."""

import asyncio
import dataclasses

import pytest

from tests.benchmarks.load import compare_minutes, compare_seconds, measure, mixed_up, p95, parse
from tests.benchmarks.load_people import Asked, Notes, Result
from tests.benchmarks.load_server import Memory

CURVES = {"figure": [0.1, 0.2], "training": [0.3, 0.4], "strict": [0.5, 0.6]}
ASKED = Asked("understanding", "is there a star?", "sample-1.png")
RIGHT = Result("again", "a" * 24, CURVES, ASKED, "yes")


def changed(**values):
    return dataclasses.replace(RIGHT, who="somebody", **values)


@pytest.mark.parametrize(
    ("shown", "complaint"),
    [
        (changed(), None),
        (changed(asked=None), None),
        (changed(asked=None, curves={"strict": [0.5, 0.600001]}, text=None), None),  # read off a page
        (changed(curves={"strict": [0.5, 0.61]}), "other curves"),
        (changed(curves=CURVES | {"strict": [0.5, 0.600001]}), "other curves"),
        (changed(text="no"), "says “no”"),
        (changed(id="b" * 24), "alone " + "a" * 24),
        (changed(id="b" * 24, asked=None), "never made"),
        (changed(asked=dataclasses.replace(ASKED, seed=1)), "never made"),
    ],
)
def test_what_differs_from_one_person_alone_is_named(shown, complaint):
    found = mixed_up([shown], Notes(results=[RIGHT]))
    assert found == [] if complaint is None else complaint in found[0]


def test_the_95th_percentile_of_20_values_is_the_19th():
    assert p95([float(n) for n in range(20, 0, -1)]) == 19 and p95([3.0]) == 3.0


def test_each_cached_thing_is_compared_with_itself_and_all_count_alike():
    alone = Notes(seconds={"repeat": [1.0], "library": [0.1], "draw": [1.0]})
    together = Notes(seconds={"repeat": [2.0] * 50, "library": [0.4], "draw": [9.0]})
    assert compare_seconds(alone, together) == {"cached": 3.0, "repeat": 2.0, "library": 4.0, "draw": 9.0}


@pytest.mark.parametrize(("last", "grown"), [(100.0, 0.0), (110.0, 0.1)])
def test_memory_of_the_last_minute_is_held_against_the_third(last, grown):
    """Load from second 10 to 370: the third minute is 130 … 190, the last 310 … 370."""
    memory = [Memory(float(s), last if s >= 310 else 100.0 if s >= 130 else 5.0, 0, 0, 0) for s in range(400)]
    assert compare_minutes(memory, 10.0, 370.0) == {"third_minute": 100.0, "last_minute": last, "grown": grown}
    assert compare_minutes(memory, 10.0, 100.0) is None


def test_four_people_and_two_readers_for_some_seconds_each(tmp_path):
    told = "--users 4 --chromium 0 --browsing 2 --tuners 0 --minutes 0.1 --think 0.3 --turns 1"
    report = asyncio.run(measure(parse(told.split()), tmp_path))
    assert report["errors"] == [] and report["mixed_up"] == []
    assert report["done"] > 8 and report["results_checked"] > 8 and report["requests_checked"] > 2
    assert set(report["seconds"]) == {"alone", "load", "browsing"}
    assert {"repeat", "permalink", "cached", "computed"} <= report["seconds"]["alone"].keys()
    assert len(report["memory_by_second"]) > 5 and report["peak_rss_mib"] > 100
