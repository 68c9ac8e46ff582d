"""What every family that draws promises of a drawing: spans, masses of both branches, streaming, batches, refusals."""

import threading

import numpy as np
import pytest

from aia.intensity import Group
from backend.interface import Cancelled, Finished, PictureGrown, UserError
from backend.kept.captures import Sampling
from tests.backend.contract.helpers import drawn_once, eager_attention, finish, squeeze, tokens_of

PROMPT = "a red circle"
GUIDED = Sampling(seed=3, guidance=2.5)


def test_every_token_of_a_drawing_prompt_has_the_right_group(drawing, family_of):
    capture = drawn_once(drawing, PROMPT, GUIDED)
    assert squeeze("".join(tokens_of(capture, Group.PROMPT))) == squeeze(PROMPT)
    for group in (Group.BOS, Group.BOI):
        marker = family_of(drawing).MARKERS.get(group)
        assert tokens_of(capture, group) == ([marker] if marker else []), group
    assert not {Group.IMAGE, Group.IMAGE_LAST, Group.EOI} & set(capture.token_groups)
    total, _ = drawing.drawing_steps(drawing.drawing_prefill(PROMPT))
    assert len(tokens_of(capture, Group.GENERATED)) == total - 1 == len(capture.query_positions) - 1
    assert [capture.tokens[p] for p in capture.cross_positions] == tokens_of(capture, Group.PROMPT)


def test_a_drawing_prompt_that_repeats_template_words_is_still_found(drawing):
    capture = finish(drawing.generate("user : assistant", Sampling(guidance=1.0)))
    assert squeeze("".join(tokens_of(capture, Group.PROMPT))).lower().startswith(("user", "<unk>"))


def test_every_patch_has_the_row_that_chose_it(drawing):
    prefill = drawing.drawing_prefill(PROMPT)
    codes = list(drawing.image_codes(prefill, GUIDED))
    capture = drawn_once(drawing, PROMPT, GUIDED)
    rows, columns = capture.grid
    assert capture.patch_rows.shape == (rows * columns,)
    made = [drawing.describe_code(code) for code in codes]
    patches = [made[row] for row in capture.patch_rows]
    assert all(words.startswith("code ") for words in patches)
    assert len(patches) == sum(words.startswith("code ") for words in made)
    fed = [made[row] for row in range(len(made) - 1)]
    assert list(capture.query_tokens[1:]) == fed


def test_masses_equal_whole_attention_maps_of_an_uncached_pass_in_both_branches(drawing, family_of):
    capture = drawn_once(drawing, PROMPT, GUIDED)
    prefill = drawing.drawing_prefill(PROMPT)
    codes = list(drawing.image_codes(prefill, GUIDED))
    with eager_attention(drawing):
        branches = family_of(drawing).draw_uncached(drawing, prefill, GUIDED, codes[:-1])
    assert capture.mass.shape[0] == len(branches) == 2
    steps = len(codes)
    for branch, maps in enumerate(branches):
        groups = [*capture.token_groups]
        if maps[0].shape[-1] < len(groups):  # the unconditional branch is shorter where the prompt is left out
            groups = [g for g in groups if g != Group.PROMPT]
        for layer, attention in enumerate(maps):
            rows = attention[0, :, -steps:]
            for column, group in enumerate(Group):
                keys = [i for i, g in enumerate(groups) if g == group]
                np.testing.assert_allclose(
                    capture.mass[branch, layer, :, :, column], rows[..., keys].sum(-1), atol=1e-5
                )
            if branch == 0:
                mean = rows.mean(0)[:, capture.cross_positions]
                np.testing.assert_allclose(capture.cross[layer].astype(np.float32), mean, atol=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_streamed_drawings_equal_batched_ones(drawing, guidance):
    greedy = Sampling(temperature=0.0, guidance=guidance)
    prompts = [PROMPT, "a blue square and a yellow star"]
    for prompt, other in zip(prompts, drawing.draw_batch(prompts, greedy), strict=True):
        prefill = drawing.drawing_prefill(prompt)
        one = drawing.draw(list(drawing.image_codes(prefill, greedy)), prefill.grid)
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


def test_a_seed_reproduces_a_drawing_bit_for_bit_and_another_seed_differs(drawing):
    first, again, other = (finish(drawing.generate(PROMPT, Sampling(seed=seed, guidance=2.0))) for seed in (5, 5, 6))
    assert np.array_equal(first.mass, again.mass) and first.picture_png == again.picture_png
    assert first.id == again.id != other.id
    assert first.tokens != other.tokens


def test_drawings_stream_row_by_row(drawing):
    *grown, last = drawing.generate(PROMPT, Sampling(guidance=2.0))
    assert isinstance(last, Finished) and all(isinstance(event, PictureGrown) for event in grown)
    rows = last.capture.grid[0]
    assert [e.done for e in grown] == sorted({e.done for e in grown}) and len(grown) == rows - 1
    for number, event in enumerate(grown, 1):  # what is not drawn yet is transparent
        alpha = np.asarray(event.picture.getchannel("A"))
        assert (alpha > 0).mean() == pytest.approx(number / rows)
        assert alpha[0].min() == 255 and alpha[-1].max() == 0


def test_without_guidance_there_is_one_branch(drawing):
    assert drawn_once(drawing, PROMPT, Sampling(guidance=1.0)).mass.shape[0] == 1


def test_cancelling_a_drawing_stops_between_tokens(drawing):
    flag = threading.Event()
    events = drawing.generate(PROMPT, Sampling(guidance=2.0), flag)
    next(events)
    flag.set()
    with pytest.raises(Cancelled):
        list(events)


def test_a_control_token_in_a_drawing_prompt_is_refused_by_name(drawing, family_of):
    control = family_of(drawing).CONTROL
    with pytest.raises(UserError, match="control token") as refused:
        list(drawing.generate(f"a {control}", Sampling()))
    assert control in str(refused.value)


def test_a_drawing_prompt_longer_than_the_context_is_refused(drawing):
    with pytest.raises(UserError, match="shorten"):
        list(drawing.generate("red " * drawing.context, Sampling()))
