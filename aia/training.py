"""Training with L = L_NTP + λ·L_AIA on Accelerate: steps, measurements, checkpoints, resuming (paper Eq. 3).

Owns the order of work: which task and which samples a step has, how losses are normalised over processes, when
curves are measured and checkpoints written. Knows no model family (`aia.batch.Trainable`), no page, no scores.

Everything a step does is a function of the config, the data and the state after the step before, and a checkpoint
holds all of that state; so a run that was killed and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import get_scheduler

from aia.batch import Batch, Trainable
from aia.checkpoints import Checkpoint, CheckpointError, load_newest_checkpoint, save_checkpoint
from aia.config import TrainingConfig
from aia.curves import curve_distance, summarise_curves
from aia.data import Sample, TrainingData
from aia.intensity import Definition, Task
from aia.loss import SequenceProbe, aia_loss, combine_losses
from aia.targets import StageTargets

Listener = Callable[[dict], None]  # plain values that JSON can carry; "event" says what happened

_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


class TrainingError(ValueError):
    """A run that cannot go on: one sentence that says what happened at which step, and what to do."""


class LossModule(nn.Module):
    """Everything from a batch to its loss sums in one forward pass, because that is what DDP and FSDP wrap."""

    def __init__(self, trainable: Trainable):
        super().__init__()
        self.model = trainable.model
        self._trainable = trainable

    def forward(
        self, batch: Batch, definitions: Sequence[Definition]
    ) -> tuple[torch.Tensor, dict[Definition, torch.Tensor]]:
        """→ NTP loss summed over labels, and intensities [B, L] of each definition asked for."""
        probe = SequenceProbe(batch.groups, batch.task, definitions)
        ntp_sum = self._trainable.ntp_sum(batch, probe)
        return ntp_sum, {d: probe.intensities(self._trainable.layers, d) for d in definitions}


class Plan:
    """Which task a step has and which samples of the data: a function of the config alone, known for every step."""

    def __init__(self, config: TrainingConfig):
        rng = random.Random(f"{config.seed}/tasks")
        draws = (rng.random() < config.share(Task.GENERATION) for _ in range(config.steps))
        self.tasks = [Task.GENERATION if drawn else Task.UNDERSTANDING for drawn in draws]
        self._batch, self._drop, self._seed = config.batch_size, config.prompt_drop, config.seed
        self._firsts: list[int] = []
        seen = dict.fromkeys(Task, 0)
        for task in self.tasks:
            self._firsts.append(seen[task])
            seen[task] += config.batch_size

    def samples(self, step: int) -> range:
        """Indices into the stream of the step's task."""
        return range(self._firsts[step], self._firsts[step] + self._batch)

    def drops(self, index: int) -> bool:
        """Whether a drawing's prompt is blanked, for classifier-free guidance."""
        return random.Random(f"{self._seed}/drop/{index}").random() < self._drop


class Training:
    """One run of one process; under `accelerate launch` every process has one and they work in step."""

    def __init__(
        self,
        trainable: Trainable,
        data: TrainingData,
        targets: StageTargets,
        config: TrainingConfig,
        checkpoints: Path,
        identity: Mapping[str, str],
        accelerator: Accelerator,
        listen: Listener,
    ):
        """`identity` says what the weights belong to besides the config (model, revision, data); see `resume`.

        Raises: TrainingError if the batch cannot be shared out or nothing can be trained.
        """
        if targets.layers != trainable.layers:
            raise TrainingError(
                f"expected targets for {trainable.layers} layers, got {targets.layers} in {targets.name}; "
                "choose targets made for this model"
            )
        self.trainable, self.data, self.targets, self.config = trainable, data, targets, config
        self.checkpoints, self.identity, self.accelerator, self.listen = checkpoints, identity, accelerator, listen
        self.plan, self.step = Plan(config), 0
        self._share = share_of_batch(config, accelerator.num_processes)
        torch.manual_seed(config.seed + accelerator.process_index)  # dropout differs between processes
        self.module = wrap(LossModule(trainable), accelerator)
        self.optimizer = accelerator.prepare_optimizer(make_optimizer(self._inner, config))
        self.scheduler = get_scheduler(
            config.schedule if config.schedule != "constant" else "constant_with_warmup",
            self.optimizer.optimizer,
            round(config.warmup * config.steps),
            config.steps,
        )

    @property
    def _inner(self) -> LossModule:
        return self.accelerator.unwrap_model(self.module)

    # --- the run ---

    def run(
        self,
        probe_batches: Mapping[Task, Sequence[Batch]],
        should_stop: Callable[[], bool] = bool,
        at_probe: Callable[[int], None] = lambda step: None,
    ) -> bool:
        """Train from where it stands to the end: True when done, False when `should_stop` said so (checkpointed).

        `probe_batches` are measured before (at step 0), every `probe_every` steps and after the last. Then `at_probe`
        gets the step and may use the model, which is in eval mode; every process calls it.
        Raises: TrainingError, CheckpointError.
        """
        if self.step == 0:
            self._look(probe_batches, at_probe)
            self.save()  # a run killed before its first checkpoint has something to resume from
        while self.step < self.config.steps:
            if self._agree(should_stop()):
                self.save()
                return False
            self.train_step()
            last = self.step == self.config.steps
            if last or self.step % self.config.probe_every == 0:
                self._look(probe_batches, at_probe)
            if last or self.step % self.config.checkpoint_every == 0:
                self.save()
        return True

    def train_step(self) -> None:
        """One optimizer step over the whole batch. Raises: TrainingError if the loss or its gradient is not finite."""
        started, task = time.monotonic(), self.plan.tasks[self.step]
        self.module.train()
        try:
            ntp, aia = self._backward(task, list(self._batches(task)))
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            raise _say_memory(error, self.step + 1) from error
        trained = [p for p in self.module.parameters() if p.requires_grad]
        self._refuse_broken(ntp + aia, "loss")
        norm = self.accelerator.clip_grad_norm_(trained, self.config.clip_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if self.accelerator.scaler is None:  # with loss scaling, a step that overflows is skipped and the scale lowered
            self._refuse_broken(float(norm), "gradient")
        rate = self.scheduler.get_last_lr()[0]
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.listen(
            {
                "event": "step",
                "step": self.step,
                "of": self.config.steps,
                "task": task.value,
                "ntp": ntp,
                f"aia_{task}": aia,
                "learning_rate": rate,
                "gradient_norm": float(norm),
                "seconds": round(time.monotonic() - started, 4),
            }
        )

    def _batches(self, task: Task) -> Iterator[Batch]:
        """This process's part of the step's samples, in as many batches as there are accumulations."""
        mine = self.plan.samples(self.step)[self.accelerator.process_index * self._share :][: self._share]
        size = self._share // self.config.accumulation
        for first in range(0, self._share, size):
            indices = mine[first : first + size]
            samples = [self.data.sample(task, index) for index in indices]
            yield self.trainable.collate(samples, [self.plan.drops(index) for index in indices])

    def _backward(self, task: Task, batches: list[Batch]) -> tuple[float, float]:
        """Gradients of the whole batch's loss; → its NTP and AIA loss. The same however the batch is shared out."""
        processes = self.accelerator.num_processes  # gradients are averaged over them: sums need the factor back
        labels = self._sum(torch.tensor(float(sum(batch.label_count for batch in batches)))).item()
        sums = torch.zeros(2, device=self.accelerator.device, dtype=torch.float64)
        for number, batch in enumerate(batches):
            with self._sync(last=number == len(batches) - 1):
                ntp, aia = self._losses(task, batch)
                ntp, aia = ntp / max(labels, 1), aia * (len(batch) / self.config.batch_size)
                loss = combine_losses(ntp, aia, task, self.config.weights)
                self.accelerator.backward(loss.total * processes)
            sums += torch.stack([ntp.detach(), aia.detach()]).double()
        ntp, aia = self._sum(sums).tolist()
        return ntp, aia

    def _losses(self, task: Task, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """NTP loss summed over labels, and the mean AIA loss of one batch."""
        with self.accelerator.autocast():
            ntp_sum, intensities = self.module(batch, (self.config.definition,))
        target, delta = self.targets.as_arrays(task)
        aia = aia_loss(
            intensities[self.config.definition],
            torch.from_numpy(target),
            torch.from_numpy(delta),
            batch.weights,
            form=self.config.form,
        )
        return ntp_sum, aia

    # --- measuring ---

    def _look(self, probe_batches: Mapping[Task, Sequence[Batch]], at_probe: Callable[[int], None]) -> None:
        """Measure, then let the caller use the model; training goes on as if neither had happened."""
        self.measure(probe_batches)
        state = _random_state()
        at_probe(self.step)
        _set_random_state(state)

    @torch.no_grad()
    def measure(self, probe_batches: Mapping[Task, Sequence[Batch]]) -> dict:
        """Curves of the probe set, all definitions: the event's content, also told to the listener.

        Teacher-forced, so that it is quick and the same at every step. Leaves the random state alone.
        """
        self.module.eval()
        found: dict = {"event": "measured", "step": self.step, "intensity": {}, "distance": {}}
        for task, batches in probe_batches.items():
            with self.accelerator.autocast():
                parts = [self.module(batch, tuple(Definition))[1] for batch in batches]
            rows = {d: torch.cat([part[d] for part in parts]).float().cpu().numpy() for d in Definition}
            curves = {d.value: summarise_curves(rows[d]) for d in Definition}
            found["intensity"][task.value] = {
                name: {"mean": curve.mean.round(6).tolist(), "std": curve.std.round(6).tolist(), "n": curve.samples}
                for name, curve in curves.items()
            }
            distance = curve_distance(rows[self.config.definition], self.targets, task)
            found["distance"][task.value] = {
                "aia_loss": round(distance.aia_loss, 8),
                "mean_absolute": round(distance.mean_absolute, 6),
            }
        self.listen(found)
        return found

    # --- checkpoints ---

    def save(self) -> None:
        """Write a checkpoint of everything that the next step depends on. Raises: CheckpointError."""
        tensors = self._trained_tensors() | self._optimizer_tensors()
        states = gather_object([_random_state()])
        fault = None
        if self.accelerator.is_main_process:
            tensors |= {f"random/{rank}/{name}": t for rank, state in enumerate(states) for name, t in state.items()}
            scheduler = {k: v for k, v in self.scheduler.state_dict().items() if k != "lr_lambdas"}
            values = {"depends_on": self._depends_on(), "scheduler": scheduler, "scaler": self._scaler_state()}
            try:
                save_checkpoint(self.checkpoints, self.step, tensors, values, self.config.keep_checkpoints)
                self.listen({"event": "checkpoint", "step": self.step})
            except CheckpointError as error:
                fault = error
        if self._agree(fault is not None):
            raise fault or CheckpointError("The checkpoint could not be written by the first process; see its message.")

    def resume(self) -> bool:
        """Go on from the newest whole checkpoint; False if there is none.

        Raises: TrainingError if it belongs to another model, other data or other settings.
        """
        found = load_newest_checkpoint(self.checkpoints)
        if found is None:
            return False
        depends_on = self._depends_on()
        theirs = found.values.get("depends_on", {})
        for name, value in depends_on.items():
            if theirs.get(name) != value:
                raise TrainingError(
                    f"expected a run folder with {name.replace('_', ' ')} {value!r}, got {theirs.get(name)!r}; "
                    "choose another folder, or the settings it was started with"
                )
        self._restore(found)
        self.listen({"event": "resumed", "step": self.step})
        return True

    def _restore(self, found: Checkpoint) -> None:
        self.step = found.step
        for name, parameter in self._named_trained():
            with torch.no_grad():
                parameter.copy_(_like(found.tensors[f"weights/{name}"], parameter))
            keys = [k.split("/", 2) for k in found.tensors if k.startswith("optimizer/") and k.endswith(f"/{name}")]
            state = {key: found.tensors[f"optimizer/{key}/{name}"] for _, key, _ in keys}
            if state:
                self.optimizer.optimizer.state[parameter] = {
                    key: _like(t, parameter) if t.ndim else t for key, t in state.items()
                }
        curves = [None] * len(self.optimizer.param_groups)  # functions: made anew from the config
        self.scheduler.load_state_dict({**found.values["scheduler"], "lr_lambdas": curves})
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
        if self.accelerator.scaler is not None and found.values["scaler"]:
            self.accelerator.scaler.load_state_dict(found.values["scaler"])
        mine = f"random/{self.accelerator.process_index}/"
        _set_random_state({k.removeprefix(mine): t for k, t in found.tensors.items() if k.startswith(mine)})

    def whole_weights(self) -> dict[str, torch.Tensor]:
        """All weights of the model by name, put together again where they were sharded. Every process must call it."""
        return {name: _whole(t) for name, t in self.trainable.model.state_dict().items()}

    def _depends_on(self) -> dict:
        """Flat and plain, so that a difference can be named."""
        settings = self.config.what_training_depends_on() | dict(self.identity)
        return settings | {"processes": self.accelerator.num_processes}

    def _named_trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self._inner.named_parameters() if p.requires_grad)

    def _trained_tensors(self) -> dict[str, torch.Tensor]:
        return {f"weights/{name}": _whole(p.detach()) for name, p in self._named_trained()}

    def _optimizer_tensors(self) -> dict[str, torch.Tensor]:
        state = self.optimizer.optimizer.state
        named = ((name, key, t) for name, p in self._named_trained() if p in state for key, t in state[p].items())
        return {f"optimizer/{key}/{name}": _whole(t) for name, key, t in named}

    def _scaler_state(self) -> dict | None:
        return None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()

    # --- processes ---

    def _sync(self, last: bool):
        """Gradients meet at the last part only; FSDP shares them each time, which keeps its memory low."""
        if last or isinstance(self.module, FSDPModule):
            return nullcontext()
        return self.accelerator.no_sync(self.module)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(values.to(self.accelerator.device), "sum")

    def _agree(self, flag: bool) -> bool:
        """True for all processes when it is for any, so that they stop together."""
        if self.accelerator.num_processes == 1:
            return bool(flag)
        return self._sum(torch.tensor(float(bool(flag)))).item() > 0

    def _refuse_broken(self, value: float, what: str) -> None:
        if not torch.isfinite(torch.tensor(value)):
            raise TrainingError(
                f"The {what} was not finite at step {self.step + 1:,}; the last good checkpoint is kept: lower the "
                "learning rate or the AIA weight and start again."
            )


def wrap(module: LossModule, accelerator: Accelerator) -> nn.Module:
    """DDP or FSDP as `accelerate launch` was told; the module itself in a single process."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if not asked:
        return accelerator.prepare_model(module.to(accelerator.device))
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise TrainingError("expected FSDP version 2, got version 1; launch with --fsdp_version 2")
    # Accelerate shards on accelerators only and wants model and optimizer together; PyTorch's own call does on any.
    module.to(accelerator.device)
    layers = [part for part in module.modules() if type(part).__name__.endswith("DecoderLayer")]
    in_layers = {p for layer in layers for p in layer.parameters()}
    # Frozen encoders stay whole in every process: they are small, and batches are made with them outside the forward.
    whole = {p for p in module.parameters() if not p.requires_grad and p not in in_layers}
    for layer in layers:
        fully_shard(layer)
    return fully_shard(module, ignored_params=whole)


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """One per process. Each task leaves the other's modules unused, which DDP has to be told."""
    return Accelerator(
        mixed_precision=config.mixed_precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        step_scheduler_with_optimizer=False,
    )


def make_optimizer(module: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over what requires gradients; matrices decay, vectors do not. Raises: TrainingError if nothing does."""
    trained = [p for p in module.parameters() if p.requires_grad]
    if not trained:
        raise TrainingError("expected parameters to train, got none; choose another method")
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
    )


def make_probe_batches(trainable: Trainable, samples: Mapping[Task, Sequence[Sample]], size: int) -> dict:
    """The probe set as batches of at most `size`, made once."""
    return {
        task: [
            trainable.collate(rows[i : i + size], [False] * len(rows[i : i + size])) for i in range(0, len(rows), size)
        ]
        for task, rows in samples.items()
        if rows
    }


def share_of_batch(config: TrainingConfig, processes: int) -> int:
    """Samples per step of each of several processes. Raises: TrainingError if the batch cannot be shared out."""
    parts = processes * config.accumulation
    if config.batch_size % parts:
        raise TrainingError(
            f"expected a batch size that {processes:,} processes with {config.accumulation:,} parts each divide, got "
            f"{config.batch_size:,}; choose a multiple of {parts:,}"
        )
    return config.batch_size // processes


def is_out_of_memory(error: Exception) -> bool:
    """Whether it says, in one of the ways there are, that memory ran out."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(t in text for t in _OUT_OF_MEMORY)


def _say_memory(error: Exception, step: int) -> Exception:
    if not is_out_of_memory(error):
        return error
    return TrainingError(
        f"Memory ran out at step {step:,}; the last good checkpoint is kept: raise accumulation, turn on gradient "
        "checkpointing, lower the batch size, or choose qlora."
    )


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """The tensor on the parameter's device, sharded as it is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
