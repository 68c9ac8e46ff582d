import json
from pathlib import Path

import pytest

import app.finetune.run_api
from app.finetune.request import Requests
from app.finetune.run_api import RunEndpoints
from backend.interface import UserError
from tests.app.run_fakes import FakeRuns, make_status


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.setattr(app.finetune.run_api, "answer_or_refuse", lambda work: work())
    return FakeRuns(make_status("a" * 16, "running"))


def make_endpoints(runs):
    return RunEndpoints(Requests(runs, Path("/nowhere")))


def test_a_run_is_started_watched_cancelled_and_resumed(runs):
    endpoints = make_endpoints(runs)
    ids = endpoints.start_run({"steps": 3, "batch_size": 2}, "mine", control=True)["runs"]
    assert [config.steps for config, *_ in runs.started] == [3]
    assert len(ids) == 2
    assert endpoints.cancel_run(ids[0])["state"] == "stopped"
    assert endpoints.resume_run(ids[0])["state"] == "queued"
    assert ids[0] in [run["id"] for run in endpoints.list_runs()["runs"]]


def test_a_status_is_plain_data_with_distances_and_scores_by_step(runs):
    status = json.loads(json.dumps(make_endpoints(runs).run_status("a" * 16)))
    assert status["config"]["steps"] == 4
    assert status["distance"]["4"]["generation"]["mean_absolute"] == pytest.approx(0.1)
    assert status["scores"]["0"]["understanding"]["overall"] == 0.9


@pytest.mark.parametrize(
    ("config", "name"), [({"steps": -1}, ""), ({"targets": "/etc/passwd"}, ""), ([], ""), ({}, 3), ({"steps": "x"}, "")]
)
def test_bad_requests_are_one_sentence_and_start_nothing(runs, config, name):
    with pytest.raises(UserError, match="Expected"):
        make_endpoints(runs).start_run(config, name)
    assert runs.started == []


def test_an_id_that_is_no_text_is_refused(runs):
    with pytest.raises(UserError, match="Expected text as run"):
        make_endpoints(runs).run_status(3)
