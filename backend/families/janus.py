"""The Janus family (Janus, Janus-Pro, tiny-janus): templates, spans, cached decoding of text and images.

Decoding follows `JanusForConditionalGeneration.generate` step by step, with the probe handed to every
pass, tokens streamed out, and a cancel flag looked at in between. Does not know stores or pages.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache, GenerationConfig, JanusForConditionalGeneration

from aia.intensity import GROUPS, Group, Task, group_index
from aia.probe import Probe
from backend.captures import Capture, CaptureKey, Sampling
from backend.interface import CancelFlag, Cancelled, Event, Finished, PictureGrown, TextGrown, UserError
from backend.loading import four_bit_settings, load_pretrained, weights_revision
from backend.pictures import picture_to_png, pixels_sha256
from backend.specs import ModelSpec

_SENTINEL = "\ue000"  # a private-use character: stands for the prompt while its place is looked up


@dataclass(frozen=True)
class Prefill:
    """A tokenised prompt: ids and groups int64 [N], pixels [1, 3, H, W] or None."""

    ids: torch.Tensor
    groups: torch.Tensor
    pixels: torch.Tensor | None = None

    @property
    def length(self) -> int:
        return len(self.ids)


class JanusModel:
    """One loaded Janus model behind the `UnifiedModel` protocol."""

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

    def __init__(self, spec: ModelSpec, four_bit: bool = False):
        settings = four_bit_settings(self.unquantised) if four_bit else None
        self.model, self.processor = load_pretrained(spec, JanusForConditionalGeneration, settings)
        self.tokenizer = self.processor.tokenizer
        self.name = spec.name
        self.adapter, self.adapted = "", None
        self.revision = weights_revision(spec)
        self.precision = "nf4" if four_bit else str(self.model.dtype).removeprefix("torch.")
        self.device = self.model.device
        self.context = self.model.config.text_config.max_position_embeddings
        side = self.model.config.vision_config.image_size // self.model.config.vision_config.patch_size
        self.grid = (side, side)

    # --- prompts and pictures ---

    def unknown_words(self, prompt: str) -> list[str]:
        """Words and signs that become the unknown token, in order, each once; empty for a tokenizer without one."""
        words = list(dict.fromkeys(re.findall(r"\w+|[^\w\s]+", prompt)))
        if self.tokenizer.unk_token_id is None or not words:
            return []
        encoded = self.tokenizer(words, add_special_tokens=False).input_ids
        return [w for w, ids in zip(words, encoded, strict=True) if self.tokenizer.unk_token_id in ids]

    def see(self, image: Image.Image) -> Image.Image:
        """The picture after the processor's resizing and padding."""
        return self._to_picture(self.pixels(image)[0].permute(1, 2, 0))

    def understanding_key(self, image: Image.Image, prompt: str, sampling: Sampling) -> CaptureKey:
        """The key of the capture that `understand` would make. Cheap: no model runs."""
        return self._key(Task.UNDERSTANDING, prompt, pixels_sha256(self.see(image)), sampling)

    def generation_key(self, prompt: str, sampling: Sampling) -> CaptureKey:
        """The key of the capture that `generate` would make. Cheap: no model runs."""
        return self._key(Task.GENERATION, prompt, "", sampling)

    def _key(self, task: Task, prompt: str, image_sha256: str, sampling: Sampling) -> CaptureKey:
        return CaptureKey(self.name, self.revision, self.precision, task, prompt, image_sha256, sampling, self.adapter)

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

        Raises `UserError` when the prompt holds a control token or is too long for the model.
        """
        self.refuse_control_tokens(prompt)
        text = self._expand(prompt, image is not None)
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        start = self._expand(_SENTINEL, image is not None).index(_SENTINEL)
        groups = self._groups(encoded.input_ids, encoded.offset_mapping, start, start + len(prompt.strip()))
        pixels = None if image is None else self.pixels(image).to(self.device, self.model.dtype)
        ids = torch.tensor(encoded.input_ids, device=self.device)
        return Prefill(ids, torch.tensor(groups, device=self.device), pixels)

    def _expand(self, prompt: str, with_image: bool) -> str:
        """The text that the processor tokenises: chat template, image placeholders spelled out."""
        content = [{"type": "image"}] * with_image + [{"type": "text", "text": prompt}]
        chat = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        if not with_image:
            return chat + self.processor.image_start_token
        image = self.processor.replace_image_token({}, 0)
        return chat.replace(self.processor.image_token, image)

    def _groups(self, ids: list[int], offsets: list[tuple[int, int]], start: int, end: int) -> list[int]:
        """The group of every position: tokens that overlap the prompt's characters are prompt."""
        named = {
            self.tokenizer.bos_token_id: Group.BOS,
            self.tokenizer.boi_token_id: Group.BOI,
            self.tokenizer.eoi_token_id: Group.EOI,
            self.tokenizer.image_token_id: Group.IMAGE,
        }
        groups = []
        for token, (first, last) in zip(ids, offsets, strict=True):
            inside = first < end and last > start
            groups.append(named.get(token, Group.PROMPT if inside else Group.TEMPLATE))
        if Group.IMAGE in groups:
            groups[len(groups) - 1 - groups[::-1].index(Group.IMAGE)] = Group.IMAGE_LAST
        return [group_index(g) for g in groups]

    def refuse_control_tokens(self, prompt: str) -> None:
        """Raise `UserError` when a text holds a token that the tokenizer would take as control."""
        for token in self.tokenizer.get_added_vocab():
            if token in prompt:
                raise UserError(f"The prompt contains “{token}”, which is a control token of {self.name}; remove it.")

    def _check_length(self, prefill: Prefill, new_tokens: int) -> None:
        if prefill.length + new_tokens > self.context:
            raise UserError(
                f"Expected at most {self.context:,} tokens for {self.name}, got {prefill.length:,} of prompt and "
                f"template with {new_tokens:,} to come; shorten the prompt or ask for fewer tokens."
            )

    # --- understanding ---

    def understand(
        self, image: Image.Image, prompt: str, sampling: Sampling, cancel: CancelFlag | None = None
    ) -> Iterator[Event]:
        """Answer the prompt about the image, token by token; then `Finished`."""
        started = time.perf_counter()
        prefill = self.prefill(prompt, image)
        self._check_length(prefill, sampling.max_new_tokens)
        probe = self._probe(prefill, 1, (Group.IMAGE, Group.IMAGE_LAST))
        fed: list[int] = []
        text = ""
        for token in self.answer_tokens(prefill, sampling, probe, cancel):
            fed.append(token)
            text = self.tokenizer.decode(fed, skip_special_tokens=True)
            yield TextGrown(text)
        key = self.understanding_key(image, prompt, sampling)
        strings = [self.tokenizer.decode([token]) for token in fed]
        yield Finished(self._capture(key, text, prefill, probe, strings, self.see(image), started), cached=False)

    @torch.inference_mode()
    def answer_tokens(
        self, prefill: Prefill, sampling: Sampling, probe: Probe | None = None, cancel: CancelFlag | None = None
    ) -> Iterator[int]:
        """Token ids of the answer, without the end token."""
        choose = TokenChooser(sampling)
        cache = DynamicCache(config=self.model.config.text_config)
        inputs = {"input_ids": prefill.ids[None], "pixel_values": prefill.pixels}
        for _ in range(sampling.max_new_tokens):
            stop_if(cancel)
            passing = {} if probe is None else {"probe": probe}
            logits = self.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1, **passing).logits
            token = choose(logits[:, -1])
            if token == self.tokenizer.eos_token_id:
                return
            yield token
            self._extend(probe, 1)
            inputs = {"input_ids": torch.tensor([[token]], device=self.device)}

    # --- generation ---

    def generate(self, prompt: str, sampling: Sampling, cancel: CancelFlag | None = None) -> Iterator[Event]:
        """Draw the prompt, one row of patches at a time; then `Finished`."""
        started = time.perf_counter()
        prefill = self.prefill(prompt)
        total = self.grid[0] * self.grid[1]
        self._check_length(prefill, total)
        probe = self._probe(prefill, branches_of(sampling), (Group.PROMPT,))
        codes: list[int] = []
        for code in self.image_codes(prefill, sampling, probe, cancel):
            codes.append(code)
            if len(codes) % self.grid[1] == 0 and len(codes) < total:
                yield PictureGrown(self.draw(codes), len(codes), total)
        picture = self.draw(codes)
        strings = [f"code {code}" for code in codes[:-1]]
        key = self.generation_key(prompt, sampling)
        yield Finished(self._capture(key, "", prefill, probe, strings, picture, started), cached=False)

    @torch.inference_mode()
    def image_codes(
        self, prefill: Prefill, sampling: Sampling, probe: Probe | None = None, cancel: CancelFlag | None = None
    ) -> Iterator[int]:
        """The image codes in raster order, with classifier-free guidance where it is above 1.

        The unconditional branch is the prompt with every token but the first and begin-of-image
        replaced by padding, as in `JanusForConditionalGeneration.generate`.
        """
        choose = TokenChooser(sampling)
        cache = DynamicCache(config=self.model.config.text_config)
        embeds = self.model.get_input_embeddings()(self._branches(prefill, sampling))
        for _ in range(self.grid[0] * self.grid[1]):
            stop_if(cancel)
            passing = {} if probe is None else {"probe": probe}
            output = self.model.model.language_model(
                inputs_embeds=embeds, past_key_values=cache, use_cache=True, **passing
            )
            scores = self.model.model.generation_head(output.last_hidden_state[:, -1])
            code = choose(guide(scores, sampling.guidance))
            yield code
            self._extend(probe, len(embeds))
            embeds = self.model.prepare_embeddings_for_image_generation(
                torch.full((len(embeds), 1), code, device=self.device)
            )

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
    def draw(self, codes: list[int]) -> Image.Image:
        """Decode image codes; patches whose code is not made yet are transparent."""
        total, (rows, columns) = self.grid[0] * self.grid[1], self.grid
        padded = codes + codes[:1] * (total - len(codes))
        pixels = self.model.decode_image_tokens(torch.tensor([padded], device=self.device))[0]
        picture = self._to_picture(pixels)
        if len(codes) == total:
            return picture
        made = np.arange(total).reshape(rows, columns) < len(codes)
        alpha = Image.fromarray(made.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.NEAREST)
        picture.putalpha(alpha)
        return picture

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
            codes = self.model.generate(**encoded, generation_mode="image", generation_config=settings)
        return [self._to_picture(pixels) for pixels in self.model.decode_image_tokens(codes)]

    def _generation_settings(self, **changes) -> GenerationConfig:
        """The checkpoint's own generation settings with these changes, sampling from all tokens."""
        settings = copy.deepcopy(self.model.generation_config)
        settings.update(max_length=None, top_k=0, top_p=1.0, use_cache=True, **changes)
        # transformers 5.23 reads this field when it draws but drops it when it loads generation_config.json.
        settings.generation_kwargs = {"boi_token_id": self.tokenizer.boi_token_id}
        return settings

    # --- captures ---

    def _probe(self, prefill: Prefill, branches: int, cross: tuple[Group, ...]) -> Probe:
        return Probe(prefill.groups.expand(branches, -1), rows="last", cross=positions_of(prefill.groups, cross))

    def _extend(self, probe: Probe | None, branches: int) -> None:
        if probe is not None:
            made = torch.full((branches, 1), group_index(Group.GENERATED), device=self.device)
            probe.extend(made)

    def _capture(
        self,
        key: CaptureKey,
        text: str,
        prefill: Prefill,
        probe: Probe,
        fed: list[str],
        picture: Image.Image,
        started: float,
    ) -> Capture:
        """Assemble a capture; the row of a token that was made but never fed back does not exist."""
        mass = probe.mass().float().cpu().numpy()  # [C, L, H, Q, G]
        rows = mass.shape[3]
        fed = fed[: rows - 1]
        cross_groups = (Group.PROMPT,) if key.task == Task.GENERATION else (Group.IMAGE, Group.IMAGE_LAST)
        return Capture(
            key=key,
            text=text,
            tokens=(*(self.tokenizer.decode([i]) for i in prefill.ids.tolist()), *fed),
            token_groups=(*(GROUPS[g].value for g in prefill.groups.tolist()), *[Group.GENERATED.value] * len(fed)),
            grid=self.grid,
            seconds=time.perf_counter() - started,
            created=time.time(),
            picture_png=picture_to_png(picture),
            mass=mass,
            query_positions=(prefill.length - 1 + np.arange(rows)).astype(np.int32),
            cross=probe.cross_attention()[0].cpu().numpy().astype(np.float16),
            cross_positions=positions_of(prefill.groups, cross_groups).cpu().numpy().astype(np.int32),
        )


class TokenChooser:
    """Greedy at temperature 0, else a seeded draw; the draw is on the CPU so that a seed means one thing."""

    def __init__(self, sampling: Sampling):
        self.temperature = sampling.temperature
        self.generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, logits: torch.Tensor) -> int:
        """Choose from logits [1, V]."""
        if self.temperature == 0:
            return int(logits[0].argmax())
        chances = torch.softmax(logits[0].float().cpu() / self.temperature, -1)
        return int(torch.multinomial(chances, 1, generator=self.generator))


def branches_of(sampling: Sampling) -> int:
    """2 with classifier-free guidance (conditional, unconditional), else 1."""
    return 2 if sampling.guidance > 1 else 1


def guide(scores: torch.Tensor, guidance: float) -> torch.Tensor:
    """Classifier-free guidance over scores [C, V] → [1, V]; a single branch passes through."""
    if len(scores) == 1:
        return scores
    conditional, unconditional = scores
    return (unconditional + guidance * (conditional - unconditional))[None]


def positions_of(groups: torch.Tensor, wanted: tuple[Group, ...]) -> torch.Tensor:
    """Positions whose group is one of `wanted`: groups [N] → int64 [X]."""
    return torch.isin(groups, groups.new_tensor([group_index(g) for g in wanted])).nonzero().flatten()


def stop_if(cancel: CancelFlag | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled
