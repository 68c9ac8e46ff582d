"""A capture's curves as text files. Knows captures; no page and no figure."""

from __future__ import annotations

import csv
import io
import json

from aia.intensity import Definition
from backend.kept.captures import Capture, round_finite


def curve_csv(capture: Capture) -> str:
    """One row per definition and layer (1-based): mean and standard deviation over heads, then each head."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["definition", "layer", "mean", "std", *(f"head_{h + 1}" for h in range(capture.heads))])
    for definition in Definition:
        for layer, heads in enumerate(capture.head_intensity(definition), start=1):
            writer.writerow([definition.value, layer, *map(round_finite, (heads.mean(), heads.std(), *heads))])
    return out.getvalue()


def curve_json(capture: Capture) -> str:
    """The capture's summary, with the intensity of every head: head_intensity[definition] is [L][H]."""
    heads = {
        definition.value: [[round_finite(v) for v in row] for row in capture.head_intensity(definition)]
        for definition in Definition
    }
    return json.dumps({**capture.summary(), "head_intensity": heads}, ensure_ascii=False, indent=1)


def file_stem(capture: Capture) -> str:
    """The name of an exported file without its ending."""
    return f"aia-lens-{capture.key.model}-{capture.task.value}-{capture.id[:8]}"
