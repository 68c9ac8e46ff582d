"""A curve that only moves is put where it belongs at once; plotly.js follows, and finds nothing to correct."""

import pytest

from tests.browser.person import ask, draw, drawn, line

# What is drawn: before the other definition is chosen, as soon as its curve is there, and when plotly.js has followed.
MOVE = """async (name) => {
  const card = document.querySelector(".lens-chart"), plot = card.querySelector(".lens-plot");
  const numbers = (text) => text.match(/-?[0-9.]+/g).map(Number);
  const seen = () => [...plot.querySelectorAll(".scatterlayer .trace")].map((trace) => [
    ...[...trace.querySelectorAll(".js-line, .js-fill")].map((path) => numbers(path.getAttribute("d"))),
    [...trace.querySelectorAll(".point")].flatMap((dot) => numbers(dot.getAttribute("transform"))),
  ]);
  const held = () => plot.calcdata.at(-1).map(({ y }) => y);
  const before = { seen: seen(), held: held() };
  const shown = new Promise((resolve) => {
    const looks = new MutationObserver(() => (looks.disconnect(), resolve({ seen: seen(), held: held() })));
    looks.observe(card, { attributeFilter: ["data-curve"] });
  });
  [...card.querySelectorAll(".lens-pills button")].find((pill) => pill.textContent === name).click();
  const atOnce = await shown;
  await plot.lensMove;
  return [before, atOnce, { seen: seen(), held: held() }];
}"""


def points(numbers):
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def gap_to(point):
    return lambda other: max(abs(a - b) for a, b in zip(point, other, strict=True))


@pytest.mark.parametrize(
    "make, words, definition", [(ask, "is there a green star?", "strict"), (draw, "a green star", "training")]
)
def test_the_curve_that_is_there_at_once_is_the_one_that_plotly_draws(open_page, make, words, definition):
    page = open_page()
    make(page, words)
    before, at_once, later = page.evaluate(MOVE, definition)
    assert len(at_once["seen"]) >= 2 and all(any(parts) for parts in at_once["seen"])
    assert at_once["held"] == before["held"] != later["held"], "plotly.js is not waited for"
    for trace, expected in zip(at_once["seen"], later["seen"], strict=True):
        for part, expected_part in zip(trace, expected, strict=True):
            found = points(part)
            # Of points that lie on one line plotly.js leaves the middle ones out.
            assert len(found) >= len(points(expected_part)) >= len(found) / 2
            assert all(min(map(gap_to(point), found)) < 0.03 for point in points(expected_part))
    assert at_once["seen"] != before["seen"]
    assert line(page) == pytest.approx(later["held"], abs=1e-5)


def test_many_changes_in_a_row_end_with_the_last(open_page, api):
    page = open_page()
    capture = drawn(page).split(":")[0]
    page.evaluate("""() => {
      const pills = [...document.querySelectorAll(".lens-pills button")];
      for (let i = 0; i < 20; i++) pills[i % 3].click();
    }""")
    page.wait_for_function("document.querySelector('.lens-chart').dataset.drawn.endsWith(':training')")
    expected = api.predict(capture, api_name="/capture")["intensity"]["training"]
    assert line(page) == pytest.approx(expected, abs=1e-5)
    page.wait_for_timeout(300)
    assert line(page) == pytest.approx(expected, abs=1e-5)
