"""Kept measurements: round trips, names, the trash, and files from strangers."""

import json

import numpy as np
import pytest

from aia.intensity import Definition, Task
from backend.interface import UserError
from backend.kept import documents
from backend.kept.measurements import Measurements, shorten_path
from tests.backend.library_fakes import make_report


@pytest.fixture
def kept(tmp_path):
    return Measurements(tmp_path / "measurements")


def refuse(work):
    with pytest.raises(UserError) as refused:
        work()
    assert len(str(refused.value)) < 200 and "\n" not in str(refused.value) and "/tmp" not in str(refused.value)
    return str(refused.value)


def test_a_report_comes_back_as_it_was(kept):
    report = make_report()
    found = Measurements(kept.folder).get(kept.save(report, "  first\n try "))
    assert found.name == "first try" and found.definition == Definition.STRICT
    plain = json.loads(found.report.model_dump_json(exclude_none=True))
    assert plain == {name: value for name, value in report.items() if value is not None}
    mean, std = found.curve(Task.GENERATION)
    assert mean.dtype == np.float64 and mean.tolist() == [0.25, 0.5] and std.tolist() == [0.1, 0.0]


def test_the_same_report_twice_is_one_measurement_and_another_is_another(kept):
    first = kept.save(make_report(), "one")
    assert kept.save(make_report(), "two") == first and kept.get(first).name == "one"
    assert kept.save(make_report(seed=8)) != first
    assert len(kept.list()) == 2


def test_a_file_from_before_a_field_was_there_keeps_its_id(kept):
    measured = kept.save(make_report())
    path = kept.folder / f"{measured}.json"
    older = json.loads(path.read_bytes())
    del older["report"]["precision"], older["report"]["correlation"], older["report"]["understanding"]
    path.write_text(json.dumps(older))
    assert [one.id for one in Measurements(kept.folder).list()] == [measured]
    assert kept.save({**make_report(), "precision": "nf4"}) != measured


def test_an_adapters_path_is_kept_without_the_machine(kept):
    found = kept.get(kept.save({**make_report(), "adapter": "/home/ann/runs/aia/adapter"}))
    assert found.report.adapter == "aia/adapter"
    assert shorten_path("/adapter") == "adapter" and shorten_path(r"C:\runs\aia\adapter") == "aia/adapter"


def test_names_change_and_a_deleted_one_comes_back_bit_for_bit(kept):
    measured = kept.save(make_report(), "first")
    kept.rename(measured, "second")
    before = kept.raw(measured)
    kept.delete(measured)
    assert kept.list() == []
    assert "of which there is none" in refuse(lambda: kept.get(measured))
    kept.undelete(measured)
    assert kept.raw(measured) == before and kept.get(measured).name == "second"


def test_the_trash_holds_the_last_few(kept, monkeypatch):
    monkeypatch.setattr(documents, "MOST_IN_TRASH", 2)
    ids = [kept.save(make_report(seed=n)) for n in range(3)]
    for measured in ids:
        kept.delete(measured)
    refuse(lambda: kept.undelete(ids[0]))
    kept.undelete(ids[2])


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["generation"].update(mean=[0.1]),
        lambda r: r["generation"].update(mean=[0.1, float("nan")]),
        lambda r: r["generation"].update(mean=[0.1, 7]),
        lambda r: r["generation"].update(mean=["0.1", "0.2"]),
        lambda r: r["generation"].update(intensities=[[0.1, 0.2]]),
        lambda r: r["generation"].update(intensities=[[0.1], [0.2, 0.3]]),
        lambda r: r["generation"].update(definition="loose"),
        lambda r: r["generation"].update(mean=[0.1] * 600, std=[0.1] * 600, intensities=[]),
        lambda r: r.update(generation=None),
        lambda r: r.update(model=5),
        lambda r: r.update(extra="x" * 10),
        lambda r: r.pop("seed"),
    ],
)
def test_a_wrong_report_is_one_sentence_and_nothing_is_kept(kept, change):
    report = make_report()
    change(report)
    refuse(lambda: kept.save(report))
    assert kept.list() == []


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"null", b"\xff\xfe", b'{"format_version": 2}'])
def test_a_hostile_file_is_passed_over_in_the_list_and_refused_by_name(kept, data):
    good = kept.save(make_report())
    (kept.folder / ("0" * 16 + ".json")).write_bytes(data)
    assert [one.id for one in kept.list()] == [good]
    assert "damaged" in refuse(lambda: kept.get("0" * 16))


def test_a_file_too_large_is_not_read_whole(kept, monkeypatch):
    measured = kept.save(make_report())
    monkeypatch.setattr(documents, "MAX_BYTES", 100)
    assert "at most 0 MiB" in refuse(lambda: kept.parse(b"x" * 101))
    refuse(lambda: Measurements(kept.folder).get(measured))


def test_content_under_another_name_is_refused(kept):
    measured = kept.save(make_report())
    (kept.folder / ("f" * 16 + ".json")).write_bytes(kept.raw(measured))
    assert "changed" in refuse(lambda: kept.get("f" * 16))


@pytest.mark.parametrize("bad", ["", "../../etc/passwd", "0" * 15, "0" * 16, None, "trash"])
def test_an_unknown_id_is_one_sentence(kept, bad):
    refuse(lambda: kept.get(bad))
    refuse(lambda: kept.delete(bad))


def test_a_link_in_the_folder_is_not_followed(kept, tmp_path):
    measured = kept.save(make_report())
    outside = tmp_path / "outside.json"
    outside.write_bytes(kept.raw(measured))
    kept.delete(measured)
    (kept.folder / f"{measured}.json").symlink_to(outside)
    assert kept.list() == []
    refuse(lambda: kept.get(measured))
