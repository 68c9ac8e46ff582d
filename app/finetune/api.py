"""The page's named endpoints on what runs are made of: /upload_dataset, /delete_dataset, /fit_targets.

Plain values in and out. Knows no component of the page.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from aia.intensity import Definition, Task
from aia.targets import StageTargets
from app.api import answer_or_refuse, check_text
from app.finetune.desk import Desk
from app.finetune.known import Known
from app.finetune.request import DATASET, SAVED, Requests, plain_targets
from app.finetune.run_record import RunReader
from app.guard.uploads import uploaded_path
from backend.comparison import Comparables
from backend.finetuning.datasets import Dataset
from backend.interface import UserError


def add_tune_endpoints(requests: Requests, things: Comparables) -> None:
    """Add the endpoints to the current Gradio context."""
    endpoints = TuneEndpoints(requests, things)
    gr.api(endpoints.upload_dataset, api_name="upload_dataset", concurrency_id="datasets", concurrency_limit=1)
    gr.api(endpoints.delete_dataset, api_name="delete_dataset")
    gr.api(endpoints.fit_targets, api_name="fit_targets")


class TuneEndpoints:
    """The endpoints of one data folder; Gradio shows callers these signatures and docstrings."""

    def __init__(self, requests: Requests, things: Comparables):
        self._requests = requests
        self._desk = Desk(requests, Known(requests.runs, RunReader(requests.runs), requests.specs, things))

    def upload_dataset(self, rows: dict, images: dict) -> dict:
        """Check a JSON or JSONL file and a ZIP of its images (uploaded files) → its name for `data`, and bad rows."""

        def work() -> dict[str, Any]:
            file, name = uploaded_path(rows, "JSON or JSONL file"), str(rows.get("orig_name") or "")
            zipped = uploaded_path(images, "ZIP of images")
            return describe_dataset(self._requests.take_dataset(file, zipped, name or file.name))

        return answer_or_refuse(work)

    def delete_dataset(self, data: str) -> dict:
        """Remove an uploaded data set, by its name for `data`, for good; not while an unfinished run needs it."""

        def work() -> dict[str, Any]:
            self._requests.delete_dataset(check_text(data, "data").removeprefix(DATASET))
            return {"deleted": data}

        return answer_or_refuse(work)

    def fit_targets(
        self,
        generation: str = "",
        understanding: str = "",
        stages: int = 4,
        definition: str = "training",
        model: str = "tiny-janus",
        targets: str = "auto",
        name: str = "",
    ) -> dict:
        """Fit stages to curves by id (“capture:…”, “measurement:…”, “run:ID after”) → targets for /start_run.

        A task without an id keeps the stages of `targets`. With a `name` they are saved as well.
        """

        def work() -> dict[str, Any]:
            known = [d.value for d in Definition]
            if definition not in known:
                raise UserError(f"Expected one of {', '.join(known)} as definition, got another; choose one.")
            sources = {
                Task.GENERATION: check_text(generation, "generation"),
                Task.UNDERSTANDING: check_text(understanding, "understanding"),
            }
            first = self._requests.find_targets(check_text(targets, "targets"), check_text(model, "model"))
            fitted, told = self._desk.fit(first, sources, stages, definition)
            return self._answer(fitted, told, check_text(name, "name"))

        return answer_or_refuse(work)

    def _answer(self, fitted: StageTargets, told: str, name: str) -> dict[str, Any]:
        saved = f"{SAVED}{self._requests.targets.save(fitted, name)}" if name else None
        return {"targets": plain_targets(fitted), "saved": saved, "told": told}


def describe_dataset(found: Dataset) -> dict[str, Any]:
    """A data set's report as JSON carries it."""
    return {
        "data": DATASET + found.id,
        "rows": {task.value: found.rows.get(task, 0) for task in Task},
        "bad": found.bad,
        "bad_rows": [{"line": row.line, "problem": row.problem} for row in found.bad_rows],
        "images": found.pictures,
    }
