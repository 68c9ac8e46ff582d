"""Fused attention with more value columns than the layer has, lean in what it keeps for the backward pass.

Owns the padding that fused kernels need for it, and its gradient. Does not know what the columns mean, nor
which attention function is called. Method: method.md section 6.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge, saved_tensors_hooks
from torch.nn import functional


def attend_with_columns(
    attend: Callable, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to values and columns in one call: → output [B, Q, H, Dv] and softmax(QKᵀ)·columns [B, Q, H, C].

    query [B, H, Q, D], key and value [B, H or fewer, K, D or Dv], columns [B, 1, K, C], for all heads and
    without gradient. `attend` takes query, key and value of one width and returns their attention
    [B, Q, H, width]; its scale must not depend on that width, and only these three get gradients from it.

    A layer copies its output out of the wide one, and plain autograd would keep both for the backward pass.
    Here the wide one is made again from its parts. What is kept goes through `save_for_backward`, so that
    gradient checkpointing drops it as it does SDPA's own.
    """
    return _AttendWithColumns.apply(query, key, value, columns, attend)


class _AttendWithColumns(torch.autograd.Function):
    """`attend` with an autograd graph of its own, in which numbers stand for the tensors it would keep."""

    @staticmethod
    def forward(ctx, query, key, value, columns, attend):
        inputs = _widen(query, key, value, columns)
        kept: list[torch.Tensor] = []
        ctx.restored = []  # the tensors by number, while the backward pass needs them
        with (
            torch.enable_grad(),
            saved_tensors_hooks(lambda t: kept.append(t) or len(kept) - 1, ctx.restored.__getitem__),
        ):
            if any(ctx.needs_input_grad):
                inputs = [_Root.apply(torch.empty(0, requires_grad=True), tensor) for tensor in inputs]
            wide = attend(*inputs)
        shown = wide.detach()
        width, count = value.shape[-1], columns.shape[-1]
        output, sums = shown[..., :width].contiguous(), shown[..., width : width + count].contiguous()
        if wide.requires_grad:
            ctx.end, ctx.starts = get_gradient_edge(wide), [get_gradient_edge(tensor) for tensor in inputs]
            ctx.is_wide = [t.data_ptr() == shown.data_ptr() and t.shape == shown.transpose(1, 2).shape for t in kept]
            ctx.save_for_backward(
                output, sums, *(t for t, is_wide in zip(kept, ctx.is_wide, strict=True) if not is_wide)
            )
        kept.clear()  # the graph's hooks hold this list
        ctx.width, ctx.depth = shown.shape[-1], query.shape[-1]
        ctx.set_materialize_grads(False)
        return output, sums

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradient, sums_gradient):
        output, sums, *others = ctx.saved_tensors
        others, wide = iter(others), _join(output, sums, ctx.width).transpose(1, 2)
        ctx.restored[:] = [wide if is_wide else next(others) for is_wide in ctx.is_wide]
        gradient = _join(
            torch.zeros_like(output) if output_gradient is None else output_gradient,
            torch.zeros_like(sums) if sums_gradient is None else sums_gradient,
            ctx.width,
        )
        # The graph holds no tensors; keeping it allows the caller a second backward pass through its own.
        query, key, value = torch.autograd.grad(ctx.end, ctx.starts, gradient, retain_graph=True)
        ctx.restored.clear()
        depth, width = ctx.depth, output.shape[-1]
        return query[..., :depth], key[..., :depth], value[..., :width], None, None


class _Root(torch.autograd.Function):
    """Starts a graph at a tensor without holding it, which a leaf would."""

    @staticmethod
    def forward(ctx, leaf, tensor):
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError("gradients are taken at this node, never through it")


def _widen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, columns: torch.Tensor) -> list[torch.Tensor]:
    """All three of one width, on GPUs a multiple of 8 as fused kernels want it, the columns behind the values.

    Heads lie behind positions in memory, as a layer makes them and needs its output: else it would be copied.
    """
    depth, width = query.shape[-1], value.shape[-1]
    total = max(depth, width + columns.shape[-1])
    total = total if query.device.type == "cpu" else -(-total // 8) * 8
    query, key, value, columns = (tensor.transpose(1, 2) for tensor in (query, key, value, columns))
    columns = columns.expand(-1, -1, value.shape[2], -1)
    wide = [functional.pad(tensor, (0, total - depth)) for tensor in (query, key)]
    return [tensor.transpose(1, 2) for tensor in (*wide, _join(value, columns, total))]


def _join(left: torch.Tensor, right: torch.Tensor, width: int) -> torch.Tensor:
    """[..., A] and [..., C] → [..., width], zeros behind them."""
    joined = torch.cat([left, right], -1)
    return functional.pad(joined, (0, width - joined.shape[-1])) if joined.shape[-1] < width else joined
