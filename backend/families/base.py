"""What every family does alike: keys, checks, streamed decoding under the probe, and the capture of it.

A family says how its prompts are tokenised, what its positions are, and how its image tokens are made; see the methods
that raise `NotImplementedError`. Does not know any family's tokens, nor stores or pages.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, DynamicCache, PreTrainedConfig, PreTrainedModel, ProcessorMixin

from aia.intensity import GROUPS, Group, Task, group_index
from aia.knockout import Knockout
from aia.probe import Probe
from backend.families.decoding import TokenChooser, branches_of, looking_on, positions_of, stop_if
from backend.interface import CancelFlag, Event, Finished, Looks, PictureGrown, TextGrown, UserError
from backend.kept.captures import MOST_DRAWN, Capture, CaptureKey, Sampling
from backend.kept.rounding import round_if_large
from backend.models.loading import load_pretrained, name_precision, quantisation_settings, weights_revision
from backend.models.specs import ModelSpec, Precision
from backend.pictures import picture_to_png, pixels_sha256

SLOW_PREVIEW_SECONDS = 2.0  # the large models' pictures take longer to draw than a row of their tokens to make
PREVIEW_REST = 10  # times as long as a slow one took passes before the next
IMAGE_GROUPS = (Group.IMAGE, Group.IMAGE_LAST)


@dataclass(frozen=True)
class Prefill:
    """A tokenised prompt.

    ids and groups int64 [N]; `inputs` is what the model's first pass wants besides ids, such as pixels; `grid` the rows
    and columns of patches of the picture seen or to be drawn; `patches` the positions of a seen picture's patches in
    raster order, int64 [rows · columns], by default all image tokens.
    """

    ids: torch.Tensor
    groups: torch.Tensor
    grid: tuple[int, int]
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    patches: torch.Tensor | None = None

    @property
    def length(self) -> int:
        return len(self.ids)


class FamilyModel:
    """One loaded model behind the `UnifiedModel` protocol; each family is a subclass."""

    model_class: ClassVar[type[PreTrainedModel]]
    unquantised: ClassVar[tuple[str, ...]] = ()  # parts that are small, or seen by every token
    language_config: ClassVar[str] = "text_config"  # the language model's part of the configuration; empty for all

    def __init__(self, spec: ModelSpec, precision: Precision = Precision.FULL):
        settings = quantisation_settings(precision, self.unquantised)
        self.model, self.processor = load_pretrained(
            spec, self.model_class, settings, self.load_processor, self.language_config
        )
        self.tokenizer = self.processor.tokenizer
        self.name, self.tasks = spec.name, spec.tasks
        self.adapter, self.adapted = "", None
        self.revision = weights_revision(spec)
        self.precision = name_precision(precision, self.model.dtype)
        self.device = self.model.device

    # --- what a family says ---

    @classmethod
    def load_processor(cls, source: str, revision: str | None = None) -> ProcessorMixin:
        """The tokenizer and image processor of a folder or hub id."""
        return AutoProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)

    @property
    def text_config(self) -> PreTrainedConfig:
        """The language model's own configuration."""
        return getattr(self.model.config, self.language_config) if self.language_config else self.model.config

    def see(self, image: Image.Image) -> Image.Image:
        """The picture as the model gets it after resizing and padding."""
        raise NotImplementedError

    def prefill(self, prompt: str, image: Image.Image | None = None) -> Prefill:
        """Tokenise a question about `image`, or a drawing prompt where there is none. Raises `UserError`."""
        raise NotImplementedError

    def drawing_prefill(self, prompt: str, size: str = "") -> Prefill:
        """Tokenise a drawing prompt; `size` as in `Sampling`. Raises `UserError`, also for a size it cannot draw."""
        if size:
            raise UserError(f"Expected no size for {self.name}, which draws one size only, got {size}; leave it out.")
        return self.prefill(prompt)

    def first_inputs(self, prefill: Prefill) -> dict[str, torch.Tensor]:
        """What the pass of a prompt wants."""
        return {"input_ids": prefill.ids[None], **prefill.inputs}

    def next_inputs(self, prefill: Prefill, token: int, made: int) -> dict[str, torch.Tensor]:
        """What the pass of an answer token wants; `made` counts the answer tokens before it."""
        return {"input_ids": torch.tensor([[token]], device=self.device)}

    def later_inputs(self, whole: Prefill, start: int) -> dict[str, torch.Tensor]:
        """What a pass of the tokens from `start` on wants: those before are in the cache, pictures among them."""
        inputs = self.first_inputs(whole)
        return {name: inputs[name][..., start:] for name in ("input_ids", "position_ids") if name in inputs}

    def stop_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return frozenset({self.tokenizer.eos_token_id})

    def image_codes(
        self,
        prefill: Prefill,
        sampling: Sampling,
        probe: Probe | None = None,
        cancel: CancelFlag | None = None,
        knockout: Knockout | None = None,
    ) -> Iterator[int]:
        """The image tokens in the order they are made; `probe` and `knockout` go to every pass."""
        raise NotImplementedError

    @property
    def drawing_codes(self) -> torch.Tensor:
        """Ids among which each patch of a drawing is chosen, ascending."""
        raise NotImplementedError

    def branch_groups(self, prefill: Prefill, sampling: Sampling) -> torch.Tensor:
        """Key groups [C, N] of a drawing's branches, the conditional one first: by default alike."""
        return prefill.groups.expand(branches_of(sampling), -1)

    def draw(self, codes: list[int], grid: tuple[int, int]) -> Image.Image:
        """Decode the image tokens made so far; patches that are not made yet are transparent."""
        raise NotImplementedError

    def drawing_steps(self, prefill: Prefill) -> tuple[int, int]:
        """Image tokens of a drawing, and of one row of it, row ends included."""
        return prefill.grid[0] * prefill.grid[1], prefill.grid[1]

    def patch_rows(self, prefill: Prefill) -> np.ndarray:
        """Which of a drawing's image tokens is each patch: int32 [rows · columns] in raster order."""
        total, row = self.drawing_steps(prefill)
        return np.arange(total, dtype=np.int32).reshape(-1, row)[:, : prefill.grid[1]].reshape(-1)

    def describe_code(self, code: int) -> str:
        """An image token as a person reads it in a list of tokens."""
        return f"code {code}"

    # --- keys and checks ---

    @property
    def context(self) -> int:
        """Tokens that a sequence may have."""
        return self.text_config.max_position_embeddings

    def unknown_words(self, prompt: str) -> list[str]:
        """Words and signs that become the unknown token, in order, each once; empty for a tokenizer without one."""
        words = list(dict.fromkeys(re.findall(r"\w+|[^\w\s]+", prompt)))
        if self.tokenizer.unk_token_id is None or not words:
            return []
        encoded = self.tokenizer(words, add_special_tokens=False).input_ids
        return [w for w, ids in zip(words, encoded, strict=True) if self.tokenizer.unk_token_id in ids]

    def understanding_key(self, image: Image.Image, prompt: str, sampling: Sampling) -> CaptureKey:
        """The key of the capture that `understand` would make. Cheap: no model runs."""
        return self._key(Task.UNDERSTANDING, prompt, pixels_sha256(self.see(image)), sampling)

    def generation_key(self, prompt: str, sampling: Sampling) -> CaptureKey:
        """The key of the capture that `generate` would make. Cheap: no model runs."""
        return self._key(Task.GENERATION, prompt, "", sampling)

    def _key(self, task: Task, prompt: str, image_sha256: str, sampling: Sampling) -> CaptureKey:
        return CaptureKey(self.name, self.revision, self.precision, task, prompt, image_sha256, sampling, self.adapter)

    def refuse_control_tokens(self, prompt: str) -> None:
        """Raise `UserError` when a text holds a token that the tokenizer would take as control."""
        for token in self.tokenizer.get_added_vocab():
            if token in prompt:
                raise UserError(f"The prompt contains “{token}”, which is a control token of {self.name}; remove it.")

    def check_length(
        self, prefill: Prefill, new_tokens: int, todo: str = "shorten the prompt or ask for fewer tokens"
    ) -> None:
        """Raise `UserError` when prompt and answer together are longer than the model can read."""
        if prefill.length + new_tokens > self.context:
            raise UserError(
                f"Expected at most {self.context:,} tokens for {self.name}, got {prefill.length:,} of prompt and "
                f"template with {new_tokens:,} to come; {todo}."
            )

    # --- understanding ---

    def understand(
        self, image: Image.Image, prompt: str, sampling: Sampling, cancel: CancelFlag | None = None
    ) -> Iterator[Event]:
        """Answer the prompt about the image, token by token; then `Finished`."""
        started = time.perf_counter()
        prefill = self.prefill(prompt, image)
        self.check_length(prefill, sampling.max_new_tokens)
        seen = positions_of(prefill.groups, IMAGE_GROUPS) if prefill.patches is None else prefill.patches
        probe = Probe(prefill.groups[None], rows="last", cross=seen)
        fed: list[int] = []
        text = ""
        for token in self.answer_tokens(prefill, sampling, probe, cancel):
            fed.append(token)
            text = self.tokenizer.decode(fed, skip_special_tokens=True)
            yield TextGrown(text)
        key = self.understanding_key(image, prompt, sampling)
        strings = [self.tokenizer.decode([token]) for token in fed]
        capture = self._capture(key, text, prefill, probe, fed, strings, self.see(image), started, seen)
        yield Finished(capture, cached=False)

    @torch.inference_mode()
    def answer_tokens(
        self,
        prefill: Prefill,
        sampling: Sampling,
        probe: Probe | None = None,
        cancel: CancelFlag | None = None,
        knockout: Knockout | None = None,
    ) -> Iterator[int]:
        """Token ids of the answer, without the end token."""
        choose, stops = TokenChooser(sampling), self.stop_tokens()
        cache = DynamicCache(config=self.text_config)
        inputs = self.first_inputs(prefill)
        passing = looking_on(probe, knockout)
        for made in range(sampling.max_new_tokens):
            stop_if(cancel)
            logits = self.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1, **passing).logits
            token = choose(logits[:, -1])
            if token in stops:
                return
            yield token
            self.extend(probe, 1)
            inputs = self.next_inputs(prefill, token, made)

    # --- generation ---

    def generate(self, prompt: str, sampling: Sampling, cancel: CancelFlag | None = None) -> Iterator[Event]:
        """Draw the prompt, one row of patches at a time; then `Finished`."""
        started = time.perf_counter()
        prefill = self.drawing_prefill(prompt, sampling.size)
        total, row = self.drawing_steps(prefill)
        self.check_length(prefill, total, "choose a smaller size" if sampling.size else "shorten the prompt")
        words = positions_of(prefill.groups, (Group.PROMPT,))
        kept = self.text_config.num_hidden_layers * total * prefill.grid[0] * prefill.grid[1] <= MOST_DRAWN
        probe = Probe(self.branch_groups(prefill, sampling), rows="last", cross=words, grown=kept)
        codes: list[int] = []
        preview = _Preview()
        for code in self.image_codes(prefill, sampling, probe, cancel):
            codes.append(code)
            if len(codes) % row == 0 and len(codes) < total and preview.is_due():
                with preview:
                    grown = self.draw(codes, prefill.grid)
                yield PictureGrown(grown, len(codes), total)
        picture = self.draw(codes, prefill.grid)
        strings = [self.describe_code(code) for code in codes[:-1]]
        key = self.generation_key(prompt, sampling)
        capture = self._capture(key, "", prefill, probe, codes, strings, picture, started, words)
        patches = self.patch_rows(prefill)
        drawn = probe.grown_attention()[0][..., patches].cpu().numpy().astype(np.float16) if kept else None
        yield Finished(replace(capture, patch_rows=patches, drawn=drawn), cached=False)

    # --- a second look ---

    def look_again(self, capture: Capture, rows: range, head: tuple[int, int] | None = None) -> Looks:
        """What single heads of those rows of a capture of this model looked at. Raises `UserError`."""
        from backend.families.looking import look

        return look(self, capture, rows, head)

    def pass_answer(self, prefill: Prefill, made: list[int], probe: Probe) -> None:
        """One pass of a question and the answer tokens made, without cache, under a probe."""
        ids = torch.cat([prefill.ids, prefill.ids.new_tensor(made)])
        groups = torch.cat([prefill.groups, prefill.groups.new_full((len(made),), group_index(Group.GENERATED))])
        inputs = self.first_inputs(replace(prefill, ids=ids, groups=groups))
        self.model(**inputs, use_cache=False, logits_to_keep=1, probe=probe)

    def pass_drawing(self, prefill: Prefill, codes: list[int], probe: Probe) -> None:
        """One pass of a drawing prompt and the image tokens made, without cache or guidance, under a probe."""
        raise NotImplementedError

    # --- captures ---

    def extend(self, probe: Probe | None, branches: int) -> None:
        """Tell the probe that each branch is about to get one made token."""
        if probe is not None:
            probe.extend(torch.full((branches, 1), group_index(Group.GENERATED)))

    def _capture(
        self,
        key: CaptureKey,
        text: str,
        prefill: Prefill,
        probe: Probe,
        made: list[int],
        strings: list[str],
        picture: Image.Image,
        started: float,
        cross_positions: torch.Tensor,
    ) -> Capture:
        """Assemble a capture; the row of a token that was made but never fed back does not exist."""
        mass = round_if_large(probe.mass().float().cpu().numpy())  # [C, L, H, Q, G]
        rows = mass.shape[3]
        fed = strings[: rows - 1]
        return Capture(
            key=key,
            text=text,
            tokens=(*(self.tokenizer.decode([i]) for i in prefill.ids.tolist()), *fed),
            token_groups=(*(GROUPS[g].value for g in prefill.groups.tolist()), *[Group.GENERATED.value] * len(fed)),
            grid=prefill.grid,
            seconds=time.perf_counter() - started,
            created=time.time(),
            picture_png=picture_to_png(picture),
            mass=mass,
            query_positions=(prefill.length - 1 + np.arange(rows)).astype(np.int32),
            cross=probe.cross_attention()[0].cpu().numpy().astype(np.float16),
            cross_positions=cross_positions.cpu().numpy().astype(np.int32),
            made_ids=np.asarray(made[: rows - 1], np.int32),
        )


class _Preview:
    """When a growing picture is drawn again: each time, unless that takes seconds and would slow the drawing down."""

    def __init__(self):
        self._taken, self._ended = 0.0, -np.inf

    def is_due(self) -> bool:
        return self._taken < SLOW_PREVIEW_SECONDS or time.perf_counter() - self._ended > PREVIEW_REST * self._taken

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_) -> None:
        self._ended = time.perf_counter()
        self._taken = self._ended - self._started


def hide_unmade(picture: Image.Image, made: int, grid: tuple[int, int]) -> Image.Image:
    """The picture with all but the first `made` patches transparent, in raster order; itself when all are made."""
    rows, columns = grid
    if made >= rows * columns:
        return picture
    mask = np.arange(rows * columns).reshape(rows, columns) < made
    alpha = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.NEAREST)
    picture.putalpha(alpha)
    return picture
