"""Rows of attention apart from a pass: what masks add to their scores, and decoding steps that are weighed later.

Owns the arithmetic of rows that a probe looks at beside fused attention. Does not know groups, masses or passes.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import groupby
from typing import NamedTuple

import torch
from torch.nn import functional


class Late(NamedTuple):
    """A decoding step's row of one layer whose weights are computed later, from the keys then in the cache."""

    query: torch.Tensor  # [B, H, 1, D]
    mask: torch.Tensor | None  # [B or 1, H or 1, 1, K]
    scaling: float
    keys: int  # known when the step was taken


def row_bias(
    mask: torch.Tensor | None, causal: bool, query: torch.Tensor, keys: int, rows: slice, dtype: torch.dtype
) -> torch.Tensor | None:
    """What to add to the scores of the wanted rows, [B or 1, H or 1, rows, K], None for nothing."""
    if mask is None:
        queries = query.shape[2]
        if not causal or queries == 1:  # SDPA takes a single query without mask as seeing every key
            return None
        # Without mask SDPA aligns its causal triangle to the upper left: a static cache's tail is unseen.
        positions = torch.arange(keys, device=query.device)
        mask = (positions <= positions[:queries][rows, None])[None, None]
    else:
        mask = mask[:, :, rows]
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
    return mask.to(dtype)


def stack_rows(rows: dict[int, list[torch.Tensor]]) -> torch.Tensor:
    """Weights [B, H, rows, K] of some layers, as they came, in one: [B, L, H, all rows, most keys]."""
    parts = next(iter(rows.values()))
    keys, count = max(part.shape[-1] for part in parts), sum(part.shape[2] for part in parts)
    # Rows made early have fewer keys: they pay the later ones no attention.
    weights = parts[0].new_zeros((parts[0].shape[0], len(rows), parts[0].shape[1], count, keys))
    start = 0
    for number, part in enumerate(parts):
        end = start + part.shape[2]
        stacked = torch.stack([layer[number] for layer in rows.values()], 1)  # [B, L, H, rows, K]
        weights[..., start:end, : part.shape[-1]] = stacked
        start = end
    return weights


def compute_late(rows: list[torch.Tensor | Late], key: torch.Tensor | None) -> list[torch.Tensor]:
    """One layer's rows in order, those that are late computed, neighbours among them together: [B, H, rows, K] each."""
    done = []
    for late, run in groupby(rows, lambda row: isinstance(row, Late)):
        run = list(run)
        done += [_late_weights(run, key)] if late else run
    return done


def _late_weights(rows: list[Late], key: torch.Tensor) -> torch.Tensor:
    """Attention of decoding steps on keys [B, H or fewer, K, D] in float32: [B, H, rows, K]."""
    query = torch.cat([row.query for row in rows], 2)
    batch, heads, count, depth = query.shape
    shared, keys = key.shape[1], key.shape[2]
    flat_query = query.reshape(batch * shared, heads // shared * count, depth)  # grouped-query heads lie together
    flat_key = key.reshape(batch * shared, keys, depth).transpose(1, 2)
    dtype = result_dtype(query.dtype)
    with no_autocast(query.device.type):
        scores = torch.bmm(flat_query.to(dtype), flat_key.to(dtype)).view(batch, heads, count, keys)
    bias = _late_bias(rows, keys, dtype, query.device)
    blind = bias.amax(-1, keepdim=True) == -torch.inf
    return (scores * rows[0].scaling + bias).masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)


def _late_bias(rows: list[Late], keys: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What to add to the scores of decoding steps: [B or 1, H or 1, rows, K], −inf for keys that came after a step."""
    known = torch.tensor([row.keys for row in rows], device=device)
    later = (torch.arange(keys, device=device) >= known[:, None])[None, None]
    bias = torch.zeros(later.shape, dtype=dtype, device=device).masked_fill_(later, -torch.inf)
    if all(row.mask is None for row in rows):
        return bias
    query = torch.empty(1, 1, 1, 1, device=device)  # of one row, which sees every key where there is no mask
    masks = [row_bias(row.mask, True, query, keys, slice(None), dtype) for row in rows]
    shape = next(mask.shape[:2] for mask in masks if mask is not None)
    masks = [bias.new_zeros(*shape, 1, keys) if mask is None else _lengthen(mask, keys) for mask in masks]
    return torch.cat(masks, 2) + bias


def _lengthen(mask: torch.Tensor, keys: int) -> torch.Tensor:
    """[…, K] → […, keys], with nothing to add for those that came later."""
    return functional.pad(mask, (0, keys - mask.shape[-1]))


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def no_autocast(device_type: str):
    # Autocast would take the scores in half precision again. Entering a context costs as much as a
    # small matrix product, so only where needed.
    return torch.autocast(device_type, enabled=False) if torch.is_autocast_enabled(device_type) else nullcontext()
