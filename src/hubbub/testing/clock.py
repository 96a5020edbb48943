"""A clock that stands still until it is moved."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

__all__ = ("ManualClock",)


class _Call:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A `Clock` for `Hub(clock=…)`: deadlines and rates in a test take no time and no luck.

    Args:
        now: The time at the start, in seconds.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._order = count()
        self._calls: list[tuple[float, int, _Call]] = []

    def time(self) -> float:
        """Return the time, in seconds."""
        return self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> _Call:
        """Call `callback` when the clock is moved to `when` or beyond."""
        call = _Call(callback)
        heapq.heappush(self._calls, (when, next(self._order), call))
        return call

    def advance(self, seconds: float) -> None:
        """Move the clock and make the calls that are due, in order, each at its own time.

        Raises:
            ValueError: `seconds` is negative: time does not go back.
        """
        if seconds < 0:
            raise ValueError(f"advance({seconds}): time does not go back")
        target = self._now + seconds
        while self._calls and self._calls[0][0] <= target:
            when, _, call = heapq.heappop(self._calls)
            self._now = max(self._now, when)
            if call.callback is not None:
                call.callback()
        self._now = max(self._now, target)
