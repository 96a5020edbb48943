"""The seams: what one part of Hubbub asks of another, as contracts.

All calls here are made in the event loop's thread and none of them waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .config import Drain, Heartbeat
from .model import Data
from .wire.prepared import Encoding, PreparedFrame

__all__ = ("Clock", "Sharing", "Timer", "Transport", "TransportSettings", "TransportUser")


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


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """What a hub asks of the transports of its connections; each does what it can.

    Args:
        message_bytes: Size of a message from the peer at most, or `None` for any.
        message_fragments: Frames that a message may come in, or `None` for any.
        heartbeat: When to ask whether the peer is there.
        drain: How to end many connections when the server stops.
    """

    message_bytes: int | None = None
    message_fragments: int | None = None
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    drain: Drain = field(default_factory=Drain)


class Sharing(Protocol):
    """What a transport can do that takes messages which were encoded once for many connections."""

    @property
    def encoding(self) -> Encoding:
        """What makes of messages what `write_encoded` takes; does not change after `Transport.start`."""

    @property
    def write_encoded(self) -> Callable[[bytes], object]:
        """Like `Transport.write`, for several messages at once that have been through `encoding`."""


class Transport(Protocol):
    """One accepted WebSocket, as its hub sees it.

    Messages leave in the order of `write` and `Sharing.write_encoded`. What was written is lost when the connection is.
    """

    @property
    def sharing(self) -> Sharing | None:
        """How it takes what was encoded for many, or `None` where it has to be given messages one by one."""

    def start(self, user: TransportUser, settings: TransportSettings) -> None:
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
        """Deliver no more messages, though some that are already on their way may still come."""

    def resume_reading(self) -> None:
        """Deliver messages again."""

    @property
    def round_trip_s(self) -> float | None:
        """How long the last answer to the heartbeat took, or `None` where that is not known."""


class TransportUser(Protocol):
    """The counterpart of a `Transport`: the connection that it carries."""

    def received(self, data: Data) -> None:
        """A message has arrived."""

    def control_received(self) -> None:
        """A ping has arrived, or a pong that was not asked for. It has been answered, but counts as a message does."""

    def violated(self, limit: str) -> None:
        """The peer has gone over a limit that the transport holds; it is closed for that, and `lost` follows."""

    def congested(self) -> None:
        """What is written from now on waits in the transport; write no more until `writable`."""

    def writable(self) -> None:
        """The transport has room again."""

    def draining(self) -> None:
        """The server stops: it is this connection's turn to be closed with 1012."""

    def application_ended(self, code: int) -> None:
        """The application's call for this connection is over: close it with `code`, unless it is to outlive that."""

    def lost(self, code: int, reason: str) -> None:
        """The connection has ended, with the peer's close code or 1006. Comes exactly once, and nothing after it."""
