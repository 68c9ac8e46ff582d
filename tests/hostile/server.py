"""Starts and stops a watched server, and says what was wrong with it: shared by the fuzz and the uploads."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hf_canaryOfTheTests0123456789"
CANARY = "the canary that nobody may read"
START_SECONDS = 400  # on a machine that is busy with ten other things


@dataclass
class Server:
    """A running server over a folder of its own; `outside` holds files that it must neither read nor change."""

    url: str
    folder: Path
    process: subprocess.Popen

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    def arm(self) -> None:
        (self.folder / "notes" / "armed").touch()

    def notes(self) -> list[str]:
        """What the server did that it must not do."""
        file = self.folder / "notes" / "notes.jsonl"
        lines = file.read_text().splitlines() if file.exists() else ()
        return sorted({f"{note['event']}: {note['what']}" for note in map(json.loads, lines)})

    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def memory_mib(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def is_alive(self) -> bool:
        return self.process.poll() is None and httpx.get(f"{self.url}/config", timeout=60).status_code == 200

    def secrets_kept(self) -> list[str]:
        """Files of the data folder, and the log, in which the secret can be read."""
        files = [path for path in self.data.rglob("*") if path.is_file()]
        return [str(p) for p in (*files, self.folder / "log.txt") if SECRET.encode() in p.read_bytes()]


def outside_state(folder: Path) -> dict[str, tuple]:
    """Every file outside the data folder: content and time of change."""
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def watched_server(folder: Path, **settings: str) -> Iterator[Server]:
    """A server in a folder that is empty; `settings` are environment variables."""
    for name in ("notes", "data", "outside"):
        (folder / name).mkdir(parents=True)
    (folder / "outside" / "canary.txt").write_text(CANARY)
    (folder / "outside" / "canary.png").write_bytes(b"\x89PNG\r\n\x1a\n" + CANARY.encode())
    port = free_port()
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_TOKEN": SECRET, "HF_HUB_OFFLINE": "1"}
    (folder / "data" / "tmp").mkdir()
    own = {"AIA_LENS_DATA": str(folder / "data"), "TMPDIR": str(folder / "data" / "tmp")}
    command = [sys.executable, "-m", "tests.hostile.watched_server", str(folder / "notes"), str(port)]
    environment = {**os.environ, **quiet, **own, **settings}
    environment.pop("GRADIO_TEMP_DIR", None)
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{port}", folder, process)
    try:
        wait_until_up(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            httpx.get(server.url, timeout=10)
            return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise RuntimeError(f"the server did not come up:\n{server.log()[-3000:]}")
