"""Room for a run in the background beside the page's model: who has the memory of the device that both want.

Owns what is said when the model made room and when it cannot come back. Knows how
much memory is free; neither which model is loaded (`backend.engine`), nor runs, nor what either takes
(`backend.finetuning.memory`, `backend.models.loading_memory`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from backend.finetuning.memory import free_memory
from backend.interface import UserError
from backend.models.loading_memory import check_drawing_fits, check_loading_fits
from backend.models.specs import ModelSpec, Precision

MADE_ROOM = "no model loaded: it made room for a run"


class Room:
    """Whether the model made room for a run, and whether it may come back. `free` is in bytes."""

    def __init__(self, free: Callable[[], int] = free_memory):
        self._free = free
        self.made = False

    def is_short(self, needed: int) -> bool:
        """Whether fewer bytes than these are free."""
        return self._free() < needed

    def make(self) -> None:
        """The model has just been let go for a run: give its memory back."""
        self.made = True
        self.give_back()

    def give_back(self) -> None:
        """Return the memory of a model that nobody holds any more."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def check_drawing(self, spec: ModelSpec, size: str) -> None:
        """Raises `UserError` where a drawing of that size finds no room beside the model, which is loaded."""
        check_drawing_fits(spec, size, self._free())

    def check(self, spec: ModelSpec, precision: Precision, size: str = "") -> None:
        """Raises `UserError` where a model finds no room: in general, or since it made room for a run.

        `size` of the drawing that it is wanted for, where it may have any.
        """
        try:
            check_loading_fits(spec, precision, self._free(), size=size)
        except UserError as error:
            if not self.made:
                raise
            raise UserError(
                f"{spec.title} made room for a run and does not fit beside it; wait for that to end, or stop it."
            ) from error
