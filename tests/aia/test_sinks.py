"""Sinks among patches, by hand-made attention."""

import numpy as np

from aia.sinks import FAR, FEWEST, find_sinks


def flat(rows: int, patches: int) -> np.ndarray:
    return np.full((rows, patches), 0.01, np.float32)


def test_a_patch_that_every_row_looks_at_far_more_is_a_sink_and_no_other():
    shares = flat(6, 15)
    shares[:, 7] = 0.3
    shares[2, 4] = 0.6  # one word's own
    assert np.flatnonzero(find_sinks(shares)).tolist() == [7]


def test_far_more_is_a_multiple_of_the_row_s_own_median():
    shares = flat(10, 9)
    shares[:, 3] = 0.01 * FAR * 1.01
    assert np.flatnonzero(find_sinks(shares)).tolist() == [3]
    assert np.array_equal(find_sinks(shares * 7), find_sinks(shares))  # how much goes to the picture does not matter
    shares[:, 3] = 0.01 * FAR * 0.99
    assert not find_sinks(shares).any()


def test_nearly_all_rows_have_to_agree():
    shares = flat(20, 9)
    shares[:18, 2] = 0.5
    assert np.flatnonzero(find_sinks(shares)).tolist() == [2]
    shares[17, 2] = 0.01
    assert not find_sinks(shares).any()


def test_only_rows_that_can_see_a_patch_are_asked():
    """Drawing: patch p is there from row p + 1 on."""
    seen = np.tril(np.ones((20, 20), bool), -1)
    shares = np.where(seen, 0.01, 0).astype(np.float32)
    shares[10:, 9] = 0.4
    assert np.flatnonzero(find_sinks(shares, seen)).tolist() == [9]
    assert not find_sinks(shares).any()  # rows that could not see it would have voted against it


def test_few_rows_or_patches_say_nothing():
    shares = flat(FEWEST - 1, 9)
    shares[:, 3] = 0.5
    assert not find_sinks(shares).any()
    assert find_sinks(np.zeros((0, 9), np.float32)).tolist() == [False] * 9
    assert find_sinks(np.full((8, 1), 0.5, np.float32)).tolist() == [False]
