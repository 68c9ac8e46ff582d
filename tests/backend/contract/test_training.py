"""What every family that can be fine-tuned promises: what is learnt, what is frozen, and adapters that come back."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from aia import world
from aia.batch import NO_LABEL
from aia.config import make_config
from aia.data import Sample, Turn, WorldData
from aia.intensity import GROUPS, PAD_GROUP, Definition, Group, Task, group_index, intensity
from aia.loss import SequenceProbe
from aia.targets import load_targets
from aia.training import Plan, Training, make_accelerator
from backend.families import as_trainable, load_model
from backend.interface import UserError
from backend.kept.captures import Sampling
from backend.models.adapters import prepare_training, save_adapter
from backend.models.specs import Precision
from tests.backend.contract.conftest import names_for
from tests.backend.contract.helpers import GREEDY, PICTURE, QUESTION, finish, squeeze

PIXELS = np.asarray(PICTURE)
OTHER = world.draw_scene(world.Scene((world.Thing("green", "star", "large", 40, 20),)))
ASKED = Sample(Task.UNDERSTANDING, PIXELS, (Turn(QUESTION, "red"),))
TALK = Sample(
    Task.UNDERSTANDING,
    PIXELS,
    (Turn(QUESTION, "red"), Turn("describe the image.", "a large red circle and a small blue square")),
)
DRAWN = Sample(Task.GENERATION, PIXELS, prompt="a red circle left of a blue square")
SHORT = Sample(Task.GENERATION, OTHER, prompt="a green star")


def samples_for(trainable):
    """A sample of each task that the model has."""
    draws = trainable.family.name in names_for("drawing_training")
    return [ASKED, SHORT] if draws else [ASKED]


def groups_of(batch, row=0):
    return [None if g == PAD_GROUP else GROUPS[g] for g in batch.groups[row].tolist()]


def words_of(trainable, batch, wanted, row=0):
    ids = [i for i, g in zip(batch.ids[row].tolist(), groups_of(batch, row), strict=True) if g == wanted]
    return squeeze(trainable.tokenizer.decode(ids))


@torch.no_grad()
def ntp(trainable, *samples):
    return trainable.ntp_sum(trainable.collate(samples, [False] * len(samples))).item()


def test_every_answer_of_a_conversation_is_generated_and_every_question_is_prompt(training):
    batch = training.collate([TALK], [False])
    assert words_of(training, batch, Group.GENERATED) == "redalargeredcircleandasmallbluesquare"
    assert words_of(training, batch, Group.PROMPT) == "whatcolouristhecircle?describetheimage."
    kinds = groups_of(batch)
    prefill = training.family.prefill(QUESTION, PICTURE)
    seen = [GROUPS[g] for g in prefill.groups.tolist()]
    for group in (Group.BOS, Group.BOI, Group.IMAGE, Group.IMAGE_LAST, Group.EOI):
        assert kinds.count(group) == seen.count(group), group


def test_answers_and_their_end_are_learnt_and_nothing_else(training):
    batch = training.collate([TALK], [False])
    learnt = [i for i in batch.labels[0].tolist() if i != NO_LABEL]
    ends = [i for i in learnt if i in training.family.stop_tokens()]
    assert len(ends) == 2
    told = squeeze(training.tokenizer.decode([i for i in learnt if i not in ends]))
    assert told == "redalargeredcircleandasmallbluesquare"
    following = batch.ids[0, 1:][batch.labels[0, :-1] != NO_LABEL]
    assert following.tolist() == learnt  # a label is what comes next


def test_the_prefill_of_decoding_is_the_beginning_of_the_taught_sequence(training):
    prefill = training.family.prefill(QUESTION, PICTURE)
    batch = training.collate([ASKED], [False])
    assert batch.ids[0, : prefill.length].tolist() == prefill.ids.tolist()
    assert batch.groups[0, : prefill.length].tolist() == prefill.groups.tolist()


def test_padding_changes_no_loss(training):
    for one in samples_for(training):
        two = TALK if one is ASKED else DRAWN
        assert ntp(training, one, two) == pytest.approx(ntp(training, one) + ntp(training, two), rel=1e-4)


def test_a_dropped_prompt_has_no_weight_and_other_words(drawing_training):
    kept, blank = drawing_training.collate([DRAWN], [False]), drawing_training.collate([DRAWN], [True])
    assert (kept.weights.tolist(), blank.weights.tolist()) == ([1.0], [0.0])
    assert kept.label_count == blank.label_count
    told = [b.labels[b.labels != NO_LABEL].tolist() for b in (kept, blank)]
    assert told[0] == told[1]
    shown = [squeeze(drawing_training.tokenizer.decode(b.ids[0])) for b in (kept, blank)]
    assert squeeze(DRAWN.prompt) in shown[0] and "square" not in shown[1]


def test_taught_rows_of_a_drawing_are_those_of_decoding(drawing_training):
    """Teacher-forced onto the tokens that decoding made: each definition gives the same curve."""
    family = drawing_training.family
    capture = finish(family.generate(DRAWN.prompt, Sampling(seed=2)))
    prefill = family.drawing_prefill(DRAWN.prompt)
    made = list(family.image_codes(prefill, Sampling(seed=2)))
    batch = drawing_training.collate([DRAWN], [False])
    start = prefill.length
    assert batch.groups[0, : start + len(made)].tolist() == [
        *prefill.groups.tolist(),
        *[group_index(Group.GENERATED)] * len(made),
    ]
    if batch.codes is None:
        batch.ids[0, start : start + len(made)] = torch.tensor(made)
    else:
        batch.codes[0] = torch.tensor(made)
    probe = SequenceProbe(batch.groups, batch.task)
    with torch.no_grad():
        drawing_training.ntp_sum(batch, probe)
    for definition in Definition:
        taught = probe.intensities(drawing_training.layers, definition)[0]
        np.testing.assert_allclose(taught.numpy(), intensity(capture.mass[0], Task.GENERATION, definition), atol=1e-5)


@torch.no_grad()
def test_taught_rows_of_an_answer_are_those_of_decoding(embedded_training):
    """With the tokens that greedy decoding chose, teacher-forced rows are the fed-back rows of a capture.

    On embedded models, whose answers are text that reads back as the same tokens.
    """
    sampling = Sampling(temperature=0, max_new_tokens=64)
    capture = finish(embedded_training.family.understand(PICTURE, "describe the image.", sampling))
    sample = Sample(Task.UNDERSTANDING, PIXELS, (Turn("describe the image.", capture.text),))
    batch = embedded_training.collate([sample], [False])
    probe = SequenceProbe(batch.groups, batch.task)
    embedded_training.ntp_sum(batch, probe)
    for definition in Definition:
        taught = probe.intensities(embedded_training.layers, definition)[0]
        decoded = intensity(capture.mass[0], Task.UNDERSTANDING, definition)
        np.testing.assert_allclose(taught.numpy(), decoded, atol=1e-5)


def test_a_conversation_longer_than_the_context_is_cut_and_has_no_weight(training):
    long = Sample(Task.UNDERSTANDING, PIXELS, (Turn("describe the image.", "red circle " * 400),))
    batch = training.collate([long], [False])
    assert batch.ids.shape[1] == training.family.context and batch.weights.tolist() == [0.0]
    assert batch.labels[0, -1] == NO_LABEL and batch.label_count > 100


def test_a_drawing_prompt_longer_than_the_context_is_refused_in_a_sentence(drawing_training):
    long = Sample(Task.GENERATION, PIXELS, prompt="red circle " * 400)
    with pytest.raises(UserError, match="shorten the prompt"):
        drawing_training.collate([long], [False])


def test_a_control_token_in_the_data_is_refused(training, family_of):
    control = family_of(training.family).CONTROL
    for turn in (Turn(f"what? {control}", "red"), Turn("what?", f"red {control}")):
        with pytest.raises(UserError, match="control token"):
            training.collate([Sample(Task.UNDERSTANDING, PIXELS, (turn,))], [False])


def test_gradients_reach_all_that_is_trained_and_nothing_frozen(random_training, copy_of):
    trainable = as_trainable(copy_of(random_training.family))
    trainable.model.requires_grad_(True)
    for sample in samples_for(trainable):
        trainable.ntp_sum(trainable.collate([sample], [False])).backward()
    reached = {n for n, p in trainable.model.named_parameters() if p.grad is not None}
    assert reached and all(name.startswith(trainable.trained_modules) for name in reached)
    for prefix in trainable.trained_modules:
        named = {n for n, _ in trainable.model.named_parameters() if n.startswith(prefix)}
        assert not named or named & reached, prefix


@pytest.fixture(scope="session")
def adapter_of(spec_of, tmp_path_factory):
    """A LoRA adapter of one family after a step of its own training, and what the model then says."""

    @cache
    def make(name):
        trainable = as_trainable(load_model(spec_of(name)))
        family = trainable.family
        before = {n: p.detach().clone() for n, p in trainable.model.named_parameters()}
        adapted = prepare_training(trainable, make_config(method="lora", lora_dropout=0.0))
        tunable = [p for p in trainable.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(tunable, lr=0.05)
        for _ in range(2):  # in the first step only one of the two factors has a gradient
            optimizer.zero_grad()
            sum(trainable.ntp_sum(trainable.collate([sample], [False])) for sample in samples_for(trainable)).backward()
            optimizer.step()
        folder = tmp_path_factory.mktemp(f"adapter-{name}")
        about = {"model": name, "revision": family.revision}
        save_adapter(folder, adapted, trainable.model, family.processor, trainable.model.state_dict(), about)
        adapted.requires_grad_(False)
        return folder, before, trainable

    return make


def logits_of(model, family):
    """Of a question, by this model or one like the family's."""
    with torch.inference_mode():
        return model(**family.first_inputs(family.prefill(QUESTION, PICTURE)), use_cache=False).logits


def test_a_lora_step_changes_adapters_and_leaves_every_weight_of_the_base(random_training, adapter_of):
    _, before, trainable = adapter_of(random_training.family.name)
    after = {n.replace(".base_layer", ""): p for n, p in trainable.model.named_parameters()}
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    moved = [n for n, p in after.items() if "lora_B" in n and p.abs().max() > 0]
    layers = {n.split("layers.")[1].split(".")[0] for n in moved if "layers." in n}
    assert len(layers) == trainable.layers
    trained = logits_of(trainable.model, trainable.family)
    assert not torch.allclose(trained, logits_of(random_training.model, random_training.family), atol=1e-3)


def test_a_saved_adapter_comes_back_as_it_was(random_training, adapter_of, copy_of):
    folder, _, trainable = adapter_of(random_training.family.name)
    again = copy_of(random_training.family, adapter=folder)
    assert again.adapter
    torch.testing.assert_close(logits_of(again.model, again), logits_of(trainable.model, trainable.family))
    assert finish(again.understand(PICTURE, QUESTION, GREEDY)).key.adapter == again.adapter


def test_a_saved_adapter_loads_with_plain_peft_onto_the_plain_model(random_training, adapter_of, spec_of):
    folder, _, trainable = adapter_of(random_training.family.name)
    spec = spec_of(random_training.family.name)
    config = deepcopy(trainable.model.config)  # a family may have lowered how large pictures are read
    plain = type(trainable.family).model_class.from_pretrained(
        spec.source, config=config, dtype=torch.float32, attn_implementation="sdpa"
    )
    plain = PeftModel.from_pretrained(plain, str(folder)).eval()
    expected = logits_of(trainable.model, trainable.family)
    torch.testing.assert_close(logits_of(plain, trainable.family), expected, atol=1e-4, rtol=1e-4)


# --- adapters on a base in 4 bit, with the AIA loss and activations computed twice ---


def train_on_four_bit(spec, folder, checkpointing):
    """A step of each task that the model has, by the trainer → the trainable, its events, calls of a first layer."""
    family = load_model(spec, precision=Precision.NF4)
    trainable = as_trainable(family)
    ratios = {f"ratio_{task}": float(task in spec.tasks) for task in Task}
    settings = {"method": "qlora", "gradient_checkpointing": checkpointing, "learning_rate": 0.02, **ratios}
    settings |= {"steps": 2, "batch_size": 2, "warmup": 0.0, "schedule": "constant"}
    config = next(
        config
        for config in (make_config(**settings, seed=seed) for seed in range(50))
        if set(Plan(config).tasks) == set(spec.tasks)
    )
    torch.manual_seed(0)
    adapted = prepare_training(trainable, config)
    targets, events, calls = load_targets("paper-janus-pro", trainable.layers), [], []
    parts = trainable.model.named_modules()
    layer = next(part for name, part in parts if ".layers.0." in name and isinstance(part, LoraLayer))
    layer.register_forward_hook(lambda *_: calls.append(1))
    accelerator = make_accelerator(config)
    training = Training(trainable, WorldData(0), targets, config, folder, {}, accelerator, events.append)
    for _ in range(config.steps):
        training.train_step()
    return trainable, adapted, events, len(calls)


def tensors_of(trainable, four_bit):
    return {
        name: weight.detach().clone()
        for name, weight in trainable.model.named_parameters()
        if (weight.dtype == torch.uint8 if four_bit else weight.requires_grad)
    }


def test_adapters_on_four_bit_learn_from_aia_and_checkpointing_changes_nothing(random_training, spec_of, tmp_path):
    spec = spec_of(random_training.family.name)
    whole, adapted, events, once = train_on_four_bit(spec, tmp_path / "a", False)
    thrifty, _, _, twice = train_on_four_bit(spec, tmp_path / "b", True)
    assert twice == 2 * once
    for task in Task:
        told = [event[f"aia_{task}"] for event in events if event.get(f"aia_{task}") is not None]
        assert len(told) == (2 // len(spec.tasks) if task in spec.tasks else 0) and all(value > 0 for value in told)
    kept = tensors_of(as_trainable(load_model(spec, precision=Precision.NF4)), True)
    after = {name.replace(".base_layer", ""): weight for name, weight in tensors_of(whole, True).items()}
    assert kept and after.keys() == kept.keys() and all(torch.equal(after[name], kept[name]) for name in kept)
    learnt, same = tensors_of(whole, False), tensors_of(thrifty, False)
    assert learnt and all("lora_" in name for name in learnt)
    assert sum(bool(weight.any()) for name, weight in learnt.items() if "lora_B" in name) >= 7 * whole.layers
    for name, weight in learnt.items():
        torch.testing.assert_close(same[name], weight, atol=1e-4, rtol=1e-3)
    check_plain_peft_takes(whole, adapted, spec, tmp_path)


def check_plain_peft_takes(trainable, adapted, spec, folder):
    """An adapter that learnt on 4 bit, put by `peft` alone onto the plain model in full precision."""
    family = trainable.family
    about = {"model": spec.name, "revision": family.revision}
    save_adapter(folder / "adapter", adapted, trainable.model, family.processor, trainable.model.state_dict(), about)
    plain = PeftModel.from_pretrained(
        type(family).model_class.from_pretrained(spec.source, dtype=torch.float32), str(folder / "adapter")
    )
    theirs = {name: weight for name, weight in plain.named_parameters() if "lora_" in name}
    ours = {name: weight for name, weight in adapted.named_parameters() if "lora_" in name}
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_a_model_that_only_answers_takes_no_drawing_to_learn(random_training):
    if random_training.family.name in names_for("drawing_training"):
        assert random_training.collate([DRAWN], [False]).task == Task.GENERATION
        return
    with pytest.raises(UserError, match="only answers about pictures; train it without drawings"):
        random_training.collate([DRAWN], [False])
