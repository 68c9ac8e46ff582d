"""What a model takes to run, and the sentence where it does not fit."""

import pytest

from backend.families import load_model
from backend.interface import UserError
from backend.models.loading_memory import (
    check_drawing_fits,
    check_loading_fits,
    loading_memory,
    request_memory,
    weights_bytes,
)
from backend.models.model_spec import Precision
from backend.models.specs import SPECS, find_spec

GIB = 2**30
JANUS_7B, EMU3 = find_spec("janus-pro-7b"), find_spec("emu3-gen")


@pytest.mark.parametrize("precision", list(Precision))
def test_the_weights_are_those_that_are_loaded(precision):
    spec = SPECS[0]
    held = load_model(spec, precision=precision).model.get_memory_footprint()
    # A tiny model's embeddings and encoders are a larger share of it than of a real one, so NF4 is less exact here.
    assert weights_bytes(spec, precision, gpu=False) == pytest.approx(
        held, rel=0.02 if precision == Precision.FULL else 0.65
    )


def test_janus_pro_7b_takes_what_its_files_say():
    assert weights_bytes(JANUS_7B, Precision.FULL, gpu=True) / 1e9 == pytest.approx(14.8, abs=0.1)
    parts = loading_memory(JANUS_7B, Precision.NF4, gpu=True)
    assert 5.2 * GIB < parts["weights"].bytes < 6.5 * GIB
    # 2 branches × (keys + values) × 30 layers × 4,096 wide × 896 tokens × 2 bytes
    assert parts["cache"].bytes == 2 * 2 * 30 * 4096 * 896 * 2


@pytest.mark.parametrize(
    ("free", "precision", "todo"),
    [
        (12 * GIB, Precision.FULL, "choose int8 ("),
        (9 * GIB, Precision.FULL, "choose NF4 ("),
        (9 * GIB, Precision.INT8, "choose NF4 ("),
        (2 * GIB, Precision.FULL, "choose a smaller model"),
    ],
)
def test_a_refusal_names_the_precision_that_would_fit(free, precision, todo):
    with pytest.raises(UserError, match=r"Expected .* of free GPU memory for Janus-Pro 7B") as told:
        check_loading_fits(JANUS_7B, precision, free, gpu=True)
    assert todo in str(told.value)


def test_what_fits_is_not_refused():
    check_loading_fits(JANUS_7B, Precision.FULL, 20 * GIB, gpu=True)
    check_loading_fits(SPECS[0], Precision.FULL)


def test_a_drawing_of_emu3_takes_what_its_size_says():
    whole, small = request_memory(EMU3, gpu=True), request_memory(EMU3, gpu=True, size="32x48")
    # 2 branches × (keys + values) × 32 layers × 8 heads × 128 wide × tokens × 2 bytes
    assert whole["cache"].bytes == 2 * 2 * 32 * 8 * 128 * (90 * 91 + 320) * 2
    assert small["cache"].bytes == 2 * 2 * 32 * 8 * 128 * (32 * 49 + 320) * 2
    # 512 MiB of masses, 128 MiB of head averages, both twice while they are joined
    assert whole["capture"].bytes == pytest.approx(2 * (512 + 128) * 2**20, rel=0.001)
    assert whole["pictures"].bytes == 90 * 91 * 64 * 10_500 * 2 > 10 * 10**9
    assert sum(part.bytes for part in small.values()) < sum(part.bytes for part in whole.values()) / 4


def test_where_no_precision_fits_a_smaller_drawing_is_named():
    with pytest.raises(
        UserError, match=r"with a drawing of 16:9, got 14 GiB; choose NF4 and a size of 64x64 \("
    ) as told:
        check_loading_fits(EMU3, Precision.FULL, 14 * GIB, gpu=True, size="16:9")
    assert str(told.value).startswith("Expected ")
    named = sum(part.bytes for part in loading_memory(EMU3, Precision.NF4, True, "64x64").values())
    larger = sum(part.bytes for part in loading_memory(EMU3, Precision.NF4, True, "80x80").values())
    assert named <= 14 * GIB < larger


def test_a_loaded_model_refuses_a_drawing_that_does_not_fit_beside_it():
    check_drawing_fits(EMU3, "32x32", 4 * GIB, gpu=True)
    with pytest.raises(UserError, match=r"for a drawing of 96x96 by Emu3-Gen, got 4.0 GiB; choose a size of 32x32 "):
        check_drawing_fits(EMU3, "96x96", 4 * GIB, gpu=True)
    with pytest.raises(UserError, match=r"for a drawing by Janus-Pro 7B, got 0.2 GiB; free some memory"):
        check_drawing_fits(JANUS_7B, "", GIB // 5, gpu=True)
    check_drawing_fits(SPECS[0], "", 0)  # a tiny one is not held up
