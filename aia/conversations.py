"""A stranger's file of conversations as training data: rows checked one by one, each picture where it should be.

Owns the form of the file, the checks and the order of rows, which follows from a seed alone. Knows no model or token,
nor how a picture is decoded: whoever loads a file brings a function for that.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aia.data import Sample, Turn, check_index, digest_of, plain_turns
from aia.intensity import Task

MAX_FILE_BYTES = 512 * 2**20
PLACEHOLDER = "<image>"  # where the picture stands in a conversation's text
LINES_NAMED = 3  # bad rows that a message spells out

_TWICE = object()  # key under which a parsed object keeps the name of a key that stands in it twice
_SPACE = re.compile(r"[ \t\r\n]*")
_FORM = '{"image": PATH, "conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}'


@dataclass(frozen=True)
class Row:
    """One good row of a file: where it stands, its picture's place and content, and its words as in `Sample`."""

    line: int  # 1-based
    task: Task
    picture: Path
    picture_sha256: str  # of the file's bytes
    turns: tuple[Turn, ...] = ()
    prompt: str = ""


class BadRow(NamedTuple):
    """A row that cannot be used: its 1-based line (of a JSON list: on which the row begins), and one phrase why."""

    line: int
    problem: str


class DataError(ValueError):
    """A file that cannot be trained on as it is; `bad_rows` names every bad row that was found."""

    def __init__(self, message: str, bad_rows: Iterable[BadRow] = ()) -> None:
        super().__init__(message)
        self.bad_rows = tuple(bad_rows)


class _Problem(Exception):
    """What is wrong with one row, as a phrase."""


class ConversationsData:
    """The rows of a file, each once an epoch, in an order of the task's own that changes with every epoch."""

    def __init__(
        self,
        rows: Sequence[Row],
        seed: int,
        load_picture: Callable[[Path], np.ndarray],
        bad_rows: Iterable[BadRow] = (),
    ) -> None:
        self.bad_rows = tuple(bad_rows)  # those left out
        self._seed, self._load_picture = seed, load_picture
        self._rows = {task: [row for row in rows if row.task == task] for task in Task}
        self._orders: dict[Task, tuple[int, list[int]]] = {}  # of each task's current epoch: its number, the order

    def count(self, task: Task) -> int | None:
        return len(self._rows[task])

    def sample(self, task: Task, index: int) -> Sample:
        check_index(index)
        rows = self._rows[task]
        if not rows:
            raise ValueError(f"expected rows of {task}, got none in this data; set the ratio of {task} to 0")
        epoch, place = divmod(index, len(rows))
        row = rows[self._order(task, epoch)[place]]
        try:
            picture = self._load_picture(row.picture)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"expected the picture of line {row.line} as it was when checked, got {row.picture} ({error}); "
                "put it back, or load the data anew"
            ) from error
        return Sample(task, picture, row.turns, row.prompt)

    def digest(self) -> str:
        """Covers words and pictures' bytes but not where the files lie: a moved folder is the same data."""
        rows = (row for task in Task for row in self._rows[task])
        return digest_of(
            ["conversations", self._seed], ([r.task, r.picture_sha256, r.prompt, plain_turns(r.turns)] for r in rows)
        )

    def _order(self, task: Task, epoch: int) -> list[int]:
        known = self._orders.get(task)
        if known is None or known[0] != epoch:
            order = list(range(len(self._rows[task])))
            random.Random(f"{self._seed}/{task}/epoch {epoch}").shuffle(order)
            known = self._orders[task] = epoch, order
        return known[1]


def load_conversations(
    path: Path, images: Path | None, seed: int, load_picture: Callable[[Path], np.ndarray], skip_bad: bool = False
) -> ConversationsData:
    """Check a file and every picture of it (each is decoded once, so large sets take a while), then serve its rows.

    `load_picture` gives uint8 [H, W, 3] (RGB), or raises ValueError with one sentence. For `images` see
    `check_conversations`. `skip_bad` leaves bad rows out; they are in `bad_rows` of the result.

    Raises: DataError as `check_conversations` does, for any bad row unless `skip_bad`, and if no row is good.
    """
    rows, bad = check_conversations(path, images, load_picture)
    listed = "; ".join(f"line {row.line}: {row.problem}" for row in bad[:LINES_NAMED])
    more = "; …" if len(bad) > LINES_NAMED else ""
    total = len(rows) + len(bad)
    if not total:
        raise DataError(f"expected rows of the form {_FORM} in {path}, got no rows; choose another file")
    if not rows:
        raise DataError(
            f"expected rows of the form {_FORM} in {path}, one per line or in a JSON list, got {total} rows, all bad "
            f"({listed}{more}); correct them",
            bad,
        )
    if bad and not skip_bad:
        raise DataError(
            f"expected only good rows in {path}, got {len(bad)} bad of {total} ({listed}{more}); "
            "correct them, or say that the good rows are enough",
            bad,
        )
    return ConversationsData(rows, seed, load_picture, bad)


def check_conversations(
    path: Path, images: Path | None, check_picture: Callable[[Path], object]
) -> tuple[list[Row], list[BadRow]]:
    """Read a file of conversations: its good rows and its bad ones, each in the file's order.

    The file is a JSON list of rows or has one row per line (always, if its name ends in .jsonl). Paths of pictures are
    relative to `images` (None: the file's folder) and must stay inside it. `check_picture` raises ValueError with a
    sentence on a picture that cannot be used; every picture is checked once, however many rows share it.

    Raises: DataError for a file or folder that cannot be read, a file that is too large, a JSON list broken as text.
    """
    values, folder = _read_values(Path(path)), Path(path).parent if images is None else Path(images)
    if not os.path.isdir(folder):
        raise DataError(f"expected a folder of pictures, got {folder} (no such folder); choose another")
    home, try_picture = folder.resolve(), cache(lambda picture: _try_picture(picture, check_picture))
    good, bad = [], []
    for line, value in values:
        try:
            good.append(_read_row(line, value, home, try_picture))
        except _Problem as problem:
            bad.append(BadRow(line, str(problem)))
    return good, bad


def named_pictures(path: Path) -> set[str]:
    """All texts that rows give as their image, good rows or not. Raises: DataError as `check_conversations` does."""
    names = (value.get("image") for _, value in _read_values(Path(path)) if isinstance(value, dict))
    return {name for name in names if isinstance(name, str) and name}


# --- a file's values ------------------------------------------------------------------------


def _read_values(path: Path) -> Iterable[tuple[int, object]]:
    """Line and parsed value of each row; a _Problem as value where one line of several is not JSON."""
    data = _read_bytes(path).removeprefix(codecs.BOM_UTF8)
    if path.suffix.lower() == ".jsonl" or not data.lstrip().startswith(b"["):
        return _read_lines(data)
    return _read_list(data, path)


def _read_bytes(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe or a device would block or never end
            raise FileNotFoundError(None, "no such file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise DataError(f"expected a file of conversations, got {path} ({reason}); choose another") from error
    if len(data) > MAX_FILE_BYTES:
        limit = f"{MAX_FILE_BYTES / 2**20:g} MiB"
        raise DataError(f"expected a file of at most {limit}, got more in {path}; split it, or leave rows out")
    return data


def _read_lines(data: bytes) -> Iterator[tuple[int, object]]:
    decoder = _decoder()
    for line, raw in enumerate(data.split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            value = decoder.decode(raw.decode("utf-8"))
        except UnicodeDecodeError:
            value = _Problem("not UTF-8 text")
        except json.JSONDecodeError as error:
            value = _Problem(f"not JSON ({_say(error)})")
        except RecursionError:
            value = _Problem("nested too deeply")
        yield line, value


def _read_list(data: bytes, path: Path) -> list[tuple[int, object]]:
    try:
        return list(_read_items(data.decode("utf-8")))  # whole, so that no picture is decoded for a broken file
    except UnicodeDecodeError as error:
        fault = BadRow(data.count(b"\n", 0, error.start) + 1, "not UTF-8 text")
    except json.JSONDecodeError as error:
        fault = BadRow(error.lineno, f"not JSON ({_say(error)})")
    raise DataError(f"expected a JSON list in {path}, but line {fault.line} is {fault.problem}; correct it", [fault])


def _read_items(text: str) -> Iterator[tuple[int, object]]:
    """Line and value of each item of a JSON list. Raises: JSONDecodeError where the text breaks off from JSON."""
    decoder, line, counted = _decoder(), 1, 0
    at = _skip_space(text, text.index("[") + 1)
    more = text[at : at + 1] != "]"
    while more:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decoder.raw_decode(text, at)
        except RecursionError:
            raise json.JSONDecodeError("nested too deeply", text, at) from None
        yield line, value
        at = _skip_space(text, end)
        more = text[at : at + 1] == ","
        if more:
            at = _skip_space(text, at + 1)
    if text[at : at + 1] != "]":
        raise json.JSONDecodeError("neither a comma nor the list's end after a row", text, at)
    at = _skip_space(text, at + 1)
    if at < len(text):
        raise json.JSONDecodeError("more text after the list's end", text, at)


def _skip_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()


def _decoder() -> json.JSONDecoder:
    """Numbers matter nowhere, so whole ones become floats: Python refuses to parse very long integers."""
    return json.JSONDecoder(object_pairs_hook=_to_dict, parse_int=float)


def _to_dict(pairs: list[tuple[str, object]]) -> dict:
    found: dict = {}
    for key, value in pairs:
        if key in found:
            found[_TWICE] = key
        found[key] = value
    return found


def _say(error: json.JSONDecodeError) -> str:
    return f"{error.msg[0].lower()}{error.msg[1:].rstrip(' :')}, column {error.colno}"


# --- a row ----------------------------------------------------------------------------------


def _read_row(line: int, value: object, folder: Path, try_picture: Callable[[Path], tuple[str, str]]) -> Row:
    if isinstance(value, _Problem):
        raise value
    row = _to_object(value, "the row")
    picture = _find_picture(row, folder)
    texts = _read_texts(row)
    if len(texts) == 2 and texts[1] == PLACEHOLDER:
        task, turns, prompt = Task.GENERATION, (), texts[0]
        if PLACEHOLDER in prompt:
            raise _Problem(f"{PLACEHOLDER} in the prompt of a generation row")
    else:
        task, turns, prompt = Task.UNDERSTANDING, _pair_up(texts), ""
    sha256, problem = try_picture(picture)
    if problem:
        raise _Problem(f"image unreadable: {problem}")
    return Row(line, task, picture, sha256, turns, prompt)


def _to_object(value: object, what: str) -> dict:
    if not isinstance(value, dict):
        raise _Problem(f"{what} is not an object")
    if _TWICE in value:
        raise _Problem(f"{what} holds the key {_show(value[_TWICE])} twice")
    return value


def _find_picture(row: dict, folder: Path) -> Path:
    """Where a row's picture is; `folder` is resolved, and neither the path nor a link may lead out of it."""
    name = row.get("image")
    if name is None or name == "":
        raise _Problem("no image")
    if not isinstance(name, str):
        raise _Problem("the image is not a path as text")
    if Path(name).anchor or ".." in Path(name).parts:
        raise _Problem(f"the image's path leaves the folder: {_show(name)}")
    try:
        picture = (folder / name).resolve()
        inside, there = picture.is_relative_to(folder), picture.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero or half a character, links in a circle
        inside, there = True, False
    if not inside:
        raise _Problem(f"the image's path leaves the folder by a link: {_show(name)}")
    if not there:
        raise _Problem(f"image not found at {_show(name)}")
    return picture


def _try_picture(picture: Path, check: Callable[[Path], object]) -> tuple[str, str]:
    """SHA-256 of the file, and what is wrong with it ("" if nothing)."""
    try:
        check(picture)
        with picture.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), ""
    except (OSError, ValueError) as error:
        return "", str(error) or "no reason given"


def _read_texts(row: dict) -> list[str]:
    """What human and gpt say in turn, bare of white space around it; the first bare of the placeholder too."""
    said = row.get("conversations")
    if not isinstance(said, list) or not said:
        raise _Problem("no conversations")
    texts = [_read_text(number, turn) for number, turn in enumerate(said, start=1)]
    if len(texts) % 2:
        raise _Problem(f"turn {len(texts)} has no answer")
    if len(texts) > 2 and PLACEHOLDER in texts[1::2]:
        raise _Problem("a generation row with more than one turn")
    if texts[1] != PLACEHOLDER:
        before, _, after = texts[0].partition(PLACEHOLDER)
        texts[0] = f"{before.rstrip()} {after.lstrip()}".strip()
    for number, text in enumerate(texts, start=1):
        if not text:
            raise _Problem(f"empty {'question' if number % 2 else 'answer'} in turn {number}")
    return texts


def _read_text(number: int, turn: object) -> str:
    turn = _to_object(turn, f"turn {number}")
    who, expected = turn.get("from"), "human" if number % 2 else "gpt"
    if who != expected:
        speaker = _show(who) if isinstance(who, str) else "nobody"
        raise _Problem(f'turn {number} is from {speaker} where "{expected}" is expected')
    text = turn.get("value")
    if not isinstance(text, str):
        raise _Problem(f"turn {number} has no text as its value")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Problem(f"turn {number} holds half a character (a lone surrogate)") from None
    return text.strip()


def _pair_up(texts: list[str]) -> tuple[Turn, ...]:
    for number, text in enumerate(texts, start=1):
        if PLACEHOLDER in text:
            raise _Problem(f"{PLACEHOLDER} in turn {number}; it may stand once, in the first question")
    return tuple(Turn(*pair) for pair in zip(texts[::2], texts[1::2], strict=True))


# --- small things ---------------------------------------------------------------------------


def _show(text: str) -> str:
    """A text in quotes, cut short, without characters that a terminal or a page would trip over."""
    bare = repr(text if len(text) <= 80 else text[:79] + "…")[1:-1]
    return f'"{bare}"'
