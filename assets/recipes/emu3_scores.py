"""Puts tiny-emu3 to the shapes world's two tests by itself, in batches, for use while it is trained.

Knows no checkpoint and no training. The scores of a finished model come from `python -m app evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from aia.evaluation import score_generation, score_understanding
from assets.recipes.emu3_processor import EOL
from assets.recipes.emu3_tasks import drawing_text
from assets.recipes.pictures import GRID

Encode = Callable[[torch.Tensor], torch.Tensor]  # pixels [B, 3, 64, 64] → token ids of codes and row ends [B, 72]
Decode = Callable[[torch.Tensor], torch.Tensor]  # codes [B, 64] → pixels [B, 3, 64, 64]
ANSWER_TOKENS = 60


def model_encode(model) -> Encode:
    """The model's own way in."""

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        sizes = torch.tensor([pixels.shape[-2:]] * len(pixels))
        return model.model.get_image_tokens(pixels, sizes).view(len(pixels), -1).long()

    return encode


def model_decode(model) -> Decode:
    """The model's own way out."""
    return lambda codes: model.model.vqmodel.decode(codes.view(-1, GRID, GRID))


@torch.no_grad()
def answer(model, processor, encode: Encode, pictures: list[np.ndarray], questions: list[str]) -> list[str]:
    """Greedy answers."""
    tokenizer, parts = processor.tokenizer, [{"type": "image"}, {"type": "text"}]
    chats = [[{"role": "user", "content": [parts[0], parts[1] | {"text": question}]}] for question in questions]
    texts = [processor.apply_chat_template(chat, add_generation_prompt=True) for chat in chats]
    images = [Image.fromarray(picture) for picture in pictures]
    inputs = processor(images=images, text=texts, padding=True, return_tensors="pt")
    ids = inputs.input_ids
    ids[ids == processor.image_token_id] = encode(inputs.pixel_values).flatten()
    told = model.generate(
        input_ids=ids, attention_mask=inputs.attention_mask, do_sample=False, max_new_tokens=ANSWER_TOKENS
    )
    return tokenizer.batch_decode(told[:, ids.shape[1] :], skip_special_tokens=True)


@torch.no_grad()
def draw_codes(
    model, processor, prompts: list[str], temperature: float, guidance: float, generator: torch.Generator
) -> torch.Tensor:
    """Sampled codes [B, 64], from log p(empty prompt) + guidance · (log p(prompt) − log p(empty prompt))."""
    tokenizer, text = processor.tokenizer, model.model.text_model
    eol = tokenizer.convert_tokens_to_ids(EOL)
    codes_at = torch.tensor(model.model.vocabulary_mapping.image_tokens)
    branches = []
    for texts in (prompts, [""] * len(prompts)):
        inputs = tokenizer(
            [drawing_text(t) for t in texts], add_special_tokens=False, padding=True, return_tensors="pt"
        )
        branches.append([inputs.input_ids, inputs.attention_mask, DynamicCache(config=model.config.text_config)])
    drawn = []
    for place in range(GRID * (GRID + 1) - 1):
        logits = []
        for branch in branches:
            hidden = text(input_ids=branch[0], attention_mask=branch[1], past_key_values=branch[2], use_cache=True)
            logits.append(model.lm_head(hidden.last_hidden_state[:, -1])[:, codes_at].log_softmax(-1))
        if place % (GRID + 1) == GRID:
            told = torch.full((len(prompts),), eol)
        else:
            guided = logits[1] + guidance * (logits[0] - logits[1])
            drawn.append(torch.multinomial((guided / temperature).softmax(-1), 1, generator=generator)[:, 0])
            told = codes_at[drawn[-1]]
        for branch in branches:
            branch[0] = told[:, None]
            branch[1] = torch.cat([branch[1], branch[1].new_ones(len(prompts), 1)], 1)
    return torch.stack(drawn, 1)


def to_pictures(pixels: torch.Tensor) -> list[np.ndarray]:
    """Pixels in −1…1 [B, 3, 64, 64] → uint8 [64, 64, 3] each."""
    values = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return list(values.permute(0, 2, 3, 1).numpy())


def score(
    model,
    processor,
    encode: Encode,
    decode: Decode,
    samples: int,
    seed: int = 0,
    temperature: float = 0.5,
    guidance: float = 1.5,
) -> dict:
    """Both scores on `samples` held-out scenes, as `aia.evaluation` counts them."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)

    def draw(prompts: list[str]) -> list[np.ndarray]:
        codes = draw_codes(model, processor, prompts, temperature, guidance, generator)
        with torch.no_grad():
            return to_pictures(decode(codes))

    def tell(pictures: list[np.ndarray], questions: list[str]) -> list[str]:
        return answer(model, processor, encode, pictures, questions)

    return {
        "understanding": score_understanding(tell, samples, seed).as_dict(),
        "generation": score_generation(draw, samples, seed).as_dict(),
        "samples": samples,
        "seed": seed,
        "sampling": {"temperature": temperature, "guidance": guidance},
    }
