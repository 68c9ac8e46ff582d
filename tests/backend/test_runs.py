"""Runs in the background: starting them, the queue, stopping them, and many doing so at once."""

import json
import os
import re
import shutil
import signal
import time
from collections import namedtuple
from contextlib import suppress
from pathlib import Path

import pytest

from aia.config import make_config
from backend.background import run_folder, run_room
from backend.background import runs as room
from backend.background.runs import Runs
from backend.finetuning.finetune import RunFolder
from backend.interface import UserError
from tests.backend.stand_ins import (
    CONFIG,
    HERE,
    at_once,
    gone,
    pid_of,
    start,
    start_of,
    until,
    until_step,
    wait_for,
)

# --- starting ---------------------------------------------------------------------------------


def test_a_run_and_its_control_are_whole_before_anything_starts(runs, folder):
    ids = runs.start(CONFIG, "  two\nlines ")
    assert len(ids) == 2 and all(re.fullmatch("[0-9a-f]{16}", run_id) for run_id in ids)
    mine, control = runs.list()
    assert [mine.id, control.id] == ids
    assert (mine.role, mine.pair, mine.name) == ("aia", control.id, "two lines")
    assert (control.role, control.pair, control.config) == (
        "control",
        mine.id,
        CONFIG.model_copy(update={"aia": False}),
    )
    assert mine.config == CONFIG and mine.steps == 5 and mine.step == 0 and mine.size_bytes > 100
    assert (mine.state, mine.place, control.state, control.place) == ("queued", 1, "queued", 2)
    assert sorted(p.name for p in (folder / mine.id).iterdir()) == ["config.json", "meta.json", "queued"]
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("config", "control"), [(CONFIG, False), (make_config(aia=False), True)])
def test_a_run_without_control_is_single(runs, config, control):
    (run_id,) = runs.start(config, control=control)
    assert (runs.status(run_id).role, runs.status(run_id).pair) == ("single", None)


def test_a_run_goes_from_queued_over_running_to_finished(runs, folder):
    run_id = start(runs)
    until_step(runs, run_id)
    status = runs.status(run_id)
    assert (status.state, status.place, status.step, status.steps) == ("running", None, 2, 5)
    assert status.remaining_seconds == 6.0 and runs.result(run_id) is None
    (folder / run_id / "done").touch()
    status = until(runs, run_id, "finished")
    assert status.reason is None and status.remaining_seconds is None
    assert runs.result(run_id)["losses"] == []


def test_a_process_is_a_group_of_its_own_without_the_servers_files(runs, folder):
    run_id = start(runs)
    until_step(runs, run_id)
    pid = pid_of(runs, run_id)
    assert os.getpgid(pid) == pid == os.getsid(pid)
    files = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert files == {"/dev/null", str(folder / run_id / "log.txt")}
    assert os.readlink(f"/proc/{pid}/cwd") == str(Path(room.__file__).parents[2])


def test_the_newest_run_is_first(runs):
    ids = []
    for _ in range(3):
        ids.append(start(runs))
        time.sleep(0.005)
    assert [status.id for status in runs.list()] == ids[::-1]


def test_too_little_room_is_refused_before_anything_is_written(runs, folder, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(70 * 2**20))
    with pytest.raises(UserError, match=r"^Expected \d+ MiB on the disk for checkpoints, got 70; free some space"):
        runs.start(CONFIG)
    assert runs.list() == []


def test_a_disk_that_fills_up_while_starting_leaves_nothing(runs, folder, monkeypatch):
    whole, written = run_folder.write_whole, []

    def full(path, text):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        whole(path, text)

    monkeypatch.setattr(run_folder, "write_whole", full)
    with pytest.raises(UserError, match=r"^Expected room on the disk for runs, got a full one; free some space"):
        runs.start(CONFIG)
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == []


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path, stand_in):
    (tmp_path / "file").touch()
    runs = Runs(tmp_path / "file" / "runs", stand_in("wait"))
    with pytest.raises(UserError, match=r"^Expected a folder for runs .*check its permissions\.$") as told:
        runs.start(CONFIG)
    assert str(tmp_path) not in str(told.value)
    assert runs.tick() is None


def test_an_unknown_model_and_a_long_name_are_refused(runs):
    with pytest.raises(UserError, match="known model"):
        runs.start(make_config(model="gpt"))
    with pytest.raises(UserError, match="at most 80 characters, got 81"):
        runs.start(CONFIG, "x" * 81)
    assert runs.list() == []


def test_a_process_that_cannot_be_started_fails_its_run_and_not_the_next(folder, stand_in):
    waiting = stand_in("wait")
    runs = Runs(folder, lambda path: ["/nowhere/python"] if path.name == first else waiting(path))
    first, second = start(runs), start(runs)
    status = until(runs, first, "failed")
    assert (
        status.reason == "The run could not be started (No such file or directory); make room or mend it, then resume."
    )
    assert until(runs, second, "running").place is None


def test_a_process_that_cannot_be_noted_is_not_left_running(runs, monkeypatch):
    run_id, noted = start(runs), []

    def full(path, text):
        noted.append(int(json.loads(text)["pid"]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_whole", full)
    runs.tick()
    assert "No space left on device" in runs.status(run_id).reason and runs.status(run_id).state == "failed"
    assert len(noted) == 1 and gone(noted[0])


def test_room_grows_with_checkpoints_and_with_what_is_trained():
    lora, full = run_room.needed_bytes(make_config()), run_room.needed_bytes(make_config(method="full"))
    assert lora < full < run_room.needed_bytes(make_config(method="full", keep_checkpoints=9))


# --- the queue --------------------------------------------------------------------------------


def test_three_runs_go_one_after_the_other_in_the_order_they_were_queued(runs, folder):
    ids = [start(runs) for _ in range(3)]
    assert [runs.status(run_id).place for run_id in ids] == [1, 2, 3]
    for number, run_id in enumerate(ids):
        until(runs, run_id, "running")
        assert [runs.status(i).place for i in ids[number:]] == [None, 1, 2][: 3 - number]
        assert {runs.status(i).state for i in ids[number + 1 :]} <= {"queued"}
        (folder / run_id / "done").touch()
        until(runs, run_id, "finished")


def test_the_order_holds_when_the_clock_goes_back(runs, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    first = start(runs)
    now -= 86_400
    second = start(runs)
    assert (runs.status(first).place, runs.status(second).place) == (1, 2)
    until_step(runs, first)
    now -= 86_400
    assert runs.status(first).state == "running"


def test_a_resumed_run_waits_at_the_end(runs):
    ids = [start(runs) for _ in range(3)]
    runs.cancel(ids[0])
    runs.resume(ids[0])
    assert [runs.status(run_id).place for run_id in ids] == [3, 1, 2]


# --- stopping ---------------------------------------------------------------------------------


def test_a_queued_run_is_stopped_at_once_and_can_be_resumed(runs):
    first, second = start(runs), start(runs)
    runs.cancel(first)
    assert (runs.status(first).state, runs.status(first).reason) == ("stopped", None)
    assert runs.status(second).place == 1
    runs.resume(first)
    assert runs.status(first).state == "queued"


def test_a_running_run_is_told_once_and_stops_after_its_step(runs, folder):
    run_id = start(runs)
    until_step(runs, run_id)
    (folder / run_id / "hold").touch()  # its step takes as long as this test wants
    for told, grace in enumerate((300, 400, 200)):
        runs.cancel(run_id, grace)
        assert runs.status(run_id).state == "stopping"
        wait_for(lambda told=told: told or (folder / run_id / "signals").exists())  # two at once would be seen as one
    (folder / run_id / "hold").unlink()
    assert until(runs, run_id, "stopped").reason is None
    assert (folder / run_id / "signals").read_text() == "x"  # a second signal would have cut its step off
    runs.cancel(run_id)
    assert runs.status(run_id).state == "stopped"


def test_a_run_that_does_not_listen_is_killed_after_the_grace_with_all_it_started(folder, stand_in):
    runs = Runs(folder, stand_in("stubborn"))
    run_id = start(runs)
    until_step(runs, run_id)
    pid, grandchild = pid_of(runs, run_id), int((folder / run_id / "grandchild").read_text())
    runs.cancel(run_id, grace_seconds=1000)
    runs.tick()
    assert runs.status(run_id).state == "stopping" and not gone(grandchild)
    runs.cancel(run_id, grace_seconds=0.05)
    time.sleep(0.1)
    assert runs.status(run_id).state == "stopping"  # whoever only looks kills nothing
    until(runs, run_id, "stopped")
    wait_for(lambda: gone(pid) and gone(grandchild))
    runs.resume(run_id)
    assert until(runs, run_id, "running").state == "running"


def test_another_server_enforces_the_grace_and_a_second_cancel_can_shorten_it(folder, stand_in):
    runs = Runs(folder, stand_in("stubborn"))
    run_id = start(runs)
    until_step(runs, run_id)
    runs.cancel(run_id, grace_seconds=1000)
    other = Runs(folder, stand_in("stubborn"))
    other.cancel(run_id, grace_seconds=0)
    until(other, run_id, "stopped")
    wait_for(lambda: gone(int((folder / run_id / "grandchild").read_text())))


def test_what_a_killed_process_left_behind_is_ended_by_the_next_server(folder, stand_in):
    runs = Runs(folder, stand_in("stubborn"))
    run_id = start(runs)
    until_step(runs, run_id)
    os.kill(pid_of(runs, run_id), signal.SIGKILL)
    grandchild = int((folder / run_id / "grandchild").read_text())
    following = Runs(folder, stand_in("stubborn"))
    until(following, run_id, "interrupted")
    wait_for(lambda: following.tick() or gone(grandchild))  # it may have died between a tick and the look at its state


def test_a_full_disk_keeps_no_run_from_being_stopped(runs, monkeypatch):
    first, second = start(runs), start(runs)
    until_step(runs, first)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_whole", full)
    monkeypatch.setattr(RunFolder, "append", full)
    runs.cancel(first)
    runs.cancel(second)
    assert until(runs, first, "stopped") and runs.status(second).state == "stopped"


# --- many at once -----------------------------------------------------------------------------


def test_threads_that_start_tick_and_cancel_at_once_leave_it_consistent(runs, folder):
    ids = at_once(*[lambda: start(runs)] * 6, *[runs.tick] * 3)[:6]
    runs.tick()
    states = sorted(runs.list(), key=lambda status: status.place or 0)
    assert [(s.state, s.place) for s in states] == [("running", None)] + [("queued", n) for n in range(1, 6)]
    running = states[0].id
    until_step(runs, running)
    at_once(*[lambda i=i: runs.cancel(i) for i in ids], *[runs.tick] * 3)
    until(runs, running, "stopped")
    states = {s.state for s in runs.list()}
    assert states <= {"stopped", "running", "stopping"}  # a tick in between may have started the next
    for run_id in ids:
        runs.cancel(run_id, 0)
        until(runs, run_id, "stopped")


def test_two_cancels_and_two_resumes_at_once(runs, folder):
    run_id = start(runs)
    until_step(runs, run_id)
    (folder / run_id / "hold").touch()
    at_once(*[lambda: runs.cancel(run_id)] * 4)
    wait_for(lambda: (folder / run_id / "signals").exists())
    (folder / run_id / "hold").unlink()
    until(runs, run_id, "stopped")
    assert (folder / run_id / "signals").read_text() == "x"

    def resume():
        with suppress(UserError):
            return runs.resume(run_id) is None

    assert at_once(*[resume] * 4).count(True) == 1


def test_three_servers_on_one_folder_start_each_run_once(runs, folder, script, forks):
    ids = [start(runs) for _ in range(4)]
    servers = [forks.fork(f"{HERE}:serve_until_all_ended", str(folder), str(script)) for _ in range(3)]
    assert [server.wait(120) for server in servers] == [0, 0, 0]
    for run_id in ids:
        assert runs.status(run_id).state == "finished"
        assert [event["event"] for event in runs.events(run_id)[0]].count("started") == 1
    started = [start_of(runs, run_id) for run_id in ids]
    assert started == sorted(started)


def test_a_busy_folder_is_said_and_a_tick_is_put_off(runs, monkeypatch):
    start(runs)
    monkeypatch.setattr(room, "BUSY_SECONDS", 0.1)
    with room.FileLock(runs.folder / ".lock"):
        with pytest.raises(UserError, match="got them busy; try again"):
            start(runs)
        runs.tick()
    assert len(runs.list()) == 1 and runs.list()[0].state == "queued"
