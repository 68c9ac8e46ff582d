"""The main path, as a person walks it. Nothing here depends on what the model answers."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.person import (
    ask,
    choose_definition,
    choose_sample,
    draw,
    drawn,
    finish,
    line,
    message,
    open_fold,
    text,
    upload,
)


def test_a_first_visit_shows_a_finished_capture(open_page, api):
    page = open_page()
    capture = drawn(page).split(":")[0]
    assert f"capture={capture}" in page.url
    assert line(page) == pytest.approx(api.predict(capture, api_name="/capture")["intensity"]["figure"], abs=1e-5)
    assert text(page, "h2 >> nth=0") == "Answer"
    assert "tiny-janus" in text(page, "#lens-state")
    assert page.locator(".lens-samples button").count() == 8
    assert page.locator(".tab-container:not(.visually-hidden) button").all_inner_texts() == [
        "Explore",
        "Fine-tune",
        "Compare",
        "Measure",
        "Library",
    ]
    assert not page.locator("footer").is_visible()


def test_asking_about_a_sample_and_again_from_the_store(open_page, api):
    page = open_page()
    choose_sample(page, 2)
    examples = page.locator("#lens-question-examples button")
    expect(page.locator("#lens-question textarea")).to_have_value(examples.nth(0).inner_text())
    examples.nth(1).click()
    question = page.input_value("#lens-question textarea")
    assert question == examples.nth(1).inner_text()
    before = drawn(page)
    page.click("#lens-ask")
    capture = finish(page, before)
    stored = api.predict(capture, api_name="/capture")
    assert stored["prompt"] == question
    assert line(page) == pytest.approx(stored["intensity"]["figure"], abs=1e-5)
    assert "saved" in text(page, ".lens-facts")
    page.click("#lens-ask")
    expect(page.locator(".lens-facts")).to_contain_text("from the store")
    assert drawn(page).startswith(capture)


def test_asking_about_an_uploaded_image(open_page, api, tmp_path):
    path = tmp_path / "my picture.png"
    Image.new("RGB", (300, 200), (230, 60, 60)).save(path)
    page = open_page()
    upload(page, path)
    page.wait_for_selector(".lens-preview[src^='data:image']:not(.lens-pixels)")
    capture = ask(page, "what color is there?")
    result = api.predict(capture, api_name="/capture")
    assert result["task"] == "understanding"
    assert result["prompt"] == "what color is there?"
    page.wait_for_function("document.querySelector('.lens-pic img').complete")
    size = page.evaluate("document.querySelector('.lens-pic img').naturalWidth")
    assert size == 64  # as the model sees it


def test_pasting_and_dropping_an_image(open_page):
    page = open_page()
    make_file = """async (colour) => {
      const canvas = new OffscreenCanvas(80, 80), context = canvas.getContext("2d");
      context.fillStyle = colour; context.fillRect(0, 0, 80, 80);
      const transfer = new DataTransfer();
      transfer.items.add(new File([await canvas.convertToBlob()], "pasted.png", { type: "image/png" }));
      return transfer;
    }"""
    pasted = page.evaluate_handle(make_file, "red")
    page.evaluate(
        "t => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: t, bubbles: true }))", pasted
    )
    page.wait_for_selector(".lens-preview[src^='data:image']:not(.lens-pixels)")
    first = page.get_attribute(".lens-preview", "src")
    page.dispatch_event(".lens-drop", "drop", {"dataTransfer": page.evaluate_handle(make_file, "blue")})
    page.wait_for_function(
        "first => { const src = document.querySelector('.lens-preview').src;"
        " return src !== first && src.startsWith('data:') }",
        arg=first,
    )
    page.get_by_role("button", name="Remove the image").click()
    expect(page.locator(".lens-drop .lens-hint")).to_be_visible()


def test_drawing_an_image_and_naming_unknown_words(open_page, api):
    page = open_page()
    page.get_by_role("radio", name="Draw").check(force=True)
    assert not page.locator("#lens-picture").is_visible()
    page.locator("#lens-prompt-examples button").nth(1).click()
    before = drawn(page)
    page.click("#lens-draw")
    capture = finish(page, before)
    stored = api.predict(capture, api_name="/capture")
    assert stored["task"] == "generation"
    assert line(page) == pytest.approx(stored["intensity"]["figure"], abs=1e-5)
    assert page.get_attribute(".lens-pic img", "src").endswith(stored["image"])
    draw(page, "a red dinosaur")
    assert "“dinosaur”" in text(page, ".lens-notices")
    unknown = page.get_by_role("button", name="?", exact=True)
    assert unknown.get_attribute("title") == "a word the model does not know"


def test_switching_definitions_redraws_without_asking_the_server(open_page, api):
    page = open_page()
    capture = drawn(page).split(":")[0]
    curves = api.predict(capture, api_name="/capture")["intensity"]
    asked = []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
    says = {}
    for name in ("strict", "training", "figure", "strict"):
        choose_definition(page, name)
        assert line(page) == pytest.approx(curves[name], abs=1e-5)
        says[name] = text(page, ".lens-chart .lens-explains")
    assert asked == []
    assert len(set(says.values())) == 3
    assert "definition=strict" in page.url
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('.lens-chart').dataset.drawn.endsWith(':training')")


def test_curves_that_moved_are_those_drawn_afresh(open_page):
    page = open_page()
    marks = """() => [...document.querySelectorAll(".lens-plot .scatterlayer path")]
      .map((path) => ["d", "transform", "style"].map((name) => path.getAttribute(name)))"""
    ask(page, "is there a purple star?")
    before = page.evaluate(marks)
    ask(page, "describe the image. please.")
    moved = page.evaluate(marks)
    page.evaluate("""async () => {
      const plot = document.querySelector(".lens-plot");
      await Plotly.newPlot(plot, plot.data, plot.layout);
    }""")
    assert moved != before
    assert moved == page.evaluate(marks)


def test_hover_shows_numbers(open_page):
    page = open_page()
    page.hover(".lens-plot .nsewdrag")
    hover = page.locator(".lens-plot .hoverlayer")
    expect(hover).to_contain_text("mean 0.")
    expect(hover).to_contain_text("spread ±")


def test_clicking_a_word_lays_its_attention_over_the_picture(open_page):
    page = open_page()
    chip = page.locator(".lens-answer button").first
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    expect(page.locator(".lens-overlay")).to_be_visible()
    assert page.evaluate("document.querySelector('.lens-overlay').width") == 8
    chip.click()
    expect(page.locator(".lens-overlay")).to_be_hidden()


def test_exports_hold_what_is_shown(open_page, api):
    page = open_page()
    capture = drawn(page).split(":")[0]
    stored = api.predict(capture, api_name="/capture")
    choose_definition(page, "strict")

    def export(name):
        with page.expect_download() as download:
            page.locator("#lens-curve").get_by_role("button", name=name, exact=True).click()
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()

    name, data = export("CSV")
    rows = [r for r in csv.DictReader(io.StringIO(data.decode())) if r["definition"] == "strict"]
    assert name.endswith(".csv")
    assert [float(r["mean"]) for r in rows] == pytest.approx(stored["intensity"]["strict"], abs=1e-5)
    name, data = export("JSON")
    document = json.loads(data)
    assert name.endswith(".json")
    assert {**document, "head_intensity": 0} == {**stored, "head_intensity": 0}
    name, data = export("PNG")
    assert name.endswith("strict.png")
    assert_chart_is_painted(Image.open(io.BytesIO(data)).convert("RGB"))
    page.locator("#lens-curve").get_by_role("button", name="Copy link").click()
    expect(page.locator("#lens-curve").get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.endswith(f"/?capture={capture}&definition=strict")


def assert_chart_is_painted(picture):
    """An opaque card, the accent of understanding on it."""
    assert picture.width > 1000
    assert picture.getpixel((2, 2)) == (255, 255, 255)
    colours = picture.getcolors(picture.width * picture.height)
    assert any(abs(r - 200) < 12 and abs(g - 70) < 12 and abs(b - 63) < 12 for n, (r, g, b) in colours if n > 50)


def test_a_permalink_in_a_new_tab_and_a_reload_show_the_capture(open_page):
    page = open_page()
    open_fold(page, "Sampling, seed, weights")
    page.fill("#lens-seed input", "41")
    draw(page, "a blue star")
    assert "seed 41" in text(page, ".lens-facts")
    choose_definition(page, "training")
    shown, curve, picture = drawn(page), line(page), page.get_attribute(".lens-pic img", "src")
    other = open_page("?" + page.url.split("?")[1])
    other.wait_for_function("shown => document.querySelector('.lens-chart').dataset.drawn === shown", arg=shown)
    page.reload()
    page.wait_for_function("shown => document.querySelector('.lens-chart')?.dataset.drawn === shown", arg=shown)
    for tab in (other, page):
        assert line(tab) == curve
        assert tab.get_attribute(".lens-pic img", "src") == picture
        assert "from the store" in text(tab, ".lens-facts")
        expect(tab.get_by_role("radio", name="Draw")).to_be_checked()
        expect(tab.locator("#lens-prompt textarea")).to_have_value("a blue star")
        if not tab.locator("#lens-seed").is_visible():
            tab.get_by_role("button", name="Sampling, seed, weights").click()
        expect(tab.locator("#lens-seed input")).to_have_value("41")


def test_stop_leaves_the_page_usable(open_page):
    page = open_page()
    before = drawn(page)
    page.get_by_role("radio", name="Draw").check(force=True)
    page.fill("#lens-prompt textarea", "four purple triangles")
    page.route("**/lens/run", lambda route: None)  # a server that takes its time
    page.click("#lens-draw")
    page.click("#lens-stop")
    page.wait_for_function("document.querySelector('.lens-result').dataset.state !== 'running'")
    assert drawn(page) == before
    assert "Stopped" in text(page, ".lens-result > .lens-message")
    page.unroute("**/lens/run")
    assert draw(page, "one green circle") not in before


def test_a_connection_that_breaks_is_one_sentence(open_page):
    page = open_page()
    before = drawn(page)
    page.route("**/lens/run", lambda route: route.fulfill(body=""))
    page.click("#lens-ask")
    assert message(page).startswith("Expected a result from the server")
    assert drawn(page) == before
    page.unroute("**/lens/run")
    assert ask(page, "is there a purple circle?")


def test_leaving_the_page_ends_its_run(open_page, api):
    """A drawing may be finished before the page is gone, so several are tried; one that outlives it always would be."""

    def outlives(prompt):
        page = open_page()
        page.get_by_role("radio", name="Draw").check(force=True)
        page.fill("#lens-prompt textarea", prompt)
        page.click("#lens-draw")
        page.goto("about:blank")
        return api.predict("tiny-janus", prompt, api_name="/generate")["cached"]

    assert not all(outlives(f"three purple {shape}") for shape in ("squares", "circles", "stars", "triangles"))


def test_asking_what_a_first_visit_shows_finishes_and_so_does_asking_again(open_page):
    page = open_page()
    for _ in range(3):
        page.click("#lens-ask")
        page.wait_for_function("document.querySelector('.lens-result').dataset.state === 'finished'")
        expect(page.locator("#lens-ask")).to_be_visible()
        assert "from the store" in text(page, ".lens-facts")


def test_guidance_beyond_gradios_own_slider_survives_a_permalink(open_page, api):
    capture = api.predict("tiny-janus", "a green star", 2, 1.0, 15, api_name="/generate")["capture_id"]
    page = open_page(f"?capture={capture}")
    expect(page.locator("#lens-draw")).to_be_visible()
    page.click("#lens-draw")
    page.wait_for_function("document.querySelector('.lens-result').dataset.state === 'finished'")
    assert "from the store" in text(page, ".lens-facts")
    assert drawn(page).startswith(capture)


def test_a_model_with_one_task_turns_both_forms_to_it(open_page):
    page = open_page()
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="Emu3-Gen").click()
    page.wait_for_function("document.querySelector('#lens-model-note').innerText.includes('that draws')")
    assert page.get_by_role("radio", name="Draw").is_checked()
    assert page.locator("#lens-form .error").count() == 0
    page.get_by_role("button", name="Sampling, seed, weights").click()
    expect(page.locator("#lens-size")).to_be_visible()
    assert re.search(r"about .* in full, .* in int8, .* in NF4\.", text(page, "#lens-memory"))
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="BAGEL · reference curve only").click()
    page.wait_for_function("document.querySelector('#lens-model-note').innerText.includes('curve only')")
    expect(page.locator("#lens-size")).to_be_hidden()
    assert page.get_attribute("#lens-model-note a", "href") == "?compare=paper:fig1-bagel"
    page.click("#lens-draw")
    assert message(page).startswith("BAGEL is here by its reference curve only (no class in transformers")
    page.get_by_role("tab", name="Fine-tune").click()
    page.get_by_role("combobox", name="Base model").click()
    page.get_by_role("option", name="Qwen3-VL 2B").click()
    page.get_by_role("button", name="Advanced").click()
    page.wait_for_function("document.querySelector('#lens-set-ratio-generation input')?.value === '0'")
    assert page.input_value("#lens-set-ratio-understanding input") == "1"
