"""The work of one measurement, in a folder that a killed one goes on from: `python -m backend.measuring.work FOLDER`.

Owns the order: one sample of each task in turn, each written down before the next. The seed of a sample follows from
its number alone and rows are kept bit for bit, so a measurement that was killed and resumed ends with the report of
one that was not. Knows neither the queue nor who started it (`backend.measuring.runs`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from aia.conversations import DataError, load_conversations
from aia.intensity import Task
from backend.background.run_folder import read_object
from backend.background.run_process import give_way, main
from backend.finetuning.finetune import write_whole
from backend.interface import Cancelled, UnifiedModel, UserError, as_sentence
from backend.kept.measurements import Measurements
from backend.measurement import decode, make_report
from backend.measuring.config import WORLD, MeasureConfig
from backend.measuring.prompt_files import read_prompt_file
from backend.measuring.prompts import Prompt, data_prompts, text_prompts, world_prompts
from backend.measuring.rows import Row, make_row
from backend.measuring.runs import MeasureRun
from backend.people.person import LOCAL, Person, asked_by
from backend.pictures import load_picture

Listener = Callable[[dict], None]
Load = Callable[[MeasureConfig], UnifiedModel]


class _Stop:
    """What models look at between tokens."""

    def __init__(self, asked: Callable[[], bool]):
        self.is_set = asked


def measure_folder(folder: Path, listen: Listener, should_stop: Callable[[], bool]) -> None:
    """Measure what a folder's config says and keep the report beside the other measurements of its data folder."""
    run = MeasureRun(folder)
    report = measure_in(run, listen, should_stop)
    meta = run.load_meta()
    measurements = Measurements(folder.parent.parent / "measurements")
    with asked_by(Person(run.owner()) if run.owner() else LOCAL):
        kept = measurements.save(report, meta.name if meta else "")
    try:
        run.finish(report, kept)
    except OSError as error:
        raise _refused(error) from error
    run.append({"event": "finished"})


def measure_in(run: MeasureRun, listen: Listener, should_stop: Callable[[], bool], load: Load | None = None) -> dict:
    """Measure every sample that has no row yet → the report. `load` brings the model, where it is not the usual way.

    Raises `UserError` for what the user can mend, `Cancelled` when `should_stop` said so (rows are kept).
    """
    config = run.load_config()
    if config is None:
        raise UserError("Expected the settings of a measurement in config.json, got none that are valid; start anew.")

    def tell(event: dict) -> None:
        run.append(event)
        listen(event)

    tell({"event": "started", "pid": os.getpid()})
    try:
        prompts = {task: find_prompts(config, task) for task in config.tasks}
        model = (load or load_wanted)(config)
        _check_identity(run, model)
        rows = run.rows.read()
        for number in range(config.steps):
            if should_stop():
                raise Cancelled
            begun, before = time.monotonic(), len(rows)
            for task, row in _round(model, config, prompts, rows, number, _Stop(should_stop)):
                _write_down(run, row)
                rows[task, number] = row
            if len(rows) > before:
                tell({"event": "step", "step": number + 1, "seconds": round(time.monotonic() - begun, 4)})
    except Cancelled:
        tell({"event": "stopped"})
        raise
    return report_on(config, model.name, model.precision, rows)


def _round(
    model: UnifiedModel, config: MeasureConfig, prompts: dict, known: dict, number: int, stop: _Stop
) -> Iterator[tuple[Task, Row]]:
    """The samples of one number that have no row yet, task by task."""
    for task in config.tasks:
        if number >= config.count(task):
            continue
        prompt = next(prompts[task], None)
        if prompt is None:
            raise UserError(f"Expected {config.count(task)} samples of {task}, got {number}; start a new measurement.")
        if (task, number) not in known:
            yield task, make_row(decode(model, task, prompt, number, config.sampling(task), stop), number, prompt.kind)


def report_on(config: MeasureConfig, model: str, precision: str | None, rows: dict[tuple[Task, int], Row]) -> dict:
    """The report of the rows there are, of each task in the order of their numbers. Raises `UserError` for too few."""
    by_task = {
        task: [rows[task, number] for number in range(config.count(task)) if (task, number) in rows]
        for task in config.tasks
    }
    sampling = {task: config.sampling(task) for task in config.tasks}
    report = make_report(model, by_task, config.samples, config.seed, config.definition, sampling)
    own = {} if config.data == WORLD else {"data": config.data_name or Path(config.data).name}
    return {"adapter": config.adapter, "precision": precision, **report, **own}


def find_prompts(config: MeasureConfig, task: Task) -> Iterator[Prompt]:
    """The prompts of one task, in order. Raises `UserError` naming what is wrong with a file."""
    count = config.count(task)
    found: Iterable[Prompt]
    if config.data == WORLD:
        found = world_prompts(task, count, config.seed)
    elif config.images is None:
        found = text_prompts(read_prompt_file(Path(config.data)).prompts, count, config.seed)
    else:
        found = data_prompts(load_rows(config), task, count)
    return iter(found)


def load_rows(config: MeasureConfig):
    """The rows of a file of conversations. Raises `UserError` naming bad ones, unless they are to be left out."""
    try:
        return load_conversations(Path(config.data), Path(config.images), config.seed, _pixels, config.skip_bad_rows)
    except DataError as error:
        raise UserError(as_sentence(error)) from error


def load_wanted(config: MeasureConfig) -> UnifiedModel:
    """The model of a config, with its adapter."""
    from backend.families import load_model
    from backend.models.downloads import fetched
    from backend.models.local_models import find_model

    adapter = None if config.adapter is None else Path(config.adapter)
    if adapter is not None and not adapter.is_dir():
        raise UserError("Expected the adapter of a finished run, found none any more; choose another, or none.")
    return load_model(fetched(find_model(config.model)), adapter, config.precision)


def _check_identity(run: MeasureRun, model: UnifiedModel) -> None:
    """All samples of a measurement are of the same weights; the first process writes down which."""
    mine = {"model": model.name, "revision": model.revision, "precision": model.precision, "adapter": model.adapter}
    known = read_object(run.identity)
    if known not in (None, mine):
        raise UserError(
            "Expected the weights and the precision that this measurement began with, got others; start a new one."
        )
    try:
        write_whole(run.identity, json.dumps(mine) + "\n")
    except OSError as error:
        raise _refused(error) from error


def _write_down(run: MeasureRun, row: Row) -> None:
    try:
        run.rows.append(row)
    except OSError as error:
        raise _refused(error) from error


def _refused(error: OSError) -> UserError:
    return UserError(f"The measurement could not be written down ({error.strerror}); make room, then resume it.")


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(load_picture(path))


if __name__ == "__main__":
    give_way()
    sys.exit(main(sys.argv[1:], measure_folder))
