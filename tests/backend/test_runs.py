"""Runs in the background: their states, the queue, stopping, and every way a process or a server can go away.

Most run a stand-in for the trainer that starts in milliseconds; the last ones run the real one.
"""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aia.config import make_config
from backend import finetune as finetune_room
from backend import run_process
from backend import runs as room
from backend.finetune import RunFolder, finetune
from backend.interface import Cancelled, UserError
from backend.runs import Runs

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
    grandchild = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
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
        time.sleep(0.2)
        tell(event="stopped")
        sys.exit(130)
    time.sleep(0.01)
tell(event="finished", seconds=1.0)
(folder / "result.json").write_text(json.dumps({"before": {}, "after": {}, "losses": [], "config": {}}))
"""

CONFIG = make_config(steps=5, batch_size=2, probe_samples=2, score_samples=0)


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


def until(runs, run_id, *states, seconds=20):
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


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def start(runs, **options):
    (run_id,) = runs.start(CONFIG, control=False, **options)
    return run_id


def pid_of(runs, run_id):
    return json.loads((runs.folder / run_id / "process.json").read_text())["pid"]


def gone(pid):
    found = run_process._look_up(pid)
    return found is None or found[0] in "ZXx"


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
    assert os.readlink(f"/proc/{pid}/cwd") == str(Path(room.__file__).parents[1])


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
    whole, written = room.write_whole, []

    def full(path, text):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        whole(path, text)

    monkeypatch.setattr(room, "write_whole", full)
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

    monkeypatch.setattr(room, "write_whole", full)
    runs.tick()
    assert "No space left on device" in runs.status(run_id).reason and runs.status(run_id).state == "failed"
    assert len(noted) == 1 and gone(noted[0])


def test_room_grows_with_checkpoints_and_with_what_is_trained():
    lora, full = room.needed_bytes(make_config()), room.needed_bytes(make_config(method="full"))
    assert lora < full < room.needed_bytes(make_config(method="full", keep_checkpoints=9))


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
    for grace in (30, 40, 20):
        runs.cancel(run_id, grace)
        assert runs.status(run_id).state == "stopping"
    assert until(runs, run_id, "stopped").reason is None
    assert (folder / run_id / "signals").read_text() == "x"  # a second signal would have cut its step off
    runs.cancel(run_id)
    assert runs.status(run_id).state == "stopped"


def test_a_run_that_does_not_listen_is_killed_after_the_grace_with_all_it_started(folder, stand_in):
    runs = Runs(folder, stand_in("stubborn"))
    run_id = start(runs)
    until_step(runs, run_id)
    pid, grandchild = pid_of(runs, run_id), int((folder / run_id / "grandchild").read_text())
    runs.cancel(run_id, grace_seconds=0.5)
    runs.tick()
    assert runs.status(run_id).state == "stopping" and not gone(grandchild)
    time.sleep(0.6)
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
    until(Runs(folder, stand_in("stubborn")), run_id, "interrupted")
    wait_for(lambda: gone(grandchild))


def test_a_full_disk_keeps_no_run_from_being_stopped(runs, monkeypatch):
    first, second = start(runs), start(runs)
    until_step(runs, first)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room, "write_whole", full)
    monkeypatch.setattr(RunFolder, "append", full)
    runs.cancel(first)
    runs.cancel(second)
    assert until(runs, first, "stopped") and runs.status(second).state == "stopped"


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


def test_a_run_outlives_the_process_of_its_server(folder, stand_in, runs):
    def serve():
        server = Runs(folder, stand_in("wait"))
        start(server)
        server.tick()
        os._exit(0)

    in_another_process(serve)
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
    assert until(runs, run_id, "failed").reason == room.NO_RESULT


def test_a_failed_event_is_the_reason_and_an_earlier_one_is_not(folder, stand_in):
    runs = Runs(folder, stand_in("fail"))
    run_id = start(runs)
    assert until(runs, run_id, "failed").reason == "Expected data, got none; choose some."
    runs = Runs(folder, stand_in("mute"))
    runs.resume(run_id)
    until(runs, run_id, "failed")
    wait_for(lambda: runs.tick() or runs.status(run_id).reason == room.NO_RESULT)


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
    assert not run_process.is_alive(pid, run_process.process_start(os.getppid()))
    assert run_process.process_start(2**22 + 1) is None


# --- events, log, result ----------------------------------------------------------------------


def test_events_come_from_an_offset_on_and_a_line_being_written_is_left(runs, folder):
    run_id = start(runs)
    assert runs.events(run_id) == ([], 0)
    file = folder / run_id / "events.jsonl"
    file.write_text('{"event": "started"}\n{"event": "step", "step": 1}\n{"event": "st')
    events, offset = runs.events(run_id)
    assert [event["event"] for event in events] == ["started", "step"]
    assert runs.events(run_id, offset) == ([], offset)
    with file.open("a") as more:
        more.write('opped"}\n')
    events, end = runs.events(run_id, offset)
    assert events == [{"event": "stopped"}] and end == file.stat().st_size
    assert runs.events(run_id, 10**9) == ([], end) and len(runs.events(run_id, -5)[0]) == 3
    assert [event["event"] for event in runs.events(run_id, 3)[0]] == ["step", "stopped"]


def test_corrupt_events_are_passed_over(runs, folder):
    run_id = start(runs)
    lines = [
        b"\xff\xfe",
        b"{",
        b"[1]",
        b'{"event": 3}',
        b'{"no": "event"}',
        b"[" * 50_000,
        b'{"event": "step", "step": 4}',
    ]
    (folder / run_id / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert runs.events(run_id)[0] == [{"event": "step", "step": 4}]
    assert runs.status(run_id).step == 4


def test_a_long_log_of_events_comes_in_parts(runs, folder, monkeypatch):
    monkeypatch.setattr(room, "EVENTS_AT_ONCE", 100)
    run_id = start(runs)
    lines = [json.dumps({"event": "step", "step": n, "x": "y" * (200 if n == 3 else 1)}) for n in range(20)]
    (folder / run_id / "events.jsonl").write_text("\n".join(lines) + "\n")
    seen, offset, before = [], 0, -1
    while offset != before:
        before = offset
        events, offset = runs.events(run_id, offset)
        seen += [event["step"] for event in events]
    assert seen == [n for n in range(20) if n != 3]  # far longer than any line of ours


def test_only_the_end_of_many_events_is_read_for_a_status(runs, folder):
    run_id = start(runs)
    until_step(runs, run_id)
    with (folder / run_id / "events.jsonl").open("a") as file:
        file.writelines(json.dumps({"event": "step", "step": n, "seconds": 1.5}) + "\n" for n in range(3, 5000))
    assert runs.status(run_id).step == 4999 and runs.status(run_id).remaining_seconds == 0


def test_a_line_cut_off_by_a_kill_does_not_swallow_the_next(runs, folder):
    run_id = start(runs)
    (folder / run_id / "events.jsonl").write_text('{"event": "step", "st')
    runs.cancel(run_id)
    assert [event["event"] for event in runs.events(run_id)[0]] == ["stopped"]
    assert runs.status(run_id).state == "stopped"


def test_the_end_of_a_log_shows_lines_as_a_terminal_would(runs, folder):
    run_id = start(runs)
    assert runs.log_tail(run_id) == ""
    (folder / run_id / "log.txt").write_bytes(b"one\n10%\r50%\r90%\n\n\x1b[31mred\x1b[0m\n\xff\n")
    assert runs.log_tail(run_id, 3) == "90%\nred\n\ufffd"
    assert runs.log_tail(run_id, 0) == ""


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"before": {}, "after": {}, "losses": []}'])
def test_a_damaged_result_is_none(runs, folder, content):
    run_id = start(runs)
    until_step(runs, run_id)
    (folder / run_id / "result.json").write_text(content)
    os.killpg(pid_of(runs, run_id), signal.SIGKILL)
    assert until(runs, run_id, "interrupted")
    assert runs.result(run_id) is None


# --- names, trash, damage ---------------------------------------------------------------------


def test_a_run_is_renamed_whatever_it_does(runs):
    run_id = start(runs, name="old")
    until_step(runs, run_id)
    runs.rename(run_id, "new \u202ename")
    assert runs.status(run_id).name == "new name" and runs.status(run_id).state == "running"
    with pytest.raises(UserError, match="shorten it"):
        runs.rename(run_id, "x" * 100)


def test_only_an_ended_run_is_deleted_and_it_can_be_had_back(runs, folder):
    mine, control = runs.start(CONFIG)
    until_step(runs, mine)
    for run_id in (mine, control):
        with pytest.raises(UserError, match="stop it first"):
            runs.delete(run_id)
    runs.cancel(control)
    before = runs.status(control)
    runs.delete(control)
    assert [status.id for status in runs.list()] == [mine] and runs.status(mine).pair is None
    with pytest.raises(UserError, match="reload the page"):
        runs.status(control)
    runs.undelete(control)
    assert runs.status(control) == before and runs.status(mine).pair == control
    with pytest.raises(UserError, match="reload the page"):
        runs.undelete(control)


def test_the_trash_is_emptied_of_what_is_old(runs, folder):
    old, young = start(runs), start(runs)
    for run_id in (old, young):
        runs.cancel(run_id)
        runs.delete(run_id)
    os.utime(folder / "trash" / old, (0, 0))
    assert runs.empty_trash() == 1
    assert [path.name for path in (folder / "trash").iterdir()] == [young]
    assert runs.empty_trash(0) == 1 and runs.empty_trash(0) == 0


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("meta.json", None, "meta.json"),
        ("meta.json", "{", "meta.json"),
        ("meta.json", "[" * 100_000, "meta.json"),
        ("meta.json", '{"format_version": 1}', "meta.json"),
        ("meta.json", '{"format_version": 7}', "format version 1, got 7"),
        ("config.json", None, "config.json"),
        ("config.json", "\x00", "config.json"),
        ("config.json", "[" * 100_000, "config.json"),
        ("config.json", '{"steps": -1}', "config.json"),
        ("config.json", '{"format_version": 2}', "config.json"),
    ],
)
def test_a_damaged_folder_has_failed_says_why_and_can_be_deleted(runs, folder, file, content, words):
    run_id, other = start(runs), start(runs)
    path = folder / run_id / file
    path.unlink() if content is None else path.write_text(content)
    (status,) = [status for status in runs.list() if status.id == run_id]
    assert status.state == "failed" and words in status.reason and status.reason.endswith(".")
    assert (status.config is None) == (file == "config.json") and status.place is None
    with pytest.raises(UserError):
        runs.resume(run_id)
    assert until(runs, other, "running")
    runs.delete(run_id)
    assert [status.id for status in runs.list()] == [other]


@pytest.mark.parametrize("file", ["queued", "process.json", "heartbeat", "stopping", "events.jsonl", "result.json"])
@pytest.mark.parametrize("content", ["", "null", '{"pid": 1, "started": ""}', '{"event": "step", "step": "x"}\n', "{}"])
def test_no_damage_to_a_file_breaks_the_list(runs, folder, file, content):
    run_id = start(runs)
    (folder / run_id / file).write_text(content)
    runs.tick()
    assert runs.list()[0].id == run_id
    runs.cancel(run_id, 0)
    assert until(runs, run_id, "stopped", "failed", "interrupted")


@pytest.mark.parametrize(
    "run_id", ["", "..", "trash", "0" * 15, "0" * 16, "F" * 16, "../" + "0" * 16, "0" * 16 + "\n", None, 3]
)
def test_what_is_no_id_is_refused(runs, folder, run_id):
    start(runs)
    for ask in (
        runs.status,
        runs.events,
        runs.log_tail,
        runs.result,
        runs.cancel,
        runs.resume,
        runs.delete,
        runs.undelete,
    ):
        with pytest.raises(UserError, match="Expected the id of a run"):
            ask(run_id)
    with pytest.raises(UserError):
        runs.rename(run_id, "x")


def test_a_link_is_not_a_run(runs, folder, tmp_path):
    run_id = start(runs)
    (folder / run_id).rename(tmp_path / "elsewhere")
    (folder / run_id).symlink_to(tmp_path / "elsewhere")
    assert runs.list() == []
    with pytest.raises(UserError):
        runs.status(run_id)


def test_a_folder_that_is_not_there_has_no_runs(tmp_path):
    runs = Runs(tmp_path / "nothing")
    runs.tick()
    assert runs.list() == [] and not (tmp_path / "nothing").exists()


# --- many at once -----------------------------------------------------------------------------


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


def in_another_process(*actions):
    """Do each in a forked process of its own, all at the same time."""
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=action) for action in actions]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0


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
    at_once(*[lambda: runs.cancel(run_id)] * 4)
    until(runs, run_id, "stopped")
    assert (folder / run_id / "signals").read_text() == "x"

    def resume():
        with suppress(UserError):
            return runs.resume(run_id) is None

    assert at_once(*[resume] * 4).count(True) == 1


def test_two_servers_on_one_folder_start_each_run_once(runs, folder, stand_in):
    ids = [start(runs) for _ in range(4)]

    def serve():
        server = Runs(folder, stand_in("quick"))
        while any(status.state in ("queued", "running") for status in server.list()):
            server.tick()
            time.sleep(0.01)
        os._exit(0)

    in_another_process(serve, serve, serve)
    for run_id in ids:
        assert runs.status(run_id).state == "finished"
        assert [event["event"] for event in runs.events(run_id)[0]].count("started") == 1
    started = [(folder / run_id / "process.json").stat().st_mtime_ns for run_id in ids]
    assert started == sorted(started)


def test_a_busy_folder_is_said_and_a_tick_is_put_off(runs, monkeypatch):
    start(runs)
    monkeypatch.setattr(room, "BUSY_SECONDS", 0.1)
    with room.FileLock(runs.folder / ".lock"):
        with pytest.raises(UserError, match="got them busy; try again"):
            start(runs)
        runs.tick()
    assert len(runs.list()) == 1 and runs.list()[0].state == "queued"


# --- the process of a run ---------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path):
    """A run folder with nothing but its config."""
    run = RunFolder(tmp_path / "run")
    run.begin(CONFIG)
    return run


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("Expected this, got that; do so."), 1, "Expected this, got that; do so."),
        (RuntimeError("no kernel in /usr/lib/x.so"), 1, "The run broke off (RuntimeError: no kernel in …); change"),
        (Cancelled(), 130, None),
    ],
)
def test_however_it_ends_there_is_an_event_and_a_heartbeat(begun, monkeypatch, error, code, words):
    monkeypatch.setattr(finetune_room, "finetune", failing(error))
    threads = torch.get_num_threads()
    try:
        assert run_process.run(begun.path, bool) == code
    finally:
        torch.set_num_threads(threads)
    failed = begun.last_event("failed")
    assert failed is None if words is None else failed["reason"].startswith(words)
    beat = json.loads((begun.path / "heartbeat").read_text())
    assert run_process.is_alive(beat["pid"], beat["started"]) and beat["pid"] == os.getpid()


def test_a_reason_that_is_told_already_is_not_told_twice(begun, monkeypatch):
    def fail(folder, *_):
        RunFolder(folder).append({"event": "failed", "reason": "the real one"})
        raise UserError("the real one")

    begun.append({"event": "failed", "reason": "of an earlier process"})
    monkeypatch.setattr(finetune_room, "finetune", fail)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run_process.run(begun.path, bool)
    assert [event["reason"] for event in begun.read_events()] == ["of an earlier process", "the real one"]


def test_threads_are_limited_unless_the_user_says_how_many(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run_process.leave_a_core_free()
    monkeypatch.delenv("OMP_NUM_THREADS")
    run_process.leave_a_core_free()
    assert seen == [7]


def test_a_heart_beats_by_itself_and_survives_a_lost_folder(begun):
    file = begun.path / "heartbeat"
    with run_process.Heartbeat(begun.path, seconds=0.02):
        first = file.stat().st_mtime_ns
        wait_for(lambda: file.stat().st_mtime_ns > first)
        begun.path.rename(begun.path.with_name("moved"))
        time.sleep(0.06)
    assert not begun.path.exists()


def test_a_first_signal_asks_and_a_second_one_ends(capfd):
    told = []
    try:
        asked = run_process.stop_on_signals(lambda: told.append(True))
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked() and told == [True] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_no_two_processes_work_on_one_run_and_a_folder_is_needed(begun, capsys, monkeypatch):
    monkeypatch.setattr(run_process, "stop_on_signals", lambda tell: bool)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with room.FileLock(begun.path / "process.lock"):
        assert run_process.main([str(begun.path)]) == run_process.TAKEN
    assert run_process.main([str(begun.path / "nothing")]) == run_process.MISUSED
    assert run_process.main([]) == run_process.MISUSED
    assert "Another process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot open /home/me/x.bin: denied", "cannot open …: denied"),
        ("'/a b/c d' and \"C:\\Users\\me\"", "… and …"),
        ("(~/models/x) at 3 it/s, 1/2 done", "(…) at 3 it/s, 1/2 done"),
    ],
)
def test_paths_are_left_out_of_reasons(text, shown):
    assert run_process.without_paths(text) == shown
    assert len(run_process.without_paths("x" * 1000)) == 240


# --- the real trainer -------------------------------------------------------------------------


@pytest.fixture
def one_thread(monkeypatch):
    """Equal sums here and in the processes of runs."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def weights_in(run):
    (file,) = run.adapter.glob("*.safetensors")
    return load_file(file)


def test_a_run_and_its_control_come_to_what_they_do_in_the_foreground(folder, tmp_path, one_thread):
    config = CONFIG.model_copy(update={"steps": 3})
    runs = Runs(folder)
    for run_id, aia in zip(runs.start(config), (True, False), strict=True):
        status = until(runs, run_id, "finished", seconds=240)
        assert (status.step, status.steps) == (3, 3)
        direct = finetune(tmp_path / run_id, config.model_copy(update={"aia": aia}))
        result = runs.result(run_id)
        assert result["losses"] == json.loads(json.dumps(direct["losses"]))
        assert (result["before"], result["after"]) == (direct["before"], direct["after"])
        checkpoints = sum(f.stat().st_size for f in (folder / run_id / "checkpoints").rglob("*") if f.is_file())
        assert checkpoints < room.needed_bytes(config)


def test_a_cancelled_and_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(folder, tmp_path, one_thread):
    config = CONFIG.model_copy(update={"steps": 12, "checkpoint_every": 100, "lora_dropout": 0.1})
    runs = Runs(folder)
    (run_id,) = runs.start(config, control=False)
    until(runs, run_id, "running")
    wait_for(lambda: runs.status(run_id).step >= 1, seconds=240)
    runs.cancel(run_id, grace_seconds=240)
    status = until(runs, run_id, "stopped", seconds=240)
    assert 1 <= status.step < 12
    assert RunFolder(folder / run_id).last_event("checkpoint")["step"] == status.step
    runs.resume(run_id)
    assert until(runs, run_id, "finished", seconds=240).step == 12
    finetune(tmp_path / "whole", config)
    mine, whole = weights_in(RunFolder(folder / run_id)), weights_in(RunFolder(tmp_path / "whole"))
    assert mine.keys() == whole.keys() and all(torch.equal(mine[name], whole[name]) for name in mine)
