"""Streams work as lines of JSON: each page's work in a thread of its own, ended as soon as nobody listens any more.

Whose turn it is is the queue's to say; a page that hangs up, by Stop or by closing, sets the flag of its work and gives
its place up at once. Knows no model and no card.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request
from starlette.responses import StreamingResponse

from backend.interface import UserError
from backend.people.queue import MOST_WAITING, FairQueue

MAX_BODY_BYTES = 2**20  # a form whose question is far too long still gets told so by the engine
QUIET_SECONDS = 15  # after which an empty line goes out, so that no proxy takes waiting work for dead
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second keeps nginx from holding lines back

Work = Callable[[threading.Event], Iterator[bytes]]  # takes its flag


class Lines:
    """The threads of one route."""

    def __init__(self, queue: FairQueue, name: str):
        self._queue = queue
        self._workers = ThreadPoolExecutor(MOST_WAITING + 8, name)  # a thread each, nearly all of them asleep

    async def follow(self, start: Work) -> AsyncIterator[bytes]:
        """The lines of one work; when nobody listens any more, Starlette closes this and the work is told to end."""
        loop, lines, flag = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

        def work() -> None:
            try:
                for line in start(flag):
                    loop.call_soon_threadsafe(lines.put_nowait, line)
            finally:
                loop.call_soon_threadsafe(lines.put_nowait, None)

        run = self._workers.submit(contextvars.copy_context().run, work)  # who asks goes along
        try:
            while (line := await next_line(lines)) is not None:
                yield line
        finally:
            run.cancel()  # where it has not begun
            flag.set()
            self._queue.look()  # where it waits for its turn


async def next_line(lines: asyncio.Queue[bytes | None]) -> bytes | None:
    """The next line, or an empty one when there is none for a while."""
    try:
        return await asyncio.wait_for(lines.get(), QUIET_SECONDS)
    except TimeoutError:
        return b"\n"


def respond_with(lines: AsyncIterator[bytes] | Iterator[bytes], status: int = 200) -> StreamingResponse:
    """A response of lines of JSON that no proxy keeps or holds back."""
    return StreamingResponse(lines, status, HEADERS, "application/x-ndjson")


async def read_body(http: Request) -> bytes:
    """The request's body. Raises `UserError` as soon as it is too long."""
    body = b""
    async for chunk in http.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise UserError(f"Expected at most {MAX_BODY_BYTES // 2**20} MiB of text, got more; shorten it.")
    return body
