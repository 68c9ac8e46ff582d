"""The Library tab without a browser: what the page answers, its route and its endpoints."""

import base64
import json
from types import SimpleNamespace

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from app.components.importer import ImportChoice
from app.library import views
from app.library.api import LibraryEndpoints
from app.library.files import export_route
from app.library.page import LibraryPage
from backend.background.runs import Runs
from backend.comparison import Comparables
from backend.kept.library import Library
from tests.app.made_runs import CONTROL, RUN, make_pair
from tests.backend.library_fakes import add_adapter, make_report


@pytest.fixture
def library(engine, answer, drawing, tmp_path):
    engine.store.put(answer)
    engine.store.put(drawing)
    make_pair(tmp_path / "runs")
    add_adapter(tmp_path / "runs" / RUN)
    library = Library(Comparables(engine.store, Runs(tmp_path / "runs")))
    library.measurements.save(make_report(), "measured once")
    return library


@pytest.fixture
def page(library):
    return LibraryPage(library)


@pytest.fixture
def empty(engine, tmp_path):
    return LibraryPage(Library(Comparables(engine.store, Runs(tmp_path / "runs"))))


def sent(**data):
    return SimpleNamespace(_data=data)


def load(page, **query):
    return page.on_load(SimpleNamespace(query_params=query))


def rows(view):
    return {row.id: row for row in view.rows}


def test_a_page_at_another_address_is_left_alone(page):
    assert load(page, capture="x") == [gr.skip()] * 2


def test_the_address_brings_search_and_kind_back(page):
    tabs, view = load(page, library="first try", kind="run")
    assert tabs.selected == "library"
    assert {row.id for row in view.rows} == {f"run:{RUN}", f"run:{CONTROL}"}
    assert (view.search, view.kind, view.link) == ("first try", "run", "library=first+try&kind=run")
    assert load(page, library="")[1].link == "library="


def test_rows_say_what_things_are(page, answer, drawing):
    shown = rows(load(page, library="")[1])
    row = shown[f"capture:{answer.id}"]
    assert (row.kind, row.name, row.task, row.accents) == ("Capture", "“what is there?”", "answering", ("und",))
    assert row.about == "a red circle and a blue square" and row.things == (row.id,)
    assert shown[f"capture:{drawing.id}"].task == "drawing"
    assert shown[f"run:{RUN}"].task == "both" and shown[f"run:{RUN}"].about == "100 steps · LoRA of rank 16, with AIA"
    assert not shown[f"adapter:{RUN}"].deletable and shown[f"adapter:{RUN}"].things == ()


def test_chips_count_what_the_search_found(page):
    view = page.on_ask(sent(search="once"))
    assert [(chip.label, chip.count) for chip in view.chips] == [
        ("All", 1),
        ("Captures", 0),
        ("Measurements", 1),
        ("Runs", 0),
        ("Adapters", 0),
        ("Bundles", 0),
    ]


def test_nothing_says_what_to_do(empty):
    view = load(empty, library="")[1]
    assert "Ask or draw something in Explore" in view.empty and view.rows == ()


def test_nothing_found_says_otherwise(page):
    assert "Nothing matches" in page.on_ask(sent(search="zzz")).empty
    assert page.on_ask(sent(search="")).empty == ""


def test_an_open_row_has_a_panel_with_picture_facts_and_links(page, answer):
    detail = page.on_ask(sent(open=f"capture:{answer.id}", serial=3)).detail
    facts = dict(detail.facts)
    assert facts["Prompt"] == "what is there?" and facts["Sampling"] == "seed 0, temperature 0"
    assert facts["Id"] == f"capture:{answer.id}" and "8 layers × 4 heads" in facts["Model"]
    assert base64.b64decode(detail.picture.partition(",")[2]) == answer.picture_png
    assert dict(detail.links) == {
        "Open in Explore": f"capture={answer.id}",
        "Compare": f"compare=capture:{answer.id}",
    }
    of_run = page.on_ask(sent(open=f"run:{RUN}")).detail
    assert dict(of_run.links)["Open in Fine-tune"] == f"run={RUN}" and of_run.picture == ""


def test_names_and_notes_are_kept_and_searched(page, drawing):
    thing = f"capture:{drawing.id}"
    view = page.on_act(sent(action="rename", ids=[thing], text="the good one", open=thing, serial=4))
    assert rows(view)[thing].name == "the good one" and (view.detail.name, view.serial) == ("the good one", 4)
    page.on_act(sent(action="note", ids=[thing], text="for the talk"))
    assert [*rows(page.on_ask(sent(search="talk")))] == [thing]


def test_deleting_offers_undo_in_place(page, answer, drawing):
    things = [f"capture:{answer.id}", f"capture:{drawing.id}"]
    view = page.on_act(sent(action="delete", ids=things, open=things[0]))
    assert not set(things) & set(rows(view)) and view.said == "2 things were deleted." and view.detail is None
    view = page.on_act(sent(action="undo", ids=[*view.undo]))
    assert set(things) <= set(rows(view)) and view.said == "" and view.undo == ()
    assert page.on_act(sent(action="delete", ids=things[:1])).said == "“what is there?” was deleted."


def test_a_refusal_is_said_and_what_was_done_can_be_undone(page, drawing):
    view = page.on_act(sent(action="delete", ids=[f"capture:{drawing.id}", f"adapter:{RUN}"]))
    assert "part of its run" in view.message and view.undo == (f"capture:{drawing.id}",)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"action": "delete"},
        {"action": "rename", "ids": "x"},
        {"action": "delete", "ids": [None, "../x"]},
        {"search": 5, "sort": "x", "kind": "paper", "page": -1, "open": {}},
        {"search": "x" * 10**5, "page": 10**30, "serial": "x"},
    ],
)
def test_whatever_a_page_sends_is_answered(page, data):
    for handler in (page.on_ask, page.on_act):
        view = handler(SimpleNamespace(_data=data))
        assert len(view.chips) == 6 and len(view.message) < 200 and len(view.search) <= 200


def test_words_are_not_markup_but_data(page, drawing):
    page.on_act(sent(action="rename", ids=[f"capture:{drawing.id}"], text="<img src=x onerror=alert(1)>"))
    assert "<img src=x onerror=alert(1)>" in {row.name for row in page.on_ask(sent()).rows}  # set as text by the script


def test_an_import_opens_its_row_and_a_refusal_is_one_sentence(page, library, drawing, uploads):
    data = page.files.export([f"capture:{drawing.id}"]).content
    library.store.delete(drawing.id)
    upload(uploads, data)
    emptied, view = page.on_import(choose(uploads), {"search": "zzz", "serial": 9})
    assert view.said == "Capture “a red circle” was imported." and view.detail.id == f"capture:{drawing.id}"
    assert emptied.file is None and view.serial == 9 and view.search == ""
    assert "is here already" in page.on_import(choose(uploads), None)[1].said
    upload(uploads, b"nonsense")
    _, view = page.on_import(choose(uploads), {"search": "red"})
    assert view.message.startswith("Expected a capture") and view.search == "red"
    (uploads / "upload").unlink()
    assert "choose it again" in page.on_import(choose(uploads), None)[1].message


def upload(folder, data):
    (folder / "upload").write_bytes(data)


def choose(folder):
    return ImportChoice(file={"path": str(folder / "upload"), "orig_name": "x.npz"})


@pytest.mark.parametrize(
    ("size", "words"), [(5, "0.0 KiB"), (2000, "2.0 KiB"), (200_000, "0.2 MiB"), (3 * 2**30, "3.0 GiB")]
)
def test_sizes_are_short(size, words):
    assert views.describe_size(size) == words


# --- the route ---


def test_the_route_hands_out_a_file_or_a_sentence(page, drawing):
    client = TestClient(Starlette(routes=[Route("/lens/export", export_route(page.files))]))
    answer = client.get("/lens/export", params={"ids": f"capture:{drawing.id}"})
    assert answer.content == page.files.export([f"capture:{drawing.id}"]).content
    assert answer.headers["content-disposition"] == f'attachment; filename="aia-lens-capture-{drawing.id}.npz"'
    both = client.get("/lens/export", params={"ids": f"capture:{drawing.id},run:{RUN}"})
    assert both.content[:4] == b"PK\3\4"
    for bad in ("", "run:../../etc/passwd", "capture:" + "0" * 24):
        refused = client.get("/lens/export", params={"ids": bad})
        assert refused.status_code == 400 and len(refused.text) < 200 and "attachment" not in str(refused.headers)


# --- endpoints ---


def test_programs_list_name_delete_restore_export_and_import(library, drawing, uploads):
    api, thing = LibraryEndpoints(library), f"capture:{drawing.id}"
    listed = api.library("circle", "capture", "size")
    assert json.loads(json.dumps(listed)) == listed and thing in {item["id"] for item in listed["items"]}
    assert api.rename(thing, "one")["name"] == "one"
    file = api.export_item(thing)
    assert api.delete_item(thing)["name"] == "one" and api.library("one")["total"] == 0
    assert api.undo_delete(thing)["name"] == "one"
    upload(uploads, base64.b64decode(file["base64"]))
    marked = {"path": str(uploads / "upload"), "meta": {"_type": "gradio.FileData"}, "orig_name": file["file_name"]}
    [item] = api.import_item(marked)["items"]
    assert item["id"] == thing and item["already"] is True
    assert file["url"] == f"lens/export?ids={thing}"


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.library("", "paper"),
        lambda api: api.library("", "", "colour"),
        lambda api: api.library(5),
        lambda api: api.rename("x", "y"),
        lambda api: api.rename(5, "y"),
        lambda api: api.delete_item("run:" + "0" * 16),
        lambda api: api.undo_delete("capture:" + "0" * 24),
        lambda api: api.export_item(""),
        lambda api: api.import_item({"path": "/etc/passwd"}),
        lambda api: api.import_item("x"),
    ],
)
def test_programs_are_refused_in_one_sentence(library, call):
    with pytest.raises(gr.Error) as refused:
        call(LibraryEndpoints(library))
    assert 20 < len(refused.value.message) < 200
