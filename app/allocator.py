"""How the C library hands memory back; with another than glibc nothing happens. Knows nothing of what uses it."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of malloc.h
_ASKED = ("MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def give_memory_back(environment=os.environ) -> bool:
    """Have freed memory go back to the system soon; call before threads start. → whether that was set.

    Threads get pools of their own otherwise, and pieces of pictures and pages fill each of them: a server that answered
    a few hundred pages held 60 MiB more than with two pools. Whoever set malloc up themselves is left alone.
    """
    if any(environment.get(name) for name in _ASKED):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all([mallopt(_ARENA_MAX, 2), mallopt(_MMAP_THRESHOLD, 2**17), mallopt(_TRIM_THRESHOLD, 2**17)])
