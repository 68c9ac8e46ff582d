"""The AIA loss against hand-computed cases, torch's own Huber, and full attention maps of the same weights."""

import copy
import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from aia.intensity import GROUPS, KEY_GROUPS, PAD_GROUP, Definition, Group, Task, group_index
from aia.loss import (
    LOSS_WEIGHTS,
    LossWeights,
    SequenceProbe,
    aia_loss,
    combine_losses,
    huber,
    layer_intensity,
    probe_intensities,
    probe_rows,
    query_rows,
)
from aia.probe import Probe, install
from aia.targets import load_targets

LAYERS, HEADS, WIDTH = 3, 4, 32

# One letter per position: pad _, bos, template, prompt, begin of image o, image i and its last I, end, generated.
LETTERS = dict(zip("_btpoiIeg", [PAD_GROUP, *range(len(GROUPS))], strict=True))
SEQUENCES = {
    Task.GENERATION: ["btpppptogggggg", "__btpptogggggg", "___bpttogggggg"],
    # The second has two turns, the third a short answer.
    Task.UNDERSTANDING: ["btoiiiiIepppttgggg", "_btoiiiIeptggtptgg", "__btoiiiiIepppttgg"],
}
# The same keys as positions, written without groups: [sample][positions], by hand from the sequences above.
KEYS_BY_HAND = {
    (Definition.FIGURE, Task.GENERATION): [range(0, 8), range(2, 8), range(3, 8)],
    (Definition.TRAINING, Task.GENERATION): [range(0, 7), range(1, 7), range(2, 7)],  # with the pad column
    (Definition.STRICT, Task.GENERATION): [range(2, 6), range(4, 6), range(4, 5)],
    (Definition.FIGURE, Task.UNDERSTANDING): [range(2, 8), range(3, 8), range(4, 10)],
    (Definition.TRAINING, Task.UNDERSTANDING): [range(2, 7), range(3, 7), range(4, 9)],
    (Definition.STRICT, Task.UNDERSTANDING): [range(3, 8), range(4, 8), range(5, 10)],
}
ROWS_BY_HAND = {
    Task.GENERATION: [range(8, 13)] * 3,
    Task.UNDERSTANDING: [range(14, 18), [11, 12, 16, 17], range(16, 18)],
}
EVERY = [(d, t) for d in Definition for t in Task]


def groups_of(sequences: list[str]) -> torch.Tensor:
    return torch.tensor([[LETTERS[letter] for letter in sequence] for sequence in sequences])


def make_llama() -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=2, vocab_size=16, max_position_embeddings=64, initializer_range=0.4,
    )  # fmt: skip
    return LlamaModel(config).eval()


def random_embeds(groups: torch.Tensor) -> torch.Tensor:
    return torch.randn(*groups.shape, WIDTH, generator=torch.Generator().manual_seed(2))


def usual_loss(model, embeds, mask, definition, task, targets, kept) -> torch.Tensor:
    """As one would write it on full maps, one sample and one layer at a time, with torch's Huber."""
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    maps = twin(inputs_embeds=embeds, attention_mask=mask, output_attentions=True).attentions
    stages = targets.stages(task)
    loss = 0
    for layer, attention in enumerate(maps):
        stage = next(s for s in stages if s.first <= layer <= s.last)
        criterion = torch.nn.HuberLoss(delta=stage.delta)
        for sample, heads in enumerate(attention):
            rows, keys = ROWS_BY_HAND[task][sample], KEYS_BY_HAND[definition, task][sample]
            found = heads[:, list(rows)][:, :, list(keys)].sum(-1).mean(1).mean(0)
            loss = loss + kept[sample] * criterion(found, torch.tensor(stage.target))
    return loss / (len(maps) * len(embeds)), twin


@pytest.mark.parametrize("way", ["all", "slice", "sequence"])
@pytest.mark.parametrize("kept", [(1, 1, 1), (1, 0, 1)])
@pytest.mark.parametrize("definition, task", EVERY)
def test_loss_and_gradients_equal_those_of_full_maps(definition, task, kept, way):
    model, targets = make_llama(), load_targets("paper-janus-pro", LAYERS)
    install(model)
    groups = groups_of(SEQUENCES[task])
    mask, embeds = (groups != PAD_GROUP).long(), random_embeds(groups)
    ours, theirs = embeds.clone().requires_grad_(), embeds.clone().requires_grad_()

    if way == "sequence":
        probe = SequenceProbe(groups, task, (definition,))
    else:
        probe = Probe(groups, rows=slice(8, 18) if way == "slice" else "all")
    model(inputs_embeds=ours, attention_mask=mask, probe=probe)
    found = intensities_of(probe, groups, task, definition)
    loss = aia_loss(found, *targets.as_arrays(task), weights=torch.tensor(kept))
    loss.backward()
    expected, twin = usual_loss(model, theirs, mask, definition, task, targets, kept)
    expected.backward()

    assert found.shape == (3, LAYERS) and loss.item() > 1e-3
    assert abs(loss.item() - expected.item()) < 1e-5
    pairs = [
        (ours.grad, theirs.grad),
        *((p.grad, q.grad) for p, q in zip(model.parameters(), twin.parameters(), strict=True)),
    ]
    compared = [(a, b) for a, b in pairs if b is not None and b.abs().max() > 1e-4]
    assert len(compared) > 10
    for actual, wanted in compared:
        torch.testing.assert_close(actual, wanted, atol=1e-6, rtol=0)
    for sample, weight in enumerate(kept):
        assert (ours.grad[sample].abs().max() > 1e-5) == bool(weight)


def intensities_of(probe, groups, task, definition):
    """Intensities [B, L], by whichever of the two probes."""
    if isinstance(probe, SequenceProbe):
        return probe.intensities(LAYERS, definition)
    return probe_intensities(probe, LAYERS, query_rows(groups, task), KEY_GROUPS[definition][task])


def test_intensity_is_the_mean_over_heads_and_the_samples_own_rows():
    prompt = torch.tensor([  # [B=2, H=2, Q=3]
        [[0.5, 0.25, 0.75], [0.0, 0.75, 0.25]],
        [[1.0, 0.50, 0.25], [0.5, 0.00, 0.00]],
    ])  # fmt: skip
    mass = torch.zeros(2, 2, 3, len(GROUPS))
    mass[..., group_index(Group.PROMPT)] = prompt
    mass[..., group_index(Group.BOI)] = 0.125  # not asked for, but in the last assertion
    rows = torch.tensor([[False, True, True], [True, False, False]])
    assert layer_intensity(mass, rows, {Group.PROMPT}).tolist() == [0.5, 0.75]
    assert layer_intensity(mass, rows, [Group.PROMPT, Group.BOI]).tolist() == [0.625, 0.875]


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_a_sample_without_rows_has_no_intensity_and_no_gradient():
    mass = torch.full((2, 2, 3, len(GROUPS)), 0.125, requires_grad=True)
    rows = torch.tensor([[True, True, False], [False, False, False]])
    found = layer_intensity(mass, rows, {Group.PROMPT})[:, None]  # [B, 1]
    assert found[0].item() == 0.125 and found[1].isnan().all()
    loss = aia_loss(found, torch.tensor([0.625]), torch.tensor([1.0]))
    assert loss.item() == 0.5 * 0.5**2 / 2  # the empty sample stays in the divisor
    with torch.autograd.detect_anomaly(check_nan=True):  # nor any NaN on the way back
        loss.backward()
    # d loss / d mass = −0.5 / 2 samples / 2 heads / 2 rows, for the two counted rows' prompt column
    expected = torch.zeros_like(mass)
    expected[0, :, :2, group_index(Group.PROMPT)] = -0.0625
    assert torch.equal(mass.grad, expected)


def test_masses_of_uncounted_rows_do_not_matter_even_when_they_are_no_numbers():
    mass = torch.full((1, 1, 2, len(GROUPS)), 0.125)
    mass[:, :, 1] = math.nan
    assert layer_intensity(mass, torch.tensor([[True, False]]), {Group.PROMPT}).tolist() == [0.125]


def test_half_precision_autocast_does_not_touch_intensities_or_loss():
    mass = torch.rand(2, 3, 5, len(GROUPS), generator=torch.Generator().manual_seed(0))
    rows, key_groups = torch.ones(2, 5, dtype=torch.bool), {Group.BOS, Group.PROMPT}

    def both():
        found = layer_intensity(mass, rows, key_groups)[:, None]
        return found, aia_loss(found, torch.tensor([0.4]), torch.tensor([0.1]))

    plain = both()
    with torch.autocast("cpu", torch.bfloat16):
        cast = both()
    for a, b in zip(plain, cast, strict=True):
        assert b.dtype == torch.float32 and torch.equal(a, b)


@pytest.mark.parametrize("delta", [0.05, 0.1, 0.2, 1.0])
def test_huber_is_torchs_huber_and_not_its_scaled_smooth_l1(delta):
    gap = torch.linspace(-1, 1, 81, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros_like(gap)
    ours = huber(gap, torch.tensor(delta, dtype=torch.float64))
    torch.testing.assert_close(ours, torch.nn.functional.huber_loss(gap, zero, reduction="none", delta=delta))
    (slope,) = torch.autograd.grad(ours.sum(), gap)
    torch.testing.assert_close(slope, gap.detach().clamp(-delta, delta))
    scaled = torch.nn.functional.smooth_l1_loss(gap, zero, reduction="none", beta=delta)
    torch.testing.assert_close(ours, scaled * delta)


# Gaps of 0.25 and 0.5 with δ = 0.25: ½·0.0625 = 0.03125, and 0.25·0.5 − ½·0.0625 = 0.09375; the mean is 0.0625.
# The second sample is on target. Squared: ½·0.0625 and ½·0.25, the mean is 0.078125.
TWO = torch.tensor([[0.5, 0.75], [0.25, 0.25]])
TARGET, DELTA = np.float32([0.25, 0.25]), np.float32([0.25, 0.25])


def test_loss_equals_the_one_worked_out_by_hand():
    assert aia_loss(TWO, TARGET, DELTA).item() == 0.0625 / 2
    assert aia_loss(TWO[:1], TARGET, DELTA).item() == 0.0625
    assert aia_loss(TWO, TARGET, np.float32([0.25, 0.5])).item() == (0.03125 + 0.125) / 2 / 2


def test_squared_error_is_huber_without_an_end():
    assert aia_loss(TWO, TARGET, DELTA, form="squared").item() == 0.078125 / 2
    assert aia_loss(TWO, TARGET, DELTA * 100).item() == 0.078125 / 2


@pytest.mark.parametrize(
    "weights, batch, weighted",
    [
        ([1, 1], 0.0625 / 2, 0.0625 / 2),
        ([1, 0], 0.0625 / 2, 0.0625),  # the dropped sample contributes 0 and stays in the released code's divisor
        ([0, 1], 0.0, 0.0),
        ([0, 0], 0.0, 0.0),
        ([0.5, 0], 0.0625 / 4, 0.0625),
    ],
)
def test_dropped_samples_contribute_nothing_and_stay_in_the_divisor_unless_told(weights, batch, weighted):
    found = TWO.clone().requires_grad_()
    assert aia_loss(found, TARGET, DELTA, torch.tensor(weights)).item() == batch
    loss = aia_loss(found, TARGET, DELTA, torch.tensor(weights), divide_by="weighted")
    assert loss.item() == weighted
    loss.backward()
    assert found.grad.isfinite().all() and bool(found.grad[0].any()) == bool(weights[0])


def test_a_sample_without_rows_leaves_the_weighted_divisor():
    found = torch.stack([TWO[0], torch.full((2,), math.nan)])
    assert aia_loss(found, TARGET, DELTA).item() == 0.0625 / 2
    assert aia_loss(found, TARGET, DELTA, divide_by="weighted").item() == 0.0625
    assert aia_loss(found[1:], TARGET, DELTA, divide_by="weighted").item() == 0


def test_gradient_pulls_towards_the_target_and_no_harder_than_delta():
    found = TWO.clone().requires_grad_()
    aia_loss(found, TARGET, np.float32([0.25, 0.125])).backward()
    assert found.grad.tolist() == [[0.25 / 4, 0.125 / 4], [0, 0]]


@pytest.mark.parametrize("task", Task)
def test_rows_are_those_counted_by_hand(task):
    found = query_rows(groups_of(SEQUENCES[task]), task)
    assert [row.nonzero().flatten().tolist() for row in found] == [list(rows) for rows in ROWS_BY_HAND[task]]


def test_a_drawing_ends_one_row_early_wherever_its_padding_is():
    found = query_rows(groups_of(["bpoggg_", "_bpoggg", "bpog___", "bpo____"]), Task.GENERATION)
    assert [row.nonzero().flatten().tolist() for row in found] == [[3, 4], [4, 5], [], []]


def test_a_few_rows_are_recorded_as_a_slice_and_many_as_all():
    rows = torch.zeros(2, 160, dtype=torch.bool)
    assert probe_rows(rows) == slice(0, 1)  # none counts
    rows[0, 70], rows[1, 78:80] = True, True
    assert probe_rows(rows) == slice(70, 80)
    rows[1, 10] = True
    assert probe_rows(rows) == "all"


@pytest.mark.parametrize("answer", [0, 2, 30])
def test_a_sequences_probe_finds_the_intensities_of_all_rows(answer):
    model, task = make_llama(), Task.UNDERSTANDING
    install(model)
    groups = groups_of(["btoiiiIe" + "p" * (30 - answer) + "g" * answer, "btoiiIe" + "p" * 30 + "g"])
    found = []
    for probe in (SequenceProbe(groups, task), Probe(groups, "all")):
        model(inputs_embeds=random_embeds(groups), probe=probe)
        found.append(intensities_of(probe, groups, task, Definition.STRICT))
    assert found[0].isnan().tolist() == [[answer == 0] * LAYERS, [False] * LAYERS]
    torch.testing.assert_close(*found, atol=1e-6, rtol=0, equal_nan=True)


def test_a_sequences_probe_has_a_column_for_what_its_definitions_tell_apart():
    """All three at once in as few columns as they need, one definition in one; each as from every group's own."""
    model, task = make_llama(), Task.UNDERSTANDING
    install(model)
    groups = groups_of(["btoiiiIe" + "p" * 8 + "g" * 8, "_btoiiIe" + "p" * 10 + "g" * 6])
    every, whole = SequenceProbe(groups, task), Probe(groups, "all")
    one = {definition: SequenceProbe(groups, task, (definition,)) for definition in Definition}
    for probe in (every, whole, *one.values()):
        model(inputs_embeds=random_embeds(groups), attention_mask=(groups != PAD_GROUP).long(), probe=probe)
    assert every.mass().shape[-1] < len(GROUPS) and {p.mass().shape[-1] for p in one.values()} == {1}
    for definition in Definition:
        wanted = intensities_of(whole, groups, task, definition)
        for probe in (every, one[definition]):
            torch.testing.assert_close(probe.intensities(LAYERS, definition), wanted, atol=1e-6, rtol=0)


def test_rows_that_count_but_were_not_recorded_are_refused():
    model, groups = make_llama(), groups_of(["btpogggg"])
    install(model)
    probe = Probe(groups, slice(5, None))
    model(inputs_embeds=random_embeds(groups), probe=probe)
    with pytest.raises(ValueError, match=r"expected every counting row to be recorded.*rows=slice\(5, None, None\)"):
        probe_intensities(probe, LAYERS, query_rows(groups, Task.GENERATION), {Group.PROMPT})


def test_weights_of_paper_and_code():
    assert LOSS_WEIGHTS["paper"] == LossWeights(generation=40, understanding=40)
    assert LOSS_WEIGHTS["released-code"] == LossWeights(generation=5, understanding=10)
    assert set(LOSS_WEIGHTS) == {"paper", "released-code"}
    assert [LOSS_WEIGHTS["released-code"].of(task) for task in (Task.GENERATION, Task.UNDERSTANDING)] == [5, 10]


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "5"])
def test_a_weight_that_is_none_is_named(weight):
    with pytest.raises(ValueError) as error:
        LossWeights(5, weight)
    words = f"expected a finite understanding weight of 0 or more, got {weight!r}; 0 turns AIA off"
    assert str(error.value) == words


@pytest.mark.parametrize("task, total", [(Task.GENERATION, 2 + 5 * 0.25), (Task.UNDERSTANDING, 2 + 10 * 0.25)])
def test_total_adds_the_tasks_weight_times_the_aia_loss(task, total):
    ntp, aia = (torch.tensor(v, requires_grad=True) for v in (2.0, 0.25))
    parts = combine_losses(ntp, aia, task, LOSS_WEIGHTS["released-code"])
    assert parts.as_floats() == {"loss": total, "ntp": 2, f"aia_{task}": 0.25}
    parts.total.backward()
    assert (ntp.grad.item(), aia.grad.item()) == (1, LOSS_WEIGHTS["released-code"].of(task))


def test_the_control_trains_on_ntp_alone_and_may_still_log_aia():
    ntp, off = torch.tensor(2.0), LossWeights(0, 0)
    without = combine_losses(ntp, None, Task.GENERATION, LOSS_WEIGHTS["paper"])
    assert without.total is ntp and without.as_floats() == {"loss": 2, "ntp": 2}
    measured = combine_losses(ntp, torch.tensor(0.25), Task.GENERATION, off)
    assert measured.total is ntp and measured.as_floats() == {"loss": 2, "ntp": 2, "aia_generation": 0.25}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"form": "cubic"}, "expected form to be one of huber, squared, got 'cubic'"),
        ({"divide_by": "rows"}, "expected divide_by to be one of batch, weighted, got 'rows'"),
        ({"targets": TARGET[:1]}, "expected targets for 2 layers, got shape [1]; stretch the targets"),
        ({"deltas": np.float32(0.1)}, "expected deltas for 2 layers, got shape []; stretch the targets"),
        ({"weights": torch.ones(3)}, "expected one weight per sample, 2, got shape [3]"),
        ({"intensities": TWO[0]}, "expected intensities of shape [B, L], not empty, got [2]"),
        ({"intensities": TWO[:0]}, "expected intensities of shape [B, L], not empty, got [0, 2]"),
    ],
)
def test_the_loss_names_what_does_not_fit(changes, words):
    with pytest.raises(ValueError) as error:
        aia_loss(**{"intensities": TWO, "targets": TARGET, "deltas": DELTA, **changes})
    assert str(error.value) == words


def test_an_intensity_names_what_does_not_fit():
    mass, rows = torch.zeros(2, 3, 4, len(GROUPS)), torch.ones(2, 4, dtype=torch.bool)
    for bad_mass, bad_rows, words in (
        (mass[0], rows, f"expected masses of shape [B, H, Q, {len(GROUPS)}], got [3, 4, {len(GROUPS)}]"),
        (mass[..., 1:], rows, f"expected masses of shape [B, H, Q, {len(GROUPS)}], got [2, 3, 4, {len(GROUPS) - 1}]"),
        (mass, rows[:, 1:], "expected rows as a bool mask of shape [2, 4], got torch.bool [2, 3]"),
        (mass, rows.long(), "expected rows as a bool mask of shape [2, 4], got torch.int64 [2, 4]"),
    ):
        with pytest.raises(ValueError) as error:
            layer_intensity(bad_mass, bad_rows, {Group.PROMPT})
        assert str(error.value) == words
