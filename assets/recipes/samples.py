"""Makes the sample pictures, their questions, the drawing prompts and the page's icon.

    python -m assets.recipes.samples

Everything follows from SEED: eight held-out scenes, chosen one after another so that each new one
brings colours and shapes that the ones before lack. Does not know the page that shows them.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

from aia.world import Question, Scene, draw_scene, make_questions, make_scene

SEED = 8
FOLDER = Path(__file__).resolve().parent.parent / "samples"
ICON = FOLDER.parent / "icon.png"
COUNTS = (3, 2, 4, 1, 3, 4, 2, 3)  # things in each sample, in the order shown
CANDIDATES = 80
KIND_TURNS = (  # which three kinds of question each sample gets, in turn
    ("relation", "existence", "describe"),
    ("count", "colour", "describe"),
    ("shape", "existence", "describe"),
    ("count", "relation", "describe"),
)
DRAWING_PROMPTS = (
    "a red circle",
    "two green squares",
    "a yellow star above a blue square",
    "a large purple triangle on the left",
    "three pink circles",
    "a white star and an orange triangle",
)


def choose_scenes(rng: random.Random) -> list[Scene]:
    """Pick a held-out scene for each count, the one of many that adds most to those before."""
    scenes: list[Scene] = []
    for count in COUNTS:
        candidates = [make_scene(rng, held_out=True, count=count) for _ in range(CANDIDATES)]
        scenes.append(max(candidates, key=lambda scene: _novelty(scene, scenes)))
    return scenes


def _novelty(scene: Scene, before: list[Scene]) -> float:
    """How rare its colours and shapes are so far; unlike things within one scene count as well."""
    colours = [t.colour for s in before for t in s.things]
    shapes = [t.shape for s in before for t in s.things]
    rarity = sum(1 / (1 + colours.count(t.colour)) + 1 / (1 + shapes.count(t.shape)) for t in scene.things)
    unlike = len({t.colour for t in scene.things}) + len({t.shape for t in scene.things})
    large = sum(t.size == "large" for t in scene.things)
    return (rarity + 0.3 * unlike + 0.3 * large) / len(scene.things)


def choose_questions(scene: Scene, kinds: tuple[str, ...], rng: random.Random) -> list[Question]:
    """Three questions of different kinds, the wanted ones where the scene allows them."""
    made = make_questions(scene, rng)
    wanted = [made[kind] for kind in kinds if kind in made]
    spare = [question for kind, question in made.items() if kind not in kinds]
    return (wanted + spare)[:3]


def draw_icon(side: int = 128) -> Image.Image:
    """Two overlapping lenses in the colours of the two tasks."""
    scale = 8
    layers = []
    for colour, left in (((47, 111, 179), 0.06), ((200, 70, 63), 0.36)):
        layer = Image.new("RGBA", (side * scale, side * scale), (*colour, 0))
        box = [round(side * scale * v) for v in (left, 0.21, left + 0.58, 0.79)]
        ImageDraw.Draw(layer).ellipse(box, fill=(*colour, 210))
        layers.append(layer)
    return Image.alpha_composite(*layers).resize((side, side), Image.Resampling.LANCZOS)


def write_samples() -> None:
    """Write the pictures, samples.json and the icon."""
    rng = random.Random(SEED)
    FOLDER.mkdir(parents=True, exist_ok=True)
    entries = []
    for index, scene in enumerate(choose_scenes(rng), start=1):
        name = f"sample-{index}.png"
        Image.fromarray(draw_scene(scene)).save(FOLDER / name, optimize=True)
        questions = choose_questions(scene, KIND_TURNS[(index - 1) % len(KIND_TURNS)], rng)
        entries.append(
            {
                "file": name,
                "title": ", ".join(t.name for t in scene.things),
                "questions": [{"kind": q.kind, "text": q.text, "answer": q.answer} for q in questions],
            }
        )
    document = {"seed": SEED, "pictures": entries, "drawings": list(DRAWING_PROMPTS)}
    (FOLDER / "samples.json").write_text(json.dumps(document, indent=1) + "\n")
    draw_icon().save(ICON, optimize=True)


if __name__ == "__main__":
    write_samples()
