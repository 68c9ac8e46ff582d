"""What every family does alike under training: conversations and drawings as padded token batches, and their loss.

A family says how its template is rendered, which tokens a picture becomes, and how hidden states are made; see the
methods that raise `NotImplementedError`. Owns the teacher-forced side; loading, templates and decoding are the loaded
model's. Knows no optimizer, target or run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from aia.batch import NO_LABEL, Batch
from aia.data import Sample
from aia.intensity import PAD_GROUP, Group, Task, group_index
from aia.probe import Probe
from backend.families.base import FamilyModel, Prefill
from backend.interface import UserError

_GENERATED = group_index(Group.GENERATED)


class Row(NamedTuple):
    """One sequence before padding."""

    ids: list[int]
    groups: list[int]
    labels: list[int]
    weight: float = 1.0


class FamilyTraining:
    """A loaded model as the trainer sees it (`aia.batch.Trainable`); each family that can be trained has a subclass."""

    lora_targets: ClassVar[str]
    trained_modules: ClassVar[tuple[str, ...]]

    def __init__(self, family: FamilyModel):
        self.family = family
        self.model = family.model
        self.tokenizer = family.tokenizer
        self.layers = family.text_config.num_hidden_layers

    # --- what a family says ---

    def conversation(self, sample: Sample) -> tuple[list[int], list[int]]:
        """Ids and group indices of a whole conversation; answers are generated, their end tokens template."""
        raise NotImplementedError

    def codes(self, samples: Sequence[Sample]) -> Sequence[torch.Tensor]:
        """Each picture's image tokens in the order they are made, int64 [rows, columns], row ends among the columns."""
        raise NotImplementedError

    def drawing(self, sample: Sample, codes: torch.Tensor, dropped: bool) -> Prefill:
        """The prompt of a drawing of these image tokens, without its words if `dropped`."""
        raise NotImplementedError

    def is_learnt(self, code: int) -> bool:
        """Whether an image token is the model's to choose."""
        return True

    def fed_ids(self, made: list[int]) -> list[int]:
        """What stands for image tokens in a sequence's ids: themselves."""
        return made

    def collate_pictures(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """`pictures` of a batch of conversations, where a model wants pixels beside its ids."""
        return {}

    def collate_codes(self, rows: Sequence[Row], codes: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """`codes` and `starts` of a batch of drawings, where image tokens are not in the vocabulary of words."""
        return {}

    def hidden_states(self, batch: Batch, **passing) -> torch.Tensor:
        """The language model's last hidden states [B, N, D]; `passing` goes on to its attention."""
        raise NotImplementedError

    def head(self, batch: Batch) -> nn.Module:
        """What turns hidden states into scores of the batch's labels."""
        return self.model.lm_head

    # --- batches ---

    def collate(self, samples: Sequence[Sample], dropped: Sequence[bool]) -> Batch:
        """Tokenise samples of one task; see `Trainable`."""
        if samples[0].task == Task.UNDERSTANDING:
            rows = [self._cut(self._answers_learnt(*self.conversation(sample))) for sample in samples]
            return Batch(Task.UNDERSTANDING, **self._pad(rows), **self.collate_pictures(samples))
        rows, codes = [], self.codes(samples)
        for sample, made, drop in zip(samples, codes, dropped, strict=True):
            rows.append(self._image_learnt(self.drawing(sample, made, drop), made.flatten().tolist(), float(not drop)))
        return Batch(Task.GENERATION, **self._pad(rows), **self.collate_codes(rows, codes))

    def drawn_batch(self, prefill: Prefill, made: list[int], copies: int = 1) -> Batch:
        """Copies of one drawing of image tokens that are known, the first of them at least."""
        row = self._image_learnt(prefill, made, 1.0)
        codes = torch.tensor(made, device=self.family.device).expand(copies, -1)
        return Batch(Task.GENERATION, **self._pad([row] * copies), **self.collate_codes([row] * copies, codes))

    def check_texts(self, sample: Sample) -> list[tuple[str, Group]]:
        """Questions and answers in order, trimmed. Raises `UserError` for a control token in one."""
        texts = []
        for turn in sample.turns:
            texts += [(turn.question.strip(), Group.PROMPT), (turn.answer.strip(), Group.GENERATED)]
        for text, _ in texts:
            self.family.refuse_control_tokens(text)
        return texts

    def picture(self, sample: Sample) -> Image.Image:
        return Image.fromarray(sample.picture)

    def _answers_learnt(self, ids: list[int], groups: list[int]) -> Row:
        """Every turn's answer and its end token are learnt; only the words of answers count as rows."""
        learnt, stops = [g == _GENERATED for g in groups], self.family.stop_tokens()
        for place in range(1, len(ids)):
            learnt[place] |= ids[place] in stops and groups[place - 1] == _GENERATED
        labels = [token if teach else NO_LABEL for token, teach in zip(ids[1:], learnt[1:], strict=True)]
        return Row(ids, groups, [*labels, NO_LABEL])

    def _image_learnt(self, prefill: Prefill, made: list[int], weight: float) -> Row:
        """Prompt, then all image tokens. Raises `UserError` where they are too many."""
        total = prefill.length + len(made)
        if total > self.family.context:
            words = self.tokenizer.decode(prefill.ids[prefill.groups == group_index(Group.PROMPT)])
            raise UserError(
                f"Expected at most {self.family.context:,} tokens, got {total:,} of prompt and image; shorten the "
                f"prompt “{words.strip()[:40]}…” or take a smaller picture."
            )
        learnt = [code if self.is_learnt(code) else NO_LABEL for code in made]
        labels = [NO_LABEL] * (prefill.length - 1) + learnt + [NO_LABEL]
        groups = [*prefill.groups.tolist(), *[_GENERATED] * len(made)]
        return Row([*prefill.ids.tolist(), *self.fed_ids(made)], groups, labels, weight)

    def _cut(self, row: Row) -> Row:
        """A conversation longer than the context is cut off and left out of L_AIA, as in the released code."""
        context = self.family.context
        if len(row.ids) <= context:
            return row
        return Row(row.ids[:context], row.groups[:context], [*row.labels[: context - 1], NO_LABEL], 0.0)

    def _pad(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        device, length = self.family.device, max(len(row.ids) for row in rows)

        def padded(lists: list[list[int]], filler: int) -> torch.Tensor:
            return torch.tensor([[*row, *[filler] * (length - len(row))] for row in lists], device=device)

        return {
            "ids": padded([row.ids for row in rows], self.tokenizer.pad_token_id or 0),
            "groups": padded([row.groups for row in rows], PAD_GROUP),
            "labels": padded([row.labels for row in rows], NO_LABEL),
            "weights": torch.tensor([row.weight for row in rows], device=device),
        }

    # --- loss ---

    def ntp_sum(self, batch: Batch, probe: Probe | None = None) -> torch.Tensor:
        """Cross-entropy summed over the labels; see `Trainable`."""
        hidden = self.hidden_states(batch, **({} if probe is None else {"probe": probe}))
        wanted = batch.labels != NO_LABEL
        scores = self.head(batch)(hidden[wanted]).float()
        return F.cross_entropy(scores, batch.labels[wanted], reduction="sum")
