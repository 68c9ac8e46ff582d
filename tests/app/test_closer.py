"""The closer views' data, with answers known by hand, and the route that hands them out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from aia.intensity import Definition, Group
from app.closer.asked import Asked
from app.closer.heads import read_heads
from app.closer.maps import common_limits, decode, encode, even_limits
from app.closer.registry import READERS, VIEWS
from app.closer.route import Closer
from app.components import FOLDER
from backend.background.runs import Runs
from backend.comparison import Comparables
from tests.backend.test_capture_files import pack, unpack
from tests.made_captures import make_answer, make_drawing, make_mass


def looking_in_one_layer(layers=4, heads=3, rows=5, layer=2, head=1):
    """Shares of an answer in which one head of one layer looks at the image, and nothing else does."""
    shares = np.zeros((layers, heads, rows), np.float32)
    shares[layer, head] = 1
    return shares


@pytest.fixture
def closer(engine, tmp_path):
    return Closer(Comparables(engine.store, Runs(tmp_path / "runs")))


@pytest.fixture
def client(closer):
    return TestClient(Starlette(routes=[Route("/lens/closer/{view}", closer.respond)]))


# --- maps ---


def test_a_map_survives_the_way_to_the_page():
    values = np.array([[0, 0.123456, 1], [0.5, np.nan, 0.9999]])
    again = decode(json.loads(json.dumps(encode(values, (0.0, 1.0)))))
    np.testing.assert_allclose(again, values, atol=8e-6)
    assert np.isnan(again[1, 1]) and again[0, 0] == 0 and again[0, 2] == 1


def test_limits_are_round_common_and_even():
    low, high = common_limits([np.array([[0.1, 0.31]]), np.array([[np.nan, 0.22]])])
    assert (low, high) == (0, 0.4)
    assert even_limits([np.array([[0.01, -0.13]])]) == (-0.2, 0.2)
    assert common_limits([np.full((2, 2), np.nan)]) == (0, 0.02)


# --- heads ---


def test_the_one_head_that_looks_is_the_one_that_is_drawn():
    data = read_heads(Asked(make_answer(looking_in_one_layer())))
    for definition in Definition:
        found = data["definitions"][definition.value]
        values = decode(found["maps"][0])
        assert values.shape == (3, 4)  # heads by layers
        expected = np.zeros((3, 4))
        expected[1, 2] = 1
        np.testing.assert_allclose(values, expected, atol=1e-4)
        assert found["sentence"].startswith("Head 2 of layer 3 looks most at the image: 1.00")
        assert found["difference"] is None


def test_heads_are_the_curve_before_its_mean():
    random = np.random.default_rng(1)
    capture = make_drawing(random.random((2, 3, 4, 6), np.float32))
    data = read_heads(Asked(capture))
    for definition in Definition:
        mean = decode(data["definitions"][definition.value]["maps"][0]).mean(0)
        np.testing.assert_allclose(mean, capture.intensity(definition), atol=1e-4)


def test_definitions_count_other_keys():
    capture = make_drawing(np.full((1, 2, 2, 6), 0.5, np.float32))
    only_boi = replace(capture, mass=make_mass(np.full((1, 2, 2, 6), 0.25, np.float32), Group.BOI))
    data = read_heads(Asked(only_boi))["definitions"]
    assert decode(data["figure"]["maps"][0]) == pytest.approx(np.full((2, 2), 0.25), abs=1e-4)
    assert decode(data["training"]["maps"][0]) == pytest.approx(np.zeros((2, 2)), abs=1e-4)


def test_a_pair_has_common_limits_and_its_difference():
    first, second = np.full((2, 2, 4), 0.1, np.float32), np.full((2, 2, 4), 0.1, np.float32)
    second[1, 0] = 0.35
    data = read_heads(Asked(make_answer(first), make_answer(second, prompt="another")))
    found = data["definitions"]["figure"]
    assert {(m["low"], m["high"]) for m in found["maps"]} == {(0.0, 0.4)}
    difference = decode(found["difference"])
    np.testing.assert_allclose(difference, [[0, -0.25], [0, 0]], atol=1e-4)
    assert "Head 1 of layer 2 differs most: 0.100 in A, 0.350 in B." in found["sentence"]
    assert data["note"] == ""


def test_models_of_other_shape_are_shown_side_by_side_and_said_to_have_no_difference():
    data = read_heads(Asked(make_answer(np.ones((2, 3, 4), np.float32)), make_answer(np.ones((5, 2, 4), np.float32))))
    found = data["definitions"]["figure"]
    assert [(m["rows"], m["columns"]) for m in found["maps"]] == [(3, 2), (2, 5)]
    assert found["difference"] is None
    assert "2 layers of 3 heads, B 5 of 2" in data["note"]


def test_an_answer_without_a_step_is_a_sentence():
    data = read_heads(Asked(make_answer(np.ones((2, 3, 1), np.float32))))
    assert "too short to look into" in data["captures"][0]["empty"]
    assert "too short to look into" in data["definitions"]["figure"]["sentence"]
    assert json.dumps(data, allow_nan=False)


# --- the route ---


def test_the_route_answers_for_stored_captures(client, engine):
    a, b = make_answer(looking_in_one_layer()), make_drawing(np.full((2, 4, 3, 6), 0.3, np.float32))
    engine.store.put(a)
    engine.store.put(b)
    answer = client.get("/lens/closer/heads", params={"capture": a.id, "with": b.id, "definition": "strict"})
    assert answer.status_code == 200
    assert [one["id"] for one in answer.json()["captures"]] == [a.id, b.id]
    assert answer.headers["cache-control"] == "no-store"
    partners = client.get("/lens/closer/partners", params={"capture": a.id}).json()["partners"]
    assert [(one["id"], one["task"]) for one in partners] == [(b.id, "generation")]


def test_a_partner_that_is_gone_leaves_the_others_to_choose(client, engine):
    a, b = make_answer(looking_in_one_layer()), make_answer(looking_in_one_layer(), prompt="another")
    engine.store.put(a)
    engine.store.put(b)
    found = client.get("/lens/closer/partners", params={"capture": a.id, "with": NOBODY}).json()["partners"]
    assert [one["id"] for one in found] == [b.id]


@pytest.mark.parametrize("harm", [lambda data: data[: len(data) // 2], lambda data: data[:-1], lambda data: b""])
def test_a_file_cut_short_is_one_sentence_of_its_own(client, engine, tmp_path, harm):
    a, b = make_answer(looking_in_one_layer()), make_answer(looking_in_one_layer(), prompt="another")
    engine.store.put(a)
    before = {*(tmp_path / "captures").rglob("*.val")}
    engine.store.put(b)
    (file,) = {*(tmp_path / "captures").rglob("*.val")} - before
    file.write_bytes(harm(file.read_bytes()))
    answer = client.get("/lens/closer/time", params={"capture": a.id, "with": b.id})
    assert answer.status_code == 400 and "damaged or was written by another version" in answer.json()["error"]
    assert client.get("/lens/closer/time", params={"capture": a.id}).status_code == 200


def test_a_capture_of_another_version_is_said_to_be_one(client, engine, tmp_path):
    engine.store.put(capture := make_answer(looking_in_one_layer()))
    (file,) = (tmp_path / "captures").rglob("*.val")
    members = unpack(file.read_bytes())
    header = members["header.npy"].replace(b'{"format_version": 1', b'{"format_version": 7', 1)
    file.write_bytes(pack({**members, "header.npy": header}))
    changed = file.read_bytes()
    answer = client.get("/lens/closer/heads", params={"capture": capture.id})
    assert answer.status_code == 400 and "another version of AIA Lens" in answer.json()["error"]
    assert file.read_bytes() == changed  # that version can still read it


NOBODY = "f" * 24


@pytest.mark.parametrize(
    ("view", "query", "status", "words"),
    [
        ("heads", {}, 400, "Expected a capture to look at"),
        ("heads", {"capture": "../../etc/passwd"}, 400, "24 hexadecimal digits"),
        ("heads", {"capture": NOBODY}, 404, "is stored here"),
        ("heads", {"capture": "ID", "with": NOBODY}, 404, "is stored here"),
        ("heads", {"capture": "ID", "definition": "mine"}, 400, "figure, training, strict"),
        ("heads", {"capture": "ID", "x": "y" * 100}, 400, "short value"),
        ("nothing", {"capture": "ID"}, 400, "Expected a view among heads"),
        ("partners", {"capture": "ID", "with": "evil"}, 400, "24 hexadecimal digits"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(client, engine, view, query, status, words):
    capture = make_answer(looking_in_one_layer())
    engine.store.put(capture)
    query = {name: capture.id if value == "ID" else value for name, value in query.items()}
    answer = client.get(f"/lens/closer/{view}", params=query)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"} and words in answer.json()["error"]


def test_what_breaks_inside_is_one_sentence_without_a_trace(closer, engine):
    def broken(asked):
        raise RuntimeError("secret path")

    closer._readers = {"heads": broken}
    engine.store.put(capture := make_answer(looking_in_one_layer()))
    client = TestClient(Starlette(routes=[Route("/lens/closer/{view}", closer.respond)]))
    answer = client.get("/lens/closer/heads", params={"capture": capture.id})
    assert answer.status_code == 500 and "secret" not in answer.text


def test_every_view_has_a_script_and_data():
    for view in VIEWS:
        assert view.name in READERS
        assert f'lens.closer.add("{view.name}"' in (FOLDER / f"{view.name}.js").read_text()
