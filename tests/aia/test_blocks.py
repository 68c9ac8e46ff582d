"""Attention in two blocks of keys against full maps, by itself and as the probe takes it."""

import copy

import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from aia import probe as probe_module
from aia.blocks import attend_in_blocks, can_attend_in_blocks
from aia.intensity import PAD_GROUP, Definition, Group, Task, group_index
from aia.loss import SequenceProbe, aia_loss
from aia.probe import Probe
from aia.targets import load_targets
from tests.aia.test_probe import (
    LAYERS,
    assert_close,
    eager_twin,
    exact_attention,
    full_maps,
    gradients,
    make_llama,
    random_embeds,
)

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-13}
# Shapes [B, H, N, D] and the splits of their samples: equal ones, neighbours that share one, the ends, several tiles.
CASES = [((3, 2, 70, 16), (20, 20, 50)), ((2, 1, 9, 8), (1, 8)), ((1, 1, 2, 8), (1,)), ((2, 2, 600, 32), (590, 8))]
COUNTED = 0  # the only group of a probe of one column


def random_inputs(shape, dtype):
    """Query, key, value as a layer makes them, heads behind positions, and a gradient for both results."""
    batch, heads, length, depth = shape
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(batch, length, heads, depth, generator=generator, dtype=dtype) for _ in range(4)]
    inputs = [tensor.transpose(1, 2).requires_grad_() for tensor in tensors[:3]]
    return inputs, (tensors[3], torch.randn(shape[:3], generator=generator, dtype=dtype))


def attend_with_maps(query, key, value, splits, scaling):
    later = torch.ones(query.shape[2], query.shape[2]).triu(1).bool()
    maps = (query @ key.mT * scaling).masked_fill(later, -torch.inf).softmax(-1)
    return (maps @ value).transpose(1, 2), torch.stack([m[..., :s].sum(-1) for m, s in zip(maps, splits, strict=True)])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape, splits", CASES)
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)], ids=["both", "output", "mass"])
def test_outputs_masses_and_gradients_equal_those_of_full_maps(shape, splits, dtype, wanted):
    inputs, seeds = random_inputs(shape, dtype)
    seeds[0][:, ::3] = 0  # rows whose output gets no gradient
    seeds[0][:, ::2, :, 0] = 0
    ours = attend_in_blocks(*inputs, splits, 0.3)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    theirs = attend_with_maps(*exact, splits, 0.3)
    for found, expected in zip(ours, theirs, strict=True):
        assert_close(found, expected.to(dtype), TOLERANCES[dtype])
    chosen = [number for number in (0, 1) if wanted[number]]
    found = torch.autograd.grad([ours[n] for n in chosen], inputs, [seeds[n] for n in chosen])
    seeds = [seed.double() for seed in seeds]
    # Values have no part in masses, whose maps then have no gradient for them.
    expected = torch.autograd.grad(
        [theirs[n] for n in chosen], exact, [seeds[n] for n in chosen], materialize_grads=True
    )
    largest = max(gradient.abs().max() for gradient in expected)
    for mine, theirs_ in zip(found, expected, strict=True):
        assert_close(mine / largest, (theirs_ / largest).to(dtype), TOLERANCES[dtype])


def test_a_large_pull_on_the_masses_survives_a_gradient_of_nearly_nothing():
    """What the mass adds is divided by an entry of the output's gradient, and multiplied by it again."""
    inputs, (output_seed, mass_seed) = random_inputs((1, 2, 40, 8), torch.float32)
    output_seed *= 1e-18
    found = torch.autograd.grad(attend_in_blocks(*inputs, [30], 0.3), inputs, [output_seed, mass_seed * 1e6])
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    seeds = [output_seed.double(), mass_seed.double() * 1e6]
    expected = torch.autograd.grad(attend_with_maps(*exact, [30], 0.3), exact, seeds)
    for mine, theirs in zip(found[:2], expected[:2], strict=True):
        assert_close(mine / theirs.abs().max(), (theirs / theirs.abs().max()).float(), 1e-6)


def test_only_full_precision_of_one_width_is_taken():
    query = torch.zeros(1, 2, 4, 8)
    assert can_attend_in_blocks(query, query[:, :1], query)
    assert not can_attend_in_blocks(*[query.bfloat16()] * 3)
    assert not can_attend_in_blocks(query, query, query[..., :4])
    assert not can_attend_in_blocks(query[:, :, -1:], query, query)
    assert not can_attend_in_blocks(*[query.to("meta")] * 3)


# --- as the probe takes it ---


def prefix_groups(lengths: list[int], total: int) -> torch.Tensor:
    """The only group over each sample's first keys, padding behind its end."""
    groups = torch.full((len(lengths), total), PAD_GROUP)
    for row, length in zip(groups, lengths, strict=True):
        row[:length] = COUNTED
    return groups


@pytest.fixture
def calls(monkeypatch):
    """One for every layer that went in blocks."""
    calls = []
    monkeypatch.setattr(probe_module, "attend_in_blocks", lambda *a: calls.append(1) or attend_in_blocks(*a))
    return calls


@pytest.fixture
def in_blocks(monkeypatch, calls):
    """Sequences of any length go in blocks where they can; the calls."""
    monkeypatch.setattr(probe_module, "_SHORTEST_IN_BLOCKS", 2)
    return calls


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("prompts", [(7, 7), (7, 4)])
def test_masses_on_a_beginning_equal_those_of_full_maps(in_blocks, prompts, key_heads):
    model = make_llama(num_key_value_heads=key_heads)
    embeds, groups = random_embeds(2, 12), prefix_groups(prompts, 12)
    probe = Probe(groups, "all", count=1)
    output = model(inputs_embeds=embeds, probe=probe).last_hidden_state
    maps = torch.stack(full_maps(model, inputs_embeds=embeds), 1)
    expected = torch.stack([m[..., :length].sum(-1) for m, length in zip(maps, prompts, strict=True)])
    assert len(in_blocks) == LAYERS
    assert_close(probe.mass(), expected[..., None].detach())
    assert_close(output, model(inputs_embeds=embeds).last_hidden_state, 1e-5)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_equal_those_of_columns(in_blocks, monkeypatch, checkpointed):
    model, embeds = make_llama().double().train(), random_embeds(2, 12, torch.float64)
    groups = prefix_groups([7, 4], 12)
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    weights = torch.rand(2, LAYERS, 4, 12, 1, dtype=torch.float64)

    def find():
        model.zero_grad()
        probe = Probe(groups, "all", count=1)
        output = model(inputs_embeds=embeds, probe=probe, use_cache=False).last_hidden_state
        ((probe.mass() * weights).sum() + output.square().sum()).backward()
        return copy.deepcopy(gradients(model))

    ours = find()
    assert in_blocks
    in_blocks.clear()
    monkeypatch.setattr(probe_module, "_SHORTEST_IN_BLOCKS", 10**6)
    theirs = find()
    assert not in_blocks
    for name, gradient in theirs.items():
        assert_close(ours[name], gradient, 1e-11)


@pytest.mark.parametrize(
    "groups, count",
    [
        (prefix_groups([7, 7], 12), 10),
        (prefix_groups([7, 12], 12), 1),
        (prefix_groups([7, 0], 12), 1),
        (prefix_groups([7, 7], 12).flip(1), 1),
    ],
    ids=["several groups", "all keys", "no keys", "not a beginning"],
)
@torch.no_grad()
def test_other_groups_keep_their_columns(in_blocks, groups, count):
    model, embeds = make_llama(), random_embeds(2, 12)
    probe = Probe(groups, "all", count=count)
    model(inputs_embeds=embeds, probe=probe)
    maps = torch.stack(full_maps(model, inputs_embeds=embeds), 1)
    assert_close(probe.mass()[..., 0], (maps * (groups == COUNTED)[:, None, None, None]).sum(-1))
    assert not in_blocks


@torch.no_grad()
def test_a_mask_keeps_the_columns(in_blocks):
    model, embeds, mask = make_llama(), random_embeds(2, 12), torch.tensor([[1] * 12, [0] * 3 + [1] * 9])
    groups = prefix_groups([7, 7], 12).masked_fill(mask == 0, PAD_GROUP)
    probe = Probe(groups, "all", count=1)
    model(inputs_embeds=embeds, attention_mask=mask, probe=probe)
    maps = torch.stack(full_maps(model, inputs_embeds=embeds, attention_mask=mask), 1)
    expected = (maps * (groups == COUNTED)[:, None, None, None]).sum(-1)
    assert_close(probe.mass()[:, :, :, 3:, 0], expected[:, :, :, 3:])
    assert not in_blocks


def test_dropout_keeps_the_columns(in_blocks):
    model = make_llama(attention_dropout=0.5).train()
    model(inputs_embeds=random_embeds(2, 12), probe=Probe(prefix_groups([7, 7], 12), "all", count=1))
    assert not in_blocks


def drawing_groups(prompt: int, image: int, total: int) -> list[int]:
    """Groups of a teacher-forced drawing, padded on the right."""
    order = [Group.BOS, *[Group.TEMPLATE] * 3, *[Group.PROMPT] * prompt, Group.BOI, *[Group.GENERATED] * image]
    return [*map(group_index, order), *[PAD_GROUP] * (total - len(order))]


def test_the_loss_of_a_sequence_of_real_length_is_that_of_full_maps(calls):
    """Two drawings with prompts of their own length, in one batch."""
    model, embeds = make_llama().double(), random_embeds(2, 420, torch.float64)
    groups = torch.tensor([drawing_groups(270, 140, 420), drawing_groups(210, 140, 420)])
    targets = load_targets("paper-janus-pro", LAYERS, stretch=True).as_arrays(Task.GENERATION)
    probe = SequenceProbe(groups, Task.GENERATION, (Definition.TRAINING,))
    model(inputs_embeds=embeds, probe=probe)
    loss = aia_loss(probe.intensities(LAYERS, Definition.TRAINING), *targets)
    ours = torch.autograd.grad(loss, [model.layers[0].self_attn.q_proj.weight, model.layers[0].mlp.up_proj.weight])
    assert len(calls) == LAYERS

    twin = eager_twin(model)
    AttentionInterface.register("exact", exact_attention)
    AttentionMaskInterface.register("exact", eager_mask)
    twin.set_attn_implementation("exact")
    maps = twin(inputs_embeds=embeds, output_attentions=True).attentions
    # The first keys but the last of them (the begin of the image); image rows but the last.
    rows = [(slice(275, 275 + 139), slice(274)), (slice(215, 215 + 139), slice(214))]
    found = [[m[n, :, row, key].sum(-1).mean() for m in maps] for n, (row, key) in enumerate(rows)]
    expected = aia_loss(torch.stack([torch.stack(sample) for sample in found]), *targets)
    theirs = torch.autograd.grad(expected, [twin.layers[0].self_attn.q_proj.weight, twin.layers[0].mlp.up_proj.weight])
    assert_close(loss, expected, 1e-12)
    for mine, wanted in zip(ours, theirs, strict=True):
        assert wanted.abs().max() > 1e-6
        assert_close(mine / wanted.abs().max(), wanted / wanted.abs().max(), 1e-11)
