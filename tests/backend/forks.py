"""A process that has imported PyTorch and started no thread: what tests fork, they fork from it.

A fork takes one thread along, and whatever locks the others held; the test process has many by the time it would fork.
Knows nothing of what runs in the forked processes: functions of modules, by name, with arguments of JSON.

    the test  --request, descriptors-->  this process  --fork-->  a minder  --fork-->  the function
              <------------------ number, then exit code ---------
"""

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MISSING = 99  # exit code of a function that raised


class Forks:
    """Forks from the process that listens at a socket; from any process that can reach it."""

    def __init__(self, address):
        self.address = str(address)

    def fork(self, function, *arguments, log=None):
        """Call a function, "module:name", in a process and a session of its own. → `Forked`"""
        link = socket.socket(socket.AF_UNIX)
        link.connect(self.address)
        request = json.dumps([function, arguments]).encode()
        socket.send_fds(link, [request], [] if log is None else [log.fileno()])
        return Forked(link)


class Forked:
    """A forked process as `subprocess.Popen` gives one: number and exit code."""

    def __init__(self, link):
        self._link, self._code = link, None
        self.pid = int(self._line())

    @cached_property
    def _lines(self):
        return self._link.makefile("r")

    def _line(self):
        return self._lines.readline()

    def poll(self):
        """The exit code, None as long as there is none."""
        if self._code is None and _can_read(self._link):
            self.wait()
        return self._code

    def wait(self, seconds=None):
        """The exit code, once there is one. Raises `TimeoutError` where that takes longer, and ends the process."""
        if self._code is None:
            if not select.select([self._link], [], [], seconds)[0]:
                self.kill()
                raise TimeoutError(f"expected process {self.pid} to end within {seconds} s, it goes on")
            self._code = int(self._line() or -signal.SIGKILL)
            self._link.close()
        return self._code

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)


def _can_read(link):
    try:
        link.setblocking(False)
        link.recv(1, socket.MSG_PEEK)
        return True
    except BlockingIOError:
        return False
    finally:
        link.setblocking(True)


def start_forks(folder, *modules):
    """Start the process, its modules imported. → its `Forks`, and the process, to be killed at the end"""
    address = folder / "forks"
    command = [sys.executable, "-m", "tests.backend.forks", str(address), *modules]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"listening\n", "the process to fork from did not start"
    return Forks(address), process


# --- in that process --------------------------------------------------------------------------


def listen(address):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the minders
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        print("listening", flush=True)
        while True:
            link, _ = listener.accept()
            if not os.fork():
                listener.close()
                _mind(link)
            link.close()


def _mind(link):
    """Fork once more, tell the number, wait, tell the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, descriptors, *_ = socket.recv_fds(link, 65_536, 1)
    if not (pid := os.fork()):
        link.close()
        _call(*json.loads(request), *descriptors)
    link.sendall(b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        link.sendall(b"%d\n" % code)
    finally:
        os._exit(0)


def _call(function, arguments, log=None):
    code = MISSING
    try:
        os.setsid()
        if log is not None:
            for stream in (1, 2):
                os.dup2(log, stream)
        sys.stdout = sys.stderr = os.fdopen(2, "w", 1)
        module, _, name = function.partition(":")
        code = getattr(importlib.import_module(module), name)(*arguments) or 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    listen(sys.argv[1])
