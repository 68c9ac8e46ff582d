"""The real trainer in the background: killed, its server killed, both, at random moments; then resumed to the end.

One uninterrupted run is what all others must come to, bit for bit. Trainers are forked from a process that has
imported PyTorch, in sessions of their own, so that none has to import it anew; the one test of their real command says
so. Where the seed of the moments is not wanted anew each time, AIA_LENS_KILL_SEED sets it.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aia import checkpoints
from aia.checkpoints import load_newest_checkpoint
from backend.background import run_children, run_process, run_room
from backend.background.runs import Runs
from backend.finetuning.finetune import RunFolder, finetune
from tests.backend.forks import Forks
from tests.backend.stand_ins import CONFIG, gone, pid_of, until, wait_for

HERE = "tests.backend.test_run_kills"  # as the process to fork from imports it
STEPS = 20
KILLED = CONFIG.model_copy(update={"steps": STEPS, "checkpoint_every": 2, "probe_every": 5, "lora_dropout": 0.1})
LONG = 400  # seconds, on a machine that does much else
FULL_AT = 400_000  # bytes: more than any file but a checkpoint


def train(folder, limit):
    """The trainer's process, but for its imports."""
    torch.set_num_threads(1)
    getattr(Limits, limit)()
    return run_process.main([folder])


class Limits:
    """What a trainer starts under: limits that the system itself enforces, or a disk that takes very long."""

    @staticmethod
    def none():
        """As always."""

    @staticmethod
    def slow_disk():
        """Its second checkpoint stays half written."""
        whole, saved = checkpoints.save_file, []

        def save_file(tensors, path):
            saved.append(path)
            whole(tensors, path)
            if len(saved) == 2:
                os.truncate(path, path.stat().st_size // 2)
                path.with_name("half").touch()
                time.sleep(LONG)

        checkpoints.save_file = save_file

    @staticmethod
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AT, FULL_AT))

    @staticmethod
    def little_memory():
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)


class Forking:
    """Trainers forked where no thread is, each under the limit of the moment it starts."""

    def __init__(self, forks):
        self.forks, self.limit = forks, "none"

    def spawn(self, run, log):
        return self.forks.fork(f"{HERE}:train", str(run.path), self.limit, log=log)


@pytest.fixture
def forking(monkeypatch, forks):
    chosen = Forking(forks)
    monkeypatch.setattr(run_children.Children, "_spawn", lambda _, run, log: chosen.spawn(run, log))
    return chosen


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Equal sums here and in the processes of runs."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    run = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        finetune(run.path, KILLED)
    return run


@pytest.fixture
def rng(request):
    """Where the moments come from."""
    seed = f"{request.node.name}/{os.environ.get('AIA_LENS_KILL_SEED') or int(time.time())}"
    print(f"seed of the moments: {seed}")
    return random.Random(seed)


def begin(runs):
    (run_id,) = runs.start(KILLED, control=False)
    return run_id


def weights_in(run):
    (file,) = run.adapter.glob("*.safetensors")
    return load_file(file)


def check_ends_alike(runs, run_id, whole):
    """It comes to its end, with the weights, losses and curves of the run that nothing interrupted."""
    status = until(runs, run_id, "finished", seconds=LONG)
    assert (status.step, status.reason) == (STEPS, None)
    run = RunFolder(runs.folder / run_id)
    mine, theirs = weights_in(run), weights_in(whole)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    mine, theirs = runs.result(run_id), json.loads(whole.result.read_text())
    for part in ("losses", "before", "after"):
        assert mine[part] == theirs[part]


# --- moments ----------------------------------------------------------------------------------


def come_to_step(run, step, and_seconds):
    """Wait until a step is done, and a little longer."""
    end = time.monotonic() + LONG
    while (event := run.last_event("step")) is None or event["step"] < step:
        log = run.path / "log.txt"
        assert time.monotonic() < end, f"step {step} never came: {event}, {log.exists() and log.read_text()[-2000:]}"
        time.sleep(0.02)
    time.sleep(and_seconds)


def half_written(run):
    return [*run.checkpoints.glob(".step-*.part/half")]


def drafts(run):
    return [*run.checkpoints.glob(".step-*.part")]


IN_A_CHECKPOINT = 2


def come_to(moment, run, rng):
    """Five moments, each later than the one before: a run can be killed at one after the other."""
    if moment == 0:
        time.sleep(rng.uniform(0, 0.5))  # the model is being loaded
    elif moment == IN_A_CHECKPOINT:
        wait_for(lambda: half_written(run), LONG)
        time.sleep(rng.uniform(0, 0.05))
    else:
        done = {1: 1, 3: 5, 4: 7}[moment]
        come_to_step(run, rng.randint(done, done + 1), rng.uniform(0, 0.1))


# --- killed -----------------------------------------------------------------------------------


def check_says_what_is_left(run_id, folder, before):
    """A new server finds a dead run interrupted, whatever was checkpointed still there. → its server, its checkpoint"""
    runs, run = Runs(folder), RunFolder(folder / run_id)
    assert runs.status(run_id).state == "interrupted"  # before anything was tidied up
    status = until(runs, run_id, "interrupted")
    assert "memory ran out. Resume the run." in status.reason
    told = [event["step"] for event in run.read_events() if event["event"] in ("step", "resumed")]
    assert status.step == (told[-1] if told else 0) < STEPS and runs.result(run_id) is None
    kept = load_newest_checkpoint(run.checkpoints)
    assert (kept.step if kept else -1) >= before
    return runs, kept.step if kept else -1


def test_a_trainer_killed_five_times_is_interrupted_and_resumed_each_time(folder, whole, rng, forking):
    runs, kept = Runs(folder), -1
    run_id = begin(runs)
    for moment in range(5):
        forking.limit = "slow_disk" if moment == IN_A_CHECKPOINT else "none"
        until(runs, run_id, "running")
        pid = pid_of(runs, run_id)
        come_to(moment, RunFolder(folder / run_id), rng)
        os.killpg(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: gone(pid))
        runs, kept = check_says_what_is_left(run_id, folder, kept)
        assert moment != IN_A_CHECKPOINT or half_written(RunFolder(folder / run_id))
        runs.resume(run_id)
    check_ends_alike(runs, run_id, whole)
    assert not drafts(RunFolder(folder / run_id))  # nor does it take room for ever


def serve(folder, address, limit, dies_noting):
    """What the page's server does for runs; or one that is killed between starting a process and noting it."""
    forking = Forking(Forks(address))
    forking.limit = limit
    run_children.Children._spawn = lambda _, run, log: forking.spawn(run, log)
    if dies_noting:
        run_children.keep = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    runs = Runs(Path(folder))
    while True:
        runs.tick()
        time.sleep(0.02)


@pytest.fixture
def start_server(folder, forking):
    """Starts servers; none outlives the test."""
    servers = []

    def start(dies_noting=False):
        told = str(folder), forking.forks.address, forking.limit, dies_noting
        servers.append(forking.forks.fork(f"{HERE}:serve", *told))
        return servers[-1]

    yield start
    for server in servers:
        if server.poll() is None:
            server.kill()


def test_a_run_whose_server_is_killed_five_times_goes_on_by_itself(folder, whole, rng, start_server):
    page = Runs(folder)  # only asks
    run_id = begin(page)
    run = RunFolder(folder / run_id)
    for moment in range(5):
        server = start_server(dies_noting=moment == 0)
        if moment == 1:
            server.kill()  # perhaps before it could do anything
        elif moment > 1:
            wait_for(lambda: page.status(run_id).state == "running", LONG)
            come_to_step(run, rng.randint(moment, moment + 1), rng.uniform(0, 0.1))
            server.kill()
        assert server.wait() == -signal.SIGKILL
        if moment == 0:  # else the next server might start another, which waits and finds the run begun
            wait_for(lambda: (run.path / "heartbeat").exists(), LONG)
        if moment > 1:
            assert page.status(run_id).state == "running" and page.status(run_id).reason is None
    check_ends_alike(page, run_id, whole)
    assert [event["event"] for event in run.read_events()].count("started") == 1


DAMAGE = b'{"event": "step", "st\n\xff\xfe\n[1]\n' + b"[" * 100_000 + b'\n{"event": "ste'


def test_a_run_killed_five_times_with_its_server_is_resumed_even_with_damaged_events(
    folder, whole, rng, forking, start_server
):
    page, kept = Runs(folder), -1
    run_id = begin(page)
    run = RunFolder(folder / run_id)
    for moment in range(5):
        forking.limit = "slow_disk" if moment == IN_A_CHECKPOINT else "none"
        server = start_server()
        pid = noted_pid(page, run_id)
        come_to(moment, run, rng)
        for number in rng.sample([server.pid, pid], 2):
            os.kill(number, signal.SIGKILL)
        server.wait()
        wait_for(lambda pid=pid: gone(pid))
        page, kept = check_says_what_is_left(run_id, folder, kept)
        if moment == 3:
            with run.events.open("ab") as file:
                file.write(DAMAGE)
        page.resume(run_id)
    check_ends_alike(page, run_id, whole)


def noted_pid(page, run_id):
    """Of the process that its server has noted, once that is the one that lives: it may beat before it is noted."""

    def noted():
        with suppress(OSError, ValueError):
            process = json.loads((page.folder / run_id / "process.json").read_text())
            return run_process.is_alive(process["pid"], process["started"])

    wait_for(lambda: page.status(run_id).state == "running" and noted(), LONG)
    return pid_of(page, run_id)


# --- stopped ----------------------------------------------------------------------------------


def test_a_run_and_its_control_come_to_what_they_do_in_the_foreground(folder, tmp_path):
    """By the command that the page starts."""
    config = CONFIG.model_copy(update={"steps": 3})
    runs = Runs(folder)
    for run_id, aia in zip(runs.start(config), (True, False), strict=True):
        status = until(runs, run_id, "finished", seconds=LONG)
        assert (status.step, status.steps) == (3, 3)
        direct = finetune(tmp_path / run_id, config.model_copy(update={"aia": aia}))
        result = runs.result(run_id)
        assert result["losses"] == json.loads(json.dumps(direct["losses"]))
        assert (result["before"], result["after"]) == (direct["before"], direct["after"])
        taken = sum(f.stat().st_size for f in (folder / run_id / "checkpoints").rglob("*") if f.is_file())
        assert taken < run_room.needed_bytes(config)


def test_a_cancelled_and_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(folder, whole, forking):
    runs = Runs(folder)
    run_id = begin(runs)
    until(runs, run_id, "running")
    wait_for(lambda: runs.status(run_id).step >= 1, LONG)
    runs.cancel(run_id, grace_seconds=LONG)
    status = until(runs, run_id, "stopped", seconds=LONG)
    assert 1 <= status.step < STEPS
    assert RunFolder(folder / run_id).last_event("checkpoint")["step"] == status.step
    runs.resume(run_id)
    check_ends_alike(runs, run_id, whole)


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize("full", ["checkpoint", "events"])
def test_a_disk_that_is_full_fails_the_run_which_goes_on_when_there_is_room(folder, whole, forking, full):
    """No file may grow beyond some size, as on a disk without room: a checkpoint is larger, or the events are."""
    forking.limit = "small_files"
    runs = Runs(folder)
    run_id = begin(runs)
    run, filling = RunFolder(folder / run_id), b" " * (FULL_AT - 50) + b"\n"
    if full == "events":
        run.events.write_bytes(filling)
    status = until(runs, run_id, "failed", seconds=LONG)
    what = {"checkpoint": "checkpoint of step 0 could not", "events": "log could not be"}[full]
    assert what in status.reason and "make room, then resume" in status.reason
    assert not drafts(run) and load_newest_checkpoint(run.checkpoints) is None
    forking.limit = "none"
    runs.resume(run_id)
    check_ends_alike(runs, run_id, whole)


@pytest.mark.skipif(sys.platform != "linux", reason="its size is read from /proc")
def test_memory_that_runs_out_fails_the_run_which_says_so_and_can_be_resumed(folder, forking):
    forking.limit = "little_memory"
    runs = Runs(folder)
    (run_id,) = runs.start(KILLED.model_copy(update={"batch_size": 256}), control=False)
    status = until(runs, run_id, "failed", seconds=LONG)
    assert status.reason.startswith("Memory ran out") and "batch size" in status.reason
    assert load_newest_checkpoint(RunFolder(folder / run_id).checkpoints).step == 0
    runs.resume(run_id)
    assert runs.status(run_id).state == "queued"


def test_the_kernels_way_of_saying_that_memory_ran_out_is_a_kill(folder):
    """Beyond what a process may hold the kernel sends SIGKILL, and that is all that is left of it."""
    runs = Runs(folder, lambda path: [sys.executable, "-I", "-S", "-c", "import os; os.kill(os.getpid(), 9)"])
    run_id = begin(runs)
    status = until(runs, run_id, "interrupted", seconds=LONG)
    assert "memory ran out. Resume the run." in status.reason
