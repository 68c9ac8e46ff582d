"""What a person does on the page, in a few words each."""

import re

import psutil

QUIET = 25  # % of the processors' time that others than a test may take, where speed is measured
PATIENCE = 20  # seconds to wait for that; then it is measured all the same


def quiet_moments(count):
    """0, 1, … count − 1: the first at once, each after it when the machine is quiet, or has not been for a while."""
    for number in range(count):
        for _ in range(PATIENCE if number else 0):
            if psutil.cpu_percent(1) < QUIET:
                break
        yield number


def drawn(page):
    """The capture and definition whose chart is drawn, as "id:definition"."""
    return page.get_attribute(".lens-chart", "data-drawn")


def finish(page, before):
    """Wait for the run that followed `before`, its chart included; the new capture's id."""
    page.wait_for_function(
        """(before) => document.querySelector(".lens-chart").dataset.drawn !== before
        && document.querySelector(".lens-result").dataset.state === "finished" """,
        arg=before,
    )
    return drawn(page).split(":")[0]


def ask(page, question):
    """Ask something not asked before; the capture's id."""
    before = drawn(page)
    page.fill("#lens-question textarea", question)
    page.click("#lens-ask")
    return finish(page, before)


def draw(page, prompt):
    """Draw something not drawn before; the capture's id."""
    before = drawn(page)
    page.get_by_role("radio", name="Draw").check(force=True)
    page.fill("#lens-prompt textarea", prompt)
    page.click("#lens-draw")
    return finish(page, before)


def open_fold(page, name):
    """Open what is folded; what Gradio kept for its fields is put into them within a frame of that."""
    page.get_by_role("button", name=name).click()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def see_pictures(page, selector, count):
    """Wait until so many pictures are there and none is still, or cannot be, decoded; their widths in pixels."""
    page.wait_for_function(
        """([selector, count]) => {
          const all = [...document.querySelectorAll(selector)];
          return all.length === count && all.every((image) => image.complete && image.naturalWidth);
        }""",
        arg=[selector, count],
    )
    return page.eval_on_selector_all(selector, "all => all.map((image) => image.naturalWidth)")


def choose_sample(page, index):
    page.locator(".lens-samples button").nth(index).click()


def upload(page, path):
    page.set_input_files(".lens-file", str(path))


def line(page):
    """Intensities of the drawn mean line."""
    return page.evaluate("document.querySelector('.lens-plot').data.at(-1).y")


def choose_definition(page, name):
    page.get_by_role("radio", name=name, exact=True).click()
    page.wait_for_function("name => document.querySelector('.lens-chart').dataset.drawn.endsWith(':' + name)", arg=name)


def text(page, selector):
    return re.sub(r"\s+", " ", page.inner_text(selector)).strip()


def message(page):
    """The sentence of an error, waited for."""
    page.wait_for_selector(".lens-result > .lens-message:visible")
    return text(page, ".lens-result > .lens-message")
