"""The card "Does it matter?" in a real browser: knocked out on the real model, kept, made again, linked, saved."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.person import draw, drawn, text
from tests.browser.test_closer import put
from tests.made_captures import make_answer

CARD = "#lens-view-matters"
TRACES = f"document.querySelector('{CARD} .lens-plot').data"


def turn(page):
    """Turn to the card and wait for its chart."""
    page.evaluate("lens.closer.set({ closer: 'matters' })")
    page.evaluate("document.querySelector('#lens-closer').scrollIntoView()")
    page.wait_for_selector(f"{CARD}[data-drawn^='{drawn(page).split(':')[0]}']")


def known(page, value=True):
    """Wait until the chart shows what was found, or that nothing was yet."""
    page.wait_for_function(
        "([card, end]) => document.querySelector(card).dataset.drawn?.endsWith('|' + end)",
        arg=[CARD, str(value).lower()],
    )


def then(page, act):
    """Do something and wait until the chart was drawn anew."""
    before = page.get_attribute(CARD, "data-drawn")
    act()
    page.wait_for_function("([card, b]) => document.querySelector(card).dataset.drawn !== b", arg=[CARD, before])


def drops(page):
    return page.evaluate(f"{TRACES}.find(({{ name }}) => name.startsWith('without looking')).y")


def saved(page, name, where=".lens-actions >> nth=0"):
    with page.expect_download() as download:
        page.locator(CARD).locator(where).get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()).read_bytes()


def test_an_answer_is_knocked_out_kept_linked_and_saved(open_page):
    page = open_page()
    turn(page)
    assert "press Knock out" in text(page, f"{CARD} .lens-says")
    page.click(".lens-matters-run")
    known(page)
    assert "rests most on layers 1–2" in text(page, f"{CARD} .lens-says") and "r = " in text(page, f"{CARD} .lens-says")
    found = drops(page)
    assert len(found) == 8 and max(found) == found[0] > 5
    expect(page.locator(".lens-matters-run")).to_be_disabled()
    rows = list(csv.DictReader(io.StringIO(saved(page, "CSV").decode())))
    assert [float(row["drop"]) for row in rows[:8]] == pytest.approx(found, abs=1e-4) and len(rows) == 9
    assert saved(page, "PNG")[:8] == b"\x89PNG\r\n\x1a\n"
    svg = saved(page, "SVG").decode()
    assert "rests most on layers" in svg and "NaN" not in svg
    then(page, lambda: page.locator(".lens-matters-width").fill("3"))
    known(page, False)
    assert "width=3" in page.url and text(page, f"{CARD} output") == "3 of 8 layers"
    then(page, lambda: page.locator(".lens-matters-width").fill("2"))
    known(page)  # found before, so shown at once
    assert "width" not in page.url and drops(page) == found
    again = open_page("?" + page.url.split("?")[1])
    turn(again)
    known(again)
    assert drops(again) == found


def test_a_window_is_chosen_on_the_map_and_the_answer_made_again(open_page):
    page = open_page()
    turn(page)
    if page.is_enabled(".lens-matters-run"):
        page.click(".lens-matters-run")
    known(page)
    canvas = page.locator(f"{CARD} .lens-matters-tokens .lens-map-canvas")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    assert text(page, f"{CARD} .lens-matters-tokens .lens-map-reads").startswith("Without layers 1–2, “a”: ")
    then(page, lambda: page.keyboard.press("Enter"))
    assert "cut=1" in page.url and page.input_value(".lens-matters-cut") == "1"
    page.click(".lens-matters-remake")
    page.wait_for_selector(".lens-matters-texts")
    with_it, without = page.locator(".lens-matters-texts q").all_inner_texts()
    assert with_it != without and "answers “" in text(page, ".lens-matters-texts p")
    then(page, lambda: page.select_option(".lens-matters-cut", "all"))
    expect(page.locator(".lens-matters-texts")).to_have_count(0)
    then(page, lambda: page.select_option(".lens-matters-cut", "1"))
    page.wait_for_selector(".lens-matters-texts")  # kept


def test_a_drawing_loses_its_prompt_and_the_changed_patches_are_framed(open_page):
    page = open_page()
    draw(page, "a green circle above a red square")
    turn(page)
    page.click(".lens-matters-run")
    known(page)
    assert "The drawing rests most on layers 1–2" in text(page, f"{CARD} .lens-says")
    then(page, lambda: page.select_option(".lens-matters-cut", "all"))
    page.click(".lens-matters-remake")
    page.wait_for_selector(".lens-matters-pictures img >> nth=1")
    sentence = text(page, ".lens-matters-pictures p")
    changed = int(sentence.split()[0])
    path = page.get_attribute(".lens-matters-frame path", "d")
    assert changed > 0 and path.count("M") == changed and "of 63 patches" in sentence


def test_a_run_can_be_stopped_and_what_cannot_run_is_a_sentence(open_page, folder):
    put(folder, capture := make_answer(np.full((4, 2, 3), 0.5, np.float32), prompt="matters", model="gone"))
    page = open_page(f"?capture={capture.id}&closer=matters")
    page.wait_for_selector(f"{CARD}[data-drawn^='{capture.id}']")
    page.click(".lens-matters-run")
    page.wait_for_selector(".lens-matters-said:visible")
    assert "gone is not on this machine" in text(page, ".lens-matters-said")
    expect(page.locator(f"{CARD} .lens-plot .main-svg").first).to_be_visible()  # the chart stays
    page.route("**/lens/matters", lambda route: None)  # a server that takes its time
    page.click(".lens-matters-run")
    page.click(".lens-matters-stop")
    page.wait_for_function("() => document.querySelector('.lens-matters-said').innerText.startsWith('Stopped')")
    expect(page.locator(".lens-matters-run")).to_be_enabled()
    page.unroute("**/lens/matters")
    page = open_page(f"?capture={capture.id}&closer=matters&width=99")
    page.wait_for_selector(".lens-matters-said:visible")
    assert "Expected 1 to 4 layers in a window, got “99”" in text(page, ".lens-matters-said")
    silent = make_answer(np.ones((4, 2, 1), np.float32), prompt="silent")
    object.__setattr__(silent, "text", "")
    put(folder, silent)
    page = open_page(f"?capture={silent.id}&closer=matters")
    page.wait_for_selector(f"{CARD}[data-drawn='{silent.id}|empty']")
    assert "has no words" in text(page, f"{CARD} .lens-says")
    expect(page.locator(f"{CARD} .lens-plot")).to_be_hidden()


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 800)])
def test_it_fits_light_and_dark_and_a_narrow_window(open_page, scheme, width):
    page = open_page(scheme=scheme, width=width)
    turn(page)
    inside = page.eval_on_selector_all(
        f"{CARD} *:not(.lens-map-scroll *)",
        "all => all.every((e) => e.getBoundingClientRect().right <= innerWidth + 1)",
    )
    assert inside and page.evaluate("document.documentElement.scrollWidth") <= width
    colour = page.evaluate(f"{TRACES}.find(({{ name }}) => name === 'intensity').line.color")
    assert colour == {"dark": "#ef7d74", "light": "#c8463f"}[scheme]
