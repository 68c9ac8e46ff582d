"""Rows and ZIPs for the tests of data sets: good ones, and such as a stranger might send."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image


def picture(seed: int = 0, side: int = 16) -> bytes:
    """A small PNG, another one for each seed."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def asking(image: str) -> dict:
    said = [{"from": "human", "value": "<image>\nwhat is it?"}, {"from": "gpt", "value": "a cup"}]
    return {"image": image, "conversations": said}


def drawing(image: str) -> dict:
    return {"image": image, "conversations": [{"from": "human", "value": "a cup"}, {"from": "gpt", "value": "<image>"}]}


def write_rows(path, rows):
    """JSONL or a JSON list, as the name says."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else "[" + ",\n".join(lines) + "]")
    return path


def write_zip(path, entries: dict[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return path


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header says that it is enormous."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
