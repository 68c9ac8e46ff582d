"""The page's server with an eye on it: notes files it opens and addresses it asks without having business there.

`python -m tests.hostile.watched_server NOTES PORT` serves as `python app.py` does. Once the file NOTES/armed is there,
each line of NOTES/notes.jsonl is something that must not happen. Python's audit events cannot be switched off by what
runs later; they see no opening by C libraries, so `Outside` looks at files of its own besides.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READABLE = ("/proc", "/sys", "/dev", "/usr", "/lib", "/etc/ssl", "/etc/mime.types", "/etc/localtime", "/etc/hosts")
READABLE += ("/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/apache2/mime.types")
WATCHED_OTHERS = ("open", "socket.connect", "subprocess.Popen")
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
WORKERS = {"backend.background.run_process", "backend.measuring.work"}  # processes of the program's own
LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


class Watch:
    """An audit hook. `data` is where everything may be written; the program's own folders may be read."""

    def __init__(self, notes: Path, data: Path):
        self.notes, self.armed = notes / "notes.jsonl", notes / "armed"
        self.writable = (str(data), "/dev/null", "/dev/shm")
        python = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), os.path.realpath(sys.prefix)}
        self.readable = (*self.writable, str(ROOT), *python, *READABLE, *python)
        self._inside = threading.local()

    def __call__(self, event: str, args: tuple) -> None:
        if getattr(self._inside, "busy", False) or event not in (
            "open",
            "socket.connect",
            "subprocess.Popen",
            *CHANGES,
        ):
            return
        self._inside.busy = True
        try:
            said = self._look(event, args)
            if said and self.armed.exists():
                with self.notes.open("a") as file:
                    file.write(json.dumps({"event": event, "what": said}) + "\n")
        finally:
            self._inside.busy = False

    def _look(self, event: str, args: tuple) -> str:
        """What is wrong with an event; empty for nothing."""
        if event == "open":
            path, mode, flags = args
            writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or any(
                c in (mode or "") for c in "wax+"
            )
            return self._outside(path, self.writable if writes else self.readable)
        if event == "socket.connect":
            address = args[1]
            host = str(address[0]) if isinstance(address, tuple) else "localhost"
            return "" if host.startswith(LOCAL) else f"connected to {address}"
        if event == "subprocess.Popen":
            own = WORKERS & {*map(str, args[1])} and str(args[1][0]) == sys.executable
            return "" if own else f"started {args[1]}"
        found = (self._outside(path, self.writable) for path in changed_paths(event, args))
        return next((path for path in found if path), "")

    def _outside(self, path: object, folders: tuple[str, ...]) -> str:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return ""  # a file that is open already
        found = os.path.realpath(os.fsdecode(path))
        return "" if any(found == f or found.startswith(f.rstrip("/") + "/") for f in folders) else found


def changed_paths(event: str, args: tuple) -> list[object]:
    """The paths that an event changes; relative ones may count from a folder that is open, as `rmtree` has it."""
    pairs = {
        "os.rename": [(0, 2), (1, 3)],
        "os.link": [(1, 3)],
        "os.symlink": [(1, 2)],
        "os.mkdir": [(0, 2)],
        "shutil.rmtree": [(0, 1)],
    }.get(event, [(0, 1)])
    paths = []
    for at, folder_at in pairs:
        folder = args[folder_at] if len(args) > folder_at else None
        inside = isinstance(folder, int) and folder >= 0 and isinstance(args[at], (str, bytes))
        paths.append(os.path.join(f"/proc/self/fd/{folder}", os.fsdecode(args[at])) if inside else args[at])
    return paths


def main() -> None:
    notes, port = Path(sys.argv[1]), int(sys.argv[2])
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    watch = Watch(notes, Path(os.environ["AIA_LENS_DATA"]).resolve())
    sys.addaudithook(watch)
    from app.serve import serve

    serve(port=port)


if __name__ == "__main__":
    main()
