"""A store whose process is killed at random moments while it writes: whatever it said it kept is there afterwards."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.kept.labels import Labels
from backend.kept.store import CaptureStore
from tests.backend.stored import make_capture

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = 8

# Two threads keep captures, one names them; each says what it did once that is done.
WRITER = """
import sys, threading
from pathlib import Path
from backend.kept.labels import Labels
from backend.kept.store import CaptureStore
from tests.backend.stored import make_capture
folder, first = Path(sys.argv[1]), int(sys.argv[2])
store, labels, lock = CaptureStore(folder / "captures"), Labels(folder / "labels"), threading.Lock()
def keep(start):
    for number in range(start, start + 10**6, 2):
        capture = make_capture(number)
        store.put(capture)
        with lock:
            print(number, capture.id, flush=True)
        if number % 3 == 0:
            labels.set(f"capture:{capture.id}", name=f"number {number}")
            with lock:
                print("named", number, capture.id, flush=True)
print("begun", flush=True)
threads = [threading.Thread(target=keep, args=(first + n,)) for n in (0, 1)]
[thread.start() for thread in threads]
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder whose writers were killed at random moments, and all that they had said."""
    folder, said, chance = tmp_path_factory.mktemp("killed"), [], random.Random(7)
    for moment in range(MOMENTS):
        command = [sys.executable, "-c", WRITER, str(folder), str(10_000 * moment)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begun\n"
            said.append(process.stdout.readline().split())
            time.sleep(chance.uniform(0.0, 0.6))
            process.kill()
            lines = process.stdout.read().split("\n")
        said += [line.split() for line in lines[:-1]]  # the last one may be cut off
        store = CaptureStore(folder / "captures")  # as the next server finds it
        assert {line[-1] for line in said} <= set(store.ids()), f"lost at moment {moment}"
        store.close()
    return folder, said


def test_every_capture_that_was_kept_opens_as_it_was(killed):
    folder, said = killed
    kept = [(int(line[0]), line[1]) for line in said if line[0] != "named"]
    assert len(kept) >= MOMENTS
    store = CaptureStore(folder / "captures")
    for number, capture_id in kept:
        found, made = store.get(capture_id), make_capture(number)
        assert found.key == made.key and (found.mass == made.mass).all()
    store.close()


def test_a_kill_leaves_no_file_that_no_row_knows(killed):
    """At most what the kills cut off: a value file each thread had begun."""
    folder, _ = killed
    store = CaptureStore(folder / "captures")
    files, rows = len([*(folder / "captures").rglob("*.val")]), len(store.ids())
    store.close()
    assert rows <= files <= rows + 2 * MOMENTS


def test_every_name_that_was_given_is_there(killed):
    folder, said = killed
    named = [(int(line[1]), line[2]) for line in said if line[0] == "named"]
    labels = Labels(folder / "labels")
    assert all(labels.get(f"capture:{capture}").name == f"number {number}" for number, capture in named)
    assert named
