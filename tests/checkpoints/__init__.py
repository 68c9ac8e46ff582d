"""One module per family: a tiny checkpoint with random weights, on disk as the hub would hold it.

The contract tests (tests/backend/contract) take every module here. Each has

- `make(folder) -> ModelSpec`: writes the checkpoint, real configuration, processor and tokenizer classes, 2 or 3 layers
  about 64 wide with grouped-query heads; the spec's `tasks` say what the family can do;
- `TASKS`: the same tasks, known before anything is made;
- `MARKERS`: the token that each of the groups bos, boi and eoi is, for those that the family has;
- `CONTROL`: a control token that a prompt must not hold;
- `draw_uncached(model, prefill, sampling, codes)`, if it draws: per branch, the attention maps [1, H, N, N] of all
  layers in one pass over prompt and `codes`, written against transformers alone.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

FAMILIES: tuple[str, ...] = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def module_of(family: str) -> ModuleType:
    """The module of a family."""
    return import_module(f"{__name__}.{family}")
