"""Twenty people's worth of real use of one server, and a hundred who browse what was shared.

    python -m tests.benchmarks.load --users 20 --minutes 10 --json FILE
    python -m tests.benchmarks.load --users 0 --browsing 100 --minutes 2 --json FILE

Starts a server of its own on a fresh folder. One person alone gives the figures to compare with; then all at once,
three of them with a real Chromium, with thought between what they do; afterwards a fresh server answers every request
once more for one person, and what everybody was shown is held against that, number by number. The exit code says
whether the goals hold. The people share the machine with the server.

What works is HTTP (`load_people.py`), Chromium (`load_browsers.py`) and the process (`load_server.py`); this file owns
the order of events, the goals and the report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.load_people import COMPUTED, HABITS, WELCOME, Notes, Person, Result
from tests.benchmarks.load_server import Memory, Server, note_memory

CHROMIUMS, TUNERS = 3, 2
ALONE_TURNS = 30  # of everything by one person alone
SLOWER_AT_MOST = 3.0  # p95 of what is cached, in those of one person alone
GROWN_AT_MOST = 0.05  # memory of the last minute over that of the third
TOLERANCE = 2e-6  # of a line read from the page: both are rounded to six decimals
CACHED = tuple(what for what in HABITS if what not in COMPUTED)
BROWSING = {"permalink": 6, "capture": 1, "definition": 3}
SETTINGS = {"AIA_LENS_HOST": "127.0.0.1", "AIA_LENS_PEOPLE": "many"}  # as it is hosted


def main(arguments: list[str] | None = None) -> int:
    """→ exit code: 0 where every goal holds."""
    asked = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="aia-lens-load-") as folder:
        report = asyncio.run(measure(asked, Path(folder)))
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    print(summarise(report))
    return 0 if all(report["goals"].values()) else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.load", description=__doc__.split("\n\n")[0])
    parser.add_argument("--users", type=int, default=20, help="people who ask, draw and look; 0: nobody")
    parser.add_argument("--chromium", type=int, help=f"how many of them with a real browser; {CHROMIUMS} by default")
    parser.add_argument("--browsing", type=int, default=0, help="people who only open what was shared, afterwards")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--think", type=float, default=6.0, help="seconds between two things that a person does")
    parser.add_argument("--turns", type=int, default=ALONE_TURNS, help="of everything by one person alone")
    parser.add_argument("--tuners", type=int, default=TUNERS, help="people who start a small fine-tune")
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    asked = parser.parse_args(arguments)
    asked.chromium = min(CHROMIUMS if asked.chromium is None else asked.chromium, asked.users)
    return asked


# --- the order of events ---


async def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, one after the other → the report."""
    phases: dict[str, Notes] = {"alone": Notes()}
    with Server(folder / "load", SETTINGS) as server:
        started, memory = time.monotonic(), []
        watch = asyncio.create_task(note_memory(server.pid, started, memory))
        shared = await use_alone(server.url, phases["alone"], asked.turns)
        report = {"load_began": round(time.monotonic() - started, 1)}
        if asked.users:
            phases["load"], report["runs"] = await use_together(server.url, shared, asked)
        report["load_ended"] = round(time.monotonic() - started, 1)
        if asked.browsing:
            phases["browsing"] = await browse_together(server.url, shared, asked)
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        complaints = server.complaints()
    results = [result for notes in phases.values() for result in notes.results]
    report |= await check(results, folder / "again")
    return make_report(asked, report, phases, memory, complaints)


async def use_alone(url: str, notes: Notes, turns: int) -> list[str]:
    """One person, everything in turns → links of what that person made, which all others get."""
    warm = Person("warm-up", url, Notes(), [])
    person = Person("alone", url, notes, [], number=10_000)
    await asyncio.gather(warm.arrive(), person.arrive())
    for what in ("ask", "draw", "ask", "draw"):
        await warm.do(what)
        await person.do(what)
        person.shared[:] = person.own
    for what in HABITS:  # what is done for the first time takes longer
        await person.do(what)
    notes.seconds.clear()
    for _ in range(turns):
        for what in HABITS:
            await person.do(what)
    await asyncio.gather(warm.client.aclose(), person.client.aclose())
    return [*person.own]


async def use_together(url: str, shared: list[str], asked: argparse.Namespace) -> tuple[Notes, list[dict]]:
    """All users for the asked time → notes, and the fine-tunes that some of them started."""
    notes, until = Notes(), time.monotonic() + 60 * asked.minutes
    people = [Person(f"person {n}", url, notes, shared, n) for n in range(asked.users - asked.chromium)]
    lives = [person.live(until, asked.think) for person in people]
    lives += [tune_at(people[n], 10 + 60 * n, until) for n in range(min(asked.tuners, len(people)))]
    if asked.chromium:
        from tests.benchmarks.load_browsers import BrowserPerson

        browsers = [BrowserPerson(f"Chromium {n}", url, notes, shared, n) for n in range(asked.chromium)]
        lives += [browser.live(until, asked.think) for browser in browsers]
    await asyncio.gather(*lives)
    runs = [run for person in people[: asked.tuners] for run in await person.look_at_runs()]
    await asyncio.gather(*(person.client.aclose() for person in people))
    told = {run["id"]: {"state": run["state"], "step": run["step"], "reason": run["reason"]} for run in runs}
    return notes, [*told.values()]


async def tune_at(person: Person, seconds: float, until: float) -> None:
    if time.monotonic() + seconds < until:
        await asyncio.sleep(seconds)
        await person.do("tune")


async def browse_together(url: str, shared: list[str], asked: argparse.Namespace) -> Notes:
    """People who only look at what was shared."""
    notes, until = Notes(), time.monotonic() + 60 * min(asked.minutes, 2.0)
    people = [Person(f"reader {n}", url, notes, shared, 500 + n) for n in range(asked.browsing)]
    await asyncio.gather(*(person.live(until, 2 * asked.think, BROWSING) for person in people))
    await asyncio.gather(*(person.client.aclose() for person in people))
    return notes


# --- whether everybody was shown what is true ---


async def check(results: list[Result], folder: Path) -> dict[str, Any]:
    """Ask everything once more, one after the other, of a fresh server; hold each result against that."""
    again, asked = Notes(), list(dict.fromkeys([WELCOME, *(result.asked for result in results if result.asked)]))
    with Server(folder, SETTINGS) as server:
        person = Person("again", server.url, again, [])
        await person.arrive()
        for one in asked:
            await person.ask_again(one)
        await person.client.aclose()
    return {"requests_checked": len(asked), "results_checked": len(results), "mixed_up": mixed_up(results, again)}


def mixed_up(results: Iterable[Result], again: Notes) -> list[str]:
    """Which results differ from those of one person alone, in words."""
    by_asked = {result.asked: result for result in again.results}
    by_id = {result.id: result for result in again.results}
    found = []
    for result in results:
        right = by_asked.get(result.asked) if result.asked else by_id.get(result.id)
        if right is None:
            found.append(f"{result.who}: capture {result.id} was never made by one person alone")
        elif right.id != result.id:
            found.append(f"{result.who}: {result.asked} became capture {result.id}, alone {right.id}")
        elif not same_curves(result.curves, right.curves):
            found.append(f"{result.who}: capture {result.id} has other curves than alone")
        elif result.text is not None and result.text != right.text:
            found.append(
                f"{result.who}: capture {result.id} says “{result.text[:60]}”, alone “{(right.text or '')[:60]}”"
            )
    return found


def same_curves(shown: dict[str, list], right: dict[str, list]) -> bool:
    """All three definitions are equal; one alone, read off the page, within its rounding."""
    if len(shown) == len(right):
        return shown == right
    return bool(shown) and all(
        len(line) == len(right[name]) and all(abs(a - b) <= TOLERANCE for a, b in zip(line, right[name], strict=True))
        for name, line in shown.items()
    )


# --- the report ---


def make_report(
    asked: argparse.Namespace, report: dict, phases: dict[str, Notes], memory: list[Memory], complaints: list[str]
) -> dict[str, Any]:
    alone, together = phases["alone"], [notes for name, notes in phases.items() if name != "alone"]
    errors = [error for notes in phases.values() for error in notes.errors] + complaints
    flat = compare_minutes(memory, report["load_began"], report["load_ended"])
    slower = {name: compare_seconds(alone, notes) for name, notes in phases.items() if name != "alone"}
    goals = {
        "no error": not errors,
        "no mixed-up result": not report["mixed_up"] and report["results_checked"] > 0,
        "cached p95 within three times of one person's": all(r["cached"] <= SLOWER_AT_MOST for r in slower.values()),
    }
    if flat is not None:
        goals["memory flat"] = flat["grown"] <= GROWN_AT_MOST
    return {
        "users": asked.users,
        "of_them_with_chromium": asked.chromium,
        "browsing": asked.browsing,
        "minutes": asked.minutes,
        "think_seconds": asked.think,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": {name: describe_seconds(notes) for name, notes in phases.items()},
        "done": sum(len(each) for notes in together for each in notes.seconds.values()),
        "slower_than_alone": slower,
        **report,
        "memory": flat,
        "peak_rss_mib": max((one.rss for one in memory), default=None),
        "errors": errors,
        "goals": goals,
        "memory_by_second": [asdict(one) for one in memory],
    }


def describe_seconds(notes: Notes) -> dict[str, dict[str, float]]:
    """Number, median and p95 of everything that was done, and of all that is cached, and of all that is computed."""
    groups = {
        "cached": gather(notes, CACHED),
        "computed": gather(notes, COMPUTED),
        **dict(sorted(notes.seconds.items())),
    }
    return {
        what: {"n": len(each), "median": round(statistics.median(each), 4), "p95": round(p95(each), 4)}
        for what, each in groups.items()
        if each
    }


def gather(notes: Notes, what: Iterable[str]) -> list[float]:
    return [second for one in what for second in notes.seconds.get(one, [])]


def p95(seconds: list[float]) -> float:
    """The 95th percentile: of n values in order, the ⌈0.95·n⌉-th."""
    return sorted(seconds)[max(-(-95 * len(seconds) // 100) - 1, 0)]


def compare_seconds(alone: Notes, together: Notes) -> dict[str, float]:
    """p95 as a multiple of that of one person alone: of each thing, and of all that is cached, each weighted alike.

    "cached" is the mean over the kinds, since people do them in other proportions than one person alone did.
    """
    ratios = {
        what: round(p95(together.seconds[what]) / p95(alone.seconds[what]), 2)
        for what in HABITS
        if together.seconds.get(what) and alone.seconds.get(what)
    }
    cached = [ratio for what, ratio in ratios.items() if what in CACHED]
    return {"cached": round(statistics.mean(cached), 2) if cached else 0.0, **ratios}


def compare_minutes(memory: list[Memory], began: float, ended: float) -> dict[str, float] | None:
    """Mean RSS of the server, in MiB, in the third and in the last minute of the load; None for less than four."""
    third = [one.rss for one in memory if began + 120 <= one.second < began + 180]
    last = [one.rss for one in memory if ended - 60 <= one.second < ended]
    if ended - began < 240 or not third or not last:
        return None
    before, after = statistics.mean(third), statistics.mean(last)
    return {"third_minute": round(before, 1), "last_minute": round(after, 1), "grown": round(after / before - 1, 4)}


def summarise(report: dict[str, Any]) -> str:
    """The report in a few lines."""
    lines = []
    for phase, rows in report["seconds"].items():
        lines += [f"{phase}:"] + [
            f"  {what:20}{row['n']:6}  median {row['median']:7.3f} s  p95 {row['p95']:7.3f} s"
            for what, row in rows.items()
        ]
    lines += [f"slower than alone, {name}: {ratios}" for name, ratios in report["slower_than_alone"].items()]
    lines.append(f"memory: {report['memory']}, at most {report['peak_rss_mib']} MiB; runs: {report.get('runs', [])}")
    lines += [f"error: {error}" for error in report["errors"][:20]]
    lines += [f"mixed up: {one}" for one in report["mixed_up"][:20]]
    lines += [f"{'holds' if held else 'MISSED'}: {goal}" for goal, held in report["goals"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
