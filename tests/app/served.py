"""A whole page over a model without weights, served from this process."""

from __future__ import annotations

import socket
from contextlib import contextmanager

from app.layout import build_app, launch_options
from app.settings import Settings
from backend.background.runs import Runs
from backend.people.captures import PeoplesCaptures
from backend.people.queue import FairQueue
from backend.people.quotas import Quotas
from tests.app.fakes import FakeEngine


@contextmanager
def serving(folder, model=None, **changes):
    """A page for many people over a model without weights → its address, and the engine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    settings = Settings(port=port, data=folder, **changes)
    store = PeoplesCaptures(settings.captures, 2**30, settings.histories)
    engine = FakeEngine(store, model)
    engine.queue = FairQueue(most_each=settings.limits.queued)
    quotas = Quotas(settings.limits, settings.histories)
    runs = Runs(settings.runs, command=lambda folder: ["sleep", "60"], admit=quotas.admit_runs)
    quotas.runs = (runs.list,)
    blocks = build_app(engine, runs, settings, quotas)
    # Without Gradio's look at its own address, which gives up after three seconds on a busy machine.
    blocks.launch(**launch_options(engine, settings), prevent_thread_lock=True, quiet=True, _frontend=False)
    try:
        yield f"http://127.0.0.1:{port}", engine
    finally:
        blocks.close(verbose=False)
        for run in runs.list():
            runs.cancel(run.id, 0)
            runs.tick()
        store.close()
