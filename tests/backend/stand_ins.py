"""A stand-in for the trainer that starts in milliseconds, and ways to wait for what a run does."""

import json
import sys
import threading
import time
from pathlib import Path

from aia.config import make_config
from backend.background import run_process
from backend.background.runs import Runs

STAND_IN = r"""
import json, os, pathlib, signal, subprocess, sys, time
folder, mode = pathlib.Path(sys.argv[1]), sys.argv[2]
chosen = folder / "mode"
mode = chosen.read_text() if chosen.exists() else mode

def tell(**event):
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")

def wait():
    while not (folder / "done").exists():
        time.sleep(0.01)

def ask(number, frame):
    with (folder / "signals").open("a") as file:
        file.write("x")
    asked.append(number)

asked = []
if mode == "crash":
    print("loading")
    sys.exit('RuntimeError: cannot read "/home/me/secret place/x.bin" and /home/me/other.bin')
if mode == "mute":
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else ask)
if mode == "stubborn":
    grandchild = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(300)"])
    (folder / "grandchild").write_text(str(grandchild.pid))
tell(event="started", pid=os.getpid())
tell(event="step", step=1, seconds=2.0)
tell(event="step", step=2, seconds=2.0)
if mode == "fail":
    tell(event="failed", reason="expected data, got none; choose some")
    sys.exit(1)
if mode == "stubborn":
    wait()
while mode == "wait" and not (folder / "done").exists():
    if asked:
        while (folder / "hold").exists():
            time.sleep(0.01)
        tell(event="stopped")
        sys.exit(130)
    time.sleep(0.01)
tell(event="finished", seconds=1.0)
(folder / "result.json").write_text(json.dumps({"before": {}, "after": {}, "losses": [], "config": {}}))
"""

HERE = "tests.backend.stand_ins"  # as the process to fork from imports it
CONFIG = make_config(steps=5, batch_size=2, probe_samples=2, score_samples=0, sample_count=0)


def command_of(script, mode):
    """Makes the command of a stand-in that behaves in some way, by its folder."""
    return lambda folder: [sys.executable, "-I", "-S", str(script), str(folder), mode]


def until(runs, run_id, *states, seconds=60):
    """Tick until the run is in one of the states; → its status."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        runs.tick()
        status = runs.status(run_id)
        if status.state in states:
            return status
        time.sleep(0.02)
    raise AssertionError(f"expected {states}, got {status.state} ({status.reason}): {runs.log_tail(run_id)}")


def until_step(runs, run_id, step=2):
    """Tick until the running run has come so far."""
    until(runs, run_id, "running")
    wait_for(lambda: runs.status(run_id).step >= step)


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def start(runs, **options):
    (run_id,) = runs.start(CONFIG, control=False, **options)
    return run_id


def pid_of(runs, run_id):
    return json.loads((runs.folder / run_id / "process.json").read_text())["pid"]


def start_of(runs, run_id):
    """When the run's process started, in the kernel's ticks; whatever is noted later of its end leaves that alone."""
    return int(json.loads((runs.folder / run_id / "process.json").read_text())["started"].partition("@")[0])


def gone(pid):
    found = run_process._look_up(pid)
    return found is None or found[0] in "ZXx"


def at_once(*actions):
    """Do all at the same time in threads; → their results."""
    gate, results = threading.Barrier(len(actions)), [None] * len(actions)

    def work(number, action):
        gate.wait()
        results[number] = action()

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# --- servers in processes of their own, as `forks` starts them ---


def serve_until_all_ended(folder, script):
    """A server of quick stand-ins."""
    server = Runs(Path(folder), command_of(script, "quick"))
    while any(status.state in ("queued", "running") for status in server.list()):
        server.tick()
        time.sleep(0.01)


def start_one_and_end(folder, script):
    """A server that is gone when the run it started has hardly begun."""
    server = Runs(Path(folder), command_of(script, "wait"))
    start(server)
    server.tick()
