"""Waiting for what must happen, never longer than a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 20.0


async def within(awaitable: Awaitable[T], seconds: float = DEADLINE_S) -> T:
    """Return what `awaitable` returns, or raise `TimeoutError`."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def eventually(predicate: Callable[[], object], describe: Callable[[], object] | None = None) -> None:
    """Wait until `predicate` is true of something that nobody announces, such as the open files of a process.

    Raises:
        AssertionError: It did not become true in time; the message has what `describe` returns then.
    """
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not predicate():  # noqa: ASYNC110 - there is no event: that is what this is for
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S} s: {(describe or predicate)()}") from None
