"""What is special of the Janus family; what it shares with the others is in the contract tests."""

import io

import pytest
import torch
from PIL import Image

from aia import world
from aia.intensity import Group
from backend.families.decoding import guide
from backend.kept.captures import Sampling
from tests.backend.contract.helpers import finish, tokens_of

GREEDY = Sampling(temperature=0.0, max_new_tokens=12)
SCENE = world.Scene((world.Thing("red", "circle", "large", 12, 32), world.Thing("blue", "square", "small", 52, 32)))
PICTURE = Image.fromarray(world.draw_scene(SCENE))
QUESTION = "what colour is the circle?"


@pytest.fixture(params=["tiny_janus", "random_janus"])
def model(request):
    return request.getfixturevalue(request.param)


def test_roles_are_template_and_image_tokens_fill_the_fixed_grid(model):
    capture = finish(model.understand(PICTURE, QUESTION, GREEDY))
    template = "".join(tokens_of(capture, Group.TEMPLATE))
    assert "User" in template and "Assistant" in template
    assert capture.grid == model.grid
    assert len(tokens_of(capture, Group.IMAGE)) == model.grid[0] * model.grid[1] - 1


def test_the_branch_without_the_prompt_has_padding_in_place_of_all_but_two_tokens(model):
    prefill = model.prefill("a red circle")
    blank = model.blank(prefill.ids).tolist()
    assert blank[0] == model.tokenizer.bos_token_id and blank[-1] == model.tokenizer.boi_token_id
    assert set(blank[1:-1]) == {model.tokenizer.pad_token_id} and len(blank) == prefill.length


def test_the_capture_holds_the_picture_that_the_model_saw(tiny_janus):
    wide = Image.new("RGB", (200, 100), (200, 30, 30))
    capture = finish(tiny_janus.understand(wide, QUESTION, GREEDY))
    seen = Image.open(io.BytesIO(capture.picture_png))
    assert seen.size == (64, 64)
    assert seen.getpixel((32, 32))[0] > 150 > seen.getpixel((32, 2))[0]  # padded above and below


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
