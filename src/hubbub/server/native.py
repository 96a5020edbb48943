"""The transport of Hubbub's own server class: one WebSocket straight on its TCP or TLS connection.

Theory of operation. `WebSocketProtocol` makes it when a handshake is accepted, and from then on it is the protocol of
the connection. Its user, a hub's connection or the ASGI bridge, is told of everything until `lost`, which may come
before the end of the connection: after the peer's close, or a fault of the peer, there is nothing more to say to the
user, but the close frame has yet to reach the peer. The connection then lingers, reading without looking, until the
peer closes or a deadline has passed; or the kernel would answer what the peer has still sent with a reset, which may
overtake the close frame (RFC 6455 section 7.1.1).

    OPEN      messages go both ways
    CLOSING   our close frame is out, the peer's is awaited; its messages still come to the user
    LINGERING both sides have closed, or the peer is at fault: the user has been told
    GONE      the connection is lost

Writes of a fan-out go to `write_encoded`, which is the `write` of the event loop's own transport: nothing is between.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from collections.abc import Callable
from typing import Protocol

from ..config import Heartbeat
from ..interfaces import Sharing, TransportSettings, TransportUser
from ..model import CloseCode
from ..wire.frames import Opcode, close_payload, frame
from ..wire.parser import Closed, Parser, Ping, Pong, only_message
from ..wire.prepared import Encoding, PreparedFrame, plain
from .shared import Shared

__all__ = ("CLOSE_DEADLINE_S", "NativeTransport")

_LIMITS = ("message_bytes", "message_fragments")
"""The reasons of faults that are names of limits."""
CLOSE_DEADLINE_S = 5.0
"""How long a close waits for the peer's answer."""
LINGER_S = 2.0
"""How long a connection that is at its end waits for the peer to close it."""
DRAIN_DEADLINE_S = 1.0
"""How long a close waits for the peer's answer when the server stops."""


class _Phase(enum.Enum):
    OPEN = "open"
    CLOSING = "closing"
    LINGERING = "lingering"
    GONE = "gone"


class Predecessor(TransportUser, Protocol):
    """The user that the transport has before `start`."""

    def hand_over(self, user: TransportUser) -> None:
        """Give what has arrived already, and the end if that has come, to the user that takes this one's place."""


class NativeTransport(asyncio.Protocol):
    """A `Transport` over the event loop's transport.

    Args:
        tcp: The event loop's transport.
        shared: What the connections of its server share.
        max_bytes: Size of a message at most, beside what its user says: uvicorn's `ws_max_size`.
        user: Who hears of what arrives, until `start` gives another one.
        settings: What holds until then.
        make_parser: Makes a parser for the extensions that were negotiated, from bytes and fragments of a message.
        encoding: The encoding, made for them too.
    """

    __slots__ = (
        "_is_congested",
        "_is_reading",
        "_make_parser",
        "_max_bytes",
        "_most_bytes",
        "_owes_pong",
        "_parser",
        "_phase",
        "_ping",
        "_pinged_at",
        "_predecessor",
        "_shared",
        "_slot",
        "_stuck_at",
        "_tcp",
        "_user",
        "encoding",
        "round_trip_s",
        "settings",
        "write_encoded",
    )

    def __init__(
        self,
        tcp: asyncio.Transport,
        shared: Shared,
        max_bytes: int,
        user: Predecessor,
        settings: TransportSettings,
        make_parser: Callable[[int, int | None], Parser],
        encoding: Encoding,
    ) -> None:
        self.encoding = encoding
        self.write_encoded: Callable[[bytes], object] = tcp.write
        self.round_trip_s: float | None = None
        self._tcp = tcp
        self._shared = shared
        self._max_bytes = max_bytes
        self._user: TransportUser | None = user
        self._predecessor: Predecessor | None = user
        self._most_bytes = max_bytes
        self._make_parser = make_parser
        self._parser: Parser | None = None
        self._phase = _Phase.OPEN
        self._is_congested = False
        self._is_reading = True
        self._owes_pong: bytes | None = None
        self._ping: bytes | None = None
        self._pinged_at = shared.now()
        self._stuck_at: int | None = None
        self._slot: int | None = None
        self._set(settings)
        shared.connections.add(self)
        shared.open[self] = None

    # What its user does (see `Transport`)

    @property
    def sharing(self) -> Sharing:
        """How it takes what was encoded for many (see `Transport`)."""
        return self

    @property
    def is_over(self) -> bool:
        """Whether the user has been told of the end."""
        return self._user is None

    def start(self, user: TransportUser, settings: TransportSettings) -> None:
        """Deliver to `user` from now on (see `Transport`)."""
        predecessor, self._predecessor = self._predecessor, None
        assert predecessor is not None, "a transport is started once, while the application runs"
        if self._phase is _Phase.OPEN:
            self._user = user
            self._set(settings)
            if self._is_congested:
                user.congested()
        else:
            self._user = None
        predecessor.hand_over(user)

    def _set(self, settings: TransportSettings) -> None:
        self.settings = settings
        own = settings.message_bytes
        self._most_bytes = self._max_bytes if own is None else min(own, self._max_bytes)
        if self._parser is not None:
            self._parser.limit(self._most_bytes, settings.message_fragments)
        self._wait(settings.heartbeat.interval_s)

    def write(self, frame: PreparedFrame) -> None:
        """Take a message (see `Transport`)."""
        self.write_encoded(frame.plain if self.encoding is plain else self.encoding((frame,)))

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and wait for the peer's (see `Transport`)."""
        if self._phase is not _Phase.OPEN:
            return
        if code == CloseCode.POLICY_VIOLATION:  # a peer that floods would be listened to until it answers
            self._fail(code, reason)
            return
        farewell = _close_frame(code, reason)
        self._phase = _Phase.CLOSING
        self._tcp.write(farewell)
        self.resume_reading()
        self._wait(DRAIN_DEADLINE_S if self._shared.is_draining else CLOSE_DEADLINE_S)

    def abort(self) -> None:
        """End the connection without a word (see `Transport`)."""
        if self._phase is not _Phase.GONE:
            self._tcp.abort()
            self._gone()

    def pause_reading(self) -> None:
        """Leave what the peer sends with the kernel (see `Transport`)."""
        if self._is_reading and not self._tcp.is_closing():
            self._is_reading = False
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Read again (see `Transport`)."""
        if self._is_reading:
            return
        self._is_reading = True
        if self._ping is not None:
            self._pinged_at = self._shared.now()  # the answer may be among what has not been read
        if self._parser is not None and self._parser.has_more:
            asyncio.get_running_loop().call_soon(self._read_on)
        elif not self._tcp.is_closing():
            self._tcp.resume_reading()

    # What the event loop tells

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        if self._user is None:
            return
        if self._parser is None:
            message = only_message(data, self._most_bytes)
            if message is not None:
                self._user.received(message)
                return
            self._parser = self._make_parser(self._most_bytes, self.settings.message_fragments)
        self._feed(self._parser, data)

    def _feed(self, parser: Parser, data: bytes) -> None:
        for event in parser.feed(data):
            if not isinstance(event, str | bytes):
                self._take_control(event)
            elif self._user is not None:
                self._user.received(event)
        if parser.fault is not None:
            # Not at once: an endpoint that waits for the message before the fault has its turn first, and may answer.
            self._shared.call_soon(self._fail, parser.fault.code, parser.fault.reason)
        elif parser.has_more:
            self._pause_for_others()
        elif parser.is_idle:
            self._parser = None

    def _pause_for_others(self) -> None:
        """Let other connections have their turn before the rest of what has arrived."""
        if self._is_reading:
            if not self._tcp.is_closing():
                self._tcp.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._is_reading or self._phase is _Phase.GONE:
            return
        self.data_received(b"")
        has_more = self._parser is not None and self._parser.has_more
        if self._is_reading and not has_more and not self._tcp.is_closing():
            self._tcp.resume_reading()

    def pause_writing(self) -> None:
        """The event loop's buffer is full."""
        self._is_congested = True
        if self._user is not None:
            self._user.congested()

    def resume_writing(self) -> None:
        """The event loop's buffer has room."""
        self._is_congested = False
        if self._stuck_at is not None and self._phase is _Phase.OPEN:
            self._stuck_at = None
            self._wait(self.settings.heartbeat.interval_s)
        if self._owes_pong is not None:
            payload, self._owes_pong = self._owes_pong, None
            self._pong(payload)
        if self._user is not None:
            self._user.writable()

    def eof_received(self) -> None:
        """The peer sends no more: the event loop closes the connection when what waits has left, if it leaves soon."""
        self._lose(CloseCode.ABNORMAL, "")
        self._linger()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._gone()

    def shutdown(self) -> None:
        """uvicorn stops, and says so to all its connections: they are ended in batches."""
        self._shared.begin_drain()

    def application_ended(self, code: int) -> None:
        """The application's call for this connection is over."""
        self._predecessor = None
        if self._user is not None:
            self._user.application_ended(code)

    def drain(self) -> None:
        """It is this connection's turn to be ended, since the server stops."""
        if self._user is not None:
            self._user.draining()

    # Control frames

    def _take_control(self, event: Ping | Pong | Closed) -> None:
        if isinstance(event, Closed):
            self._closed(event)
        elif isinstance(event, Ping):
            self._pong(event.payload)
            self._count_control()
        elif event.payload == self._ping:
            self._ping = None
            self.round_trip_s = self._shared.now() - self._pinged_at
        else:
            self._count_control()

    def _count_control(self) -> None:
        if self._user is not None:
            self._user.control_received()

    def _pong(self, payload: bytes) -> None:
        # A peer that does not read gets an answer to its last ping only (RFC 6455 section 5.5.3).
        if self._is_congested:
            self._owes_pong = payload
        elif self._phase is _Phase.OPEN:
            self._tcp.write(frame(Opcode.PONG, payload))

    def _closed(self, event: Closed) -> None:
        """The peer has closed: answer if it has not answered us, and end the connection, as is the server's part."""
        if self._phase is _Phase.OPEN:
            self._tcp.write(_close_frame(event.code, ""))
        self._lose(event.code, event.reason)
        self._linger()
        self._tcp.close()

    def _fail(self, code: int, reason: str) -> None:
        """The peer is at fault: say so, and stop listening to it."""
        if self._user is None:
            return
        if self._phase is _Phase.OPEN:
            self._tcp.write(_close_frame(code, reason))
        if reason in _LIMITS:
            self._user.violated(reason)
        self._lose(code, reason)
        self._linger()
        if self._tcp.can_write_eof() and not self._tcp.is_closing():
            self._tcp.write_eof()

    def _lose(self, code: int, reason: str) -> None:
        user, self._user = self._user, None
        if user is not None:
            user.lost(code, reason)

    def _linger(self) -> None:
        if self._phase is _Phase.GONE:
            return  # aborted in the middle of what has arrived
        self._phase = _Phase.LINGERING
        self._parser = None  # what it holds, such as a message without an end, is let go
        self.resume_reading()
        self._wait(LINGER_S)

    def _gone(self) -> None:
        if self._phase is _Phase.GONE:
            return
        self._phase = _Phase.GONE
        self._parser = None
        self._shared.connections.discard(self)
        del self._shared.open[self]
        self._forget()
        self._lose(CloseCode.ABNORMAL, "")

    # Time

    def _wait(self, seconds: float | None) -> None:
        """Be due in so many seconds, and not at any other time."""
        self._forget()
        if seconds is not None:
            self._slot = self._shared.call_due(self, self._shared.now() + seconds)

    def _forget(self) -> None:
        if self._slot is not None:
            self._shared.forget(self, self._slot)
            self._slot = None

    def due(self, now: float) -> None:
        """A time has come that this connection has waited for."""
        self._slot = None
        heartbeat = self.settings.heartbeat
        if self._phase is not _Phase.OPEN:
            self.abort()
        elif self._is_congested:
            self._look_whether_it_takes(heartbeat.timeout_s)
        elif self._ping is None:
            self._beat(heartbeat, now)
        elif (remaining := self._pinged_at + heartbeat.timeout_s - now) > 0:
            self._wait(min(remaining, heartbeat.interval_s or remaining))
        elif not self._is_reading:
            self._wait(heartbeat.timeout_s)  # its answer may be among what we do not read
        else:
            self._heartbeat_failed()

    def _beat(self, heartbeat: Heartbeat, now: float) -> None:
        """Ask whether the peer is there, if it is time."""
        assert heartbeat.interval_s is not None
        remaining = self._pinged_at + heartbeat.interval_s - now
        if remaining > 0:
            self._wait(remaining)
            return
        self._ping = secrets.token_bytes(4)
        self._pinged_at = now
        self._tcp.write(frame(Opcode.PING, self._ping))
        self._wait(min(heartbeat.interval_s, heartbeat.timeout_s))

    def _look_whether_it_takes(self, timeout_s: float) -> None:
        """A peer that is behind would not see a ping in time; it is there as long as it takes what waits for it."""
        waiting = self._tcp.get_write_buffer_size()
        if waiting == self._stuck_at:
            self._heartbeat_failed()
        else:
            self._ping = None
            self._stuck_at = waiting
            self._wait(timeout_s)

    def _heartbeat_failed(self) -> None:
        self._tcp.write(_close_frame(CloseCode.INTERNAL_ERROR, "heartbeat"))
        self._lose(CloseCode.ABNORMAL, "heartbeat")
        self._linger()


def _close_frame(code: int, reason: str) -> bytes:
    return frame(Opcode.CLOSE, b"" if code == CloseCode.NO_STATUS else close_payload(code, reason))
