"""Data sets as people send them, and as nobody should."""

import io
import json
import re
import stat
import zipfile

import pytest

from aia.conversations import load_conversations
from aia.intensity import Task
from backend.finetuning import datasets, image_zips
from backend.finetuning.datasets import Datasets, describe_rows
from backend.finetuning.finetune import load_data
from backend.interface import UserError
from tests.backend.zips import asking, drawing, huge_png, picture, write_rows, write_zip

ROWS = [asking("a.png"), drawing("b.png"), asking("b.png")]
ENTRIES = {"a.png": picture(1), "b.png": picture(2)}


@pytest.fixture
def sets(tmp_path):
    return Datasets(tmp_path / "datasets")


def take(sets, tmp_path, rows=ROWS, entries=ENTRIES, name="mine.jsonl"):
    """Entries by name, or a ZIP that is there already."""
    images = write_zip(tmp_path / "images.zip", entries) if isinstance(entries, dict) else entries
    return sets.take(write_rows(tmp_path / name, rows), images, name)


def left_behind(sets):
    return [path.name for path in sets.folder.iterdir()]


# --- good ones ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.json"])
def test_good_rows_are_counted_by_task_and_can_be_trained_on(sets, tmp_path, name):
    found = take(sets, tmp_path, name=name)
    assert found.rows == {Task.UNDERSTANDING: 2, Task.GENERATION: 1}
    assert (found.bad, found.pictures, found.name) == (0, 2, name)
    assert describe_rows(found) == "3 rows: 2 understanding, 1 generation"
    rows, images = sets.files(found.id)
    assert rows.read_text() == (tmp_path / name).read_text()
    assert load_conversations(rows, images, 0, lambda path: None).count(Task.UNDERSTANDING) == 2


def test_what_a_run_loads_is_what_was_sent(sets, tmp_path):
    from aia.config import TrainingConfig

    rows, images = sets.files(take(sets, tmp_path).id)
    data, probes = load_data(TrainingConfig(data=str(rows), images=str(images)))
    assert data.sample(Task.GENERATION, 0).picture.shape == (16, 16, 3)
    assert {task: len(samples) for task, samples in probes.items()} == {Task.UNDERSTANDING: 2, Task.GENERATION: 1}


def test_bad_rows_are_named_with_their_lines_and_do_not_stop_the_good(sets, tmp_path):
    found = take(sets, tmp_path, [*ROWS, "{oops", asking("none.png"), {"image": "a.png"}])
    assert [row.line for row in found.bad_rows] == [4, 5, 6]
    assert "not JSON" in found.bad_rows[0].problem
    assert "image not found" in found.bad_rows[1].problem
    assert describe_rows(found) == "6 rows: 2 understanding, 1 generation, 3 bad"
    assert sets.get(found.id) == found == sets.list()[0]


def test_the_same_content_is_the_same_data_set(sets, tmp_path):
    first, second = take(sets, tmp_path), take(sets, tmp_path, entries=dict(reversed(ENTRIES.items())))
    assert first.id == second.id and len(sets.list()) == 1
    assert take(sets, tmp_path, entries=ENTRIES | {"a.png": picture(9)}).id != first.id
    assert len(left_behind(sets)) == 2


@pytest.mark.parametrize(
    ("named", "packed"),
    [
        ("a.png", "photos/a.png"),
        ("photos/a.png", "a.png"),
        ("train/x/a.png", "top/train/x/a.png"),
        ("x/a.png", "x\\a.png"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("./x/a.png", "x/a.png"),
    ],
)
def test_a_folder_packed_whole_or_by_its_content_is_found(sets, tmp_path, named, packed):
    assert take(sets, tmp_path, [asking(named)], {packed: picture()}).good == 1


def test_two_pictures_that_could_be_meant_are_none(sets, tmp_path):
    entries = {"x/a.png": picture(1), "y/a.png": picture(2), "b.png": picture(3)}
    found = take(sets, tmp_path, [asking("a.png"), asking("b.png")], entries)
    assert [row.line for row in found.bad_rows] == [1]


def test_only_what_rows_name_is_kept(sets, tmp_path):
    found = take(sets, tmp_path, entries=ENTRIES | {"secret.txt": b"x", "evil.py": b"x", "__MACOSX/._a.png": b"x"})
    assert {path.name for path in (sets.folder / found.id / "images").rglob("*")} == {"a.png", "b.png"}


def test_a_deleted_data_set_is_gone_and_an_unknown_one_a_sentence(sets, tmp_path):
    found = take(sets, tmp_path)
    sets.delete(found.id)
    assert sets.list() == []
    for unknown in (found.id, "../../etc", "", "0" * 16):
        with pytest.raises(UserError, match="Expected the id of a data set"):
            sets.get(unknown)


def test_a_file_of_a_data_set_is_told_from_any_other(sets, tmp_path):
    found = take(sets, tmp_path)
    assert sets.id_of(str(sets.files(found.id)[0])) == found.id
    assert sets.id_of("/somewhere/else/rows.jsonl") is None and sets.id_of("world") is None


# --- hostile ones -------------------------------------------------------------------------------


def refused(sets, tmp_path, images, match, rows=ROWS):
    with pytest.raises(UserError, match=match) as refusal:
        take(sets, tmp_path, rows, images)
    assert str(tmp_path) not in str(refusal.value)
    assert left_behind(sets) == []
    return str(refusal.value)


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/etc/a.png", "C:\\a.png", "..\\a.png"])
def test_a_path_that_leads_outside_is_refused(sets, tmp_path, name):
    refused(sets, tmp_path, write_zip(tmp_path / "i.zip", ENTRIES | {name: picture()}), "leads outside")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["datasets", "i.zip", "mine.jsonl"]


def test_a_row_cannot_lead_outside_either(sets, tmp_path):
    found = take(sets, tmp_path, [*ROWS, asking("../mine.jsonl"), asking("/etc/passwd"), asking("a.png/x")])
    assert [row.line for row in found.bad_rows] == [4, 5, 6]


def test_links_are_refused(sets, tmp_path):
    link = zipfile.ZipInfo("a.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "i.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    refused(sets, tmp_path, tmp_path / "i.zip", "got a link")


def test_a_bomb_is_refused_before_it_is_unpacked(sets, tmp_path):
    refused(sets, tmp_path, write_zip(tmp_path / "i.zip", ENTRIES | {"b.bmp": bytes(20 * 2**20)}), "200 times")


def test_many_entries_that_are_too_large_together_are_refused(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(image_zips, "MAX_UNPACKED_BYTES", 1000)
    refused(sets, tmp_path, write_zip(tmp_path / "i.zip", ENTRIES), "once unpacked")
    monkeypatch.setattr(image_zips, "MAX_ARCHIVE_BYTES", 100)
    refused(sets, tmp_path, write_zip(tmp_path / "i.zip", ENTRIES), "ZIP of at most")


def test_an_entry_that_lies_about_its_size_is_damaged(sets, tmp_path):
    path = write_zip(tmp_path / "i.zip", {"a.png": bytes(5000), "b.png": picture()})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24  # the size in the list of entries, which is believed
    data[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    refused(sets, tmp_path, path, "“a.png” is damaged")


def test_a_hundred_thousand_entries_are_refused_before_they_are_listed(sets, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "i.zip", "w") as file:
        for number in range(100_000):
            file.writestr(zipfile.ZipInfo(f"{number}.png"), b"")
    monkeypatch.setattr(image_zips.zipfile, "ZipFile", None)
    refused(sets, tmp_path, tmp_path / "i.zip", "at most 50,000 files")


def test_a_password_is_refused(sets, tmp_path):
    path = write_zip(tmp_path / "i.zip", ENTRIES)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 8
    data[at] |= 1
    path.write_bytes(data)
    refused(sets, tmp_path, path, "without a password")


def test_an_archive_cut_short_anywhere_is_refused(sets, tmp_path):
    whole = write_zip(tmp_path / "whole.zip", ENTRIES).read_bytes()
    for share in (0, 0.1, 0.5, 0.9, 0.99):
        (tmp_path / "i.zip").write_bytes(whole[: int(len(whole) * share)])
        refused(sets, tmp_path, tmp_path / "i.zip", "cut short")


def test_damage_at_any_byte_is_a_sentence_or_does_no_harm(sets, tmp_path):
    whole = write_zip(tmp_path / "whole.zip", {"a.png": picture(1, 4), "b.png": picture(2, 4)}).read_bytes()
    for at in range(0, len(whole), 7):
        data = bytearray(whole)
        data[at] ^= 0xFF
        (tmp_path / "i.zip").write_bytes(data)
        try:
            take(sets, tmp_path, entries=tmp_path / "i.zip")
        except UserError as error:
            assert str(error).startswith("Expected")


def test_a_zip_in_a_zip_stays_packed(sets, tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("a.png", picture())
    refused(sets, tmp_path, write_zip(tmp_path / "i.zip", {"images.zip": inner.getvalue()}), "holds none of them")
    found = take(sets, tmp_path, [*ROWS, asking("in.zip")], ENTRIES | {"in.zip": inner.getvalue()})
    assert "image unreadable" in found.bad_rows[0].problem


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("x.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        ("x.png", b"<html><script>alert(1)</script></html>", "web page"),
        ("x.png", huge_png(60_000, 60_000), "megapixels|far more"),
        ("x.png", picture()[:60], "damaged"),
        ("x.png", b"", "empty"),
    ],
)
def test_what_is_no_picture_makes_a_bad_row_and_is_not_kept(sets, tmp_path, name, data, why):
    found = take(sets, tmp_path, [*ROWS, asking(name)], ENTRIES | {name: data})
    (bad,) = found.bad_rows
    assert bad.line == 4 and bad.problem.startswith("image unreadable")
    assert re.search(why, bad.problem)
    assert not (sets.folder / found.id / "images" / name).exists()


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "got 0 rows"),
        (["{oops"], "holds none of them"),
        ([asking("a.png") | {"conversations": []}], "all bad"),
    ],
)
def test_rows_of_which_none_is_good_are_refused(sets, tmp_path, rows, match):
    refused(sets, tmp_path, write_zip(tmp_path / "i.zip", ENTRIES), match if rows else "holds none", rows)


def test_a_broken_list_is_a_sentence_without_a_path(sets, tmp_path):
    (tmp_path / "mine.json").write_text('[{"image": "a.png"')
    with pytest.raises(UserError, match="line 1 is not JSON") as refusal:
        sets.take(tmp_path / "mine.json", write_zip(tmp_path / "i.zip", ENTRIES), "mine.json")
    assert str(tmp_path) not in str(refusal.value)


def test_too_large_a_file_of_rows_is_refused(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MAX_ROWS_BYTES", 10)
    refused(sets, tmp_path, write_zip(tmp_path / "i.zip", ENTRIES), "rows of at most")


def test_a_disk_without_room_is_a_sentence(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    refused(sets, tmp_path, write_zip(tmp_path / "i.zip", ENTRIES), "make room")


def test_a_damaged_folder_is_passed_over(sets, tmp_path):
    found = take(sets, tmp_path)
    (sets.folder / found.id / "about.json").write_text(json.dumps({"format_version": 2}))
    assert sets.list() == []
