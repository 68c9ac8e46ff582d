"""Names of weights as DeepSeek's own Janus code has them, in transformers' naming: a table, and nothing is read here.

Left: the modules of `MultiModalityCausalLM` (github.com/deepseek-ai/Janus, janus/models), which checkpoints that were
trained with that code hold, the AIA authors' among them. Right: `JanusForConditionalGeneration`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Rename = str | Callable[[re.Match], str] | tuple[str, ...]

_EYES, _LAYER = r"vision_model\.vision_tower", "model.vision_model.encoder.layers"
_CODEC = "model.vqmodel"
_MIDDLE = ("block_1", "attn_1", "block_2")
_BLOCKS = {"encoder": "down", "decoder": "up"}


def _in_codec(match: re.Match) -> str:
    """Levels of the VQ tokenizer: lists of residual and attention blocks under other names."""
    side, level, rest = match.groups()
    return f"{_CODEC}.{side}.{_BLOCKS[side]}.{level}.{re.sub(r'^res(?=[.])', 'block', rest)}"


def _in_aligner(match: re.Match) -> str:
    """A stack of linear layers with activations between them: every other number is a layer."""
    made, number, rest = match.groups()
    name = "model.generation_aligner" if made else "model.aligner"
    return f"{name}.fc1.{rest}" if number == "0" else f"{name}.hidden_layers.{int(number) // 2 - 1}.{rest}"


# A tuple stands for the parts that a weight is cut into along its first dimension; an empty one leaves it out: what
# transformers' model has no use for.
_TABLE: tuple[tuple[str, Rename], ...] = (
    (rf"{_EYES}\.attn_pool\..+", ()),
    (rf"{_EYES}\.pos_embed", "model.vision_model.embeddings.position_embedding.weight"),
    (rf"{_EYES}\.patch_embed\.proj\.(\w+)", r"model.vision_model.embeddings.patch_embedding.\1"),
    (rf"{_EYES}\.norm\.(\w+)", r"model.vision_model.post_layernorm.\1"),
    (rf"{_EYES}\.blocks\.(\d+)\.norm([12])\.(\w+)", rf"{_LAYER}.\1.layer_norm\2.\3"),
    (
        rf"{_EYES}\.blocks\.(\d+)\.attn\.qkv\.(\w+)",
        tuple(rf"{_LAYER}.\1.self_attn.{part}_proj.\2" for part in "qkv"),
    ),
    (rf"{_EYES}\.blocks\.(\d+)\.attn\.proj\.(\w+)", rf"{_LAYER}.\1.self_attn.projection_layer.\2"),
    (rf"{_EYES}\.blocks\.(\d+)\.attn\.([qk]_norm)\.(\w+)", rf"{_LAYER}.\1.self_attn.\2.\3"),
    (rf"{_EYES}\.blocks\.(\d+)\.mlp\.(fc[12])\.(\w+)", rf"{_LAYER}.\1.mlp.\2.\3"),
    (r"gen_vision_model\.quantize\.codebook_used", ()),
    (r"gen_vision_model\.(encoder|decoder)\.conv_blocks\.(\d+)\.(.+)", _in_codec),
    (
        r"gen_vision_model\.(encoder|decoder)\.mid\.([012])\.(.+)",
        lambda match: f"{_CODEC}.{match[1]}.mid.{_MIDDLE[int(match[2])]}.{match[3]}",
    ),
    (r"gen_vision_model\.(.+)", rf"{_CODEC}.\1"),
    (r"(gen_)?aligner\.layers\.(\d*[02468])\.(\w+)", _in_aligner),
    (r"gen_embed\.(\w+)", r"model.generation_embeddings.\1"),
    (r"gen_head\.output_mlp_projector\.(\w+)", r"model.generation_head.proj_out.\1"),
    (r"gen_head\.vision_head\.(\w+)", r"model.generation_head.vision_head.\1"),
    (r"language_model\.model\.(.*\.)?rotary_emb\.inv_freq", ()),
    (r"language_model\.model\.(.+)", r"model.language_model.\1"),
    (r"language_model\.lm_head\.(\w+)", r"lm_head.\1"),
)
_COMPILED = tuple((re.compile(pattern), rename) for pattern, rename in _TABLE)
_WRAPPERS = re.compile(r"(^|(?<=\.))(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def translate(name: str) -> tuple[str, ...] | None:
    """The names of a weight in transformers' layout: none if it is not needed there, several if it is cut into parts.

    A name of transformers' own stays; None for one that is neither. What trainers wrap around modules is taken off.
    """
    name = _WRAPPERS.sub("", name)
    for pattern, rename in _COMPILED:
        if match := pattern.fullmatch(name):
            renames = rename if isinstance(rename, tuple) else (rename,)
            return tuple(one(match) if callable(one) else match.expand(one) for one in renames)
    return (name,) if name.startswith(("model.", "lm_head.")) else None
