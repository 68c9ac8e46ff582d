"""Causal attention over two blocks of keys, and how much of it falls on the first, at the price of attention alone.

Owns the split at a key and its gradient, on CPU kernels that tell the logarithm of each row's sum of exponentials.
Does not know what the blocks mean. For a first block that is not the beginning of a sequence, for masks and for other
devices there are columns beside the values (`aia.fused`).

Rows before the split see the first block alone. A later row attends to both, each by itself; with lse₁ and lse₂ their
log-sum-exps, the first block's mass is m = σ(lse₁ − lse₂) and the output m·out₁ + (1 − m)·out₂, as blockwise (ring)
attention joins its parts (arXiv 2310.01889). No value is wider for it, and no row meets a block that it cannot see.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch.autograd.function import once_differentiable

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

_DTYPES = (torch.float32, torch.float64)  # half precision would round what the backward pass hides in an output
_SMALLEST = 1e-20  # a gradient that can be divided by


def can_attend_in_blocks(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernels take these: one width, as many rows as keys, in full precision, on a CPU."""
    same = query.shape[2:] == key.shape[2:] == value.shape[2:]
    return same and query.device.type == "cpu" and query.dtype in _DTYPES


def attend_in_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, splits: Sequence[int], scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention → output [B, N, H, D], and the mass of each row on its sample's first `split` keys [B, H, N].

    query, key and value [B, H, N, D] as `can_attend_in_blocks` wants them; `splits` one a sample, 0 < split < N.
    Differentiable in all three, once. Masses are in 0…1, and 1 before the split.
    """
    return _AttendInBlocks.apply(query, key, value, tuple(splits), scaling)


class _AttendInBlocks(torch.autograd.Function):
    """Keeps what fused attention keeps: its inputs, its output and one number a row; and the masses."""

    @staticmethod
    def forward(ctx, query, key, value, splits, scaling):
        output = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        sums, mass = query.new_empty(query.shape[:3]), query.new_ones(query.shape[:3])
        for some, split in _runs(splits):
            (q, q_late), (k, k_late), (v, v_late) = (_cut(tensor[some], split) for tensor in (query, key, value))
            early, sums[some, :, :split] = _forward(q, k, v, 0.0, True, scale=scaling)
            output[some, :, :split] = early
            first, first_sum = _forward(q_late, k, v, 0.0, False, scale=scaling)
            second, second_sum = _forward(q_late, k_late, v_late, 0.0, True, scale=scaling)
            share = mass[some, :, split:] = torch.sigmoid(first_sum - second_sum)
            sums[some, :, split:] = torch.logaddexp(first_sum, second_sum)
            torch.lerp(second, first, share[..., None], out=output[some, :, split:])
        ctx.save_for_backward(query, key, value, output, sums, mass)
        ctx.splits, ctx.scaling = splits, scaling
        ctx.set_materialize_grads(False)
        return output.transpose(1, 2), mass

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradient, mass_gradient):
        *inputs, output, sums, mass = ctx.saved_tensors
        gradient = torch.zeros_like(output) if output_gradient is None else output_gradient.transpose(1, 2)
        mass_gradient = torch.zeros_like(mass) if mass_gradient is None else mass_gradient
        found = [torch.empty_like(t.transpose(1, 2), memory_format=torch.contiguous_format) for t in inputs]
        found = [tensor.transpose(1, 2) for tensor in found]
        for some, split in _runs(ctx.splits):
            kept = (tensor[some] for tensor in (*inputs, output, sums, mass, gradient, mass_gradient))
            _backward_of_run(*kept, split, ctx.scaling, [tensor[some] for tensor in found])
        return *found, None, None


def _backward_of_run(query, key, value, output, sums, mass, gradient, mass_gradient, split, scaling, found) -> None:
    """Write the gradients of some samples of one split into the three of `found`."""
    halves = [_cut(tensor, split) for tensor in (query, key, value, output, sums, gradient)]
    (q, q_late), (k, k_late), (v, v_late), (out, out_late), (sum_, sum_late), (grad, grad_late) = halves
    early = _backward(grad, q, k, v, out, sum_, 0.0, True, scale=scaling)
    # A score's gradient is p·(dO·v − dO·O + c): c is what the mass adds, and differs between the blocks. The kernels
    # use the output for dO·O alone, so c is hidden in its first entry. Where dO is 0 there, it is 1e-20 instead.
    grad_late, out_late, sum_late = grad_late.clone(), out_late.clone(), sum_late.contiguous()
    divisor, entry, share = grad_late[..., 0], out_late[..., 0].clone(), mass[..., split:]
    divisor.masked_fill_(divisor.abs() < _SMALLEST, _SMALLEST)
    pull = mass_gradient[..., split:] / divisor
    out_late[..., 0] = entry - pull * (1 - share)
    first = _backward(grad_late, q_late, k, v, out_late, sum_late, 0.0, False, scale=scaling)
    out_late[..., 0] = entry + pull * share
    second = _backward(grad_late, q_late, k_late, v_late, out_late, sum_late, 0.0, True, scale=scaling)
    (q_early, q_both), *others = (_cut(tensor, split) for tensor in found)
    q_early.copy_(early[0])
    torch.add(first[0], second[0], out=q_both)
    for (ours, ours_late), of_early, of_first, of_second in zip(others, early[1:], first[1:], second[1:], strict=True):
        torch.add(of_early, of_first, out=ours)
        ours_late.copy_(of_second)


def _cut(tensor: torch.Tensor, split: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, H, N, …] → what is before the split and what is not."""
    return tensor[:, :, :split], tensor[:, :, split:]


def _runs(splits: Sequence[int]):
    """Neighbouring samples of one split, to be computed together: (slice of samples, split) each."""
    start = 0
    for split, run in groupby(splits):
        stop = start + len(list(run))
        yield slice(start, stop), split
        start = stop
