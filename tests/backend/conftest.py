"""Fixtures of many tests here: a process to fork from, a store of captures, a folder of runs, stand-ins in it."""

import json
import os
import signal
from contextlib import suppress

import pytest

from backend.background import run_process
from backend.background.runs import Runs
from backend.kept.store import CaptureStore
from tests.backend.forks import start_forks
from tests.backend.stand_ins import STAND_IN, command_of

FORKED = ("test_finetune", "test_labels", "test_measuring", "test_run_kills", "test_store", "stand_ins")


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Where tests fork, with one thread for each: equal sums here and there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        modules = (f"tests.backend.{name}" for name in FORKED)
        forks, process = start_forks(tmp_path_factory.mktemp("forks"), *modules)
    yield forks
    process.kill()
    process.wait()


@pytest.fixture
def store(tmp_path):
    """An empty store of captures."""
    opened = CaptureStore(tmp_path / "captures")
    yield opened
    opened.close()


@pytest.fixture
def script(tmp_path):
    """The stand-in's program."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return script


@pytest.fixture
def stand_in(script):
    """Makes commands of stand-ins that behave in one of several ways; a file `mode` in the run folder goes first."""
    return lambda mode: command_of(script, mode)


@pytest.fixture
def folder(tmp_path):
    """A runs folder, all of whose processes are gone after the test."""
    yield tmp_path / "runs"
    for path in (tmp_path / "runs").glob("**/process.json"):
        with suppress(OSError, ValueError):
            process = json.loads(path.read_text())
            if run_process.is_alive(process["pid"], process["started"]):
                os.killpg(process["pid"], signal.SIGKILL)


@pytest.fixture
def runs(folder, stand_in):
    """Runs that wait until they are told that they are done, or to stop."""
    return Runs(folder, stand_in("wait"))
