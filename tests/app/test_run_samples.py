"""The card of samples, and what the page fetches for one step."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from app.finetune.run_record import RunReader, RunRecord, make_record
from app.finetune.run_samples import SHOWN_PX, SampleCells, sheet_view
from tests.app.run_fakes import FakeRuns, asked_event, make_status, sampled_event, whole_run

AIA, CONTROL = "a" * 16, "c" * 16
WHOLE = make_record(whole_run())


def view(control=WHOLE, record=WHOLE):
    return sheet_view(make_status(AIA, "finished", "aia", CONTROL, step=4), record, control)


@pytest.fixture
def cells(tmp_path):
    """Of a run with samples at 0 and 2, the drawing at 2 a large one."""
    samples = tmp_path / AIA / "samples"
    for name, size, colour in (("asked", 64, "red"), ("0", 64, "green"), ("2", 400, "blue")):
        (samples / name).mkdir(parents=True)
        Image.new("RGB", (size, size), colour).save(samples / name / "item-0.png")
    Image.new("RGB", (64, 64), "white").save(samples / "asked" / "item-1.png")
    runs = FakeRuns(make_status(AIA, "running", step=2), folder=tmp_path)
    runs.told[AIA] = [asked_event(), sampled_event(0), sampled_event(2, drawn=False, answer="three")]
    return SampleCells(runs, RunReader(runs))


def opened(url):
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))


def test_the_card_has_a_row_per_item_and_says_how_good_each_step_is():
    found = view()
    assert [(row.group, row.accent, row.text, row.answer) for row in found.rows] == [
        ("Drawings", "gen", "a red star", ""),
        ("Answers", "und", "how many?", "two"),
    ]
    assert [(m.step, m.label, m.says) for m in found.moments] == [
        (0, "step 0", "1 of 1 drawings as asked, 1 of 1 answers right"),
        (2, "step 2", "0 of 1 drawings as asked, 1 of 1 answers right"),
        (4, "step 4", "1 of 1 drawings as asked, 0 of 1 answers right"),
    ]
    assert (found.control, found.others) == (CONTROL, found.moments)


def test_no_card_before_the_first_samples_and_no_control_that_was_asked_something_else():
    assert view(record=RunRecord()) is None
    assert (view(RunRecord()).control, view(RunRecord()).others) == (CONTROL, ())
    asked = asked_event()
    asked["items"][0]["text"] = "a blue star"
    other = make_record([asked, sampled_event(0)])
    assert (view(other).control, view(other).others) == ("", ())
    for role, pair in (("single", None), ("control", AIA)):
        assert sheet_view(make_status(AIA, "finished", role, pair), WHOLE, RunRecord()).control == ""


def test_where_nothing_can_be_checked_nothing_is_counted():
    unknown = sampled_event(0)
    unknown["items"] = [item | {"right": None} for item in unknown["items"]]
    assert view(record=make_record([asked_event(), unknown])).moments[0].says == ""


def test_a_step_comes_as_words_marks_and_pictures_no_larger_than_shown(cells):
    drawing, answer = cells.fetch({"key": AIA, "step": 2})["cells"]
    assert (drawing["mark"], drawing["good"], drawing["text"]) == ("not as asked", False, "")
    picture = opened(drawing["url"])
    assert picture.size == (SHOWN_PX, SHOWN_PX)
    assert np.asarray(picture)[0, 0].tolist() == [0, 0, 255]
    assert (answer["text"], answer["mark"], answer["good"], answer["url"]) == ("three", "wrong", False, "")
    first = cells.fetch({"key": AIA, "step": 0})["cells"]
    assert [(cell["mark"], cell["good"]) for cell in first] == [("as asked", True), ("right", True)]
    assert opened(first[0]["url"]).size == (64, 64)


def test_what_is_asked_comes_as_pictures_without_marks(cells):
    found = cells.fetch({"key": AIA, "step": "asked"})["cells"]
    assert [opened(cell["url"]).getpixel((0, 0)) for cell in found] == [(255, 0, 0), (255, 255, 255)]
    assert [cell["mark"] for cell in found] == ["", ""]


@pytest.mark.parametrize(
    "asked",
    [
        *(None, "x", {}, {"key": "f" * 16, "step": 0}, {"key": "../" + AIA, "step": 0}, {"key": [AIA], "step": {}}),
        *({"key": AIA, "step": step} for step in (3, "0", True, None)),
    ],
)
def test_what_there_is_not_has_no_cells(cells, asked):
    assert cells.fetch(asked) == {"cells": []}


@pytest.mark.parametrize("file", ["../../secret.png", "/etc/passwd", "0/../0/item-0.png", "0/item-7.png", 3])
def test_a_file_that_is_gone_or_lies_elsewhere_is_not_shown(cells, file):
    moment = sampled_event(4)
    moment["items"][0]["file"] = file
    cells.runs.told[AIA].append(moment)
    (cells.runs.folder / "secret.png").write_bytes((cells.runs.folder / AIA / "samples/0/item-0.png").read_bytes())
    assert cells.fetch({"key": AIA, "step": 4})["cells"][0]["url"] == ""
