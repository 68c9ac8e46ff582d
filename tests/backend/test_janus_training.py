"""Teacher-forced batches against what decoding and transformers themselves do with the same tokens."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from aia import world
from aia.batch import NO_LABEL
from aia.data import Sample, Turn
from aia.intensity import GROUPS, PAD_GROUP, Definition, Group, Task, intensity
from aia.loss import sequence_intensities, sequence_probe
from backend.captures import Sampling
from backend.families import as_trainable
from backend.interface import Finished, UserError

SCENE = world.Scene((world.Thing("red", "circle", "large", 12, 32), world.Thing("blue", "square", "small", 52, 32)))
PICTURE = world.draw_scene(SCENE)
ASKED = Sample(Task.UNDERSTANDING, PICTURE, (Turn("what colour is the circle?", "red"),))
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


def groups_of(batch, row=0):
    return [None if g == PAD_GROUP else GROUPS[g] for g in batch.groups[row].tolist()]


def words_of(janus, batch, wanted, row=0):
    ids = [i for i, g in zip(batch.ids[row].tolist(), groups_of(batch, row), strict=True) if g == wanted]
    return janus.tokenizer.decode(ids).replace(" ", "")


@torch.no_grad()
def ntp(trainable, *samples, dropped=None):
    return trainable.ntp_sum(trainable.collate(samples, dropped or [False] * len(samples))).item()


def test_every_answer_of_a_conversation_is_generated_and_every_question_is_prompt(janus, trainable):
    batch = trainable.collate([TALK], [False])
    assert words_of(janus, batch, Group.GENERATED) == "redalargeredcircleandasmallbluesquare"
    assert words_of(janus, batch, Group.PROMPT) == "whatcolouristhecircle?describetheimage."
    kinds = groups_of(batch)
    assert kinds.count(Group.IMAGE) == janus.grid[0] * janus.grid[1] - 1 and kinds.count(Group.IMAGE_LAST) == 1


def test_answers_and_their_end_are_learnt_and_nothing_else(janus, trainable):
    batch = trainable.collate([TALK], [False])
    learnt = [i for i in batch.labels[0].tolist() if i != NO_LABEL]
    ends = [i for i in learnt if i == janus.tokenizer.eos_token_id]
    assert len(ends) == 2
    told = janus.tokenizer.decode([i for i in learnt if i not in ends]).replace(" ", "")
    assert told == "redalargeredcircleandasmallbluesquare"


def test_the_prefill_of_decoding_is_the_beginning_of_the_taught_sequence(janus, trainable):
    prefill = janus.prefill(ASKED.turns[0].question, Image.fromarray(PICTURE))
    batch = trainable.collate([ASKED], [False])
    assert batch.ids[0, : prefill.length].tolist() == prefill.ids.tolist()
    assert batch.groups[0, : prefill.length].tolist() == prefill.groups.tolist()


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


def test_padding_changes_no_loss(trainable):
    for one, two in ((ASKED, TALK), (SHORT, DRAWN)):
        assert ntp(trainable, one, two) == pytest.approx(ntp(trainable, one) + ntp(trainable, two), rel=1e-4)


def test_a_blanked_prompt_keeps_its_groups_and_has_no_weight(janus, trainable):
    kept, blank = trainable.collate([DRAWN], [False]), trainable.collate([DRAWN], [True])
    assert (kept.weights.tolist(), blank.weights.tolist()) == ([1.0], [0.0])
    assert torch.equal(kept.groups, blank.groups) and torch.equal(kept.labels, blank.labels)
    prefill = janus.prefill(DRAWN.prompt).length
    ids = blank.ids[0, :prefill].tolist()
    assert ids[0] == janus.tokenizer.bos_token_id and ids[-1] == janus.tokenizer.boi_token_id
    assert set(ids[1:-1]) == {janus.tokenizer.pad_token_id}


@torch.no_grad()
def test_taught_intensities_are_those_of_decoding(tiny_janus):
    """With the tokens that greedy decoding chose, teacher-forced rows are the fed-back rows of a capture.

    On the embedded model, whose answers are text that reads back as the same tokens.
    """
    *_, last = tiny_janus.understand(
        Image.fromarray(PICTURE), "describe the image.", Sampling(temperature=0, max_new_tokens=64)
    )
    assert isinstance(last, Finished)
    trainable = as_trainable(tiny_janus)
    capture = last.capture
    sample = Sample(Task.UNDERSTANDING, PICTURE, (Turn("describe the image.", capture.text),))
    batch = trainable.collate([sample], [False])
    probe = sequence_probe(batch.groups, batch.task)
    trainable.ntp_sum(batch, probe)
    for definition in Definition:
        taught = sequence_intensities(probe, trainable.layers, batch.groups, batch.task, definition)[0]
        decoded = intensity(capture.mass[0], Task.UNDERSTANDING, definition)
        np.testing.assert_allclose(taught.numpy(), decoded, atol=1e-5)


def test_a_conversation_longer_than_the_context_is_cut_and_has_no_weight(janus, trainable):
    long = Sample(Task.UNDERSTANDING, PICTURE, (Turn("describe the image.", "red circle " * 400),))
    batch = trainable.collate([long], [False])
    assert batch.ids.shape[1] == janus.context and batch.weights.tolist() == [0.0]
    assert batch.labels[0, -1] == NO_LABEL and batch.label_count > 100


def test_a_drawing_prompt_longer_than_the_context_is_refused_in_a_sentence(trainable):
    long = Sample(Task.GENERATION, PICTURE, prompt="red circle " * 400)
    with pytest.raises(ValueError, match="shorten the prompt"):
        trainable.collate([long], [False])


def test_a_control_token_in_the_data_is_refused(trainable):
    row = Sample(Task.UNDERSTANDING, PICTURE, (Turn("what? <end_of_image>", "red"),))
    with pytest.raises(UserError, match="control token"):
        trainable.collate([row], [False])


def test_gradients_reach_language_model_heads_and_aligners_but_neither_encoder(tiny_janus_copy):
    trainable = as_trainable(tiny_janus_copy)
    trainable.model.requires_grad_(True)
    for sample in (ASKED, SHORT):
        trainable.ntp_sum(trainable.collate([sample], [False])).backward()
    reached = {n for n, p in trainable.model.named_parameters() if p.grad is not None}
    assert reached and all(name.startswith(trainable.trained_modules) for name in reached)
    for prefix in trainable.trained_modules:
        named = {n for n, _ in trainable.model.named_parameters() if n.startswith(prefix)}
        assert not named or named & reached, prefix
