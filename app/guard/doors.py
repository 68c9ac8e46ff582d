"""Which addresses answer at all, and how much may be sent to each: Gradio has some eighty, this page needs twenty.

Among those that stay closed are the ones that read files of the server's, fetch other addresses, run ffmpeg, edit the
program, or enlarge an icon to any size. Bodies are counted as they come, whatever they say of their length. Pure ASGI,
so streams pass untouched. Knows no component; what is in a body is for `payloads` to say.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette._utils import get_route_path
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.guard.payloads import read_payload
from app.guard.uploads import Allowance
from app.words import BROKEN
from backend.finetuning.datasets import MAX_ROWS_BYTES
from backend.finetuning.image_zips import MAX_ARCHIVE_BYTES
from backend.interface import UserError
from backend.people.person import who_asks

logger = logging.getLogger(__name__)

MAX_UPLOAD_BYTES = MAX_ROWS_BYTES + MAX_ARCHIVE_BYTES + 2**20  # the two files of a data set, sent at once
MAX_JSON_BYTES = 16 * 2**20  # views travel back and forth; the largest seen was half a MiB
MAX_FORM_BYTES = 2**16
IDLE_SECONDS = 60  # between two pieces of a body

_API = "/gradio_api"
_READ = frozenset({"GET", "HEAD"})
_WRITE = frozenset({"POST"})


@dataclass(frozen=True)
class Door:
    """Addresses that answer. `kind`: "read", "form", "json", "run" (JSON, answered at once), "upload" or "own"."""

    paths: str  # a regular expression for the whole path
    kind: str

    @property
    def methods(self) -> frozenset[str] | None:
        return {"read": _READ, "own": None}.get(self.kind, _WRITE)

    @property
    def limit(self) -> int:
        limits = {"read": 0, "form": MAX_FORM_BYTES, "upload": MAX_UPLOAD_BYTES}
        return limits.get(self.kind, MAX_JSON_BYTES)


# What the page and gradio_client use. Signing in with Hugging Face is a redirect out and one back.
GRADIO = (
    Door(r"/|/(config|favicon\.ico|robots\.txt|theme\.css|manifest\.json|logout)/?", "read"),
    Door(r"/(assets|static|svelte)/.+|/login/(huggingface|callback)", "read"),
    Door(rf"{_API}/(user|token|app_id|info|login_check|startup-events|theme\.css|queue/status)/?", "read"),
    Door(rf"{_API}/(queue/data|upload_progress|heartbeat/[^/]+|call/[^/]+/[^/]+)", "read"),
    Door(r"/login/?", "form"),
    Door(rf"{_API}/(queue/join|cancel|reset/?|component_server/?|call/[^/]+/?)", "json"),
    Door(rf"{_API}/(run|api)/[^/]+/?", "run"),
    Door(rf"{_API}/upload", "upload"),
)


class Doors:
    """ASGI middleware of a Gradio app. `own` are regular expressions of paths that the page adds itself."""

    def __init__(self, app: ASGIApp, own: Iterable[re.Pattern[str]], allowance: Allowance):
        self.app = app
        self.allowance = allowance
        doors = [(re.compile(door.paths), door) for door in GRADIO]
        self.doors = doors + [(pattern, Door(pattern.pattern, "own")) for pattern in own]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        door = self._door(get_route_path(scope))
        if door is None:
            return await say("There is nothing at this address; go back to the page.", 404)(scope, receive, send)
        if door.methods is not None and scope["method"] not in door.methods:
            allow = {"Allow": ", ".join(sorted(door.methods))}
            text = f"Expected {allow['Allow']} at this address, got {scope['method'][:20]}; go back to the page."
            return await PlainTextResponse(text, 405, allow)(scope, receive, send)
        await _Passage(self, door, scope, receive, send).go()

    def _door(self, path: str) -> Door | None:
        return next((door for pattern, door in self.doors if pattern.fullmatch(path)), None)


class _Passage:
    """One request on its way in and its answer on its way out."""

    def __init__(self, doors: Doors, door: Door, scope: Scope, receive: Receive, send: Send):
        self.doors, self.door, self.scope = doors, door, scope
        self._receive, self._send = receive, send
        self._got, self._complete, self._started = 0, False, False
        self._refusal: _Refused | None = None
        self._held: Message | None = None  # the start of an answer whose status hangs on its body

    async def go(self) -> None:
        try:
            receive = self.receive
            if self.door.kind == "upload":
                self.doors.allowance.check(who_asks().id)
            elif self.door.kind in ("json", "run"):
                receive = await self._read_json()
            await self.doors.app(self.scope, receive, self.send)
            if self._refusal is not None:
                raise self._refusal
        except _Refused as refused:
            await self._say(str(refused), refused.status)
        except UserError as error:
            await self._say(str(error), 429 if self.door.kind == "upload" else 422)
        except Exception as error:
            if not isinstance(error, MultiPartException):
                logger.exception("a request failed")
            refused = self._refusal or _Refused(BROKEN, 500)
            await self._say(str(refused), refused.status)

    # --- in ---

    async def receive(self) -> Message:
        """The next piece of the body, counted; after the last one whatever the server says."""
        if self._complete:
            return await self._receive()
        message = await self._next_piece()
        if message["type"] != "http.request":
            self._stop(_Refused("The request was cut off before its end; send it again.", 400))
        self._got += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._got > self.door.limit:
            most = f"{self.door.limit / 2**20:,.4g} MiB"
            self._stop(_Refused(f"Expected at most {most} in this request, got more; send less at once.", 413))
        return message

    async def _next_piece(self) -> Message:
        try:
            return await asyncio.wait_for(self._receive(), IDLE_SECONDS)
        except TimeoutError:
            self._stop(_Refused(f"Expected the request's body, got nothing for {IDLE_SECONDS} s; send it again.", 408))

    def _stop(self, refused: _Refused) -> NoReturn:
        """End the reading. Gradio removes what it has written so far only for the parser's own error."""
        self._refusal = refused
        raise MultiPartException(str(refused)) if self.door.kind == "upload" else refused

    async def _read_json(self) -> Receive:
        """Read and check the whole body; what is handed on is that very body."""
        body = bytearray()
        while not self._complete:
            body += (await self.receive()).get("body", b"")
        check_call(self.scope, read_payload(bytes(body)))
        pieces = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return pieces.pop() if pieces else await self._receive()

        return replay

    # --- out ---

    async def send(self, message: Message) -> None:
        if self._refusal is not None:
            return  # the answer is ours
        if self.door.kind == "upload" and message["type"] == "http.response.body":
            self._note_upload(message.get("body", b""))
        if message["type"] == "http.response.start":
            self._started = True
            if self.door.kind == "run" and message["status"] == 500:
                self._held = message
                return
        if self._held is not None:
            start, self._held = self._held, None
            await self._send({**start, "status": 400} if _is_refusal(message.get("body", b"")) else start)
        await self._send(message)

    def _note_upload(self, body: bytes) -> None:
        try:
            files = json.loads(body)
        except ValueError:
            return
        if isinstance(files, list):
            self.doors.allowance.note(who_asks().id, len(files), self._got)

    async def _say(self, text: str, status: int) -> None:
        if not self._started:
            answer = refuse(text) if status == 422 else say(text, status)
            await answer(self.scope, self._receive, self._send)


class _Refused(Exception):
    """A request that goes no further, and the status that says so."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


def say(text: str, status: int) -> Response:
    return PlainTextResponse(text, status)


def refuse(text: str) -> Response:
    """An answer in the form of Gradio's own checks, so that its clients show the sentence."""
    told = {"__type__": "validate", "is_valid": False, "parameter_name": "request", "message": text}
    return JSONResponse({"detail": [told], "error": text}, 422)


def check_call(scope: Scope, payload: dict[str, Any]) -> None:
    """Raise `_Refused` for a function or component that this app does not have: Gradio would fall over its number."""
    blocks = scope["app"].get_blocks()
    route, *name = get_route_path(scope).removeprefix(_API).strip("/").split("/")
    if route == "component_server":
        known = payload.get("component_id") in blocks.blocks and {"fn_name", "session_hash", "data"} <= payload.keys()
    elif route == "call" or (route in ("run", "api") and payload.get("fn_index") is None):
        known = name[0] in {fn.api_name for fn in blocks.fns.values() if fn.api_visibility != "private"}
    else:
        known = route == "reset" or payload.get("fn_index") in blocks.fns
    if not known:
        raise _Refused("There is no such endpoint here; /gradio_api/info lists them.", 404)


def _is_refusal(body: bytes) -> bool:
    """Whether Gradio's 500 holds a sentence for the user: then the request was at fault, not the server."""
    try:
        return bool(json.loads(body).get("error"))
    except (ValueError, AttributeError):
        return False
