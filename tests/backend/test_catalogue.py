"""The catalogue's figures against models built from the checkpoints' configurations, and against the paper's curves."""

from __future__ import annotations

import re

import pytest
import torch
from transformers.quantizers.quantizers_utils import should_convert_module
from transformers.utils import logging

from aia.intensity import Task
from aia.targets import PRESETS
from backend.families import FAMILIES, _find_class
from backend.interface import UserError
from backend.models.catalogue import CATALOGUE, CURVES_ONLY
from backend.models.downloads import HUB_ID
from backend.models.loading import quantisation_settings
from backend.models.specs import SPECS, Precision, find_spec
from backend.paper import load_paper
from tests.real_configs import CONFIGS

NAMES = [spec.name for spec in CATALOGUE]
# Bytes of the files on the hub in GB as its pages show them, to half of the last digit; see each spec's `checked`.
FILES_GB = {
    "janus-pro-1b": (4.1533966, 0.0005),
    "qwen3-vl-2b": (4.26, 0.006),
    "qwen2.5-vl-3b": (3.98 + 3.53, 0.011),
    "qwen2.5-vl-7b": (5.30 + 5.26 + 4.93 + 1.09, 0.021),
    "internvl3-1b": (1.88, 0.006),
    "internvl3-2b": (4.18, 0.006),
    "internvl3-8b": (15.9, 0.06),
    "llava-onevision-0.5b": (1.79, 0.006),
}


def spec_of(name):
    return next(spec for spec in CATALOGUE if spec.name == name)


@pytest.fixture(scope="module", params=NAMES)
def built(request):
    """A spec, its configuration, its family's class, and its model without weights."""
    spec, config = spec_of(request.param), CONFIGS[request.param]
    family = _find_class(FAMILIES[spec.family].model)
    logging.set_verbosity_error()
    with torch.device("meta"):
        model = family.model_class._from_config(config)
    model.tie_weights()
    return spec, config, family, model


def test_shapes_are_those_of_the_checkpoint(built):
    spec, config, family, _ = built
    text = getattr(config, family.language_config) if family.language_config else config
    found = (text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads)
    assert (spec.layers, spec.heads, spec.kv_heads) == found
    assert (spec.hidden, spec.inner, spec.vocabulary) == (text.hidden_size, text.intermediate_size, text.vocab_size)


def test_parameters_and_memory_are_those_of_the_checkpoint(built):
    spec, _, family, model = built
    total = sum(weight.numel() for weight in model.parameters())
    assert spec.parameters == total
    kept = quantisation_settings(Precision.NF4, family.unquantised).llm_int8_skip_modules
    packed = [
        part.weight.numel()
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and should_convert_module(name, kept)
    ]
    rest = 2 * (total - sum(packed))
    blocks = sum(packed) / 64  # NF4: half a byte a weight, a byte a block, a float32 for 256 blocks
    nf4 = rest + sum(packed) / 2 + blocks + 4 * blocks / 256
    wanted = {"bfloat16": 2 * total, "int8": rest + sum(packed), "nf4": nf4}
    assert spec.memory_mib == {name: round(size / 2**20) for name, size in wanted.items()}


@pytest.mark.parametrize("name", FILES_GB)
def test_parameters_fill_the_files_on_the_hub(name):
    size, tolerance = FILES_GB[name]
    assert abs(2 * spec_of(name).parameters / 1e9 - size) <= tolerance


def test_every_model_says_what_it_is_and_how_that_was_checked():
    assert len({spec.name for spec in SPECS}) == len({spec.title for spec in SPECS}) == len(SPECS)
    assert set(CONFIGS) == set(NAMES)
    for spec in CATALOGUE:
        assert HUB_ID.fullmatch(spec.source) and re.fullmatch(r"([0-9a-f]{40})?", spec.revision)
        assert spec.tasks and spec.targets in PRESETS and spec.family in FAMILIES
        assert spec.checked and spec.licence and spec.decoupling and spec.image_tokens
        assert ("licence is accepted" in spec.note) == spec.gated
        gigabytes = 2 * spec.parameters / 1e9
        assert f"{round(gigabytes)} GB to download" in spec.note


def test_the_embedded_models_come_first():
    embedded = [spec for spec in SPECS if spec.embedded]
    assert SPECS[0].name == "tiny-janus" and (*embedded, *CATALOGUE) == SPECS


def test_models_without_a_class_have_curves_of_the_paper():
    titles = {spec.title for spec in SPECS}
    for model in CURVES_ONLY:
        assert model.title not in titles and model.why
        for slug in model.curves:
            assert any(load_paper()[slug].curves.get(task) for task in Task)
        with pytest.raises(UserError, match=f"{model.title} is here by its reference curve only"):
            find_spec(model.name)
