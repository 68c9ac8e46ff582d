"""`python -m app knockout` as a user runs it, in this process."""

import json
import sys

import pytest

from app import cli
from tests.backend.contract.helpers import PICTURE


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the verb over a data folder of its own: exit code, what was printed, what was complained of."""
    monkeypatch.setenv("AIA_LENS_DATA", str(tmp_path / "data"))
    PICTURE.save(tmp_path / "scene.png")

    def run(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["app", "knockout", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out = capsys.readouterr()
        return ended.value.code, out.out, out.err

    return run


def test_an_answer_is_knocked_out_layer_by_layer(run, tmp_path):
    arguments = ["--image", str(tmp_path / "scene.png"), "--prompt", "what colour is the circle?"]
    code, out, err = run(*arguments, "--json", str(tmp_path / "k.json"))
    assert code in (None, 0), err
    result = json.loads((tmp_path / "k.json").read_text())
    assert result["text"] == "red" and result["settings"]["width"] == 2 and result["settings"]["way"] == "direct"
    found = result["knockout"]
    assert [len(row) for row in found["drops"]] == [1] * 8 and len(found["controls"]["others"]) == 3
    lines = [line for line in out.splitlines() if line.startswith("layer ")]
    assert len(lines) == 8 and f"{found['drops'][1][0]:.3f}" in lines[1] and "all layers" in out
    assert list((tmp_path / "data" / "knockouts" / "reports").glob("*.json"))
    assert run(*arguments)[1] == out  # from what is kept


def test_a_drawing_is_knocked_out_too(run, tmp_path):
    code, out, err = run(
        "--prompt", "a red circle", "--way", "any", "--draws", "0", "--window", "8", "--json", str(tmp_path / "d.json")
    )
    assert code in (None, 0), err
    result = json.loads((tmp_path / "d.json").read_text())
    assert result["task"] == "generation" and result["knockout"]["controls"] is None
    assert "control" not in out.split("\n", 1)[1] and "8 layers a window" in out


def test_many_samples_give_a_table_for_each_kind(run, tmp_path):
    code, out, err = run(
        "--samples", "2", "--kinds", "colour,shape", "--draws", "1", "--json", str(tmp_path / "s.json")
    )
    assert code in (None, 0), err
    result = json.loads((tmp_path / "s.json").read_text())
    assert result["colour"]["n"] == result["shape"]["n"] == 2
    found = result["differences"]["shape − colour"]
    assert all(
        low <= share <= high for low, share, high in zip(*(found[k] for k in ("low", "share", "high")), strict=True)
    )
    assert found["share"][1] == pytest.approx(result["shape"]["share"][1] - result["colour"]["share"][1], abs=1e-5)
    assert "colour: 2 samples of 1.0 tokens" in out and out.count("correlation of drop and intensity") == 2


def test_heads_are_cut_one_by_one_or_kept_together(run, tmp_path):
    code, out, err = run("--samples", "2", "--kinds", "colour,shape", "--heads", "each", "--keep")
    assert code in (None, 0), err
    assert "nats that they give back when they alone still look" in out and out.count("\nhead ") == 12
    code, out, err = run(
        "--samples", "2", "--kinds", "colour", "--heads", "2.3", "--draws", "2", "--json", str(tmp_path / "h.json")
    )
    assert code in (None, 0), err
    assert "heads 2.3 together, drop in nats" in out and "control: 2 random sets" in out
    assert json.loads((tmp_path / "h.json").read_text())["colour"]["n"] == 2


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--samples", "2", "--heads", "9.9"], "8 layers × 8 heads"),
        (["--prompt", "a red circle", "--heads", "each"], "--heads with --samples"),
        ([], "--prompt or --samples"),
        (["--prompt", "a red circle", "--samples", "2"], "--prompt or --samples"),
        (["--prompt", "a red circle", "--window", "9"], "1 to 8 layers"),
        (["--prompt", "a red circle", "--window", "0"], "1 to 512"),
        (["--prompt", "a red circle", "--draws", "99"], "0 to 16"),
        (["--prompt", "a red circle", "--way", "sideways"], "direct, any"),
        (["--samples", "2", "--kinds", "mood"], "mood"),
        (["--samples", "1"], "at least 2"),
        (["--prompt", "x", "--image", "nowhere.png"], "found none"),
        (["--prompt", "a red circle", "--adapter", "somewhere"], "--samples only"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, words):
    code, _, err = run(*arguments)
    assert code == 2 and words in err and err.strip().count("\n") == 0 and "Traceback" not in err
