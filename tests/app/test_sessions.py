"""What is remembered of each open page: what answers are checked against, and nothing that grows with pages."""

import asyncio
import gc
import tracemalloc
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.blocks import postprocess_update_dict

from app.sessions import MOST_SESSIONS, Session, Sessions, keep_little

SCRIPT = "a script of a component, " * 400


@pytest.fixture
def blocks():
    with gr.Blocks() as blocks:
        for _ in range(20):
            gr.HTML("", js_on_load=SCRIPT)
        gr.Dropdown(["one"])
    return blocks


@pytest.fixture
def sessions(blocks):
    blocks.state_session_capacity = MOST_SESSIONS
    holder = Sessions()
    holder.set_blocks(blocks)
    return holder


def one(blocks, kind):
    return next(block for block in blocks.blocks.values() if isinstance(block, kind))


def test_choices_that_a_page_was_given_are_its_own(blocks, sessions):
    dropdown = one(blocks, gr.Dropdown)
    given = gr.Dropdown(["one", "two"], render=False)
    sessions["mine"][dropdown._id] = given
    assert sessions["mine"][dropdown._id] is given and sessions["another"][dropdown._id] is dropdown
    assert sessions["mine"][dropdown._id].preprocess("two") == "two"


def test_of_what_only_shows_something_there_is_one_for_all_pages(blocks, sessions):
    html = one(blocks, gr.HTML)
    sessions["mine"][html._id] = gr.HTML("another", render=False)
    dropdown = one(blocks, gr.Dropdown)
    sessions["mine"][dropdown._id] = dropdown  # the next update
    assert sessions["mine"][html._id] is html and html._id in sessions["mine"]


def test_an_update_is_read_back_before_it_is_sent(blocks, sessions):
    dropdown = one(blocks, gr.Dropdown)
    sessions["mine"][dropdown._id] = gr.Dropdown(["one"], label="another", visible=False, render=False)
    sent = postprocess_update_dict(sessions["mine"][dropdown._id], {"label": None, "visible": None})
    assert (sent["label"], sent["visible"]) == ("another", False)
    assert sessions["another"][dropdown._id] is dropdown


def test_a_page_takes_a_few_kilobytes(blocks, sessions):
    html = one(blocks, gr.HTML)
    sessions["first"], sessions["first"]._update_value_in_config(html._id, SCRIPT)
    gc.collect()
    tracemalloc.start()
    for number in range(200):
        sessions[f"page {number}"]._update_value_in_config(html._id, f"{number}" + SCRIPT)
        sessions[f"page {number}"]._update_config(html._id)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"{taken / 200 / 1024:.1f} KiB a page")
    assert taken < 200 * 8 * 1024


def test_the_longest_unused_go_when_there_are_too_many(sessions):
    sessions["first"], sessions["second"]
    for number in range(MOST_SESSIONS - 2):
        sessions[str(number)]
    assert sessions["first"] and "second" in sessions
    sessions["one more"], sessions["and another"]
    assert "first" in sessions and "second" not in sessions and len(sessions.session_data) <= MOST_SESSIONS


def test_a_server_keeps_its_sessions_so_from_its_start(blocks):
    app = SimpleNamespace(get_blocks=lambda: blocks)

    async def start():
        async with keep_little(app):
            return app.state_holder["page"]

    assert isinstance(asyncio.run(start()), Session) and blocks.state_holder is app.state_holder
