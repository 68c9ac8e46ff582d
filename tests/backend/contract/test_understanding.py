"""What every family promises of an answer: spans, masses, streaming, batches, refusals."""

import dataclasses
import threading

import numpy as np
import pytest
import torch

from aia.intensity import Group, group_index
from backend.interface import Cancelled, Finished, TextGrown, UserError
from backend.kept.captures import Sampling
from backend.models.specs import Precision
from tests.backend.contract.helpers import (
    GREEDY,
    PICTURE,
    QUESTION,
    answered,
    eager_attention,
    finish,
    squeeze,
    tokens_of,
)


def test_every_token_of_a_question_has_the_right_group(seeing, family_of):
    capture = answered(seeing)
    for group in (Group.BOS, Group.BOI, Group.EOI):
        marker = family_of(seeing).MARKERS.get(group)
        assert tokens_of(capture, group) == ([marker] if marker else []), group
    assert squeeze("".join(tokens_of(capture, Group.PROMPT))) == squeeze(QUESTION)
    assert squeeze(QUESTION) not in squeeze("".join(tokens_of(capture, Group.TEMPLATE)))
    assert len(tokens_of(capture, Group.GENERATED)) == len(capture.query_positions) - 1


def test_the_image_is_one_run_of_tokens_with_the_last_apart_and_a_position_for_every_patch(seeing):
    capture = answered(seeing)
    places = [i for i, g in enumerate(capture.token_groups) if g in (Group.IMAGE, Group.IMAGE_LAST)]
    assert places == list(range(places[0], places[-1] + 1))
    assert [i for i, g in enumerate(capture.token_groups) if g == Group.IMAGE_LAST] == places[-1:]
    rows, columns = capture.grid
    assert len(capture.cross_positions) == rows * columns and set(capture.cross_positions) <= set(places)
    assert list(capture.cross_positions) == sorted(capture.cross_positions)


def test_a_question_that_repeats_template_words_is_still_found(seeing):
    for question in ("user assistant", "assistant : user"):
        capture = finish(seeing.understand(PICTURE, question, GREEDY))
        found = squeeze("".join(tokens_of(capture, Group.PROMPT)))
        assert found == squeeze(question) or "unk" in found


def test_masses_sum_to_one_and_rows_are_the_fed_back_tokens(seeing):
    capture = answered(seeing)
    np.testing.assert_allclose(capture.mass.sum(-1), 1, atol=1e-5)
    positions = capture.query_positions
    assert all(capture.token_groups[p] == Group.GENERATED for p in positions[1:])
    assert capture.token_groups[positions[0]] != Group.GENERATED  # the prefill's last row
    assert capture.mass.shape[3] == len(positions) == len(capture.query_tokens)


def test_masses_and_tokens_are_those_of_an_uncached_pass_with_whole_attention_maps(seeing):
    capture = answered(seeing)
    prefill = seeing.prefill(QUESTION, PICTURE)
    made = list(seeing.answer_tokens(prefill, GREEDY))
    fed = made[: len(capture.query_positions) - 1]
    ids = torch.cat([prefill.ids, torch.tensor(fed, dtype=torch.long)])
    groups = torch.cat([prefill.groups, torch.full((len(fed),), group_index(Group.GENERATED))])
    with eager_attention(seeing):
        inputs = seeing.first_inputs(dataclasses.replace(prefill, ids=ids, groups=groups))
        output = seeing.model(**inputs, output_attentions=True, use_cache=False)
    chosen = output.logits[0, torch.from_numpy(capture.query_positions).long()].argmax(-1).tolist()
    assert chosen[: len(made)] == made
    for layer, attention in enumerate(output.attentions):
        rows = attention[0][:, capture.query_positions]  # [H, Q, K]
        for column, group in enumerate(Group):
            keys = [i for i, g in enumerate(capture.token_groups) if g == group]
            np.testing.assert_allclose(capture.mass[0, layer, :, :, column], rows[:, :, keys].sum(-1), atol=1e-5)
        mean = rows.mean(0)[:, capture.cross_positions]
        np.testing.assert_allclose(capture.cross[layer].astype(np.float32), mean, atol=1e-3)  # stored as float16


def test_streamed_answers_equal_transformers_batched_generation(seeing):
    prompts = [QUESTION, "how many objects are there?", "describe the image."]
    streamed = [answered(seeing, p).text for p in prompts]
    assert streamed == seeing.answer_batch([PICTURE] * 3, prompts, GREEDY.max_new_tokens)


def test_answers_stream(seeing):
    *grown, last = seeing.understand(PICTURE, QUESTION, GREEDY)
    assert grown and all(isinstance(event, TextGrown) for event in grown) and isinstance(last, Finished)
    assert grown[-1].text == last.capture.text and not last.cached


def test_a_seed_reproduces_an_answer_bit_for_bit_and_another_seed_differs(random_seeing):
    def ask(seed):
        return finish(random_seeing.understand(PICTURE, QUESTION, Sampling(seed, temperature=1.5, max_new_tokens=12)))

    first, again, other = ask(5), ask(5), ask(6)
    assert np.array_equal(first.mass, again.mass) and first.tokens == again.tokens
    assert first.id == again.id != other.id
    assert first.tokens != other.tokens


def test_the_key_of_a_capture_is_known_before_it_is_made(seeing):
    key = seeing.understanding_key(PICTURE, QUESTION, GREEDY)
    assert finish(seeing.understand(PICTURE, QUESTION, GREEDY)).key == key


def test_cancelling_an_answer_stops_between_tokens(random_seeing):
    flag = threading.Event()
    events = random_seeing.understand(PICTURE, QUESTION, GREEDY, flag)
    next(events)
    flag.set()
    with pytest.raises(Cancelled):
        list(events)


def test_a_control_token_in_a_question_is_refused_by_name(seeing, family_of):
    control = family_of(seeing).CONTROL
    with pytest.raises(UserError, match="control token") as refused:
        list(seeing.understand(PICTURE, f"what is {control}?", GREEDY))
    assert control in str(refused.value)


def test_a_question_longer_than_the_context_is_refused(seeing):
    with pytest.raises(UserError, match="shorten"):
        list(seeing.understand(PICTURE, "red " * seeing.context, GREEDY))


def test_weights_in_four_bit_load_and_answer(random_seeing, copy_of):
    small = copy_of(random_seeing, precision=Precision.NF4)
    quantised = {name for name, part in small.model.named_modules() if "4bit" in type(part).__name__}
    assert not [name for name in quantised if set(name.split(".")) & set(small.unquantised)]
    assert len(quantised) >= 7 * small.text_config.num_hidden_layers  # all projections of the language model
    assert small.precision == "nf4"
    capture = finish(small.understand(PICTURE, QUESTION, GREEDY))
    assert capture.key.precision == "nf4"
    np.testing.assert_allclose(capture.mass.sum(-1), 1, atol=1e-5)
