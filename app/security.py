"""Refuses requests from other web pages: an unknown Host header, or a write from another origin.

A page that a stranger controls can point its own name at 127.0.0.1 (DNS rebinding); checking the
Host header stops it. Pure ASGI, so streams pass untouched. Knows no route.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOriginOnly:
    """ASGI middleware. `allowed_hosts` are names without a port; "*.example.org" and "*" are patterns."""

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...]):
        self.app = app
        self.allowed_hosts = tuple(host.lower().strip("[]") for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        refusal = self._refusal(scope.get("method", "GET"), headers)
        if refusal is None:
            return await self.app(scope, receive, send)
        await PlainTextResponse(refusal, status_code=403)(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not is_allowed(host_name(host), self.allowed_hosts):
            return (
                "This server does not answer to the address in your browser; "
                "if it is yours, add its host name to AIA_LENS_ALLOWED_HOSTS and start again."
            )
        if method not in SAFE_METHODS and not is_same_origin(headers, host):
            return "This request came from another web page; open this server's own page instead."
        return None


def host_name(host: str) -> str:
    """The name in a Host header, without a port and in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    """Whether a host name is listed, by itself or by a pattern."""
    if not name:
        return False
    return any(
        pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:])) for pattern in allowed
    )


def is_same_origin(headers: Headers, host: str) -> bool:
    """Whether a browser says that the request comes from our own page; other clients say nothing.

    Behind a proxy the page's host is the forwarded one.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    ours = {host.lower(), headers.get("x-forwarded-host", host).lower()}
    return urlsplit(origin).netloc.lower() in ours
