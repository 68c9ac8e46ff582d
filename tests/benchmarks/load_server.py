"""A server of its own to put under load: started on a fresh data folder, its memory noted, and stopped.

Owns the process and what is read of it in /proc (Linux). Knows nobody who uses it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS, STOP_SECONDS = 180, 30


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A running page over a folder, entered as a context; its log goes to `<folder>/log.txt`."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None):
        self.folder, self.log = folder, folder / "log.txt"
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._settings = {"AIA_LENS_PORT": str(port), "AIA_LENS_DATA": str(folder / "data"), **(settings or {})}
        self._settings |= {"GRADIO_TEMP_DIR": str(folder / "uploads"), "OMP_WAIT_POLICY": "PASSIVE"}

    def __enter__(self) -> Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=os.environ | self._settings, stdout=log, stderr=log
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """The server, and the runs that would go on without it."""
        runs = descendants(self.pid)
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in runs:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        return self.process.pid

    def complaints(self) -> list[str]:
        """Lines of the log that tell of an error."""
        text = self.log.read_text(errors="replace")
        return [line for line in text.splitlines() if any(w in line for w in ("Traceback", " ERROR ", '"ERROR"'))]

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url, timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"the server did not come up:\n{self.log.read_text(errors='replace')[-3000:]}")


# --- memory ---


@dataclass(frozen=True)
class Memory:
    """Of a server at one moment, in MiB: resident and proportional set size, and that of the processes of its runs."""

    second: float
    rss: float
    pss: float
    children_pss: float
    children: int


async def note_memory(pid: int, started: float, found: list[Memory]) -> None:
    """Note the memory of a process every second, until cancelled."""
    while True:
        rss, pss = set_sizes(pid)
        children = descendants(pid)
        others = sum(set_sizes(child)[1] for child in children)
        found.append(Memory(round(time.monotonic() - started, 1), rss, pss, round(others, 1), len(children)))
        await asyncio.sleep(1)


def set_sizes(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process in MiB; zeros once it is gone."""
    found = {"Rss": 0, "Pss": 0}
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0])
    return round(found["Rss"] / 1024, 1), round(found["Pss"] / 1024, 1)


def descendants(pid: int) -> list[int]:
    """Numbers of all processes that a process started, and those that they did."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    found, news = [], [pid]
    while news:
        news = [child for child, parent in parents.items() if parent in news]
        found += news
    return found
