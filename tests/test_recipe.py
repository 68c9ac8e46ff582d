"""The recipe of the embedded model: every stage runs from nothing, the long one resumes, the result loads."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aia import world
from assets.recipes.codec import nearest_codes
from assets.recipes.janus import BARE, patches_of, pixels_of, scenes_for
from assets.recipes.optimizers import Muon, orthogonalise
from assets.recipes.processor import make_processor
from assets.recipes.tasks import find_first_patches, make_drawing_batch, make_understanding_batch

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["--codec-steps", "1", "--vision-steps", "2", "--batch", "2", "--decay-steps", "1"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    run(work, "all", "--steps", "2", "--out", str(work / "first"))
    return work


def run(work, *arguments):
    command = [sys.executable, "-m", "assets.recipes.tiny_janus", *arguments, "--work", str(work), *SHORT]
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
