"""The recipes of the embedded models: every stage runs from nothing, the long one resumes, the result loads."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, Emu3ForConditionalGeneration, JanusForConditionalGeneration

from aia import world
from assets.recipes import emu3_processor, emu3_tasks
from assets.recipes.ahead import Ahead
from assets.recipes.code_features import BuiltOn, owner_labels
from assets.recipes.codes import BARE, load_code_book, nearest_codes
from assets.recipes.emu3_codec import make_codec, naming_score, pixels_from
from assets.recipes.emu3_scores import draw_codes
from assets.recipes.janus_tasks import make_drawing_batch, make_understanding_batch
from assets.recipes.optimizers import Muon, orthogonalise
from assets.recipes.pictures import patches_of, pixels_of, scenes_for
from assets.recipes.processor import make_processor
from assets.recipes.tasks import Asked, answer_loss, begin_loss, find_first_patches, pack_questions

ROOT = Path(__file__).resolve().parent.parent
SHORT = {
    "tiny_janus": ["--codec-steps", "1", "--vision-steps", "2", "--batch", "2", "--decay-steps", "1"],
    "tiny_emu3": ["--codec-steps", "1", "--scenes", "50", "--batch", "2", "--decay-steps", "1"],
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    run(work, "all", "--steps", "2", "--out", str(work / "first"))
    return work


@pytest.fixture(scope="module")
def emu3_work(work, tmp_path_factory):
    """The stages of tiny-emu3 on tiny-janus' code book, which takes longest to make."""
    folder = tmp_path_factory.mktemp("emu3")
    shutil.copy(work / "codes.safetensors", folder)
    run(folder, "all", "--steps", "2", "--out", str(folder / "first"), recipe="tiny_emu3")
    return folder


def run(work, *arguments, recipe="tiny_janus"):
    command = [sys.executable, "-m", f"assets.recipes.{recipe}", *arguments, "--work", str(work), *SHORT[recipe]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_stage_runs_and_the_long_one_goes_on_where_it_stopped(work):
    assert (work / "first" / "config.json").exists()
    assert "step 4" in run(work, "language", "--steps", "4") + run(work, "export", "--out", str(work / "second"))
    before, after = (load_file(work / f"language-{step:06d}.safetensors") for step in (2, 4))
    changed = [name for name in before if name.startswith("model.") and not torch.equal(before[name], after[name])]
    assert any("language_model" in name for name in changed)
    assert not any("vision_model" in name or "vqmodel" in name for name in before)  # frozen, so not kept


def test_a_finished_model_is_trained_further(work, tmp_path):
    shutil.copy(work / "codes.safetensors", tmp_path)
    trained, out = ("--trained", str(work / "first"), "--first-step", "2"), tmp_path / "further"
    run(tmp_path, "language", *trained, "--steps", "4")
    assert "step 4" in run(tmp_path, "export", *trained, "--out", str(out))
    before, after = (JanusForConditionalGeneration.from_pretrained(folder) for folder in (work / "first", out))
    now = dict(after.named_parameters())
    same = {name for name, value in before.named_parameters() if torch.equal(value, now[name])}
    assert {name for name in same if "language_model.layers" in name} == set()
    assert {name for name in now if "vision_model" in name or "vqmodel" in name} <= same


def test_emu3_goes_on_where_it_stopped_and_loads_as_a_real_emu3(emu3_work):
    out = emu3_work / "second"
    run(emu3_work, "language", "--steps", "4", recipe="tiny_emu3")
    assert "step 4" in run(emu3_work, "export", "--out", str(out), recipe="tiny_emu3")
    model, processor = Emu3ForConditionalGeneration.from_pretrained(out).eval(), AutoProcessor.from_pretrained(out)
    kept = load_file(emu3_work / "language-000004.safetensors")
    table = "model.model.model.text_model.embed_tokens.parametrizations.weight"
    built = kept[f"{table}.original"] - model.get_input_embeddings().weight  # folded: no longer built on features
    first = processor.tokenizer.convert_tokens_to_ids(emu3_processor.visual_token(0))
    assert not built[:first].any() and built[first:].abs().mean() > 0.01
    codes = draw_codes(model, processor, ["a red circle", "two stars"], 1.0, 2.0, torch.Generator().manual_seed(0))
    assert codes.shape == (2, 64) and codes.max() < 2048
    assert all(path.stat().st_size < 10e6 for path in out.iterdir())


def test_emu3_s_encoder_names_the_codes(emu3_work):
    book, _ = load_code_book(emu3_work)
    every, foreground = naming_score(make_codec(book, scenes=500), book, scenes_for("naming", 0, 60)[0])
    assert every > 0.99 and foreground > 0.97


def test_emu3_sees_what_its_processor_makes(emu3_work):
    """The batches of the recipe are, token by token, what the processor and the model make of the same."""
    processor, (book, _) = emu3_processor.make_processor(), load_code_book(emu3_work)
    batch = emu3_tasks.make_understanding_batch(processor, book, step=0, batch=2)
    scenes, rng = scenes_for("understanding", 0, 2)
    question = next(iter(world.make_questions(scenes[0], rng).values()))
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}
    text = processor.apply_chat_template([message], add_generation_prompt=True)
    picture = Image.fromarray(world.draw_scene(scenes[0]))
    inputs = processor(images=[picture], text=[text], return_tensors="pt")
    ids = inputs.input_ids[0]
    codes = nearest_codes(inputs.pixel_values, book)
    ids[ids == processor.image_token_id] = emu3_tasks.image_ids(processor.tokenizer, codes)[0, :-2]
    assert batch["ids"][0, : len(ids)].tolist() == ids.tolist()
    for prompt in ("a red circle", ""):
        inputs = processor(text=[prompt], return_for_image_generation=True, image_area=64 * 64)
        ours = processor.tokenizer(emu3_tasks.drawing_text(prompt), add_special_tokens=False)
        assert inputs.input_ids[0] == ours.input_ids and inputs["image_sizes"] == [[8, 8]]


def test_pieces_of_an_emu3_batch_are_the_batch(emu3_work):
    processor, (book, _) = emu3_processor.make_processor(), load_code_book(emu3_work)
    batch = emu3_tasks.make_drawing_batch(processor, book, step=0, batch=9)
    pieces = list(emu3_tasks.pieces_of(batch, processor.tokenizer.pad_token_id))
    assert len(pieces) == 3 and pieces[0]["ids"].shape[1] < pieces[-1]["ids"].shape[1] == batch["ids"].shape[1]
    rows = [row[row != processor.tokenizer.pad_token_id].tolist() for piece in pieces for row in piece["ids"]]
    assert sorted(rows) == sorted(row[row != processor.tokenizer.pad_token_id].tolist() for row in batch["ids"])
    for piece in pieces:
        first = piece["ids"].gather(1, piece["starts"][:, None] + emu3_tasks.CODE_SPOTS)
        assert (first - first.min() == piece["codes"]).all()


def test_a_table_built_on_features_helps_codes_that_were_not_seen():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    table = torch.nn.Embedding(5, 4)
    torch.nn.utils.parametrize.register_parametrization(table, "weight", BuiltOn(features, 1, 4, scale=1.0))
    before = table.weight.detach().clone()
    table(torch.tensor([1])).sum().backward()
    with torch.no_grad():
        for parameter in table.parameters():
            parameter -= 0.1 * parameter.grad
    change = table.weight.detach() - before
    assert change[2].abs().sum() > 0 and not change[[0, 3, 4]].any()


def test_owners_of_patches_stand_where_the_labels_say():
    scene = world.Scene((world.Thing("red", "circle", "large", 32, 12),))
    labels = owner_labels([scene])[0].view(8, 8, 5)
    row, column = 1, 3  # its patch centre is at (28, 12): half a patch left of the thing's centre
    assert labels[row, column].tolist() == [0, 0, list(world.SIZES_PX).index("large"), 1 + 4, 0 + 4]
    assert (labels[5:] == -100).all()


def test_an_answer_counts_only_if_every_token_is_right():
    batch = pack_questions([1, 2], [[Asked("count", [3], [4, 5]), Asked("colour", [3], [6, 7])]], pad=0)
    hidden = torch.nn.functional.one_hot(batch["ids"].roll(-1, 1), 8).float() * 9  # says each next token
    loss, right = answer_loss(hidden, torch.nn.Identity(), batch)
    assert right == {"count": 1.0, "colour": 1.0} and loss < 0.01
    hidden[0, 6] = 0  # before the last token of the second answer
    loss, right = answer_loss(hidden, torch.nn.Identity(), batch)
    assert right == {"count": 1.0, "colour": 0.0} and loss > 0.1


def test_code_book_pictures_are_nearly_the_pictures(emu3_work):
    book, _ = load_code_book(emu3_work)
    pixels = pixels_of(scenes_for("naming", 0, 20)[0])
    assert (pixels_from(book, nearest_codes(pixels, book)) - pixels).abs().mean() < 0.01


def test_training_scenes_are_never_held_out():
    for stage in ("codec", "vision", "understanding", "drawing"):
        assert not any(scene.held_out for scene in scenes_for(stage, 3, 50)[0])


def test_questions_of_one_picture_do_not_see_each_other():
    batch = make_understanding_batch(make_processor(), step=0, batch=3)
    ids, mask, positions = batch["ids"][0], batch["mask"][0, 0], batch["positions"][0]
    prefix = int((ids == make_processor().tokenizer.eoi_token_id).nonzero()) + 1
    starts = (positions == prefix).nonzero().flatten().tolist()  # positions start again at every question
    assert len(starts) >= 4
    for start in starts[1:]:
        assert mask[start, :prefix].all() and not mask[start, prefix:start].any() and mask[start, start]
    assert not mask.triu(1).any()


def test_labels_are_the_answers_and_nothing_else():
    processor = make_processor()
    batch = make_understanding_batch(processor, step=0, batch=2)
    told = processor.tokenizer.decode(batch["ids"][0][batch["weights"][0] > 0])
    scene = scenes_for("understanding", 0, 2)[0][0]
    assert world.describe(scene) in told.replace("<｜end▁of▁sentence｜>", " | ")


def test_drawing_batches_hold_the_codes_of_their_pictures():
    scenes, _ = scenes_for("x", 0, 40)
    book = torch.unique(patches_of(pixels_of(scenes)).flatten(0, 1), dim=0)
    codes = nearest_codes(pixels_of(scenes), book)
    torch.testing.assert_close(book[codes], patches_of(pixels_of(scenes)))
    batch = make_drawing_batch(make_processor(), book, step=0, batch=30, focus=True)
    blank = batch["ids"][:, 1] == make_processor().tokenizer.pad_token_id
    assert 0 < blank.sum() < 15  # about one prompt in ten


def test_first_patches_are_those_that_only_the_prompt_can_tell():
    codes = torch.full((1, 8, 8), BARE)
    codes[0, 2:4, 3:5] = 7
    codes[0, 6, 0] = 9
    assert find_first_patches(codes.flatten(1)).view(8, 8).nonzero().tolist() == [[2, 3], [6, 0]]


def test_odds_of_beginnings_are_learnt_at_every_place_where_a_thing_may_begin():
    codes = torch.full((1, 8, 8), BARE)
    codes[0, 2:4, 3:5] = 1
    logits = torch.zeros(1, 64, 3, requires_grad=True)  # one in three is background
    loss = begin_loss(logits, codes.flatten(1))
    open_bare = 64 - 4 - 7  # all but the thing, two patches right of it, one left of and four below it
    assert loss.item() == pytest.approx(open_bare * math.log(3) + math.log(1.5), rel=1e-4)
    loss.backward()
    moved = logits.grad[0].abs().sum(-1).view(8, 8) > 0
    assert moved[2, 3] and not moved[2, 4] and not moved[3, 3:5].any() and not moved[4, 2:6].any() and moved[4, 6]


def test_muon_takes_orthogonal_steps_like_torch_s_own():
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(48, 16))
    theirs = torch.nn.Parameter(ours.detach().clone())
    optimizers = [
        Muon([ours], 1e-2, weight_decay=0.05),
        torch.optim.Muon([theirs], lr=1e-2, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(3):
        ours.grad = torch.randn(48, 16)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # theirs works in bfloat16
    singular = torch.linalg.svdvals(orthogonalise(torch.randn(2, 48, 16)))
    assert singular.min() > 0.6 and singular.max() < 1.3


def test_the_recipe_draws_fresh_scenes_at_every_step():
    first, second = (scenes_for("drawing", step, 20)[0] for step in (1, 2))
    assert not {s.key for s in first} & {s.key for s in second}
    assert scenes_for("drawing", 1, 20)[0] == first


def test_batches_made_ahead_are_those_of_their_steps():
    def make(step, size):
        return {"ids": torch.full((size,), step), "name": f"{step}"}

    ahead, at_once = Ahead(make, workers=2), Ahead(make)
    for step in (3, 4, 5):
        made, wanted = ahead(step, 2), at_once(step, 2)
        assert made["name"] == wanted["name"] == str(step) and torch.equal(made["ids"], wanted["ids"])
