"""The page's named endpoints on measurements, for programs: /start_measurement, /measurement, /list_measurements,
/cancel_measurement, /resume_measurement, /upload_prompts. What a finished one says is what the command line writes.

Plain values in and out; no argument names a file of the server. Knows no component of the page.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.api import answer_or_refuse, check_text
from app.guard.uploads import uploaded_path
from app.measure.export import plain_report
from app.measure.request import DEFAULTS, PROMPTS, MeasureRequests
from app.measure.shelf import Entry, Shelf
from backend.interface import UserError
from backend.measuring.config import MeasureConfig


def add_measure_endpoints(requests: MeasureRequests, shelf: Shelf) -> None:
    """Add the endpoints to the current Gradio context."""
    endpoints = MeasureEndpoints(requests, shelf)
    for name in (
        "start_measurement",
        "measurement",
        "list_measurements",
        "cancel_measurement",
        "resume_measurement",
    ):
        gr.api(getattr(endpoints, name), api_name=name)
    gr.api(endpoints.upload_prompts, api_name="upload_prompts", concurrency_id="datasets", concurrency_limit=1)


class MeasureEndpoints:
    """The endpoints over one shelf; Gradio shows callers these signatures and docstrings."""

    def __init__(self, requests: MeasureRequests, shelf: Shelf):
        self._requests, self._shelf, self._measures = requests, shelf, requests.measures

    def start_measurement(self, config: dict, name: str = "") -> dict:
        """Queue a measurement → its id for /measurement. `config` may hold: model, adapter (a finished run's id), task
        (both, understanding, generation), samples, definition, data (“world”, “prompts:ID” of /upload_prompts,
        “dataset:ID” of /upload_dataset), skip_bad_rows, seed, temperature and guidance of drawings (the
        model's own unless given), precision.
        """

        def work() -> dict[str, Any]:
            if not isinstance(config, dict):
                raise UserError(f"Expected the settings as an object, such as {{“samples”: {DEFAULTS['samples']}}}.")
            asked = self._requests.ask(config)
            run = self._requests.start(config, check_text(name, "name"))
            self._measures.tick()
            return {"measurement": run, "notes": list(asked.notes)}

        return answer_or_refuse(work)

    def measurement(self, measurement: str) -> dict:
        """State and progress; once finished also `report`, as `python -m app measure --json` writes it."""
        return answer_or_refuse(lambda: self._describe(check_text(measurement, "measurement"), whole=True))

    def list_measurements(self) -> dict:
        """What is under way, then what is kept, each the newest first; without reports."""
        return answer_or_refuse(lambda: {"measurements": [self._plain(one) for one in self._shelf.entries()]})

    def cancel_measurement(self, measurement: str) -> dict:
        """Stop a measurement after its sample; a queued one at once. Nothing measured is lost."""
        return answer_or_refuse(lambda: self._change(self._measures.cancel, measurement))

    def resume_measurement(self, measurement: str) -> dict:
        """Queue a measurement again that was stopped, failed or was interrupted; it goes on where it was."""
        return answer_or_refuse(lambda: self._change(self._measures.resume, measurement))

    def upload_prompts(self, text: dict) -> dict:
        """Check a text file of prompts, one a line (uploaded) → its name for `data`, and bad lines."""

        def work() -> dict[str, Any]:
            file, name = uploaded_path(text, "text file of prompts"), str(text.get("orig_name") or "")
            found = self._requests.take_prompts(file, name or file.name)
            lines = [{"line": bad.line, "problem": bad.problem} for bad in found.bad_lines]
            return {"data": PROMPTS + found.id, "prompts": found.count, "bad": found.bad, "bad_lines": lines}

        return answer_or_refuse(work)

    def _change(self, change, measurement: Any) -> dict[str, Any]:
        own = check_text(measurement, "measurement")
        change(own)
        self._measures.tick()
        return self._describe(own)

    def _describe(self, own: str, whole: bool = False) -> dict[str, Any]:
        entry = self._shelf.find(own)
        found = self._plain(entry)
        if whole and entry.measurement is not None:
            found["report"] = plain_report(entry.measurement)
        return found

    def _plain(self, entry: Entry) -> dict[str, Any]:
        """An entry as JSON carries it, with the settings that ask for the same where they are known."""
        found: dict[str, Any] = {"id": entry.id, "name": entry.name, "state": entry.state, "created": entry.created}
        found |= {"example": entry.example, "step": None, "steps": None, "remaining_seconds": None, "reason": None}
        if entry.run is None:
            return found
        run = entry.run
        config = self._requests.describe(run.config) if isinstance(run.config, MeasureConfig) else None
        return found | {
            "step": run.step,
            "steps": run.steps,
            "remaining_seconds": run.remaining_seconds,
            "reason": run.reason,
            "config": config,
        }
