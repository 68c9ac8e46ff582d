"""How long a person waits from click to finished curve, beside a bare engine call with the same request."""

import time

import pytest

from app.samples import load_samples
from backend.engine import Engine
from backend.pictures import load_picture
from backend.store import CaptureStore
from tests.browser.person import drawn, finish

COLOURS = ("pink", "blue", "red", "green", "yellow")
ROUNDS = [[f"a {colour} {shape} and a white circle" for colour in COLOURS] for shape in ("star", "square", "triangle")]
QUESTIONS = ["describe the image.", "describe the image. .", "describe the image. . .", "describe the image. . . ."]
CLICK_AND_WAIT = """async (button) => {
  const card = document.querySelector(".lens-chart"), before = card.dataset.drawn, start = performance.now();
  const seconds = new Promise((resolve) => {
    const done = () => card.dataset.drawn !== before && resolve((performance.now() - start) / 1000);
    new MutationObserver(done).observe(card, { attributes: true });
  });
  document.querySelector(button).click();
  return seconds;
}"""


@pytest.fixture
def engine(tmp_path, tiny_janus):
    """An engine of this process, over a store of its own, with the model already loaded."""
    engine = Engine(CaptureStore(tmp_path / "captures"))
    engine._loaded = tiny_janus
    return engine


def click_and_wait(page, box, button, words):
    """Seconds from the click to the new curve."""
    before = drawn(page)
    page.fill(f"{box} textarea", words)
    seconds = page.evaluate(CLICK_AND_WAIT, button)
    finish(page, before)
    return seconds


def seconds_of(events):
    started = time.perf_counter()
    list(events)
    return time.perf_counter() - started


def test_from_click_to_finished_curve_a_drawing_adds_little(open_page, engine):
    """The best against the best: what is slow by itself, not what the machine did meanwhile.

    Five drawings do on a quiet machine; a busy one gets up to three rounds of five. The
    ratio that the README quotes is printed; it is too close to its goal of 1.5 to be a gate on a noisy machine.
    """
    page = open_page()
    page.get_by_role("radio", name="Draw").check(force=True)
    pairs = []
    for prompts in ROUNDS:
        for prompt in prompts:
            clicked = click_and_wait(page, "#lens-prompt", "#lens-draw", prompt)
            pairs.append((clicked, seconds_of(engine.generate("tiny-janus", prompt))))
        clicked, bare = (min(column) for column in zip(*pairs, strict=True))
        if clicked - bare <= 0.5:
            break
    print(f"drawing: click to curve {clicked:.2f} s, bare engine {bare:.2f} s, ratio {clicked / bare:.2f}")
    assert clicked - bare <= 1.0, pairs


def test_from_click_to_finished_curve_an_answer_adds_little(open_page, engine):
    """An answer takes a tenth of a second, so a ratio would measure the page's fixed cost; it is bounded instead."""
    page = open_page()
    sample = load_samples().pictures[1]
    page.locator(".lens-samples button").nth(1).click()
    picture = load_picture(sample.path)
    pairs = [
        (
            click_and_wait(page, "#lens-question", "#lens-ask", question),
            seconds_of(engine.understand("tiny-janus", picture, question)),
        )
        for question in QUESTIONS
    ]
    clicked, bare = (min(column) for column in zip(*pairs, strict=True))
    print(f"answer: click to curve {clicked:.2f} s, bare engine {bare:.2f} s, ratio {clicked / bare:.2f}")
    assert clicked - bare <= 1.0, pairs
