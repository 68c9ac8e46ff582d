"""A small real fine-tune with its control, as a person starts, watches, stops and reads it."""

import csv
import io
import re
import time
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.person import ask, line, open_fold, see_pictures, text
from tests.browser.test_look import BACKGROUNDS, keep

FORM_READY = "#lens-targets .lens-steps[data-drawn]"
RUN_READY = ".lens-run[data-run]:visible"
SLOW = 480_000
STEPS = 30


def turn_to_finetune(page):
    page.get_by_role("tab", name="Fine-tune").click()
    page.wait_for_selector(FORM_READY)
    expect(page.locator("#lens-targets .lens-says")).to_contain_text("Grey:")  # drawn anew for the tab in front


def fill_small_run(page, steps=STEPS, **settings):
    """A run of seconds; what is no main setting is under Advanced."""
    small = {"steps": steps, "batch_size": 2, "probe_every": 4, "probe_samples": 4, "score_samples": 4}
    small["sample_count"] = 1
    if not page.locator("#lens-set-probe-every").is_visible():
        open_fold(page, "Advanced")
    for name, value in (small | settings).items():
        page.fill(f"#lens-set-{name.replace('_', '-')} input", str(value))
        page.keyboard.press("Tab")


def start(page, api):
    """Start what the form says: the new run's id, once it is in front. Until then the newest of those before is."""
    before = [run["id"] for run in api.predict(api_name="/list_runs")["runs"]]
    page.click("#lens-start")
    page.wait_for_function(
        """before => {
          const run = document.querySelector(".lens-run").dataset.run;
          return run && !before.includes(run) && document.querySelector(`.lens-rows [data-run="${run}"]`);
        }""",
        arg=before,
    )
    return page.get_attribute(".lens-run", "data-run")


def step(page):
    found = re.search(r"step ([\d,]+) of", text(page, ".lens-run .lens-facts"))
    return int(found[1].replace(",", ""))


def wait_for_state(page, run, *states):
    page.wait_for_function(
        "([run, states]) => states.includes(document.querySelector(`.lens-rows [data-run='${run}']`)?.dataset.state)",
        arg=[run, list(states)],
        timeout=SLOW,
    )


def wait_for_step_after(page, former):
    """A later step of a run that still goes on."""
    page.wait_for_function(
        """former => {
          const run = document.querySelector(".lens-run"), facts = run.querySelector(".lens-facts").textContent;
          const on = ["queued", "running"].includes(run.dataset.state);
          return !on || Number(/step ([\\d,]+) of/.exec(facts)[1]) > former;
        }""",
        arg=former,
        timeout=SLOW,
    )
    assert page.get_attribute(".lens-run", "data-state") == "running", "over before anybody could watch it"
    return step(page)


def runs_listed(page):
    return page.eval_on_selector_all(".lens-rows button", "rows => rows.map((row) => row.dataset.run)")


def traces(page, card):
    """Name, axis and y of every trace drawn."""
    return page.evaluate(
        "id => document.querySelector(id + ' .lens-plot').data.map((t) => [t.name, t.yaxis, t.y])", card
    )


def requests_in(page, seconds):
    asked = []

    def listen(request):
        if not request.url.startswith(("data:", "blob:")):
            asked.append(request.url)

    page.on("request", listen)
    page.wait_for_timeout(1000 * seconds)
    page.remove_listener("request", listen)
    return asked


def assert_falls_silent(page):
    """Once all has arrived. A page that asks every second or two is never silent for five."""
    assert any(requests_in(page, 5) == [] for _ in range(6))


@pytest.fixture(scope="module")
def finished(server, api):
    """A finished run with its control, without a page; the AIA run's id."""
    config = {"steps": 6, "batch_size": 2, "probe_every": 2, "probe_samples": 4, "score_samples": 4, "sample_count": 2}
    run, control = api.predict({**config, "learning_rate": 3e-3}, "made by the API", True, api_name="/start_run")[
        "runs"
    ]
    for _ in range(300):
        if api.predict(control, api_name="/run_status")["state"] not in ("queued", "running"):
            return run
        api.predict(api_name="/list_runs")
        time.sleep(1)
    pytest.fail("the run did not end")


def test_a_run_is_watched_left_stopped_resumed_and_read(open_page, chromium, api):
    page = open_page()
    turn_to_finetune(page)
    fill_small_run(page)
    page.get_by_role("textbox", name="Name Shown in the list").fill("a small run")
    run = start(page, api)
    assert runs_listed(page)[0] == run and page.url.endswith(f"?run={run}")
    control = runs_listed(page)[1]
    assert text(page, ".lens-run h2") == "a small run"

    seen = [wait_for_step_after(page, 0)]
    for _ in range(2):
        seen.append(wait_for_step_after(page, seen[-1]))
    assert seen == sorted(set(seen))

    page.locator(".lens-run").get_by_role("button", name="Cancel").click()
    wait_for_state(page, run, "stopped")
    assert 0 < api.predict(run, api_name="/run_status")["step"] < STEPS
    page.reload()
    page.wait_for_selector(RUN_READY)
    assert page.get_attribute(".lens-run", "data-run") == run
    with chromium.browser.new_context() as context:
        other = open_page(f"?run={run}", ready=RUN_READY, fresh=context)
        assert text(other, ".lens-run h2") == "a small run"
        other.locator(".lens-run").get_by_role("button", name="Resume").click()
        wait_for_state(other, run, "queued", "running", "finished")
        other.close()
    page.locator(f".lens-rows [data-run='{run}']").click()  # asks again, should all be over
    wait_for_state(page, run, "finished")
    wait_for_state(page, control, "finished")

    status = api.predict(run, api_name="/run_status")
    page.wait_for_function("document.querySelectorAll('.lens-run .lens-scores td').length === 6")
    expect(page.locator(".lens-run .lens-says")).to_contain_text(re.compile("the control (moved|did not move)"))
    assert page.locator(".lens-scores th").all_inner_texts()[1:4] == ["before", "after", "control after"]
    assert_layers_are_those_measured(page, status)
    assert_falls_silent(page)


def assert_layers_are_those_measured(page, status):
    names = [name for name, *_ in traces(page, "#lens-layers")]
    assert names == ["±δ", "target", "before", "control", "now"] * 2
    assert all(None not in y for _, _, y in traces(page, "#lens-layers"))
    slider = page.locator("#lens-layers input[type=range]")
    last = traces(page, "#lens-layers")[4][2]
    slider.fill("0")
    page.wait_for_function("document.querySelector('#lens-layers .lens-steps').dataset.drawn.includes('step 0 of')")
    drawn = traces(page, "#lens-layers")
    assert drawn[4][2] == drawn[2][2] != last
    distance = status["distance"]["0"]["generation"]["mean_absolute"]
    assert f"generation {distance:.3f}" in text(page, "#lens-layers .lens-says")


def test_samples_follow_the_slider_beside_those_before_and_of_the_control(open_page, finished):
    page = open_page(f"?run={finished}", ready=".lens-sheet[data-drawn$=':6']")
    heads = "#lens-sheet thead th"
    expect(page.locator(heads)).to_have_text(["asked", "wanted", "before", "step 6", "control, step 6"])
    assert page.locator("#lens-sheet tbody th[scope=row]").count() == 4
    drawn = pictures(page)
    see_pictures(page, "#lens-sheet img", 2 * 4 + 2)  # per drawing one wanted and three made, a question's picture
    assert set(marks(page)) <= {"✓ as asked", "✗ not as asked", "✓ right", "✗ wrong"}
    page.locator("#lens-layers input[type=range]").fill("0")
    page.wait_for_selector(".lens-sheet[data-drawn$=':0']")
    expect(page.locator(heads)).to_have_text(["asked", "wanted", "before", "step 0", "control, step 0"])
    first = pictures(page)
    assert first != drawn
    assert first[1] == first[2] == first[3], "before training run and control draw alike"
    assert "Step 0:" in text(page, "#lens-sheet .lens-says")


def pictures(page):
    return page.eval_on_selector_all("#lens-sheet img", "all => all.map((i) => i.src)")


def marks(page):
    return page.locator("#lens-sheet td span").all_inner_texts()


def test_charts_leave_as_what_is_shown(open_page, finished):
    page = open_page(f"?run={finished}", ready=".lens-sheet[data-drawn]")
    page.locator("#lens-layers input[type=range]").fill("1")
    page.wait_for_function("document.querySelector('#lens-layers .lens-steps').dataset.drawn.includes('step 2 of')")
    name, data = download(page, "#lens-layers", "CSV")
    assert name == f"aia-lens-run-{finished[:8]}-layers-step-2.csv"
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    shown = {(axis, curve): y for curve, axis, y in traces(page, "#lens-layers")}
    for plot, axis in (("generation", None), ("understanding", "y2")):
        mine = [float(r["share of attention"]) for r in rows if (r["plot"], r["curve"]) == (plot, "now")]
        assert mine == shown[axis, "now"]
    name, data = download(page, "#lens-layers", "PNG")
    assert Image.open(io.BytesIO(data)).width > 800
    name, data = download(page, "#lens-losses", "CSV")
    assert data.decode().splitlines()[0] == "plot,curve,step,loss"


def download(page, card, label):
    with page.expect_download() as begun:
        page.locator(card).get_by_role("button", name=label).click()
    return begun.value.suggested_filename, Path(begun.value.path()).read_bytes()


def test_a_run_is_renamed_in_its_place_and_leads_to_its_comparison(open_page, finished):
    page = open_page(f"?run={finished}", ready=RUN_READY)
    name = text(page, ".lens-run h2")
    for begun, key, now in (
        ("dropped", "Escape", name),
        ("a better name", "Enter", "a better name"),
        (name, "Enter", name),
    ):
        page.get_by_role("button", name="Rename the run").click()
        page.get_by_role("textbox", name="Name of the run").fill(begun)
        page.keyboard.press(key)
        expect(page.locator(".lens-run h2")).to_have_text(now)
        expect(page.locator(f".lens-rows [data-run='{finished}'] .lens-name")).to_have_text(now)
    page.get_by_role("link", name="Compare before, after, control").click()
    page.wait_for_selector("#lens-overlay .lens-plotcard[data-drawn]", timeout=SLOW)
    assert f"?compare=run:{finished}" in page.url
    roles = ("before", "after", "control", "target")
    names = page.evaluate("document.querySelector('#lens-overlay .lens-plot').data.map((t) => t.name)")
    assert all(any(role in name for name in names) for role in roles), names


def test_the_adapter_is_chosen_in_explore_and_its_strength_moved(open_page, finished):
    page = open_page()
    asked = "how many objects are there?"
    ask(page, asked)
    base = line(page)
    expect(page.locator("#lens-strength")).to_be_hidden()
    page.get_by_role("combobox", name="Adapter").click()
    page.get_by_role("option", name="made by the API").first.click()  # the other is its control
    expect(page.locator("#lens-strength")).to_be_visible()
    ask(page, asked)
    trained = line(page)
    page.fill("#lens-strength input[type=number]", "2")
    page.keyboard.press("Tab")
    ask(page, asked)
    assert base != trained != line(page)
    page.fill("#lens-strength input[type=number]", "0")
    page.keyboard.press("Tab")
    ask(page, asked)
    assert line(page) == base, "strength 0 is the base model"


def test_a_finished_run_asks_nothing_and_is_deleted_and_brought_back(open_page, finished):
    page = open_page(f"?run={finished}", ready=RUN_READY)
    assert_falls_silent(page)
    page.locator(".lens-run").get_by_role("button", name="Delete").click()
    expect(page.locator(".lens-undo")).to_contain_text("“made by the API” was deleted.")
    assert finished not in runs_listed(page)
    page.locator(".lens-undo button").click()
    page.wait_for_function("run => document.querySelector('.lens-run').dataset.run === run", arg=finished)
    assert finished in runs_listed(page)


def test_a_bad_value_is_one_sentence_and_nothing_is_lost(open_page):
    page = open_page()
    turn_to_finetune(page)
    fill_small_run(page, batch_size=0)
    page.click("#lens-start")
    expect(page.locator("#lens-start-message")).to_contain_text("Expected batch size to be greater than or equal to 1")
    assert page.input_value("#lens-set-steps input") == str(STEPS)
    page.fill("#lens-set-batch-size input", "")
    page.click("#lens-start")
    expect(page.locator("#lens-start-message")).to_contain_text("number as batch size")


def test_presets_fill_the_weights_and_redraw_the_targets(open_page):
    page = open_page()
    turn_to_finetune(page)
    page.get_by_role("button", name="released code, 5 / 10").click()
    expect(page.locator("#lens-set-aia-weight-generation input")).to_have_value("5")
    expect(page.locator("#lens-set-aia-weight-understanding input")).to_have_value("10")
    before = traces(page, "#lens-targets")
    page.get_by_role("combobox", name="Targets").click()
    page.get_by_role("option", name="paper, Emu3").click()
    page.wait_for_function("document.querySelector('#lens-targets .lens-steps').dataset.drawn.startsWith('paper-emu3')")
    assert traces(page, "#lens-targets") != before


def test_an_unknown_run_is_one_sentence(open_page):
    page = open_page("?run=" + "0" * 16, ready="#lens-run-list .lens-message:visible")
    assert "there is none" in text(page, "#lens-run-list .lens-message")


def test_turning_back_to_explore_brings_its_address_back(open_page, finished):
    page = open_page()
    address = page.url
    turn_to_finetune(page)
    page.wait_for_selector(RUN_READY)
    assert "?run=" in page.url
    page.get_by_role("tab", name="Explore").click()
    page.wait_for_function("address => location.href === address", arg=address)
    assert page.locator(".lens-chart").is_visible()


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tab_light_and_dark_wide_and_narrow(open_page, finished, scheme, width):
    page = open_page(f"?run={finished}", scheme=scheme, width=width, ready="#lens-losses .lens-steps[data-drawn]")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    form, results = page.locator("#lens-tune-form").bounding_box(), page.locator("#lens-tune-results").bounding_box()
    assert (results["y"] >= form["y"] + form["height"]) == (width < 900)
    for plot in page.locator(".lens-plot:visible").all():
        assert plot.locator(".main-svg").first.bounding_box()["width"] <= plot.bounding_box()["width"] + 1
    keep(page, f"finetune-{scheme}-{width}")
