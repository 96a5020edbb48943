"""uvicorn's HTTP classes with bounds on the head of a request, for `uvicorn --http hubbub.server.http:HTTPProtocol`.

A WebSocket begins as an HTTP request, and a `--ws` class sees that request only when its head is complete. uvicorn puts
no deadline on a head (each byte that dribbles in stops its keep-alive timer) and, with httptools, no bound on its size.
So the bounds have to stand here:

- A head is complete within `head_s` of the connection, or of its first bytes on a connection that is kept alive. The
  idle time between two requests is uvicorn's `timeout_keep_alive`.
- It is at most `head_bytes` long, counted as the bytes come in, and has at most `head_fields` header fields.

What breaks a bound gets 408 or 431 and is closed; a connection that never sends a byte is closed without an answer. A
body may take as long as it likes, and may be as long as it likes.

How it works: the bytes go to uvicorn's class in pieces, each no longer than what the head may still have. A piece that
completes a head or brings some of a body sets the count back, so what is counted is what the parser may be holding.
When a head begins in the middle of a piece, behind a request that it is pipelined after, that piece is not counted, and
the head may be up to twice as long. A timer runs exactly as long as a head is awaited, no answer is being written and
uvicorn's own timer does not run.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol as UvicornH11Protocol
from uvicorn.server import ServerState

__all__ = ("H11Protocol", "HTTPProtocol")


class _Phase(Enum):
    HEAD = auto()
    """A head is awaited, or has come in part."""
    BODY = auto()
    """The head is complete, and the rest of the request is coming in."""
    OVER = auto()
    """Nothing more is taken: the connection is a WebSocket now, was refused, or is lost."""


class _Uvicorn(asyncio.Protocol):
    """What uvicorn's classes have in common, for the type checker."""

    if TYPE_CHECKING:
        cycle: Any
        headers: list[tuple[bytes, bytes]]
        logger: logging.Logger
        loop: asyncio.AbstractEventLoop
        scope: Any
        server_state: ServerState
        transport: asyncio.Transport

        def send_400_response(self, msg: str) -> None: ...


class _BoundedHead(_Uvicorn):
    """The bounds, to be mixed into one of uvicorn's classes.

    A subclass says when a head has come (`_head_came`) and when the next one is awaited (`_await_head`), and leaves
    when the connection becomes a WebSocket (`_leave`).
    """

    head_s = 10.0
    """Seconds for the head of a request to come in."""
    head_bytes = 16_384
    """Length of a head in bytes, request line included."""
    head_fields = 100
    """Header fields of one request."""

    _phase = _Phase.HEAD
    _held = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser no more at once than a head may still have."""
        at = 0
        while at < len(data) and not self._is_over():
            piece = data[at : at + self.head_bytes - self._held]
            at += len(piece)
            self._held += len(piece)
            super().data_received(piece)
            self._check()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless this connection has its answer already; and take nothing more from it."""
        if not self._is_over():
            self._leave()
            super().send_400_response(msg)

    def _head_came(self) -> None:
        # ASGI has no word for cutting off a client that does not read: see `fastapi.events`.
        self.scope["extensions"] = {**self.scope.get("extensions", {}), "hubbub.abort": {"abort": self.transport.abort}}
        self._phase = _Phase.BODY
        self._held = 0
        self._stop_deadline()

    def _await_head(self) -> None:
        if self._phase is _Phase.BODY:
            self._phase = _Phase.HEAD
            self._held = 0

    def _leave(self) -> None:
        self._phase = _Phase.OVER
        self._stop_deadline()

    def _is_over(self) -> bool:
        return self._phase is _Phase.OVER

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _may_upgrade(self) -> bool:
        """Whether the request can become a WebSocket: what cannot is one like any other.

        HTTP/1.0 knows no upgrade (RFC 9110 section 7.8). A body would be read as frames, and the answer to an earlier
        request would be written among them.
        """
        headers = dict(self.headers)
        has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        return self.scope["http_version"] == "1.1" and not has_body and not self._is_answering()

    def _is_too_large(self) -> bool:
        return self.headers is not None and len(self.headers) > self.head_fields

    def _check(self) -> None:
        if self._is_over():
            return
        if self._held >= self.head_bytes or self._is_too_large():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._phase is _Phase.HEAD and self._deadline is None and not self._is_answering():
            self._set_deadline()

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.head_s, self._head_is_late)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_is_late(self) -> None:
        if self._held and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._leave()
            self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        phase = self._phase
        self._leave()
        self.logger.info("Refused the head of a request: %d %s.", status, status.phrase)
        if not self._is_answering():
            self.transport.write(self._refusal(status))
            self.transport.close()
        elif phase is _Phase.HEAD:
            self.cycle.keep_alive = False  # an earlier request has its answer first; the connection ends with it
        else:
            self.transport.close()  # trailers without an end: the application hears that the client is gone

    def _refusal(self, status: HTTPStatus) -> bytes:
        fields = (*self.server_state.default_headers, (b"content-length", b"0"), (b"connection", b"close"))
        lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), *(b"%s: %s" % field for field in fields)]
        return b"\r\n".join([*lines, b"", b""])


class H11Protocol(_BoundedHead, UvicornH11Protocol):
    """uvicorn's class on h11, with bounds on the head of a request."""

    # h11 keeps what is pipelined as it is until the request before it has its answer, and then takes each head that is
    # complete. So the length of a head is looked at once more when h11 has taken it apart.

    def handle_events(self) -> None:
        """Handle what h11 has understood, and see how far it is."""
        super().handle_events()
        if self._is_over():
            return
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        else:
            self._head_came()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over, unless its head is too large."""
        if self._is_too_large():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            self._leave()
            super().handle_websocket_upgrade(event)

    def _is_too_large(self) -> bool:
        if self.headers is None:
            return False
        length = len(self.scope["raw_path"]) + len(self.scope["query_string"])
        length += sum(len(name) + len(value) + 4 for name, value in self.headers)
        return super()._is_too_large() or length > self.head_bytes

    def _should_upgrade(self) -> bool:
        # The one question that uvicorn asks between a head and the application: a yes takes the request away from it.
        return self._is_too_large() or (self._may_upgrade() and super()._should_upgrade())


HTTPProtocol: type[asyncio.Protocol]
"""The class on httptools where that is installed, and the one on h11 elsewhere, as uvicorn chooses by itself."""

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as UvicornHttpToolsProtocol
except ImportError:
    HTTPProtocol = H11Protocol
else:

    class HttpToolsProtocol(_BoundedHead, UvicornHttpToolsProtocol):
        """uvicorn's class on httptools, with bounds on the head of a request."""

        def on_headers_complete(self) -> None:
            """Start the request, unless its head has too many fields."""
            if self._is_too_large():
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                raise ValueError("too many header fields")  # what stops httptools; uvicorn catches it
            self._head_came()
            super().on_headers_complete()

        def _should_upgrade(self) -> bool:
            return self._may_upgrade() and super()._should_upgrade()

        def on_body(self, body: bytes) -> None:
            """Take a part of the body: the parser holds nothing of it."""
            self._held = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            """End the request."""
            super().on_message_complete()
            self._await_head()

        def handle_websocket_upgrade(self) -> None:
            """Hand the connection over."""
            self._leave()
            super().handle_websocket_upgrade()
            # The parser and this object hold each other. Without this both stay, for each WebSocket, until the garbage
            # collector comes by.
            self.parser = None  # type: ignore[assignment]

    HTTPProtocol = HttpToolsProtocol
