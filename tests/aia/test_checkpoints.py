"""Checkpoints on disk: whole or absent, checked when read, pruned only after the new one is there."""

import json

import pytest
import torch

from aia import checkpoints
from aia.checkpoints import CheckpointError, load_checkpoint, load_newest_checkpoint, save_checkpoint

TENSORS = {"weights/a": torch.tensor([0.1, -2.5]), "optimizer/step/a": torch.tensor(3.0)}


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_what_was_saved_comes_back_bit_for_bit(tmp_path):
    save_checkpoint(tmp_path, 3, TENSORS, {"rate": 0.1})
    found = load_newest_checkpoint(tmp_path)
    assert (found.step, found.values) == (3, {"rate": 0.1})
    assert all(torch.equal(found.tensors[name], TENSORS[name]) for name in TENSORS)


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path):
    assert load_newest_checkpoint(tmp_path) is None and load_newest_checkpoint(tmp_path / "gone") is None


def test_the_oldest_go_first_and_only_so_many_stay(tmp_path):
    for step in (2, 4, 100, 6):
        save_checkpoint(tmp_path, step, TENSORS, {}, keep=2)
    assert names(tmp_path) == ["step-00000006", "step-00000100"]


def test_saving_a_step_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, 1, TENSORS, {"n": 1})
    save_checkpoint(tmp_path, 1, {"weights/a": torch.zeros(2)}, {"n": 2})
    assert load_newest_checkpoint(tmp_path).values == {"n": 2} and names(tmp_path) == ["step-00000001"]


@pytest.mark.parametrize("damage", ["cut", "flip", "state", "no state", "no tensors", "version", "not a number"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_found(damage, tmp_path):
    save_checkpoint(tmp_path, 1, TENSORS, {})
    newest = save_checkpoint(tmp_path, 2, TENSORS, {})
    tensors, state = newest / "tensors.safetensors", newest / "state.json"
    content = bytearray(tensors.read_bytes())
    if damage == "cut":
        tensors.write_bytes(content[:-3])
    elif damage == "flip":
        content[-1] ^= 1
        tensors.write_bytes(content)
    elif damage == "state":
        state.write_text(state.read_text()[:-5])
    elif damage == "no state":
        state.unlink()
    elif damage == "no tensors":
        tensors.unlink()
    elif damage == "version":
        state.write_text(json.dumps(json.loads(state.read_text()) | {"format_version": 99}))
    else:
        state.write_text("[]")
    with pytest.raises(CheckpointError, match="step-00000002"):
        load_checkpoint(newest)
    assert load_newest_checkpoint(tmp_path).step == 1


def test_a_disk_that_fails_leaves_the_older_one_and_no_litter(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, TENSORS, {}, keep=1)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_sync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_checkpoint(tmp_path, 2, TENSORS, {}, keep=1)
    assert names(tmp_path) == ["step-00000001"]


def test_a_checkpoint_being_written_is_not_taken_for_one(tmp_path):
    save_checkpoint(tmp_path, 1, TENSORS, {})
    (tmp_path / "step-00000001").rename(tmp_path / ".step-00000001.77.part")
    assert load_newest_checkpoint(tmp_path) is None
