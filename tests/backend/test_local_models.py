"""What a folder says of its model, and the list of models that a user added."""

import json
import shutil
from dataclasses import replace

import pytest

from aia.intensity import Task
from backend.families import FAMILIES
from backend.interface import UserError
from backend.models.added_models import AddedModels
from backend.models.catalogue import CATALOGUE
from backend.models.local_models import find_model, spec_of_folder
from backend.models.specs import ASSETS, SPECS, find_spec


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(ASSETS / "tiny-janus", tmp_path / "My Model")


def test_a_folder_is_described_by_its_own_files(folder):
    spec, embedded = find_model(str(folder)), SPECS[0]
    assert (spec.name, spec.title, spec.family) == ("my-model", "My Model", "janus")
    same = ("tasks", "layers", "heads", "image_tokens", "parameters")
    assert [getattr(spec, name) for name in same] == [getattr(embedded, name) for name in same]
    assert spec.memory_mib == {"float32": 15} and spec.vocabulary == 66
    assert spec.targets == "paper-janus-pro"


def test_a_folder_of_the_other_architecture_has_its_targets_and_its_picture_tokens(tmp_path):
    spec, embedded = find_model(str(shutil.copytree(ASSETS / "tiny-emu3", tmp_path / "mine"))), find_spec("tiny-emu3")
    same = (
        "family",
        "tasks",
        "layers",
        "heads",
        "kv_heads",
        "image_tokens",
        "vocabulary",
        "hidden",
        "inner",
    )
    assert [getattr(spec, name) for name in same] == [getattr(embedded, name) for name in same]
    assert spec.parameters == pytest.approx(embedded.parameters, rel=1e-4)  # its files also hold statistics
    assert spec.targets == "paper-emu3" and spec.memory_mib == {"float32": 21}


def test_every_architecture_has_targets_in_the_registry():
    assert {spec.family for spec in CATALOGUE} == set(FAMILIES)


def test_a_known_name_goes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-janus").mkdir()
    assert find_model("tiny-janus") is SPECS[0]
    with pytest.raises(UserError, match="found none"):
        find_model("./tiny-janus")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "with a config.json, found none"),
        (lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'), "got gpt2"),
        (lambda f: (f / "config.json").write_text("{"), "not one that transformers can read"),
        (lambda f: [p.unlink() for p in f.glob("*.safetensors")], "weights as .safetensors"),
        (lambda f: [p.write_bytes(b"\xff" * 99) for p in f.glob("*.safetensors")], "are damaged"),
    ],
)
def test_a_folder_that_is_none_is_refused_in_one_sentence(folder, change, said):
    change(folder)
    with pytest.raises(UserError, match=said):
        spec_of_folder(folder)


def test_models_are_added_and_removed(folder, tmp_path):
    added = AddedModels(tmp_path / "data" / "models.json")
    assert added.specs() == ()
    spec = spec_of_folder(folder)
    added.add(spec, SPECS)
    added.add(replace(spec, note="again"), SPECS)
    assert [s.note for s in added.specs()] == ["again"] and added.specs()[0].tasks == frozenset(Task)
    added.remove("my-model")
    assert added.specs() == ()
    with pytest.raises(UserError, match="added model"):
        added.remove("my-model")


def test_a_known_models_name_is_not_taken(tmp_path):
    with pytest.raises(UserError, match="tiny-janus, which is the name of a known model"):
        AddedModels(tmp_path / "models.json").add(SPECS[0], SPECS)


@pytest.mark.parametrize("content", ["{", "[1]", json.dumps([{"name": "x"}])])
def test_a_damaged_list_leaves_the_program_running(tmp_path, content):
    (tmp_path / "models.json").write_text(content)
    assert AddedModels(tmp_path / "models.json").specs() == ()
