"""People at one server over HTTP: each with lists of their own, on the page's routes and the named endpoints."""

import json
import re
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from gradio_client import Client, handle_file
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.people import COOKIE, WhoAsks, oauth_person
from backend.people.accounts import Accounts
from backend.people.person import who_asks
from tests.app.fakes import FakeModel
from tests.app.served import serving
from tests.backend.stand_ins import wait_for

# The server closes a connection that was idle for five seconds; one must not just be sending on it then.
KEPT = httpx.Limits(keepalive_expiry=2.0)

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
    """A page where each browser is somebody."""
    with serving(tmp_path_factory.mktemp("served"), people="many") as (address, _):
        yield address


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
        link = json.loads([line for line in lines if line][-1])["kept"]["link"]["capture"]
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


# --- accounts ---


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A page that asks for a login."""
    folder = tmp_path_factory.mktemp("guarded")
    accounts = Accounts(folder / "users.txt")
    accounts.add("anna", "correct horse")
    accounts.add("bert", "battery staple")
    with serving(folder / "data", auth=accounts.path) as (address, _):
        yield address


def test_without_a_login_nothing_of_ours_answers(guarded):
    with httpx.Client(base_url=guarded) as stranger:
        for path in ("lens/closer/heads?capture=" + "0" * 24, "lens/export?ids=x", "gradio_api/info"):
            assert stranger.get("/" + path).status_code == 401, path
        for path in ("lens/run", "lens/matters", "gradio_api/upload"):
            assert stranger.post("/" + path, json=[]).status_code == 401, path
        assert b"lens-explore" not in stranger.get("/").content and COOKIE not in stranger.cookies
        wrong = {"username": "anna", "password": "battery staple"}
        assert stranger.post("/login", data=wrong).status_code == 400
        assert stranger.get("/lens/export?ids=x", headers={"cookie": f"{COOKIE}={'x' * 43}"}).status_code == 401


def test_a_history_follows_the_account_and_links_show_a_drawing_to_another(guarded):
    anna = Client(guarded, auth=("anna", "correct horse"), verbose=False)
    made = anna.predict("tiny-janus", "a red circle", 1, api_name="/generate")
    again = Client(guarded, auth=("anna", "correct horse"), verbose=False)  # at another machine
    assert ids(again) == [f"capture:{made['capture_id']}"]
    bert = Client(guarded, auth=("bert", "battery staple"), verbose=False)
    assert ids(bert) == [] and "is stored here" in refusal(bert, made["capture_id"], api_name="/capture")
    assert bert.predict(made["link"], api_name="/capture")["prompt"] == "a red circle"


def test_after_logging_out_the_door_is_shut(guarded):
    with httpx.Client(base_url=guarded) as browser:
        assert browser.post("/login", data={"username": "bert", "password": "battery staple"}).status_code == 200
        assert browser.get("/lens/export?ids=x").status_code == 400  # let in, and told what is wrong
        browser.get("/logout")
        assert browser.get("/lens/export?ids=x").status_code == 401


# --- signing in with Hugging Face ---


def test_who_signed_in_is_the_same_person_at_every_browser_until_it_ends():
    def session(sub, seconds):
        info = {"userinfo": {"sub": sub, "preferred_username": "anna"}, "expires_at": time.time() + seconds}
        return {"session": {"oauth_info": info}}

    first, second = oauth_person(session("1", 60)), oauth_person(session("1", 600))
    assert first == second and first.name == "anna" and first.id.startswith("account-")
    assert oauth_person(session("2", 60)).id != first.id
    assert oauth_person(session("1", -1)) is None and oauth_person({}) is None and oauth_person({"session": {}}) is None


# --- turns ---


def waiting(engine):
    return engine.queue.length


def test_a_closed_tab_frees_its_place_within_seconds(tmp_path):
    with serving(tmp_path, FakeModel(0.3), people="many") as (address, engine):
        at_work, closed = (httpx.Client(base_url=address, timeout=60) for _ in range(2))
        for browser in (at_work, closed):
            browser.get("/")
        with at_work.stream("POST", "/lens/run", json=form_values("a circle")) as first:
            wait_for(lambda: waiting(engine) == 1)
            with closed.stream("POST", "/lens/run", json=form_values("a square")) as second:
                wait_for(lambda: waiting(engine) == 2)
                line = json.loads(next(line for line in second.iter_lines() if line))
                assert line["result"]["stage"].startswith("waiting, 1 ahead")
            begun = time.monotonic()
            wait_for(lambda: waiting(engine) == 1, 3)  # the one that waited has gone
            assert time.monotonic() - begun < 3
            runs = engine.model.runs
            del first
        begun = time.monotonic()
        wait_for(lambda: waiting(engine) == 0, 3)  # and so has the one that was at work, between two tokens
        assert time.monotonic() - begun < 3 and engine.model.runs == runs


def test_twenty_browsers_at_once_take_turns_and_nobody_starves(tmp_path):
    """One asks for six drawings before all others come, and has one turn in each round all the same."""
    with serving(tmp_path, people="many") as (address, engine):
        greedy, *others = browsers = [httpx.Client(base_url=address, timeout=120, limits=KEPT) for _ in range(20)]
        for browser in browsers:
            browser.get("/")
        jobs = [(greedy, f"a red circle {i}") for i in range(6)]
        jobs += [(browser, f"a blue square {i}") for i, browser in enumerate(others)]
        served, shown, generate = [], {}, engine.model.generate

        def note(prompt, *how):
            served.append(prompt)
            return generate(prompt, *how)

        def draw(browser, prompt):
            lines = browser.post("/lens/run", json=form_values(prompt)).text.splitlines()
            shown[prompt] = json.loads([line for line in lines if line][-2])["result"]

        engine.model.generate = note
        threads = [threading.Thread(target=draw, args=job) for job in jobs]
        with engine.queue.join("whoever was first"):  # nobody's turn comes until all are there
            for i, thread in enumerate(threads, start=2):
                thread.start()
                wait_for(lambda n=i: waiting(engine) == n)  # they come in this order
        for thread in threads:
            thread.join()
        prompts = [prompt for _, prompt in jobs]
        assert served == [prompts[0], *prompts[6:], *prompts[1:6]]
        assert all(shown[prompt]["state"] == "finished" and shown[prompt]["prompt"] == prompt for prompt in prompts)


def test_more_than_a_persons_share_is_one_sentence(tmp_path):
    with serving(tmp_path, FakeModel(0.3), people="many", queued=1) as (address, engine):
        browser = httpx.Client(base_url=address, timeout=60)
        browser.get("/")
        with browser.stream("POST", "/lens/run", json=form_values("a circle")):
            wait_for(lambda: waiting(engine) == 1)
            refused = browser.post("/lens/run", json=form_values("a square")).text
            assert "at most 1 of your runs" in json.loads(refused.splitlines()[-1])["result"]["message"]


# --- a demo ---


def test_a_demo_is_looked_around_in_and_says_what_is_off(tmp_path):
    with serving(tmp_path, demo=True) as (address, _), person(address) as (browser, program):
        assert program.predict("tiny-janus", "a red circle", 1, api_name="/generate")["prompt"] == "a red circle"
        assert program.predict({"steps": 2, "batch_size": 2}, "x", False, api_name="/start_run")["runs"]
        large = {"model": "janus-pro-1b", "steps": 2}
        assert "only models that come with the program" in refusal(program, large, "x", False, api_name="/start_run")
        file = tmp_path / "x.npz"
        file.write_bytes(b"x")
        assert "takes in no files" in refusal(program, handle_file(file), api_name="/import_item")
        assert "others use it" in refusal(program, api_name="/unload")
        page = browser.get("/").text
        assert "This demo takes in no files" in page


def test_where_fine_tuning_is_off_the_tab_says_why(tmp_path):
    with serving(tmp_path, people="many", zero_gpu=True) as (address, _), person(address) as (browser, program):
        assert "ZeroGPU" in browser.get("/").text
        assert "ZeroGPU" in refusal(program, {"steps": 2}, "x", False, api_name="/start_run")
