"""The page's named endpoints on runs, for programs: /start_run, /run_status, /list_runs, /cancel_run, /resume_run.

Thin over the runs: plain values in and out. A config may not name files of the server. Knows no component of the page.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gradio as gr

from app.api import answer_or_refuse, check_text
from app.finetune.request import Requests
from app.finetune.run_record import RunReader
from backend.background.runs import RunStatus
from backend.interface import UserError


def add_run_endpoints(requests: Requests) -> None:
    """Add the endpoints to the current Gradio context."""
    endpoints = RunEndpoints(requests)
    for name in ("start_run", "run_status", "list_runs", "cancel_run", "resume_run"):
        gr.api(getattr(endpoints, name), api_name=name)


class RunEndpoints:
    """The endpoints over one folder of runs; Gradio shows callers these signatures and docstrings."""

    def __init__(self, requests: Requests):
        self._requests, self._runs, self._reader = requests, requests.runs, RunReader(requests.runs)

    def start_run(self, config: dict, name: str = "", control: bool = True) -> dict:
        """Queue a fine-tune: settings as `finetune --settings` lists them → ids of the run and of its control.

        Files are named by what the page knows: `data` “dataset:ID” (/upload_dataset), `start_from` a run's id,
        `targets` a preset, “saved:NAME”, or stages (/fit_targets).
        """

        def work() -> dict[str, Any]:
            if not isinstance(config, dict):
                raise UserError("Expected the settings as an object of names and values; send one.")
            ids = self._requests.start(config, check_text(name, "name"), control is True)
            self._runs.tick()
            return {"runs": ids}

        return answer_or_refuse(work)

    def run_status(self, run: str) -> dict:
        """State, progress, distances to the targets and scores so far."""
        return answer_or_refuse(lambda: self._describe(check_text(run, "run")))

    def list_runs(self) -> dict:
        """All runs, the newest first."""
        return answer_or_refuse(lambda: {"runs": [self._plain(status) for status in self._runs.list()]})

    def cancel_run(self, run: str) -> dict:
        """Stop a run after its step and a checkpoint; a queued one at once."""
        return answer_or_refuse(lambda: self._change(self._runs.cancel, run))

    def resume_run(self, run: str) -> dict:
        """Queue a run again that was stopped, failed or was interrupted."""
        return answer_or_refuse(lambda: self._change(self._runs.resume, run))

    def _change(self, change, run: Any) -> dict[str, Any]:
        change(check_text(run, "run"))
        self._runs.tick()
        return self._plain(self._runs.status(run))

    def _describe(self, run: str) -> dict[str, Any]:
        status, record = self._runs.status(run), self._reader.record(run)
        return {
            **self._plain(status),
            "distance": {str(m["step"]): m["distance"] for m in record.measured},
            "scores": {str(step): scores for step, scores in (record.scores or {}).items()},
            "step_seconds": record.step_seconds,
        }

    def _plain(self, status: RunStatus) -> dict[str, Any]:
        """A status as JSON carries it, with the settings that ask for the same run again."""
        config = None if status.config is None else self._requests.describe(status.config)
        return {**asdict(status), "config": config}
