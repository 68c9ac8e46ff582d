"""Samples by task and index: their order, the world's split, and what is said of every kind of bad row."""

import json
import os
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aia import conversations, world
from aia.conversations import (
    BadRow,
    ConversationsData,
    DataError,
    check_conversations,
    load_conversations,
)
from aia.data import Turn, WorldData
from aia.intensity import Task

UNDERSTANDING, GENERATION = Task.UNDERSTANDING, Task.GENERATION


def read_picture(path: Path) -> np.ndarray:
    """Stands in for the real loader: one sentence on anything that is no picture."""
    try:
        return np.asarray(Image.open(path).convert("RGB"))
    except OSError as error:
        raise ValueError("Expected a picture: choose another.") from error


def save_picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), (shade, 100, 200)).save(path)


def talk(*values: str) -> list[dict]:
    return [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(values)]


def row(*values: str, image: object = "a.png", **extra) -> dict:
    return {"image": image, "conversations": talk(*(values or ("what is it?", "a cat"))), **extra}


@pytest.fixture
def folder(tmp_path):
    """A folder with the picture a.png, and things outside of it that nothing may reach."""
    save_picture(tmp_path / "set" / "a.png")
    save_picture(tmp_path / "outside.png")
    return tmp_path / "set"


def write(folder: Path, *rows, name: str = "train.jsonl") -> Path:
    """Rows, one to a line; text and bytes are written as they are."""
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
    (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder / name


def problems(path: Path, images: Path | None = None) -> list[BadRow]:
    return check_conversations(path, images, read_picture)[1]


def load(path: Path, seed: int = 0, **options) -> ConversationsData:
    return load_conversations(path, None, seed, read_picture, **options)


def message(function, *arguments, **keywords) -> str:
    with pytest.raises(ValueError) as error:
        function(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


def many(folder: Path, questions: int = 12, drawings: int = 7) -> Path:
    rows = [row(f"question {i}?", f"answer {i}") for i in range(questions)]
    return write(folder, *rows, *(row(f"prompt {i}", "<image>") for i in range(drawings)))


def words(sample) -> tuple:
    return sample.task, sample.picture.tobytes(), sample.turns, sample.prompt


# --- the world ------------------------------------------------------------------------------


def test_the_world_never_shows_a_held_out_scene(monkeypatch):
    drawn = []
    draw = world.draw_scene
    monkeypatch.setattr(world, "draw_scene", lambda scene: (drawn.append(scene), draw(scene))[1])
    stream = WorldData(5)
    for task in Task:
        for index in range(400):
            stream.sample(task, index)
    assert len(drawn) == 800 and len({scene.key for scene in drawn}) > 700
    assert not any(scene.held_out for scene in drawn)


def test_the_world_has_no_end_and_pictures_of_the_right_form():
    stream = WorldData(1)
    for task in Task:
        assert stream.count(task) is None
        sample = stream.sample(task, 10**9)
        assert sample.task is task
        assert sample.picture.shape == (64, 64, 3) and sample.picture.dtype == np.uint8
        assert bool(sample.turns) == (task is UNDERSTANDING) and bool(sample.prompt) == (task is GENERATION)


def test_samples_of_the_world_do_not_depend_on_the_order_of_calls():
    wanted = [(task, index) for index in (7, 0, 3, 7, 12) for task in Task]
    one, other = WorldData(2, 3), WorldData(2, 3)
    forwards = {pair: words(one.sample(*pair)) for pair in wanted}
    backwards = {pair: words(other.sample(*pair)) for pair in reversed(wanted)}
    assert forwards == backwards
    assert len(set(forwards.values())) == len(forwards) == 8


def test_a_scene_follows_from_seed_task_and_index_alone():
    scenes = {world.make_scene(random.Random(f"3/understanding/{i}")) for i in range(5)}
    pictures = {WorldData(3).sample(UNDERSTANDING, i).picture.tobytes() for i in range(5)}
    assert pictures == {world.draw_scene(scene).tobytes() for scene in scenes}


def test_other_seeds_give_other_worlds():
    for task in Task:
        one, other = ({words(WorldData(seed).sample(task, i)) for i in range(100)} for seed in (1, 2))
        assert len(one & other) < 5  # a lone shape may come again by chance


def test_questions_of_a_picture_are_of_different_kinds_in_any_order():
    stream = WorldData(3, questions=3)
    turns = [stream.sample(UNDERSTANDING, i).turns for i in range(60)]
    assert all(len(three) == len({turn.question for turn in three}) == 3 for three in turns)
    describing = {
        next((n for n, turn in enumerate(three) if turn.question == "describe the image."), None) for three in turns
    }
    assert describing == {None, 0, 1, 2}


def test_a_scene_gives_no_more_questions_than_it_has():
    stream = WorldData(3, questions=6)
    counts = Counter(len(stream.sample(UNDERSTANDING, i).turns) for i in range(60))
    assert set(counts) == {5, 6}  # a single thing stands in no relation


def test_kinds_of_questions_are_asked_alike(monkeypatch):
    kinds = Counter()
    ask = world.make_questions

    def note(scene, rng):
        found = ask(scene, rng)
        kind_of.update({question.text: kind for kind, question in found.items()})
        return found

    monkeypatch.setattr(world, "make_questions", note)
    stream = WorldData(4)
    for index in range(1200):
        kind_of: dict[str, str] = {}
        kinds[kind_of[stream.sample(UNDERSTANDING, index).turns[0].question]] += 1
    always = [kinds[kind] for kind in world.QUESTION_KINDS if kind != "relation"]
    assert set(kinds) == set(world.QUESTION_KINDS)
    assert max(always) < 280 and min(always) > 160  # about 220 of each; four standard deviations are 54
    assert 40 < kinds["relation"] < min(always)  # not every scene has one


def test_drawings_are_of_every_kind_alike_and_a_quarter_of_the_prompts_name_everything(monkeypatch):
    made = []
    make = world.make_drawing_of_kind
    monkeypatch.setattr(world, "make_drawing_of_kind", lambda *given: (made.append(make(*given)), made[-1])[1])
    stream = WorldData(6)
    samples = [stream.sample(GENERATION, i) for i in range(400)]
    for sample, (scene, drawing) in zip(samples, made, strict=True):
        assert np.array_equal(sample.picture, world.draw_scene(scene))
        assert sample.prompt in (drawing.prompt, world.describe(scene))
    assert all(world.check_drawing(made[i][1], samples[i].picture) for i in range(40))
    full = sum(sample.prompt != drawing.prompt for sample, (_, drawing) in zip(samples, made, strict=True))
    kinds = Counter(drawing.kind for _, drawing in made)
    assert set(kinds) == set(world.DRAWING_KINDS)
    assert all(65 < number < 135 for number in (full, *kinds.values()))  # 100 of each; four standard deviations are 35


def test_a_world_digest_follows_seed_questions_and_words(monkeypatch):
    first = WorldData(1).digest()
    assert re.fullmatch("[0-9a-f]{12}", first) and WorldData(1).digest() == first
    assert len({first, WorldData(2).digest(), WorldData(1, 2).digest()}) == 3
    monkeypatch.setattr(world, "describe", lambda scene: "things")
    assert WorldData(1).digest() != first


@pytest.mark.parametrize("questions", [0, -1, 7])
def test_an_impossible_number_of_questions_is_refused(questions):
    assert message(WorldData, 0, questions).startswith(f"expected 1 to 6 questions per picture, got {questions};")


@pytest.mark.parametrize("task", Task)
def test_an_index_below_0_is_refused(task, folder):
    for stream in (WorldData(0), load(many(folder))):
        assert "got -1" in message(stream.sample, task, -1)


# --- good files -----------------------------------------------------------------------------


def test_a_row_becomes_the_sample_it_describes(folder):
    save_picture(folder / "deep" / "b.png", shade=7)
    path = write(
        folder,
        row("<image>\nwhat is it?", "a cat", " and its colour? ", "grey\n", id="row 1", weight=float("nan")),
        row("a photo of a cat", "<image>", image="deep/b.png"),
    )
    stream = load(path)
    assert (stream.count(UNDERSTANDING), stream.count(GENERATION), stream.bad_rows) == (1, 1, ())
    asked, drawn = stream.sample(UNDERSTANDING, 0), stream.sample(GENERATION, 0)
    assert asked.turns == (Turn("what is it?", "a cat"), Turn("and its colour?", "grey")) and asked.prompt == ""
    assert drawn.prompt == "a photo of a cat" and drawn.turns == ()
    assert (asked.task, drawn.task) == (UNDERSTANDING, GENERATION)
    assert np.array_equal(asked.picture, np.full((2, 3, 3), (0, 100, 200), np.uint8))
    assert np.array_equal(drawn.picture, np.full((2, 3, 3), (7, 100, 200), np.uint8))


@pytest.mark.parametrize(
    "value",
    ["<image>\nwhat is it?", "what is it?\n<image>", "<image> what is it?", "what <image> is it?", "what is it?"],
)
def test_the_placeholder_is_stripped_wherever_it_stands_in_the_first_question(folder, value):
    assert load(write(folder, row(value, "a cat"))).sample(UNDERSTANDING, 0).turns[0].question == "what is it?"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["train.json", "train"])
def test_a_json_list_and_lines_hold_the_same_rows(folder, indent, name):
    rows = [row("one?", "1"), row("two", "<image>"), row("three?", "3")]
    as_list = folder / name
    as_list.write_text("\n\n" + json.dumps(rows, indent=indent))
    assert (
        load(as_list).digest()
        == load(write(folder, *rows)).digest()
        == load(write(folder, *rows, name="l.json")).digest()
    )


def test_a_byte_order_mark_windows_lines_and_blank_lines_do_no_harm(folder):
    path = folder / "train.jsonl"
    line = json.dumps(row("où?", "ici\u2028là"), ensure_ascii=False).encode()
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line + b"\r\n" + b"{}")
    good, bad = check_conversations(path, None, read_picture)
    assert [r.line for r in good] == [1, 4] and good[0].turns == (Turn("où?", "ici\u2028là"),)
    assert bad == [BadRow(5, "no image")]
    as_list = folder / "train.json"
    as_list.write_bytes(b"\xef\xbb\xbf[\r\n" + line + b",\r\n" + line + b"\r\n]\r\n")
    assert [r.line for r in check_conversations(as_list, None, read_picture)[0]] == [2, 3]


def test_pictures_may_lie_in_another_folder(folder, tmp_path):
    path = write(folder, row(image="outside.png"))
    assert problems(path) == [BadRow(1, 'image not found at "outside.png"')]
    good, bad = check_conversations(path, tmp_path, read_picture)
    assert [r.picture for r in good] == [tmp_path.resolve() / "outside.png"] and not bad


def test_a_link_that_stays_inside_is_followed(folder):
    (folder / "link.png").symlink_to(folder / "a.png")
    assert not problems(write(folder, row(image="link.png")))


def test_a_picture_is_checked_once_and_loaded_only_when_asked_for(folder):
    seen = []
    stream = load_conversations(many(folder), None, 0, lambda path: (seen.append(path.name), read_picture(path))[1])
    assert seen == ["a.png"]
    stream.sample(GENERATION, 3)
    assert seen == ["a.png", "a.png"]


# --- the order ------------------------------------------------------------------------------


def text_of(sample) -> str:
    return sample.prompt or sample.turns[0].question


def epochs(stream, task: Task, number: int) -> list[list[str]]:
    n = stream.count(task)
    return [[text_of(stream.sample(task, e * n + i)) for i in range(n)] for e in range(number)]


def test_every_epoch_holds_every_row_once_in_an_order_of_its_own(folder):
    stream = load(many(folder))
    for task, name, n in ((UNDERSTANDING, "question {}?", 12), (GENERATION, "prompt {}", 7)):
        assert stream.count(task) == n
        orders = epochs(stream, task, 5)
        assert all(sorted(order) == sorted(name.format(i) for i in range(n)) for order in orders)
        assert all(a != b for a, b in pairwise(orders))
        assert orders[0] != [name.format(i) for i in range(n)]


def test_two_instances_agree_at_any_index_in_any_order_of_calls(folder):
    path = many(folder)
    one, other = load(path, seed=9), load(path, seed=9)
    wanted = [(task, index) for index in (0, 30, 5, 11, 12, 31, 100_000) for task in Task]
    forwards = {pair: words(one.sample(*pair)) for pair in wanted}
    assert {pair: words(other.sample(*pair)) for pair in reversed(wanted)} == forwards


def test_different_seeds_give_different_orders(folder):
    path = many(folder)
    for task in Task:
        assert len({tuple(epochs(load(path, seed=seed), task, 1)[0]) for seed in range(5)}) == 5


def test_the_order_is_pinned_so_that_a_run_resumes_in_a_later_version(folder):
    order = [int(text.split()[1]) for text in epochs(load(many(folder), seed=1), GENERATION, 1)[0]]
    assert order == [6, 5, 0, 4, 3, 2, 1]


def test_a_task_without_rows_says_so(folder):
    stream = load(write(folder, row()))
    assert stream.count(GENERATION) == 0
    assert message(stream.sample, GENERATION, 0) == (
        "expected rows of generation, got none in this data; set the ratio of generation to 0"
    )


def test_a_picture_gone_since_the_check_is_named_with_its_line(folder):
    stream = load(write(folder, "", row()))
    (folder / "a.png").unlink()
    text = message(stream.sample, UNDERSTANDING, 0)
    assert "line 2" in text and "a.png (Expected a picture: choose another.)" in text


# --- the digest -----------------------------------------------------------------------------


def test_a_digest_follows_words_pictures_and_seed_but_not_the_place(folder, tmp_path):
    first = load(many(folder)).digest()
    assert re.fullmatch("[0-9a-f]{12}", first) and load(many(folder)).digest() == first
    folder = folder.rename(tmp_path / "moved")
    assert load(folder / "train.jsonl").digest() == first
    assert load(folder / "train.jsonl", seed=1).digest() != first
    changed = (folder / "train.jsonl").read_text().replace("answer 3", "answer three")
    assert load(write(folder, changed, name="changed.jsonl")).digest() != first
    save_picture(folder / "a.png", shade=1)
    assert load(folder / "train.jsonl").digest() != first


# --- bad rows -------------------------------------------------------------------------------

LONG = "x" * 5000
BAD = {
    "a number": (7, "the row is not an object"),
    "a list": ([], "the row is not an object"),
    "null": ("null", "the row is not an object"),
    "cut short": ('{"image": "a.png"', "not JSON (expecting ',' delimiter, column 18)"),
    "two rows on a line": ("{} {}", "not JSON (extra data, column 4)"),
    "not UTF-8": (b'{"image": "\xff"}', "not UTF-8 text"),
    "nested": ("[" * 200_000, "nested too deeply"),
    "a key twice": ('{"image": "a.png", "image": "b.png"}', 'the row holds the key "image" twice'),
    "a turn's key twice": (
        '{"image": "a.png", "conversations": [{"from": "human", "value": "a", "value": "b"}]}',
        'turn 1 holds the key "value" twice',
    ),
    "no image": ({"conversations": talk("a", "b")}, "no image"),
    "an image of no name": (row(image=""), "no image"),
    "several images": (row(image=["a.png", "a.png"]), "the image is not a path as text"),
    "NaN as image": (row(image=float("nan")), "the image is not a path as text"),
    "a missing image": (row(image="b.png"), 'image not found at "b.png"'),
    "a folder as image": (row(image="."), 'image not found at "."'),
    "a zero character": (row(image="a\0.png"), 'image not found at "a\\x00.png"'),
    "half a character": (row(image="\ud83d.png"), 'image not found at "\\ud83d.png"'),
    "a long name": (row(image=LONG), f'image not found at "{"x" * 79}…"'),
    "an absolute path": (row(image="/etc/passwd"), 'the image\'s path leaves the folder: "/etc/passwd"'),
    "a path upwards": (row(image="../outside.png"), 'the image\'s path leaves the folder: "../outside.png"'),
    "a path up and back": (row(image="../set/a.png"), 'the image\'s path leaves the folder: "../set/a.png"'),
    "a link outwards": (row(image="out.png"), 'the image\'s path leaves the folder by a link: "out.png"'),
    "a linked folder": (row(image="up/outside.png"), 'the image\'s path leaves the folder by a link: "up/outside.png"'),
    "links in a circle": (row(image="circle.png"), 'image not found at "circle.png"'),
    "no picture": (row(image="text.png"), "image unreadable: Expected a picture: choose another."),
    "no conversations": ({"image": "a.png"}, "no conversations"),
    "an empty conversation": ({"image": "a.png", "conversations": []}, "no conversations"),
    "conversations as text": ({"image": "a.png", "conversations": "hello"}, "no conversations"),
    "a turn as text": ({"image": "a.png", "conversations": ["hello"]}, "turn 1 is not an object"),
    "a third speaker": (
        {"image": "a.png", "conversations": [*talk("a"), {"from": "system", "value": "b"}]},
        'turn 2 is from "system" where "gpt" is expected',
    ),
    "gpt first": (
        {"image": "a.png", "conversations": talk("a", "b")[::-1]},
        'turn 1 is from "gpt" where "human" is expected',
    ),
    "nobody": (
        {"image": "a.png", "conversations": [{"value": "a"}]},
        'turn 1 is from nobody where "human" is expected',
    ),
    "a number as value": (row("a", 3), "turn 2 has no text as its value"),
    "half a character as value": (row("a", "\ud83d"), "turn 2 holds half a character (a lone surrogate)"),
    "no answer": (row("a", "b", "c"), "turn 3 has no answer"),
    "an empty question": (row(" \n", "b"), "empty question in turn 1"),
    "nothing but the placeholder": (row("<image>\n", "b"), "empty question in turn 1"),
    "an empty answer": (row("a", "b", "c", " "), "empty answer in turn 4"),
    "an empty prompt": (row("", "<image>"), "empty question in turn 1"),
    "a placeholder in a prompt": (row("<image> a cat", "<image>"), "<image> in the prompt of a generation row"),
    "two drawings": (row("a", "<image>", "b", "<image>"), "a generation row with more than one turn"),
    "a question, then a drawing": (row("a", "b", "c", "<image>"), "a generation row with more than one turn"),
    "two placeholders": (row("<image><image>a", "b"), "<image> in turn 1; it may stand once, in the first question"),
    "a late placeholder": (
        row("a", "b", "<image>", "d"),
        "<image> in turn 3; it may stand once, in the first question",
    ),
    "a placeholder amid an answer": (
        row("a", "here: <image>"),
        "<image> in turn 2; it may stand once, in the first question",
    ),
}
NOT_AS_LIST = {"cut short", "two rows on a line", "not UTF-8", "nested"}  # a broken list is broken as a whole


@pytest.fixture
def traps(folder, tmp_path):
    """The folder with links that lead out of it or nowhere, and a text that calls itself a picture."""
    (folder / "out.png").symlink_to(tmp_path / "outside.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named_and_hides_no_other(traps, name):
    content, problem = BAD[name]
    good, bad = check_conversations(write(traps, row(), content, row()), None, read_picture)
    assert bad == [BadRow(2, problem)]
    assert [r.line for r in good] == [1, 3]


@pytest.mark.parametrize("name", sorted(set(BAD) - NOT_AS_LIST))
def test_a_bad_row_of_a_list_is_named_by_the_line_on_which_it_begins(traps, name):
    content, problem = BAD[name]
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    path = traps / "train.json"
    path.write_text(f"[{json.dumps(row(), indent=1)},\n\n{text},\n{json.dumps(row())}]")
    first = json.dumps(row(), indent=1).count("\n") + 3
    good, bad = check_conversations(path, None, read_picture)
    assert bad == [BadRow(first, problem)]
    assert [r.line for r in good] == [1, first + text.count("\n") + 1]


def test_lines_by_name_are_lines_even_where_the_first_begins_like_a_list(folder):
    good, bad = check_conversations(write(folder, [row()], row(), name="train.JSONL"), None, read_picture)
    assert bad == [BadRow(1, "the row is not an object")] and [r.line for r in good] == [2]


def test_problems_hold_no_character_that_cannot_be_printed(traps):
    for _, problem in problems(write(traps, *(content for content, _ in BAD.values()))):
        assert problem.isprintable() and problem.encode() and len(problem) < 200


def test_a_very_long_number_in_an_ignored_key_is_ignored(folder):
    line = json.dumps(row())[:-1] + ', "id": ' + "9" * 10_000 + "}"
    assert not problems(write(folder, line)) and not problems(write(folder, f"[{line}]", name="train.json"))


# --- bad files ------------------------------------------------------------------------------


def test_bad_rows_stop_the_load_and_the_first_three_are_named(folder):
    path = write(folder, row(), "{}", row(), "[]", "{", "{}", row())
    with pytest.raises(DataError) as error:
        load(path)
    assert str(error.value) == (
        f"expected only good rows in {path}, got 4 bad of 7 (line 2: no image; line 4: the row is not an object; "
        "line 5: not JSON (expecting property name enclosed in double quotes, column 2); …); "
        "correct them, or say that the good rows are enough"
    )
    assert [bad.line for bad in error.value.bad_rows] == [2, 4, 5, 6]


def test_good_rows_are_enough_when_one_says_so(folder):
    stream = load(write(folder, row(), "{}", row("a cat", "<image>")), skip_bad=True)
    assert (stream.count(UNDERSTANDING), stream.count(GENERATION)) == (1, 1)
    assert stream.bad_rows == (BadRow(2, "no image"),)
    assert stream.digest() == load(write(folder, row(), row("a cat", "<image>"))).digest()


def test_a_file_without_a_good_row_is_refused_even_so(folder):
    with pytest.raises(
        DataError, match=r"got 2 rows, all bad \(line 1: no image; line 2: no image\); correct"
    ) as error:
        load(write(folder, "{}", "{}"), skip_bad=True)
    assert len(error.value.bad_rows) == 2


@pytest.mark.parametrize("text", ["", "\n \n", "[]", " [ ] ", "\ufeff"])
def test_a_file_without_rows_is_refused(folder, text):
    assert "got no rows" in message(load, write(folder, text, name="train.json"), skip_bad=True)


@pytest.mark.parametrize(
    "text, line, reason",
    [
        ('[\n {"image" "a.png"}\n]', 2, "expecting ':' delimiter, column 11"),
        ("[\n {}\n {}]", 3, "neither a comma nor the list's end after a row, column 2"),
        ("[\n {},\n]", 3, "expecting value, column 1"),
        ("[\n {}", 3, "neither a comma nor the list's end after a row, column 1"),
        ("[", 2, "expecting value, column 1"),
        ("[{}]\n[{}]", 2, "more text after the list's end, column 1"),
        ("[\n" + "[" * 200_000, 2, "nested too deeply, column 1"),
        ('["a\nb"]', 1, "column"),
    ],
)
def test_a_list_broken_as_text_is_named_with_line_and_column(folder, text, line, reason):
    with pytest.raises(DataError) as error:
        load(write(folder, text, name="train.json"), skip_bad=True)
    assert f"but line {line} is not JSON (" in str(error.value) and reason in str(error.value)
    assert [bad.line for bad in error.value.bad_rows] == [line]


def test_a_list_in_other_bytes_is_named_with_its_line(folder):
    path = write(folder, b'[\n{"image": "\xe9.png"}]', name="train.json")
    assert message(load, path) == f"expected a JSON list in {path}, but line 2 is not UTF-8 text; correct it"


def test_no_picture_is_decoded_for_a_list_broken_at_its_end(folder):
    path = write(folder, f"[{json.dumps(row())},", name="train.json")
    seen = []
    message(check_conversations, path, None, seen.append)
    assert seen == []


def test_files_and_folders_that_are_not_there_are_named(folder, tmp_path):
    assert f"got {folder / 'x.jsonl'} (no such file)" in message(load, folder / "x.jsonl")
    assert f"got {folder} (no such file)" in message(load, folder)
    assert "(file name too long)" in message(load, folder / LONG)
    missing = tmp_path / "nowhere"
    assert f"got {missing} (no such folder)" in message(check_conversations, many(folder), missing, read_picture)


def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "train.jsonl")
    os.mkfifo(folder / "pipe.png")
    assert "(no such file)" in message(load, folder / "train.jsonl")
    assert problems(write(folder, row(image="pipe.png"), name="b.jsonl")) == [
        BadRow(1, 'image not found at "pipe.png"')
    ]


def test_a_file_over_the_limit_is_refused(folder, monkeypatch):
    path = many(folder)
    monkeypatch.setattr(conversations, "MAX_FILE_BYTES", path.stat().st_size)
    assert load(path).count(GENERATION) == 7
    monkeypatch.setattr(conversations, "MAX_FILE_BYTES", path.stat().st_size - 1)
    assert "got more in" in message(load, path)


def test_every_error_of_a_file_is_a_value_error_with_its_bad_rows():
    assert issubclass(DataError, ValueError) and DataError("expected").bad_rows == ()
