"""Small captures for a store, and hands in its database and folder."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import numpy as np
from PIL import Image

from aia.intensity import GROUPS, Task
from backend.kept.captures import Capture, CaptureKey, Sampling
from backend.kept.store import CaptureStore


def make_capture(number: int = 0, queries: int = 20) -> Capture:
    """A capture of about 16 KB (its masses do not pack well)."""
    random = np.random.default_rng(number)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    return Capture(
        key=CaptureKey("tiny", "abc", "float32", Task.GENERATION, f"prompt {number}", "", Sampling()),
        text="",
        tokens=("x",) * queries,
        token_groups=("prompt",) * queries,
        grid=(8, 8),
        seconds=1.0,
        created=2.0,
        picture_png=picture.getvalue(),
        mass=random.dirichlet(np.ones(len(GROUPS)), (1, 4, 8, queries)).astype(np.float32),
        query_positions=np.arange(queries, dtype=np.int32),
        cross=np.zeros((4, queries, 0), np.float16),
        cross_positions=np.zeros(0, np.int32),
    )


def tamper(store: CaptureStore, statement: str, *values: object) -> None:
    with sqlite3.connect(store._folder / "cache.db") as connection:
        connection.execute(statement, values)
    connection.close()


def value_files(store: CaptureStore) -> list[Path]:
    return sorted(store._folder.rglob("*.val"))


def value_file_of(store: CaptureStore, capture_id: str) -> Path:
    [(name,)] = store._cache._sql("SELECT filename FROM Cache WHERE key = ?", (capture_id,)).fetchall()
    return store._folder / name


def corrupt_files(folder: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in folder.glob("*.corrupt"))
