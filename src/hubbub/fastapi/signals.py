"""Hears of the end of the server before it begins to wait for its connections.

uvicorn waits for open responses before it ends the lifespan, so that a stream that goes on for ever would keep it from
ending. The only earlier word is the signal.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType

__all__ = ("hear_of_the_end",)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def hear_of_the_end(call: Callable[[], object]) -> Callable[[], None]:
    """Call a function in the loop when a signal comes that ends the server, and the handler that is there at once.

    Signals can be handled in the main thread only; elsewhere this does nothing, nor where nobody handles them.

    Returns:
        What stops that. In another thread the handlers stay, and pass the signals on.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()
    before = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    hears = True

    def handle(number: int, frame: FrameType | None) -> None:
        if hears and not loop.is_closed():
            loop.call_soon_threadsafe(call)
        before[signal.Signals(number)](number, frame)

    def stop() -> None:
        nonlocal hears
        hears = False  # where another handler stands before this one, it goes on to pass signals on
        may_set = threading.current_thread() is threading.main_thread()
        for number, handler in before.items():
            if may_set and signal.getsignal(number) is handle:
                signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    return stop
