"""People with a real Chromium each: they open permalinks, ask, draw and switch definitions on the page itself.

What they see is read from the page: the capture that it names and the line that it drew. Their seconds are those of
the browser as well, which shares the machine with the server. Knows neither the server's process nor any goal.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Error, Page, Request, async_playwright

from aia.intensity import Definition
from aia.world import COLOURS, SHAPES
from tests.benchmarks.load_people import SAMPLES, Asked, Notes, Result, Unexpected, id_of
from tests.browser.chromium import FLAGS, find_chromium

PREFIX = "browser "  # before what they do, as their seconds are noted
TIMEOUT_MILLISECONDS = 60_000
HABITS = {"permalink": 3, "definition": 4, "ask": 2, "draw": 2, "library": 1}

_NEWLY_DRAWN = """(before) => {
  const card = document.querySelector(".lens-chart"), result = document.querySelector(".lens-result");
  return card.dataset.drawn && card.dataset.drawn !== before && result.dataset.state === "finished";
}"""
_SEEN = """() => [document.querySelector(".lens-chart").dataset.drawn,
  [...document.querySelector(".lens-plot").data.at(-1).y]]"""


@asynccontextmanager
async def open_chromium() -> AsyncIterator[Browser]:
    """A Chromium of its own, closed at the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


class BrowserPerson:
    """One person in one tab. What they do is drawn from their own seed."""

    def __init__(self, name: str, url: str, notes: Notes, shared: list[str], number: int = 0):
        self.name, self.url, self.notes, self.shared = name, url, notes, shared
        self._random = random.Random(f"browser {number}")
        self._dots = " ." * (number + 1)  # so that nobody else asks the same
        self._number = number
        self._words: set[str] = set()
        self._page: Page | None = None
        self._sent: Asked | None = None  # by the page: what a permalink filled in the form goes along

    async def live(self, until: float, think_seconds: float) -> None:
        """Do one thing after the other until that moment of the monotonic clock."""
        async with open_chromium() as browser:
            self._page = await browser.new_page()
            self._page.set_default_timeout(TIMEOUT_MILLISECONDS)
            self._page.on("request", self._overhear)
            self._page.on("pageerror", lambda error: self.notes.errors.append(f"{self.name}, on the page: {error}"))
            await self.do("first visit")
            while time.monotonic() < until:
                await self.do(self._random.choices([*HABITS], [*HABITS.values()])[0])
                await asyncio.sleep(self._random.uniform(0.5, 1.5) * think_seconds)

    async def do(self, what: str) -> None:
        """Do it and note how long it took, or what went wrong."""
        started = time.monotonic()
        try:
            await getattr(self, what.replace(" ", "_"))()
        except (Error, Unexpected) as error:
            self.notes.errors.append(f"{self.name}, {what}: {type(error).__name__}: {error}"[:300])
        else:
            self.notes.seconds.setdefault(PREFIX + what, []).append(time.monotonic() - started)

    async def first_visit(self) -> None:
        await self._page.goto(self.url)
        await self._page.wait_for_selector(".lens-chart[data-drawn]", timeout=180_000)  # scripts are compiled
        await self._see()

    async def permalink(self) -> None:
        capture = self._random.choice(self.shared)
        await self._page.goto(f"{self.url}/?capture={capture}")
        await self._page.wait_for_selector(f'.lens-chart[data-drawn^="{capture}:"]')
        await self._see()

    async def ask(self) -> None:
        index = self._random.randrange(len(SAMPLES.pictures))
        words = self._new_words("is there a {} {}?" + self._dots)
        await self._page.get_by_role("radio", name="Understand").check(force=True)
        await self._page.locator(".lens-samples button").nth(index).click()
        await self._run("#lens-question", "#lens-ask", words)
        await self._see(self._sent)

    async def draw(self) -> None:
        words = self._new_words("a {} {}" + self._dots)
        await self._page.get_by_role("radio", name="Draw").check(force=True)
        await self._run("#lens-prompt", "#lens-draw", words)
        await self._see(self._sent)

    async def definition(self) -> None:
        drawn = (await self._page.get_attribute(".lens-chart", "data-drawn")).partition(":")[2]
        other = self._random.choice([one.value for one in Definition if one.value != drawn])
        await self._page.get_by_role("radio", name=other, exact=True).first.click()
        await self._page.wait_for_selector(f'.lens-chart[data-drawn$=":{other}"]')
        await self._see()

    async def library(self) -> None:
        await self._page.get_by_role("tab", name="Library").click()
        await self._page.wait_for_selector(".lens-library:visible, #lens-library:visible")
        await self._page.get_by_role("tab", name="Explore").click()
        await self._page.wait_for_selector(".lens-chart:visible")

    async def _run(self, box: str, button: str, words: str) -> None:
        before = await self._page.get_attribute(".lens-chart", "data-drawn")
        await self._page.fill(f"{box} textarea", words)
        await self._page.click(button)
        await self._page.wait_for_function(_NEWLY_DRAWN, arg=before)

    def _overhear(self, request: Request) -> None:
        if request.url.endswith("/lens/run"):
            self._sent = Asked.from_form(json.loads(request.post_data))

    async def _see(self, asked: Asked | None = None) -> None:
        """Note which capture the page names, and the line that it drew."""
        drawn, line = await self._page.evaluate(_SEEN)
        capture, _, definition = drawn.partition(":")
        self.notes.results.append(Result(self.name, id_of(capture), {definition: line}, asked))

    def _new_words(self, form: str) -> str:
        names = [(c, s) for c in COLOURS for s in SHAPES]
        for _ in range(100):
            words = form.format(*self._random.choice(names)) + " ." * self._random.randrange(20) * 3
            if words not in self._words:
                self._words.add(words)
                return words
        raise Unexpected("all words were used up")
