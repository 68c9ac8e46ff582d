"""JSON that clients send to Gradio: read once, within limits, before Gradio acts on anything in it.

Gradio fetches addresses and opens files that a value's `path` names, and looks functions and components up by whatever
number was sent. Owns what is refused. Knows no route and no component of the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from app.guard.uploads import is_upload
from backend.interface import UserError

MOST_LEVELS = 64
LONGEST_NAME = 200  # of a session, an event, a function
_NAMES = ("session_hash", "event_id", "fn_name")
_NUMBERS = ("fn_index", "component_id", "trigger_id")


def read_payload(body: bytes, is_upload: Callable[[str], bool] = is_upload) -> dict[str, Any]:
    """The object in a request's body.

    Raises `UserError` for anything else, for values that JSON does not have, that nest too deep, that no text can hold,
    and for files that were not uploaded.
    """
    try:
        found = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, a number of 5,000 digits
        raise UserError("Expected the request's body as JSON, got something else; send an object.") from error
    if not isinstance(found, dict):
        raise UserError(f"Expected a JSON object, got {type(found).__name__}; send an object.")
    _check_values(found, is_upload)
    _check_names(found)
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_values(found: Any, is_upload: Callable[[str], bool]) -> None:
    """Walk through everything, without recursion."""
    waiting: list[tuple[Any, int]] = [(found, 1)]
    while waiting:
        value, level = waiting.pop()
        if level > MOST_LEVELS:
            raise UserError(
                f"Expected at most {MOST_LEVELS} levels in the request's JSON, got more; send less at once."
            )
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, list):
            waiting += [(inner, level + 1) for inner in value]
        elif isinstance(value, dict):
            _check_file(value, is_upload)
            waiting += [(inner, level + 1) for pair in value.items() for inner in pair]


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError("Expected text, got half a character (a lone surrogate) in it; send whole ones.") from error


def _check_file(value: dict[str, Any], is_upload: Callable[[str], bool]) -> None:
    """What Gradio takes for a file must be an upload."""
    path = value.get("path")
    if isinstance(path, str) and not is_upload(path):
        raise UserError("Expected an uploaded file, got another one; choose the file again.")


def _check_names(found: dict[str, Any]) -> None:
    for name in _NAMES:
        value = found.get(name)
        if value is not None and not (
            isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()
        ):
            raise UserError(f"Expected {name} as a short text, got something else; reload the page.")
    for name in _NUMBERS:
        value = found.get(name)
        if value is not None and not (type(value) is int and 0 <= value < 2**31):
            raise UserError(f"Expected {name} as a whole number, got something else; reload the page.")
    if found.get("batched"):
        raise UserError("Expected one call at a time, got a batch; send them one by one.")
