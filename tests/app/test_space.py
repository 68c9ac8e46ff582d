"""The Space view's data: hand-made captures whose words and patches look at known places."""

import json
from dataclasses import replace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from app.closer.asked import Asked
from app.closer.maps import decode
from app.closer.registry import READERS
from app.closer.route import Closer
from app.closer.space import MOST_SENT, name_words, read_space, rows_of, space_sources
from app.closer.space_words import ordinal
from backend.background.runs import Runs
from backend.comparison import Comparables
from backend.interface import Looks, UserError
from tests.made_captures import make_answer, make_drawing


def no_model(capture_id, rows, head):
    raise UserError("Single heads need the model once more, and nobody is not on this machine; open another.")


def read_map(asked, look=no_model):
    return space_sources(look)["space-map"](asked)["slices"]


def read_row(asked, look=no_model):
    return space_sources(look)["space-row"](asked)["slices"]


def answer_looking_at(places, grid=(3, 5), layers=2, **about):
    """An answer whose token t looks only at patch places[t], in layer 1 twice as much as in layer 2."""
    capture = make_answer(np.full((layers, 2, len(places)), 0.5, np.float32), grid, **about)
    cross = np.zeros((layers, len(places), grid[0] * grid[1]), np.float16)
    for row, (r, c) in enumerate(places):
        cross[0, row, r * grid[1] + c] = 0.5
        cross[1:, row, r * grid[1] + c] = 0.25
    return replace(capture, cross=cross)


def drawing_that_looks(grid=(3, 5), layers=2, patch_rows=None, rows=None):
    """A drawing whose every patch looks at the word "red" alone, and at the patch made just before it."""
    count = grid[0] * grid[1]
    rows = rows or count
    capture = make_drawing(np.full((1, layers, 2, rows), 0.5, np.float32), grid, patch_rows=patch_rows)
    cross = np.zeros((layers, rows, 3), np.float16)
    cross[:, :, 1] = 0.5
    drawn = np.zeros((layers, rows, count), np.float16)
    for patch, row in enumerate(capture.patch_rows):
        if patch:
            drawn[:, row, patch - 1] = 0.25
    return replace(capture, cross=cross, drawn=drawn)


# --- what there is to look at ---


def test_words_that_come_twice_are_told_apart_by_their_place():
    assert name_words(["a", "red", "circle", "a", "red"]) == [
        "a (1st word)", "red (2nd word)", "circle", "a (4th word)", "red (5th word)",
    ]  # fmt: skip
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th",
    ]  # fmt: skip


def test_an_answer_says_its_words_its_grid_and_both_kinds_of_rows():
    data = read_space(Asked(answer_looking_at([(2, 4), (0, 0), (1, 3)])))["captures"][0]
    assert data["grid"] == (3, 5) and data["empty"] == data["earlier"] == ""
    assert [word["text"] for word in data["words"]] == ["word1", "word2", "word3"]
    assert data["rows"] == [[0, 1, 2], [1, 2, -1]]  # the last token was never fed back
    assert data["picture"].startswith("data:image/png;base64,")


def test_row_ends_of_a_drawing_are_not_on_the_map():
    """Two rows of three patches with a row end after each, as Emu3 draws."""
    capture = drawing_that_looks((2, 3), patch_rows=[0, 1, 2, 4, 5, 6], rows=8)
    assert rows_of(capture, False, 3) == [0, 1, 2, 4, 5, 6]
    assert rows_of(capture, True, 3) == [1, 2, 3, 5, 6, 7]
    found = decode(read_map(Asked(capture))[0]["earlier"])
    assert found.shape == (8, 6)
    for patch, row in enumerate([0, 1, 2, 4, 5, 6]):
        assert np.flatnonzero(found[row]).tolist() == ([patch - 1] if patch else [])


@pytest.mark.parametrize("grid", [(1, 7), (7, 1), (1, 1)])
def test_rows_and_columns_of_one_patch_are_right(grid):
    capture = drawing_that_looks(grid)
    data = read_space(Asked(capture))["captures"][0]
    assert data["grid"] == grid and len(data["rows"][0]) == grid[0] * grid[1] and data["empty"] == ""
    assert decode(read_map(Asked(capture))[0]["cross"]).shape == (grid[0] * grid[1], 3)


# --- slices ---


def test_a_token_that_looks_at_one_patch_is_lit_there_alone():
    asked = Asked(answer_looking_at([(2, 4), (0, 0), (1, 3)]))
    for values, share in (({}, 0.375), ({"layer": "1"}, 0.5), ({"layer": "2"}, 0.25)):
        found = read_map(replace(asked, values=values))[0]
        cross = decode(found["cross"])
        assert cross.shape == (3, 15) and found["earlier"] is None
        assert [np.flatnonzero(row).tolist() for row in cross] == [[14], [0], [8]]
        np.testing.assert_allclose(cross.max(1), share, atol=1e-5)


def test_a_patch_that_looks_at_red_and_its_neighbour_does_so():
    found = read_map(Asked(drawing_that_looks()))[0]
    words, earlier = decode(found["cross"]), decode(found["earlier"])
    np.testing.assert_allclose(words, np.tile([0, 0.5, 0], (15, 1)), atol=1e-5)
    np.testing.assert_allclose(earlier, np.eye(15, k=-1) * 0.25, atol=1e-5)


def test_small_attention_beside_a_sink_keeps_its_precision():
    capture = answer_looking_at([(0, 0)] * 6, layers=1)
    cross = capture.cross.copy()
    cross[0, :, 7] = 0.001
    found = decode(read_map(Asked(replace(capture, cross=cross)))[0]["cross"])
    np.testing.assert_allclose(found[:, 7], 0.001, rtol=0.01)


def test_sinks_are_found_per_slice():
    capture = answer_looking_at([(0, i % 3) for i in range(8)], layers=2)
    cross = capture.cross + np.float16(0.01)
    cross[1, :, 11] = 0.3
    asked = Asked(replace(capture, cross=cross))
    assert read_map(replace(asked, values={"layer": "1"}))[0]["sinks"] == []
    assert read_map(replace(asked, values={"layer": "2"}))[0]["sinks"] == [11]


def test_sinks_of_a_drawing_are_judged_by_patches_that_come_after_them():
    capture = drawing_that_looks((3, 5))
    drawn = np.tril(np.full((15, 15), 0.01), -1).astype(np.float16)
    drawn[3:, 2] = 0.3
    found = read_map(Asked(replace(capture, drawn=np.stack([drawn, drawn]))))[0]
    assert found["sinks"] == [2]


def test_a_head_is_computed_by_the_engine_for_all_rows():
    capture, asked_for = answer_looking_at([(2, 4), (0, 0), (1, 3)]), []

    def look(captured, rows, head):
        asked_for.append((captured.id, rows, head))
        return Looks(np.eye(3, 15, dtype=np.float32))

    found = read_map(Asked(capture, values={"head": "2.1"}), look)[0]
    assert asked_for == [(capture.id, range(3), (1, 0))]
    np.testing.assert_allclose(decode(found["cross"]), np.eye(3, 15), atol=1e-5)


def test_without_the_model_a_head_is_one_sentence_and_the_partner_is_still_shown():
    first, second = answer_looking_at([(0, 0)] * 3), answer_looking_at([(2, 4)] * 3, prompt="another")

    def look(captured, rows, head):
        return no_model(captured, rows, head) if captured is first else Looks(np.ones((3, 15), np.float32))

    found = read_map(Asked(first, second, values={"head": "1.1"}), look)
    assert list(found[0]) == ["error"] and "not on this machine" in found[0]["error"]
    assert decode(found[1]["cross"]).shape == (3, 15)


@pytest.mark.parametrize("values", [{"head": "3.1"}, {"head": "1.3"}, {"head": "0.1"}, {"head": "x"}, {"layer": "9"}])
def test_layers_and_heads_that_there_are_not_are_sentences(values):
    found = read_map(Asked(answer_looking_at([(0, 0)] * 3), values=values))[0]
    assert found["error"].startswith("Expected a ") and found["error"].count("\n") == 0


def test_a_capture_of_before_still_shows_words_and_says_what_is_missing():
    capture = replace(drawing_that_looks(), drawn=None)
    data, found = read_space(Asked(capture))["captures"][0], read_map(Asked(capture))[0]
    assert data["empty"] == "" and "before attention between patches was kept" in data["earlier"]
    assert decode(found["cross"]).shape == (15, 3) and found["earlier"] is None and found["sinks"] == []


def test_earlier_patches_of_one_row_are_computed_where_they_are_not_kept():
    capture = replace(drawing_that_looks(), drawn=None)

    def look(captured, rows, head):
        shape = (1, 15) if head else (2, 2, 1, 15)
        drawn = np.zeros(shape, np.float32)
        drawn[..., 3] = 0.5 if head else np.array([0.1, 0.2])[:, None, None]
        return Looks(drawn[..., :3], drawn)

    for values, share in (({}, 0.15), ({"layer": "2"}, 0.2), ({"head": "1.2"}, 0.5)):
        row = decode(read_row(Asked(capture, values={"row": "6", **values}), look)[0]["earlier"])
        assert row.shape == (1, 15) and np.flatnonzero(row).tolist() == [3]
        assert row[0, 3] == pytest.approx(share, abs=1e-5)
    assert "Expected a row" in read_row(Asked(capture, values={"row": "16"}), look)[0]["error"]
    assert "Expected a drawing" in read_row(Asked(answer_looking_at([(0, 0)]), values={"row": "1"}), look)[0]["error"]


def test_what_is_too_large_for_the_page_is_left_to_single_rows():
    capture = answer_looking_at([(0, 0)])
    side = int((MOST_SENT + 1) ** 0.5) + 1

    def look(captured, rows, head):
        return Looks(np.zeros((1, 15), np.float32), np.zeros((side, side), np.float32))

    assert read_map(Asked(capture, values={"head": "1.1"}), look)[0]["earlier"] is None


# --- what cannot be shown ---


def test_an_answer_without_words_and_places_without_a_map_are_sentences():
    empty = replace(make_answer(np.ones((2, 2, 1), np.float32)), text="")
    data = read_space(Asked(empty))["captures"][0]
    assert data["words"] == [] and "has no words" in data["empty"]
    odd = make_answer(np.ones((2, 2, 3), np.float32), (2, 3))
    odd = replace(odd, cross=odd.cross[..., :4], cross_positions=odd.cross_positions[:4])
    assert "4 places of a picture of 6 patches" in read_space(Asked(odd))["captures"][0]["empty"]
    assert read_map(Asked(odd))[0]["sinks"] == []
    unknown = replace(make_drawing(np.ones((1, 2, 2, 5), np.float32)), patch_rows=None)
    assert "does not say which row" in read_space(Asked(unknown))["captures"][0]["empty"]


def test_pairs_of_other_grids_or_tasks_have_no_difference():
    wide, tall = answer_looking_at([(0, 0)] * 3, (3, 5)), answer_looking_at([(0, 0)] * 3, (5, 3), prompt="tall")
    assert "3 × 5 patches, B 5 × 3" in read_space(Asked(wide, tall))["note"]
    assert "answers and one draws" in read_space(Asked(wide, drawing_that_looks()))["note"]
    assert read_space(Asked(wide, wide))["note"] == ""


def test_a_partner_of_another_depth_shows_the_layer_at_the_same_depth():
    """Layers 1 to 4 of four lie in the cells of layers 1, 1, 2 and 2 of two; layer 1 looks twice as much as layer 2."""
    deep, shallow = (
        answer_looking_at([(2, 4)] * 3, layers=4),
        answer_looking_at([(0, 0)] * 3, layers=2, prompt="shallow"),
    )
    asked = Asked(deep, shallow)
    assert "A has 4 layers, B 2" in read_space(asked)["depth"] and read_space(Asked(deep, deep))["depth"] == ""
    for layer, share in ((1, 0.5), (2, 0.5), (3, 0.25), (4, 0.25)):
        found = read_map(replace(asked, values={"layer": str(layer)}))
        assert decode(found[1]["cross"])[0, 0] == pytest.approx(share, abs=1e-4)
    assert "Expected a layer from 1 to 4" in read_map(replace(asked, values={"layer": "5"}))[0]["error"]
    heads = read_map(replace(asked, values={"head": "1.1"}), lambda *_: Looks(np.ones((3, 15), np.float32)))
    assert decode(heads[0]["cross"]).shape == (3, 15)
    assert "no head of it is the chosen one; choose a layer instead" in heads[1]["error"]


# --- through the route ---


def test_the_route_hands_out_data_and_slices(engine, tmp_path):
    closer = Closer(Comparables(engine.store, Runs(tmp_path / "runs")), READERS | space_sources(no_model))
    client = TestClient(Starlette(routes=[Route("/lens/closer/{view}", closer.respond)]))
    engine.store.put(capture := drawing_that_looks())
    data = client.get("/lens/closer/space", params={"capture": capture.id}).json()
    assert data["captures"][0]["id"] == capture.id
    found = client.get("/lens/closer/space-map", params={"capture": capture.id, "layer": "2"}).json()
    np.testing.assert_allclose(decode(found["slices"][0]["earlier"]), np.eye(15, k=-1) * 0.25, atol=1e-5)
    failed = client.get("/lens/closer/space-map", params={"capture": capture.id, "head": "1.1"}).json()
    assert "not on this machine" in failed["slices"][0]["error"] and json.dumps(failed)
