"""Heads knocked out of many answers: what is cut, what is left, the intervals, and whose numbers they are."""

import numpy as np
import pytest
import torch

from aia.knockout import single_heads
from backend.interface import UserError
from backend.kept.knockouts import HeadSettings, Settings, Way
from backend.knockout import cut_heads, knock_out, knock_out_heads, with_all
from backend.knockout_heads import name_heads, parse_heads, strongest, study_heads
from backend.knockout_intervals import mean_interval, share_difference, share_interval
from backend.knockout_study import ask_kind


def test_all_heads_of_all_layers_are_all_layers_and_cutting_or_keeping_is_complementary(tiny_janus):
    capture, _ = next(ask_kind(tiny_janus, "colour", 2, 0))
    *_, windows = knock_out(tiny_janus, capture, Settings(width=8, draws=0))
    *_, cut = knock_out_heads(tiny_janus, capture, HeadSettings())
    *_, kept = knock_out_heads(tiny_janus, capture, HeadSettings(keep=True))
    assert cut.all_heads == pytest.approx(sum(windows.all_layers), abs=1e-3) == kept.all_heads
    assert (len(cut.drops), len(cut.drops[0])) == (8, 8)
    two = torch.zeros(1, 8, 8, dtype=torch.bool)
    two[0, 1, [2, 4]] = True
    *_, both = cut_heads(tiny_janus, capture, Way.DIRECT, with_all(two, keep=False))
    *_, rest = cut_heads(tiny_janus, capture, Way.DIRECT, ~two)
    *_, again = cut_heads(tiny_janus, capture, Way.DIRECT, with_all(two, keep=True))
    assert both.drops[0] == pytest.approx(cut.all_heads, abs=1e-3)
    assert again.drops[1].item() == pytest.approx(rest.drops[0].item(), abs=1e-5)
    assert max(map(max, cut.drops)) < cut.all_heads  # no head alone is worth all of them


def test_with_all_puts_all_heads_first():
    cuts = with_all(single_heads(2, 3), keep=True)
    assert cuts.shape == (7, 2, 3) and cuts[0].all()
    assert (~cuts[1]).nonzero().tolist() == [[0, 0]]


def test_a_study_reports_each_head_and_finds_the_one_that_reads_colour(tiny_janus):
    report = study_heads(tiny_janus, ["colour", "shape"], 8, 0, Way.DIRECT, keep=True)
    part = report["colour"]
    change = np.array(part["change"])
    assert change.shape == (8, 8) and part["n"] == 8 and report["keep"]
    assert (np.array(part["low"]) <= change + 1e-6).all() and (change <= np.array(part["high"]) + 1e-6).all()
    assert name_heads(strongest(part, 1)) == ["2.3"]
    assert change[1, 2] > 1 > 5 * abs(report["shape"]["change"][1][2])


def test_heads_together_have_a_control_of_as_many_others_of_the_same_layers(tiny_janus):
    report = study_heads(tiny_janus, ["colour"], 3, 0, Way.DIRECT, together=[(1, 2)], keep=True, draws=4)
    part = report["colour"]
    assert report["heads"] == ["2.3"] and part["change"] > part["control"]["change"]
    assert part["low"] <= part["change"] <= part["high"] and 0 <= part["control"]["intact"] <= part["intact"] <= 1
    assert study_heads(tiny_janus, ["colour"], 2, 0, Way.DIRECT, [(1, 2)], draws=0)["colour"]["control"] is None
    with pytest.raises(UserError, match="Expected as many other heads in layer 2"):
        study_heads(tiny_janus, ["colour"], 2, 0, Way.DIRECT, together=[(1, h) for h in range(5)])


def test_drawings_are_not_judged(tiny_janus):
    part = study_heads(tiny_janus, ["drawing"], 2, 0, Way.DIRECT, together=[(0, 0)], draws=2)["drawing"]
    assert part["right"] is None and "intact" not in part and "intact" not in part["control"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got none"),
        ("2", "LAYER.HEAD"),
        ("2.x", "LAYER.HEAD"),
        ("9.1", "8 layers × 8 heads"),
        ("1.0", "8 layers × 8"),
    ],
)
def test_names_of_heads_that_are_none_are_refused(text, words):
    with pytest.raises(UserError, match=words):
        parse_heads(text, 8, 8)


def test_names_of_heads_are_read():
    assert parse_heads("2.3, 8.1,2.3", 8, 8) == [(1, 2), (7, 0)]


def test_intervals_are_those_of_the_mean_and_of_the_ratio_of_means():
    values = np.random.default_rng(0).normal(3, 1, (400, 2))
    low, high = mean_interval(values)
    np.testing.assert_allclose(high - low, 2 * 1.96 / 20 * values.std(0), rtol=0.1)
    assert (low < values.mean(0)).all() and (values.mean(0) < high).all()
    drops, totals = np.array([[1.0, 0.0], [3.0, 0.0]] * 30), np.array([2.0, 6.0] * 30)
    low, high = share_interval(drops, totals)
    np.testing.assert_allclose([low[0], high[0]], 0.5)  # the ratio is the same in every sample
    share, low, high = share_difference((drops, totals), (drops, totals * 2))
    np.testing.assert_allclose([share[0], low[0], high[0]], 0.25)
