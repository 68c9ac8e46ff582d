"""A comparison as plain data, and as a zip of JSON, arrays and words on how to read them. Knows no page, no figure."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from aia.intensity import Definition
from app.compare.numbers import Pair, distance_to_targets, find_correlations, find_pairs
from app.compare.words import describe_change, long_label, make_letters, short_label
from backend.comparison import Series
from backend.kept.archives import pack
from backend.kept.bundles import COMPARISON, FORMAT, FORMAT_VERSION
from backend.kept.captures import round_finite

README = """AIA Lens, a comparison of cross-modal interaction intensity over layers (arXiv 2511.22663, Eq. 1).

{sentence}

comparison.json   every curve and every difference as plain numbers
arrays.npz        the same curves as float64 arrays; open with numpy.load(..., allow_pickle=False)
pictures/         what captures were asked about, or drew, where there are any

The Library tab of AIA Lens opens this file again on any machine, for its Compare tab.

Intensity is a share of attention, 0 to 1: of answer tokens to the image (understanding), of image tokens to the text
(generation). Asked for: {definition}; each series says by which definition it was counted (the paper's curves are
"figure", a run's targets are as it was trained). Layers count from 1. `std` is over heads for a capture, over
samples for a run or a measurement, and δ for a target. Differences are first minus second at the layers of the first;
where numbers of layers differ, the second is interpolated by depth, layer l of n at (l - 1/2)/n. Paper curves were read
off its figures.

Arrays: {arrays}
"""


def comparison_data(series: Sequence[Series], definition: Definition) -> dict[str, Any]:
    """Everything as JSON carries it: series, differences, correlations, and the one sentence."""
    letters = make_letters([s.source for s in series])
    pairs = find_pairs(series)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "definition": definition.value,
        "sentence": describe_change(pairs, letters),
        "series": [_series_data(s, series, letters) for s in series],
        "differences": [_pair_data(pair, letters) for pair in pairs],
        "task_correlations": [
            {"id": s.source, "role": s.role, "r": round_finite(r)} for s, r in find_correlations(series)
        ],
    }


def _series_data(one: Series, series: Sequence[Series], letters: dict[str, str]) -> dict[str, Any]:
    to_targets = distance_to_targets(one, series)
    return {
        "id": one.source,
        "label": short_label(one, letters),
        "name": one.name,
        "role": one.role,
        "task": one.task.value,
        "definition": one.definition.value,
        "layers": one.layers,
        "mean": _floats(one.mean),
        "std": None if one.std is None else _floats(one.std),
        "heads": None if one.heads is None else [_floats(row) for row in one.heads],
        "scores": one.scores,
        "distance_to_targets": to_targets
        and {"mean_absolute": round(to_targets.mean_absolute, 6), "aia_loss": to_targets.aia_loss},
        "prompt": one.output.prompt if one.output else None,
        "text": one.output.text if one.output else None,
        "picture": _picture_name(one, letters) if one.output else None,
    }


def _picture_name(one: Series, letters: dict[str, str]) -> str:
    return f"pictures/{letters[one.source]}.png"


def _pair_data(pair: Pair, letters: dict[str, str]) -> dict[str, Any]:
    return {
        "first": short_label(pair.first, letters),
        "second": short_label(pair.second, letters),
        "tasks": [pair.first.task.value, pair.second.task.value],
        "matched_by_depth": pair.by_depth,
        "difference": _floats(pair.difference),
        "mean_absolute": round_finite(pair.mean_absolute),
        "most_different_layer": pair.largest + 1,
    }


def comparison_zip(series: Sequence[Series], definition: Definition) -> bytes:
    """The bundle: `comparison.json`, `arrays.npz` without pickle, pictures, `README.txt`.

    Equal comparisons give equal bytes. `backend.kept.bundles` reads it.
    """
    data, arrays, names = comparison_data(series, definition), {}, []
    letters = make_letters([s.source for s in series])
    for one in series:
        stem = f"{short_label(one, letters)} {one.task}".replace(" ", "_")
        names.append(f"{stem}: {long_label(one, letters)}")
        for kind in ("mean", "std", "heads"):
            if (values := getattr(one, kind)) is not None:
                arrays[f"{stem}_{kind}"] = values
    packed = pack({f"{name}.npy": _npy(values) for name, values in arrays.items()})
    words = README.format(sentence=data["sentence"], definition=definition.value, arrays="\n  " + "\n  ".join(names))
    text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    pictures = {_picture_name(one, letters): one.output.picture_png for one in series if one.output}
    return pack({"README.txt": words.encode(), COMPARISON: text.encode(), "arrays.npz": packed, **pictures})


def _npy(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(values, np.float64), allow_pickle=False)
    return out.getvalue()


def _floats(values: np.ndarray) -> list[float | None]:
    return [round_finite(v) for v in values]
