"""The reference families beyond the contract: pictures of any shape, tiles, positions, caps, and one-task training."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import GenerationConfig

from aia.config import make_config
from aia.intensity import Group, Task
from aia.probe import ATTENTION_NAME
from backend.families import internvl, llava_onevision, load_model, qwen_vl
from backend.finetuning.finetune import RunFolder, finetune
from backend.interface import UserError
from backend.kept.captures import Sampling
from tests.backend.contract.helpers import finish
from tests.checkpoints import module_of

QWEN = ("qwen3_vl", "qwen2_5_vl")
FAMILIES = (*QWEN, "internvl", "llava_onevision", "chameleon")
GREEDY = Sampling(temperature=0.0, max_new_tokens=10)
QUESTION = "what colour is the zebra, Zoë?"
SHAPES = ((64, 64), (120, 70), (40, 160), (200, 50))  # width, height: square, wide, tall, a strip


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory):
    return cache(lambda family: module_of(family).make(tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="module")
def loaded(spec_of):
    return cache(lambda family: load_model(spec_of(family)))


def real_inputs(model, image):
    """What the real processor makes of a question, its own way."""
    asked = f"{QUESTION}<image>" if model.tokenizer.sep_token else model.render([(QUESTION, None)])
    return model.processor(text=[asked], images=[model.fit(image)], return_tensors="pt")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_the_real_processors_and_answers_those_of_generate(loaded, family, shape):
    model, image = loaded(family), picture(*shape)
    prefill, inputs = model.prefill(QUESTION, image), real_inputs(loaded(family), image)
    assert prefill.ids.tolist() == inputs["input_ids"][0].tolist()
    greedy = GenerationConfig(do_sample=False, repetition_penalty=1.0, max_new_tokens=GREEDY.max_new_tokens)
    inputs = {name: value for name, value in inputs.items() if name != "token_type_ids"}
    made = model.model.generate(**inputs, generation_config=greedy)[0, prefill.length :].tolist()
    answer = list(model.answer_tokens(prefill, GREEDY))
    assert answer == made[: len(answer)] and all(t in model.stop_tokens() for t in made[len(answer) : len(answer) + 1])


@pytest.mark.parametrize("family", QWEN)
def test_positions_of_one_request_never_reach_another(loaded, family):
    """transformers keeps M-RoPE's offset on the model; two answers in turns must not share it."""
    model = loaded(family)
    wide, tall = (model.prefill(QUESTION, picture(*shape)) for shape in ((192, 48), (48, 160)))
    alone = [list(model.answer_tokens(prefill, GREEDY)) for prefill in (wide, tall)]
    first = model.answer_tokens(wide, GREEDY)
    begun = list(islice(first, 3))
    model.answer_batch([picture(64, 64)], [QUESTION], 4)  # leaves its own offset behind
    assert [list(model.answer_tokens(tall, GREEDY)), [*begun, *first]] == alone[::-1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES[:-1])  # Chameleon's codes leap: one code changes, or all do
def test_every_patch_of_the_map_lies_where_the_picture_shows_it(loaded, family, shape):
    """A cell of the shown picture is painted over: the token on the map at that place changes most."""
    model = loaded(family)
    shown = model.see(picture(*shape))
    rows, columns = model.look(shown).grid
    cells = [(0, 0), (0, columns - 1), (rows - 1, 0), (rows // 2, columns // 2)]
    before = features(model, shown)
    for row, column in cells:
        high, wide = shown.height / rows, shown.width / columns
        box = (round(column * wide), round(row * high), round((column + 1) * wide), round((row + 1) * high))
        painted = shown.copy()
        painted.paste((255, 0, 255), box)
        changed = (features(model, painted) - before).norm(dim=-1)
        assert divmod(int(changed.argmax()), columns) == (row, column)


@torch.inference_mode()
def features(model, image):
    """What stands at the patches of the map: [rows · columns, D]."""
    prefill = model.prefill("?", image)
    inputs = {n: v for n, v in prefill.inputs.items() if n != "position_ids"}
    made = model.model.model.get_image_features(**inputs, return_dict=True).pooler_output
    tokens = torch.cat(list(made)) if isinstance(made, list | tuple) else made.flatten(0, 1)
    first = int((prefill.groups == list(Group).index(Group.IMAGE)).nonzero()[0])
    return tokens[prefill.patches - first]


@pytest.mark.parametrize(("family", "size"), [(f, (64, 64)) for f in (*QWEN, "internvl")] + [("chameleon", (32, 32))])
def test_a_picture_that_fits_is_shown_as_it_is(loaded, family, size):
    image = picture(*size)
    off = np.abs(np.asarray(loaded(family).see(image), int) - np.asarray(image, int))
    assert off.max() <= (2 if family == "chameleon" else 0)  # its own rescaling of 0.0078 is not quite 2/255


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_language_model_is_under_the_probe(loaded, family):
    model = loaded(family).model
    eyes = getattr(model.config, "vision_config", None) or model.config.vq_config
    assert eyes._attn_implementation != ATTENTION_NAME
    assert loaded(family).text_config._attn_implementation == ATTENTION_NAME


def test_large_pictures_are_made_smaller_than_the_cap(spec_of, monkeypatch):
    def image_tokens(family):
        groups = load_model(spec_of(family)).prefill(QUESTION, picture(300, 200)).groups.tolist()
        return sum(list(Group)[g] in (Group.IMAGE, Group.IMAGE_LAST) for g in groups)

    monkeypatch.setattr(qwen_vl, "MAX_IMAGE_TOKENS", 12)
    assert 0 < image_tokens("qwen3_vl") <= 12
    monkeypatch.setattr(internvl, "MAX_IMAGE_TOKENS", 4 * 5)  # 4 tiles of 4 tokens, and the thumbnail
    assert 4 < image_tokens("internvl") <= 20
    assert image_tokens("llava_onevision") <= 16 + 4 * 9  # the overview, and two tiles with line ends
    monkeypatch.setattr(llava_onevision, "MAX_TILES", 6)
    assert image_tokens("llava_onevision") > 16 + 4 * 9


def test_a_strip_that_the_processor_refuses_is_refused_in_a_sentence(loaded):
    with pytest.raises(UserError, match=r"^Expected a picture .* 2000 × 4 pixels; cut it"):
        loaded("qwen3_vl").see(picture(2000, 4))


@pytest.mark.parametrize("family", FAMILIES)
def test_drawing_is_refused_in_a_sentence(loaded, family):
    with pytest.raises(UserError, match="only answers about pictures"):
        list(loaded(family).generate("a red circle", Sampling()))
    with pytest.raises(UserError, match="only answers about pictures"):
        loaded(family).draw_batch(["a red circle"], Sampling())


def test_sliding_windows_are_refused(spec_of, tmp_path):
    spec = module_of("qwen2_5_vl").make(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["text_config"] |= {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8}
    del config["text_config"]["layer_types"]
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="sliding window"):
        load_model(spec)


def test_the_hubs_older_layout_of_files_loads_alike(spec_of, tmp_path, loaded):
    """Qwen2.5-VL's own: a flat config.json, preprocessor_config.json of another class name, chat_template.json."""
    module_of("qwen2_5_vl").make(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    text = config.pop("text_config")
    config |= {name: value for name, value in text.items() if name not in ("model_type", "dtype", "rope_parameters")}
    config |= {"rope_theta": 10000.0, "rope_scaling": {"type": "mrope", "mrope_section": [4, 2, 2]}}
    config["vision_config"]["model_type"] = "qwen2_5_vl"
    (tmp_path / "config.json").write_text(json.dumps(config))
    pictures = json.loads((tmp_path / "processor_config.json").read_text())["image_processor"]
    pictures |= {"image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen2_5_VLProcessor"}
    (tmp_path / "processor_config.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pictures))
    template = (tmp_path / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    older = load_model(replace(spec_of("qwen2_5_vl"), source=str(tmp_path)))
    image = picture(120, 70)
    assert (
        finish(older.understand(image, QUESTION, GREEDY)).text
        == finish(loaded("qwen2_5_vl").understand(image, QUESTION, GREEDY)).text
    )


# --- training on one task ---

TINY = {"steps": 2, "batch_size": 2, "probe_samples": 2, "probe_every": 2, "score_samples": 0, "sample_count": 1}


def test_a_model_that_only_answers_trains_on_answers_alone(spec_of, tmp_path):
    spec = spec_of("qwen3_vl")
    config = make_config(model=spec.name, method="lora", ratio_generation=0.0, targets="paper-emu3", **TINY)
    result = finetune(tmp_path / "run", config, specs=(spec,))
    for moment in ("before", "after"):
        assert list(result[moment]["intensity"]) == [Task.UNDERSTANDING.value]
    assert len(result["losses"]) == 2 and all(row["ntp"] > 0 for row in result["losses"])
    asked = RunFolder(tmp_path / "run").last_event("asked")
    assert {item["task"] for item in asked["items"]} == {Task.UNDERSTANDING.value}
    assert load_model(spec, adapter=tmp_path / "run" / "adapter").adapter


def test_drawings_in_the_training_of_a_model_that_only_answers_are_refused(spec_of, tmp_path):
    spec = spec_of("internvl")
    config = make_config(model=spec.name, targets="paper-emu3", **TINY)
    with pytest.raises(
        UserError, match=r"^Expected ratio_generation 0, as random-internvl cannot do generation, got 1"
    ):
        finetune(tmp_path / "run", config, specs=(spec,))
