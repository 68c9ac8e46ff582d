"""Headers that every answer carries: what the page may load, who may frame it, what browsers must not guess.

Gradio's own scripts are inline, and `gr.HTML` builds functions of text, so scripts of the page itself cannot be told
from injected ones; what the policy does stop is anything from or to another origin. Knows no route.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self' https://huggingface.co",  # signing in on a Space goes there
}
_FIXED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def content_policy(frames: tuple[str, ...] = ()) -> str:
    """The Content-Security-Policy; pages of `frames` (origins) may show ours in a frame, besides our own."""
    rules = {**_POLICY, "frame-ancestors": " ".join(("'self'", *frames))}
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class SafeHeaders:
    """ASGI middleware. `frames` are the origins whose pages may embed this one."""

    def __init__(self, app: ASGIApp, frames: tuple[str, ...] = ()):
        self.app = app
        self.headers = {"Content-Security-Policy": content_policy(frames), **_FIXED}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)
