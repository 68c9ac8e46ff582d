"""The Time view's data: hand-made captures whose steps look at known shares."""

import json
from dataclasses import replace

import numpy as np
import pytest

from aia.intensity import Definition, Group
from app.closer.asked import Asked
from app.closer.maps import decode
from app.closer.time import read_time, subtract
from tests.made_captures import make_answer, make_drawing, make_mass


def one_step(layers=3, heads=2, rows=4, layer=1, row=2, share=0.75):
    """Shares of an answer that looks at the image in one step of one layer alone."""
    shares = np.zeros((layers, heads, rows), np.float32)
    shares[layer, :, row] = share
    return shares


def branches(conditional, unconditional, layers=2, heads=2, rows=6):
    """Shares of a drawing with guidance: [L, H, Q] of each branch, from what a step gives in every layer."""
    return np.stack([np.broadcast_to(np.float32(v), (layers, heads, rows)) for v in (conditional, unconditional)])


def maps_of(data, capture=0):
    return [decode(one) for one in data["maps"][capture]]


# --- one capture ---


def test_the_one_step_that_looks_is_where_its_word_stands():
    data = read_time(Asked(make_answer(one_step())))
    (values,) = maps_of(data)
    expected = np.zeros((3, 4))
    expected[1, 2] = 0.75
    np.testing.assert_allclose(values, expected, atol=1e-4)
    assert [token["text"] for token in data["captures"][0]["tokens"]] == ["word1", "word2", "word3", "word4"]
    assert data["sentence"] == "Word 3 “word3” looks most at the image, in layer 2: 0.75 of its attention."
    assert data["captures"][0]["prefill"] and "sets apart the first step" in data["note"]
    assert data["differences"] == []


def test_the_row_of_a_word_itself_comes_one_step_later_and_the_last_has_none():
    data = read_time(Asked(make_answer(one_step()), values={"fed": "1"}))
    (values,) = maps_of(data)
    assert values[1, 1] == pytest.approx(0.75, abs=1e-4) and np.isnan(values[:, 3]).all()
    assert not data["captures"][0]["prefill"] and data["note"] == ""


@pytest.mark.parametrize("definition", Definition)
def test_steps_fed_back_are_the_curve_before_its_mean(definition):
    random = np.random.default_rng(3)
    for capture in (make_answer(random.random((3, 2, 5), np.float32)), make_drawing(branches(0.6, 0.3))):
        values = maps_of(read_time(Asked(capture, definition=definition, values={"fed": "1"})))[0]
        np.testing.assert_allclose(np.nanmean(values, 1), capture.intensity(definition), atol=1e-4)


def test_both_branches_of_guidance_share_their_limits_and_have_a_difference():
    data = read_time(Asked(make_drawing(branches(np.linspace(0.1, 0.6, 6), 0.25))))
    conditional, unconditional = maps_of(data)
    np.testing.assert_allclose(conditional, np.tile(np.linspace(0.1, 0.6, 6), (2, 1)), atol=1e-4)
    np.testing.assert_allclose(unconditional, 0.25, atol=1e-4)
    assert {(m["low"], m["high"]) for m in data["maps"][0]} == {(0.0, 0.6)}
    (difference,) = data["differences"]
    assert difference["title"] == "conditional − unconditional" and difference["low"] == -difference["high"]
    np.testing.assert_allclose(decode(difference), conditional - unconditional, atol=2e-4)
    assert data["captures"][0]["tokens"] == [] and data["captures"][0]["grid"] == (2, 3)
    assert data["sentence"].startswith("The patch in row 2, column 3 looks most at the text, in layer 1: 0.60")


def test_without_the_prompt_there_are_no_prompt_words_to_look_at():
    data = read_time(Asked(make_drawing(branches(0.6, 0.25)), definition=Definition.STRICT))
    assert [one["branch"] for one in data["maps"][0]] == ["conditional"] and data["differences"] == []
    assert "by this definition it has nothing to show" in data["note"]


def test_definitions_count_other_keys():
    capture = make_drawing(branches(0.5, 0.5))
    only_boi = replace(capture, mass=make_mass(branches(0.25, 0.25), Group.BOI))
    for definition, share in ((Definition.FIGURE, 0.25), (Definition.TRAINING, 0), (Definition.STRICT, 0)):
        values = maps_of(read_time(Asked(only_boi, definition=definition)))[0]
        np.testing.assert_allclose(values, share, atol=1e-4)


def test_row_ends_have_no_place_and_are_said_to_count():
    """Two rows of three patches with a row end after each, as Emu3 draws: steps 3 and 7 are no patches."""
    shares = np.zeros((1, 2, 2, 8), np.float32)
    shares[..., [3, 7]], shares[..., 5] = 0.9, 0.4
    data = read_time(Asked(make_drawing(shares, patch_rows=[0, 1, 2, 4, 5, 6])))
    (values,) = maps_of(data)
    np.testing.assert_allclose(values, [[0, 0, 0, 0, 0.4, 0]] * 2, atol=1e-4)
    assert "Row ends are steps too" in data["note"]


def test_a_long_drawing_says_how_it_goes_on():
    shares = np.broadcast_to(np.linspace(0.8, 0.2, 40, dtype=np.float32), (1, 2, 2, 40))
    sentence = read_time(Asked(make_drawing(shares, (5, 8))))["sentence"]
    assert sentence.endswith("the first tenth of tokens give the text 0.77, the last tenth 0.22.")


# --- pairs ---


def test_a_pair_is_compared_step_by_step_with_even_limits():
    first, second = make_answer(one_step()), make_answer(one_step(share=0.25, row=1), prompt="another")
    data = read_time(Asked(first, second))
    assert {(m["low"], m["high"]) for maps in data["maps"] for m in maps} == {(0.0, 0.8)}
    (difference,) = data["differences"]
    expected = np.zeros((3, 4))
    expected[1, 2], expected[1, 1] = 0.75, -0.25
    np.testing.assert_allclose(decode(difference), expected, atol=1e-4)
    assert (difference["low"], difference["high"]) == (-0.8, 0.8)
    assert data["sentence"] == "They differ most at word 3 “word3” of A, in layer 2: 0.750 in A, 0.000 in B."


def test_pairs_of_drawings_are_compared_branch_by_branch():
    data = read_time(Asked(make_drawing(branches(0.6, 0.3)), make_drawing(branches(0.4, 0.35), prompt="a red dot")))
    assert [one["title"] for one in data["differences"]] == ["A − B, conditional", "A − B, unconditional"]
    assert decode(data["differences"][0]).mean() == pytest.approx(0.2, abs=1e-4)
    assert decode(data["differences"][1]).mean() == pytest.approx(-0.05, abs=1e-4)


def test_answers_of_other_length_are_compared_as_far_as_both_go():
    first = make_answer(one_step(rows=5))
    data = read_time(Asked(first, make_answer(one_step(rows=3), prompt="short")))
    difference = decode(data["differences"][0])
    assert np.isnan(difference[:, 3:]).all() and np.isfinite(difference[:, :3]).all()
    assert "A has 5 words, B 3: A − B covers the first 3." in data["note"]
    other = make_answer(one_step(rows=5), prompt="x")
    other = replace(other, tokens=(*other.tokens[:-1], "cube"), text="word1 word2 word3 cube word5")
    assert "From word 4 on they say different words" in read_time(Asked(first, other))["note"]


def test_models_of_other_depth_are_matched_by_depth():
    """Two layers lie at depths 1/4 and 3/4; four at 1/8, 3/8, 5/8 and 7/8."""
    deep = np.array([[0.1], [0.2], [0.3], [0.4]])
    np.testing.assert_allclose(subtract(deep, np.array([[0.1], [0.3]])), [[0], [0.05], [0.05], [0.1]], atol=1e-9)
    first = make_answer(one_step(layers=4))
    data = read_time(Asked(first, make_answer(one_step(layers=2), prompt="shallow")))
    assert "A has 4 layers, B 2" in data["note"] and decode(data["differences"][0]).shape == (4, 4)


def test_what_cannot_be_compared_is_said():
    answer, drawing = make_answer(one_step()), make_drawing(branches(0.5, 0.5))
    data = read_time(Asked(answer, drawing))
    assert data["differences"] == [] and "One answers and one draws" in data["note"]
    assert data["sentence"].startswith("Word 3")
    data = read_time(Asked(drawing, make_drawing(branches(0.5, 0.5), (3, 2), prompt="tall")))
    assert data["differences"] == [] and "A has 2 × 3 patches, B 3 × 2" in data["note"]


# --- what cannot be shown ---


def test_answers_of_no_word_and_of_one_are_whole():
    empty = replace(make_answer(np.ones((2, 2, 1), np.float32)), text="")
    data = read_time(Asked(empty))
    assert "has no words" in data["captures"][0]["empty"] and "has no words" in data["sentence"]
    assert not data["captures"][0]["in_space"]
    single = read_time(Asked(make_answer(np.full((2, 2, 1), 0.5, np.float32))))
    np.testing.assert_allclose(maps_of(single)[0], [[0.5], [0.5]], atol=1e-4)
    fed = read_time(Asked(make_answer(np.full((2, 2, 1), 0.5, np.float32)), values={"fed": "1"}))
    assert "was fed back" in fed["sentence"]
    unknown = make_drawing(np.ones((1, 2, 2, 5), np.float32))
    assert "does not say which row" in read_time(Asked(unknown))["captures"][0]["empty"]
    for one in (data, single, fed, read_time(Asked(empty, empty)), read_time(Asked(unknown, unknown))):
        assert json.dumps(one, allow_nan=False)


@pytest.mark.parametrize("grid", [(1, 6), (6, 1), (1, 1)])
def test_one_layer_one_head_and_one_row_of_patches(grid):
    rows = grid[0] * grid[1]
    data = read_time(Asked(make_drawing(branches(0.5, 0.25, layers=1, heads=1, rows=rows), grid)))
    assert [one.shape for one in maps_of(data)] == [(1, rows)] * 2
    row, column = (1, 1) if rows == 1 else (1, 2) if grid[0] == 1 else (2, 1)  # the first step does not count
    assert data["sentence"].startswith(
        f"The patch in row {row}, column {column} looks most at the text, in layer 1: 0.50"
    )
