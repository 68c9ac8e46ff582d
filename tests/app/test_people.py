"""People at one server over HTTP: each with lists of their own, on the page's routes and the named endpoints."""

import json
import re
import socket
from contextlib import contextmanager

import httpx
import pytest
from gradio_client import Client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.layout import build_app, launch_options
from app.people import COOKIE, WhoAsks
from app.settings import Settings
from backend.background.runs import Runs
from backend.people.captures import PeoplesCaptures
from backend.people.person import who_asks
from tests.app.fakes import FakeEngine

# --- the cookie ---


def whoami(framed=False):
    """An app that answers with who asks."""

    async def answer(request):
        return PlainTextResponse(who_asks().id)

    routes = [Route("/", answer), Route("/config", answer), Route("/lens/x", answer, methods=["GET", "POST"])]
    return Starlette(routes=routes, middleware=[Middleware(WhoAsks, framed=framed)])


def test_a_browser_gets_a_cookie_once_that_no_script_reads_and_is_known_by_it():
    browser = TestClient(whoami(), base_url="http://lens")
    first = browser.get("/")
    cookie = first.headers["set-cookie"]
    assert re.match(rf"{COOKIE}=[A-Za-z0-9_-]{{43}}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax$", cookie)
    assert first.headers["cache-control"] == "no-store"
    second = browser.post("/lens/x")
    assert second.text == first.text != "local" and "set-cookie" not in second.headers
    assert TestClient(whoami()).get("/config").text not in (first.text, "stranger")


def test_in_a_frame_of_another_site_the_cookie_is_partitioned():
    cookie = TestClient(whoami(framed=True)).get("/").headers["set-cookie"]
    assert cookie.endswith("; HttpOnly; SameSite=None; Secure; Partitioned")


def test_behind_a_proxy_with_https_the_cookie_stays_there():
    cookie = TestClient(whoami()).get("/", headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert cookie.endswith("; HttpOnly; SameSite=Lax; Secure")


@pytest.mark.parametrize("secret", ["", "local", "x" * 42, "x" * 44, "../" + "x" * 40, "é" * 43])
def test_whoever_shows_nothing_of_ours_is_a_stranger(secret):
    headers = {"cookie": f"{COOKIE}={secret}".encode()}
    assert TestClient(whoami()).get("/lens/x", headers=headers).text == "stranger"


# --- a server ---


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A page for many people over a model without weights → its address."""
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    settings = Settings(port=port, data=folder, people="many")
    store = PeoplesCaptures(settings.captures, 2**30, settings.histories)
    engine, runs = FakeEngine(store), Runs(settings.runs, command=lambda folder: ["sleep", "60"])
    blocks = build_app(engine, runs, settings.apart)
    blocks.launch(**launch_options(engine, settings), prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{port}"
    blocks.close(verbose=False)
    store.close()


@contextmanager
def person(served):
    """A browser of one's own and a program that shows the same cookie."""
    with httpx.Client(base_url=served, timeout=30) as browser:
        browser.get("/")
        yield browser, Client(served, verbose=False, httpx_kwargs={"cookies": dict(browser.cookies)})


DRAWING = ["tiny-janus", "generation", None, "", "@", 0, 0.0, 64, 0.5, 1.5, "", "", 1.0, "full"]


def form_values(prompt):
    """What the page sends for a drawing: the values of the form's fields, in their order."""
    return [prompt if value == "@" else value for value in DRAWING]


def ids(program):
    return [item["id"] for item in program.predict(api_name="/library")["items"]]


def refusal(program, *args, **options):
    with pytest.raises(Exception) as found:
        program.predict(*args, **options)
    return str(found.value)


def test_two_browsers_have_their_own_library_and_a_link_shows_a_drawing(served):
    with person(served) as (_, anna), person(served) as (browser, bert):
        made = anna.predict("tiny-janus", "a red circle", 1, api_name="/generate")
        own = made["capture_id"]
        assert ids(anna) == [f"capture:{own}"] and ids(bert) == []
        assert made["link"].startswith(f"{own}.") and not made["cached"]
        assert "is stored here" in refusal(bert, own, api_name="/capture")
        assert bert.predict(made["link"], api_name="/capture")["capture_id"] == own
        assert anna.predict(own, api_name="/capture")["capture_id"] == own
        closer = "/lens/closer/heads"
        assert browser.get(closer, params={"capture": own}).status_code == 404
        assert browser.get(closer, params={"capture": made["link"]}).status_code == 200
        assert browser.get(closer, params={"capture": own}).status_code == 404  # unpacked, and still not his
        assert browser.get("/lens/export", params={"ids": f"capture:{own}"}).status_code == 400
        compared = bert.predict([f"capture:{made['link']}"], "strict", api_name="/compare")
        assert compared["series"][0]["id"] == f"capture:{made['link']}"
        assert "no longer stored" in refusal(bert, f"capture:{own}", "mine", api_name="/rename")
        assert bert.predict("tiny-janus", "a red circle", 1, api_name="/generate")["cached"]
        assert ids(bert) == [f"capture:{own}"]  # now he asked for it himself
        bert.predict(f"capture:{own}", api_name="/delete_item")
        assert ids(bert) == [] and ids(anna) == [f"capture:{own}"]


def test_a_run_of_the_page_goes_into_the_history_of_who_asked(served):
    with person(served) as (browser, program):
        lines = browser.post("/lens/run", json=form_values("a blue square")).text.splitlines()
        link = json.loads([line for line in lines if line][-1])["curve"]["link"]["capture"]
        assert ids(program) == [f"capture:{link.partition('.')[0]}"]
    with person(served) as (_, other):
        assert other.predict(link, api_name="/capture")["prompt"] == "a blue square" and ids(other) == []


def test_a_run_is_listed_to_its_owner_and_changed_by_nobody_else(served):
    with person(served) as (_, anna), person(served) as (_, bert):
        run = anna.predict({"steps": 2, "batch_size": 2}, "mine", False, api_name="/start_run")["runs"][0]
        assert [one["id"] for one in anna.predict(api_name="/list_runs")["runs"]] == [run]
        assert bert.predict(api_name="/list_runs")["runs"] == []
        status = bert.predict(run, api_name="/run_status")
        assert (status["name"], status["mine"]) == ("mine", False)
        for act in ("/cancel_run", "/resume_run"):
            assert "somebody else" in refusal(bert, run, api_name=act)
        assert "no run of that id" in refusal(bert, f"run:{run}", api_name="/delete_item")
        assert anna.predict(run, api_name="/cancel_run")["state"] in ("stopping", "stopped")


def test_a_program_without_the_cookie_may_look_and_keeps_nothing(served):
    with person(served) as (_, anna):
        link = anna.predict("tiny-janus", "a red square", 5, api_name="/generate")["link"]
    stranger = Client(served, verbose=False)
    stranger.cookies.clear()
    assert stranger.predict(link, api_name="/capture")["prompt"] == "a red square"
    assert "cookie" in refusal(stranger, {"steps": 2}, "x", False, api_name="/start_run")
    made = stranger.predict("tiny-janus", "a red square", 6, api_name="/generate")
    assert ids(stranger) == [] and stranger.predict(made["link"], api_name="/capture")["seconds"] == 0.42
