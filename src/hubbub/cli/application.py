"""The application that a command is given as `module:attribute`, and how a command says what is wrong."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any, NoReturn

import uvicorn.importer
from uvicorn.importer import ImportFromStringError, import_from_string

__all__ = ("describe", "fail", "load", "say")

_IMPORTERS = (__file__, importlib.__file__, uvicorn.importer.__file__)


def load(application: str, *, makes_it: bool = False, hint: str = "", with_traceback: bool = False) -> Any:
    """Import an application, and end the process with one line where that fails.

    Args:
        application: Where it is, as `module:attribute`.
        makes_it: Whether to call what is there for it.
        hint: What to say after the line.
        with_traceback: Whether to show the traceback of what it raises.

    Returns:
        The application. It must be kept for as long as its hubs are asked for.

    Raises:
        SystemExit: It cannot be imported; with status 1.
    """
    try:
        imported = import_from_string(application)
        return imported() if makes_it else imported
    except ImportFromStringError as error:
        fail(str(error))
    except Exception as error:
        if with_traceback:
            traceback.print_exc()
        fail(" ".join((f"cannot import {application}: {describe(error)}.", hint)).strip())


def describe(error: Exception) -> str:
    """Say in one line what an exception is and where it comes from."""
    if isinstance(error, SyntaxError):
        text, place = error.msg, f"{error.filename}:{error.lineno}"
    else:
        text, place = " ".join(str(error).split()), _place(error)
    return f"{type(error).__name__}: {text}" + (f" ({place})" if place else "")


def _place(error: Exception) -> str:
    """Name the line that raised an exception, if it is not one of what imports the application."""
    lines = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in _IMPORTERS and not frame.filename.startswith("<")
    ]
    return lines[-1] if lines else ""


def fail(text: str) -> NoReturn:
    """Say what is wrong, and end with status 1."""
    say(text)
    sys.exit(1)


def say(text: str) -> None:
    """Say something to whoever runs the command, beside its output."""
    print(f"hubbub: {text}", file=sys.stderr)
