"""The log: lines that a program can read, with the ids of what they belong to and nothing that anybody wrote."""

import io
import json
import logging
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.log import RequestLog, set_up_log
from app.people import WhoAsks
from backend.engine import Engine
from backend.kept.store import CaptureStore
from backend.people.person import asked_by, browser_person


@pytest.fixture(params=["json", "text"])
def form(request):
    return request.param


@pytest.fixture
def log():
    """Sets the log up in a form; → what was written since. What was set up before comes back at the end."""
    root, out = logging.getLogger(), io.StringIO()
    before = root.handlers[:], root.level
    yield lambda form="json": (set_up_log(form, out), out)[1]
    root.handlers[:], root.level = before


def lines(out):
    """Our own lines; the client of these tests writes some, too."""
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    return [line for line in found if line["logger"].startswith(("app", "x"))]


def respond(request):
    logging.getLogger("app.somewhere").warning("inside")
    return PlainTextResponse("in")


@pytest.fixture
def client():
    paths = ("/", "/lens/run", "/lens/plotly-1.min.js", "/assets/index.js", "/gradio_api/call/{name}/{event}")
    routes = [Route(path, respond, methods=["GET", "POST"]) for path in paths]
    routes.append(Route("/lens/broken", lambda request: 1 / 0))
    middleware = [Middleware(RequestLog), Middleware(WhoAsks)]
    return TestClient(Starlette(routes=routes, middleware=middleware), raise_server_exceptions=False)


def test_a_request_has_an_id_that_comes_back_and_stands_on_every_line(client, log):
    out = log()
    answer = client.get("/lens/run?prompt=secret", headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    inside, ended = lines(out)
    assert inside["request"] == ended["request"] == "mine-1" and inside["message"] == "inside"
    assert (ended["method"], ended["path"], ended["status"]) == ("GET", "/lens/run", 200) and ended["seconds"] >= 0
    assert "secret" not in json.dumps(lines(out)) and inside["time"].endswith("Z")


@pytest.mark.parametrize("bad", ["", "two words", "x" * 65, "a/b"])
def test_an_id_that_is_not_plain_is_replaced(client, log, bad):
    log()
    answer = client.get("/", headers={"x-request-id": bad})
    assert answer.headers["x-request-id"] != bad and len(answer.headers["x-request-id"]) == 16


def test_a_person_is_told_by_a_short_hash_never_by_the_cookie(client, log):
    out = log()
    client.get("/")
    (secret,) = client.cookies.values()
    client.post("/lens/run")
    short = browser_person(secret).id.rpartition("-")[2][:8]
    assert lines(out)[-1]["person"] == short and secret not in out.getvalue()


def test_what_a_page_is_made_of_makes_no_line_and_events_keep_their_ids(client, log):
    out = log()
    for path in ("/lens/plotly-1.min.js", "/assets/index.js"):
        client.get(path)
    assert [line["message"] for line in lines(out)] == ["inside", "inside"]
    client.get("/gradio_api/call/capture/0123456789abcdef")
    assert lines(out)[-1]["path"] == "/gradio_api/call/capture"


def test_what_breaks_is_an_error_with_the_id_of_its_request(client, log):
    out = log()
    client.get("/lens/broken", headers={"x-request-id": "mine-2"})
    assert [(line["level"], line["status"]) for line in lines(out) if line.get("request") == "mine-2"] == [
        ("ERROR", 500)
    ]


def test_a_traceback_is_part_of_its_line(log, form):
    out = log(form)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logging.getLogger("x").exception("it broke", extra={"run": "abc"})
    if form == "json":
        (line,) = lines(out)
        assert "ZeroDivisionError" in line["error"] and line["run"] == "abc"
    else:
        assert "it broke run=abc" in out.getvalue() and "ZeroDivisionError" in out.getvalue()


def test_what_is_kept_is_logged_by_its_id_without_a_word_of_it(tmp_path, tiny_janus, log, form):
    out = log(form)
    engine = Engine(CaptureStore(tmp_path / "captures"))
    engine.adopt(tiny_janus)
    with asked_by(browser_person("x" * 43)):
        done = [*engine.generate("tiny-janus", "a yellow zeppelin")][-1].capture
    assert done.id in out.getvalue() and str(Path(tmp_path)) not in out.getvalue()
    assert "yellow" not in out.getvalue() and "zeppelin" not in out.getvalue()
    assert browser_person("x" * 43).id[8:16] in out.getvalue()
