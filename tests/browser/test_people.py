"""Two people at one server, each in a browser of their own: lists apart, a link that shows, a login and the way out."""

import re
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from backend.people.accounts import Accounts
from tests.app.served import serving
from tests.browser.conftest import is_ours
from tests.browser.person import draw, text

CHART = ".lens-chart[data-drawn]"
LIBRARY = ".lens-library[data-state='shown']"


@contextmanager
def browser_of(chromium, address):
    """A browser that nobody else used → what opens pages in it; none of them may log an error or ask elsewhere."""
    context, complaints = chromium.browser.new_context(), []
    context.grant_permissions(["clipboard-read", "clipboard-write"])

    def open_(query="", ready=CHART):
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
        page.on("request", lambda r: None if is_ours(r.url, address) else complaints.append(r.url))
        page.goto(f"{address}/{query}")
        page.wait_for_selector(ready, timeout=180_000)  # a fresh browser compiles scripts
        return page

    try:
        yield open_
        assert complaints == []
    finally:
        context.close()


def library_of(page):
    """Names of what the Library tab lists."""
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector(LIBRARY)
    return page.locator(".lens-library tbody tr[data-id] .lens-named").all_inner_texts()


def log_in(open_page, name, password):
    page = open_page(ready="input[type=password]")
    enter(page, name, password)
    return page


def enter(page, name, password):
    page.get_by_label("username").fill(name)
    page.get_by_label("password").fill(password)
    page.get_by_role("button", name="Login").click()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A page that asks for a login, and its accounts."""
    folder = tmp_path_factory.mktemp("guarded")
    accounts = Accounts(folder / "users.txt")
    accounts.add("anna", "correct horse")
    accounts.add("bert", "battery staple")
    with serving(folder / "data", auth=accounts.path) as (address, _):
        yield address


def test_two_accounts_have_lists_of_their_own_and_a_copied_link_shows_a_drawing(chromium, guarded):
    with browser_of(chromium, guarded) as anna, browser_of(chromium, guarded) as bert:
        page = log_in(anna, "anna", "wrong horse")
        expect(page.get_by_text(re.compile("incorrect", re.I))).to_be_visible()
        enter(page, "anna", "correct horse")
        page.wait_for_selector(CHART, timeout=180_000)
        assert text(page, "#lens-account") == "anna Log out"
        draw(page, "a red circle")
        page.locator("#lens-curve").get_by_role("button", name="Copy link").click()
        expect(page.locator("#lens-curve").get_by_role("button", name="Copied")).to_be_visible()
        link = page.evaluate("navigator.clipboard.readText()")
        assert re.search(r"[?]capture=[0-9a-f]{24}[.][0-9a-f]{16}$", link)
        assert ["a red circle" in name for name in library_of(page)] == [True]

        theirs = log_in(bert, "bert", "battery staple")
        theirs.wait_for_selector(CHART, timeout=180_000)
        assert library_of(theirs) == []
        shown = bert("?" + link.partition("?")[2])
        expect(shown.locator(".lens-result")).to_contain_text("a red circle")
        shown.wait_for_selector("#lens-heads .lens-heatmap, #lens-closer canvas")  # the views under it open as well
        assert library_of(shown) == []
        alone = bert("?capture=" + re.search(r"[0-9a-f]{24}", link)[0])
        expect(alone.locator(".lens-result .lens-message")).to_contain_text("is stored here")

        theirs.get_by_role("link", name="Log out").click()
        theirs.wait_for_selector("input[type=password]")
        assert len(library_of(anna())) == 1  # the other stays


def test_without_accounts_each_browser_is_somebody(chromium, tmp_path):
    with (
        serving(tmp_path, people="many") as (address, _),
        browser_of(chromium, address) as first,
        browser_of(chromium, address) as second,
    ):
        page = first()
        draw(page, "a blue square")
        assert len(library_of(page)) == 1 and library_of(second()) == []
        assert len(library_of(first())) == 1  # a new tab, the same person
