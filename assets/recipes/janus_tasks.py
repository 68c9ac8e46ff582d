"""The two tasks as Janus reads them: batches in its turn format, and its losses.

Knows no optimizer and no file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from assets.recipes.codes import nearest_codes
from assets.recipes.janus import WIDTH
from assets.recipes.pictures import GRID, pixels_of, scenes_for
from assets.recipes.tasks import (
    Asked,
    answer_loss,
    ask_again,
    begin_loss,
    choose_drawings,
    find_first_patches,
    first_patch_loss,
    pack_questions,
)


def make_understanding_batch(processor, step: int, batch: int) -> dict:
    """Pictures, each with the questions of `ask_again`, packed by `pack_questions`, and their `pixels`."""
    tokenizer = processor.tokenizer
    scenes, rng = scenes_for("understanding", step, batch)
    pictures = []
    for scene in scenes:
        pictures.append(
            [
                Asked(
                    question.kind,
                    question_ids(tokenizer, question.text),
                    [*tokenizer(question.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id],
                )
                for question in ask_again(scene, rng)
            ]
        )
    packed = pack_questions(understanding_prefix(tokenizer), pictures, tokenizer.pad_token_id)
    return packed | {"pixels": pixels_of(scenes)}


def understanding_prefix(tokenizer) -> list[int]:
    text = tokenizer.user_token + ": " + tokenizer.boi_token + tokenizer.image_token * GRID * GRID + tokenizer.eoi_token
    return tokenizer(text).input_ids


def question_ids(tokenizer, text: str) -> list[int]:
    return tokenizer(f"{text}\n\n{tokenizer.assistant_token}:", add_special_tokens=False).input_ids


def understanding_loss(model, batch: dict) -> tuple[torch.Tensor, dict[str, float]]:
    with torch.no_grad():
        features = model.model.vision_model(batch["pixels"]).last_hidden_state
    features = model.model.aligner(features)
    embeds = model.get_input_embeddings()(batch["ids"])
    is_image = batch["ids"] == model.config.image_token_id
    embeds = embeds.masked_scatter(is_image[..., None], features)
    hidden = model.model.language_model(
        inputs_embeds=embeds, attention_mask=batch["mask"], position_ids=batch["positions"], use_cache=False
    ).last_hidden_state
    return answer_loss(hidden, model.lm_head, batch)


def make_drawing_batch(processor, book: torch.Tensor, step: int, batch: int, focus: bool) -> dict:
    """Prompts (some blanked for guidance) and the codes of their pictures, as `choose_drawings` says."""
    tokenizer = processor.tokenizer
    scenes, prompts = choose_drawings(step, batch, focus)
    rows = []
    for prompt, blank in prompts:
        ids = drawing_ids(tokenizer, prompt)
        rows.append([ids[0], *[tokenizer.pad_token_id] * (len(ids) - 2), ids[-1]] if blank else ids)
    length = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
    codes = nearest_codes(pixels_of(scenes), book)
    return {
        "codes": codes,
        "first": find_first_patches(codes) if focus else torch.zeros(codes.shape, dtype=torch.bool),
        "ids": ids,
        "lengths": torch.tensor([len(row) for row in rows]),
    }


def drawing_ids(tokenizer, prompt: str) -> list[int]:
    return tokenizer(f"{tokenizer.user_token}: {prompt}\n\n{tokenizer.assistant_token}:{tokenizer.boi_token}").input_ids


def drawing_loss(model, batch: dict) -> torch.Tensor:
    """Cross-entropy of the 64 codes; the picture follows its prompt at once, padding stands at the end.

    With focus, a quarter as much again of `first_patch_loss` and of `begin_loss`.
    """
    codes, lengths = batch["codes"], batch["lengths"]
    size, total = len(codes), batch["ids"].shape[1] + GRID * GRID - 1
    text = model.get_input_embeddings()(batch["ids"])
    embeds = torch.cat([text, text.new_zeros(size, total - text.shape[1], WIDTH)], 1)
    spots = lengths[:, None] + torch.arange(GRID * GRID - 1)  # positions of the fed-back codes
    fed = model.prepare_embeddings_for_image_generation(codes[:, :-1])
    embeds = embeds.scatter(1, spots[..., None].expand_as(fed), fed)
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    rows = lengths[:, None] - 1 + torch.arange(GRID * GRID)  # from begin-of-image to the last code but one
    hidden = hidden.gather(1, rows[..., None].expand(-1, -1, WIDTH))
    logits = model.model.generation_head(hidden)
    loss = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
    if not batch["first"].any():
        return loss
    return loss + 0.25 * first_patch_loss(logits, codes, batch["first"]) + 0.25 * begin_loss(logits, codes)
