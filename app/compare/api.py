"""The page's named endpoint for programs on comparisons: /compare. Same content as the bundle's `comparison.json`."""

from __future__ import annotations

from typing import Any

import gradio as gr

from aia.intensity import Definition
from app.api import answer_or_refuse, check_text
from app.compare.export import comparison_data
from backend.comparison import Comparables, parse_ids
from backend.interface import UserError


def add_compare_endpoint(things: Comparables) -> None:
    """Add the endpoint to the current Gradio context."""
    gr.api(CompareEndpoint(things).compare, api_name="compare")


class CompareEndpoint:
    """The endpoint over what can be compared; Gradio shows callers its signature and docstring."""

    def __init__(self, things: Comparables):
        self._things = things

    def compare(self, ids: list[str], definition: str = "figure") -> dict:
        """Compare up to four things by id (`capture:…`, `run:…`, `model:…`, `paper:…`) → series, differences."""

        def work() -> dict[str, Any]:
            if not isinstance(ids, list):
                raise UserError("Expected a list of ids; send one such as [“run:…”, “paper:fig1-emu3”].")
            known = [d.value for d in Definition]
            if check_text(definition, "definition") not in known:
                raise UserError(
                    f"Expected one of {', '.join(known)} as definition, got “{definition[:40]}”; choose one."
                )
            things = parse_ids(",".join(check_text(one, "id") for one in ids))
            if not things:
                raise UserError("Expected at least one id to compare, got none; send one such as “paper:fig1-emu3”.")
            counted = Definition(definition)
            return comparison_data([s for thing in things for s in self._things.series(thing, counted)], counted)

        return answer_or_refuse(work)
