"""A real server with a data folder of its own, and a real Chromium that only it may be talked to.

Every page fails its test when it asks another origin for anything or logs an error.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from gradio_client import Client
from playwright.sync_api import expect

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120

expect.set_options(timeout=30_000)  # as everything else that is waited for on a page


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.fspath).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_up(url, process, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"the server did not come up:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the server keeps everything."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(folder):
    """The address of a running page."""
    log = folder / "log.txt"
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {
        **os.environ,
        "AIA_LENS_DATA": str(folder / "data"),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with log.open("w") as out:
        command = [sys.executable, "-m", "app", "serve", "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        wait_until_up(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def api(server):
    """The page's endpoints, as a program calls them."""
    return Client(server, verbose=False)


@pytest.fixture
def open_page(chromium, server):
    """Opens tabs at a query; checks at the end that none asked elsewhere or logged an error."""
    pages, complaints = [], []

    def watch(page):
        page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
        page.on("console", lambda m: complaints.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("request", lambda r: None if is_ours(r.url, server) else complaints.append(f"asked for {r.url[:200]}"))

    def open_(query="", scheme="light", width=1280, ready=".lens-chart[data-drawn]", fresh=None, script=""):
        page = (fresh or chromium).new_page()
        pages.append(page)
        page.add_init_script(script or "null")
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.set_default_timeout(30_000)
        watch(page)
        page.goto(f"{server}/{query}")
        page.wait_for_selector(ready, timeout=180_000 if fresh else 30_000)  # a fresh context compiles scripts
        return page

    yield open_
    for page in pages:
        page.close()
    assert complaints == []


def is_ours(url, server):
    return url.startswith((server + "/", "data:", "blob:"))
