"""A channel as Server-Sent Events (HTML Living Standard, section 9.2): `hub.events` in a `GET` route.

Theory of operation. A stream is a connection of the hub like any other, whose transport is the fallback over ASGI: what
that sends as messages of a WebSocket goes out as parts of the response's body. So limits, slow clients, resuming and
presence are those of all connections. It hears its one channel, no broadcast, and nothing that is sent to its user.

A browser's `EventSource` comes back by itself, with the last id in a header, unless it gets another status than 200.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ..errors import BrokerUnavailable, Denied
from ..hub.connection import ConnectionEnded, CoreConnection, Settings
from ..hub.hub import CoreHub
from ..hub.message import Form, lost
from ..model import CloseCode, Joined, Position
from ..server.fallback import AsgiTransport
from ..wire.prepared import PreparedFrame
from .endpoint import denial_body
from .families import Families
from .peer import RequestPeer

__all__ = ("EventsResponse",)

_COMMENT = PreparedFrame(":\n\n")
_FIRST_RETRY_S = 0.2
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back
]


class EventsResponse(Response):
    """The response that goes on for as long as the client listens.

    Args:
        core: The hub.
        settings: What holds for the connection.
        families: The handlers that are asked.
        request: The request.
        channel: The channel.
        user: Who listens, or `None` for nobody in particular.
        info: What presence says of the connection.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        core: CoreHub,
        settings: Settings,
        families: Families,
        request: Request,
        channel: str,
        user: str | None,
        info: Any,
    ) -> None:
        super().__init__()
        self._core = core
        self._families = families
        self._request = request
        self._channel = channel
        self._user = user
        self._info = info
        address = None if request.client is None else request.client.host
        self._connection = CoreConnection(core, settings, address)
        self._connection.user = user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        body = _Body(send, self._connection.settings.transport.drain.window_s)
        try:
            await self._families.may_join(self._channel, RequestPeer(self._request, self._user))
            await self._open(receive, body)
            await self._listen(body)
        except Denied as denied:
            self._connection.abort()
            if body.has_begun:  # over a limit while it joined
                await body.end()
            else:
                self._core.refused(denied)
                await JSONResponse(denial_body(denied), denied.status, denied.headers)(scope, receive, send)

    async def _open(self, receive: Receive, body: _Body) -> None:
        connection = self._connection
        if self._core.is_draining or self._core.ends_streams:
            raise _come_back()
        self._core.admit(connection)
        try:
            await self._core.arrive(connection)
        except BaseException:
            connection.fail()
            raise
        connection.open(AsgiTransport(_only_the_end(receive), body.take))

    async def _listen(self, body: _Body) -> None:
        connection = self._connection
        try:
            since, is_readable = self._since()
            joined = await self._core.join(connection, self._channel, since=since, form=Form.EVENTS, info=self._info)
            await connection.send_frames(_first_words(self._channel, joined, is_readable))
            self._keep_alive()
        except BrokerUnavailable:
            connection.end(CloseCode.SERVICE_RESTART)
        except ConnectionEnded:
            pass
        except BaseException:
            connection.abort()
            raise
        await connection.wait_closed()
        await body.end()

    def _since(self) -> tuple[Position | None, bool]:
        """Return where the client was, and whether what it said of that can be read."""
        text = self._request.headers.get("last-event-id")
        if not text or self._core.options(self._channel).history is None:
            return None, True
        try:
            return Position.parse(text), True
        except ValueError:
            return None, False

    def _keep_alive(self) -> None:
        """Write a comment now and then, so that proxies see that the connection is used."""
        interval_s = self._connection.settings.transport.heartbeat.interval_s
        if interval_s is not None and self._connection.is_open:
            self._connection.send_now(_COMMENT)
            self._core.call_later(interval_s, self._keep_alive)


class _Body:
    """Turns what the transport sends into the response.

    Args:
        send: ASGI's `send`.
        window_s: Seconds over which clients are asked to come back.
    """

    def __init__(self, send: Send, window_s: float) -> None:
        self._send = send
        self._window_s = window_s
        self._has_ended = False
        self.has_begun = False

    async def take(self, message: Any) -> None:
        """Send what stands for a message of a WebSocket."""
        if message["type"] != "websocket.close":
            await self._send_part(message["text"].encode())
        elif message["code"] == CloseCode.SERVICE_RESTART:
            await self._send_part(_retry(self._window_s))
            await self.end()
        else:
            await self.end()

    async def _send_part(self, part: bytes) -> None:
        if not self.has_begun:
            self.has_begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self) -> None:
        """End the body; once is enough."""
        if self.has_begun and not self._has_ended:
            self._has_ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _first_words(channel: str, joined: Joined, is_readable: bool) -> list[PreparedFrame]:
    """Return what a client hears first: where it is, so that it can resume before the first event."""
    if joined.position is None:
        return [_COMMENT]
    if joined.recovered and is_readable:
        return [PreparedFrame(f"id: {joined.position}\n\n")]
    reset = lost(Form.EVENTS, channel, joined.position)
    return [] if reset is None else [reset]


def _retry(window_s: float) -> bytes:
    """Return the line that says when to come back, so that not all come at once."""
    return f"retry: {round(random.uniform(_FIRST_RETRY_S, window_s) * 1_000)}\n\n".encode()


def _come_back() -> Denied:
    return Denied("Shutting down", limit="draining", status=503, headers={"Retry-After": "1"})


def _only_the_end(receive: Receive) -> Callable[[], Any]:
    """Return a `receive` of a WebSocket that nothing comes in on: the client's end only."""

    async def receive_the_end() -> Message:
        while (await receive())["type"] != "http.disconnect":
            pass
        return {"type": "websocket.disconnect", "code": CloseCode.ABNORMAL, "reason": ""}

    return receive_the_end
