"""`hubbub run`: uvicorn with Hubbub's classes, and with what a server of many connections needs.

The exit status is 0 after SIGTERM or Ctrl-C, 1 if the application cannot be imported or cannot have several workers, 2
for an option that is wrong and 3 if the application does not start or the address is taken. The last is uvicorn's; its
supervisor of several workers ends with 0 then.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn

from ..fastapi.hub import hubs, is_shared
from .application import fail, load

__all__ = ("serve",)

HTTP_CLASS = "hubbub.server.http:HTTPProtocol"
WEBSOCKET_CLASS = "hubbub.server:WebSocketProtocol"
LOOP = "hubbub.server.loop:new_event_loop"

_VERBOSE = ("debug", "trace")
_HINT = "--log-level debug shows the traceback."


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
            found = load(application, makes_it=makes_it, hint=_HINT, with_traceback=log_level in _VERBOSE)
            if workers > 1 and _is_alone(found):
                fail(
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


def _is_alone(application: object) -> bool:
    """Return whether an application has a hub that is alone in its process; the argument keeps its hubs meanwhile."""
    return not all(map(is_shared, hubs()))


def raise_open_files() -> None:
    """Allow this process, and those that it starts, as many open files as its limit may be raised to."""
    try:
        import resource
    except ImportError:  # on Windows there is no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # on macOS the limit may be raised to less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
