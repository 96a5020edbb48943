"""A transport that records what it is told, and is as full as the test wants it."""

from __future__ import annotations

from ..interfaces import Sharing, TransportSettings, TransportUser
from ..model import CloseCode, Data
from ..wire.prepared import PreparedFrame

__all__ = ("RecordingTransport",)


class RecordingTransport:
    """A `Transport` without a network: `client.connect(path, transport=RecordingTransport())`.

    Set `buffered_bytes` to make the connection congested, and lower it to let it go on.

    Args:
        high_water: Buffered bytes from which on the transport is congested.

    Attributes:
        written: The messages that were written, the oldest first.
        closed: Close code and reason, once the connection was closed by its hub.
        is_reading: Whether the hub wants messages.
    """

    round_trip_s: float | None = None
    sharing: Sharing | None = None

    def __init__(self, high_water: int = 65_536) -> None:
        self.written: list[Data] = []
        self.closed: tuple[int, str] | None = None
        self.is_reading = True
        self._high_water = high_water
        self._buffered = 0
        self._user: TransportUser | None = None
        self._is_lost = False

    # What a test does

    @property
    def buffered_bytes(self) -> int:
        """Bytes that the peer has not taken. Setting it tells the connection when it crosses the high water mark."""
        return self._buffered

    @buffered_bytes.setter
    def buffered_bytes(self, level: int) -> None:
        before, self._buffered = self._buffered, level
        user = self._the_user()
        if self._is_lost:
            return
        if before < self._high_water <= level:
            user.congested()
        elif level < self._high_water <= before:
            user.writable()

    def receive(self, data: Data) -> None:
        """Let a message of the peer arrive; after the end nothing does."""
        user = self._the_user()
        if not self._is_lost:
            user.received(data)

    def lose(self, code: int = CloseCode.ABNORMAL, reason: str = "") -> None:
        """Let the peer vanish, or close with `code`."""
        user = self._the_user()
        if not self._is_lost:
            self._is_lost = True
            user.lost(code, reason)

    def _the_user(self) -> TransportUser:
        if self._user is None:
            raise RuntimeError("the transport carries no connection yet: accept it first")
        return self._user

    # What the hub does

    def start(self, user: TransportUser, settings: TransportSettings) -> None:
        """See `Transport`."""
        self._user = user

    def write(self, frame: PreparedFrame) -> None:
        """See `Transport`."""
        self.written.append(frame.data)

    def close(self, code: int, reason: str) -> None:
        """See `Transport`."""
        if not self._is_lost:
            self.closed = (code, reason)
            self.lose(code, reason)

    def abort(self) -> None:
        """See `Transport`."""
        self.lose()

    def pause_reading(self) -> None:
        """See `Transport`."""
        self.is_reading = False

    def resume_reading(self) -> None:
        """See `Transport`."""
        self.is_reading = True
