"""Knock-out against eager attention with masks made by hand, and against sums done by hand."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import DynamicCache, LlamaModel

from aia.intensity import GROUPS, PAD_GROUP, Group, group_index
from aia.knockout import Knockout, layer_windows, random_keys, single_heads
from aia.probe import Probe, probe_attention
from tests.aia.test_probe import LAYERS, full_maps, left_padding, make_llama, random_embeds

NEVER = -torch.inf


def forbid(length: int, keys: list[int], rows: range) -> torch.Tensor:
    """A mask made by hand, one entry at a time: float [1, 1, N, N], causal, these keys at −inf for these rows."""
    mask = torch.zeros(1, 1, length, length)
    for row in range(length):
        for key in range(length):
            if key > row or (row in rows and key in keys):
                mask[0, 0, row, key] = NEVER
    return mask


def key_set(length: int, keys: list[int]) -> torch.Tensor:
    chosen = torch.zeros(1, 1, length, dtype=torch.bool)
    chosen[..., keys] = True
    return chosen


def in_layers(*layers: int, batch: int = 1) -> torch.Tensor:
    return torch.tensor([[layer in layers for layer in range(LAYERS)]] * batch)


def eager_layer_by_layer(model: LlamaModel, embeds: torch.Tensor, masks: list[torch.Tensor]) -> torch.Tensor:
    """The model's last states with eager attention and one hand-made mask for each layer."""
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    for layer, mask in zip(twin.layers, masks, strict=True):
        inner = layer.self_attn.forward
        layer.self_attn.forward = lambda *args, inner=inner, mask=mask, **kwargs: inner(
            *args, **{**kwargs, "attention_mask": mask.to(embeds.dtype)}
        )
    return twin(inputs_embeds=embeds).last_hidden_state


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [(), (1,), (0, 1), (0, 1, 2)])
@torch.no_grad()
def test_outputs_equal_eager_attention_with_hand_made_masks(window, key_heads):
    model, embeds = make_llama(num_key_value_heads=key_heads), random_embeds(1, 11)
    knockout = Knockout(key_set(11, [2, 3, 4]), in_layers(*window), start=7)
    found = model(inputs_embeds=embeds, knockout=knockout).last_hidden_state
    plain, cut = forbid(11, [], range(0)), forbid(11, [2, 3, 4], range(7, 11))
    expected = eager_layer_by_layer(model, embeds, [cut if layer in window else plain for layer in range(LAYERS)])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    assert torch.equal(found, model(inputs_embeds=embeds).last_hidden_state) == (not window)


@torch.no_grad()
def test_rows_of_their_own_lose_keys_of_their_own():
    model, embeds = make_llama(), random_embeds(1, 8)
    keys = torch.zeros(1, 3, 8, dtype=torch.bool)
    keys[0, 0, [0, 1]], keys[0, 2, [3, 6]] = True, True  # the rows at 4 and 6, not 5
    keys[0, 2, 6] = False  # its own
    found = model(inputs_embeds=embeds, knockout=Knockout(keys, in_layers(0, 1, 2), start=4)).last_hidden_state
    mask = forbid(8, [0, 1], range(4, 5)) + forbid(8, [3], range(6, 7))
    torch.testing.assert_close(found, eager_layer_by_layer(model, embeds, [mask] * LAYERS), atol=2e-5, rtol=0)


@torch.no_grad()
def test_sequences_of_one_batch_lose_different_layers_and_keys():
    model, embeds = make_llama(num_key_value_heads=2), random_embeds(3, 9)
    keys = torch.cat([key_set(9, [1]), key_set(9, [2, 3]), key_set(9, [])])
    layers = torch.tensor([[True, False, False], [False, True, True], [True, True, True]])
    found = model(inputs_embeds=embeds, knockout=Knockout(keys, layers, start=5)).last_hidden_state
    for number in range(3):
        alone = Knockout(keys[number : number + 1], layers[number : number + 1], start=5)
        single = model(inputs_embeds=embeds[number : number + 1], knockout=alone).last_hidden_state
        torch.testing.assert_close(found[number : number + 1], single, atol=1e-5, rtol=0)
    plain = model(inputs_embeds=embeds[2:]).last_hidden_state
    torch.testing.assert_close(found[2:], plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("step", [1, 3])
@torch.no_grad()
def test_cached_steps_equal_one_whole_pass(step):
    model, embeds = make_llama(num_key_value_heads=2), random_embeds(1, 13)
    whole = model(inputs_embeds=embeds, knockout=Knockout(key_set(4, [1, 3]), in_layers(1, 2), start=6))
    cache, knockout, states = DynamicCache(), Knockout(key_set(4, [1, 3]), in_layers(1, 2), start=6), []
    for start in [0, *range(7, 13, step)]:
        stop = 7 if start == 0 else start + step
        states.append(
            model(
                inputs_embeds=embeds[:, start:stop], past_key_values=cache, use_cache=True, knockout=knockout
            ).last_hidden_state
        )
    torch.testing.assert_close(torch.cat(states, 1), whole.last_hidden_state, atol=1e-5, rtol=0)


@torch.no_grad()
def test_padded_sequences_keep_their_padding_masked():
    model, embeds = make_llama(), random_embeds(2, 10)
    padding = left_padding((10, 6), 10)
    positions = (padding.cumsum(1) - 1).clamp(min=0)
    keys = torch.cat([key_set(10, [2, 5]), key_set(10, [5])])
    found = model(
        inputs_embeds=embeds,
        attention_mask=padding,
        position_ids=positions,
        knockout=Knockout(keys, in_layers(0, 2, batch=2), start=7),
    ).last_hidden_state
    short = Knockout(key_set(6, [1]), in_layers(0, 2), start=3)
    alone = model(inputs_embeds=embeds[1:, 4:], knockout=short).last_hidden_state
    torch.testing.assert_close(found[1:, 4:], alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_branch_of_guidance_without_keys_stays_as_it_is():
    model, embeds = make_llama(), random_embeds(2, 9)
    keys = torch.cat([key_set(9, [1, 2]), key_set(9, [])])
    found = model(inputs_embeds=embeds, knockout=Knockout(keys, in_layers(0, 1, 2, batch=2), start=4))
    plain = model(inputs_embeds=embeds).last_hidden_state
    torch.testing.assert_close(found.last_hidden_state[1], plain[1], atol=1e-5, rtol=0)
    assert (found.last_hidden_state[0] - plain[0]).abs().max() > 1e-2


@pytest.mark.parametrize("rows", ["all", "last", slice(6, None)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
@torch.no_grad()
def test_the_probe_sees_nothing_on_forbidden_keys_and_the_rest_sum_to_one(rows, dtype, tolerance):
    model, embeds = make_llama(dtype), random_embeds(1, 9, dtype)
    groups = torch.full((1, 9), group_index(Group.TEMPLATE))
    groups[0, 2:5] = group_index(Group.IMAGE)
    probe = Probe(groups, rows)
    model(inputs_embeds=embeds, probe=probe, knockout=Knockout(key_set(9, [2, 3, 4]), in_layers(1), start=6))
    mass = probe.mass()[..., -1, :].float()  # the last row: [B, L, H, G]
    assert (mass[:, 1, :, group_index(Group.IMAGE)] == 0).all()
    assert (mass[:, [0, 2], :, group_index(Group.IMAGE)] > 0).all()
    torch.testing.assert_close(mass.sum(-1), torch.ones(1, LAYERS, 4), atol=tolerance, rtol=0)


@torch.no_grad()
def test_what_a_row_has_left_is_its_old_attention_scaled_up():
    """In the first layer queries and keys are the same with and without a knock-out: p / (1 − forbidden)."""
    model, embeds = make_llama(), random_embeds(1, 9)
    groups = torch.arange(9).clamp(max=len(GROUPS) - 1)[None]
    before = full_maps(model, inputs_embeds=embeds)[0][0, :, -1]  # [H, K]
    probe = Probe(groups, "last", cross=torch.arange(9))
    model(inputs_embeds=embeds, probe=probe, knockout=Knockout(key_set(9, [0, 4]), in_layers(0), start=8))
    left = before.clone()
    left[:, [0, 4]] = 0
    expected = (left / left.sum(-1, keepdim=True)).mean(0)
    torch.testing.assert_close(probe.cross_attention()[0, 0, 0], expected, atol=1e-6, rtol=0)


def test_a_head_that_reads_one_key_reads_the_mean_of_the_others_without_it():
    """Two heads over keys 0…3 with values 1, 2, 4, 8: the first sees key 2 alone, the second all alike."""
    module = SimpleNamespace(layer_idx=0, is_causal=True, training=False)
    query = torch.zeros(1, 2, 4, 8)
    key = torch.zeros(1, 2, 4, 8)
    query[0, 0, 3, 0], key[0, 0, 2, 0] = 100.0, 100.0
    value = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 4, 1).expand(1, 2, 4, 8).contiguous()

    def last_row(knockout=None):
        return probe_attention(module, query, key, value, None, knockout=knockout)[0][0, 3, :, 0].tolist()

    assert last_row() == pytest.approx([4, 15 / 4])
    layers = torch.tensor([[True]])
    assert last_row(Knockout(key_set(4, [2]), layers, 3)) == pytest.approx([11 / 3, 11 / 3])
    assert last_row(Knockout(key_set(4, [0, 1]), layers, 3)) == pytest.approx([4, 6])
    assert last_row(Knockout(key_set(4, [0, 1, 2]), layers, 3)) == pytest.approx([8, 8])
    assert last_row(Knockout(key_set(4, [2]), ~layers, 3)) == last_row()


def test_gradients_of_forbidden_keys_are_zero():
    model, embeds = make_llama(num_hidden_layers=1), random_embeds(1, 6).requires_grad_()
    knockout = Knockout(key_set(6, [1, 2]), torch.tensor([[True]]), start=5)
    model(inputs_embeds=embeds, knockout=knockout).last_hidden_state[:, -1].sum().backward()
    size = embeds.grad[0].abs().sum(-1)
    assert (size[[1, 2]] == 0).all() and (size[[0, 3, 4, 5]] > 0).all()


@pytest.mark.parametrize(
    "width, expected",
    [
        (0, ["....", "....", "....", "...."]),
        (1, ["#...", ".#..", "..#.", "...#"]),
        (2, ["##..", ".##.", "..##", "...#"]),
        (3, ["##..", "###.", ".###", "..##"]),
        (4, ["###.", "####", ".###", "..##"]),
    ],
)
def test_windows_are_centred_and_cut_off_at_the_ends(width, expected):
    found = ["".join(".#"[layer] for layer in window) for window in layer_windows(4, width).tolist()]
    assert found == expected


def test_a_model_of_one_layer_has_one_window():
    assert layer_windows(1, 1).tolist() == [[True]]
    for width in (-1, 2):
        with pytest.raises(ValueError, match="0 to 1 layers"):
            layer_windows(1, width)


def test_random_keys_are_as_many_as_asked_for_and_the_same_for_rows_that_see_the_same():
    among = torch.ones(3, 10, dtype=torch.bool)
    among[2, ::2] = False
    counts = torch.tensor([4, 4, 5])
    chosen = random_keys(among, counts, torch.Generator().manual_seed(0))
    assert chosen.sum(1).tolist() == [4, 4, 5] and not (chosen & ~among).any()
    assert torch.equal(chosen[0], chosen[1])
    again = random_keys(among, counts, torch.Generator().manual_seed(0))
    assert torch.equal(chosen, again)
    often = sum(random_keys(among, counts, torch.Generator().manual_seed(seed))[0].float() for seed in range(400)) / 400
    assert (often - 0.4).abs().max() < 5 * math.sqrt(0.24 / 400)


@pytest.mark.parametrize(
    "keys, layers, start",
    [
        (torch.zeros(1, 4, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool), 0),
        (torch.zeros(1, 1, 4), torch.zeros(1, 3, dtype=torch.bool), 0),
        (torch.zeros(2, 1, 4, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool), 0),
        (torch.zeros(1, 0, 4, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool), 0),
        (torch.zeros(1, 1, 4, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool), -1),
        (key_set(6, [4]), torch.zeros(1, 3, dtype=torch.bool), 4),  # row 4 would lose itself
        (torch.eye(3, 6, dtype=torch.bool)[None], torch.zeros(1, 3, dtype=torch.bool), 0),
    ],
)
def test_what_makes_no_sense_is_refused(keys, layers, start):
    with pytest.raises(ValueError, match="expected"):
        Knockout(keys, layers, start)


def test_a_pass_of_another_batch_or_depth_is_refused():
    model = make_llama()
    with pytest.raises(ValueError, match="1 sequences and 3 layers"):
        model(inputs_embeds=random_embeds(2, 6), knockout=Knockout(key_set(6, [0]), in_layers(0), 3))
    with pytest.raises(ValueError, match="1 layers, as in the knock-out"):
        model(
            inputs_embeds=random_embeds(1, 6), knockout=Knockout(key_set(6, [0]), torch.ones(1, 1, dtype=torch.bool), 3)
        )


def test_padded_keys_of_a_probe_stay_without_mass_under_a_knockout():
    model, embeds = make_llama(), random_embeds(1, 8)
    padding = left_padding((5,), 8)
    groups = torch.full((1, 8), group_index(Group.PROMPT)).masked_fill(padding == 0, PAD_GROUP)
    probe = Probe(groups, "last", cross=torch.arange(8))
    with torch.no_grad():
        model(
            inputs_embeds=embeds,
            attention_mask=padding,
            probe=probe,
            knockout=Knockout(key_set(8, [4]), in_layers(0, 1, 2), 6),
        )
    assert (probe.cross_attention()[..., [0, 1, 2, 4]] == 0).all()
    torch.testing.assert_close(probe.mass().sum(-1), torch.ones(1, LAYERS, 4, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("key_heads", [4, 2])
@torch.no_grad()
def test_single_heads_equal_eager_attention_with_a_mask_for_each_head(key_heads):
    model, embeds = make_llama(num_key_value_heads=key_heads), random_embeds(1, 9)
    heads = model.config.num_attention_heads
    cuts = single_heads(LAYERS, heads)
    assert cuts.shape == (LAYERS * heads, LAYERS, heads) and cuts[heads + 2].nonzero().tolist() == [[1, 2]]
    knockout = Knockout(key_set(9, [1, 2]), cuts, start=5)
    found = model(inputs_embeds=embeds.expand(len(cuts), -1, -1), knockout=knockout).last_hidden_state
    plain, cut = forbid(9, [], range(0)), forbid(9, [1, 2], range(5, 9))
    for number in (0, heads + 2, len(cuts) - 1):
        layer, head = divmod(number, heads)
        masks = [plain.expand(1, heads, -1, -1).clone() for _ in range(LAYERS)]
        masks[layer][0, head] = cut[0, 0]
        expected = eager_layer_by_layer(model, embeds, masks)
        torch.testing.assert_close(found[number], expected[0], atol=2e-5, rtol=0)
    assert not torch.allclose(found[0, -1], found[1, -1], atol=1e-4)


@torch.no_grad()
def test_all_heads_of_a_layer_are_the_layer_also_step_by_step_and_under_a_probe():
    model, embeds = make_llama(), random_embeds(2, 9)
    heads = model.config.num_attention_heads
    layers = in_layers(1, batch=2)
    by_head = layers[:, :, None].expand(-1, -1, heads).clone()
    keys = key_set(6, [0, 3])
    whole = model(inputs_embeds=embeds, knockout=Knockout(keys, layers, start=6)).last_hidden_state
    same = model(inputs_embeds=embeds, knockout=Knockout(keys, by_head, start=6)).last_hidden_state
    torch.testing.assert_close(same, whole, atol=1e-6, rtol=0)
    knockout, cache = Knockout(keys, by_head, start=6), DynamicCache(config=model.config)
    model(inputs_embeds=embeds[:, :6], past_key_values=cache, use_cache=True, knockout=knockout)
    for step in range(6, 9):
        one = model(inputs_embeds=embeds[:, step : step + 1], past_key_values=cache, use_cache=True, knockout=knockout)
        torch.testing.assert_close(one.last_hidden_state, whole[:, step : step + 1], atol=2e-5, rtol=0)
    groups = torch.zeros(2, 9, dtype=torch.long)
    groups[:, [0, 3]] = 1
    by_head[:, 1, 0] = False  # one head still looks
    probe = Probe(groups, rows=slice(6, None))
    model(inputs_embeds=embeds, probe=probe, knockout=Knockout(keys, by_head, start=6))
    seen = probe.layer_mass(1)[..., 1]  # [B, H, 3]
    assert (seen[:, 0] > 0).all() and (seen[:, 1:] == 0).all()


def test_a_model_of_other_heads_is_refused():
    knockout = Knockout(key_set(4, [0]), torch.ones(1, LAYERS, 3, dtype=torch.bool), start=2)
    with pytest.raises(ValueError, match="3 heads, as in the knock-out, got 4"):
        make_llama()(inputs_embeds=random_embeds(1, 4), knockout=knockout)
