"""The Chameleon family, answering only: one code book for text and pictures, no vision encoder of its own.

A picture is cut to a square and encoded into codes of the vocabulary, so that image tokens are words like any other.
The weights were released for text output only; transformers masks the logits of image tokens and has no decoder for
their codes: so no drawing here. Does not know stores or pages.
"""

from __future__ import annotations

import math

import torch
from PIL import Image
from transformers import ChameleonForConditionalGeneration, ChameleonProcessor

from aia.intensity import Group
from backend.families.seeing import Look, SeeingModel


class ChameleonModel(SeeingModel):
    """One loaded Chameleon model behind the `UnifiedModel` protocol."""

    model_class = ChameleonForConditionalGeneration
    processor_class = ChameleonProcessor
    unquantised = ("vqmodel", "lm_head")
    language_config = ""  # the outermost configuration is the language model's

    def look(self, image: Image.Image) -> Look:
        """The middle square of the picture."""
        inputs = self.process(image)
        side = math.isqrt(self.processor.image_seq_length)
        placeholder = self.processor.replace_image_token(inputs, 0)
        return Look(inputs, placeholder, self.to_picture(inputs["pixel_values"][0]), (side, side))

    def special_groups(self) -> dict[int, Group]:
        processor = self.processor
        return {
            self.tokenizer.bos_token_id: Group.BOS,
            processor.image_start_token_id: Group.BOI,
            processor.image_token_id: Group.IMAGE,
            processor.image_end_token_id: Group.EOI,
        }

    def stop_tokens(self) -> frozenset[int]:
        """The separator ends a turn."""
        return super().stop_tokens() | {self.tokenizer.sep_token_id}

    def render(self, turns: list[tuple[str, str | None]]) -> str:
        """No template: the picture behind the first question, as in the model's documentation; a separator a turn."""
        separator, text = self.tokenizer.sep_token, ""
        for number, (question, answer) in enumerate(turns):
            text += question + self.processor.image_token * (number == 0) + separator
            text += "" if answer is None else answer + separator
        return text

    def batch(self, texts: list[str], images: list[Image.Image]) -> dict[str, torch.Tensor]:
        """The separator is there already."""
        return super().batch(texts, images, return_for_text_completion=True)
