"""What the Measure tab lists: measurements under way or ended early, those that are kept, and an example of our own.

Owns how an id names one of them: a run's id until it is finished, from then on that of the measurement it became.
Knows folders, no page; nothing is measured here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from backend.background.runs import RunStatus
from backend.comparison import measurement_choice
from backend.interface import UserError
from backend.kept.measurements import Measurement, Measurements
from backend.measuring.config import MeasureConfig
from backend.measuring.rows import Rows
from backend.measuring.runs import Measures
from backend.measuring.work import report_on
from backend.models.specs import ASSETS
from backend.people.person import LOCAL, asked_by, is_mine

EXAMPLES = ASSETS / "measured"

_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Entry:
    """One line: a run that is not finished, or a measurement. An `example` came with the program."""

    id: str
    name: str
    created: float
    run: RunStatus | None = None
    measurement: Measurement | None = None
    example: bool = False
    mine: bool = True  # whether who asks may change it

    @property
    def state(self) -> str:
        return self.run.state if self.run else "finished"


class Shelf:
    """All measurements of one data folder."""

    def __init__(self, measures: Measures, kept: Measurements, examples: Path = EXAMPLES):
        self.measures, self.kept, self._examples = measures, kept, Measurements(examples)

    def entries(self) -> list[Entry]:
        """Of who asks: what is under way, then what is kept, then examples that are not; each the newest first."""
        kept = self.kept.list()
        known = {one.id for one in kept}
        with asked_by(LOCAL):  # the examples are the installation's own, and everybody's to see
            ours = [kept_entry(one.id, one.document, example=True) for one in self._examples.list()]
        examples = (one for one in ours if self._own_id(one) not in known)
        return [*self.unfinished(), *(kept_entry(one.id, one.document) for one in kept), *examples]

    def unfinished(self) -> list[Entry]:
        """The runs that have no measurement yet; one whose process is about to end has one already."""
        runs = (run for run in self.measures.list() if run.state != "finished")
        return [run_entry(run) for run in runs if self.resolve(run.id) == run.id]

    def resolve(self, named: str) -> str:
        """The id that names a thing now: a finished run is the measurement that it became; anything else is itself."""
        if not _ID.fullmatch(named):
            return named
        try:
            result = self.measures.result(named)
        except UserError:
            return named
        return str(result["measurement"]) if result else named

    def find(self, named: str) -> Entry:
        """One entry by its id, or by that of the run it came from. Raises `UserError` if there is none."""
        wanted = self.resolve(named)
        found = next((entry for entry in self.entries() if entry.id == wanted), None) or self._by_link(wanted)
        if found is None:
            raise UserError(
                "Expected the id of a measurement, got one of which there is none (any more); choose another."
            )
        return found

    def _by_link(self, named: str) -> Entry | None:
        """Somebody else's, whose id is in the address; None where there is none."""
        with suppress(UserError):
            found = self.kept.get(named)
            return replace(kept_entry(named, found), mine=is_mine(found.owner))
        with suppress(UserError):
            run = self.measures.status(named)
            return replace(run_entry(run), mine=run.mine) if run.state != "finished" else None
        return None

    def _own_id(self, example: Entry) -> str:
        """The id that an example has once who asks keeps it."""
        try:
            return self.kept.owned(example.measurement).id
        except UserError:  # a stranger keeps nothing
            return example.id

    def rows(self, run_id: str) -> Rows:
        """What a run has measured so far."""
        return self.measures.run(run_id).rows.read()

    def so_far(self, run: RunStatus) -> Measurement | None:
        """What a run that is not finished would report now; None before two samples of each task are there."""
        if not isinstance(run.config, MeasureConfig):
            return None
        try:
            config = run.config
            report = report_on(config, config.model, None, self.rows(run.id))
            return self.kept.wrap(report, run.name)
        except UserError:
            return None

    # --- changing; all raise `UserError` ---

    def keep(self, entry: Entry) -> str:
        """Keep an example, or what somebody else shows, among one's own measurements → its id there."""
        if (entry.example or not entry.mine) and entry.measurement is not None:
            return self.kept.keep(entry.measurement)
        return entry.id

    def rename(self, named: str, name: str) -> None:
        """Give a run or a measurement another name; an example is kept first."""
        entry = self.find(named)
        if entry.run:
            self.measures.rename(entry.id, name)
        else:
            self.kept.rename(self.keep(entry) if entry.example else entry.id, name)

    def delete(self, entry: Entry) -> None:
        """Move a run or a measurement to the trash."""
        if entry.example:
            raise UserError("Expected a measurement of one's own, got the example of the program; it stays.")
        if entry.run:
            self.measures.delete(entry.id)
        else:
            self.kept.delete(entry.id)

    def undelete(self, own: str) -> None:
        """Take a run or a measurement out of the trash."""
        try:
            self.kept.undelete(own)
        except UserError:
            self.measures.undelete(own)


def run_entry(run: RunStatus) -> Entry:
    name = run.name or (
        f"{run.config.model}, {run.config.samples:,} samples" if run.config else "a damaged measurement"
    )
    return Entry(run.id, name, run.created, run=run)


def kept_entry(own: str, measurement: Measurement, example: bool = False) -> Entry:
    return Entry(
        own, measurement_choice(own, measurement).name, measurement.created, measurement=measurement, example=example
    )
