"""What a page lets people do here: each thing allowed, or the sentence that says why not.

Knows settings and what a machine has; no person, no model's insides and no component.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.settings import Settings
from backend.interface import UserError
from backend.models.specs import ModelSpec
from backend.people.quotas import Quotas

ZERO_GPU = (
    "Fine-tuning is off here: this Space has a GPU for moments only (ZeroGPU) and ends what runs in the background. "
    "Duplicate it with a CPU or a GPU of its own, or run AIA Lens on your machine."
)
ZERO_GPU_MEASURING = (
    "Measuring is off here: this Space has a GPU for moments only (ZeroGPU) and ends what runs in the background. "
    "Duplicate it with a CPU or a GPU of its own, or run AIA Lens on your machine."
)
OFF = "Fine-tuning is off on this page. Run AIA Lens on your own machine to fine-tune: `make app` is all it takes."
TINY_IN_DEMO = (
    "On this demo only models that come with the program are fine-tuned, and this is a larger one; choose tiny-janus, "
    "or run AIA Lens on your own machine."
)
NO_GPU = (
    "This Space has no GPU, which fine-tuning a model of this size needs; choose tiny-janus, which trains on a CPU, or "
    "duplicate the Space with a GPU."
)
NOT_IN_DEMO = (
    "This demo takes in no files for its library, for fine-tuning or measuring; run AIA Lens on your own machine."
)
NO_UNLOADING = "The model stays loaded here, since others use it, too."


@dataclass(frozen=True)
class Rules:
    """Each empty where it is allowed, else one sentence."""

    tuning: str = ""
    tuning_large: str = ""  # of models that do not come with the program
    measuring: str = ""  # many samples in the background
    bringing_in: str = ""  # files for the library, data sets and prompts
    unloading: str = ""
    room: Callable[[int], None] = lambda more_bytes: None  # raises `UserError` where a person may keep no more

    def check_tuning(self, spec: ModelSpec) -> None:
        """Raise `UserError` if that model may not be fine-tuned here."""
        check(self.tuning or ("" if spec.embedded else self.tuning_large))


ALL = Rules()


def check(sentence: str) -> None:
    """Raise `UserError` with the sentence, if there is one."""
    if sentence:
        raise UserError(sentence)


def rules_of(settings: Settings, has_gpu: bool, quotas: Quotas | None = None) -> Rules:
    """What the settings, the machine and a person's quotas allow."""
    space_without = settings.space and not has_gpu
    large = TINY_IN_DEMO if settings.tuning == "tiny" else NO_GPU if space_without else ""
    return Rules(
        tuning=ZERO_GPU if settings.zero_gpu else OFF if settings.tuning == "off" else "",
        tuning_large=large,
        measuring=ZERO_GPU_MEASURING if settings.zero_gpu else "",
        bringing_in=NOT_IN_DEMO if settings.demo else "",
        unloading=NO_UNLOADING if settings.apart else "",
        room=quotas.check_disk if quotas else ALL.room,
    )
