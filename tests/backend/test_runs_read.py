"""What is read of runs: events, log, result; names, the trash, and folders that were damaged."""

import json
import os
import signal

import pytest

from backend.background import runs as room
from backend.background.runs import Runs
from backend.interface import UserError
from tests.backend.stand_ins import (
    CONFIG,
    pid_of,
    start,
    until,
    until_step,
)

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
