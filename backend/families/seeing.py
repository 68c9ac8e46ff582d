"""What the reference families share: they answer about pictures of any size, and do not draw.

Owns the way from a picture and a question to tokens, key groups and a map of patches. The processors are
transformers' own; those that also read videos are loaded without that part, which needs torchvision. Does not know
any family's tokens, tiles or positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from transformers import GenerationConfig, ProcessorMixin

from aia.intensity import Group
from backend.families.base import IMAGE_GROUPS, FamilyModel, Prefill
from backend.families.decoding import positions_of
from backend.families.spans import SENTINEL, fill, tokenise
from backend.interface import UserError
from backend.kept.captures import Sampling

MAX_IMAGE_TOKENS = 1280  # a larger picture is made smaller: a capture's size and the time of an answer grow with it


@dataclass(frozen=True)
class Look:
    """A picture as a model gets it.

    `inputs` is what the first pass wants of it; `placeholder` the text that stands for it in a prompt; `shown` the
    picture after resizing; `grid` the rows and columns of patches that lie over `shown`; `patches` which of the image
    tokens those are, in raster order, int64 [rows · columns], by default all.
    """

    inputs: dict[str, torch.Tensor]
    placeholder: str
    shown: Image.Image
    grid: tuple[int, int]
    patches: torch.Tensor | None = None


class SeeingModel(FamilyModel):
    """One loaded model that answers about pictures; each reference family is a subclass."""

    processor_class: ClassVar[type[ProcessorMixin]]

    @classmethod
    def load_processor(cls, source: str, revision: str | None = None) -> ProcessorMixin:
        """The tokenizer and image processor of a folder or hub id."""
        return cls.processor_class.from_pretrained(source, revision=revision)

    # --- what a family says ---

    def look(self, image: Image.Image) -> Look:
        """Resize, cut and normalise a picture as the model wants it. Raises `UserError`."""
        raise NotImplementedError

    def special_groups(self) -> dict[int, Group]:
        """The group of every token that has one of its own, image tokens among them."""
        raise NotImplementedError

    def render(self, turns: list[tuple[str, str | None]]) -> str:
        """The template around questions and answers; one image token in the first, an answer None to be made."""
        chat = []
        for number, (question, answer) in enumerate(turns):
            content = [{"type": "image"}] * (number == 0) + [{"type": "text", "text": question}]
            chat.append({"role": "user", "content": content})
            if answer is not None:
                chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return self.processor.apply_chat_template(chat, add_generation_prompt=turns[-1][1] is None)

    def positions(
        self, ids: torch.Tensor, groups: torch.Tensor, inputs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """What a pass of whole sequences, ids and groups [B, N], wants besides the pictures' `inputs`."""
        return {}

    def stop_tokens(self) -> frozenset[int]:
        """The end tokens that the checkpoint's generation settings name."""
        named = self.model.generation_config.eos_token_id
        return frozenset({self.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None})

    # --- pictures ---

    def see(self, image: Image.Image) -> Image.Image:
        """The picture after the processor's resizing; at most `MAX_IMAGE_TOKENS` tokens where tiles allow."""
        return self.look(image).shown

    def fit(self, image: Image.Image) -> Image.Image:
        """The picture as the image processor is given it."""
        return image.convert("RGB")

    def process(self, image: Image.Image) -> dict[str, torch.Tensor]:
        """The image processor's own tensors of one picture. Raises `UserError` for a shape it refuses."""
        try:
            return dict(self.processor.image_processor(images=[self.fit(image)], return_tensors="pt"))
        except ValueError as error:
            raise UserError(
                f"Expected a picture that {self.name} can resize, got {image.width} × {image.height} pixels; "
                "cut it to a less extreme shape."
            ) from error

    def to_picture(self, pixels: torch.Tensor) -> Image.Image:
        """Undo the processor's normalisation: float [3, H, W] → RGB picture."""
        settings = self.processor.image_processor
        values = pixels.permute(1, 2, 0).float().cpu().numpy()
        values = (values * np.asarray(settings.image_std) + np.asarray(settings.image_mean)) / settings.rescale_factor
        return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))

    # --- spans ---

    def prefill(self, prompt: str, image: Image.Image | None = None) -> Prefill:
        """Tokenise a question about `image`. Raises `UserError` for control tokens, and where there is no image."""
        if image is None:
            raise UserError(f"{self.name} only answers about pictures; choose a model that draws.")
        self.refuse_control_tokens(prompt)
        look = self.look(image)
        ids, groups = self.tokenise([(SENTINEL, None)], [(prompt.strip(), Group.PROMPT)], look)
        ids, groups = torch.tensor(ids, device=self.device), torch.tensor(groups, device=self.device)
        seen = positions_of(groups, IMAGE_GROUPS)
        patches = seen if look.patches is None else seen[look.patches.to(self.device)]
        inputs = {name: self.placed(value) for name, value in look.inputs.items()}
        return Prefill(ids, groups, look.grid, inputs, patches)

    def tokenise(
        self, turns: list[tuple[str, str | None]], texts: list[tuple[str, Group]], look: Look
    ) -> tuple[list[int], list[int]]:
        """Ids and group indices of turns of sentinels that stand for these texts."""
        frame = self.render(turns).replace(self.processor.image_token, look.placeholder)
        return tokenise(self.tokenizer, *fill(frame, texts), self.special_groups())

    def placed(self, value: torch.Tensor) -> torch.Tensor:
        """On the model's device, pixels in its precision."""
        return value.to(self.device, self.model.dtype if value.is_floating_point() else None)

    # --- batches, without capture ---

    @torch.inference_mode()
    def answer_batch(self, images: list[Image.Image], prompts: list[str], max_new_tokens: int = 64) -> list[str]:
        """Greedy answers, by the real processor and `transformers`' own batched generation with left padding."""
        for prompt in prompts:
            self.refuse_control_tokens(prompt)
        texts = [self.render([(prompt.strip(), None)]) for prompt in prompts]
        inputs = self.batch(texts, [self.fit(image) for image in images])
        output = self.model.generate(**inputs, generation_config=self._greedy(max_new_tokens))
        return self.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def batch(self, texts: list[str], images: list[Image.Image], **settings) -> dict[str, torch.Tensor]:
        """What `generate` wants of rendered questions and a picture each, padded on the left."""
        inputs = self.processor(
            text=texts, images=images, padding=True, padding_side="left", return_tensors="pt", **settings
        )
        return {name: self.placed(value) for name, value in inputs.items()}

    def _greedy(self, max_new_tokens: int) -> GenerationConfig:
        """No penalty on repetition, which some checkpoints ask for: `understand` has none either."""
        return GenerationConfig(
            do_sample=False,
            repetition_penalty=1.0,
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(self.stop_tokens()),
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def draw_batch(self, prompts: list[str], sampling: Sampling) -> list[Image.Image]:
        """Refuse: this model does not draw. Raises `UserError`."""
        raise UserError(f"{self.name} only answers about pictures; choose a model that draws.")


def join_tiles(tiles: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Put tiles in raster order side by side: [rows · columns, 3, h, w] → [3, rows · h, columns · w]."""
    return tiles.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
