"""The published tables value by value, loading and saving, and what is said of wrong targets."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from aia.intensity import Task
from aia.stages import Stage, fit_stages
from aia.targets import (
    DISAGREEMENTS,
    FORMAT,
    PRESETS,
    StageTargets,
    fit_targets,
    load_targets,
    save_targets,
)

CURVES = Path(__file__).resolve().parents[2] / "assets" / "paper_curves.json"

# (layers, δ and T of generation, δ and T of understanding), one line per line of the tables
TABLE_S4 = [
    (range(0, 10), (0.2, 0.4), (0.05, 0.1)),
    (range(10, 20), (0.1, 0.4), (0.05, 0.15)),
    (range(20, 25), (0.1, 0.4), (0.05, 0.3)),
    (range(25, 31), (0.05, 0.2), (0.05, 0.3)),
    (range(31, 32), (0.05, 0.2), (0.05, 0.2)),
]
TABLE_S5 = [*TABLE_S4[:3], (range(25, 30), (0.05, 0.2), (0.05, 0.3))]


def small(**changes) -> StageTargets:
    fields = {
        "name": "small", "source": "by hand", "layers": 4,
        "generation": (Stage(0, 1, 0.5, 0.1), Stage(2, 3, 0.25, 0.1)),
        "understanding": (Stage(0, 2, 0.125, 0.05), Stage(3, 3, 1 / 3, 0.2)),
    }  # fmt: skip
    return StageTargets(**{**fields, **changes})


def message(function, *arguments, **keywords) -> str:
    with pytest.raises(ValueError) as error:
        function(*arguments, **keywords)
    return str(error.value)


@pytest.mark.parametrize("name, table, layers", [("paper-emu3", TABLE_S4, 32), ("paper-janus-pro", TABLE_S5, 30)])
def test_presets_hold_the_published_tables_value_by_value(name, table, layers):
    targets = load_targets(name)
    assert targets.layers == layers == sum(len(line[0]) for line in table)
    for column, task in ((1, Task.GENERATION), (2, Task.UNDERSTANDING)):
        target, delta = targets.as_arrays(task)
        assert target.dtype == delta.dtype == np.float32 and target.shape == delta.shape == (layers,)
        for line in table:
            for layer in line[0]:
                assert (delta[layer], target[layer]) == tuple(np.float32(line[column])), (task, layer)
        assert [stage.layers for stage in targets.stages(task)] == [len(line[0]) for line in table]


def test_released_code_differs_from_table_s5_in_layer_20_of_understanding_only():
    paper, code = load_targets("paper-janus-pro"), load_targets("released-code")
    for ours, theirs in zip(paper.as_arrays(Task.GENERATION), code.as_arrays(Task.GENERATION), strict=True):
        assert (ours == theirs).all()
    (target, delta), (code_target, code_delta) = (t.as_arrays(Task.UNDERSTANDING) for t in (paper, code))
    assert np.flatnonzero(target != code_target).tolist() == [20]
    assert (target[20], code_target[20]) == (np.float32(0.3), np.float32(0.15))
    assert (delta == code_delta).all()


def test_disagreements_agree_with_the_presets():
    by_topic = {d.topic: d for d in DISAGREEMENTS}
    layer_20 = by_topic["target of layer 20, understanding, Janus-Pro"]
    for text, name in ((layer_20.paper, "paper-janus-pro"), (layer_20.released_code, "released-code")):
        assert float(text.split(" ")[0].rstrip(":")) == next(
            s.target for s in PRESETS[name].understanding if s.first <= 20 <= s.last
        )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_stretch_to_any_model_and_are_themselves_at_their_own_count(name):
    native = PRESETS[name]
    assert load_targets(name, native.layers) is native
    for layers in (1, 2, 8, 28, 36, 64):
        targets = load_targets(name, layers)
        assert targets.layers == layers and targets.name == name
        for task in Task:
            target, _ = targets.as_arrays(task)
            assert target.shape == (layers,)
            assert set(target) <= set(native.as_arrays(task)[0])


def test_tiny_janus_gets_its_eight_layers_of_table_s5():
    targets = load_targets("paper-janus-pro", 8)
    assert targets.as_arrays(Task.GENERATION)[0].tolist() == np.float32([0.4] * 7 + [0.2]).tolist()
    understanding = np.float32([0.1, 0.1, 0.1, 0.15, 0.15, 0.3, 0.3, 0.3]).tolist()
    assert targets.as_arrays(Task.UNDERSTANDING)[0].tolist() == understanding
    assert targets.source == "arXiv:2511.22663, Table S5, stretched from 30 to 8 layers"


def test_fitted_targets_hold_the_fit_of_each_task():
    rng = np.random.default_rng(0)
    drawing, answering = (rng.random((2, 8)) for _ in range(2))
    targets = fit_targets("mine", "two experts", drawing, answering, stages=3)
    assert targets.layers == 8
    assert targets.generation == fit_stages(*drawing, 3)
    assert targets.understanding == fit_stages(*answering, 3)
    words = message(fit_targets, "mine", "two experts", drawing, answering[:, :7], 3)
    assert words == "expected both curves over the same layers, got [8, 7]; measure both on one model"


@pytest.mark.parametrize("targets", [*PRESETS.values(), small()], ids=lambda t: t.name)
def test_saved_targets_load_as_they_were(tmp_path, targets):
    save_targets(targets, tmp_path / "t.json")
    assert load_targets(tmp_path / "t.json") == targets
    assert load_targets(str(tmp_path / "t.json"), targets.layers) == targets
    assert os.listdir(tmp_path) == ["t.json"]


def test_a_save_that_fails_leaves_the_older_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    save_targets(small(), path)

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_targets(small(name="newer"), path)
    assert load_targets(path) == small()
    assert os.listdir(tmp_path) == ["t.json"]


def test_a_file_for_another_number_of_layers_is_refused_unless_stretching_is_asked_for(tmp_path):
    path = tmp_path / "t.json"
    save_targets(small(), path)
    words = f"expected targets for 8 layers, got 4 in {path}; "
    assert message(load_targets, path, 8) == words + "choose a file made for this model, or have this one stretched"
    assert load_targets(path, 8, stretch=True) == small().stretch(8)


def test_the_table_shows_every_stage_of_both_tasks():
    assert small().as_table().splitlines() == [
        "small, 4 layers (by hand)",
        "            generation      understanding",
        "layers    target   delta    target   delta",
        "0-1        0.500   0.100     0.125   0.050",
        "2          0.250   0.100     0.125   0.050",
        "3          0.250   0.100     0.333   0.200",
    ]


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"generation": (Stage(0, 1, 0.5, 0.1), Stage(3, 3, 0.5, 0.1))}, "a stage from layer 3 where layer 2 is next"),
        ({"generation": (Stage(0, 2, 0.5, 0.1), Stage(2, 3, 0.5, 0.1))}, "a stage from layer 2 where layer 3 is next"),
        ({"generation": (Stage(2, 3, 0.5, 0.1), Stage(0, 1, 0.5, 0.1))}, "a stage from layer 2 where layer 0 is next"),
        ({"generation": (Stage(0, 2, 0.5, 0.1),)}, "an end at layer 2"),
        ({"generation": (Stage(0, 4, 0.5, 0.1),)}, "an end at layer 4"),
        ({"generation": ()}, "no stages"),
    ],
)
def test_layers_not_covered_once_and_in_order_are_named(changes, fault):
    assert message(small, **changes) == (
        f"expected the generation stages to cover layers 0 to 3 once and in order, got {fault}; "
        "let each stage begin right after the one before it and the last end with the last layer"
    )


def test_understanding_is_checked_as_generation_is():
    assert message(small, understanding=(Stage(0, 2, 0.5, 0.1),)).startswith("expected the understanding stages")


@pytest.mark.parametrize("layers", [0, -1, 1025, 4.0, True, "4", None])
def test_an_impossible_number_of_layers_is_named(layers):
    words = f"expected 1 to 1024 layers, got {layers!r}; give the model's number of layers"
    assert message(small, layers=layers) == words
    assert message(small().stretch, layers) == words


@pytest.mark.parametrize("field", ["name", "source"])
def test_targets_without_a_name_or_source_are_refused(field):
    words = f"expected a non-empty text as the targets' {field}, got ' '; give them one"
    assert message(small, **{field: " "}) == words


def test_an_unknown_name_lists_the_presets(tmp_path):
    words = "expected one of paper-emu3, paper-janus-pro, released-code, tiny-experts, or a file of targets, got "
    assert message(load_targets, "paper-emu4") == words + "paper-emu4 (no such file)"
    assert message(load_targets, tmp_path) == words + f"{tmp_path} (no such file)"


@pytest.mark.parametrize(
    "content, words",
    [
        (b"\xff\xfe", "expected targets as JSON text, got other bytes in {path}; choose another file"),
        (b"{", "expected targets as JSON, got text that is not JSON in {path}; choose another file"),
        (b"[" * 10**5, "expected targets as JSON, got text that is not JSON in {path}; choose another file"),
        (b" " * (2**20 + 1), "expected a file of targets of at most 1048576 bytes, got {path}; choose another"),
        (
            b"[]",
            '{path}: expected JSON with "format": "aia-lens stage targets", got something else; '
            "save targets to make one",
        ),
    ],
)
def test_a_file_that_holds_no_targets_is_named(tmp_path, content, words):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    assert message(load_targets, path) == words.format(path=path)


def set_stage(data: dict, **values) -> None:
    data["understanding"][1].update(values)


STAGE_FIELDS = "expected each stage of understanding to hold first, last, target, delta"
SPOILS = {
    "format": (lambda d: d.update(format="other"), f'expected JSON with "format": "{FORMAT}", got something else'),
    "version": (lambda d: d.update(version=2), "expected version 1, got 2; save the targets anew"),
    "missing field": (lambda d: d.pop("layers"), "got name, source, generation, understanding; save"),
    "extra field": (lambda d: d.update(more=1), "got name, source, generation, understanding, layers, more"),
    "no list": (lambda d: d.update(generation={}), "expected a list of stages as generation, got dict; save"),
    "stage no object": (lambda d: d["understanding"].append(3), f"{STAGE_FIELDS}, got int; save"),
    "stage field missing": (lambda d: d["understanding"][1].pop("delta"), f"{STAGE_FIELDS}, got first, last, target;"),
    "stage empty": (lambda d: d["understanding"][1].clear(), f"{STAGE_FIELDS}, got nothing; save"),
    "target": (lambda d: set_stage(d, target=1.5), "expected a target from 0 to 1 for layers 3 to 3, got 1.5;"),
    "target NaN": (lambda d: set_stage(d, target=float("nan")), "for layers 3 to 3, got nan;"),
    "delta": (lambda d: set_stage(d, delta=0), "expected a finite delta above 0 for layers 3 to 3, got 0;"),
    "delta infinite": (lambda d: set_stage(d, delta=float("inf")), "for layers 3 to 3, got inf;"),
    "gap": (lambda d: d["understanding"].pop(0), "got a stage from layer 3 where layer 0 is next;"),
    "layers": (lambda d: d.update(layers=5), "cover layers 0 to 4 once and in order, got an end at layer 3;"),
    "layers as text": (lambda d: d.update(layers="4"), "expected 1 to 1024 layers, got '4';"),
    "name": (lambda d: d.update(name=7), "expected a non-empty text as the targets' name, got 7;"),
}  # fmt: skip


@pytest.mark.parametrize("spoil, words", SPOILS.values(), ids=SPOILS)
def test_a_spoiled_file_is_refused_with_its_fault_in_one_line(tmp_path, spoil, words):
    path = tmp_path / "t.json"
    save_targets(small(), path)
    data = json.loads(path.read_text())
    spoil(data)
    path.write_text(json.dumps(data))
    found = message(load_targets, path)
    assert found.startswith(f"{path}: expected ") and words in found and "\n" not in found


def test_targets_are_frozen():
    with pytest.raises(AttributeError):
        PRESETS["paper-emu3"].layers = 3


def test_digitised_curves_give_the_reference_stage_means_of_table_s4():
    """The asset against what was worked out from it: HunyuanImage-3.0, one value for each of 32 layers."""
    data = json.loads(CURVES.read_text())
    assert data["source"]["paper"] == "arXiv:2511.22663" and data["source"]["licence_note"]
    assert len(data["curves"]) == 32 and len(data["derived_native_layer_curves"]) == 21
    curves = [c for c in data["derived_native_layer_curves"] if c["model"] == "HunyuanImage-3.0" and c["figure"] == "5"]
    assert {c["task"] for c in curves} == {"generation"} and {len(c["intensity"]) for c in curves} == {32}
    stages = PRESETS["paper-emu3"].generation
    for curve in curves:
        means = [np.mean(curve["intensity"][s.first : s.last + 1]) for s in stages]
        np.testing.assert_allclose(means, [0.49, 0.38, 0.39, 0.19, 0.04], atol=0.0051)
