"""The Fine-tune form as a person fills it: own data with a bad row, targets fitted and edited, too large a run."""

import re

import pytest
from playwright.sync_api import expect

from tests.backend.zips import asking, drawing, picture, write_rows, write_zip
from tests.browser.person import open_fold, text
from tests.browser.test_finetune_page import fill_small_run, start, traces, turn_to_finetune, wait_for_state
from tests.browser.test_look import BACKGROUNDS, keep

ALERT = "#lens-estimate [role=alert]"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four rows, of which one names an image that is not in the ZIP."""
    folder = tmp_path_factory.mktemp("own")
    rows = [asking("a.png"), drawing("a.png"), drawing("b.png"), asking("gone.png")]
    images = {"photos/a.png": picture(1, 64), "photos/b.png": picture(2, 64)}
    return [write_rows(folder / "mine.jsonl", rows), write_zip(folder / "images.zip", images)]


def choose(page, label, option):
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option).first.click()


def chart_key(page):
    return page.get_attribute("#lens-targets .lens-steps", "data-drawn")


def wait_for_another_chart(page, former):
    page.wait_for_function(
        "former => document.querySelector('#lens-targets .lens-steps').dataset.drawn !== former", arg=former
    )
    return chart_key(page)


def targets_drawn(page):
    return [y for name, _, y in traces(page, "#lens-targets") if name == "target"]


def upload_files(page, files):
    open_fold(page, "Use your own data")
    page.set_input_files("#lens-upload input", [str(file) for file in files])
    page.wait_for_selector("#lens-data-report .lens-bad-rows")


def test_own_data_with_a_bad_row_are_reported_and_trained_on(open_page, api, files):
    page = open_page()
    turn_to_finetune(page)
    upload_files(page, files)
    assert "4 rows: 1 understanding, 2 generation, 1 bad; 2 images." in text(page, "#lens-data-report")
    assert text(page, ".lens-bad-rows tbody tr") == '4 image not found at "gone.png"'
    fill_small_run(page, steps=2, sample_count=0)
    page.get_by_label("Also train a control").uncheck()
    page.click("#lens-start")
    expect(page.locator("#lens-start-message")).to_contain_text("got 1 bad of 4; correct them, or train on the good")
    page.get_by_label("Train on the good rows only").check()
    run = start(page, api)
    config = api.predict(run, api_name="/run_status")["config"]
    assert re.fullmatch("dataset:[0-9a-f]{16}", config["data"]) and config["skip_bad_rows"] is True
    wait_for_state(page, run, "finished")


def test_targets_are_fitted_to_a_capture_then_edited_and_saved(open_page):
    page = open_page()
    turn_to_finetune(page)
    open_fold(page, "Edit, fit or save targets")
    former, before = chart_key(page), targets_drawn(page)
    choose(page, "Fit understanding to", re.compile("tiny-janus: "))
    page.fill("#lens-fit-stages input", "2")
    page.get_by_role("button", name="Fit", exact=True).click()
    former = wait_for_another_chart(page, former)
    expect(page.locator("#lens-stages-message")).to_contain_text("Generation keeps its stages; understanding fitted to")
    fitted = targets_drawn(page)
    assert fitted[0] == before[0] and len(set(fitted[1])) == 2 != len(set(before[1]))

    cell = page.get_by_label("T of generation, layers 1 to 1")
    cell.fill("0.9")
    former = wait_for_another_chart(page, former)
    assert targets_drawn(page)[0][0] == 0.9
    expect(page.get_by_role("combobox", name="Targets", exact=True)).to_have_value("own stages, as below")
    cell.fill("1.9")
    expect(page.locator("#lens-stages-message")).to_contain_text(
        "Expected T from 0 to 1 for generation, layer 1, got 1.9"
    )
    assert targets_drawn(page)[0][0] == 0.9
    cell.press("ArrowDown")
    cell.fill("0.8")
    former = wait_for_another_chart(page, former)

    rows = page.locator(".lens-stages tbody tr")
    count = rows.count()
    page.get_by_role("button", name="Add a stage").click()
    expect(rows).to_have_count(count + 1)
    rows.last.get_by_role("button", name="Remove").press("Enter")
    expect(rows).to_have_count(count)
    choose(page, "Reference from the paper", "HunyuanImage-3.0, fig. 1")
    expect(page.locator("#lens-targets .lens-says")).to_contain_text("Dashed: HunyuanImage-3.0, fig. 1, by depth.")

    page.get_by_label("Save as").fill("from the browser")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#lens-stages-message")).to_contain_text("Saved as “from the browser”.")
    expect(page.get_by_role("combobox", name="Targets", exact=True)).to_have_value("from the browser")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    assert download.value.suggested_filename == "from-the-browser.json"


def test_what_cannot_fit_is_said_where_the_estimate_was(open_page):
    page = open_page()
    turn_to_finetune(page)
    expect(page.locator("#lens-estimate")).to_contain_text("Memory: about")
    page.fill("#lens-set-batch-size input", "65536")
    page.wait_for_selector(ALERT)
    told = text(page, ALERT)
    assert re.fullmatch(r"Expected at most .* of memory, got .*; choose accumulation \d+, or batch size \d+\.", told)
    page.click("#lens-start")
    expect(page.locator("#lens-start-message")).to_contain_text("of memory, got")
    page.fill("#lens-set-batch-size input", "16")
    page.wait_for_selector(".lens-memory summary")
    page.click(".lens-memory summary")
    expect(page.locator(".lens-memory li")).to_have_count(4)


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_form_light_and_dark_wide_and_narrow(open_page, files, scheme, width):
    page = open_page(scheme=scheme, width=width)
    turn_to_finetune(page)
    upload_files(page, files)
    open_fold(page, "Edit, fit or save targets")
    page.wait_for_selector(".lens-stages tbody tr")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    form = page.locator("#lens-tune-form").bounding_box()
    for field in page.locator("#lens-tune-form :is(input:not([type=file]), button):visible").all():
        box = field.bounding_box()
        assert form["x"] - 1 <= box["x"] and box["x"] + box["width"] <= form["x"] + form["width"] + 1
    keep(page, f"form-{scheme}-{width}")
