"""The event loop of a server process, and a garbage collector that fits many connections."""

from __future__ import annotations

import asyncio
import gc

__all__ = ("new_event_loop",)

GC_THRESHOLDS = (50_000, 20, 50)
"""Python's own (700, 10, 10) are for programs that hold little. A connection in an endpoint is 130 objects that stay;
a server that takes connections would look through all of them again and again: half the time of a handshake with
3,000 of them (406 µs of CPU against 223 through FastAPI with a hub, CPython 3.11)."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop for `uvicorn --loop hubbub.server.loop:new_event_loop`, of uvloop where it is installed.

    Sets the garbage collector of the process: what is there already is not looked through any more, and what comes is
    looked through less often. Garbage without cycles, which is nearly all, goes at once as ever.
    """
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
