"""Janus under training: conversations and drawings as token batches, and their next-token loss.

Owns the teacher-forced side of the family; `janus.py` owns loading, templates for one prompt, and decoding.
Knows no optimizer, target or run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image

from aia.batch import NO_LABEL, Batch
from aia.data import Sample
from aia.intensity import PAD_GROUP, Group, Task, group_index
from aia.probe import Probe
from backend.families.decoding import mark_last_image_token
from backend.families.janus import JanusModel

_SENTINEL = "\ue000"  # a private-use character: stands for a text while the template is rendered around it
_GENERATED = group_index(Group.GENERATED)


class Row(NamedTuple):
    """One sequence before padding."""

    ids: list[int]
    groups: list[int]
    labels: list[int]
    weight: float = 1.0


class JanusTraining:
    """A loaded Janus model as the trainer sees it (`aia.batch.Trainable`)."""

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

    def __init__(self, janus: JanusModel):
        self.janus = janus
        self.model = janus.model
        self.tokenizer = janus.tokenizer
        self.layers = self.model.config.text_config.num_hidden_layers

    # --- batches ---

    def collate(self, samples: Sequence[Sample], dropped: Sequence[bool]) -> Batch:
        """Tokenise samples of one task; see `Trainable`."""
        if samples[0].task == Task.UNDERSTANDING:
            rows = [self._cut(self._conversation(sample)) for sample in samples]
            pictures = torch.cat([self._pixels(sample) for sample in samples]).to(self.janus.device, self.model.dtype)
            return Batch(Task.UNDERSTANDING, **self._pad(rows), pictures=pictures)
        rows, starts = [], []
        codes = self._codes(samples)
        for sample, blank, image in zip(samples, dropped, codes.tolist(), strict=True):
            rows.append(self._drawing(sample.prompt, image, blank))
            starts.append(len(rows[-1].ids) - len(image))
        positions = torch.tensor(starts, device=self.janus.device)
        return Batch(Task.GENERATION, **self._pad(rows), codes=codes, starts=positions)

    def _conversation(self, sample: Sample) -> Row:
        """Every turn's answer and its end token are learnt; only the words of answers count as rows."""
        text, spans = self._render(sample)
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        ids, kinds = encoded.input_ids, [self._special(token) for token in encoded.input_ids]
        for place, (first, last) in enumerate(encoded.offset_mapping):
            inside = next((group for start, end, group in spans if first < end and last > start), None)
            kinds[place] = kinds[place] or inside or Group.TEMPLATE
        mark_last_image_token(kinds)
        learnt = [g == Group.GENERATED for g in kinds]
        for place in range(1, len(ids)):
            learnt[place] |= ids[place] == self.tokenizer.eos_token_id and kinds[place - 1] == Group.GENERATED
        labels = [token if teach else NO_LABEL for token, teach in zip(ids[1:], learnt[1:], strict=True)]
        return Row(ids, [group_index(g) for g in kinds], [*labels, NO_LABEL])

    def _render(self, sample: Sample) -> tuple[str, list[tuple[int, int, Group]]]:
        """The whole conversation in the chat template, and where its texts stand in it (characters, end excluded)."""
        texts, chat = [], []
        for number, turn in enumerate(sample.turns):
            content = [{"type": "image"}] * (number == 0) + [{"type": "text", "text": _SENTINEL}]
            chat.append({"role": "user", "content": content})
            chat.append({"role": "assistant", "content": [{"type": "text", "text": _SENTINEL}]})
            texts += [(turn.question.strip(), Group.PROMPT), (turn.answer.strip(), Group.GENERATED)]
        processor = self.janus.processor
        frame = processor.apply_chat_template(chat).replace(processor.image_token, processor.replace_image_token({}, 0))
        pieces = frame.split(_SENTINEL)
        text, spans = pieces[0], []
        for (words, group), piece in zip(texts, pieces[1:], strict=True):
            self.janus.refuse_control_tokens(words)
            spans.append((len(text), len(text) + len(words), group))
            text += words + piece
        return text, spans

    def _drawing(self, prompt: str, codes: list[int], blank: bool) -> Row:
        """Prompt, then all image tokens; a blanked prompt keeps its groups but has weight 0."""
        prefill = self.janus.prefill(prompt)
        ids = self.janus.blank(prefill.ids) if blank else prefill.ids
        total = prefill.length + len(codes)
        if total > self.janus.context:
            raise ValueError(
                f"expected at most {self.janus.context:,} tokens, got {total:,} of prompt and image; shorten the "
                f"prompt “{prompt[:40]}…”"
            )
        filler = [self.tokenizer.pad_token_id or 0] * len(codes)
        labels = [NO_LABEL] * (prefill.length - 1) + codes + [NO_LABEL]
        return Row(
            [*ids.tolist(), *filler], [*prefill.groups.tolist(), *[_GENERATED] * len(codes)], labels, float(not blank)
        )

    def _cut(self, row: Row) -> Row:
        """A conversation longer than the context is cut off and left out of L_AIA, as in the released code."""
        context = self.janus.context
        if len(row.ids) <= context:
            return row
        return Row(row.ids[:context], row.groups[:context], [*row.labels[: context - 1], NO_LABEL], 0.0)

    def _pad(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        device, length = self.janus.device, max(len(row.ids) for row in rows)

        def padded(lists: list[list[int]], filler: int) -> torch.Tensor:
            return torch.tensor([[*row, *[filler] * (length - len(row))] for row in lists], device=device)

        return {
            "ids": padded([row.ids for row in rows], self.tokenizer.pad_token_id or 0),
            "groups": padded([row.groups for row in rows], PAD_GROUP),
            "labels": padded([row.labels for row in rows], NO_LABEL),
            "weights": torch.tensor([row.weight for row in rows], device=device),
        }

    def _special(self, token: int) -> Group | None:
        named = {
            self.tokenizer.bos_token_id: Group.BOS,
            self.tokenizer.boi_token_id: Group.BOI,
            self.tokenizer.eoi_token_id: Group.EOI,
            self.tokenizer.image_token_id: Group.IMAGE,
            self.tokenizer.eos_token_id: Group.TEMPLATE,
        }
        return named.get(token)

    def _pixels(self, sample: Sample) -> torch.Tensor:
        return self.janus.pixels(Image.fromarray(sample.picture))

    @torch.no_grad()
    def _codes(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Image tokens int64 [B, n] of the pictures, by the model's own frozen VQ tokenizer."""
        pixels = torch.cat([self._pixels(sample) for sample in samples]).to(self.janus.device, self.model.dtype)
        return self.model.model.vqmodel.encode(pixels).image_tokens.view(len(samples), -1)

    # --- loss ---

    def ntp_sum(self, batch: Batch, probe: Probe | None = None) -> torch.Tensor:
        """Cross-entropy summed over the labels; see `Trainable`."""
        embeds = self.model.get_input_embeddings()(batch.ids)
        embeds = self._put_in_codes(embeds, batch) if batch.codes is not None else self._put_in_picture(embeds, batch)
        passing = {} if probe is None else {"probe": probe}
        hidden = self.model.model.language_model(inputs_embeds=embeds, use_cache=False, **passing).last_hidden_state
        wanted = batch.labels != NO_LABEL
        head = self.model.lm_head if batch.codes is None else self.model.model.generation_head
        return F.cross_entropy(head(hidden[wanted]).float(), batch.labels[wanted], reduction="sum")

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
