"""The README's walk, "which heads read colour", as a person goes it. Screenshots go where $SCREENSHOTS says.

SCREENSHOTS=assets/screenshots python -m pytest tests/browser/test_walk.py
"""

import os
from pathlib import Path

import numpy as np

from tests.browser.person import ask, choose_sample, text
from tests.browser.test_closer import look
from tests.browser.test_matters import known, turn
from tests.browser.test_space import saved_patches

MATTERS = "#lens-view-matters"
SQUARE = {(row, column) for row in range(3) for column in range(3)}  # patches of the purple one, at the top left


def keep(page, selector, name, scheme="light"):
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.emulate_media(color_scheme=scheme)
        page.mouse.move(0, 0)
        page.wait_for_timeout(400)  # hover and transitions settle
        page.locator(selector).screenshot(path=Path(folder) / f"{name}-{scheme}.png")
        page.emulate_media(color_scheme="light")


def test_which_head_reads_colour(open_page):
    page = open_page()
    choose_sample(page, 1)
    ask(page, "what color is the square?")
    assert "purple" in text(page, ".lens-result")
    look(page)  # Heads: nearly all look at the image, so looking does not tell them apart
    assert "Half of all heads give the image less than 0.7" in text(page, "#lens-view-heads .lens-says")

    turn(page)
    page.click(".lens-matters-run")
    known(page)
    page.click(".lens-matters-heads")
    page.wait_for_selector(f"{MATTERS}[data-heads='look|true']")
    assert "head 3 of layer 2 gives back" in text(page, ".lens-matters-headsays")
    page.locator(f"{MATTERS} [data-map='heads-0'] .lens-map-canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    says = text(page, f"{MATTERS} [data-map='heads-0'] .lens-map-reads")
    assert says.startswith("Layer 2, head 3: alone looking at the image, gives back")
    page.keyboard.press("Enter")
    assert "head=2.3" in page.url
    for scheme in ("light", "dark"):
        keep(page, MATTERS, "walk-matters", scheme)

    page.evaluate("lens.closer.set({ closer: 'space' })")
    page.wait_for_function("() => document.querySelector('#lens-view-space').dataset.drawn?.includes('2.3')")
    seen = saved_patches(page)
    assert max(seen, key=seen.get) in SQUARE and sum(seen[place] for place in SQUARE) > 0.5
    assert np.isfinite(list(seen.values())).all()
    keep(page, "#lens-view-space", "walk-space")
    page.evaluate("lens.closer.set({ closer: 'matters' })")
    page.select_option(".lens-matters-alone", "cut")
    page.wait_for_selector(f"{MATTERS}[data-heads='cut|false']")
    assert "alone=cut" in page.url
