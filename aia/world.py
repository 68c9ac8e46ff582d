"""The embedded shapes world: scenes, pictures, captions, questions, and the reader that checks a drawing.

Everything follows from a seed. A scene is a few coloured shapes on a dark 64×64 canvas; whether
it is a training or a held-out scene is a hash of its content, so the two can never overlap.
This file does not know any model, tokenizer or file format.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

CANVAS_PX = 64
BACKGROUND = (23, 23, 27)
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (226, 62, 62),
    "orange": (247, 140, 40),
    "yellow": (246, 215, 66),
    "green": (62, 176, 96),
    "blue": (64, 112, 232),
    "purple": (148, 84, 214),
    "pink": (246, 160, 200),
    "white": (242, 241, 238),
}
SHAPES = ("circle", "square", "triangle", "star")
SIZES_PX = {"small": 6, "large": 10}  # half the side of the shape's box
COUNT_WORDS = ("zero", "one", "two", "three", "four")
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
QUESTION_KINDS = ("existence", "colour", "shape", "count", "relation", "describe")
DRAWING_KINDS = ("one object", "counting", "two objects", "position")

_CELL_STOPS_PX = ((8, 12, 16), (28, 32, 36), (48, 52, 56))  # centres lie on a 4 px lattice
_MARGIN_PX = 2
_GAP_PX = 3
_MIN_RELATION_PX = 8
_CLEAR_MARGIN_PX = 6  # a relation is asked for only where one axis leads by more than this
_HELD_OUT_SHARE = 10  # one scene in ten


@dataclass(frozen=True, order=True)
class Thing:
    """One shape: colour, shape and size words, centre (x, y) in pixels."""

    colour: str
    shape: str
    size: str
    x: int
    y: int

    @property
    def cell(self) -> tuple[int, int]:
        """Row and column of the 3×3 grid that holds the centre."""
        return min(self.y * 3 // CANVAS_PX, 2), min(self.x * 3 // CANVAS_PX, 2)

    @property
    def place(self) -> str:
        return PLACES[self.cell[0]][self.cell[1]]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels (right and bottom exclusive)."""
        r = SIZES_PX[self.size]
        return self.x - r, self.y - r, self.x + r, self.y + r

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """One to four things in reading order (by grid row, then column)."""

    things: tuple[Thing, ...]

    @property
    def key(self) -> str:
        return ";".join(f"{t.colour},{t.shape},{t.size},{t.x},{t.y}" for t in self.things)

    @property
    def held_out(self) -> bool:
        """True for one scene in ten, decided by its content alone."""
        return hashlib.sha256(self.key.encode()).digest()[0] * _HELD_OUT_SHARE < 256


@dataclass(frozen=True)
class Question:
    kind: str
    text: str
    answer: str


@dataclass(frozen=True)
class Drawing:
    """A prompt for a drawing, and what the reader must find in it.

    `things` holds (colour, shape) for each thing asked for; `relation` says where the first
    stands to the second; `place` says where the only one stands. None means: anywhere.
    """

    kind: str
    prompt: str
    things: tuple[tuple[str, str], ...]
    relation: str | None = None
    place: str | None = None


# --- scenes ---------------------------------------------------------------------------------


def make_scene(rng: random.Random, held_out: bool = False, count: int | None = None) -> Scene:
    """Draw a scene of `count` (else 1–4) things from `rng`, from the wanted side of the split."""
    while True:
        n = count or rng.randint(1, 4)
        things = _place_things(rng, _choose_looks(rng, n))
        if things is not None:
            scene = Scene(tuple(sorted(things, key=lambda t: (t.cell, t))))
            if scene.held_out == held_out:
                return scene


def _choose_looks(rng: random.Random, n: int) -> list[tuple[str, str, str]]:
    """Colour, shape, size of each thing: one in three scenes repeats a single colour and shape."""
    palette, sizes = tuple(COLOURS), tuple(SIZES_PX)
    if n > 1 and rng.random() < 1 / 3:
        colour, shape = rng.choice(palette), rng.choice(SHAPES)
        return [(colour, shape, rng.choice(sizes)) for _ in range(n)]
    names = [(c, s) for c in palette for s in SHAPES]
    return [(c, s, rng.choice(sizes)) for c, s in rng.sample(names, n)]


def _place_things(rng: random.Random, looks: list[tuple[str, str, str]]) -> list[Thing] | None:
    cells = rng.sample([(r, c) for r in range(3) for c in range(3)], len(looks))
    things: list[Thing] = []
    for (colour, shape, size), (row, column) in zip(looks, cells, strict=True):
        low = SIZES_PX[size] + _MARGIN_PX
        stops = [[p for p in _CELL_STOPS_PX[i] if low <= p <= CANVAS_PX - low] for i in (column, row)]
        thing = Thing(colour, shape, size, rng.choice(stops[0]), rng.choice(stops[1]))
        if any(_too_close(thing, other) for other in things):
            return None
        things.append(thing)
    return things


def _too_close(a: Thing, b: Thing) -> bool:
    (al, at, ar, ab), (bl, bt, br, bb) = a.box, b.box
    return al < br + _GAP_PX and bl < ar + _GAP_PX and at < bb + _GAP_PX and bt < ab + _GAP_PX


def relation_between(a: tuple[float, float], b: tuple[float, float], margin_px: float = 0) -> str | None:
    """Where centre `a` stands to centre `b`, along the axis of the larger offset.

    None when the larger offset is under 8 pixels, or leads the other by no more than `margin_px`.
    """
    dx, dy = b[0] - a[0], b[1] - a[1]
    if max(abs(dx), abs(dy)) < _MIN_RELATION_PX or abs(abs(dx) - abs(dy)) <= margin_px:
        return None
    if abs(dx) > abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


# --- pictures -------------------------------------------------------------------------------


@cache
def shape_mask(shape: str, size: str) -> np.ndarray:
    """Coverage of a shape in its box: float32 [2r, 2r] in 0…1, anti-aliased 16 times."""
    r, scale = SIZES_PX[size], 16
    side = 2 * r * scale
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    last = side - 1
    if shape == "circle":
        draw.ellipse((0, 0, last, last), fill=255)
    elif shape == "square":
        inset = round(side * 0.06)
        draw.rounded_rectangle((inset, inset, last - inset, last - inset), radius=side * 0.07, fill=255)
    elif shape == "triangle":
        draw.polygon([(side / 2, side * 0.04), (last, side * 0.94), (0, side * 0.94)], fill=255)
    else:
        draw.polygon(_star_points(side), fill=255)
    mask = np.asarray(image, np.float32).reshape(2 * r, scale, 2 * r, scale).mean((1, 3)) / 255
    mask.setflags(write=False)
    return mask


def _star_points(side: int) -> list[tuple[float, float]]:
    points = []
    for i in range(10):
        radius = side * (0.54 if i % 2 == 0 else 0.24)
        angle = np.pi * (i / 5 - 0.5)
        points.append((side / 2 + radius * np.cos(angle), side * 0.53 + radius * np.sin(angle)))
    return points


def draw_scene(scene: Scene) -> np.ndarray:
    """Render a scene: uint8 [64, 64, 3]."""
    canvas = np.empty((CANVAS_PX, CANVAS_PX, 3), np.float32)
    canvas[:] = BACKGROUND
    for thing in scene.things:
        left, top, right, bottom = thing.box
        alpha = shape_mask(thing.shape, thing.size)[..., None]
        region = canvas[top:bottom, left:right]
        region += alpha * (np.asarray(COLOURS[thing.colour], np.float32) - region)
    return np.rint(canvas).astype(np.uint8)


# --- words ----------------------------------------------------------------------------------


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def describe(scene: Scene) -> str:
    """Name every thing with size, colour, shape and place, in reading order."""
    parts = [f"a {t.size} {t.name} {t.place}" for t in scene.things]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def make_questions(scene: Scene, rng: random.Random) -> dict[str, Question]:
    """One question of each kind that the scene has an unambiguous answer to."""
    makers = (_ask_existence, _ask_colour, _ask_shape, _ask_count, _ask_relation, _ask_describe)
    questions = (maker(scene, rng) for maker in makers)
    return {q.kind: q for q in questions if q is not None}


def _ask_existence(scene: Scene, rng: random.Random) -> Question:
    """Ask for a shape or a thing; about half of the time for an absent one.

    The answer says where the first one stands, so that a guess is not worth half a point.
    """
    if rng.random() < 0.2:
        shape = rng.choice(SHAPES)
        return Question("existence", f"is there a {shape}?", _say_where(t for t in scene.things if t.shape == shape))
    present = sorted({(t.colour, t.shape) for t in scene.things})
    colour, shape = rng.choice(present) if rng.random() < 0.55 else _choose_absent(present, rng)
    matches = (t for t in scene.things if (t.colour, t.shape) == (colour, shape))
    return Question("existence", f"is there {with_article(colour)} {shape}?", _say_where(matches))


def _choose_absent(present: list[tuple[str, str]], rng: random.Random) -> tuple[str, str]:
    """A thing that is not there, if possible made of colours and shapes that are."""
    colours, shapes = {c for c, _ in present}, {s for _, s in present}
    absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in present]
    swapped = [(c, s) for c, s in absent if c in colours and s in shapes]
    halfway = [(c, s) for c, s in absent if c in colours or s in shapes]
    pick = rng.random()
    return rng.choice(swapped if swapped and pick < 0.6 else halfway if pick < 0.9 else absent)


def _say_where(matches: Iterable[Thing]) -> str:
    first = next(iter(matches), None)
    return "no" if first is None else f"yes, {first.place}"


def _ask_colour(scene: Scene, rng: random.Random) -> Question:
    word = rng.choice(("color", "colour"))
    single = [t for t in scene.things if sum(o.shape == t.shape for o in scene.things) == 1]
    if not single or rng.random() < 0.3:
        thing = rng.choice(scene.things)
        return Question("colour", f"what {word} is the object {thing.place}?", thing.colour)
    thing = rng.choice(single)
    return Question("colour", f"what {word} is the {thing.shape}?", thing.colour)


def _ask_shape(scene: Scene, rng: random.Random) -> Question:
    single = [t for t in scene.things if sum(o.colour == t.colour for o in scene.things) == 1]
    if single and rng.random() < 0.6:
        thing = rng.choice(single)
        return Question("shape", f"what shape is the {thing.colour} object?", thing.shape)
    thing = rng.choice(scene.things)
    return Question("shape", f"what shape is {thing.place}?", thing.shape)


def _ask_count(scene: Scene, rng: random.Random) -> Question:
    thing = rng.choice(scene.things)
    shape = thing.shape if rng.random() < 0.8 else rng.choice(SHAPES)
    colour = thing.colour if rng.random() < 0.8 else rng.choice(tuple(COLOURS))
    what, matches = rng.choice(
        (
            ("objects", lambda t: True),
            (f"{shape}s", lambda t: t.shape == shape),
            (f"{colour} objects", lambda t: t.colour == colour),
        )
    )
    count = sum(matches(t) for t in scene.things)
    return Question("count", f"how many {what} are there?", COUNT_WORDS[count])


def _ask_relation(scene: Scene, rng: random.Random) -> Question | None:
    """Ask whether one thing stands left of (…) another, or which thing does."""
    names = [t.name for t in scene.things]
    unique = [t for t in scene.things if names.count(t.name) == 1]
    pairs = [
        (a, b, relation_between((a.x, a.y), (b.x, b.y), _CLEAR_MARGIN_PX)) for a in unique for b in unique if a != b
    ]
    pairs = [(a, b, r) for a, b, r in pairs if r]
    if not pairs:
        return None
    single = [(a, b, r) for a, b, r in pairs if _things_towards(scene, b, r) == [a]]
    if single and rng.random() < 0.75:
        a, b, relation = rng.choice(single)
        return Question("relation", f"what is {relation} the {b.name}?", with_article(a.name))
    a, b, relation = rng.choice(pairs)
    truth = rng.random() < 0.5
    asked = relation if truth else OPPOSITE[relation]
    return Question("relation", f"is the {a.name} {asked} the {b.name}?", "yes" if truth else "no")


def _things_towards(scene: Scene, anchor: Thing, relation: str) -> list[Thing]:
    """Every thing with any clear offset in that direction, whatever the larger offset is."""
    sign = 1 if relation in ("right of", "below") else -1
    axis = "x" if relation in ("left of", "right of") else "y"
    offset = {t: sign * (getattr(t, axis) - getattr(anchor, axis)) for t in scene.things}
    return [t for t in scene.things if t != anchor and offset[t] >= 4]


def _ask_describe(scene: Scene, rng: random.Random) -> Question:
    return Question("describe", "describe the image.", describe(scene))


def make_drawing(scene: Scene, rng: random.Random) -> Drawing:
    """A short prompt that the scene fulfils, of the kind its content allows."""
    looks = tuple((t.colour, t.shape) for t in scene.things)
    n = len(looks)
    if n > 1 and len(set(looks)) == 1:
        return Drawing("counting", f"{COUNT_WORDS[n]} {looks[0][0]} {looks[0][1]}s", looks)
    if n == 1:
        thing = scene.things[0]
        size = f"{thing.size} " if rng.random() < 0.3 else ""
        if rng.random() < 0.5:
            return Drawing("position", with_article(f"{size}{thing.name} {thing.place}"), looks, place=thing.place)
        return Drawing("one object", with_article(f"{size}{thing.name}"), looks)
    if n == 2:
        a, b = rng.sample(scene.things, 2)
        looks = ((a.colour, a.shape), (b.colour, b.shape))
        relation = relation_between((a.x, a.y), (b.x, b.y), _CLEAR_MARGIN_PX)
        if relation and rng.random() < 0.6:
            return Drawing(
                "position", f"{with_article(a.name)} {relation} {with_article(b.name)}", looks, relation=relation
            )
        return Drawing("two objects", f"{with_article(a.name)} and {with_article(b.name)}", looks)
    names = [with_article(f"{c} {s}") for c, s in rng.sample(looks, n)]
    return Drawing("several objects", ", ".join(names[:-1]) + " and " + names[-1], looks)


def make_drawing_of_kind(rng: random.Random, kind: str, held_out: bool = False) -> tuple[Scene, Drawing]:
    """A scene of the wanted side of the split whose prompt is of that kind, and the prompt."""
    count = {"one object": 1, "two objects": 2}.get(kind)
    while True:
        scene = make_scene(rng, held_out, count)
        drawing = make_drawing(scene, rng)
        if drawing.kind == kind:
            return scene, drawing


# --- the reader -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One thing read from a picture: colour and shape words, centre in pixels, fit of the shape 0…1."""

    colour: str
    shape: str
    x: float
    y: float
    fit: float


def read_picture(picture: np.ndarray) -> list[Seen]:
    """Find the things in a picture by plain image processing.

    `picture` is uint8 [64, 64, 3]. Connected regions that differ from the background are things;
    colour is the nearest palette entry of the region's median, shape the best overlap with the
    world's own masks. Specks under 12 pixels are ignored; a region that fits no shape by at least
    0.7 intersection over union is reported as shape "blob".
    """
    if picture.shape != (CANVAS_PX, CANVAS_PX, 3):
        raise ValueError(f"expected a picture of shape (64, 64, 3), got {picture.shape}")
    distance = np.abs(picture.astype(np.float32) - BACKGROUND).max(-1)
    labels, _ = ndimage.label(distance > 60)
    seen = []
    for index, window in enumerate(ndimage.find_objects(labels), start=1):
        region = labels[window] == index
        if region.sum() < 12:
            continue
        colour = _nearest_colour(np.median(picture[window][region], axis=0))
        shape, fit = _best_shape(region)
        rows, columns = window
        seen.append(Seen(colour, shape, (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2, fit))
    return seen


def _nearest_colour(rgb: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: float(np.square(rgb - np.asarray(COLOURS[name])).sum()))


def _best_shape(region: np.ndarray) -> tuple[str, float]:
    """Best intersection over union with any mask at any offset within one pixel."""
    best = ("blob", 0.0)
    for size in SIZES_PX:
        for shape in SHAPES:
            fit = _overlap(region, shape_mask(shape, size) > 0.25)
            if fit > best[1]:
                best = (shape, fit)
    return best if best[1] >= 0.7 else ("blob", best[1])


def _overlap(region: np.ndarray, mask: np.ndarray) -> float:
    rows, columns = np.nonzero(mask)
    mask = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    side = max(*region.shape, *mask.shape) + 2
    board = np.zeros((side, side), bool)
    board[1 : 1 + region.shape[0], 1 : 1 + region.shape[1]] = region
    best = 0.0
    for dy in range(3):
        for dx in range(3):
            other = np.zeros_like(board)
            h, w = min(mask.shape[0], side - dy), min(mask.shape[1], side - dx)
            other[dy : dy + h, dx : dx + w] = mask[:h, :w]
            best = max(best, float((board & other).sum() / (board | other).sum()))
    return best


def check_drawing(drawing: Drawing, picture: np.ndarray) -> bool:
    """True when the picture shows exactly what was asked for, no more and no less."""
    seen = read_picture(picture)
    if sorted((s.colour, s.shape) for s in seen) != sorted(drawing.things):
        return False
    if drawing.place is not None:
        only = seen[0]
        cell = Thing(only.colour, only.shape, "small", round(only.x), round(only.y)).place
        return cell == drawing.place
    if drawing.relation is not None:
        first, second = (next(s for s in seen if (s.colour, s.shape) == look) for look in drawing.things)
        return relation_between((first.x, first.y), (second.x, second.y)) == drawing.relation
    return True
