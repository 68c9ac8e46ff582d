"""The curves that come with the embedded models (`assets/<model>/curves.json`), by model. Knows nothing else.

Each file is what `python -m app measure --model <model> --samples 100 --json FILE` wrote, on one line.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from backend.kept.measurements import Measurement, Report
from backend.models.specs import EMBEDDED, ModelSpec

CURVES = "curves.json"


@cache
def load_embedded() -> dict[str, Measurement]:
    """A measurement of each embedded model that has one, by the model's name."""
    return {spec.name: _read(spec) for spec in EMBEDDED if (Path(spec.source) / CURVES).is_file()}


def _read(spec: ModelSpec) -> Measurement:
    report = Report.model_validate_json((Path(spec.source) / CURVES).read_bytes())
    return Measurement(name=spec.title, created=0, report=report)
