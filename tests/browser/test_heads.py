"""Heads in a real browser: a pinned head's curve and map, the list in its orders, and what is searched for."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from app.closer.maps import encode
from tests.app.test_heads import both_tasks, head_in_step
from tests.browser.person import text
from tests.browser.test_closer import cell, look, put, reads
from tests.made_captures import make_answer

CARD = "#lens-view-heads"
PINNED = f"{CARD} .lens-pinned"


def listed(page):
    """Heads of the list in order, with their values."""
    return page.eval_on_selector_all(
        f"{CARD} .lens-headlist button",
        "all => all.map((b) => [b.dataset.head, b.children[2].textContent, b.children[3].textContent])",
    )


def wait_pinned(page, head):
    page.wait_for_function(
        "([card, head]) => (document.querySelector(card).dataset.drawn || '').endsWith('|' + head)", arg=[PINNED, head]
    )


def only_patch(page, row, column, grid):
    """Answer requests for single heads with one that looks at that patch alone, in every row."""
    looks = np.zeros((5, grid[0] * grid[1]))
    looks[:, row * grid[1] + column] = 0.5
    found = {"slices": [{"cross": encode(looks, (0.0, 0.5)), "earlier": None, "sinks": []}]}
    page.route("**/lens/closer/space-map?*head=3.2*", lambda route: route.fulfill(json=found))


def curve_pixel(page, step, share):
    """The colour of the pinned head's curve at a step and a share of its axis."""
    return page.evaluate(
        """([card, step, share]) => {
          const host = document.querySelector(card + " [data-curve='0']"), canvas = host.querySelector("canvas");
          const { left, top, high, cell } = host.lensSize, grid = canvas.width / canvas.clientWidth;
          const x = left + (step + 0.5) * cell, y = top + high * (1 - share);
          return [...canvas.getContext("2d").getImageData(x * grid, y * grid, 1, 1).data].slice(0, 3);
        }""",
        [PINNED, step, share],
    )


def lit_patches(page, grid):
    """Patches of the pinned head's map that are lighter than its darkest."""
    found = page.evaluate(
        """([card, rows, columns]) => {
          const host = document.querySelector(card + " [data-head-look='0']"), canvas = host.querySelector("canvas");
          const grid = canvas.width / canvas.clientWidth, { cell, high } = host.lensSize, light = [];
          for (let at = 0; at < rows * columns; at++) {
            const x = ((at % columns) + 0.5) * cell * grid, y = (Math.floor(at / columns) + 0.5) * high * grid;
            light.push([...canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3).reduce((a, b) => a + b));
          }
          return light;
        }""",
        [PINNED, *grid],
    )
    return [divmod(at, grid[1]) for at, value in enumerate(found) if value > min(found) + 120]


def test_a_pinned_head_shows_its_steps_its_patch_and_its_point_on_the_curve(open_page, folder, server):
    """Head 2 of layer 3 looks in step 4 alone, and at the patch in row 2, column 5 alone."""
    put(folder, capture := make_answer(head_in_step(), (3, 6), prompt="pinned"))
    page = open_page(f"?capture={capture.id}")
    only_patch(page, 1, 4, (3, 6))
    look(page)
    at = cell(page, "0", 1, 2)
    page.locator(f"{CARD} [data-map='0'] canvas").first.click(position={"x": at["x"], "y": at["y"]})
    wait_pinned(page, "3.2")
    assert curve_pixel(page, 3, 1) == [200, 70, 63] and curve_pixel(page, 1, 0) == [200, 70, 63]
    assert curve_pixel(page, 3, 0.5) != [200, 70, 63]
    assert lit_patches(page, (3, 6)) == [(1, 4)]
    says = text(page, f"{PINNED} .lens-pinned-says")
    assert "gives 0.20 in the mean of its steps, its layer 0.05; it lies above its layer in 1 of 4 steps" in says
    assert "On the picture it looks most at row 2, column 5 (0.5)." in says
    mark = page.evaluate("document.querySelector('.lens-plot').data.find((d) => d.marker?.symbol === 'diamond')")
    assert mark["x"] == [3] and mark["y"][0] == pytest.approx(0.2, abs=1e-5)
    page.locator(f"{PINNED} [data-curve='0'] canvas").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert text(page, f"{PINNED} [data-curve='0'] .lens-map-reads") == "word 4 “word4”: head 0.800, layer 0.200"
    check_files(page)
    page.locator(PINNED).get_by_role("button", name="See it in Space").click()
    page.wait_for_selector("#lens-view-space[data-drawn*='3.2']")
    page.click("#lens-tab-heads")
    page.locator(PINNED).get_by_role("button", name="Unpin").click()
    expect(page.locator(PINNED)).to_be_hidden()
    page.wait_for_function("!document.querySelector('.lens-plot').data.some((d) => d.marker?.symbol === 'diamond')")


def check_files(page):
    def save(name):
        with page.expect_download() as download:
            page.locator(CARD).get_by_role("button", name=name, exact=True).click()
        return Path(download.value.path()).read_bytes()

    tables = [list(csv.reader(io.StringIO(part))) for part in save("CSV").decode().split("\n\n")]
    assert [len(rows) for rows in tables] == [1 + 12, 1 + 10, 1 + 18]
    own = [float(row[4]) for row in tables[1] if row[1] == "this head"]
    np.testing.assert_allclose(own, [0, 0, 0, 0.8, 0], atol=1e-4)
    assert [row[1:3] for row in tables[2][1:] if float(row[3]) > 0] == [["2", "5"]]
    svg = save("SVG").decode()
    assert svg.count("<polyline") >= 2 and svg.count("<image") == 1 and "NaN" not in svg
    assert save("PNG")[:8] == b"\x89PNG\r\n\x1a\n"


def test_heads_are_listed_in_an_order_and_found(open_page, folder, server):
    answer, drawing = both_tasks([[0.9, 0.2], [0.3, 0.1]], [[0.5, 0.6], [0.55, 0.8]])
    changed = make_answer(np.repeat(np.float32([[0.9, 0.2], [0.7, 0.1]])[..., None], 4, -1), prompt="changed")
    put(folder, answer, drawing, changed)
    page = open_page(f"?capture={answer.id}&sort=layer&find=layer+2")
    look(page)
    assert listed(page) == [["2.1", "+0.100", ""], ["2.2", "−0.100", ""]]
    page.fill(f"{CARD} input[type=search]", "")
    page.select_option(f"{CARD} .lens-heads-sort", "")
    assert [head for head, *_ in listed(page)] == ["1.1", "2.1", "1.2", "2.2"]
    page.fill(f"{CARD} input[type=search]", "> 0.15 head 1")
    assert [head for head, *_ in listed(page)] == ["1.1", "2.1"] and "find=" in page.url
    page.fill(f"{CARD} input[type=search]", "nonsense")
    assert "Expected a search such as 3.2" in text(page, f"{CARD} .lens-heads-said")
    page.fill(f"{CARD} input[type=search]", "")
    page.select_option(f"{CARD} .lens-heads-sort", "change")
    assert "Choose a capture of the same task" in text(page, f"{CARD} .lens-heads-said")
    page.evaluate("id => lens.closer.set({ with: id })", changed.id)
    page.wait_for_function(
        "card => document.querySelector(card + ' .lens-headlist').innerText.includes('B 0.70')",
        arg=CARD,
    )
    assert listed(page)[0] == ["2.1", "−0.400", "A 0.30, B 0.70"]
    page.select_option(f"{CARD} .lens-heads-sort", "und")
    page.wait_for_function(
        "card => document.querySelector(card).innerText.includes('A and B are of one task')", arg=CARD
    )
    page.evaluate("id => lens.closer.set({ with: id })", drawing.id)
    page.wait_for_function("card => document.querySelector(card).innerText.includes('Most of all')", arg=CARD)
    assert listed(page)[0] == ["1.1", "+1.000", "image 0.90, text 0.50"]
    assert cell(page, "tasks", 0, 0)["colour"] == [224, 123, 0]
    page.select_option(f"{CARD} .lens-heads-sort", "gen")
    page.wait_for_function(
        "card => document.querySelector(card + ' .lens-headlist button').dataset.head === '2.2'", arg=CARD
    )
    assert listed(page)[0] == ["2.2", "+1.000", "image 0.10, text 0.80"]
    page.locator(f"{CARD} .lens-headlist button").first.focus()
    page.keyboard.press("Enter")
    assert "head=2.2" in page.url and "sort=gen" in page.url
    assert reads(page, "tasks").startswith("Layer 2, head 2: -1.000 difference of ranks")
    wait_pinned(page, "2.2")
