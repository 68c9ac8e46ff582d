"""What a measurement is told: which model, which prompts, how many. Written into its folder before anything runs.

Owns the ranges of the settings. Knows no file and no model.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aia.intensity import Definition, Task
from backend.interface import UserError
from backend.kept.captures import Sampling
from backend.measurement import MIN_SAMPLES
from backend.models.model_spec import Precision
from backend.sampling import GENERATION_SAMPLING, RANGES, UNDERSTANDING_SAMPLING

MOST_SAMPLES = 5_000
WORLD = "world"


class MeasureConfig(BaseModel):
    """Settings of one measurement. `understanding` and `generation` are how many samples of each there will be."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: Literal[1] = 1
    model: str = Field("tiny-janus", min_length=1, max_length=400)
    adapter: str | None = None  # folder that a fine-tune left
    precision: Precision = Precision.FULL
    definition: Definition = Definition.FIGURE  # the first to be shown; all three are counted
    data: str = WORLD  # or a text file of prompts, or a file of conversations
    images: str | None = None  # folder of the conversations' images
    data_name: str = Field("", max_length=80)  # what the file was called
    skip_bad_rows: bool = False
    samples: int = Field(100, ge=MIN_SAMPLES, le=MOST_SAMPLES)  # asked for
    understanding: int = Field(100, ge=0, le=MOST_SAMPLES)
    generation: int = Field(100, ge=0, le=MOST_SAMPLES)
    seed: int = Field(0, ge=0, le=int(RANGES["seed"][1]) - MOST_SAMPLES)
    temperature: float = Field(GENERATION_SAMPLING.temperature, ge=0, le=RANGES["temperature"][1])  # of drawings
    guidance: float = Field(GENERATION_SAMPLING.guidance, ge=1, le=RANGES["guidance"][1])

    @model_validator(mode="after")
    def check_counts(self) -> MeasureConfig:
        counts = [self.count(task) for task in Task if self.count(task)]
        if not counts or min(counts) < MIN_SAMPLES:
            raise ValueError(f"a task needs at least {MIN_SAMPLES} samples")
        return self

    def count(self, task: Task) -> int:
        """How many samples of a task are measured; 0 for none."""
        return self.understanding if task == Task.UNDERSTANDING else self.generation

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(task for task in Task if self.count(task))

    @property
    def steps(self) -> int:
        """Rounds: each measures one sample of every task that has one left."""
        return max(self.understanding, self.generation)

    def sampling(self, task: Task) -> Sampling:
        """How the first sample of a task is decoded; the others have the seeds that follow."""
        if task == Task.UNDERSTANDING:
            return _with(UNDERSTANDING_SAMPLING, seed=self.seed)
        return _with(GENERATION_SAMPLING, seed=self.seed, temperature=self.temperature, guidance=self.guidance)


def _with(sampling: Sampling, **changes: Any) -> Sampling:
    return Sampling(**{**sampling.plain(), **changes})


def make_config(**settings: Any) -> MeasureConfig:
    """A checked config. Raises `UserError` that names the setting that is wrong."""
    try:
        return MeasureConfig(**settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])).replace("_", " ")
        if not where:
            raise UserError(
                f"Expected at least {MIN_SAMPLES} samples of each task for a mean and its spread, got fewer; "
                "ask for more, or leave the task out."
            ) from error
        problem = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"Expected another value of {where[:60]} ({problem[:120]}); change it.") from error
