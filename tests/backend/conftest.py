"""Fixtures of the tests of runs: a folder, and runs of stand-ins in it."""

import json
import os
import signal
import sys
from contextlib import suppress

import pytest

from backend.background import run_process
from backend.background.runs import Runs
from tests.backend.stand_ins import STAND_IN


@pytest.fixture
def stand_in(tmp_path):
    """Makes commands of stand-ins that behave in one of several ways; a file `mode` in the run folder goes first."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return lambda mode: lambda folder: [sys.executable, "-I", "-S", str(script), str(folder), mode]


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
