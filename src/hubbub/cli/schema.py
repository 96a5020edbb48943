"""`hubbub schema` and `hubbub types`: what an application's WebSocket endpoints say and take, for other programs.

The exit status is 0, also where something could not be described, which is said beside the output; 1 if the application
cannot be imported, and 2 for an option that is wrong.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Any
from urllib.parse import urlsplit

import typer

from ..fastapi.asyncapi.document import document, problems_of, servers
from ..fastapi.hub import families, hubs
from .application import describe, fail, load, say
from .typescript import typescript

__all__ = ("print_schema", "print_types")


def print_schema(application: str, *, factory: bool, app_dir: str, server: str | None) -> None:
    """Print the AsyncAPI document of an application.

    Args:
        application: Where it is, as `module:attribute`.
        factory: Whether what is there makes the application.
        app_dir: A directory to look for the module in, before all others.
        server: Where the application is served, such as `wss://example.org/api`.

    Raises:
        SystemExit: The application cannot be imported.
        typer.BadParameter: The server is not such an address.
    """
    if server is not None and not _is_address(server):
        raise typer.BadParameter(f"{server!r}: give an address such as wss://example.org/api", param_hint="--server")
    described = _document(application, factory, app_dir)
    if server is not None:
        described["servers"] = servers(server)
    _print(json.dumps(described, indent=2, ensure_ascii=False) + "\n")


def print_types(application: str, *, factory: bool, app_dir: str) -> None:
    """Print the types of an application's messages, and a client, in TypeScript; see `print_schema`."""
    described = _document(application, factory, app_dir)
    try:
        written = typescript(described)
    except Exception as error:  # a schema that the application has written by hand, and that is none
        fail(f"{application} cannot be said in TypeScript: {describe(error)}. Look at its json_schema_extra.")
    _print(written)


def _is_address(server: str) -> bool:
    try:
        parts = urlsplit(server)
    except ValueError:  # brackets that do not match
        return False
    return parts.scheme in ("ws", "wss") and bool(parts.netloc)


def _print(text: str) -> None:
    """Print a text as it is to be in a file: in UTF-8, whatever the terminal has."""
    typer.echo(text.encode(), nl=False)


def _document(application: str, factory: bool, app_dir: str) -> dict[str, Any]:
    sys.path.insert(0, app_dir)
    with redirect_stdout(sys.stderr):  # what the application prints is no part of the output
        app = load(application, makes_it=factory)
    if not hasattr(app, "routes"):
        fail(f"{application} is a {type(app).__name__}, not an application. If it makes one, give --factory.")
    try:
        described = document(app, [family for hub in hubs() for family in families(hub)])
    except Exception as error:  # something in the application that nobody has thought of
        fail(f"{application} cannot be described: {describe(error)}.")
    if not described["channels"]:
        say(f"{application} has no WebSocket endpoints, and its hubs have no channels.")
    for problem in problems_of(described):
        say(problem)
    return described
