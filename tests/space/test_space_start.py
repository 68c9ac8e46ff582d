"""A Space-like start of what is committed: requirements only, no request to anybody, a page in time, in a frame, again.

The environment is the installed one cut down to what requirements.txt brings along; `sh tests/space/start.sh` makes a
real one with pip, which takes minutes.
"""

import http.server
import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from packaging.requirements import Requirement

from tests.hostile.server import free_port

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 60  # on a quiet machine with two cores; see `START_SECONDS`
START_SECONDS = 240  # before the test gives up: other tests may run beside it


def closure(names):
    """The distributions that requirements bring along, by name, as pip would install them here."""
    found, waiting = {}, list(names)
    while waiting:
        asked = Requirement(waiting.pop())
        key = re.sub(r"[-_.]+", "-", asked.name).lower()
        if key in found or (asked.marker and not asked.marker.evaluate({"extra": ""})):
            continue
        try:
            found[key] = distribution(asked.name)
        except PackageNotFoundError:
            continue  # CUDA's packages, where torch was built for a CPU
        waiting += found[key].requires or []
    return found


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """An interpreter that sees the requirements' packages and no other: links to the files of each."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    for one in closure(line for line in lines if line and not line.startswith("#")).values():
        for top in {Path(file).parts[0] for file in one.files or () if not str(file).startswith("..")}:
            source = Path(one.locate_file(top))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    return folder / "bin" / "python"


@contextmanager
def space(python, folder, **environment):
    """A running Space: its address and the folder that it lives in."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    own = {
        "AIA_LENS_PYTHON": str(python),
        "AIA_LENS_PORT": str(port),
        "AIA_LENS_STAY": "1",
        "AIA_LENS_WATCH": str(folder / "asked.txt"),
        "PYTHONPATH": str(ROOT / "tests" / "space"),
    }
    command = ["sh", str(ROOT / "tests" / "space" / "start.sh"), str(folder)]
    with (folder / "start.txt").open("w") as out:
        process = subprocess.Popen(command, env={**os.environ, **own, **environment}, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + START_SECONDS
            while "up after" not in (folder / "start.txt").read_text() and time.monotonic() < deadline:
                assert process.poll() is None, (folder / "start.txt").read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def other_site():
    """A page of another origin, "localhost" beside 127.0.0.1, that has ours in a frame."""
    ours = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(f"<iframe src='{ours[0]}/' style='width:1200px;height:900px'></iframe>".encode())

        def log_message(self, *args):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}", ours.append
    server.shutdown()


@pytest.fixture(scope="module")
def started(python, other_site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    outer, show = other_site
    with space(python, folder, AIA_LENS_FRAMES=outer) as url:
        show(url)
        yield url, folder


def test_the_environment_holds_the_requirements_only(python):
    code = (
        "import importlib.util as u; print([bool(u.find_spec(n)) for n in ('gradio', 'torch', 'pytest', 'playwright')])"
    )
    out = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[True, True, False, False]"


def test_the_page_answers_in_time_and_asks_nobody(started):
    url, folder = started
    page = httpx.get(url, headers={"host": "someone-aia-lens.hf.space"})
    assert page.status_code == 200 and "AIA Lens" in page.text
    answer = Client(url, verbose=False).predict("tiny-janus", "a red circle", api_name="/generate")
    assert answer["image"]
    seconds = int(re.search(r"up after (\d+) s", (folder / "start.txt").read_text()).group(1))
    print(f"up after {seconds} s")
    assert seconds < MOST_SECONDS * max(1, os.getloadavg()[0] / 2)
    assert not (folder / "asked.txt").exists(), (folder / "asked.txt").read_text()


def test_the_check_for_requests_would_see_one(python, tmp_path):
    notes = tmp_path / "asked.txt"
    environment = {
        "AIA_LENS_WATCH": str(notes),
        "PYTHONPATH": str(ROOT / "tests" / "space"),
        "PATH": os.environ["PATH"],
    }
    code = "import urllib.request; urllib.request.urlopen('http://example.org')"
    assert subprocess.run([python, "-c", code], env=environment, capture_output=True).returncode != 0
    assert "example.org" in notes.read_text()


def test_it_writes_into_its_home_only(started):
    _, folder = started
    known = {"home", "log.txt", "start.txt", "asked.txt"}
    assert {path.name for path in folder.iterdir() if not path.name.startswith(("tmp", "pymp", "torch"))} <= known


def test_it_works_in_a_frame_of_another_site(started, other_site, chromium):
    page = chromium.new_page()
    page.set_default_timeout(180_000)
    page.goto(other_site[0])
    frame = page.frame_locator("iframe")
    frame.locator(".lens-chart[data-drawn]").first.wait_for()
    frame.locator(".lens-samples button").nth(1).click()
    frame.locator("#lens-ask").click()
    frame.locator(".lens-answer button").first.wait_for()
    page.close()


def test_another_site_may_not_frame_a_page_that_names_nobody():
    from app.guard.headers import content_policy

    assert content_policy(()).endswith("frame-ancestors 'self'")


def test_after_sleep_a_new_disk_starts_afresh_and_a_mounted_one_goes_on(python, tmp_path):
    bucket = {"AIA_LENS_DATA": str(tmp_path / "bucket")}
    with space(python, tmp_path / "one", **bucket) as url:
        made = Client(url, verbose=False).predict("tiny-janus", "a blue square", api_name="/generate")
    with space(python, tmp_path / "two", **bucket) as url:
        again = Client(url, verbose=False).predict("tiny-janus", "a blue square", api_name="/generate")
    assert (again["capture_id"], again["cached"], made["cached"]) == (made["capture_id"], True, False)
