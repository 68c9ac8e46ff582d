"""The Emu3 family against transformers' own processor, forward pass and generation, on a random checkpoint."""

import numpy as np
import pytest
import torch
from PIL import Image

from aia.intensity import PAD_GROUP, Group, group_index
from backend.families import load_model
from backend.families.emu3 import SYSTEM
from backend.interface import Finished, UserError
from backend.kept.capture_files import capture_from_npz, capture_to_npz
from backend.kept.captures import Sampling
from backend.models.drawing_sizes import parse_size
from tests.checkpoints import emu3

GREEDY = Sampling(temperature=0.0, guidance=3.0)
QUESTION = "what colour is the circle?"
PICTURES = [
    Image.effect_noise((64, 64), 90).convert("RGB"),
    Image.effect_noise((30, 70), 90).convert("RGB"),
    Image.effect_noise((90, 24), 90).convert("RGBA"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(emu3.make(tmp_path_factory.mktemp("random-emu3")))


def chat(question):
    said = [{"type": "text", "text": question}]
    return [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
        {"role": "user", "content": [{"type": "image"}, *said]},
    ]


def process(model, question, picture):
    text = model.processor.apply_chat_template(chat(question), add_generation_prompt=True)
    return model.processor(text=[text], images=[picture.convert("RGB")], return_tensors="pt")


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: f"{picture.width}x{picture.height}")
def test_a_question_is_what_the_processor_makes_of_the_chat_template_and_the_picture(model, picture):
    prefill, inputs = model.prefill(QUESTION, picture), process(model, QUESTION, picture)
    seen = inputs.input_ids[0] == model.tokenizer.image_token_id
    assert prefill.ids[~seen].tolist() == inputs.input_ids[0][~seen].tolist()
    groups = prefill.groups.tolist()
    assert {groups[i] for i in seen.nonzero().flatten().tolist()[:-1]} == {group_index(Group.IMAGE)}
    assert groups[int(seen.nonzero()[-1])] == group_index(Group.IMAGE_LAST)
    with torch.inference_mode():
        ours = model.model(input_ids=prefill.ids[None]).logits
        theirs = model.model(**inputs).logits
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: f"{picture.width}x{picture.height}")
def test_the_map_of_patches_leaves_row_ends_out_and_lies_over_the_picture(model, picture):
    prefill = model.prefill(QUESTION, picture)
    rows, columns = prefill.grid
    shown = model.see(picture)
    assert (shown.height, shown.width) == (rows * 8, columns * 8)
    assert len(set(prefill.patches.tolist())) == rows * columns
    assert set(prefill.ids[prefill.patches].tolist()) <= set(model.visual_ids.tolist())
    between = prefill.patches.view(rows, columns)[:, -1] + 1
    assert prefill.ids[between].tolist() == [model.row_end] * rows


def test_size_and_end_of_picture_are_template(model):
    prefill = model.prefill("what?", PICTURES[1])
    rows, columns = prefill.grid
    template = model.tokenizer.decode(prefill.ids[prefill.groups == group_index(Group.TEMPLATE)])
    assert f"{rows}*{columns}<|image token|><|extra_201|>" in template and template.startswith(f"{SYSTEM} USER:")


@pytest.mark.parametrize(("size", "ratio", "area"), [("", "1:1", 1600), ("3x5", "5:3", 960), ("6x2", "2:6", 768)])
def test_a_drawing_prompt_is_what_the_processor_makes_of_it(model, size, ratio, area):
    settings = {"return_for_image_generation": True, "image_area": area, "ratio": ratio}
    prefill = model.drawing_prefill("a red circle", size)
    theirs = model.processor(text=["a red circle"], **settings)
    assert prefill.ids.tolist() == theirs.input_ids[0] and list(prefill.grid) == theirs.image_sizes[0]
    assert model.blank(prefill).ids.tolist() == model.processor(text=[""], **settings).input_ids[0]


def test_the_usual_size_is_the_processors_own_where_the_checkpoint_reads_it(model):
    settings = model.processor.image_processor
    small, settings.max_pixels = settings.max_pixels, 1024 * 1024  # as Emu3-Gen has it
    try:
        assert model.usual_grid == (90, 90)
    finally:
        settings.max_pixels = small
    assert model.usual_grid == (5, 5)


def allowed_tokens(model, rows, columns):
    """The grammar of transformers' documentation of Emu3 (model_doc/emu3.md)."""
    tokenizer, visual = model.tokenizer, model.model.vocabulary_mapping.image_tokens

    def allow(_, ids):
        offset = len(ids) - int((ids == tokenizer.image_wrapper_token_id).nonzero()[0])
        if offset % (columns + 1) == 0:
            return [model.row_end]
        last = (columns + 1) * rows
        ends = {last + 1: tokenizer.eof_token_id, last + 2: tokenizer.eoi_token_id, last + 3: tokenizer.eos_token_id}
        return [ends.get(offset, tokenizer.pad_token_id)] if offset > last else visual

    return allow


@pytest.mark.parametrize("size", ["", "3x4"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_greedy_drawing_is_that_of_transformers_own_generation(model, size, guidance):
    sampling = Sampling(temperature=0.0, guidance=guidance, size=size)
    prefill = model.drawing_prefill("a red circle left of a blue square", size)
    guided = {"guidance_scale": guidance, "negative_prompt_ids": model.blank(prefill).ids[None]} if guidance > 1 else {}
    rows, columns = prefill.grid
    with torch.inference_mode():
        whole = model.model.generate(
            prefill.ids[None],
            do_sample=False,
            max_new_tokens=rows * (columns + 1) + 3,
            prefix_allowed_tokens_fn=allowed_tokens(model, rows, columns),
            **guided,
        )
        pixels = model.model.decode_image_tokens(image_tokens=whole[:, prefill.length :], height=rows, width=columns)
    made = list(model.image_codes(prefill, sampling))
    assert made == whole[0, prefill.length : -3].tolist()
    theirs = model.processor.postprocess(list(pixels.float()), return_tensors="PIL.Image.Image")["pixel_values"][0]
    ours = model.draw(made, prefill.grid)
    assert ours.size == (columns * 8, rows * 8)
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1  # they cut decimals off


def test_the_branch_without_the_prompt_is_padded_on_the_left_and_sees_no_padding(model):
    prefill = model.drawing_prefill("a red circle")
    words = int((prefill.groups == group_index(Group.PROMPT)).sum())
    groups = model.branch_groups(prefill, GREEDY)
    assert groups[0].tolist() == prefill.groups.tolist()
    assert groups[1].tolist() == [PAD_GROUP] * words + model.blank(prefill).groups.tolist()
    *_, last = model.generate("a red circle", GREEDY)
    np.testing.assert_allclose(last.capture.mass.sum(-1), 1, atol=1e-5)
    assert last.capture.mass[1, ..., group_index(Group.PROMPT)].max() == 0


def test_a_drawing_of_another_size_is_another_capture_with_its_own_grid(model):
    *_, usual = model.generate("a red circle", GREEDY)
    *grown, wide = model.generate("a red circle", Sampling(temperature=0.0, guidance=3.0, size="2x6"))
    assert isinstance(wide, Finished) and wide.capture.grid == (2, 6) and wide.capture.id != usual.capture.id
    assert wide.capture.patch_rows.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    assert [event.picture.size for event in grown] == [(48, 16)]
    assert model.generation_key("a red circle", Sampling(0, 0.0, 3.0, size="5x5")) == usual.capture.key
    again = capture_from_npz(capture_to_npz(wide.capture))
    assert again.id == wide.capture.id and again.patch_rows.tolist() == wide.capture.patch_rows.tolist()


@pytest.mark.parametrize("size", ["0x4", "4", "4x513", "axb", "4x-2", "1000x2"])
def test_a_size_that_is_none_is_refused_in_a_sentence(size):
    with pytest.raises(UserError, match="Expected a size of rows and columns"):
        parse_size(size)


def test_a_size_that_the_context_cannot_hold_is_refused(model):
    with pytest.raises(UserError, match="at most 512 tokens"):
        list(model.generate("a red circle", Sampling(size="40x40")))


def test_a_family_of_one_size_refuses_a_size(random_janus):
    with pytest.raises(UserError, match="draws one size only"):
        list(random_janus.generate("a red circle", Sampling(size="4x4")))


def test_an_extreme_shape_is_refused_in_a_sentence(model):
    with pytest.raises(UserError, match="less extreme shape"):
        model.prefill(QUESTION, Image.new("RGB", (1000, 4)))


def test_pictures_of_different_shapes_are_answered_in_one_batch_as_alone(model):
    alone = [model.answer_batch([picture], [QUESTION], 8)[0] for picture in PICTURES]
    assert model.answer_batch(PICTURES, [QUESTION] * 3, 8) == alone


def test_a_batch_of_drawings_has_a_picture_for_each_prompt_and_reproduces(model):
    sampling = Sampling(seed=4, temperature=1.0, guidance=2.0, size="3x4")
    prompts = ["a red circle", "a blue square and a yellow star", "a star"]
    first, again = model.draw_batch(prompts, sampling), model.draw_batch(prompts, sampling)
    assert [picture.size for picture in first] == [(32, 24)] * 3
    assert [picture.tobytes() for picture in first] == [picture.tobytes() for picture in again]
    assert len({picture.tobytes() for picture in first}) == 3
