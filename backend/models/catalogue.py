"""The models of the hub that can be chosen, and those of which only the paper's curves are here. Pure data.

Shapes and numbers of weights are those of the checkpoints' own configurations, built with transformers on the meta
device and compared with the sizes of their files (tests/backend/test_catalogue.py); memory is reckoned from them.
A `revision` was taken only where a full commit hash was found in at least two places that agree, else it is empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from aia.intensity import Task
from backend.models.model_spec import BOTH_TASKS, ModelSpec

SEES = frozenset({Task.UNDERSTANDING})
DRAWS = frozenset({Task.GENERATION})

# Bytes of a weight, its share of the scales included: int8 has a float32 for each output, which is little; NF4 one byte
# for each 64 weights and a float32 for each 256 of those (double quantisation).
_INT8, _NF4 = 1, 0.5 + 1 / 64 + 4 / (64 * 256)

_ONE_SPACE = "one token space: a VQ tokenizer makes pictures words of one vocabulary, for seeing and drawing"
_TWO_ENCODERS = "two encoders: own vision encoder for seeing, VQ tokenizer for drawing"
_ONLY_SEES = "sees only: vision encoder and projector before a language model"


def _memory(parameters: int, linear: int) -> dict[str, int]:
    """MiB of the weights per precision; `linear` of them are in layers that int8 and NF4 quantise."""
    rest = 2 * (parameters - linear)
    sizes = {"bfloat16": 2 * parameters, "int8": rest + _INT8 * linear, "nf4": rest + _NF4 * linear}
    return {precision: round(size / 2**20) for precision, size in sizes.items()}


@dataclass(frozen=True)
class CurvesOnly:
    """A model that transformers has no class for: its curves, read off the paper's figures, are all there is."""

    name: str
    title: str
    curves: tuple[str, ...]  # slugs of `backend.paper.load_paper`
    why: str


CURVES_ONLY = (
    CurvesOnly("bagel", "BAGEL", ("fig1-bagel",), "no class in transformers; its own code would have to run"),
    CurvesOnly(
        "hunyuanimage-3.0",
        "HunyuanImage-3.0",
        ("fig1-hunyuanimage-3-0",),
        "no class in transformers, and 80 billion parameters",
    ),
)

CATALOGUE: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="janus-pro-1b",
        title="Janus-Pro 1B",
        family="janus",
        source="deepseek-community/Janus-Pro-1B",
        revision="1655280bb75959cc1cb85529a2a8b26e7016072e",
        tasks=BOTH_TASKS,
        decoupling=_TWO_ENCODERS,
        layers=24,
        heads=16,
        image_tokens=576,
        parameters=2_076_636_811,
        licence="MIT on the hub; DeepSeek Model License",
        memory_mib=_memory(2_076_636_811, 1_233_125_376),
        note="24 layers, answers and draws; 4 GB to download",
        hidden=2048,
        inner=5632,
        kv_heads=16,
        vocabulary=102_400,
        temperature=1.0,
        guidance=5.0,  # as in the authors' own script for drawing
        checked="id, licence tag: its hub page. Shapes: they fill the weights' file of 4,153,396,574 bytes "
        "but for its header. Revision: two public repositories that pin it.",
    ),
    ModelSpec(
        name="janus-pro-7b",
        title="Janus-Pro 7B",
        family="janus",
        source="deepseek-community/Janus-Pro-7B",
        revision="",
        tasks=BOTH_TASKS,
        decoupling=_TWO_ENCODERS,
        layers=30,
        heads=32,
        image_tokens=576,
        parameters=7_407_773_323,
        licence="MIT on the hub; DeepSeek Model License",
        memory_mib=_memory(7_407_773_323, 6_071_255_040),
        note="30 layers, answers and draws, the model of the paper; 15 GB to download",
        hidden=4096,
        inner=11_008,
        kv_heads=32,
        vocabulary=102_400,
        temperature=1.0,
        guidance=5.0,  # as in the authors' own script for drawing
        checked="id: transformers' documentation. Shapes: they fill the 14.84 GB of a copy of the original "
        "but for a part that the conversion script drops. Licence: as the 1B. Revision: none found.",
    ),
    ModelSpec(
        name="emu3-chat",
        title="Emu3-Chat",
        family="emu3",
        source="BAAI/Emu3-Chat-hf",
        revision="",
        tasks=SEES,
        decoupling=_ONE_SPACE,
        layers=32,
        heads=32,
        image_tokens=4_160,
        parameters=8_762_751_807,
        licence="Apache-2.0",
        memory_mib=_memory(8_762_751_807, 6_979_321_856),
        note="32 layers, the half of Emu3 that answers; 18 GB to download",
        targets="paper-emu3",
        hidden=4096,
        inner=14_336,
        kv_heads=8,
        vocabulary=184_622,
        checked="id, licence: its hub page (also known as Emu3-community/Emu3-Chat-hf). Shapes: config.json of "
        "BAAI/Emu3-Chat and the conversion script. Revision: none found twice.",
    ),
    ModelSpec(
        name="emu3-gen",
        title="Emu3-Gen",
        family="emu3",
        source="BAAI/Emu3-Gen-hf",
        revision="",
        tasks=DRAWS,
        decoupling=_ONE_SPACE,
        layers=32,
        heads=32,
        image_tokens=8_190,
        parameters=8_762_751_807,
        licence="Apache-2.0",
        memory_mib=_memory(8_762_751_807, 6_979_321_856),
        note="32 layers, the half of Emu3 that draws; 18 GB to download",
        targets="paper-emu3",
        hidden=4096,
        inner=14_336,
        kv_heads=8,
        vocabulary=184_622,
        temperature=1.0,
        guidance=3.0,  # as in transformers' documentation of Emu3
        checked="id, licence: its hub page. Shapes: as Emu3-Chat, by the conversion script. Revision: none "
        "found twice.",
    ),
    ModelSpec(
        name="qwen3-vl-2b",
        title="Qwen3-VL 2B",
        family="qwen3_vl",
        source="Qwen/Qwen3-VL-2B-Instruct",
        revision="89644892e4d85e24eaac8bacfd4f463576704203",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=28,
        heads=16,
        image_tokens=1_280,
        parameters=2_127_532_032,
        licence="Apache-2.0",
        memory_mib=_memory(2_127_532_032, 1_409_286_144),
        note="28 layers, only answers, a small reference; 4 GB to download",
        targets="paper-emu3",
        hidden=2048,
        inner=6_144,
        kv_heads=8,
        vocabulary=151_936,
        checked="id, file (4.26 GB): its hub page. Shapes: a public config for it; they fill the file. "
        "Licence: public projects that cite its card. Revision: many public repositories that pin it, "
        "and the hub page's 8964489.",
    ),
    ModelSpec(
        name="qwen3-vl-4b",
        title="Qwen3-VL 4B",
        family="qwen3_vl",
        source="Qwen/Qwen3-VL-4B-Instruct",
        revision="ebb281ec70b05090aa6165b016eac8ec08e71b17",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=36,
        heads=32,
        image_tokens=1_280,
        parameters=4_437_815_808,
        licence="Apache-2.0",
        memory_mib=_memory(4_437_815_808, 3_633_315_840),
        note="36 layers, only answers, a reference; 9 GB to download",
        targets="paper-emu3",
        hidden=2560,
        inner=9_728,
        kv_heads=8,
        vocabulary=151_936,
        checked="id, licence: public projects that cite its card. Shapes: a public config for it; the files "
        "have more than 8.87 GB. Revision: many public repositories that pin it.",
    ),
    ModelSpec(
        name="qwen3-vl-8b",
        title="Qwen3-VL 8B",
        family="qwen3_vl",
        source="Qwen/Qwen3-VL-8B-Instruct",
        revision="0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=36,
        heads=32,
        image_tokens=1_280,
        parameters=8_767_123_696,
        licence="Apache-2.0",
        memory_mib=_memory(8_767_123_696, 6_945_767_424),
        note="36 layers, only answers: the paper's reference for understanding; 18 GB to download",
        targets="paper-emu3",
        hidden=4096,
        inner=12_288,
        kv_heads=8,
        vocabulary=151_936,
        checked="id: its hub page. Shapes: the metadata of its conversion at ollama.com. Licence: the tag of "
        "a copy. Revision: many public repositories that pin it.",
    ),
    ModelSpec(
        name="qwen2.5-vl-3b",
        title="Qwen2.5-VL 3B",
        family="qwen2_5_vl",
        source="Qwen/Qwen2.5-VL-3B-Instruct",
        revision="66285546d2b821cf421d4f5eb2576359d3770cd3",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=36,
        heads=16,
        image_tokens=1_280,
        parameters=3_754_622_976,
        licence="Qwen Research License",
        memory_mib=_memory(3_754_622_976, 2_774_532_096),
        note="36 layers, only answers; 8 GB to download; not for commercial use",
        targets="paper-emu3",
        hidden=2048,
        inner=11_008,
        kv_heads=2,
        vocabulary=151_936,
        checked="Shapes: copies of its config.json that name it; the files have 7.51 GB. Licence: a copy's LICENSE "
        "has 7.39 kB, as that one, and no Apache tag; not read. Revision: many public repositories that pin it.",
    ),
    ModelSpec(
        name="qwen2.5-vl-7b",
        title="Qwen2.5-VL 7B",
        family="qwen2_5_vl",
        source="Qwen/Qwen2.5-VL-7B-Instruct",
        revision="cc594898137f460bfe9f0759e9844b3ce807cfb5",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=28,
        heads=28,
        image_tokens=1_280,
        parameters=8_292_166_656,
        licence="Apache-2.0",
        memory_mib=_memory(8_292_166_656, 6_525_288_448),
        note="28 layers, only answers; 17 GB to download",
        targets="paper-emu3",
        hidden=3584,
        inner=18_944,
        kv_heads=4,
        vocabulary=152_064,
        checked="Shapes: a public table (28 layers, 3,584 wide); they fill the 16.58 GB of a bfloat16 copy. "
        "Licence: the tag of that copy. Revision: many public repositories that pin it.",
    ),
    ModelSpec(
        name="internvl3-1b",
        title="InternVL3 1B",
        family="internvl",
        source="OpenGVLab/InternVL3-1B-hf",
        revision="014c0583a0d4bedf29fbe2dbff4f865eb998e171",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=24,
        heads=14,
        image_tokens=1_280,
        parameters=938_193_024,
        licence="Qwen license",
        memory_mib=_memory(938_193_024, 357_826_560),
        note="24 layers, only answers, the smallest reference; 2 GB to download",
        targets="paper-emu3",
        hidden=896,
        inner=4_864,
        kv_heads=2,
        vocabulary=151_674,
        checked="id, files (1.88 GB), licence tag, generation settings: its hub page. Shapes, template: the conversion "
        "script. Revision: several public repositories that pin it, and the hub page's 014c058.",
    ),
    ModelSpec(
        name="internvl3-2b",
        title="InternVL3 2B",
        family="internvl",
        source="OpenGVLab/InternVL3-2B-hf",
        revision="cb57a075cb75a2e6d1b668b128d48bb00ae321d2",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=28,
        heads=12,
        image_tokens=1_280,
        parameters=2_088_957_440,
        licence="Qwen license",
        memory_mib=_memory(2_088_957_440, 1_310_195_712),
        note="28 layers, only answers; 4 GB to download",
        targets="paper-emu3",
        hidden=1536,
        inner=8_960,
        kv_heads=2,
        vocabulary=151_674,
        checked="id: its hub page. Shapes: the conversion script; the original's file has 4.18 GB. Licence: as the 1B "
        "and 8B. Revision: several public repositories that pin it.",
    ),
    ModelSpec(
        name="internvl3-8b",
        title="InternVL3 8B",
        family="internvl",
        source="OpenGVLab/InternVL3-8B-hf",
        revision="259a3b64a14623c0ec91a045cb43f7c5af5fa6af",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=28,
        heads=28,
        image_tokens=1_280,
        parameters=7_944_373_760,
        licence="Qwen license",
        memory_mib=_memory(7_944_373_760, 6_525_288_448),
        note="28 layers, only answers; 16 GB to download",
        targets="paper-emu3",
        hidden=3584,
        inner=18_944,
        kv_heads=4,
        vocabulary=151_674,
        checked="id, files (15.9 GB), licence tag: its hub page. Shapes: the conversion script. Revision: a public "
        "repository that pins it, and the hub page's 259a3b6.",
    ),
    ModelSpec(
        name="llava-onevision-0.5b",
        title="LLaVA-OneVision 0.5B",
        family="llava_onevision",
        source="llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        revision="",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=24,
        heads=14,
        image_tokens=2_241,
        parameters=893_675_552,
        licence="Apache-2.0",
        memory_mib=_memory(893_675_552, 357_826_560),
        note="24 layers, only answers; 2 GB to download",
        targets="paper-emu3",
        hidden=896,
        inner=4_864,
        kv_heads=2,
        vocabulary=152_000,
        checked="id, file (1.79 GB), licence tag, generation settings: its hub page. Shapes: the conversion "
        "script and the Qwen2 it names. Revision: none found twice.",
    ),
    ModelSpec(
        name="llava-onevision-7b",
        title="LLaVA-OneVision 7B",
        family="llava_onevision",
        source="llava-hf/llava-onevision-qwen2-7b-ov-hf",
        revision="0d50680527681998e456c7b78950205bedd8a068",
        tasks=SEES,
        decoupling=_ONLY_SEES,
        layers=28,
        heads=28,
        image_tokens=2_241,
        parameters=8_030_807_584,
        licence="Apache-2.0",
        memory_mib=_memory(8_030_807_584, 6_525_288_448),
        note="28 layers, only answers; 16 GB to download",
        targets="paper-emu3",
        hidden=3584,
        inner=18_944,
        kv_heads=4,
        vocabulary=152_128,
        checked="id, licence tag, generation settings: its hub page. Shapes: the conversion script and the "
        "Qwen2 it names. Revision: several public repositories that use it.",
    ),
    ModelSpec(
        name="chameleon-7b",
        title="Chameleon 7B",
        family="chameleon",
        source="facebook/chameleon-7b",
        revision="",
        tasks=SEES,
        decoupling="one token space, as Emu3, but released for text output only",
        layers=32,
        heads=32,
        image_tokens=1_024,
        parameters=7_043_090_432,
        licence="Chameleon Research License",
        memory_mib=_memory(7_043_090_432, 6_476_005_376),
        note="32 layers, only answers; 14 GB to download once its licence is accepted",
        targets="paper-emu3",
        hidden=4096,
        inner=11_008,
        kv_heads=32,
        vocabulary=65_536,
        gated=True,
        checked="Shapes, tokens: the conversion script; a copy's files have 14.14 GB. Prompt: documentation and vLLM's "
        "example. Licence: the tag of a copy. Revision: none found.",
    ),
)
