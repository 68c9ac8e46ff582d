"""A disk that is full or read-only, for folders of small files: one sentence, and what was there stays as it was."""

import errno
import os

import pytest

import backend.kept.documents as documents_module
from backend.interface import UserError
from backend.kept.labels import Labels
from backend.people.histories import Histories
from backend.people.person import asked_by, browser_person

THING = "capture:" + "a" * 24
FAULTS = {errno.ENOSPC: "full one; free some space", errno.EROFS: "Read-only file system"}


@pytest.fixture(params=FAULTS, ids=["full", "read-only"])
def fault(request, monkeypatch):
    """From `fault()` on, the disk takes no new file; → the words that are expected."""

    def begin():
        def refuse(*_, **__):
            raise OSError(request.param, os.strerror(request.param), "/secret/path")

        monkeypatch.setattr(documents_module.tempfile, "mkstemp", refuse)
        return FAULTS[request.param]

    return begin


def test_a_name_that_cannot_be_written_leaves_the_old_one(tmp_path, fault):
    labels = Labels(tmp_path / "labels")
    labels.set(THING, name="the old one")
    words = fault()
    with pytest.raises(UserError) as caught:
        labels.set(THING, name="a new one")
    assert words in str(caught.value) and "secret" not in str(caught.value)
    assert Labels(tmp_path / "labels").get(THING).name == "the old one"
    assert [path.suffix for path in (tmp_path / "labels").iterdir() if path.name != ".lock"] == [".json"]


def test_a_half_written_name_is_none(tmp_path, monkeypatch):
    """The disk is full in the middle of a file: the draft goes, the file stays."""
    labels = Labels(tmp_path / "labels")
    labels.set(THING, name="the old one")

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def fdopen(handle, *_):
        os.close(handle)
        return Full()

    monkeypatch.setattr(documents_module.os, "fdopen", fdopen)
    with pytest.raises(UserError, match="full one"):
        labels.set(THING, name="a new one")
    assert labels.get(THING).name == "the old one" and not [*(tmp_path / "labels").glob(".*.part")]


def test_a_history_that_cannot_be_written_still_opens_what_is_in_it(tmp_path, fault):
    histories, person, capture = Histories(tmp_path / "people"), browser_person("x" * 43), "b" * 24
    with asked_by(person):
        histories.note(capture)
        fault()
        assert histories.has(capture) and Histories(tmp_path / "people").has(capture)
