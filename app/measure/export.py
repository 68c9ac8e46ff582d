"""A measurement as files: the curves shown as CSV, and the report as JSON, as the command line writes it.

Knows groups of samples and reports; no page and no chart.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.measure.groups import Group
from app.measure.shelf import Shelf
from app.words import BROKEN
from backend.interface import UserError
from backend.kept.measurements import Measurement

logger = logging.getLogger(__name__)

COLUMNS = ("measurement", "task", "definition", "part", "samples", "layer", "mean", "standard deviation")
LEFT_OUT = ("data",)  # fields that the command line leaves out where they say nothing


def curves_csv(groups: Sequence[Group]) -> str:
    """A row for each layer of each curve; an empty deviation is that of one sample."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in groups:
        for layer, mean in enumerate(one.mean, start=1):
            std = "" if one.std is None else f"{one.std[layer - 1]:.6f}"
            told = (_harmless(one.name), one.task.value, one.definition.value, _harmless(one.label or "all"), one.n)
            writer.writerow([*told, layer, f"{mean:.6f}", std])
    return out.getvalue()


def _harmless(text: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def plain_report(measurement: Measurement) -> dict[str, Any]:
    """The report as `python -m app measure --json` writes it; tasks that were not measured are null."""
    plain = measurement.report.model_dump(mode="json")
    return {name: value for name, value in plain.items() if not (name in LEFT_OUT and value is None)}


def data_route(shelf: Shelf) -> Callable[[Request], Response]:
    """What answers `lens/measurement?id=…`: the report, or one sentence with status 404."""

    async def respond(request: Request) -> Response:
        own = request.query_params.get("id", "")[:40]
        try:
            found = (await run_in_threadpool(shelf.find, own)).measurement
            if found is None:
                raise UserError("Expected a finished measurement, got one that is not; wait for its end.")
        except UserError as error:
            return PlainTextResponse(str(error), 404)
        except Exception:
            logger.exception("a measurement could not be handed out")
            return PlainTextResponse(BROKEN, 500)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return JSONResponse(plain_report(found), headers=headers)

    return respond
