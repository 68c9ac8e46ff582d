"""Scores: what is counted, how sure it is, and that a perfect and a broken model are told apart."""

import math

import numpy as np
import pytest

from aia import world
from aia.evaluation import (
    Score,
    held_out_drawings,
    held_out_questions,
    plain,
    score_generation,
    score_understanding,
    tally,
)


def test_the_wilson_interval_matches_hand_computed_values():
    low, high = Score(8, 10).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert Score(10, 10).interval[1] == pytest.approx(1.0)
    assert math.isnan(Score(0, 0).rate)


def test_questions_and_drawings_come_from_held_out_scenes_in_every_kind():
    pairs = held_out_questions(50, seed=0)
    assert all(scene.held_out for scene, _ in pairs)
    assert {q.kind for _, q in pairs} == set(world.QUESTION_KINDS)
    kinds = [d.kind for d in held_out_drawings(20, seed=0)]
    assert kinds == list(world.DRAWING_KINDS) * 5


def test_another_seed_asks_other_questions():
    assert held_out_questions(5, seed=0) != held_out_questions(5, seed=1)


def test_a_perfect_model_scores_one_and_a_wrong_one_nothing():
    pairs = held_out_questions(12, seed=3)
    answers = iter([q.answer.upper() + " ." for _, q in pairs])
    perfect = score_understanding(lambda pictures, _: [next(answers) for _ in pictures], 12, seed=3)
    assert perfect.overall.rate == 1.0 and perfect.overall.total == len(pairs)
    wrong = score_understanding(lambda pictures, _: ["banana"] * len(pictures), 12, seed=3)
    assert wrong.overall.rate == 0.0


def test_drawings_are_read_back():
    empty = np.full((64, 64, 3), world.BACKGROUND, np.uint8)
    nothing = score_generation(lambda prompts: [empty] * len(prompts), 8, seed=0)
    assert nothing.overall == Score(0, 8)
    colour, shape = held_out_drawings(1, seed=0)[0].things[0]
    large = world.draw_scene(world.Scene((world.Thing(colour, shape, "large", 32, 32),)))
    score = score_generation(lambda prompts: [large] * len(prompts), 40, seed=0)
    right = [d for d in held_out_drawings(40, seed=0) if world.check_drawing(d, large)]
    assert score.by_kind["one object"].correct >= 1
    assert score.overall.correct == len(right) < 40


def test_a_report_has_rates_intervals_and_totals():
    report = tally([("colour", True), ("colour", False), ("count", True)], world.QUESTION_KINDS).as_dict()
    assert report["overall"] == pytest.approx(2 / 3, abs=1e-4)
    assert report["by_kind"] == {"colour": 0.5, "count": 1.0}
    assert report["total"] == {"overall": 3, "colour": 2, "count": 1}
    assert report["interval"]["colour"][0] < 0.5 < report["interval"]["colour"][1]


def test_plain_ignores_case_spacing_and_a_full_stop():
    assert plain(" A red Circle , a star. ") == "a red circle, a star"
