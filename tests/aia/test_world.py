"""The shapes world: split, pictures, questions, and a reader that is right about both good and bad drawings."""

import random
from dataclasses import replace

import numpy as np
import pytest

from aia import world
from aia.world import Drawing, Scene, Thing

RED_CIRCLE = Thing("red", "circle", "large", 12, 32)
BLUE_SQUARE = Thing("blue", "square", "small", 52, 32)
PAIR = Scene((RED_CIRCLE, BLUE_SQUARE))


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random(7)
    return [world.make_scene(rng, held_out=i % 2 == 1) for i in range(300)]


def test_the_same_seed_makes_the_same_scenes_pictures_and_questions():
    first, second = (random.Random(3), random.Random(3))
    a, b = world.make_scene(first), world.make_scene(second)
    assert a == b
    assert np.array_equal(world.draw_scene(a), world.draw_scene(b))
    assert world.make_questions(a, first) == world.make_questions(b, second)


def test_train_and_held_out_scenes_cannot_overlap(scenes):
    assert [s.held_out for s in scenes] == [i % 2 == 1 for i in range(300)]
    train = {s.key for s in scenes if not s.held_out}
    assert not train & {s.key for s in scenes if s.held_out}


def test_the_split_depends_on_content_only():
    rebuilt = Scene(tuple(Thing(*(getattr(t, f) for f in ("colour", "shape", "size", "x", "y"))) for t in PAIR.things))
    assert rebuilt.held_out == PAIR.held_out


def test_about_one_scene_in_ten_is_held_out():
    things = [
        Thing(c, s, z, x, y)
        for c in world.COLOURS
        for s in world.SHAPES
        for z in world.SIZES_PX
        for x in (12, 32)
        for y in (12, 32, 52)
    ]
    share = np.mean([Scene((t,)).held_out for t in things])
    assert 0.05 < share < 0.16


def test_scenes_have_one_to_four_things_that_fit_and_do_not_touch(scenes):
    assert {len(s.things) for s in scenes} == {1, 2, 3, 4}
    for scene in scenes:
        for thing in scene.things:
            left, top, right, bottom = thing.box
            assert min(left, top) >= 2 and max(right, bottom) <= world.CANVAS_PX - 2
        assert len({t.cell for t in scene.things}) == len(scene.things)


def test_a_picture_is_dark_with_anti_aliased_shapes():
    picture = world.draw_scene(PAIR)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert tuple(picture[0, 0]) == world.BACKGROUND
    assert tuple(picture[32, 12]) == world.COLOURS["red"]
    assert tuple(picture[32, 52]) == world.COLOURS["blue"]
    reds = {int(v) for v in picture[22:42, 2:22, 0].flatten()}
    assert len(reds) > 5, "the circle's edge has steps between background and red"


def test_every_picture_reads_back_as_its_scene(scenes):
    for scene in scenes:
        seen = world.read_picture(world.draw_scene(scene))
        assert sorted((s.colour, s.shape) for s in seen) == sorted((t.colour, t.shape) for t in scene.things)
        for s in seen:
            near = min(scene.things, key=lambda t: abs(t.x - s.x) + abs(t.y - s.y))
            assert abs(near.x - s.x) <= 1.5 and abs(near.y - s.y) <= 1.5


def test_a_scene_fulfils_its_own_prompt_and_an_altered_one_does_not(scenes):
    rng = random.Random(1)
    for scene in scenes[:120]:
        drawing = world.make_drawing(scene, rng)
        picture = world.draw_scene(scene)
        assert world.check_drawing(drawing, picture), drawing
        other = "white" if drawing.things[0][0] != "white" else "red"
        recoloured = replace(drawing, things=((other, drawing.things[0][1]), *drawing.things[1:]))
        assert not world.check_drawing(recoloured, picture)
        assert not world.check_drawing(replace(drawing, things=(*drawing.things, ("red", "star"))), picture)


@pytest.mark.parametrize(
    ("drawing", "fulfilled"),
    [
        (Drawing("position", "", (("red", "circle"), ("blue", "square")), relation="left of"), True),
        (Drawing("position", "", (("blue", "square"), ("red", "circle")), relation="left of"), False),
        (Drawing("position", "", (("blue", "square"), ("red", "circle")), relation="right of"), True),
        (Drawing("two objects", "", (("blue", "circle"), ("red", "square"))), False),
        (Drawing("counting", "", (("red", "circle"),) * 2), False),
    ],
)
def test_the_reader_checks_relation_and_binding(drawing, fulfilled):
    assert world.check_drawing(drawing, world.draw_scene(PAIR)) == fulfilled


def test_the_reader_checks_the_place():
    picture = world.draw_scene(Scene((RED_CIRCLE,)))
    assert world.check_drawing(Drawing("position", "", (("red", "circle"),), place="on the left"), picture)
    assert not world.check_drawing(Drawing("position", "", (("red", "circle"),), place="at the top"), picture)


def test_the_reader_rejects_noise_smears_and_an_empty_canvas():
    drawing = Drawing("one object", "a red circle", (("red", "circle"),))
    empty = np.full((64, 64, 3), world.BACKGROUND, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    smear = empty.copy()
    smear[30:34, 5:60] = world.COLOURS["red"]
    for picture in (empty, noise, smear):
        assert not world.check_drawing(drawing, picture)


def test_the_reader_says_what_shape_it_expects():
    with pytest.raises(ValueError, match="64, 64, 3"):
        world.read_picture(np.zeros((32, 32, 3), np.uint8))


def test_answers_follow_from_the_scene():
    rng = random.Random(0)
    asked = [q for _ in range(400) for q in world.make_questions(PAIR, rng).values()]
    answers = {q.text: q.answer for q in asked}
    assert answers["is there a red circle?"] == "yes, on the left"
    assert answers["is there a blue circle?"] == "no"
    assert answers["what colour is the square?"] == "blue"
    assert answers["what shape is the red object?"] == "circle"
    assert answers["how many objects are there?"] == "two"
    assert answers["is the red circle left of the blue square?"] == "yes"
    assert answers["is the red circle right of the blue square?"] == "no"
    assert answers["what is left of the blue square?"] == "a red circle"
    assert answers["describe the image."] == "a large red circle on the left and a small blue square on the right"
    assert {q.kind for q in asked} == set(world.QUESTION_KINDS)


def test_existence_is_asked_evenly(scenes):
    rng = random.Random(5)
    yes = [world.make_questions(s, rng)["existence"].answer.startswith("yes") for s in scenes * 5]
    assert 0.42 < np.mean(yes) < 0.58


def test_vowels_take_an():
    assert world.describe(Scene((replace(RED_CIRCLE, colour="orange"),))).startswith("a large orange")
    assert world.with_article("orange star") == "an orange star"


@pytest.mark.parametrize(
    ("b", "relation"),
    [((60, 32), "left of"), ((0, 32), "right of"), ((30, 60), "above"), ((30, 0), "below"), ((34, 34), None)],
)
def test_relations_follow_the_larger_offset(b, relation):
    assert world.relation_between((30, 32), b) == relation
