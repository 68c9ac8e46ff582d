"""Who is logged in, and the way out: the right end of the header. Knows no password and no cookie."""

from __future__ import annotations

import html
import logging
from importlib.util import find_spec

import gradio as gr

from app.arrival import Arrival
from app.settings import Settings
from backend.models.specs import ASSETS
from backend.people.person import who_asks

logger = logging.getLogger(__name__)

INVITATION = "AIA Lens keeps what each account makes apart. Whoever runs this server makes accounts."
PLAIN_FORM = ".form { background: none !important; border: 0 !important; gap: 12px; }"  # Gradio's, without its box
NEEDED = ("authlib", "itsdangerous")  # by Gradio's OAuth; a Space with `hf_oauth` installs them


def make_account(arrival: Arrival, settings: Settings) -> None:
    """Create what there is inside the current Gradio context: nothing where nobody logs in."""
    if settings.auth:
        shown = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="lens-account")
        arrival.add(lambda request: [account_html(who_asks().name)], [shown])
    elif settings.oauth:
        missing = [name for name in NEEDED if find_spec(name) is None]
        if missing:
            logger.warning("signing in with Hugging Face is off: %s is not installed", " and ".join(missing))
            return
        gr.LoginButton("Sign in", "Log out ({})", variant="secondary", size="sm", icon=None, elem_id="lens-login")


def login_html() -> str:
    """What stands above the login, and the look of a page that has no style of ours yet."""
    colours = (ASSETS / "style.css").read_text(encoding="utf-8").partition("/* --- the frame")[0]
    return f"<style>{colours}{PLAIN_FORM}</style><p>{INVITATION}</p>"


def account_html(name: str) -> str:
    """The name and a link out; relative, so that it holds below a proxy's path."""
    return f'<span>{html.escape(name)}</span> <a href="logout">Log out</a>' if name else ""
