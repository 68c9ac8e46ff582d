"""Answers that are the same for everybody, kept in memory and compressed: the page and the scripts it is made of.

Gradio writes the page anew for every visit (half a megabyte, some 30 ms) and sends it as it is; scripts it compresses
for every visitor. Pure ASGI, innermost: who asks and what they may was settled before. Where the page hangs on who is
logged in, it is not kept. What is kept is made from nothing but its key: no other header and no query of a stranger's
first request gets into what all others are shown. Knows no content.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass

import brotli
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.people import path_of

PAGE = re.compile(r"/|/config/?")
FILES = re.compile(r"/(assets|static|svelte)/.+\.(js|css|svg)|/theme\.css|/lens/plotly[^/]*\.js")
MOST_BYTES = 32 * 2**20  # of all kept answers; what was not asked for longest goes first
LARGEST_BYTES = 8 * 2**20  # of one, before it is compressed
LONGEST_ADDRESS = 300  # of a header that the page hangs on
SMALLEST_BYTES = 500  # that are worth compressing
QUALITY = 6  # of brotli: 5 MB take half a second, once
ADDRESS = ("host", "x-forwarded-host", "x-forwarded-proto")  # what the page's own address is made of
CONDITIONS = ("range", "if-none-match", "if-modified-since")


@dataclass(frozen=True)
class Answer:
    """What is sent: headers but for the length, and the body."""

    headers: list[tuple[bytes, bytes]]
    body: bytes
    tag: bytes


class KeptAnswers:
    """ASGI middleware of a Gradio app."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._kept: OrderedDict[tuple, Answer] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = self._key(scope)
        if key is None:
            return await self.app(scope, receive, send)
        answer = self._find(key)
        if answer is None:
            caught = _Caught()
            await self.app(_without_the_rest(scope), receive, caught.send)
            if not caught.is_same_for_all:
                return await caught.pass_on(send)
            answer = await run_in_threadpool(compress, caught, key[0])
            self._keep(key, answer)
        await _answer(answer, Headers(scope=scope), send)

    def _key(self, scope: Scope) -> tuple | None:
        """What an answer hangs on, its encoding first; None for one that is not to be kept."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        path, headers = path_of(scope), Headers(scope=scope)
        encoding = next((e for e in ("br", "gzip") if e in headers.get("accept-encoding", "")), "")
        if PAGE.fullmatch(path):
            app = scope["app"]
            about = tuple(headers.get(name, "") for name in ADDRESS)
            if app.auth is not None or app.auth_dependency is not None or max(map(len, about)) > LONGEST_ADDRESS:
                return None
            return encoding, path, scope["scheme"], scope.get("root_path", ""), *about
        if FILES.fullmatch(path) and encoding and not any(name in headers for name in CONDITIONS):
            return encoding, path
        return None

    def _find(self, key: tuple) -> Answer | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: tuple, answer: Answer) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = answer
            self._bytes += len(answer.body)
            while self._bytes > MOST_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1].body)


def _without_the_rest(scope: Scope) -> Scope:
    """The request as far as its key tells it: Gradio takes more of the page's address from headers and the query."""
    headers = Headers(scope=scope)
    told = [(name.encode(), headers[name].encode("latin-1")) for name in ADDRESS if name in headers]
    return {**scope, "query_string": b"", "headers": told}


class _Caught:
    """An answer on its way out, held until it is whole."""

    def __init__(self) -> None:
        self.start: Message = {}
        self.pieces: list[Message] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.pieces.append(message)

    @property
    def headers(self) -> Headers:
        return Headers(raw=self.start.get("headers", []))

    @property
    def body(self) -> bytes:
        return b"".join(piece.get("body", b"") for piece in self.pieces)

    @property
    def is_same_for_all(self) -> bool:
        good = self.start.get("status") == 200 and all(p["type"] == "http.response.body" for p in self.pieces)
        own = "set-cookie" in self.headers or "content-encoding" in self.headers
        return good and not own and sum(len(piece.get("body", b"")) for piece in self.pieces) <= LARGEST_BYTES

    async def pass_on(self, send: Send) -> None:
        for message in (self.start, *self.pieces):
            if message:
                await send(message)


def compress(caught: _Caught, encoding: str) -> Answer:
    """The answer as it is sent from now on."""
    body, left_out = caught.body, {b"content-length"}
    added = [(b"vary", b"Accept-Encoding")]
    tag = b'W/"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
    if "cache-control" not in caught.headers and "etag" not in caught.headers:
        added += [(b"etag", tag), (b"cache-control", b"no-cache")]  # kept by browsers, asked about each time
    if encoding and len(body) >= SMALLEST_BYTES:
        body = brotli.compress(body, quality=QUALITY) if encoding == "br" else gzip.compress(body)
        added.append((b"content-encoding", encoding.encode()))
        left_out |= {b"accept-ranges"}
    headers = [(name, value) for name, value in caught.start["headers"] if name.lower() not in left_out]
    return Answer(headers + added, body, tag)


async def _answer(answer: Answer, asked: Headers, send: Send) -> None:
    known = asked.get("if-none-match", "").encode("latin-1")
    status, body = (304, b"") if answer.tag in known else (200, answer.body)
    headers = [*answer.headers, (b"content-length", b"%d" % len(body))] if status == 200 else answer.headers
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
