import base64
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from aia.intensity import Definition
from app.components.result import State
from app.explore import views


def decode_map(text):
    return np.frombuffer(base64.b64decode(text), np.uint8)


def test_every_answer_token_is_a_chip_with_the_row_that_chose_it(answer):
    chips = views.answer_chips(answer)
    assert [c.text for c in chips] == answer.text.split()
    second = answer.cross[:, 1].astype(np.float32).mean(0)
    assert decode_map(chips[1].map).argmax() == second.argmax()
    assert "“red”" in chips[1].says


def test_a_last_token_that_was_never_fed_back_is_a_chip_too(answer):
    cut = replace(
        answer,
        tokens=answer.tokens[:-1],
        token_groups=answer.token_groups[:-1],
        mass=answer.mass[:, :, :, :-1],
        cross=answer.cross[:, :-1],
    )
    assert [c.text for c in views.answer_chips(cut)] == answer.text.split()


def test_every_prompt_word_of_a_drawing_is_a_chip_with_a_map_of_all_patches(drawing):
    chips = views.prompt_chips(drawing)
    assert [c.text for c in chips] == ["a", "red", "circle"]
    assert all(len(decode_map(c.map)) == 64 for c in chips)
    assert decode_map(chips[2].map).argmax() == drawing.cross[:, :, 2].astype(np.float32).mean(0).argmax()


def test_rows_that_chose_row_ends_are_on_no_map(drawing):
    """2 × 2 patches with a row end after each row: the map has four values, of the rows that chose patches."""
    rows = np.array([0, 1, 3, 4], np.int32)
    kept = {"mass": drawing.mass[:, :, :, :6], "cross": drawing.cross[:, :6]}
    small = replace(drawing, grid=(2, 2), patch_rows=rows, query_positions=drawing.query_positions[:6], **kept)
    chips = views.prompt_chips(small)
    expected = views.encode_map(small.cross[:, rows, 1].astype(np.float32).mean(0))
    assert len(decode_map(chips[1].map)) == 4 and chips[1].map == expected
    assert views.prompt_chips(replace(small, patch_rows=None)) == ()


def test_maps_stretch_from_lowest_to_highest():
    assert list(decode_map(views.encode_map(np.array([0.1, 0.2, 0.3])))) == [0, 128, 255]
    assert list(decode_map(views.encode_map(np.array([0.5, 0.5])))) == [0, 0]


def test_curves_of_all_definitions_equal_the_captures(answer, drawing):
    for capture in (answer, drawing):
        view = views.curve_view(capture)
        assert [a.name for a in view.alternatives] == [d.value for d in Definition]
        for alternative in view.alternatives:
            line = alternative.figure["data"][-1]
            assert line["y"] == pytest.approx(capture.intensity(Definition(alternative.name)), abs=1e-6)


def test_guidance_shows_its_other_branch_where_there_is_something_to_see(drawing):
    names = {a.name: [t["name"] for t in a.figure["data"]] for a in views.curve_view(drawing).alternatives}
    assert "without the prompt (for guidance)" in names["figure"]
    assert "without the prompt (for guidance)" not in names["strict"]


@pytest.mark.parametrize(("asked", "chosen"), [("strict", "strict"), ("", "figure"), ("<b>nonsense", "figure")])
def test_definition_of_the_address(answer, asked, chosen):
    assert views.curve_view(answer, asked).chosen == chosen


def test_an_unsaved_capture_has_no_link(answer):
    assert views.curve_view(answer).link == {}
    assert views.curve_view(answer, link=answer.id).link == {"capture": answer.id}


def test_views_are_plain_json(answer, drawing):
    for capture in (answer, drawing):
        result = views.finished_view(capture, cached=False)
        assert result.state == State.FINISHED
        json.dumps([asdict(result), asdict(views.curve_view(capture))], allow_nan=False)


def test_an_empty_answer_still_makes_views(answer):
    fed = sum(g == "generated" for g in answer.token_groups)
    silent = replace(
        answer,
        text="",
        tokens=answer.tokens[:-fed],
        token_groups=answer.token_groups[:-fed],
        mass=answer.mass[:, :, :, :1],
        cross=answer.cross[:, :1],
    )
    assert views.finished_view(silent, cached=False).chips == ()
    assert "too short" in views.curve_view(silent).alternatives[0].sentence
    json.dumps(asdict(views.curve_view(silent)), allow_nan=False)


def test_unknown_words_are_quiet_question_marks(drawing):
    tokens = list(drawing.tokens)
    tokens[drawing.cross_positions[1]] = "<unk>"
    chip = views.prompt_chips(replace(drawing, tokens=tuple(tokens)))[1]
    assert (chip.text, chip.title) == ("?", "a word the model does not know")
    assert "<unk>" not in chip.says
    assert chip.map
