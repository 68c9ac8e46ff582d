"""Janus under training: its pictures go in through the vision encoder, its drawings as codes of their own.

Knows no optimizer, target or run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from aia.batch import Batch
from aia.data import Sample
from aia.intensity import Group
from backend.families.base import Prefill
from backend.families.janus import JanusModel
from backend.families.spans import SENTINEL, fill, tokenise
from backend.families.training import FamilyTraining, Row


class JanusTraining(FamilyTraining):
    """A loaded Janus model as the trainer sees it."""

    family: JanusModel

    lora_targets = (
        r".*(language_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
        r"|\.(generation_)?aligner\.(fc1|hidden_layers\.\d+)|generation_head\.(proj_out|vision_head))"
    )
    # As in the authors' released code; the vision encoder and the VQ tokenizer are frozen.
    trained_modules = (
        "model.language_model.",
        "lm_head.",
        "model.aligner.",
        "model.generation_embeddings.",
        "model.generation_aligner.",
        "model.generation_head.",
    )

    # --- batches ---

    def conversation(self, sample: Sample) -> tuple[list[int], list[int]]:
        """The chat template; an end token belongs to it even where an answer's span touches it."""
        chat = []
        for number in range(len(sample.turns)):
            content = [{"type": "image"}] * (number == 0) + [{"type": "text", "text": SENTINEL}]
            chat.append({"role": "user", "content": content})
            chat.append({"role": "assistant", "content": [{"type": "text", "text": SENTINEL}]})
        text, spans = fill(self.family.spell_image(chat), self.check_texts(sample))
        special = {**self.family.special_groups, self.tokenizer.eos_token_id: Group.TEMPLATE}
        return tokenise(self.tokenizer, text, spans, special)

    def collate_pictures(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        return {"pictures": self._pixels(samples)}

    @torch.no_grad()
    def codes(self, samples: Sequence[Sample]) -> torch.Tensor:
        """By the model's own frozen VQ tokenizer."""
        return self.model.model.vqmodel.encode(self._pixels(samples)).image_tokens.view(len(samples), *self.family.grid)

    def drawing(self, sample: Sample, codes: torch.Tensor, dropped: bool) -> Prefill:
        """A dropped prompt is blanked: it keeps its length and groups."""
        prefill = self.family.prefill(sample.prompt)
        return replace(prefill, ids=self.family.blank(prefill.ids)) if dropped else prefill

    def fed_ids(self, made: list[int]) -> list[int]:
        """Any id: `codes` are put in over it."""
        return [self.tokenizer.pad_token_id or 0] * len(made)

    def collate_codes(self, rows: Sequence[Row], codes: torch.Tensor) -> dict[str, torch.Tensor]:
        codes = codes.flatten(1)
        starts = [len(row.ids) - codes.shape[1] for row in rows]
        return {"codes": codes, "starts": torch.tensor(starts, device=self.family.device)}

    def _pixels(self, samples: Sequence[Sample]) -> torch.Tensor:
        pixels = [self.family.pixels(self.picture(sample)) for sample in samples]
        return torch.cat(pixels).to(self.family.device, self.model.dtype)

    # --- loss ---

    def hidden_states(self, batch: Batch, **passing) -> torch.Tensor:
        embeds = self.model.get_input_embeddings()(batch.ids)
        embeds = self._put_in_codes(embeds, batch) if batch.codes is not None else self._put_in_picture(embeds, batch)
        return self.model.model.language_model(inputs_embeds=embeds, use_cache=False, **passing).last_hidden_state

    def head(self, batch: Batch) -> nn.Module:
        return self.model.lm_head if batch.codes is None else self.model.model.generation_head

    def _put_in_picture(self, embeds: torch.Tensor, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            seen = self.model.model.vision_model(batch.pictures).last_hidden_state
        features = self.model.model.aligner(seen)
        places = batch.ids == self.model.config.image_token_id
        return embeds.masked_scatter(places[..., None], features.to(embeds.dtype))

    def _put_in_codes(self, embeds: torch.Tensor, batch: Batch) -> torch.Tensor:
        fed = self.model.prepare_embeddings_for_image_generation(batch.codes)
        places = batch.starts[:, None] + torch.arange(batch.codes.shape[1], device=embeds.device)
        return embeds.scatter(1, places[..., None].expand_as(fed), fed.to(embeds.dtype))
