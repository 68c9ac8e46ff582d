"""The page under a path of another site, behind a proxy that takes the path away, as nginx and JupyterHub do."""

import os
import subprocess
import sys
import threading
import time

import httpx
import pytest
import uvicorn
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tests.browser.conftest import ROOT, free_port, wait_until_up
from tests.browser.person import ask, drawn, line, text

BELOW = "/lab/lens"
METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE"]
OF_ONE_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class Proxy:
    """Hands on what is asked below the path; notes what is asked beside it."""

    def __init__(self, behind):
        self.beside, self.port = [], free_port()
        self.client = httpx.AsyncClient(base_url=behind, timeout=120)
        routes = [Route(BELOW + "/{path:path}", self.hand_on, methods=METHODS), Route("/{path:path}", self.refuse)]
        config = uvicorn.Config(Starlette(routes=routes), port=self.port, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    async def hand_on(self, request):
        headers = [(k, v) for k, v in request.headers.items() if k != "content-length"]
        headers += [("x-forwarded-host", request.headers["host"]), ("x-forwarded-proto", "http")]
        path = request.path_params["path"] + (f"?{request.url.query}" if request.url.query else "")
        body = await request.body()
        asked = self.client.build_request(request.method, "/" + path, headers=headers, content=body)
        answer = await self.client.send(asked, stream=True)
        kept = {k: v for k, v in answer.headers.items() if k not in OF_ONE_HOP}
        return StreamingResponse(answer.aiter_raw(), answer.status_code, kept)

    async def refuse(self, request):
        self.beside.append(request.url.path)
        return PlainTextResponse("another site", 404)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture
def site(tmp_path):
    """A proxy, and behind it a server that was told under which path it lies."""
    log, port = tmp_path / "log.txt", free_port()
    environment = {
        **os.environ,
        "AIA_LENS_DATA": str(tmp_path / "data"),
        "AIA_LENS_ROOT_PATH": BELOW,
        "AIA_LENS_PEOPLE": "many",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with log.open("w") as out:
        command = [sys.executable, "-m", "app", "serve", "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/healthz", process, log)
        with Proxy(f"http://127.0.0.1:{port}") as proxy:
            yield proxy
    finally:
        process.terminate()
        process.wait(30)


def test_a_person_asks_saves_and_comes_back_below_a_path(site, chromium):
    page = chromium.new_page()
    page.set_default_timeout(30_000)
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda r: complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    at = f"http://127.0.0.1:{site.port}{BELOW}/"
    try:
        page.goto(at)
        page.wait_for_selector(".lens-chart[data-drawn]", timeout=180_000)
        capture = ask(page, "is there a star below a path?")
        assert page.url.startswith(at + "?capture=" + capture[:24])
        shown, curve, picture = drawn(page), line(page), page.get_attribute(".lens-pic img", "src")
        page.locator("#lens-closer").scroll_into_view_if_needed()
        page.wait_for_selector("#lens-view-heads .lens-headlist button")  # by a route of our own
        page.reload(timeout=180_000)
        page.wait_for_function("shown => document.querySelector('.lens-chart')?.dataset.drawn === shown", arg=shown)
        assert (line(page), page.get_attribute(".lens-pic img", "src")) == (curve, picture)
        assert "from the store" in text(page, ".lens-facts")
        page.get_by_role("tab", name="Library").click()
        expect(page.locator("#lens-things")).to_contain_text("below a path")
        page.get_by_role("tab", name="Fine-tune").click()
        expect(page.locator("#lens-targets-preview, #lens-tune-form").first).to_be_visible()
    finally:
        page.close()
    assert complaints == []
    assert [path for path in site.beside if path != "/favicon.ico"] == []
