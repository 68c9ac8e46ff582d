"""What a user can get wrong: one clear sentence, the former result stays, the page goes on."""

import sqlite3
import struct
import zlib
from contextlib import closing

import httpx
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError, ValidationError
from PIL import Image
from playwright.sync_api import expect

from app.explore.samples import load_samples
from tests.browser.person import ask, draw, drawn, message, text, upload

SAMPLE = load_samples().pictures[0]


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_bomb(path):
    """A PNG of 169 megapixels in 20 KB."""
    side = 13_000
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((side // 8 + 1) * side), 9)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    )


def write_truncated(path):
    Image.effect_noise((200, 200), 80).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:5000])


BAD_FILES = {
    "text.png": lambda path: path.write_text("this is no image"),
    "drawing.svg": lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"),
    "bomb.png": write_bomb,
    "cut.png": write_truncated,
    "empty.png": lambda path: path.write_bytes(b""),
}
ODD = Image.new("RGB", (60, 40), (220, 40, 40))
ODD_FILES = {
    "cmyk.jpg": lambda path: ODD.convert("CMYK").save(path),
    "deep.png": lambda path: Image.new("I;16", (60, 40), 40_000).save(path),
    "animated.gif": lambda path: ODD.save(path, save_all=True, append_images=[Image.new("RGB", (60, 40), "blue")]),
    "turned.jpg": lambda path: ODD.save(path, exif=turned()),
    "clear.webp": lambda path: ODD.convert("RGBA").save(path),
}


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def assert_one_sentence(sentence):
    assert sentence.endswith(".")
    assert 20 < len(sentence) < 300
    assert "Traceback" not in sentence
    assert "/" not in sentence


def test_bad_files_are_refused_with_a_sentence_and_odd_ones_work(open_page, tmp_path):
    page = open_page()
    before, seen = drawn(page), set()
    for name, write in BAD_FILES.items():
        write(tmp_path / name)
        upload(page, tmp_path / name)
        page.wait_for_function(
            "seen => { const said = document.querySelector('.lens-picture .lens-message').textContent;"
            " return said && !seen.includes(said) }",
            arg=sorted(seen),
        )
        sentence = text(page, ".lens-picture .lens-message")
        assert_one_sentence(sentence)
        seen.add(sentence)
    assert drawn(page) == before
    shown = None
    for name, write in ODD_FILES.items():
        write(tmp_path / name)
        upload(page, tmp_path / name)
        page.wait_for_function(
            "shown => { const src = document.querySelector('.lens-preview').getAttribute('src');"
            " return !document.querySelector('.lens-preview').hidden && src !== shown }",
            arg=shown,
        )
        shown = page.get_attribute(".lens-preview", "src")
        expect(page.locator(".lens-picture .lens-message")).to_be_hidden()
    assert ask(page, "is there a red circle?")


def test_missing_and_enormous_words_leave_the_former_result(open_page):
    page = open_page()
    before, answer = drawn(page), text(page, ".lens-answer")
    page.fill("#lens-question textarea", "   ")
    page.click("#lens-ask")
    assert_one_sentence(message(page))
    page.fill("#lens-question textarea", "why " * 25_000)
    page.click("#lens-ask")
    expect(page.locator(".lens-result > .lens-message")).to_contain_text("characters")
    page.get_by_role("button", name="Remove the image").click()
    page.fill("#lens-question textarea", "is there a star?")
    page.click("#lens-ask")
    expect(page.locator(".lens-result > .lens-message")).to_contain_text("image to ask about")
    assert (drawn(page), text(page, ".lens-answer")) == (before, answer)
    page.locator(".lens-samples button").nth(4).click()
    assert ask(page, "how many stars are there?")
    expect(page.locator(".lens-result > .lens-message")).to_be_hidden()


@pytest.mark.parametrize("capture", ["0" * 24, "..%2F..%2Fetc", "%3Cscript%3E"])
def test_an_unknown_capture_in_the_address(open_page, capture):
    page = open_page(f"?capture={capture}")
    assert_one_sentence(message(page).replace("../../etc", "").replace("</", "<"))
    assert page.locator(".lens-answer button").count() > 0
    page.locator(".lens-samples button").nth(1).click()
    assert ask(page, f"how many objects are there in {len(capture)}?")


def test_the_endpoints_answer_with_the_same_sentences(api):
    picture = handle_file(str(SAMPLE.path))
    calls = {
        "known model": lambda: api.predict("gpt", picture, "is there a star?", api_name="/understand"),
        "empty": lambda: api.predict("tiny-janus", picture, " ", api_name="/understand"),
        "characters": lambda: api.predict("tiny-janus", "x" * 100_000, api_name="/generate"),
        "capture": lambda: api.predict("0" * 24, api_name="/capture"),
        "uploaded file": lambda: api.predict("tiny-janus", {"path": "/etc/passwd"}, "is it?", api_name="/understand"),
        "seed": lambda: api.predict("tiny-janus", "a red circle", "one", api_name="/generate"),
    }
    for words, call in calls.items():
        with pytest.raises((AppError, ValidationError), match=words) as caught:
            call()
        assert "Traceback" not in str(caught.value)


def test_the_endpoints_answer_as_the_page_does(open_page, api):
    page = open_page()
    question = SAMPLE.questions[0]
    page.locator(".lens-samples button").nth(0).click()
    capture = ask(page, question)
    answer = api.predict("tiny-janus", handle_file(str(SAMPLE.path)), question, api_name="/understand")
    assert (answer["capture_id"], answer["cached"]) == (capture, True)
    drawing = api.predict("tiny-janus", "a white square", 3, api_name="/generate")
    again = api.predict(drawing["capture_id"], api_name="/capture")
    assert {k: drawing[k] for k in again} == again
    assert drawing["sampling"]["seed"] == 3


def test_other_pages_and_other_names_are_kept_out(server):
    assert httpx.get(server, headers={"host": "evil.example"}).status_code == 403
    files = {"files": ("a.png", b"x")}
    assert (
        httpx.post(f"{server}/gradio_api/upload", files=files, headers={"origin": "http://evil.example"}).status_code
        == 403
    )
    assert httpx.post(f"{server}/gradio_api/upload", files=files, headers={"origin": server}).status_code == 200
    assert httpx.post(f"{server}/lens/run", content="[]", headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.get(f"{server}/gradio_api/file=/etc/passwd").status_code == 404
    assert httpx.get(f"{server}/monitoring").status_code != 200


def test_the_same_mistake_twice_is_told_twice(open_page):
    page = open_page()
    page.fill("#lens-question textarea", " ")
    for _ in range(3):
        page.click("#lens-ask")
        page.wait_for_function("document.querySelector('.lens-result').dataset.state === 'failed'")
        expect(page.locator("#lens-ask")).to_be_visible()
        assert_one_sentence(message(page))


def test_a_full_disk_costs_the_link_and_says_so(open_page, folder):
    page = open_page()
    before = drawn(page)
    database = folder / "data" / "captures" / "cache.db"

    def execute(statement):
        with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            connection.execute(statement)

    execute("CREATE TRIGGER full BEFORE INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    try:
        page.fill("#lens-question textarea", "is there anything at all?")
        page.click("#lens-ask")
        page.wait_for_function("before => document.querySelector('.lens-chart').dataset.drawn !== before", arg=before)
    finally:
        execute("DROP TRIGGER full")
    assert "disk is full" in text(page, ".lens-notices")
    assert "not saved" in text(page, ".lens-facts")
    assert "capture=" not in page.url
    expect(page.get_by_role("button", name="Copy link")).to_have_count(0)
    assert f"capture={ask(page, 'is there anything else?')}" in page.url


def test_a_spoilt_file_of_the_store_is_one_sentence(open_page, folder):
    page = open_page()
    files = set(folder.glob("data/captures/*/*/*.val"))
    capture = draw(page, "two white stars")
    spoilt = set(folder.glob("data/captures/*/*/*.val")) - files
    for prompt in ("two red stars", "two blue stars"):  # else it would still be there unpacked
        draw(page, prompt)
        page.wait_for_load_state("networkidle")
    for path in spoilt:
        path.write_bytes(b"spoilt" * 1000)
    other = open_page(f"?capture={capture}")
    assert_one_sentence(message(other))
    assert other.locator(".lens-answer button").count() > 0
    assert draw(other, "two white stars") == capture
