"""Knock-outs that are kept: what `backend.knockout` found of a capture, a JSON file each, named by what determines it.

Owns their form, and checks it as hostile input. Knows neither models nor pages.
"""

from __future__ import annotations

import hashlib
import json
import logging
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from backend.interface import UserError
from backend.kept.documents import Document, Documents, Plain, alone_with, drop_oldest, now, write_bytes_whole

logger = logging.getLogger(__name__)

MOST_LAYERS = 512
MOST_TOKENS = 2**16
MOST_DRAWS = 16
MOST_KEPT = 1000

Nats = Annotated[list[float], Field(max_length=MOST_TOKENS)]
Whole = Annotated[int, Field(ge=0, lt=2**53)]


class Way(StrEnum):
    """Which rows may not look at the other modality."""

    DIRECT = "direct"  # those that choose the answer's or the drawing's tokens
    ANY = "any"  # all behind the image or the prompt, so that nothing is handed on by the words between


class Settings(Plain):
    """What a knock-out is asked for: layers of a window, rows, random controls and their seed."""

    width: int = Field(ge=1, le=MOST_LAYERS)
    way: Way = Way.DIRECT
    draws: int = Field(3, ge=0, le=MOST_DRAWS)
    seed: Whole = 0


class Control(Plain):
    """Drops when random keys are forbidden instead, mean over tokens: [draws][L windows, then all layers]."""

    keys_per_row: float = Field(ge=0)  # that a row loses, the mean over rows
    others: list[Nats] = Field(min_length=1, max_length=MOST_DRAWS)  # keys of anything else
    fewer_targets: list[Nats] = Field(max_length=MOST_DRAWS)  # as few of the targets; empty where that is all of them


class KnockoutReport(Plain):
    """Log-probabilities in nats, by token and by window of layers, and how far each window makes them drop.

    `tokens`: those scored; `keys`: how many are forbidden, to how many `rows`; `log_probabilities` [n] without a
    knock-out; `drops` [L][n], that minus the same with the window centred on each layer; `all_layers` [n] with all
    layers at once; `likeliest` how many tokens are the likeliest, also under each window and without all layers.
    """

    tokens: list[Annotated[str, Field(max_length=1000)]] = Field(min_length=1, max_length=MOST_TOKENS)
    keys: Annotated[int, Field(ge=1, le=2**24)]
    rows: Annotated[int, Field(ge=1, le=2**24)]
    log_probabilities: Nats
    drops: list[Nats] = Field(min_length=1, max_length=MOST_LAYERS)
    all_layers: Nats
    likeliest: Whole
    window_likeliest: list[Whole] = Field(min_length=1, max_length=MOST_LAYERS)
    all_likeliest: Whole
    controls: Control | None = None

    @model_validator(mode="after")
    def check_shapes(self) -> KnockoutReport:
        if {len(self.log_probabilities), len(self.all_layers), *map(len, self.drops)} != {len(self.tokens)}:
            raise ValueError("every row needs a value for each token")
        if len(self.window_likeliest) != len(self.drops):
            raise ValueError("every window needs a count")
        rows = [] if self.controls is None else [*self.controls.others, *self.controls.fewer_targets]
        if {len(row) for row in rows} - {len(self.drops) + 1}:
            raise ValueError("every control needs a value for each window and all layers")
        if self.controls and len(self.controls.fewer_targets) not in (0, len(self.controls.others)):
            raise ValueError("both controls need as many draws")
        return self


class KeptKnockout(Document):
    kind: Literal["knockout"] = "knockout"
    capture: str = Field(pattern=r"^[0-9a-f]{24}$")
    settings: Settings
    report: KnockoutReport

    @property
    def id(self) -> str:
        """Of what determines it, as a capture's id is, so that it is found before it is computed again."""
        return knockout_id(self.capture, self.settings)


def knockout_id(capture: str, settings: Settings) -> str:
    """16 hexadecimal digits of the capture and what is asked of it."""
    content = json.dumps([capture, settings.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Knockouts(Documents[KeptKnockout]):
    """The last `MOST_KEPT` in one folder. One that is lost costs a computation, so a damaged one is made again."""

    kind, what = KeptKnockout, "knock-out"

    def find(self, capture: str, settings: Settings) -> KnockoutReport | None:
        try:
            return self.get(knockout_id(capture, settings)).report
        except UserError:
            return None

    def save(self, capture: str, settings: Settings, report: KnockoutReport) -> None:
        """Write a report down in place of what was there. A disk that refuses is logged: the result is not lost."""
        document = KeptKnockout(created=now(), capture=capture, settings=settings, report=report)
        try:
            with alone_with(self.folder, f"{self.what}s"):
                write_bytes_whole(self.folder / f"{document.id}.json", document.model_dump_json().encode() + b"\n")
                drop_oldest(self._files(self.folder), MOST_KEPT)
        except UserError as error:
            logger.warning("a knock-out was not kept: %s", error)
