"""The Library tab as a person uses it: find, sort, name, delete and undo, take along and bring in. No training."""

import zipfile

import pytest
from gradio_client import handle_file

from aia.intensity import Task
from backend.kept.measurements import Measurements
from tests.app.made_runs import CONTROL, RUN, make_run
from tests.backend.library_fakes import make_report
from tests.browser.conftest import ROOT
from tests.browser.person import see_pictures, text
from tests.browser.test_look import BACKGROUNDS, keep

READY = ".lens-library[data-state='shown']"
ROWS = ".lens-library tbody tr[data-id]"
QUESTION = "what colour is the large star?"
RUN_A, RUN_B = RUN[:-1] + "a", CONTROL[:-1] + "b"  # others have the plain ids


@pytest.fixture(scope="module")
def kept(server, folder, api):
    """A measurement, a pair of runs, an answer and a drawing: ids by kind."""
    data = folder / "data"
    measured = Measurements(data / "measurements").save(make_report(), "a kept measurement")
    if not (data / "runs" / RUN_A).exists():
        after = {Task.GENERATION: 0.45, Task.UNDERSTANDING: 0.3}
        make_run(data / "runs", RUN_A, "a library run", "aia", RUN_B, after)
        make_run(data / "runs", RUN_B, "a library run", "control", RUN_A, after)
    sample = handle_file(str(ROOT / "assets" / "samples" / "sample-1.png"))
    answer = api.predict("tiny-janus", sample, QUESTION, api_name="/understand")["capture_id"]
    drawn = api.predict("tiny-janus", "a large yellow star", seed=11, api_name="/generate")["capture_id"]
    return {
        "measurement": f"measurement:{measured}",
        "run": f"run:{RUN_A}",
        "answer": f"capture:{answer}",
        "drawing": f"capture:{drawn}",
    }


def row(page, thing):
    return page.locator(f"{ROWS}[data-id='{thing}']")


def search(page, words):
    """Type, and wait for the address to say so: it changes with the answer."""
    page.fill(".lens-library input[type=search]", words)
    wanted = "library=" + words.replace(" ", "+")
    page.wait_for_function("wanted => location.search.slice(1).split('&')[0] === wanted", arg=wanted)


def open_row(page, thing):
    row(page, thing).locator(".lens-named button").click()
    page.wait_for_selector(f".lens-detail[data-thing='{thing}']")


def save(page, button):
    with page.expect_download() as download:
        button.click()
    return download.value


def press(page, name):
    page.locator(".lens-detail").get_by_role("button", name=name).click()


def test_a_person_finds_sorts_and_comes_back_by_the_address(open_page, kept):
    page = open_page()
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector(READY)
    assert page.url.endswith("?library=")
    search(page, "large star")
    assert row(page, kept["answer"]).count() == 1 and row(page, kept["measurement"]).count() == 0
    page.get_by_role("radio", name="Runs").click()
    page.wait_for_selector(".lens-library .lens-empty:visible")
    assert "Nothing matches" in text(page, ".lens-library .lens-empty")
    page.get_by_role("radio", name="All").click()
    page.wait_for_selector(f"{ROWS}[data-id='{kept['answer']}']")
    heading = page.locator("th[data-sort='name']")
    heading.get_by_role("button").click()
    page.wait_for_selector("th[data-sort='name'][aria-sort='ascending']")
    names = page.locator(f"{ROWS} .lens-named button").all_inner_texts()
    assert names == sorted(names, key=lambda name: name.strip("“”").casefold()) and len(names) >= 2
    page.reload()
    page.wait_for_selector(READY)
    assert page.input_value(".lens-library input[type=search]") == "large star"
    assert row(page, kept["answer"]).count() == 1


def test_a_name_and_a_note_stay_and_are_found(open_page, kept):
    page = open_page("?library=", ready=READY)
    open_row(page, kept["drawing"])
    assert "a large yellow star" in text(page, ".lens-detail dl")
    assert see_pictures(page, ".lens-detail img", 1) == [64]
    page.fill(".lens-detail input", "the best of them")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="the best of them").wait_for()
    page.fill(".lens-detail textarea", "for the talk on Monday")
    page.locator(".lens-detail textarea").blur()
    page.wait_for_function("document.querySelector('tbody').textContent.includes('— for the talk on Monday')")
    page.reload()
    page.wait_for_selector(READY)
    search(page, "talk monday")
    assert page.locator(ROWS).count() == 1 and "the best of them" in text(page, ROWS)


def test_a_deleted_thing_comes_back_and_opens_where_it_was_made(open_page, kept, api):
    before = api.predict(kept["answer"], api_name="/export_item")["base64"]
    page = open_page("?library=", ready=READY)
    open_row(page, kept["answer"])
    press(page, "Delete")
    page.wait_for_selector(".lens-library .lens-undo:visible")
    assert row(page, kept["answer"]).count() == 0 and QUESTION in text(page, ".lens-library .lens-undo")
    page.get_by_role("button", name="Undo").click()
    row(page, kept["answer"]).wait_for()
    assert api.predict(kept["answer"], api_name="/export_item")["base64"] == before
    open_row(page, kept["answer"])
    page.get_by_role("link", name="Open in Explore").click()
    page.wait_for_selector(".lens-chart[data-drawn]")
    assert page.get_attribute(".lens-chart", "data-drawn").startswith(kept["answer"].partition(":")[2])


def test_several_things_are_compared_taken_along_and_brought_in(open_page, kept, tmp_path):
    page = open_page("?library=", ready=READY)
    for thing in (kept["measurement"], kept["run"]):
        row(page, thing).locator("input").check()
    file = save(page, page.get_by_role("group", name="Chosen").get_by_role("button", name="Export"))
    path = tmp_path / file.suggested_filename
    file.save_as(path)
    members = set(zipfile.ZipFile(path).namelist())
    assert members == {f"{kept['measurement'].replace(':', '-')}.json", f"run-{RUN_A}.zip"}
    page.get_by_role("group", name="Chosen").get_by_role("button", name="Delete").click()
    page.wait_for_selector(".lens-library .lens-undo:visible")
    assert row(page, kept["run"]).count() == 0
    page.set_input_files("#lens-import input", str(path))
    page.wait_for_function("document.querySelector('.lens-undo').textContent.includes('2 things were imported.')")
    for thing in (kept["measurement"], kept["run"]):
        row(page, thing).locator("input").check()
    page.get_by_role("group", name="Chosen").get_by_role("link", name="Compare").click()
    page.wait_for_selector("#lens-overlay .lens-plotcard[data-drawn]")
    names = page.evaluate("document.querySelector('#lens-overlay .lens-plot').data.map((t) => t.name)")
    assert "A a kept measurement" in names and "B a library run, control" in names


def test_a_comparison_opens_again_and_a_bad_file_is_one_sentence(open_page, kept, tmp_path):
    page = open_page(f"?compare={kept['run']},paper:fig1-emu3", ready="#lens-overlay .lens-plotcard[data-drawn]")
    said = text(page, "#lens-overlay .lens-says")
    path = tmp_path / "comparison.zip"
    save(page, page.locator("#lens-overlay").get_by_role("button", name="All of it (ZIP)")).save_as(path)
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector(READY)
    (tmp_path / "bad.zip").write_bytes(path.read_bytes()[:-200])
    page.set_input_files("#lens-import input", str(tmp_path / "bad.zip"))
    page.wait_for_selector(".lens-library > .lens-message:visible")
    assert "cut short" in text(page, ".lens-library > .lens-message")
    page.set_input_files("#lens-import input", str(path))
    page.wait_for_selector(".lens-detail[data-thing^='bundle:']")
    page.locator(".lens-detail").get_by_role("link", name="Compare").click()
    page.wait_for_selector("#lens-overlay .lens-plotcard[data-drawn]")
    assert text(page, "#lens-overlay .lens-says") == said and "bundle:" in page.url


def test_a_program_sees_the_same(api, kept):
    found = api.predict("kept measurement", api_name="/library")
    assert [item["id"] for item in found["items"]] == [kept["measurement"]]
    assert found["counts"]["measurement"] == 1 and found["captures_bytes"] > 0


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_wide_and_narrow(open_page, kept, scheme, width):
    page = open_page("?library=", scheme=scheme, width=width, ready=READY)
    open_row(page, kept["drawing"])
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    table = page.locator(".lens-library table").bounding_box()
    last = row(page, kept["drawing"]).locator(".lens-size").bounding_box()
    assert last["x"] + last["width"] == pytest.approx(table["x"] + table["width"], abs=2)
    keep(page, f"{scheme}-{width}-library")
