"""Who asks, told from a request: an account, or a browser by a cookie of its own. Every handler runs for that person.

Owns the cookie and the middleware that knows it. Knows no password (`backend.people.accounts`) and no rule of who may
see what (`backend.people.person`).

The cookie holds a secret that nobody can guess and no script can read. On a Space the page is in a frame of another
site, where a browser keeps only cookies that are partitioned by that site.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.log import PERSON
from backend.people.accounts import Accounts
from backend.people.person import LOCAL, STRANGER, Person, asked_by, browser_person, signed_in

COOKIE = "lens-person"
YEAR_SECONDS = 365 * 86_400
GREETED = ("/", "/config")  # what a browser and a program ask for first: there they get their cookie
OURS, OPEN = "/lens/", "/lens/plotly"  # Gradio asks for a login on its own routes, we on ours; one is a library's
LOG_IN = "Expected somebody who is logged in, got a stranger; open the page and log in."

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


class WhoAsks:
    """ASGI middleware: finds out who asks, and has everything behind it done for that person."""

    def __init__(self, app: ASGIApp, framed: bool = False, accounts: bool = False):
        """`framed`: the page is shown in a frame of another site; `accounts`: nobody is let in without a login."""
        self.app, self.framed, self.accounts = app, framed, accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        request = HTTPConnection(scope)
        person = account_of(request) if self.accounts else oauth_person(scope)
        if self.accounts and person is None and needs_login(scope):
            return await PlainTextResponse(LOG_IN, 401)(scope, receive, send)
        if person is None and not self.accounts:
            person, send = self._browser(request, scope, send)
        scope[PERSON] = person or STRANGER
        with asked_by(scope[PERSON]):
            await self.app(scope, receive, send)

    def _browser(self, request: HTTPConnection, scope: Scope, send: Send) -> tuple[Person, Send]:
        """The person whose cookie a browser shows; where it has none yet, it gets one with the first answer."""
        secret = request.cookies.get(COOKIE, "")
        if not _SECRET.fullmatch(secret):
            secret = secrets.token_urlsafe(32) if is_first(scope) else ""
            send = self._with_cookie(send, secret, is_secure(request)) if secret else send
        return browser_person(secret) if secret else STRANGER, send

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


def path_of(scope: Scope) -> str:
    """The path below the one that a proxy serves the page under."""
    return scope["path"].removeprefix(scope.get("root_path", "")) or "/"


def is_first(scope: Scope) -> bool:
    """Whether a request is what a browser or a program asks for first."""
    return scope["type"] == "http" and scope["method"] == "GET" and path_of(scope) in GREETED


def needs_login(scope: Scope) -> bool:
    """Whether a route is one of ours that shows or does something for somebody."""
    path = path_of(scope)
    return path.startswith(OURS) and not path.startswith(OPEN)


def account_of(request: HTTPConnection) -> Person | None:
    """Who logged in, by the token that Gradio's login gave the browser; None for nobody."""
    app = request.scope.get("app")
    tokens, cookie = getattr(app, "tokens", {}), getattr(app, "cookie_id", "")
    shown = (request.cookies.get(f"access-token{kind}-{cookie}") for kind in ("", "-unsecure"))
    name = next((tokens[token] for token in shown if token in tokens), None)
    return signed_in(name) if name else None


def oauth_person(scope: Scope) -> Person | None:
    """Who signed in with Hugging Face, by the signed session that Gradio's OAuth routes keep; None for nobody."""
    info = (scope.get("session") or {}).get("oauth_info") or {}
    about, until = info.get("userinfo") or {}, info.get("expires_at")
    if not about.get("sub") or (until is not None and until < time.time()):
        return None
    return Person(signed_in(f"huggingface {about['sub']}").id, str(about.get("preferred_username") or ""))


def login_check(accounts: Accounts) -> Callable[[str, str], Any]:
    """What Gradio's login asks. A password takes its time to check: not in the thread that answers everybody."""

    async def check(name: str, password: str) -> bool:
        return await run_in_threadpool(accounts.check, name, password)

    return check


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
