"""Causal attention block of keys by block of keys, and how much of it falls on the first ones: at no price.

Owns the blocks and their gradient, on CPU kernels that tell the logarithm of each row's sum of exponentials. Does not
know what the first keys mean. For keys that are not the beginning of a sequence, for masks and for other devices there
are columns beside the values (`aia.fused`).

A block of keys is attended to by itself, by the rows from its first key on. Two results of a row join by their
log-sum-exps, σ(lse₁ − lse₂)·out₁ + σ(lse₂ − lse₁)·out₂, as in blockwise (ring) attention (arXiv 2310.01889). Where a
block begins at the split, the mass before it is exp(lse so far − lse of all). Blocks are short because the kernel
computes 512 keys for a row that sees one: that saves more than joining costs, and no value is wider for the mass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import torch
from torch.autograd.function import once_differentiable

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

_DTYPES = (torch.float32, torch.float64)  # half precision would round what the backward pass hides in an output
_MOST_KEYS = 256  # of a block
_SMALLEST = 1e-20  # a gradient that can be divided by


def can_attend_in_blocks(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernels take these: one width, as many rows as keys, in full precision, on a CPU."""
    same = query.shape[2:] == key.shape[2:] == value.shape[2:]
    return same and query.device.type == "cpu" and query.dtype in _DTYPES


def attend_in_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, splits: Sequence[int], scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention → output [B, N, H, D], and the mass of each row on its sample's first `split` keys [B, H, N].

    query [B, H, N, D], key and value [B, H or fewer, N, D], as `can_attend_in_blocks` wants them; one of `splits` a
    sample, 0 < split < N. Differentiable in all three, once. Masses are in 0…1, and 1 before the split.
    """
    times = query.shape[1] // key.shape[1]
    key, value = (tensor if times == 1 else tensor.repeat_interleave(times, 1) for tensor in (key, value))
    return _AttendInBlocks.apply(query, key, value, tuple(splits), scaling)


def find_splits(marked: torch.BoolTensor) -> list[int] | None:
    """How many keys of each sample [B, N] are marked, if these are its first ones: some, and not all; else None."""
    first = marked.cumprod(1)
    splits = first.sum(1).tolist()
    return splits if bool((first == marked).all()) and 0 < min(splits) <= max(splits) < marked.shape[1] else None


class _AttendInBlocks(torch.autograd.Function):
    """Keeps what fused attention keeps: its inputs, its output and one number a row; and the masses."""

    @staticmethod
    def forward(ctx, query, key, value, splits, scaling):
        runs = [_attend(query[some], key[some], value[some], split, scaling) for some, split in _runs(splits)]
        output, sums, mass = (_join(parts) for parts in zip(*runs, strict=True))
        ctx.save_for_backward(query, key, value, output, sums, mass)
        ctx.splits, ctx.scaling = splits, scaling
        ctx.set_materialize_grads(False)
        return output.transpose(1, 2), mass

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradient, mass_gradient):
        *inputs, output, sums, mass = ctx.saved_tensors
        gradient = torch.zeros_like(output) if output_gradient is None else output_gradient.transpose(1, 2)
        pull = torch.zeros_like(mass) if mass_gradient is None else mass_gradient
        runs = []
        for some, split in _runs(ctx.splits):
            kept = (tensor[some] for tensor in (*inputs, output, sums, mass, gradient, pull))
            runs.append(_attend_backward(*kept, split, ctx.scaling))
        return *(_join(parts) for parts in zip(*runs, strict=True)), None, None


def _attend(query, key, value, split: int, scaling: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples of one split → output [B, H, N, D], log-sum-exps and masses [B, H, N]."""
    output = sums = before = None
    for start, stop in _blocks(split, query.shape[2]):
        keys = slice(start, stop)
        found, found_sums = _forward(query[:, :, start:], key[:, :, keys], value[:, :, keys], 0.0, True, scale=scaling)
        if output is None:
            output, sums = found, found_sums
            continue
        late, late_sums = output[:, :, start:], sums[:, :, start:]
        if start == split:
            before = late_sums.clone()
        torch.lerp(found, late, torch.sigmoid(late_sums - found_sums)[..., None], out=late)
        torch.logaddexp(late_sums, found_sums, out=late_sums)
    mass = torch.ones_like(sums)
    mass[:, :, split:] = torch.exp(before - sums[:, :, split:]).clamp_(max=1)
    return output, sums, mass


def _attend_backward(query, key, value, output, sums, mass, gradient, pull, split: int, scaling: float) -> list:
    """Gradients of query, key and value, given those of output and masses (`pull`)."""
    # A score's gradient is p·(dO·v − dO·O + c): c is what the mass adds, and differs before and behind the split. The
    # kernels use the output for dO·O alone, so c is hidden in its first entry; where dO is 0 there, 1e-20 stands in.
    gradient, output = gradient.clone(), output.clone()
    divisor, entry, share = gradient[:, :, split:, 0], output[:, :, split:, 0].clone(), mass[:, :, split:]
    divisor.masked_fill_(divisor.abs() < _SMALLEST, _SMALLEST)
    pull = pull[:, :, split:] / divisor
    output[:, :, split:, 0] = entry - pull * (1 - share)
    query_gradient = None
    others = [torch.empty_like(t.transpose(1, 2), memory_format=torch.contiguous_format) for t in (key, value)]
    others = [tensor.transpose(1, 2) for tensor in others]  # heads behind positions in memory, as a layer has them
    for start, stop in _blocks(split, query.shape[2]):
        if start == split:
            output[:, :, split:, 0] = entry + pull * share
        rows, keys = slice(start, None), slice(start, stop)
        found, *of_keys = _backward(
            gradient[:, :, rows], query[:, :, rows], key[:, :, keys], value[:, :, keys], output[:, :, rows],
            sums[:, :, rows], 0.0, True, scale=scaling,
        )  # fmt: skip
        if query_gradient is None:
            query_gradient = found
        else:
            query_gradient[:, :, rows] += found
        for ours, theirs in zip(others, of_keys, strict=True):
            ours[:, :, keys] = theirs
    return [query_gradient, *others]


def _blocks(split: int, length: int) -> Iterator[tuple[int, int]]:
    """Spans of keys in order, none across the split, about equally long on each side of it."""
    for first, last in ((0, split), (split, length)):
        count = -(-(last - first) // _MOST_KEYS)
        yield from pairwise(first + (last - first) * number // count for number in range(count + 1))


def _runs(splits: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Neighbouring samples of one split, to be computed together: (slice of samples, split) each."""
    start = 0
    for split, run in groupby(splits):
        stop = start + len(list(run))
        yield slice(start, stop), split
        start = stop


def _join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of several runs one tensor, heads behind positions in memory."""
    return parts[0] if len(parts) == 1 else torch.cat([part.transpose(1, 2) for part in parts]).transpose(1, 2)
