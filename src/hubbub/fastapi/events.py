"""A channel as Server-Sent Events (HTML Living Standard, section 9.2): `hub.events` in a `GET` route.

Theory of operation. A stream is a connection of the hub like any other, whose transport is the fallback over ASGI: what
that sends as messages of a WebSocket goes out as parts of the response's body. So limits, slow clients, resuming and
presence are those of all connections. It hears its one channel, no broadcast, and nothing that is sent to its user.

A browser's `EventSource` comes back by itself, with the last id in a header, unless it gets another status than 200.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ..errors import BrokerUnavailable, Denied
from ..hub.connection import DRAIN_DEADLINE_S, ConnectionEnded, CoreConnection, Settings
from ..hub.hub import CoreHub
from ..hub.message import Form, lost
from ..interfaces import Timer
from ..model import CloseCode, Joined, Position
from ..server.fallback import AsgiTransport
from ..wire.prepared import PreparedFrame
from .endpoint import denial_body
from .families import Families
from .peer import RequestPeer

__all__ = ("EventsResponse",)

_COMMENT = PreparedFrame(":\n\n")
_FIRST_RETRY_S = 0.2
_HEADERS = {
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would keep events back
}


class EventsResponse(Response):
    """The response that goes on for as long as the client listens. It is made in any thread, and sent in the hub's.

    Args:
        start: Returns the hub, started, and what holds for its connections.
        families: The handlers that are asked.
        request: The request.
        channel: The channel.
        user: Who listens, or `None` for nobody in particular.
        info: What presence says of the connection.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        start: Callable[[], tuple[CoreHub, Settings]],
        families: Families,
        request: Request,
        channel: str,
        user: str | None,
        info: Any,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._start = start
        self._families = families
        self._request = request
        self._channel = channel
        self._user = user
        self._info = info

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        core, settings = self._start()
        peer = RequestPeer(self._request, self._user)
        self._families.app = scope.get("app")
        body = _Body(send, self, settings.transport.drain.window_s)
        try:
            await self._families.may_join(self._channel, peer)
            if scope["method"] == "HEAD":
                await body.end()
            else:
                connection = _connection(core, settings, peer)
                stream = _Stream(
                    core, connection, self._channel, self._request.headers.get("last-event-id"), self._info
                )
                await stream.run(scope, receive, body)
        except Denied as denied:
            core.refused(denied)
            if denied.limit == "draining":
                await body.come_back()
            else:
                await JSONResponse(denial_body(denied), denied.status, denied.headers)(scope, receive, send)
        if self.background is not None:
            await self.background()


def _connection(core: CoreHub, settings: Settings, peer: RequestPeer) -> CoreConnection:
    """Return the connection of a stream: its client cannot say anything, so it is never silent for too long."""
    limits = replace(settings.limits, first_message_s=None, idle_s=None)
    address = None if peer.client is None else peer.client.host
    connection = CoreConnection(core, replace(settings, limits=limits, is_quiet=True), address)
    connection.user = peer.user
    connection.facade = peer
    return connection


class _Stream:
    """One connection while it listens.

    Args:
        core: Its hub.
        connection: The connection, not admitted yet.
        channel: What it listens to.
        last_event_id: Where the client says that it was.
        info: What presence says of it.
    """

    def __init__(
        self, core: CoreHub, connection: CoreConnection, channel: str, last_event_id: str | None, info: Any
    ) -> None:
        self._core = core
        self._connection = connection
        self._channel = channel
        self._last_event_id = last_event_id
        self._info = info
        self._timer: Timer | None = None

    async def run(self, scope: Scope, receive: Receive, body: _Body) -> None:
        """Listen until the connection has ended.

        Raises:
            Denied: It may not begin; nothing has been sent then.
        """
        try:
            await self._open(receive, body)
            await self._listen()
            await self._connection.wait_closed()
        finally:
            self._connection.abort()
            if self._timer is not None:
                self._timer.cancel()
        if not body.has_ended:
            await _hang_up(scope, receive)

    async def _open(self, receive: Receive, body: _Body) -> None:
        core, connection = self._core, self._connection
        core.check_join(connection, self._channel)
        core.admit(connection)
        try:
            await core.arrive(connection)
            if core.is_draining or core.ends_streams:
                raise Denied("Shutting down", limit="draining", status=503)
        except BaseException:
            connection.fail()
            raise
        connection.open(AsgiTransport(_only_the_end(receive), body.take))

    async def _listen(self) -> None:
        core, connection = self._core, self._connection
        since, is_readable = self._since()
        try:
            joined = await core.listen(connection, self._channel, since=since, form=Form.EVENTS)
            # Nothing is awaited from here to the position: it would pass by what is published meanwhile.
            await connection.send_frames(_first_words(self._channel, joined, is_readable))
            self._keep_alive()
            await core.attend(connection, self._channel, self._info)
        except BrokerUnavailable:
            connection.end(CloseCode.SERVICE_RESTART, deadline_s=DRAIN_DEADLINE_S)
        except ConnectionEnded:
            pass

    def _since(self) -> tuple[Position | None, bool]:
        """Return where the client was, and whether what it said of that can be read."""
        text = self._last_event_id
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
            self._timer = self._core.call_later(interval_s, self._write_comment)

    def _write_comment(self) -> None:
        self._connection.send_now(_COMMENT)
        self._keep_alive()


class _Body:
    """Turns what the transport sends into the response.

    Args:
        send: ASGI's `send`.
        response: Whose status and headers it begins with.
        window_s: Seconds over which clients are asked to come back.

    Attributes:
        has_ended: Whether the client has the whole response.
    """

    def __init__(self, send: Send, response: Response, window_s: float) -> None:
        self._send = send
        self._response = response
        self._window_s = window_s
        self._has_begun = False
        self.has_ended = False

    async def take(self, message: Any) -> None:
        """Send what stands for a message of a WebSocket."""
        if message["type"] != "websocket.close":
            await self._send_part(message["text"].encode())
        elif message["code"] == CloseCode.SERVICE_RESTART:
            await self.come_back()
        else:
            await self.end()

    async def come_back(self) -> None:
        """End the body with a word on when to come back."""
        await self._send_part(_retry(self._window_s))
        await self.end()

    async def end(self) -> None:
        """End the body."""
        await self._send_part(b"", more_body=False)
        self.has_ended = True

    async def _send_part(self, part: bytes, *, more_body: bool = True) -> None:
        if not self._has_begun:
            self._has_begun = True
            status, headers = self._response.status_code, self._response.raw_headers
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": part, "more_body": more_body})


def _first_words(channel: str, joined: Joined, is_readable: bool) -> list[PreparedFrame]:
    """Return what a client hears first: where it is, so that it can resume before the first event."""
    if joined.position is None:
        return [_COMMENT]
    if joined.missed:
        return []  # the last event has said it, and what is live may have passed this by
    if joined.recovered and is_readable:
        return [PreparedFrame(f"id: {joined.position}\n\n")]
    reset = lost(Form.EVENTS, channel, joined.position)
    return [] if reset is None else [reset]


def _retry(window_s: float) -> bytes:
    """Return the line that says when to come back, so that not all come at once."""
    return f"retry: {round(random.uniform(_FIRST_RETRY_S, window_s) * 1_000)}\n\n".encode()


def _only_the_end(receive: Receive) -> Callable[[], Any]:
    """Return a `receive` of a WebSocket that nothing comes in on: the client's end only."""

    async def receive_the_end() -> Message:
        while (await receive())["type"] != "http.disconnect":
            pass
        return {"type": "websocket.disconnect", "code": CloseCode.ABNORMAL, "reason": ""}

    return receive_the_end


async def _hang_up(scope: Scope, receive: Receive) -> None:
    """Cut off a client that does not read, where the server lets us.

    ASGI has no word for that: uvicorn would write what it has buffered first, and wait for this client when it stops.
    Hubbub's HTTP class has one, and uvicorn's `receive` is a method of what has the transport, unless middleware has
    wrapped it.
    """
    extension = scope.get("extensions", {}).get("hubbub.abort", {})
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    abort = extension.get("abort") or getattr(transport, "abort", None)
    if abort is not None:
        abort()
        await _only_the_end(receive)()  # else uvicorn complains about a response that is not complete
