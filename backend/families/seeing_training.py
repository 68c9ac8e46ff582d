"""The reference families under training: answers are learnt, nothing is drawn, and the vision encoder stays as it is.

A batch may hold pictures of any sizes: what their encoders want is joined, and each sequence has as many image tokens
as its picture. Knows no optimizer, target or run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aia.batch import Batch
from aia.data import Sample
from backend.families.seeing import SeeingModel
from backend.families.spans import SENTINEL
from backend.families.training import FamilyTraining
from backend.interface import UserError


class SeeingTraining(FamilyTraining):
    """A loaded reference model as the trainer sees it."""

    family: SeeingModel
    lora_targets = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
    trained_modules = ("model.language_model.", "lm_head.")

    def conversation(self, sample: Sample) -> tuple[list[int], list[int]]:
        turns = [(SENTINEL, SENTINEL)] * len(sample.turns)
        return self.family.tokenise(turns, self.check_texts(sample), self.family.look(self.picture(sample)))

    def codes(self, samples: Sequence[Sample]) -> Sequence[torch.Tensor]:
        raise UserError(f"{self.family.name} only answers about pictures; train it without drawings.")

    def collate_pictures(self, samples: Sequence[Sample]) -> dict[str, dict[str, torch.Tensor]]:
        looks = [self.family.look(self.picture(sample)).inputs for sample in samples]
        return {"inputs": {name: self.family.placed(torch.cat([look[name] for look in looks])) for name in looks[0]}}

    def hidden_states(self, batch: Batch, **passing) -> torch.Tensor:
        positions = self.family.positions(batch.ids, batch.groups, batch.inputs)
        seen = {"image": self.features(batch)}
        output = self.model.model(input_ids=batch.ids, mm_encoder_outputs=seen, **positions, use_cache=False, **passing)
        return output.last_hidden_state

    @torch.no_grad()
    def features(self, batch: Batch):
        """What the frozen encoder and projector make of the pictures, as the model's own method returns it."""
        return self.model.model.get_image_features(**batch.inputs, return_dict=True)


class ChameleonTraining(SeeingTraining):
    """Chameleon's language model is not apart from the rest: the same layers under other names."""

    lora_targets = r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
    trained_modules = ("model.layers.", "model.norm.", "model.embed_tokens.", "lm_head.")

    def features(self, batch: Batch):
        """With gradients: the codes have none, but their embeddings are those of words."""
        return self.model.model.get_image_features(**batch.inputs, return_dict=True)
