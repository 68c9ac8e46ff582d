"""Measurements in the background: runs like fine-tunes, beside them, and in one queue with them.

Owns what is in the folder of one beyond the files of every run. Knows neither pages nor how anything is measured
(`backend.measuring.work`).

    config.json     what was asked for
    identity.json   the weights that the first sample was measured with
    samples.jsonl   a row for each sample measured
    result.json     the report, and the id of the measurement that it is kept as
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from backend.background.run_folder import Run, read_object
from backend.background.runs import Runs, share_device
from backend.finetuning.finetune import write_whole
from backend.interface import UserError
from backend.measuring.config import MeasureConfig
from backend.measuring.rows import RowLog
from backend.models.specs import find_spec

FOLDER = "measuring"  # beside the runs
SPARE_BYTES = 64 * 2**20


class MeasureRun(Run):
    """The folder of one measurement."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.identity, self.rows = path / "identity.json", RowLog(path / "samples.jsonl")

    def begin(self, config: MeasureConfig) -> None:
        """Make the folder and write the config. Raises `UserError` if there is one or the disk refuses."""
        if self.config.exists():
            raise UserError(
                f"Expected a new folder for this measurement, found one in {self.path}; resume it or name another."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.config, config.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise UserError(f"The folder {self.path} cannot be written ({error.strerror}); choose another.") from error

    def load_config(self) -> MeasureConfig | None:
        try:
            return MeasureConfig.model_validate_json(self.config.read_bytes())
        except (OSError, ValidationError, RecursionError):
            return None

    def load_result(self) -> dict | None:
        found = read_object(self.result)
        whole = found is not None and isinstance(found.get("report"), dict)
        return found if whole and isinstance(found.get("measurement"), str) else None

    def finish(self, report: dict, measurement: str) -> None:
        """Write the result. Raises `OSError`."""
        write_whole(self.result, json.dumps({"report": report, "measurement": measurement}) + "\n")


def measure_command(folder: Path) -> list[str]:
    """What runs the measurement of a folder."""
    return [sys.executable, "-m", "backend.measuring.work", str(folder)]


class Measures(Runs):
    """All measurements that were started in one folder."""

    kind = MeasureRun

    def __init__(
        self,
        folder: Path,
        command: Callable[[Path], list[str]] = measure_command,
        make_room: Callable[[MeasureConfig], bool] = lambda config: True,
        admit: Callable[..., None] = lambda count, again=False: None,
    ):
        super().__init__(folder, command, make_room, admit)

    def start(self, config: MeasureConfig, name: str = "") -> str:
        """Queue a measurement; `tick` starts it. → its id. Raises `UserError` as `Runs.start`."""
        (run_id,) = self._enqueue([config], ("single",), name)
        return run_id

    def run(self, run_id: str) -> MeasureRun:
        """The folder of that id. Raises `UserError` if there is none."""
        return self._find(run_id)

    def _check_room(self, configs: list[MeasureConfig]) -> None:
        needed = sum(map(needed_bytes, configs)) + SPARE_BYTES
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise UserError(
                f"Expected {needed / 2**20:,.0f} MiB on the disk for this measurement, got {free / 2**20:,.0f}; "
                "free some space, or measure fewer samples."
            )


def needed_bytes(config: MeasureConfig) -> int:
    """What the rows of a measurement take on the disk, roughly; its events and report are small beside them."""
    try:
        spec = find_spec(config.model)
    except UserError:  # a folder of weights, named on the command line
        return 0
    return (config.understanding + config.generation) * (6 * 3 * spec.layers * spec.heads + 300)


def measures_beside(runs: Runs, make_room: Callable[[MeasureConfig], bool] = lambda config: True) -> Measures:
    """The measurements in the same data folder as the runs, in one queue with them."""
    measures = Measures(runs.folder.parent / FOLDER, make_room=make_room, admit=runs.admit)
    share_device(runs, measures)
    return measures
