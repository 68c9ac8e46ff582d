"""Whole fine-tunes of the embedded model: what they leave behind, killed ones, several processes, and faults."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from aia import checkpoints, training
from aia.config import make_config
from aia.intensity import Task
from backend.families import load_model
from backend.families.janus_training import JanusTraining
from backend.finetuning import finetune as room
from backend.finetuning.finetune import RunFolder, finetune
from backend.interface import Cancelled, UserError
from backend.models.specs import SPECS, Precision

ROOT = Path(__file__).resolve().parents[2]
QUICK = {
    "steps": 6,
    "batch_size": 4,
    "probe_samples": 4,
    "score_samples": 0,
    "checkpoint_every": 2,
    "probe_every": 3,
    "learning_rate": 1e-3,
    "sample_count": 0,  # tests/backend/test_samples.py
}


def quick(**settings):
    return make_config(**(QUICK | settings))


def weights_in(folder):
    (file,) = RunFolder(folder).adapter.glob("*.safetensors")
    return load_file(file)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run: its folder and its result."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return folder, finetune(folder, quick(score_samples=8))


# --- what a run leaves ------------------------------------------------------------------------


def test_a_run_tells_curves_scores_and_losses_before_and_after(finished):
    folder, result = finished
    for when in ("before", "after"):
        for task in Task:
            assert 0 <= result[when]["scores"][task]["overall"] <= 1
            assert len(result[when]["intensity"][task]["training"]["mean"]) == 8
            assert result[when]["distance"][task]["mean_absolute"] > 0
    assert result["before"]["intensity"] != result["after"]["intensity"]
    assert [loss["step"] for loss in result["losses"]] == [1, 2, 3, 4, 5, 6]
    for loss in result["losses"]:
        assert loss["ntp"] > 0 and [loss[f"aia_{t}"] for t in Task].count(None) == 1
    assert result["seconds"] > 0 and result["peak_memory_mib"] > 100
    assert json.loads(RunFolder(folder).result.read_text()) == json.loads(json.dumps(result))


def test_an_adapter_taken_up_again_has_the_curves_of_the_end_of_its_run(finished):
    folder, result = finished
    model = load_model(SPECS[0], adapter=RunFolder(folder).adapter)
    assert model.adapter and model.revision == load_model(SPECS[0]).revision
    _, samples = room.load_data(quick())
    trainable = JanusTraining(model)
    batches = training.make_probe_batches(trainable, samples, 32)
    module = training.LossModule(trainable)
    with torch.no_grad():
        curve = module(batches[Task.GENERATION][0], ("training",))[1]["training"].mean(0)
    wanted = result["after"]["intensity"]["generation"]["training"]["mean"]
    np.testing.assert_allclose(curve.numpy(), wanted, atol=2e-6)


def test_a_control_run_sees_the_same_samples_and_measures_aia_without_training_on_it(finished, tmp_path):
    control = finetune(tmp_path / "control", quick(aia=False))
    mine, theirs = finished[1]["losses"][0], control["losses"][0]
    assert mine == theirs  # before the first update nothing differs
    assert finished[1]["losses"][-1] != control["losses"][-1]
    assert control["config"]["aia"] is False


def test_aia_moves_both_curves_towards_their_targets_and_the_control_does_not(tmp_path):
    """Ten steps of the default method; λ = 40 against the paper's targets."""
    settings = {"steps": 10, "batch_size": 8, "probe_samples": 8, "probe_every": 10, "learning_rate": 5e-4}
    settings["targets"] = "paper-janus-pro"
    moved = {}
    for name in ("aia", "control"):
        result = finetune(tmp_path / name, quick(**settings, aia=name == "aia"))
        distances = [result[when]["distance"] for when in ("before", "after")]
        moved[name] = [before - after for before, after in zip(*(by_task(d) for d in distances), strict=True)]
    for aia, control in zip(moved["aia"], moved["control"], strict=True):
        assert aia > 0.005 and aia > 5 * abs(control), moved


def by_task(distance):
    return [distance[task]["mean_absolute"] for task in Task]


@pytest.mark.parametrize("method", ["qlora", "full"])
def test_other_methods_train_and_are_taken_up_again(method, tmp_path):
    result = finetune(tmp_path / "run", quick(method=method, steps=3))
    assert result["after"]["intensity"] != result["before"]["intensity"]
    precision = Precision.NF4 if method == "qlora" else Precision.FULL
    model = load_model(SPECS[0], adapter=Path(result["adapter"]), precision=precision)
    assert model.answer_batch([Image.new("RGB", (64, 64))], ["how many objects are there?"])


def test_full_training_leaves_both_encoders_as_they_were(tmp_path):
    finetune(tmp_path / "run", quick(method="full", steps=2))
    before = load_model(SPECS[0]).model.state_dict()
    changed = {name for name, t in weights_in(tmp_path / "run").items() if not torch.equal(t, before[name])}
    assert any(name.startswith("model.language_model") for name in changed)
    assert not [name for name in changed if "vision_model" in name or "vqmodel" in name]


def test_accumulation_and_checkpointing_change_memory_not_the_losses(finished, tmp_path):
    other = finetune(tmp_path / "run", quick(accumulation=2, gradient_checkpointing=True))
    for mine, theirs in zip(finished[1]["losses"], other["losses"], strict=True):
        for name in mine:
            assert mine[name] == pytest.approx(theirs[name], abs=1e-4) or mine[name] is theirs[name]


def test_ratios_choose_the_tasks_of_steps():
    drawing = training.Plan(make_config(steps=1000, ratio_generation=3)).tasks.count(Task.GENERATION)
    assert 700 < drawing < 800
    assert set(training.Plan(make_config(steps=50, ratio_generation=0)).tasks) == {Task.UNDERSTANDING}


# --- killed and resumed -----------------------------------------------------------------------


def train_in_child(folder, settings):
    """What a process to be killed does; before its end it waits for that."""
    torch.set_num_threads(1)
    config = make_config(**settings)
    finetune(Path(folder), config, lambda event: time.sleep(600) if event["event"] == "finished" else None)


def test_killed_at_ten_random_moments_and_resumed_ends_bit_for_bit_alike(tmp_path, forks):
    """SIGKILL in a random step, while measuring or drawing samples, or in the middle of a checkpoint."""
    seed = int(time.time())
    print(f"seed of the moments: {seed}")
    rng = random.Random(seed)
    config = quick(steps=10, checkpoint_every=3, probe_every=5, lora_dropout=0.1, batch_size=2, sample_count=1)
    finetune(tmp_path / "whole", config.model_copy(update={"sample_count": 0}))
    for number in range(10):
        run = RunFolder(tmp_path / f"killed-{number}")
        settings = config.model_dump(mode="json")
        child = forks.fork("tests.backend.test_finetune:train_in_child", str(run.path), settings)
        step, end = rng.randrange(0, 10), time.monotonic() + 400
        while child.poll() is None and sum(e["event"] == "step" for e in run.read_events()) < step:
            assert time.monotonic() < end, f"step {step} never came"
            time.sleep(0.01)
        time.sleep(rng.random() * 0.1)
        child.kill()
        assert child.wait(60) == -signal.SIGKILL, "the run broke off before it was killed"
        if not run.config.exists():
            continue
        finetune(run.path, None)
        assert same(weights_in(run.path), weights_in(tmp_path / "whole")), f"killed in step {step + 1}"


def test_a_stopped_run_keeps_a_checkpoint_and_ends_as_if_it_had_gone_on(finished, tmp_path):
    run = RunFolder(tmp_path / "run")
    seen = []
    with pytest.raises(Cancelled):
        finetune(run.path, quick(), seen.append, lambda: sum(e["event"] == "step" for e in seen) >= 3)
    assert run.last_event("stopped") and run.last_event("checkpoint")["step"] == 3
    finetune(run.path, None)
    assert same(weights_in(run.path), weights_in(finished[0]))


def test_a_damaged_newest_checkpoint_is_passed_over(finished, tmp_path):
    run = stop_after(tmp_path / "run", 5)
    newest = sorted(run.checkpoints.glob("step-*"))[-1]
    with (newest / "tensors.safetensors").open("r+b") as file:
        file.truncate(1000)
    seen = []
    finetune(run.path, None, seen.append)
    assert [e["step"] for e in seen if e["event"] == "resumed"] == [4]
    assert same(weights_in(run.path), weights_in(finished[0]))


def stop_after(folder, steps, **settings):
    """A run stopped after so many steps."""
    seen = []
    with pytest.raises(Cancelled):
        finetune(folder, quick(**settings), seen.append, lambda: sum(e["event"] == "step" for e in seen) >= steps)
    return RunFolder(folder)


# --- several processes ------------------------------------------------------------------------


@pytest.mark.parametrize("sharding", [[], ["--use_fsdp", "--fsdp_version", "2"]], ids=["DDP", "FSDP"])
def test_two_processes_have_the_losses_of_one(sharding, tmp_path):
    options = {**QUICK, "steps": 4, "method": "full"}
    one = finetune(tmp_path / "one", make_config(**options))
    launch = ["-m", "accelerate.commands.launch", *(sharding or ["--multi_gpu"]), "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0", "-m", "app", "finetune", "--run-dir", str(tmp_path / "two")]
    launch += [f"--set={name}={value}" for name, value in options.items()]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    two = json.loads(RunFolder(tmp_path / "two").result.read_text())
    assert RunFolder(tmp_path / "two").last_event("started")["processes"] == 2
    for mine, theirs in zip(one["losses"], two["losses"], strict=True):
        for name in mine:
            assert mine[name] is theirs[name] or mine[name] == pytest.approx(theirs[name], abs=1e-4)
    mine, theirs = weights_in(tmp_path / "one"), weights_in(tmp_path / "two")
    assert max((mine[name] - theirs[name]).abs().max().item() for name in mine) < 1e-4


def test_a_batch_that_processes_do_not_divide_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "load_model", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr(room, "share_of_batch", lambda config, _: training.share_of_batch(config, 3))
    told = "Expected a batch size that 3 processes with 2 parts each divide, got 4; choose a multiple of 6."
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        finetune(tmp_path / "run", quick(accumulation=2))
    assert RunFolder(tmp_path / "run").last_event("failed")["reason"] == told


# --- faults -----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run_names_the_step_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    whole, calls = JanusTraining.ntp_sum, []

    def broken(self, batch, probe=None):
        found = whole(self, batch, probe)
        calls.append(torch.is_grad_enabled())
        return found * math.nan if sum(calls) == 4 else found

    monkeypatch.setattr(JanusTraining, "ntp_sum", broken)
    with pytest.raises(UserError, match="not finite at step 4"):
        finetune(tmp_path / "run", quick())
    found = checkpoints.load_newest_checkpoint(RunFolder(tmp_path / "run").checkpoints)
    assert found.step == 2 and all(t.isfinite().all() for n, t in found.tensors.items() if n.startswith("weights/"))
    assert "step 4" in RunFolder(tmp_path / "run").last_event("failed")["reason"]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
def test_memory_that_runs_out_says_what_to_lower(error, tmp_path, monkeypatch):
    def full(self, batch, probe=None):
        if torch.is_grad_enabled():
            raise error
        return torch.zeros(())

    monkeypatch.setattr(training.LossModule, "forward", forward_that(full, training.LossModule.forward))
    with pytest.raises(UserError, match=r"Memory ran out at step 1.*batch size"):
        finetune(tmp_path / "run", quick())


def forward_that(fails, otherwise):
    def forward(self, batch, definitions):
        if torch.is_grad_enabled():
            fails(self, batch)
        return otherwise(self, batch, definitions)

    return forward


def test_another_runtime_error_is_not_taken_for_memory(tmp_path, monkeypatch):
    def broken(self, batch):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(training.LossModule, "forward", forward_that(broken, training.LossModule.forward))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        finetune(tmp_path / "run", quick())


def test_a_disk_that_is_full_while_a_checkpoint_is_saved_costs_nothing_older(finished, tmp_path, monkeypatch):
    whole, saved = checkpoints.save_file, []

    def full(tensors, path):
        saved.append(path)
        if len(saved) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        whole(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(UserError, match=r"checkpoint of step 4 could not be written.*make room"):
        finetune(tmp_path / "run", quick())
    run = RunFolder(tmp_path / "run")
    assert checkpoints.load_newest_checkpoint(run.checkpoints).step == 2
    assert not list(run.checkpoints.glob(".*"))
    finetune(run.path, None)
    assert same(weights_in(run.path), weights_in(finished[0]))


def test_a_folder_that_holds_a_run_is_not_started_anew(finished):
    with pytest.raises(UserError, match="resume it or name another"):
        finetune(finished[0], quick())


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        finetune(tmp_path, None)


def test_a_run_folder_of_another_model_is_refused(tmp_path, random_janus_spec):
    run = stop_after(tmp_path / "run", 3)
    other = replace(random_janus_spec, name="tiny-janus")
    with pytest.raises(UserError, match=r"^Expected a run folder with revision"):
        finetune(run.path, None, specs=(other,))


def test_a_run_folder_with_other_settings_is_refused(tmp_path):
    run = stop_after(tmp_path / "run", 3)
    config = json.loads(run.config.read_text())
    run.config.write_text(json.dumps(config | {"learning_rate": 1e-5}))
    with pytest.raises(UserError, match="learning rate"):
        finetune(run.path, None)


def test_targets_for_another_number_of_layers_are_refused(tmp_path):
    from aia.targets import PRESETS, save_targets

    save_targets(PRESETS["paper-emu3"], tmp_path / "targets.json")
    with pytest.raises(UserError, match=r"^Expected targets for 8 layers, got 32"):
        finetune(tmp_path / "run", quick(targets=str(tmp_path / "targets.json")))


def test_an_adapter_of_another_model_is_refused(finished, random_janus_spec):
    with pytest.raises(UserError, match="Expected an adapter of random-janus, got one of tiny-janus"):
        load_model(random_janus_spec, adapter=RunFolder(finished[0]).adapter)


def test_a_damaged_adapter_is_refused(finished, tmp_path):
    import shutil

    folder = shutil.copytree(RunFolder(finished[0]).adapter, tmp_path / "adapter")
    (folder / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="could not be read"):
        load_model(SPECS[0], adapter=folder)


# --- a user's own data ------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
    """A JSONL file of one question and one drawing with their pictures, and a way to add rows."""
    Image.new("RGB", (80, 64), (200, 30, 30)).save(tmp_path / "red.png")
    file = tmp_path / "rows.jsonl"
    talk = [{"from": "human", "value": "<image>\nwhat colour is it?"}, {"from": "gpt", "value": "red"}]
    draw = [{"from": "human", "value": "a red square"}, {"from": "gpt", "value": "<image>"}]
    lines = [{"image": "red.png", "conversations": c} for c in (talk, draw)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_file_of_conversations_is_trained_on(rows, tmp_path):
    result = finetune(tmp_path / "run", quick(data=str(rows), steps=3))
    assert len(result["losses"]) == 3 and result["before"]["scores"] is None


def test_rows_with_missing_images_are_named_and_left_out_only_when_told(rows, tmp_path):
    bad = {"image": "gone.png", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "<image>"}]}
    rows.write_text(rows.read_text() + json.dumps(bad) + "\n")
    with pytest.raises(UserError, match="line 3"):
        finetune(tmp_path / "run", quick(data=str(rows), steps=1))
    result = finetune(tmp_path / "again", quick(data=str(rows), steps=1, skip_bad_rows=True))
    assert len(result["losses"]) == 1


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(UserError):
        finetune(tmp_path / "run", quick(data=str(tmp_path / "rows.jsonl")))


def test_a_task_that_has_no_rows_but_a_share_is_refused(rows, tmp_path):
    rows.write_text(rows.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match="set the ratio of generation to 0"):
        finetune(tmp_path / "run", quick(data=str(rows)))
    result = finetune(tmp_path / "again", quick(data=str(rows), ratio_generation=0, steps=1))
    assert len(result["losses"]) == 1
