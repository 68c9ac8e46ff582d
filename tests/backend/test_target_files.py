"""Tables of stages, fits to curves, and the folder of saved targets."""

import numpy as np
import pytest

from aia.intensity import Task
from aia.targets import PRESETS, load_targets
from backend.finetuning.target_files import TargetFiles, fit_task, make_rows, read_rows, read_stages
from backend.interface import UserError

TINY = PRESETS["tiny-experts"]
ROWS = [[3, 0.4, 0.1, 0.2, 0.05], [8, 0.2, 0.1, 0.6, 0.05]]


@pytest.fixture
def files(tmp_path):
    return TargetFiles(tmp_path / "targets")


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_table_says_all_of_the_targets_and_gives_them_back(preset):
    again = read_rows([list(row) for row in make_rows(preset)], preset.layers)
    for task in Task:
        np.testing.assert_allclose(again.as_arrays(task), preset.as_arrays(task), atol=1e-4)


def test_a_table_counts_layers_from_one():
    assert make_rows(TINY)[0][0] == 1 and make_rows(TINY)[-1][0] == 8
    targets = read_rows(ROWS, 8)
    assert [(s.first, s.last, s.target, s.delta) for s in targets.generation] == [(0, 2, 0.4, 0.1), (3, 7, 0.2, 0.1)]
    assert [s.target for s in targets.understanding] == [0.2, 0.6]


@pytest.mark.parametrize(
    ("row", "column", "value", "match"),
    [
        (0, 1, 1.2, "T from 0 to 1 for generation, layers 1 to 3, got 1.2"),
        (0, 1, None, "number from 0 to 1 as T of generation, layers 1 to 3, got nothing"),
        (1, 4, 0, "δ above 0 and at most 1 for understanding, layers 4 to 8, got 0"),
        (0, 3, -0.1, "T from 0 to 1 for understanding"),
        (0, 0, 8, "last stage to end with layer 8"),
        (0, 0, 9, "stage 1 to end with a layer from 1 to 8, got 9"),
        (0, 0, 2.5, "got 2.5"),
        (0, 0, True, "got nothing"),
        (1, 0, 7, "last stage to end with layer 8, got 7"),
        (1, 2, float("nan"), "δ above 0"),
        (1, 1, "0.3", "got nothing"),
    ],
)
def test_a_wrong_cell_is_one_sentence(row, column, value, match):
    rows = [list(row) for row in ROWS]
    rows[row][column] = value
    with pytest.raises(UserError, match=match):
        read_rows(rows, 8)


@pytest.mark.parametrize("rows", [None, [], [[1]], "x", [[8, 1, 1, 1, 1]] * 9])
def test_what_is_no_table_is_refused(rows):
    with pytest.raises(UserError, match="Expected"):
        read_rows(rows, 8)


def test_one_task_is_fitted_and_the_other_left():
    mean, std = [0.5] * 4 + [0.1] * 4, [0.03] * 8
    fitted = fit_task(TINY, Task.GENERATION, mean, std, 2)
    assert [(s.first, s.last, s.target, s.delta) for s in fitted.generation] == [(0, 3, 0.5, 0.03), (4, 7, 0.1, 0.03)]
    assert fitted.understanding == TINY.understanding


def test_a_curve_of_another_depth_is_stretched_and_one_without_spread_taken():
    fitted = fit_task(TINY, Task.UNDERSTANDING, [0.2] * 16 + [0.6] * 16, None, 2)
    assert [(s.first, s.last, s.target) for s in fitted.understanding] == [(0, 3, 0.2), (4, 7, 0.6)]
    with pytest.raises(UserError, match="1 to 32 stages"):
        fit_task(TINY, Task.UNDERSTANDING, [0.2] * 32, None, 33)


def test_saved_targets_are_found_again_by_name_and_by_the_command_line(files):
    stem = files.save(read_rows(ROWS, 8), "My first try!")
    assert files.list() == [("My first try!", "my-first-try")] and stem == "my-first-try"
    assert load_targets(files.find(stem), 8) == files.load(stem, 8)
    assert files.load(stem, 16).layers == 16
    files.save(TINY, "my first try!")
    assert len(files.list()) == 1 and files.load(stem, 8).generation == TINY.generation


@pytest.mark.parametrize("name", ["", "  ", "...", "x" * 61, "tiny-experts", None, "\n"])
def test_a_name_that_cannot_be_is_refused(files, name):
    with pytest.raises(UserError, match="Expected a name"):
        files.save(TINY, name)


@pytest.mark.parametrize("stem", ["../secret", "/etc/passwd", "none", "", "kept/0"])
def test_no_other_file_can_be_named(files, stem):
    with pytest.raises(UserError, match="name of saved targets"):
        files.load(stem, 8)


def test_what_a_run_was_started_with_stays_whatever_becomes_of_the_name(files):
    stem = files.save(read_rows(ROWS, 8), "mine")
    kept = files.keep(files.load(stem, 8))
    files.save(TINY, "mine")
    assert load_targets(kept, 8).generation == read_rows(ROWS, 8).generation
    assert files.keep(load_targets(kept)) == kept
    assert [name for name, _ in files.list()] == ["mine"]


def test_a_damaged_file_is_left_out_of_the_list(files):
    stem = files.save(TINY, "mine")
    files.find(stem).write_text("{")
    assert files.list() == []
    with pytest.raises(UserError, match="cannot be read"):
        files.load(stem, 8)


def test_plain_stages_become_targets_or_a_sentence():
    stage = {"first": 0, "last": 7, "target": 0.3, "delta": 0.1}
    found = read_stages({"generation": [stage], "understanding": [stage]}, 8)
    assert found.layers == 8 and found.generation[0].target == 0.3
    for wrong in ({}, {"generation": [stage]}, {"generation": [stage | {"last": 5}], "understanding": [stage]}):
        with pytest.raises(UserError, match="xpected"):
            read_stages(wrong, 8)
