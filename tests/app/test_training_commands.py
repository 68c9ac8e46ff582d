"""`finetune` as a user runs it: options become a config, a result and a JSON file; bad input is one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aia.targets import PRESETS
from app.cli import cli
from app.commands import training as training_commands
from app.commands.training import build_config, find_targets, weights
from backend.finetuning.finetune import RunFolder
from backend.finetuning.target_files import TargetFiles
from backend.interface import UserError

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--steps", "3", "--batch-size", "2", "--set", "probe_samples=4", "--set", "score_samples=0"]


def start(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "app", "finetune", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*arguments):
    process = start(*arguments)
    out, err = process.communicate()
    return process.returncode, out, err


def test_a_run_prints_before_and_after_and_writes_the_same_as_json(tmp_path):
    code, out, _ = run("--run-dir", tmp_path / "run", "--json", tmp_path / "r.json", "--aia-weight", "10", *QUICK)
    assert code == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert {"before", "after", "losses", "seconds", "peak_memory_mib", "config"} <= set(result)
    assert set(result["losses"][0]) == {"step", "ntp", "aia_understanding", "aia_generation"}
    assert result["config"]["aia_weight_generation"] == result["config"]["aia_weight_understanding"] == 10
    assert f"{result['after']['distance']['generation']['mean_absolute']:.3f}" in out


def test_ctrl_c_keeps_a_checkpoint_says_how_to_go_on_and_resume_does(tmp_path):
    folder = RunFolder(tmp_path / "run")
    process = start("--run-dir", folder.path, *QUICK, "--steps", "40")
    while not folder.last_event("step"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err
    reached = folder.last_event("checkpoint")["step"]
    assert 0 < reached < 40 and folder.last_event("stopped")
    process = start("--run-dir", folder.path, "--resume")
    while not (folder.last_event("resumed") and folder.read_events()[-1]["event"] == "step"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    assert folder.last_event("resumed")["step"] == reached
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "magic"], "Expected method to be one of lora, qlora, full"),
        (["--model", "no-such"], "Expected the name of a known model"),
        (["--targets", "no-such"], "Expected one of paper-emu3"),
        (["--set", "lora_rank=none"], "lora rank"),
        (["--set", "unknown=1"], "see --settings"),
        (["--set", "lora_rank"], "NAME=VALUE"),
        (["--data", "/no/such.jsonl"], "/no/such.jsonl"),
        (["--aia-weight", "1", "--aia-weight-generation", "2", "--aia-weight-understanding", "3"], "drop one"),
        (["--learning-rate", "0"], "learning rate"),
        (["--resume"], "found no config"),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path):
    result = CliRunner().invoke(cli, ["finetune", "--run-dir", str(tmp_path / "run"), *arguments])
    assert isinstance(result.exception, UserError) and words in str(result.exception)
    assert "\n" not in str(result.exception)


def test_the_tasks_own_weight_goes_before_the_common_one():
    assert weights(10, None, 5) == {"aia_weight_generation": 10, "aia_weight_understanding": 5}
    assert weights(None, None, None) == {}


def test_set_reaches_every_setting_and_refuses_others():
    config = build_config({"steps": 3}, ["lora_rank=8", "form=squared", "gradient_checkpointing=true"])
    assert (config.steps, config.lora_rank, config.form, config.gradient_checkpointing) == (3, 8, "squared", True)


def test_settings_lists_every_setting_with_its_words():
    result = CliRunner().invoke(cli, ["finetune", "--settings"])
    assert result.exit_code == 0
    for name in training_commands.TrainingConfig.model_fields:
        assert name in result.output


def test_a_second_signal_stops_at_once(monkeypatch):
    asked = training_commands.stop_on_signals()
    try:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_study_is_told_line_by_line(capsys):
    numbers = {"understanding score": [0.5, 0.1], "task correlation": [-0.6, 0.05]}
    report = {"targets_table": "table", "over_seeds": {"with AIA": numbers}, "runs": {"with AIA": [{}, {}]}}
    training_commands.print_study(report)
    told = capsys.readouterr().out
    assert "with AIA, 2 seeds" in told and "0.5000 ± 0.1000" in told and "-0.6000 ± 0.0500" in told


def test_targets_that_the_page_saved_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("AIA_LENS_DATA", str(tmp_path))
    saved = TargetFiles(tmp_path / "targets")
    stem = saved.save(PRESETS["tiny-experts"], "My own")
    assert find_targets("My own") == find_targets("my-own") == str(saved.find(stem))
    assert find_targets("paper-emu3") == "paper-emu3" and find_targets("nobody.json") == "nobody.json"
