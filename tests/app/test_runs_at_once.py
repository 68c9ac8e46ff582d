"""Two browsers at once on the endpoints of runs: each gets a true answer, and nothing happens twice."""

import json
import os
import signal
import sys
from contextlib import suppress

import pytest

import app.finetune.request
import app.finetune.run_api
from app.finetune.request import Requests
from app.finetune.run_api import RunEndpoints
from backend.background.runs import Runs
from backend.interface import UserError
from tests.backend.stand_ins import STAND_IN, at_once, pid_of, until, until_step, wait_for

SETTINGS = {"steps": 5, "batch_size": 2, "probe_samples": 2, "score_samples": 0}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(app.finetune.run_api, "answer_or_refuse", lambda work: work())
    monkeypatch.setattr(app.finetune.request, "check_training_fits", lambda *_: None)  # of memory these runs take none
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    runs = Runs(tmp_path / "runs", lambda folder: [sys.executable, "-I", "-S", str(script), str(folder), "wait"])
    yield runs
    for path in runs.folder.glob("*/process.json"):
        with suppress(OSError):
            os.killpg(json.loads(path.read_text())["pid"], signal.SIGKILL)


@pytest.fixture
def browsers(runs):
    """Two pages of one server, and one of another on the same folder."""
    other = Runs(runs.folder, runs._children._command)
    return [RunEndpoints(Requests(of, runs.folder.parent)) for of in (runs, runs, other)]


def told(ask):
    """The answer, or the sentence that refuses."""
    try:
        return ask()
    except UserError as error:
        return str(error)


def test_starts_at_once_queue_one_behind_the_other_and_one_runs(runs, browsers):
    answers = at_once(*[lambda page=page: page.start_run(SETTINGS, "mine") for page in browsers])
    ids = [run_id for answer in answers for run_id in answer["runs"]]
    states = {status.id: status for status in runs.list()}
    assert len(set(ids)) == 6 and set(states) == set(ids)
    assert [states[run_id].state for run_id in ids].count("running") == 1
    assert sorted(states[run_id].place or 0 for run_id in ids) == [0, 1, 2, 3, 4, 5]


def test_cancels_at_once_tell_the_run_once_and_all_see_it_stopping(runs, browsers):
    (run_id,) = browsers[0].start_run(SETTINGS, control=False)["runs"]
    until_step(runs, run_id)
    (runs.folder / run_id / "hold").touch()
    answers = at_once(*[lambda page=page: page.cancel_run(run_id) for page in browsers])
    assert [answer["state"] for answer in answers] == ["stopping"] * 3
    wait_for(lambda: (runs.folder / run_id / "signals").exists())
    (runs.folder / run_id / "hold").unlink()
    until(runs, run_id, "stopped")
    assert (runs.folder / run_id / "signals").read_text() == "x"
    assert [event["event"] for event in runs.events(run_id)[0]].count("stopped") == 1
    assert at_once(*[lambda page=page: page.cancel_run(run_id)["state"] for page in browsers]) == ["stopped"] * 3


def test_a_queued_run_that_is_cancelled_and_resumed_at_once_is_one_or_the_other(runs, browsers):
    first, second = (page.start_run(SETTINGS, control=False)["runs"][0] for page in browsers[:2])
    until_step(runs, first)
    cancel, resume = (lambda: browsers[0].cancel_run(second)), (lambda: browsers[1].resume_run(second))
    answers = at_once(lambda: told(cancel), lambda: told(resume))
    states = {answer["state"] for answer in answers if isinstance(answer, dict)}
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert runs.status(second).state in states <= {"stopped", "queued"}
    assert all("got one that is queued; let it be." in sentence for sentence in refused)
    assert runs.status(first).state == "running"


def test_resumes_at_once_start_it_once_and_the_others_are_told(runs, browsers):
    (run_id,) = browsers[0].start_run(SETTINGS, control=False)["runs"]
    until_step(runs, run_id)
    os.killpg(pid_of(runs, run_id), signal.SIGKILL)
    until(runs, run_id, "interrupted")
    answers = at_once(*[lambda page=page: told(lambda: page.resume_run(run_id)) for page in browsers])
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert len(refused) == 2 and all(sentence.endswith("let it be.") for sentence in refused)
    wait_for(lambda: [event["event"] for event in runs.events(run_id)[0]].count("started") == 2)
    assert runs.status(run_id).state == "running"
