"""The Compare tab as a person uses it: made-up fine-tunes, real captures, links, files. No training."""

import io
import json
import zipfile

import numpy as np
import pytest
from gradio_client import handle_file

from tests.app.made_runs import LAYERS, RUN, make_pair
from tests.browser.conftest import ROOT
from tests.browser.person import text

READY = "#lens-overlay .lens-plotcard[data-drawn]"
LIST = "#lens-picker .lens-groups button"


@pytest.fixture(scope="module")
def runs(server, folder):
    """A finished fine-tune and its control, found by the server in its folder."""
    make_pair(folder / "data" / "runs")


@pytest.fixture(scope="module")
def answers(api):
    """Two answers to one question about two pictures, with a seed that no other test has: their capture ids."""
    samples = [ROOT / "assets" / "samples" / f"sample-{n}.png" for n in (1, 2)]
    asked = [
        api.predict("tiny-janus", handle_file(str(p)), "describe the image.", 77, api_name="/understand")
        for p in samples
    ]
    return [answer["capture_id"] for answer in asked]


def drawn(page, card="#lens-overlay"):
    return page.get_attribute(f"{card} .lens-plotcard", "data-drawn")


def after(page, act, card="#lens-overlay"):
    """Do something and wait for another chart."""
    before = drawn(page, card)
    act()
    page.wait_for_function(
        "([card, before]) => document.querySelector(card + ' .lens-plotcard').dataset.drawn !== before",
        arg=[card, before],
    )


def lines(page, card="#lens-overlay"):
    """y of every trace by its name and panel."""
    return page.evaluate(
        "card => document.querySelector(card + ' .lens-plot').data.map((t) => [t.name, t.xaxis || 'x', t.y])", card
    )


def save(page, label, card="#lens-overlay"):
    with page.expect_download() as download:
        page.locator(card).get_by_role("button", name=label).click()
    return download.value


def test_a_person_chooses_two_captures_and_comes_back_by_the_address(open_page, answers):
    page = open_page()
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("#lens-compare-empty .lens-empty")
    assert "Choose two" in text(page, "#lens-compare-empty")
    page.locator(f"{LIST}[data-id='capture:{answers[0]}']").click()
    page.wait_for_selector(READY)
    after(page, lambda: page.locator(f"{LIST}[data-id='capture:{answers[1]}']").click())
    assert [name for name, *_ in lines(page)] == ["A “describe the image.”", "B “describe the image.”"]
    assert text(page, "#lens-overlay .lens-says").startswith("Understanding, A against B: most different in layer")
    assert page.url.endswith(f"?compare=capture:{answers[0]},capture:{answers[1]}")
    page.wait_for_selector("#lens-heads .lens-plotcard[data-drawn]")
    assert len(page.evaluate("document.querySelector('#lens-heads .lens-plot').data[0].z")) == 8  # heads
    assert page.locator("#lens-outputs img").count() == 2
    shown = lines(page)
    page.reload()
    page.wait_for_selector(READY)
    assert lines(page) == shown


def test_one_click_sets_the_embedded_models_beside_the_papers_figure(open_page):
    page = open_page()
    page.get_by_role("tab", name="Compare").click()
    page.locator("#lens-compare-empty a").click()
    page.wait_for_selector(READY)
    assert {name for name, *_ in lines(page)} == {
        "A tiny-janus",
        "B tiny-emu3",
        "C Janus-Pro, fig. 1",
        "D Emu3, fig. 1",
    }
    assert page.url.endswith("?compare=model:tiny-janus,model:tiny-emu3,paper:fig1-janus-pro,paper:fig1-emu3")


def test_a_fine_tune_brings_everything_along_and_is_counted_by_each_definition(open_page, runs):
    page = open_page(f"?compare=run:{RUN}", ready=READY)
    names = {name for name, *_ in lines(page)}
    assert {f"A first try, {role}" for role in ("before", "after", "control", "target")} < names
    assert "0.70 (0.65 – 0.75)" in text(page, "#lens-compare-scores")
    figure = {(n, x): y for n, x, y in lines(page)}["A first try, after", "x"]
    after(page, lambda: page.locator("#lens-compare-form").get_by_text("strict", exact=True).click())
    strict = {(n, x): y for n, x, y in lines(page)}["A first try, after", "x"]
    assert figure == pytest.approx((0.45 - 0.02 * np.arange(LAYERS)).tolist())
    assert strict == pytest.approx((0.35 - 0.02 * np.arange(LAYERS)).tolist())
    after(page, lambda: page.locator("#lens-compare-form").get_by_text("drawing", exact=True).click())
    assert {x for _, x, _ in lines(page)} == {"x"}
    assert page.url.endswith(f"?compare=run:{RUN}&definition=strict&task=generation")


def test_models_of_other_depth_are_matched_and_a_thing_can_be_left_out(open_page, runs):
    page = open_page(f"?compare=run:{RUN},paper:fig1-janus-pro", ready=READY)
    assert "matched by depth, as there are 8 against 30" in text(page, "#lens-overlay .lens-says")
    page.fill("#lens-picker input", "qwen3-32b")
    assert page.locator(f"{LIST}:visible").count() == 1
    after(page, lambda: page.get_by_role("button", name="Leave out Janus-Pro, fig. 1").click())
    assert page.url.endswith(f"?compare=run:{RUN}")


def test_a_pasted_link_adds_its_capture_and_nonsense_is_one_sentence(open_page, server, answers):
    page = open_page("?compare=paper:fig1-emu3", ready=READY)
    page.fill("#lens-picker input", f"{server}/?capture={answers[0]}&definition=strict")
    after(page, lambda: page.keyboard.press("Enter"))
    assert page.locator("#lens-picker .lens-chosen li").count() == 2
    page.fill("#lens-picker input", "run:nonsense")
    page.keyboard.press("Enter")
    page.wait_for_selector("#lens-picker .lens-message:visible")
    assert "run:nonsense" in text(page, "#lens-picker .lens-message")
    assert page.locator("#lens-picker .lens-chosen li").count() == 2


@pytest.mark.parametrize("bad", ["capture:" + "0" * 24, "run:" + "0" * 16, "paper:nothing", "..%2F..%2Fetc"])
def test_a_bad_id_in_the_address_is_one_sentence_and_the_tab_can_be_used(open_page, bad):
    page = open_page(f"?compare={bad}", ready="#lens-picker .lens-message:visible")
    page.wait_for_load_state("networkidle")  # the tab, in front now, asks once more
    assert 20 < len(text(page, "#lens-picker .lens-message")) < 250
    page.locator(f"{LIST}[data-id='paper:fig1-bagel']").click()
    page.wait_for_selector(READY)
    page.wait_for_selector("#lens-picker .lens-message", state="hidden")


def test_the_bundle_and_the_pictures_leave_the_page(open_page, runs):
    page = open_page(f"?compare=run:{RUN}", ready=READY)
    archive = zipfile.ZipFile(io.BytesIO(save(page, "All of it (ZIP)").path().read_bytes()))
    content = json.loads(archive.read("comparison.json"))
    assert content["sentence"] == text(page, "#lens-overlay .lens-says")
    arrays = np.load(io.BytesIO(archive.read("arrays.npz")), allow_pickle=False)
    assert arrays["A_after_generation_mean"].tolist() == pytest.approx((0.45 - 0.02 * np.arange(LAYERS)).tolist())
    png, svg = (save(page, label).path().read_bytes() for label in ("PNG", "SVG"))
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) > 10_000
    assert b"<svg" in svg[:200] and b"first try, after" in svg


def test_a_program_gets_the_same(api, runs):
    found = api.predict([f"run:{RUN}", "paper:fig1-emu3"], "training", api_name="/compare")
    assert found["differences"][0]["matched_by_depth"] and "matched by depth" in found["sentence"]
    assert {s["role"] for s in found["series"]} == {"before", "after", "control", "target", "reference"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_page(open_page, runs, scheme):
    page = open_page(f"?compare=run:{RUN},paper:fig1-emu3", scheme=scheme, width=800, ready=READY)
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    assert page.evaluate("document.querySelector('#lens-overlay .lens-plot').data.at(-1).line.color")[0] == "#"
