"""The Emu3 family (Emu3-Chat, Emu3-Gen, tiny-emu3): words and image tokens in one vocabulary, any size of picture.

A seen picture and a drawing have the same form, "<|image start|>rows*columns<|image token|>", then the patches row by
row, a row end after each, then an end of picture and "<|image end|>". Row ends count as image tokens in every
definition, as the slices from begin to end of image in the authors' code do; they are not on the map of patches.

A question stands in the chat template with its system sentence. A drawing prompt stands as it is between the first
token and the size, as `Emu3Processor` puts it; the authors' own examples add ". masterpiece, film grained, best
quality." to it, which is left to the user. The branch without the prompt has nothing between the first token and the
size, as one in twenty sequences of the authors' training has (`null_prompt_prob` in emu3/train/datasets.py).
Does not know stores or pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, Emu3ForConditionalGeneration, GenerationConfig

from aia.intensity import PAD_GROUP, Group, group_index
from aia.knockout import Knockout
from aia.probe import Probe
from backend.families.base import IMAGE_GROUPS, FamilyModel, Prefill, hide_unmade
from backend.families.decoding import TokenChooser, branches_of, guide, looking_on, positions_of, stop_if
from backend.families.spans import SENTINEL, fill, tokenise
from backend.interface import CancelFlag, UserError
from backend.kept.captures import CaptureKey, Sampling
from backend.models.drawing_sizes import grid_of

SYSTEM = "You are a helpful assistant."  # Emu3-Chat was trained with it; its template adds none by itself


class Emu3Model(FamilyModel):
    """One loaded Emu3 model behind the `UnifiedModel` protocol."""

    model_class = Emu3ForConditionalGeneration
    unquantised = ("vqmodel", "lm_head")

    @cached_property
    def visual_ids(self) -> torch.Tensor:
        """Token ids of the patches, int64 [codes]."""
        return torch.tensor(self.model.vocabulary_mapping.image_tokens, device=self.device)

    @property
    def row_end(self) -> int:
        return self.model.vocabulary_mapping.eol_token_id

    @property
    def special_groups(self) -> dict[int, Group]:
        """The group of every token of a prompt that has one of its own."""
        return {
            self.tokenizer.bos_token_id: Group.BOS,
            self.tokenizer.boi_token_id: Group.BOI,
            self.tokenizer.eoi_token_id: Group.EOI,
            self.tokenizer.image_token_id: Group.IMAGE,
        }

    # --- pictures ---

    def see(self, image: Image.Image) -> Image.Image:
        """The picture after the processor's resizing, its aspect ratio nearly kept. Raises `UserError`."""
        return self._to_picture(self.pixels(image)[0])

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """The processor's pixels [1, 3, H, W]. Raises `UserError` for a shape that it refuses."""
        try:
            return self.processor.image_processor(images=[image.convert("RGB")], return_tensors="pt").pixel_values
        except ValueError as error:
            raise UserError(
                f"Expected a picture that {self.name} can resize, got {image.width} × {image.height} pixels; "
                "cut it to a less extreme shape."
            ) from error

    def _to_picture(self, pixels: torch.Tensor) -> Image.Image:
        """Undo the processor's normalisation: float [3, H, W] → RGB picture."""
        settings = self.processor.image_processor
        values = pixels.permute(1, 2, 0).float().cpu().numpy()
        values = values * np.asarray(settings.image_std) + np.asarray(settings.image_mean)
        return Image.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))

    @torch.no_grad()
    def image_tokens(self, image: Image.Image) -> torch.Tensor:
        """Token ids of a picture by the model's own VQ tokenizer: int64 [rows, columns + 1], row ends included."""
        pixels = self.pixels(image).to(self.device, self.model.dtype)
        rows, columns = (side // self.processor.downsample_ratio for side in pixels.shape[-2:])
        sizes = torch.tensor([pixels.shape[-2:]], device=self.device)
        return self.model.model.get_image_tokens(pixels, sizes).long().view(rows, columns + 1)

    # --- spans ---

    def prefill(self, prompt: str, image: Image.Image | None = None) -> Prefill:
        """Tokenise a question about `image`, or a drawing prompt where there is none. Raises `UserError`."""
        if image is None:
            return self.drawing_prefill(prompt)
        self.refuse_control_tokens(prompt)
        seen = self.image_tokens(image)
        text, spans = fill(self.place_image(self.render([None]), seen), [(prompt.strip(), Group.PROMPT)])
        ids, groups = self.put_in_image(*tokenise(self.tokenizer, text, spans, self.special_groups), seen)
        rows, columns = seen.shape[0], seen.shape[1] - 1
        places = positions_of(groups, IMAGE_GROUPS).view(rows, columns + 1)[:, :columns]
        return Prefill(ids, groups, (rows, columns), patches=places.flatten())

    def render(self, answers: list[str | None]) -> str:
        """The chat template: a picture, and sentinels for the question before each answer; None is left to be made."""
        chat = [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}]
        for number, answer in enumerate(answers):
            content = [{"type": "image"}] * (number == 0) + [{"type": "text", "text": SENTINEL}]
            chat.append({"role": "user", "content": content})
            if answer is not None:
                chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        whole = self.processor.apply_chat_template(chat, add_generation_prompt=answers[-1] is None)
        return self.processor.bos_token + whole.rstrip()

    def place_image(self, frame: str, seen: torch.Tensor) -> str:
        """Spell out a template's image placeholder for a picture of tokens [rows, columns + 1]."""
        factor = self.processor.downsample_ratio
        size = (seen.shape[0] * factor, (seen.shape[1] - 1) * factor)
        placeholder = self.processor.replace_image_token({"image_sizes": [size]}, 0)
        return frame.replace(self.processor.image_token, placeholder)

    def put_in_image(self, ids: list[int], groups: list[int], seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and groups as tensors [N], the placeholders replaced by the picture's tokens."""
        placed = torch.tensor(ids, device=self.device)
        placed[placed == self.tokenizer.image_token_id] = seen.flatten()
        return placed, torch.tensor(groups, device=self.device)

    def drawing_prefill(self, prompt: str, size: str = "") -> Prefill:
        """Tokenise a drawing prompt; `size` is rows and columns of patches, or an aspect. Raises `UserError`."""
        self.refuse_control_tokens(prompt)
        rows, columns = grid_of(size, self.usual_grid)
        processor = self.processor
        prefix = f"{processor.image_start_token}{rows}*{columns}{processor.fake_token_around_image}"
        text, spans = fill(processor.bos_token + SENTINEL + prefix, [(prompt.strip(), Group.PROMPT)])
        ids, groups = tokenise(self.tokenizer, text, spans, self.special_groups)
        return Prefill(torch.tensor(ids, device=self.device), torch.tensor(groups, device=self.device), (rows, columns))

    @property
    def usual_grid(self) -> tuple[int, int]:
        """Rows and columns of a drawing of the processor's own area and ratio, within what the checkpoint reads."""
        processor = self.processor
        area = min(processor.image_area, processor.image_processor.max_pixels)
        return processor.calculate_generate_size(processor.ratio, area, processor.downsample_ratio)

    def generation_key(self, prompt: str, sampling: Sampling) -> CaptureKey:
        """Sizes by rows and columns, and the usual one by no name, so that equal work has one id."""
        grid = grid_of(sampling.size, self.usual_grid)
        size = "" if grid == tuple(self.usual_grid) else "{}x{}".format(*grid)
        return super().generation_key(prompt, replace(sampling, size=size))

    def blank(self, prefill: Prefill) -> Prefill:
        """A drawing prompt without its words: what the branch without the prompt begins with."""
        kept = prefill.groups != group_index(Group.PROMPT)
        return replace(prefill, ids=prefill.ids[kept], groups=prefill.groups[kept])

    # --- generation ---

    def drawing_steps(self, prefill: Prefill) -> tuple[int, int]:
        """A row end follows each row of patches."""
        rows, columns = prefill.grid
        return rows * (columns + 1), columns + 1

    def branch_groups(self, prefill: Prefill, sampling: Sampling) -> torch.Tensor:
        """Key groups [C, N]; the branch without the prompt is shorter and padded on the left."""
        return self._left_padded(self._branches([prefill], sampling))[1]

    def _branches(self, prefills: list[Prefill], sampling: Sampling) -> list[Prefill]:
        """The prompts, and with guidance as many without their words."""
        return prefills + [self.blank(prefill) for prefill in prefills] * (branches_of(sampling) == 2)

    def _left_padded(self, prefills: list[Prefill]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and groups [B, N]."""
        pad = self.tokenizer.pad_token_id
        ids = pad_sequence([p.ids for p in prefills], batch_first=True, padding_value=pad, padding_side="left")
        groups = [p.groups for p in prefills]
        return ids, pad_sequence(groups, batch_first=True, padding_value=PAD_GROUP, padding_side="left")

    @property
    def drawing_codes(self) -> torch.Tensor:
        return self.visual_ids.sort().values

    def image_codes(
        self,
        prefill: Prefill,
        sampling: Sampling,
        probe: Probe | None = None,
        cancel: CancelFlag | None = None,
        knockout: Knockout | None = None,
    ) -> Iterator[int]:
        """Token ids of the patches in raster order and of the row ends, with guidance where it is above 1."""
        for tokens in self._made_tokens([prefill], sampling, probe, cancel, knockout):
            yield tokens[0]

    @torch.inference_mode()
    def _made_tokens(
        self,
        prefills: list[Prefill],
        sampling: Sampling,
        probe: Probe | None = None,
        cancel: CancelFlag | None = None,
        knockout: Knockout | None = None,
    ) -> Iterator[list[int]]:
        """One image token of each drawing per step; all drawings have one size.

        Patches are chosen among the visual tokens alone and row ends are set, as by `prefix_allowed_tokens_fn` in
        transformers' documentation of Emu3.
        """
        choose, cache = TokenChooser(sampling), DynamicCache(config=self.text_config)
        ids, groups = self._left_padded(self._branches(prefills, sampling))
        total, row = self.drawing_steps(prefills[0])
        seen = torch.nn.functional.pad(groups != PAD_GROUP, (0, total), value=True)
        positions = (seen.cumsum(1) - 1).clamp(min=0)
        padded, row_ends = not seen.all(), [self.row_end] * len(prefills)
        start, end, passing = 0, ids.shape[1], looking_on(probe, knockout)
        for made in range(1, total + 1):
            stop_if(cancel)
            hidden = self.model.model.text_model(
                input_ids=ids,
                attention_mask=seen[:, :end] if padded else None,
                position_ids=positions[:, start:end],
                past_key_values=cache,
                use_cache=True,
                **passing,
            ).last_hidden_state[:, -1]
            tokens = self._choose(hidden, len(prefills), sampling, choose) if made % row else row_ends
            yield tokens
            self.extend(probe, len(ids))
            ids = torch.tensor(tokens * branches_of(sampling), device=self.device)[:, None]
            start, end = end, end + 1

    def pass_drawing(self, prefill: Prefill, codes: list[int], probe: Probe) -> None:
        """One pass of a drawing prompt, the patches made and their row ends."""
        ids = torch.cat([prefill.ids, prefill.ids.new_tensor(codes)])
        self.model.model.text_model(input_ids=ids[None], use_cache=False, probe=probe)

    def _choose(self, hidden: torch.Tensor, drawings: int, sampling: Sampling, choose: TokenChooser) -> list[int]:
        """A visual token for each drawing: hidden [C · drawings, D] → ids."""
        scores = self.model.lm_head(hidden)[:, self.visual_ids].unflatten(0, (-1, drawings))  # [C, drawings, codes]
        chosen = [choose(guide(scores[:, number], sampling.guidance)) for number in range(drawings)]
        return self.visual_ids[chosen].tolist()

    @torch.inference_mode()
    def draw(self, codes: list[int], grid: tuple[int, int]) -> Image.Image:
        """Decode image tokens; patches that are not made yet are transparent."""
        rows, columns = grid
        padded = codes + codes[:1] * (rows * (columns + 1) - len(codes))
        tokens = torch.tensor(padded, device=self.device).view(1, rows, columns + 1)
        pixels = self.model.model.vqmodel.decode(self.model.vocabulary_mapping.convert_bpe2img(tokens))[0]
        return hide_unmade(self._to_picture(pixels), len(codes) - len(codes) // (columns + 1), grid)

    def describe_code(self, code: int) -> str:
        """A patch by the number of its code."""
        number = self.model.vocabulary_mapping.bpe2img.get(code)
        return "row end" if number is None else f"code {number}"

    # --- batches, without capture ---

    @torch.inference_mode()
    def answer_batch(self, images: list[Image.Image], prompts: list[str], max_new_tokens: int = 64) -> list[str]:
        """Greedy answers, by `transformers`' own batched generation with left padding.

        Pictures are tokenised one by one: in a padded batch their borders would become other tokens.
        """
        asked = [self.prefill(prompt, image) for prompt, image in zip(prompts, images, strict=True)]
        ids, groups = self._left_padded(asked)
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(self.stop_tokens()),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        output = self.model.generate(ids, attention_mask=(groups != PAD_GROUP).long(), generation_config=settings)
        return self.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)

    @torch.inference_mode()
    def draw_batch(self, prompts: list[str], sampling: Sampling) -> list[Image.Image]:
        """Drawings in one batch, step by step as the streamed ones; one seed for the whole batch.

        Not by `transformers`' own generation, which takes the list of all visual tokens apart at every step.
        """
        prefills = [self.drawing_prefill(prompt, sampling.size) for prompt in prompts]
        made = list(self._made_tokens(prefills, sampling))
        return [self.draw(list(codes), prefills[0].grid) for codes in zip(*made, strict=True)]
