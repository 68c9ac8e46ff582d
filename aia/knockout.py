"""Forbid keys to rows in chosen layers or heads: attention knock-out, exact under fused attention, no model edited.

Owns the masks. Does not know any model family, what the keys mean, nor what is read off the outputs. A forbidden key
has score −inf before softmax, so the row's attention is shared out among the keys it has left. Method: Geva et al.,
"Dissecting Recall of Factual Associations in Auto-Regressive Language Models", 2023 (arXiv 2304.14767).
"""

from __future__ import annotations

import torch


class Knockout:
    """Which rows may not attend to which keys, in which layers of which sequences of a batch.

        outputs = model.language_model(inputs_embeds=..., knockout=knockout)

    The keyword travels as `probe=` does (`aia.probe`), and both may go together: the probe then sees the attention that
    is left.

    - `keys` bool [B or 1, R, K], True where forbidden: row r is the query at position `start` + r. With R = 1 the same
      keys are forbidden to every row from `start` on; else rows beyond the last one are free.
    - `layers` bool [B, L], True in the layers where they are; or [B, L, H], in the query heads of them.

    Positions count from the first token of the sequence, padding included; keys beyond K are free. A layer in which no
    sequence forbids anything is left exactly as it is, bit for bit. Works on whole passes and on cached ones, as long
    as the cache grows with the sequence (a static cache hides where a row stands).
    """

    def __init__(self, keys: torch.Tensor, layers: torch.Tensor, start: int) -> None:
        """Raises: ValueError for shapes that do not fit together, or a row that is forbidden its own key."""
        if keys.ndim != 3 or layers.ndim not in (2, 3) or keys.dtype != torch.bool or layers.dtype != torch.bool:
            found = f"{keys.dtype} {list(keys.shape)} and {layers.dtype} {list(layers.shape)}"
            raise ValueError(f"expected keys as bool [B, R, K] and layers as bool [B, L] or [B, L, H], got {found}")
        if keys.shape[0] not in (1, layers.shape[0]) or not keys.shape[1] or start < 0:
            raise ValueError(
                f"expected keys of 1 or {layers.shape[0]} sequences and 1 row or more from a position of 0 or more on, "
                f"got {list(keys.shape)} from {start} on"
            )
        _check_own(keys, start)
        self._keys, self._layers, self._start = keys, layers, start
        self._used = layers.any(0).reshape(layers.shape[1], -1).any(-1).tolist()
        self._pass: tuple = ()  # sizes of the current pass, its mask, and what its layers share

    def mask(
        self, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, causal: bool
    ) -> torch.Tensor | None:
        """The layer's mask with what is forbidden taken out: bool or float [B, H or 1, Q, K], or `mask` as it came.

        query [B, H, Q, D], key [B, H or fewer, K, D]. Raises: ValueError for another batch or a layer not in `layers`,
        or other heads.
        """
        layer, batch = module.layer_idx, query.shape[0]
        if batch != self._layers.shape[0] or layer >= self._layers.shape[1]:
            sizes = f"{self._layers.shape[0]} sequences and {self._layers.shape[1]} layers"
            raise ValueError(f"expected {sizes}, as in the knock-out, got {batch} sequences and layer {layer}")
        if self._layers.ndim == 3 and query.shape[1] != self._layers.shape[2]:
            raise ValueError(f"expected {self._layers.shape[2]} heads, as in the knock-out, got {query.shape[1]}")
        if not self._used[layer]:
            return mask
        forbidden, allowed = self._share(query, key, mask, causal)
        if forbidden is None:  # no row of this pass is meant
            return mask
        where = self._layers[:, layer].reshape(batch, -1)  # [B, 1 or H]
        forbidden = forbidden & where.to(forbidden.device)[:, :, None, None]  # [B, 1 or H, Q, K]
        if allowed.dtype == torch.bool:
            return allowed & ~forbidden
        return allowed.masked_fill(forbidden, -torch.inf)

    def _share(
        self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, causal: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """What all layers of one pass have in common: forbidden [B or 1, 1, Q, K], and the mask before it."""
        sizes = query.shape[2], key.shape[2]
        if not self._pass or self._pass[0] != sizes or self._pass[1] is not mask:
            forbidden = self._forbidden(*sizes, query.device)
            self._pass = (sizes, mask, forbidden, _plain_mask(*sizes, causal, query.device) if mask is None else mask)
        return self._pass[2:]

    def _forbidden(self, queries: int, keys: int, device: torch.device) -> torch.Tensor | None:
        first = keys - queries  # position of the pass's first row
        rows = self._keys.shape[1]
        wanted = torch.arange(first, keys) - self._start  # row of `keys` that each query takes
        hit = (wanted >= 0) & ((wanted < rows) | (rows == 1))
        if not hit.any():
            return None
        known = min(keys, self._keys.shape[2])
        forbidden = torch.zeros(self._keys.shape[0], queries, keys, dtype=torch.bool, device=device)
        chosen = self._keys[:, wanted[hit].clamp(max=rows - 1), :known]
        forbidden[:, hit.to(device), :known] = chosen.to(device)
        return forbidden[:, None]


def layer_windows(layers: int, width: int) -> torch.Tensor:
    """One window per layer, `width` layers centred on it and cut off at the ends: bool [L windows, L layers].

    Of an even width the longer side lies behind. Width 0 is no layer. Raises: ValueError for a width outside 0…L.
    """
    if not 0 <= width <= layers:
        raise ValueError(f"expected a window of 0 to {layers} layers, got {width}")
    apart = torch.arange(layers)[None] - torch.arange(layers)[:, None]
    return (apart >= -((width - 1) // 2)) & (apart <= width // 2) & (width > 0)


def single_heads(layers: int, heads: int) -> torch.Tensor:
    """One knock-out per head: bool [L·H, L, H], layer by layer."""
    return torch.eye(layers * heads, dtype=torch.bool).unflatten(1, (layers, heads))


def random_keys(among: torch.Tensor, counts: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random choice of keys for each row: `counts` int64 [R] of those in `among` bool [R, K] → bool [R, K].

    One random order of the keys serves all rows, so that rows lose the same keys as far as they see them.
    """
    order = torch.rand(among.shape[1], generator=generator)
    ranks = torch.where(among, order, torch.inf).argsort(1).argsort(1)
    return among & (ranks < counts[:, None])


def _check_own(keys: torch.Tensor, start: int) -> None:
    """A row that sees itself always sees something, so that no softmax is over nothing."""
    if keys.shape[1] == 1:
        own = keys[:, :, start:]
    else:
        own = keys[:, :, start:].diagonal(dim1=1, dim2=2)
    if own.any():
        raise ValueError("expected every row to keep its own key, got one that is forbidden it")


def _plain_mask(queries: int, keys: int, causal: bool, device: torch.device) -> torch.Tensor:
    """What attention without a mask does, as a mask [1, 1, Q, K]: causal among a pass's own rows, or everything."""
    if not causal or queries == 1:
        return torch.ones(1, 1, queries, keys, dtype=torch.bool, device=device)
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)[None, None]
