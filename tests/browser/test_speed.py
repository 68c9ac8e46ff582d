"""How long a person waits from click to finished curve, beside a bare engine call with the same request."""

import statistics
import time

import pytest

from backend.engine import Engine
from backend.store import CaptureStore
from tests.browser.person import drawn, finish

PROMPTS = [
    f"a {colour} star and a {other} circle" for colour, other in (("pink", "red"), ("blue", "white"), ("red", "blue"))
]
CLICK_AND_WAIT = """async () => {
  const card = document.querySelector(".lens-chart"), before = card.dataset.drawn, start = performance.now();
  const seconds = new Promise((resolve) => {
    const done = () => card.dataset.drawn !== before && resolve((performance.now() - start) / 1000);
    new MutationObserver(done).observe(card, { attributes: true });
  });
  document.querySelector("#lens-draw").click();
  return seconds;
}"""


@pytest.fixture
def engine(tmp_path, tiny_janus):
    """An engine of this process, over a store of its own, with the model already loaded."""
    engine = Engine(CaptureStore(tmp_path / "captures"))
    engine._loaded = tiny_janus
    return engine


def test_from_click_to_finished_curve_a_drawing_takes_at_most_half_as_long_again(open_page, engine):
    page = open_page()
    page.get_by_role("radio", name="Draw").check(force=True)
    ratios = []
    for prompt in PROMPTS:
        before = drawn(page)
        page.fill("#lens-prompt textarea", prompt)
        seconds = page.evaluate(CLICK_AND_WAIT)
        finish(page, before)
        started = time.perf_counter()
        list(engine.generate("tiny-janus", prompt))
        ratios.append(seconds / (time.perf_counter() - started))
    print("click to curve over bare engine call:", [round(r, 2) for r in ratios])
    assert statistics.median(ratios) <= 1.5, ratios
