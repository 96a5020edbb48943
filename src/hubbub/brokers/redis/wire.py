"""One connection to Redis, without waiting: bytes out, replies in, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis

__all__ = ("Wire", "packed")

_NOTHING = object()


def packed(arguments: tuple[bytes | str | int, ...]) -> bytes:
    """Return a command as it goes to Redis."""
    packet: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return packet


class Wire(asyncio.Protocol):
    """A connection that is open until `on_lost` has been called, exactly once.

    Args:
        streams: An authenticated connection on which nothing is due. The wire takes it over: replies are handed on in
            the call in which their bytes arrive, since a task that reads a stream takes twice as long for each.
        on_reply: Called with each reply; `hiredis.ReplyError` instances among them.
        on_lost: Called with the reason when the connection is over, in `drop` itself or when it is noticed.
        on_writable: Called when there is room again after `is_congested`.

    Attributes:
        is_open: Whether `on_lost` is still to come.
        is_congested: Whether much waits to be sent.
        heard_at: When anything came in last, by the loop's time.
        closed: Done when the socket is closed.
    """

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        on_reply: Callable[[Any], None],
        on_lost: Callable[[str], None],
        on_writable: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = streams[1]  # a StreamWriter closes its transport when it is collected
        self._transport = streams[1].transport
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._on_writable = on_writable
        self.is_open = True
        self.is_congested = False
        self.heard_at = self._loop.time()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        """Send, now or when there is room."""
        self._transport.write(data)

    def drop(self, reason: str) -> None:
        """End the connection at once; what was not sent is lost. A peer that takes nothing cannot delay it."""
        if self.is_open:
            self.is_open = False
            self._transport.abort()
            self._on_lost(reason)

    def data_received(self, data: bytes) -> None:
        """Hand on the replies that are complete."""
        self.heard_at = self._loop.time()
        reader = self._reader
        try:
            reader.feed(data)
            while self.is_open and (reply := reader.gets()) is not _NOTHING:
                self._on_reply(reply)
        except hiredis.ProtocolError as error:
            self.drop(f"not the protocol of Redis: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if not self.closed.done():
            self.closed.set_result(None)
        self.drop(str(exc) if exc is not None else "closed by the server")

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.is_congested = True

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        self.is_congested = False
        self._on_writable()
