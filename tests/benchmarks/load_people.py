"""What a person does on the page, as HTTP: asks, draws, repeats, opens permalinks, looks closer, starts a fine-tune.

The requests are those that the page's own scripts make, or a program's. Owns what is asked, and notes how long each
took and what came back. Knows neither the server's process nor what the figures should be.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from aia.intensity import Definition
from app.explore.samples import load_samples

SAMPLES = load_samples()
MODEL = "tiny-janus"
TIMEOUT_SECONDS = 120
COMPUTED = ("ask", "draw")
TUNE = {"steps": 30, "batch_size": 8, "probe_samples": 4, "score_samples": 4, "sample_count": 1, "probe_every": 10}

# How often a person does what: mostly looks at what is there. "ask" and "draw" are new each time.
HABITS = {
    "ask": 10,
    "draw": 10,
    "repeat": 25,
    "permalink": 15,
    "capture": 10,
    "definition": 15,
    "compare": 5,
    "library": 10,
}


@dataclass(frozen=True)
class Asked:
    """One request of the form: a question about a sample, or what to draw."""

    task: str
    words: str
    sample: str = ""
    seed: int = 0
    temperature: float = 0.5

    @property
    def form(self) -> list[Any]:
        """The values of the form's fields, in the order of `app.explore.form.Request`."""
        picture = {"sample": self.sample} if self.sample else None
        temperatures = (self.temperature, 64, self.temperature)
        return [MODEL, self.task, picture, self.words, self.words, self.seed, *temperatures, 1.5, "", "", 1.0, "full"]

    @classmethod
    def from_form(cls, form: list[Any]) -> Asked:
        """What a page sent, as far as the others' requests differ in it."""
        _, task, picture, question, prompt, seed, answer_temperature, _, drawing_temperature, *_ = form
        if task == "generation":
            return cls(task, prompt, "", seed, drawing_temperature)
        return cls(task, question, picture["sample"], seed, answer_temperature)


WELCOME = Asked("understanding", SAMPLES.pictures[0].questions[-1], SAMPLES.pictures[0].file, 0, 0.0)  # a first visit's


@dataclass(frozen=True)
class Result:
    """What somebody was shown: the capture's id and its curves by definition; `asked` where they had asked for it."""

    who: str
    id: str
    curves: dict[str, list[float | None]]
    asked: Asked | None = None
    text: str | None = None


@dataclass
class Notes:
    """What happened to everybody: seconds by what was done, results, errors."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Unexpected(Exception):
    """An answer that is none."""


class Person:
    """One person over HTTP, with cookies and a session of their own. What they do is drawn from their own seed."""

    def __init__(self, name: str, url: str, notes: Notes, shared: list[str], number: int = 0):
        """`shared` are links of captures that everybody has; `number` tells people apart."""
        self.name, self.notes, self.shared = name, notes, shared
        # The server closes a connection that was idle for five seconds; one must not just be sending on it then.
        limits = httpx.Limits(keepalive_expiry=2.0)
        self.client = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, limits=limits)
        self._random = random.Random(number)
        self._seed = 1000 * (number + 1)
        self._asked: list[Asked] = []
        self.own: list[str] = []  # links of what they made
        self._loads: list[int] | None = None

    async def live(self, until: float, think_seconds: float, habits: dict[str, int] = HABITS) -> None:
        """Do one thing after the other, with thought between, until that moment of the monotonic clock."""
        await asyncio.sleep(self._random.uniform(0, think_seconds))  # not all at once
        await self.arrive()
        while time.monotonic() < until:
            await self.do(self._random.choices([*habits], [*habits.values()])[0])
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * think_seconds)

    async def arrive(self) -> None:
        """Visit the page once: it tells who comes back by a cookie."""
        await self.client.get("/")

    async def do(self, what: str) -> None:
        """Do it and note how long it took, or what went wrong."""
        if what == "repeat" and not self._asked:
            what = "ask"
        action: Callable = getattr(self, what)
        started = time.monotonic()
        try:
            await action()
        except (httpx.HTTPError, Unexpected, ValueError, KeyError, TypeError) as error:
            self.notes.errors.append(f"{self.name}, {what}: {type(error).__name__}: {error}"[:300])
        else:
            self.notes.seconds.setdefault(what, []).append(time.monotonic() - started)

    # --- what a person does ---

    async def ask(self) -> None:
        """A new question: sampled with a seed of one's own, so that nobody has asked it before."""
        sample = self._random.choice(SAMPLES.pictures)
        await self._run(Asked("understanding", sample.questions[0], sample.file, self._next_seed(), 0.7))

    async def draw(self) -> None:
        await self._run(Asked("generation", self._random.choice(SAMPLES.drawings), seed=self._next_seed()))

    async def repeat(self) -> None:
        """Something asked before, which is kept."""
        await self._run(self._random.choice(self._asked))

    async def permalink(self) -> None:
        """Open a shared result: the page, and the events that it sends when it has loaded."""
        capture = self._random.choice(self.shared)
        found = await self._open(capture)
        if id_of(found.get("link", {}).get("capture", "")) != id_of(capture):
            raise Unexpected(f"the page of capture {capture} shows {found.get('link')}")
        self._note_curve(found)

    async def capture(self) -> None:
        """A stored result, as a program reads it."""
        capture = self._random.choice([*self.shared, *self.own])
        self._note_summary(await self._call("capture", capture), capture)

    async def definition(self) -> None:
        """Another definition in the closer look: new maps of heads."""
        capture = self._random.choice([*self.shared, *self.own])
        definition = self._random.choice([*Definition]).value
        query = {"capture": capture, "definition": definition}
        found = read(await self.client.get("/lens/closer/heads", params=query))
        if [id_of(one["id"]) for one in found["captures"]] != [id_of(capture)]:
            raise Unexpected(f"the closer look at {capture} shows {found['captures']}")

    async def compare(self) -> None:
        known = {id_of(one): one for one in [*self.shared, *self.own]}  # a thing is not compared with itself
        pair = self._random.sample(sorted(known.values()), 2)
        found = await self._call(
            "compare", [f"capture:{one}" for one in pair], self._random.choice([*Definition]).value
        )
        if [one["id"] for one in found["series"]] != [f"capture:{one}" for one in pair]:
            raise Unexpected("a comparison shows other things than were asked for")

    async def library(self) -> None:
        await self._call("library", self._random.choice(["", "triangle", "red"]), "", "made", True, 0)

    async def tune(self) -> None:
        """Start a small fine-tune, which goes on beside everybody."""
        await self._call("start_run", TUNE, f"by {self.name}", False)

    async def look_at_runs(self) -> list[dict]:
        return (await self._call("list_runs"))["runs"]

    async def ask_again(self, asked: Asked) -> None:
        await self._run(asked)

    # --- how the page and programs ask ---

    def _next_seed(self) -> int:
        self._seed += 1
        return self._seed

    async def _run(self, asked: Asked) -> None:
        """The page's own route: lines of JSON until the result."""
        response = await self.client.post("/lens/run", content=json.dumps(asked.form))
        lines = [json.loads(line) for line in response.text.splitlines() if line.strip()]
        last = lines[-1] if lines else {}
        kept = last.get("kept")
        if response.status_code != 200 or not kept:
            raise Unexpected((last.get("result") or {}).get("message") or f"status {response.status_code}")
        summary = self._note_curve(kept, asked)
        if (summary["prompt"], summary["task"]) != (asked.words, asked.task):
            raise Unexpected(f"asked “{asked.words}”, got the answer to “{summary['prompt']}”")
        if asked not in self._asked:
            self._asked.append(asked)
            self.own.append(kept["link"]["capture"])

    def _note_curve(self, curve: dict, asked: Asked | None = None) -> dict:
        """Note what a chart shows, by the file that it offers."""
        summary = json.loads(next(d["text"] for d in curve["downloads"] if d["label"] == "JSON"))
        return self._note_summary(summary, curve["link"].get("capture", ""), asked)

    def _note_summary(self, summary: dict, capture: str, asked: Asked | None = None) -> dict:
        if summary["capture_id"] != id_of(capture):
            raise Unexpected(f"asked for capture {capture}, got {summary['capture_id']}")
        text = summary.get("text")
        self.notes.results.append(Result(self.name, summary["capture_id"], summary["intensity"], asked, text))
        return summary

    async def _call(self, name: str, *values: Any) -> Any:
        """A named endpoint, as programs call it."""
        posted = read(await self.client.post(f"/gradio_api/call/{name}", json={"data": values}))
        answer = await self.client.get(f"/gradio_api/call/{name}/{posted['event_id']}")
        event, _, rest = answer.text.partition("\n")
        content = json.loads(rest.partition("data:")[2].strip().splitlines()[0])
        if event != "event: complete":
            raise Unexpected(str(content)[:200])
        return content[0]

    async def _open(self, capture: str) -> dict:
        """The page at a permalink → its chart."""
        query = {"capture": capture}
        page = await self.client.get("/", params=query)
        if page.status_code != 200 or "<gradio-app" not in page.text:
            raise Unexpected(f"the page came with status {page.status_code}")
        if self._loads is None:
            self._loads = loads_of(read(await self.client.get("/config")))
        charts = []
        for number in self._loads:
            asked = {"data": [], "fn_index": number, "session_hash": uuid.uuid4().hex}
            filled = read(await self.client.post("/gradio_api/run/predict", params=query, json=asked))
            charts += [one for one in filled["data"] if is_curve(one)]
        return charts[0] if charts else {}


def id_of(link: str) -> str:
    """The id in a link; a link to what is somebody's own has a seal behind it."""
    return link.partition(".")[0]


def loads_of(config: dict) -> list[int]:
    """Numbers of the events that a page sends by itself on loading. Raises `Unexpected` for one in the queue."""
    found = [one for one in config["dependencies"] if any(target[1] == "load" for target in one["targets"])]
    if any(one["queue"] is not False or one["inputs"] for one in found):
        raise Unexpected("an event of loading is not sent as it is here")
    return [one["id"] for one in found if one["backend_fn"]]


def is_curve(value: Any) -> bool:
    return isinstance(value, dict) and value.get("link_key") == "definition"


def read(response: httpx.Response) -> Any:
    """The JSON of an answer. Raises `Unexpected` for any other."""
    if response.status_code != 200:
        raise Unexpected(f"status {response.status_code}: {response.text[:200]}")
    return response.json()
