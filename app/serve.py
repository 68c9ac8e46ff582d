"""Start the page: settings in, a listening server out. Knows neither components nor models."""

from __future__ import annotations

import logging
from dataclasses import replace

from app.settings import Settings, settings_from_environment
from backend.engine import Engine
from backend.store import CaptureStore


def make_engine(settings: Settings) -> Engine:
    """The engine over the captures of the settings' data folder."""
    return Engine(CaptureStore(settings.captures, settings.store_mib * 2**20))


def serve(host: str | None = None, port: int | None = None) -> None:
    """Serve until interrupted; flags win over the environment. Raises `UserError` for bad settings."""
    from app.layout import build_app, launch_options  # gradio takes seconds to import; bad settings fail before

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = settings_from_environment()
    settings = replace(settings, host=host or settings.host, port=port or settings.port)
    page = build_app(make_engine(settings), settings)
    page.launch(**launch_options(settings))
