"""Masses of large captures in two bytes: what is lost, once, and that nothing is lost after."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from aia.intensity import GROUPS, Definition
from backend.kept.capture_files import MAX_UNCOMPRESSED_BYTES, CaptureFormatError, capture_from_npz, capture_to_npz
from backend.kept.rounding import ROUNDED_FROM_BYTES, from_parts, is_rounded, round_if_large, to_parts
from backend.kept.store import CaptureStore
from tests.backend.test_capture_files import assert_one_sentence, assert_same, make_capture, npy, pack, unpack
from tests.big_capture import big_answer, big_drawing

ERROR = 1 / 131_070


@pytest.fixture(scope="module")
def drawing():
    return big_drawing()


@pytest.fixture(scope="module")
def packed(drawing):
    return capture_to_npz(drawing)


def large_masses(rows: int = 3_000) -> np.ndarray:
    random = np.random.default_rng(2)
    return random.dirichlet(np.ones(len(GROUPS)) * 0.3, (1, 6, 8, rows)).astype(np.float32)


def test_a_mass_is_off_by_half_a_step_at_most_and_the_ends_are_exact():
    mass = large_masses()
    again = round_if_large(mass)
    assert np.abs(again.astype(np.float64) - mass).max() <= ERROR + 3e-8  # and a float32's own rounding
    assert np.abs(again.sum(-1) - 1).max() <= len(GROUPS) * ERROR + 1e-6
    ends = np.zeros((1, 1, 1, 2, len(GROUPS)), np.float32)
    ends[..., 0] = 1
    np.testing.assert_array_equal(from_parts(to_parts(ends)), ends)


def test_rounding_again_changes_nothing():
    every = (np.arange(65_536, dtype=np.float32) / np.float32(65_535)).reshape(1, 1, 1, -1, len(GROUPS))
    np.testing.assert_array_equal(from_parts(to_parts(every)), every)
    once = round_if_large(large_masses())
    np.testing.assert_array_equal(round_if_large(once), once)
    assert is_rounded(once) and not is_rounded(large_masses())


def test_small_masses_are_left_exact():
    mass = large_masses(rows=10)
    assert mass.nbytes < ROUNDED_FROM_BYTES and round_if_large(mass) is mass
    assert "mass.npy" in unpack(capture_to_npz(make_capture()))


def test_a_large_capture_survives_the_round_trip_exactly(drawing, packed):
    again = capture_from_npz(packed)
    assert_same(drawing, again)
    assert set(unpack(packed)) >= {"mass_parts.npy", "drawn.npy"} and "mass.npy" not in unpack(packed)
    np.testing.assert_array_equal(again.intensity(Definition.STRICT), drawing.intensity(Definition.STRICT))
    with pytest.raises(ValueError):
        again.mass.setflags(write=True)


def test_a_large_capture_that_was_never_rounded_is_kept_exactly():
    exact = replace(make_capture(), mass=large_masses(5_000), drawn=None, made_ids=None)
    exact = replace(exact, query_positions=np.full(5_000, 2, np.int32), cross=np.zeros((6, 5_000, 3), np.float16))
    data = capture_to_npz(exact)
    assert "mass.npy" in unpack(data)
    assert_same(exact, capture_from_npz(data))


def test_a_drawing_of_janus_pros_size_fits_its_room(drawing, packed, tmp_path):
    held = sum(getattr(drawing, name).nbytes for name in ("mass", "cross", "drawn", "patch_rows"))
    print(f"\ndrawing with 2 branches: {len(packed) / 1e6:.1f} MB on disk, {held / 1e6:.1f} MB in memory")
    assert len(packed) <= 20e6 and held <= 60e6
    answer = capture_to_npz(big_answer())
    print(f"answer of 128 tokens: {len(answer) / 1e6:.1f} MB on disk")
    assert len(answer) <= 20e6
    store = CaptureStore(tmp_path / "captures")
    store.put(drawing)
    assert [entry.key for entry in store.entries()] == [drawing.key]
    assert_same(store.get(drawing.id), drawing)
    store.close()


BAD = {
    "axes": np.zeros((2, 1, 1, 1, 8), np.uint8),
    "three parts": np.zeros((3, 2, 2, 4, 8, 5), np.uint8),
    "groups": np.zeros((2, 2, 2, 4, 7, 5), np.uint8),
    "rows": np.zeros((2, 2, 2, 4, 8, 6), np.uint8),
    "layers": np.zeros((2, 2, 3, 4, 8, 5), np.uint8),
    "type": np.zeros((2, 2, 2, 4, 8, 5), np.uint16),
}


def of_version_2(**members: bytes) -> bytes:
    found = unpack(capture_to_npz(make_capture()))
    found["header.npy"] = npy(
        np.frombuffer(
            np.load(io.BytesIO(found["header.npy"]))
            .tobytes()
            .replace(b'{"format_version": 1', b'{"format_version": 2', 1),
            np.uint8,
        )
    )
    return pack({name: data for name, data in {**found, **members}.items() if data})


def test_a_small_file_of_the_second_version_is_read():
    good = to_parts(make_capture().mass)
    again = capture_from_npz(of_version_2(**{"mass.npy": b"", "mass_parts.npy": npy(good)}))
    np.testing.assert_allclose(again.mass, make_capture().mass, atol=ERROR + 1e-7)


@pytest.mark.parametrize("parts", BAD.values(), ids=BAD)
def test_bad_parts_are_refused(parts):
    with pytest.raises(CaptureFormatError) as caught:
        capture_from_npz(of_version_2(**{"mass.npy": b"", "mass_parts.npy": npy(parts)}))
    assert_one_sentence(str(caught.value))


def test_a_version_and_the_other_ones_masses_are_refused():
    for data in (
        of_version_2(),
        of_version_2(**{"mass_parts.npy": npy(to_parts(make_capture().mass))}),
        pack({**unpack(capture_to_npz(make_capture())), "mass_parts.npy": npy(to_parts(make_capture().mass))}),
    ):
        with pytest.raises(CaptureFormatError):
            capture_from_npz(data)


def test_parts_count_as_what_they_unpack_to():
    buffer = io.BytesIO()
    half = MAX_UNCOMPRESSED_BYTES // 2 + 2**20
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("header.npy", b"")
        with archive.open("mass_parts.npy", "w") as member:
            for _ in range(half // 2**20):
                member.write(bytes(2**20))
    with pytest.raises(CaptureFormatError, match="MiB unpacked"):
        capture_from_npz(buffer.getvalue())
