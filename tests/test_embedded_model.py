"""The embedded models as they ship: small files, real classes, words for the whole world, curves and scores kept."""

import json
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    Emu3ForConditionalGeneration,
    Emu3Processor,
    JanusForConditionalGeneration,
    JanusProcessor,
)

from aia import world
from aia.intensity import Definition, Task
from assets.recipes import emu3_processor, processor
from backend.embedded import load_embedded
from backend.families import load_model
from backend.measurement import measure_model
from backend.models.specs import SPECS
from backend.paper import load_paper
from backend.sampling import GENERATION_SAMPLING
from backend.scores import evaluate_model

EMBEDDED = [spec for spec in SPECS if spec.embedded]


class Real(NamedTuple):
    """The classes of a family's checkpoints, and what the recipe makes its tokenizer with."""

    model: type
    processor: type
    make_tokenizer: object


REAL = {
    "janus": Real(JanusForConditionalGeneration, JanusProcessor, processor.make_tokenizer),
    "emu3": Real(Emu3ForConditionalGeneration, Emu3Processor, emu3_processor.make_tokenizer),
}


@pytest.fixture(scope="module", params=EMBEDDED, ids=lambda spec: spec.name)
def spec(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(spec):
    return load_model(spec)


@pytest.fixture(scope="module")
def folder(spec):
    return Path(spec.source)


def test_every_file_is_under_ten_megabytes(folder):
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sizes and max(sizes.values()) < 10_000_000


def test_it_is_a_plain_checkpoint_of_the_real_classes(spec, folder):
    real = REAL[spec.family]
    assert isinstance(AutoProcessor.from_pretrained(folder), real.processor)
    model, report = real.model.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert sum(p.numel() for p in model.parameters()) == spec.parameters
    text = model.config.text_config
    assert (text.num_hidden_layers, text.num_attention_heads) == (spec.layers, spec.heads)


def test_a_picture_has_as_many_tokens_as_the_registry_says(spec, loaded):
    seen = loaded.prefill("what is there?", Image.fromarray(world.draw_scene(world.make_scene(random.Random(0)))))
    drawn = loaded.drawing_prefill("a red circle")
    assert loaded.drawing_steps(seen)[0] == loaded.drawing_steps(drawn)[0] == spec.image_tokens
    assert seen.grid == drawn.grid == (8, 8)


def test_the_tokenizer_knows_every_word_of_the_world(spec):
    tokenizer = REAL[spec.family].make_tokenizer()
    rng = random.Random(0)
    for _ in range(500):
        scene = world.make_scene(rng)
        texts = [world.make_drawing(scene, rng).prompt]
        texts += [text for q in world.make_questions(scene, rng).values() for text in (q.text, q.answer)]
        for text in texts:
            assert tokenizer.unk_token_id not in tokenizer(text).input_ids, text
            assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_a_word_outside_the_world_is_named(loaded):
    assert loaded.unknown_words("a zebra left of a red circle") == ["zebra"]


def test_the_tokenizer_that_ships_is_the_recipe_s(spec, folder):
    shipped = AutoProcessor.from_pretrained(folder).tokenizer
    assert shipped.get_vocab() == REAL[spec.family].make_tokenizer().get_vocab()


def test_the_vq_tokenizer_keeps_what_the_reader_sees(loaded):
    rng = random.Random(4)
    scenes = [world.make_scene(rng, held_out=True) for _ in range(30)]
    kept = 0
    for scene in scenes:
        seen = world.read_picture(np.asarray(loaded.draw(codes_of(loaded, world.draw_scene(scene)), (8, 8))))
        kept += sorted((s.colour, s.shape) for s in seen) == sorted((t.colour, t.shape) for t in scene.things)
    assert kept >= 0.9 * len(scenes)


@torch.inference_mode()
def codes_of(model, picture):
    """A picture's tokens as the model would draw it."""
    if hasattr(model, "image_tokens"):
        return model.image_tokens(Image.fromarray(picture)).flatten().tolist()
    pixels = torch.from_numpy(picture)[None].permute(0, 3, 1, 2) / 127.5 - 1
    return model.model.model.vqmodel.encode(pixels).image_tokens.flatten().tolist()


def test_the_curves_that_come_with_it_are_its_own(spec, loaded):
    """Measured anew, the first samples give the rows in the file."""
    kept = load_embedded()[spec.name].report
    assert (kept.model, kept.samples, kept.adapter, kept.data) == (spec.name, 100, None, None)
    again = measure_model(loaded, tuple(Task), samples=2, seed=kept.seed)
    for task in Task:
        assert kept.tasks[task].n == 100 and set(kept.tasks[task].counted) == set(Definition)
        found = np.array(again[task.value]["intensities"])
        np.testing.assert_allclose(kept.tasks[task].counted[Definition.FIGURE].rows()[:2], found, atol=1e-4)


def test_its_architecture_has_curves_in_the_paper(spec):
    assert set(load_paper()[spec.paper_curve].curves) == set(Task)


@pytest.fixture(scope="module")
def report(loaded):
    return evaluate_model(loaded, 60, 7, GENERATION_SAMPLING)


def test_it_scores_on_a_small_held_out_set_as_its_card_promises(report, folder):
    """The card's figures are from 1,000 samples; this holds a fresh small set to their neighbourhood."""
    promised = json.loads((folder / "scores.json").read_text())
    for task in ("understanding", "generation"):
        low, high = report[task]["interval"]["overall"]
        assert low - 0.03 <= promised[task]["overall"] <= high + 0.03


def test_the_promised_scores_are_of_a_thousand_samples(folder):
    promised = json.loads((folder / "scores.json").read_text())
    assert promised["samples"] == 1000
    assert set(promised["understanding"]["by_kind"]) == set(world.QUESTION_KINDS)
    assert set(promised["generation"]["by_kind"]) == set(world.DRAWING_KINDS)
