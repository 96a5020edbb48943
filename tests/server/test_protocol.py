"""The server class from the head of a request to its answer, with applications and a connection that the test plays."""

import asyncio
import contextvars
import inspect
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol as UvicornH11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as UvicornHttpToolsProtocol
from uvicorn.server import ServerState

from hubbub.server import WebSocketProtocol
from hubbub.server.http import H11Protocol, HTTPProtocol
from hubbub.server.native import NativeTransport
from hubbub.server.shared import shared_by
from hubbub.wire.frames import Opcode, close_payload
from tests.server.standins import HIGH, Loop, Tcp, frames, sent, text, turn

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Logged = Callable[[], list[str]]

FIELDS = (
    b"host: example.com",
    b"upgrade: websocket",
    b"connection: Upgrade",
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    b"sec-websocket-version: 13",
)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""RFC 6455 section 1.3."""


def head(*more: bytes, target: bytes = b"/ws", without: bytes = b"none") -> bytes:
    """Return the head of a handshake as uvicorn's HTTP classes hand it over."""
    fields = [field for field in FIELDS if not field.startswith(without)]
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", *fields, *more, b"", b""])


class Application:
    """An application that does what the test says, step by step, and notes what comes of it."""

    def __init__(self, *events: Event) -> None:
        self.events = list(events)
        self.scope: Event = {}
        self.is_running = False
        self.receive: Receive
        self.send: Send
        self.error: BaseException | None = None
        self.result: object = None
        self._goes_on = asyncio.Event()

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> Any:
        self.scope, self.receive, self.send = scope, receive, send
        self.is_running = True
        try:
            for event in self.events:
                await send(event)
            await self._goes_on.wait()
            if self.error is not None:
                raise self.error
            return self.result
        finally:
            self.is_running = False

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self._goes_on.set()


class Server:
    """A server of one connection."""

    def __init__(self, application: Any, **options: Any) -> None:
        self.application = application
        self.config = uvicorn.Config(application, log_config=None, interface="asgi3", lifespan="off", **options)
        self.config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"server", b"uvicorn")]
        self.loop = Loop()
        self.tcp = Tcp()
        self.protocol = WebSocketProtocol(
            config=self.config,
            server_state=self.state,
            app_state={"pool": "a pool"},
            _loop=cast(asyncio.AbstractEventLoop, self.loop),
        )
        self.tcp.set_protocol(self.protocol)
        self.protocol.connection_made(self.tcp)

    async def ask(self, request: bytes = b"") -> None:
        """Let the request arrive, and the application begin."""
        self.tcp.receive(request or head())
        for _ in range(4):
            await turn()

    async def settle(self) -> None:
        for _ in range(4):
            await turn()

    @property
    def answer(self) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """Status line, headers and body of the answer; a header that comes twice is a failure."""
        top, _, body = self.tcp.written.partition(b"\r\n\r\n")
        status, *lines = top.split(b"\r\n")
        fields = [cast(tuple[bytes, bytes], tuple(line.split(b": ", 1))) for line in lines]
        headers = dict(fields)
        assert len(headers) == len(fields), fields
        return status, headers, body

    @property
    def is_clean(self) -> bool:
        return not self.state.connections and not self.state.tasks


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Server]]:
    """Make servers, and end what still runs on them."""
    servers: list[Server] = []

    def make(application: Any, **options: Any) -> Server:
        servers.append(Server(application, **options))
        return servers[-1]

    yield make
    for server in servers:
        for task in list(server.state.tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """Return what uvicorn's log has so far."""
    caplog.set_level(logging.INFO, "uvicorn.error")
    return lambda: [record.getMessage() for record in caplog.records]


# What uvicorn gives, and what it must have


@pytest.mark.parametrize(
    "http",
    [UvicornH11Protocol, UvicornHttpToolsProtocol, H11Protocol, HTTPProtocol],
    ids=["h11", "httptools", "bounded-h11", "bounded-httptools"],
)
async def test_uvicorn_hands_a_connection_over_as_the_class_expects_it(http: Any) -> None:
    calls: list[Any] = []

    class Recorder(asyncio.Protocol):
        def __init__(self, **arguments: Any) -> None:
            calls.append(("made with", sorted(arguments)))

        def connection_made(self, transport: Any) -> None:
            calls.append("connection_made")

        def data_received(self, data: bytes) -> None:
            calls.append(data)

    config = uvicorn.Config(Application(), log_config=None, ws=Recorder, interface="asgi3", lifespan="off")
    config.load()
    tcp = Tcp()
    protocol = http(config=config, server_state=ServerState(), app_state={})
    tcp.set_protocol(protocol)
    protocol.connection_made(tcp)
    request = head(b"origin: https://example.com", target=b"/ws?a=b")
    tcp.receive(request)
    assert calls == [("made with", ["app_state", "config", "server_state"]), "connection_made", request]
    assert isinstance(tcp.get_protocol(), Recorder)
    inspect.signature(WebSocketProtocol).bind(config=config, server_state=None, app_state={})


@pytest.mark.parametrize("begins", ["later", "at once"])
@pytest.mark.parametrize(
    "http",
    [UvicornH11Protocol, UvicornHttpToolsProtocol, H11Protocol, HTTPProtocol],
    ids=["h11", "httptools", "bounded-h11", "bounded-httptools"],
)
async def test_an_accepted_connection_belongs_to_its_transport_whenever_the_loop_begins_tasks(
    http: Any, begins: str
) -> None:
    if begins == "at once":
        if sys.version_info < (3, 12):
            pytest.skip("eager task factories came with Python 3.12")
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    application = Application({"type": "websocket.accept"})
    options: dict[str, Any] = {"ws": WebSocketProtocol, "interface": "asgi3", "lifespan": "off"}
    config = uvicorn.Config(application, log_config=None, **options)
    config.load()
    tcp, state = Tcp(), ServerState()
    protocol = http(config=config, server_state=state, app_state={})
    tcp.set_protocol(protocol)
    protocol.connection_made(tcp)
    tcp.receive(head())
    assert isinstance(tcp.get_protocol(), WebSocketProtocol)
    for _ in range(4):
        await turn()
    assert isinstance(tcp.get_protocol(), NativeTransport)
    tcp.receive(text("hello"))
    assert [(await application.receive())["type"], (await application.receive())["text"]] == [
        "websocket.connect",
        "hello",
    ]
    application.end()
    await turn()
    tcp.lose()
    await turn()
    assert not state.tasks


class Watched:
    """Stands before an object and notes which of its attributes are asked for."""

    def __init__(self, watched: object) -> None:
        self._watched = watched
        self._asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self._asked.add(name)
        return getattr(self._watched, name)


async def test_the_class_asks_uvicorn_for_no_more_than_every_version_since_0_53_has() -> None:
    application = Application({"type": "websocket.accept"})
    config = uvicorn.Config(application, log_config=None, interface="asgi3", lifespan="off")
    config.load()
    watched, state = Watched(config), Watched(ServerState())
    protocol = WebSocketProtocol(watched, state, {}, cast(Any, Loop()))  # type: ignore[arg-type]
    tcp = Tcp()
    protocol.connection_made(tcp)
    protocol.data_received(head())
    await turn()
    await turn()
    application.end()
    await turn()
    tcp.lose()
    optional = {"reset_contextvars"}
    assert watched._asked - optional == {
        "asgi_version",
        "loaded_app",
        "root_path",
        "timeout_graceful_shutdown",
        "ws_max_size",
        "ws_per_message_deflate",
        "ws_ping_interval",
        "ws_ping_timeout",
    }
    assert state._asked == {"connections", "default_headers", "tasks"}
    assert all(hasattr(config, name) for name in watched._asked - optional)


async def test_it_is_known_to_uvicorn_with_its_task_until_both_have_ended(serve: Callable[..., Server]) -> None:
    server = serve(Application())
    assert server.state.connections == {server.protocol}
    await server.ask()
    assert len(server.state.tasks) == 1
    server.tcp.lose()
    assert not server.state.connections
    server.application.end()
    await server.settle()
    assert server.is_clean


# The scope


async def test_the_scope_says_all_that_the_request_says(serve: Callable[..., Server]) -> None:
    server = serve(Application())
    await server.ask(head(b"sec-websocket-protocol: chat, superchat", target=b"/a%20b/%C3%A9?x=%20&y"))
    headers = [tuple(field.split(b": ", 1)) for field in (*FIELDS, b"sec-websocket-protocol: chat, superchat")]
    assert server.application.scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.2", 5000),
        "root_path": "",
        "path": "/a b/é",
        "raw_path": b"/a%20b/%C3%A9",
        "query_string": b"x=%20&y",
        "headers": headers,
        "subprotocols": ["chat", "superchat"],
        "state": {"pool": "a pool"},
        "extensions": {"websocket.http.response": {}},
    }


async def test_each_connection_has_its_own_copy_of_the_state(serve: Callable[..., Server]) -> None:
    server = serve(Application())
    await server.ask()
    server.application.scope["state"]["pool"] = "another"
    assert server.protocol._app_state == {"pool": "a pool"}


async def test_the_root_path_stands_before_the_path(serve: Callable[..., Server]) -> None:
    server = serve(Application(), root_path="/api")
    await server.ask()
    scope = server.application.scope
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/ws", b"/api/ws")


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"sslcontext": object()}, {"scheme": "wss"}),
        (
            {"sockname": ("::1", 80, 0, 0), "peername": ("::1", 5, 0, 0)},
            {"server": ("::1", 80), "client": ("::1", 5)},
        ),
        ({"sockname": "/run/app.sock", "peername": ""}, {"server": ("/run/app.sock", None), "client": None}),
        ({"sockname": None, "peername": None}, {"server": None, "client": None}),
    ],
)
async def test_the_addresses_are_those_of_the_connection(
    serve: Callable[..., Server], extra: dict[str, Any], expected: dict[str, Any]
) -> None:
    server = serve(Application())
    server.tcp._extra.update(extra)  # type: ignore[attr-defined]
    await server.ask()
    assert {key: server.application.scope[key] for key in expected} == expected


async def test_contexts_do_not_leak_into_applications_where_uvicorn_is_told_so(serve: Callable[..., Server]) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")
    seen = []

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        seen.append(variable.get())

    variable.set("outside")
    for resets in (False, True):
        server = serve(application)
        server.config.reset_contextvars = resets  # type: ignore[attr-defined]
        await server.ask()
    assert seen == ["outside", "nothing"]


# Accepting


async def test_an_accepted_handshake_is_answered_and_becomes_a_websocket(serve: Callable[..., Server]) -> None:
    server = serve(Application({"type": "websocket.accept"}))
    await server.ask()
    status, headers, body = server.answer
    assert status == b"HTTP/1.1 101 Switching Protocols"
    assert headers == {
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-accept": ACCEPT,
        b"server": b"uvicorn",
    }
    assert body == b""
    transport = server.tcp.get_protocol()
    assert isinstance(transport, NativeTransport)
    assert server.state.connections == {transport}
    assert server.application.scope["extensions"]["hubbub"] is transport


@pytest.mark.parametrize("extra", [{}, {"sslcontext": object()}])
async def test_with_tls_no_more_is_held_for_a_client_that_does_not_read(
    serve: Callable[..., Server], extra: dict[str, Any]
) -> None:
    server = serve(Application({"type": "websocket.accept"}))
    server.tcp._extra.update(extra)  # type: ignore[attr-defined]
    server.tcp.high = 65_536 if not extra else 524_288
    await server.ask()
    assert server.tcp.high == 65_536


async def test_the_application_hears_connect_then_what_arrives_then_the_end(serve: Callable[..., Server]) -> None:
    server = serve(Application({"type": "websocket.accept"}))
    await server.ask()
    server.tcp.receive(text("1") + sent(Opcode.CLOSE, close_payload(1001, "bye")))
    receive = server.application.receive
    assert await receive() == {"type": "websocket.connect"}
    assert await receive() == {"type": "websocket.receive", "text": "1"}
    assert await receive() == {"type": "websocket.disconnect", "code": 1001, "reason": "bye"}


async def test_a_receive_that_began_before_the_handshake_was_accepted_goes_on(serve: Callable[..., Server]) -> None:
    server = serve(Application())
    await server.ask()
    await server.application.receive()
    receiving = asyncio.ensure_future(server.application.receive())
    await turn()
    await server.application.send({"type": "websocket.accept"})
    await turn()
    server.tcp.receive(text("x"))
    assert await receiving == {"type": "websocket.receive", "text": "x"}


def two_headers() -> Iterator[tuple[bytes, bytes]]:
    yield b"x-first", b"1"
    yield b"set-cookie", b"a=b; Path=/"


@pytest.mark.parametrize("headers", [list(two_headers()), tuple(two_headers()), two_headers()])
async def test_the_application_chooses_a_subprotocol_and_adds_headers(
    serve: Callable[..., Server], headers: Any
) -> None:
    server = serve(Application({"type": "websocket.accept", "subprotocol": "chat", "headers": headers}))
    await server.ask(head(b"sec-websocket-protocol: chat"))
    _, fields, _ = server.answer
    assert fields[b"sec-websocket-protocol"] == b"chat"
    assert (fields[b"x-first"], fields[b"set-cookie"]) == (b"1", b"a=b; Path=/")


@pytest.mark.parametrize(
    "event",
    [
        {"headers": [(b"x", b"1\r\nset-cookie: a=b")]},
        {"headers": [(b"x", b"1\nset-cookie: a=b")]},
        {"headers": [(b"x: y\r\nz", b"1")]},
        {"headers": [(b"", b"1")]},
        {"headers": [(b"x y", b"1")]},
        {"headers": [(b"x", b"\x00")]},
        {"subprotocol": "chat\r\nset-cookie: a=b"},
        {"subprotocol": "chat\nset-cookie: a=b"},
    ],
)
async def test_headers_cannot_be_smuggled_into_the_answer(serve: Callable[..., Server], event: Event) -> None:
    server = serve(Application())
    await server.ask()
    with pytest.raises(RuntimeError, match="cannot be sent"):
        await server.application.send({"type": "websocket.accept", **event})
    assert server.tcp.written == b""
    await server.application.send({"type": "websocket.accept"})
    assert server.answer[0] == b"HTTP/1.1 101 Switching Protocols"


async def test_headers_cannot_be_smuggled_into_a_denial(serve: Callable[..., Server]) -> None:
    server = serve(Application())
    await server.ask()
    with pytest.raises(RuntimeError, match="cannot be sent"):
        await server.application.send(
            {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"1\r\ny: 2")]}
        )
    assert server.tcp.written == b""


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            b"permessage-deflate; server_max_window_bits=10",
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10",
        ),
        (b"x-webkit-deflate-frame", None),
    ],
)
async def test_compression_is_negotiated(serve: Callable[..., Server], offer: bytes, answer: bytes | None) -> None:
    server = serve(Application({"type": "websocket.accept"}))
    await server.ask(head(b"sec-websocket-extensions: " + offer))
    assert server.answer[1].get(b"sec-websocket-extensions") == answer


async def test_compression_is_not_negotiated_where_uvicorn_is_told_so(serve: Callable[..., Server]) -> None:
    server = serve(Application({"type": "websocket.accept"}), ws_per_message_deflate=False)
    await server.ask(head(b"sec-websocket-extensions: permessage-deflate"))
    assert b"sec-websocket-extensions" not in server.answer[1]
    server.tcp.receive(sent(Opcode.TEXT, b"x", bits=0xC0))
    assert server.tcp.written.endswith(close_payload(1002, "a reserved bit"))


# Refusing


async def test_a_close_before_the_handshake_is_accepted_is_403(serve: Callable[..., Server], logged: Logged) -> None:
    server = serve(Application({"type": "websocket.close", "code": 4000}))
    await server.ask()
    status, headers, body = server.answer
    assert (status, body) == (b"HTTP/1.1 403 Forbidden", b"")
    assert (headers[b"content-length"], headers[b"connection"]) == (b"0", b"close")
    assert server.tcp.log == ["close"]
    assert logged() == ['127.0.0.2:5000 - "WebSocket /ws" 403']


async def test_an_application_denies_with_a_response_of_its_own(serve: Callable[..., Server], logged: Logged) -> None:
    server = serve(
        Application(
            {
                "type": "websocket.http.response.start",
                "status": 429,
                "headers": [(b"content-type", b"application/json"), (b"retry-after", b"7")],
            },
            {"type": "websocket.http.response.body", "body": b'{"detail": ', "more_body": True},
            {"type": "websocket.http.response.body", "more_body": True},
            {"type": "websocket.http.response.body", "body": b'"slowly"}'},
        )
    )
    await server.ask()
    status, headers, body = server.answer
    assert (status, body) == (b"HTTP/1.1 429 Too Many Requests", b'{"detail": "slowly"}')
    assert (headers[b"retry-after"], headers[b"connection"], headers[b"server"]) == (b"7", b"close", b"uvicorn")
    assert server.tcp.log == ["close"]
    assert not server.state.connections
    assert (await server.application.receive())["type"] == "websocket.connect"
    assert await server.application.receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    assert logged() == ['127.0.0.2:5000 - "WebSocket /ws" 429']


async def test_the_headers_of_a_denial_may_be_any_iterable(serve: Callable[..., Server]) -> None:
    server = serve(
        Application({"type": "websocket.http.response.start", "status": 403, "headers": iter([(b"x-first", b"1")])})
    )
    await server.ask()
    assert server.answer[1][b"x-first"] == b"1"


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600])
async def test_a_denial_has_the_status_of_a_final_response(serve: Callable[..., Server], status: int) -> None:
    server = serve(Application())
    await server.ask()
    with pytest.raises(RuntimeError, match=str(status)):
        await server.application.send({"type": "websocket.http.response.start", "status": status})
    assert server.tcp.written == b""


async def test_a_status_without_a_name_can_be_sent(serve: Callable[..., Server]) -> None:
    server = serve(Application({"type": "websocket.http.response.start", "status": 599}))
    await server.ask()
    assert server.answer[0] == b"HTTP/1.1 599 "


async def test_a_denial_waits_while_the_client_does_not_read(serve: Callable[..., Server]) -> None:
    chunk = {"type": "websocket.http.response.body", "body": b"x" * (HIGH + 1), "more_body": True}
    server = serve(Application({"type": "websocket.http.response.start", "status": 403}, chunk, chunk))
    server.tcp.is_stalled = True
    await server.ask()
    written = len(server.tcp.written)
    assert HIGH < written < 2 * HIGH
    server.tcp.take()
    await server.settle()
    assert len(server.tcp.written) > written + HIGH


async def test_a_denial_that_waits_is_freed_when_the_client_goes(serve: Callable[..., Server]) -> None:
    chunk = {"type": "websocket.http.response.body", "body": b"x" * (HIGH + 1), "more_body": True}
    server = serve(Application({"type": "websocket.http.response.start", "status": 403}, chunk, chunk))
    server.tcp.is_stalled = True
    await server.ask()
    assert server.application.is_running
    server.tcp.lose()
    await server.settle()
    assert not server.application.is_running
    assert server.is_clean


async def test_a_denial_that_the_application_does_not_finish_ends_the_connection(
    serve: Callable[..., Server],
) -> None:
    server = serve(Application({"type": "websocket.http.response.start", "status": 403}))
    await server.ask()
    server.application.end()
    await server.settle()
    assert server.tcp.log == ["close"]
    assert server.is_clean


# An application that ends without an answer


async def test_an_application_that_returns_without_an_answer_is_500(
    serve: Callable[..., Server], logged: Logged
) -> None:
    server = serve(Application())
    await server.ask()
    server.application.end()
    await server.settle()
    assert (server.answer[0], server.answer[2]) == (b"HTTP/1.1 500 Internal Server Error", b"Internal Server Error")
    assert server.tcp.log == ["close"]
    assert logged() == ["ASGI callable returned without completing handshake."]
    assert server.is_clean


@pytest.mark.parametrize("error", [ValueError("a fault"), asyncio.CancelledError(), ExceptionGroup("g", [OSError()])])
async def test_an_application_that_raises_before_it_answers_is_500(
    serve: Callable[..., Server], error: BaseException, logged: Logged
) -> None:
    server = serve(Application())
    await server.ask()
    server.application.end(error)
    await server.settle()
    assert server.answer[0] == b"HTTP/1.1 500 Internal Server Error"
    assert server.tcp.log == ["close"]
    is_cancelled = isinstance(error, asyncio.CancelledError)
    assert logged() == ([] if is_cancelled else ["Exception in ASGI application\n"])
    assert server.is_clean


# An application that ends after it has accepted


@pytest.mark.parametrize(
    ("error", "code"), [(None, 1000), (ValueError("a fault"), 1011), (asyncio.CancelledError(), 1012)]
)
async def test_an_application_that_ends_closes_its_connection(
    serve: Callable[..., Server], error: BaseException | None, code: int, logged: Logged
) -> None:
    server = serve(Application({"type": "websocket.accept"}))
    await server.ask()
    server.application.end(error)
    await server.settle()
    assert frames(server.answer[2]) == [(Opcode.CLOSE, close_payload(code))]
    assert server.tcp.log == []
    server.tcp.receive(sent(Opcode.CLOSE, close_payload(code)))
    assert server.tcp.log == ["close"]
    server.tcp.lose()
    assert server.is_clean
    assert ("Exception in ASGI application\n" in logged()) == (code == 1011)


async def test_an_application_that_returns_something_is_told_that_it_should_not(
    serve: Callable[..., Server], logged: Logged
) -> None:
    server = serve(Application({"type": "websocket.accept"}))
    await server.ask()
    server.application.result = 42
    server.application.end()
    await server.settle()
    assert logged()[-1] == "ASGI callable should return None, but returned '42'."


async def test_a_send_to_a_client_that_is_gone_ends_the_application_silently(
    serve: Callable[..., Server], logged: Logged
) -> None:
    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        while True:
            await receive()
            await send({"type": "websocket.send", "text": "x"})

    server = serve(application)
    await server.ask()
    server.tcp.receive(text("1"))
    server.tcp.lose()
    await server.settle()
    assert server.is_clean
    assert logged() == ['127.0.0.2:5000 - "WebSocket /ws" [accepted]']


# Wrong events


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.send", "text": "x"},
        {"type": "websocket.http.response.body", "body": b"x"},
        {"type": "http.response.start", "status": 200},
        {"type": "anything"},
    ],
)
async def test_what_does_not_answer_a_handshake_is_refused(serve: Callable[..., Server], event: Event) -> None:
    server = serve(Application())
    await server.ask()
    with pytest.raises(RuntimeError, match=event["type"]):
        await server.application.send(event)
    assert server.tcp.written == b""


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.accept"},
        {"type": "websocket.close"},
        {"type": "websocket.send", "text": "x"},
        {"type": "websocket.http.response.start", "status": 200},
    ],
)
async def test_a_denial_that_has_begun_can_only_be_finished(serve: Callable[..., Server], event: Event) -> None:
    server = serve(Application({"type": "websocket.http.response.start", "status": 403}))
    await server.ask()
    written = server.tcp.written
    with pytest.raises(RuntimeError, match=event["type"]):
        await server.application.send(event)
    assert server.tcp.written == written


async def test_a_handshake_is_accepted_once(serve: Callable[..., Server]) -> None:
    server = serve(Application({"type": "websocket.accept"}))
    await server.ask()
    with pytest.raises(RuntimeError, match=r"websocket\.accept"):
        await server.application.send({"type": "websocket.accept"})


# Handshakes that are none


@pytest.mark.parametrize(
    ("request_head", "reason"),
    [
        (head(without=b"host"), b"Host"),
        (head(without=b"upgrade"), b"Upgrade"),
        (head(without=b"connection"), b"Connection"),
        (head(without=b"sec-websocket-key"), b"Sec-WebSocket-Key"),
        (head(b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="), b"Sec-WebSocket-Key"),
        (head(b"sec-websocket-key: c2hvcnQ=", without=b"sec-websocket-key"), b"Sec-WebSocket-Key"),
        (head(b"sec-websocket-protocol: \xff"), b"Sec-WebSocket-Protocol"),
        (head(b"sec-websocket-protocol: a, a"), b"Sec-WebSocket-Protocol"),
        (head(b"sec-websocket-extensions: a; =b"), b"Sec-WebSocket-Extensions"),
        (head(b"a header"), b"header"),
        (head().replace(b"GET", b"POST"), b"GET"),
        (head().replace(b"HTTP/1.1", b"HTTP/1.0"), b"HTTP/1.1"),
        (b"\x00\xff\r\n\r\n", b"request line"),
    ],
)
async def test_a_faulty_handshake_is_400_with_a_reason(
    serve: Callable[..., Server], request_head: bytes, reason: bytes
) -> None:
    server = serve(Application())
    await server.ask(request_head)
    status, headers, body = server.answer
    assert status == b"HTTP/1.1 400 Bad Request"
    assert reason in body
    assert headers[b"connection"] == b"close"
    assert int(headers[b"content-length"]) == len(body)
    assert server.tcp.log == ["close"]
    assert not server.application.is_running
    assert server.is_clean


async def test_whatever_byte_stands_in_the_head_there_is_an_answer_and_no_exception(
    serve: Callable[..., Server],
) -> None:
    application = Application({"type": "websocket.accept"})
    good = head(
        b"sec-websocket-protocol: a, b", b"sec-websocket-extensions: permessage-deflate; x=1", target=b"/a%20b?c"
    )
    answers = set()
    for byte in b'\x00\t\n\r "%,/:;=\x7f\x80\xff':
        for position in range(len(good)):
            server = serve(application)
            server.tcp.receive(good[:position] + bytes([byte]) + good[position + 1 :])
            if server.state.tasks:
                await turn()
            answers.add(server.answer[0])
            server.tcp.lose()
    assert answers == {
        b"HTTP/1.1 101 Switching Protocols",
        b"HTTP/1.1 400 Bad Request",
        b"HTTP/1.1 426 Upgrade Required",
    }


@pytest.mark.parametrize("version", [b"12", b"8", b"0", b"13, 8", b"", b"\xff"])
async def test_another_version_of_the_protocol_is_426_with_the_one_that_would_do(
    serve: Callable[..., Server], version: bytes
) -> None:
    server = serve(Application())
    await server.ask(head(b"sec-websocket-version: " + version, without=b"sec-websocket-version"))
    status, headers, _ = server.answer
    assert status == b"HTTP/1.1 426 Upgrade Required"
    assert headers[b"sec-websocket-version"] == b"13"
    assert server.is_clean


async def test_what_comes_before_the_handshake_is_answered_is_refused(serve: Callable[..., Server]) -> None:
    server = serve(Application())
    await server.ask()
    server.tcp.receive(text("too early"))
    assert server.answer[0] == b"HTTP/1.1 400 Bad Request"
    assert server.tcp.log == ["close"]
    assert (await server.application.receive())["type"] == "websocket.connect"
    assert (await server.application.receive())["code"] == 1006
    with pytest.raises(OSError, match="answered"):
        await server.application.send({"type": "websocket.accept"})


async def test_what_comes_during_a_denial_is_ignored(serve: Callable[..., Server]) -> None:
    server = serve(Application({"type": "websocket.http.response.start", "status": 403}))
    await server.ask()
    written = server.tcp.written
    server.tcp.receive(text("x"))
    await server.application.send({"type": "websocket.http.response.body", "body": b"no"})
    assert server.tcp.written == written + b"no"


# The client goes before it is answered


async def test_an_application_hears_that_its_client_has_gone(serve: Callable[..., Server], logged: Logged) -> None:
    server = serve(Application())
    await server.ask()
    await server.application.receive()
    receiving = asyncio.ensure_future(server.application.receive())
    await turn()
    server.tcp.end()
    server.tcp.lose()
    assert await receiving == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    assert (await server.application.receive())["code"] == 1006
    with pytest.raises(OSError, match="gone"):
        await server.application.send({"type": "websocket.accept"})
    server.application.end()
    await server.settle()
    assert server.tcp.written == b""
    assert server.is_clean
    assert logged() == []


async def test_a_receiver_that_is_cancelled_does_not_stop_the_next_one(serve: Callable[..., Server]) -> None:
    server = serve(Application())
    await server.ask()
    await server.application.receive()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.application.receive(), 0)
    receiving = asyncio.ensure_future(server.application.receive())
    await turn()
    server.tcp.lose()
    assert (await receiving)["code"] == 1006


# The end of the server


async def test_a_handshake_that_comes_when_the_server_stops_is_503(serve: Callable[..., Server]) -> None:
    server = serve(Application())
    shared_by(server.state, server.config, cast(Any, server.loop)).begin_drain()
    await server.ask()
    status, headers, body = server.answer
    assert (status, headers[b"retry-after"]) == (b"HTTP/1.1 503 Service Unavailable", b"1")
    assert json.loads(body) == {"detail": "Shutting down", "limit": "draining"}
    assert server.is_clean


async def test_a_handshake_that_the_application_has_not_answered_is_503_when_the_server_stops(
    serve: Callable[..., Server],
) -> None:
    server = serve(Application())
    await server.ask()
    server.protocol.shutdown()
    assert server.answer[0] == b"HTTP/1.1 503 Service Unavailable"
    assert server.tcp.log == ["close"]
    with pytest.raises(OSError, match="answered"):
        await server.application.send({"type": "websocket.accept"})


async def test_a_connection_without_a_request_is_answered_when_the_server_stops(serve: Callable[..., Server]) -> None:
    server = serve(Application())
    server.protocol.shutdown()
    assert server.answer[0] == b"HTTP/1.1 503 Service Unavailable"


async def test_a_denial_is_finished_when_the_server_stops(serve: Callable[..., Server]) -> None:
    server = serve(Application({"type": "websocket.http.response.start", "status": 403}))
    await server.ask()
    server.protocol.shutdown()
    await server.application.send({"type": "websocket.http.response.body", "body": b"no"})
    assert (server.answer[0], server.answer[2]) == (b"HTTP/1.1 403 Forbidden", b"no")


async def test_open_connections_are_told_that_the_server_stops(serve: Callable[..., Server]) -> None:
    server = serve(Application({"type": "websocket.accept"}))
    await server.ask()
    server.tcp.get_protocol().shutdown()
    assert frames(server.answer[2]) == [(Opcode.CLOSE, close_payload(1012))]
    await server.application.receive()
    assert await server.application.receive() == {"type": "websocket.disconnect", "code": 1012, "reason": ""}


# The log


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"/ws", "/ws"), (b"/ws?a=b", "/ws?a=b"), (b"/%0d%0aINFO%20x", "/%0D%0AINFO%20x"), (b"/%C3%A9", "/%C3%A9")],
)
async def test_the_log_has_one_line_for_a_handshake(
    serve: Callable[..., Server], target: bytes, path: str, logged: Logged
) -> None:
    server = serve(Application({"type": "websocket.accept"}))
    await server.ask(head(target=target))
    assert logged() == [f'127.0.0.2:5000 - "WebSocket {path}" [accepted]']


async def test_nothing_is_made_up_for_a_log_that_nobody_reads(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "uvicorn.error")
    server = serve(Application({"type": "websocket.accept"}))
    await server.ask()
    assert caplog.records == []
