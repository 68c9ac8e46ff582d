"""The process of a run: its events, heartbeat and threads, signals, and words without paths."""

import json
import os
import signal
import threading
import time

import pytest
import torch
from filelock import FileLock

from backend.background import run_process
from backend.finetuning import finetune as finetune_room
from backend.finetuning.finetune import RunFolder
from backend.interface import Cancelled, UserError
from tests.backend.stand_ins import (
    CONFIG,
    wait_for,
)

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
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 9 GB"), 1, "Memory ran out; what was"),
        (MemoryError(), 1, "Memory ran out; what was checkpointed is kept"),
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
    monkeypatch.setattr(run_process, "count_cores", lambda: 8)
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
    monkeypatch.setattr(run_process, "LOCK_SECONDS", 0.2)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with FileLock(begun.path / "process.lock"):
        assert run_process.main([str(begun.path)]) == run_process.TAKEN
    assert run_process.main([str(begun.path / "nothing")]) == run_process.MISUSED
    assert run_process.main([]) == run_process.MISUSED
    assert "Another process" in capsys.readouterr().err


def test_a_killed_process_that_still_holds_its_lock_is_waited_for(begun, monkeypatch):
    """It seems gone as soon as its first thread is, and lets go with its last."""
    monkeypatch.setattr(run_process, "stop_on_signals", lambda tell: bool)
    lock = FileLock(begun.path / "process.lock", thread_local=False)
    lock.acquire()
    threading.Timer(0.3, lock.release).start()
    worked = []
    assert run_process.main([str(begun.path)], lambda folder, *_: worked.append(folder)) == run_process.FINISHED
    assert worked == [begun.path.resolve()]


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
