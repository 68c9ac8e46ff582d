"""Samples of a fine-tune: the same in every run, no trace on the weights, kept once per step."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from aia import world
from aia.config import make_config
from aia.data import Sample, Turn
from aia.intensity import Task
from backend.finetuning import samples as room
from backend.finetuning.finetune import RunFolder, finetune
from backend.finetuning.samples import KEPT_PX, MOST_MOMENTS, Sampler, is_due, row_items, world_items
from backend.interface import Cancelled, UserError

QUICK = {
    "steps": 3,
    "batch_size": 2,
    "probe_samples": 2,
    "score_samples": 0,
    "probe_every": 2,
    "checkpoint_every": 3,
    "learning_rate": 1e-3,
    "lora_dropout": 0.1,  # so that a random number drawn too many changes the weights
    "gradient_checkpointing": True,
    "sample_count": 1,
}


class FakeModel:
    """Draws its prompt's number of letters as a grey, answers with the question; notes what it was asked."""

    def __init__(self, side=64):
        self.side, self.calls = side, []

    def draw_batch(self, prompts, sampling):
        self.calls.append(("draw", tuple(prompts), sampling.seed))
        torch.rand(3)  # as sampling does
        return [Image.new("RGB", (self.side, self.side), (len(p) % 256,) * 3) for p in prompts]

    def answer_batch(self, images, prompts):
        self.calls.append(("answer", tuple(prompts)))
        return [f"{p} {image.size[0]}" for p, image in zip(prompts, images, strict=True)]


def weights_in(folder):
    (file,) = RunFolder(folder).adapter.glob("*.safetensors")
    return load_file(file)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def events_of(folder, kind):
    return [e for e in RunFolder(folder).read_events() if e["event"] == kind]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """The folder of a finished run with samples."""
    folder = tmp_path_factory.mktemp("runs") / "sampled"
    finetune(folder, make_config(**QUICK))
    return folder


# --- what is asked ----------------------------------------------------------------------------


def test_items_are_held_out_the_same_each_time_and_fewer_are_the_first_of_more():
    items = world_items(6)
    assert [i.text for i in world_items(6)] == [i.text for i in items]
    assert [i.text for i in world_items(2)] == [i.text for i in items[:2] + items[6:8]]
    assert [i.task for i in items] == [Task.GENERATION] * 6 + [Task.UNDERSTANDING] * 6
    assert world_items(0) == []
    for item in items[6:]:
        pictures = (world.draw_scene(s) for s in some_scenes(item.answer))
        assert not any(np.array_equal(item.picture, p) for p in pictures)


def some_scenes(seed):
    """Scenes of the training side."""
    rng = random.Random(seed)
    return [world.make_scene(rng) for _ in range(50)]


def test_a_picture_that_a_prompt_was_made_from_passes_its_own_check():
    for item in world_items(8)[:8]:
        assert world.check_drawing(item.drawing, item.picture)


def test_rows_of_a_file_are_its_first_with_the_first_turn_and_nothing_is_called_right():
    grey = np.zeros((9, 7, 3), np.uint8)
    turns = (Turn("what?", "a cup"), Turn("where?", "here"))
    rows = {
        Task.UNDERSTANDING: [Sample(Task.UNDERSTANDING, grey, turns)] * 3,
        Task.GENERATION: [Sample(Task.GENERATION, grey, prompt="a ball")],
    }
    items = row_items(rows, 2)
    assert [(i.task, i.text, i.answer) for i in items] == [
        (Task.GENERATION, "a ball", ""),
        (Task.UNDERSTANDING, "what?", "a cup"),
        (Task.UNDERSTANDING, "what?", "a cup"),
    ]
    assert row_items({}, 2) == []


def test_samples_are_due_first_and_last_and_at_no_more_than_so_many_measurements():
    config = make_config(steps=10, probe_every=4)
    assert [s for s in range(11) if is_due(s, config)] == [0, 4, 8, 10]
    many = make_config(steps=10_000, probe_every=1)
    due = [s for s in range(10_001) if is_due(s, many)]
    assert due[0] == 0 and due[-1] == 10_000 and len(due) == MOST_MOMENTS + 1


# --- one moment -------------------------------------------------------------------------------


def test_a_moment_is_one_batch_per_task_from_one_seed_and_is_told_in_the_order_asked(tmp_path):
    model, told = FakeModel(), []
    sampler = Sampler(model, world_items(2), tmp_path, False, told.append)
    sampler.take(0)
    sampler.take(5)
    assert [call[0] for call in model.calls] == ["draw", "answer"] * 2
    assert model.calls[:2] == model.calls[2:]
    assert [e["event"] for e in told] == ["asked", "sampled", "sampled"]
    asked, _, moment = told
    assert moment["step"] == 5
    for item, about in zip(moment["items"], asked["items"], strict=True):
        if about["task"] == Task.GENERATION:
            assert Image.open(tmp_path / item["file"]).getpixel((0, 0)) == (len(about["text"]),) * 3
        else:
            assert item["text"] == about["text"] + " 64"
        assert item["right"] is False
        assert Image.open(tmp_path / about["file"]).size == (64, 64)
    json.dumps(told)


def test_an_answer_is_right_whatever_its_case_and_a_drawing_as_the_reader_sees_it(tmp_path):
    items, told = world_items(1), []

    class Good(FakeModel):
        def draw_batch(self, prompts, sampling):
            return [Image.fromarray(items[0].picture).resize((192, 192), Image.Resampling.NEAREST)]

        def answer_batch(self, images, prompts):
            return [items[1].answer.upper() + "."]

    Sampler(Good(), items, tmp_path, True, told.append).take(0)
    assert [item["right"] for item in told[0]["items"]] == [True, True]


def test_a_step_taken_again_takes_the_place_of_the_first_and_large_pictures_are_bounded(tmp_path):
    items = world_items(1)
    Sampler(FakeModel(), items, tmp_path, True, lambda event: None).take(3)
    before = (tmp_path / "3" / "item-0.png").read_bytes()
    Sampler(FakeModel(side=1000), items, tmp_path, True, lambda event: None).take(3)
    (file,) = (tmp_path / "3").iterdir()
    assert file.read_bytes() != before
    assert Image.open(file).size == (KEPT_PX, KEPT_PX)
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_a_disk_that_is_full_is_one_sentence(tmp_path, monkeypatch):
    def full(picture):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room, "picture_to_png", full)
    with pytest.raises(UserError, match=r"samples could not be written \(No space left on device\); make room"):
        Sampler(FakeModel(), world_items(1), tmp_path, True, lambda event: None).take(0)


# --- in a run ---------------------------------------------------------------------------------


def test_a_run_keeps_samples_of_every_measured_step(sampled):
    assert [e["step"] for e in events_of(sampled, "sampled")] == [0, 2, 3]
    (asked,) = events_of(sampled, "asked")
    assert [item["task"] for item in asked["items"]] == ["generation", "understanding"]
    folder = RunFolder(sampled).samples
    assert sorted(path.name for path in folder.iterdir()) == ["0", "2", "3", "asked"]
    for moment in events_of(sampled, "sampled"):
        assert [set(item) for item in moment["items"]] == [{"file", "right"}, {"text", "right"}]
        assert all((folder / item["file"]).is_file() for item in moment["items"] if "file" in item)
    size = sum(file.stat().st_size for file in folder.rglob("*.png"))
    print(f"samples of 3 steps, one a task: {size:,} bytes")
    assert size < 50_000


def test_a_run_with_samples_ends_with_the_weights_and_events_of_one_without(sampled, tmp_path):
    finetune(tmp_path / "bare", make_config(**QUICK | {"sample_count": 0}))
    assert same(weights_in(sampled), weights_in(tmp_path / "bare"))
    for kind in ("step", "measured"):
        bare, mine = (
            [{k: v for k, v in e.items() if k not in ("time", "seconds")} for e in events_of(folder, kind)]
            for folder in (tmp_path / "bare", sampled)
        )
        assert mine == bare
    assert not events_of(tmp_path / "bare", "sampled") and not RunFolder(tmp_path / "bare").samples.exists()


def test_random_numbers_used_up_by_a_moment_do_not_change_the_weights(sampled, tmp_path, monkeypatch):
    """`draw_batch` puts the state of the CPU back itself, that of a GPU it does not: neither is relied upon."""
    monkeypatch.setattr(Sampler, "take", lambda self, step: torch.rand(7) + torch.manual_seed(5).initial_seed())
    finetune(tmp_path / "run", make_config(**QUICK))
    assert same(weights_in(tmp_path / "run"), weights_in(sampled))


def test_a_run_stopped_between_checkpoints_and_resumed_has_each_sample_once_and_the_same(sampled, tmp_path):
    """Killed after the samples of step 2, whose checkpoint is that of step 0: it takes them again."""
    folder = tmp_path / "run"

    def break_off(event):
        if event["event"] == "sampled" and event["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(folder, make_config(**QUICK), break_off)
    finetune(folder, None)
    assert [e["step"] for e in events_of(folder, "sampled")] == [0, 2, 0, 2, 3]
    assert len(events_of(folder, "asked")) == 1
    assert same(weights_in(folder), weights_in(sampled))
    pictures = [path.relative_to(folder) for path in RunFolder(folder).samples.rglob("*.png")]
    assert len(pictures) == 2 + 3
    for picture in pictures:
        assert (folder / picture).read_bytes() == (sampled / picture).read_bytes()


def test_a_control_is_asked_the_same_and_draws_the_same_before_training(sampled, tmp_path):
    stop = []
    with pytest.raises(Cancelled):
        finetune(tmp_path / "control", make_config(**QUICK | {"aia": False}), stop.append, lambda: True)
    mine, theirs = (events_of(folder, "sampled")[0]["items"] for folder in (sampled, tmp_path / "control"))
    assert mine == theirs
    assert events_of(sampled, "asked")[0]["items"] == events_of(tmp_path / "control", "asked")[0]["items"]
    pictures = [(RunFolder(f).samples / mine[0]["file"]).read_bytes() for f in (sampled, tmp_path / "control")]
    assert pictures[0] == pictures[1]


def test_own_data_are_sampled_by_their_first_rows(tmp_path):
    Image.new("RGB", (80, 60), "red").save(tmp_path / "red.png")
    question = [{"from": "human", "value": "<image>\nwhat color is it?"}, {"from": "gpt", "value": "red"}]
    prompt = [{"from": "human", "value": "a red circle"}, {"from": "gpt", "value": "<image>"}]
    rows = [{"image": "red.png", "conversations": c} for c in (question, prompt)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    config = make_config(**QUICK | {"data": str(tmp_path / "rows.json"), "steps": 1, "sample_count": 3})
    finetune(tmp_path / "run", config)
    (asked,) = events_of(tmp_path / "run", "asked")
    assert [(i["task"], i["text"], i["answer"]) for i in asked["items"]] == [
        ("generation", "a red circle", ""),
        ("understanding", "what color is it?", "red"),
    ]
    moments = events_of(tmp_path / "run", "sampled")
    assert [m["step"] for m in moments] == [0, 1]
    assert [item["right"] for m in moments for item in m["items"]] == [None] * 4
