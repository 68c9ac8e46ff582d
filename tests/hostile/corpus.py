"""Files as a stranger may upload them, made here, named by what is wrong with them. None is larger than a few MiB.

Each goes through every intake, so an entry is bytes and the name that it is sent under.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, PngImagePlugin
from safetensors.numpy import save

from tests.backend.zips import asking, huge_png, picture

Entry = tuple[str, bytes]
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>"
PICKLE = b"\x80\x04cposix\nsystem\n(X\x14\0\0\0touch /tmp/aia-pwnedtR."  # runs a command where it is unpickled
HTML = b"<!doctype html><html><script>alert(1)</script></html>"


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(extra: bytes = b"", side: int = 16) -> bytes:
    """A good small PNG with chunks put in before its pixels."""
    plain = picture(0, side)
    at = plain.index(b"IDAT") - 4
    return plain[:at] + extra + plain[at:]


def encode(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def one_colour(kind: str, side: int, mode: str = "1", **options) -> bytes:
    """A bomb: many pixels in few bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return encode(Image.new(mode, (side, side)), kind, **options)


def real_bomb() -> bytes:
    """A PNG of 169 megapixels whose pixels are all there, in 20 KB."""
    side = 13_000
    pixels = zlib.compress(bytes((side // 8 + 1) * side), 9)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def webp_header(side: int) -> bytes:
    """A lossless WebP of which only the size is there."""
    size = struct.pack("<I", (side - 1) | (side - 1) << 14)
    body = b"WEBPVP8L" + struct.pack("<I", 9) + b"/" + size + bytes(4)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_header(side: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHI", 99, 0, 54, 40, side, side, 1, 24, 0) + bytes(24)


def archive(*members: tuple[str, bytes], **options) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, **options) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same name twice is meant
        for name, data in members:
            file.writestr(name, data)
    return out.getvalue()


def linked() -> bytes:
    """A ZIP with a symbolic link to a file of the server."""
    out, info = io.BytesIO(), zipfile.ZipInfo("a.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(info, "/etc/passwd")
    return out.getvalue()


def encrypted() -> bytes:
    """A ZIP whose only file says that it is encrypted."""
    data = bytearray(archive(("a.png", picture())))
    for at in (data.index(b"PK\3\4") + 6, data.index(b"PK\1\2") + 8):
        data[at] |= 1
    return bytes(data)


def lying(field: int, value: bytes) -> bytes:
    """A ZIP whose directory lies about its first file."""
    data = bytearray(archive(("a.png", picture())))
    at = data.index(b"PK\1\2") + field
    data[at : at + len(value)] = value
    return bytes(data)


def zip64() -> bytes:
    """A ZIP that claims four billion files by its ZIP64 record."""
    data = archive(("a.png", picture()))
    end = data.rindex(b"PK\5\6")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 2**32, 2**32, 2**40, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    return data[:end] + record + locator + data[end:]


def tensors(header: bytes | dict, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header, and any length said of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def pictures() -> dict[str, Entry]:
    good, noise = picture(), Image.effect_noise((64, 64), 90)
    itxt = PngImagePlugin.PngInfo()
    itxt.add_text("comment", "x" * 900_000, zip=True)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 0xFFFF) + b"\x12\x01\x03\0\x01\0\0\0\xff\xff\0\0" * 5000
    frames = [Image.new("RGB", (64, 64), (i % 256, 0, 0)) for i in range(300)]
    return {
        "png bomb, all pixels there": ("bomb.png", real_bomb()),
        "png bomb, header only": ("huge.png", huge_png(60_000, 60_000)),
        "png of negative size": ("negative.png", huge_png(2**31 + 5, 2**31 + 5)),
        "png of no size": ("none.png", huge_png(0, 0)),
        "png of one line": ("line.png", huge_png(2**30, 1)),
        "gif bomb": ("bomb.gif", b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\0\0" + bytes(6) + b";"),
        "webp bomb": ("bomb.webp", webp_header(16_383)),
        "tiff bomb": ("bomb.tiff", one_colour("TIFF", 9_000, compression="group4")),
        "bmp that lies about its size": (
            "lie.bmp",
            b"BM" + struct.pack("<IIIIiiHHI", 99, 0, 54, 40, 10**6, 10**6, 1, 24, 0),
        ),
        "gif of 300 frames": ("many.gif", encode(frames[0], "GIF", save_all=True, append_images=frames[1:])),
        "apng": ("moving.png", encode(frames[0], "PNG", save_all=True, append_images=frames[1:40])),
        "apng that claims four billion frames": ("frames.png", png(chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0)))),
        "png cut in half": ("cut.png", encode(noise, "PNG")[:900]),
        "jpeg cut in half": ("cut.jpg", encode(noise, "JPEG")[:700]),
        "webp cut in half": ("cut.webp", encode(noise, "WEBP")[:300]),
        "tiff of endless directories": ("loop.tif", b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x01\0\0\0\x08\0\0\0"),
        "png with a wrong checksum": ("crc.png", good[:-8] + b"\0\0\0\0" + good[-4:]),
        "png with a text bomb": ("text.png", encode(noise, "PNG", pnginfo=itxt)),
        "png with junk as colour profile": ("icc.png", png(chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**6))))),
        "png with exif of nonsense": ("exif.png", png(chunk(b"eXIf", exif[6:]))),
        "jpeg with an exif bomb": ("exif.jpg", encode(noise, "JPEG", exif=exif[:65_000])),
        "jpeg of a thousand scans": ("scans.jpg", encode(noise, "JPEG", progressive=True) + b"\xff\xda\0\2" * 1000),
        "svg named png": ("drawing.png", SVG),
        "svg": ("drawing.svg", SVG),
        "html named png": ("page.png", HTML),
        "png that is a page as well": ("polyglot.png", good + HTML),
        "gif that is a script as well": ("polyglot.gif", b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)//"),
        "png that is a zip as well": ("polyglot.zip", good + archive(("a.png", good))),
        "eps": ("x.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
        "pdf": ("x.png", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>"),
        "nothing": ("nothing.png", b""),
        "one byte": ("x.png", b"\x89"),
        "only nulls": ("x.jpg", bytes(100_000)),
        "path as name": ("../../../etc/cron.d/x.png", good),
        "null in the name": ("a\0b.png", good),
        "right-to-left name": ("\u202egnp.exe", good),
        "name of 300 characters": ("n" * 300 + ".png", good),
        "name of dots": ("...", good),
    }


def zips() -> dict[str, Entry]:
    good = picture()
    return {
        "zip slip": ("slip.zip", archive(("../../../tmp/evil.png", good), ("a.png", good))),
        "zip of absolute paths": ("absolute.zip", archive(("/etc/evil.png", good))),
        "zip of windows paths": ("windows.zip", archive(("C:\\evil.png", good), ("..\\a.png", good))),
        "zip bomb": ("bomb.zip", archive(("a.png", bytes(64 * 2**20)))),
        "zip in a zip in a zip": ("nested.zip", archive(("a.png", archive(("b.zip", archive(("c.zip", good))))))),
        "zip of a symbolic link": ("link.zip", linked()),
        "encrypted zip": ("secret.zip", encrypted()),
        "zip64 of four billion files": ("zip64.zip", zip64()),
        "zip that lies about sizes": ("lie.zip", lying(24, struct.pack("<I", 5))),
        "zip that lies about offsets": ("offset.zip", lying(42, struct.pack("<I", 2**31))),
        "zip of an unknown method": ("method.zip", lying(10, struct.pack("<H", 95))),
        "zip cut in half": ("cut.zip", archive(("a.png", good))[:200]),
        "zip of the same name twice": ("twice.zip", archive(("a.png", good), ("a.png", SVG), ("A.PNG", good))),
        "zip of 20,000 files": ("many.zip", archive(*((f"{i}.png", b"") for i in range(20_000)))),
        "zip of hostile names": ("names.zip", archive(("\u202e.png", good), ("n" * 250, good), ("a/" * 90, good))),
        "zip of bad pictures": ("pictures.zip", archive(("a.png", real_bomb()), ("b.png", SVG))),
        "zip of nothing": ("empty.zip", archive()),
        "zip with a false comparison": ("bundle.zip", archive(("comparison.json", b'{"format_version": 99}'))),
        "zip with a deep comparison": ("deep.zip", archive(("comparison.json", b"[" * 90_000 + b"]" * 90_000))),
        "zip with a false run": ("run.zip", archive(("run/config.json", b"{}"), ("run/events.jsonl", b"\0\0"))),
        "zip with a script for an adapter": (
            "adapter.zip",
            archive(("adapter/adapter_model.bin", b"\x80\4cos\nsystem\n")),
        ),
    }


def texts() -> dict[str, Entry]:
    row = json.dumps(asking("a.png")).encode()
    return {
        "rows with nulls": ("nulls.jsonl", b"\0\0\0\n" + row[:30] + b"\0" + row[30:]),
        "rows nested deep": ("deep.jsonl", b'{"image": ' + b"[" * 90_000 + b"]" * 90_000 + b"}"),
        "rows with a huge number": ("number.jsonl", b'{"image": ' + b"9" * 9000 + b"}\n"),
        "rows with a byte order mark": ("bom.jsonl", b"\xef\xbb\xbf" + row),
        "rows in utf-16": ("utf16.jsonl", row.decode().encode("utf-16")),
        "rows that are no utf-8": ("latin.jsonl", b'{"image": "\xff\xfe\x80"}\n'),
        "rows of half characters": ("surrogate.jsonl", b'{"image": "a.png", "conversations": [{"from": "\\ud800"}]}'),
        "rows that lead outside": ("outside.jsonl", json.dumps(asking("../../../etc/passwd")).encode()),
        "rows of nan": ("nan.json", b"[NaN, Infinity, -Infinity]"),
        "a row of 3 MiB": ("long.jsonl", b'{"image": "' + b"x" * 3 * 2**20 + b'"}'),
        "60,000 empty rows": ("empty.jsonl", b"\n" * 60_000),
        "one number": ("one.json", b"7"),
        "keys twice": ("twice.json", b'[{"image": 1, "image": 2, "__proto__": {}, "conversations": {}}]'),
        "yaml that calls": ("x.yaml", b"!!python/object/apply:os.system ['id']"),
    }


def weights() -> dict[str, Entry]:
    good = save({"w": np.zeros((2, 2), np.float32)})
    shape = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    return {
        "safetensors with a header of petabytes": ("lie.safetensors", tensors({}, length=2**60)),
        "safetensors whose header nests": ("deep.safetensors", tensors(b"[" * 90_000)),
        "safetensors of terabytes": ("huge.safetensors", tensors({"w": shape})),
        "safetensors that overlap": (
            "overlap.safetensors",
            tensors({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, bytes(4)),
        ),
        "safetensors cut in half": ("cut.safetensors", good[: len(good) // 2]),
        "safetensors of another model": ("other.safetensors", good),
        "a pickle that calls": ("evil.bin", PICKLE),
        "a pickle in a torch zip": (
            "evil.pt",
            archive(("archive/data.pkl", b"\x80\x02cposix\nsystem\n(X\2\0\0\0idtR.")),
        ),
        "npz with pickled arrays": ("evil.npz", npz_of_objects()),
        "npz with a lying shape": ("lie.npz", archive(("header.npy", lying_npy()))),
        "sqlite": ("cache.db", b"SQLite format 3\0" + bytes(4096)),
    }


def npz_of_objects() -> bytes:
    """An array whose header promises pickled objects."""
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    return archive(("mass.npy", npy(head, PICKLE)))


def lying_npy() -> bytes:
    return npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }", b"")


def npy(head: bytes, body: bytes) -> bytes:
    head = head.ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + body


PARTS: tuple[Callable[[], dict[str, Entry]], ...] = (pictures, zips, texts, weights)


def make_corpus() -> dict[str, Entry]:
    """Every file: name sent and content, by what is wrong with it."""
    return {what: entry for part in PARTS for what, entry in part().items()}
