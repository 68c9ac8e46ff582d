"""One server for one data folder, how it tells its health, and how it ends: politely, and not."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from app.health import Health
from backend.engine import Engine
from backend.interface import UserError
from backend.kept.data_lock import take_folder
from backend.kept.store import CaptureStore
from backend.people.closing import STOPPED
from tests.backend.stand_ins import wait_for
from tests.benchmarks.load_people import Asked
from tests.benchmarks.load_server import Server

DRAWING = Asked("generation", "a red circle left of a blue square", seed=4)


def ask(url, asked):
    """The last two lines of a run: the result, and that it is kept."""
    answer = httpx.post(f"{url}/lens/run", content=json.dumps(asked.form), timeout=60)
    return [json.loads(line) for line in answer.text.strip().splitlines()][-2:]


def test_a_server_from_its_start_to_its_end(tmp_path):
    """Healthy; a second one is refused; killed, its folder is free; told to stop, it finishes what is at work."""
    with Server(tmp_path / "s") as server:
        health = httpx.get(f"{server.url}/healthz")
        assert health.status_code == 200 and health.json()["ok"] and health.json()["model"] == "tiny-janus"
        assert str(tmp_path) not in health.text and health.json()["device"] == "CPU"
        second = subprocess.run(
            [sys.executable, "-m", "app", "serve", "--port", "1"],
            env=os.environ | {"AIA_LENS_DATA": str(tmp_path / "s" / "data")},
            capture_output=True,
            text=True,
        )
        assert second.returncode == 2 and "another server uses" in second.stderr
        assert "Traceback" not in second.stderr and len(second.stderr.strip().splitlines()) == 1
        server.process.kill()
        server.process.wait()

    with Server(tmp_path / "s", {"AIA_LENS_LOG": "json"}) as server:
        told = []
        drawing = threading.Thread(target=lambda: told.extend(ask(server.url, DRAWING)))
        drawing.start()
        wait_for(lambda: httpx.get(f"{server.url}/healthz").json()["queue"] == 1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        drawing.join(20)
        assert told[0]["result"]["state"] == "finished", told
    store = CaptureStore(tmp_path / "s" / "data" / "captures")
    assert told[-1]["kept"]["link"]["capture"] in store.ids()
    store.close()
    assert server.complaints() == []
    log = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    said = [line["message"] for line in log]
    assert "capture kept" in said[said.index("stopping: 1 at work or waiting") :]
    assert said[-1] == "stopped"
    (kept,) = (line for line in log if line["message"] == "capture kept" and "request" in line)
    assert kept["capture"] == told[-1]["kept"]["link"]["capture"]
    assert kept["request"] in {line["request"] for line in log if line.get("path") == "/lens/run"}
    assert "blue square" not in server.log.read_text()


# --- without a server ---


@pytest.fixture
def engine(tmp_path, tiny_janus):
    engine = Engine(CaptureStore(tmp_path / "captures"))
    engine.adopt(tiny_janus)
    return engine


def test_what_takes_longer_than_the_grace_is_told_that_it_was_stopped(engine):
    drawing = engine.generate("tiny-janus", "a red star")
    next(drawing)  # at work
    closing = threading.Thread(target=engine.close, args=(0.0,))
    closing.start()
    wait_for(engine.closing.over.is_set)
    with pytest.raises(UserError, match="server is being stopped"):
        list(drawing)
    closing.join(10)
    with pytest.raises(UserError) as caught:
        list(engine.generate("tiny-janus", "a blue star"))
    assert str(caught.value) == STOPPED


def test_what_waits_for_its_turn_is_told_as_well(engine):
    ticket = engine.queue.join("somebody")
    told = []

    def wait():
        try:
            list(engine.generate("tiny-janus", "a green star"))
        except UserError as error:
            told.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_for(lambda: engine.queue.length == 2)
    closing = threading.Thread(target=engine.close, args=(0.0,))
    closing.start()
    waiting.join(10)
    engine.queue.leave(ticket)
    closing.join(10)
    assert told == [STOPPED]


def test_health_says_what_the_disk_refuses_and_names_no_path(engine, tmp_path, monkeypatch):
    health = Health(engine, tmp_path)
    assert health.look()["ok"] and health.look()["free_disk_mib"] > 0 and "reason" not in health.look()
    for number, word in ((errno.ENOSPC, "full"), (errno.EROFS, "Read-only file system")):

        def refuse(*_, number=number, **__):
            raise OSError(number, os.strerror(number), str(tmp_path / "secret"))

        monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
        found = health.look()
        assert not found["ok"] and not found["store_writable"] and word in found["reason"]
        assert str(tmp_path) not in json.dumps(found)


def test_a_server_that_is_being_stopped_is_not_healthy(engine, tmp_path):
    engine.close(0.0)
    found = Health(engine, tmp_path).look()
    assert not found["ok"] and found["store_writable"] and "stopped" in found["reason"]


# --- the lock ---


def test_a_folder_is_taken_once_and_free_again(tmp_path):
    held = take_folder(tmp_path / "new")
    with pytest.raises(UserError, match="another server uses"):
        take_folder(tmp_path / "new")
    held.release()
    take_folder(tmp_path / "new").release()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="AIA_LENS_DATA") as caught:
        take_folder(Path(tmp_path / "file" / "data"))
    assert str(tmp_path) not in str(caught.value)
