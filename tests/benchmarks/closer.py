"""What Look closer takes on captures of Janus-Pro's size: opening, redraws, the page's memory, the disk.

    python -m tests.benchmarks.closer --json FILE

30 layers, 32 heads, 576 image tokens, 128 answer tokens, made synthetically (`tests/big_capture.py`), shown by a real
server in a real Chromium. A redraw is timed from what a person does to the frame after all of it was painted, with what
the server is asked for in between. The model is not at hand, so the map of a single head is not part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import CDPSession, Page, sync_playwright

from backend.kept.capture_files import capture_to_npz
from backend.kept.captures import Capture
from backend.kept.store import CaptureStore
from tests.big_capture import big_answer, big_drawing
from tests.made_captures import make_answer

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
GOALS = {"redraw_ms": 100, "opening_ms": 1000, "disk_mb": 20, "memory_mb": 60, "heap_growth_mib": 2}
ROUNDS, REDRAWS = 15, 500
OPENINGS = 5

# What a person does in each view, by the name of the gesture; `i` counts the rounds.
GESTURES = {
    "heads": {
        "pin a head": "i => lens.closer.set({ head: `${1 + (i * 7) % 30}.${1 + (i * 5) % 32}` })",
        "order": "i => lens.closer.set({ sort: i % 2 ? 'layer' : '' })",
        "search": "i => lens.closer.set({ find: `layer ${1 + i % 30}` })",
        "definition": "i => document.querySelectorAll('.lens-pills button')[i % 3].click()",
    },
    "time": {
        "point at a step": "i => moveOver('[data-map=\"0 0\"] canvas', i)",
        "row": "i => lens.closer.set({ fed: i % 2 ? '1' : '' })",
        "definition": "i => document.querySelectorAll('.lens-pills button')[i % 3].click()",
    },
    "space": {
        "click a word": "i => lens.closer.set({ word: String(1 + (i * 7) % 16), patch: '' })",
        "click a patch": "i => lens.closer.set({ patch: String(1 + (i * 37) % 576), word: '' })",
        "layer": "i => lens.closer.set({ layer: String(1 + i % 30) })",
        "sinks": "i => lens.closer.set({ sinks: i % 2 ? 'out' : '' })",
        "play": "i => lens.closer.set({ play: String(1 + (i * 11) % 576) })",
    },
}

# Times one gesture, until nothing more is asked for and a whole frame has passed in which nothing changed: so a redraw
# counts one frame (17 ms) more than it takes.
HELPERS = """() => {
  let busy = 0;
  const ask = window.fetch;
  window.fetch = async (...asked) => {
    busy++;
    try { return await ask(...asked); } finally { setTimeout(() => busy--); }
  };
  let seen = 0;
  const everything = { subtree: true, childList: true, attributes: true, characterData: true };
  new MutationObserver(() => seen++).observe(document.querySelector("#lens-explore"), everything);
  window.moveOver = (selector, i) => {
    const canvas = document.querySelector("#lens-closer .lens-view:not([hidden]) " + selector);
    const at = { offsetX: 60 + (i * 53) % 700, offsetY: 20 + (i * 31) % 200 }, event = new PointerEvent("pointermove");
    for (const [name, value] of Object.entries(at)) Object.defineProperty(event, name, { value });
    canvas.dispatchEvent(event);
  };
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  window.timeRedraw = async (gesture, i) => {
    const start = performance.now(), before = seen;
    gesture(i);
    let last, at;
    do {
      last = seen;
      await frame();
      at = performance.now();
    } while (busy || seen !== last);
    return { milliseconds: at - start, painted: seen !== before };
  };
}"""


def measure_closer(rounds: int = ROUNDS, redraws: int = REDRAWS) -> dict[str, Any]:
    """All figures, beside their goals."""
    captures = {"drawing": big_drawing(), "answer": big_answer()}
    partners = {"drawing": big_drawing(1, "another large drawing"), "answer": big_answer(1, "another large answer")}
    small = make_answer(np.full((8, 8, 20), 0.5, np.float32), (8, 8), prompt="a small answer")
    sizes = {name: measure_size(capture) for name, capture in captures.items()}
    with tempfile.TemporaryDirectory() as folder:
        keep(Path(folder), [*captures.values(), *partners.values(), small])
        with serve(Path(folder)) as url, open_browser() as page:
            return {
                "goals": GOALS,
                "sizes": sizes,
                "opening_ms": measure_openings(page, url, {**captures, "small": small}),
                "redraw_ms": {
                    f"{name}{beside}": measure_redraws(page, url, captures[name], partner, rounds)
                    for name in captures
                    for beside, partner in (("", None), (" and another", partners[name]))
                },
                "heap": measure_heap(page, url, captures["drawing"], redraws),
            }


# --- sizes ---


def measure_size(capture: Capture) -> dict[str, float]:
    """Megabytes (10⁶ bytes) on the disk and as arrays in memory."""
    names = ("mass", "cross", "drawn", "patch_rows", "query_positions", "cross_positions", "made_ids")
    arrays = [getattr(capture, name) for name in names]
    held = sum(array.nbytes for array in arrays if array is not None)
    return {"disk_mb": round(len(capture_to_npz(capture)) / 1e6, 2), "memory_mb": round(held / 1e6, 2)}


# --- opening ---


def measure_openings(page: Page, url: str, captures: dict[str, Capture]) -> dict[str, dict[str, float]]:
    """Medians of opening a capture, alternating so that each is unpacked anew.

    `in the page`: a capture comes to the front of a page that is there. `by address`: the page and all, from nothing;
    what a small capture takes that way is the page's own time.
    """
    found: dict[str, dict[str, list[float]]] = {name: {"in the page": [], "by address": []} for name in captures}
    for _ in range(OPENINGS):
        for name, capture in captures.items():
            started = time.perf_counter()
            open_view(page, url, capture, "time")
            found[name]["by address"].append(1000 * (time.perf_counter() - started))
        for name, capture in captures.items():
            found[name]["in the page"].append(page.evaluate(_TO_FRONT, [capture.id, capture.task.value]))
    return {
        name: {how: round(statistics.median(times), 1) for how, times in ways.items()} for name, ways in found.items()
    }


_TO_FRONT = """async ([id, task]) =>
  (await timeRedraw(() => lens.showCapture({ id, task, definition: "figure" }), 0)).milliseconds"""


def open_view(page: Page, url: str, capture: Capture, view: str, query: str = "") -> None:
    """A capture's view, drawn, on a page of its own."""
    page.goto(f"{url}/?capture={capture.id}&closer={view}{query}")
    page.wait_for_selector(".lens-chart[data-drawn]", timeout=120_000)
    page.evaluate("document.querySelector('#lens-closer').scrollIntoView()")
    page.wait_for_selector(f"#lens-view-{view}[data-state=shown]", timeout=120_000)
    page.evaluate(HELPERS)
    page.evaluate("timeRedraw(() => {}, 0)")


# --- redraws ---


def measure_redraws(
    page: Page, url: str, capture: Capture, partner: Capture | None, rounds: int
) -> dict[str, dict[str, float]]:
    """Milliseconds by view and gesture: the median and the slowest."""
    beside = f"&with={partner.id}" if partner else ""
    found = {}
    for view, gestures in GESTURES.items():
        open_view(page, url, capture, view, beside)
        for name, gesture in gestures.items():
            done = page.evaluate(_REDRAWS, [gesture, rounds])
            times = [one["milliseconds"] for one in done if one["painted"]]
            if not times:
                raise RuntimeError(f"{view}: {name} changed nothing on the page")
            found[f"{view}: {name}"] = {"median": round(statistics.median(times), 1), "most": round(max(times), 1)}
    return found


_REDRAWS = """async ([gesture, rounds]) => {
  const found = [], act = eval(gesture);
  for (let i = 0; i < rounds; i++) found.push(await timeRedraw(act, i));
  return found;
}"""


# --- the page's memory ---


def measure_heap(page: Page, url: str, capture: Capture, redraws: int) -> dict[str, Any]:
    """The page's heap after collection, MiB, and its nodes and listeners, every fifth of the redraws of all views."""
    open_view(page, url, capture, "heads")
    session = page.context.new_cdp_session(page)
    gestures = [(view, gesture) for view, found in GESTURES.items() for gesture in found.values()]
    part, done, marks = redraws // 5, 0, []
    for _ in range(6):
        if marks:
            run_through(page, gestures, part, done)
            done += part
        else:
            run_through(page, gestures, 3 * len(gestures), 0)  # what is kept on purpose is there after that
        marks.append({"redraws": done, **read_memory(session)})
    growth = marks[-1]["heap_mib"] - marks[0]["heap_mib"]
    return {"marks": marks, "growth_mib": round(growth, 2)}


def run_through(page: Page, gestures: list[tuple[str, str]], count: int, first: int) -> None:
    """Make that many redraws, turning from view to view."""
    page.evaluate(
        """async ([gestures, count, first]) => {
          for (let i = 0; i < count; i++) {
            const [view, gesture] = gestures[Math.floor((i * gestures.length) / count)];
            if (lens.closer.inFront() !== view) await timeRedraw(() => lens.closer.set({ closer: view }), 0);
            await timeRedraw(eval(gesture), first + i);
          }
        }""",
        [gestures, count, first],
    )


def read_memory(session: CDPSession) -> dict[str, Any]:
    session.send("HeapProfiler.enable")
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    counters = session.send("Memory.getDOMCounters")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    return {"heap_mib": round(used / 2**20, 2), "nodes": counters["nodes"], "listeners": counters["jsEventListeners"]}


# --- a server and a browser ---


def keep(folder: Path, captures: list[Capture]) -> None:
    store = CaptureStore(folder / "data" / "captures")
    for capture in captures:
        store.put(capture)
    store.close()


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The page's address, from a server of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    about = {"AIA_LENS_DATA": str(folder / "data"), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    command = [sys.executable, "-m", "app", "serve", "--port", str(port)]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **about}, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(400):
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def open_browser() -> Iterator[Page]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--js-flags=--expose-gc"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        yield page
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the report there")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="times of each gesture")
    parser.add_argument("--redraws", type=int, default=REDRAWS, help="redraws over which the heap must stay")
    asked = parser.parse_args()
    report = measure_closer(asked.rounds, asked.redraws)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
