"""One fine-tune from a config to a result, in one folder that tells all of it.

Owns the run folder's layout and the order: score and measure, train, keep the adapter, score and measure again. Knows
neither the command line nor pages, nor how a step works (`aia.training`).

    config.json      what was asked for, written before anything else
    events.jsonl     append-only: steps, measurements, checkpoints, scores, samples, the end
    samples/         what it drew on the way (see `backend.finetuning.samples`)
    start/           what it began with, where that is another run's adapter: links, or copies
    checkpoints/     what a killed run goes on from
    adapter/         what was learnt: a PEFT adapter, or whole weights of a full fine-tune
    result.json      before, after, losses, seconds, memory
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from aia.checkpoints import CheckpointError
from aia.config import TrainingConfig, make_config
from aia.conversations import load_conversations
from aia.data import Sample, TrainingData, WorldData
from aia.evaluation import held_out_samples
from aia.intensity import Task
from aia.targets import StageTargets, load_targets
from aia.training import Training, TrainingError, make_accelerator, make_probe_batches, share_of_batch
from backend.families import as_trainable, load_model
from backend.finetuning.samples import Sampler, choose_items, sample_when_due
from backend.interface import Cancelled, UnifiedModel, UserError, as_sentence
from backend.models.adapters import check_start, keep_start, prepare_training, save_adapter, start_digest, whole_weights
from backend.models.downloads import fetched
from backend.models.local_models import find_model
from backend.models.specs import SPECS, ModelSpec, Precision
from backend.pictures import load_picture
from backend.sampling import GENERATION_SAMPLING
from backend.scores import evaluate_model

Listener = Callable[[dict], None]

PROBE_SEED, SCORE_SEED = 7, 0  # fixed, so that runs can be compared with each other
PROBE_BATCH = 32
_STATUS = Path("/proc/self/status")


class RunFolder:
    """The files of one run. Only the first process writes."""

    def __init__(self, path: Path, writes: bool = True):
        self.path, self.writes = path, writes
        self.config, self.events = path / "config.json", path / "events.jsonl"
        self.checkpoints, self.adapter, self.result = path / "checkpoints", path / "adapter", path / "result.json"
        self.samples, self.start = path / "samples", path / "start"

    def begin(self, config: TrainingConfig) -> None:
        """Make the folder and write the config. Raises `UserError` if a run is there or the disk refuses."""
        if self.config.exists():
            raise UserError(
                f"Expected a new folder for this run, found a run in {self.path}; resume it or name another."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if config.start_from is not None:
                check_start(Path(config.start_from), config)
                keep_start(Path(config.start_from), self.start)
            write_whole(self.config, config.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise UserError(f"The folder {self.path} cannot be written ({error.strerror}); choose another.") from error

    def read_config(self) -> TrainingConfig:
        """The config the run was started with. Raises `UserError` if there is none or it was damaged."""
        try:
            settings = json.loads(self.config.read_text())
            return make_config(**settings)
        except OSError as error:
            raise UserError(f"Expected a run in {self.path}, found no config.json; check the folder.") from error
        except (ValueError, TypeError) as error:
            raise UserError(f"The config.json in {self.path} is not valid ({error}); start a new run.") from error

    def append(self, event: dict) -> None:
        """Add one event with its time. Raises `UserError` if the disk refuses."""
        if not self.writes:
            return
        try:
            with self.events.open("a") as file:
                file.write(json.dumps({"time": round(time.time(), 3), **event}) + "\n")
        except OSError as error:
            raise UserError(
                f"The run's log could not be written ({error.strerror}); make room, then resume the run."
            ) from error

    def read_events(self) -> list[dict]:
        """All whole events, in order; a line cut off by a crash is passed over."""
        if not self.events.exists():
            return []
        return list(_parse_lines(self.events.read_text(errors="replace")))

    def last_event(self, kind: str, step: int | None = None) -> dict | None:
        """The newest event of a kind, of one step if asked."""
        found = [e for e in self.read_events() if e["event"] == kind and step in (None, e.get("step"))]
        return found[-1] if found else None


def finetune(
    folder: Path,
    config: TrainingConfig | None,
    listen: Listener = lambda event: None,
    should_stop: Callable[[], bool] = bool,
    specs: tuple[ModelSpec, ...] = SPECS,
    scores_before: dict | None = None,
) -> dict:
    """Run, or with `config` None resume, the fine-tune in `folder` → its result (see `summarise_run`).

    `scores_before` are the base model's, where they are known already.

    Raises `UserError` for what the user can mend, `Cancelled` when `should_stop` said so (a checkpoint is kept).
    """
    resuming = config is None
    run = RunFolder(folder)
    config = run.read_config() if config is None else config
    accelerator = make_accelerator(config)
    run.writes = accelerator.is_main_process
    if run.writes and not resuming:
        run.begin(config)
    accelerator.wait_for_everyone()

    def tell(event: dict) -> None:
        run.append(event)
        if run.writes:
            listen(event)

    started = time.monotonic()
    try:
        tell({"event": "started", "pid": os.getpid(), "processes": accelerator.num_processes})
        if scores_before and not resuming:
            tell({"event": "scored", "step": 0, "scores": scores_before})
        fine_tune_in(run, config, fetched(find_model(config.model, specs)), accelerator, tell, should_stop)
    except (TrainingError, CheckpointError, ValueError) as error:
        _try_append(run, {"event": "failed", "reason": as_sentence(error)})
        raise error if isinstance(error, UserError) else UserError(as_sentence(error)) from error
    except Cancelled:
        tell({"event": "stopped"})
        raise
    tell({"event": "finished", "seconds": round(time.monotonic() - started, 2), "peak_memory_mib": peak_memory_mib()})
    accelerator.wait_for_everyone()  # the others read what the first process wrote
    result = summarise_run(run, config)
    if run.writes:
        write_whole(run.result, json.dumps(result, indent=1) + "\n")
    accelerator.wait_for_everyone()
    return result


def fine_tune_in(
    run: RunFolder, config: TrainingConfig, spec: ModelSpec, accelerator, tell: Listener, should_stop
) -> None:
    """The run itself, in a folder that is there: see the module's words on the order."""
    check_tasks(config, spec)
    share_of_batch(config, accelerator.num_processes)
    start = run.start if config.start_from is not None else None
    model = load_model(
        whole_weights(spec, start) if start else spec,
        precision=Precision.NF4 if config.method == "qlora" else Precision.FULL,
    )
    trainable = as_trainable(model)
    torch.manual_seed(config.seed)  # of the adapters' first weights
    revision = model.revision
    data, probe_samples = load_data(config, spec.tasks)
    targets = load_targets(name_targets(config, spec), trainable.layers)
    score = _Scoring(model, config, run, accelerator, tell)
    adapted = prepare_training(trainable, config, start, revision)
    score.at(0)
    identity = {"revision": revision, "data_digest": data.digest(), "targets_digest": _targets_digest(targets)}
    identity |= {"start_digest": start_digest(start)} if start else {}
    training = Training(trainable, data, targets, config, run.checkpoints, identity, accelerator, tell)
    training.resume()
    probe_batches = make_probe_batches(trainable, probe_samples, PROBE_BATCH)
    items = [] if _sharded() else choose_items(config, probe_samples, model.tasks)  # sharded weights cannot draw
    sampler = Sampler(model, items, run.samples, bool(run.last_event("asked")), tell)
    if not training.run(probe_batches, should_stop, sample_when_due(sampler, config, accelerator)):
        raise Cancelled
    weights = training.whole_weights()
    if accelerator.is_main_process:
        about = {
            "model": spec.name,
            "revision": revision,
            "method": config.method,
            "aia": config.aia,
            "steps": config.steps,
        }
        save_adapter(run.adapter, adapted, trainable.model, model.processor, weights, about)
    score.at(config.steps)


def name_targets(config: TrainingConfig, spec: ModelSpec) -> str:
    """The preset or file that a run's targets come from: the registry's for "auto"."""
    return spec.targets if config.targets == "auto" else config.targets


class _Scoring:
    """The two scores before and after, once each; sharded weights cannot draw, so there are none under FSDP."""

    def __init__(self, model: UnifiedModel, config: TrainingConfig, run: RunFolder, accelerator, tell: Listener):
        self.model, self.config, self.run, self.accelerator, self.tell = model, config, run, accelerator, tell

    def at(self, step: int) -> None:
        """Score now, unless this run has done so already; the other processes wait."""
        wanted = self.config.score_samples and self.config.data == "world" and not _sharded()
        if self.accelerator.is_main_process and wanted and not self.run.last_event("scored", step):
            self.tell({"event": "scoring", "step": step})
            self.model.model.eval()
            scores = evaluate_model(self.model, self.config.score_samples, SCORE_SEED, GENERATION_SAMPLING)
            self.tell({"event": "scored", "step": step, "scores": scores})
        self.accelerator.wait_for_everyone()


def check_tasks(config: TrainingConfig, spec: ModelSpec) -> None:
    """Refuse a share of the steps for what a model cannot do. Raises `UserError`."""
    for task in Task:
        if config.share(task) and task not in spec.tasks:
            raise UserError(
                f"Expected ratio_{task} 0, as {spec.title} cannot do {task}, got {getattr(config, f'ratio_{task}'):g}; "
                "set it to 0, or choose a model that can."
            )


def load_data(
    config: TrainingConfig, tasks: frozenset[Task] = frozenset(Task)
) -> tuple[TrainingData, dict[Task, list[Sample]]]:
    """The training data, and the fixed set that curves are measured on, of `tasks` alone.

    In the world that set is held out. Of a file it is the first rows of each task's order, which are trained on too.
    Raises `UserError` naming bad rows, or a task that has a share of the steps but no rows.
    """
    wanted = [task for task in Task if config.share(task) > 0]
    if config.data == "world":
        return WorldData(config.seed), {
            t: held_out_samples(t, config.probe_samples, PROBE_SEED) for t in Task if t in tasks
        }
    images = Path(config.images) if config.images else None
    data = load_conversations(Path(config.data), images, config.seed, _pixels, config.skip_bad_rows)
    for task in wanted:
        if not data.count(task):
            raise UserError(f"Expected rows of {task} in {config.data}, found none; set the ratio of {task} to 0.")
    counts = {task: min(config.probe_samples, data.count(task)) for task in Task if task in tasks}
    return data, {task: [data.sample(task, i) for i in range(count)] for task, count in counts.items() if count}


def summarise_run(run: RunFolder, config: TrainingConfig) -> dict:
    """Before and after, losses by step, seconds and memory of a finished run, read from its events."""
    steps = {e["step"]: e for e in run.read_events() if e["event"] == "step"}  # a resumed step counts once
    finished = run.last_event("finished") or {}
    return {
        "before": _moment(run, 0),
        "after": _moment(run, config.steps),
        "losses": [
            {"step": n, "ntp": e["ntp"], **{f"aia_{task}": e.get(f"aia_{task}") for task in Task}}
            for n, e in sorted(steps.items())
        ],
        "seconds": finished.get("seconds"),
        "training_seconds": round(sum(e["seconds"] for e in steps.values()), 2),
        "peak_memory_mib": finished.get("peak_memory_mib"),
        "adapter": str(run.adapter),
        "config": config.model_dump(mode="json"),
    }


def peak_memory_mib() -> float:
    """Most memory held so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if _STATUS.exists():  # Linux's ru_maxrss starts at what the process that started this one held
        held = next(row for row in _STATUS.read_text().splitlines() if row.startswith("VmHWM"))
        return round(int(held.split()[1]) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text)
    draft.replace(path)


def _moment(run: RunFolder, step: int) -> dict:
    measured, scored = run.last_event("measured", step) or {}, run.last_event("scored", step) or {}
    return {
        "intensity": measured.get("intensity"),
        "distance": measured.get("distance"),
        "scores": scored.get("scores"),
    }


def _parse_lines(text: str) -> Iterator[dict]:
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


def _try_append(run: RunFolder, event: dict) -> None:
    with suppress(UserError):  # the reason for failing may be the disk itself; the caller says it
        run.append(event)


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(load_picture(path))


def _targets_digest(targets: StageTargets) -> str:
    return hashlib.sha256(json.dumps(asdict(targets), sort_keys=True).encode()).hexdigest()[:12]


def _sharded() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
