"""The one event of loading: every tab reads the address, none can spoil another's."""

import gradio as gr
import pytest

from app.arrival import Arrival


@pytest.fixture
def fields():
    with gr.Blocks() as blocks:
        yield blocks, [gr.Textbox() for _ in "abc"]


def test_all_that_reads_the_address_is_one_event_and_outputs_are_named_once(fields):
    blocks, (a, b, c) = fields
    arrival = Arrival()
    arrival.add(lambda request: [gr.skip(), "from one"], [a, b])
    arrival.add(lambda request: [request, "too late", "c"], [a, b, c])
    arrival.connect(blocks)
    (event,) = blocks.fns.values()
    assert event.outputs == [a, b, c] and event.inputs == [] and event.queue is False
    assert arrival.on_load("address") == ["address", "from one", "c"]


def test_a_tab_that_fails_leaves_the_others_alone(fields, caplog):
    _, (a, b, _) = fields
    arrival = Arrival()
    arrival.add(lambda request: 1 / 0, [a])
    arrival.add(lambda request: ["b"], [b])
    assert arrival.on_load(None) == [gr.skip(), "b"]
    assert "could not read the address" in caplog.text
