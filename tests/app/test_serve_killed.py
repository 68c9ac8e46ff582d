"""`python -m app serve` killed while a run trains, and started again on the same folder: the run is as it was."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from gradio_client import Client
from safetensors.torch import load_file

from backend.background.run_process import is_alive
from backend.background.runs import Runs
from backend.finetuning.finetune import RunFolder, finetune
from tests.backend.stand_ins import CONFIG, gone, pid_of, wait_for

ROOT = Path(__file__).resolve().parents[2]
LONG = 400
SETTINGS = {name: getattr(CONFIG, name) for name in ("batch_size", "probe_samples", "score_samples", "sample_count")}
SETTINGS |= {"steps": 8, "checkpoint_every": 3}


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Starts servers on one data folder; → their process and a client, once they answer."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started = []

    def serve():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        environment = os.environ | {"AIA_LENS_DATA": str(tmp_path / "data"), "OMP_WAIT_POLICY": "PASSIVE"}
        environment["GRADIO_TEMP_DIR"] = str(tmp_path / "uploads")
        with (tmp_path / "log.txt").open("a") as log:
            command = [sys.executable, "-m", "app", "serve", "--port", str(port)]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        started.append(process)
        wait_for(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}"), LONG)
        assert process.poll() is None, (tmp_path / "log.txt").read_text()[-2000:]
        return process, Client(f"http://127.0.0.1:{port}", verbose=False)

    yield serve
    for process in started:
        process.kill()
        process.wait()
    for path in (tmp_path / "data" / "runs").glob("*/process.json"):
        noted = json.loads(path.read_text())
        if is_alive(noted["pid"], noted["started"]):
            os.killpg(noted["pid"], signal.SIGKILL)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def weights_in(run):
    (file,) = run.adapter.glob("*.safetensors")
    return load_file(file)


def test_a_run_outlives_its_server_and_the_next_one_shows_it_to_its_end(serve, tmp_path):
    """The trainer is held while there is no server, so that it certainly trains when the next one looks."""
    server, client = serve()
    (run_id,) = client.predict(SETTINGS, "mine", False, api_name="/start_run")["runs"]
    runs = Runs(tmp_path / "data" / "runs")  # only looks
    wait_for(lambda: runs.status(run_id).step >= 1, LONG)
    pid = pid_of(runs, run_id)
    os.kill(pid, signal.SIGSTOP)
    step = runs.status(run_id).step
    server.kill()
    server.wait()
    time.sleep(0.1)
    assert not gone(pid) and runs.status(run_id).state == "running"

    server, client = serve()
    status = client.predict(run_id, api_name="/run_status")
    assert (status["state"], status["name"], status["step"], status["reason"]) == ("running", "mine", step, None)
    assert pid_of(runs, run_id) == pid
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: client.predict(run_id, api_name="/run_status")["state"] == "finished", LONG)
    run = RunFolder(runs.folder / run_id)
    assert [event["event"] for event in run.read_events()].count("started") == 1

    finetune(tmp_path / "whole", run.read_config())
    mine, theirs = weights_in(run), weights_in(RunFolder(tmp_path / "whole"))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
