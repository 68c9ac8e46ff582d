"""Pictures that are not square, merged patches, row ends: what the Space view lays over a picture fits every family."""

import numpy as np

from aia.intensity import Task
from app.closer.asked import Asked
from app.closer.maps import decode
from app.closer.space import read_space, space_sources
from backend.kept.captures import Sampling
from tests.backend.contract.helpers import GREEDY, PICTURE, QUESTION, finish


def slice_of(model, capture, **values):
    source = space_sources(lambda _, rows, head: model.look_again(capture, rows, head))["space-map"]
    return source(Asked(capture, values=values))["slices"][0]


def test_a_wide_picture_has_a_cell_for_every_patch_and_heads_sum_to_their_mean(random_seeing):
    capture = finish(random_seeing.understand(PICTURE.resize((160, 80)), QUESTION, GREEDY))
    about = read_space(Asked(capture))["captures"][0]
    rows, columns = about["grid"]
    assert about["empty"] == "" and columns >= rows  # families that make pictures square have as many of both
    mean = decode(slice_of(random_seeing, capture, layer="2")["cross"])
    assert mean.shape == (len(capture.query_positions), rows * columns)
    heads = [
        decode(slice_of(random_seeing, capture, head=f"2.{head}")["cross"]) for head in range(1, capture.heads + 1)
    ]
    np.testing.assert_allclose(np.mean(heads, 0), mean, atol=1e-3)


def test_a_drawing_has_a_row_for_every_patch_and_looks_only_at_earlier_ones(random_drawing):
    capture = finish(random_drawing.generate("a red circle", Sampling(seed=3, guidance=2.5)))
    about = read_space(Asked(capture))["captures"][0]
    rows, columns = about["grid"]
    chose, fed = about["rows"]
    assert capture.task == Task.GENERATION and about["empty"] == "" and len(chose) == rows * columns
    assert all(b in (a + 1, -1) for a, b in zip(chose, fed, strict=True)) and sorted(set(chose)) == chose
    earlier = decode(slice_of(random_drawing, capture)["earlier"])
    for patch in (0, columns, rows * columns - 1):  # the first, the one after a row's end, the last
        seen = earlier[chose[patch]]
        assert not seen[patch:].any() and (seen[:patch] > 0).all()
