"""Whose a thing is: what each person finds in lists, what a link opens, what only the owner may change."""

from dataclasses import replace

import pytest
from PIL import Image

from aia.config import make_config
from aia.intensity import Task
from aia.targets import load_targets
from backend.background.runs import Runs
from backend.comparison import Comparables
from backend.finetuning.datasets import Datasets
from backend.finetuning.target_files import TargetFiles
from backend.interface import UserError
from backend.kept.capture_files import capture_to_npz
from backend.kept.captures import CaptureKey, Sampling
from backend.kept.library import Library
from backend.kept.library_files import LibraryFiles
from backend.kept.measurements import Measurements
from backend.measuring import work
from backend.measuring.config import make_config as measure_config
from backend.measuring.prompt_files import PromptFiles
from backend.measuring.runs import Measures
from backend.people.captures import PeoplesCaptures
from backend.people.person import EVERYONE, LOCAL, STRANGER, asked_by, browser_person, signed_in, who_asks
from tests.app.fakes import FakeModel, make_capture
from tests.app.made_runs import RUN, make_pair
from tests.backend.library_fakes import add_adapter, make_report
from tests.backend.zips import asking, picture, write_rows, write_zip

ANNA, BERT = browser_person("a" * 43), signed_in("bert")


def drawing(prompt="a red circle", text=""):
    key = CaptureKey("tiny-janus", "r", "float32", Task.GENERATION, prompt, "", Sampling(seed=3))
    return replace(make_capture(key, text, ("code 1",), Image.new("RGB", (64, 64), (9, 9, 9))), text=text)


@pytest.fixture
def store(tmp_path):
    store = PeoplesCaptures(tmp_path / "captures", 2**30, tmp_path / "people")
    yield store
    store.close()


@pytest.fixture
def library(store, tmp_path):
    return Library(Comparables(store, Runs(tmp_path / "runs")))


def refuse(work, said="somebody else"):
    with pytest.raises(UserError, match=said) as found:
        work()
    assert "\n" not in str(found.value) and len(str(found.value)) < 300


# --- who ---


def test_a_person_is_known_by_a_digest_and_not_by_what_they_show():
    secret = "s" * 43
    assert secret not in browser_person(secret).id and browser_person(secret) == browser_person(secret)
    assert len({browser_person("x").id, signed_in("x").id, signed_in("y").id}) == 3
    assert signed_in("x").name == "x" and len(browser_person(secret).id) == len("browser-") + 32
    assert who_asks() == LOCAL


# --- captures ---


def test_a_capture_is_listed_to_whoever_asked_for_it_and_opened_for_nobody_else(store):
    capture = drawing()
    with asked_by(ANNA):
        store.put(capture)
        assert store.ids() == [capture.id] and store.get(capture.id).id == capture.id
        assert [entry.key.id for entry in store.entries()] == [capture.id] and len(store.recent(5)) == 1
    for person in (BERT, STRANGER):
        with asked_by(person):
            assert store.ids() == [] and store.entries() == [] and store.recent(5) == []
            assert store.get(capture.id) is None and store.raw(capture.id) is None and capture.id not in store
    assert store.ids() == [capture.id] and store.get(capture.id) is not None  # the one person of an installation


def test_a_link_opens_a_capture_for_everybody_and_lists_it_to_nobody(store):
    capture = drawing()
    with asked_by(ANNA):
        store.put(capture)
        link = store.link(capture.id)
    for person in (BERT, STRANGER):
        with asked_by(person):
            assert store.get(link).id == capture.id and link in store and store.raw(link) == capture_to_npz(capture)
            assert store.ids() == []
            forged = link[:-1] + ("0" if link[-1] != "0" else "1")
            assert store.get(forged) is None and store.get(f"{capture.id}.{'0' * 16}") is None
            refuse(lambda: store.get("capture"), "24 hexadecimal")
    assert store.link(capture.id) == capture.id  # nobody else is there


def test_links_hold_after_a_restart_and_not_at_another_installation(store, tmp_path):
    capture = drawing()
    with asked_by(ANNA):
        store.put(capture)
        link = store.link(capture.id)
    again = PeoplesCaptures(tmp_path / "captures", 2**30, tmp_path / "people")
    other = PeoplesCaptures(tmp_path / "captures", 2**30, tmp_path / "others")
    with asked_by(BERT):
        assert again.get(link) is not None and other.get(link) is None
    again.close()
    other.close()


def test_an_equal_request_is_computed_once_and_each_has_it_in_their_own_history(store):
    capture = drawing()
    with asked_by(ANNA):
        assert store.computed(capture.id) is None
        store.put(capture)
    with asked_by(BERT):
        assert store.ids() == []
        assert store.computed(capture.id).id == capture.id
        assert store.ids() == [capture.id]
        store.delete(capture.id)
        assert store.ids() == [] and store.get(capture.id) is None
    with asked_by(ANNA):
        assert store.get(capture.id) is not None
        store.delete(capture.id)
        assert store.get(capture.id) is None
    assert store.ids() == []  # nobody had it any more


def test_nobody_deletes_what_is_not_in_their_history(store):
    capture = drawing()
    with asked_by(ANNA):
        store.put(capture)
        link = store.link(capture.id)
    with asked_by(BERT):
        store.delete(capture.id)
        refuse(lambda: store.delete(link), "24 hexadecimal")
    with asked_by(ANNA):
        assert store.get(capture.id) is not None


@pytest.mark.parametrize("person", [ANNA, LOCAL])
def test_what_was_asked_for_last_comes_first(store, person):
    first, second = drawing("one"), drawing("two")
    with asked_by(person):
        store.put(first)
        store.put(second)
        assert store.ids() == [second.id, first.id]
        store.computed(first.id)
        assert store.ids() == [first.id, second.id]


def test_what_a_first_visit_sees_is_everyones(store):
    with asked_by(EVERYONE):
        store.put(drawing())
    for person in (ANNA, STRANGER):
        with asked_by(person):
            assert store.get(drawing().id) is not None and store.ids() == []
            assert store.link(drawing().id) == drawing().id


def test_what_somebody_brought_in_answers_nobodys_request(store):
    forged, real = drawing(text="forged"), drawing(text="real")
    with asked_by(BERT):
        store.take_in(forged)
        assert store.get(forged.id).text == "forged"
    with asked_by(ANNA):
        assert store.computed(real.id) is None and store.ids() == []
        store.put(real)  # so it is made
    with asked_by(BERT):
        assert store.computed(real.id).text == "real"
        store.take_in(forged)  # what is here stays
        assert store.get(real.id).text == "real"
        store.delete(real.id)
    with asked_by(ANNA):
        assert store.computed(real.id).text == "real"


def test_a_capture_that_was_thrown_away_and_brought_back_is_still_somebodys_own_word(library):
    forged = drawing(text="forged")
    with asked_by(BERT):
        LibraryFiles(library).take_in(capture_to_npz(forged))
        library.delete(f"capture:{forged.id}")
        library.undelete(f"capture:{forged.id}")
        assert library.store.get(forged.id).text == "forged"
    with asked_by(ANNA):
        assert library.store.computed(forged.id) is None


def test_a_history_that_cannot_be_written_loses_no_result(store, caplog):
    (store.histories.folder / ANNA.id).mkdir(parents=True)
    (store.histories.folder / ANNA.id / "captures").write_text("no folder")
    with asked_by(ANNA):
        store.put(drawing())
        assert store.get(store.link(drawing().id)) is not None
    assert "not noted" in caplog.text


# --- runs ---


def start(runs, person, **settings):
    with asked_by(person):
        return runs.start(make_config(steps=4, batch_size=2, **settings), "mine", control=False)[0]


def test_a_run_is_its_owners_and_a_link_shows_it(tmp_path):
    runs = Runs(tmp_path / "runs", command=lambda folder: ["false"])
    run = start(runs, ANNA)
    assert len(run) * 4 == 64  # bits that nobody can guess
    for person in (BERT, STRANGER):
        with asked_by(person):
            assert runs.list() == [] and not runs.status(run).mine and runs.status(run).name == "mine"
            for act in (runs.cancel, runs.resume, runs.delete, lambda one: runs.rename(one, "theirs")):
                refuse(lambda act=act: act(run))
    with asked_by(ANNA):
        assert [one.id for one in runs.list()] == [run] and runs.status(run).mine
        runs.cancel(run)
        runs.rename(run, "still mine")
        runs.delete(run)
    with asked_by(BERT):
        refuse(lambda: runs.undelete(run))
    with asked_by(ANNA):
        runs.undelete(run)
        assert runs.status(run).name == "still mine"
    assert [one.id for one in runs.list()] == [run]  # the one person of an installation


def test_runs_of_before_are_the_installations_own(tmp_path):
    make_pair(tmp_path / "runs")
    runs = Runs(tmp_path / "runs")
    assert len(runs.list()) == 2
    with asked_by(ANNA):
        assert runs.list() == [] and len(runs.list(everyones=True)) == 2 and not runs.status(RUN).mine


def test_a_stranger_starts_nothing(tmp_path):
    refuse(lambda: start(Runs(tmp_path / "runs"), STRANGER), "cookie")
    assert Runs(tmp_path / "runs").list() == []


def test_people_take_turns_with_runs_whoever_asked_for_more(tmp_path):
    runs = Runs(tmp_path / "runs", command=lambda folder: ["false"])
    annas = [start(runs, ANNA) for _ in range(3)]
    berts = [start(runs, BERT) for _ in range(2)]
    placed = sorted((one.place, one.id) for one in runs.list(everyones=True))
    assert [run for _, run in placed] == [annas[0], berts[0], annas[1], berts[1], annas[2]]
    with asked_by(ANNA):
        runs.cancel(annas[0])
        runs.resume(annas[0])  # behind her own, and behind as many of his
    placed = sorted((one.place, one.id) for one in runs.list(everyones=True))
    assert [run for _, run in placed] == [berts[0], annas[1], berts[1], annas[2], annas[0]]


def test_a_pair_stays_together(tmp_path):
    runs = Runs(tmp_path / "runs", command=lambda folder: ["false"])
    with asked_by(ANNA):
        pair = runs.start(make_config(steps=4, batch_size=2), control=True)
    bert = start(runs, BERT)
    assert [runs.status(run).place for run in (*pair, bert)] == [1, 2, 3]


# --- measurements, names, targets, data ---


def test_what_a_run_of_somebodys_measured_is_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "load_wanted", lambda config: FakeModel())
    measures = Measures(tmp_path / "measuring")
    with asked_by(ANNA):
        run = measures.start(measure_config(samples=2, understanding=2, generation=2, seed=3), "of Anna")
    work.measure_folder(measures.folder / run, lambda event: None, lambda: False)  # as its process does: for nobody
    kept = Measurements(tmp_path / "measurements")
    with asked_by(ANNA):
        (one,) = kept.list()
        assert one.document.name == "of Anna" and measures.result(run)["measurement"] == one.id
    with asked_by(BERT):
        assert kept.list() == [] and measures.list() == [] and measures.status(run).state == "finished"


def test_equal_measurements_of_two_people_are_two_and_no_id_tells_the_other(library):
    kept = library.measurements
    own = kept.save(make_report(), "of the machine")
    with asked_by(ANNA):
        annas = kept.save(make_report(), "of Anna")
    with asked_by(BERT):
        berts = kept.save(make_report(), "of Bert")
        assert [one.document.name for one in kept.list()] == ["of Bert"]
        assert kept.get(annas).name == "of Anna"  # by its id, as by a link
        refuse(lambda: kept.rename(annas, "mine"))
        refuse(lambda: kept.delete(annas))
        exported = kept.parse(kept.raw(berts))
    assert len({own, annas, berts}) == 3 and len(kept.list()) == 3
    assert exported.owner == "" and exported.id == own  # a file says nothing of whose it was
    with asked_by(ANNA):
        kept.delete(annas)
    with asked_by(BERT):
        refuse(lambda: kept.undelete(annas))


def test_documents_of_before_keep_their_ids_and_bytes(library):
    own = library.measurements.save(make_report())
    assert b"owner" not in library.measurements.raw(own)


def test_names_and_notes_on_one_capture_are_each_persons_own(library):
    thing = f"capture:{drawing().id}"
    for person, word in ((ANNA, "Anna’s"), (BERT, "Bert’s")):
        with asked_by(person):
            library.store.put(drawing())
            library.rename(thing, word)
            library.note(thing, f"{word} note")
    for person, word in ((ANNA, "Anna’s"), (BERT, "Bert’s")):
        with asked_by(person):
            assert (library.item(thing).name, library.item(thing).note) == (word, f"{word} note")
    assert library.item(thing).name == "“a red circle”"


def test_targets_saved_under_one_name_are_each_persons_own(tmp_path):
    files = TargetFiles(tmp_path / "targets")
    for person, preset in ((ANNA, "paper-emu3"), (BERT, "paper-janus-pro")):
        with asked_by(person):
            files.save(load_targets(preset, 8), "mine")
    with asked_by(ANNA):
        assert files.load("mine", 8).generation == load_targets("paper-emu3", 8).generation
    with asked_by(BERT):
        assert files.load("mine", 8).generation == load_targets("paper-janus-pro", 8).generation
    with asked_by(STRANGER):
        assert files.list() == []
        refuse(lambda: files.save(load_targets("paper-emu3", 8), "mine"), "cookie")
    assert files.list() == []


def test_equal_data_of_two_people_are_two_sets(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [asking("a.png")])
    images = write_zip(tmp_path / "images.zip", {"a.png": picture()})
    data, taken = Datasets(tmp_path / "datasets"), {}
    for person in (ANNA, BERT):
        with asked_by(person):
            taken[person] = data.take(rows, images or tmp_path / "images.zip", "rows.jsonl").id
            assert [one.id for one in data.list()] == [taken[person]]
    assert taken[ANNA] != taken[BERT] and len(data.list()) == 2
    with asked_by(BERT):
        refuse(lambda: data.delete(taken[ANNA]))
    with asked_by(ANNA):
        data.delete(taken[ANNA])


def test_equal_prompts_of_two_people_are_two_files(tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    files = PromptFiles(tmp_path / "prompts")
    with asked_by(ANNA):
        annas = files.take(tmp_path / "prompts.txt", "prompts.txt").id
    with asked_by(BERT):
        assert files.list() == [] and files.take(tmp_path / "prompts.txt", "prompts.txt").id != annas


# --- the library ---


def test_everybody_has_a_library_of_their_own(library):
    with asked_by(ANNA):
        library.store.put(drawing())
        library.measurements.save(make_report())
        assert library.find().total == 2
    with asked_by(BERT):
        assert library.find().total == 0 and library.things.captures() == []
        assert not [choice for choice in library.things.choices() if not choice.id.startswith(("paper:", "model:"))]
        refuse(lambda: library.item(f"capture:{drawing().id}"), "no capture of that id")
        refuse(lambda: library.note(f"capture:{drawing().id}", "x"), "no capture of that id")
        refuse(lambda: library.undelete(f"capture:{drawing().id}"), "not in the trash")
    with asked_by(STRANGER):
        assert library.find().total == 0


def test_what_is_deleted_comes_back_to_whom_it_was_deleted_for(library):
    thing = f"capture:{drawing().id}"
    with asked_by(ANNA):
        library.store.put(drawing())
        library.delete(thing)
    with asked_by(BERT):
        refuse(lambda: library.undelete(thing), "not in the trash")
    with asked_by(ANNA):
        library.undelete(thing)
        assert library.item(thing).name == "“a red circle”"


def test_things_to_compare_carry_what_opens_them(library):
    with asked_by(ANNA):
        library.store.put(drawing())
        (item,), (choice,) = library.find().items, library.things.captures()
        assert item.things == (choice.id,) and choice.id.startswith(f"capture:{drawing().id}.")
    with asked_by(BERT):
        assert library.things.choice(choice.id).id == choice.id
        refuse(lambda: library.things.choice(f"capture:{drawing().id}"), "is stored here")


def test_a_run_that_two_people_bring_in_is_one_of_each(library, tmp_path):
    make_pair(tmp_path / "elsewhere")
    add_adapter(tmp_path / "elsewhere" / RUN)
    there = Library(Comparables(library.store, Runs(tmp_path / "elsewhere")))
    zipped, files, came = LibraryFiles(there).export([f"run:{RUN}"]).content, LibraryFiles(library), {}
    for person in (ANNA, BERT):
        with asked_by(person):
            (first,), (again,) = files.take_in(zipped), files.take_in(zipped)
            assert (first.already, again.already) == (False, True) and again.thing == first.thing
            assert [item.id for item in library.find(kind="run").items] == [first.thing]
            library.rename(first.thing, person.id[:7])
            came[person] = first.thing
    assert len({*came.values(), f"run:{RUN}"}) == 3
    with asked_by(ANNA):
        assert library.item(came[ANNA]).name == "browser"
