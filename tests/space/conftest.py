"""The Chromium of the browser tests, for the page in a frame."""

from tests.browser.conftest import chromium

__all__ = ["chromium"]
