"""`python -m app user …`: the accounts of a page that asks for a login. Knows no page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.settings import settings_from_environment
from backend.interface import UserError
from backend.people.accounts import Accounts

users = typer.Typer(no_args_is_help=True, help="Accounts for `serve --auth FILE`: a line each, passwords hashed.")

File = Annotated[Path | None, typer.Option("--auth", help="The file of accounts; AIA_LENS_AUTH unless told otherwise.")]


def find_accounts(file: Path | None) -> Accounts:
    """The accounts of a file, or of the settings'. Raises `UserError` where neither says which."""
    path = file or settings_from_environment().auth
    if path is None:
        raise UserError("Expected a file of accounts, got none; give --auth FILE, or set AIA_LENS_AUTH.")
    return Accounts(path)


@users.command()
def add(name: str, auth: File = None) -> None:
    """Make an account, or give one another password; asked for, or read from what is piped in."""
    accounts = find_accounts(auth)
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    accounts.add(name, password)
    typer.echo(f"{name} may log in now")


@users.command("list")
def list_names(auth: File = None) -> None:
    """The names of all accounts."""
    for name in find_accounts(auth).names():
        typer.echo(name)


@users.command()
def remove(name: str, auth: File = None) -> None:
    """Remove an account; what it made stays."""
    find_accounts(auth).remove(name)
    typer.echo(f"{name} may not log in any more")
