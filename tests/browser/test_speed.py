"""How long a person waits, beside how long the engine takes."""

import statistics

from tests.browser.person import drawn, finish

ROUNDS = 3
CLICK_AND_WAIT = """async () => {
  const card = document.querySelector(".lens-chart"), before = card.dataset.drawn, start = performance.now();
  const seconds = new Promise((resolve) => {
    const done = () => card.dataset.drawn !== before && resolve((performance.now() - start) / 1000);
    new MutationObserver(done).observe(card, { attributes: true });
  });
  document.querySelector("#lens-draw").click();
  return seconds;
}"""


def test_from_click_to_finished_curve_a_drawing_takes_at_most_half_as_long_again(open_page, api):
    page = open_page()
    page.get_by_role("radio", name="Draw").check(force=True)
    ratios = []
    for prompt in ("a pink star", "a pink circle", "a pink square")[:ROUNDS]:
        before = drawn(page)
        page.fill("#lens-prompt textarea", prompt)
        seconds = page.evaluate(CLICK_AND_WAIT)
        engine = api.predict(finish(page, before), api_name="/capture")["seconds"]
        ratios.append(seconds / engine)
    assert statistics.median(ratios) <= 1.5, ratios
