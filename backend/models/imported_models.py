"""An import from beginning to end: the base is found or its settings fetched, weights converted, the model added.

Owns where imported models lie in the data folder. Knows specs and downloads; not how names or tensors are converted
(`backend.models.importing`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.interface import Preparing, UserError
from backend.models.added_models import AddedModels, data_folder
from backend.models.downloads import HUB_ID, bring_settings_here
from backend.models.import_report import ImportReport
from backend.models.importing import Progress, import_weights
from backend.models.local_models import spec_of_folder
from backend.models.specs import ModelSpec

FOLDER = "imported"  # in the data folder
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,59}")
_TAKEN_OVER = ("decoupling", "licence", "targets", "world")  # from a base that is known


def import_as(
    weights: Path,
    name: str,
    base: str,
    specs: tuple[ModelSpec, ...],
    wait: Callable[[Iterator[Preparing]], Any],
    progress: Progress = lambda *_: None,
) -> ImportReport:
    """Convert the weights onto the base and add the result as the model `name`.

    `wait` shows how the base's settings are fetched and returns what that gives.
    Raises `UserError` for a name that is taken or malformed, an unknown base, and all that `import_weights` refuses.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"Expected a name of small letters, digits, dots and dashes, got “{name[:60]}”; change --as.")
    if name in {spec.name for spec in specs}:
        raise UserError(f"Expected a new name, got {name}, which is the name of a known model; change --as.")
    known = next((spec for spec in specs if base in (spec.name, spec.source)), None)
    out = data_folder() / FOLDER / name
    report = import_weights(weights, find_base(base, known, specs, wait), out, progress)
    spec = replace(spec_of_folder(out), name=name, title=name)
    if known is not None:
        about = {field: getattr(known, field) for field in _TAKEN_OVER if hasattr(known, field)}
        spec = replace(spec, **about, note=f"imported onto {known.title}, {spec.layers} layers, answers and draws")
    AddedModels().add(spec, specs)
    return report


def find_base(
    base: str, known: ModelSpec | None, specs: tuple[ModelSpec, ...], wait: Callable[[Iterator[Preparing]], Any]
) -> Path:
    """The folder with the base's settings. Raises `UserError`."""
    folder = Path(known.source if known else base).expanduser()
    if folder.is_dir():
        return folder
    if known is None:
        if not HUB_ID.fullmatch(base):
            raise UserError(f"Expected a known model, a folder or a hub id as the base, got “{base[:60]}”; check it.")
        known = replace(specs[0], title=base, source=base, revision="")
    return Path(wait(bring_settings_here(known)).source)
