"""Names and notes: they survive, change one at a time, and whatever lies in their folder is answered."""

import signal
import time
from pathlib import Path

import pytest

from backend.interface import UserError
from backend.kept.labels import NONE, Labels

THING = "capture:" + "0" * 24


@pytest.fixture
def labels(tmp_path):
    return Labels(tmp_path / "labels")


def test_name_and_note_are_kept_apart_and_survive_a_restart(labels):
    labels.set(THING, name="  the\tone ")
    labels.set(THING, note="line one\nline two\x00 ")
    again = Labels(labels.folder).get(THING)
    assert (again.name, again.note) == ("the one", "line one\nline two")
    labels.set(THING, name="")
    assert Labels(labels.folder).get(THING).note.startswith("line one")


def test_words_that_are_taken_back_leave_no_file(labels):
    labels.set(THING, name="x")
    labels.set(THING, name=" ")
    assert labels.get(THING) == NONE and [*labels.folder.glob("*.json")] == []


def test_another_servers_change_is_seen(labels):
    labels.set(THING, name="mine")
    assert labels.get(THING).name == "mine"
    Labels(labels.folder).set(THING, name="theirs")
    assert labels.get(THING).name == "theirs"


@pytest.mark.parametrize("data", [b"", b"{", b"null", b'{"name": 5}', b'{"name": "' + b"x" * 70_000 + b'"}'])
def test_a_damaged_file_is_no_words(labels, data):
    labels.set(THING, name="x")
    [path] = labels.folder.glob("*.json")
    path.write_bytes(data)
    assert labels.get(THING) == NONE
    labels.set(THING, name="again")
    assert labels.get(THING).name == "again"


@pytest.mark.parametrize("bad", ["", "capture:../../x", "paper:fig1", None, "run:" + "g" * 16, THING + "\n"])
def test_only_things_have_labels(labels, bad):
    with pytest.raises(UserError, match="Expected the id"):
        labels.set(bad, name="x")


@pytest.mark.parametrize(("field", "text"), [("name", "x" * 81), ("note", "x" * 4001)])
def test_too_long_is_one_sentence_and_changes_nothing(labels, field, text):
    labels.set(THING, name="before")
    with pytest.raises(UserError, match="shorten it"):
        labels.set(THING, **{field: text})
    assert labels.get(THING).name == "before" and labels.get(THING).note == ""


def write_notes(folder, count):
    """What another process does."""
    labels = Labels(Path(folder))
    for n in range(count):
        labels.set(THING, note=f"note {n}")


def test_two_servers_writing_at_once_lose_neither_name_nor_note(labels, forks):
    writer = forks.fork("tests.backend.test_labels:write_notes", str(labels.folder), 40)
    for n in range(40):
        labels.set(THING, name=f"name {n}")
    assert writer.wait(120) == 0
    found = Labels(labels.folder).get(THING)
    assert (found.name, found.note) == ("name 39", "note 39")


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(labels, forks):
    writer = forks.fork("tests.backend.test_labels:write_notes", str(labels.folder), 1_000_000)
    end = time.monotonic() + 120
    while not [*labels.folder.glob("*.json")]:
        assert time.monotonic() < end, "the first note never came"
    writer.kill()
    assert writer.wait(120) == -signal.SIGKILL
    assert Labels(labels.folder).get(THING).note.startswith("note ")
    labels.set(THING, name="goes on")
    assert labels.get(THING).name == "goes on"
