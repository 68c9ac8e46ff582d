"""Single heads of one pass against whole attention maps from the same weights."""

import pytest
import torch

from aia.head_probe import HeadProbe
from tests.aia.test_probe import HEADS, LAYERS, assert_close, full_maps, make_llama, random_embeds, random_groups

KEYS = torch.tensor([2, 7, 0])


@pytest.mark.parametrize("rows", [slice(0, 1), slice(5, 6), slice(3, 9)])
@pytest.mark.parametrize("key_heads", [HEADS, 2, 1])
@torch.inference_mode()
def test_heads_equal_rows_of_full_maps(rows, key_heads):
    model, embeds = make_llama(num_key_value_heads=key_heads), random_embeds(1, 9)
    expected = torch.stack(full_maps(model, inputs_embeds=embeds), 1)[0][:, :, rows][..., KEYS]  # [L, H, R, X]
    probe = HeadProbe(random_groups(1, 9), rows, KEYS)
    model(inputs_embeds=embeds, use_cache=False, probe=probe)
    assert_close(probe.weights(), expected)
    for head in ((0, 0), (LAYERS - 1, HEADS - 1), (1, 2)):
        probe = HeadProbe(random_groups(1, 9), rows, KEYS, head)
        model(inputs_embeds=embeds, use_cache=False, probe=probe)
        assert_close(probe.weights(), expected[head])


@torch.inference_mode()
def test_looking_leaves_the_output_as_it_is():
    model, embeds = make_llama(), random_embeds(1, 9)
    probe = HeadProbe(random_groups(1, 9), slice(4, 5), KEYS)
    looked = model(inputs_embeds=embeds, use_cache=False, probe=probe).last_hidden_state
    assert torch.equal(looked, model(inputs_embeds=embeds, use_cache=False).last_hidden_state)


@torch.inference_mode()
def test_what_cannot_be_looked_at_is_named():
    with pytest.raises(ValueError, match="one sequence"):
        HeadProbe(random_groups(2, 9), slice(0, 1), KEYS)
    with pytest.raises(ValueError, match="hand the probe"):
        HeadProbe(random_groups(1, 9), slice(0, 1), KEYS).weights()
    model, embeds = make_llama(), random_embeds(1, 9)
    probe = HeadProbe(random_groups(1, 9), slice(0, 1), KEYS, (0, HEADS))
    with pytest.raises(ValueError, match=f"0 to {HEADS - 1}, got {HEADS}"):
        model(inputs_embeds=embeds, use_cache=False, probe=probe)
    probe = HeadProbe(random_groups(1, 9), slice(0, 1), KEYS, (LAYERS, 0))
    model(inputs_embeds=embeds, use_cache=False, probe=probe)
    with pytest.raises(ValueError, match="has this layer"):
        probe.weights()
