"""What a handler skips is sent as that; everything else is made as Gradio makes it."""

import asyncio
from copy import copy

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from app.skips import SparingBlocks


class Counted(gr.Textbox):
    """Counts how often one is made."""

    made = 0

    def __init__(self, *args, **kwargs):
        Counted.made += 1
        super().__init__(*args, **kwargs)


@pytest.fixture(params=["list", "tuple"])
def send(request):
    """Post-process what a handler of four components, the last a state, returned. → values, components made"""
    kind = {"list": list, "tuple": tuple}[request.param]

    def send(page, values, count=4):
        with page() as blocks:
            outputs = [Counted(), gr.Slider(0, 10), gr.HTML(), gr.State(1)][:count]
            gr.Button().click(lambda: None, None, outputs)
        (fn,) = blocks.fns.values()
        state, Counted.made = SessionState(blocks), 0
        values = kind(map(copy, values)) if isinstance(values, list) else values  # Gradio takes updates apart
        return asyncio.run(blocks.postprocess_data(fn, values, state)), state, outputs

    return send


@pytest.mark.parametrize(
    "values",
    [
        ["a", 3, "<b>x</b>", 5],
        [gr.skip(), 3, gr.skip(), 5],
        [gr.skip(), gr.skip(), gr.skip(), gr.skip()],
        [gr.update(value="b", label="B"), gr.skip(), None, gr.skip()],
        [gr.Textbox(label="C"), gr.skip(), gr.skip(), 2],
    ],
)
def test_values_are_gradios(send, values):
    def without_marks(made):  # Gradio takes the mark of an update for a property of gr.HTML
        return [{k: v for k, v in one.items() if k != "props"} if isinstance(one, dict) else one for one in made]

    ours, state, outputs = send(SparingBlocks, values)
    theirs, their_state, their_outputs = send(gr.Blocks, values)
    assert without_marks(ours) == without_marks(theirs)
    kept, their_kept = state.state_data, their_state.state_data
    assert kept.get(outputs[3]._id) == their_kept.get(their_outputs[3]._id)


def test_what_is_skipped_is_not_made_anew(send):
    send(gr.Blocks, [gr.skip(), 3, gr.skip(), 5])
    assert Counted.made == 1
    send(SparingBlocks, [gr.skip(), 3, gr.skip(), 5])
    assert Counted.made == 0


def test_one_output_and_one_skip_for_all_are_gradios_own(send):
    assert send(SparingBlocks, "a", count=1)[0] == ["a"]
    assert [one["__type__"] for one in send(SparingBlocks, gr.skip(), count=3)[0]] == ["update"] * 3
    with pytest.raises(ValueError):
        send(SparingBlocks, ["too", "few"])
