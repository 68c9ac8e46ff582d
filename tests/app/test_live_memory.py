"""What it costs the server to keep a page up to date: memory, bytes and seconds of one live update after the other.

A run that grows by a step per update, with curves and samples now and then, as a page sees it that asks each time.
"""

import gc
import json
import os
import statistics
import time
import tracemalloc

import gradio as gr
import pytest
from PIL import Image

from aia.config import TrainingConfig
from app.components import as_plain
from app.finetune.board import Board, read_watch
from app.finetune.run_record import RunReader
from app.finetune.run_samples import SampleCells
from backend.background.run_process import process_start
from backend.background.runs import Runs
from tests.app.run_fakes import asked_event, measured_event, sampled_event, scored_event, step_event

RUN, CONTROL = "a" * 16, "c" * 16
UPDATES, PROBE_EVERY = 200, 25


class LiveRun:
    """A folder of a run whose process is this one, and of its control that is done; a test appends the events."""

    def __init__(self, folder, steps=2000):
        self.runs, self.step = Runs(folder), 0
        for run, role, pair in ((RUN, "aia", CONTROL), (CONTROL, "control", RUN)):
            path = folder / run
            path.mkdir(parents=True)
            (path / "config.json").write_text(TrainingConfig(steps=steps, probe_every=PROBE_EVERY).model_dump_json())
            meta = {"id": run, "name": "live", "created": 1_760_000_000.0, "pair": pair, "role": role}
            (path / "meta.json").write_text(json.dumps(meta))
            (path / "log.txt").write_text("a line of the log\n" * 100)
        process = {"pid": os.getpid(), "started": process_start(os.getpid())}
        (folder / RUN / "process.json").write_text(json.dumps(process))
        samples = folder / RUN / "samples" / "0"
        samples.mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(samples / "item-0.png")
        self.tell(RUN, asked_event(), scored_event(0, 0.5, 0.9), measured_event(0), sampled_event(0))
        self.tell(CONTROL, asked_event(), *(self.events(step) for step in range(1, 3)))

    def tell(self, run, *events):
        with (self.runs.folder / run / "events.jsonl").open("a") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)

    def events(self, step):
        task = "generation" if step % 2 else "understanding"
        return step_event(step, task) | {"learning_rate": 1e-4, "gradient_norm": 1.23456, "time": 1.76e9 + step}

    def go_on(self, steps=1):
        for _ in range(steps):
            self.step += 1
            self.tell(RUN, self.events(self.step))
            if self.step % PROBE_EVERY == 0:
                self.tell(RUN, measured_event(self.step), sampled_event(self.step))


class Page:
    """A page that asks: what it has seen goes along, what comes back is weighed."""

    def __init__(self, board):
        self.board, self.watch, self.bytes, self.seconds = board, {"run": RUN}, [], []

    def ask(self):
        started = time.perf_counter()
        values = self.board.show(read_watch(self.watch))
        sent = [as_plain(value) for value in values[:-1] if value != gr.skip()]
        self.seconds.append(time.perf_counter() - started)
        self.bytes.append(len(json.dumps(sent)))
        self.watch = json.loads(json.dumps(values[-2])) if values[-2] != gr.skip() else self.watch
        return values

    def summary(self):
        return (
            f"{statistics.median(self.bytes):,.0f} bytes (at most {max(self.bytes):,}), "
            f"{1e3 * statistics.median(self.seconds):.1f} ms (at most {1e3 * max(self.seconds):.1f})"
        )


def traced():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.fixture
def memory():
    """Tracing of what Python holds."""
    tracemalloc.start()
    yield traced
    tracemalloc.stop()


def test_200_live_updates_hold_the_events_and_nothing_else(tmp_path, memory):
    live = LiveRun(tmp_path)
    reader = RunReader(live.runs)
    board, cells = Board(live.runs, reader), SampleCells(live.runs, reader)
    page = Page(board)
    live.go_on(50)
    for _ in range(20):  # what is made once is made here
        live.go_on()
        page.ask()
        cells.fetch({"key": RUN, "step": 0})
    before, size = memory(), (tmp_path / RUN / "events.jsonl").stat().st_size
    for _ in range(UPDATES):
        live.go_on()
        page.ask()
        cells.fetch({"key": RUN, "step": 0})
    grown, told = memory() - before, (tmp_path / RUN / "events.jsonl").stat().st_size - size
    print(f"{UPDATES} updates: grown by {grown / 1024:.0f} KiB for {told / 1024:.0f} KiB of events")
    assert grown < UPDATES * 4 * 1024  # a step's event as Python holds it, and bounded caches
    before = memory()
    for _ in range(UPDATES):
        page.ask()
    print(f"{UPDATES} updates without news: grown by {(memory() - before) / 1024:.0f} KiB")
    assert memory() - before < 50 * 1024


def test_pages_that_come_and_go_leave_nothing(tmp_path, memory):
    live = LiveRun(tmp_path)
    live.go_on(100)
    board = Board(live.runs, RunReader(live.runs))
    for _ in range(5):
        Page(board).ask()
    before = memory()
    for _ in range(50):
        Page(board).ask()
    print(f"50 pages: grown by {(memory() - before) / 1024:.0f} KiB")
    assert memory() - before < 50 * 1024


@pytest.mark.parametrize("steps", [100, 2000])
def test_a_live_update_is_small_and_quick(tmp_path, steps):
    live = LiveRun(tmp_path)
    live.go_on(steps)
    page = Page(Board(live.runs, RunReader(live.runs)))
    page.ask()
    print(f"\n{steps} steps, the first update: {page.summary()}")
    page.bytes, page.seconds = [], []
    for _ in range(30):
        live.go_on()
        page.ask()
    print(f"{steps} steps, an update: {page.summary()}")
    assert statistics.median(page.bytes) < 32_000
    assert statistics.median(page.seconds) < 0.2
    page.bytes, page.seconds = [], []
    for _ in range(10):
        page.ask()
    print(f"{steps} steps, without news: {page.summary()}")
    assert max(page.bytes) < 1000
