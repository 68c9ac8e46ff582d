"""The closer views in a real browser: what is drawn, read, pinned, linked and saved."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from backend.people.captures import PeoplesCaptures
from tests.app.test_space import drawing_that_looks
from tests.browser.person import choose_definition, drawn
from tests.made_captures import make_answer, make_drawing


def put(folder, *captures):
    """Keep captures in the running server's store, as the most recent ones of its history."""
    store = PeoplesCaptures(folder / "data" / "captures", 2**30, folder / "data" / "people")
    for capture in captures:
        store.put(capture)
    store.close()


def look(page, view="heads"):
    """Bring the block into sight and wait for the view's data."""
    page.wait_for_selector("#lens-closer", state="attached")
    page.evaluate("document.querySelector('#lens-closer').scrollIntoView()")
    page.wait_for_selector(f"#lens-view-{view}[data-state=shown]")


def cell(page, name, row, column):
    """The middle of a map's cell, and its colour, from the canvas itself."""
    return page.evaluate(
        """([name, row, column]) => {
          const host = document.querySelector(`.lens-view:not([hidden]) [data-map="${name}"]`);
          const canvas = host.querySelector("canvas"), size = host.lensSize;
          const x = size.left + (column + 0.5) * size.cell, y = (row + 0.5) * size.high;
          const grid = canvas.width / canvas.clientWidth;
          const [r, g, b] = canvas.getContext("2d").getImageData(x * grid, y * grid, 1, 1).data;
          return { x, y, colour: [r, g, b] };
        }""",
        [name, row, column],
    )


def point(page, name, row, column):
    """Point at a cell; what the map says of it."""
    at = cell(page, name, row, column)
    page.locator(f".lens-view:not([hidden]) [data-map='{name}'] canvas").first.hover(
        position={"x": at["x"], "y": at["y"]}
    )
    return reads(page, name)


def reads(page, name):
    return page.inner_text(f".lens-view:not([hidden]) [data-map='{name}'] .lens-map-reads")


@pytest.fixture
def one_head(folder, server):
    """An answer in which head 2 of layer 3 alone looks at the image."""
    shares = np.zeros((5, 4, 6), np.float32)
    shares[2, 1] = 1
    put(folder, capture := make_answer(shares, prompt="one head"))
    return capture


def test_the_one_head_that_looks_is_dark_and_read_out(open_page, one_head):
    page = open_page(f"?capture={one_head.id}")
    look(page)
    colours = {(h, k): tuple(cell(page, "0", h, k)["colour"]) for h in range(4) for k in range(5)}
    dark = colours.pop((1, 2))
    assert set(colours.values()) == {(245, 244, 241)}  # nothing at all
    assert dark == (127, 31, 26)  # the end of the scale
    assert point(page, "0", 1, 2).startswith("Layer 3, head 2: 1.000")
    assert point(page, "0", 0, 0).startswith("Layer 1, head 1: 0.000")
    assert "Head 2 of layer 3 looks most at the image: 1.00" in page.inner_text("#lens-view-heads .lens-says")


def test_a_pinned_head_is_in_the_address_and_comes_back(open_page, one_head):
    page = open_page(f"?capture={one_head.id}")
    look(page)
    at = cell(page, "0", 1, 2)
    page.locator("[data-map='0'] .lens-map-canvas").click(position={"x": at["x"], "y": at["y"]})
    assert "head=3.2" in page.url
    other = open_page("?" + page.url.split("?")[1])
    look(other)
    expect(other.locator("[data-map='0'] .lens-map-pin")).to_be_visible()
    assert reads(other, "0").startswith("Layer 3, head 2")


def test_the_keyboard_reads_and_pins(open_page, one_head):
    page = open_page(f"?capture={one_head.id}")
    look(page)
    page.locator("[data-map='0'] .lens-map-canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert reads(page, "0").startswith("Layer 3, head 2: 1.000")
    page.keyboard.press("Enter")
    assert "head=3.2" in page.url


WATCH_WIDTHS = """
  window.widths = {};
  const see = (changed) => {
    for (const canvas of changed.querySelectorAll(".lens-map-canvas, .lens-patch-canvas")) {
      const { map, look } = canvas.closest("[data-map], [data-look]").dataset;
      if (canvas.clientWidth) window.widths[map ?? look] ??= canvas.clientWidth;
    }
  };
  new MutationObserver((changes) => requestAnimationFrame(() => changes.forEach(({ target }) => see(target))))
    .observe(document, { subtree: true, attributes: true, attributeFilter: ["data-painted", "data-drawn"] });"""
WIDTHS = """(names) => {
  const widthOf = (name) => document.querySelector(
    `.lens-view:not([hidden]) :is([data-map="${name}"], [data-look="${name}"]) canvas`).clientWidth;
  return Object.fromEntries(names.map((name) => [name, widthOf(name)]));
}"""


@pytest.mark.parametrize("view", ["heads", "time", "space"])
def test_a_map_is_drawn_at_once_at_the_size_it_keeps(open_page, folder, server, view):
    """Drawn before its neighbours are hidden, it would be half as wide for a frame, and a click would go astray."""
    put(folder, capture := drawing_that_looks())
    page = open_page(f"?capture={capture.id}&closer={view}", script=WATCH_WIDTHS)
    look(page, view)
    page.wait_for_function("Object.keys(widths).length")
    page.evaluate("() => new Promise((done) => setTimeout(done, 300))")
    first = page.evaluate("widths")
    assert first == page.evaluate(WIDTHS, list(first))


def test_a_partner_brings_its_map_and_the_difference(open_page, one_head, folder):
    shares = np.zeros((5, 4, 6), np.float32)
    shares[0, 3] = 0.5
    put(folder, other := make_answer(shares, prompt="the other head"))
    page = open_page(f"?capture={one_head.id}")
    look(page)
    page.select_option(".lens-partner select", other.id)
    page.wait_for_selector(
        "[data-map='difference']:visible [data-painted], [data-map='difference'][data-painted]:visible"
    )
    assert f"with={other.id}" in page.url
    assert point(page, "difference", 1, 2).startswith("Layer 3, head 2: 1.000")
    assert point(page, "difference", 3, 0).startswith("Layer 1, head 4: -0.500")
    assert cell(page, "difference", 1, 2)["colour"] == [224, 123, 0]  # A looks more
    page.select_option(".lens-partner select", "")
    expect(page.locator("[data-map='difference']")).to_be_hidden()
    paste_partner(page, other, one_head)


def paste_partner(page, other, front):
    """A partner by a pasted link; what is no link, or one's own, is said to be so."""
    page.select_option(".lens-partner select", "paste")
    for text, sentence in (("hello", "got “hello”"), (f"http://x/?capture={front.id}", "is the capture in front")):
        page.fill(".lens-paste", text)
        page.press(".lens-paste", "Enter")
        assert sentence in page.inner_text(".lens-partner .lens-message")
    page.fill(".lens-paste", f"https://lens.example/?capture={other.id}&definition=strict&closer=time")
    page.press(".lens-paste", "Enter")
    expect(page.locator("[data-map='difference']")).to_be_visible()
    expect(page.locator(".lens-paste")).to_be_hidden()
    expect(page.locator(".lens-partner select")).to_have_value(other.id)
    assert f"with={other.id}" in page.url


def test_definitions_switch_without_asking_and_a_new_result_is_shown(open_page, folder):
    put(folder, capture := make_drawing(np.full((2, 3, 2, 6), 0.25, np.float32)))
    page = open_page(f"?capture={capture.id}")
    look(page)
    asked = []
    page.on("request", lambda r: asked.append(r.url) if "lens/closer" in r.url else None)
    assert point(page, "0", 0, 0).startswith("Layer 1, head 1: 0.250")
    choose_definition(page, "strict")
    assert asked == []
    before = drawn(page)
    page.click("#lens-draw")
    page.wait_for_function("(b) => document.querySelector('.lens-chart').dataset.drawn !== b", arg=before)
    page.wait_for_function("document.querySelector('#lens-view-heads figcaption').innerText.includes('a red circle')")


def test_what_is_not_there_is_a_sentence_on_the_card(open_page, folder):
    put(folder, short := make_answer(np.ones((2, 2, 1), np.float32), prompt="short"))
    page = open_page(f"?capture={short.id}")
    look(page)
    assert "too short to look into" in page.inner_text("#lens-view-heads .lens-says")
    expect(page.locator("[data-map='0']")).to_be_hidden()
    sentence = "No capture “x” is stored here."  # with status 404 from the server, which the browser logs as an error
    page.route("**/lens/closer/heads?*with=*", lambda route: route.fulfill(json={"error": sentence}))
    put(folder, other := make_answer(np.ones((2, 2, 3), np.float32), prompt="to be deleted"))
    page.reload()
    look(page)
    page.select_option(".lens-partner select", other.id)
    page.wait_for_selector("#lens-view-heads[data-state=failed]")
    assert page.inner_text("#lens-view-heads .lens-message") == sentence
    expect(page.locator("#lens-view-heads .lens-view-body")).to_be_hidden()
    page.select_option(".lens-partner select", "")
    look(page)


def test_the_files_are_what_is_shown(open_page, one_head):
    page = open_page(f"?capture={one_head.id}")
    look(page)

    def save(name):
        with page.expect_download() as download:
            page.locator("#lens-view-heads").get_by_role("button", name=name, exact=True).click()
        return Path(download.value.path()).read_bytes()

    rows = list(csv.reader(io.StringIO(save("CSV").decode())))
    assert rows[0][1:3] == ["head", "layer"] and len(rows) == 1 + 20
    assert [row[1:] for row in rows[1:] if float(row[3]) > 0] == [["2", "3", "1.00000"]]
    assert save("PNG")[:8] == b"\x89PNG\r\n\x1a\n"
    svg = save("SVG").decode()
    assert svg.count('fill="rgb(127,31,26)"') >= 1 and "layer" in svg and "NaN" not in svg
    assert json.dumps(svg)


BROKEN = ("NaN", "undefined", "Infinity", "[object")


def odd_captures():
    """The smallest, the emptiest, the oldest."""
    one_head = np.full((1, 1, 1, 5), 0.4, np.float32)
    wide = make_drawing(np.full((2, 1, 1, 5), 0.4, np.float32), (1, 5), prompt="one layer, one head, one row")
    wide = replace(wide, drawn=np.zeros((1, 5, 5), np.float16), cross=np.full((1, 5, 3), 0.1, np.float16))
    return [
        wide,
        make_drawing(one_head, (5, 1), prompt="one column, as captures were before attention between patches"),
        make_drawing(one_head[..., :1], (1, 1), prompt="one patch"),
        make_drawing(one_head, (2, 3), prompt="other rows than patches"),
        make_answer(np.full((1, 1, 4), 0.5, np.float32), (1, 4), prompt="one layer, one head, four patches in a row"),
        make_answer(np.full((1, 1, 1), 0.5, np.float32), (1, 1), prompt="one word"),
        replace(make_answer(np.full((2, 2, 1), 0.5, np.float32), prompt="no word"), text=""),
        nothing_at_all(),
    ]


def nothing_at_all():
    """An answer without even the step that would have chosen a word."""
    one = make_answer(np.full((2, 2, 1), 0.5, np.float32), prompt="no step")
    return replace(
        one, text="", mass=one.mass[:, :, :, :0], cross=one.cross[:, :0], query_positions=one.query_positions[:0]
    )


def test_no_capture_breaks_a_view(open_page, folder, server):
    """Each view of each odd capture, alone and beside another, is a picture or a sentence."""
    captures = odd_captures()
    put(folder, *captures)
    page = open_page(f"?capture={captures[0].id}", width=800)
    look(page)
    for beside in ("", captures[0].id, captures[4].id):
        for capture in captures:
            about = {"id": capture.id, "task": capture.task.value, "definition": "figure"}
            page.evaluate("([about, w]) => [lens.showCapture(about), lens.closer.set({ with: w })]", [about, beside])
            for view in ("heads", "time", "space"):
                page.evaluate("closer => lens.closer.set({ closer, head: closer === 'heads' ? '1.1' : '' })", view)
                pair = f"{capture.id}|{beside if beside != capture.id else ''}"
                check_whole(page, view, capture, pair)


def check_whole(page, view, capture, pair):
    card = f"#lens-view-{view}"
    page.wait_for_selector(f"{card}[data-state=shown][data-of='{pair}']")
    if view == "heads":
        page.wait_for_selector(f"{card} .lens-pinned[data-drawn='{pair}|1.1']")
    text = page.inner_text(card)
    assert [word for word in BROKEN if word in text] == [], f"{view} of “{capture.key.prompt}”"
    sizes = page.eval_on_selector_all(
        f"{card} canvas", "all => all.filter((c) => c.offsetParent).map((c) => [c.width, c.height])"
    )
    assert all(w >= 10 and h >= 1 for w, h in sizes)
    assert sizes or len(page.inner_text(f"{card} .lens-says")) > 20
