"""A server that is killed at random moments under load: nothing that was answered as kept is lost.

    python -m tests.benchmarks.kills --moments 50 --json FILE

At each moment people ask and draw over HTTP, and a fine-tune trains; the server gets SIGKILL after a random time, is
started again on the same folder, and every capture that anybody was ever shown a link of must open with the same
curves, every fine-tune must be there. The exit code says whether that held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx

from tests.benchmarks.load_people import Notes, Person, Unexpected, id_of
from tests.benchmarks.load_server import Server

HABITS = {"ask": 6, "draw": 2, "repeat": 1, "library": 1}
PEOPLE = 6
SETTINGS = {"AIA_LENS_HOST": "127.0.0.1", "AIA_LENS_PEOPLE": "many"}


def main(arguments: list[str] | None = None) -> int:
    """→ exit code: 0 where nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.kills", description=__doc__.split("\n\n")[0])
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="aia-lens-kills-") as folder:
        report = asyncio.run(kill_often(Path(folder) / "server", asked.moments, asked.seed))
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "moments"}, indent=1))
    return 0 if not report["lost"] and report["kept"] else 1


async def kill_often(folder: Path, moments: int, seed: int) -> dict:
    """Kill so many times → what was kept, what was lost, and when each kill came (seconds of load)."""
    chance, kept, lost, killed = random.Random(seed), {}, [], []
    runs: dict[str, dict[str, str]] = {}  # by id, the cookies of who started it
    for moment in range(moments + 1):
        with Server(folder, SETTINGS) as server:
            lost += await look_for(server.url, kept, runs)
            if moment == moments:
                break
            seconds = chance.uniform(0.3, 4.0)
            kept |= await use_until_killed(server, moment, seconds, runs)
            killed.append(round(seconds, 2))
    return {"kills": len(killed), "kept": len(kept), "runs": len(runs), "lost": lost, "moments": killed}


async def use_until_killed(
    server: Server, moment: int, seconds: float, runs: dict[str, dict[str, str]]
) -> dict[str, tuple[str, dict]]:
    """People at work until the kill → of each capture that was shown with a link: the link and its curves."""
    notes, until = Notes(), time.monotonic() + 600
    people = [Person(f"{moment}.{n}", server.url, notes, [], 100 * moment + n) for n in range(PEOPLE)]
    if moment % 10 == 0:
        with suppress(httpx.HTTPError, Unexpected):  # a queue that is full refuses it
            await people[0].arrive()
            await people[0].tune()
            for run in await people[0].look_at_runs():
                runs[run["id"]] = dict(people[0].client.cookies)
    lives = [asyncio.create_task(person.live(until, 0.05, HABITS)) for person in people]
    await asyncio.sleep(seconds)
    server.process.kill()
    server.process.wait()
    for life in lives:
        life.cancel()
    await asyncio.gather(*lives, return_exceptions=True)
    curves = {result.id: result.curves for result in notes.results}
    links = [link for person in people for link in person.own]
    return {id_of(link): (link, curves[id_of(link)]) for link in links}


async def look_for(url: str, kept: dict[str, tuple[str, dict]], runs: dict[str, dict[str, str]]) -> list[str]:
    """What of it is not there any more, or is another, in words."""
    notes, lost = Notes(), []
    person = Person("who comes back", url, notes, [])
    await person.arrive()
    for capture, (link, curves) in kept.items():
        notes.results.clear()
        person.shared[:], person.own[:] = [link], []
        await person.do("capture")
        if not notes.results or notes.results[-1].curves != curves:
            lost.append(f"capture {capture}: {(notes.errors or ['other curves'])[-1]}")
    for run, cookies in runs.items():
        person.client.cookies.update(cookies)
        if run not in {one["id"] for one in await person.look_at_runs()}:
            lost.append(f"run {run} is not listed")
    await person.client.aclose()
    return lost


if __name__ == "__main__":
    sys.exit(main())
