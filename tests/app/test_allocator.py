"""The allocator is set where it can be, in a process of its own, since that is for good."""

import platform
import subprocess
import sys

from app.allocator import give_memory_back


def test_malloc_takes_the_settings():
    program = "from app.allocator import give_memory_back; print(give_memory_back({}))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(platform.libc_ver()[0] == "glibc")


def test_whoever_set_malloc_up_is_left_alone():
    assert give_memory_back({"MALLOC_ARENA_MAX": "8"}) is False
