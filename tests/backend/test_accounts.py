"""Accounts in a file: passwords hashed, edits that hold at once, guessing that is slowed down."""

import hashlib

import pytest

from backend.interface import UserError
from backend.people import accounts as module
from backend.people.accounts import MOST_FAILURES, Accounts, Hashed


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Passwords that take no time; the cost is in each line, so nothing else differs."""
    monkeypatch.setattr(module, "N", 16)
    monkeypatch.setattr(module, "NOBODY", Hashed(16, 8, 1, bytes(16), bytes(32)))


@pytest.fixture
def accounts(tmp_path):
    accounts = Accounts(tmp_path / "users.txt")
    accounts.add("anna", "correct horse")
    return accounts


def test_only_the_right_password_of_an_account_is_right(accounts):
    assert accounts.check("anna", "correct horse")
    for name, password in (("anna", "wrong horse"), ("bert", "correct horse"), ("", ""), ("anna", "x" * 100_000)):
        assert not accounts.check(name, password)


def test_the_file_holds_scrypt_and_only_its_owner_reads_it(accounts):
    text = accounts.path.read_text()
    assert "correct" not in text and accounts.path.stat().st_mode & 0o777 == 0o600
    name, hashed = text.strip().split(":")
    found = Hashed.parse(hashed)
    expected = hashlib.scrypt(b"correct horse", salt=found.salt, n=16, r=8, p=1, dklen=32)
    assert (name, found.digest) == ("anna", expected) and str(found) == hashed


def test_an_edited_file_holds_at_once_and_comments_stay(accounts):
    accounts.path.write_text("# the lab\n\n" + accounts.path.read_text())
    accounts.add("bert", "another one")
    accounts.add("anna", "a new password")
    assert accounts.names() == ["anna", "bert"] and accounts.path.read_text().startswith("# the lab\n")
    assert accounts.check("anna", "a new password") and not accounts.check("anna", "correct horse")
    accounts.remove("bert")
    assert accounts.names() == ["anna"] and not accounts.check("bert", "another one")


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (lambda a: a.add("an na", "long enough"), "letters, digits"),
        (lambda a: a.add("a:b", "long enough"), "letters, digits"),
        (lambda a: a.add("bert", "short"), "8 to 200"),
        (lambda a: a.remove("bert"), "name of an account"),
    ],
)
def test_what_cannot_be_an_account_is_one_sentence(accounts, work, says):
    with pytest.raises(UserError, match=says):
        work(accounts)
    assert accounts.names() == ["anna"]


@pytest.mark.parametrize(
    "line",
    ["anna", "anna:secret", "anna:scrypt$15$8$1$" + "A" * 24 + "$" + "A" * 44, "anna:scrypt$1048576$64$1$" + "A" * 24],
)
def test_a_line_that_is_no_account_is_named_by_its_number(accounts, line):
    accounts.path.write_text(f"# first\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        accounts.check("anna", "x")


def test_guessing_has_to_wait_and_others_do_not(accounts, monkeypatch):
    accounts.add("bert", "another one")
    for _ in range(MOST_FAILURES):
        assert not accounts.check("anna", "wrong horse")
    assert not accounts.check("anna", "correct horse") and accounts.check("bert", "another one")
    later = module.time.monotonic() + module.FAILURES_SECONDS + 1
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert accounts.check("anna", "correct horse")


def test_no_file_is_no_account(tmp_path):
    assert Accounts(tmp_path / "none").names() == [] and not Accounts(tmp_path / "none").check("a", "b")
