"""Models that the user added: kept as one file of descriptions in the data folder, read when the program starts.

Owns that file. Knows `ModelSpec`; neither weights nor how a description is made (`backend.models.local_models`).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from backend.interface import UserError
from backend.models.model_spec import ModelSpec

logger = logging.getLogger(__name__)

DEFAULT_DATA = Path.home() / ".cache" / "aia-lens"
MOST = 64
_SPECS = TypeAdapter(list[ModelSpec])


def data_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where captures, runs and added models are kept: AIA_LENS_DATA, else a folder in the user's cache."""
    return Path(environment.get("AIA_LENS_DATA") or DEFAULT_DATA).expanduser()


class AddedModels:
    """The descriptions in one file."""

    def __init__(self, path: Path | None = None):
        """`path` of the file; by default models.json in the data folder."""
        self.path = path or data_folder() / "models.json"

    def specs(self) -> tuple[ModelSpec, ...]:
        """All of them; none where the file is missing. A damaged file is set aside and said in the log."""
        try:
            return tuple(_SPECS.validate_json(self.path.read_bytes())[:MOST])
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            logger.warning("the file of added models could not be read (%s): they are left out", type(error).__name__)
            return ()

    def add(self, spec: ModelSpec, known: tuple[ModelSpec, ...]) -> None:
        """Keep one, instead of an added one of that name. Raises `UserError` for a name that is the program's own."""
        added = [other for other in self.specs() if other.name != spec.name]
        if spec.name in {other.name for other in known} - {other.name for other in self.specs()}:
            raise UserError(f"Expected a new name, got {spec.name}, which is the name of a known model; give --name.")
        if len(added) >= MOST:
            raise UserError(f"Expected at most {MOST} added models, got one more; remove one first.")
        self._write([*added, spec])

    def remove(self, name: str) -> None:
        """Forget one; its files stay where they are. Raises `UserError` if it was not added."""
        added = self.specs()
        if name not in {spec.name for spec in added}:
            names = ", ".join(spec.name for spec in added) or "none"
            raise UserError(f"Expected the name of an added model ({names}), got “{name[:60]}”; check the name.")
        self._write([spec for spec in added if spec.name != name])

    def _write(self, specs: list[ModelSpec]) -> None:
        rows = [asdict(spec) | {"tasks": sorted(spec.tasks)} for spec in specs]
        draft = self.path.with_name(f".{self.path.name}.part")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_text(json.dumps(rows, indent=1) + "\n")
            draft.replace(self.path)
        except OSError as error:
            raise UserError(
                f"The list of models could not be written ({error.strerror}); make room, or set AIA_LENS_DATA."
            ) from error
