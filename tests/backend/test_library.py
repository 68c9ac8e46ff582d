"""The library without a page: what is listed, found, named, deleted and brought back."""

from dataclasses import replace

import pytest
from PIL import Image

from aia.intensity import Definition, Task
from backend.background.runs import Runs
from backend.comparison import Comparables, parse_ids
from backend.interface import UserError
from backend.kept import library as library_module
from backend.kept.capture_files import capture_to_npz
from backend.kept.captures import CaptureKey, Sampling
from backend.kept.library import Library
from backend.kept.store import CaptureStore
from tests.app.fakes import make_capture
from tests.app.made_runs import CONTROL, RUN, make_pair
from tests.backend.library_fakes import add_adapter, make_report


def drawing(prompt="a red circle", seed=3, created=1_760_000_000.0):
    key = CaptureKey("tiny-janus", "r", "float32", Task.GENERATION, prompt, "", Sampling(seed=seed))
    made = make_capture(key, "", ("code 1", "code 2"), Image.new("RGB", (64, 64), (9, 9, 9)))
    return replace(made, created=created)


@pytest.fixture
def store(tmp_path):
    store = CaptureStore(tmp_path / "captures")
    yield store
    store.close()


@pytest.fixture
def library(store, tmp_path):
    return Library(Comparables(store, Runs(tmp_path / "runs")))


@pytest.fixture
def full(library):
    """A capture, a measurement, a pair of runs, one of them with an adapter."""
    library.store.put(drawing())
    library.measurements.save(make_report(), "measured once")
    make_pair(library.runs.folder)
    add_adapter(library.runs.folder / RUN)
    return library


def names(listing):
    return [item.name for item in listing.items]


def test_everything_is_listed_with_what_it_is(full):
    found = full.find(sort="kind", descending=False)
    assert [item.kind for item in found.items] == ["capture", "measurement", "run", "run", "adapter"]
    assert found.counts == {"capture": 1, "measurement": 1, "run": 2, "adapter": 1, "bundle": 0}
    by_kind = {item.kind: item for item in found.items}
    assert (by_kind["capture"].name, by_kind["capture"].about) == ("“a red circle”", "seed 3")
    assert by_kind["capture"].size_bytes == len(capture_to_npz(drawing()))
    assert by_kind["measurement"].name == "measured once" and by_kind["measurement"].tasks == (Task.GENERATION,)
    assert by_kind["adapter"].about == "LoRA of rank 16, with AIA"
    assert found.room.captures_bytes > 0 and found.room.others_bytes > by_kind["measurement"].size_bytes


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("red CIRCLE", ["“a red circle”"]),
        ("circle red", ["“a red circle”"]),
        ("once", ["measured once"]),
        ("control", ["first try, control"]),
        ("tiny-janus measured", ["measured once"]),
        ("circle blue", []),
        ("circle 7", []),
        (drawing().id[:8], ["“a red circle”"]),
        ("looks odd", ["“a red circle”"]),
    ],
)
def test_a_search_finds_names_notes_prompts_and_models(full, search, expected):
    full.note(f"capture:{drawing().id}", "This one looks odd.")
    assert names(full.find(search)) == expected


def test_a_kind_narrows_the_list_and_counts_stay(full):
    found = full.find("first try", kind="run")
    assert names(found) == ["first try", "first try, control"] or names(found) == ["first try, control", "first try"]
    assert found.total == 2 and found.counts["adapter"] == 1 and found.counts["capture"] == 0


def test_columns_sort_both_ways_and_pages_hold_fifty(library):
    for n in range(53):
        library.store.put(drawing(f"number {n:02}", created=1_760_000_000.0 + n))
    first, last = library.find(page=0), library.find(page=9)
    assert names(first)[0] == "“number 52”" and len(first.items) == 50 and first.pages == 2
    assert names(last) == ["“number 02”", "“number 01”", "“number 00”"] and last.page == 1
    assert names(library.find(sort="name", descending=False))[:2] == ["“number 00”", "“number 01”"]
    sizes = [item.size_bytes for item in library.find(sort="size").items]
    assert sizes == sorted(sizes, reverse=True)


def test_names_are_the_users_and_an_empty_one_brings_back_the_prompt(full):
    thing = f"capture:{drawing().id}"
    full.rename(thing, "the odd one")
    assert full.item(thing).name == "the odd one"
    full.rename(thing, "")
    assert full.item(thing).name == "“a red circle”"
    full.rename(f"adapter:{RUN}", "second try")
    assert full.item(f"run:{RUN}").name == "second try"
    full.note(f"adapter:{RUN}", "about both")
    assert full.item(f"run:{RUN}").note == "about both"


def test_a_deleted_capture_comes_back_bit_for_bit_with_its_name(full):
    capture = drawing()
    thing, before = f"capture:{capture.id}", full.store.raw(capture.id)
    full.rename(thing, "kept")
    full.delete(thing)
    assert full.store.get(capture.id) is None and not full.find("kept").items
    full.undelete(thing)
    assert full.store.raw(capture.id) == before == capture_to_npz(capture)
    assert full.item(thing).name == "kept"


def test_measurements_and_runs_come_back_too(full):
    for item in full.find().items:
        if item.kind not in ("adapter", "capture"):
            full.delete(item.id)
            with pytest.raises(UserError):
                full.item(item.id)
            full.undelete(item.id)
            assert full.item(item.id) == item


def test_an_adapter_goes_with_its_run(full):
    with pytest.raises(UserError, match="part of its run"):
        full.delete(f"adapter:{RUN}")
    full.delete(f"run:{RUN}")
    assert full.find().counts["adapter"] == 0


def test_the_trash_of_captures_holds_the_last_few(library, monkeypatch):
    monkeypatch.setattr(library_module, "MOST_IN_TRASH", 2)
    captures = [drawing(f"number {n}") for n in range(3)]
    for capture in captures:
        library.store.put(capture)
        library.delete(f"capture:{capture.id}")
    with pytest.raises(UserError, match="not in the trash any more"):
        library.undelete(f"capture:{captures[0].id}")
    library.undelete(f"capture:{captures[2].id}")
    assert library.store.ids() == [captures[2].id]


def test_words_on_an_evicted_capture_go_quietly_and_are_back_with_it(full):
    thing = f"capture:{drawing().id}"
    full.rename(thing, "gone")
    full.store.delete(drawing().id)
    assert not full.find("gone").items
    full.store.put(drawing())
    assert names(full.find("gone")) == ["gone"]


@pytest.mark.parametrize(
    "bad", ["", "x", "paper:fig1-emu3", "run:../..", "capture:" + "0" * 24, "run:" + "0" * 16, None]
)
@pytest.mark.parametrize("work", ["item", "delete", "undelete"])
def test_an_unknown_thing_is_one_sentence(library, work, bad):
    if (work, bad) == ("delete", "capture:" + "0" * 24):
        return library.delete(bad)  # it is gone: that is what was wanted
    with pytest.raises(UserError) as refused:
        getattr(library, work)(bad)
    assert len(str(refused.value)) < 200 and "/tmp" not in str(refused.value)
    return None


def test_looking_at_the_list_is_no_use_of_a_capture(library, store):
    store.put(drawing("first"))
    store.put(drawing("second"))
    library.find()
    order = [row[0] for row in store._cache._sql("SELECT key FROM Cache ORDER BY access_time").fetchall()]
    assert order == [drawing("first").id, drawing("second").id]


def test_measurements_can_be_compared_by_their_own_definition(full):
    [item] = full.find(kind="measurement").items
    assert parse_ids(item.things[0]) == [item.id]
    [series] = full.things.series(item.id, Definition.FIGURE)
    assert (series.role, series.definition, series.task) == ("measurement", Definition.STRICT, Task.GENERATION)
    assert series.mean.tolist() == [0.25, 0.5] and series.std.tolist() == [0.1, 0.0]
    assert series.name == "measured once"
    assert item.id in {choice.id for choice in full.things.choices()}


def test_the_control_and_its_pair_are_told_apart(full):
    assert full.item(f"run:{CONTROL}").name == "first try, control"
    assert full.item(f"run:{RUN}").things == (f"run:{RUN}",)
