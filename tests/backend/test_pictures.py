"""Pictures from strangers: every kind of pixel comes out right, and nothing hostile is decoded."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

import backend.pictures as pictures
from backend.interface import UserError
from backend.pictures import BACKGROUND, MAX_SIDE_PX, load_picture, picture_to_png, pixels_sha256

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def make_png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG by hand; colour 0 is grey, 2 RGB, 4 grey with alpha."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def make_bomb() -> bytes:
    """14000 × 12000 black pixels of one bit: 168 megapixels in about 20 KB."""
    return make_png(14_000, 12_000, 1, 0, bytes(1751 * 12_000))


def two_halves(size: tuple[int, int] = (64, 32)) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def assert_near(pixel: tuple[int, ...], expected: tuple[int, ...], within: int = 4) -> None:
    assert max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) <= within, pixel


def refuse(source: object) -> str:
    with pytest.raises(UserError) as caught:
        load_picture(source)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith("Expected ") and message.endswith(".") and ": " in message and "\n" not in message
    assert "/" not in message and "0x" not in message
    return message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_accepted_format_gives_its_pixels(kind, tmp_path):
    data = encode(two_halves(), kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    path = tmp_path / "picture.of.no.known.ending"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        picture = load_picture(source)
        assert type(picture) is Image.Image and picture.mode == "RGB" and picture.size == (64, 32)
        assert_near(picture.getpixel((8, 16)), RED, 8)
        assert_near(picture.getpixel((56, 16)), BLUE, 8)


def test_a_wrong_ending_does_not_matter(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(two_halves(), "PNG"))
    assert load_picture(path).getpixel((0, 0)) == RED


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "EPS", "SGI", "JPEG2000"])
def test_formats_off_the_list_are_refused(kind):
    try:
        data = encode(two_halves(), kind)
    except (OSError, KeyError):
        pytest.skip("this Pillow cannot write it")
    assert "PNG, JPEG, WebP, GIF, BMP or TIFF" in refuse(data)


def peak_kib() -> int:
    """This process's peak memory since the last `reset_peak`; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_of_168_megapixels_is_refused_quickly_and_in_little_memory():
    data = make_bomb()
    assert len(data) < 25_000
    reset_peak()
    before, start = peak_kib(), time.perf_counter()
    message = refuse(data)
    assert time.perf_counter() - start < 1
    assert peak_kib() - before < 8 * 1024
    assert "168 (14000 × 12000)" in message


def test_bombs_beyond_pillows_own_limits_are_refused():
    message = refuse(make_png(30_000, 30_000, 1, 0, b"\0"))  # DecompressionBombError
    assert "at most 40 megapixels" in message
    webp = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4
    refuse(webp + (16_000).to_bytes(3, "little") * 2)


@pytest.mark.filterwarnings("error")
def test_a_warning_turned_into_an_error_is_a_refusal_too():
    assert "at most 40 megapixels" in refuse(make_bomb())


def test_the_limit_of_pixels_is_the_limit(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 32)
    assert load_picture(encode(two_halves(), "PNG")).size == (64, 32)
    refuse(encode(two_halves((64, 33)), "PNG"))


def test_a_gif_whose_first_frame_is_larger_than_its_screen_is_measured_by_the_frame(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    data = bytearray(encode(two_halves(), "GIF"))
    data[6:10] = struct.pack("<HH", 1, 1)
    refuse(bytes(data))


def test_a_file_of_too_many_bytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", 2**20)
    path = tmp_path / "large.png"
    path.write_bytes(encode(two_halves(), "PNG") + bytes(2**20))
    for source in (path, path.read_bytes()):
        assert "at most 1 MiB" in refuse(source)


def test_a_jpeg_of_very_many_scans_is_refused():
    data = encode(two_halves(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    start = time.monotonic()
    assert "scans" in refuse(data[:-2] + data[last:-2] * 5000 + data[-2:])
    assert time.monotonic() - start < 1
    assert load_picture(data).size == (64, 32)


def test_a_large_picture_comes_out_smaller_in_its_proportions():
    for kind in ("JPEG", "PNG"):
        picture = load_picture(encode(two_halves((5000, 2500)), kind))
        assert picture.size == (MAX_SIDE_PX, MAX_SIDE_PX // 2)
        assert_near(picture.getpixel((100, 500)), RED)
        assert_near(picture.getpixel((1900, 500)), BLUE)
    assert load_picture(encode(Image.new("1", (1, 30_000)), "PNG")).size == (1, MAX_SIDE_PX)


def test_a_large_jpeg_is_never_decoded_in_full(monkeypatch):
    decoded = []
    convert = pictures._to_8_bit
    monkeypatch.setattr(pictures, "_to_8_bit", lambda image: decoded.append(image.size) or convert(image))
    assert load_picture(encode(two_halves((6000, 4100)), "JPEG")).size == (2048, 1399)
    assert decoded == [(3000, 2050)]


# Where the red half must be after turning, for each EXIF orientation.
TURNS = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_rotated_photo_comes_out_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = load_picture(encode(two_halves(), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    side = TURNS[orientation]
    assert picture.size == ((64, 32) if side in ("left", "right") else (32, 64))
    width, height = picture.size
    centre = {
        "left": (4, height // 2), "right": (width - 4, height // 2),
        "top": (width // 2, 4), "bottom": (width // 2, height - 4),
    }  # fmt: skip
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    assert_near(picture.getpixel(centre[side]), RED, 8)
    assert_near(picture.getpixel(centre[opposite[side]]), BLUE, 8)
    assert not picture.getexif() and picture.info == {}


def test_mirrored_turns_are_not_mixed_up():
    """Orientations 5 and 6 agree on two halves but not on four quarters."""
    quarters = Image.new("RGB", (32, 32), RED)
    quarters.paste(GREEN, (16, 0, 32, 16))
    quarters.paste(BLUE, (0, 16, 16, 32))
    quarters.paste((0, 0, 0), (16, 16, 32, 32))
    # The corner at the top left, by the EXIF standard's row 0 and column 0.
    for orientation, corner in {5: RED, 6: BLUE, 7: (0, 0, 0), 8: GREEN, 3: (0, 0, 0), 2: GREEN, 4: BLUE}.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert load_picture(encode(quarters, "PNG", exif=exif)).getpixel((4, 4)) == corner


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_metadata_too_broken_to_read_is_ignored():
    data = encode(two_halves(), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff")
    assert load_picture(data).getpixel((0, 0)) == RED


def test_a_cmyk_jpeg_keeps_its_colours():
    picture = load_picture(encode(two_halves().convert("CMYK"), "JPEG", quality=95))
    assert_near(picture.getpixel((8, 16)), RED, 8)
    assert_near(picture.getpixel((56, 16)), BLUE, 8)


def test_16_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 256, 0x8000, 0xFFFF]], np.uint16)
    rows = b"\0" + values.astype(">u2").tobytes()
    expected = [(0,) * 3, (1,) * 3, (128,) * 3, (255,) * 3]
    assert list(load_picture(make_png(4, 1, 16, 0, rows)).get_flattened_data()) == expected
    tiff = encode(Image.fromarray(values), "TIFF")
    assert list(load_picture(tiff).get_flattened_data()) == expected
    big_endian = b"MM" + struct.pack(">HI", 42, 8) + struct.pack(">H", 8)
    tags = ((256, 3, 4), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 110), (278, 3, 1), (279, 4, 8))
    for tag, kind, value in tags:
        big_endian += struct.pack(">HHI", tag, kind, 1)
        big_endian += struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
    data = big_endian + bytes(4)
    assert list(load_picture(data + values.astype(">u2").tobytes()).get_flattened_data()) == expected


def test_16_bit_colour_and_transparency_are_kept():
    colour = b"\0" + struct.pack(">6H", 0xFFFF, 0x8000, 0, 0, 0, 0xFFFF)
    assert list(load_picture(make_png(2, 1, 16, 2, colour)).get_flattened_data()) == [(255, 128, 0), (0, 0, 255)]
    grey_alpha = b"\0" + struct.pack(">4H", 0, 0, 0, 0xFFFF)
    assert list(load_picture(make_png(2, 1, 16, 4, grey_alpha)).get_flattened_data()) == [BACKGROUND, (0, 0, 0)]
    transparent_grey = make_png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 0, 512), chunk(b"tRNS", struct.pack(">H", 512)))
    assert list(load_picture(transparent_grey).get_flattened_data()) == [(0, 0, 0), BACKGROUND]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_deep_pixels_without_an_agreed_white_are_stretched(dtype):
    data = encode(Image.fromarray(np.array([[-500, 0, 500]], dtype)), "TIFF")
    assert [p[0] for p in load_picture(data).get_flattened_data()] == [0, 128, 255]
    flat = encode(Image.fromarray(np.full((2, 2), 7, dtype)), "TIFF")
    assert load_picture(flat).getpixel((0, 0)) == (0, 0, 0)


def test_not_a_number_among_the_pixels_is_black():
    data = encode(Image.fromarray(np.array([[0, np.nan, 1, np.inf]], np.float32)), "TIFF")
    assert [p[0] for p in load_picture(data).get_flattened_data()] == [0, 0, 255, 0]


@pytest.mark.parametrize("mode, colour", [("RGBA", (9, 9, 9, 0)), ("LA", (9, 0))])
def test_transparent_pixels_show_the_background(mode, colour):
    image = Image.new(mode, (4, 4), colour)
    image.putpixel((0, 0), (*colour[:-1], 255))
    picture = load_picture(encode(image, "PNG"))
    assert picture.getpixel((3, 3)) == BACKGROUND and picture.getpixel((0, 0)) == (9, 9, 9)


def test_half_transparency_is_mixed_with_the_background():
    picture = load_picture(encode(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), "PNG"))
    assert_near(picture.getpixel((0, 0)), (127, 127, 127), 1)


def test_a_palette_with_transparency_shows_the_background():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    for kind in ("PNG", "GIF"):
        picture = load_picture(encode(image, kind, transparency=1))
        assert picture.getpixel((0, 0)) == RED and picture.getpixel((3, 3)) == BACKGROUND, kind
    assert load_picture(encode(image, "PNG", transparency=b"\x00\xff")).getpixel((3, 3)) == BLUE
    assert load_picture(encode(image, "PNG")).getpixel((3, 3)) == BLUE


def test_a_colour_marked_transparent_shows_the_background():
    picture = load_picture(encode(two_halves(), "PNG", transparency=BLUE))
    assert picture.getpixel((60, 0)) == BACKGROUND and picture.getpixel((0, 0)) == RED
    assert load_picture(picture_to_png(picture)).getpixel((60, 0)) == BACKGROUND


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert load_picture(data).getpixel((4, 4)) == RED


@pytest.mark.parametrize("mode, values", [("L", (0, 100)), ("1", (0, 255))])
def test_grey_and_black_and_white_pictures_become_rgb(mode, values):
    image = Image.new(mode, (2, 1), values[0])
    image.putpixel((1, 0), values[1])
    assert list(load_picture(encode(image, "PNG")).get_flattened_data()) == [(v,) * 3 for v in values]


def test_svg_is_refused_with_advice():
    for start in (b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<?xml version='1.0'?>\n<!-- x --><SVG></SVG>"):
        assert "export it as PNG" in refuse(start)


def test_a_web_page_named_png_is_refused(tmp_path):
    path = tmp_path / "picture.png"
    path.write_text("<!DOCTYPE html><html><body>404</body></html>")
    assert "a web page" in refuse(path)


@pytest.mark.parametrize("data", [b"hello", b"\0" * 5000, b"%PDF-1.7", b"PK\3\4", b"#!/bin/sh\necho", b"GIF"])
def test_what_is_no_picture_is_refused(data):
    refuse(data)


def test_an_empty_and_a_missing_file_are_refused_without_their_path(tmp_path):
    (tmp_path / "secret-name.png").touch()
    for source in (b"", tmp_path / "secret-name.png"):
        assert "empty" in refuse(source)
    for source in (tmp_path / "missing.png", tmp_path, "a\0b", "http:" + "//host/x.png", "/dev/zero"):
        assert "cannot be read" in refuse(source)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_refused(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encode(noise, kind)
    for part in (0.9, 0.5, 0.1):
        refuse(data[: int(len(data) * part)])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damaged_bytes_give_a_picture_or_a_sentence(kind):
    random = np.random.default_rng(2)
    good = encode(two_halves(), kind)
    for _ in range(150):
        data = bytearray(good)
        for position in random.integers(0, min(len(data), 400), random.integers(1, 8)):
            data[position] = random.integers(256)
        try:
            assert load_picture(bytes(data)).mode == "RGB"
        except UserError as error:
            assert str(error).endswith(".")


def test_a_png_whose_text_unpacks_without_end_is_refused():
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK * 4)))
    refuse(make_png(1, 1, 8, 0, b"\0\0", text))


def test_a_png_carries_the_pixels_and_nothing_else():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    picture = load_picture(encode(two_halves(), "JPEG", icc_profile=profile, exif=exif, comment=b"secret"))
    data = picture_to_png(picture)
    assert Image.open(io.BytesIO(data)).info == {}
    assert load_picture(data).tobytes() == picture.tobytes()
    assert picture_to_png(Image.open(io.BytesIO(encode(two_halves(), "PNG", icc_profile=profile)))) == picture_to_png(
        two_halves()
    )


def test_the_digest_depends_on_pixels_and_size_alone():
    picture = two_halves()
    digest = pixels_sha256(picture)
    assert len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    for kind in ("PNG", "BMP", "TIFF", "GIF"):
        assert pixels_sha256(load_picture(encode(picture, kind))) == digest
    other = picture.copy()
    other.putpixel((0, 0), (254, 0, 0))
    assert pixels_sha256(other) != digest
    same_bytes = Image.frombytes("RGB", (32, 64), picture.tobytes())
    assert pixels_sha256(same_bytes) != digest
    grey = Image.new("L", (3, 3), 7)
    assert pixels_sha256(grey) == pixels_sha256(grey.convert("RGB"))
