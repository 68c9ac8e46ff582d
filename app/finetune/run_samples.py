"""A run's samples for the page: which steps have some, how good they are, and the pictures of one step.

Knows runs' records and folders; no handler. Nothing is named to the page but a run and a step.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from aia.intensity import Task
from app.components.sheet import Moment, SheetRow, SheetView
from app.explore.views import data_url
from app.finetune import run_words as words
from app.finetune.run_record import RunReader, RunRecord
from backend.background.runs import Runs, RunStatus
from backend.finetuning.finetune import RunFolder
from backend.interface import UserError
from backend.pictures import load_picture, picture_to_png

logger = logging.getLogger(__name__)

SHOWN_PX = 192
ASKED = "asked"  # where a step would be: what the samples are of
_FILE = re.compile(r"(asked|[0-9]{1,8})/item-[0-9]{1,3}\.png")
_GROUPS = {Task.GENERATION.value: ("Drawings", "gen"), Task.UNDERSTANDING.value: ("Answers", "und")}


def sheet_view(run: RunStatus, record: RunRecord, control: RunRecord) -> SheetView | None:
    """The card of samples; None before the first."""
    if not record.sampled or not record.asked:
        return None
    rows = tuple(SheetRow(*_GROUPS[item["task"]], item["text"], item["answer"]) for item in record.asked)
    same = control.asked in ((), record.asked)  # else its columns would answer other questions
    beside = run.pair if run.role == "aia" and same else None
    return SheetView(
        key=run.id,
        title="Samples",
        subtitle=words.SAMPLES_SUBTITLE,
        rows=rows,
        moments=_moments(record),
        control=beside or "",
        others=_moments(control) if beside else (),
    )


def _moments(record: RunRecord) -> tuple[Moment, ...]:
    sampled = (record.sampled or {}).items()
    return tuple(Moment(step, f"step {step:,}", words.describe_samples(record.asked, items)) for step, items in sampled)


class SampleCells:
    """The words and pictures of one step of a run, fetched by the page when they are shown."""

    def __init__(self, runs: Runs, reader: RunReader):
        self.runs, self.reader = runs, reader

    def fetch(self, asked: Any) -> dict[str, Any]:
        """{"key": run, "step": step or "asked"} → {"cells": …}, none for what there is not."""
        asked = asked if isinstance(asked, dict) else {}
        run, step = str(asked.get("key") or "")[:32], asked.get("step")
        try:
            record = self.reader.record(self.runs.status(run).id)
        except UserError as error:
            logger.info("no samples: %s", error)
            return {"cells": []}
        items = record.asked if step == ASKED else record.sampled_at(step) if type(step) is int else None
        tasks = [item["task"] for item in record.asked]
        return {"cells": [self._cell(run, task, item) for task, item in zip(tasks, items or (), strict=False)]}

    def _cell(self, run: str, task: str, item: dict[str, Any]) -> dict[str, Any]:
        right, file = item.get("right"), str(item.get("file") or "")
        return {
            "text": "" if file else item.get("text") or words.NO_ANSWER,
            "url": self._load(run, file) if file else "",
            "mark": words.describe_mark(task, right),
            "good": bool(right),
        }

    def _load(self, run: str, file: str) -> str:
        """A picture as a data URL, as large as it is shown; empty where it is gone or damaged."""
        if not _FILE.fullmatch(file):
            return ""
        try:
            picture = load_picture(RunFolder(self.runs.folder / run).samples / file)
        except UserError as error:
            logger.warning("a sample of run %s cannot be shown: %s", run, error)
            return ""
        picture.thumbnail((SHOWN_PX, SHOWN_PX))
        return data_url(picture_to_png(picture))
