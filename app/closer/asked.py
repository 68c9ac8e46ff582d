"""What a view is asked for: captures, a definition, and a few more words of the query. Checks them; knows no view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aia.intensity import Definition
from backend.interface import UserError
from backend.kept.captures import Capture

LONGEST_VALUE = 64


@dataclass(frozen=True)
class Asked:
    """One question of a view. `second` is the capture to compare with, where one was chosen."""

    first: Capture
    second: Capture | None = None
    definition: Definition = Definition.FIGURE
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def captures(self) -> tuple[Capture, ...]:
        """One or two."""
        return (self.first,) if self.second is None else (self.first, self.second)

    def number(self, name: str, most: int) -> int:
        """A whole number of the query, counted from 1 to `most`. Raises `UserError`."""
        text = self.values.get(name, "")
        if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= most:
            raise UserError(f"Expected a {name} from 1 to {most}, got “{text[:12]}”; choose one on the map.")
        return int(text)


def parse_asked(query: Mapping[str, str], find: Callable[[str], Capture]) -> Asked:
    """A query as a question; `find` gives the capture of an id. Raises `UserError`."""
    for name, value in query.items():
        if len(value) > LONGEST_VALUE:
            raise UserError(f"Expected a short value for {name[:20]}, got {len(value):,} characters; reload the page.")
    if not query.get("capture"):
        raise UserError("Expected a capture to look at, got none; ask or draw something first.")
    names = [d.value for d in Definition]
    definition = query.get("definition") or names[0]
    if definition not in names:
        raise UserError(f"Expected a definition among {', '.join(names)}, got “{definition[:20]}”; choose one of them.")
    second = find(query["with"]) if query.get("with") else None
    rest = {name: value for name, value in query.items() if name not in ("capture", "with", "definition")}
    return Asked(find(query["capture"]), second, Definition(definition), rest)
