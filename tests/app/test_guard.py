"""The doors: what answers, how much may be sent, which files a client may name, what every answer carries."""

import json
import os
import re

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.guard import doors
from app.guard.doors import GRADIO, Doors
from app.guard.headers import SafeHeaders, content_policy
from app.guard.payloads import MOST_LEVELS, read_payload
from app.guard.uploads import HOUR_SECONDS, KEPT_SECONDS, PART_SECONDS, Allowance, find_upload, sweep, uploaded_path
from app.settings import settings_from_environment
from backend.interface import UserError


class Blocks:
    """A page of one public and one private function, and one component."""

    class Fn:
        def __init__(self, api_name, api_visibility):
            self.api_name, self.api_visibility = api_name, api_visibility

    def __init__(self):
        self.fns = {0: self.Fn("ask", "public"), 1: self.Fn("on_load", "private")}
        self.blocks = {7: object()}


@pytest.fixture
def seen():
    """Bodies that came through to the app."""
    return []


@pytest.fixture
def client(seen, uploads):
    async def take(request):
        seen.append(await request.body())
        return JSONResponse(["one", "two"])

    async def fail(request):
        return JSONResponse({"error": (await request.json())["data"][0]}, 500)

    routes = [
        Route("/", lambda request: PlainTextResponse("the page")),
        Route("/lens/mine", take, methods=["GET", "POST"]),
        Route("/gradio_api/file={path:path}", lambda request: PlainTextResponse("secret")),
        Route("/gradio_api/run/{name}", fail, methods=["POST"]),
        Route("/{path:path}", take, methods=["GET", "POST", "PUT"]),
    ]
    middleware = [
        Middleware(SafeHeaders),
        Middleware(Doors, own=[re.compile("/lens/mine")], allowance=Allowance(3, 2**20)),
    ]
    app = Starlette(routes=routes, middleware=middleware)
    app.get_blocks = Blocks
    return TestClient(app, raise_server_exceptions=False)


def call(**others):
    return {"data": [], "fn_index": 0, "session_hash": "abc", **others}


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=http://127.0.0.1/",
        "/gradio_api/file/app.py",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-code",
        "/gradio_api/custom_component/x/client/y/z",
        "/gradio_api/dev/reload",
        "/gradio_api/deep_link",
        "/gradio_api/runs",
        "/gradio_api/stream/x",
        "/gradio_api/profiling/traces",
        "/pwa_icon/90000",
        "/monitoring",
        "/docs",
        "/lens/mine/../../etc/passwd",
        "/lens/mineral",
        "//etc/passwd",
    ],
)
def test_what_the_page_does_not_use_is_closed(client, seen, path):
    for method in ("GET", "POST"):
        assert client.request(method, path).status_code == 404
    assert seen == []


def test_without_the_doors_gradio_answers_there():
    """Else the test above would prove nothing; and what the page needs is where the doors think it is."""
    import gradio as gr
    from gradio.routes import App

    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Textbox()
    bare = TestClient(App.create_app(blocks))
    closed = ["/gradio_api/file=/etc/passwd", "/gradio_api/vibe-code", "/monitoring", "/gradio_api/proxy=http://a.b/"]
    assert [bare.get(path).status_code for path in closed] == [403, 403, 403, 400]
    for path in ("/config", "/gradio_api/info", "/gradio_api/app_id", "/robots.txt"):
        assert bare.get(path).status_code == 200
        assert any(re.fullmatch(door.paths, path) for door in GRADIO)


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/gradio_api/upload"), ("GET", "/gradio_api/queue/join"), ("POST", "/config")]
)
def test_another_method_is_refused(client, method, path):
    assert client.request(method, path).status_code == 405


def test_open_doors_and_own_routes_answer(client, seen):
    assert client.get("/").text == "the page"
    assert client.post("/lens/mine", content=b"x").status_code == 200
    assert client.post("/gradio_api/queue/join", json=call()).status_code == 200
    assert json.loads(seen[-1]) == call()


# --- sizes --------------------------------------------------------------------------------------


def pieces(count, size=1000):
    """A body that does not say how long it is."""
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join", "/lens/mine", "/login"])
def test_a_body_is_counted_as_it_comes(client, seen, monkeypatch, path):
    for name in ("MAX_UPLOAD_BYTES", "MAX_JSON_BYTES", "MAX_FORM_BYTES"):
        monkeypatch.setattr(doors, name, 4000)
    answer = client.post(path, content=pieces(5))
    assert answer.status_code == 413 and answer.text.startswith("Expected at most") and seen == []


def test_reading_takes_no_body(client):
    assert client.request("GET", "/config", content=b"x").status_code == 413


def test_uploads_are_limited_per_hour(client):
    assert client.post("/gradio_api/upload", content=b"x").status_code == 200  # the app says that it took two files
    assert client.post("/gradio_api/upload", content=b"x").status_code == 200
    answer = client.post("/gradio_api/upload", content=b"x")
    assert answer.status_code == 429 and "go on in 60 min" in answer.text


def test_an_hour_later_uploads_go_on_and_others_never_stopped(uploads):
    now = [0.0]
    allowance = Allowance(2, 100, lambda: now[0])
    allowance.note("a", 2, 10)
    with pytest.raises(UserError, match="at most 2 uploaded files an hour"):
        allowance.check("a")
    allowance.check("b")
    now[0] = HOUR_SECONDS
    allowance.check("a")


def test_a_full_folder_takes_no_more_until_it_is_swept(uploads):
    now = [0.0]
    allowance = Allowance(100, 50, lambda: now[0])
    (uploads / "left").write_bytes(bytes(60))
    with pytest.raises(UserError, match="are full"):
        allowance.check("a")
    (uploads / "left").unlink()
    now[0] = 61.0
    allowance.check("a")


def test_sweeping_keeps_what_is_recent_and_counts_it(tmp_path):
    def make(name, age_seconds, size):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").write_bytes(bytes(size))
        os.utime(folder, (1e9 - age_seconds,) * 2)

    make("new", 10, 7)
    make("old", KEPT_SECONDS + 10, 9)
    for name, age in (("tmp-running", 10), ("tmp-cut", PART_SECONDS + 10)):
        (tmp_path / name).write_bytes(bytes(3))
        os.utime(tmp_path / name, (1e9 - age,) * 2)
    assert sweep(tmp_path, now=1e9) == 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "tmp-running"]


# --- payloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "as JSON"),
        (b"{", "as JSON"),
        (b"[]", "a JSON object"),
        (b'{"data": [NaN]}', "as JSON"),
        (b'{"data": [-Infinity]}', "as JSON"),
        (b'{"data": [' + b"9" * 5000 + b"]}", "as JSON"),
        (b'{"data": ["\xff"]}', "as JSON"),
        (b'{"data": ["\\ud800"]}', "half a character"),
        (b'{"data": [{"\\ud800": 1}]}', "half a character"),
        (b'{"data": ' + b"[" * (MOST_LEVELS + 1) + b"]" * (MOST_LEVELS + 1) + b"}", "levels"),
        (b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "as JSON|levels"),
        (b'{"data": [], "fn_index": "1"}', "fn_index"),
        (b'{"data": [], "fn_index": true}', "fn_index"),
        (b'{"data": [], "fn_index": 99999999999}', "fn_index"),
        (b'{"data": [], "session_hash": ""}', "session_hash"),
        (b'{"data": [], "session_hash": "a\\u0000"}', "session_hash"),
        (b'{"data": [], "session_hash": {"a": 1}}', "session_hash"),
        (b'{"data": [], "batched": true}', "batch"),
        (b'{"data": [{"path": "/etc/passwd"}]}', "uploaded file"),
        (b'{"data": [[[{"a": {"path": "app.py"}}]]]}', "uploaded file"),
        (b'{"data": [{"path": "http://127.0.0.1:1/x"}]}', "uploaded file"),
        (b'{"event_data": {"path": "\\u0000"}}', "uploaded file"),
    ],
)
def test_bad_payloads_are_one_sentence(body, words, uploads):
    with pytest.raises(UserError, match=words):
        read_payload(body)


def test_a_refusal_has_the_form_that_gradios_clients_show(client):
    from gradio_client.utils import extract_validation_message

    answer = client.post("/gradio_api/queue/join", json=call(data=[{"path": "/etc/passwd"}]))
    assert "Expected an uploaded file" in extract_validation_message(answer)


def test_a_payload_may_name_an_upload(uploads):
    (uploads / "a").mkdir()
    (uploads / "a" / "x.png").write_bytes(b"x")
    payload = call(data=[{"path": str(uploads / "a" / "x.png")}])
    assert read_payload(json.dumps(payload).encode()) == payload


@pytest.mark.parametrize("how", ["..", "link", "self", "relative", "nul", "prefix"])
def test_only_files_inside_the_folder_of_uploads_are_uploads(uploads, how):
    outside = uploads.parent / "uploads-not"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (uploads / "link").symlink_to(outside / "secret")
    path = {
        "..": f"{uploads}/../uploads-not/secret",
        "link": f"{uploads}/link",
        "self": str(uploads),
        "relative": "uploads/link",
        "nul": f"{uploads}/\0",
        "prefix": str(outside / "secret"),
    }[how]
    with pytest.raises(UserError, match="Expected an uploaded image, got another file"):
        find_upload(path, "image")


@pytest.mark.parametrize("value", [None, "x", 7, {}, {"path": "/x"}, {"path": "/x", "meta": 3}, {"meta": {}}])
def test_a_programs_file_is_marked_and_uploaded(uploads, value):
    with pytest.raises(UserError, match="upload it first"):
        uploaded_path(value, "file")


@pytest.mark.parametrize(
    ("path", "payload", "status"),
    [
        ("queue/join", call(fn_index=99), 404),
        ("queue/join", call(fn_index=None), 404),
        ("call/ask", {"data": []}, 200),
        ("call/on_load", {"data": []}, 404),
        ("call/gone", {"data": []}, 404),
        ("run/gone", {"data": []}, 404),
        ("component_server", {"component_id": 7, "fn_name": "f", "session_hash": "a", "data": 1}, 200),
        ("component_server", {"component_id": 8, "fn_name": "f", "session_hash": "a", "data": 1}, 404),
        ("component_server", {"component_id": 7}, 404),
        ("cancel", call(fn_index=5, event_id="x"), 404),
    ],
)
def test_functions_that_are_not_there_are_told(client, path, payload, status):
    assert client.post(f"/gradio_api/{path}", json=payload).status_code == status


def test_a_refusal_of_gradios_is_the_requests_fault_and_a_failure_the_servers(client):
    assert client.post("/gradio_api/run/ask", json=call(data=["Expected a cup."])).status_code == 400
    assert client.post("/gradio_api/run/ask", json=call(data=[None])).status_code == 500


def test_a_failure_is_told_without_its_trace(client, caplog):
    answer = client.post("/gradio_api/run/ask", json=call(data=[]))  # the app falls over this
    assert answer.status_code == 500 and "list index" not in answer.text and "list index" in caplog.text


# --- headers ------------------------------------------------------------------------------------


def test_every_answer_carries_the_headers(client):
    for answer in (client.get("/"), client.get("/nowhere"), client.post("/gradio_api/queue/join")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


def test_nothing_may_be_loaded_from_elsewhere():
    policy = dict(rule.split(" ", 1) for rule in content_policy().split("; "))
    assert policy["object-src"] == "'none'"
    assert not any("http" in sources or "*" in sources for name, sources in policy.items() if name != "form-action")


def test_a_space_may_be_framed_by_the_hub_and_others_by_whom_they_name():
    assert "https://huggingface.co" in settings_from_environment({"SPACE_HOST": "me-lens.hf.space"}).frames
    named = settings_from_environment({"AIA_LENS_FRAMES": "https://lab.example, http://localhost:80"}).frames
    assert content_policy(named).endswith("frame-ancestors 'self' https://lab.example http://localhost:80")
    for bad in ("lab.example", "https://a b", "https://a; script-src *", "'none'"):
        with pytest.raises(UserError, match="AIA_LENS_FRAMES"):
            settings_from_environment({"AIA_LENS_FRAMES": bad})
