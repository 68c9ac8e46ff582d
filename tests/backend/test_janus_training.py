"""What is special of Janus under training: pixels through the vision encoder, codes with embeddings of their own."""

import pytest
import torch
import torch.nn.functional as F

from aia import world
from aia.batch import NO_LABEL
from aia.data import Sample, Turn
from aia.intensity import Task
from backend.families import as_trainable

SCENE = world.Scene((world.Thing("red", "circle", "large", 12, 32), world.Thing("blue", "square", "small", 52, 32)))
PICTURE = world.draw_scene(SCENE)
TALK = Sample(
    Task.UNDERSTANDING,
    PICTURE,
    (
        Turn("what colour is the circle?", "red"),
        Turn("describe the image.", "a large red circle and a small blue square"),
    ),
)
DRAWN = Sample(Task.GENERATION, PICTURE, prompt="a red circle left of a blue square")
SHORT = Sample(Task.GENERATION, PICTURE, prompt="a red circle")


@pytest.fixture(params=["tiny_janus", "random_janus"])
def janus(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def trainable(janus):
    return as_trainable(janus)


@torch.no_grad()
def test_the_loss_of_an_answer_is_transformers_own(janus, trainable):
    batch = trainable.collate([TALK], [False])
    logits = janus.model(input_ids=batch.ids, pixel_values=batch.pictures).logits.float()
    wanted = F.cross_entropy(logits[0], batch.labels[0], ignore_index=NO_LABEL, reduction="sum")
    assert trainable.ntp_sum(batch).item() == pytest.approx(wanted.item(), rel=1e-4)


@torch.no_grad()
def test_the_loss_of_a_drawing_is_that_of_its_codes_one_by_one(janus, trainable):
    """The taught sequence against cached decoding that is forced onto the same codes."""
    from transformers import DynamicCache

    batch = trainable.collate([SHORT], [False])
    codes = batch.codes[0].tolist()
    prefill = janus.prefill(SHORT.prompt)
    cache = DynamicCache(config=janus.model.config.text_config)
    embeds, total = janus.model.get_input_embeddings()(prefill.ids[None]), 0.0
    for code in codes:
        hidden = janus.model.model.language_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        scores = janus.model.model.generation_head(hidden.last_hidden_state[:, -1]).float()
        total += F.cross_entropy(scores, torch.tensor([code])).item()
        embeds = janus.model.prepare_embeddings_for_image_generation(torch.tensor([[code]]))
    assert trainable.ntp_sum(batch).item() == pytest.approx(total, rel=1e-3)


def test_a_blanked_prompt_keeps_its_groups_and_has_no_weight(janus, trainable):
    kept, blank = trainable.collate([DRAWN], [False]), trainable.collate([DRAWN], [True])
    assert (kept.weights.tolist(), blank.weights.tolist()) == ([1.0], [0.0])
    assert torch.equal(kept.groups, blank.groups) and torch.equal(kept.labels, blank.labels)
    prefill = janus.prefill(DRAWN.prompt).length
    ids = blank.ids[0, :prefill].tolist()
    assert ids[0] == janus.tokenizer.bos_token_id and ids[-1] == janus.tokenizer.boi_token_id
    assert set(ids[1:-1]) == {janus.tokenizer.pad_token_id}
