import csv
import io
import json

import numpy as np
import pytest

from aia.intensity import Definition
from app.explore.exports import curve_csv, curve_json, file_stem


def test_csv_has_every_definition_layer_and_head(answer):
    rows = list(csv.DictReader(io.StringIO(curve_csv(answer))))
    assert len(rows) == 3 * answer.layers
    for row in rows:
        heads = answer.head_intensity(Definition(row["definition"]))[int(row["layer"]) - 1]
        assert [float(row[f"head_{h + 1}"]) for h in range(answer.heads)] == pytest.approx(heads, abs=1e-6)
        assert float(row["mean"]) == pytest.approx(heads.mean(), abs=1e-6)
        assert float(row["std"]) == pytest.approx(heads.std(), abs=1e-6)


def test_json_is_the_summary_with_heads(drawing):
    document = json.loads(curve_json(drawing))
    heads = document.pop("head_intensity")
    assert document == drawing.summary()
    assert np.shape(heads["strict"]) == (drawing.layers, drawing.heads)
    assert np.mean(heads["strict"], 1) == pytest.approx(document["intensity"]["strict"], abs=1e-6)


def test_an_answer_without_rows_exports_blanks(answer):
    from dataclasses import replace

    silent = replace(answer, mass=answer.mass[:, :, :, :1])
    assert list(csv.reader(io.StringIO(curve_csv(silent))))[1][2:] == [""] * (2 + silent.heads)
    assert json.loads(curve_json(silent))["head_intensity"]["figure"][0] == [None] * silent.heads


def test_file_names_tell_model_task_and_capture(answer):
    assert file_stem(answer) == f"aia-lens-tiny-janus-understanding-{answer.id[:8]}"
