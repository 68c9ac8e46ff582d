"""Processes and servers of runs that go away, in every way: what is found again, and what is said of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from backend.background import run_process, run_state
from backend.background.runs import Runs
from backend.interface import UserError
from tests.backend.stand_ins import (
    HERE,
    gone,
    pid_of,
    start,
    until,
    until_step,
    wait_for,
)

# --- processes and servers that go away -------------------------------------------------------


def test_a_new_server_finds_a_running_run_again(folder, stand_in):
    first_server = Runs(folder, stand_in("wait"))
    run_id = start(first_server)
    until_step(first_server, run_id)
    pid = pid_of(first_server, run_id)
    del first_server
    runs = Runs(folder, stand_in("wait"))
    runs.tick()
    assert runs.status(run_id).state == "running" and pid_of(runs, run_id) == pid
    runs.cancel(run_id)
    assert until(runs, run_id, "stopped")


def test_a_run_outlives_the_process_of_its_server(folder, script, runs, forks):
    assert forks.fork(f"{HERE}:start_one_and_end", str(folder), str(script)).wait(120) == 0
    (status,) = runs.list()
    until_step(runs, status.id)
    (folder / status.id / "done").touch()
    assert until(runs, status.id, "finished")


def test_a_killed_run_is_interrupted_and_goes_on_when_resumed(runs, folder):
    run_id = start(runs)
    until_step(runs, run_id)
    os.killpg(pid_of(runs, run_id), signal.SIGKILL)
    status = until(runs, run_id, "interrupted")
    assert "restarted, or memory ran out" in status.reason and status.step == 2
    (folder / run_id / "done").touch()
    runs.resume(run_id)
    assert until(runs, run_id, "finished").reason is None


def test_a_run_killed_before_its_first_word_is_interrupted_too(folder):
    runs = Runs(folder, lambda path: [sys.executable, "-I", "-S", "-c", "import time; print('hm'); time.sleep(60)"])
    run_id = start(runs)
    until(runs, run_id, "running")
    os.killpg(pid_of(runs, run_id), signal.SIGKILL)
    assert until(runs, run_id, "interrupted")


@pytest.mark.parametrize("same_server", [True, False])
def test_a_process_that_ends_badly_without_events_fails_with_the_last_line_of_its_log(folder, stand_in, same_server):
    runs = Runs(folder, stand_in("crash"))
    run_id = start(runs)
    runs.tick()
    wait_for(lambda: gone(pid_of(runs, run_id)))
    status = until(runs if same_server else Runs(folder, stand_in("crash")), run_id, "failed")
    assert status.reason == "RuntimeError: cannot read … and …"
    assert "secret place" in runs.log_tail(run_id) and "loading" not in runs.log_tail(run_id, 1)


def test_a_process_that_ends_well_without_a_result_has_failed(folder, stand_in):
    runs = Runs(folder, stand_in("mute"))
    run_id = start(runs)
    assert until(runs, run_id, "failed").reason == run_state.NO_RESULT


def test_a_failed_event_is_the_reason_and_an_earlier_one_is_not(folder, stand_in):
    runs = Runs(folder, stand_in("fail"))
    run_id = start(runs)
    assert until(runs, run_id, "failed").reason == "Expected data, got none; choose some."
    runs = Runs(folder, stand_in("mute"))
    runs.resume(run_id)
    until(runs, run_id, "failed")
    wait_for(lambda: runs.tick() or runs.status(run_id).reason == run_state.NO_RESULT)


def test_a_number_taken_by_another_process_is_not_the_run(runs, folder):
    run_id = start(runs)
    until_step(runs, run_id)
    noted = json.loads((folder / run_id / "process.json").read_text())
    ours = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        os.killpg(noted["pid"], signal.SIGKILL)
        (folder / run_id / "process.json").write_text(json.dumps(noted | {"pid": ours.pid}))
        other = Runs(folder)
        assert until(other, run_id, "interrupted")
        other.cancel(run_id)
        other.tick()
        assert ours.poll() is None
    finally:
        ours.kill()
        ours.wait()


def test_a_server_that_died_before_noting_its_process_starts_no_second_one(runs, folder):
    run_id = start(runs)
    shutil.copy(folder / run_id / "queued", folder / "ticket")
    until_step(runs, run_id)
    noted = json.loads((folder / run_id / "process.json").read_text())
    (folder / run_id / "process.json").unlink()
    (folder / "ticket").rename(folder / run_id / "queued")
    (folder / run_id / "heartbeat").write_text(json.dumps({**noted, "time": time.time() - 3}))
    other = Runs(folder)
    other.tick()
    status = other.status(run_id)
    assert status.state == "running" and 2 < status.quiet_seconds < 60
    assert not (folder / run_id / "queued").exists()
    other.cancel(run_id)
    assert until(other, run_id, "stopped")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_ps_tells_the_same_as_proc():
    pid = os.getpid()
    with suppress(FileNotFoundError):
        assert shutil.which("ps") is None or run_process._ask_ps(pid)[0] in "RSD"
    assert run_process.is_alive(pid, run_process.process_start(pid))
    assert not run_process.is_alive(pid, f"0@{run_process.boot()}")  # one of that number, but long before
    assert run_process.process_start(2**22 + 1) is None


def test_a_second_process_that_found_the_run_taken_is_not_the_runs_end(runs, folder):
    """A server died before it noted its process, the next one started another, and the first was killed later."""
    run_id = start(runs)
    until_step(runs, run_id)
    run = folder / run_id
    noted = json.loads((run / "process.json").read_text())
    os.killpg(noted["pid"], signal.SIGKILL)
    wait_for(lambda: gone(noted["pid"]))
    log_from = (run / "log.txt").stat().st_size
    with (run / "log.txt").open("a") as log:
        log.write("Another process works on this run; wait for it to end.\n")
    events_from = (run / "events.jsonl").stat().st_size
    taken = noted | {"exit": run_process.TAKEN, "swept": True, "log_from": log_from, "events_from": events_from}
    (run / "process.json").write_text(json.dumps(taken))
    status = Runs(folder).status(run_id)
    assert (status.state, status.reason) == ("interrupted", run_state.INTERRUPTED)


# --- older, edited, and out of time -----------------------------------------------------------


def test_a_run_of_an_older_version_is_listed_and_goes_on(runs, folder):
    """Its config and meta lack what was added since."""
    run_id = start(runs)
    for file, kept in (("config.json", {"steps", "batch_size"}), ("meta.json", {"id", "name", "created"})):
        content = json.loads((folder / run_id / file).read_text())
        (folder / run_id / file).write_text(json.dumps({key: content[key] for key in kept}))
    status = runs.status(run_id)
    assert (status.state, status.role, status.pair, status.steps, status.reason) == ("queued", "single", None, 5, None)
    until_step(runs, run_id)
    os.killpg(pid_of(runs, run_id), signal.SIGKILL)
    until(runs, run_id, "interrupted")
    (folder / run_id / "done").touch()
    runs.resume(run_id)
    until(runs, run_id, "finished")


def test_a_run_edited_by_hand_says_what_is_wrong_and_goes_on_once_it_is_mended(runs, folder):
    run_id = start(runs)
    until_step(runs, run_id)
    config = folder / run_id / "config.json"
    good = config.read_text()
    config.write_text(good.replace('"steps": 5', '"steps": "many"'))
    assert runs.status(run_id).state == "running"  # it has read its own
    os.killpg(pid_of(runs, run_id), signal.SIGKILL)
    status = until(runs, run_id, "failed")
    assert "config.json, got none that are valid" in status.reason and status.step == 2
    with pytest.raises(UserError, match=r"config\.json"):
        runs.resume(run_id)
    config.write_text(good)
    assert runs.status(run_id).state == "interrupted"
    runs.resume(run_id)
    until(runs, run_id, "running")


@pytest.mark.parametrize("shift", [-86_400, 86_400])
def test_a_clock_that_is_set_changes_no_state(runs, folder, monkeypatch, shift):
    """Not while it runs, not while it is told to stop, not in the trash: nothing is killed, ended or thrown away."""
    run_id, other = start(runs), start(runs)
    until_step(runs, run_id)
    (folder / run_id / "hold").touch()
    started = json.loads((folder / run_id / "process.json").read_text())["started"]
    (folder / run_id / "heartbeat").write_text(
        json.dumps({"pid": pid_of(runs, run_id), "started": started, "time": time.time()})
    )
    runs.cancel(other)
    runs.delete(other)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    assert runs.status(run_id).state == "running" and runs.status(run_id).quiet_seconds >= 0
    runs.cancel(run_id, grace_seconds=600)
    for server in (runs, Runs(folder)):
        server.tick()
        assert server.status(run_id).state == "stopping"
    assert runs.empty_trash(older_than_days=30) == 0
    runs.undelete(other)
    (folder / run_id / "hold").unlink()
    until(runs, run_id, "stopped")
    assert {status.state for status in runs.list()} == {"stopped"}
