"""Pictures from strangers: checked before they are decoded, and always handed on as plain RGB.

Owns which files are accepted and how every kind of pixel becomes 8-bit RGB. Does not know where a
file came from, what a model wants (see `UnifiedModel.see`), nor any page.

Colour profiles are ignored, as the models' own preprocessing does.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from backend.interface import UserError

# Pillow has some forty more decoders, rarely used and so rarely attacked or mended: they never run.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_FILE_BYTES = 32 * 2**20
MAX_PIXELS = 40_000_000
MAX_SIDE_PX = 2048  # of the result; every model sees less
MAX_JPEG_SCANS = 50  # real files have ten or twenty; thousands of empty ones keep a decoder busy for minutes

# Pictures with transparency are mostly drawings and logos made for a white page, and white is what
# their author saw in a viewer; dropping the transparency instead would show whatever lies under it.
BACKGROUND = (255, 255, 255)

_NAMES = "PNG, JPEG, WebP, GIF, BMP or TIFF"
_ORIENTATION_TAG = 0x0112
_UPRIGHT: dict[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_picture(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Load an untrusted picture: first frame, upright, RGB, at most `MAX_SIDE_PX` a side, no metadata.

    Format and size are checked before any pixel is decoded. A file's name plays no part.

    Raises:
        UserError: missing, empty, too large, damaged, or not one of the accepted formats.
    """
    data = source if isinstance(source, bytes) else _read_file(source)
    if not data:
        raise UserError(f"Expected a picture, but the file is empty: choose a {_NAMES} file.")
    if len(data) > MAX_FILE_BYTES:
        raise UserError(
            f"Expected a picture file of at most {MAX_FILE_BYTES // 2**20} MiB, but this one is larger: "
            "scale it down and choose it again."
        )
    with _open_picture(data) as image:
        _check_size(image, data)
        try:
            upright = _decode(image)
        except Exception as error:
            # Pillow's decoders raise nearly anything on damaged files: OSError, SyntaxError,
            # ValueError, struct.error, EOFError, IndexError, MemoryError, …
            raise UserError(
                "Expected a whole picture, but this file is damaged or cut short: save or download it again."
            ) from error
    return upright


def picture_to_png(image: Image.Image) -> bytes:
    """Encode a picture's RGB pixels, and nothing else of it, as PNG."""
    buffer = io.BytesIO()
    _bare(image).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_sha256(image: Image.Image) -> str:
    """Digest a picture's size and RGB pixels: 64 hexadecimal digits, the same for any file it came from."""
    rgb = image.convert("RGB")
    digest = hashlib.sha256(f"{rgb.mode} {rgb.width}x{rgb.height}\n".encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def _read_file(path: str | os.PathLike[str]) -> bytes:
    """Read a file, one byte more than allowed at most."""
    try:
        if not Path(path).is_file():  # a pipe or a device would block or never end
            raise FileNotFoundError
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UserError("Expected a picture file, but it cannot be read: choose it again.") from error


def _open_picture(data: bytes) -> Image.Image:
    """Read the picture's header only."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Far beyond our own limit: Pillow refuses on its own account.
        raise _too_many_pixels("far more") from error
    except UnidentifiedImageError as error:
        raise _not_a_picture(data) from error
    except Exception as error:  # the same zoo as when decoding
        raise UserError(
            "Expected a picture, but the beginning of this file is damaged: save or download it again."
        ) from error


def _not_a_picture(data: bytes) -> UserError:
    start = data[:1024].lower()
    if b"<svg" in start:
        return UserError(
            "Expected a picture made of pixels, but this is an SVG drawing: export it as PNG and choose that file."
        )
    what = "a web page" if b"<html" in start or b"<!doctype html" in start else "something else or damaged"
    return UserError(f"Expected a {_NAMES} picture, but this file is {what}: choose a picture in one of these formats.")


def _too_many_pixels(got: str) -> UserError:
    return UserError(
        f"Expected a picture of at most {MAX_PIXELS // 10**6} megapixels, but this one has {got}: "
        "scale it down and choose it again."
    )


def _check_size(image: Image.Image, data: bytes) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(f"{width * height / 1e6:.0f} ({width} × {height})")
    # A coded 0xFF byte is always followed by 0x00, so this counts scans, not chance.
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise UserError(
            f"Expected a JPEG of at most {MAX_JPEG_SCANS} scans, but this one has more: save it again as a plain JPEG."
        )


def _decode(image: Image.Image) -> Image.Image:
    """Decode the first frame and make it small before anything else, to bound memory."""
    image.draft(None, (MAX_SIDE_PX, MAX_SIDE_PX))  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    small = _to_8_bit(image)
    small.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    flat = _flatten(small)
    return _bare(flat if turn is None else flat.transpose(turn))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; metadata too broken to read does not make the pixels worse."""
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Convert to L, LA, RGB or RGBA (transparency kept) without clipping deeper pixels to white."""
    if image.mode.startswith("I;16"):
        return _high_byte(np.asarray(image), image.info.get("transparency"))
    if image.mode in ("I", "F"):
        return _stretch(image)
    mode = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB"
    # Converting to the same mode would make a second copy of up to 160 MB.
    return image if image.mode == mode else image.convert(mode)


def _high_byte(values: np.ndarray, transparent: object) -> Image.Image:
    """Map 0…65535 onto 0…255 as Pillow itself does for 16-bit colour, and one grey to transparent."""
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _stretch(image: Image.Image) -> Image.Image:
    """Map darkest to brightest onto 0…255: 32-bit and floating-point pixels have no agreed white."""
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))  # the copies below would be of 160 MB each
    finite = np.nan_to_num(np.asarray(image, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    scale = 255 / (high - low) if high > low else 0.0
    return Image.fromarray(np.round((finite - low) * scale).astype(np.uint8))


def _flatten(image: Image.Image) -> Image.Image:
    """Put a transparent picture on `BACKGROUND`."""
    if image.mode not in ("LA", "RGBA"):
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    page = Image.new("RGBA", rgba.size, (*BACKGROUND, 255))
    return Image.alpha_composite(page, rgba).convert("RGB")


def _bare(image: Image.Image) -> Image.Image:
    """Return the RGB pixels alone: saving would carry over a colour profile or a transparent colour."""
    rgb = image.convert("RGB")
    rgb.info = {}
    return rgb
