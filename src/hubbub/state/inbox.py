"""What has arrived for an endpoint and waits to be received: the limits on it, and when to read on.

A full inbox stops the reading, so that a busy endpoint holds its client back. But the peer's end can only be read, and
an endpoint that only pushes must not keep the dead: when nothing has been taken for `PAUSE_S` the reading goes on, and
what does not fit is discarded until the inbox has been emptied.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Generic, TypeVar

from ..config import Limits
from .bucket import TokenBucket

__all__ = ("INBOX_BYTES", "INBOX_MESSAGES", "PAUSE_S", "Arrival", "Inbox")

INBOX_MESSAGES = 64
INBOX_BYTES = 65_536
"""An inbox that holds this much stops the reading."""
PAUSE_S = 5.0
"""How long it does so while nothing is taken out of it."""

M = TypeVar("M")


class Arrival(enum.Enum):
    """What becomes of a message that arrives."""

    TAKEN = "taken"
    FILLED = "filled"
    """Taken; now stop reading."""
    DISCARDED = "discarded"
    TOO_BIG = "message_bytes"
    TOO_MANY = "messages_per_s"


class Inbox(Generic[M]):
    """The messages of one connection.

    Args:
        limits: Of which `message_bytes`, `messages_per_s` and `message_burst` are held here.
        now: The time in seconds.

    Attributes:
        messages: What waits, each with its size, the oldest first; for looking only.
    """

    __slots__ = ("_bucket", "_bytes", "_discards", "_limit", "_paused_at", "_taken_at", "messages")

    def __init__(self, limits: Limits, now: float) -> None:
        rate = limits.messages_per_s
        self._bucket = None if rate is None else TokenBucket(rate, limits.message_burst, now)
        self._limit = limits.message_bytes
        self.messages: deque[tuple[M, int]] = deque()
        self._bytes = 0
        self._discards = False
        self._paused_at: float | None = None
        self._taken_at = now

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def is_paused(self) -> bool:
        """Whether the reading is stopped."""
        return self._paused_at is not None

    def admit(self, size: int, now: float) -> Arrival | None:
        """Hold a message of `size` bytes against the limits, and return what is wrong with it, if anything is."""
        if self._limit is not None and size > self._limit:
            return Arrival.TOO_BIG
        if self._bucket is not None and not self._bucket.take(now):
            return Arrival.TOO_MANY
        return None

    def put(self, message: M, size: int, now: float) -> Arrival:
        """Take a message of `size` bytes that has arrived, if the limits allow it."""
        return self.admit(size, now) or self.keep(message, size, now)

    def keep(self, message: M, size: int, now: float) -> Arrival:
        """Take a message that has been admitted."""
        if self._discards and self._is_full():
            return Arrival.DISCARDED
        self.messages.append((message, size))
        self._bytes += size
        if self._discards or self.is_paused or not self._is_full():
            return Arrival.TAKEN
        self._paused_at = self._taken_at = now
        return Arrival.FILLED

    def count(self, now: float) -> bool:
        """Count something that has arrived against the rate, and return whether that allows it."""
        return self._bucket is None or self._bucket.take(now)

    def take(self, now: float) -> M:
        """Return the oldest message; there must be one."""
        message, size = self.messages.popleft()
        self._bytes -= size
        self._taken_at = now
        if not self.messages:
            self._discards = False
        return message

    def give_back(self, message: M, size: int) -> None:
        """Put a message back that was taken, as the oldest."""
        self.messages.appendleft((message, size))
        self._bytes += size

    def pause_ends_at(self) -> float:
        """Return when the reading is to go on if nothing is taken before."""
        return self._taken_at + PAUSE_S

    def discard(self) -> None:
        """Let what does not fit be discarded from now on, until the inbox has been emptied."""
        self._discards = True

    def resume(self, now: float) -> None:
        """The reading goes on. What a client sent while we did not read is not a burst of its making."""
        if self._bucket is not None and self._paused_at is not None:
            self._bucket.grant(now - self._paused_at, now)
        self._paused_at = None

    def clear(self) -> int:
        """Throw all messages away and return how many there were."""
        thrown = len(self.messages)
        self.messages.clear()
        self._bytes = 0
        return thrown

    def _is_full(self) -> bool:
        return len(self.messages) >= INBOX_MESSAGES or self._bytes >= INBOX_BYTES
