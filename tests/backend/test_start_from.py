"""Fine-tunes that go on from what another one left."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from aia.config import make_config
from aia.intensity import Task
from backend.finetuning.finetune import RunFolder, finetune
from backend.interface import UserError

QUICK = {
    "steps": 2,
    "batch_size": 2,
    "probe_samples": 3,
    "score_samples": 0,
    "sample_count": 0,
    "probe_every": 2,
    "checkpoint_every": 1,
    "learning_rate": 3e-3,
}


def quick(**settings):
    return make_config(**(QUICK | settings))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run with an adapter of its own rank."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    return RunFolder(folder), finetune(folder, quick(lora_rank=4, lora_alpha=8))


def go_on(first, **settings):
    return quick(**({"start_from": str(first[0].adapter), "lora_rank": 4, "lora_alpha": 8} | settings))


def curves(moment):
    return [moment["intensity"][task][kind]["mean"] for task in Task for kind in ("training", "figure")]


def test_it_begins_at_the_curves_at_which_the_other_ended_and_moves_on(first, tmp_path):
    result = finetune(tmp_path / "second", go_on(first))
    for mine, theirs in zip(curves(result["before"]), curves(first[1]["after"]), strict=True):
        assert mine == pytest.approx(theirs, abs=2e-6)
    assert curves(result["before"]) != curves(first[1]["before"])
    assert curves(result["after"]) != curves(result["before"])


def test_it_is_the_same_adapter_trained_on_and_another_run_s_deletion_does_not_matter(first, tmp_path):
    shutil.copytree(first[0].adapter, tmp_path / "adapter")
    config = go_on(first, start_from=str(tmp_path / "adapter"))
    run = RunFolder(tmp_path / "second")
    run.begin(config)
    shutil.rmtree(tmp_path / "adapter")
    finetune(run.path, None)
    before, after = (load_file(f / "adapter_model.safetensors") for f in (first[0].adapter, run.adapter))
    assert before.keys() == after.keys()
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_full_goes_on_from_whole_weights(tmp_path):
    ended = finetune(tmp_path / "first", quick(method="full"))["after"]
    begun = finetune(tmp_path / "second", quick(method="full", start_from=str(tmp_path / "first" / "adapter")))
    for mine, theirs in zip(curves(begun["before"]), curves(ended), strict=True):
        assert mine == pytest.approx(theirs, abs=2e-6)


def test_a_resumed_run_goes_on_only_from_what_it_began_with(first, tmp_path):
    run = RunFolder(tmp_path / "second")
    finetune(run.path, go_on(first, steps=3))
    for path in sorted(run.checkpoints.glob("step-*"))[-1:]:
        shutil.rmtree(path)
    other = finetune(tmp_path / "other", go_on(first))["adapter"]
    shutil.rmtree(run.start)
    shutil.copytree(other, run.start)
    with pytest.raises(UserError, match="start digest"):
        finetune(run.path, None)
    assert go_on(first).what_training_depends_on() != quick(lora_rank=4, lora_alpha=8).what_training_depends_on()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"lora_rank": 16}, "LoRA rank 4 and alpha 8"),
        ({"method": "full"}, "choose “lora”"),
        ({"start_from": "/nowhere"}, "found neither"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(first, tmp_path, settings, match):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match=match):
        finetune(run.path, go_on(first, **settings))
    assert not run.config.exists()


def test_an_adapter_of_another_model_is_refused(first, tmp_path):
    shutil.copytree(first[0].adapter, tmp_path / "adapter")
    (tmp_path / "adapter" / "aia_lens.json").write_text('{"model": "another"}')
    with pytest.raises(UserError, match="choose that as the base model"):
        finetune(tmp_path / "run", go_on(first, start_from=str(tmp_path / "adapter")))
    (tmp_path / "adapter" / "aia_lens.json").write_text('{"model": "tiny-janus", "revision": "other"}')
    with pytest.raises(UserError, match="at revision"):
        finetune(tmp_path / "run", go_on(first, start_from=str(tmp_path / "adapter")))
