"""Single heads of one pass: the attention of some rows on some keys, head by head.

Owns a probe that keeps weights where `aia.probe.Probe` keeps sums. Does not know any model family, nor what rows and
keys are.
"""

from __future__ import annotations

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from aia.probe import Probe


class HeadProbe(Probe):
    """Keep the attention of `rows` on `keys` in one pass without cache, in all layers and heads or in one of them.

        outputs = model(input_ids=..., use_cache=False, probe=probe)

    `groups` int64 [1, K] of every key of the pass; `keys` int64 [X]; `head` a layer and a head of it, 0-based. Weights
    are float32 and equal the rows of eager attention's map; memory is O(rows · K) for a layer at a time.
    """

    def __init__(
        self, groups: torch.LongTensor, rows: slice, keys: torch.LongTensor, head: tuple[int, int] | None = None
    ) -> None:
        """Raises: ValueError as `Probe`, and for more than one sequence."""
        super().__init__(groups, rows, cross=keys)
        if groups.shape[0] != 1:
            raise ValueError(f"expected one sequence to look at, got {groups.shape[0]}")
        self._keys, self._head = keys, head
        self._kept: dict[int, torch.Tensor] = {}  # layer → [H, R, X]

    def attend(self, module, query, key, value, attention_mask, **kwargs) -> torch.Tensor:
        """Attend in one layer and keep its heads' weights: → output [1, Q, H, D]. Called by `probe_attention`."""
        self._begin_layer(module.layer_idx, query, key)
        if self._head is None:
            self._keep(module, query, key, attention_mask, **kwargs)
        elif module.layer_idx == self._head[0]:
            head, shared = self._head[1], query.shape[1] // key.shape[1]  # grouped-query heads share keys
            if not 0 <= head < query.shape[1]:
                raise ValueError(f"expected a head from 0 to {query.shape[1] - 1}, got {head}")
            chosen = query[:, [head]], key[:, [head // shared]]
            self._keep(module, *chosen, attention_mask, **kwargs)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)[0]

    def _keep(self, module, query, key, mask, **kwargs) -> None:
        weights = self._row_weights(module, query, key, mask, **kwargs)[0]  # [H, R, K]
        self._kept[module.layer_idx] = weights[..., self._keys.to(weights.device)]

    def weights(self) -> torch.Tensor:
        """Return the attention kept: [L, H, R, X] in 0…1, or [R, X] of the one head."""
        if not self._kept:
            raise ValueError("nothing was kept: hand the probe to a pass of a model that has this layer")
        if self._head is not None:
            return self._kept[self._head[0]][0]
        return torch.stack([self._kept[layer] for layer in sorted(self._kept)])
