"""Stages: checks, the optimal fit against brute force, and stretching over many layer counts."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from aia.stages import MIN_DELTA, Stage, fit_stages, stretch_stages


def owners(stages, layers: int) -> list[int]:
    """Index of each layer's stage; fails unless every layer is covered once, in order."""
    covered = [(layer, i) for i, stage in enumerate(stages) for layer in range(stage.first, stage.last + 1)]
    assert [layer for layer, _ in covered] == list(range(layers))
    return [i for _, i in covered]


def fit_error(mean: np.ndarray, cuts) -> float:
    return sum(((mean[a:b] - mean[a:b].mean()) ** 2).sum() for a, b in pairwise(cuts))


def best_by_trying_all(mean: np.ndarray, count: int) -> tuple[int, ...]:
    tries = [(0, *cuts, len(mean)) for cuts in combinations(range(1, len(mean)), count - 1)]
    return min(tries, key=lambda cuts: fit_error(mean, cuts))


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize("seed", range(4))
def test_fit_equals_trying_every_cut(count, seed):
    mean = np.random.default_rng(seed).random(9)
    stages = fit_stages(mean, np.zeros(9), count)
    owners(stages, 9)
    assert (*(s.first for s in stages), 9) == best_by_trying_all(mean, count)
    np.testing.assert_allclose([s.target for s in stages], [mean[s.first : s.last + 1].mean() for s in stages])


@pytest.mark.parametrize("levels", [(0.4, 0.1, 0.3, 0.2), (0.1, 0.15, 0.3), (0.0, 1.0), (0.7,)])
def test_fit_recovers_a_piecewise_constant_curve_exactly(levels):
    lengths = [10, 1, 5, 14][: len(levels)]
    mean = np.repeat(levels, lengths)
    stages = fit_stages(mean, np.full(len(mean), 0.0625), len(levels))
    assert [s.target for s in stages] == list(levels)
    assert [s.layers for s in stages] == lengths
    assert {s.delta for s in stages} == {0.0625}


def test_delta_joins_the_spread_over_samples_and_over_the_stage():
    # Distances of the layer means to T = 0.5 are 0.3, spreads 0 and 0.4: √((0.09 + 0 + 0.09 + 0.16) / 2) = √0.17
    (stage,) = fit_stages([0.2, 0.8], [0.0, 0.4], 1)
    assert stage.target == pytest.approx(0.5)
    assert stage.delta == pytest.approx(0.17**0.5)


def test_delta_has_a_floor_where_nothing_spreads():
    assert [s.delta for s in fit_stages([0.3, 0.3, 0.6], [0, 0, 0], 2)] == [MIN_DELTA, MIN_DELTA]
    assert MIN_DELTA > 0


def test_one_stage_per_layer_is_the_curve_itself():
    mean, std = [0.5, 0.25, 0.25, 0.75], [0.125, 0.25, 0.0, 0.5]
    assert fit_stages(mean, std, 4) == tuple(
        Stage(i, i, m, max(s, MIN_DELTA)) for i, (m, s) in enumerate(zip(mean, std, strict=True))
    )


def test_more_stages_than_levels_still_cover_every_layer():
    assert owners(fit_stages(np.full(6, 0.3), np.zeros(6), 4), 6)[-1] == 3


@pytest.mark.parametrize(
    "mean, std, stages, words",
    [
        ([0.1, 0.2], [0.1], 1, "expected mean and std of one shape [L], got [2] and [1]; give one number per layer"),
        ([], [], 1, "expected mean and std of one shape [L], got [0] and [0]; give one number per layer"),
        (
            [[0.1]],
            [[0.1]],
            1,
            "expected mean and std of one shape [L], got [1, 1] and [1, 1]; give one number per layer",
        ),
        ([0.1, 1.5], [0, 0], 1, "expected every mean from 0 to 1, got 1.5 at layer 1; measure again"),
        ([0.1, np.nan], [0, 0], 1, "expected every mean from 0 to 1, got nan at layer 1; measure again"),
        ([0.1, 0.2], [-0.5, 0], 1, "expected every std from 0 to 1, got -0.5 at layer 0; measure again"),
        ([0.1, 0.2], [0, 0], 3, "expected 1 to 2 stages for 2 layers, got 3; choose a number in this range"),
        ([0.1, 0.2], [0, 0], 0, "expected 1 to 2 stages for 2 layers, got 0; choose a number in this range"),
        ([0.1, 0.2], [0, 0], 1.0, "expected 1 to 2 stages for 2 layers, got 1.0; choose a number in this range"),
    ],
)
def test_fit_names_what_is_wrong(mean, std, stages, words):
    with pytest.raises(ValueError) as error:
        fit_stages(mean, std, stages)
    assert str(error.value) == words


NO_NUMBERS = (float("nan"), float("inf"), "0.1", True, None)


@pytest.mark.parametrize("first, last", [(-1, 2), (3, 2), (0.0, 2), (False, 2), (0, None)])
def test_a_stage_names_wrong_layers(first, last):
    with pytest.raises(ValueError) as error:
        Stage(first, last, 0.1, 0.1)
    found = f"got first={first!r} and last={last!r}; count layers from 0"
    assert str(error.value) == f"expected layer numbers with 0 <= first <= last, {found}"


@pytest.mark.parametrize("target", [1.01, -0.01, *NO_NUMBERS])
def test_a_stage_names_a_wrong_target(target):
    with pytest.raises(ValueError) as error:
        Stage(0, 9, target, 0.1)
    found = f"got {target!r}; it is a share of attention"
    assert str(error.value) == f"expected a target from 0 to 1 for layers 0 to 9, {found}"


@pytest.mark.parametrize("delta", [0, -0.05, 1e-60, 1e60, *NO_NUMBERS])
def test_a_stage_names_a_wrong_delta(delta):
    with pytest.raises(ValueError) as error:
        Stage(0, 9, 0.1, delta)
    assert str(error.value) == f"expected a finite delta above 0 for layers 0 to 9, got {delta!r}; 0.05 is usual"


def test_a_stage_keeps_plain_numbers():
    stage = Stage(np.int64(0), np.int32(3), np.float32(0.5), 1)
    assert [type(v) for v in (stage.first, stage.last, stage.target, stage.delta)] == [int, int, float, float]
    assert stage.layers == 4
    assert Stage(0, 0, 0, 1).target == 0 and Stage(0, 0, 1, 1).target == 1


def random_stages(native: int, seed: int) -> tuple[Stage, ...]:
    rng = np.random.default_rng(seed)
    cuts = [0, *sorted(rng.choice(np.arange(1, native), min(native, 5) - 1, replace=False).tolist()), native]
    return tuple(Stage(a, b - 1, float(rng.random()), 0.1) for a, b in pairwise(cuts))


@pytest.mark.parametrize("native", [1, 2, 5, 30, 32])
def test_stretching_covers_every_layer_once_in_the_same_order_for_any_count(native):
    stages = random_stages(native, seed=native) if native > 1 else (Stage(0, 0, 0.5, 0.1),)
    for layers in range(1, 101):
        stretched = stretch_stages(stages, layers)
        owners(stretched, layers)
        places = [(s.target, s.delta) for s in stages]
        order = [places.index((s.target, s.delta)) for s in stretched]
        assert order == sorted(set(order))  # none twice, none before another
        if layers >= native:
            assert len(stretched) == len(stages)
        for stage in stretched:  # a stage's edges move by at most half a layer
            old = stages[places.index((stage.target, stage.delta))]
            for edge, old_edge in ((stage.first, old.first), (stage.last + 1, old.last + 1)):
                assert abs(edge / layers - old_edge / native) <= 0.5 / layers + 1e-12


@pytest.mark.parametrize("native", [2, 5, 30, 32])
def test_stretching_to_the_native_count_changes_nothing_and_a_multiple_scales_every_stage(native):
    stages = random_stages(native, seed=native)
    assert stretch_stages(stages, native) == stages
    for times in (2, 3):
        scaled = stretch_stages(stages, times * native)
        assert [s.layers for s in scaled] == [times * s.layers for s in stages]


def test_stretching_takes_the_native_layer_at_each_centre():
    """30 layers to 8: centres fall on native layers 1, 5, 9, 13, 16, 20, 24, 28."""
    cuts = [0, 10, 20, 25, 30]
    stages = tuple(Stage(a, b - 1, a / 100, 0.1) for a, b in pairwise(cuts))
    assert owners(stretch_stages(stages, 8), 8) == [0, 0, 0, 1, 1, 2, 2, 3]
    assert stretch_stages(stages, 1) == (Stage(0, 0, 0.10, 0.1),)
