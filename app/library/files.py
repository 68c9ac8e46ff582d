"""The route that hands out files of the library: `lens/export?ids=capture:…,run:…`. Knows no component of the page."""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.words import BROKEN
from backend.interface import UserError
from backend.kept.library_files import LibraryFiles

logger = logging.getLogger(__name__)

LONGEST_IDS = 4000


def export_route(files: LibraryFiles) -> Callable[[Request], Response]:
    """What answers the route: a file to save, or one sentence with status 400."""

    async def respond(request: Request) -> Response:
        ids = request.query_params.get("ids", "")[:LONGEST_IDS]
        try:
            file = await run_in_threadpool(files.export, [one for one in ids.split(",") if one])
        except UserError as error:
            return PlainTextResponse(str(error), 400)
        except Exception:
            logger.exception("a file could not be exported")
            return PlainTextResponse(BROKEN, 500)
        headers = {
            "Content-Disposition": f'attachment; filename="{file.name}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(file.content, media_type=file.media_type, headers=headers)

    return respond
