"""Memory reckoned against real peaks, and refusals that name what would fit."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aia.config import make_config
from backend.finetuning import memory
from backend.finetuning.memory import check_training_fits, find_shape, format_bytes, training_memory
from backend.interface import UserError
from backend.models.specs import SPECS

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30
TINY = SPECS[0]
# A model of another size, of which there is nothing on this disk.
LARGE = replace(TINY, name="large", source="nobody/nothing", layers=30, image_tokens=576, parameters=7_000_000_000)
TRAIN = """
import json, sys
from pathlib import Path
from aia.config import make_config
from backend.finetuning.finetune import finetune
quick = dict(steps=2, probe_samples=2, score_samples=0, sample_count=0)
print(finetune(Path(sys.argv[1]), make_config(**quick, **json.loads(sys.argv[2])))["peak_memory_mib"])
"""


@pytest.mark.parametrize("settings", [{"batch_size": 24}, {"batch_size": 24, "method": "full"}], ids=str)
def test_the_reckoning_is_near_the_peak_of_a_real_run(tmp_path, settings):
    told = training_memory(make_config(**settings), TINY, gpu=False).total / 2**20
    command = [sys.executable, "-c", TRAIN, str(tmp_path / "run"), json.dumps(settings)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    peak = float(run.stdout.split()[-1])
    assert 0.95 * peak < told < 1.25 * peak, f"reckoned {told:.0f} MiB, took {peak:.0f}"


def test_every_number_has_its_reason_and_they_add_up():
    found = training_memory(make_config(accumulation=4), TINY, gpu=False)
    assert found.total == sum(part.bytes for part in found.parts().values())
    assert all(part.bytes > 0 and part.reason for part in found.parts().values())
    assert "4 samples of 16 in 4 parts of 96 tokens" in found.activations.reason


def total(**settings):
    return training_memory(make_config(**settings), LARGE, gpu=True).total


def test_what_saves_memory_is_reckoned_to_save_it():
    usual = total()
    for smaller in (
        {"accumulation": 4},
        {"gradient_checkpointing": True},
        {"method": "qlora"},
        {"batch_size": 4},
        {"lora_rank": 4},
    ):
        assert total(**smaller) < usual
    assert total(method="full") > usual
    assert total(data="/somewhere/rows.jsonl") > usual


def test_a_large_model_is_reckoned_as_people_know_it():
    """7 billion weights in bfloat16 are 13 GiB; AdamW over all of them takes four times that and more."""
    found = training_memory(make_config(batch_size=1), LARGE, gpu=True)
    assert 13 < found.weights.bytes / GIB < 14
    assert training_memory(make_config(batch_size=1, method="full"), LARGE, gpu=True).total > 100 * GIB
    qlora = training_memory(make_config(batch_size=1, method="qlora", gradient_checkpointing=True), LARGE, gpu=True)
    assert 4 * GIB < qlora.total < 12 * GIB


def test_widths_come_from_the_models_own_config_or_are_reckoned():
    assert find_shape(TINY) == (128, 352, 8)
    assert find_shape(LARGE).width == pytest.approx(4096, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "free", "todo"),
    [
        ({"batch_size": 4096}, 10 * GIB, "choose accumulation 16, or batch size 256."),
        ({"batch_size": 64}, 1.5 * GIB, "choose accumulation 2, or gradient checkpointing."),
        ({"batch_size": 1}, 0.1 * GIB, "choose a smaller model, or free some memory."),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(monkeypatch, settings, free, todo):
    monkeypatch.setattr(memory, "has_gpu", lambda: False)
    config = make_config(**settings)
    with pytest.raises(UserError, match=r"Expected at most .* of memory, got ") as refusal:
        check_training_fits(config, TINY, int(free))
    assert str(refusal.value).endswith(todo)


def test_what_is_named_does_fit():
    with pytest.raises(UserError, match=r"choose accumulation \d+") as refusal:
        check_training_fits(make_config(batch_size=1024), TINY, 3 * GIB)
    parts = int(str(refusal.value).split("accumulation ")[1].split(",")[0])
    assert check_training_fits(make_config(batch_size=1024, accumulation=parts), TINY, 3 * GIB).total <= 3 * GIB
    with pytest.raises(UserError):
        check_training_fits(make_config(batch_size=1024, accumulation=parts // 2), TINY, 3 * GIB)


def test_a_container_s_limit_counts(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text(str(3 * GIB))
    (tmp_path / "memory.current").write_text(str(2 * GIB))
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 2}\n")
    monkeypatch.setattr(memory, "_CGROUPS", ((tmp_path / "memory.max", tmp_path / "memory.current"),))
    monkeypatch.setattr(memory, "has_gpu", lambda: False)
    assert memory.free_memory() == 1.5 * GIB
    (tmp_path / "memory.max").write_text("max")
    assert memory.free_memory() > 1.5 * GIB


def test_sizes_are_written_as_people_read_them():
    sizes = (16 * 2**20, 0.9 * GIB, 21.4 * GIB, 3 * 2**40)
    assert [format_bytes(int(size)) for size in sizes] == ["16 MiB", "0.9 GiB", "21 GiB", "3.0 TiB"]
