"""Many samples as a person measures them: started, left, stopped, resumed, read, compared and taken on."""

import csv
import json
from pathlib import Path

import pytest
from gradio_client import handle_file
from playwright.sync_api import expect

from app.explore.samples import load_samples
from tests.browser.person import open_fold, text
from tests.browser.test_look import BACKGROUNDS, keep

EXAMPLE = "c85a38ecd9268f93"
READY = "#lens-measure-curves .lens-plotcard[data-drawn]:visible"
CARD = "#lens-measure .lens-run"
SLOW = 480_000
SAMPLES = 40  # half a second each: seen on the way by a page that asks every second or two, stopped before the end


def wait_for_state(page, state):
    page.wait_for_selector(f"{CARD}[data-state={state}]", timeout=SLOW)


def wait_for_samples(page, least):
    """So many of a running measurement, seen before it ends."""
    page.wait_for_function(
        """([card, least]) => {
          const { dataset, textContent } = document.querySelector(card);
          return dataset.state !== "running" || Number(/(\\d+) of \\d+ samples/.exec(textContent)?.[1]) >= least;
        }""",
        arg=[CARD, least],
        timeout=SLOW,
    )
    assert page.get_attribute(CARD, "data-state") == "running", "measured before anybody could stop it"


def look(page, word):
    """Choose a definition or a way to part the samples."""
    page.locator("#lens-measure-look label", has_text=word).click()


def traces(page, card):
    return page.evaluate("id => document.querySelector(id + ' .lens-plot').data.map((t) => [t.name, t.y])", card)


def save(page, card, label):
    with page.expect_download() as download:
        page.locator(card).get_by_role("button", name=label, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


@pytest.fixture(scope="module")
def report(folder):
    """What the example says, as the file in the program has it."""
    kept = Path(__file__).resolve().parents[2] / "assets" / "measured" / f"{EXAMPLE}.json"
    return json.loads(kept.read_text())["report"]


def test_the_example_is_read(open_page, report):
    """By its address: other tests may have measured before, and the tab opens with theirs."""
    page = open_page(f"?measure={EXAMPLE}", ready=READY)
    drawn = dict(traces(page, "#lens-measure-curves"))
    assert drawn["generation"] == pytest.approx(report["generation"]["mean"], abs=1e-5)
    points = page.evaluate("document.querySelector('#lens-conflict .lens-plot').data[1]")
    assert points["text"] == [str(layer) for layer in range(1, 9)]
    assert points["y"] == pytest.approx(report["understanding"]["mean"], abs=1e-5)
    assert f"r = −{abs(report['correlation']['r']):.2f}" in text(page, "#lens-conflict .lens-says")

    look(page, "strict")
    strict = next(other for other in report["generation"]["others"] if other["definition"] == "strict")
    page.wait_for_function(
        "y => Math.abs(document.querySelector('#lens-measure-curves .lens-plot').data.at(-2).y[0] - y) < 1e-4",
        arg=strict["mean"][0],
    )
    look(page, "by kind")
    expect(page.locator("#lens-measure-numbers td", has_text="relation")).to_be_visible()
    page.wait_for_function("location.search.endsWith('definition=strict&split=kind')")
    page.reload()
    page.wait_for_selector(READY)
    expect(page.locator("#lens-measure-numbers td", has_text="relation")).to_be_visible()

    name, data = save(page, "#lens-measure-curves", "CSV")
    rows = list(csv.DictReader(data.decode().splitlines()))
    assert name.endswith("strict.csv") and {row["part"] for row in rows} >= {"colour", "counting"}
    _, data = save(page, "#lens-measure-curves", "JSON")
    assert json.loads(data)["correlation"] == report["correlation"]
    for card, label in (("#lens-conflict", "PNG"), ("#lens-conflict", "SVG"), ("#lens-task-heads", "CSV")):
        assert len(save(page, card, label)[1]) > 500


def test_a_measurement_is_watched_left_stopped_resumed_named_compared_and_fitted(open_page, api):
    page = open_page(f"?measure={EXAMPLE}", ready=READY)
    page.fill("#lens-measure-samples input", "1")
    page.keyboard.press("Tab")
    expect(page.locator("#lens-measure-estimate")).to_contain_text("at least 2 samples")
    page.click("#lens-measure-start")
    expect(page.locator("#lens-measure-message")).to_contain_text("at least 2 samples")
    page.fill("#lens-measure-samples input", str(SAMPLES))
    open_fold(page, "Name, seed, sampling, weights")
    page.fill("#lens-measure-seed input", "5")
    page.click("#lens-measure-start")
    wait_for_state(page, "running")
    run = page.get_attribute(CARD, "data-run")
    wait_for_samples(page, 2)
    expect(page.locator("#lens-measure-curves .lens-says")).to_contain_text("samples, drawings look most", timeout=SLOW)
    page.locator(CARD).get_by_role("button", name="Cancel").click()
    wait_for_state(page, "stopped")
    page.reload()
    wait_for_state(page, "stopped")
    assert page.get_attribute(CARD, "data-run") == run
    assert api.predict(run, api_name="/measurement")["config"]["seed"] == 5
    page.locator(CARD).get_by_role("button", name="Resume").click()
    wait_for_state(page, "finished")
    kept = page.get_attribute(CARD, "data-run")
    found = api.predict(run, api_name="/measurement")
    assert found["id"] == kept != run and found["report"]["correlation"]["resamples"] == 1000

    page.get_by_role("button", name="Rename the measurement").click()
    page.get_by_role("textbox", name="Name of the measurement").fill("mine")
    page.keyboard.press("Enter")
    expect(page.locator(f"#lens-measure-list [data-run='{kept}'] .lens-name")).to_have_text("mine")
    page.locator("#lens-measure-with input").click()
    page.get_by_role("option", name="tiny-janus as it came, 100 samples").click()
    page.wait_for_function("id => location.search.includes('with=' + id)", arg=EXAMPLE)
    expect(page.locator("#lens-measure-curves .lens-legend")).to_contain_text("B tiny-janus as it came")
    keep(page, "measure-compared")

    page.locator(CARD).get_by_role("button", name="Delete").click()
    expect(page.locator("#lens-measure-list .lens-undo")).to_contain_text("“mine” was deleted.")
    page.locator("#lens-measure-list").get_by_role("button", name="Undo").click()
    expect(page.locator(f"{CARD}[data-run='{kept}'] h2")).to_have_text("mine")
    page.locator(CARD).get_by_role("button", name="Use as fine-tune targets").click()
    expect(page.locator("#lens-stages-message")).to_contain_text("Generation fitted to mine in 4 stages")


def test_own_prompts_are_checked_and_measured(open_page, tmp_path):
    page = open_page(f"?measure={EXAMPLE}", ready=READY)
    open_fold(page, "Use your own prompts")
    field, message = "#lens-measure-upload input", "#lens-measure-upload .lens-message"
    empty, good = tmp_path / "empty.txt", tmp_path / "prompts.txt"
    empty.write_bytes(b"")
    page.set_input_files(field, str(empty))
    expect(page.locator(message)).to_have_text("Expected prompts, one a line, got no lines; choose another file.")
    good.write_bytes("a red star\na blue circle\n\xff\n".encode("latin-1"))
    page.set_input_files(field, str(good))
    expect(page.locator("#lens-measure-report")).to_contain_text("2 prompts for drawings; 1 bad line is left out.")
    expect(page.locator("#lens-measure-report td", has_text="not UTF-8 text")).to_be_visible()
    expect(page.locator("#lens-measure-estimate")).to_contain_text("only drawing is measured")


def test_a_chosen_model_brings_its_own_way_of_drawing(open_page):
    page = open_page(f"?measure={EXAMPLE}", ready=READY)
    open_fold(page, "Name, seed, sampling, weights")
    guidance, temperature = (f"#lens-measure-{name} input" for name in ("guidance", "temperature"))
    expect(page.locator(guidance)).to_have_value("1.5")
    page.locator("#lens-measure-model input").click()
    page.get_by_role("option", name="Janus-Pro 7B").click()
    expect(page.locator(guidance)).to_have_value("5")
    expect(page.locator(temperature)).to_have_value("1")


def test_a_head_leads_to_look_closer(open_page, api):
    sample = handle_file(load_samples().pictures[0].path)  # then the newest of both tasks is the example's model's
    api.predict("tiny-janus", sample, "is there a star?", api_name="/understand")
    api.predict("tiny-janus", "a star", api_name="/generate")
    page = open_page()
    page.get_by_role("tab", name="Measure").click()
    page.wait_for_selector("#lens-task-heads td a")
    link = page.locator("#lens-task-heads td a").first
    layer, head = [word.strip(",") for word in link.inner_text().split() if word.strip(",").isdigit()]
    link.click()
    page.wait_for_selector("#lens-view-heads:visible .lens-map-pin:visible")
    assert f"closer=heads&head={layer}.{head}" in page.url


def test_an_address_of_nothing_is_a_sentence(open_page):
    page = open_page("?measure=" + "0" * 16, ready="#lens-measure-list .lens-message:visible")
    assert "there is none" in text(page, "#lens-measure-list .lens-message")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 800)])
def test_light_and_dark_wide_and_narrow(open_page, scheme, width):
    page = open_page(f"?measure={EXAMPLE}", scheme=scheme, width=width, ready=READY)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
    page.wait_for_selector("#lens-task-heads [data-painted]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"measure-{scheme}-{width}")
