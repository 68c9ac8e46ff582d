"""Weights in the original Janus naming: converted key by key to the same model, or refused with what did not map."""

import json
import os
import pickle
import re
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from aia.intensity import Task
from app.cli import cli
from backend.families import load_model
from backend.interface import UserError
from backend.kept.captures import Sampling
from backend.models.added_models import AddedModels
from backend.models.import_report import DoesNotFit
from backend.models.importing import import_weights
from backend.models.original_janus import translate
from tests.backend.contract.helpers import GREEDY, PICTURE, QUESTION, finish

EYES, CODEC = "vision_model.vision_tower", "gen_vision_model"

# Names as the modules of DeepSeek's code give them (janus/models/modeling_vlm.py, siglip_vit.py, vq_model.py).
KNOWN = {
    "language_model.model.embed_tokens.weight": "model.language_model.embed_tokens.weight",
    "language_model.model.layers.7.self_attn.q_proj.weight": "model.language_model.layers.7.self_attn.q_proj.weight",
    "language_model.model.norm.weight": "model.language_model.norm.weight",
    "language_model.lm_head.weight": "lm_head.weight",
    f"{EYES}.pos_embed": "model.vision_model.embeddings.position_embedding.weight",
    f"{EYES}.patch_embed.proj.bias": "model.vision_model.embeddings.patch_embedding.bias",
    f"{EYES}.blocks.23.norm2.weight": "model.vision_model.encoder.layers.23.layer_norm2.weight",
    f"{EYES}.blocks.0.attn.proj.bias": "model.vision_model.encoder.layers.0.self_attn.projection_layer.bias",
    f"{EYES}.blocks.0.mlp.fc2.weight": "model.vision_model.encoder.layers.0.mlp.fc2.weight",
    f"{EYES}.norm.bias": "model.vision_model.post_layernorm.bias",
    "aligner.layers.0.weight": "model.aligner.fc1.weight",
    "aligner.layers.2.bias": "model.aligner.hidden_layers.0.bias",
    "gen_aligner.layers.0.bias": "model.generation_aligner.fc1.bias",
    "gen_aligner.layers.2.weight": "model.generation_aligner.hidden_layers.0.weight",
    "gen_head.output_mlp_projector.weight": "model.generation_head.proj_out.weight",
    "gen_head.vision_head.bias": "model.generation_head.vision_head.bias",
    "gen_embed.weight": "model.generation_embeddings.weight",
    f"{CODEC}.quantize.embedding.weight": "model.vqmodel.quantize.embedding.weight",
    f"{CODEC}.post_quant_conv.weight": "model.vqmodel.post_quant_conv.weight",
    f"{CODEC}.encoder.conv_in.weight": "model.vqmodel.encoder.conv_in.weight",
    f"{CODEC}.encoder.conv_blocks.1.res.0.conv1.weight": "model.vqmodel.encoder.down.1.block.0.conv1.weight",
    f"{CODEC}.encoder.conv_blocks.4.attn.1.proj_out.bias": "model.vqmodel.encoder.down.4.attn.1.proj_out.bias",
    f"{CODEC}.encoder.conv_blocks.0.downsample.conv.weight": "model.vqmodel.encoder.down.0.downsample.conv.weight",
    f"{CODEC}.encoder.mid.1.norm.weight": "model.vqmodel.encoder.mid.attn_1.norm.weight",
    f"{CODEC}.decoder.mid.2.conv1.weight": "model.vqmodel.decoder.mid.block_2.conv1.weight",
    f"{CODEC}.decoder.conv_blocks.0.attn.2.q.weight": "model.vqmodel.decoder.up.0.attn.2.q.weight",
    f"{CODEC}.decoder.conv_blocks.3.upsample.conv.bias": "model.vqmodel.decoder.up.3.upsample.conv.bias",
    f"{CODEC}.decoder.norm_out.weight": "model.vqmodel.decoder.norm_out.weight",
}
NOT_NEEDED = (
    f"{EYES}.attn_pool.latent",
    f"{EYES}.attn_pool.mlp.fc1.weight",
    f"{CODEC}.quantize.codebook_used",
    "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
)


@pytest.mark.parametrize(("original", "ours"), KNOWN.items())
def test_each_known_name_has_its_place(original, ours):
    assert translate(original) == (ours,)
    assert translate(f"module.{original}") == translate(ours) == (ours,)


def test_a_fused_projection_is_cut_and_what_is_not_needed_left_out():
    layer = "model.vision_model.encoder.layers.11.self_attn"
    assert translate(f"{EYES}.blocks.11.attn.qkv.bias") == tuple(f"{layer}.{p}_proj.bias" for p in "qkv")
    assert [translate(name) for name in NOT_NEEDED] == [()] * 4
    assert [translate(name) for name in ("optimizer.state", "aligner.layers.1.weight", "vision_model.x")] == [None] * 3


# --- a tiny model under the original names, written back by hand ---

RENAMES = (
    (r"^lm_head", "language_model.lm_head"),
    (r"^model\.language_model", "language_model.model"),
    (r"^model\.vision_model\.embeddings\.position_embedding\.weight", f"{EYES}.pos_embed"),
    (r"^model\.vision_model\.embeddings\.patch_embedding", f"{EYES}.patch_embed.proj"),
    (r"^model\.vision_model\.post_layernorm", f"{EYES}.norm"),
    (r"^model\.vision_model\.encoder\.layers", f"{EYES}.blocks"),
    (r"self_attn\.projection_layer", "attn.proj"),
    (r"(blocks\.\d+)\.layer_norm", r"\1.norm"),
    (r"^model\.vqmodel", CODEC),
    (r"\.(down|up)\.", ".conv_blocks."),
    (r"(conv_blocks\.\d+)\.block", r"\1.res"),
    (r"mid\.block_1", "mid.0"),
    (r"mid\.attn_1", "mid.1"),
    (r"mid\.block_2", "mid.2"),
    (r"^model\.aligner\.fc1", "aligner.layers.0"),
    (r"^model\.aligner\.hidden_layers\.0", "aligner.layers.2"),
    (r"^model\.generation_aligner\.fc1", "gen_aligner.layers.0"),
    (r"^model\.generation_aligner\.hidden_layers\.0", "gen_aligner.layers.2"),
    (r"^model\.generation_head\.proj_out", "gen_head.output_mlp_projector"),
    (r"^model\.generation_head\.vision_head", "gen_head.vision_head"),
    (r"^model\.generation_embeddings", "gen_embed"),
)


def originally(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A model's weights as the original code would hold them, with the parts that only it has."""
    made = {}
    for name, tensor in state.items():
        for pattern, original in RENAMES:
            name = re.sub(pattern, original, name)
        if EYES in name and (match := re.search(r"self_attn\.([qkv])_proj", name)):
            parts = made.setdefault(name.replace(f"self_attn.{match[1]}_proj", "attn.qkv"), {})
            parts[match[1]] = tensor
            continue
        made[name] = tensor[None].clone() if name.endswith("pos_embed") else tensor.clone()
    fused = {n: torch.cat([t[p] for p in "qkv"]) if isinstance(t, dict) else t for n, t in made.items()}
    return fused | {name: torch.zeros(3) for name in NOT_NEEDED}


@pytest.fixture(scope="module")
def original(random_janus):
    return originally(random_janus.model.state_dict())


@pytest.fixture(scope="module")
def base(random_janus_spec, tmp_path_factory):
    """Settings and processor alone: an import needs no weights of its base."""
    folder = tmp_path_factory.mktemp("base")
    shutil.copytree(
        random_janus_spec.source, folder, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True
    )
    return folder


def save_whole(folder, state):
    torch.save(state, folder / "aia.pth")
    return folder / "aia.pth"


def save_nested(folder, state):
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"epoch": 3, "model": {"state_dict": wrapped}, "loss": [0.5]}, folder / "aia.pt")
    return folder / "aia.pt"


def save_old_format(folder, state):
    torch.save(state, folder / "aia.bin", _use_new_zipfile_serialization=False)
    return folder


def save_safe(folder, state):
    save_file(state, folder / "aia.safetensors")
    return folder / "aia.safetensors"


def save_shards(folder, state):
    index = {}
    for number in range(2):
        part = dict(list(state.items())[number::2])
        torch.save(part, folder / f"pytorch_model-{number}.bin")
        index |= dict.fromkeys(part, f"pytorch_model-{number}.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


@pytest.mark.parametrize("save", [save_whole, save_nested, save_old_format, save_safe, save_shards])
def test_an_imported_model_is_the_one_that_was_saved(random_janus, random_janus_spec, original, base, tmp_path, save):
    (tmp_path / "in").mkdir()
    report = import_weights(save(tmp_path / "in", original), base, tmp_path / "out")
    assert report.fits and len(report.left_out) == len(NOT_NEEDED)
    again = load_model(replace(random_janus_spec, source=str(tmp_path / "out")))
    there = again.model.state_dict()
    assert all(torch.equal(tensor, there[name]) for name, tensor in random_janus.model.state_dict().items())
    if save is save_whole:
        for capture, same in (
            [finish(m.understand(PICTURE, QUESTION, GREEDY)) for m in (random_janus, again)],
            [finish(m.generate("a red circle", Sampling(seed=1, guidance=2))) for m in (random_janus, again)],
        ):
            assert capture.tokens == same.tokens and (capture.mass == same.mass).all()


def test_what_does_not_map_is_refused_with_every_name(original, base, tmp_path):
    state = dict(original)
    del state["aligner.layers.0.bias"]
    state["gen_embed.weight"] = torch.zeros(2, 2)
    state["surprise.weight"] = torch.zeros(1)
    with pytest.raises(DoesNotFit, match=r"1 missing \(first model.aligner.fc1.bias\), 1 unknown") as refused:
        import_weights(save_whole(tmp_path, state), base, tmp_path / "out")
    report = refused.value.report
    assert report.missing == ("model.aligner.fc1.bias",) and report.unexpected == ("surprise.weight",)
    assert report.wrong_shape == ("model.generation_embeddings.weight: expected [32, 8], got [2, 2]",)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


class Hostile:
    """Unpickling it runs a command, if anything is ever run."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("how", ["zip", "plain"])
def test_a_hostile_pickle_is_refused_and_nothing_is_run(original, base, tmp_path, how):
    mark, path = tmp_path / "was-run", tmp_path / "evil.pt"
    content = dict(original) | {"evil": Hostile(mark)}
    if how == "zip":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content["evil"]))
    with pytest.raises(UserError, match="of which nothing was run; save the state dict alone"):
        import_weights(path, base, tmp_path / "out")
    assert not mark.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("save", [save_whole, save_old_format, save_safe])
@pytest.mark.parametrize("kept", [0.0, 0.4, 0.98])
def test_a_cut_file_is_refused_in_a_sentence(original, base, tmp_path, save, kept):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in", original)
    (path,) = (tmp_path / "in").iterdir()
    os.truncate(path, int(kept * path.stat().st_size))
    with pytest.raises(UserError, match=r"damaged or cut off|nothing but tensors"):
        import_weights(path, base, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"), [({"a": 1}, "Expected tensors by name"), ([1], "Expected tensors"), ({}, "Expected tensors")]
)
def test_a_file_without_tensors_is_refused(base, tmp_path, content, said):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UserError, match=said):
        import_weights(tmp_path / "x.pt", base, tmp_path / "out")


def test_an_index_names_only_files_beside_it(base, tmp_path):
    index = tmp_path / "pytorch_model.bin.index.json"
    for names, said in ({"a": "../secret.bin"}, "Expected an index"), ({"a": "gone.bin"}, "gone.bin is missing"):
        index.write_text(json.dumps({"weight_map": names}))
        with pytest.raises(UserError, match=said):
            import_weights(tmp_path, base, tmp_path / "out")


def test_only_a_janus_is_a_base(original, base, tmp_path):
    other = shutil.copytree(base, tmp_path / "other")
    (other / "config.json").write_text('{"model_type": "emu3"}')
    with pytest.raises(UserError, match="base of the Janus architecture"):
        import_weights(save_whole(tmp_path, original), other, tmp_path / "out")
    with pytest.raises(UserError, match="found none at"):
        import_weights(tmp_path / "aia.pth", tmp_path / "nowhere", tmp_path / "out")


def test_a_full_disk_is_said_and_leaves_nothing(original, base, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(2**40, 2**40, 2**20))
    with pytest.raises(UserError, match=r"on the disk for the imported model, got 0\.0 GiB; free some space"):
        import_weights(save_whole(tmp_path, original), base, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_the_command_adds_a_model_that_works(original, base, tmp_path, monkeypatch):
    monkeypatch.setenv("AIA_LENS_DATA", str(tmp_path / "data"))
    file = save_whole(tmp_path, original)
    asked = ["models", "--import", str(file), "--as", "janus-aia", "--base", str(base), "--json", str(tmp_path / "r")]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0, done.exception
    assert json.loads((tmp_path / "r").read_text())["import"]["fits"] and "janus-aia" in done.output
    (spec,) = AddedModels().specs()
    assert spec.name == "janus-aia" and spec.tasks == frozenset(Task)
    assert finish(load_model(spec).understand(PICTURE, QUESTION, GREEDY)).key.model == "janus-aia"
    again = CliRunner().invoke(cli, asked)
    assert isinstance(again.exception, UserError) and "found" in str(again.exception)
