"""The Time view in a real browser: what is drawn of each step, read, followed into Space, linked and saved."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.app.test_time import branches, one_step
from tests.browser.person import choose_definition, text
from tests.browser.test_closer import cell, look, point, put, reads
from tests.made_captures import make_answer, make_drawing

CARD = "#lens-view-time"
NOTHING, MOST = [245, 244, 241], [127, 31, 26]  # the ends of the scale of understanding


@pytest.fixture
def open_time(open_page):
    """Opens a capture's Time view at a query."""

    def open_(capture, query="", **settings):
        page = open_page(f"?capture={capture.id}&closer=time{query}", **settings)
        look(page, "time")
        return page

    return open_


@pytest.fixture
def answer(folder, server):
    """Four words, of which the third alone looks at the picture, in layer 2 alone."""
    put(folder, capture := make_answer(one_step(share=1.0), prompt="time"))
    return capture


@pytest.fixture
def guided(folder, server):
    """A drawing that looks at the prompt ever less; without the prompt it gives a quarter."""
    put(folder, capture := make_drawing(branches(np.linspace(0.6, 0.1, 6), 0.25)))
    return capture


def saved(page, name):
    with page.expect_download() as download:
        page.locator(CARD).get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()).read_bytes()


def turn_to(page, capture):
    """Show another capture on the same page, as a new result does; opening a page takes seconds."""
    about = {"id": capture.id, "task": capture.task.value, "definition": "figure"}
    page.evaluate("about => lens.showCapture(about)", about)
    page.wait_for_function(
        "([card, name]) => document.querySelector(card + ' figcaption').innerText.includes(name)",
        arg=[CARD, capture.key.prompt],
    )


def test_the_one_step_that_looks_is_dark_and_is_followed_to_its_word(open_time, answer):
    page = open_time(answer)
    colours = {(layer, word): cell(page, "0 0", layer, word)["colour"] for layer in range(3) for word in range(4)}
    assert colours.pop((1, 2)) == MOST
    assert [colour for colour in colours.values() if colour != NOTHING] == []
    assert point(page, "0 0", 1, 2) == "Layer 2, word 3 “word3”: 1.000 of its attention on the image"
    assert point(page, "0 0", 0, 3).startswith("Layer 1, word 4 “word4”: 0.000")
    assert "Word 3 “word3” looks most at the image, in layer 2: 1.00" in text(page, f"{CARD} .lens-says")
    at = cell(page, "0 0", 1, 2)
    page.locator(f"{CARD} [data-map='0 0'] canvas").first.click(position={"x": at["x"], "y": at["y"]})
    page.wait_for_selector(f"#lens-view-space[data-drawn^='{answer.id}']")
    assert all(part in page.url for part in ("closer=space", "word=3", "layer=2", "step=2.3"))
    assert "“word3” looks most at row 1, column 1" in text(page, "#lens-view-space .lens-says")
    page.click("#lens-tab-time")
    expect(page.locator(f"{CARD} [data-map='0 0'] .lens-map-pin")).to_be_visible()
    assert reads(page, "0 0").startswith("Layer 2, word 3 “word3”")


def test_the_row_of_a_word_itself_is_one_step_later_and_linked(open_time, answer, folder):
    page = open_time(answer, "&fed=1&step=2.4")
    assert page.input_value(f"{CARD} select") == "1" and cell(page, "0 0", 1, 1)["colour"] == MOST
    assert reads(page, "0 0") == "Layer 2, word 4 “word4”: never fed back"
    page.select_option(f"{CARD} select", "")
    page.wait_for_function("card => document.querySelector(card).innerText.includes('Word 3 “word3” looks')", arg=CARD)
    assert "fed=" not in page.url and cell(page, "0 0", 1, 2)["colour"] == MOST
    put(folder, other := make_answer(one_step(share=1.0, row=1), prompt="another time"))
    page.evaluate("other => lens.closer.set({ with: other })", other.id)
    page.wait_for_selector(f"{CARD} [data-map='difference 0'][data-painted]:visible")
    assert cell(page, "difference 0", 1, 2)["colour"] == [224, 123, 0]  # A looks more
    assert cell(page, "difference 0", 1, 1)["colour"] == [94, 60, 153]  # B looks more
    assert "in layer 2: 0.000 in A, 1.000 in B" in text(page, f"{CARD} .lens-says")


def test_branches_of_guidance_stand_side_by_side_and_are_read_together(open_time, guided):
    page = open_time(guided)
    boxes = page.eval_on_selector_all(
        f"{CARD} [data-map='0 0'], {CARD} [data-map='0 1']",
        "all => all.map((map) => map.getBoundingClientRect().toJSON())",
    )
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["right"] < boxes[1]["x"]
    titles = [text(page, f"{CARD} [data-map='0 {branch}'] figcaption") for branch in (0, 1)]
    assert titles[0].endswith(", conditional") and titles[1].endswith(", unconditional")
    first, last = (cell(page, "0 0", 0, step)["colour"] for step in (0, 5))
    other = {tuple(cell(page, "0 1", layer, step)["colour"]) for layer in (0, 1) for step in range(6)}
    assert len(other) == 1 and sum(first) < sum(*other) < sum(last)  # darker is more
    check_files(page)
    page.locator(f"{CARD} [data-map='0 0'] .lens-map-canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert reads(page, "0 0") == "Layer 2, patch in row 2, column 2: 0.200 of its attention on the text"
    assert reads(page, "0 1") == "Layer 2, patch in row 2, column 2: 0.250 of its attention on the text"
    assert reads(page, "difference 0") == "Layer 2, patch in row 2, column 2: −0.050 difference of shares"
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#lens-view-space[data-drawn^='{guided.id}']")
    assert "patch=5" in page.url and "layer=2" in page.url
    page.click("#lens-tab-time")
    choose_definition(page, "strict")
    expect(page.locator(f"{CARD} [data-map='0 1']")).to_be_hidden()
    assert "no prompt words" in text(page, f"{CARD} .lens-explains")


def check_files(page):
    rows = list(csv.reader(io.StringIO(saved(page, "CSV").decode())))
    assert rows[0][1:4] == ["layer", "patch, in the order drawn", "name"] and len(rows) == 1 + 3 * 12
    assert rows[6][1:] == ["1", "6", "patch in row 2, column 3", "0.10000"]
    assert {row[0].rsplit(", ")[-1] for row in rows[1:]} == {
        "conditional", "unconditional", "conditional − unconditional",
    }  # fmt: skip
    assert saved(page, "PNG")[:8] == b"\x89PNG\r\n\x1a\n"
    svg = saved(page, "SVG").decode()
    assert svg.count("<rect") > 36 and "conditional − unconditional" in svg and "NaN" not in svg


def test_it_fits_a_dark_narrow_window_and_captures_of_any_size(open_time, guided, folder):
    page = open_time(guided, scheme="dark", width=800)
    one = make_drawing(branches(0.5, 0.25, layers=1, heads=1, rows=7), (1, 7), prompt="one layer, one head")
    single = make_drawing(branches(0.5, 0.25, layers=1, heads=1, rows=1), (1, 1), prompt="one patch")
    silent = replace(make_answer(np.ones((2, 2, 1), np.float32), prompt="nothing said"), text="")
    put(folder, one, single, silent)
    for capture, (rows, columns) in ((guided, (2, 6)), (one, (1, 7)), (single, (1, 1))):
        if capture is not guided:
            turn_to(page, capture)
        box = page.locator(CARD).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 800
        assert cell(page, "0 0", rows - 1, columns - 1)["colour"] != cell(page, "0 0", rows - 1, columns + 3)["colour"]
        assert point(page, "0 0", rows - 1, columns - 1).startswith(f"Layer {rows}, patch in row")
    page.evaluate("id => lens.showCapture({ id, task: 'understanding', definition: 'figure' })", silent.id)
    page.wait_for_function("card => document.querySelector(card).innerText.includes('has no words')", arg=CARD)
    expect(page.locator(f"{CARD} [data-map='0 0']")).to_be_hidden()
    expect(page.locator(f"{CARD} .lens-actions")).to_be_hidden()
