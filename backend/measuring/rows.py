"""One sample's result: the intensity of every head by every definition; and the file that keeps them, a line each.

A definition is nothing but a choice of key groups, so counting all three costs no second run. The file is append-only:
what a kill cut off is passed over when it is read, and measured again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aia.intensity import Definition, Group, Task
from backend.kept.captures import Capture

DEFINITIONS = tuple(Definition)


@dataclass(frozen=True)
class Row:
    """One sample by its number: kind of prompt, prompt length in tokens, heads float32 [3, L, H] by `DEFINITIONS`.

    Heads are NaN where the answer had no token that was fed back.
    """

    task: Task
    index: int
    kind: str
    tokens: int
    heads: np.ndarray = field(repr=False)

    def intensity(self, definition: Definition) -> np.ndarray:
        """Of each layer, float32 [L]: exactly what `Capture.intensity` says."""
        return self.heads[DEFINITIONS.index(definition)].mean(1)

    @property
    def empty(self) -> bool:
        return bool(np.isnan(self.heads).all())


Rows = Mapping[tuple[Task, int], Row]


def make_row(capture: Capture, index: int, kind: str) -> Row:
    """What a measurement keeps of a capture."""
    heads = np.stack([capture.head_intensity(definition) for definition in DEFINITIONS])
    return Row(capture.task, index, kind, capture.token_groups.count(Group.PROMPT), heads.astype(np.float32))


class RowLog:
    """The file of rows in a folder."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, row: Row) -> None:
        """Add a row. Raises `OSError`."""
        plain = {
            "task": row.task,
            "index": row.index,
            "kind": row.kind,
            "tokens": row.tokens,
            "shape": row.heads.shape,
            "heads": base64.b64encode(row.heads.astype("<f4").tobytes()).decode(),
        }
        with self.path.open("ab+") as file:
            if file.tell() and not _ends_whole(file):
                file.write(b"\n")  # of a line that a kill cut off
            file.write(json.dumps(plain).encode() + b"\n")

    def read(self) -> dict[tuple[Task, int], Row]:
        """All whole rows by task and number; the first of a number counts, damaged ones are passed over."""
        found: dict[tuple[Task, int], Row] = {}
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            for row in _parse(file):
                found.setdefault((row.task, row.index), row)
        return found


def _ends_whole(file) -> bool:
    file.seek(-1, 2)
    return file.read(1) == b"\n"


def _parse(lines) -> Iterator[Row]:
    for line in lines:
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            plain = json.loads(line)
            values = np.frombuffer(base64.b64decode(plain["heads"], validate=True), "<f4")
            heads = values.astype(np.float32).reshape(plain["shape"])
            if heads.ndim == 3 and len(heads) == len(DEFINITIONS) and heads.size and int(plain["index"]) >= 0:
                yield Row(Task(plain["task"]), int(plain["index"]), str(plain["kind"]), int(plain["tokens"]), heads)
