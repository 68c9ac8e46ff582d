"""What is special of Emu3 under training: everything is ids, row ends are not learnt, pictures of any shape."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from aia.batch import NO_LABEL
from aia.data import Sample, Turn
from aia.intensity import Task
from backend.families import as_trainable, load_model
from tests.checkpoints import emu3

WIDE = np.asarray(Image.effect_noise((200, 60), 90).convert("RGB"))
TALL = np.asarray(Image.effect_noise((40, 90), 90).convert("RGB"))
TALK = Sample(Task.UNDERSTANDING, WIDE, (Turn("what is it?", "noise"), Turn("and how wide?", "very wide")))
DRAWN = Sample(Task.GENERATION, WIDE, prompt="a red circle left of a blue square")
OTHER = Sample(Task.GENERATION, TALL, prompt="noise")


@pytest.fixture(scope="module")
def trainable(tmp_path_factory):
    return as_trainable(load_model(emu3.make(tmp_path_factory.mktemp("random-emu3"))))


@pytest.mark.parametrize("sample", [TALK, DRAWN], ids=["answer", "drawing"])
@torch.no_grad()
def test_the_loss_is_transformers_own_on_the_same_labels(trainable, sample):
    batch = trainable.collate([sample], [False])
    logits = trainable.model(input_ids=batch.ids).logits.float()
    wanted = F.cross_entropy(logits[0], batch.labels[0], ignore_index=NO_LABEL, reduction="sum")
    assert trainable.ntp_sum(batch).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert batch.pictures is None and batch.codes is None


def test_visual_tokens_are_learnt_and_row_ends_are_fed_but_not_learnt(trainable):
    family = trainable.family
    batch = trainable.collate([DRAWN], [False])
    prefill = family.drawing_prefill(DRAWN.prompt, "2x9")
    made = batch.ids[0, prefill.length :]
    assert batch.ids[0, : prefill.length].tolist() == prefill.ids.tolist()
    assert len(made) == 2 * 10 and (made == family.row_end).nonzero().flatten().tolist() == [9, 19]
    learnt = batch.labels[0][batch.labels[0] != NO_LABEL]
    assert learnt.tolist() == made[made != family.row_end].tolist()
    assert set(learnt.tolist()) <= set(family.visual_ids.tolist())


def test_a_drawn_picture_has_the_area_of_the_models_drawings_and_keeps_its_shape(trainable):
    rows, columns = trainable.family.usual_grid
    for picture in (WIDE, TALL, np.zeros((8, 8, 3), np.uint8)):
        [codes] = trainable.codes([Sample(Task.GENERATION, picture, prompt="noise")])
        height, width = codes.shape[0], codes.shape[1] - 1
        assert 0.5 * rows * columns <= height * width <= rows * columns
        assert width / height == pytest.approx(picture.shape[1] / picture.shape[0], rel=0.4)


def test_drawings_of_different_shapes_go_in_one_batch(trainable):
    one, two, both = ([DRAWN], [OTHER], [DRAWN, OTHER])
    with torch.no_grad():
        losses = [trainable.ntp_sum(trainable.collate(rows, [False] * len(rows))).item() for rows in (one, two, both)]
    assert losses[2] == pytest.approx(losses[0] + losses[1], rel=1e-4)


def test_a_dropped_prompt_is_the_empty_prompt(trainable):
    batch = trainable.collate([DRAWN], [True])
    settings = {"return_for_image_generation": True, "image_area": 2 * 9 * 64, "ratio": "9:2"}
    [empty] = trainable.family.processor(text=[""], **settings).input_ids
    assert batch.ids[0, : len(empty)].tolist() == empty


def test_an_end_token_follows_each_answer_at_once(trainable):
    batch = trainable.collate([TALK], [False])
    told = trainable.tokenizer.decode(batch.ids[0])
    assert " ASSISTANT: noise<|extra_204|> USER: and how wide? ASSISTANT: very wide<|extra_204|>" in told
    assert told.endswith("<|extra_204|>")
