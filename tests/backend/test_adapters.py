"""Adapters on a loaded model: put on, scaled, switched and taken off, with captures that tell them apart."""

import pytest
import torch
from PIL import Image

from aia import world
from aia.config import make_config
from backend.engine import Adapter, Engine
from backend.families import as_trainable, load_model
from backend.interface import Finished, UserError
from backend.kept.store import CaptureStore
from backend.models.adapters import apply_adapter, prepare_training, save_adapter
from backend.models.specs import SPECS

PICTURE = Image.fromarray(world.draw_scene(world.Scene((world.Thing("red", "star", "large", 32, 32),))))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two LoRA adapters with random weights and one folder of whole weights, each of tiny-janus."""
    root = tmp_path_factory.mktemp("adapters")
    for seed, method in enumerate(("lora", "lora", "full")):
        torch.manual_seed(seed)
        model = load_model(SPECS[0])
        adapted = prepare_training(as_trainable(model), make_config(method=method))
        with torch.no_grad():
            for name, parameter in model.model.named_parameters():
                if "lora_B" in name or (adapted is None and parameter.requires_grad and parameter.ndim > 1):
                    parameter.add_(torch.randn_like(parameter) * 0.02)
        about = {"model": "tiny-janus", "revision": model.revision}
        weights = model.model.state_dict()
        save_adapter(root / f"{method}-{seed}", adapted, model.model, model.processor, weights, about)
    return root


@pytest.fixture
def engine(tmp_path, folders):
    def find(adapter_id):
        if not (folders / adapter_id).is_dir():
            raise UserError(f"No adapter {adapter_id}; choose another.")
        return folders / adapter_id

    return Engine(CaptureStore(tmp_path / "captures"), find_adapter=find)


def ask(engine, adapter="", strength=1.0):
    *_, last = engine.understand("tiny-janus", PICTURE, "describe the image.", adapter=Adapter(adapter, strength))
    assert isinstance(last, Finished)
    return last


def test_each_adapter_and_strength_has_a_capture_of_its_own(engine):
    base = ask(engine).capture
    found = [ask(engine, "lora-0").capture, ask(engine, "lora-0", 0.5).capture, ask(engine, "lora-1").capture]
    assert len({base.id, *(c.id for c in found)}) == 4
    assert all(not (c.mass.shape == base.mass.shape and (c.mass == base.mass).all()) for c in found)


def test_strength_nought_is_the_base_model_and_its_very_capture(engine):
    base = ask(engine)
    again = ask(engine, "lora-0", 0.0)
    assert again.cached and again.capture.id == base.capture.id


def test_the_base_model_is_as_it_was_after_an_adapter_came_off(engine, tmp_path):
    base = ask(engine).capture
    ask(engine, "lora-0"), ask(engine, "lora-1")
    engine.store = CaptureStore(tmp_path / "fresh")
    after = ask(engine)
    assert not after.cached and after.capture.id == base.id and (after.capture.mass == base.mass).all()


def test_an_adapter_put_on_again_is_as_it_was(engine, tmp_path):
    first = ask(engine, "lora-0").capture
    ask(engine, "lora-1", 0.3), ask(engine)
    engine.store = CaptureStore(tmp_path / "fresh")
    again = ask(engine, "lora-0")
    assert not again.cached and (again.capture.mass == first.mass).all()


def test_full_strength_is_the_adapter_as_it_was_trained(engine, folders):
    wanted = load_model(SPECS[0], adapter=folders / "lora-0")
    *_, last = wanted.understand(PICTURE, "describe the image.", ask(engine).capture.key.sampling)
    assert last.capture.id == ask(engine, "lora-0").capture.id
    assert (last.capture.mass == ask(engine, "lora-0").capture.mass).all()


def test_whole_weights_take_the_place_of_the_base_and_cannot_be_scaled(engine):
    assert ask(engine, "full-2").capture.key.revision != ask(engine).capture.key.revision
    with pytest.raises(UserError, match="cannot be scaled"):
        ask(engine, "full-2", 0.5)


@pytest.mark.parametrize("strength", [-0.1, 2.5])
def test_a_strength_out_of_range_is_refused(engine, strength):
    with pytest.raises(UserError, match="strength from 0 to 2"):
        ask(engine, "lora-0", strength)


def test_an_unknown_adapter_is_refused_and_the_base_goes_on(engine):
    with pytest.raises(UserError, match="No adapter gone"):
        ask(engine, "gone")
    assert ask(engine).capture.text


def test_an_engine_without_adapters_says_what_to_do(tmp_path, tiny_janus):
    engine = Engine(CaptureStore(tmp_path / "captures"))
    engine.adopt(tiny_janus)
    with pytest.raises(UserError, match="fine-tune a model first"):
        ask(engine, "any")


def test_a_folder_that_is_no_adapter_is_refused(tmp_path):
    with pytest.raises(UserError, match="found neither"):
        load_model(SPECS[0], adapter=tmp_path)


def test_an_adapter_without_its_weights_is_refused(folders, tmp_path, tiny_janus_copy):
    (tmp_path / "adapter_config.json").write_text((folders / "lora-0" / "adapter_config.json").read_text())
    with pytest.raises(UserError, match=r"Expected adapter_model\.safetensors"):
        apply_adapter(tiny_janus_copy, tmp_path)
