"""ASGI over the native transport: what an application sees that does not use a hub, or not yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import MutableMapping
from typing import Any

from ..config import Limits
from ..interfaces import TransportUser
from ..model import CloseCode, Data
from ..state.bucket import TokenBucket
from ..wire.frames import CLOSE_CODES
from ..wire.prepared import PreparedFrame
from .native import NativeTransport

__all__ = ("AsgiBridge", "ClientDisconnected", "Event")

Event = MutableMapping[str, Any]

_QUEUED_MESSAGES = 64
_QUEUED_BYTES = 65_536
"""An application that has not received this much stops the reading."""
_CONTROL = Limits()
"""A peer may send control frames as a hub's client may by default."""
_CLOSE_CODES = CLOSE_CODES | {CloseCode.NO_STATUS}
"""What an application may close with; 1005 stands for a close frame without a code (RFC 6455 section 7.4)."""


class ClientDisconnected(OSError):
    """The application sends although the connection has ended (ASGI, "Send - send event")."""


class AsgiBridge:
    """A `TransportUser` that keeps messages until the application receives them, and makes its sends wait.

    Attributes:
        transport: What carries the connection; set right after both are made.
    """

    __slots__ = ("_bytes", "_control", "_ended", "_is_paused", "_messages", "_receiver", "_writable", "transport")

    transport: NativeTransport

    def __init__(self) -> None:
        self._messages: deque[Data] | None = None
        self._bytes = 0
        self._is_paused = False
        self._receiver: asyncio.Future[None] | None = None
        self._writable: asyncio.Event | None = None
        self._control: TokenBucket | None = None
        self._ended: tuple[int, str] | None = None

    # ASGI

    async def receive(self) -> Event:
        """Return the next message, or the end."""
        while not self._messages:
            if (ended := self._how_it_ended()) is not None:
                code, reason = ended
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            if self._receiver is None or self._receiver.done():
                self._receiver = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._receiver)
        data = self._messages.popleft()
        self._bytes -= len(data)
        if not self._messages and self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()
        return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}

    async def send(self, event: Event) -> None:
        """Send a message, when the peer takes it, or close.

        Raises:
            ClientDisconnected: The connection has ended.
            RuntimeError: It is no event that can be sent now.
        """
        if event["type"] == "websocket.send":
            await self._send(event)
        elif event["type"] == "websocket.close":
            self._close(event)
        else:
            raise RuntimeError(f"{event['type']} cannot be sent: the handshake is over")

    async def _send(self, event: Event) -> None:
        message = event.get("text")
        if message is None and (message := event.get("bytes")) is None:
            raise RuntimeError("websocket.send: give text or bytes")
        if self._writable is not None and self._ended is None:
            await self._writable.wait()
        if (ended := self._how_it_ended()) is not None:
            raise ClientDisconnected(f"the connection has ended with close code {ended[0]}")
        if not isinstance(message, str | bytes):
            message = bytes(memoryview(message))  # a bytearray, which other servers take too
        self.transport.write(PreparedFrame(message))

    def _how_it_ended(self) -> tuple[int, str] | None:
        # Of the end of a connection that a hub has taken over only the hub is told.
        if self._ended is None and self.transport.is_over:
            self._ended = (CloseCode.ABNORMAL, "")
        return self._ended

    def _close(self, event: Event) -> None:
        if self._how_it_ended() is not None:
            return
        code = event.get("code")
        code = CloseCode.NORMAL if code is None else code
        if code not in _CLOSE_CODES:
            raise RuntimeError(f"websocket.close: close code {code} cannot be sent")
        self._end(code, event.get("reason") or "")

    def _end(self, code: int, reason: str) -> None:
        self.transport.close(code, reason)  # first: it may refuse the reason
        self._finish(code, reason)

    def _finish(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._ended = (code, reason)
        self._wake_receiver()
        if self._writable is not None:
            self._writable.set()

    def _wake_receiver(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    # What the transport tells (see `TransportUser`)

    def hand_over(self, user: TransportUser) -> None:
        """Give what has arrived, and the end if that has come, to the user that takes this one's place."""
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()  # first: the user may stop it again
        for data in self._messages or ():
            user.received(data)
        self._messages = None
        if self._ended is not None:
            user.lost(*self._ended)

    def received(self, data: Data) -> None:
        """A message has arrived."""
        if self._ended is not None:
            return  # the application has closed and receives no more
        if self._messages is None:
            self._messages = deque()
        self._messages.append(data)
        self._bytes += len(data)
        self._wake_receiver()
        is_full = len(self._messages) >= _QUEUED_MESSAGES or self._bytes >= _QUEUED_BYTES
        if is_full and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def control_received(self) -> None:
        """A ping has arrived, or a pong that was not asked for."""
        now = asyncio.get_running_loop().time()
        if self._control is None:
            assert _CONTROL.messages_per_s is not None
            self._control = TokenBucket(_CONTROL.messages_per_s, _CONTROL.message_burst, now)
        if not self._control.take(now) and self._ended is None:
            self._end(CloseCode.POLICY_VIOLATION, "messages_per_s")

    def violated(self, limit: str) -> None:
        """The peer has gone over a limit: the application sees how the connection ends."""

    def congested(self) -> None:
        """Let the application's sends wait."""
        if self._writable is None:
            self._writable = asyncio.Event()
        self._writable.clear()

    def writable(self) -> None:
        """Let them go on."""
        if self._writable is not None:
            self._writable.set()

    def draining(self) -> None:
        """The server stops."""
        if self._ended is None:
            self._end(CloseCode.SERVICE_RESTART, "")

    def application_ended(self, code: int) -> None:
        """The application has returned, or raised."""
        if self._ended is None:
            self._end(code, "")

    def lost(self, code: int, reason: str) -> None:
        """The connection has ended."""
        self._finish(code, reason)
