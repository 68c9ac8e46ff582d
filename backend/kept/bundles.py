"""Comparisons that another installation exported, kept so that they open again: all their curves, by thing and role.

Owns their form as a document, and how it is read from the zip that `app.compare.export` writes, as hostile input. Knows
neither pages nor how things are compared.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from aia.intensity import Definition, Task
from backend.interface import UserError
from backend.kept.archives import read_members
from backend.kept.capture_files import CaptureFormatError, check_picture
from backend.kept.documents import Document, Documents, Plain, clean_line, now
from backend.kept.measurements import MOST_LAYERS, Curve, Deviation

FORMAT, FORMAT_VERSION = "aia-lens-comparison", 1
COMPARISON = "comparison.json"  # the member that holds everything
MOST_THINGS, MOST_HEADS = 4, 1024
MAX_JSON_BYTES = 24 * 2**20

Role = Literal["capture", "before", "after", "control", "target", "reference", "measurement"]
Rate = Annotated[float, Field(ge=0, le=1)]


class Scores(Plain):
    """As `aia.evaluation.TaskScores.as_dict` has them."""

    overall: Rate
    by_kind: dict[str, Rate] = Field(max_length=100)
    interval: dict[str, Annotated[list[Rate], Field(min_length=2, max_length=2)]] = Field(max_length=101)
    total: dict[str, Annotated[int, Field(ge=0, lt=2**53)]] = Field(max_length=101)

    @model_validator(mode="after")
    def check_kinds(self) -> Scores:
        if set(self.interval) != {"overall", *self.by_kind}:
            raise ValueError("every score needs an interval")
        return self


class Shown(Plain):
    """What a capture was about. `picture` is a PNG as base64."""

    prompt: str = Field(max_length=20_000)
    text: str = Field(max_length=100_000)
    picture: str = Field(max_length=2**24)

    @model_validator(mode="after")
    def check_png(self) -> Shown:
        try:
            check_picture(self.picture_png)
        except CaptureFormatError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def picture_png(self) -> bytes:
        return base64.b64decode(self.picture, validate=True)


class BundledSeries(Plain):
    """One curve, as `backend.comparison.Series` has it."""

    role: Role
    task: Task
    definition: Definition
    mean: Curve
    std: Deviation | None = None
    heads: list[Curve] | None = Field(None, max_length=MOST_LAYERS)
    scores: Scores | None = None
    mean_absolute: float | None = None
    aia_loss: float | None = None
    shown: Shown | None = None

    @model_validator(mode="after")
    def check_shapes(self) -> BundledSeries:
        if self.std is not None and len(self.std) != len(self.mean):
            raise ValueError("std needs a value for each layer")
        if self.heads is not None:
            widths = {len(row) for row in self.heads}
            if len(self.heads) != len(self.mean) or len(widths) != 1:
                raise ValueError("heads need a row for each layer, all alike")
        return self


class Thing(Plain):
    """One thing that was compared, with all its curves; `origin` is its id where it was made."""

    origin: str = Field(max_length=80)
    name: str = Field(max_length=200)
    series: list[BundledSeries] = Field(min_length=1, max_length=16)


class Bundle(Document):
    kind: Literal["bundle"] = "bundle"
    definition: Definition
    sentence: str = Field(max_length=1000)
    things: list[Thing] = Field(min_length=1, max_length=MOST_THINGS)


class Bundles(Documents[Bundle]):
    """All bundles in one folder."""

    kind, what = Bundle, "bundle"

    def unpack(self, data: bytes, name: str = "") -> Bundle:
        """Read a comparison's zip. Raises `UserError` for anything else, damaged or hostile."""
        members = read_members(data)
        content = members.get(COMPARISON, b"")
        if not 0 < len(content) <= MAX_JSON_BYTES:
            limit = MAX_JSON_BYTES // 2**20
            raise UserError(f"Expected {COMPARISON} of at most {limit} MiB in the zip, got none; export it again.")
        try:
            found = json.loads(content)
            _check_version(found)
            document = {
                "kind": "bundle",
                "name": clean_line(name or _name_things(found["series"])[:80]),
                "created": now(),
                "definition": found["definition"],
                "sentence": found["sentence"],
                "things": _gather(found["series"], members),
            }
            return self.kind.model_validate_json(json.dumps(document))
        except UserError:
            raise
        except (ValueError, ValidationError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"Expected the curves of a comparison in {COMPARISON}, got something damaged; export it again."
            ) from error


def _check_version(found: Any) -> None:
    """The first zips said no version; they were of the first."""
    told = (found.get("format", FORMAT), found.get("format_version", FORMAT_VERSION))
    if told != (FORMAT, FORMAT_VERSION):
        raise UserError(
            f"Expected a comparison of format version {FORMAT_VERSION}, got {str(told[1])[:20]}; open it with the "
            "program that made it."
        )


def _name_things(series: list[dict]) -> str:
    return " and ".join(dict.fromkeys(str(one["name"]) for one in series))


def _gather(series: list[dict], members: dict[str, bytes]) -> list[dict]:
    """The curves by thing, in the order of the comparison."""
    things: dict[str, dict] = {}
    for one in series:
        thing = things.setdefault(one["id"], {"origin": one["id"], "name": one["name"], "series": []})
        thing["series"].append(_one_series(one, members))
    return [*things.values()]


def _one_series(one: dict, members: dict[str, bytes]) -> dict:
    plain = {name: one[name] for name in ("role", "task", "definition", "mean", "std", "heads", "scores")}
    distance = one.get("distance_to_targets") or {}
    plain |= {"mean_absolute": distance.get("mean_absolute"), "aia_loss": distance.get("aia_loss")}
    picture = members.get(str(one.get("picture")))
    if picture and one.get("prompt") is not None:
        encoded = base64.b64encode(picture).decode()
        plain["shown"] = {"prompt": one["prompt"], "text": one.get("text") or "", "picture": encoded}
    return plain
