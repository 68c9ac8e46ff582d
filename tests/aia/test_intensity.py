"""Intensity against cases worked out by hand."""

import numpy as np
import pytest

from aia.intensity import (
    GROUPS,
    KEY_GROUPS,
    Definition,
    Group,
    Task,
    group_index,
    head_intensity,
    intensity,
    sum_groups,
)

# One row's mass per group, in 64ths so that sums are exact.
ROW = {
    Group.BOS: 20, Group.TEMPLATE: 3, Group.PROMPT: 7, Group.BOI: 11,
    Group.IMAGE: 9, Group.IMAGE_LAST: 2, Group.EOI: 1, Group.GENERATED: 11,
}  # fmt: skip
BY_HAND = {
    (Definition.FIGURE, Task.GENERATION): (20 + 3 + 7 + 11) / 64,
    (Definition.FIGURE, Task.UNDERSTANDING): (11 + 9 + 2) / 64,
    (Definition.TRAINING, Task.GENERATION): (20 + 3 + 7) / 64,
    (Definition.TRAINING, Task.UNDERSTANDING): (11 + 9) / 64,
    (Definition.STRICT, Task.GENERATION): 7 / 64,
    (Definition.STRICT, Task.UNDERSTANDING): (9 + 2) / 64,
}
EVERY = [(d, t) for d in Definition for t in Task]


def mass_row(**changes) -> np.ndarray:
    amounts = {**{g.value: a for g, a in ROW.items()}, **changes}
    return np.array([amounts[g.value] for g in GROUPS], np.float32) / 64


def random_mass(rows: int = 6) -> np.ndarray:
    mass = np.random.default_rng(0).random((3, 4, rows, len(GROUPS))).astype(np.float32)
    return mass / mass.sum(-1, keepdims=True)


@pytest.mark.parametrize("definition, task", EVERY)
def test_each_definition_sums_its_own_groups(definition, task):
    mass = np.stack([mass_row(), mass_row()])[None, None]  # [1, 1, 2, G]: prefill row, one decoding row
    assert sum_groups(mass, task, definition)[0, 0, 1] == BY_HAND[definition, task]
    assert intensity(mass, task, definition) == [BY_HAND[definition, task]]


def test_row_of_the_prefill_step_is_left_out():
    prefill = np.eye(len(GROUPS), dtype=np.float32)[group_index(Group.PROMPT)]
    mass = np.stack([prefill, mass_row()])[None, None]
    assert intensity(mass, Task.GENERATION, Definition.STRICT) == [7 / 64]


def test_intensity_is_the_mean_over_rows_then_heads_of_each_layer_alone():
    def row(prompt: float) -> np.ndarray:
        mass = np.zeros(len(GROUPS), np.float32)
        mass[group_index(Group.PROMPT)], mass[group_index(Group.GENERATED)] = prompt, 1 - prompt
        return mass

    prompt = [  # [L=2, H=2, Q=3], row 0 not to be counted
        [[1.0, 0.5, 0.25], [1.0, 0.0, 0.25]],
        [[0.0, 1.0, 0.50], [0.0, 0.5, 0.00]],
    ]
    mass = np.array([[[row(p) for p in head] for head in layer] for layer in prompt])
    heads = head_intensity(mass, Task.GENERATION, Definition.STRICT)
    assert heads.tolist() == [[0.375, 0.125], [0.75, 0.25]]
    assert intensity(mass, Task.GENERATION, Definition.STRICT).tolist() == [0.25, 0.5]


@pytest.mark.parametrize("definition, task", EVERY)
def test_intensity_stays_between_zero_and_one(definition, task):
    heads = head_intensity(random_mass(), task, definition)
    assert heads.shape == (3, 4)
    assert (heads > 0).all() and (heads < 1).all()


@pytest.mark.parametrize("task", Task)
def test_figure_counts_at_least_what_the_others_count(task):
    mass = random_mass()
    figure = head_intensity(mass, task, Definition.FIGURE)
    for other in (Definition.TRAINING, Definition.STRICT):
        assert KEY_GROUPS[other][task] < KEY_GROUPS[Definition.FIGURE][task]
        assert (figure > head_intensity(mass, task, other)).all()


@pytest.mark.parametrize("definition, task", EVERY)
def test_tokens_of_the_same_modality_never_count(definition, task):
    """What was generated, and the end of image, is in no definition."""
    mass = np.zeros((1, 1, 2, len(GROUPS)), np.float32)
    mass[..., group_index(Group.GENERATED)], mass[..., group_index(Group.EOI)] = 0.75, 0.25
    assert intensity(mass, task, definition) == [0]


def test_two_tasks_share_no_key_group_but_the_begin_of_image():
    for definition in Definition:
        shared = KEY_GROUPS[definition][Task.GENERATION] & KEY_GROUPS[definition][Task.UNDERSTANDING]
        assert shared <= {Group.BOI}


def test_training_definition_misses_the_last_image_token_as_the_released_slice_does():
    mass = np.stack([mass_row(), mass_row(image=0, image_last=11)])[None, None]
    assert intensity(mass, Task.UNDERSTANDING, Definition.TRAINING) == [11 / 64]
    assert intensity(mass, Task.UNDERSTANDING, Definition.STRICT) == [11 / 64]
    assert intensity(mass, Task.UNDERSTANDING, Definition.FIGURE) == [22 / 64]


@pytest.mark.parametrize("rows", [0, 1])
def test_no_decoding_row_gives_nan_and_no_warning(rows):
    mass = random_mass(rows)
    assert intensity(mass, Task.GENERATION, Definition.FIGURE).shape == (3,)
    assert np.isnan(intensity(mass, Task.GENERATION, Definition.FIGURE)).all()
    assert np.isnan(head_intensity(mass, Task.GENERATION, Definition.FIGURE)).all()


@pytest.mark.parametrize("shape", [(3, 4, 6, len(GROUPS) - 1), (4, 6, len(GROUPS)), (1, 3, 4, 6, len(GROUPS))])
def test_wrong_shape_is_named(shape):
    with pytest.raises(ValueError) as error:
        head_intensity(np.zeros(shape, np.float32), Task.GENERATION, Definition.FIGURE)
    assert str(error.value) == f"expected masses of shape [L, H, Q, {len(GROUPS)}], got {list(shape)}"


def test_group_columns_follow_the_order_of_the_groups():
    assert [group_index(g) for g in GROUPS] == list(range(len(GROUPS)))
    assert set(ROW) == set(GROUPS) and sum(ROW.values()) == 64
