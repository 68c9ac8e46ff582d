"""Train `tiny-janus` from nothing: code book and VQ tokenizer, vision encoder, language model, export.

    python -m assets.recipes.tiny_janus all --work DIR --out assets/tiny-janus

Each stage reads what the one before it wrote to the work folder, and the long one resumes from its
last checkpoint. Knows the order of the stages; they know the rest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import JanusForConditionalGeneration

from assets.recipes.codec import train_codec
from assets.recipes.codes import load_code_book
from assets.recipes.janus import make_model
from assets.recipes.janus_tasks import drawing_loss, make_drawing_batch, make_understanding_batch, understanding_loss
from assets.recipes.language import Course, Losses, Schedule, load_checkpoint, train_language
from assets.recipes.processor import make_processor
from assets.recipes.vision import train_vision


def make_course(work: Path, focus_from: int = 0, start: Path | None = None) -> Course:
    """A model with the code vectors and the vision encoder of the first two stages, or that of `start`; its two tasks.

    From step `focus_from` on drawings are chosen as `choose_drawings` says.
    """
    processor = make_processor()
    book, embedding = load_code_book(work)
    if start:
        model = JanusForConditionalGeneration.from_pretrained(start)
    else:
        model = make_model(processor)
        model.model.vision_model.load_state_dict(load_file(work / "vision.safetensors"))
        model.model.generation_embeddings.weight.data.copy_(embedding * 4)
    model.model.vqmodel.requires_grad_(False)
    model.model.vision_model.requires_grad_(False)
    model.train()

    def understanding(step: int, batch: int) -> Losses:
        yield understanding_loss(model, make_understanding_batch(processor, step, batch))

    def drawing(step: int, batch: int) -> Losses:
        loss = drawing_loss(model, make_drawing_batch(processor, book, step, batch, focus=step >= focus_from))
        yield loss, {"drawing": loss.item()}

    return Course(model, understanding, drawing, matrices="language_model.layers")


def export(work: Path, out: Path, start: Path | None = None) -> None:
    """Write the trained model and its processor as a `from_pretrained` folder, no file over 9 MB."""
    model, processor = make_course(work, start=start).module, make_processor()
    if not start:
        codec = load_file(work / "codec.safetensors")
        model.model.vqmodel.load_state_dict({k.removeprefix("vq."): v for k, v in codec.items() if k.startswith("vq.")})
    step, _ = load_checkpoint(work, model)
    generation = model.generation_config
    generation.generation_kwargs = {
        "boi_token_id": processor.tokenizer.convert_tokens_to_ids(processor.tokenizer.boi_token)
    }
    generation.guidance_scale = 1.5
    generation.bos_token_id = processor.tokenizer.bos_token_id
    generation.eos_token_id = processor.tokenizer.eos_token_id
    generation.pad_token_id = processor.tokenizer.pad_token_id
    model.eval().save_pretrained(out, max_shard_size="9MB")
    processor.save_pretrained(out)
    print(f"wrote {out}, language model of step {step:,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("codec", "vision", "language", "export", "all"))
    parser.add_argument("--work", type=Path, default=Path("work-in-progress"))
    parser.add_argument("--out", type=Path, default=Path("assets/tiny-janus"))
    parser.add_argument("--codec-steps", type=int, default=2000)
    parser.add_argument("--vision-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=2200, help="language model steps")
    parser.add_argument("--decay-steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=24, help="pictures with questions a step; twice as many drawings")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--muon-from", type=int, default=0, help="step from which Muon trains the matrices")
    parser.add_argument("--focus-from", type=int, default=0, help="step from which drawing looks at small scenes more")
    parser.add_argument("--trained", type=Path, help="a folder that export wrote: train its language model further")
    parser.add_argument(
        "--first-step", type=int, default=0, help="with --trained: the step to begin with, for its scenes"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.stage in ("codec", "all"):
        train_codec(options.work, options.codec_steps, 8)
    if options.stage in ("vision", "all"):
        train_vision(options.work, options.vision_steps, 48)
    if options.stage in ("language", "all"):
        schedule = Schedule(
            options.steps,
            options.decay_steps,
            options.batch,
            options.rate,
            first=options.first_step,
            muon_from=options.muon_from,
        )
        train_language(options.work, make_course(options.work, options.focus_from, options.trained), schedule)
    if options.stage in ("export", "all"):
        export(options.work, options.out, options.trained)


if __name__ == "__main__":
    main()
