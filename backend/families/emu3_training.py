"""Emu3 under training: seen and drawn pictures are tokens of the vocabulary, so a batch is ids and nothing else.

As in the authors' emu3/train: a drawing's visual tokens are learnt, its row ends are not, since decoding sets them; a
picture that is drawn is resized to the area of the model's own drawings, its aspect ratio kept; a dropped prompt is the
empty one. For L_AIA every image token but the last is a row, row ends included, as in decoding. The VQ tokenizer is
frozen. Knows no optimizer, target or run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from aia.batch import Batch
from aia.data import Sample
from aia.intensity import Group
from backend.families.base import Prefill
from backend.families.emu3 import Emu3Model
from backend.families.spans import SENTINEL, fill, tokenise
from backend.families.training import FamilyTraining


class Emu3Training(FamilyTraining):
    """A loaded Emu3 model as the trainer sees it."""

    family: Emu3Model

    lora_targets = r".*text_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
    trained_modules = ("model.text_model.", "lm_head.")

    # --- batches ---

    def conversation(self, sample: Sample) -> tuple[list[int], list[int]]:
        """The chat template, which has no end token of its own: one follows each answer."""
        seen = self.family.image_tokens(self.picture(sample))
        frame = self.family.render([SENTINEL + self.tokenizer.eos_token] * len(sample.turns))
        text, spans = fill(self.family.place_image(frame, seen), self.check_texts(sample))
        special = {**self.family.special_groups, self.tokenizer.eos_token_id: Group.TEMPLATE}
        ids, groups = self.family.put_in_image(*tokenise(self.tokenizer, text, spans, special), seen)
        return ids.tolist(), groups.tolist()

    def codes(self, samples: Sequence[Sample]) -> list[torch.Tensor]:
        """By the model's own frozen VQ tokenizer; a row end closes each row."""
        return [self.family.image_tokens(self._resized(self.picture(sample))) for sample in samples]

    def _resized(self, picture: Image.Image) -> Image.Image:
        """The picture with the area of a drawing."""
        rows, columns = self.family.usual_grid
        factor = self.family.processor.downsample_ratio
        scale = factor * (rows * columns / (picture.width * picture.height)) ** 0.5
        sides = [max(factor, round(side * scale)) for side in picture.size]
        return picture.resize(sides, Image.Resampling.BICUBIC)

    def drawing(self, sample: Sample, codes: torch.Tensor, dropped: bool) -> Prefill:
        prefill = self.family.drawing_prefill(sample.prompt, f"{codes.shape[0]}x{codes.shape[1] - 1}")
        return self.family.blank(prefill) if dropped else prefill

    def is_learnt(self, code: int) -> bool:
        return code != self.family.row_end

    # --- loss ---

    def hidden_states(self, batch: Batch, **passing) -> torch.Tensor:
        return self.model.model.text_model(input_ids=batch.ids, use_cache=False, **passing).last_hidden_state
