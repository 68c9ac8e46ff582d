import numpy as np
import pytest

from aia.intensity import Task
from app.words import describe_curve, describe_run, describe_waiting, format_seconds, format_share
from backend.interface import Waiting


def test_sentence_names_highest_and_lowest_layer():
    sentence = describe_curve(np.array([0.1, 0.42, 0.031]), Task.UNDERSTANDING)
    assert sentence == "The answer looks most at the image in layer 2 (0.42), least in layer 3 (0.03)."


def test_sentence_for_a_flat_curve():
    sentence = describe_curve(np.array([0.5, 0.501, 0.499]), Task.GENERATION)
    assert sentence == "The drawing looks about equally in every layer (0.50)."


def test_sentence_where_nothing_was_fed_back():
    assert "too short to measure" in describe_curve(np.full(8, np.nan), Task.UNDERSTANDING)


def test_run_says_where_it_came_from(answer, drawing):
    assert describe_run(answer, cached=False, saved=True) == "0.4 s · greedy · saved"
    assert describe_run(drawing, cached=True, saved=True) == "from the store · first made in 0.4 s · seed 3"
    assert describe_run(drawing, cached=False, saved=False).endswith("not saved")


@pytest.mark.parametrize(("seconds", "text"), [(0.0001, "1 ms"), (0.051, "51 ms"), (0.42, "0.4 s"), (12.34, "12.3 s")])
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("share", "text"), [(0.314, "31\u00a0%"), (0.0342, "3.4\u00a0%"), (0.0996, "10\u00a0%")])
def test_shares(share, text):
    assert format_share(share) == text


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Waiting(2, 12.0), "waiting, 2 ahead, about 12 s"),
        (Waiting(1), "waiting, 1 ahead"),
        (Waiting(1, 0.0), "waiting, 1 ahead, about 1 s"),
        (Waiting(9, 400.0), "waiting, 9 ahead, about 7 min"),
        (Waiting(0, 3.0), "next in turn, about 3 s"),
    ],
)
def test_a_place_in_the_queue_in_words(event, words):
    assert describe_waiting(event) == words
