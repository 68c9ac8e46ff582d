import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.security import SameOriginOnly, host_name, is_allowed

HOSTS = ("127.0.0.1", "localhost", "[::1]", "*.hf.space")


@pytest.fixture
def client():
    routes = [Route("/", lambda request: PlainTextResponse("in"), methods=["GET", "POST"])]
    middleware = [Middleware(SameOriginOnly, allowed_hosts=HOSTS)]
    return TestClient(Starlette(routes=routes, middleware=middleware))


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "LOCALHOST:1", "[::1]:7860", "me-lens.hf.space"])
def test_known_hosts_are_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "hf.space.evil.example", "xhf.space", "", "[", "a b"]
)
def test_a_rebound_name_is_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program, not a browser
        ({"origin": "http://localhost"}, 200),
        ({"origin": "http://localhost", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_writes_come_from_our_own_page(client, headers, status):
    assert client.post("/", headers={"host": "localhost", **headers}).status_code == status


def test_reading_from_a_link_on_another_page_is_fine(client):
    assert client.get("/", headers={"host": "localhost", "sec-fetch-site": "cross-site"}).status_code == 200


def test_behind_a_proxy_the_forwarded_host_is_ours(client):
    headers = {"host": "localhost", "x-forwarded-host": "me.hf.space", "origin": "https://me.hf.space"}
    assert client.post("/", headers=headers).status_code == 200


def test_a_star_allows_every_host():
    assert is_allowed(host_name("anything.example:80"), ("*",))
    assert not is_allowed("", ("*",))


def test_a_refused_host_is_told_what_to_do(client):
    assert "AIA_LENS_ALLOWED_HOSTS and start again." in client.get("/", headers={"host": "my.example"}).text
