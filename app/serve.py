"""Start the page: settings in, a listening server out. Knows neither components nor models.

Also keeps the queue of runs moving while no page asks.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aia.config import TrainingConfig
from app.allocator import give_memory_back
from app.explore.adapters import adapter_finder, fine_tune_finder
from app.log import set_up_log
from app.pressure import make_pressure
from app.settings import Settings, settings_from_environment
from backend.background.runs import Runs
from backend.engine import Engine
from backend.finetuning.datasets import Datasets
from backend.finetuning.memory import training_memory
from backend.interface import UserError
from backend.kept.bundles import Bundles
from backend.kept.data_lock import take_folder
from backend.kept.measurements import Measurements
from backend.measuring.config import MeasureConfig
from backend.measuring.runs import measures_beside
from backend.models.loading_memory import loading_memory
from backend.people.accounts import Accounts
from backend.people.captures import PeoplesCaptures
from backend.people.queue import FairQueue
from backend.people.quotas import Quotas

TICK_SECONDS = 2.0
SWITCH_SECONDS = 0.001  # that Python lets the model's thread run on while a short answer waits; 0.005 by default
TOLD_SECONDS = 0.3  # for the last lines to go out


def make_engine(settings: Settings) -> Engine:
    """The engine over the captures and adapters of the settings' data folder."""
    store = PeoplesCaptures(settings.captures, settings.store_mib * 2**20, settings.histories)
    runs = Runs(settings.runs)
    queue = FairQueue(most_each=settings.limits.queued)
    return Engine(store, find_adapter=adapter_finder(runs), find_fine_tune=fine_tune_finder(runs), queue=queue)


def make_runs(engine: Engine, settings: Settings) -> tuple[Runs, Quotas]:
    """The runs of the settings' data folder, and what each person may take."""
    quotas = Quotas(settings.limits, settings.histories)
    runs = Runs(settings.runs, make_room=room_maker(engine), admit=quotas.admit_runs)
    bundles, datasets = Bundles(settings.data / "bundles"), Datasets(settings.data / "datasets")
    kept = (Measurements(settings.measurements), bundles, datasets)
    quotas.runs, quotas.others = (runs.list,), tuple(one.list for one in kept)
    return runs, quotas


def serve(**flags: Any) -> None:
    """Serve until interrupted; flags, by the names of settings, win over the environment.

    Raises `UserError` for bad settings.
    """
    give_memory_back()
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = settings_from_environment()
    settings = replace(settings, **{name: value for name, value in flags.items() if value is not None})
    set_up_log(settings.log)
    check_accounts(settings)
    _held = take_folder(settings.data)  # as long as this function runs
    engine = make_engine(settings)
    keep_uploads_in(settings.uploads)
    from app.layout import build_app, launch_options  # gradio takes seconds to import; bad settings fail before

    runs, quotas = make_runs(engine, settings)
    measures = measures_beside(runs, room_maker(engine))
    quotas.runs += (measures.list,)
    page = build_app(engine, runs, settings, quotas, measures)
    keep_ticking(runs, measures)
    stop, options = stop_on_signals(), launch_options(engine, settings)
    reliefs = {"captures in front": engine.unpacked.forget, "the model": engine.unload}
    pressure = make_pressure(settings.memory_mib, reliefs)
    try:
        page.launch(**options, prevent_thread_lock=True)
    except OSError as error:
        logging.getLogger(__name__).debug("launch failed: %s", error)
        raise UserError(
            f"Expected port {settings.port} of {settings.host} to be free, but it cannot be listened on; "
            "stop the other program, or set AIA_LENS_PORT to another port."
        ) from error
    while not stop.wait(TICK_SECONDS):
        if pressure:
            pressure.look()
    close(engine, page, settings.grace_seconds)


def stop_on_signals() -> threading.Event:
    """What is set when Ctrl-C or a polite kill comes; a second one ends the server as usual."""
    asked = threading.Event()

    def stop(number: int, _frame: Any) -> None:
        asked.set()
        signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
    return asked


def close(engine: Engine, page: Any, grace_seconds: float) -> None:
    """End the server and this process: what is at work finishes or is told; runs go on and are found again."""
    logger = logging.getLogger(__name__)
    logger.info("stopping: %d at work or waiting", engine.queue.length)
    engine.close(grace_seconds)
    time.sleep(TOLD_SECONDS)
    page.close(verbose=False)
    logger.info("stopped")
    logging.shutdown()
    os._exit(0)  # open connections and threads of theirs would hold it up


def check_accounts(settings: Settings) -> None:
    """Raise `UserError` where a login is asked for that nobody has."""
    if settings.auth and not Accounts(settings.auth).names():
        raise UserError(
            f"Expected accounts in {settings.auth.name}, found none; make one with "
            f"`python -m app user add NAME --auth {settings.auth}`."
        )


def room_maker(engine: Engine) -> Callable[[TrainingConfig | MeasureConfig], bool]:
    """What lets the page's model go where a run that is about to start needs its memory → whether that may start."""

    def make_room(config: TrainingConfig | MeasureConfig) -> bool:
        try:
            spec = engine.spec(config.model)
            if isinstance(config, MeasureConfig):
                needed = sum(part.bytes for part in loading_memory(spec, config.precision).values())
            else:
                needed = training_memory(config, spec).total
        except UserError:  # a model that is not known here: the run itself says so
            return True
        return engine.make_room(needed)

    return make_room


def keep_ticking(*rooms: Runs) -> None:
    """Start queued runs and notice ended ones every few seconds, from a thread that ends with the server."""

    def tick() -> None:
        while not over.wait(TICK_SECONDS):
            for runs in rooms:
                try:
                    runs.tick()
                except Exception:  # whatever it was, the queue goes on
                    logging.getLogger(__name__).exception("a look at the runs failed")

    over = threading.Event()
    threading.Thread(target=tick, name="runs", daemon=True).start()


def keep_uploads_in(folder: Path) -> None:
    """Have gradio keep uploaded files in a folder that only this user can read; call before it is imported."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            "Expected a data folder that can be written, got one that cannot; set AIA_LENS_DATA."
        ) from error
    os.environ.setdefault("GRADIO_TEMP_DIR", str(folder))
