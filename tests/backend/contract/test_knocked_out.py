"""What every family promises of a knock-out: the very numbers of eager attention with a mask made by hand."""

import base64
import dataclasses
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from aia.intensity import Group, group_index
from aia.knockout import Knockout
from backend.families.forced import ForcedDrawing, force
from backend.families.looking import made_again, read_again
from backend.interface import Cancelled, UserError
from backend.kept.captures import Sampling
from backend.kept.knockouts import Cut, HeadSettings, KnockoutReport, Settings, Way, default_width
from backend.knockout import Progress, knock_out, knock_out_heads, remake
from backend.pictures import load_picture
from tests.backend.contract.helpers import GREEDY, PICTURE, QUESTION, eager_attention, finish

PROMPT = "a red circle"


@pytest.fixture(scope="session")
def answered():
    return lambda model: finish(model.understand(PICTURE, QUESTION, GREEDY))


@pytest.fixture(scope="session")
def drawn():
    return lambda model: finish(model.generate(PROMPT, Sampling(seed=3, guidance=2.5)))


def report_of(model, capture, **settings):
    *steps, last = knock_out(model, capture, Settings(**{"width": default_width(capture.layers), **settings}))
    assert isinstance(last, KnockoutReport) and all(isinstance(step, Progress) for step in steps)
    assert steps[-1].done == steps[-1].total
    return last


@contextmanager
def forbidden_by_hand(model, keys: list[int], first: int, layers: set[int], head: int | None = None):
    """Eager attention whose causal mask has these keys at −inf for rows from `first` on, written layer by layer.

    In one head of them, where one is named.
    """
    attentions = [
        part
        for name, part in model.model.named_modules()
        if name.endswith("self_attn")
        and not {"vision_model", "vision_tower", "visual", "vqmodel"} & set(name.split("."))
    ]
    assert len(attentions) == model.text_config.num_hidden_layers

    def masked(inner, layer):
        def forward(*args, attention_mask=None, **kwargs):
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            length = hidden.shape[1]
            mask = torch.full((length, length), -torch.inf).triu(1)
            mask = mask.repeat(1, model.text_config.num_attention_heads, 1, 1)
            if layer in layers:
                mask[0, :, first:, keys] = torch.where(cut_heads, -torch.inf, mask[0, :, first:, keys])
            return inner(*args, attention_mask=mask, **kwargs)

        return forward

    cut_heads = torch.tensor([head in (None, h) for h in range(model.text_config.num_attention_heads)])[:, None, None]
    before = [part.forward for part in attentions]
    for layer, part in enumerate(attentions):
        part.forward = masked(part.forward, layer)
    try:
        with eager_attention(model):
            yield
    finally:
        for part, forward in zip(attentions, before, strict=True):
            part.forward = forward


def whole_pass(model, prefill, made):
    """Log-probabilities of an answer's tokens in one uncached pass."""
    made = torch.tensor(made)
    ids = torch.cat([prefill.ids, made[:-1]])
    groups = torch.cat([prefill.groups, torch.full((len(made) - 1,), group_index(Group.GENERATED))])
    inputs = model.first_inputs(dataclasses.replace(prefill, ids=ids, groups=groups))
    logits = model.model(**inputs, use_cache=False).logits[0, prefill.length - 1 :]
    return logits.float().log_softmax(-1).gather(-1, made[:, None])[:, 0]


@pytest.mark.parametrize("way", list(Way))
def test_drops_are_those_of_eager_attention_with_masks_made_by_hand(random_seeing, answered, way):
    capture = answered(random_seeing)
    report = report_of(random_seeing, capture, width=1, way=way, draws=0)
    keys = [i for i, g in enumerate(capture.token_groups) if g in (Group.IMAGE, Group.IMAGE_LAST)]
    first = int(capture.query_positions[0]) if way == Way.DIRECT else keys[-1] + 1
    prefill = random_seeing.prefill(QUESTION, PICTURE)
    made = list(random_seeing.answer_tokens(prefill, GREEDY))
    assert len(report.tokens) in (len(made), len(made) - 1)  # one that was never fed back is found where text tells
    known = prefill, made[: len(report.tokens)]
    assert (report.keys, len(report.drops)) == (len(keys), capture.layers)
    with forbidden_by_hand(random_seeing, keys, first, set()):
        plain = whole_pass(random_seeing, *known)
    np.testing.assert_allclose(report.log_probabilities, plain, atol=1e-4)
    for layer in range(capture.layers):
        with forbidden_by_hand(random_seeing, keys, first, {layer}):
            np.testing.assert_allclose(report.drops[layer], plain - whole_pass(random_seeing, *known), atol=2e-4)
    with forbidden_by_hand(random_seeing, keys, first, set(range(capture.layers))):
        np.testing.assert_allclose(report.all_layers, plain - whole_pass(random_seeing, *known), atol=2e-4)
    assert np.abs(report.all_layers).max() > 1e-3


def test_single_heads_are_those_of_eager_attention_with_a_mask_for_each(random_seeing, answered):
    capture = answered(random_seeing)
    *_, report = knock_out_heads(random_seeing, capture, HeadSettings())
    assert (len(report.drops), len(report.drops[0])) == (capture.layers, capture.heads)
    keys = [i for i, g in enumerate(capture.token_groups) if g in (Group.IMAGE, Group.IMAGE_LAST)]
    first = int(capture.query_positions[0])
    prefill = random_seeing.prefill(QUESTION, PICTURE)
    known = prefill, list(random_seeing.answer_tokens(prefill, GREEDY))[: report.tokens]
    with forbidden_by_hand(random_seeing, keys, first, set()):
        plain = whole_pass(random_seeing, *known)
    np.testing.assert_allclose(report.log_probability, plain.sum(), atol=1e-3)
    for layer, head in ((0, 0), (capture.layers - 1, capture.heads - 1)):
        with forbidden_by_hand(random_seeing, keys, first, {layer}, head):
            np.testing.assert_allclose(
                report.drops[layer][head], (plain - whole_pass(random_seeing, *known)).sum(), atol=2e-3
            )
    assert np.abs(report.drops).max() > 1e-4


@pytest.mark.parametrize("way", list(Way))
def test_a_drawings_drops_are_those_of_eager_attention_with_masks_made_by_hand(random_drawing, drawn, way):
    capture = drawn(random_drawing)
    report = report_of(random_drawing, capture, width=1, way=way, draws=0)
    keys = [i for i, g in enumerate(capture.token_groups) if g == Group.PROMPT]
    first = int(capture.query_positions[0]) if way == Way.DIRECT else keys[-1] + 1
    forced = force(random_drawing, capture, first)
    with forbidden_by_hand(random_drawing, keys, first, set()):
        plain = forced.score().log_probabilities[0]
    np.testing.assert_allclose(report.log_probabilities, plain, atol=1e-4)
    for layer in range(capture.layers):
        with forbidden_by_hand(random_drawing, keys, first, {layer}):
            np.testing.assert_allclose(report.drops[layer], plain - forced.score().log_probabilities[0], atol=2e-4)
    assert np.abs(report.all_layers).max() > 1e-3


def test_a_drawings_log_probabilities_are_those_of_its_decoding(random_drawing, monkeypatch):
    """Without guidance and at temperature 1 the chances that decoding draws from are the ones reported."""
    from backend.families import decoding

    seen = []
    choose = decoding.TokenChooser.__call__

    def listen(self, logits):
        chosen = choose(self, logits)
        seen.append(float(logits[0].float().log_softmax(-1)[chosen]))
        return chosen

    monkeypatch.setattr(decoding.TokenChooser, "__call__", listen)
    capture = finish(random_drawing.generate(PROMPT, Sampling(seed=1, guidance=1.0, temperature=1.0)))
    report = report_of(random_drawing, capture, draws=0)
    assert len(report.tokens) in (len(seen), len(seen) - 1)  # the last one made is not always kept
    np.testing.assert_allclose(report.log_probabilities, seen[: len(report.tokens)], atol=1e-4)


def test_a_greedy_answer_is_the_likeliest_token_by_token(seeing, answered):
    report = report_of(seeing, answered(seeing), draws=0)
    assert report.likeliest == len(report.tokens)


def test_the_stored_picture_is_seen_as_it_was(seeing, answered):
    capture = answered(seeing)
    again = seeing.understanding_key(load_picture(capture.picture_png), QUESTION, GREEDY)
    assert again == capture.key


def test_one_copy_at_a_time_gives_the_same_numbers(random_seeing, answered, monkeypatch):
    from backend.families import forced

    capture = answered(random_seeing)
    together = report_of(random_seeing, capture, draws=1)
    monkeypatch.setattr(forced, "_MOST_ELEMENTS", 1)
    alone = report_of(random_seeing, capture, draws=1)
    np.testing.assert_allclose(together.drops, alone.drops, atol=1e-4)
    np.testing.assert_allclose(together.controls.others, alone.controls.others, atol=1e-3)


def test_controls_take_as_many_other_keys_but_at_most_half(random_seeing, answered):
    capture = answered(random_seeing)
    report = report_of(random_seeing, capture, draws=2)
    others = len([g for g in capture.token_groups if g not in (Group.IMAGE, Group.IMAGE_LAST)])
    assert 1 <= report.controls.keys_per_row <= min(report.keys, others / 2)
    assert len(report.controls.others) == 2 and len(report.controls.others[0]) == capture.layers + 1
    again = report_of(random_seeing, capture, draws=2)
    assert again.controls == report.controls
    other_seed = report_of(random_seeing, capture, draws=2, seed=1)
    assert other_seed.controls != report.controls and other_seed.drops == report.drops


def test_an_answer_made_again_without_a_window_is_its_greedy_answer_under_the_mask(random_seeing, answered):
    """Token by token: what is remade is what an eager pass with a hand-made mask finds likeliest."""
    capture = answered(random_seeing)
    prefill = read_again(random_seeing, capture)
    keys = [i for i, g in enumerate(capture.token_groups) if g in (Group.IMAGE, Group.IMAGE_LAST)]
    text = remake(random_seeing, capture, Cut(way=Way.DIRECT, layers=[0, 1])).text
    made: list[int] = []
    with forbidden_by_hand(random_seeing, keys, prefill.length - 1, {0, 1}):
        while len(made) < GREEDY.max_new_tokens:
            ids = torch.cat([prefill.ids, torch.tensor(made, dtype=torch.long)])
            groups = torch.cat([prefill.groups, torch.full((len(made),), group_index(Group.GENERATED))])
            inputs = random_seeing.first_inputs(dataclasses.replace(prefill, ids=ids, groups=groups))
            token = int(random_seeing.model(**inputs, use_cache=False).logits[0, -1].argmax())
            if token in random_seeing.stop_tokens():
                break
            made.append(token)
    assert text == random_seeing.tokenizer.decode(made, skip_special_tokens=True)


def test_a_drawing_made_again_takes_the_likeliest_codes_under_the_mask(random_drawing):
    greedy = Sampling(temperature=0.0, guidance=1.0)
    capture = finish(random_drawing.generate(PROMPT, greedy))
    layers = list(range(capture.layers))
    prefill = read_again(random_drawing, capture)
    keys = [i for i, g in enumerate(capture.token_groups) if g == Group.PROMPT]
    again = remake(random_drawing, capture, Cut(way=Way.DIRECT, layers=layers))
    knockout = Knockout(
        key_mask(keys, prefill.length - 1), torch.ones(1, len(layers), dtype=torch.bool), prefill.length - 1
    )
    codes = list(random_drawing.image_codes(prefill, greedy, knockout=knockout))
    with forbidden_by_hand(random_drawing, keys, prefill.length - 1, set(layers)):
        assert ForcedDrawing(random_drawing, prefill, codes[:-1]).score().likeliest.all()
    stored = made_again(random_drawing, capture, prefill)
    expected = [codes[row] != stored[row] if row < len(stored) else None for row in capture.patch_rows]
    assert again.changed == expected and base64.b64decode(again.picture)[1:4] == b"PNG"


def test_without_the_prompt_another_picture_is_drawn(tiny_janus):
    prompt = "a yellow star above a blue square"
    capture = finish(tiny_janus.generate(prompt, Sampling(seed=3, temperature=0.5, guidance=1.5)))
    again = remake(tiny_janus, capture, Cut(way=Way.ANY, layers=list(range(8))))
    assert sum(map(bool, again.changed)) > 8 and base64.b64decode(again.picture) != capture.picture_png


def key_mask(keys, length):
    mask = torch.zeros(1, 1, length, dtype=torch.bool)
    mask[..., keys] = True
    return mask


def test_cancelling_ends_between_passes(random_seeing, answered):
    capture, flag = answered(random_seeing), threading.Event()
    steps = knock_out(random_seeing, capture, Settings(width=1), flag)
    next(steps)
    flag.set()
    with pytest.raises(Cancelled):
        list(steps)


def test_an_answer_without_words_is_refused_in_one_sentence(random_seeing, answered):
    capture = answered(random_seeing)
    start = int(capture.query_positions[0]) + 1
    none = capture.made_ids[:0]
    empty = dataclasses.replace(
        capture, text="", tokens=capture.tokens[:start], token_groups=capture.token_groups[:start], made_ids=none
    )
    with pytest.raises(UserError, match="at least one word"):
        list(knock_out(random_seeing, empty, Settings(width=1)))


def test_tokens_of_another_model_are_refused(random_seeing, random_drawing, answered, drawn):
    for model, capture in ((random_seeing, answered(random_seeing)), (random_drawing, drawn(random_drawing))):
        strange = dataclasses.replace(capture, made_ids=np.full_like(capture.made_ids, 2**30))
        with pytest.raises(UserError, match="tokens of"):
            list(knock_out(model, strange, Settings(width=1)))


def test_a_window_wider_than_the_model_is_refused(random_seeing, answered):
    capture = answered(random_seeing)
    with pytest.raises(UserError, match=f"1 to {capture.layers} layers"):
        list(knock_out(random_seeing, capture, Settings(width=capture.layers + 1)))
    with pytest.raises(UserError, match="layers"):
        remake(random_seeing, capture, Cut(way=Way.DIRECT, layers=[capture.layers]))
