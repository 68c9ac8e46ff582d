"""What every family promises of a second look: single heads are those of whole maps, their mean the capture's."""

import dataclasses

import numpy as np
import pytest
import torch

from backend.interface import UserError
from backend.kept.captures import Sampling
from tests.backend.contract.helpers import PICTURE, QUESTION, answered, drawn_once, eager_attention

PROMPT = "a red circle"
GUIDED = Sampling(seed=3, guidance=2.5)
CLOSE = 1e-3  # a capture keeps means in half precision


def every_row(capture):
    return range(len(capture.query_positions))


def test_heads_of_an_answer_have_the_captured_mean(seeing):
    capture = answered(seeing)
    found = seeing.look_again(capture, every_row(capture))
    assert found.drawn is None and found.cross.shape == (capture.layers, capture.heads, *capture.cross.shape[1:])
    np.testing.assert_allclose(found.cross.mean(1), capture.cross, atol=CLOSE)
    one = seeing.look_again(capture, range(1, 2))
    np.testing.assert_allclose(one.cross, found.cross[:, :, 1:2], atol=1e-6)
    head = seeing.look_again(capture, every_row(capture), (1, 2))
    np.testing.assert_allclose(head.cross, found.cross[1, 2], atol=1e-6)


def test_heads_of_an_answer_are_those_of_whole_attention_maps(random_seeing):
    capture = answered(random_seeing)
    prefill = random_seeing.prefill(QUESTION, PICTURE)
    ids = torch.cat([prefill.ids, torch.from_numpy(capture.made_ids).long()])
    groups = torch.cat([prefill.groups, prefill.groups.new_full((len(capture.made_ids),), 7)])
    with eager_attention(random_seeing):
        inputs = random_seeing.first_inputs(dataclasses.replace(prefill, ids=ids, groups=groups))
        maps = random_seeing.model(**inputs, output_attentions=True, use_cache=False).attentions
    expected = torch.stack(maps, 1)[0][:, :, capture.query_positions][..., capture.cross_positions]
    # The picture is read again from the capture, where a family may have rounded or resized it once.
    found = random_seeing.look_again(capture, every_row(capture)).cross
    np.testing.assert_allclose(found, expected, atol=CLOSE)


def test_heads_of_a_drawing_are_those_of_whole_attention_maps(drawing, family_of):
    capture = drawn_once(drawing, PROMPT, GUIDED)
    prefill = drawing.drawing_prefill(PROMPT)
    with eager_attention(drawing):
        maps = family_of(drawing).draw_uncached(drawing, prefill, GUIDED, capture.made_ids.tolist())[0]
    whole = torch.stack(maps, 1)[0][:, :, capture.query_positions]  # [L, H, Q, K]
    found = drawing.look_again(capture, every_row(capture))
    np.testing.assert_allclose(found.cross, whole[..., capture.cross_positions], atol=1e-5)
    made = capture.patch_rows < len(capture.made_ids)
    patches = whole[..., prefill.length + capture.patch_rows[made]]
    np.testing.assert_allclose(found.drawn[..., made], patches, atol=1e-5)
    assert not found.drawn[..., ~made].any()
    np.testing.assert_allclose(found.drawn.mean(1), capture.drawn, atol=1e-3)
    np.testing.assert_allclose(found.cross.mean(1), capture.cross, atol=1e-3)


def test_a_patch_of_a_drawing_looks_at_earlier_patches_only(drawing):
    capture = drawn_once(drawing, PROMPT, GUIDED)
    rows, columns = capture.grid
    assert capture.drawn.shape == (capture.layers, len(capture.query_positions), rows * columns)
    chose = capture.drawn[:, capture.patch_rows]  # [L, P, P]
    assert np.array_equal(chose, np.tril(chose, -1)) and (chose[:, 1:, 0] > 0).all()
    found = drawing.look_again(capture, range(4, 5), (0, 1))
    assert found.drawn.shape == (1, rows * columns)
    assert np.array_equal(found.drawn[0] > 0, capture.patch_rows < 4)


def test_a_capture_without_token_ids_is_decoded_again(seeing):
    capture = answered(seeing)
    old = dataclasses.replace(capture, made_ids=None)
    np.testing.assert_array_equal(seeing.look_again(old, range(2)).cross, seeing.look_again(capture, range(2)).cross)
    if len(capture.made_ids) > 1:
        other = dataclasses.replace(old, tokens=(*old.tokens[:-1], "never said"))
        with pytest.raises(UserError, match="makes others"):
            seeing.look_again(other, range(2))


def test_a_drawing_without_token_ids_is_drawn_again(drawing):
    capture = drawn_once(drawing, PROMPT, GUIDED)
    old = dataclasses.replace(capture, made_ids=None)
    again, kept = (drawing.look_again(one, range(3, 5)).drawn for one in (old, capture))
    np.testing.assert_array_equal(again, kept)


def test_rows_heads_and_prompts_that_there_are_not_are_refused(random_seeing):
    capture = answered(random_seeing)
    count = len(capture.query_positions)
    for rows in (range(0), range(count, count + 1), range(-1, 1), range(0, 2, 2)):
        with pytest.raises(UserError, match="Expected rows"):
            random_seeing.look_again(capture, rows)
    for head in ((capture.layers, 0), (0, capture.heads), (-1, 0)):
        with pytest.raises(UserError, match="Expected a head"):
            random_seeing.look_again(capture, range(1), head)
    other = dataclasses.replace(capture, key=dataclasses.replace(capture.key, prompt="how many?"))
    with pytest.raises(UserError, match="reads other tokens"):
        random_seeing.look_again(other, range(1))
