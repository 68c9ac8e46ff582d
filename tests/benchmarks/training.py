"""One training step with the AIA loss, without it, and the usual way (eager attention, maps kept): time and memory.

    python -m tests.benchmarks.training [ROUNDS]

A step is forward and backward from fresh gradients, without an optimizer step, which is the same for all. The
model is a random Llama of 8 layers × 512 (8 heads) in float32, batch 2; on a GPU one of Janus-Pro-7B's size in
bfloat16, batch 1. Its head has 4,096 entries, about the share of the model that
Janus-Pro's two heads have of theirs; it is computed, and next-token prediction counts, at the answer's or the image's
tokens, as the trainer here does it (`backend/families/training.py`), whichever way attention goes.

The three ways take turns in one process, each round starting with another, so that a slow moment of the machine
hits all alike; ratios are taken round by round. A CPU works on as many threads as it has cores, by the clock on the
wall; with OMP_NUM_THREADS=1 on one, by the seconds of the process, so that waiting for other work on the machine does
not count. Before the clock runs, losses and gradients are compared.

Peak memory is what one step adds to a process that has loaded the model. On a CPU each way has a fresh process
(Linux only) and its resident memory is read from the kernel, so all kinds of memory count; glibc is told to hand
tensors back when they are freed (MALLOC_MMAP_THRESHOLD_), because what it hoards differs from run to run.
On a GPU it is PyTorch's own count of allocated bytes.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from aia.batch import NO_LABEL
from aia.intensity import KEY_GROUPS, Definition, Group, Task, group_index
from aia.loss import LOSS_WEIGHTS, SequenceProbe, aia_loss, combine_losses, query_rows
from aia.probe import ATTENTION_NAME, install
from aia.targets import load_targets
from tests.benchmarks.generation import resident_mib

NTP_ONLY, WITH_AIA, USUAL = WAYS = ("NTP only", "with AIA", "usual way")
IMAGE_TOKENS = 576
ANSWER_TOKENS = 100
# (task, tokens): 1,000 text tokens and an image; a short and a long conversation about an image.
LENGTHS = ((Task.GENERATION, 1576), (Task.UNDERSTANDING, 700), (Task.UNDERSTANDING, 3000))
DEFINITION = Definition.TRAINING
WEIGHTS = LOSS_WEIGHTS["paper"]
# In float32: absolute for the loss, a share of the largest entry for gradients.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-6


@dataclass(frozen=True)
class Size:
    """A language model and the batch that it is trained on."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    batch: int
    dtype: torch.dtype
    device: str

    def config(self) -> LlamaConfig:
        """A plain Llama of this size."""
        return LlamaConfig(
            vocab_size=4096, hidden_size=self.hidden, intermediate_size=self.intermediate,
            num_hidden_layers=self.layers, num_attention_heads=self.heads, max_position_embeddings=4096,
        )  # fmt: skip

    def step_mib(self, length: int, way: str) -> float:
        """A generous guess of what one step needs, to decide whether to try: activations, and maps if kept."""
        item = self.dtype.itemsize
        activations = 30 * self.layers * self.batch * length * self.hidden * item
        maps = (self.layers + 5) * self.batch * self.heads * length**2 * max(item, 4) if way == USUAL else 0
        return (activations + maps) / 2**20


CPU_SIZE = Size(8, 512, 8, 1376, 2, torch.float32, "cpu")
GPU_SIZE = Size(30, 4096, 32, 11008, 1, torch.bfloat16, "cuda")


def compare_training_steps(
    rounds: int, lengths: Iterable[tuple[Task, int]] = LENGTHS, progress: Callable[[str, int, int], None] | None = None
) -> dict:
    """Seconds and ratios to "NTP only" of every round, their medians, peak memory, and agreement, by length.

    `progress(what, done, total)` is called as rounds pass. A way that the free memory does not allow has only
    {"skipped": reason}.
    """
    use_cores()
    size = GPU_SIZE if torch.cuda.is_available() else CPU_SIZE
    model = make_model(size)
    rows = [compare_length(model, size, Task(task), length, rounds, progress) for task, length in lengths]
    return {
        "model": f"Llama, {size.layers} layers × {size.hidden}, {size.heads} heads, head of 4,096",
        "device": torch.cuda.get_device_name() if size.device == "cuda" else "cpu",
        "dtype": str(size.dtype).removeprefix("torch."),
        "batch": size.batch,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "lengths": rows,
    }


def compare_length(model, size: Size, task: Task, length: int, rounds: int, progress) -> dict:
    """The three ways at one length; see `compare_training_steps`."""
    skipped = {way: reason for way in WAYS if (reason := why_not(size, length, way))}
    ways = [way for way in WAYS if way not in skipped]
    batch = make_batch(size, task, length)
    agreement = compare_gradients(model, batch) if {WITH_AIA, USUAL} <= {*ways} else None
    seconds = {way: [] for way in ways}
    for turn in range(rounds):
        for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
            seconds[way].append(time_step(model, batch, way))
        if progress:
            progress(f"{task} {length:,}", turn + 1, rounds)
    peaks = {way: peak_memory_mib(model, size, batch, way) for way in ways}
    rows = {way: summarise(way, seconds, peaks) for way in ways}
    return {
        "task": str(task),
        "tokens": length,
        "rows": int(query_rows(batch.groups, task)[0].sum()),
        "agreement": agreement,
        "ways": rows | {way: {"skipped": reason} for way, reason in skipped.items()},
    }


def summarise(way: str, seconds: dict[str, list[float]], peaks: dict[str, float]) -> dict:
    """One way's figures; ratios to NTP only, and to the usual way where it was run."""
    ratios = {other: [a / b for a, b in zip(seconds[way], seconds[other], strict=True)] for other in seconds}
    return {
        "seconds": round(statistics.median(seconds[way]), 3),
        "seconds_by_round": [round(taken, 3) for taken in seconds[way]],
        "time_ratio": round(statistics.median(ratios[NTP_ONLY]), 3),
        "time_ratios": [round(ratio, 3) for ratio in ratios[NTP_ONLY]],
        "peak_memory_mib": round(peaks[way], 1),
        "memory_ratio": round(peaks[way] / peaks[NTP_ONLY], 3),
        "of_usual": {
            "time_ratio": round(statistics.median(ratios[USUAL]), 3),
            "memory_ratio": round(peaks[way] / peaks[USUAL], 3),
        }
        if USUAL in seconds
        else None,
    }


# --- the three ways -------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Sequences of one task: ids, groups and labels [B, K]; labels are NO_LABEL where no token is to be predicted."""

    task: Task
    ids: torch.Tensor
    groups: torch.Tensor
    labels: torch.Tensor


def make_model(size: Size) -> LlamaForCausalLM:
    """Random weights, the probe's attention installed."""
    torch.manual_seed(0)
    with torch.device(size.device):
        model = LlamaForCausalLM(size.config()).to(size.dtype).train()
    install(model)
    return model


def make_batch(size: Size, task: Task, length: int) -> Batch:
    """Random tokens in the order of Janus-Pro's own sequences; a generation's text is its prompt."""
    image, text = [Group.IMAGE] * (IMAGE_TOKENS - 1) + [Group.IMAGE_LAST], length - IMAGE_TOKENS
    if task == Task.GENERATION:
        prompt = [Group.TEMPLATE] * 20 + [Group.PROMPT] * (text - 22)
        order = [Group.BOS, *prompt, Group.BOI] + [Group.GENERATED] * IMAGE_TOKENS
    else:
        prompt = [Group.PROMPT] * (text - 13 - ANSWER_TOKENS) + [Group.TEMPLATE] * 10
        order = [Group.BOS, Group.BOI, *image, Group.EOI, *prompt] + [Group.GENERATED] * ANSWER_TOKENS
    groups = torch.tensor([[group_index(group) for group in order]] * size.batch)
    ids = torch.randint(4096, groups.shape, generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(groups != group_index(Group.GENERATED), NO_LABEL)
    return Batch(task, *(tensor.to(size.device) for tensor in (ids, groups, labels)))


def step(model, batch: Batch, way: str) -> float:
    """Forward and backward that way; the loss. Gradients are the parameters' `.grad`."""
    model.zero_grad(set_to_none=True)
    loss = {NTP_ONLY: ntp_loss, WITH_AIA: loss_with_probe, USUAL: loss_with_maps}[way](model, batch)
    loss.backward()
    return loss.item()


def ntp_loss(model, batch: Batch) -> torch.Tensor:
    """Next-token prediction on fused attention."""
    return cross_entropy(model, batch, model.model(batch.ids, use_cache=False))


def cross_entropy(model, batch: Batch, output) -> torch.Tensor:
    """Of the tokens that are to be predicted, from the hidden states of the tokens before them."""
    next_ids = batch.labels[:, 1:]
    wanted = next_ids != NO_LABEL
    return functional.cross_entropy(model.lm_head(output.last_hidden_state[:, :-1][wanted]).float(), next_ids[wanted])


def loss_with_probe(model, batch: Batch) -> torch.Tensor:
    """Ours: L_NTP + λ·L_AIA, the intensities from a probe."""
    probe = SequenceProbe(batch.groups, batch.task, (DEFINITION,))
    ntp = cross_entropy(model, batch, model.model(batch.ids, use_cache=False, probe=probe))
    layers = model.config.num_hidden_layers
    found = probe.intensities(layers, DEFINITION)
    aia = aia_loss(found, *targets(layers).as_arrays(batch.task))
    return combine_losses(ntp, aia, batch.task, WEIGHTS).total


def loss_with_maps(model, batch: Batch) -> torch.Tensor:
    """The same loss as it is usually written: eager attention's maps, cut out and summed layer by layer and sample
    by sample, with torch's Huber."""
    model.set_attn_implementation("eager")
    output = model.model(batch.ids, use_cache=False, output_attentions=True)
    model.set_attn_implementation(ATTENTION_NAME)
    target, delta = targets(model.config.num_hidden_layers).as_arrays(batch.task)
    spans = [spans_of(groups, batch.task) for groups in batch.groups]
    aia = 0
    for layer, maps in enumerate(output.attentions):
        criterion = torch.nn.HuberLoss(delta=float(delta[layer]))
        for sample, (rows, keys) in enumerate(spans):
            found = maps[sample, :, rows, keys].float().sum(-1).mean()
            aia = aia + criterion(found, found.new_tensor(float(target[layer])))
    return cross_entropy(model, batch, output) + WEIGHTS.of(batch.task) * aia / (len(output.attentions) * len(spans))


def spans_of(groups: torch.Tensor, task: Task) -> tuple[slice, slice]:
    """Query rows and keys of one sequence [K] as the spans that they are in `make_batch`."""
    columns = torch.tensor([group_index(group) for group in KEY_GROUPS[DEFINITION][task]], device=groups.device)
    keys = torch.isin(groups, columns).nonzero().flatten().tolist()
    rows = query_rows(groups[None], task)[0].nonzero().flatten().tolist()
    assert len(keys) == keys[-1] + 1 - keys[0] and len(rows) == rows[-1] + 1 - rows[0]
    return slice(rows[0], rows[-1] + 1), slice(keys[0], keys[-1] + 1)


@cache
def targets(layers: int):
    """Stage targets stretched to the model."""
    return load_targets("paper-janus-pro", layers, stretch=True)


# --- measuring ------------------------------------------------------------------------------


def use_cores() -> None:
    """Work on OMP_NUM_THREADS threads, else on every core."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count()))


def time_step(model, batch: Batch, way: str) -> float:
    """Seconds of one step."""
    if not batch.ids.is_cuda:
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        started = clock()
        step(model, batch, way)
        return clock() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    step(model, batch, way)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def compare_gradients(model, batch: Batch) -> dict:
    """Largest difference between "with AIA" and "usual way"; held to the tolerances in float32.

    `gradient` is a share of the largest entry of any parameter's gradient.
    """
    losses, gradients = {}, {}
    for way in (WITH_AIA, USUAL):
        losses[way] = step(model, batch, way)
        gradients[way] = [parameter.grad for parameter in model.parameters()]
    pairs = list(zip(*gradients.values(), strict=True))
    largest = max(theirs.abs().max() for _, theirs in pairs)
    found = {
        "loss": abs(losses[WITH_AIA] - losses[USUAL]),
        "gradient": float(max((ours - theirs).abs().max() for ours, theirs in pairs) / largest),
    }
    if model.dtype == torch.float32:
        assert found["loss"] <= LOSS_TOLERANCE and found["gradient"] <= GRADIENT_TOLERANCE, found
    model.zero_grad(set_to_none=True)
    return found


def why_not(size: Size, length: int, way: str) -> str | None:
    """Why a step of that way is not tried, None if it is."""
    need = size.step_mib(length, way)
    free = torch.cuda.mem_get_info()[0] / 2**20 if size.device == "cuda" else free_mib()
    return None if need <= free else f"needs about {need / 1024:.0f} GiB, and {free / 1024:.0f} GiB are free"


def free_mib() -> float:
    """What the kernel says can be had without swapping, in MiB."""
    row = next(row for row in Path("/proc/meminfo").read_text().splitlines() if row.startswith("MemAvailable"))
    return int(row.split()[1]) / 1024


def peak_memory_mib(model, size: Size, batch: Batch, way: str) -> float:
    """How much one step that way raises the peak memory, gradients included, in MiB."""
    model.zero_grad(set_to_none=True)
    if size.device == "cuda":
        gc.collect(), torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(model, batch, way)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    command = [sys.executable, "-m", __spec__.name, batch.task, str(batch.ids.shape[1]), way]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def print_peak(task: Task, length: int, way: str) -> None:
    """One step in this process; prints how much its peak memory rose above the loaded model's, in MiB."""
    use_cores()
    model = make_model(CPU_SIZE)
    step(model, make_batch(CPU_SIZE, task, IMAGE_TOKENS + 200), NTP_ONLY)  # libraries' own buffers are there
    model.zero_grad(set_to_none=True)
    batch = make_batch(CPU_SIZE, task, length)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: start the peak anew from here
    before = resident_mib("VmRSS")
    step(model, batch, way)
    print(resident_mib("VmHWM") - before)


def main() -> None:
    """The whole comparison, or the peak memory of one way if told TASK TOKENS WAY."""
    if len(sys.argv) == 4:
        print_peak(Task(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        print(json.dumps(compare_training_steps(int(sys.argv[1]) if len(sys.argv) > 1 else 5), indent=1))


if __name__ == "__main__":
    main()
