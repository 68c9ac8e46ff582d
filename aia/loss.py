"""The AIA loss (paper Eq. 2-3) on the probe's masses, and its sum with next-token prediction (NTP).

Owns per-sample intensities with gradients, Huber and its ablation, the loss's divisor, and the task weights λ.
Does not know models, data, or which targets are right: targets come in as arrays (`aia.targets`), rows as a mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from aia.intensity import GROUPS, KEY_GROUPS, PAD_GROUP, Definition, Group, Task, group_index
from aia.probe import Probe

FORMS = ("huber", "squared")
DIVISORS = ("batch", "weighted")

# Of all query rows, the largest share for which a slice of them costs less than "all" (see `probe_rows`).
_SLICE_SHARE = 0.0625


@dataclass(frozen=True)
class LossWeights:
    """λ of each task: what one unit of AIA loss costs in units of NTP loss. Finite, 0 or more."""

    generation: float
    understanding: float

    def __post_init__(self) -> None:
        for task in Task:
            weight = self.of(task)
            if not (isinstance(weight, int | float) and 0 <= weight < math.inf):
                raise ValueError(f"expected a finite {task} weight of 0 or more, got {weight!r}; 0 turns AIA off")

    def of(self, task: Task) -> float:
        """λ of one task."""
        return self.generation if task == Task.GENERATION else self.understanding


LOSS_WEIGHTS: dict[str, LossWeights] = {
    "paper": LossWeights(40.0, 40.0),  # section 3.2
    "released-code": LossWeights(5.0, 10.0),  # models/modeling_vlm.py of github.com/zhengdian1/AIA
}


@dataclass(frozen=True)
class LossParts:
    """One step's loss: `total` to go backward from, and what it is made of."""

    task: Task
    total: torch.Tensor
    ntp: torch.Tensor
    aia: torch.Tensor | None  # before λ

    def as_floats(self) -> dict[str, float]:
        """Plain numbers for a log: loss, ntp, and aia_<task> where it was measured."""
        parts = {"loss": self.total, "ntp": self.ntp, f"aia_{self.task}": self.aia}
        return {name: float(part.detach()) for name, part in parts.items() if part is not None}


def query_rows(groups: torch.Tensor, task: Task) -> torch.Tensor:
    """Mark the rows whose intensity the released code trains: groups [B, K] → bool [B, K].

    For teacher-forced sequences in which answer tokens of every turn, or the drawn image's tokens, have the
    group GENERATED. Understanding: all of these rows. Generation: all but each sample's last, image rows
    0…n−2; so the whole image has to be in the sequence, its last token included.

    # Differs from paper: Eq. 1 counts all n image rows; the released code stops one short, as decoding does,
    # which never feeds the last token back.
    """
    rows = groups == group_index(Group.GENERATED)
    if task == Task.UNDERSTANDING:
        return rows
    later = rows.flip(1).cumsum(1).flip(1)  # generated tokens from here on, this one included
    return rows & (later > 1)


def layer_intensity(mass: torch.Tensor, rows: torch.Tensor, key_groups: Iterable[Group]) -> torch.Tensor:
    """Intensity of each sample in one layer (paper Eq. 1), differentiable: → [B] in 0…1, in mass's dtype.

    mass [B, H, Q, G] from `Probe.layer_mass`; rows bool [B, Q], True where a row counts; `key_groups` the keys
    of the other modality (`aia.intensity.KEY_GROUPS`). Mean over the sample's own rows and all heads. A sample
    without rows is NaN, as in `aia.intensity`, and gives no gradient.

    Raises: ValueError for shapes that do not fit together.
    """
    if mass.ndim != 4 or mass.shape[-1] != len(GROUPS):
        raise ValueError(f"expected masses of shape [B, H, Q, {len(GROUPS)}], got {list(mass.shape)}")
    wanted = [mass.shape[0], mass.shape[2]]
    if list(rows.shape) != wanted or rows.dtype != torch.bool:
        raise ValueError(f"expected rows as a bool mask of shape {wanted}, got {rows.dtype} {list(rows.shape)}")
    columns = sorted(group_index(group) for group in key_groups)
    return _mean_over_rows(_sum_by_row(mass, columns)[:, None], rows)[:, 0]


def _sum_by_row(mass: torch.Tensor, columns: list[int]) -> torch.Tensor:
    """Mass [B, H, Q, columns or more] → its mean over heads, summed over these columns: [B, Q]."""
    # Heads first: the sums commute, and from here on tensors are H times smaller. No matrix product, because autocast
    # would take it in half precision; no list as an index, because a GPU would be waited for to copy it there.
    means = mass.mean(1)
    return sum((means[..., column] for column in columns), torch.zeros_like(means[..., 0]))


def _mean_over_rows(by_row: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """[B, L, Q] → mean over each sample's rows that count, bool [B, Q]: [B, L], NaN for a sample without any."""
    count = rows.sum(1)[:, None]
    mean = by_row.masked_fill(~rows[:, None], 0).sum(2) / count.clamp(min=1)
    return mean.masked_fill(count == 0, math.nan)


def probe_rows(rows: torch.Tensor) -> str | slice:
    """The cheapest `Probe(rows=...)` that records every row that counts: rows bool [B, Q], any sample's → itself.

    The slice from the first to the last counting row of the batch while it is short, else "all". Rows in between
    that do not count are recorded too; `probe_intensities` leaves them out.
    """
    counting = rows.any(0).nonzero().flatten().tolist() or [0]
    first, stop = counting[0], counting[-1] + 1
    return slice(first, stop) if stop - first <= _SLICE_SHARE * rows.shape[1] else "all"


def probe_intensities(probe: Probe, layers: int, rows: torch.Tensor, key_groups: Iterable[Group]) -> torch.Tensor:
    """Intensities of every sample and layer of a recorded pass → [B, L]; see `layer_intensity`.

    rows bool [B, Q] marks rows of the whole pass, whatever part of them the probe recorded (`Probe.rows`).

    Raises: ValueError if a row counts that the probe did not record, or for what `layer_intensity` names.
    """
    key_groups, rows = frozenset(key_groups), _recorded(probe, rows)
    return torch.stack([layer_intensity(probe.layer_mass(layer), rows, key_groups) for layer in range(layers)], 1)


def _recorded(probe: Probe, rows: torch.Tensor) -> torch.Tensor:
    """Of a whole pass's rows those that the probe recorded. Raises: ValueError if one that counts is not among them."""
    if probe.rows == "all":
        return rows
    recorded = rows[:, probe.rows]
    if recorded.sum() != rows.sum():
        raise ValueError(f"expected every counting row to be recorded, but the probe has rows={probe.rows} only")
    return recorded


class SequenceProbe(Probe):
    """A probe for one teacher-forced pass over sequences of one task, with no more columns than are told apart.

    Groups that all of its definitions count alike share a column, and those that none of them counts have none, so
    masses need not sum to 1; in training, with one definition, one column is added to the values instead of ten.
    """

    def __init__(self, groups: torch.Tensor, task: Task, definitions: Sequence[Definition] = tuple(Definition)) -> None:
        """groups [B, K] as `query_rows` takes them."""
        counted = [KEY_GROUPS[definition][task] for definition in definitions]
        by_group = [tuple(group in keys for keys in counted) for group in GROUPS]
        told_apart = sorted({by for by in by_group if any(by)})
        columns = [told_apart.index(by) if any(by) else PAD_GROUP for by in by_group]
        self._columns_of = {
            definition: [column for column, by in enumerate(told_apart) if by[place]]
            for place, definition in enumerate(definitions)
        }
        self._counting = query_rows(groups, task)
        # A padded key's group is −1, the last of the table.
        merged = groups.new_tensor([*columns, PAD_GROUP])[groups]
        super().__init__(merged, rows=probe_rows(self._counting), count=len(told_apart))

    def intensities(self, layers: int, definition: Definition) -> torch.Tensor:
        """Intensities [B, L] of the pass by one of its definitions, differentiable; see `layer_intensity`."""
        rows, columns = _recorded(self, self._counting), self._columns_of[definition]
        by_row = torch.stack([_sum_by_row(self.layer_mass(layer), columns) for layer in range(layers)], 1)
        return _mean_over_rows(by_row, rows)


def huber(gap: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """½x² where |x| <= δ, else δ|x| − ½δ² (paper Eq. 2), elementwise, δ broadcast against the gap.

    The same as `torch.nn.functional.huber_loss`, which takes one δ only; not `smooth_l1_loss`, which divides by δ.
    """
    size = gap.abs()
    return torch.where(size <= delta, 0.5 * gap.square(), delta * size - 0.5 * delta.square())


def aia_loss(
    intensities: torch.Tensor,
    targets: torch.Tensor,
    deltas: torch.Tensor,
    weights: torch.Tensor | None = None,
    form: str = "huber",
    divide_by: str = "batch",
) -> torch.Tensor:
    """Mean distance of intensities to their targets (paper Eq. 2): a scalar, 0 or more.

    intensities [B, L]; targets T and deltas δ [L], arrays or tensors (`StageTargets.as_arrays`); weights [B] or
    None for 1. The mean is over layers, then over samples. A sample of weight 0 (its prompt was dropped for
    classifier-free guidance, or it was cut off at the context's end) contributes 0 and no gradient. So does one
    whose intensities are NaN, as `layer_intensity` says of a sample without rows; that a model has diverged must
    be read off the NTP loss, which is then NaN as well.

    - `divide_by="batch"`: the divisor is B, contributing or not, as in the released code; "weighted": the sum of
      the weights of samples with rows (0 if there are none), so that dropped samples do not dilute the others.
    - `form="squared"`: the ablation ½x² everywhere, which is Huber with δ = ∞, so λ keeps its meaning.

    # Differs from paper: Eq. 2 says nothing of dropped samples, nor how the ablation scales its square.

    Raises: ValueError for shapes that do not fit together or an unknown option.
    """
    _check_options(intensities, form, divide_by)
    target, delta = (_per_layer(name, v, intensities) for name, v in (("targets", targets), ("deltas", deltas)))
    absent = intensities.isnan()
    gap = intensities.masked_fill(absent, 0) - target
    distance = huber(gap, delta) if form == "huber" else 0.5 * gap.square()
    per_sample = distance.masked_fill(absent, 0).mean(1)  # [B]
    weight = _sample_weights(weights, per_sample)
    total = (per_sample * weight).sum()
    if divide_by == "batch":
        return total / len(per_sample)
    counted = (weight * ~absent.all(1)).sum()
    return total / torch.where(counted > 0, counted, 1)


def combine_losses(ntp: torch.Tensor, aia: torch.Tensor | None, task: Task, weights: LossWeights) -> LossParts:
    """L = L_NTP + λ·L_AIA with the task's λ (paper Eq. 3).

    With λ = 0, or `aia` None (the control run), the total is the NTP loss itself; an AIA loss is then only logged.
    """
    weight = weights.of(task)
    total = ntp if aia is None or weight == 0 else ntp + weight * aia
    return LossParts(task, total, ntp, aia)


def _check_options(intensities: torch.Tensor, form: str, divide_by: str) -> None:
    for name, value, known in (("form", form, FORMS), ("divide_by", divide_by, DIVISORS)):
        if value not in known:
            raise ValueError(f"expected {name} to be one of {', '.join(known)}, got {value!r}")
    if intensities.ndim != 2 or not intensities.numel():
        raise ValueError(f"expected intensities of shape [B, L], not empty, got {list(intensities.shape)}")


def _per_layer(name: str, values: torch.Tensor, intensities: torch.Tensor) -> torch.Tensor:
    values = torch.as_tensor(values, dtype=intensities.dtype, device=intensities.device)
    layers = intensities.shape[1]
    if list(values.shape) != [layers]:
        raise ValueError(f"expected {name} for {layers} layers, got shape {list(values.shape)}; stretch the targets")
    return values


def _sample_weights(weights: torch.Tensor | None, per_sample: torch.Tensor) -> torch.Tensor:
    if weights is None:
        return torch.ones_like(per_sample)
    weights = torch.as_tensor(weights, dtype=per_sample.dtype, device=per_sample.device)
    if weights.shape != per_sample.shape:
        raise ValueError(f"expected one weight per sample, {len(per_sample)}, got shape {list(weights.shape)}")
    return weights
