"""The embedded model as it ships: small files, real classes, words for the whole world, scores that were promised."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, JanusForConditionalGeneration, JanusProcessor

from aia import world
from assets.recipes.processor import make_tokenizer
from backend.engine import GENERATION_SAMPLING
from backend.models.specs import SPECS
from backend.scores import evaluate_model

FOLDER = Path(SPECS[0].source)


def test_every_file_is_under_ten_megabytes():
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sizes and max(sizes.values()) < 10_000_000


def test_it_is_a_plain_checkpoint_of_the_real_classes():
    assert isinstance(AutoProcessor.from_pretrained(FOLDER), JanusProcessor)
    model, report = JanusForConditionalGeneration.from_pretrained(FOLDER, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    spec = SPECS[0]
    assert sum(p.numel() for p in model.parameters()) == spec.parameters
    text = model.config.text_config
    assert (text.num_hidden_layers, text.num_attention_heads) == (spec.layers, spec.heads)
    assert model.config.vision_config.num_image_tokens == spec.image_tokens


def test_the_tokenizer_knows_every_word_of_the_world():
    tokenizer = make_tokenizer()
    rng = random.Random(0)
    for _ in range(500):
        scene = world.make_scene(rng)
        texts = [world.make_drawing(scene, rng).prompt]
        texts += [text for q in world.make_questions(scene, rng).values() for text in (q.text, q.answer)]
        for text in texts:
            assert tokenizer.unk_token_id not in tokenizer(text).input_ids, text
            assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_the_tokenizer_that_ships_is_the_recipe_s():
    shipped = AutoProcessor.from_pretrained(FOLDER).tokenizer
    assert shipped.get_vocab() == make_tokenizer().get_vocab()


def test_the_vq_tokenizer_keeps_what_the_reader_sees(tiny_janus):
    rng = random.Random(4)
    scenes = [world.make_scene(rng, held_out=True) for _ in range(30)]
    pixels = torch.from_numpy(np.stack([world.draw_scene(s) for s in scenes])).permute(0, 3, 1, 2) / 127.5 - 1
    vq = tiny_janus.model.model.vqmodel
    with torch.inference_mode():
        codes = vq.encode(pixels).image_tokens.view(len(scenes), -1)
    kept = 0
    for scene, row in zip(scenes, codes, strict=True):
        seen = world.read_picture(np.asarray(tiny_janus.draw(row.tolist())))
        kept += sorted((s.colour, s.shape) for s in seen) == sorted((t.colour, t.shape) for t in scene.things)
    assert kept >= 0.9 * len(scenes)


@pytest.fixture(scope="module")
def report(tiny_janus):
    return evaluate_model(tiny_janus, 60, 7, GENERATION_SAMPLING)


def test_it_scores_on_a_small_held_out_set_as_its_card_promises(report):
    """The card's figures are from 1,000 samples; this holds a fresh small set to their neighbourhood."""
    promised = json.loads((FOLDER / "scores.json").read_text())
    for task in ("understanding", "generation"):
        low, high = report[task]["interval"]["overall"]
        assert low - 0.03 <= promised[task]["overall"] <= high + 0.03


def test_the_promised_scores_are_of_a_thousand_samples():
    promised = json.loads((FOLDER / "scores.json").read_text())
    assert promised["samples"] == 1000
    assert set(promised["understanding"]["by_kind"]) == set(world.QUESTION_KINDS)
    assert set(promised["generation"]["by_kind"]) == set(world.DRAWING_KINDS)
