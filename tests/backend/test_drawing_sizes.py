"""Sizes of drawings: how they are written, which models take one, and what an aspect comes to."""

from dataclasses import replace

import pytest

from backend.interface import UserError
from backend.models.drawing_sizes import allows_sizes, check_size, grid_of, image_tokens, normal_size, usual_grid
from backend.models.specs import SPECS, find_spec

EMU3, JANUS = find_spec("emu3-gen"), find_spec("janus-pro-7b")


@pytest.mark.parametrize(
    ("written", "kept"),
    [("32x48", "32x48"), (" 32 × 48 ", "32x48"), ("032*48", "32x48"), ("16:9", "16:9"), ("32:18", "16:9"), (" ", "")],
)
def test_a_size_is_kept_in_one_way(written, kept):
    assert normal_size(written) == kept


@pytest.mark.parametrize("written", ["0x4", "4x513", "ax4", "32", "1:0", "40:1", "1:2:3", "-1x4"])
def test_what_is_no_size_is_refused_in_a_sentence(written):
    with pytest.raises(UserError, match="change it or leave it out"):
        normal_size(written)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ("", (90, 90)),
        ("32x48", (32, 48)),
        ("16:9", (68, 120)),
        ("9:16", (120, 68)),
        ("4:3", (78, 104)),
        ("1:1", (90, 90)),
    ],
)
def test_an_aspect_has_about_as_many_patches_as_the_usual_drawing(size, grid):
    assert grid_of(size, usual_grid(EMU3)) == grid
    assert image_tokens(EMU3, size) == grid[0] * (grid[1] + 1)


def test_only_models_that_draw_any_size_take_one():
    assert [spec.name for spec in SPECS if allows_sizes(spec)] == ["emu3-gen"]
    assert usual_grid(JANUS) == (24, 24) and image_tokens(JANUS, "9x9") == 576
    check_size(EMU3, "32x48")
    check_size(JANUS, "")
    for spec in (JANUS, find_spec("emu3-chat"), replace(EMU3, family="janus"), replace(EMU3, one_size=True)):
        with pytest.raises(UserError, match="draws one size only, got 32x48; leave it out"):
            check_size(spec, "32x48")
