"""The probe against full attention maps from the same weights."""

import copy
import gc
import warnings

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AttentionInterface,
    DynamicCache,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    Qwen2Config,
    Qwen2Model,
    StaticCache,
)
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from aia.intensity import GROUPS, PAD_GROUP
from aia.knockout import Knockout
from aia.probe import ATTENTION_NAME, Probe, install, probe_attention

LAYERS, HEADS, WIDTH = 3, 4, 32
IMAGE_TOKEN = 5
# Full maps by, in, and how far the gradients may differ, as a share of the largest of them.
GRADIENT_REFERENCES = [("exact", torch.float64, 1e-12), ("eager", torch.float32, 1e-6)]


def llama_config(**changes) -> LlamaConfig:
    settings = {
        "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "vocab_size": 64, "max_position_embeddings": 640, "initializer_range": 0.4,
    }  # fmt: skip
    return LlamaConfig(**{**settings, **changes})


def make_llama(dtype=torch.float32, **changes) -> LlamaModel:
    torch.manual_seed(0)
    model = LlamaModel(llama_config(**changes)).to(dtype).eval()
    install(model)
    return model


def eager_twin(model):
    """The same weights, with full attention maps."""
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    return twin


def random_groups(batch: int, keys: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, len(GROUPS), (batch, keys), generator=torch.Generator().manual_seed(seed))


def random_embeds(batch: int, length: int, dtype=torch.float32, seed: int = 2) -> torch.Tensor:
    return torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)


def masses_of_maps(maps, groups: torch.Tensor) -> torch.Tensor:
    """Tuple of L maps [B, H, Q, K] → [B, L, H, Q, G], one group at a time."""
    stacked = torch.stack(tuple(maps), 1)
    columns = [(stacked * (groups == g)[:, None, None, None, : stacked.shape[-1]]).sum(-1) for g in range(len(GROUPS))]
    return torch.stack(columns, -1)


def full_maps(model, **inputs):
    return eager_twin(model)(**inputs, output_attentions=True).attentions


def assert_close(actual, expected, tolerance=1e-5):
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def left_padding(lengths, total):
    mask = torch.zeros(len(lengths), total, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, total - length :] = 1
    return mask


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("rows", ["all", "last", slice(3, 7)])
@torch.no_grad()
def test_prefill_masses_equal_those_of_full_maps(rows, key_heads):
    model = make_llama(num_key_value_heads=key_heads)
    embeds, groups = random_embeds(2, 11), random_groups(2, 11)
    probe = Probe(groups, rows)
    model(inputs_embeds=embeds, probe=probe)
    expected = masses_of_maps(full_maps(model, inputs_embeds=embeds), groups)
    expected = {"all": expected, "last": expected[..., -1:, :]}.get(str(rows), expected[..., 3:7, :])
    assert_close(probe.mass(), expected)
    assert probe.mass().dtype == torch.float32
    for layer in range(LAYERS):
        assert_close(probe.layer_mass(layer), expected[:, layer])


@pytest.mark.parametrize("rows", ["all", "last"])
@pytest.mark.parametrize("cache_kind", ["dynamic", "static"])
@pytest.mark.parametrize("lengths", [None, (9, 4)])
@torch.no_grad()
def test_cached_decoding_equals_full_maps_step_by_step(rows, cache_kind, lengths):
    model = make_llama(num_key_value_heads=2)
    embeds, groups = random_embeds(2, 15), random_groups(2, 15)
    mask = torch.ones(2, 15, dtype=torch.long)
    if lengths:
        mask[:, :9] = left_padding(lengths, 9)
        groups = groups.masked_fill(mask == 0, PAD_GROUP)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache() if cache_kind == "dynamic" else StaticCache(config=model.config, max_cache_len=20)
    probe = Probe(groups[:, :9], rows)
    for start, stop in [(0, 9), *((t, t + 1) for t in range(9, 15))]:
        if start:
            probe.extend(groups[:, start:stop])
        model(
            inputs_embeds=embeds[:, start:stop], attention_mask=mask[:, :stop], past_key_values=cache,
            position_ids=positions[:, start:stop], use_cache=True, probe=probe,
        )  # fmt: skip
    maps = full_maps(model, inputs_embeds=embeds, attention_mask=mask, position_ids=positions)
    expected = masses_of_maps(maps, groups)
    if rows == "last":
        assert_close(probe.mass(), expected[..., 8:, :])
    else:
        real = mask.bool()[:, None, None, :, None]  # eager attends evenly from padding, SDPA not at all
        assert_close(probe.mass() * real, expected * real)


@torch.no_grad()
def test_guidance_batch_keeps_its_two_branches_apart():
    model = make_llama()
    prompt, groups = random_embeds(1, 10), random_groups(2, 10)
    both = torch.cat([prompt, torch.zeros_like(prompt)])
    together = Probe(groups, "all")
    model(inputs_embeds=both, probe=together)
    for branch in range(2):
        alone = Probe(groups[branch : branch + 1], "all")
        model(inputs_embeds=both[branch : branch + 1], probe=alone)
        assert_close(together.mass()[branch], alone.mass()[0])
    assert (together.mass()[0] - together.mass()[1]).abs().max() > 1e-2


@pytest.mark.parametrize("rows", ["all", "last", slice(None)])
@torch.no_grad()
def test_left_padded_prompts_of_different_length_equal_full_maps(rows):
    model = make_llama(num_key_value_heads=2)
    mask = left_padding((12, 5, 1), 12)
    embeds, groups = random_embeds(3, 12), random_groups(3, 12).masked_fill(mask == 0, PAD_GROUP)
    probe = Probe(groups, rows)
    model(inputs_embeds=embeds, attention_mask=mask, probe=probe)
    expected = masses_of_maps(full_maps(model, inputs_embeds=embeds, attention_mask=mask), groups)
    real = mask.bool()[:, None, None, :, None]
    expected = expected * real
    assert_close(probe.mass(), expected[..., -1:, :] if rows == "last" else expected)  # padding rows: mass 0


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("rows", ["all", "last", slice(2, 6)])
@torch.no_grad()
def test_custom_four_dimensional_mask_equals_full_maps(rows, kind):
    model = make_llama(num_key_value_heads=2)
    embeds, groups = random_embeds(2, 10), random_groups(2, 10)
    seen = torch.ones(10, 10, dtype=torch.bool).tril().repeat(2, 1, 1, 1)
    seen[:, :, 2:7, 2:7] = True  # image tokens see each other both ways
    seen[:, :, 7:, 0] = False
    bias = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    bias[:, :, 9, 3] = 1.5
    seen_or_bias = seen if kind == "bool" else bias
    probe = Probe(groups, rows)
    model(inputs_embeds=embeds, attention_mask=seen_or_bias, probe=probe)
    eager_bias = bias if kind == "float" else torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    expected = masses_of_maps(full_maps(model, inputs_embeds=embeds, attention_mask=eager_bias), groups)
    expected = {"all": expected, "last": expected[..., -1:, :]}.get(str(rows), expected[..., 2:6, :])
    assert_close(probe.mass(), expected)


@pytest.mark.parametrize("rows", ["all", "last", slice(3, 9)])
@torch.no_grad()
def test_sliding_windows_of_some_layers_equal_full_maps(rows):
    torch.manual_seed(0)
    windows = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}  # from the second layer on
    model = Qwen2Model(Qwen2Config(**{**llama_config().to_diff_dict(), **windows})).eval()
    install(model)
    embeds, groups = random_embeds(2, 11), random_groups(2, 11)
    probe = Probe(groups, rows)
    model(inputs_embeds=embeds, probe=probe, use_cache=False)
    maps = full_maps(model, inputs_embeds=embeds, use_cache=False)
    hidden = [bool((layer[..., -1, :7] == 0).all()) for layer in maps]
    assert hidden == [False, True, True]
    expected = masses_of_maps(maps, groups)
    assert_close(probe.mass(), {"all": expected, "last": expected[..., -1:, :]}.get(str(rows), expected[..., 3:9, :]))


@torch.no_grad()
def test_cached_step_with_a_mask_that_sees_no_key_has_mass_zero():
    model, groups = make_llama(), random_groups(2, 6)
    cache = DynamicCache()
    probe = Probe(groups, "last")
    model(inputs_embeds=random_embeds(2, 6), past_key_values=cache, use_cache=True, probe=probe)
    seen = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    seen[1] = False
    probe.extend(groups[:, :1])
    output = model(
        inputs_embeds=random_embeds(2, 1), attention_mask=seen, past_key_values=cache, use_cache=True, probe=probe
    )
    assert probe.mass()[1, :, :, 1].abs().max() == 0
    assert_close(probe.mass()[0, :, :, 1].sum(-1), torch.ones(LAYERS, HEADS))
    assert output.last_hidden_state.isfinite().all()


@pytest.mark.parametrize("rows", ["all", slice(1, None)])
@torch.no_grad()
def test_model_s_own_scaling_is_kept(rows):
    model = make_llama()
    for layer in model.layers:
        layer.self_attn.scaling = 0.9
    embeds, groups = random_embeds(1, 8), random_groups(1, 8)
    probe = Probe(groups, rows)
    model(inputs_embeds=embeds, probe=probe)
    expected = masses_of_maps(full_maps(model, inputs_embeds=embeds), groups)
    assert_close(probe.mass(), expected if rows == "all" else expected[..., 1:, :])


@pytest.mark.parametrize("rows", ["all", slice(None)])
def test_scaling_not_given_is_that_of_the_head_before_columns_are_added(rows):
    module = torch.nn.Module()
    module.layer_idx = 0
    query, key, value = torch.randn(3, 1, HEADS, 6, 8, generator=torch.Generator().manual_seed(5))
    groups, probe = random_groups(1, 6), Probe(random_groups(1, 6), rows)
    probe_attention(module, query, key, value, None, probe=probe)
    scores = (query @ key.transpose(2, 3) / 8**0.5).masked_fill(~torch.ones(6, 6, dtype=torch.bool).tril(), -torch.inf)
    assert_close(probe.mass(), masses_of_maps([scores.softmax(-1)], groups))


@torch.no_grad()
def test_rows_of_passes_of_any_length_stay_in_order():
    model, groups, cache = make_llama(), random_groups(1, 9), DynamicCache()
    embeds, probe = random_embeds(1, 9), Probe(groups[:, :1], slice(None))
    for start, stop in [(0, 1), (1, 2), (2, 6), (6, 7), (7, 9)]:
        if start:
            probe.extend(groups[:, start:stop])
        model(inputs_embeds=embeds[:, start:stop], past_key_values=cache, use_cache=True, probe=probe)
    assert_close(probe.mass(), masses_of_maps(full_maps(model, inputs_embeds=embeds), groups))


@pytest.mark.parametrize("rows", ["all", "last"])
@torch.no_grad()
def test_masses_sum_to_one_for_every_real_row(rows):
    model = make_llama()
    mask = left_padding((9, 3), 9)
    groups = random_groups(2, 9).masked_fill(mask == 0, PAD_GROUP)
    probe = Probe(groups, rows)
    model(inputs_embeds=random_embeds(2, 9), attention_mask=mask, probe=probe)
    total = probe.mass().sum(-1)
    expected = mask.float()[:, None, None].expand(2, LAYERS, HEADS, 9)
    assert_close(total, expected if rows == "all" else expected[..., -1:])
    assert probe.mass().min() >= 0


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("lengths", [None, (8, 5)])
@torch.no_grad()
def test_cross_attention_equals_the_map_averaged_over_heads(per_row, lengths):
    model = make_llama(num_key_value_heads=2)
    embeds, groups = random_embeds(2, 12), random_groups(2, 12)
    mask = torch.ones(2, 12, dtype=torch.long)
    if lengths:
        mask[:, :8] = left_padding(lengths, 8)
    cross = torch.tensor([[6, 4, 7], [5, 3, 5]]) if per_row else torch.tensor([7, 3, 4])
    cache, probe = DynamicCache(), Probe(groups[:, :8], "last", cross=cross)
    for start, stop in [(0, 8), *((t, t + 1) for t in range(8, 12))]:
        if start:
            probe.extend(groups[:, start:stop])
        model(
            inputs_embeds=embeds[:, start:stop], attention_mask=mask[:, :stop], past_key_values=cache,
            position_ids=torch.arange(start, stop)[None], use_cache=True, probe=probe,
        )  # fmt: skip
    maps = full_maps(model, inputs_embeds=embeds, attention_mask=mask, position_ids=torch.arange(12)[None])
    mean = torch.stack(maps, 1).mean(2)[:, :, 7:]  # [B, L, Q, K]
    expected = torch.stack([mean[b][..., cross[b] if per_row else cross] for b in range(2)])
    assert_close(probe.cross_attention(), expected)


@torch.no_grad()
def test_long_decoding_summed_in_parts_equals_one_sum(monkeypatch):
    def decode(limit):
        monkeypatch.setattr("aia.probe._WAITING_WEIGHTS", limit)
        model, groups, cache = make_llama(), random_groups(1, 30), DynamicCache()
        embeds, probe = random_embeds(1, 30), Probe(groups[:, :4], "last", cross=torch.tensor([1, 3]))
        for start, stop in [(0, 4), *((t, t + 1) for t in range(4, 30))]:
            if start:
                probe.extend(groups[:, start:stop])
            model(inputs_embeds=embeds[:, start:stop], past_key_values=cache, use_cache=True, probe=probe)
        return probe.mass(), probe.cross_attention()

    (whole, cross), (parts, cross_parts) = decode(2**22), decode(1000)
    assert whole.shape == (1, LAYERS, HEADS, 27, len(GROUPS))
    assert_close(parts, whole, 1e-6)
    assert_close(cross_parts, cross, 1e-6)


@pytest.mark.parametrize("limit", [2**22, 1000])
@torch.no_grad()
def test_attention_on_grown_keys_equals_the_map_averaged_over_heads(monkeypatch, limit):
    monkeypatch.setattr("aia.probe._WAITING_WEIGHTS", limit)
    model, groups, cache = make_llama(num_key_value_heads=2), random_groups(2, 20), DynamicCache()
    embeds, probe = random_embeds(2, 20), Probe(groups[:, :4], "last", cross=torch.tensor([3, 1]), grown=True)
    for start, stop in [(0, 4), *((t, t + 1) for t in range(4, 20))]:
        if start:
            probe.extend(groups[:, start:stop])
        model(inputs_embeds=embeds[:, start:stop], past_key_values=cache, use_cache=True, probe=probe)
    mean = torch.stack(full_maps(model, inputs_embeds=embeds), 1).mean(2)[:, :, 3:]  # [B, L, Q, K]
    assert_close(probe.cross_attention(), mean[..., [3, 1]])
    grown = probe.grown_attention()
    assert grown.shape == (2, LAYERS, 17, 16)
    assert_close(grown, mean[..., 4:])
    assert torch.equal(grown, grown * torch.ones(17, 16).tril(-1))  # row q sees the q keys made before it


def test_attention_on_grown_keys_has_to_be_asked_for():
    with pytest.raises(ValueError, match="grown=True"):
        Probe(random_groups(1, 4), "last", cross=torch.tensor([1])).grown_attention()
    with pytest.raises(ValueError, match="cross"):
        Probe(random_groups(1, 4), "last", grown=True)


def weighted_sum(masses: torch.Tensor) -> torch.Tensor:
    """A nonlinear function of all masses, so that every one matters for the gradient."""
    weights = torch.randn(masses.shape, generator=torch.Generator().manual_seed(3)).to(masses.dtype)
    return (weights * (masses - 0.3) ** 2).sum()


def exact_attention(module, query, key, value, attention_mask, scaling, **_):
    """Eager attention in the model's own precision: transformers' own takes its softmax in float32."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    weights = (query @ key.transpose(2, 3) * scaling + attention_mask).softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def gradients(model) -> dict:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("reference, dtype, tolerance", GRADIENT_REFERENCES)
@pytest.mark.parametrize("rows", ["all", slice(None)])
@pytest.mark.parametrize("lengths", [None, (10, 4)])
def test_gradients_of_the_masses_equal_those_of_full_maps(reference, dtype, tolerance, rows, lengths):
    model = make_llama(dtype, num_key_value_heads=2, initializer_range=0.1)
    embeds, groups, mask = random_embeds(2, 10, dtype), random_groups(2, 10), torch.ones(2, 10, dtype=torch.long)
    if lengths:
        mask = left_padding(lengths, 10)
        groups = groups.masked_fill(mask == 0, PAD_GROUP)
    twin = eager_twin(model)
    AttentionInterface.register("exact", exact_attention)
    AttentionMaskInterface.register("exact", eager_mask)
    twin.set_attn_implementation(reference)
    real = mask[:, None, None, :, None].to(dtype)

    probe = Probe(groups, rows)
    model(inputs_embeds=embeds, attention_mask=mask, probe=probe)
    weighted_sum(probe.mass() * real).backward()
    maps = twin(inputs_embeds=embeds, attention_mask=mask, output_attentions=True).attentions
    weighted_sum(masses_of_maps(maps, groups) * real).backward()

    ours, theirs = gradients(model), gradients(twin)
    # Fused, the last layer's values get a gradient of 0 from its masses; with maps they get none.
    assert not ours.pop(f"layers.{LAYERS - 1}.self_attn.v_proj.weight", torch.zeros(1)).any()
    assert ours.keys() == theirs.keys() and len(ours) > 5 * LAYERS
    largest = max(g.abs().max() for g in theirs.values())
    assert largest > 0.05
    for name, gradient in theirs.items():
        assert_close(ours[name] / largest, gradient / largest, tolerance)


@pytest.mark.parametrize("rows", ["all", slice(None)])
def test_fully_masked_rows_leave_gradients_finite(rows):
    model, mask = make_llama(), left_padding((8, 2), 8)
    probe = Probe(random_groups(2, 8).masked_fill(mask == 0, PAD_GROUP), rows)
    output = model(inputs_embeds=random_embeds(2, 8), attention_mask=mask, probe=probe)
    (weighted_sum(probe.mass()) + output.last_hidden_state.sum()).backward()
    assert all(g.isfinite().all() for g in gradients(model).values())


@pytest.mark.parametrize("rows", ["all", slice(2, None)])
def test_gradient_checkpointing_gives_the_same_masses_and_gradients(rows):
    plain = make_llama(num_key_value_heads=2).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.activation_checkpointing_enable({"use_reentrant": False})
    runs = {}
    calls = []
    checkpointed.layers[0].self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    for name, model in (("plain", plain), ("checkpointed", checkpointed)):
        probe = Probe(random_groups(2, 9), rows)
        output = model(inputs_embeds=random_embeds(2, 9), probe=probe, use_cache=False)
        before = probe.mass().detach().clone()
        (weighted_sum(probe.mass()) + output.last_hidden_state.pow(2).mean()).backward()
        assert torch.equal(probe.mass(), before)  # the second run of each layer records nothing
        runs[name] = (before, gradients(model))
    assert len(calls) == 2  # the layer did run twice
    assert torch.equal(runs["plain"][0], runs["checkpointed"][0])
    for name, gradient in runs["plain"][1].items():
        assert_close(runs["checkpointed"][1][name], gradient, 1e-7)


def test_reentrant_checkpointing_is_refused_instead_of_losing_the_gradient():
    model = make_llama().train()
    model.activation_checkpointing_enable({"use_reentrant": True})
    probe = Probe(random_groups(1, 6))
    embeds = random_embeds(1, 6).requires_grad_()
    output = model(inputs_embeds=embeds, probe=probe, use_cache=False)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        output.last_hidden_state.sum().backward()


@pytest.mark.parametrize("lengths", [None, (9, 4)])
@torch.no_grad()
def test_without_probe_the_output_is_that_of_sdpa(lengths):
    model = make_llama(num_key_value_heads=2)
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("sdpa")
    mask = left_padding(lengths, 9) if lengths else None
    inputs = {"inputs_embeds": random_embeds(2, 9), "attention_mask": mask}
    assert model.config._attn_implementation == ATTENTION_NAME
    assert torch.equal(model(**inputs).last_hidden_state, twin(**inputs).last_hidden_state)


@pytest.mark.parametrize("rows", ["all", "last", slice(4)])
@pytest.mark.parametrize("lengths", [None, (9, 4)])
@torch.no_grad()
def test_probe_leaves_the_output_as_it_is(rows, lengths):
    model = make_llama(num_key_value_heads=2)
    groups, outputs = random_groups(2, 12), {}
    for name in ("without", "with"):
        probe, cache = Probe(groups[:, :9], rows), DynamicCache()
        mask = left_padding(lengths, 9) if lengths else torch.ones(2, 9, dtype=torch.long)
        states = []
        for start, stop in [(0, 9), (9, 10), (10, 11), (11, 12)]:
            if start:
                probe.extend(groups[:, start:stop])
                mask = torch.cat([mask, mask[:, -1:]], 1)
            output = model(
                inputs_embeds=random_embeds(2, 12)[:, start:stop], attention_mask=mask, past_key_values=cache,
                use_cache=True, probe=probe if name == "with" else None,
            )  # fmt: skip
            states.append(output.last_hidden_state)
        outputs[name] = torch.cat(states, 1)
    assert_close(outputs["with"], outputs["without"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_gives_float32_masses_and_the_same_output(dtype):
    model, groups = make_llama(dtype, num_key_value_heads=2), random_groups(2, 10)
    outputs = []
    probe = Probe(groups[:, :9], "last")
    for p in (None, probe):
        cache = DynamicCache()
        model(inputs_embeds=random_embeds(2, 9, dtype), past_key_values=cache, use_cache=True, probe=p)
        if p:
            p.extend(groups[:, 9:])
        step = model(inputs_embeds=random_embeds(2, 1, dtype), past_key_values=cache, use_cache=True, probe=p)
        outputs.append(step.last_hidden_state)
    assert torch.equal(*outputs)
    assert probe.mass().dtype == torch.float32
    assert_close(probe.mass().sum(-1), torch.ones(2, LAYERS, HEADS, 2), 1e-6)  # no rounding to half precision
    everything = Probe(groups[:, :9], "all")
    model(inputs_embeds=random_embeds(2, 9, dtype), probe=everything)
    assert everything.mass().dtype == torch.float32
    assert_close(everything.mass()[:, :, :, -1:], probe.mass()[:, :, :, :1], 2e-2)


@pytest.mark.parametrize("together", [1, 3, 64])
@pytest.mark.parametrize("cache_kind", ["dynamic", "static"])
@pytest.mark.parametrize("lengths", [None, (9, 4)])
@torch.no_grad()
def test_decoding_steps_in_half_precision_are_summed_later_to_the_same(monkeypatch, together, cache_kind, lengths):
    """Steps whose queries wait, a few or all, give what each gives at once; padding, masks of one layer and all."""
    model, dtype = make_llama(torch.bfloat16, num_key_value_heads=2), torch.bfloat16
    embeds, groups, mask = random_embeds(2, 15, dtype), random_groups(2, 15), torch.ones(2, 15, dtype=torch.long)
    if lengths:
        mask[:, :9] = left_padding(lengths, 9)
        groups = groups.masked_fill(mask == 0, PAD_GROUP)
    forbidden = torch.zeros(1, 1, 15, dtype=torch.bool)
    forbidden[..., 6] = True
    layers = torch.zeros(2, LAYERS, dtype=torch.bool)
    layers[1, 1] = True
    found = {}
    for name, waits in (("later", Probe._can_wait), ("at once", lambda *_: False)):
        monkeypatch.setattr(Probe, "_can_wait", waits)
        monkeypatch.setattr("aia.probe._WAITING_STEPS", together)
        cache = DynamicCache() if cache_kind == "dynamic" else StaticCache(config=model.config, max_cache_len=20)
        probe = Probe(groups[:, :9], "last", cross=torch.tensor([6, 8]), grown=True)
        waited = 0
        for start, stop in [(0, 9), *((t, t + 1) for t in range(9, 15))]:
            if start:
                probe.extend(groups[:, start:stop])
            model(
                inputs_embeds=embeds[:, start:stop], attention_mask=mask[:, :stop], past_key_values=cache,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, start:stop], use_cache=True, probe=probe,
                **({"knockout": Knockout(forbidden, layers, 9)} if cache_kind == "dynamic" else {}),
            )  # fmt: skip
            waited += len(probe._late_keys)
        found[name] = probe.mass(), probe.cross_attention(), probe.grown_attention()
        assert bool(waited) == (name == "later")
    for later, at_once in zip(*found.values(), strict=True):
        assert_close(later, at_once, 1e-6)
    assert_close(found["later"][0].sum(-1), torch.ones(2, LAYERS, HEADS, 7), 1e-6)


@torch.no_grad()
def test_autocast_does_not_round_the_masses():
    model, groups = make_llama(), random_groups(2, 9)
    probe = Probe(groups, slice(4, None), cross=torch.tensor([1, 2]))
    with torch.autocast("cpu", torch.bfloat16):
        model(inputs_embeds=random_embeds(2, 9), probe=probe)
    assert probe.mass().dtype == probe.cross_attention().dtype == torch.float32
    assert_close(probe.mass().sum(-1), torch.ones(2, LAYERS, HEADS, 5), 1e-6)


def test_attention_dropout_in_training_gives_the_dropped_masses_or_the_undropped():
    model = make_llama(attention_dropout=0.5, num_hidden_layers=1)
    undropped = Probe(random_groups(1, 40))
    model.eval()(inputs_embeds=random_embeds(1, 40), probe=undropped)
    everything, row = Probe(random_groups(1, 40)), Probe(random_groups(1, 40), slice(-1, None))
    model.train()(inputs_embeds=random_embeds(1, 40), probe=everything)
    model.train()(inputs_embeds=random_embeds(1, 40), probe=row)
    assert (everything.mass().sum(-1) - 1).abs().max() > 0.1
    assert abs(everything.mass().sum(-1).mean() - 1) < 0.2
    assert_close(row.mass(), undropped.mass()[..., -1:, :])


@torch.no_grad()
def test_attention_dropout_still_reaches_a_cached_step():
    model, outputs = make_llama(attention_dropout=0.5).train(), []
    for probe in (None, Probe(random_groups(1, 6), "last")):
        torch.manual_seed(7)
        cache = DynamicCache()
        model(inputs_embeds=random_embeds(1, 6), past_key_values=cache, use_cache=True, probe=probe)
        if probe:
            probe.extend(random_groups(1, 1))
        step = model(inputs_embeds=random_embeds(1, 1), past_key_values=cache, use_cache=True, probe=probe)
        outputs.append(step.last_hidden_state)
    assert_close(*outputs)


class LargestTensor(TorchDispatchMode):
    """Notes the most elements of any tensor that an operation makes."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


def largest_tensors(model, **inputs) -> tuple[int, int]:
    """Elements of the largest tensor made, and of the largest saved for the backward pass."""
    saved = []
    meter = LargestTensor()
    with meter, torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        output = model(**inputs)
        probe = inputs.get("probe")
        (output.last_hidden_state.sum() if probe is None else weighted_sum(probe.mass())).backward()
    return meter.largest, max(saved)


@pytest.mark.parametrize("rows", ["all", slice(-64, None)])
def test_no_map_of_any_head_is_ever_made_or_saved_in_training(rows):
    length = 512
    model = make_llama(num_key_value_heads=2)
    embeds = random_embeds(1, length)
    probe = Probe(random_groups(1, length), rows)
    made, saved = largest_tensors(model, inputs_embeds=embeds, probe=probe, use_cache=False)
    # Grows with Q + K, not with Q·K, in any head; a slice's mask, for all heads and layers, is 64 · K.
    assert max(made, saved) < length * length / 4
    made, saved = largest_tensors(eager_twin(model), inputs_embeds=embeds, use_cache=False)
    assert min(made, saved) >= HEADS * length * length  # the meter does see a full map


class WideTensors(TorchDispatchMode):
    """Follows the memory of all tensors whose last axis has this length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.storages = width, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.shape[-1:] == (self.width,):
                storage = tensor.untyped_storage()
                self.storages[storage.data_ptr(), len(self.storages)] = StorageWeakRef(storage)
        return result

    def alive(self) -> int:
        gc.collect()
        return len({place for (place, _), storage in self.storages.items() if not storage.expired()})


@pytest.mark.parametrize("checkpointed, kept", [(False, 3), (True, 0)])
@pytest.mark.parametrize("lengths", [None, (9, 4)])
def test_between_the_passes_no_output_is_kept_twice_and_checkpointing_keeps_none(lengths, checkpointed, kept):
    model = make_llama(num_hidden_layers=4).train()  # head width 8, with the columns 16
    if checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
    mask = left_padding(lengths, 9) if lengths else None
    probe, meter = Probe(random_groups(2, 9)), WideTensors(8 + len(GROUPS))
    with meter:
        output = model(inputs_embeds=random_embeds(2, 9), attention_mask=mask, probe=probe, use_cache=False)
        loss = weighted_sum(probe.mass()) + output.last_hidden_state.sum()
    assert len(meter.storages) > 4 * 4
    assert meter.alive() == 4 * kept  # queries, keys and values of each layer, as SDPA keeps them
    loss.backward()


def test_a_second_backward_pass_through_a_kept_graph_gives_the_same_gradients():
    model = make_llama()
    probe = Probe(random_groups(1, 7))
    model(inputs_embeds=random_embeds(1, 7), probe=probe, use_cache=False)
    loss, parameters = weighted_sum(probe.mass()), [model.layers[0].self_attn.q_proj.weight]
    first, second = (torch.autograd.grad(loss, parameters, retain_graph=True)[0] for _ in range(2))
    assert first.abs().max() > 0 and torch.equal(first, second)


def test_a_mask_that_wants_gradients_is_refused_instead_of_getting_none():
    mask = torch.zeros(1, 1, 7, 7, requires_grad=True)
    with pytest.raises(ValueError, match="gradients of an attention mask"):
        make_llama()(inputs_embeds=random_embeds(1, 7), attention_mask=mask, probe=Probe(random_groups(1, 7)))


def make_janus() -> JanusForConditionalGeneration:
    torch.manual_seed(0)
    vision = JanusVisionConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4, mlp_ratio=2,
        projection_dim=WIDTH, num_image_tokens=4,
    )  # fmt: skip
    vq = JanusVQVAEConfig(
        embed_dim=4, num_embeddings=16, base_channels=32, channel_multiplier=(1, 1), num_res_blocks=1,
        latent_channels=32, projection_dim=WIDTH, image_token_embed_dim=WIDTH,
    )  # fmt: skip
    text = llama_config(pad_token_id=0)
    config = JanusConfig(text_config=text, vision_config=vision, vq_config=vq, image_token_id=IMAGE_TOKEN)
    return JanusForConditionalGeneration(config).eval()


def janus_inputs() -> dict:
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(6, 64, (2, 12), generator=generator)
    ids[:, 3:7] = IMAGE_TOKEN
    pixels = torch.randn(2, 3, 8, 8, generator=generator)
    return {"input_ids": ids, "pixel_values": pixels, "attention_mask": torch.ones_like(ids)}


def test_janus_gets_a_probe_through_its_own_forward_and_vision_stays_as_it_was():
    model, inputs, groups = make_janus(), janus_inputs(), random_groups(2, 12)
    vision = model.model.vision_model.config._attn_implementation
    before = model(**inputs)
    install(model)
    assert model.model.language_model.config._attn_implementation == ATTENTION_NAME
    assert model.model.vision_model.config._attn_implementation == vision != ATTENTION_NAME
    probe = Probe(groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = model(**inputs, labels=inputs["input_ids"], probe=probe)
    assert_close(after.logits, before.logits, 1e-4)
    assert torch.equal(after.image_hidden_states, before.image_hidden_states)
    twin = copy.deepcopy(model)
    twin.set_attn_implementation({"text_config": "eager"})
    expected = masses_of_maps(twin(**inputs, output_attentions=True).attentions, groups)
    assert_close(probe.mass(), expected)
    (after.loss + weighted_sum(probe.mass())).backward()
    assert model.model.aligner.fc1.weight.grad.abs().max() > 0  # the image reached the masses


@torch.no_grad()
def test_janus_language_model_decodes_image_tokens_with_a_probe():
    model, groups = make_janus(), random_groups(2, 10)
    install(model)
    cache, probe = DynamicCache(), Probe(groups[:, :6], "last")
    embeds = model.get_input_embeddings()(torch.randint(6, 64, (2, 6)))
    everything = [embeds]
    for step in range(5):
        if step:
            probe.extend(groups[:, 5 + step : 6 + step])
        output = model.model.language_model(
            inputs_embeds=everything[-1], past_key_values=cache, use_cache=True, probe=probe
        )
        token = model.model.generation_head(output.last_hidden_state[:, -1]).argmax(-1, keepdim=True)
        everything.append(model.prepare_embeddings_for_image_generation(token))
    maps = full_maps(model.model.language_model, inputs_embeds=torch.cat(everything[:-1], 1))
    assert_close(probe.mass(), masses_of_maps(maps, groups)[..., 5:, :])


def test_installing_twice_and_again_with_a_fresh_model_is_harmless():
    model = LlamaForCausalLM(llama_config())
    install(model)
    install(model)
    probe = Probe(random_groups(1, 4))
    model(input_ids=torch.tensor([[1, 2, 3, 4]]), probe=probe)
    assert probe.mass().shape == (1, LAYERS, HEADS, 4, len(GROUPS))


def test_install_names_the_sub_configs_there_are():
    with pytest.raises(ValueError, match="vision_config"):
        install(make_janus(), config_name="language_config")


def test_forgotten_or_wrong_groups_are_named_and_not_measured():
    model, groups = make_llama(), random_groups(2, 6)
    with torch.no_grad():
        cache, probe = DynamicCache(), Probe(groups, "last")
        model(inputs_embeds=random_embeds(2, 6), past_key_values=cache, use_cache=True, probe=probe)
        with pytest.raises(ValueError, match=r"expected groups for 7 keys, got 6.*extend"):
            model(inputs_embeds=random_embeds(2, 1), past_key_values=cache, use_cache=True, probe=probe)
    with pytest.raises(ValueError, match="expected groups for 5 keys, got 6"):
        model(inputs_embeds=random_embeds(2, 5), probe=Probe(groups))
    with pytest.raises(ValueError, match="expected groups for 8 keys, got 6"):
        model(inputs_embeds=random_embeds(2, 8), probe=Probe(groups))
    with pytest.raises(ValueError, match="expected a batch of 2"):
        model(inputs_embeds=random_embeds(1, 6), probe=Probe(groups))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((torch.zeros(3, dtype=torch.long),), r"shape \[B, K\]"),
        ((torch.zeros(1, 3),), "integer groups"),
        ((torch.tensor([[0, len(GROUPS)]]),), "expected groups from -1"),
        ((torch.zeros(1, 3, dtype=torch.long), "first"), "expected rows"),
        ((torch.zeros(1, 3, dtype=torch.long), "all", torch.tensor([1])), "cross attention needs"),
        ((torch.zeros(1, 3, dtype=torch.long), "last", torch.tensor([3])), "expected cross positions from 0 to 2"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Probe(*arguments)


def test_reading_before_any_pass_says_what_to_do():
    probe = Probe(random_groups(1, 3))
    with pytest.raises(ValueError, match="no pass was recorded"):
        probe.mass()
    with pytest.raises(ValueError, match="no pass was recorded"):
        probe.layer_mass(0)
    with pytest.raises(ValueError, match="pass cross="):
        probe.cross_attention()
