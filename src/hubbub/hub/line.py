"""A channel with history as one hub hears it: its position, and its last publications while somebody catches up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..config import History
from ..model import Position
from ..state.recovery import Recovery
from .message import Message

__all__ = ("TAIL_BYTES", "Line", "Publications")

TAIL_BYTES = 1_048_576
"""What is kept at most of a channel while connections catch up, and while its history is read."""

LINGER_S = 1.0
"""How long it is kept after the last one has caught up."""

_ENTRY_BYTES = 200
"""What an entry costs beside its message."""

Publications = Sequence[tuple[int, Message]]
"""Offsets and messages, in order and without a hole."""


class Line:
    """The state of one channel.

    Args:
        history: Its settings.

    Attributes:
        recovery: The order of what arrives.
        is_incomplete: Whether somebody has joined before the position was known: something may be missing for them.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.recovery: Recovery[Message] = Recovery(TAIL_BYTES)
        self.is_incomplete = False
        self.is_repairing = False
        self._readers = 0
        self._keeps_tail = False
        self._tail: deque[tuple[int, Message]] = deque()
        self._tail_bytes = 0
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    @property
    def position(self) -> Position | None:
        """The position of what was passed on last, once it is known."""
        return self.recovery.position

    @contextmanager
    def kept(self, call_later: Callable[[float, Callable[[], object]], object]) -> Iterator[None]:
        """Keep what is passed on, and a little longer, since those who catch up come in crowds."""
        self._readers += 1
        self._keeps_tail = True
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                call_later(LINGER_S, self._end_unread)

    def _end_unread(self) -> None:
        if not self._readers:
            self._keeps_tail = False
            self.drop_tail()

    def passed_on(self, offset: int, message: Message) -> None:
        """A publication is passed on."""
        if self._keeps_tail:
            self._push(offset, message)
        if self._waiting:
            self._wake(offset)

    def after(self, offset: int) -> Publications | None:
        """Return what was passed on after `offset`, or `None` where the tail does not reach back so far."""
        position = self.position
        if position is not None and offset == position.offset:
            return ()
        if not self._tail or self._tail[0][0] > offset + 1:
            return None
        return [entry for entry in self._tail if entry[0] > offset]

    def found(self, publications: Publications) -> None:
        """Keep what was read from history, up to the position, if the tail goes on from there: others will ask too."""
        first = self._tail[0][0] if self._tail else self.position.offset + 1 if self.position is not None else 0
        if not publications or publications[-1][0] != first - 1:
            return
        size = sum(message.frame.size + _ENTRY_BYTES for _, message in publications)
        if self._tail_bytes + size <= TAIL_BYTES:
            self._tail.extendleft(reversed(publications))
            self._tail_bytes += size

    def drop_tail(self) -> None:
        """Keep nothing of what was: the history has begun anew, or nobody reads it."""
        self._tail.clear()
        self._tail_bytes = 0

    def _push(self, offset: int, message: Message) -> None:
        self._tail.append((offset, message))
        self._tail_bytes += message.frame.size + _ENTRY_BYTES
        while self._tail_bytes > TAIL_BYTES:
            _, oldest = self._tail.popleft()
            self._tail_bytes -= oldest.frame.size + _ENTRY_BYTES

    def reaches(self, offset: int) -> asyncio.Future[None]:
        """Return what is done when the publication with this offset is passed on, or the position changes otherwise."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(offset, []).append(waiting)
        return waiting

    def wake(self) -> None:
        """The position has changed, or an attempt to find it out is over: let all look who wait for it."""
        for offset in tuple(self._waiting):
            self._wake(offset)

    def _wake(self, offset: int) -> None:
        for waiting in self._waiting.pop(offset, ()):
            if not waiting.done():
                waiting.set_result(None)
