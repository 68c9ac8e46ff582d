"""Exact attention mass per key group under fused attention, without editing the model.

Owns an attention function for transformers' `AttentionInterface` and the `Probe` that is handed to a
forward pass and collects masses from its layers. Does not know any model family, what the groups
mean, nor which rows a definition of intensity wants. Paper: arXiv 2511.22663, Eq. 1, before its sums.

Several ways to the same numbers. `rows="all"` appends one 0/1 column per group to V, so that fused
attention itself returns softmax(QKᵀ)·indicator: differentiable, and no Q·K map ever exists. A single group that
is the beginning of its sequences, as a prompt is, needs no column on a CPU (`aia.blocks`).
`rows="last"` (or a slice) runs plain fused attention and computes the scores of those rows beside it;
where gradients are wanted, a second fused attention of those rows, to the 0/1 columns alone, does. Decoding
in half precision keeps the queries of its steps and computes their scores many steps at a time: a GPU spends
a step on starting its many small operations, and each that is added costs as much as a large one.
"""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from aia.blocks import attend_in_blocks, can_attend_in_blocks, find_splits
from aia.fused import attend_with_columns
from aia.intensity import GROUPS, PAD_GROUP
from aia.knockout import Knockout
from aia.rows import Late, compute_late, no_autocast, result_dtype, row_bias, stack_rows

ATTENTION_NAME = "aia_probe"

# Weights of decoding steps wait until this many are there (16 MiB in float32) and are summed in one go,
# because on a small model summing layer by layer would cost more than the attention itself.
_WAITING_WEIGHTS = 2**22
_WAITING_STEPS = 64  # whose queries wait at most
_SHORTEST_IN_BLOCKS = 256  # tokens; below, three calls for one cost more than a wider value


def install(model: PreTrainedModel, config_name: str = "text_config") -> None:
    """Switch the model's language model, and nothing else, to the probe's attention function.

    Idempotent. `config_name` names the language model's sub-config; a model without sub-configs
    (a plain Llama) is switched itself, as is, for an empty name, the outermost config alone.
    Without `probe=` in a forward pass, attention stays transformers' own SDPA.

    Raises: ValueError if the model has sub-configs but none of that name.
    """
    AttentionInterface.register(ATTENTION_NAME, probe_attention)
    AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
    names = list(model.config.sub_configs)
    if not names:
        model.set_attn_implementation(ATTENTION_NAME)
    elif config_name in ("", *names):
        model.set_attn_implementation({config_name: ATTENTION_NAME})
    else:
        raise ValueError(f"expected a sub-config named {config_name!r}, got {names}; pass one of these as config_name")


def probe_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    probe: Probe | None = None,
    knockout: Knockout | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' SDPA does; let the probe look on if one is handed in, and forbid what a knock-out says.

    query [B, H, Q, D], key and value [B, H or fewer, K, D] → output [B, Q, H, D], and no map.
    """
    if knockout is not None:
        causal = kwargs.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        attention_mask = knockout.mask(module, query, key, attention_mask, causal)
    if probe is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return probe.attend(module, query, key, value, attention_mask, **kwargs), None


class Probe:
    """Collect attention masses from every layer of the forward passes it is handed to.

        outputs = model.language_model(inputs_embeds=..., probe=probe)

    The keyword travels through transformers' **kwargs to the attention function; there is no global
    state. One probe serves one sequence batch: a single pass, or a prefill and its cached steps.

    - `groups` int64 [B, K]: index into `aia.intensity.GROUPS` of each key position known so far,
      PAD_GROUP for padding. Keys of a static cache beyond these count as nothing (they are masked).
    - `rows`: "all" = every query row, differentiable, memory O(Q). "last" = the last row of each pass,
      for decoding: a prefill gives its last row, a cached step its single row. A slice = those rows of
      each pass, differentiable, memory O(rows). "all", and passes of several tokens under autograd, have
      the precision of the attention kernel (about 3 digits in bfloat16). Else "last" and slices take their
      scores in float32 and memory O(rows · K); so do they with `cross`.
    - `count`: how many groups there are, if others than `aia.intensity.GROUPS` are meant; masses have as many columns.
    - `cross` int64 [X] or [B, X]: key positions, known already, whose head-averaged attention is wanted
      too; not with rows="all". With `grown`, that of every key named by `extend()` as well.

    Masses are float32 (float64 for a float64 model). Over the groups they sum to 1 for every row that
    sees an unpadded key, and are 0 for a row that sees none. With attention dropout in training,
    rows="all" gives the masses of the dropped map, as eager attention's output does (they sum to 1 only
    in expectation); "last" and slices give those of the map before dropout. The model's output is that of
    SDPA up to rounding; bit for bit for "last" and slices, but in float32 steps of a single query.
    Method: method.md section 6; paper arXiv 2511.22663.
    """

    def __init__(
        self,
        groups: torch.LongTensor,
        rows: str | slice = "all",
        cross: torch.LongTensor | None = None,
        grown: bool = False,
        count: int = len(GROUPS),
    ) -> None:
        """Raises: ValueError for a wrong shape, an unknown group, rows, or a cross position not yet known."""
        if not isinstance(rows, slice) and rows not in ("all", "last"):
            raise ValueError(f'expected rows to be "all", "last" or a slice, got {rows!r}')
        if cross is not None and rows == "all":
            raise ValueError('cross attention needs rows="last" or a slice: rows="all" never makes the map it is in')
        if grown and cross is None:
            raise ValueError("attention on grown keys needs cross positions as well; they may be none")
        self._count = count
        self._groups = [_check_groups(groups, count).cpu()]  # where looking at them costs a GPU no wait
        self._known = self._begun = groups.shape[1]  # keys with a group, now and at first
        self._rows = slice(-1, None) if rows == "last" else rows
        self._cross = None if cross is None else _check_cross(cross, groups)
        self._grown = grown
        self._key_length = 0  # of the cache in the first pass
        self._layers: set[int] = set()  # layers seen in the current pass
        self._pass: dict = {}  # what the layers of one pass share
        self._waiting: list[dict[int, torch.Tensor | Late]] = []  # per pass, layer → weights [B, H, 1, K], or late
        self._late_keys: dict[int, torch.Tensor] = {}  # layer → [B, H or fewer, K, D], as of the last pass
        self._waiting_count = 0
        self._masses: dict[int, list[torch.Tensor]] = {}  # layer → [B, H, Q, G] of each pass
        self._crosses: dict[int, list[torch.Tensor]] = {}  # layer → [B, Q, X + keys grown by then] of each pass
        self._differentiable: set[int] = set()  # layers whose recorded masses carry a graph

    @property
    def rows(self) -> str | slice:
        """The query rows recorded of each pass: "all" or a slice ("last" is slice(-1, None))."""
        return self._rows

    def extend(self, groups: torch.LongTensor) -> None:
        """Name the groups [B, n] of keys about to be appended to the cache; call before that step."""
        if groups.shape[0] != self._groups[0].shape[0]:
            raise ValueError(f"expected groups of {self._groups[0].shape[0]} rows, got {list(groups.shape)}")
        self._groups.append(_check_groups(groups, self._count).cpu())
        self._known += groups.shape[1]

    def mass(self) -> torch.Tensor:
        """Return the masses of all recorded rows, layers in order: [B, L, H, Q, G] in 0…1."""
        self._sum_waiting()
        return torch.stack([self.layer_mass(layer) for layer in self._recorded_layers()], 1)

    def layer_mass(self, layer: int) -> torch.Tensor:
        """Return one layer's masses [B, H, Q, G]; no copy if there was a single pass."""
        self._sum_waiting()
        if layer not in self._masses:
            raise ValueError(f"expected one of the recorded layers {self._recorded_layers()}, got {layer}")
        chunks = self._masses[layer]
        if len(chunks) > 1:
            chunks[:] = [_join(chunks, 2)]  # the pieces of a long drawing are not held beside their sum
        return chunks[0]

    def cross_attention(self) -> torch.Tensor:
        """Return the head-averaged attention of each recorded row on the `cross` keys: [B, L, Q, X] in 0…1."""
        if self._cross is None:
            raise ValueError("this probe records no cross attention: pass cross= when making it")
        self._sum_waiting()
        count = self._cross.shape[1]
        parts = ([chunk[..., :count] for chunk in self._crosses[layer]] for layer in self._recorded_layers())
        return torch.stack([_join(chunks, 1) for chunks in parts], 1)

    def grown_attention(self) -> torch.Tensor:
        """Return the head-averaged attention of each recorded row on the E keys named by `extend()`.

        [B, L, Q, E] in 0…1; 0 where a key was not there yet.
        """
        if not self._grown:
            raise ValueError("this probe records no attention on grown keys: pass grown=True when making it")
        self._sum_waiting()
        first, keys = self._cross.shape[1], self._known - self._begun

        def padded(chunk: torch.Tensor) -> torch.Tensor:
            return functional.pad(chunk[..., first:], (0, keys - (chunk.shape[-1] - first)))

        parts = ([padded(chunk) for chunk in self._crosses[layer]] for layer in self._recorded_layers())
        return torch.stack([_join(chunks, 1) for chunks in parts], 1)

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs,
    ) -> torch.Tensor:
        """Attend in one layer and record its masses: → output [B, Q, H, D]. Called by `probe_attention`."""
        # Gradient checkpointing runs a layer again inside the backward pass. The masses recorded the
        # first time carry the graph, so the second run makes the same tensors and records nothing.
        replay = torch._C._current_graph_task_id() != -1
        if not replay:
            self._begin_layer(module.layer_idx, query, key)
        if self._rows == "all":
            output, mass = self._attend_with_columns(module, query, key, value, attention_mask, **kwargs)
            self._record(module.layer_idx, mass, None, replay)
            return output
        if torch.is_grad_enabled() and query.shape[2] > 1 and self._cross is None:
            mass = self._attend_to_columns(module, query, key, attention_mask, **kwargs)
            self._record(module.layer_idx, mass, None, replay)
            return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)[0]
        if self._can_wait(query, key):
            self._wait(module, query, key, attention_mask, **kwargs)
            return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)[0]
        weights = self._row_weights(module, query, key, attention_mask, **kwargs)
        if torch.is_grad_enabled() or weights.shape[2] > 1:
            mass, cross = self._sum_weights(weights[:, None])
            self._record(module.layer_idx, mass[:, 0], cross[:, 0], replay)
        else:
            self._waiting[-1][module.layer_idx] = weights
            self._waiting_count += weights.numel()
        if self._pass["alone"] and not kwargs.get("dropout"):
            return self._attend_with_weights(weights, value)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)[0]

    def _begin_layer(self, layer: int, query: torch.Tensor, key: torch.Tensor) -> None:
        if self._layers and layer not in self._layers:
            self._layers.add(layer)
            return
        self._layers = {layer}
        self._pass = {}
        self._check_keys(query, key)
        if self._waiting_count >= _WAITING_WEIGHTS or (self._late_keys and len(self._waiting) >= _WAITING_STEPS):
            self._sum_waiting()
        self._waiting.append({})

    def _check_keys(self, query: torch.Tensor, key: torch.Tensor) -> None:
        batch, queries, keys = query.shape[0], query.shape[2], key.shape[2]
        if batch != self._groups[0].shape[0]:
            raise ValueError(f"expected a batch of {self._groups[0].shape[0]}, as in the probe's groups, got {batch}")
        first, self._key_length = not self._key_length, self._key_length or keys
        # A static cache is longer than the keys known, but not in a pass without cache, and it never grows.
        static = keys > queries if first else keys == self._key_length
        if keys < self._known or (keys > self._known and not static):
            raise ValueError(
                f"expected groups for {keys} keys, got {self._known}; give the probe every key of a pass, and call "
                "extend() once before each cached step"
            )

    def _attend_with_columns(
        self, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """→ output [B, Q, H, D], mass [B, H, Q, G]."""
        for learned in (mask, kwargs.get("position_bias")):
            if learned is not None and learned.requires_grad:
                raise ValueError("gradients of an attention mask or position bias are not supported; detach it")
        if not self._pass:
            self._pass = {"columns": self._columns(key, value.dtype), "splits": self._splits(key)}
        if kwargs.get("scaling") is None:
            kwargs["scaling"] = query.shape[-1] ** -0.5  # that of the width before columns are added
        splits = self._pass["splits"]
        if splits and can_attend_in_blocks(query, key, value) and _is_plainly_causal(module, mask, **kwargs):
            output, mass = attend_in_blocks(query, key, value, splits, kwargs["scaling"])
            return output, mass[..., None]

        def attend(query, key, value):
            return sdpa_attention_forward(module, query, key, value, mask, **kwargs)[0]

        output, mass = attend_with_columns(attend, query, key, value, self._pass["columns"])
        return output, mass.transpose(1, 2).to(result_dtype(mass.dtype)).contiguous()

    def _attend_to_columns(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        mask: torch.Tensor | None,
        scaling: float | None = None,
        is_causal: bool | None = None,
        position_bias: torch.Tensor | None = None,
        **_,
    ) -> torch.Tensor:
        """Masses [B, H, rows, G] of the wanted rows; what the backward pass needs besides them, SDPA keeps anyway."""
        _refuse_position_bias(position_bias)
        depth = key.shape[-1]
        if not self._pass or self._pass["mask"] is not mask:  # once per pass, unless layers have masks of their own
            causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
            columns = self._columns(key, query.dtype)
            self._pass = {
                "mask": mask,
                "bias": row_bias(mask, causal, query, key.shape[2], self._rows, query.dtype),
                "columns": functional.pad(columns, (0, max(0, depth - self._count))),
            }
        columns, query = self._pass["columns"], query[:, :, self._rows]
        if columns.shape[-1] > depth:  # fused kernels want one width
            query, key = (functional.pad(tensor, (0, columns.shape[-1] - depth)) for tensor in (query, key))
        columns = columns.expand(-1, key.shape[1], -1, -1)
        scaling = depth**-0.5 if scaling is None else scaling
        mass, _ = sdpa_attention_forward(
            module, query, key, columns, self._pass["bias"], scaling=scaling, is_causal=False
        )
        mass = mass[..., : self._count].transpose(1, 2)
        return mass.to(result_dtype(mass.dtype)).contiguous()

    def _row_weights(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        mask: torch.Tensor | None,
        scaling: float | None = None,
        is_causal: bool | None = None,
        position_bias: torch.Tensor | None = None,
        **_,
    ) -> torch.Tensor:
        """Attention of the wanted rows: [B, H, rows, K], in float32 also for half precision."""
        _refuse_position_bias(position_bias)
        queries, depth = query.shape[2:]
        shared = self._pass
        if not shared or shared["mask"] is not mask:  # once per pass, unless layers have masks of their own
            causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
            shared = self._pass = _share_rows(mask, causal, query, key, self._rows)
        dtype, bias, beta, blind = shared["dtype"], shared["bias"], shared["beta"], shared["blind"]
        if queries > 1 or self._rows != slice(-1, None):
            query = query[:, :, self._rows]
        if shared["cast"]:
            query, key = query.to(dtype), key.to(dtype)
        flat_query = query.reshape(shared["flat_query"])  # [B·KV heads, H / KV heads · rows, D]
        flat_key = key.reshape(shared["flat_key"]).transpose(1, 2)  # [B·KV heads, D, K]
        scaling = depth**-0.5 if scaling is None else scaling
        with shared["context"]:
            scores = torch.baddbmm(bias, flat_query, flat_key, beta=beta, alpha=scaling)
        if blind is None:
            return scores.softmax(-1).view(shared["shape"])
        return scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0).view(shared["shape"])

    def _can_wait(self, query: torch.Tensor, key: torch.Tensor) -> bool:
        """Whether a layer's row is that of a decoding step in half precision whose keys will all still be there later.

        Full precision does not wait: its weights give the step's output too, for the price of one.
        """
        decodes = query.shape[2] == 1 and self._rows == slice(-1, None) and not torch.is_grad_enabled()
        half = query.dtype != result_dtype(query.dtype)
        return decodes and half and key.shape[2] >= self._known  # a sliding window has fewer

    def _wait(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        mask: torch.Tensor | None,
        scaling: float | None = None,
        position_bias: torch.Tensor | None = None,
        **_,
    ) -> None:
        _refuse_position_bias(position_bias)
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        self._waiting[-1][module.layer_idx] = Late(query, mask, scaling, self._known)
        self._late_keys[module.layer_idx] = key

    def _attend_with_weights(self, weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """One decoding step's output [B, 1, H, D] from its weights [B, H, 1, K]: cheaper than attending twice."""
        batch, heads, _, keys = weights.shape
        flat = (batch * value.shape[1], -1, keys)
        output = torch.bmm(weights.view(flat), value.reshape(flat[0], keys, -1))
        return output.view(batch, 1, heads, -1)

    def _sum_weights(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """weights [B, L, H, Q, K] → mass [B, L, H, Q, G], cross [B, L, Q, X] (empty if none is wanted; X may grow)."""
        batch, layers, heads, queries, keys = weights.shape
        known = min(keys, self._known)
        with no_autocast(weights.device.type):
            indicator = self._indicator(weights.dtype, weights.device)[:, :known]
            mass = weights[..., :known].reshape(batch, -1, known) @ indicator
        cross = weights.new_empty(batch, layers, queries, 0)
        if self._cross is not None:
            positions = self._cross.to(weights.device)[:, None, None].expand(batch, layers, queries, -1)
            mean = weights.mean(2)
            cross = mean.gather(-1, positions)
            if self._grown:
                cross = torch.cat([cross, mean[..., self._begun : known]], -1)
        return mass.view(batch, layers, heads, queries, -1), cross

    def _sum_waiting(self) -> None:
        waiting = [step for step in self._waiting if step]
        keys, self._waiting, self._waiting_count, self._late_keys = self._late_keys, [], 0, {}
        if not waiting:
            return
        layers = list(waiting[0])
        for some in [[layer] for layer in layers] if keys else [layers]:
            rows = {layer: compute_late([step[layer] for step in waiting], keys.get(layer)) for layer in some}
            mass, cross = self._sum_weights(stack_rows(rows))
            for index, layer in enumerate(some):
                self._masses.setdefault(layer, []).append(mass[:, index])
                self._crosses.setdefault(layer, []).append(cross[:, index])

    def _record(self, layer: int, mass: torch.Tensor, cross: torch.Tensor | None, replay: bool) -> None:
        if replay:
            if mass.requires_grad and layer not in self._differentiable:
                raise RuntimeError(
                    "masses recorded under reentrant gradient checkpointing carry no gradient; use use_reentrant=False"
                )
            return
        if self._rows != "all":
            self._sum_waiting()  # rows stay in order
        if mass.requires_grad:
            self._differentiable.add(layer)
        self._masses.setdefault(layer, []).append(mass)
        self._crosses.setdefault(layer, []).append(cross)

    def _indicator(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """1 where a key is in a group: [B, K known, G]; a padded key's row is all 0."""
        self._groups = [torch.cat(self._groups, 1)]
        columns = torch.arange(self._count, device=device)
        return (self._groups[0].to(device)[..., None] == columns).to(dtype)

    def _columns(self, key: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The indicator for all heads, 0 for keys beyond those known: [B, 1, K, G]."""
        indicator = self._indicator(dtype, key.device)
        return functional.pad(indicator, (0, 0, 0, key.shape[2] - indicator.shape[1]))[:, None]

    def _splits(self, key: torch.Tensor) -> list[int] | None:
        """How many keys of each sample are in the only group, if these are its first ones and worth a block."""
        if self._count != 1 or not key.shape[2] == self._known >= _SHORTEST_IN_BLOCKS:
            return None
        return find_splits(torch.cat(self._groups, 1) == 0)

    def _recorded_layers(self) -> list[int]:
        if not self._masses:
            raise ValueError("no pass was recorded: hand the probe to a forward pass (probe=) of an installed model")
        return sorted(self._masses)


def _check_groups(groups: torch.Tensor, count: int) -> torch.Tensor:
    if groups.ndim != 2 or groups.is_floating_point():
        raise ValueError(f"expected integer groups of shape [B, K], got {groups.dtype} {list(groups.shape)}")
    if groups.numel() and not PAD_GROUP <= int(groups.min()) <= int(groups.max()) < count:
        found = f"{int(groups.min())} to {int(groups.max())}"
        raise ValueError(f"expected groups from {PAD_GROUP} to {count - 1}, got {found}")
    return groups


def _check_cross(cross: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """→ [B or 1, X]."""
    positions = cross[None] if cross.ndim == 1 else cross
    if positions.ndim != 2 or positions.shape[0] not in (1, groups.shape[0]):
        raise ValueError(f"expected cross of shape [X] or [{groups.shape[0]}, X], got {list(cross.shape)}")
    if positions.numel() and not 0 <= int(positions.min()) <= int(positions.max()) < groups.shape[1]:
        raise ValueError(f"expected cross positions from 0 to {groups.shape[1] - 1}, got {positions.tolist()}")
    return positions


def _refuse_position_bias(position_bias: torch.Tensor | None) -> None:
    if position_bias is not None:
        raise ValueError('position_bias is supported with rows="all" only')


def _is_plainly_causal(module: torch.nn.Module, mask: torch.Tensor | None, **kwargs) -> bool:
    """Whether a layer attends to everything before a row and to nothing else, and drops nothing of it."""
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    return causal and mask is None and not kwargs.get("dropout") and kwargs.get("position_bias") is None


def _share_rows(mask: torch.Tensor | None, causal: bool, query: torch.Tensor, key: torch.Tensor, rows: slice) -> dict:
    """What the layers of one pass share, so that a layer of a decoding step costs as few calls as can be."""
    batch, heads, queries, depth = query.shape
    key_heads, keys = key.shape[1:3]
    count = len(range(queries)[rows])
    dtype = result_dtype(query.dtype)
    bias = row_bias(mask, causal, query, keys, rows, dtype)
    beta, blind = 1, None
    if bias is None:
        bias, beta = query.new_zeros((), dtype=dtype), 0  # ignored
    else:  # [B or 1, H or 1, rows, K] → [B·KV heads, H / KV heads · rows, K]
        # A row that sees no key has mass 0, as in SDPA, and a gradient of 0 instead of NaN.
        bias = bias.expand(batch, heads, -1, -1).reshape(batch * key_heads, -1, keys)
        blind = bias.amax(-1, keepdim=True) == -torch.inf
        blind = blind if blind.any() else None
    return {
        "mask": mask,
        "bias": bias,
        "beta": beta,
        "blind": blind,
        "dtype": dtype,
        "cast": not query.dtype == key.dtype == dtype,
        "flat_query": (batch * key_heads, heads // key_heads * count, depth),
        "flat_key": (batch * key_heads, keys, depth),
        "shape": (batch, heads, count, keys),
        "context": no_autocast(query.device.type),
        # Half precision keeps SDPA's own output: its rounding differs from ours by more than float32's.
        "alone": queries == count == 1 and query.dtype == key.dtype == dtype,
    }


def _join(chunks: list[torch.Tensor], dim: int) -> torch.Tensor:
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim)
