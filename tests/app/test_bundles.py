"""A comparison's zip opens again elsewhere: every curve with its role, its pictures, and hostile ones refused."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from aia.intensity import Definition, Task
from app.compare.export import comparison_data, comparison_zip
from backend.background.runs import Runs
from backend.comparison import Comparables, parse_ids
from backend.interface import UserError
from backend.kept.archives import pack, read_members
from backend.kept.bundles import Bundles
from backend.kept.library import Library
from backend.kept.library_files import LibraryFiles
from backend.kept.store import CaptureStore
from tests.app.made_runs import RUN, make_pair

FIGURE, TRAINING, STRICT = Definition


@pytest.fixture
def compared(engine, answer, tmp_path):
    """All curves of a fine-tune, a capture and the paper."""
    make_pair(tmp_path / "runs")
    engine.store.put(answer)
    things = Comparables(engine.store, Runs(tmp_path / "runs"))
    ids = [f"run:{RUN}", f"capture:{answer.id}", "paper:fig1-emu3"]
    return [one for thing in ids for one in things.series(thing, TRAINING)]


@pytest.fixture
def there(tmp_path):
    """Another installation."""
    folder = tmp_path / "there"
    files = LibraryFiles(Library(Comparables(CaptureStore(folder / "captures"), Runs(folder / "runs"))))
    yield files
    files.library.store.close()


def test_a_bundle_opens_again_with_every_curve_in_its_role(there, compared, answer):
    [came] = there.take_in(comparison_zip(compared, TRAINING), "x.zip")
    item = there.library.item(came.thing)
    assert item.kind == "bundle" and "most different" in item.about and item.imported > 0
    assert item.things == tuple(f"{item.id}.{n}" for n in (1, 2, 3))
    assert parse_ids(",".join(item.things)) == [*item.things]
    found = [one for thing in item.things for one in there.library.things.series(thing, STRICT)]
    assert [(s.role, s.task, s.definition, s.name) for s in found] == [
        (s.role, s.task, s.definition, s.name) for s in compared
    ]
    for mine, theirs in zip(compared, found, strict=True):
        assert theirs.mean == pytest.approx(mine.mean, abs=1e-6)
        assert theirs.std is None if mine.std is None else theirs.std == pytest.approx(mine.std, abs=1e-6)
        assert theirs.scores == mine.scores
    [capture] = [s for s in found if s.role == "capture"]
    assert capture.heads == pytest.approx(answer.head_intensity(TRAINING), abs=1e-6)
    assert (capture.output.prompt, capture.output.picture_png) == (answer.key.prompt, answer.picture_png)


def test_a_comparison_of_imported_curves_says_the_same(there, compared):
    [came] = there.take_in(comparison_zip(compared, TRAINING))
    found = [s for thing in there.library.item(came.thing).things for s in there.library.things.series(thing, TRAINING)]
    mine, theirs = comparison_data(compared, TRAINING), comparison_data(found, TRAINING)
    assert theirs["sentence"] == mine["sentence"]
    distances = [[s["distance_to_targets"] for s in told["series"]] for told in (mine, theirs)]
    assert distances[0] == distances[1] and any(distances[0])


def test_a_bundle_leaves_and_comes_in_again(there, compared, tmp_path):
    [came] = there.take_in(comparison_zip(compared, TRAINING))
    file = there.export([came.thing])
    third = Bundles(tmp_path / "third")
    assert third.keep(third.parse(file.content)) == came.thing.partition(":")[2]
    assert there.take_in(file.content)[0].already


def test_imported_things_are_among_the_choices_and_end(there, compared):
    [came] = there.take_in(comparison_zip(compared, TRAINING))
    groups = {choice.id: choice.group for choice in there.library.things.choices()}
    assert groups[f"{came.thing}.1"] == "Imported"
    with pytest.raises(UserError, match="has 3 things"):
        there.library.things.series(f"{came.thing}.4", TRAINING)
    there.library.delete(came.thing)
    with pytest.raises(UserError):
        there.library.things.series(f"{came.thing}.1", TRAINING)
    there.library.undelete(came.thing)
    assert there.library.things.series(f"{came.thing}.1", TRAINING)


def test_the_zip_says_its_format_and_holds_pictures(compared, answer):
    members = read_members(comparison_zip(compared, TRAINING))
    assert set(members) == {"README.txt", "comparison.json", "arrays.npz", "pictures/B.png"}
    content = json.loads(members["comparison.json"])
    assert (content["format"], content["format_version"]) == ("aia-lens-comparison", 1)
    assert members["pictures/B.png"] == answer.picture_png
    assert zipfile.ZipFile(io.BytesIO(comparison_zip(compared, TRAINING))).testzip() is None
    arrays = np.load(io.BytesIO(members["arrays.npz"]), allow_pickle=False)
    assert arrays["B_understanding_heads"].shape == (8, 4)


def test_a_zip_of_the_first_versions_opens(there, compared):
    members = read_members(comparison_zip(compared, TRAINING))
    content = json.loads(members["comparison.json"])
    for name in ("format", "format_version"):
        del content[name]
    for one in content["series"]:
        del one["picture"]
    assert there.take_in(pack({"comparison.json": json.dumps(content).encode()}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.update(format_version=2),
        lambda c: c.update(format="something"),
        lambda c: c.update(series=[]),
        lambda c: c.update(series="x"),
        lambda c: c.update(definition="loose"),
        lambda c: c["series"][0].update(mean=[0.1, None]),
        lambda c: c["series"][0].update(mean=[float("nan")] * 8),
        lambda c: c["series"][0].update(mean=[1e300] * 8),
        lambda c: c["series"][0].update(mean=[0.1] * 5000, std=[0.1] * 5000),
        lambda c: c["series"][0].update(std=[0.1]),
        lambda c: c["series"][0].update(role="king"),
        lambda c: c["series"][0].update(task="painting"),
        lambda c: c["series"][0].update(scores={"overall": 7}),
        lambda c: c["series"][0].update(heads=[[0.1]] * 7 + [[0.1, 0.2]]),
        lambda c: c["series"][0].update(name="x" * 5000),
        lambda c: c["series"][0].update(id=["x"]),
        lambda c: [one.update(id=f"run:{n}") for n, one in enumerate(c["series"])],
    ],
)
def test_a_hostile_bundle_is_one_sentence(there, compared, damage):
    members = read_members(comparison_zip(compared, TRAINING))
    content = json.loads(members["comparison.json"])
    damage(content)
    with pytest.raises(UserError) as refused:
        there.take_in(pack({**members, "comparison.json": json.dumps(content).encode()}))
    assert len(str(refused.value)) < 250 and "\n" not in str(refused.value)
    assert there.library.items() == []


def test_a_picture_that_is_none_is_refused(there, compared):
    members = read_members(comparison_zip(compared, TRAINING))
    with pytest.raises(UserError, match="damaged"):
        there.take_in(pack({**members, "pictures/B.png": b"<svg onload=alert(1)>"}))


def test_measured_curves_keep_their_role_in_a_bundle(there, compared):
    measured = [replace(s, role="measurement") for s in compared if s.role == "capture"]
    [came] = there.take_in(comparison_zip([*measured, compared[-1]], TRAINING))
    [series] = there.library.things.series(f"{came.thing}.1", FIGURE)
    assert (series.role, series.task) == ("measurement", Task.UNDERSTANDING)
