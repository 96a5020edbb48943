"""What waits for one connection that is behind: messages in its outbox, and senders that wait for room in it.

A publication that does not fit meets its policy. A direct send waits, first come, first served, and is put in line by
whoever makes the room, not when its task wakes up. Direct sends use only half of the outbox, or one endpoint that
streams to a healthy client would have it closed as slow by the next broadcast.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..interfaces import Timer
from ..model import OutboxPolicy
from ..state.outbox import Offer, OutboxQueue
from ..wire.prepared import PreparedFrame

__all__ = ("DIRECT_SHARE", "Backlog")

DIRECT_SHARE = 0.5
"""The part of the outbox that direct sends may fill."""


class _Sender(NamedTuple):
    """A direct send that waits for room."""

    frame: PreparedFrame
    waiter: asyncio.Future[None]
    deadline: Timer


class Backlog:
    """The backlog of one connection; it exists only while the connection is behind.

    Args:
        bound: Bytes of the outbox.
    """

    __slots__ = ("_queue", "_waiting")

    def __init__(self, bound: int) -> None:
        self._queue: OutboxQueue[PreparedFrame] = OutboxQueue(bound)
        self._waiting: deque[_Sender] = deque()

    def __len__(self) -> int:
        """How many messages are in the outbox."""
        return len(self._queue)

    @property
    def has_waiting(self) -> bool:
        """Whether senders wait."""
        return bool(self._waiting)

    @property
    def bytes(self) -> int:
        """Bytes in the outbox, and those of the senders that wait for room in it."""
        return self._queue.bytes + sum(sender.frame.size for sender in tuple(self._waiting))

    def offer(self, frame: PreparedFrame, channel: str, policy: OutboxPolicy) -> Offer:
        """Queue a publication as far as its policy allows."""
        # Where publications may be dropped they leave the same room as direct sends while one of those waits: or they
        # would take all room that comes, and a client that reads would be closed as slow.
        share = DIRECT_SHARE if self._waiting and policy != "disconnect" else 1.0
        return self._queue.offer(frame, frame.size, channel, policy, share)

    def has_room(self, frame: PreparedFrame) -> bool:
        """Return whether a direct send can be put in line now."""
        return self._queue.has_room(frame.size, DIRECT_SHARE)

    def put(self, frame: PreparedFrame) -> None:
        """Put a direct send in line; there is room."""
        self._queue.put(frame, frame.size)

    def pop(self) -> PreparedFrame | None:
        """Take the oldest message."""
        return self._queue.pop()

    def wait(self, frame: PreparedFrame, waiter: asyncio.Future[None], deadline: Timer) -> None:
        """Let a direct send wait for room; `waiter` is done when `let_in` has given it out, or `fail` was called."""
        self._waiting.append(_Sender(frame, waiter, deadline))

    def give_up(self, waiter: asyncio.Future[None]) -> None:
        """Forget a sender that was cancelled, if it still waits."""
        for sender in self._waiting:
            if sender.waiter is waiter:
                sender.deadline.cancel()
                self._waiting.remove(sender)
                return

    def first_waiting(self) -> PreparedFrame | None:
        """Return what the first sender has that still waits."""
        while self._waiting:
            if not self._waiting[0].waiter.done():
                return self._waiting[0].frame
            self._waiting.popleft().deadline.cancel()
        return None

    def let_in(self) -> None:
        """Tell the first sender that its message is in line."""
        sender = self._waiting.popleft()
        sender.deadline.cancel()
        sender.waiter.set_result(None)

    def fail(self, error: Callable[[], Exception]) -> None:
        """Tell all senders that the connection has ended, each by an error of its own."""
        while self._waiting:
            sender = self._waiting.popleft()
            sender.deadline.cancel()
            if not sender.waiter.done():
                sender.waiter.set_exception(error())
