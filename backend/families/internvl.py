"""The InternVL family (InternVL3 in transformers' own format): pictures cut into tiles, and a thumbnail.

A picture is resized to the arrangement of square tiles nearest to its shape, each tile a fixed square of tokens; where
there is more than one tile, a thumbnail of the whole picture follows. The map of patches is the mosaic of the tiles,
each patch where it lies in the picture; the thumbnail's tokens count as image tokens but are not on the map. Does not
know stores or pages.
"""

from __future__ import annotations

import math

import torch
from PIL import Image
from transformers import InternVLForConditionalGeneration, InternVLProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from aia.intensity import Group
from backend.families.seeing import MAX_IMAGE_TOKENS, Look, SeeingModel, join_tiles
from backend.models.specs import ModelSpec, Precision


class InternVLStillsProcessor(InternVLProcessor):
    """The real processor without its video part, which needs torchvision."""

    def __init__(self, image_processor=None, tokenizer=None, image_seq_length=256, chat_template=None):
        super().__init__(image_processor, tokenizer, None, image_seq_length, chat_template)


class InternVLModel(SeeingModel):
    """One loaded InternVL model behind the `UnifiedModel` protocol."""

    model_class = InternVLForConditionalGeneration
    processor_class = InternVLStillsProcessor
    unquantised = ("vision_tower", "multi_modal_projector", "lm_head")

    def __init__(self, spec: ModelSpec, precision: Precision = Precision.FULL):
        super().__init__(spec, precision)
        settings = self.processor.image_processor
        settings.crop_to_patches = True
        tiles = MAX_IMAGE_TOKENS // self.processor.image_seq_length - 1  # and the thumbnail
        settings.max_patches = min(settings.max_patches, tiles)

    def look(self, image: Image.Image) -> Look:
        """The picture in tiles, its aspect ratio changed to theirs."""
        inputs = self.process(image)
        placeholder = self.processor.replace_image_token(inputs, 0)
        rows, columns = self._arrangement(image)
        tiles = inputs["pixel_values"][: rows * columns]
        side = math.isqrt(self.processor.image_seq_length)
        # Tiles follow one another, each in raster order of its own.
        order = torch.arange(rows * columns * side * side).view(rows, columns, side, side).transpose(1, 2)
        shown = join_tiles(tiles, rows, columns)
        return Look(
            {"pixel_values": inputs["pixel_values"]},
            placeholder,
            self.to_picture(shown),
            (rows * side, columns * side),
            order.flatten(),
        )

    def _arrangement(self, image: Image.Image) -> tuple[int, int]:
        """Rows and columns of tiles, as the image processor chooses them."""
        settings = self.processor.image_processor
        tile = (settings.size["height"], settings.size["width"])
        columns, rows = get_optimal_tiled_canvas(
            (image.height, image.width), tile, settings.min_patches, settings.max_patches
        )
        return rows, columns

    def special_groups(self) -> dict[int, Group]:
        processor = self.processor
        return {
            processor.start_image_token_id: Group.BOI,
            processor.image_token_id: Group.IMAGE,
            processor.end_image_token_id: Group.EOI,
        }
