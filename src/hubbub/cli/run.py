"""`hubbub run`: uvicorn with Hubbub's classes, and with what a server of many connections needs.

The exit status is 0 after SIGTERM or Ctrl-C, 1 if the application cannot be imported or cannot have several workers, 2
for an option that is wrong and 3 if the application does not start or the address is taken. The last is uvicorn's; its
supervisor of several workers ends with 0 then.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import uvicorn
import uvicorn.importer
from uvicorn.importer import ImportFromStringError, import_from_string

from ..fastapi.hub import hubs, is_shared

__all__ = ("serve",)

HTTP_CLASS = "hubbub.server.http:HTTPProtocol"
WEBSOCKET_CLASS = "hubbub.server:WebSocketProtocol"
LOOP = "hubbub.server.loop:new_event_loop"

_VERBOSE = ("debug", "trace")
_IMPORTERS = (__file__, importlib.__file__, uvicorn.importer.__file__)


def serve(application: str, *, app_dir: str, reload: bool, workers: int, log_level: str, **settings: Any) -> None:
    """Serve an application until SIGTERM or Ctrl-C.

    Args:
        application: Where it is, as `module:attribute`.
        app_dir: A directory to look for the module in, before all others.
        reload: Whether to start again when a file changes.
        workers: Number of processes; one serves in this process.
        log_level: A level of uvicorn; `debug` shows the traceback of an application that cannot be imported.
        settings: More of what `uvicorn.run` takes.

    Raises:
        SystemExit: The exit status is not 0 (see the module), or SIGTERM came.
    """
    with _status_0_at_sigterm():
        sys.path.insert(0, app_dir)
        raise_open_files()
        if not reload:  # the reloader waits until the application can be imported, and has one worker
            makes_it = workers > 1 and bool(settings.get("factory"))
            is_alone = _import(application, makes_it=makes_it, with_traceback=log_level in _VERBOSE)
            if workers > 1 and is_alone:
                _fail(
                    f"--workers {workers} takes a broker that all workers share, and this application has a hub in "
                    'the memory of one process. Give it Hub("redis://…"), or run one worker.'
                )
        uvicorn.run(
            application,
            http=HTTP_CLASS,
            ws=WEBSOCKET_CLASS,
            loop=LOOP,
            reload=reload,
            workers=workers,
            log_level=log_level,
            **settings,
        )


def raise_open_files() -> None:
    """Allow this process, and those that it starts, as many open files as its limit may be raised to."""
    try:
        import resource
    except ImportError:  # on Windows there is no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # on macOS the limit may be raised to less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _import(application: str, *, makes_it: bool, with_traceback: bool) -> bool:
    """Import the application, so that this can fail with one line instead of uvicorn's traceback.

    Args:
        application: Where it is.
        makes_it: Whether to call what is there, since an application that is made has its hubs only then.
        with_traceback: Whether to show the traceback of what it raises.

    Returns:
        Whether it has a hub that is alone in its process.
    """
    try:
        imported = import_from_string(application)
        if makes_it:
            imported = imported()  # kept, or its hubs would be gone
        return not all(map(is_shared, hubs()))
    except ImportFromStringError as error:
        _fail(str(error))
    except Exception as error:
        if with_traceback:
            traceback.print_exc()
        _fail(f"cannot import {application}: {_describe(error)}. --log-level debug shows the traceback.")


def _describe(error: Exception) -> str:
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


@contextmanager
def _status_0_at_sigterm() -> Iterator[None]:
    """End with 0 at SIGTERM, as at Ctrl-C.

    When uvicorn has shut down it raises the signal again, for the handler that was there before its own. Without one,
    a process that has ended in order would look like one that was killed.
    """
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit()


def _fail(text: str) -> NoReturn:
    _say(text)
    sys.exit(1)


def _say(text: str) -> None:
    print(f"hubbub: {text}", file=sys.stderr)
