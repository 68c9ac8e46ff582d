"""What may be named when a run is asked for, and what its config then holds."""

import json
import shutil
from dataclasses import replace

import pytest

from aia.config import TrainingConfig
from aia.targets import load_targets
from app.finetune import request as run_request
from app.finetune.request import Requests
from backend.finetuning.finetune import RunFolder
from backend.interface import UserError
from backend.models.specs import SPECS
from tests.app.run_fakes import FakeRuns, make_status
from tests.backend.zips import asking, drawing, picture, write_rows, write_zip

RUN = "a" * 16
STAGE = {"first": 0, "last": 7, "target": 0.3, "delta": 0.1}
STAGES = {"generation": [STAGE], "understanding": [STAGE]}
ROWS = {"rows": [[3, 0.4, 0.1, 0.2, 0.05], [8, 0.2, 0.1, 0.6, 0.05]]}


@pytest.fixture
def requests(tmp_path):
    runs = FakeRuns(make_status(RUN, "finished", step=4), folder=tmp_path / "runs")
    adapter = RunFolder(tmp_path / "runs" / RUN).adapter
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 16, "lora_alpha": 32}))
    return Requests(runs, tmp_path)


def upload(requests, tmp_path, rows):
    images = write_zip(tmp_path / "i.zip", {"a.png": picture()})
    return requests.datasets.take(write_rows(tmp_path / "mine.jsonl", rows), images, "mine.jsonl")


@pytest.mark.parametrize(
    "given",
    [
        {"data": "/etc/passwd"},
        {"data": "dataset:../../etc"},
        {"images": "/etc"},
        {"targets": "../secret.json"},
        {"targets": "saved:../secret"},
        {"targets": ["x"]},
        {"start_from": "/etc"},
        {"start_from": "../" + RUN},
        {"start_from": 3},
        {"nonsense": 1},
    ],
    ids=str,
)
def test_files_of_the_server_and_unknown_settings_are_refused(requests, given):
    with pytest.raises(UserError, match="xpected"):
        requests.config(given)


def test_without_settings_it_is_the_default_run(requests):
    assert requests.config({}) == TrainingConfig()
    assert requests.config({"data": "world", "targets": "auto", "start_from": "", "skip_bad_rows": True}) == (
        TrainingConfig()
    )


def test_a_data_set_becomes_the_files_that_the_command_line_would_be_given(requests, tmp_path):
    found = upload(requests, tmp_path, [asking("a.png"), drawing("a.png")])
    config = requests.config({"data": f"dataset:{found.id}"})
    assert (config.data, config.images) == tuple(map(str, requests.datasets.files(found.id)))
    assert requests.describe(config)["data"] == f"dataset:{found.id}"


def test_data_are_deleted_only_when_no_run_needs_them(requests, tmp_path):
    found = upload(requests, tmp_path, [asking("a.png"), drawing("a.png")])
    config = requests.config({"data": f"dataset:{found.id}"})
    for state in ("queued", "stopped"):
        requests.runs.runs["b" * 16] = replace(make_status("b" * 16, state), config=config)
        with pytest.raises(UserError, match="that no run needs"):
            requests.delete_dataset(found.id)
    requests.runs.runs["b" * 16] = replace(make_status("b" * 16, "finished"), config=config)
    requests.delete_dataset(found.id)
    assert requests.datasets.list() == []


def test_bad_rows_are_left_out_only_when_that_was_said(requests, tmp_path):
    found = upload(requests, tmp_path, [asking("a.png"), drawing("a.png"), asking("none.png")])
    with pytest.raises(UserError, match="got 1 bad of 3; correct them, or train on the good rows only"):
        requests.config({"data": f"dataset:{found.id}"})
    assert requests.config({"data": f"dataset:{found.id}", "skip_bad_rows": True}).skip_bad_rows is True


def test_a_task_without_rows_must_have_no_steps(requests, tmp_path):
    found = upload(requests, tmp_path, [asking("a.png")])
    with pytest.raises(UserError, match=r"rows of generation .* set the ratio of generation to 0"):
        requests.config({"data": f"dataset:{found.id}"})
    assert requests.config({"data": f"dataset:{found.id}", "ratio_generation": 0}).ratio_generation == 0


@pytest.mark.parametrize("given", [STAGES, ROWS])
def test_targets_of_one_s_own_are_kept_with_the_run_for_good(requests, given):
    assert requests.config({"targets": given}).targets == "auto"
    assert not requests.targets.folder.exists()
    config = requests.config({"targets": given}, keep=True)
    kept = load_targets(config.targets, 8)
    again = requests.config({"targets": requests.describe(config)["targets"]}, keep=True)
    assert load_targets(again.targets, 8) == kept and again == config


def test_saved_targets_may_change_and_a_run_s_do_not(requests):
    requests.targets.save(requests.find_targets(ROWS, "tiny-janus"), "mine")
    config = requests.config({"targets": "saved:mine"}, keep=True)
    requests.targets.save(requests.find_targets("tiny-experts", "tiny-janus"), "mine")
    assert load_targets(config.targets, 8).generation[0].target == 0.4


def test_an_adapter_is_named_by_its_run(requests):
    config = requests.config({"start_from": RUN})
    assert config.start_from == str(RunFolder(requests.runs.folder / RUN).adapter)
    assert requests.describe(config)["start_from"] == RUN
    with pytest.raises(UserError, match="LoRA rank 16 and alpha 32"):
        requests.config({"start_from": RUN, "lora_rank": 4})
    shutil.rmtree(RunFolder(requests.runs.folder / RUN).adapter)
    with pytest.raises(UserError, match="adapter of a finished run"):
        requests.config({"start_from": RUN})


def test_no_path_of_this_machine_is_told(requests, tmp_path):
    found = upload(requests, tmp_path, [asking("a.png"), drawing("a.png")])
    told = requests.describe(
        requests.config({"data": f"dataset:{found.id}", "targets": ROWS, "start_from": RUN}, keep=True)
    )
    assert str(tmp_path) not in json.dumps(told)
    assert requests.config({k: v for k, v in told.items() if k not in ("format_version", "aia")}, keep=True)


def test_what_cannot_fit_is_not_started(requests, monkeypatch):
    asked = []

    def refuse(config, spec):
        asked.append((config.batch_size, spec))
        raise UserError("Expected at most 1 GiB of memory, got 9 GiB; choose accumulation 9.")

    monkeypatch.setattr(run_request, "check_training_fits", refuse)
    with pytest.raises(UserError, match="choose accumulation 9"):
        requests.start({"batch_size": 144}, "", True)
    assert requests.runs.started == [] and asked == [(144, SPECS[0])]
