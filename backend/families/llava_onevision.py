"""The LLaVA-OneVision family: an overview of the picture, then its tiles as rows of tokens with line ends.

The picture is fitted into the best of the listed resolutions and padded; one larger than `MAX_TILES` tiles hold is made
smaller before, a limit of ours. The overview comes first, then the tiles' tokens row by row over the whole picture,
without those of the padding, each row closed by a line-end token. The map of patches is the tiles' part; the overview
and the line ends count as image tokens but are not on the map. Does not know stores or pages.
"""

from __future__ import annotations

import math

import torch
from PIL import Image
from transformers import LlavaOnevisionForConditionalGeneration, LlavaOnevisionProcessor
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_onevision.modeling_llava_onevision import get_anyres_image_grid_shape, unpad_image

from aia.intensity import Group
from backend.families.seeing import Look, SeeingModel, join_tiles

# The checkpoints list up to 36, some 7,300 tokens; one tile and the overview already have 1,485, two have 2,241.
MAX_TILES = 2


class LlavaStillsProcessor(LlavaOnevisionProcessor):
    """The real processor without its video part, which needs torchvision."""

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        num_image_tokens=None,
        vision_feature_select_strategy=None,
        chat_template=None,
        image_token="<image>",
        video_token="<video>",
        vision_aspect_ratio="anyres_max_9",
    ):
        super().__init__(
            image_processor,
            tokenizer,
            None,
            num_image_tokens,
            vision_feature_select_strategy,
            chat_template,
            image_token,
            video_token,
            vision_aspect_ratio,
        )


class LlavaOnevisionModel(SeeingModel):
    """One loaded LLaVA-OneVision model behind the `UnifiedModel` protocol."""

    model_class = LlavaOnevisionForConditionalGeneration
    processor_class = LlavaStillsProcessor
    unquantised = ("vision_tower", "multi_modal_projector", "lm_head")

    @property
    def tile_px(self) -> int:
        return self.model.config.vision_config.image_size

    def fit(self, image: Image.Image) -> Image.Image:
        """Small enough that the processor chooses at most `MAX_TILES` tiles, its aspect ratio kept."""
        largest = MAX_TILES * self.tile_px**2
        listed = [size for size in self.model.config.image_grid_pinpoints if math.prod(size) <= largest]
        tall, wide = select_best_resolution((image.height, image.width), listed)
        scale = min(wide / image.width, tall / image.height)
        if scale >= 1:
            return super().fit(image)
        size = math.ceil(image.width * scale), math.ceil(image.height * scale)
        return super().fit(image).resize(size, Image.Resampling.BICUBIC)

    def look(self, image: Image.Image) -> Look:
        """The picture as large as the best resolution allows, its aspect ratio kept."""
        inputs = self.process(image)
        placeholder = self.processor.replace_image_token(inputs, 0)
        rows, columns = self._grid(inputs["image_sizes"][0])
        tall, wide = self._tiles(inputs["image_sizes"][0])
        inputs["pixel_values"] = inputs["pixel_values"][0]  # [overview and tiles, 3, H, W]: so pictures can be joined
        pixels = join_tiles(inputs["pixel_values"][1:], tall, wide)
        shown = self.to_picture(unpad_image(pixels, inputs["image_sizes"][0]))
        places = torch.arange(rows)[:, None] * (columns + 1) + torch.arange(columns)  # a line end after each row
        return Look(inputs, placeholder, shown, (rows, columns), self.processor.num_image_tokens + places.flatten())

    def _tiles(self, size: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of tiles for a picture of this height and width."""
        return get_anyres_image_grid_shape(size, self.model.config.image_grid_pinpoints, self.tile_px)

    def _grid(self, size: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of the tiles' tokens, as `LlavaOnevisionModel.pack_image_features` arranges them."""
        side = self.tile_px // self.model.config.vision_config.patch_size
        tall, wide = self._tiles(size)
        _, rows, columns = unpad_image(torch.empty(1, tall * side, wide * side), size).shape
        most = int(self.model.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = math.sqrt(rows * columns / (most * side**2))
        return (rows, columns) if ratio <= 1.1 else (int(rows // ratio), int(columns // ratio))

    def special_groups(self) -> dict[int, Group]:
        return {self.processor.image_token_id: Group.IMAGE}
