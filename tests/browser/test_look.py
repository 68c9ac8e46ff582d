"""Light and dark, wide and narrow. Screenshots go to the folder that $SCREENSHOTS names."""

import os
from pathlib import Path

import pytest

from tests.browser.person import draw, drawn

BACKGROUNDS = {"light": "rgb(251, 251, 250)", "dark": "rgb(20, 20, 21)"}
ACCENTS = {("light", 0): "#c8463f", ("light", 1): "#2f6fb3", ("dark", 0): "#ef7d74", ("dark", 1): "#6aa8e8"}


def line_colour(page):
    return page.evaluate("document.querySelector('.lens-plot').data.at(-1).line.color")


def keep(page, name):
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.mouse.move(0, 0)
        page.wait_for_timeout(400)  # hover and transitions settle
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_wide_and_narrow(open_page, scheme, width):
    page = open_page(scheme=scheme, width=width)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    form, results = page.locator("#lens-form").bounding_box(), page.locator("#lens-results").bounding_box()
    assert (results["y"] >= form["y"] + form["height"]) == (width < 900)
    assert line_colour(page) == ACCENTS[scheme, 0]
    keep(page, f"{scheme}-{width}-question")
    draw(page, "a yellow star above a blue square")
    assert line_colour(page) == ACCENTS[scheme, 1]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"{scheme}-{width}-drawing")


def test_the_figure_follows_when_the_system_turns_dark(open_page):
    page = open_page(scheme="light")
    shown = drawn(page)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("c => document.querySelector('.lens-plot').data.at(-1).line.color === c", arg="#ef7d74")
    assert drawn(page) == shown


def test_every_control_has_a_name_and_the_keyboard_reaches_it(open_page):
    page = open_page()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("#lens-explore :is(button, input, textarea)")]
        .filter((e) => e.offsetParent !== null)
        .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length || e.title))
        .map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    page.locator(".lens-samples button").nth(0).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(".lens-samples button").nth(1).get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_line_under_the_pointer_is_set_off_against_the_card_and_nothing_else(open_page, scheme):
    page = open_page(scheme=scheme)
    page.locator(".lens-chart .nsewdrag").hover()
    found = page.wait_for_function("""() => {
        const line = document.querySelector(".lens-chart .spikeline");
        const card = getComputedStyle(document.querySelector(".lens-chart")).backgroundColor;
        return line && [getComputedStyle(line).stroke, card];
    }""")
    halo, card = found.json_value()
    assert halo == card
