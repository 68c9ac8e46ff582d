"""Knock-outs that are kept: what `backend.knockout` found of a capture, a JSON file each, named by what determines it.

Owns their form, and checks it as hostile input. Knows neither models nor pages.
"""

from __future__ import annotations

import hashlib
import json
import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from backend.interface import UserError
from backend.kept.documents import Document, Documents, Plain, alone_with, drop_oldest, now, write_bytes_whole

logger = logging.getLogger(__name__)

MOST_LAYERS = 512
MOST_TOKENS = 2**16
MOST_DRAWS = 16
MOST_KEPT = 1000  # of each kind

Nats = Annotated[list[float], Field(max_length=MOST_TOKENS)]
Whole = Annotated[int, Field(ge=0, lt=2**53)]


def default_width(layers: int) -> int:
    """Layers of a window unless told: a fifth of all, as in Geva et al. 2023 (10 of 48), at least one."""
    return max(1, round(layers / 5))


def window_layers(layers: int, width: int) -> list[range]:
    """The layers of each window, from 0: those of `aia.knockout.layer_windows`, one window centred on each layer."""
    return [range(max(0, at - (width - 1) // 2), min(layers, at + width // 2 + 1)) for at in range(layers)]


class Way(StrEnum):
    """Which rows may not look at the other modality."""

    DIRECT = "direct"  # those that choose the answer's or the drawing's tokens
    ANY = "any"  # all behind the image or the prompt, so that the words between hand nothing on


class Settings(Plain):
    """What a knock-out is asked for: layers of a window, rows, random controls and their seed."""

    width: int = Field(ge=1, le=MOST_LAYERS)
    way: Way = Way.DIRECT
    draws: int = Field(3, ge=0, le=MOST_DRAWS)
    seed: Whole = 0


class Cut(Plain):
    """One set of layers and the rows that lose them: what is made again without."""

    way: Way
    layers: list[Annotated[int, Field(ge=0, lt=MOST_LAYERS)]] = Field(min_length=1, max_length=MOST_LAYERS)  # from 0


class HeadSettings(Plain):
    """What a knock-out of single heads is asked for: which rows lose the other modality, and in which heads.

    With `keep` in all heads but one: what that one reads by itself. Else in one head: what no other head makes up for.
    """

    way: Way = Way.DIRECT
    keep: bool = False


class HeadReport(Plain):
    """What each head alone is worth: log-probabilities in nats, summed over tokens.

    `tokens`: how many were scored; `log_probability` of all of them without a knock-out; `drops` [L][H], that minus
    the same with one head cut, or all others; `all_heads` the same with all of them cut; `likeliest` how many tokens
    are the likeliest, and `head_likeliest` [L][H] then.
    """

    tokens: int = Field(ge=1, le=MOST_TOKENS)
    log_probability: float
    drops: list[Nats] = Field(min_length=1, max_length=MOST_LAYERS)
    all_heads: float
    likeliest: Whole
    head_likeliest: list[list[Whole]] = Field(min_length=1, max_length=MOST_LAYERS)

    @model_validator(mode="after")
    def check_shapes(self) -> HeadReport:
        if len({len(row) for row in [*self.drops, *self.head_likeliest]}) != 1 or not self.drops[0]:
            raise ValueError("every layer needs as many heads")
        if len(self.head_likeliest) != len(self.drops):
            raise ValueError("every head needs a count")
        return self


class Control(Plain):
    """Drops in nats, summed over tokens, with random keys forbidden instead: [draws][L windows, then all layers]."""

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
    keys: int = Field(ge=1, lt=2**24)
    rows: int = Field(ge=1, lt=2**24)
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

    @property
    def total(self) -> float:
        """Log-probability of all tokens together."""
        return sum(self.log_probabilities)

    @property
    def total_drops(self) -> list[float]:
        """By window, summed over tokens."""
        return [sum(row) for row in self.drops]


class Remade(Plain):
    """What a model makes with layers knocked out, everything else alike.

    `text` of an answer; `picture` of a drawing as base64 of a PNG, and `changed`, in raster order, whether each patch
    has another code than in the capture (None where the capture does not say which it had).
    """

    text: str = Field("", max_length=2**20)
    picture: str = Field("", pattern=r"^[A-Za-z0-9+/=]*$")
    changed: list[bool | None] = Field([], max_length=MOST_TOKENS)


class AboutCapture(Document):
    """A document whose id is that of what determines it, as a capture's is: it is found before it is made again."""

    capture: str = Field(pattern=r"^[0-9a-f]{24}$")

    @property
    def id(self) -> str:
        return content_id(self.capture, self.asked)

    @property
    def asked(self) -> Plain:
        """What was asked of the capture."""
        raise NotImplementedError


class KeptKnockout(AboutCapture):
    kind: Literal["knockout"] = "knockout"
    settings: Settings
    report: KnockoutReport

    @property
    def asked(self) -> Settings:
        return self.settings


class KeptHeads(AboutCapture):
    kind: Literal["heads"] = "heads"
    settings: HeadSettings
    report: HeadReport

    @property
    def asked(self) -> HeadSettings:
        return self.settings


class KeptRemade(AboutCapture):
    kind: Literal["remade"] = "remade"
    cut: Cut
    remade: Remade

    @property
    def asked(self) -> Cut:
        return self.cut


def content_id(capture: str, asked: Plain) -> str:
    """16 hexadecimal digits of a capture and what is asked of it."""
    content = json.dumps([capture, asked.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


Kind = TypeVar("Kind", bound=AboutCapture)


class _AboutCaptures(Documents[Kind]):
    """The last `MOST_KEPT`. One that is lost costs a computation, so a damaged one is made again."""

    def find(self, capture: str, asked: Plain) -> Kind | None:
        try:
            return self.get(content_id(capture, asked))
        except UserError:
            return None

    def save(self, document: Kind) -> None:
        """Write a document in place of what was there. A disk that refuses is logged: the result is not lost."""
        try:
            with alone_with(self.folder, f"{self.what}s"):
                write_bytes_whole(self.folder / f"{document.id}.json", document.model_dump_json().encode() + b"\n")
                drop_oldest(self._files(self.folder), MOST_KEPT)
        except UserError as error:
            logger.warning("a %s was not kept: %s", self.what, error)


class _Reports(_AboutCaptures[KeptKnockout]):
    kind, what = KeptKnockout, "knock-out"


class _Heads(_AboutCaptures[KeptHeads]):
    kind, what = KeptHeads, "knock-out of heads"


class _Remakes(_AboutCaptures[KeptRemade]):
    kind, what = KeptRemade, "remake"


class Knockouts:
    """Reports, those of heads, and remakes in one folder."""

    def __init__(self, folder: Path):
        self._reports, self._remakes = _Reports(folder / "reports"), _Remakes(folder / "remakes")
        self._heads = _Heads(folder / "heads")

    def report(self, capture: str, settings: Settings) -> KnockoutReport | None:
        """A report, or None where it is not kept."""
        found = self._reports.find(capture, settings)
        return None if found is None else found.report

    def keep_report(self, capture: str, settings: Settings, report: KnockoutReport) -> None:
        self._reports.save(KeptKnockout(created=now(), capture=capture, settings=settings, report=report))

    def heads(self, capture: str, settings: HeadSettings) -> HeadReport | None:
        """A report on single heads, or None where it is not kept."""
        found = self._heads.find(capture, settings)
        return None if found is None else found.report

    def keep_heads(self, capture: str, settings: HeadSettings, report: HeadReport) -> None:
        self._heads.save(KeptHeads(created=now(), capture=capture, settings=settings, report=report))

    def remade(self, capture: str, cut: Cut) -> Remade | None:
        """What was made without, or None where it is not kept."""
        found = self._remakes.find(capture, cut)
        return None if found is None else found.remade

    def keep_remade(self, capture: str, cut: Cut, remade: Remade) -> None:
        self._remakes.save(KeptRemade(created=now(), capture=capture, cut=cut, remade=remade))
