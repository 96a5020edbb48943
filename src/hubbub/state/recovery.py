"""What one hub has of a channel with history: in order, without duplicates, and what to read where there is a gap.

Theory of operation. Publications arrive live, numbered. The next number is passed on, an earlier one is a duplicate;
anything else, or the word of the broker, means that something may be missing. Then the history is read from the last
position on. What arrives before a reading begins is part of what will be read, so that only what arrives during it is
kept, and merged afterwards. That buffer is bounded: if it overflows, the history is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..model import Position

__all__ = ("Recovered", "Recovery")

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Recovered(Generic[M]):
    """What a reading has brought.

    Args:
        publications: Offsets and messages to pass on, in order.
        is_lost: Whether something is lost before them, which history does not have any more.
    """

    publications: Sequence[tuple[int, M]]
    is_lost: bool


class Recovery(Generic[M]):
    """The order of one channel.

    Args:
        buffer_bytes: Bound of what arrives while history is read.

    Attributes:
        position: The position of what was passed on last; `None` before the first reading.
        is_broken: Whether history has to be read, from `position` on.
    """

    def __init__(self, buffer_bytes: int) -> None:
        self.position: Position | None = None
        self.is_broken = True
        self._buffer_bytes = buffer_bytes
        self._is_reading = False
        self._buffer: list[tuple[Position, M]] = []
        self._size = 0
        self._overflowed = False

    def arrived(self, position: Position, message: M, size: int) -> bool:
        """Take a live publication of so many bytes; return whether it is the next one and to be passed on now."""
        if self.is_broken or self.position is None:
            if self._is_reading:
                self._keep(position, message, size)
            return False
        if position.epoch == self.position.epoch and position.offset <= self.position.offset:
            return False
        if not self._is_next(position):
            self.is_broken = True
            return False
        self.position = position
        return True

    def suspect(self) -> None:
        """Something may be missing: history has to be read."""
        self.is_broken = True
        self._overflowed = self._is_reading  # what is being read may be from before that

    def begin_reading(self) -> None:
        """History is about to be read, from `position` on."""
        self._is_reading = True
        self._overflowed = False
        self._drop_buffer()

    def end_reading(self) -> None:
        """History could not be read."""
        self._is_reading = False
        self._drop_buffer()

    def read(self, position: Position, publications: Sequence[tuple[int, M]], is_complete: bool) -> Recovered[M]:
        """Take what was read and return what to pass on. It may have to be read again: see `is_broken`.

        Args:
            position: That of the channel's last publication when it was read.
            publications: Offsets and messages after the position from which it was read, in order; or all that are left
                where some are missing, which are passed on after the loss.
            is_complete: Whether none is missing between them.
        """
        before = self.position
        is_lost = not is_complete and before is not None
        passed: list[tuple[int, M]] = []
        if before is not None:
            have = before.offset if before.epoch == position.epoch else 0  # in another epoch all is new
            passed += [(offset, message) for offset, message in publications if offset > have]
        self.position = position
        self.is_broken = self._overflowed
        for arrived, message in self._buffer:
            if arrived.epoch == self.position.epoch and arrived.offset <= self.position.offset:
                continue
            if self.is_broken or not self._is_next(arrived):
                self.is_broken = True
                break
            self.position = arrived
            passed.append((arrived.offset, message))
        self.end_reading()
        return Recovered(passed, is_lost)

    def _is_next(self, position: Position) -> bool:
        ours = self.position
        return ours is not None and position.epoch == ours.epoch and position.offset == ours.offset + 1

    def _keep(self, position: Position, message: M, size: int) -> None:
        self._size += size
        if self._size > self._buffer_bytes:
            self._overflowed = True
            self._drop_buffer()
        elif not self._overflowed:
            self._buffer.append((position, message))

    def _drop_buffer(self) -> None:
        self._buffer.clear()
        self._size = 0
