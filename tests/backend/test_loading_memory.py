"""What a model takes to run, and the sentence where it does not fit."""

import pytest

from backend.families import load_model
from backend.interface import UserError
from backend.models.loading_memory import check_loading_fits, loading_memory, weights_bytes
from backend.models.model_spec import Precision
from backend.models.specs import SPECS, find_spec

GIB = 2**30
JANUS_7B = find_spec("janus-pro-7b")


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
