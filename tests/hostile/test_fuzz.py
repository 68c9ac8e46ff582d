"""A short fuzz of a real server: no 500, no trace, no file of others', alive. The long one is `tests.hostile.fuzz`."""

import os
import socket
import subprocess
import sys

import pytest

from tests.hostile.fuzz import Fuzz, attack
from tests.hostile.server import CANARY, ROOT, SECRET, Server, outside_state, watched_server
from tests.hostile.values import Values
from tests.hostile.watched_server import Watch

REQUESTS = 20  # of each of some sixty kinds


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with watched_server(tmp_path_factory.mktemp("hostile") / "server", AIA_LENS_PEOPLE="many") as server:
        yield server


def test_nothing_a_stranger_posts_breaks_the_server_or_leads_outside(server):
    fuzz, wrong = attack(server, REQUESTS)
    assert wrong == []
    statuses = fuzz.findings.statuses
    assert all(sum(counted.values()) >= REQUESTS for counted in statuses.values())
    assert {"/understand", "/start_run", "/import_item", "lens/run", "lens/closer", "upload"} <= set(statuses)
    assert any(counted["200"] for counted in statuses.values()) and any(counted["422"] for counted in statuses.values())


# --- the checks find what they look for -----------------------------------------------------------


@pytest.fixture
def watch(tmp_path):
    for name in ("notes", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes" / "armed").touch()
    return Watch(tmp_path / "notes", tmp_path / "data")


def test_the_watch_notes_what_leads_outside(watch, tmp_path):
    (tmp_path / "data" / "link").symlink_to(tmp_path / "secret")
    watch("open", (str(tmp_path / "secret"), "r", 0))
    watch("open", (str(tmp_path / "data" / "link"), "r", 0))
    watch("open", (str(ROOT / "app.py"), "w", 0))
    watch("os.remove", (str(tmp_path / "secret"), -1))
    watch("os.rename", (str(tmp_path / "data" / "x"), str(tmp_path / "x"), -1, -1))
    watch("socket.connect", (None, ("93.184.216.34", 80)))
    watch("subprocess.Popen", ("/bin/sh", ["/bin/sh", "-c", "id"], None, None))
    assert len(watch.notes.read_text().splitlines()) == 7


def test_the_watch_lets_be_what_the_server_needs(watch, tmp_path):
    watch("open", (str(tmp_path / "data" / "new"), "w", 0))
    watch("open", (str(ROOT / "app.py"), "r", 0))
    watch("open", (5, "r", 0))
    folder = os.open(tmp_path / "data", os.O_RDONLY)
    watch("os.remove", ("relative", folder))
    os.close(folder)
    watch("socket.connect", (None, ("127.0.0.1", 80)))
    watch("socket.connect", (None, "/run/socket"))
    watch("subprocess.Popen", (sys.executable, [sys.executable, "-m", "backend.measuring.work", "x"], None, None))
    assert not watch.notes.exists()


@pytest.mark.parametrize(
    ("status", "text", "sentence"),
    [
        (500, "", True),
        (200, "Traceback (most recent call last)", True),
        (400, f"no such file: {ROOT}/app.py", True),
        (200, CANARY, True),
        (200, SECRET, True),
        (200, "event: error\ndata: null", False),
    ],
)
def test_a_bad_answer_is_a_finding(server, status, text, sentence):
    fuzz = Fuzz(server)
    fuzz.findings.note("x", 200, "fine", "sent")
    assert fuzz.findings.wrong == {}
    fuzz.findings.note("x", status, text, "sent", sentence)
    assert len(fuzz.findings.wrong) == 1


def test_a_changed_canary_and_a_written_secret_are_seen(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "log.txt").write_text("")
    (tmp_path / "data" / "x").write_text(f"token {SECRET}")
    server = Server("", tmp_path, subprocess.Popen(["true"]))
    server.process.wait()
    assert server.secrets_kept() == [str(tmp_path / "data" / "x")]
    before = outside_state(tmp_path / "data")
    (tmp_path / "data" / "x").write_text("other")
    assert outside_state(tmp_path / "data") != before


def test_values_are_the_same_for_the_same_seed_and_of_every_kind():
    def draw(seed):
        return [Values(seed + i, ("/secret",)).value() for i in range(400)]

    assert draw(7) == draw(7) != draw(8)
    kinds = {type(value) for value in draw(7)}
    assert kinds == {str, int, float, bool, list, dict, type(None)}
    assert any(isinstance(v, dict) and v.get("path") == "/secret" for v in draw(7))


def test_the_port_of_a_server_is_freed(server):
    """The fixture ends what it started, so that nothing of the fuzz goes on beside other tests."""
    with socket.socket() as probe, pytest.raises(OSError):
        probe.bind(("127.0.0.1", int(server.url.rpartition(":")[2])))
