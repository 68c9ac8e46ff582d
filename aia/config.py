"""What a training run is told: every setting with its meaning, unit and range. Frozen, checked where made.

The command line, the page's field help and a run's `config.json` all read these fields. Knows neither models nor files:
names of models, targets and data are looked up by whoever starts the run.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aia.intensity import Definition, Task
from aia.loss import LossWeights

FORMAT_VERSION = 1

Method = Literal["lora", "qlora", "full"]


class TrainingConfig(BaseModel):
    """One run. Equal configs on equal data give equal weights on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: Literal[1] = Field(FORMAT_VERSION, description="Version of this file's form.")
    model: str = Field("tiny-janus", description="Name of the base model; `models` lists them.", min_length=1)
    method: Method = Field(
        "lora",
        description="lora: low-rank adapters on the language model, aligners and generation head; qlora: the same on "
        "a base in 4 bit; full: these modules themselves, vision encoder and VQ tokenizer frozen.",
    )
    start_from: str | None = Field(
        None, description="Folder of a fine-tuned adapter, or whole weights, to go on from; by default the base model."
    )
    data: str = Field("world", description="“world” (the embedded shapes), or a JSON or JSONL file of conversations.")
    images: str | None = Field(None, description="Folder of the file's images; by default the file's own folder.")
    skip_bad_rows: bool = Field(False, description="Train on the good rows of a file that has bad ones.")

    targets: str = Field(
        "auto",
        description="Stage targets: a preset, stretched to the model's layers, or a file; auto: the preset that the "
        "registry names for the model.",
    )
    aia: bool = Field(True, description="Add the AIA loss; without it this is the control run.")
    aia_weight_generation: float = Field(
        40.0, ge=0, le=1e6, description="λ of drawing: AIA loss is counted so many times beside the NTP loss."
    )
    aia_weight_understanding: float = Field(40.0, ge=0, le=1e6, description="λ of understanding.")
    definition: Definition = Field(
        Definition.TRAINING, description="Which keys count as the other modality when training."
    )
    form: Literal["huber", "squared"] = Field(
        "huber", description="Distance to the targets: Huber, or its ablation ½x²."
    )

    steps: int = Field(100, ge=1, le=10**7, description="Optimizer steps.")
    batch_size: int = Field(16, ge=1, le=2**16, description="Samples per step, over all processes and accumulations.")
    accumulation: int = Field(
        1, ge=1, le=2**12, description="Parts that a process takes its samples in, to save memory."
    )
    ratio_generation: float = Field(1.0, ge=0, le=1e6, description="Share of steps that draw, against …")
    ratio_understanding: float = Field(1.0, ge=0, le=1e6, description="… the share of steps that answer.")
    prompt_drop: float = Field(
        0.1, ge=0, le=1, description="Share of drawing prompts blanked, for classifier-free guidance."
    )
    seed: int = Field(0, ge=0, le=2**53 - 1, description="Of data order, tasks, new weights and dropout.")

    learning_rate: float = Field(1e-4, gt=0, le=1, description="Peak rate of AdamW.")
    warmup: float = Field(0.05, ge=0, le=1, description="Share of steps in which the rate rises to its peak.")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="How the rate falls after it.")
    weight_decay: float = Field(0.05, ge=0, le=1, description="Of AdamW, on matrices.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's memory of gradients.")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's memory of their squares.")
    adam_epsilon: float = Field(1e-6, gt=0, le=1, description="AdamW's ε.")
    clip_norm: float = Field(1.0, gt=0, le=1e6, description="Largest norm of a step's gradient.")
    lora_rank: int = Field(16, ge=1, le=1024, description="Rank of the adapters.")
    lora_alpha: int = Field(32, ge=1, le=4096, description="Adapters are scaled by alpha / rank.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Share of inputs dropped before an adapter.")
    gradient_checkpointing: bool = Field(False, description="Compute activations twice instead of keeping them.")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="Precision of activations; weights being trained stay in float32."
    )

    checkpoint_every: int = Field(25, ge=1, le=10**7, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, le=1000, description="Checkpoints kept; the oldest go first.")
    probe_every: int = Field(25, ge=1, le=10**7, description="Steps between measurements of the curves.")
    probe_samples: int = Field(64, ge=2, le=10**4, description="Held-out samples per task that curves are measured on.")
    score_samples: int = Field(
        200, ge=0, le=10**5, description="Held-out scenes, and as many drawings, scored before and after; 0 for none."
    )
    sample_count: int = Field(
        3,
        ge=0,
        le=16,
        description="Prompts drawn, and as many questions answered, whenever curves are measured: the same held-out "
        "ones from the same seeds in every run; of a file its first rows. 0 for none.",
    )

    @model_validator(mode="after")
    def _check_parts(self) -> TrainingConfig:
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"expected a batch size that accumulation divides, got {self.batch_size:,} in {self.accumulation:,} "
                f"parts; choose a multiple of {self.accumulation:,}, or accumulation 1"
            )
        return self

    @model_validator(mode="after")
    def _check_ratio(self) -> TrainingConfig:
        if self.ratio_generation + self.ratio_understanding == 0:
            raise ValueError("expected a share of at least one task above 0, got 0 for both; raise one")
        return self

    @property
    def weights(self) -> LossWeights:
        """λ per task; 0 for a control run, whose AIA loss is measured all the same."""
        if not self.aia:
            return LossWeights(0.0, 0.0)
        return LossWeights(self.aia_weight_generation, self.aia_weight_understanding)

    def share(self, task: Task) -> float:
        """Share of steps of a task, 0…1."""
        total = self.ratio_generation + self.ratio_understanding
        return (self.ratio_generation if task == Task.GENERATION else self.ratio_understanding) / total

    def what_training_depends_on(self) -> dict:
        """All that determines the weights after a step: a checkpoint only goes on under the same."""
        apart = {"checkpoint_every", "keep_checkpoints", "probe_every", "probe_samples", "score_samples", "images"}
        apart |= {"sample_count"}
        return self.model_dump(mode="json", exclude=apart)


def make_config(**settings) -> TrainingConfig:
    """A config from loose settings. Raises `ValueError` with one sentence that names the first wrong setting."""
    try:
        return TrainingConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(_say(first)) from error


def _say(error: dict) -> str:
    name = ".".join(str(part) for part in error["loc"]).replace("_", " ") or "settings"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "extra_forbidden":
        return f"expected known settings only, got “{name}”; remove it"
    wanted = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"expected {name} to be {wanted}, got {str(error['input'])[:40]!r}; change it"
