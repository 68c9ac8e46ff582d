"""The controlled study: experts, targets fitted to them, then the same training without and with AIA, over seeds.

Owns which runs there are and what is made of their results. Each run is an ordinary fine-tune
(`backend.finetuning.finetune`) in a folder of its own, so a study that was stopped goes on where it stood, and several
processes can share one work folder: each takes runs that nobody else has begun. Knows neither the command line nor
plots.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from transformers import AutoProcessor, JanusForConditionalGeneration

from aia.config import TrainingConfig, make_config
from aia.curves import task_correlation
from aia.intensity import Task
from aia.targets import StageTargets, fit_targets, load_targets, save_targets
from backend.families import load_model
from backend.finetuning.finetune import SCORE_SEED, RunFolder, finetune, write_whole
from backend.interface import UserError
from backend.models.specs import ASSETS, SPECS, ModelSpec
from backend.sampling import GENERATION_SAMPLING
from backend.scores import evaluate_model

Listener = Callable[[str, dict], None]  # name of the run, its event

START = ASSETS / "study" / "start.safetensors"
STAGES = 4
EXPERT_SEED = 100  # not one of the seeds compared
BUSY_SECONDS = 5


@dataclass(frozen=True)
class Arm:
    """One way to go on from the start. `targets`: "stages" or "layers" (fitted to the experts), or a preset."""

    name: str
    settings: dict
    targets: str = "stages"


EXPERTS = (
    Arm("expert understanding", {"aia": False, "ratio_generation": 0.0}, "paper-janus-pro"),
    Arm("expert generation", {"aia": False, "ratio_understanding": 0.0}, "paper-janus-pro"),
)
ARMS = (
    Arm("without AIA", {"aia": False}),
    Arm("with AIA", {}),
    Arm("λ = 4", {"aia_weight_generation": 4.0, "aia_weight_understanding": 4.0}),
    Arm("λ = 400", {"aia_weight_generation": 400.0, "aia_weight_understanding": 400.0}),
    Arm("without Huber", {"form": "squared"}),
    Arm("without stages", {}, "layers"),
    Arm("paper's targets", {}, "paper-janus-pro"),
    Arm("data 2:1", {"ratio_generation": 2.0}),
    Arm("data 1:2", {"ratio_understanding": 2.0}),
)


@dataclass(frozen=True)
class Study:
    """What a study is told; its work folder remembers it, so that all processes do the same."""

    steps: int = 150
    batch_size: int = 24
    seeds: int = 3
    score_samples: int = 300
    learning_rate: float = 1e-3

    def config(self, arm: Arm, seed: int, targets: str) -> TrainingConfig:
        """The config of one run: a full fine-tune, as the paper's."""
        settings = {
            "model": "tiny-janus-half",
            "method": "full",
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "score_samples": self.score_samples,
            "probe_samples": 128,
            "probe_every": 50,
            "checkpoint_every": 50,
            "keep_checkpoints": 1,
            "sample_count": 0,
            "seed": seed,
            "targets": targets,
        }
        return make_config(**(settings | arm.settings))


def run_study(work: Path, study: Study, listen: Listener = lambda run, event: None) -> dict:
    """Do every run that is not done, then report; see `report_study`. Raises `UserError`, `Cancelled`."""
    work.mkdir(parents=True, exist_ok=True)
    _remember(work, study)
    spec, before = make_start(work, study)
    fitted = {"stages": str(work / "targets-stages.json"), "layers": str(work / "targets-layers.json")}
    _do_all(work, study, [(arm, EXPERT_SEED) for arm in EXPERTS], spec, before, fitted, listen)
    fit_experts(work, spec)
    compared = [(arm, seed) for arm in ARMS[:2] for seed in range(study.seeds)]
    ablations = [(arm, seed) for seed in range(study.seeds) for arm in ARMS[2:]]
    _do_all(work, study, compared + ablations, spec, before, fitted, listen)
    return report_study(work, study)


def _do_all(work: Path, study: Study, wanted: list[tuple[Arm, int]], spec, before, fitted, listen) -> None:
    """Do what nobody else does; then wait until all is done."""
    while left := [pair for pair in wanted if not _folder(work, *pair).result.exists()]:
        idle = True
        for arm, seed in left:
            run = _folder(work, arm, seed)
            with _claim(run) as mine:
                if not mine or run.result.exists():
                    continue
                idle = False
                config = study.config(arm, seed, fitted.get(arm.targets, arm.targets))
                name = f"{arm.name}, seed {seed}"
                finetune(
                    run.path,
                    None if run.config.exists() else config,
                    listen=lambda event, name=name: listen(name, event),
                    specs=(spec,),
                    scores_before=before,
                )
        if idle:
            time.sleep(BUSY_SECONDS)


def make_start(work: Path, study: Study) -> tuple[ModelSpec, dict]:
    """The common starting checkpoint as a folder of its own, and its scores."""
    folder = work / "start"
    spec = replace(
        SPECS[0],
        name="tiny-janus-half",
        title="tiny-janus, half trained",
        source=str(folder),
        note="where the study starts",
    )
    with FileLock(str(work / "start.lock")):
        if not (folder / "config.json").exists():
            draft = work / "start.part"
            shutil.rmtree(draft, ignore_errors=True)
            model = JanusForConditionalGeneration.from_pretrained(SPECS[0].source, dtype=torch.float32)
            parameters = dict(model.named_parameters())
            with torch.no_grad():
                for name, tensor in load_file(START).items():
                    parameters[name].copy_(tensor)
            model.save_pretrained(draft)
            AutoProcessor.from_pretrained(SPECS[0].source, trust_remote_code=False).save_pretrained(draft)
            draft.rename(folder)
        scores = work / "start-scores.json"
        if not scores.exists():
            found = evaluate_model(load_model(spec), study.score_samples, SCORE_SEED, GENERATION_SAMPLING)
            write_whole(scores, json.dumps(found))
    return spec, json.loads(scores.read_text())


def fit_experts(work: Path, spec: ModelSpec) -> dict[str, StageTargets]:
    """Targets fitted to each expert's curve of its own task, in stages and layer by layer."""
    curves = {}
    for arm, task in zip(EXPERTS, (Task.UNDERSTANDING, Task.GENERATION), strict=True):
        after = json.loads(_folder(work, arm, EXPERT_SEED).result.read_text())["after"]
        curve = after["intensity"][task]["training"]
        curves[task] = (curve["mean"], curve["std"])
    fitted = {}
    for name, stages in (("stages", STAGES), ("layers", spec.layers)):
        fitted[name] = fit_targets(
            f"experts, {stages} stages",
            "fitted to the study's understanding-only and generation-only experts",
            curves[Task.GENERATION],
            curves[Task.UNDERSTANDING],
            stages,
        )
        save_targets(fitted[name], work / f"targets-{name}.json")
    return fitted


def report_study(work: Path, study: Study) -> dict:
    """All results as plain data: settings, start, experts, targets, every run, and means and deviations over seeds.

    Also of a study that is not done: runs without a result are left out, and so are arms without runs. Raises
    `UserError` while not even the experts and the control are there.
    """
    done = [(arm, seed) for arm in ARMS for seed in range(study.seeds) if _folder(work, arm, seed).result.exists()]
    runs: dict[str, list[dict]] = {}
    for arm, seed in done:
        runs.setdefault(arm.name, []).append(_summary(work, arm, seed))
    experts_done = all(_folder(work, arm, EXPERT_SEED).result.exists() for arm in EXPERTS)
    if not experts_done or len(runs.get(ARMS[0].name, ())) < study.seeds:
        raise UserError(f"Expected experts and control runs in {work}, some are not done; let the study go on.")
    targets = load_targets(work / "targets-stages.json")
    return {
        "study": study.__dict__,
        "start": {
            "scores": json.loads((work / "start-scores.json").read_text()),
            **{k: runs[ARMS[0].name][0]["before"][k] for k in ("intensity", "distance")},
        },
        "experts": {arm.name: _summary(work, arm, EXPERT_SEED) for arm in EXPERTS},
        "targets": json.loads((work / "targets-stages.json").read_text()),
        "targets_table": targets.as_table(),
        "runs": runs,
        "over_seeds": {name: over_seeds(results) for name, results in runs.items()},
        "against_control": {
            name: against(results, runs[ARMS[0].name]) for name, results in runs.items() if name != ARMS[0].name
        },
    }


def over_seeds(results: list[dict]) -> dict[str, list[float]]:
    """[mean, standard deviation] over runs of every number of interest."""
    return {name: _mean_and_std([numbers_of(r)[name] for r in results]) for name in numbers_of(results[0])}


def against(results: list[dict], controls: list[dict]) -> dict[str, list[float]]:
    """[mean, standard deviation] over seeds of the difference to the control run of the same seed."""
    same = {control["seed"]: control for control in controls}
    pairs = [(numbers_of(result), numbers_of(same[result["seed"]])) for result in results]
    return {name: _mean_and_std([a[name] - b[name] for a, b in pairs]) for name in pairs[0][0]}


def numbers_of(result: dict) -> dict[str, float]:
    """The numbers of one run that are compared: scores, distances to the targets, correlation of the tasks' curves."""
    after = result["after"]
    curves = [after["intensity"][task]["training"]["mean"] for task in Task]
    return {
        "understanding score": after["scores"]["understanding"]["overall"],
        "generation score": after["scores"]["generation"]["overall"],
        "understanding distance": after["distance"]["understanding"]["mean_absolute"],
        "generation distance": after["distance"]["generation"]["mean_absolute"],
        "understanding AIA loss": after["distance"]["understanding"]["aia_loss"],
        "generation AIA loss": after["distance"]["generation"]["aia_loss"],
        "task correlation": task_correlation(np.array([curves[1]]), np.array([curves[0]])).r,
    }


def _summary(work: Path, arm: Arm, seed: int) -> dict:
    result = json.loads(_folder(work, arm, seed).result.read_text())
    kept = {k: result[k] for k in ("before", "after", "losses", "training_seconds")}
    if arm.name != ARMS[0].name or seed:
        kept["before"] = {"distance": result["before"]["distance"]}  # all runs start alike
    return {"arm": arm.name, "seed": seed, **kept}


def _mean_and_std(values: list[float]) -> list[float]:
    return [round(statistics.fmean(values), 6), round(statistics.stdev(values), 6) if len(values) > 1 else 0.0]


def _folder(work: Path, arm: Arm, seed: int) -> RunFolder:
    return RunFolder(work / f"{arm.name} {seed}".replace(" ", "-").replace("=", "").replace(":", "-").replace("'", ""))


class _claim:
    """`with _claim(run) as mine`: whether this process may do the run; freed when the process ends."""

    def __init__(self, run: RunFolder):
        run.path.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(str(run.path / ".lock"))

    def __enter__(self) -> bool:
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def __exit__(self, *_) -> None:
        self.lock.release()


def _remember(work: Path, study: Study) -> None:
    """Refuse to mix studies of different settings in one folder."""
    path = work / "study.json"
    wanted = json.dumps(study.__dict__, sort_keys=True)
    if path.exists() and path.read_text() != wanted:
        raise UserError(f"Expected a study of these settings in {work}, found another; choose another work folder.")
    write_whole(path, wanted)
