"""The large models at their true sizes with random weights, on a GPU: memory against the estimate, speed, training.

    python -m app bench --gpu --json FILE

For each model and precision: what loading takes, the peak of one whole drawing with its capture, the speed with a
capture and without (two drawings that take turns token by token, as in `long_drawing`), and one AIA training step of
each task with QLoRA at batch 1. Memory is PyTorch's own count of allocated bytes; what the estimates add for CUDA's
context is left out of them. Weights are random, so pictures and answers are noise; their cost is not.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedConfig

from aia.config import TrainingConfig
from aia.data import Sample, Turn
from aia.intensity import Task
from aia.loss import LOSS_WEIGHTS, aia_loss, combine_losses
from aia.targets import load_targets
from aia.training import LossModule
from backend.families import as_trainable, load_model
from backend.families.base import FamilyModel
from backend.finetuning.memory import training_memory
from backend.kept.captures import Sampling
from backend.models.adapters import prepare_training
from backend.models.catalogue import CATALOGUE
from backend.models.loading_memory import loading_memory
from backend.models.specs import ModelSpec, Precision
from tests.benchmarks.long_drawing import GOAL, draw_both
from tests.benchmarks.random_models import write_random_emu3, write_random_janus
from tests.real_configs import CONFIGS

Progress = Callable[[str, int, int], None]  # what, done, total

MODELS = ("janus-pro-7b", "emu3-gen")
WRITE = {"janus": write_random_janus, "emu3": write_random_emu3}
SIZE = {"janus-pro-7b": "", "emu3-gen": "24x24"}  # about as many image tokens as Janus draws
PROMPT = "a red circle left of a blue square"
SAMPLING = Sampling(seed=0, guidance=5.0)
TIMED_TOKENS = 192
TRAINING_GOAL_GIB = 24
STEPS = 2  # of training, each task: the first of them also warms up
WORDS = 150  # of a training sample's text


def measure_true_sizes(
    names: tuple[str, ...] = MODELS,
    configs: dict[str, PreTrainedConfig] = CONFIGS,
    tokens: int = TIMED_TOKENS,
    progress: Progress = lambda *_: None,
) -> dict:
    """Figures by model and precision, in GiB and seconds. Where a model fails, its row has only {"failed": why}."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    report = {"device": device, "torch": torch.__version__, "timed_tokens": tokens, "goal": GOAL, "models": {}}
    for number, name in enumerate(names):
        progress(name, number, len(names))
        report["models"][name] = rows = {}
        with random_checkpoint(name, configs[name]) as spec:
            for precision in (Precision.FULL, Precision.NF4):
                rows[precision.value] = _kept_going(measure_precision, spec, precision, SIZE[name], tokens)
            rows["qlora"] = _kept_going(measure_qlora, spec, SIZE[name])
    return report


def _kept_going(measure: Callable[..., dict], *arguments) -> dict:
    """A failure is a figure too: one model's must not cost those of the others."""
    try:
        return measure(*arguments)
    except (RuntimeError, ValueError, TypeError, ImportError) as error:
        return {"failed": f"{type(error).__name__}: {error}"[:400]}
    finally:
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def random_checkpoint(name: str, config: PreTrainedConfig) -> Iterator[ModelSpec]:
    """A folder in memory, or on the disk, with that model in half precision; its spec has the catalogue's figures."""
    known = next(spec for spec in CATALOGUE if spec.name == name)
    room = Path("/dev/shm") if _room(Path("/dev/shm")) > 3 * known.parameters else None
    with tempfile.TemporaryDirectory(dir=room) as folder:
        spec = WRITE[known.family](Path(folder), config, name, torch.bfloat16)
        # With a revision, the digest of 15 GB is not taken each time.
        yield replace(spec, memory_mib=known.memory_mib, revision="random", parameters=known.parameters)


def _room(folder: Path) -> int:
    return shutil.disk_usage(folder).free if folder.is_dir() else 0


# --- drawing ---


def measure_precision(spec: ModelSpec, precision: Precision, size: str, tokens: int) -> dict:
    """Memory of the loaded model and of one drawing, and the drawing's speed with and without capture."""
    sampling = replace(SAMPLING, size=size)
    started, before = time.perf_counter(), allocated_gib()
    model = load_model(spec, precision=precision)
    seconds, weights = time.perf_counter() - started, allocated_gib() - before
    expected = {part: value.bytes / 2**30 for part, value in loading_memory(spec, precision, True, size).items()}
    with peak_gib() as peak:
        for _ in model.generate(PROMPT, sampling):
            pass
    plain, captured = draw_both(model, sampling, wall_seconds, tokens)
    total = sum(expected.values())
    return {
        "loading_seconds": round(seconds, 1),
        "weights_gib": round(weights, 2),
        "weights_expected_gib": round(expected["weights"], 2),
        "weights_ratio": round(weights / expected["weights"], 3),
        "drawing_peak_gib": round(peak["gib"] - before, 2),
        "drawing_expected_gib": round(total, 2),
        "drawing_ratio": round((peak["gib"] - before) / total, 3),
        "tokens_per_second": {"without capture": round(tokens / plain, 2), "with capture": round(tokens / captured, 2)},
        "speed_ratio": round(plain / captured, 4),
    }


def wall_seconds() -> float:
    """Now, once the GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def allocated_gib() -> float:
    return torch.cuda.memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0


@contextmanager
def peak_gib() -> Iterator[dict[str, float]]:
    """The most that is allocated meanwhile, as "gib" once it is over."""
    found = {"gib": 0.0}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    yield found
    if torch.cuda.is_available():
        found["gib"] = torch.cuda.max_memory_allocated() / 2**30


# --- training ---


def measure_qlora(spec: ModelSpec, size: str) -> dict:
    """Peak memory and seconds of AIA training steps of each task with QLoRA at batch 1, gradient checkpointing on."""
    before = allocated_gib()
    config = TrainingConfig(model=spec.name, method="qlora", batch_size=1, gradient_checkpointing=True, steps=STEPS)
    model = load_model(spec, precision=Precision.NF4)
    trainable = as_trainable(model)
    adapted = prepare_training(trainable, config)
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    rows = {"trained_parameters": sum(p.numel() for p in trained)}
    for task, batch in make_batches(model, trainable, size).items():
        with peak_gib() as peak:
            seconds = [take_step(trainable, optimizer, batch, task, config) for _ in range(STEPS)]
        rows[task.value] = {
            "tokens": batch.ids.shape[1],
            "peak_gib": round(peak["gib"] - before, 2),
            "seconds": round(seconds[-1], 2),
        }
    expected = training_memory(config.model_copy(update={"data": "own"}), spec, gpu=True)
    rows["expected_gib"] = round((expected.total - expected.process.bytes) / 2**30, 2)
    rows["goal_gib"] = TRAINING_GOAL_GIB
    return rows


def make_batches(model: FamilyModel, trainable, size: str) -> dict[Task, object]:
    """A drawing of image tokens by chance, and a question about a picture, each with a prompt of some length."""
    words = " ".join([PROMPT] * (WORDS // len(PROMPT.split())))
    prefill = model.drawing_prefill(words, size)
    total, row = model.drawing_steps(prefill)
    choices = model.drawing_codes.tolist()
    codes = [choices[(7919 * place) % len(choices)] for place in range(total)]
    if row != prefill.grid[1]:
        codes[row - 1 :: row] = [model.row_end] * len(codes[row - 1 :: row])
    picture = np.random.default_rng(0).integers(0, 255, (384, 384, 3), dtype=np.uint8)
    asked = Sample(Task.UNDERSTANDING, picture, turns=(Turn(words, words),))
    return {
        Task.GENERATION: trainable.drawn_batch(prefill, codes),
        Task.UNDERSTANDING: trainable.collate([asked], [False]),
    }


def take_step(trainable, optimizer, batch, task: Task, config: TrainingConfig) -> float:
    """One step as `aia.training.Training` takes it; its seconds."""
    started = wall_seconds()
    module = LossModule(trainable).train()
    ntp, found = module(batch, (config.definition,))
    targets = load_targets("paper-janus-pro", trainable.layers, stretch=True).as_arrays(task)
    aia = aia_loss(found[config.definition], *map(torch.from_numpy, targets), batch.weights)
    combine_losses(ntp / batch.label_count, aia, task, LOSS_WEIGHTS["paper"]).total.backward()
    optimizer.step()
    optimizer.zero_grad()
    return wall_seconds() - started


def main() -> None:
    print(json.dumps(measure_true_sizes(tuple(sys.argv[1:]) or MODELS), indent=1))


if __name__ == "__main__":
    main()
