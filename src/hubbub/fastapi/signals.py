"""Hears of the end of the server before it begins to wait for its connections.

uvicorn waits for open responses before it ends the lifespan, so that a stream that goes on for ever would keep it from
ending. The only earlier word is the signal.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ("told_of_the_end",)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def told_of_the_end(call: Callable[[], object]) -> Iterator[None]:
    """Call a function in the loop when a signal comes that ends the server, and then the handler that was there.

    Signals can be handled in the main thread only; elsewhere this does nothing, nor where nobody handles them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(call)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    chained = [number for number in _SIGNALS if callable(before[number])]
    for number in chained:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in chained:
            if signal.getsignal(number) is handle:
                signal.signal(number, before[number])
