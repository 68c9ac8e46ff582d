"""Fetching from the hub, against a small server that speaks as much of the hub's language as is asked of it.

Each case runs in a process of its own: huggingface_hub reads its settings once, when it is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = os.urandom(3 * 2**20)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "evil.bin": b"a pickle", "modeling.py": b"code"}

SCRIPT = """
import json, shutil, sys, threading
from dataclasses import replace
from pathlib import Path
from backend.models.downloads import bring_here, bring_settings_here
from backend.interface import Cancelled, UserError
from backend.models.specs import SPECS

mode = sys.argv[1]
if mode == "full":
    shutil.disk_usage = lambda place: shutil._ntuple_diskusage(2**40, 2**40, 2**20)
if mode == "filling":
    import errno, huggingface_hub.file_download as file_download
    def fill(*args, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")
    file_download.http_get = fill
flag, told = threading.Event(), []
spec = replace(SPECS[0], name="far", title="Far", source="someone/far", revision="")
events = (bring_settings_here if mode == "settings" else bring_here)(spec, flag)
try:
    while True:
        event = next(events)
        told.append([event.done, event.total])
        if mode == "cancel":
            flag.set()
except StopIteration as end:
    folder = Path(end.value.source)
    print(json.dumps({"told": told, "revision": end.value.revision, "files": sorted(p.name for p in folder.iterdir())}))
except UserError as error:
    print(json.dumps({"refused": str(error)}))
except Cancelled:
    print(json.dumps({"cancelled": told}))
"""


class Hub(BaseHTTPRequestHandler):
    """`answer` of the server is what it does with every question: "ok", or an error's code and name."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.answer != "ok":
            code, name = self.server.answer
            return self.send(b"{}", code, {"X-Error-Code": name, "X-Error-Message": name})
        path = self.path.split("?")[0]
        if path.startswith("/api/models/someone/far/tree"):
            rows = [
                {"type": "file", "path": n, "size": len(c), "oid": self.oid(c)} for n, c in self.server.files.items()
            ]
            return self.send(json.dumps(rows).encode())
        if path.startswith("/api/models/someone/far"):
            return self.send(json.dumps(self.info()).encode())
        content = self.server.files[path.rsplit("/", 1)[1]]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{self.oid(content)}"'}
        return self.send(content, 200, headers)

    def info(self) -> dict:
        return {
            "id": "someone/far",
            "sha": COMMIT,
            "private": False,
            "siblings": [{"rfilename": n} for n in self.server.files],
        }

    def oid(self, content: bytes) -> str:
        return hashlib.sha1(content).hexdigest()

    def send(self, content: bytes, code: int = 200, headers: dict | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(content), 2**20):
            self.wfile.write(content[start : start + 2**20])
            time.sleep(self.server.pause)


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.answer, server.asked, server.pause, server.files = "ok", [], 0.0, FILES
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(hub, folder, mode="", **environment):
    """What `bring_here` made of it, in a fresh process whose hub is the test's."""
    address = f"http://127.0.0.1:{hub.server_port}" if hub else "http://127.0.0.1:9"
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
    environment = {**os.environ, **settings, **environment}
    command = [sys.executable, "-c", SCRIPT, mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_files_come_with_progress_and_stay(hub, tmp_path):
    hub.pause = 0.3
    first = fetch(hub, tmp_path)
    assert first["files"] == ["config.json", "model.safetensors"], "no pickle and no code"
    assert first["revision"] == COMMIT
    done, total = zip(*first["told"], strict=True)
    assert set(total) == {len(WEIGHTS) + 2} and list(done) == sorted(done)
    assert any(0 < part < total[0] for part in done), "there is something to watch"
    again = fetch(None, tmp_path, HF_HUB_OFFLINE="1")
    assert again["files"] == first["files"] and again["told"] == []


def test_settings_come_without_weights_and_do_not_stand_for_them(hub, tmp_path):
    assert fetch(hub, tmp_path, "settings")["files"] == ["config.json"]
    assert fetch(None, tmp_path, "settings", HF_HUB_OFFLINE="1")["files"] == ["config.json"]
    assert "offline mode is on" in fetch(None, tmp_path, HF_HUB_OFFLINE="1")["refused"]


def test_a_cancelled_download_goes_on_another_time(hub, tmp_path):
    hub.pause = 1.0
    assert "cancelled" in fetch(hub, tmp_path, "cancel")
    hub.pause = 0.0
    assert fetch(hub, tmp_path)["revision"] == COMMIT


@pytest.mark.parametrize(
    ("answer", "environment", "said"),
    [
        ((403, "GatedRepo"), {}, "Far asks for its licence to be accepted and no token is set; accept it at"),
        ((403, "GatedRepo"), {"HF_TOKEN": "hf_x"}, "licence to be accepted by the account of your token"),
        ((401, "RepoNotFound"), {}, "found none that this machine may read; check the name"),
        (
            (401, "Invalid credentials in Authorization header"),
            {"HF_TOKEN": "hf_x"},
            "The hub refused the token for Far",
        ),
        ((404, "RevisionNotFound"), {}, "Expected revision"),
        ((503, ""), {}, "The hub answered with error 503 instead of Far; try again"),
        ("ok", {"HF_HUB_OFFLINE": "1"}, "offline mode is on; unset HF_HUB_OFFLINE"),
    ],
)
def test_each_refusal_has_a_sentence_of_its_own(hub, tmp_path, answer, environment, said):
    hub.answer = answer
    refused = fetch(hub, tmp_path, **environment)["refused"]
    assert said in refused and refused.endswith((".", "kept.")) and str(tmp_path) not in refused


def test_no_network_and_no_room_are_said(hub, tmp_path):
    assert "the hub cannot be reached; check the network" in fetch(None, tmp_path)["refused"]
    refused = fetch(hub, tmp_path, "full")["refused"]
    assert refused.startswith("Expected 1.0 GiB on the disk for Far, got 0.0 GiB; free some space, or set HF_HOME")


def test_a_disk_that_fills_on_the_way_is_said_and_another_try_goes_on(hub, tmp_path):
    refused = fetch(hub, tmp_path, "filling")["refused"]
    assert refused.startswith("The disk is full before Far has come; free some space and try again")
    assert fetch(hub, tmp_path)["revision"] == COMMIT


def test_a_repository_without_safetensors_is_refused_before_anything_is_fetched(hub, tmp_path):
    hub.files = {name: content for name, content in FILES.items() if not name.endswith(".safetensors")}
    refused = fetch(hub, tmp_path)["refused"]
    assert refused.startswith("Expected weights as .safetensors at huggingface.co/someone/far, found none")
    assert not any("/resolve/" in path and "model" in path for path in hub.asked)
