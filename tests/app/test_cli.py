"""The command line as a user runs it: results, JSON, and one line with exit code 2 for bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from aia import world
from aia.intensity import Task
from aia.targets import load_targets
from app.cli import cli
from app.commands.console import say_correlation
from backend.interface import UserError
from backend.sampling import GENERATION_SAMPLING
from tests.app.fakes import FakeModel

ROOT = Path(__file__).resolve().parents[2]
SCENE = world.Scene((world.Thing("green", "triangle", "large", 32, 32),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    Image.fromarray(world.draw_scene(SCENE)).save(folder / "scene.png")
    (folder / "not-an-image.png").write_text("hello")
    return folder


def run(folder, *arguments):
    environment = os.environ | {"AIA_LENS_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_understand_writes_the_promised_json_and_reuses_the_store(folder):
    arguments = ["understand", "--model", "tiny-janus", "--image", str(folder / "scene.png")]
    arguments += ["--prompt", "what colour is the triangle?", "--seed", "3", "--json", str(folder / "u.json")]
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "u.json").read_text())
    assert {"capture_id", "model", "task", "prompt", "text", "layers", "intensity"} <= result.keys()
    assert result["task"] == "understanding" and result["layers"] == 8
    assert set(result["intensity"]) == {"figure", "training", "strict"}
    assert all(len(curve) == 8 and all(0 <= v <= 1 for v in curve) for curve in result["intensity"].values())
    again = run(folder, *arguments)
    assert "from the store" in again.stderr and "from the store" not in done.stderr


def test_generate_writes_a_picture_and_its_json(folder):
    done = run(
        folder, "generate", "--prompt", "a red circle", "--out", str(folder / "d.png"), "--json", str(folder / "g.json")
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(folder / "d.png").size == (64, 64)
    result = json.loads((folder / "g.json").read_text())
    assert result["task"] == "generation" and "text" not in result
    assert result["sampling"]["guidance"] == GENERATION_SAMPLING.guidance


def test_evaluate_writes_scores_by_kind(folder):
    done = run(folder, "evaluate", "--samples", "4", "--json", str(folder / "e.json"))
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "e.json").read_text())
    assert report["samples"] == 4 and report["seed"] == 0
    assert set(report["understanding"]["by_kind"]) <= set(world.QUESTION_KINDS)
    assert set(report["generation"]["by_kind"]) == set(world.DRAWING_KINDS)
    assert 0 <= report["understanding"]["overall"] <= 1 and 0 <= report["generation"]["overall"] <= 1


def test_measure_prints_both_curves_and_writes_them_with_fitted_targets(folder):
    arguments = [
        "measure",
        "--samples",
        "3",
        "--seed",
        "1",
        "--definition",
        "strict",
        "--json",
        str(folder / "me.json"),
    ]
    done = run(folder, *arguments, "--fit", "2", "--targets-out", str(folder / "t.json"))
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "me.json").read_text())
    assert {"understanding", "generation", "correlation", "seed", "model", "adapter"} <= report.keys()
    assert (report["seed"], report["model"], report["adapter"]) == (1, "tiny-janus", None)
    for task in Task:
        part = report[task]
        assert part["definition"] == "strict" and part["n"] == 3 and part["sampling"]["seed"] == 1
        assert np.shape(part["intensities"]) == (3, 8)
        assert f"layer  1  {part['mean'][0]:.3f} ± {part['std'][0]:.3f}" in done.stdout
        assert f"spread over samples, mean over layers: {part['spread']:.3f}" in done.stdout
    r, low, high = (report["correlation"][name] for name in ("r", "low", "high"))
    assert -1 <= low <= r <= high <= 1
    assert (
        f"correlation of the two curves over layers: {r:+.2f} (95 % {low:+.2f} to {high:+.2f}, 1,000 res" in done.stdout
    )
    targets = load_targets(folder / "t.json", 8)
    assert targets.name == "t" and len(targets.generation) == len(targets.understanding) == 2
    assert targets.as_table() in done.stdout


def test_measure_of_one_task_leaves_the_other_null(folder):
    done = run(folder, "measure", "--samples", "2", "--task", "understanding", "--json", str(folder / "one.json"))
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "one.json").read_text())
    assert report["generation"] is None and report["correlation"] is None and report["understanding"]["n"] == 2
    assert "generation" not in done.stdout and "correlation" not in done.stdout


def test_measure_hands_the_adapter_to_the_family(tmp_path, monkeypatch):
    given = []

    def load(spec, adapter=None, precision=None):
        given.append((spec.name, adapter))
        return FakeModel()

    monkeypatch.setattr("backend.families.load_model", load)
    monkeypatch.setenv("AIA_LENS_DATA", str(tmp_path / "data"))
    result = CliRunner().invoke(
        cli, ["measure", "--samples", "2", "--adapter", str(tmp_path), "--json", str(tmp_path / "a.json")]
    )
    assert result.exit_code == 0, result.output
    assert given == [("tiny-janus", tmp_path)]
    assert json.loads((tmp_path / "a.json").read_text())["adapter"] == str(tmp_path)


def test_a_correlation_is_said_as_far_as_there_is_one():
    assert say_correlation(-0.605, -0.661, 0.05, 1000) == "-0.60 (95 % -0.66 to +0.05, 1,000 resamples)"
    assert say_correlation(0.5, None, None) == "+0.50"
    assert say_correlation(None, None, None).startswith("none")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--samples", "1"], "Expected at least 2 samples for a mean and its spread, got 1; ask for more."),
        (["--task", "both-of"], "Expected task to be one of both, understanding, generation, got “both-of”;"),
        (["--definition", "loose"], "Expected definition to be one of figure, training, strict, got “loose”;"),
        (["--model", "gpt-9"], "tiny-janus"),
        (["--seed", str(2**60)], "Expected seed from 0"),
        (["--json", "nowhere/m.json"], "Expected an existing folder for m.json"),
        (["--json", "."], "folder"),
        (["--adapter", "nowhere"], "Expected an adapter's folder, found none at nowhere; check the path."),
        (["--fit", "2"], "Expected --fit and --targets-out together, got one of them; add the other."),
        (["--targets-out", "t.json"], "Expected --fit and --targets-out together"),
        (["--fit", "9", "--targets-out", "t.json"], "Expected 1 to 8 stages for tiny-janus, got 9; change --fit."),
        (["--fit", "2", "--targets-out", "nowhere/t.json"], "Expected an existing folder for t.json"),
        (["--fit", "2", "--targets-out", "t.json", "--json", "t.json"], "Expected two files, got t.json"),
        (["--fit", "2", "--targets-out", "t.json", "--task", "generation"], "Expected --task both for targets"),
        (["--json", "x" * 300 + "/m.json"], "Expected an existing folder"),
    ],
)
def test_measure_refuses_bad_input_before_any_model_is_loaded(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("backend.families.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UserError) as caught:
        cli(["measure", *arguments], standalone_mode=False)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_models_lists_the_registry(folder):
    done = run(folder, "models", "--json", str(folder / "m.json"))
    assert "tiny-janus" in done.stdout
    told = json.loads((folder / "m.json").read_text())
    assert told["models"][0]["layers"] == 8 and [m["source"] for m in told["models"]].count("embedded") == 2
    assert {other["name"] for other in told["curves_only"]} == {"bagel", "hunyuanimage-3.0"}
    assert "reference curve only: no class in transformers" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["understand", "--image", "scene.png", "--prompt", "x", "--model", "gpt-9"], "tiny-janus"),
        (["understand", "--image", "missing.png", "--prompt", "x"], "found none"),
        (["understand", "--image", "not-an-image.png", "--prompt", "x"], "picture"),
        (["understand", "--image", "scene.png", "--prompt", " "], "empty"),
        (["generate", "--prompt", "a red circle", "--out", "nowhere/d.png"], "folder"),
        (["generate", "--prompt", "a red circle", "--out", "data"], "folder"),
        (["evaluate", "--samples", "1", "--guidance", "nan"], "guidance"),
        (["models", "--json", "nowhere/d.png"], "folder"),
        (["measure", "--samples", "1"], "at least 2 samples"),
        (["measure", "--task", "paint"], "both, understanding, generation"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(folder, arguments, says):
    (folder / "data").mkdir(exist_ok=True)
    files = {"data", "scene.png", "missing.png", "not-an-image.png", "nowhere/d.png"}
    done = run(folder, *(str(folder / a) if a in files else a for a in arguments))
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.strip()]) == 1


def test_accounts_are_made_listed_and_removed(tmp_path):
    file = str(tmp_path / "users.txt")
    for arguments, typed, code, said in (
        (["add", "anna"], "correct horse\n", 0, "anna may log in now"),
        (["list"], "", 0, "anna"),
        (["add", "bert"], "short\n", 1, "8 to 200 characters"),
        (["remove", "anna"], "", 0, "not log in any more"),
        (["list"], "", 0, ""),
    ):
        done = CliRunner().invoke(cli, ["user", *arguments, "--auth", file], input=typed)
        assert done.exit_code == code and said in (done.output + str(done.exception or ""))
    assert "anna" not in (tmp_path / "users.txt").read_text()
