"""The server's log on stderr: a line of text or of JSON for each event, with the ids of what it belongs to.

Owns the form of a line and the id of a request (`X-Request-ID`: taken over where it is plain, made otherwise, and sent
back). No line holds what people write or what models answer, nor an address' query. Knows no route by its meaning.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.people.person import LOCAL, STRANGER, Person, who_asks

PERSON = "lens.person"  # in a request's scope: who asks, put there by `app.people`
FORMS = ("text", "json")
FIELDS = ("request", "person", "run", "capture", "method", "path", "status", "seconds")  # beside time, level and words
HEADER = "x-request-id"

_PLAIN_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
# What is asked for, not what a page is made of; ids of Gradio's events and sessions are left out of the line.
_NOTED = re.compile(
    r"(.*?)(/lens/(?!plotly)[\w/-]+|/gradio_api/(?:call/\w+|queue/join|upload|run/\w+|api/\w+)|/)/?[\w-]*"
)
_request: ContextVar[str] = ContextVar("request", default="")


def set_up_log(form: str = "text", stream=None) -> None:
    """Have everything that is logged from now on go to stderr, in that form."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.addFilter(add_ids)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def add_ids(record: logging.LogRecord) -> bool:
    """Note which request a line belongs to, and whose, unless it says so itself."""
    if not hasattr(record, "request") and (request := _request.get()):
        record.request = request
    if not hasattr(record, "person") and (person := short(who_asks())):
        record.person = person
    return True


def short(person: Person) -> str:
    """Eight digits of who it is: enough to follow somebody through a log, of no use for being them."""
    return "" if person in (LOCAL, STRANGER) else person.id.rpartition("-")[2][:8]


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, what it belongs to, and a traceback as `error`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{moment}.{record.msecs:03.0f}Z", "level": record.levelname, "logger": record.name}
        line |= {"message": record.getMessage(), **fields_of(record)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """The same for reading."""

    def __init__(self):
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        told = "".join(f" {name}={value}" for name, value in fields_of(record).items())
        return super().formatMessage(record) + told


def fields_of(record: logging.LogRecord) -> dict:
    return {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) not in (None, "")}


class RequestLog:
    """ASGI middleware, the first of all: gives each request its id, and notes how what was asked for ended."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        asked = Headers(scope=scope).get(HEADER, "")
        request, status = asked if _PLAIN_ID.fullmatch(asked) else secrets.token_hex(8), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request
            await send(message)

        token, started = _request.set(request), time.monotonic()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            status = status or 500  # which whoever stands outside makes of it
            raise
        finally:
            note(scope, status, time.monotonic() - started, request)
            _request.reset(token)


def note(scope: Scope, status: int, seconds: float, request: str) -> None:
    """One line on a request; none on the files that a page is made of, unless one failed."""
    found = _NOTED.fullmatch(scope["path"])
    if not found and status < 500:
        return
    about = {"method": scope["method"], "path": found[2] if found else "…", "status": status}
    about |= {"seconds": round(seconds, 3), "request": request, "person": short(scope.get(PERSON, LOCAL))}
    logging.getLogger("app.request").log(
        logging.ERROR if status >= 500 and status != 503 else logging.INFO, "request", extra=about
    )
