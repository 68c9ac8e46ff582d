"""What a capture costs a long drawing: a random Janus of real depth decodes 576 image tokens with guidance.

    python -m app bench --long --json FILE

Two decodings, one with capture and one without, take turns token by token, so that a slow moment of the machine hits
both alike; what is compared is the processor time of their steps. The sums at the end belong to the capture.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aia.intensity import Group
from aia.probe import Probe
from backend.families import load_model
from backend.families.base import FamilyModel
from backend.families.decoding import positions_of
from backend.kept.captures import Sampling
from tests.benchmarks.random_models import janus_config, write_random_janus

Progress = Callable[[str, int, int], None]  # what, done, total

PROMPT = "a red circle left of a blue square"
SAMPLING = Sampling(seed=0, guidance=5.0)
GOAL = 0.95  # of the speed without capture
LARGEST = {"width": 1024, "inner": 2816, "layers": 12, "heads": 16, "side": 24}


def compare_long_drawing(rounds: int, size: dict[str, int] = LARGEST, progress: Progress = lambda *_: None) -> dict:
    """Processor seconds with and without capture by round, and the ratio of the speeds (median of the rounds)."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as folder:
        spec = write_random_janus(Path(folder), janus_config(**size), "random-janus")
        model = load_model(spec)
    tokens = size["side"] ** 2
    seconds = []
    for number in range(rounds):
        progress("round", number, rounds)
        seconds.append(draw_both(model))
    ratios = [plain / captured for plain, captured in seconds]
    return {
        "model": "random Janus, {layers} layers × {width}, {heads} heads".format(**size),
        "parameters": spec.parameters,
        "image_tokens": tokens,
        "guidance": SAMPLING.guidance,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "tokens_per_processor_second": {
            "without capture": round(tokens / statistics.median(plain for plain, _ in seconds), 2),
            "with capture": round(tokens / statistics.median(captured for _, captured in seconds), 2),
        },
        "speed_ratio": round(statistics.median(ratios), 4),
        "speed_ratio_by_round": [round(ratio, 4) for ratio in ratios],
        "goal": GOAL,
    }


def draw_both(
    model: FamilyModel,
    sampling: Sampling = SAMPLING,
    clock: Callable[[], float] = time.process_time,
    most: int | None = None,
) -> tuple[float, float]:
    """Seconds of one drawing without and of one with capture, their steps taking turns; the first `most` of them."""
    prefill = model.drawing_prefill(PROMPT, sampling.size)
    words = positions_of(prefill.groups, (Group.PROMPT,))
    probe = Probe(model.branch_groups(prefill, sampling), rows="last", cross=words)  # as `generate` does
    plain, captured = model.image_codes(prefill, sampling), model.image_codes(prefill, sampling, probe)
    spent = [0.0, 0.0]
    for step in range(most or model.drawing_steps(prefill)[0]):
        first = step % 2
        spent[first] += _time(clock, lambda way=(plain, captured)[first]: next(way))
        spent[1 - first] += _time(clock, lambda way=(plain, captured)[1 - first]: next(way))
    spent[1] += _time(clock, lambda: (probe.mass(), probe.cross_attention()))
    return spent[0], spent[1]


def _time(clock: Callable[[], float], work: Callable) -> float:
    started = clock()
    work()
    return clock() - started
