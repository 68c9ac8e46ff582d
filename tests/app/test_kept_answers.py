"""What is kept of the page: the same bytes as Gradio's own, compressed, per address, and nothing of anybody's."""

import gzip

import brotli
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app import kept_answers
from app.kept_answers import KeptAnswers

PAGE = "the page of HOST " * 100


def page_of(host):
    return PAGE.replace("HOST", host)


class Served:
    """A server that counts what it makes."""

    def __init__(self):
        self.made, self.told, self.headers, self.status = [], [], {}, 200
        paths = ("/", "/config", "/theme.css", "/assets/a.js", "/assets/b.png", "/lens/run", "/lens/plotly-7.min.js")
        app = Starlette(routes=[Route(p, self.answer) for p in paths], middleware=[Middleware(KeptAnswers)])
        app.auth, app.auth_dependency = None, None
        self.app, self.client = app, TestClient(app)

    def answer(self, request):
        self.made.append(request.url.path)
        self.told.append((request.url.query, dict(request.headers)))
        return PlainTextResponse(page_of(request.headers["host"]), self.status, self.headers)

    def get(self, path="/", **headers):
        return self.client.get(path, headers={"accept-encoding": "br", **headers})


@pytest.fixture
def served():
    return Served()


@pytest.mark.parametrize("encoding", ["br", "gzip", "identity"])
def test_the_page_is_made_once_for_each_encoding(served, encoding):
    first, again = (served.get("/?capture=1", **{"accept-encoding": encoding}) for _ in "ab")
    assert first.text == again.text == page_of("testserver") and served.made == ["/"]
    assert first.headers == again.headers and first.headers["vary"] == "Accept-Encoding"
    assert first.headers.get("content-encoding", "identity") == encoding
    assert int(first.headers["content-length"]) < len(PAGE) or encoding == "identity"


def test_a_browser_that_has_the_page_is_told_so(served):
    tag = served.get().headers["etag"]
    known = served.get(**{"if-none-match": tag})
    assert (known.status_code, known.content) == (304, b"") and known.headers["cache-control"] == "no-cache"
    assert served.get(**{"if-none-match": 'W/"other"'}).status_code == 200


@pytest.mark.parametrize("header", ["host", "x-forwarded-host", "x-forwarded-proto"])
def test_under_another_name_the_page_is_another(served, header):
    served.get()
    served.get(**{header: "example.org"})
    assert len(served.made) == 2


@pytest.mark.parametrize("path", ["/theme.css", "/assets/a.js", "/lens/plotly-7.min.js"])
def test_scripts_are_kept_whatever_the_address(served, path):
    served.get(path)
    assert served.get(path, host="example.org").text == page_of("testserver") and served.made == [path]
    served.get(path, range="bytes=0-3")
    served.get(path, **{"accept-encoding": "identity"})
    assert len(served.made) == 3  # these go through


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/?page=other&all_endpoints=1", {}),
        ("/?deep%5Flink=x", {}),
        ("/config?deep_link=x", {}),
        ("/", {"x-gradio-server": "https://evil.example", "cookie": "a=b", "accept-language": "x"}),
    ],
)
def test_nothing_of_a_strangers_first_request_gets_into_the_page(served, path, headers):
    served.get(path, **headers)
    (told,) = served.told
    assert told == ("", {"host": "testserver"})
    assert served.get(path.partition("?")[0]).text == page_of("testserver") and len(served.made) == 1


def test_an_address_of_any_length_is_not_kept(served):
    for _ in "ab":
        served.get(**{"x-forwarded-host": "a" * 301})
    assert len(served.made) == 2


@pytest.mark.parametrize("path", ["/lens/run", "/assets/b.png", "/nothing"])
def test_everything_else_goes_through(served, path):
    answers = [served.get(path) for _ in "ab"]
    assert len(served.made) == (0 if path == "/nothing" else 2) and "content-encoding" not in answers[0].headers


def test_what_is_somebodys_own_or_went_wrong_is_not_kept(served):
    served.headers = {"set-cookie": "a=b"}
    assert [served.get().headers["set-cookie"] for _ in "ab"] == ["a=b"] * 2 and len(served.made) == 2
    served.headers, served.status = {}, 503
    assert [served.get().status_code for _ in "ab"] == [503] * 2 and len(served.made) == 4


def test_where_people_log_in_the_page_is_everybodys_own(served):
    served.app.auth = lambda *_: True
    assert [served.get().status_code for _ in "ab"] == [200] * 2 and len(served.made) == 2
    served.get("/theme.css")
    served.get("/theme.css")
    assert len(served.made) == 3


def test_what_is_kept_has_a_limit(served, monkeypatch):
    one = int(served.get(host="a").headers["content-length"])
    monkeypatch.setattr(kept_answers, "MOST_BYTES", 2 * one + 1)
    for host in "bc":
        served.get(host=host)
    served.get(host="c")
    assert len(served.made) == 3
    served.get(host="a")
    assert len(served.made) == 4


def test_bytes_are_gradios_own():
    caught = kept_answers._Caught()
    caught.start = {"status": 200, "headers": [(b"content-type", b"text/html"), (b"content-length", b"2000")]}
    caught.pieces = [{"type": "http.response.body", "body": b"x" * 1000}] * 2
    assert brotli.decompress(kept_answers.compress(caught, "br").body) == b"x" * 2000
    assert gzip.decompress(kept_answers.compress(caught, "gzip").body) == b"x" * 2000
    plain = kept_answers.compress(caught, "")
    assert plain.body == b"x" * 2000 and b"content-length" not in dict(plain.headers)
