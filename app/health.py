"""`/healthz` for whoever watches the server: JSON, 200 while it can do its work, 503 with a reason while it cannot.

Says nothing of people, paths or what is kept. Knows the engine and the data folder.
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse

from backend.engine import Engine
from backend.kept.documents import say

HEALTH_URL = "healthz"
LOW_MIB = 64  # of free disk, below which a capture may find no room

_PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


@cache
def version() -> str:
    """Of this program."""
    return tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]


class Health:
    """Answers the route."""

    def __init__(self, engine: Engine, data: Path):
        self._engine, self._data = engine, data

    async def respond(self, request: Request) -> JSONResponse:
        found = await run_in_threadpool(self.look)
        return JSONResponse(found, 200 if found["ok"] else 503, {"Cache-Control": "no-store"})

    def look(self) -> dict[str, Any]:
        """How the server is. Every look writes a small file, since nothing else tells whether one can."""
        model, _, rest = self._engine.state().partition(" · ")
        refused, free = self._refusal(), self._free_mib()
        reason = refused
        if self._engine.closing.begun.is_set():
            reason = reason or "The server is being stopped."
        return {
            "ok": not reason,
            **({"reason": reason} if reason else {}),
            "version": version(),
            "store_writable": not refused,
            "model": model if rest else None,
            "device": rest.rpartition(" · ")[2] or None,
            "queue": self._engine.queue.length,
            "free_disk_mib": free,
            "low_on_disk": free is not None and free < LOW_MIB,
        }

    def _refusal(self) -> str:
        """Why nothing can be kept just now; empty where it can."""
        try:
            with tempfile.NamedTemporaryFile(dir=self._data, prefix=".health-") as file:
                file.write(b"x" * 4096)
                file.flush()
        except OSError as error:
            return str(say(error, "what is made here"))
        return ""

    def _free_mib(self) -> int | None:
        try:
            return shutil.disk_usage(self._data).free // 2**20
        except OSError:
            return None
