"""Who asks, told from a request: an account, or a browser by a cookie of its own. Every handler runs for that person.

Owns the cookie and the middleware that knows it. Knows no password (`backend.people.accounts`) and no rule of who may
see what (`backend.people.person`).

The cookie holds a secret that nobody can guess and no script can read. On a Space the page is in a frame of another
site, where a browser keeps only cookies that are partitioned by that site.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.people.person import LOCAL, STRANGER, Person, asked_by, browser_person

COOKIE = "lens-person"
PERSON = "lens.person"  # in a request's scope
YEAR_SECONDS = 365 * 86_400
GREETED = ("/", "/config")  # what a browser and a program ask for first: there they get their cookie

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


class WhoAsks:
    """ASGI middleware: finds out who asks, and has everything behind it done for that person."""

    def __init__(self, app: ASGIApp, framed: bool = False):
        """`framed`: the page is shown in a frame of another site."""
        self.app, self.framed = app, framed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        request = HTTPConnection(scope)
        secret = request.cookies.get(COOKIE, "")
        if not _SECRET.fullmatch(secret):
            secret = secrets.token_urlsafe(32) if is_first(scope) else ""
            send = self._with_cookie(send, secret, is_secure(request)) if secret else send
        scope[PERSON] = person = browser_person(secret) if secret else STRANGER
        with asked_by(person):
            await self.app(scope, receive, send)

    def _with_cookie(self, send: Send, secret: str, secure: bool) -> Send:
        cookie = f"{COOKIE}={secret}; Path=/; Max-Age={YEAR_SECONDS}; HttpOnly"
        if self.framed:
            cookie += "; SameSite=None; Secure; Partitioned"
        else:
            cookie += "; SameSite=Lax" + ("; Secure" if secure else "")

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.append("set-cookie", cookie)
                headers["cache-control"] = "no-store"  # nobody else may get this answer, and with it the cookie
            await send(message)

        return send_with_cookie


def is_first(scope: Scope) -> bool:
    """Whether a request is what a browser or a program asks for first."""
    path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
    return scope["type"] == "http" and scope["method"] == "GET" and path in GREETED


def is_secure(request: HTTPConnection) -> bool:
    """Whether the browser's side of the connection is encrypted."""
    return request.headers.get("x-forwarded-proto", request.url.scheme).partition(",")[0].strip() in ("https", "wss")


class PeoplesBlocks(gr.Blocks):
    """Blocks whose handlers and endpoints run for the person whose request they answer.

    Gradio runs a queued event outside its request, so the context has to be made anew.
    """

    apart = False  # whether people are told apart

    async def call_function(
        self, block_fn: Any, inputs: Any, iterator: Any = None, requests: Any = None, *rest: Any, **options: Any
    ) -> Any:
        with asked_by(self.person_of(requests[0] if isinstance(requests, list) else requests)):
            return await super().call_function(block_fn, inputs, iterator, requests, *rest, **options)

    def person_of(self, request: Any) -> Person:
        """Who sent a request of Gradio's."""
        scope = getattr(getattr(request, "request", None), "scope", None) or {}
        return scope.get(PERSON, STRANGER) if self.apart else LOCAL
