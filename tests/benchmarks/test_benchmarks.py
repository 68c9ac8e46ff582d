"""The benchmarks themselves, at sizes that take a moment: their reports are whole and their ways comparable."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from aia.intensity import Definition
from app.cli import cli
from backend.families import load_model
from backend.interface import UserError
from tests import checkpoints
from tests.benchmarks import generation
from tests.benchmarks.long_drawing import compare_long_drawing

SMALL = {"width": 64, "inner": 96, "layers": 2, "heads": 4, "side": 4}


@pytest.mark.parametrize("family", ["janus", "emu3"])
def test_the_usual_way_of_the_drawing_benchmark_finds_what_a_capture_holds(family, tmp_path):
    model = load_model(checkpoints.module_of(family).make(tmp_path))
    assert all(generation.draw_once(model, way) > 0 for way in generation.WAYS)
    *_, last = model.generate(generation.PROMPT, generation.SAMPLING)
    found = generation.draw_with_maps(model, model.drawing_prefill(generation.PROMPT))
    np.testing.assert_allclose(found, last.capture.intensity(Definition.FIGURE), atol=1e-5)


def test_a_long_drawing_is_timed_both_ways():
    report = compare_long_drawing(2, SMALL)
    assert report["image_tokens"] == 16 and len(report["speed_ratio_by_round"]) == 2
    assert all(speed > 0 for speed in report["tokens_per_processor_second"].values())
    assert json.dumps(report)


def test_one_benchmark_at_a_time():
    done = CliRunner().invoke(cli, ["bench", "--training", "--long"])
    assert isinstance(done.exception, UserError) and "one of --training" in str(done.exception)


def test_no_large_models_without_a_gpu():
    done = CliRunner().invoke(cli, ["bench", "--gpu"])
    assert isinstance(done.exception, UserError) and "Expected a GPU" in str(done.exception)
