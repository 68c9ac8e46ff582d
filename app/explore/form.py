"""The form of the Explore tab: its fields, what they hold when sent, and how a capture fills them.

Knows models' specs, samples and sampling settings; runs nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

import gradio as gr
from pydantic import TypeAdapter

from aia.intensity import Task
from app.components.chips import ExampleChips
from app.components.picture import PictureChoice, PictureField
from app.explore.samples import UPLOAD_QUESTIONS, Samples
from app.explore.views import data_url
from backend.engine import BASE, Adapter
from backend.finetuning.memory import format_bytes
from backend.interface import UserError
from backend.kept.captures import Capture, CaptureKey, Sampling
from backend.models.catalogue import CURVES_ONLY
from backend.models.drawing_sizes import ASPECTS, allows_sizes
from backend.models.loading_memory import loading_memory
from backend.models.specs import ModelSpec, Precision
from backend.pictures import MAX_FILE_BYTES, load_picture, pixels_sha256
from backend.sampling import GENERATION_SAMPLING, RANGES, UNDERSTANDING_SAMPLING

TASK_LABELS = {Task.UNDERSTANDING: "Understand", Task.GENERATION: "Draw"}
PRECISION_LABELS = {Precision.FULL: "Full", Precision.INT8: "int8", Precision.NF4: "NF4"}

# A sample brings its own example questions, and the first of them unless the user wrote their own.
_ON_PICTURE_JS = """(choice, chips, question) => {
  const untouched = !question.trim() || chips.examples.includes(question);
  const examples = choice.questions || chips.examples;
  return [{ examples, chosen: null }, untouched && choice.sample ? examples[0] : question];
}"""
# A model that can only do one task turns the form to it. What follows from the model is marked on the form, since the
# fields under a closed fold are not in the page yet.
_ON_MODEL_JS = """(name, task, size) => {
  const [note, memory, tasks, sized] = (%s)[name];
  const form = document.querySelector("#lens-form");
  form.classList.toggle("lens-sized", sized);
  form.dataset.only = tasks.length === 1 ? tasks[0] : "";
  return [note, memory, tasks.length && !tasks.includes(task) ? tasks[0] : task, sized ? size : ""];
}"""
SEED = 0  # what the form starts with
FILLED = 15  # how many components a capture fills: `Form.filled`
_SHOW_STRENGTH_JS = """(adapter) => {
  document.querySelector("#lens-strength").classList.toggle("lens-shown", Boolean(adapter));
  return [];
}"""
_NEW_SEED_JS = "() => Math.floor(Math.random() * 1e6)"


@dataclass(frozen=True)
class Form:
    """The tab's controls. `fields` are what a run takes, in the order of `Request`."""

    fields: list[gr.components.Component]
    examples: ExampleChips  # the example questions that fit the picture
    ask: gr.Button
    draw: gr.Button
    stop: gr.Button
    unload: gr.Button
    submits: list[Any]  # the text fields' own submit events

    @property
    def filled(self) -> list[gr.components.Component]:
        """What `fill_form` has values for."""
        return [*self.fields, self.examples]


@dataclass(frozen=True)
class Request:
    """What the form held when it was sent, in the order of `Form.fields`."""

    model: str
    task: Task
    picture: PictureChoice | None
    question: str | None
    prompt: str | None
    seed: float | None
    answer_temperature: float | None
    max_new_tokens: float | None
    drawing_temperature: float | None
    guidance: float | None
    size: str | None
    adapter: str | None
    strength: float | None
    precision: Precision

    @property
    def fine_tuned(self) -> Adapter:
        """The adapter to put on, none where none is chosen."""
        return Adapter(self.adapter, number(self.strength, "strength")) if self.adapter else BASE

    @property
    def words(self) -> str:
        """The question or the prompt, whichever the task takes."""
        return (self.question if self.task == Task.UNDERSTANDING else self.prompt) or ""

    @property
    def sampling(self) -> Sampling:
        """Raises `UserError` when a number is missing; ranges are the engine's to check."""
        seed = whole_number(self.seed, "seed")
        if self.task == Task.GENERATION:
            return replace(
                GENERATION_SAMPLING,
                seed=seed,
                temperature=number(self.drawing_temperature, "temperature"),
                guidance=number(self.guidance, "guidance"),
                size=self.size or "",
            )
        return replace(
            UNDERSTANDING_SAMPLING,
            seed=seed,
            temperature=number(self.answer_temperature, "temperature"),
            max_new_tokens=whole_number(self.max_new_tokens, "longest answer"),
        )


_REQUEST = TypeAdapter(Request)  # made once: it takes longer than reading a request


def parse_request(body: bytes) -> Request:
    """What the page sends: a JSON list of the values of `Form.fields`. Raises `UserError` on anything else."""
    names = [field.name for field in fields(Request)]
    try:
        return _REQUEST.validate_python(dict(zip(names, json.loads(body), strict=True)))
    except (ValueError, TypeError, RecursionError) as error:  # pydantic's and json's own are among them
        raise UserError("Expected what this page's form sends, got something else; reload the page.") from error


def number(value: Any, name: str) -> float:
    """A number as it came. Raises `UserError` for none, or anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    got = "nothing" if value is None else type(value).__name__
    raise UserError(f"Expected a number as {name}, got {got}; give one.")


def whole_number(value: Any, name: str) -> int:
    """A whole number, 1.0 among them. Raises `UserError` for anything else."""
    given = number(value, name)
    if isinstance(given, float) and not given.is_integer():
        raise UserError(f"Expected a whole number as {name}, got {given:g}; give one without a fraction.")
    return int(given)


def make_form(specs: tuple[ModelSpec, ...], samples: Samples, adapters: list[tuple[str, str]]) -> Form:
    """Create the controls inside the current Gradio context."""
    others = [(f"{other.title} · reference curve only", other.name) for other in CURVES_ONLY]
    model = gr.Dropdown(
        [(spec.title, spec.name) for spec in specs] + others,
        value=specs[0].name,
        label="Model",
        filterable=False,
        elem_id="lens-model",
    )
    note = gr.HTML(specs[0].note, apply_default_css=False, js_on_load=None, elem_id="lens-model-note")
    adapter, strength = _make_adapter_fields(adapters)
    task = gr.Radio(
        [(label, task.value) for task, label in TASK_LABELS.items()],
        value=Task.UNDERSTANDING.value,
        label="Task",
        elem_id="lens-task",
    )
    with gr.Column(elem_classes="lens-when-understanding", elem_id="lens-understanding"):
        picture, question, examples = _make_understanding_fields(samples)
        ask = gr.Button("Ask", variant="primary", elem_id="lens-ask")
    with gr.Column(elem_classes="lens-when-generation", elem_id="lens-generation"):
        prompt = _make_prompt_field(samples)
        draw = gr.Button("Draw", variant="primary", elem_id="lens-draw")
    stop = gr.Button("Stop", elem_id="lens-stop")
    *sampling, precision, memory, unload = _make_settings_fields(describe_memory(specs[0]))
    size = sampling[-1]
    js, told = _ON_MODEL_JS % json.dumps(about_models(specs)), [note, memory, task, size]
    model.change(fn=None, js=js, inputs=[model, task, size], outputs=told)
    model.input(fn=None, js=own_sampling_js(specs), inputs=model, outputs=list(sampling[3:5]))
    fields = [model, task, picture, question, prompt, *sampling, adapter, strength, precision]
    return Form(fields, examples, ask, draw, stop, unload, [question.submit, prompt.submit])


def about_models(specs: tuple[ModelSpec, ...]) -> dict[str, list[Any]]:
    """By name what the form says of a model: note, memory, tasks, and whether it draws any size."""
    about = {
        spec.name: [spec.note, describe_memory(spec), [t.value for t in Task if t in spec.tasks], allows_sizes(spec)]
        for spec in specs
    }
    for other in CURVES_ONLY:
        link = f'<a href="?compare={",".join(f"paper:{slug}" for slug in other.curves)}">Open it in Compare</a>'
        about[other.name] = [f"The paper’s curve only: {other.why}. {link}", "", [], False]
    return about


def drawn_with(specs: tuple[ModelSpec, ...]) -> dict[str, list[float]]:
    """By name the temperature and the guidance that a model draws with unless somebody says otherwise."""
    own = {spec.name: [spec.temperature, spec.guidance] for spec in specs}
    return own | {other.name: [GENERATION_SAMPLING.temperature, GENERATION_SAMPLING.guidance] for other in CURVES_ONLY}


def own_sampling_js(specs: tuple[ModelSpec, ...]) -> str:
    """For the event of choosing a model: the temperature and the guidance that it draws best with.

    What a capture brings back is left as it is: that is no choice of somebody's.
    """
    return f"(name) => ({json.dumps(drawn_with(specs))})[name]"


def describe_memory(spec: ModelSpec) -> str:
    """What a model takes in each precision, estimated."""
    needed = {p: sum(part.bytes for part in loading_memory(spec, p).values()) for p in Precision}
    told = ", ".join(f"{format_bytes(needed[p])} in {label}" for p, label in PRECISION_LABELS.items())
    return f"With one request about {told.replace('Full', 'full')}."


def _make_adapter_fields(adapters: list[tuple[str, str]]) -> tuple[gr.Dropdown, gr.Slider]:
    """What fine-tunes left, and how much of it; the strength shows where an adapter is chosen."""
    adapter = gr.Dropdown(adapters, value="", label="Adapter", filterable=False, elem_id="lens-adapter")
    strength = gr.Slider(
        0, 2, 1, step=0.05, label="Strength", info="0 is the base model, 1 as trained.", elem_id="lens-strength"
    )
    adapter.change(fn=None, js=_SHOW_STRENGTH_JS, inputs=adapter)
    return adapter, strength


def _make_understanding_fields(samples: Samples) -> tuple[PictureField, gr.Textbox, ExampleChips]:
    picture = PictureField(
        samples=[{"file": s.file, "title": s.title, "url": s.url, "questions": s.questions} for s in samples.pictures],
        default_questions=list(UPLOAD_QUESTIONS),
        max_mib=MAX_FILE_BYTES // 2**20,
        elem_id="lens-picture",
    )
    question = gr.Textbox(label="Question", lines=2, max_lines=6, elem_id="lens-question")
    examples = ExampleChips(list(samples.pictures[0].questions), "Example questions", elem_id="lens-question-examples")
    _fill_from(examples, question)
    gr.on(
        [picture.select, picture.upload],
        fn=None,
        js=_ON_PICTURE_JS,
        inputs=[picture, examples, question],
        outputs=[examples, question],
    )
    return picture, question, examples


def _make_prompt_field(samples: Samples) -> gr.Textbox:
    prompt = gr.Textbox(label="Prompt", lines=2, max_lines=6, value=samples.drawings[0], elem_id="lens-prompt")
    drawings = ExampleChips(list(samples.drawings), "Example prompts", elem_id="lens-prompt-examples")
    _fill_from(drawings, prompt)
    return prompt


def _fill_from(chips: ExampleChips, box: gr.Textbox) -> None:
    """A click on an example writes it into the box, in the page alone."""
    chips.select(fn=None, js="(chips) => chips.chosen", inputs=chips, outputs=box)


def _make_settings_fields(memory: str) -> tuple[gr.components.Component, ...]:
    """Seed, temperature and length of an answer, temperature, guidance and size of a drawing, weights, unloading.

    `memory` says what the weights take.
    """
    answer, drawing = UNDERSTANDING_SAMPLING, GENERATION_SAMPLING
    with gr.Accordion("Sampling, seed, weights", open=False, elem_id="lens-sampling"):
        with gr.Row(elem_id="lens-seed-row"):
            seed = gr.Number(label="Seed", value=SEED, precision=0, elem_id="lens-seed")
            new_seed = gr.Button("New seed", size="sm", elem_id="lens-new-seed")
        new_seed.click(fn=None, js=_NEW_SEED_JS, outputs=seed)
        with gr.Column(elem_classes="lens-when-understanding"):
            answer_temperature = gr.Slider(
                *RANGES["temperature"], answer.temperature, step=0.05, label="Temperature", info="0 is greedy."
            )
            max_new_tokens = gr.Slider(
                *RANGES["max_new_tokens"], answer.max_new_tokens, step=1, label="Longest answer, in tokens"
            )
        with gr.Column(elem_classes="lens-when-generation"):
            drawing_temperature = gr.Slider(*RANGES["temperature"], drawing.temperature, step=0.05, label="Temperature")
            guidance = gr.Slider(*RANGES["guidance"], drawing.guidance, step=0.5, label="Guidance", info="1 is none.")
            size = _make_size_field()
        precision = gr.Radio(
            [(label, value.value) for value, label in PRECISION_LABELS.items()],
            value=Precision.FULL.value,
            label="Weights",
            info="int8 and NF4 take less memory and change the numbers a little.",
            elem_id="lens-precision",
            elem_classes="lens-segments lens-three",
        )
        taken = gr.HTML(memory, apply_default_css=False, js_on_load=None, elem_id="lens-memory")
        unload = gr.Button("Unload the model", size="sm", elem_id="lens-unload")
    return seed, answer_temperature, max_new_tokens, drawing_temperature, guidance, size, precision, taken, unload


def _make_size_field() -> gr.Textbox:
    """The size of a drawing, with aspects to click; shown for models that draw more than one."""
    with gr.Column(elem_id="lens-size"):
        size = gr.Textbox(
            label="Size",
            placeholder="the model’s usual",
            info="Rows × columns of patches, such as 32x48, or an aspect.",
            max_length=20,
            elem_id="lens-size-field",
        )
        aspects = ExampleChips(list(ASPECTS), "Aspects", elem_id="lens-aspects")
    _fill_from(aspects, size)
    return size


def fill_form(capture: Capture, samples: Samples, link: str = "") -> list[Any]:
    """Values for `Form.filled` that bring back what a capture was made from; skipped where it says nothing.

    A picture that is one of the samples is shown as that sample, any other as the capture keeps it, which `link` opens.
    """
    key, skip = capture.key, gr.skip()
    seed, precision = _unless(SEED, key.sampling.seed), _unless(Precision.FULL.value, precision_of(key).value)
    if key.task == Task.GENERATION:
        start = GENERATION_SAMPLING
        temperature, guidance = (
            _unless(getattr(start, n), getattr(key.sampling, n)) for n in ("temperature", "guidance")
        )
        drawn = [key.model, key.task.value, skip, skip, key.prompt, seed, skip, skip, temperature, guidance]
        return [*drawn, key.sampling.size, skip, skip, precision, skip]
    choice, start = choose_picture(capture, samples, link), UNDERSTANDING_SAMPLING
    answered = [_unless(getattr(start, n), getattr(key.sampling, n)) for n in ("temperature", "max_new_tokens")]
    examples = {"examples": choice.questions, "chosen": None}
    asked = [key.model, key.task.value, choice, key.prompt, skip, seed, *answered, skip, skip, skip]
    return [*asked, skip, skip, precision, examples]


def _unless(start: Any, value: Any) -> Any:
    """A value for a field of the fold, skipped where the field starts with it.

    Gradio brings a field that is not in the page yet its value late: in the meantime somebody may have typed another.
    """
    return gr.skip() if value == start else value


def precision_of(key: CaptureKey) -> Precision:
    """The choice that a capture was made with; any dtype is full precision."""
    return Precision(key.precision) if key.precision in set(Precision) else Precision.FULL


def choose_picture(capture: Capture, samples: Samples, link: str) -> PictureChoice:
    """The choice that stands for the picture a capture asked about."""
    for sample in samples.pictures:
        if same_pixels(capture.picture_png, sample.path.read_bytes()):
            return PictureChoice(sample=sample.file, preview=sample.url, questions=list(sample.questions))
    preview = data_url(capture.picture_png)
    return PictureChoice(capture=link or capture.id, preview=preview, questions=list(UPLOAD_QUESTIONS))


def same_pixels(a: bytes, b: bytes) -> bool:
    """Whether two encoded pictures of ours show the same."""
    return pixels_sha256(load_picture(a)) == pixels_sha256(load_picture(b))
