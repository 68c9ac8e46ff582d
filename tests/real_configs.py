"""The configurations of the catalogue's models as their checkpoints hold them, as far as they set the weights' shapes.

From their config.json files and conversion scripts (see each spec's `checked`). Weights are never loaded: models are
built on the meta device, to count.
"""

from __future__ import annotations

from transformers import (
    ChameleonConfig,
    Emu3Config,
    InternVLConfig,
    JanusConfig,
    LlavaOnevisionConfig,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)

_QWEN3 = {"vocab_size": 151936, "head_dim": 128, "num_key_value_heads": 8}
_QWEN3_SMALL_EYES = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "deepstack_visual_indexes": [5, 11, 17],
}
_QWEN25_EYES = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
_QWEN2_05B = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
_QWEN2_15B = {
    "model_type": "qwen2",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
}
_QWEN2_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
_INTERN_EYES = {"attention_bias": True}


def _text(width: int, inner: int, layers: int, heads: int, **more) -> dict:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        **more,
    }


def _janus(text: dict) -> JanusConfig:
    width = text["hidden_size"]
    return JanusConfig(
        text_config={"model_type": "llama", "vocab_size": 102400, **text},
        vision_config={"projection_dim": width},
        vq_config={"projection_dim": width, "image_token_embed_dim": width},
        tie_word_embeddings=False,
    )


def _qwen3(text: dict, eyes: dict, tied: bool) -> Qwen3VLConfig:
    eyes = {**eyes, "out_hidden_size": text["hidden_size"]}
    return Qwen3VLConfig(text_config={**_QWEN3, **text}, vision_config=eyes, tie_word_embeddings=tied)


def _qwen25(text: dict, tied: bool) -> Qwen2_5_VLConfig:
    eyes = {**_QWEN25_EYES, "out_hidden_size": text["hidden_size"]}
    return Qwen2_5_VLConfig(text_config=text, vision_config=eyes, tie_word_embeddings=tied)


def _internvl(text: dict) -> InternVLConfig:
    text = {**text, "vocab_size": 151674}
    return InternVLConfig(text_config=text, vision_config=_INTERN_EYES, tie_word_embeddings=False)


def _llava(text: dict, vocabulary: int, tied: bool) -> LlavaOnevisionConfig:
    return LlavaOnevisionConfig(text_config={**text, "vocab_size": vocabulary, "tie_word_embeddings": tied})


# 8,192 codes of the picture among the words: their names are all that the model needs of the vocabulary.
_CHAMELEON_WORDS = {"<image>": 8711, "IMGIMGAZ": 4}

CONFIGS: dict[str, PreTrainedConfig] = {
    "janus-pro-1b": _janus(_text(2048, 5632, 24, 16)),
    "janus-pro-7b": _janus(_text(4096, 11008, 30, 32)),
    "emu3-chat": Emu3Config(vocabulary_map={"<image>": 184621}),
    "emu3-gen": Emu3Config(vocabulary_map={"<image>": 184621}),
    "qwen3-vl-2b": _qwen3(_text(2048, 6144, 28, 16), _QWEN3_SMALL_EYES, True),
    "qwen3-vl-4b": _qwen3(_text(2560, 9728, 36, 32), _QWEN3_SMALL_EYES, True),
    "qwen3-vl-8b": _qwen3(_text(4096, 12288, 36, 32), {}, False),
    "qwen2.5-vl-3b": _qwen25(_text(2048, 11008, 36, 16, num_key_value_heads=2, vocab_size=151936), True),
    "qwen2.5-vl-7b": _qwen25(_text(3584, 18944, 28, 28, num_key_value_heads=4, vocab_size=152064), False),
    "internvl3-1b": _internvl(_QWEN2_05B),
    "internvl3-2b": _internvl(_QWEN2_15B),
    "internvl3-8b": _internvl(_QWEN2_7B),
    "llava-onevision-0.5b": _llava(_QWEN2_05B, 152000, True),
    "llava-onevision-7b": _llava(_QWEN2_7B, 152128, False),
    "chameleon-7b": ChameleonConfig(vocabulary_map=_CHAMELEON_WORDS),
}
