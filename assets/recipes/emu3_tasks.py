"""The two tasks as Emu3 reads them: sequences of text and code tokens, and what is learnt from each.

Knows no optimizer and no file.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from aia import world
from assets.recipes.codes import CODES, nearest_codes
from assets.recipes.emu3_processor import BOI, BOS, EOF, EOI, EOL, EOS, SYSTEM, WRAPPER, visual_token
from assets.recipes.pictures import GRID, patch_labels, pixels_of, scenes_for
from assets.recipes.tasks import (
    Asked,
    answer_loss,
    ask_again,
    begin_loss,
    choose_drawings,
    find_first_patches,
    first_patch_loss,
    pack_questions,
)

IMAGE_PREFIX = f"{BOI}{GRID}*{GRID}{WRAPPER}"
PICTURE = GRID * (GRID + 1) + 3  # tokens of a drawing: the rows with their ends, end of file, of image, of sequence
CODE_SPOTS = torch.arange(GRID * (GRID + 1)).view(GRID, GRID + 1)[:, :GRID].flatten()  # the codes among row ends
HEADS_AFTER = 4  # layers below the patch heads
PIECES = 3  # a batch is computed in so many pieces of like length on a CPU, to pad less


def image_ids(tokenizer, codes: torch.Tensor) -> torch.Tensor:
    """The token ids of pictures: codes [B, 64] → [B, 74], every row with its end, then the end of file and of image."""
    first, eol, eof, eoi = tokenizer.convert_tokens_to_ids([visual_token(0), EOL, EOF, EOI])
    rows = F.pad((codes + first).view(-1, GRID, GRID), (0, 1), value=eol).flatten(1)
    return torch.cat([rows, torch.tensor([[eof, eoi]]).expand(len(rows), 2)], 1)


def make_understanding_batch(processor, book: torch.Tensor, step: int, batch: int) -> dict:
    """Pictures as code tokens, each with the questions of `ask_again`, packed by `pack_questions`.

    `codes` [B, 64], their `spots` [64] in the sequence, and what is at each patch, `labels` [B, 64, 4].
    """
    tokenizer = processor.tokenizer
    scenes, rng = scenes_for("understanding", step, batch)
    pictures = [[ask(tokenizer, question) for question in ask_again(scene, rng)] for scene in scenes]
    head = tokenizer(f"{BOS}{SYSTEM} USER: {IMAGE_PREFIX}", add_special_tokens=False).input_ids
    codes = nearest_codes(pixels_of(scenes), book)
    tokens = image_ids(tokenizer, codes)
    packed = pack_questions(head + [0] * tokens.shape[1], pictures, tokenizer.pad_token_id)
    packed["ids"][:, len(head) : len(head) + tokens.shape[1]] = tokens
    return packed | {"codes": codes, "spots": len(head) + CODE_SPOTS, "labels": patch_labels(scenes)}


def ask(tokenizer, question: world.Question) -> Asked:
    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    return Asked(question.kind, ids(f"{question.text} ASSISTANT:"), ids(question.answer + EOS))


def make_drawing_batch(processor, book: torch.Tensor, step: int, batch: int) -> dict:
    """Prompts (some empty, for guidance) and the tokens of their pictures: `ids` [B, N], padded at the end.

    `starts` [B] is where each picture begins, `first` [B, 64] where only the prompt can tell what comes.
    """
    tokenizer = processor.tokenizer
    scenes, prompts = choose_drawings(step, batch, focus=True)
    codes = nearest_codes(pixels_of(scenes), book)
    rows, starts = [], []
    for (prompt, blank), picture in zip(prompts, image_ids(tokenizer, codes).tolist(), strict=True):
        text = tokenizer(drawing_text("" if blank else prompt), add_special_tokens=False).input_ids
        rows.append(text + picture + [tokenizer.eos_token_id])
        starts.append(len(text))
    length = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
    return {"ids": ids, "starts": torch.tensor(starts), "codes": codes, "first": find_first_patches(codes)}


def drawing_text(prompt: str) -> str:
    """What the processor makes of a prompt with `return_for_image_generation`; empty for the unconditional branch."""
    return f"{BOS}{prompt}{IMAGE_PREFIX}"


def pieces_of(batch: dict, pad: int, pieces: int = PIECES) -> Iterator[dict]:
    """The rows of a batch sorted by length, in so many pieces, each cut to its longest row."""
    ids = batch["ids"]
    lengths = ids.shape[1] - (ids.flip(1) != pad).int().argmax(1)
    for rows in lengths.argsort().chunk(pieces):
        longest = int(lengths[rows].max())
        piece = {key: value if key == "spots" else value[rows] for key, value in batch.items()}
        for key in ("ids", "weights", "positions", "segments"):
            if key in piece:
                piece[key] = piece[key][:, :longest]
        if "mask" in piece:
            piece["mask"] = piece["mask"][..., :longest, :longest]
        yield piece


class Student(nn.Module):
    """The model, and heads on its middle layer that tell at every patch what it belongs to; thrown away after."""

    def __init__(self, model, processor):
        super().__init__()
        self.model = model
        self.pad = processor.tokenizer.pad_token_id
        self.first_code = processor.tokenizer.convert_tokens_to_ids(visual_token(0))
        self.sizes = (len(world.COLOURS), len(world.SHAPES), len(world.SIZES_PX), 9)
        self.heads = nn.Linear(model.config.text_config.hidden_size, sum(self.sizes) + 2 * GRID)
        model.model.vqmodel.requires_grad_(False)

    def understanding_loss(self, batch: dict) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss of the answers, a tenth of the picture's own codes, and a fifth of the patch heads'."""
        out = self.model.model.text_model(
            input_ids=batch["ids"],
            attention_mask=batch["mask"],
            position_ids=batch["positions"],
            use_cache=False,
            output_hidden_states=True,
        )
        answers, right = answer_loss(out.last_hidden_state, self.model.lm_head, batch)
        before = out.last_hidden_state[:, batch["spots"] - 1]
        codes = F.cross_entropy(self.code_logits(before).flatten(0, 1), batch["codes"].flatten())
        patches = self.patch_loss(out.hidden_states[HEADS_AFTER][:, batch["spots"]], batch["labels"])
        report = right | {"answers": answers.item(), "unprompted codes": codes.item(), "patches": patches.item()}
        return answers + 0.1 * codes + 0.2 * patches, report

    def code_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of the codes alone: [..., D] → [..., 2048]."""
        return F.linear(hidden, self.model.lm_head.weight[self.first_code : self.first_code + CODES])

    def patch_loss(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Colour, shape, size and cell of the thing at each patch, and its own row and column: hidden [B, 64, D]."""
        *things, row, column = self.heads(hidden).split((*self.sizes, GRID, GRID), -1)
        loss = sum(F.cross_entropy(t.flatten(0, 1), labels[..., i].flatten()) for i, t in enumerate(things))
        at = torch.arange(GRID, device=hidden.device).expand(len(hidden), GRID, GRID)
        loss = loss + F.cross_entropy(row.flatten(0, 1), at.mT.flatten())
        return loss + F.cross_entropy(column.flatten(0, 1), at.flatten())

    def drawing_loss(self, batch: dict) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean cross-entropy of all 75 tokens of a picture, and a quarter of `first_patch_loss` and `begin_loss`."""
        ids, codes = batch["ids"], batch["codes"]
        hidden = self.model.model.text_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        spots = batch["starts"][:, None] - 1 + torch.arange(PICTURE, device=ids.device)
        hidden = hidden.gather(1, spots[..., None].expand(-1, -1, hidden.shape[-1]))
        logits = self.model.lm_head(hidden)
        drawn = F.cross_entropy(logits.flatten(0, 1), ids.gather(1, spots + 1).flatten())
        of_codes = logits[:, CODE_SPOTS, self.first_code : self.first_code + CODES]
        which, begin = first_patch_loss(of_codes, codes, batch["first"]), begin_loss(of_codes, codes)
        report = {"drawing": drawn.item(), "first patches": which.item(), "beginnings": begin.item()}
        return drawn + 0.25 * which + 0.25 * begin, report
