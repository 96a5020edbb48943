"""The class for `uvicorn --ws`: from the head of a request to an accepted WebSocket or an HTTP answer.

uvicorn's HTTP class makes it when a request asks for an upgrade, calls `connection_made` and `data_received` with the
head, and then makes it the protocol of the connection. It asks the application; when that accepts, a `NativeTransport`
takes the connection over, and only the ASGI callables stay here.

    HEAD      the head of the request is awaited
    ASKED     the application is asked
    DENYING   the application answers with an HTTP response
    OPEN      the application has accepted: everything goes through the bridge
    ENDED     the request has been answered otherwise, or the client is gone
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
import socket
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, unquote

from ..model import CloseCode
from ..wire.deflate import Inflater, negotiate
from ..wire.handshake import Headers, Opening, Rejected, Request, is_field, open_handshake, parse_head
from ..wire.parser import Parser
from ..wire.prepared import deflated, plain
from .bridge import AsgiBridge, ClientDisconnected, Event
from .native import NativeTransport
from .shared import shared_by

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ("WebSocketProtocol",)

FRAMES_AT_ONCE = 128
"""Frames that one connection may bring before others have their turn: a quarter of a millisecond."""
TLS_WRITE_BYTES = 65_536
"""What a TLS connection may hold before it counts as congested, as on TCP. asyncio and uvloop take half a megabyte, and
pass it on in one go: a peer that needs longer than the heartbeat for that would seem to take nothing."""

_NO_OPTIONS: dict[str, Any] = {}
UNSENT_BYTES = 131_072
"""What the kernel takes at most beyond what the peer has room for."""

logger = logging.getLogger("uvicorn.error")


class _Phase(enum.Enum):
    HEAD = "head"
    ASKED = "asked"
    DENYING = "denying"
    OPEN = "open"
    ENDED = "ended"


class WebSocketProtocol(asyncio.Protocol):
    """A WebSocket server class for uvicorn: `uvicorn app:app --ws hubbub.server:WebSocketProtocol`.

    It runs any ASGI application and honours uvicorn's `ws_max_size`, `ws_ping_interval`, `ws_ping_timeout`,
    `ws_per_message_deflate`, `root_path`, default headers and `timeout_graceful_shutdown`. A hub finds its transport in
    `scope["extensions"]["hubbub"]` once the handshake is accepted.

    Args:
        config: uvicorn's configuration.
        server_state: What uvicorn's protocols share.
        app_state: The lifespan's state.
        _loop: The event loop, the running one by default.
    """

    __slots__ = (
        "_app_state",
        "_bridge",
        "_config",
        "_extension",
        "_gone",
        "_loop",
        "_opening",
        "_phase",
        "_scope",
        "_server_state",
        "_shared",
        "_task",
        "_tcp",
        "_told_to_connect",
        "_writable",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._shared = shared_by(server_state, config, self._loop)
        self._phase = _Phase.HEAD
        self._tcp: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._scope: dict[str, Any] = {}
        self._opening: Opening | None = None
        self._extension: tuple[bytes, int] | None = None
        self._told_to_connect = False
        self._bridge: AsgiBridge | None = None
        self._gone: asyncio.Future[None] | None = None
        self._writable: asyncio.Event | None = None

    # What the event loop and uvicorn tell, until the handshake is accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there; uvicorn calls this itself."""
        self._tcp = cast(asyncio.Transport, transport)
        self._shared.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """The head of the request has come; a client sends nothing more until it is answered (RFC 6455 section 4.1)."""
        if self._phase is not _Phase.HEAD:
            self._come_too_early()
            return
        try:
            request = parse_head(data)
            opening = open_handshake(request)
        except Rejected as rejected:
            self._answer(rejected.status, rejected.reason, rejected.headers)
            return
        if self._shared.is_draining:
            self._refuse_since_draining()
            return
        self._ask(request, opening)

    def _come_too_early(self) -> None:
        if self._phase is _Phase.ASKED:
            self._answer(HTTPStatus.BAD_REQUEST, "nothing may be sent before the handshake is answered")

    def eof_received(self) -> None:
        """The client sends no more: the event loop closes the connection."""

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone, before the handshake was accepted."""
        self._end()

    def pause_writing(self) -> None:
        """The client takes a response slowly."""
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """It has taken enough of it."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def shutdown(self) -> None:
        """uvicorn stops: the handshake is refused, as all that come after it."""
        self._shared.begin_drain()
        if self._phase in (_Phase.HEAD, _Phase.ASKED):
            self._refuse_since_draining()

    def _refuse_since_draining(self) -> None:
        # What a hub answers that is draining.
        body = '{"detail":"Shutting down","limit":"draining"}'
        self._answer(HTTPStatus.SERVICE_UNAVAILABLE, body, ((b"retry-after", b"1"),), kind=b"application/json")

    # The application

    def _ask(self, request: Request, opening: Opening) -> None:
        self._phase = _Phase.ASKED
        self._opening = opening
        if self._config.ws_per_message_deflate:
            self._extension = negotiate(opening.extensions)
        self._scope = self._make_scope(request, opening)
        # uvicorn's option against contexts that leak from one connection into another (since 0.54).
        context = contextvars.Context() if getattr(self._config, "reset_contextvars", False) else None
        # Not with `create_task`: an eager task factory would let the application accept in here, and uvicorn makes this
        # object the protocol only after `data_received`: it would take the connection from the transport again.
        self._task = asyncio.Task(self._run(), context=context, name="websocket")
        self._server_state.tasks.add(self._task)
        self._task.add_done_callback(self._server_state.tasks.discard)

    def _make_scope(self, request: Request, opening: Opening) -> dict[str, Any]:
        assert self._tcp is not None
        raw_path, _, query_string = request.target.partition(b"?")
        root_path = self._config.root_path
        path = raw_path.decode("ascii")
        return {
            "type": "websocket",
            "asgi": self._shared.asgi,
            "http_version": "1.1",
            "scheme": "ws" if self._tcp.get_extra_info("sslcontext") is None else "wss",
            "server": self._shared.own_address(_address(self._tcp.get_extra_info("sockname"))),
            "client": _address(self._tcp.get_extra_info("peername")),
            "root_path": root_path,
            "path": root_path + (unquote(path) if "%" in path else path),
            "raw_path": root_path.encode("ascii") + raw_path,
            "query_string": query_string,
            "headers": list(request.headers),
            "subprotocols": list(opening.subprotocols),
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": _NO_OPTIONS},
        }

    async def _run(self) -> None:
        code = CloseCode.NORMAL
        try:
            result = await self._config.loaded_app(self._scope, self._receive, self._send)
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:
            code = CloseCode.SERVICE_RESTART  # uvicorn's graceful shutdown has taken too long
            raise
        except BaseException:
            code = CloseCode.INTERNAL_ERROR
            logger.exception("Exception in ASGI application\n")
        else:
            if self._phase is _Phase.ASKED:
                logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
        finally:
            self._application_ended(code)

    def _application_ended(self, code: CloseCode) -> None:
        if self._phase is _Phase.OPEN:
            assert self._bridge is not None
            self._bridge.transport.application_ended(code)
        elif self._phase is _Phase.ASKED:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal Server Error")
        elif self._phase is _Phase.DENYING:
            self._end()
            self._close()

    async def _receive(self) -> Event:
        if not self._told_to_connect:
            self._told_to_connect = True
            return {"type": "websocket.connect"}
        if self._bridge is None and self._phase is not _Phase.ENDED:
            if self._gone is None:
                self._gone = self._loop.create_future()
            await asyncio.shield(self._gone)
        if self._bridge is not None:
            return await self._bridge.receive()
        return {"type": "websocket.disconnect", "code": CloseCode.ABNORMAL, "reason": ""}

    async def _send(self, event: Event) -> None:
        if self._bridge is not None:
            await self._bridge.send(event)
            return
        if self._writable is not None:
            await self._writable.wait()
        if self._phase is _Phase.ENDED:
            raise ClientDisconnected("the client is gone, or has been answered")
        kind = event["type"]
        if (self._phase, kind) == (_Phase.ASKED, "websocket.accept"):
            self._accept(event)
        elif (self._phase, kind) == (_Phase.ASKED, "websocket.close"):
            self._log(HTTPStatus.FORBIDDEN)
            self._answer(HTTPStatus.FORBIDDEN, "")
        elif (self._phase, kind) == (_Phase.ASKED, "websocket.http.response.start"):
            self._begin_response(event)
        elif (self._phase, kind) == (_Phase.DENYING, "websocket.http.response.body"):
            self._continue_response(event)
        else:
            raise RuntimeError(f"{kind} cannot be sent now: the handshake is {self._phase.value}")

    # Answers

    def _accept(self, event: Event) -> None:
        assert self._tcp is not None
        assert self._opening is not None
        own = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", self._opening.accept)]
        more = list(event.get("headers") or ())
        if subprotocol := event.get("subprotocol"):
            more.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        if self._extension is not None:
            own.append((b"sec-websocket-extensions", self._extension[0]))
        head = self._head(HTTPStatus.SWITCHING_PROTOCOLS, own, more)
        self._log(None)
        self._tcp.write(head)
        self._open(self._tcp)

    def _open(self, tcp: asyncio.Transport) -> None:
        config = self._config
        bridge = AsgiBridge()
        extension = self._extension
        encoding = plain if extension is None else deflated(extension[1])
        make_parser = _parser if extension is None else _inflating_parser
        settings = self._shared.settings
        transport = NativeTransport(tcp, self._shared, config.ws_max_size, bridge, settings, make_parser, encoding)
        bridge.transport = transport
        self._bridge = bridge
        self._phase = _Phase.OPEN
        self._shared.connections.discard(self)
        tcp.set_protocol(transport)
        if tcp.get_extra_info("sslcontext") is not None:
            tcp.set_write_buffer_limits(TLS_WRITE_BYTES)
        self._scope["extensions"]["hubbub"] = transport
        self._opening = self._extension = None
        _bound_the_kernel(tcp)
        self._wake()

    def _begin_response(self, event: Event) -> None:
        assert self._tcp is not None
        status = event["status"]
        if not 200 <= status < 600:
            raise RuntimeError(f"websocket.http.response.start: {status} is no status of a final response")
        head = self._head(status, [(b"connection", b"close")], event.get("headers") or ())
        self._log(status)
        self._phase = _Phase.DENYING
        self._tcp.write(head)

    def _continue_response(self, event: Event) -> None:
        assert self._tcp is not None
        self._tcp.write(event.get("body", b""))
        if not event.get("more_body", False):
            self._end()
            self._close()

    def _answer(
        self, status: int, text: str, headers: Headers = (), *, kind: bytes = b"text/plain; charset=utf-8"
    ) -> None:
        """Answer the request with a status and a text, and close the connection."""
        assert self._tcp is not None
        body = text.encode()
        own = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        self._tcp.write(self._head(status, own, headers) + body)
        self._end()
        self._close()

    def _head(self, status: int, own: list[tuple[bytes, bytes]], more: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the head of a response.

        Raises:
            RuntimeError: The application gives a header that is none (RFC 9110 section 5).
        """
        given = list(more)
        for name, value in given:
            if not is_field(name, value):
                raise RuntimeError(f"header {name!r}: {value!r} cannot be sent")
        fields = [*own, *self._server_state.default_headers, *given]
        lines = [b"HTTP/1.1 %d %b" % (status, _phrase(status)), *(b"%b: %b" % field for field in fields)]
        return b"\r\n".join([*lines, b"", b""])

    def _log(self, status: int | None) -> None:
        if logger.isEnabledFor(logging.INFO):
            scope = self._scope
            client = ":".join(map(str, scope["client"] or ()))
            query = scope["query_string"].decode("latin-1")
            path = quote(scope["path"]) + (f"?{query}" if query else "")
            logger.info('%s - "WebSocket %s" %s', client, path, "[accepted]" if status is None else int(status))

    # The end before the handshake is accepted

    def _end(self) -> None:
        self._phase = _Phase.ENDED
        self._shared.connections.discard(self)
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def _close(self) -> None:
        assert self._tcp is not None
        self._tcp.close()


def _parser(max_bytes: int, max_fragments: int | None) -> Parser:
    return Parser(max_bytes=max_bytes, max_fragments=max_fragments, frames_at_once=FRAMES_AT_ONCE)


def _inflating_parser(max_bytes: int, max_fragments: int | None) -> Parser:
    return Parser(max_bytes=max_bytes, max_fragments=max_fragments, frames_at_once=FRAMES_AT_ONCE, inflater=Inflater())


def _bound_the_kernel(tcp: asyncio.Transport) -> None:
    """Let the kernel take only so much that it cannot send yet: up to 4 MB of a slow client would be out of sight."""
    connection = tcp.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError, AttributeError):  # a Unix socket, or a system that does not know the option
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _address(name: Any) -> tuple[str, int | None] | None:
    """Return host and port of a socket's name, or the path of a Unix socket, as ASGI has them."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (name, None) if name and isinstance(name, str) else None


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
