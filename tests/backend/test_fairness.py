"""While a run trains, an answer takes at most two and a half times as long as alone, and the run goes on.

One real trainer, stopped and let go in turns, so that whatever else the machine does falls on both alike. The engine is
in this process, with the threads that it has under the page.
"""

import os
import signal
import statistics
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from aia import world
from backend.background.run_process import NICENESS
from backend.background.runs import Runs
from backend.engine import Engine
from backend.finetuning.finetune import RunFolder
from backend.interface import Finished
from backend.models.loading import choose_device_and_dtype
from tests.backend.stand_ins import CONFIG, pid_of, until, wait_for

AT_MOST = 2.5
ROUNDS, ANSWERS = 6, 4
PICTURE = Image.fromarray(world.draw_scene(world.Scene((world.Thing("red", "star", "large", 32, 32),))))


class Forgetful:
    """A store that keeps nothing, so that the model answers each time."""

    def get(self, capture_id):
        return None

    computed = get

    def put(self, capture):
        pass


@pytest.fixture
def engine(tiny_janus, monkeypatch):
    """As the page has it: no word on threads, so that loading a model decides."""
    threads = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    choose_device_and_dtype()
    engine = Engine(Forgetful())
    engine.adopt(tiny_janus)
    yield engine
    torch.set_num_threads(threads)


@pytest.fixture
def trainer(folder, engine):
    """A run that trains for as long as the test takes: its number and its folder."""
    runs = Runs(folder)
    config = CONFIG.model_copy(
        update={"steps": 10_000, "batch_size": 16, "checkpoint_every": 25, "probe_every": 10_000}
    )
    (run_id,) = runs.start(config, control=False)
    until(runs, run_id, "running")
    run = RunFolder(folder / run_id)
    wait_for(lambda: steps_of(run) >= 1, seconds=400)
    return pid_of(runs, run_id), run


def steps_of(run):
    return (run.last_event("step") or {"step": 0})["step"]


def seconds_of_an_answer(engine):
    started = time.perf_counter()
    assert isinstance([*engine.understand("tiny-janus", PICTURE, "what colour is the star?")][-1], Finished)
    return time.perf_counter() - started


def test_an_answer_beside_a_training_run_takes_at_most_two_and_a_half_times_as_long(engine, trainer):
    pid, run = trainer
    check_gives_way(pid)
    seconds, steps = {signal.SIGSTOP: [], signal.SIGCONT: []}, steps_of(run)
    seconds_of_an_answer(engine)
    for _ in range(ROUNDS):
        for state, found in seconds.items():
            os.killpg(pid, state)
            time.sleep(0.05)
            found += [seconds_of_an_answer(engine) for _ in range(ANSWERS)]
    alone, beside = (statistics.median(found) for found in seconds.values())
    print(
        f"alone {alone * 1000:.0f} ms, beside a run {beside * 1000:.0f} ms: {beside / alone:.2f} times; "
        f"{torch.get_num_threads()} threads here, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    assert beside <= AT_MOST * alone
    wait_for(lambda: steps_of(run) > steps, seconds=400)  # it gave way, and went on all the same


def check_gives_way(pid):
    """The kernel itself says how nice the trainer is, alone and as a session."""
    stat, autogroup = Path(f"/proc/{pid}/stat"), Path(f"/proc/{pid}/autogroup")
    if stat.exists():
        assert int(stat.read_text().rpartition(")")[2].split()[16]) == os.nice(0) + NICENESS
    if autogroup.exists():  # where the kernel shares cores out by sessions
        assert autogroup.read_text().split()[-1] == str(NICENESS)
