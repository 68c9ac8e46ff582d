"""The views' data: `lens/closer/<view>?capture=ID&with=ID&definition=…` → JSON. Read-only; a source may run a model.

What cannot be shown is `{"error": sentence}` with a status of 4xx. Knows the registry of views and the store, no view.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from app.closer.asked import parse_asked
from app.closer.registry import READERS, Read
from app.words import BROKEN
from backend.comparison import Choice, Comparables
from backend.interface import UserError
from backend.kept.captures import Capture
from backend.kept.unpacked import Unpacked

logger = logging.getLogger(__name__)

CLOSER_URL = "lens/closer"
PARTNERS = "partners"


class Closer:
    """Answers the route for all open pages."""

    def __init__(self, things: Comparables, readers: dict[str, Read] = READERS, unpacked: Unpacked | None = None):
        """`unpacked` is shared with whatever else opens captures."""
        self._things, self._readers = things, readers
        self._unpacked = Unpacked(things.store) if unpacked is None else unpacked

    async def respond(self, request: Request) -> Response:
        """One view's data, or one sentence."""
        view, query = request.path_params["view"], dict(request.query_params)
        try:
            return answer(await run_in_threadpool(self.read, view, query))
        except UserError as error:
            return answer({"error": str(error)}, 404 if "is stored here" in str(error) else 400)
        except Exception:
            logger.exception("a closer view could not be shown")
            return answer({"error": BROKEN}, 500)

    def read(self, view: str, query: dict[str, str]) -> dict[str, Any]:
        """The data of a view. Raises `UserError`."""
        if view == PARTNERS:
            return {"partners": self.partners(query.get("capture", ""), query.get("with", ""))}
        if view not in self._readers:
            raise UserError(f"Expected a view among {', '.join(self._readers)}, got “{view[:20]}”; reload the page.")
        return self._readers[view](parse_asked(query, self.find))

    def find(self, capture_id: str) -> Capture:
        """A stored capture by its id or link. Raises `UserError`."""
        return self._unpacked.get(capture_id)

    def partners(self, capture_id: str, chosen: str) -> list[dict[str, Any]]:
        """What a capture can be compared with: the recent ones but itself, and the chosen one however old it is."""
        choices = self._things.captures()
        known = f"capture:{chosen}" in {choice.id for choice in choices}
        if chosen and not known and chosen in self._things.store:  # the view says so where it is not
            choices.append(self._things.choice(f"capture:{chosen}"))
        return [_plain(choice) for choice in choices if _own(choice) != capture_id.partition(".")[0]]


def _own(choice: Choice) -> str:
    """The id of a capture, without what opens it for others."""
    return choice.id.partition(":")[2].partition(".")[0]


def _plain(choice: Choice) -> dict[str, Any]:
    return {
        "id": choice.id.partition(":")[2],
        "name": choice.name,
        "about": choice.about,
        "task": choice.tasks[0].value,
    }


def answer(content: dict[str, Any], status: int = 200) -> Response:
    """A JSON answer that no proxy keeps: a capture may be deleted."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(body, status, headers, "application/json")
