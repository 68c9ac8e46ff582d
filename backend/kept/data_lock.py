"""One server for one data folder: the second is refused. Freed by the system when a server ends, however it does.

Owns the file `server.lock`. The command line and the processes of runs share the folder with a server; they take no
such lock. Knows nothing of what lies in the folder.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from filelock import FileLock, Timeout

from backend.interface import UserError

logger = logging.getLogger(__name__)

NAME = "server.lock"


def take_folder(folder: Path) -> FileLock:
    """Take the folder, making it where it is missing; hold what is returned. Raises `UserError`."""
    lock = FileLock(folder / NAME, blocking=False)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            "Expected a data folder of its own, got one that another server uses; stop that server, or set "
            "AIA_LENS_DATA to another folder."
        ) from error
    except NotImplementedError:  # a mounted bucket may know no locks
        logger.warning("The data folder knows no locks: see to it that no second server uses it.")
        return lock
    except OSError as error:
        raise UserError(
            f"Expected a data folder that can be written, got “{error.strerror or 'the disk refused'}”; set "
            "AIA_LENS_DATA to another folder, or free this one."
        ) from error
    try:
        (folder / NAME).write_text(f"{os.getpid()}\n")  # for whoever looks
    except OSError:
        logger.warning("The data folder cannot be written to just now; what is there can be read.")
    return lock
