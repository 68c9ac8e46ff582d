"""The Qwen-VL families (Qwen3-VL, Qwen2.5-VL): pictures of any size, three-dimensional positions (M-RoPE).

A picture becomes merged patches (2 × 2 patches of the vision encoder each) in raster order, as many as its size asks
for, `MAX_IMAGE_TOKENS` at most. Positions are computed here once per prompt and handed to every pass, so that the
state in which transformers keeps them on the model is never read. Does not know stores or pages.
"""

from __future__ import annotations

import torch
from PIL import Image
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)

from aia.intensity import PAD_GROUP, Group, group_index
from backend.families.base import IMAGE_GROUPS, Prefill
from backend.families.seeing import MAX_IMAGE_TOKENS, Look, SeeingModel
from backend.interface import UserError
from backend.models.specs import ModelSpec, Precision


class Qwen3StillsProcessor(Qwen3VLProcessor):
    """The real processor without its video part, which needs torchvision."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        super().__init__(image_processor, tokenizer, None, chat_template)


class Qwen25StillsProcessor(Qwen2_5_VLProcessor):
    """The real processor without its video part, which needs torchvision."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        super().__init__(image_processor, tokenizer, None, chat_template)


class QwenVLModel(SeeingModel):
    """One loaded Qwen-VL model behind the `UnifiedModel` protocol."""

    unquantised = ("visual", "lm_head")

    def __init__(self, spec: ModelSpec, precision: Precision = Precision.FULL):
        super().__init__(spec, precision)
        if "sliding_attention" in (getattr(self.text_config, "layer_types", None) or ()):
            raise UserError(
                f"Expected full attention in all layers of {self.name}, got a sliding window, in which intensities "
                "are not defined; set use_sliding_window to false in its config.json."
            )
        settings = self.processor.image_processor
        largest = MAX_IMAGE_TOKENS * (settings.patch_size * settings.merge_size) ** 2
        settings.size["longest_edge"] = min(settings.size["longest_edge"], largest)  # pixels, in spite of the name

    def look(self, image: Image.Image) -> Look:
        """The picture resized to whole patches, its aspect ratio nearly kept."""
        inputs = self.process(image)
        merge = self.processor.image_processor.merge_size
        _, rows, columns = inputs["image_grid_thw"][0].tolist()
        placeholder = self.processor.replace_image_token(inputs, 0)
        return Look(inputs, placeholder, self._shown(inputs), (rows // merge, columns // merge))

    def _shown(self, inputs: dict[str, torch.Tensor]) -> Image.Image:
        """Put the flattened patches together again."""
        settings = self.processor.image_processor
        merge, side = settings.merge_size, settings.patch_size
        _, rows, columns = inputs["image_grid_thw"][0].tolist()
        # [rows · columns, 3 · time · side²] → [rows / m, columns / m, m, m, 3, time, side, side]
        patches = inputs["pixel_values"].view(
            rows // merge, columns // merge, merge, merge, 3, settings.temporal_patch_size, side, side
        )
        pixels = patches[:, :, :, :, :, 0].permute(4, 0, 2, 5, 1, 3, 6)  # a still is the same at both times
        return self.to_picture(pixels.reshape(3, rows * side, columns * side))

    def special_groups(self) -> dict[int, Group]:
        config = self.model.config
        return {
            config.vision_start_token_id: Group.BOI,
            config.image_token_id: Group.IMAGE,
            config.vision_end_token_id: Group.EOI,
        }

    def first_inputs(self, prefill: Prefill) -> dict[str, torch.Tensor]:
        """With time, row and column of every token."""
        positions = self.positions(prefill.ids[None], prefill.groups[None], prefill.inputs)
        return {**super().first_inputs(prefill), **positions}

    def next_inputs(self, prefill: Prefill, token: int, made: int) -> dict[str, torch.Tensor]:
        """A picture takes as many positions as its longer side, in all three dimensions."""
        rows, columns = prefill.grid
        position = prefill.length - rows * columns + max(rows, columns) + made
        return {**super().next_inputs(prefill, token, made), "position_ids": prefill.ids.new_full((3, 1, 1), position)}

    def positions(
        self, ids: torch.Tensor, groups: torch.Tensor, inputs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Time, row and column of every token of padded sequences [B, N] with a picture each: int64 [3, B, N]."""
        kinds = torch.isin(groups, groups.new_tensor([group_index(group) for group in IMAGE_GROUPS])).long()
        positions, _ = self.model.model.get_rope_index(
            ids, kinds, image_grid_thw=inputs["image_grid_thw"], attention_mask=groups != PAD_GROUP
        )
        return {"position_ids": positions}


class Qwen3VLModel(QwenVLModel):
    """Qwen3-VL: features of three depths of the vision encoder are added in the first layers (DeepStack)."""

    model_class = Qwen3VLForConditionalGeneration
    processor_class = Qwen3StillsProcessor


class Qwen25VLModel(QwenVLModel):
    """Qwen2.5-VL."""

    model_class = Qwen2_5_VLForConditionalGeneration
    processor_class = Qwen25StillsProcessor
