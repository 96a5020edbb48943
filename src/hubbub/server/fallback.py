"""The transport over any ASGI server: its `receive` and `send`, and nothing else.

One task reads for as long as the connection lives, so that its end is noticed although the endpoint may never receive.
A second one writes, and exists only while there is something to write. ASGI's `send` is the only sign of the peer's
pace, so one message is under way at a time: the transport is congested from `write` until `send` has returned.

What this transport cannot do: send a close frame past a peer that does not read, since on most servers a close waits
like any message. It then lets go, and the server ends the connection when the endpoint returns.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from starlette.websockets import WebSocketDisconnect

from ..interfaces import Sharing, TransportSettings, TransportUser
from ..model import CloseCode
from ..wire.prepared import PreparedFrame

__all__ = ("AsgiTransport",)

logger = logging.getLogger("hubbub")

_LAST_TURNS = 10
"""Turns of the loop after which a disconnect event that was there when a send failed has been read."""

Event = MutableMapping[str, Any]


class AsgiTransport:
    """A `Transport` over an ASGI connection that has been accepted.

    Args:
        receive: The server's `receive`.
        send: The server's `send`.
    """

    def __init__(self, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]) -> None:
        self._receive = receive
        self._send = send
        self._user: TransportUser | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._frames: deque[PreparedFrame] = deque()
        self._under_way: int | None = None
        self._closing: tuple[int, str] | None = None
        self._reading: asyncio.Event | None = None
        self._seeks_the_end = False
        self._context: contextvars.Context | None = None

    @property
    def buffered_bytes(self) -> int:
        """Payload bytes that wait for the server to take them."""
        return sum(frame.size for frame in self._frames) + (self._under_way or 0)

    round_trip_s: float | None = None
    sharing: Sharing | None = None

    def start(self, user: TransportUser, settings: TransportSettings) -> None:
        """Begin to read (see `Transport`)."""
        self._user = user
        self._context = contextvars.copy_context()
        self._reader = self._begin(self._read(user))

    def write(self, frame: PreparedFrame) -> None:
        """Take a message (see `Transport`)."""
        if self._user is not None and self._closing is None:
            self._frames.append(frame)
            self._user.congested()
            self._start_writer(self._user)

    def close(self, code: int, reason: str) -> None:
        """End the connection (see `Transport`); without a close frame if the peer is not reading."""
        if self._user is None or self._closing is not None:
            return
        self._closing = (code, reason)
        self._frames.clear()
        if self._under_way is not None:
            self._lose(code, reason)
        else:
            self._start_writer(self._user)

    def abort(self) -> None:
        """End the connection without a close frame (see `Transport`)."""
        self._lose(CloseCode.ABNORMAL, "")

    def pause_reading(self) -> None:
        """Stop asking the server for messages (see `Transport`)."""
        if self._reading is None:
            self._reading = asyncio.Event()
        self._reading.clear()

    def resume_reading(self) -> None:
        """Ask again (see `Transport`)."""
        if self._reading is not None:
            self._reading.set()

    async def _read(self, user: TransportUser) -> None:
        try:
            while (event := await self._receive())["type"] == "websocket.receive":
                if not self._seeks_the_end:
                    text = event.get("text")
                    user.received(event["bytes"] if text is None else text)
                if self._user is None:
                    return
                if self._reading is not None:
                    await self._reading.wait()
        except asyncio.CancelledError:
            if self._closing is None:  # not our doing: the loop is shut down
                self.abort()
            raise
        except Exception as error:
            self._failed(error)
        else:
            self._lose(event.get("code") or CloseCode.ABNORMAL, event.get("reason") or "")

    def _start_writer(self, user: TransportUser) -> None:
        if self._writer is None:
            self._writer = self._begin(self._write(user))

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # In the connection's own context, not in that of whoever broadcasts: middleware may look at it. And not with
        # `create_task`: an eager task factory would begin at once, in the middle of a `write`.
        return asyncio.Task(coroutine, context=self._context)

    async def _write(self, user: TransportUser) -> None:
        try:
            while self._frames:
                frame = self._frames.popleft()
                await self._hand_over(_event(frame), frame.size)
                if not self._frames:
                    user.writable()
            if self._closing is not None and self._user is not None:
                code, reason = self._closing
                await self._stop_reading()
                await self._hand_over({"type": "websocket.close", "code": code, "reason": reason}, 0)
                self._lose(code, reason)
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception as error:
            await self._hear_the_end()
            self._failed(error)
        finally:
            self._writer = None

    async def _hear_the_end(self) -> None:
        """Let the reader go on for a moment: a send fails when the peer has closed, and its code is yet to be read.

        A paused reader reads on only for that; the messages before it are lost with the connection.
        """
        self._seeks_the_end = self._reading is not None and not self._reading.is_set()
        self.resume_reading()
        for _ in range(_LAST_TURNS):
            await asyncio.sleep(0)

    async def _stop_reading(self) -> None:
        # On granian a close waits for a `receive` that is under way, which waits for the peer.
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def _hand_over(self, event: Event, size: int) -> None:
        self._under_way = size
        try:
            await self._send(event)
        finally:
            self._under_way = None

    def _failed(self, error: Exception) -> None:
        # Servers say in these ways that the peer is gone or that they have closed already: uvicorn with an OSError or
        # a RuntimeError, Starlette's wrappers with a WebSocketDisconnect. Anything else is a fault worth a traceback.
        if isinstance(error, WebSocketDisconnect):
            self._lose(error.code, error.reason)
            return
        if not isinstance(error, (OSError, RuntimeError)):
            logger.error("the connection failed", exc_info=error)
        self._lose(CloseCode.ABNORMAL, "")

    def _lose(self, code: int, reason: str) -> None:
        user, self._user = self._user, None
        if user is None:
            return
        self._frames.clear()
        current = asyncio.current_task()
        for task in (self._reader, self._writer):
            if task is not None and task is not current:
                task.cancel()
        user.lost(code, reason)


def _event(frame: PreparedFrame) -> Event:
    # A new one for each recipient: middleware may change what it passes on.
    kind = "text" if isinstance(frame.data, str) else "bytes"
    return {"type": "websocket.send", kind: frame.data}
