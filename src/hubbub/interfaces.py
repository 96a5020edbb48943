"""The seams: what one part of Hubbub asks of another, as contracts.

All calls here are made in the event loop's thread and none of them waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .model import Data
from .wire.prepared import PreparedFrame

__all__ = ("Clock", "Timer", "Transport", "TransportUser")


class Timer(Protocol):
    """A call that is due."""

    def cancel(self) -> None:
        """Withdraw the call. Does nothing when it was made or withdrawn already."""


class Clock(Protocol):
    """Time in seconds, from an arbitrary start, and calls at a time. `asyncio` loops and `ManualClock` give one."""

    def time(self) -> float:
        """Return the time now; it never goes back."""

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once when the time is `when`, in order of time."""


class Transport(Protocol):
    """One accepted WebSocket, as its hub sees it.

    Messages leave in the order of `write`. What was written is lost when the connection is.
    """

    def start(self, user: TransportUser) -> None:
        """Deliver what arrives to `user` from now on. Called once, before anything else."""

    def write(self, frame: PreparedFrame) -> None:
        """Take a message to be sent. May call `user.congested()` before it returns; takes it even when congested."""

    def close(self, code: int, reason: str) -> None:
        """End the connection at once with this close code, and call `user.lost`, perhaps before returning.

        What was written and has not left yet may be lost: whoever wants it delivered waits for `writable` first.
        """

    def abort(self) -> None:
        """End the connection without a close frame and call `user.lost` before returning, unless it has been."""

    def pause_reading(self) -> None:
        """Deliver no more messages, though one that is already on its way may still come."""

    def resume_reading(self) -> None:
        """Deliver messages again."""

    @property
    def buffered_bytes(self) -> int:
        """Payload bytes that were written and have not been handed to the server or the kernel."""


class TransportUser(Protocol):
    """The counterpart of a `Transport`: the connection that it carries."""

    def received(self, data: Data) -> None:
        """A message has arrived."""

    def congested(self) -> None:
        """What is written from now on waits in the transport; write no more until `writable`."""

    def writable(self) -> None:
        """The transport has room again."""

    def lost(self, code: int, reason: str) -> None:
        """The connection has ended, with the peer's close code or 1006. Comes exactly once, and nothing after it."""
