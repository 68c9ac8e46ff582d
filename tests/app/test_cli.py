"""The command line as a user runs it: results, JSON, and one line with exit code 2 for bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from aia import world
from backend.engine import GENERATION_SAMPLING

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


def test_models_lists_the_registry(folder):
    done = run(folder, "models", "--json", str(folder / "m.json"))
    assert "tiny-janus" in done.stdout
    assert json.loads((folder / "m.json").read_text())["models"][0]["layers"] == 8


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
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(folder, arguments, says):
    (folder / "data").mkdir(exist_ok=True)
    files = {"data", "scene.png", "missing.png", "not-an-image.png", "nowhere/d.png"}
    done = run(folder, *(str(folder / a) if a in files else a for a in arguments))
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.strip()]) == 1
