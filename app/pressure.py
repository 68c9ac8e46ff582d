"""When memory gets short: what can be made again is let go, in order, before the system kills the server.

Owns when memory is short and the order. What is let go is handed in. Knows no model and no page.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backend.interface import UserError

SHARE = 0.9  # of a container's limit
CGROUP = Path("/sys/fs/cgroup")

logger = logging.getLogger(__name__)


class Pressure:
    """Memory is short where more than `limit` bytes are used. `reliefs` have names; the first is tried first."""

    def __init__(self, limit: int, used: Callable[[], int], reliefs: dict[str, Callable[[], object]]):
        self.limit, self._used, self._reliefs = limit, used, reliefs
        self._told = False

    def look(self) -> list[str]:
        """Let go what is needed → names of what was. Never raises."""
        if self._used() <= self.limit:
            self._told = False
            return []
        gone = []
        for name, let_go in self._reliefs.items():
            try:
                let_go()
            except UserError:  # at work: the next look tries again
                continue
            gone.append(name)
            give_back()
            if self._used() <= self.limit:
                break
        if not self._told:
            self._told = True
            used = self._used() // 2**20
            logger.warning("memory was short: let go %s; %d of %d MiB used", ", ".join(gone), used, self.limit // 2**20)
        return gone


def make_pressure(memory_mib: int | None, reliefs: dict[str, Callable[[], object]]) -> Pressure | None:
    """By the setting, else by the container's limit; None where there is neither."""
    if memory_mib:
        return Pressure(memory_mib * 2**20, resident, reliefs)
    limit = container_limit()
    return Pressure(int(SHARE * limit), container_use, reliefs) if limit else None


def resident() -> int:
    """Bytes of this process in memory."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def container_limit(folder: Path = CGROUP) -> int | None:
    """Bytes that this container may use; None where nothing says so."""
    with suppress(OSError, ValueError):
        return int((folder / "memory.max").read_text())  # "max" is no number
    return None


def container_use(folder: Path = CGROUP) -> int:
    """Bytes that its processes hold, fine-tunes among them, without what the system keeps of files."""
    with suppress(OSError, ValueError):
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return sum(int(value) for name, value in lines if name in ("anon", "shmem", "kernel"))
    return 0


def give_back() -> None:
    """Collect what nobody holds and hand it to the system."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
