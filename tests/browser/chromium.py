"""The one Chromium of all tests: a machine's own, started once."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


def find_chromium():
    """The path of Chromium or Chrome."""
    names = (os.environ.get("CHROMIUM"), *NAMES)
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        raise FileNotFoundError("no Chromium was found: install Chromium or Chrome, or set CHROMIUM to its path")
    return path


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        # One context for all: tabs share its cache, and half a minute is not spent on compiling scripts.
        context = browser.new_context(accept_downloads=True)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield context
        browser.close()
