"""The Janus family on the embedded model and on a random checkpoint with another tokenizer and grouped-query heads."""

import io
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from aia import world
from aia.intensity import Group
from aia.probe import ATTENTION_NAME
from backend.captures import Sampling
from backend.families.decoding import guide
from backend.interface import Cancelled, Finished, PictureGrown, TextGrown, UserError

GREEDY = Sampling(temperature=0.0, max_new_tokens=12)
SCENE = world.Scene((world.Thing("red", "circle", "large", 12, 32), world.Thing("blue", "square", "small", 52, 32)))
PICTURE = Image.fromarray(world.draw_scene(SCENE))
QUESTION = "what colour is the circle?"


@pytest.fixture(params=["tiny_janus", "random_janus"])
def model(request):
    return request.getfixturevalue(request.param)


def finish(events):
    *_, last = events
    assert isinstance(last, Finished)
    return last.capture


def tokens_of(capture, group):
    return [t for t, g in zip(capture.tokens, capture.token_groups, strict=True) if g == group]


def test_every_token_of_a_question_has_the_right_group(model):
    capture = finish(model.understand(PICTURE, QUESTION, GREEDY))
    images = model.grid[0] * model.grid[1]
    assert tokens_of(capture, Group.BOS) == ["<｜begin▁of▁sentence｜>"]
    assert tokens_of(capture, Group.BOI) == ["<begin_of_image>"]
    assert tokens_of(capture, Group.EOI) == ["<end_of_image>"]
    assert len(tokens_of(capture, Group.IMAGE)) == images - 1 and len(tokens_of(capture, Group.IMAGE_LAST)) == 1
    words = "".join(tokens_of(capture, Group.PROMPT)).replace(" ", "")
    assert words == QUESTION.replace(" ", "")
    template = "".join(tokens_of(capture, Group.TEMPLATE))
    assert "User" in template and "Assistant" in template


def test_every_token_of_a_drawing_prompt_has_the_right_group(model):
    capture = finish(model.generate("a red circle", Sampling(guidance=2.0)))
    assert "".join(tokens_of(capture, Group.PROMPT)).replace(" ", "") == "aredcircle"
    assert capture.token_groups.count(Group.BOI) == 1 and Group.IMAGE not in capture.token_groups
    assert len(tokens_of(capture, Group.GENERATED)) == model.grid[0] * model.grid[1] - 1


def test_a_prompt_that_repeats_template_words_is_still_found(model):
    capture = finish(model.generate("User : Assistant", Sampling(guidance=1.0)))
    assert "".join(tokens_of(capture, Group.PROMPT)).replace(" ", "").lower().startswith(("user", "<unk>"))


def test_masses_sum_to_one_and_rows_are_the_fed_back_tokens(model):
    capture = finish(model.understand(PICTURE, QUESTION, GREEDY))
    np.testing.assert_allclose(capture.mass.sum(-1), 1, atol=1e-5)
    positions = capture.query_positions
    assert capture.token_groups[positions[0]] == Group.TEMPLATE  # the prefill's last row: "Assistant:"
    assert all(capture.token_groups[p] == Group.GENERATED for p in positions[1:])
    assert capture.mass.shape[3] == len(positions) == len(capture.query_tokens)


@contextmanager
def eager_attention(model):
    """The language model on eager attention, and back."""
    language = model.model.model.language_model
    language.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            yield language
    finally:
        language.set_attn_implementation(ATTENTION_NAME)


def test_masses_equal_full_attention_maps_of_an_uncached_pass(model):
    capture = finish(model.understand(PICTURE, QUESTION, GREEDY))
    prefill = model.prefill(QUESTION, PICTURE)
    fed = list(model.answer_tokens(prefill, GREEDY))[: len(capture.query_positions) - 1]
    ids = torch.cat([prefill.ids, torch.tensor(fed, dtype=torch.long)])[None]
    with eager_attention(model):
        inputs = {"input_ids": ids, **prefill.inputs}
        maps = model.model(**inputs, output_attentions=True, use_cache=False).attentions
    groups = list(capture.token_groups)
    for layer, attention in enumerate(maps):
        rows = attention[0][:, capture.query_positions]  # [H, Q, K]
        for column, group in enumerate(Group):
            keys = [i for i, g in enumerate(groups) if g == group]
            np.testing.assert_allclose(capture.mass[0, layer, :, :, column], rows[:, :, keys].sum(-1), atol=1e-5)
        mean = rows.mean(0)[:, capture.cross_positions]
        np.testing.assert_allclose(capture.cross[layer].astype(np.float32), mean, atol=1e-3)  # stored as float16


def test_drawing_masses_equal_full_attention_maps_in_both_branches(model):
    sampling = Sampling(seed=3, guidance=2.5)
    capture = finish(model.generate("a red circle", sampling))
    prefill = model.prefill("a red circle")
    codes = list(model.image_codes(prefill, sampling))
    fed = torch.tensor([codes[:-1]]).expand(2, -1)
    with eager_attention(model) as language:
        text = model.model.get_input_embeddings()(model._branches(prefill, sampling))
        embeds = torch.cat([text, model.model.prepare_embeddings_for_image_generation(fed)], 1)
        maps = language(inputs_embeds=embeds, output_attentions=True, use_cache=False).attentions
    for layer, attention in enumerate(maps):
        rows = attention[:, :, capture.query_positions]
        for column, group in enumerate(Group):
            keys = [i for i, g in enumerate(capture.token_groups) if g == group]
            np.testing.assert_allclose(capture.mass[:, layer, :, :, column], rows[..., keys].sum(-1), atol=1e-5)


def test_streamed_answers_equal_transformers_generation(model):
    prompts = [QUESTION, "how many objects are there?", "describe the image."]
    streamed = [finish(model.understand(PICTURE, p, GREEDY)).text for p in prompts]
    assert streamed == model.answer_batch([PICTURE] * 3, prompts, GREEDY.max_new_tokens)


def test_streamed_drawings_equal_transformers_generation(model):
    greedy = Sampling(temperature=0.0, guidance=3.0)
    prompts = ["a red circle", "a blue square and a yellow star"]
    streamed = [model.draw(list(model.image_codes(model.prefill(p), greedy))) for p in prompts]
    for one, other in zip(streamed, model.draw_batch(prompts, greedy), strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


def test_a_seed_reproduces_bit_for_bit_and_another_seed_differs(model):
    first, again, other = (
        finish(model.generate("a red circle", Sampling(seed=seed, guidance=2.0))) for seed in (5, 5, 6)
    )
    assert np.array_equal(first.mass, again.mass) and first.picture_png == again.picture_png
    assert first.id == again.id != other.id
    assert first.tokens != other.tokens


def test_answers_and_drawings_stream(model):
    events = list(model.understand(PICTURE, QUESTION, GREEDY))
    assert all(isinstance(e, TextGrown) for e in events[:-1])
    drawn = list(model.generate("a red circle", Sampling(guidance=2.0)))
    grown = [e for e in drawn if isinstance(e, PictureGrown)]
    assert [e.done for e in grown] == sorted(e.done for e in grown) and len(grown) == model.grid[0] - 1
    alpha = np.asarray(grown[0].picture.getchannel("A"))
    assert alpha.min() == 0 and alpha.max() == 255  # what is not drawn yet is transparent


def test_cancelling_stops_between_tokens(model):
    flag = threading.Event()
    events = model.generate("a red circle", Sampling(guidance=2.0), flag)
    next(events)
    flag.set()
    with pytest.raises(Cancelled):
        list(events)


def test_the_capture_holds_the_picture_that_the_model_saw(tiny_janus):
    wide = Image.new("RGB", (200, 100), (200, 30, 30))
    capture = finish(tiny_janus.understand(wide, QUESTION, GREEDY))
    seen = Image.open(io.BytesIO(capture.picture_png))
    assert seen.size == (64, 64)
    assert seen.getpixel((32, 32))[0] > 150 > seen.getpixel((32, 2))[0]  # padded above and below


def test_a_control_token_in_the_prompt_is_refused_by_name(model):
    with pytest.raises(UserError, match="image_placeholder"):
        list(model.understand(PICTURE, "what is <image_placeholder>?", GREEDY))


def test_a_prompt_longer_than_the_context_is_refused(model):
    with pytest.raises(UserError, match="shorten"):
        list(model.generate("red " * 600, Sampling()))


def test_words_out_of_the_vocabulary_are_named_once(tiny_janus, random_janus):
    assert tiny_janus.unknown_words("what colour is the zebra next to the Zebra or the gnu?") == [
        "zebra",
        "next",
        "to",
        "Zebra",
        "or",
        "gnu",
    ]
    assert tiny_janus.unknown_words("Is there a RED circle?") == []
    assert tiny_janus.unknown_words("a 🦕 circle!") == ["🦕", "!"]
    assert random_janus.unknown_words("zebra 🦕") == []  # a byte-level tokenizer knows every word


def test_guidance_moves_away_from_the_unconditional_branch():
    scores = torch.tensor([[1.0, 2.0], [0.0, 4.0]])
    torch.testing.assert_close(guide(scores, 3.0), torch.tensor([[3.0, -2.0]]))
    torch.testing.assert_close(guide(scores[:1], 3.0), scores[:1])


def test_without_guidance_there_is_one_branch(model):
    capture = finish(model.generate("a red circle", Sampling(guidance=1.0)))
    assert capture.mass.shape[0] == 1
    assert finish(model.generate("a red circle", Sampling(guidance=2.0))).mass.shape[0] == 2
