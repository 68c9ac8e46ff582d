"""Train `tiny-emu3` from nothing: code book, VQ tokenizer, language model, export; or score what there is.

    python -m assets.recipes.tiny_emu3 all --work DIR --out assets/tiny-emu3

Each stage reads what the one before it wrote to the work folder, and the long one resumes from its
last checkpoint. The language model needs the code book only, so it can be trained before the VQ
tokenizer. Knows the order of the stages; they know the rest.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import torch

from assets.recipes.ahead import Ahead
from assets.recipes.code_features import load_features
from assets.recipes.codes import load_code_book, nearest_codes
from assets.recipes.emu3 import fold_tables, make_model, set_generation, start_tables
from assets.recipes.emu3_codec import load_codec, pixels_from, train_decoder
from assets.recipes.emu3_processor import make_processor
from assets.recipes.emu3_scores import model_decode, model_encode, score
from assets.recipes.emu3_tasks import (
    PIECES,
    Student,
    image_ids,
    make_drawing_batch,
    make_understanding_batch,
    pieces_of,
)
from assets.recipes.language import Course, Losses, Schedule, load_checkpoint, train_language
from assets.recipes.pictures import GRID


def make_course(work: Path, scenes: int = 8_000, device: str = "cpu", workers: int = 0) -> Course:
    """An untrained model whose code tokens start from what the codes show in so many scenes, and its two tasks.

    Its batches are made by so many worker processes, or, for 0, between the steps.
    """
    processor = make_processor()
    book, _ = load_code_book(work)
    student = Student(make_model(processor), processor)
    start_tables(student.model, load_features(work, book, scenes), student.first_code)
    student.to(device).train()
    asked = Ahead(partial(make_understanding_batch, processor, book), workers, device)
    drawn = Ahead(partial(make_drawing_batch, processor, book), workers, device)
    pieces = PIECES if device == "cpu" else 1  # what padding costs there is less than what another pass does

    def understanding(step: int, batch: int) -> Losses:
        parts = list(pieces_of(asked(step, batch), student.pad, pieces))
        for part in parts:
            loss, report = student.understanding_loss(part)
            yield loss / len(parts), report

    def drawing(step: int, batch: int) -> Losses:
        parts = list(pieces_of(drawn(step, batch), student.pad, pieces))
        for part in parts:
            loss, report = student.drawing_loss(part)
            yield loss / len(parts), report

    return Course(student, understanding, drawing, matrices="text_model.layers")


def load_trained(work: Path):
    """The model of the newest checkpoint with plain token tables, and the checkpoint's step."""
    student = make_course(work).module
    step, _ = load_checkpoint(work, student)
    fold_tables(student.model)
    return student.model.eval(), step


def export(work: Path, out: Path) -> None:
    """Write the trained model and its processor as a `from_pretrained` folder, no file over 9 MB."""
    model, step = load_trained(work)
    processor = make_processor()
    load_codec(work, model.model.vqmodel)
    set_generation(model, processor)
    model.save_pretrained(out, max_shard_size="9MB")
    processor.save_pretrained(out)
    print(f"wrote {out}, language model of step {step:,}")


def print_scores(work: Path, samples: int, by_book: bool) -> None:
    """Score the newest checkpoint; `by_book` takes pictures in and out by the code book alone."""
    model, step = load_trained(work)
    processor = make_processor()
    if by_book:
        book, _ = load_code_book(work)

        def encode(pixels: torch.Tensor) -> torch.Tensor:
            return image_ids(processor.tokenizer, nearest_codes(pixels, book))[:, : GRID * (GRID + 1)]

        def decode(codes: torch.Tensor) -> torch.Tensor:
            return pixels_from(book, codes)

    else:
        load_codec(work, model.model.vqmodel)
        encode, decode = model_encode(model), model_decode(model)
    print(json.dumps({"step": step} | score(model, processor, encode, decode, samples)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("codec", "language", "scores", "export", "all"))
    parser.add_argument("--work", type=Path, default=Path("work-in-progress/emu3"))
    parser.add_argument("--out", type=Path, default=Path("assets/tiny-emu3"))
    parser.add_argument("--codec-steps", type=int, default=900)
    parser.add_argument("--codec-rate", type=float, default=2e-3)
    parser.add_argument("--scenes", type=int, default=8_000, help="scenes that tell what a code looks and is like")
    parser.add_argument("--steps", type=int, default=3000, help="language model steps")
    parser.add_argument("--decay-steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=12, help="pictures with questions a step; twice as many drawings")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--samples", type=int, default=100, help="held-out scenes to score on")
    parser.add_argument("--by-book", action="store_true", help="score without the VQ tokenizer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches ahead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.stage in ("codec", "all"):
        train_decoder(options.work, options.codec_steps, 4, options.codec_rate, options.scenes, options.device)
    if options.stage in ("language", "all"):
        schedule = Schedule(options.steps, options.decay_steps, options.batch, options.rate, warm_up=100)
        course = make_course(options.work, options.scenes, options.device, options.workers)
        train_language(options.work, course, schedule)
    if options.stage == "scores":
        print_scores(options.work, options.samples, options.by_book)
    if options.stage in ("export", "all"):
        export(options.work, options.out)


if __name__ == "__main__":
    main()
