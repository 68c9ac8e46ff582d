import asyncio
import json
import threading
import time
from dataclasses import asdict, replace

import pytest
from gradio.data_classes import FileData
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.routing import Route
from starlette.testclient import TestClient

from app.components.picture import PictureChoice
from app.components.result import State
from app.explore.form import Request, fill_form, parse_request
from app.explore.samples import load_samples
from app.explore.stream import Stream
from app.lines import MAX_BODY_BYTES
from backend.engine import BASE, Adapter
from backend.interface import Preparing, UserError
from backend.kept.store import StoreFull
from backend.models.specs import Precision

SAMPLES = load_samples()
FIELDS = {
    "model": "tiny-janus",
    "task": "understanding",
    "picture": PictureChoice(sample=SAMPLES.pictures[0].file),
    "question": "what is there?",
    "prompt": "a red circle",
    "seed": 0,
    "answer_temperature": 0.0,
    "max_new_tokens": 64,
    "drawing_temperature": 1.0,
    "guidance": 3.0,
    "size": "",
    "adapter": "",
    "strength": 1.0,
    "precision": Precision.FULL,
}


@pytest.fixture
def stream(engine):
    return Stream(engine, SAMPLES)


@pytest.fixture
def model(engine):
    return engine.model


def updates(stream, flag=None, **changes):
    return stream.updates(Request(**{**FIELDS, **changes}), flag or threading.Event())


def run(stream, **changes):
    """All updates of one run; the result and what came once it was kept as one."""
    return merge(list(updates(stream, **changes)))


def merge(updates):
    *before, last = updates
    return [*before[:-1], replace(before[-1], kept=last.kept)] if last.kept else updates


def body_of(**changes):
    """What the page sends."""
    values = {**FIELDS, "picture": {"sample": SAMPLES.pictures[0].file}, **changes}
    return json.dumps(list(values.values())).encode()


# --- a run ---


def test_an_answer_grows_and_ends_with_its_curve(stream, engine):
    engine.model.step_seconds = 0.06
    *growing, last = run(stream)
    assert growing
    assert all(update.result.state == State.RUNNING for update in growing)
    assert last.result.state == State.FINISHED
    assert last.result.answer == "a red circle and a blue square"
    assert last.kept.link["capture"] in engine.store
    assert last.state == "tiny-janus · float32 · CPU"


def test_a_drawing_grows_with_its_progress(stream, model):
    model.step_seconds = 0.11
    *growing, last = run(stream, task="generation")
    progress = [update.result.progress for update in growing]
    assert progress == sorted(progress)
    assert last.result.task == "generation"
    assert last.curve.alternatives[0].figure["data"][-1]["name"] == "with the prompt"


def test_a_quick_answer_comes_whole(stream):
    assert len(run(stream)) == 1


def test_the_curve_is_shown_before_the_disk_has_it_and_its_link_and_files_follow(stream, engine, monkeypatch):
    put, order = engine.store.put, []
    monkeypatch.setattr(engine.store, "put", lambda capture: order.append("kept") or put(capture))
    for update in updates(stream):
        order.append("curve" if update.curve else "told")
    assert order == ["curve", "kept", "told"]
    shown, told = list(updates(stream, question="how many circles are there?"))
    assert shown.curve.pending and not shown.curve.link and not shown.curve.downloads
    assert "saved" not in shown.result.facts and told.kept.facts.endswith("saved")
    assert [file.label for file in told.kept.downloads] == ["CSV", "JSON"]
    assert told.result is None and told.curve is None


def test_a_page_that_hangs_up_at_the_curve_has_its_result_kept(stream, engine):
    hurried = updates(stream)
    assert next(hurried).curve
    assert not engine.store.ids()
    hurried.close()
    assert len(engine.store.ids()) == 1


def test_the_same_run_again_comes_from_the_store_and_says_so(stream, model):
    first, again = run(stream)[-1], run(stream)[-1]
    assert "from the store" not in first.kept.facts
    assert "from the store" in again.kept.facts
    assert first.kept.link == again.kept.link
    assert first.curve == again.curve
    assert model.runs == 1


def test_unknown_words_are_named(stream):
    assert "“dinosaur”" in run(stream, task="generation", prompt="a dinosaur")[-1].result.notices[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question": "   "}, "empty"),
        ({"question": None}, "empty"),
        ({"question": "x" * 100_000}, "100,000"),
        ({"picture": None}, "image to ask about"),
        ({"picture": PictureChoice()}, "image to ask about"),
        ({"picture": PictureChoice(sample="../../secret.png")}, "image to ask about"),
        ({"picture": PictureChoice(capture="../../secret")}, ""),
        ({"picture": PictureChoice(file=FileData(path="/etc/passwd"))}, "uploaded image"),
        ({"model": "gpt"}, "known model"),
        ({"seed": None}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "without a fraction"),
        ({"seed": float("nan")}, "whole number as seed"),
        ({"answer_temperature": None}, "number as temperature, got nothing"),
        ({"max_new_tokens": None}, "number as longest answer, got nothing"),
        ({"task": "generation", "guidance": None}, "number as guidance, got nothing"),
        ({"task": "generation", "guidance": 21}, "guidance"),
        ({"answer_temperature": float("nan")}, "temperature"),
    ],
)
def test_bad_input_is_one_sentence_and_no_curve(stream, model, changes, words):
    last = run(stream, **changes)[-1]
    assert last.result.state == State.FAILED
    assert words in last.result.message
    assert last.result.message.endswith(".")
    assert "Traceback" not in last.result.message
    assert last.curve is None
    assert model.runs == 0


def test_a_fault_of_ours_is_told_without_its_insides(stream, engine, monkeypatch):
    monkeypatch.setattr(engine, "understand", lambda *a: 1 / 0)
    last = run(stream)[-1]
    assert last.result.state == State.FAILED
    assert "division" not in last.result.message


def test_a_full_disk_costs_the_link_not_the_result(stream, engine, monkeypatch):
    def refuse(capture):
        raise StoreFull("The disk is full; free some space.")

    monkeypatch.setattr(engine.store, "put", refuse)
    last = run(stream)[-1]
    assert last.result.state == State.FINISHED
    assert last.kept.facts.endswith("not saved")
    assert any("disk is full" in notice for notice in last.kept.notices)
    assert last.kept.link == {}


def test_a_set_flag_ends_a_run_between_tokens(stream, model):
    model.step_seconds = 0.06
    flag = threading.Event()
    growing = updates(stream, flag)
    assert next(growing).result.state == State.RUNNING
    flag.set()
    assert list(growing) == []
    assert run(stream)[-1].result.state == State.FINISHED


def test_finishing_reads_no_capture_back(stream, engine, monkeypatch):
    monkeypatch.setattr(engine, "capture", lambda capture_id: 1 / 0)
    assert run(stream)[-1].kept.link["capture"] in engine.store


def test_asking_again_from_a_permalink_gives_the_same_capture(stream, engine, uploads):
    path = uploads / "own.png"
    Image.new("RGB", (90, 64), (10, 200, 30)).save(path)
    shown = run(stream, picture=PictureChoice(file=FileData(path=str(path))))[-1].kept
    choice = fill_form(engine.capture(shown.link["capture"]), SAMPLES)[2]
    assert choice.capture == shown.link["capture"]
    again = run(stream, picture=choice)[-1]
    assert again.kept.link == shown.link
    assert "from the store" in again.kept.facts


def test_a_link_out_of_the_uploads_is_not_followed(stream, uploads, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (uploads / "link.png").symlink_to(tmp_path / "secret.png")
    for path in (uploads / "link.png", uploads / ".." / "secret.png"):
        last = run(stream, picture=PictureChoice(file=FileData(path=str(path))))[-1]
        assert "uploaded image" in last.result.message


# --- what the page sends ---


def test_request_takes_the_words_and_sampling_of_its_task():
    asked = Request(**{**FIELDS, "seed": 7.0})
    assert (asked.words, asked.sampling.seed, asked.sampling.max_new_tokens) == ("what is there?", 7, 64)
    drawn = Request(**{**FIELDS, "task": "generation"})
    assert (drawn.words, drawn.sampling.guidance) == ("a red circle", 3.0)
    with pytest.raises(UserError):
        _ = Request(**{**FIELDS, "seed": None}).sampling


def test_a_sent_form_is_read_as_it_was():
    assert parse_request(body_of()) == Request(**FIELDS)
    file = {"path": "/x.png", "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
    assert parse_request(body_of(picture={"file": file})).picture.file.path == "/x.png"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        body_of(model=None),
        body_of(task="paint"),
        body_of(picture="x.png"),
        body_of(picture={"file": {"path": 3}}),
        body_of(question=["a"]),
        body_of(seed="many"),
        body_of(extra=1),
    ],
)
def test_what_no_form_sends_is_refused(body):
    with pytest.raises(UserError, match="reload the page"):
        parse_request(body)


# --- the route ---


@pytest.fixture
def client(stream):
    return TestClient(Starlette(routes=[Route("/lens/run", stream.respond, methods=["POST"])]))


def test_the_route_streams_what_a_run_yields(client, stream, model):
    model.step_seconds = 0.06
    response = client.post("/lens/run", content=body_of())
    *growing, last, kept = [json.loads(line) for line in response.text.splitlines()]
    assert response.status_code == 200
    assert [update["result"]["state"] for update in growing] == ["running"] * len(growing)
    assert growing[0]["result"]["answer"]
    assert last["result"]["chips"][1] == asdict(run(stream)[-1].result.chips[1])
    assert last["curve"]["alternatives"][0]["figure"]["data"][-1]["y"]
    assert kept["kept"]["link"]["capture"] and kept["result"] is None


@pytest.mark.parametrize(("body", "words"), [(b"?", "reload the page"), (b" " * (MAX_BODY_BYTES + 1), "shorten it")])
def test_the_route_refuses_in_the_cards_own_form(client, body, words):
    response = client.post("/lens/run", content=body)
    update = json.loads(response.text)
    assert response.status_code == 400
    assert update["result"]["state"] == State.FAILED
    assert words in update["result"]["message"]


async def hang_up_after(stream, heard_lines, **changes):
    """Listen to the route as a browser does until so many lines have come, then hang up."""
    heard, hung_up = [], asyncio.Event()
    sent = iter([{"type": "http.request", "body": body_of(**changes)}])

    async def receive():
        for message in sent:
            return message
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            heard.append(message["body"])
        if len(heard) >= heard_lines:
            hung_up.set()

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "asgi": {"spec_version": "2.3"}}
    response = await stream.respond(HttpRequest(scope, receive))
    await response(scope, receive, send)
    return heard


def test_a_page_that_hangs_up_ends_its_run(stream, engine):
    engine.model.step_seconds = 0.1
    assert len(asyncio.run(hang_up_after(stream, 1))) == 1
    engine.model.step_seconds = 0
    assert run(stream, question="how many circles are there?")[-1].result.state == State.FINISHED
    assert len(engine.store.ids()) == 1


def test_one_run_at_a_time_and_who_hangs_up_in_the_line_never_starts(stream, model, monkeypatch):
    second_left = threading.Event()
    monkeypatch.setattr(model, "_step", lambda cancel: second_left.wait(60))

    async def both():
        first = asyncio.create_task(hang_up_after(stream, 10**6))
        while not model.runs:
            await asyncio.sleep(0.01)
        await hang_up_after(stream, 0, question="what is red?")
        second_left.set()
        return await first

    heard = asyncio.run(asyncio.wait_for(both(), 60))
    assert b'"finished"' in b"".join(heard)
    time.sleep(0.3)  # the other would start within this
    assert model.runs == 1


def test_the_chosen_adapter_and_its_strength_reach_the_engine(stream, engine, monkeypatch):
    asked = []
    monkeypatch.setattr(engine, "_prepare", lambda wanted, cancel=None: asked.append(wanted.adapter) or engine._loaded)
    run(stream, adapter="0" * 16, strength=0.5)
    run(stream)
    assert {Adapter("0" * 16, 0.5), BASE} == set(asked)


def test_the_precision_reaches_the_engine_and_a_model_on_its_way_is_shown(stream, engine, monkeypatch):
    asked = []

    def fetch(spec, cancel=None):
        yield Preparing("fetching Far", 2**30, 4 * 2**30)
        return spec

    monkeypatch.setattr("backend.engine.bring_here", fetch)
    monkeypatch.setattr("app.explore.stream.UPDATE_SECONDS", 0)
    monkeypatch.setattr(
        engine, "_prepare", lambda wanted, cancel=None: asked.append(wanted.precision) or engine._loaded
    )
    first, *_, last = run(stream, precision=Precision.NF4)
    assert first.result.stage == "fetching Far, 1.0 of 4.0 GiB" and first.result.progress == 0.25
    assert set(asked) == {Precision.NF4} and last.result.stage == ""


def test_an_adapter_that_is_gone_is_told_in_one_sentence(stream):
    last = run(stream, adapter="0" * 16)[-1]
    assert last.result.state == State.FAILED and "No adapter" in last.result.message


# --- the queue ---


def test_who_waits_is_told_their_place_and_then_gets_their_answer(stream, engine):
    running = engine.queue.join("somebody else", work="tiny-janus understanding")
    waiting = updates(stream)
    assert next(waiting).result.stage == "waiting, 1 ahead"
    engine.queue.leave(running)
    assert merge(list(waiting))[-1].result.state == State.FINISHED
    assert engine.queue.length == 0


def test_a_finished_run_holds_nobody_up_while_it_is_shown(stream, engine, monkeypatch):
    lengths = []
    show, put = stream._show, engine.store.put
    monkeypatch.setattr(stream, "_show", lambda *a: lengths.append(engine.queue.length) or show(*a))
    monkeypatch.setattr(engine.store, "put", lambda *a: lengths.append(engine.queue.length) or put(*a))
    run(stream)
    assert lengths == [0, 0], "nor while it is written"


def test_twenty_at_once_all_get_their_own_answer(stream, model):
    model.step_seconds = 0.002

    async def with_a_limit():
        return await asyncio.wait_for(asyncio.gather(*(listen(stream, n) for n in range(20))), 60)

    heard = asyncio.run(with_a_limit())
    assert [lines[-2]["result"]["state"] for lines in heard] == ["finished"] * 20
    assert len({lines[-1]["kept"]["link"]["capture"] for lines in heard}) == 20
    assert model.runs == 20


async def listen(stream, number):
    """The lines of one run, to its end."""
    asked = parse_request(body_of(question=f"how many circles are there {number}"))
    return [json.loads(line) async for line in stream._lines(asked) if line.strip()]
