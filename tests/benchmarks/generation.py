"""Drawing with capture, without, and the usual way (eager attention, maps kept): speed and memory.

    python -m app bench --json FILE

The three ways take turns in one process, so that a slow moment of the machine hits all alike; ratios
are taken round by round. Peak memory is what one
drawing adds to a fresh process that has loaded the model (Linux only).
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import DynamicCache, LlamaConfig, LlamaModel

from aia.intensity import GROUPS, Group, group_index
from aia.probe import ATTENTION_NAME, Probe, install
from backend.families import load_model
from backend.families.base import FamilyModel, Prefill
from backend.families.decoding import positions_of
from backend.kept.captures import Sampling
from backend.models.specs import find_spec

WAYS = ("without capture", "with capture", "usual way")
PROMPT = "a red circle left of a blue square"
SAMPLING = Sampling(seed=0, guidance=3.0)
LENGTHS = (64, 128, 256, 512)


def compare_ways(model_name: str, rounds: int) -> dict:
    """Tokens per second, ratio to "without capture" (median of rounds), peak memory; capture size by length."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model = load_model(find_spec(model_name))
    tokens = model.drawing_steps(model.drawing_prefill(PROMPT))[0]
    draw_once(model, "without capture"), draw_once(model, "usual way")  # warm up
    seconds = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            seconds[way].append(draw_once(model, way))
    plain = seconds["without capture"]
    ways = {
        way: {
            "tokens_per_second": round(tokens / statistics.median(taken), 1),
            "speed_ratio": round(statistics.median(p / t for p, t in zip(plain, taken, strict=True)), 3),
            "peak_memory_mib": peak_memory_mib(model_name, way),
        }
        for way, taken in seconds.items()
    }
    return {"model": model_name, "rounds": rounds, "threads": torch.get_num_threads(), "ways": ways} | measure_growth()


def draw_once(model: FamilyModel, way: str) -> float:
    """Decode all image codes of one drawing that way; seconds."""
    prefill = model.drawing_prefill(PROMPT)
    started = time.perf_counter()
    if way == "usual way":
        draw_with_maps(model, prefill)
    else:
        probe = make_probe(model, prefill) if way == "with capture" else None
        codes = list(model.image_codes(prefill, SAMPLING, probe))
        assert len(codes) == model.drawing_steps(prefill)[0]
        if probe is not None:
            probe.mass(), probe.cross_attention(), probe.grown_attention()
    return time.perf_counter() - started


def make_probe(model: FamilyModel, prefill: Prefill) -> Probe:
    """The probe that `generate` looks on with."""
    words = positions_of(prefill.groups, (Group.PROMPT,))
    return Probe(model.branch_groups(prefill, SAMPLING), rows="last", cross=words, grown=True)


def draw_with_maps(model: FamilyModel, prefill: Prefill) -> torch.Tensor:
    """The usual way: eager attention, every step's maps kept, summed at the end: intensity [L]."""
    maps: list[torch.Tensor] = []
    parts = [part for name, part in model.model.named_modules() if name.endswith("self_attn")]
    hooks = [part.register_forward_hook(lambda _part, _given, made: maps.append(made[1])) for part in parts]
    model.model.set_attn_implementation({model.language_config: "eager"})
    try:
        list(model.image_codes(prefill, SAMPLING))
    finally:
        model.model.set_attn_implementation({model.language_config: ATTENTION_NAME})
        for hook in hooks:
            hook.remove()
    layers = model.text_config.num_hidden_layers
    shares = torch.stack([m[0, :, -1, : prefill.length].sum(-1).mean() for m in maps[layers:]])  # without the prompt's
    return shares.view(-1, layers).mean(0)


def peak_memory_mib(model_name: str, way: str) -> float:
    """How much one drawing that way raises the peak memory of a fresh process with the model loaded."""
    command = [sys.executable, "-m", "tests.benchmarks.generation", model_name, way]
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_growth() -> dict:
    """Bytes that a capture and the usual way's maps keep, by number of image tokens, prompt fixed at 32."""
    config = LlamaConfig(
        vocab_size=8, hidden_size=128, intermediate_size=128, num_hidden_layers=4, num_attention_heads=8
    )
    torch.manual_seed(0)
    model = LlamaModel(config).eval()
    install(model)
    return {
        "kept_bytes_by_length": {
            str(n): {"capture": capture_bytes(model, n), "maps": map_bytes(config, n)} for n in LENGTHS
        }
    }


@torch.inference_mode()
def capture_bytes(model: LlamaModel, length: int) -> int:
    """Bytes of the masses and of the prompt-wide cross attention after `length` decoding steps."""
    prompt = torch.full((1, 32), group_index(Group.PROMPT))
    probe = Probe(prompt, rows="last", cross=torch.arange(32))
    cache = DynamicCache(config=model.config)
    model(input_ids=torch.zeros_like(prompt), past_key_values=cache, use_cache=True, probe=probe)
    for _ in range(length):
        probe.extend(torch.full((1, 1), group_index(Group.GENERATED)))
        model(input_ids=torch.zeros(1, 1, dtype=torch.long), past_key_values=cache, use_cache=True, probe=probe)
    mass, cross = probe.mass(), probe.cross_attention()
    assert mass.shape[3:] == (length + 1, len(GROUPS))
    return mass.numel() * 4 + cross.numel() * 2


def map_bytes(config: LlamaConfig, length: int) -> int:
    """Bytes of the float32 maps that `output_attentions` would keep over the same steps."""
    keys = sum(32 + step for step in range(1, length + 1)) + 32 * 32
    return keys * config.num_hidden_layers * config.num_attention_heads * 4


def main() -> None:
    """One drawing in this process; prints how much its peak memory rose above the loaded model's, in MiB."""
    model_name, way = sys.argv[1:]
    model = load_model(find_spec(model_name))
    draw_once(model, "without capture")  # what every way needs is there before counting starts
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: start the peak anew from here
    before = resident_mib("VmRSS")
    draw_once(model, way)
    print(round(max(0.0, resident_mib("VmHWM") - before), 1))


def resident_mib(field: str) -> float:
    """A field of /proc/self/status in MiB."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(field))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
