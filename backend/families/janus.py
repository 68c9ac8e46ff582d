"""The Janus family (Janus, Janus-Pro, tiny-janus): templates, spans, and decoding of images.

Decoding follows `JanusForConditionalGeneration.generate` step by step, with the probe handed to every
pass, tokens streamed out, and a cancel flag looked at in between. Does not know stores or pages.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache, GenerationConfig, JanusForConditionalGeneration, LogitsProcessorList

from aia.intensity import Group
from aia.knockout import Knockout
from aia.probe import Probe
from backend.families.base import FamilyModel, Prefill, hide_unmade
from backend.families.decoding import TokenChooser, branches_of, guide, looking_on, stop_if
from backend.families.spans import SENTINEL, fill, tokenise
from backend.interface import CancelFlag
from backend.kept.captures import Sampling


class JanusModel(FamilyModel):
    """One loaded Janus model behind the `UnifiedModel` protocol."""

    model_class = JanusForConditionalGeneration
    # Small, or seen by every token: not worth the error of 4 bit.
    unquantised = (
        "vision_model",
        "vqmodel",
        "aligner",
        "generation_embeddings",
        "generation_aligner",
        "generation_head",
        "lm_head",
    )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches, the same for every picture."""
        vision = self.model.config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side

    # --- prompts and pictures ---

    def see(self, image: Image.Image) -> Image.Image:
        """The picture after the processor's resizing and padding."""
        return self._to_picture(self.pixels(image)[0].permute(1, 2, 0))

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """The processor's pixels [1, 3, H, W]."""
        return self.processor.image_processor(images=image, return_tensors="pt").pixel_values

    def _to_picture(self, pixels: torch.Tensor) -> Image.Image:
        """Undo the processor's normalisation: float [H, W, 3] → RGB picture."""
        settings = self.processor.image_processor
        values = pixels.float().cpu().numpy() * np.asarray(settings.image_std) + np.asarray(settings.image_mean)
        return Image.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))

    # --- spans ---

    def prefill(self, prompt: str, image: Image.Image | None = None) -> Prefill:
        """Tokenise a question about `image`, or a drawing prompt where there is none.

        Raises `UserError` when the prompt holds a control token.
        """
        self.refuse_control_tokens(prompt)
        text, spans = fill(self._expand(SENTINEL, image is not None), [(prompt.strip(), Group.PROMPT)])
        ids, groups = tokenise(self.tokenizer, text, spans, self.special_groups)
        inputs = {}
        if image is not None:
            inputs["pixel_values"] = self.pixels(image).to(self.device, self.model.dtype)
        return Prefill(
            torch.tensor(ids, device=self.device), torch.tensor(groups, device=self.device), self.grid, inputs
        )

    @property
    def special_groups(self) -> dict[int, Group]:
        """The group of every token that has one of its own."""
        return {
            self.tokenizer.bos_token_id: Group.BOS,
            self.tokenizer.boi_token_id: Group.BOI,
            self.tokenizer.eoi_token_id: Group.EOI,
            self.tokenizer.image_token_id: Group.IMAGE,
        }

    def _expand(self, prompt: str, with_image: bool) -> str:
        """The text that the processor tokenises: chat template, image placeholders spelled out."""
        content = [{"type": "image"}] * with_image + [{"type": "text", "text": prompt}]
        chat = [{"role": "user", "content": content}]
        if with_image:
            return self.spell_image(chat, add_generation_prompt=True)
        return self.processor.apply_chat_template(chat, add_generation_prompt=True) + self.processor.image_start_token

    def spell_image(self, chat: list[dict], **settings) -> str:
        """A chat in the template, its image placeholders spelled out."""
        whole = self.processor.apply_chat_template(chat, **settings)
        return whole.replace(self.processor.image_token, self.processor.replace_image_token({}, 0))

    # --- generation ---

    @property
    def drawing_codes(self) -> torch.Tensor:
        return torch.arange(self.model.config.vq_config.num_embeddings, device=self.device)

    @torch.inference_mode()
    def image_codes(
        self,
        prefill: Prefill,
        sampling: Sampling,
        probe: Probe | None = None,
        cancel: CancelFlag | None = None,
        knockout: Knockout | None = None,
    ) -> Iterator[int]:
        """The image codes in raster order, with classifier-free guidance where it is above 1.

        The unconditional branch is the prompt with every token but the first and begin-of-image
        replaced by padding, as in `JanusForConditionalGeneration.generate`.
        """
        choose = TokenChooser(sampling)
        cache = DynamicCache(config=self.model.config.text_config)
        embeds = self.model.get_input_embeddings()(self._branches(prefill, sampling))
        passing = looking_on(probe, knockout)
        for _ in range(self.grid[0] * self.grid[1]):
            stop_if(cancel)
            output = self.model.model.language_model(
                inputs_embeds=embeds, past_key_values=cache, use_cache=True, **passing
            )
            scores = self.model.model.generation_head(output.last_hidden_state[:, -1])
            code = choose(guide(scores, sampling.guidance))
            yield code
            self.extend(probe, len(embeds))
            embeds = self.model.prepare_embeddings_for_image_generation(
                torch.full((len(embeds), 1), code, device=self.device)
            )

    def pass_drawing(self, prefill: Prefill, codes: list[int], probe: Probe) -> None:
        """One pass of a drawing prompt and the image codes made."""
        embeds = self.model.get_input_embeddings()(prefill.ids[None])
        if codes:
            made = torch.tensor([codes], device=self.device)
            embeds = torch.cat([embeds, self.model.prepare_embeddings_for_image_generation(made)], 1)
        self.model.model.language_model(inputs_embeds=embeds, use_cache=False, probe=probe)

    def _branches(self, prefill: Prefill, sampling: Sampling) -> torch.Tensor:
        """Input ids [C, N]: the prompt, and where guidance is on the blanked prompt."""
        if branches_of(sampling) == 1:
            return prefill.ids[None]
        return torch.stack([prefill.ids, self.blank(prefill.ids)])

    def blank(self, ids: torch.Tensor) -> torch.Tensor:
        """A drawing prompt's ids [N] with every token but bos and begin-of-image replaced by padding."""
        kept = torch.isin(ids, ids.new_tensor([self.tokenizer.bos_token_id, self.tokenizer.boi_token_id]))
        return ids.masked_fill(~kept, self.tokenizer.pad_token_id)

    @torch.inference_mode()
    def draw(self, codes: list[int], grid: tuple[int, int] | None = None) -> Image.Image:
        """Decode image codes; patches whose code is not made yet are transparent."""
        total = self.grid[0] * self.grid[1]
        padded = codes + codes[:1] * (total - len(codes))
        pixels = self.model.decode_image_tokens(torch.tensor([padded], device=self.device))[0]
        return hide_unmade(self._to_picture(pixels), len(codes), self.grid)

    # --- batches, without capture ---

    @torch.inference_mode()
    def answer_batch(self, images: list[Image.Image], prompts: list[str], max_new_tokens: int = 64) -> list[str]:
        """Greedy answers, by `transformers`' own batched generation with left padding."""
        texts = [self._expand(prompt, True) for prompt in prompts]
        encoded = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt").to(self.device)
        pixels = torch.cat([self.pixels(image) for image in images]).to(self.device, self.model.dtype)
        settings = self._generation_settings(do_sample=False, max_new_tokens=max_new_tokens)
        output = self.model.generate(**encoded, pixel_values=pixels, generation_config=settings)
        return self.tokenizer.batch_decode(output[:, encoded.input_ids.shape[1] :], skip_special_tokens=True)

    @torch.inference_mode()
    def draw_batch(self, prompts: list[str], sampling: Sampling) -> list[Image.Image]:
        """Drawings by `transformers`' own batched generation; one seed for the whole batch."""
        texts = [self._expand(prompt, False) for prompt in prompts]
        encoded = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt").to(self.device)
        settings = self._generation_settings(
            do_sample=sampling.temperature > 0,
            temperature=sampling.temperature or 1.0,
            guidance_scale=sampling.guidance,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sampling.seed)
            codes = self.model.generate(
                **encoded,
                generation_mode="image",
                generation_config=settings,
                logits_processor=LogitsProcessorList([_keep_prompted] if branches_of(sampling) == 1 else []),
            )
        return [self._to_picture(pixels) for pixels in self.model.decode_image_tokens(codes)]

    def _generation_settings(self, **changes) -> GenerationConfig:
        """The checkpoint's own generation settings with these changes, sampling from all tokens."""
        settings = copy.deepcopy(self.model.generation_config)
        settings.update(max_length=None, top_k=0, top_p=1.0, use_cache=True, **changes)
        # transformers 5.23 reads this field when it draws but drops it when it loads generation_config.json.
        settings.generation_kwargs = {"boi_token_id": self.tokenizer.boi_token_id}
        return settings


def _keep_prompted(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Without guidance: transformers 5.23 computes the blanked prompts all the same, and draws from both halves."""
    return scores[: len(scores) // 2]
