"""A timing wheel: very many deadlines for the price of few timers.

Deadlines are rounded up to the wheel's tick, so that all which fall between two ticks share a slot. Adding and removing
take the same time however many there are (Varghese and Lauck, "Hashed and hierarchical timing wheels", scheme 6).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ("TimingWheel",)

T = TypeVar("T", bound=Hashable)


class TimingWheel(Generic[T]):
    """Items that are due at a time.

    Args:
        tick_s: Seconds by which an item may be late.
    """

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._slots: dict[int, dict[T, None]] = {}
        self._order: list[int] = []
        self._past = -1  # the last slot that was due

    def __len__(self) -> int:
        """How many items wait."""
        return sum(map(len, self._slots.values()))

    def add(self, item: T, when: float) -> int:
        """Let `item` be due at `when` seconds, and return the slot that it waits in, for `remove`."""
        slot = max(math.ceil(when / self._tick_s), self._past + 1)
        items = self._slots.get(slot)
        if items is None:
            items = self._slots[slot] = {}
            heapq.heappush(self._order, slot)
        items[item] = None
        return slot

    def remove(self, item: T, slot: int) -> None:
        """Take `item` out of the slot that it waits in."""
        del self._slots[slot][item]

    def next_due(self) -> float | None:
        """Return when the next items are due, or `None` when there are none."""
        while self._order and not self._slots[self._order[0]]:
            del self._slots[heapq.heappop(self._order)]
        return self._order[0] * self._tick_s if self._order else None

    def expire(self, now: float) -> Iterator[T]:
        """Take out the items that are due one by one, in the order of their slots.

        Items can be added and removed meanwhile: what is removed is not due, what is added is not due before the next
        tick.
        """
        while (when := self.next_due()) is not None and when <= now:
            self._past = self._order[0]
            yield self._slots[self._past].popitem()[0]
