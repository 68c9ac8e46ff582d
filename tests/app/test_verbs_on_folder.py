"""The verbs on a folder outside the repository, whose model the program has never seen, of every family."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from aia.intensity import Task
from app.cli import cli
from tests import checkpoints

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = str(ROOT / "assets" / "samples" / "sample-1.png")
QUESTION, PROMPT = "what colour is the circle?", "a red circle left of a blue square"
QUICK = ["--steps", "1", "--batch-size", "1", "--set", "probe_samples=2", "--set", "score_samples=1"]
QUICK += ["--set", "sample_count=0"]


@pytest.fixture(scope="module", params=checkpoints.FAMILIES)
def family(request):
    return checkpoints.module_of(request.param)


@pytest.fixture(scope="module")
def model(family, tmp_path_factory):
    """A folder with a random checkpoint, and nothing in the program that knows it."""
    folder = tmp_path_factory.mktemp("somewhere") / "Its Weights"
    folder.mkdir()
    family.make(folder)
    assert not folder.is_relative_to(ROOT)
    return folder


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("AIA_LENS_DATA", str(tmp_path / "data"))


def run(verb, model, *options, out):
    """A verb in this process → its JSON, what it printed."""
    file = out / f"{verb}.json"
    done = CliRunner().invoke(cli, [verb, "--model", str(model), "--json", str(file), *map(str, options)])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(file.read_text()), done.output


def draws(family):
    return Task.GENERATION in family.TASKS


def test_understand(model, tmp_path):
    told, said = run("understand", model, "--image", SAMPLE, "--prompt", QUESTION, out=tmp_path)
    assert told["model"] == "its-weights" and set(told["intensity"]) == {"figure", "training", "strict"}
    assert f"layer {told['layers']:>2}" in said


def test_generate(family, model, tmp_path):
    if not draws(family):
        arguments = ["generate", "--model", str(model), "--prompt", PROMPT, "--out", str(tmp_path / "x.png")]
        refused = CliRunner().invoke(cli, arguments)
        assert str(refused.exception) == "Its Weights cannot do generation; choose a model that can."
        return
    told, _ = run("generate", model, "--prompt", PROMPT, "--out", tmp_path / "drawn.png", out=tmp_path)
    with Image.open(tmp_path / "drawn.png") as picture:
        assert min(picture.size) >= 16
    assert told["task"] == "generation"


def test_measure(family, model, tmp_path):
    told, _ = run("measure", model, "--samples", 2, out=tmp_path)
    assert {task for task in Task if told[task.value]} == set(family.TASKS)
    assert all(told[task.value]["n"] == 2 for task in family.TASKS)


def test_evaluate(family, model, tmp_path):
    told, said = run("evaluate", model, "--samples", 1, out=tmp_path)
    assert {task for task in Task if task.value in told} == set(family.TASKS)
    assert [line for line in said.splitlines() if line in set(Task)] == [t.value for t in Task if t in family.TASKS]


def test_finetune_and_its_adapter(family, model, tmp_path):
    told, said = run("finetune", model, "--run-dir", tmp_path / "run", *QUICK, out=tmp_path)
    assert set(told["after"]["intensity"]) == {t.value for t in family.TASKS}
    assert {task for task in Task if task.value in told["after"]["scores"]} == set(family.TASKS)
    assert told["config"]["ratio_generation"] == (1 if draws(family) else 0)
    assert told["config"]["model"] == str(model)
    assert ("Its Weights has no generation" in said) != draws(family)
    measured, _ = run("measure", model, "--samples", 2, "--adapter", told["adapter"], out=tmp_path)
    assert measured["adapter"] == told["adapter"]


def test_a_process_of_its_own_in_another_folder(tmp_path):
    """With a path that only that folder understands."""
    (tmp_path / "mine").mkdir()
    checkpoints.module_of("emu3").make(tmp_path / "mine")
    command = [sys.executable, "-m", "app", "generate", "--model", "./mine", "--prompt", PROMPT, "--out", "drawn.png"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "drawn.png").is_file() and "Traceback" not in done.stderr
