"""How a model may be asked: default settings, their ranges, the length of a prompt. Knows no model and no store."""

from __future__ import annotations

from dataclasses import replace

from aia.intensity import Task
from backend.interface import UserError
from backend.kept.captures import Sampling
from backend.models.drawing_sizes import normal_size
from backend.models.specs import ModelSpec

UNDERSTANDING_SAMPLING = Sampling(temperature=0.0, guidance=1.0, max_new_tokens=64)
GENERATION_SAMPLING = Sampling(temperature=0.5, guidance=1.5)
MAX_PROMPT_CHARACTERS = 2_000
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**53 - 1),  # what JSON and a browser carry exactly
    "temperature": (0, 2),
    "guidance": (1, 20),
    "max_new_tokens": (1, 256),
}


def check_request(prompt: str, sampling: Sampling, task: Task) -> tuple[str, Sampling]:
    """A trimmed prompt and settings within their ranges. Raises `UserError` on anything else."""
    prompt = prompt.encode(errors="ignore").decode().strip()  # half a surrogate pair is no text
    what = "question" if task == Task.UNDERSTANDING else "prompt"
    if not prompt:
        raise UserError(f"Expected a {what}, got an empty one; write a few words first.")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise UserError(
            f"Expected a {what} of at most {MAX_PROMPT_CHARACTERS:,} characters, got {len(prompt):,}; shorten it."
        )
    check_sampling(sampling)
    return prompt, normal_sampling(sampling, task)


def check_sampling(sampling: Sampling) -> None:
    """Refuse settings out of their ranges. Raises `UserError` naming the setting."""
    for name, (low, high) in RANGES.items():
        value = getattr(sampling, name)
        if not low <= value <= high:
            shown = str(value) if len(str(value)) <= 20 else "one far outside"
            raise UserError(f"Expected {name.replace('_', ' ')} from {low} to {high:,}, got {shown}; change it.")
    if sampling.size:
        normal_size(sampling.size)


def drawing_sampling(spec: ModelSpec) -> Sampling:
    """How a model draws unless somebody says otherwise."""
    return replace(GENERATION_SAMPLING, temperature=spec.temperature, guidance=spec.guidance)


def normal_sampling(sampling: Sampling, task: Task) -> Sampling:
    """Fields that a task does not use are set alike, so that equal work has one id."""
    sampling = replace(
        sampling,
        seed=int(sampling.seed),
        temperature=float(sampling.temperature),
        guidance=float(sampling.guidance),
        max_new_tokens=int(sampling.max_new_tokens),
    )
    if task == Task.GENERATION:
        return replace(sampling, max_new_tokens=0, size=normal_size(sampling.size))
    sampling = replace(sampling, guidance=1.0, size="")
    return replace(sampling, seed=0) if sampling.temperature == 0 else sampling
