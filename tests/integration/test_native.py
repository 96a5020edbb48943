"""The server class on real connections: any application runs on it, and no client can do it harm.

Each test runs on both event loops. When its clients are gone, nothing of them may be left: no task, no open file, no
deadline, nothing that uvicorn waits for.
"""

import asyncio
import gc
import json
import os
import ssl
import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import pytest
import trustme
from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, StreamingResponse
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from hubbub import Connection, Drain, Heartbeat, Hub, Limits, Outbox
from hubbub.server import native, shared
from hubbub.server.native import NativeTransport
from tests.integration.clients import CLOSE, TEXT, Client, Close, RawClient, client, masked_frame, refusal, request
from tests.integration.deadline import eventually, within
from tests.integration.servers import NATIVE, serving

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Endpoint = Callable[[Event, Receive, Send], Awaitable[None]]

CONTINUATION, BINARY, PING, PONG = 0x0, 0x2, 0x9, 0xA
ACCEPT: Event = {"type": "websocket.accept"}
SMALL_BUFFER = 8_192
"""What the kernel keeps for a client that reads slowly."""
HTTP_CLASSES = ["h11", "httptools", "hubbub.server.http:H11Protocol", "hubbub.server.http:HTTPProtocol"]


class Application:
    """Runs an endpoint, and notes what each connection receives and how its endpoint ends.

    Attributes:
        received: All events that were received.
        errors: What the endpoints raised.
        transports: The transports of the connections that were accepted.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.received: list[Event] = []
        self.errors: list[BaseException] = []
        self.transports: list[NativeTransport] = []
        self._endpoint = endpoint

    @property
    def disconnects(self) -> list[tuple[int, str]]:
        """How the connections ended, as their endpoints heard it."""
        return [(event["code"], event["reason"]) for event in self.received if event["type"] == "websocket.disconnect"]

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        async def receive_and_note() -> Event:
            event = await receive()
            self.received.append(event)
            return event

        async def send_and_note(event: Event) -> None:
            await send(event)
            if event["type"] == "websocket.accept":
                self.transports.append(scope["extensions"]["hubbub"])

        try:
            await self._endpoint(scope, receive_and_note, send_and_note)
        except BaseException as error:
            self.errors.append(error)
            raise


def message(data: str | bytes) -> Event:
    return {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}


async def echo(scope: Event, receive: Receive, send: Send) -> None:
    """Send back what comes, until the end."""
    await receive()
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (event := await receive())["type"] == "websocket.receive":
        data = event.get("text")
        await send(message(event["bytes"] if data is None else data))


async def hold(scope: Event, receive: Receive, send: Send) -> None:
    """Accept, and receive until the end."""
    await receive()
    await send(ACCEPT)
    while (await receive())["type"] == "websocket.receive":
        pass


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def remains() -> dict[str, Any]:
    """Return what is left of connections, on all servers of this class."""
    return {
        "connections": [list(of.connections) for of in shared._all.values() if of.connections],
        "open": [list(of.open) for of in shared._all.values() if of.open],
        "deadlines": sum(len(of._wheel) for of in shared._all.values()),
        "tasks": [list(state.tasks) for state in shared._all if state.tasks],  # type: ignore[attr-defined]
    }


@asynccontextmanager
async def native_server(app: Any, **options: Any) -> AsyncIterator[int]:
    """Serve on the class; when the clients are gone, wait until nothing is left of them."""
    # uvicorn has no lifespan to run, and the date does not matter.
    async with serving(app, ws=NATIVE, **{"lifespan": "off", **options}) as port:
        files, tasks = open_files(), asyncio.all_tasks()
        yield port
        await eventually(lambda: not any(remains().values()), remains)
        await eventually(lambda: asyncio.all_tasks() <= tasks, lambda: asyncio.all_tasks() - tasks)
        await eventually(lambda: open_files() <= files, open_files)


def fragment(opcode: int, payload: bytes = b"") -> bytes:
    """Return a frame that is not the last one of its message."""
    frame = masked_frame(opcode, payload)
    return bytes([frame[0] & 0x7F]) + frame[1:]


def close_frame(code: int, reason: str = "") -> bytes:
    return masked_frame(CLOSE, struct.pack("!H", code) + reason.encode())


# Certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the options of uvicorn for TLS."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return {"ssl_certfile": str(path)}


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client's context that trusts the certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def secure_client(port: int, path: str, context: ssl.SSLContext) -> AsyncIterator[Client]:
    async with connect(f"wss://127.0.0.1:{port}{path}", ssl=context, proxy=None) as connection:
        yield Client(connection)


# A complete ASGI server


REQUESTS = [
    b"GET /ws HTTP/1.1\r\n",
    b"GET /a%20b/%C3%A9?query=%20&x HTTP/1.1\r\n",
    b"GET /%2Fslash/?a=b?c HTTP/1.1\r\n",
    b"GET //double//slash HTTP/1.1\r\n",
    b"GET /ws HTTP/1.1\r\nSec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Protocol: third\r\n",
    b"GET /ws HTTP/1.1\r\nCookie: a=b\r\nCookie: c=d\r\nX-Latin: \xe9\r\nX-Empty:\r\nOrigin: https://example.com\r\n",
]
HANDSHAKE = (
    b"Host: example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def tell_scope(scope: Event, receive: Receive, send: Send) -> None:
    """Send the scope, as it was before the handshake was accepted."""
    told = {key: repr(value) for key, value in scope.items() if key != "client"}
    told["client"] = repr((scope["client"][0], type(scope["client"][1])))
    await receive()
    await send(ACCEPT)
    await send(message(json.dumps(told)))


async def scope_of(
    raw_request: bytes, ws: str, port_of: Any, context: ssl.SSLContext | None, **options: Any
) -> dict[str, str]:
    """Ask a server of this class and return the scope that its application saw."""
    async with serving(tell_scope, ws=ws, lifespan="off", **options) as port:
        reader, writer = await within(asyncio.open_connection("127.0.0.1", port, ssl=context))
        writer.write(raw_request + HANDSHAKE)
        head = await within(reader.readuntil(b"\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 101"), head
        first, size = await within(reader.readexactly(2))
        assert (first, size) == (0x81, 126)
        (size,) = struct.unpack("!H", await within(reader.readexactly(2)))
        scope: dict[str, str] = json.loads(await within(reader.readexactly(size)))
        writer.write(close_frame(1000))
        await within(reader.read())
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        assert str(port) in scope["server"]
        scope["server"] = scope["server"].replace(str(port), "PORT")
        return scope


@pytest.mark.parametrize("raw_request", REQUESTS, ids=range(len(REQUESTS)))
async def test_applications_see_the_same_as_on_uvicorns_own_class(raw_request: bytes) -> None:
    theirs = await scope_of(raw_request, "websockets-sansio", None, None, root_path="/root", http="h11")
    for http in HTTP_CLASSES:
        assert await scope_of(raw_request, NATIVE, None, None, root_path="/root", http=http) == theirs


async def test_applications_see_the_same_as_on_uvicorns_own_class_with_tls(
    certificate: dict[str, Any], trusting: ssl.SSLContext
) -> None:
    theirs = await scope_of(REQUESTS[1], "websockets-sansio", None, trusting, **certificate)
    assert theirs["scheme"] == "'wss'"
    assert await scope_of(REQUESTS[1], NATIVE, None, trusting, **certificate) == theirs


@pytest.mark.parametrize("http", HTTP_CLASSES)
async def test_messages_of_all_sizes_come_back(http: str) -> None:
    async with native_server(echo, http=http) as port, client(port, "/", compression=None) as connected:
        for size in (0, 1, 125, 126, 65_535, 65_536, 1_000_000):
            assert await connected.ask("é" * (size // 2)) == "é" * (size // 2)
            data = os.urandom(size)
            assert await connected.ask(data) == data


async def test_messages_of_all_sizes_come_back_with_tls(certificate: dict[str, Any], trusting: ssl.SSLContext) -> None:
    async with native_server(echo, **certificate) as port, secure_client(port, "/", trusting) as connected:
        for size in (0, 1, 125, 126, 65_535, 65_536, 1_000_000):
            data = os.urandom(size)
            assert await connected.ask(data) == data


async def test_both_sides_close_with_tls(certificate: dict[str, Any], trusting: ssl.SSLContext) -> None:
    async def endpoint(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        if scope["path"] == "/closes":
            await send({"type": "websocket.close", "code": 4001, "reason": "bye"})
        while (await receive())["type"] == "websocket.receive":
            pass

    app = Application(endpoint)
    async with native_server(app, **certificate) as port:
        async with secure_client(port, "/closes", trusting) as connected:
            assert await connected.closed() == Close(4001, "bye")
        async with secure_client(port, "/", trusting) as connected:
            await connected.close(4002, "leaving")
        async with secure_client(port, "/", trusting) as connected:
            connected.vanish()
        await eventually(lambda: len(app.disconnects) == 3)
    assert app.disconnects == [(4001, "bye"), (4002, "leaving"), (1006, "")]


async def test_a_fault_over_tls_is_told_and_the_connection_ends(
    certificate: dict[str, Any], trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "LINGER_S", 0.3)
    app = Application(hold)
    async with native_server(app, **certificate) as port:
        reader, writer = await within(asyncio.open_connection("127.0.0.1", port, ssl=trusting))
        writer.write(request("/"))
        await within(reader.readuntil(b"\r\n\r\n"))
        writer.write(b"\xff" * 10)
        told = await within(reader.readexactly(4))
        assert told[2:] == struct.pack("!H", 1002)
        with suppress(ConnectionError, ssl.SSLError):
            await within(reader.read())
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
    assert [code for code, _ in app.disconnects] == [1002]


def starlette_application() -> FastAPI:
    app = FastAPI()

    @app.websocket("/echo")
    async def echo_json(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="chat", headers=[(b"x-own", b"yes")])
        async for item in websocket.iter_json():
            await websocket.send_json(item)

    @app.websocket("/refuses")
    async def refuses(websocket: WebSocket) -> None:
        await websocket.close(4000)

    @app.websocket("/denies")
    async def denies(websocket: WebSocket) -> None:
        await websocket.send_denial_response(JSONResponse({"detail": "no"}, 401, {"www-authenticate": "Bearer"}))

    @app.websocket("/streams")
    async def streams(websocket: WebSocket) -> None:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(100):
                yield b"%03d" % number * 1_000

        await websocket.send_denial_response(StreamingResponse(parts(), 402))

    async def forbid() -> None:
        raise HTTPException(429, "slowly", {"retry-after": "7"})

    @app.websocket("/depends", dependencies=[Depends(forbid)])
    async def depends(websocket: WebSocket) -> None:
        raise AssertionError("the dependency has refused")

    return app


async def test_an_application_of_starlette_chooses_what_it_accepts() -> None:
    async with (
        native_server(starlette_application()) as port,
        client(port, "/echo", subprotocols=["other", "chat"]) as connected,
    ):
        response = connected.connection.response
        assert response is not None
        assert (connected.connection.subprotocol, response.headers["x-own"]) == ("chat", "yes")
        assert [response.headers[name] for name in ("server", "date")]
        await connected.send_json({"a": [1, None]})
        assert await connected.receive_json() == {"a": [1, None]}


async def test_an_application_of_starlette_refuses_as_it_likes() -> None:
    async with native_server(starlette_application()) as port:
        refused = await refusal(port, "/refuses")
        assert (refused.status_code, refused.body) == (403, b"")
        denied = await refusal(port, "/denies")
        assert (denied.status_code, json.loads(denied.body or b"")) == (401, {"detail": "no"})
        assert denied.headers["www-authenticate"] == "Bearer"
        streamed = await refusal(port, "/streams")
        assert streamed.status_code == 402
        assert streamed.body == b"".join(b"%03d" % number * 1_000 for number in range(100))
        by_dependency = await refusal(port, "/depends")
        assert (by_dependency.status_code, by_dependency.headers["retry-after"]) == (429, "7")
        assert (await refusal(port, "/nowhere")).status_code == 403


async def answer_and_echo(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await echo(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("http", HTTP_CLASSES)
async def test_a_connection_can_become_a_websocket_after_other_requests(http: str) -> None:
    async with native_server(answer_and_echo, http=http) as port:
        raw = await RawClient.dial(port)
        for _ in range(3):
            await raw.send_bytes(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await raw._read_until(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
        await raw.send_request("/")
        await raw.receive_response()
        await raw.send_frame(TEXT, b"x")
        assert await raw.receive_frame() == (TEXT, b"x")
        await raw.send_bytes(close_frame(1000))
        await raw.receive_end()
        raw.hang_up()


# Compression


@pytest.mark.parametrize("server_bits", [None, 9, 12, 15])
async def test_messages_are_compressed_as_the_client_asks_for_it(server_bits: int | None) -> None:
    offer = ClientPerMessageDeflateFactory(server_max_window_bits=server_bits)
    async with native_server(echo) as port, client(port, "/", compression=None, extensions=[offer]) as connected:
        response = connected.connection.response
        assert response is not None
        answer = response.headers["sec-websocket-extensions"]
        assert ("server_max_window_bits" in answer) == (server_bits is not None)
        for data in ("", "x", "abc" * 100_000, os.urandom(1_000), b"\x00" * 70_000):
            assert await connected.ask(data) == data


async def test_messages_are_compressed_over_tls_too(certificate: dict[str, Any], trusting: ssl.SSLContext) -> None:
    async with native_server(echo, **certificate) as port, secure_client(port, "/", trusting) as connected:
        response = connected.connection.response
        assert response is not None
        assert response.headers["sec-websocket-extensions"].startswith("permessage-deflate")
        for data in ("", "x", "é" * 500_000, os.urandom(1_000), b"\x00" * 70_000):
            assert await connected.ask(data) == data


async def test_a_client_without_compression_is_served_beside_one_with_it() -> None:
    async with (
        native_server(echo) as port,
        client(port, "/", compression=None) as plain,
        client(port, "/") as compressing,
    ):
        for connected in (plain, compressing, plain):
            assert await connected.ask("x" * 10_000) == "x" * 10_000


# Every way of ending


async def peer_closes(raw: RawClient) -> None:
    await raw.send_bytes(close_frame(4001, "bye"))
    assert await raw.receive_close() == Close(4001, "")


async def peer_closes_without_a_code(raw: RawClient) -> None:
    await raw.send_frame(CLOSE, b"")
    assert await raw.receive_close() == Close(1005, "")


async def peer_closes_in_the_middle_of_a_message(raw: RawClient) -> None:
    await raw.send_bytes(fragment(TEXT, b"unfinished") + close_frame(1001))
    assert await raw.receive_close() == Close(1001, "")


async def peer_hangs_up(raw: RawClient) -> None:
    raw.hang_up()


async def peer_vanishes(raw: RawClient) -> None:
    raw.vanish()


async def peer_hangs_up_in_the_middle_of_a_message(raw: RawClient) -> None:
    await raw.send_bytes(fragment(TEXT, b"x" * 1_000) + masked_frame(CONTINUATION, b"x" * 1_000)[:500])
    raw.hang_up()


async def peer_is_not_masked(raw: RawClient) -> None:
    await raw.send_bytes(b"\x81\x01x")
    assert (await raw.receive_close()).code == 1002


async def peer_sends_no_utf_8(raw: RawClient) -> None:
    await raw.send_frame(TEXT, b"\xff")
    assert await raw.receive_close() == Close(1007, "invalid UTF-8")


async def peer_sends_too_much(raw: RawClient) -> None:
    await raw.send_frame(TEXT, b"x" * 70_000)
    assert await raw.receive_close() == Close(1009, "message_bytes")


async def peer_says_that_it_sends_too_much(raw: RawClient) -> None:
    await raw.send_bytes(bytes([0x82, 0xFF]) + struct.pack("!Q", 1 << 62) + bytes(4))
    assert await raw.receive_close() == Close(1009, "message_bytes")


WAYS: list[tuple[Callable[[RawClient], Awaitable[None]], int, str]] = [
    (peer_closes, 4001, "bye"),
    (peer_closes_without_a_code, 1005, ""),
    (peer_closes_in_the_middle_of_a_message, 1001, ""),
    (peer_hangs_up, 1006, ""),
    (peer_vanishes, 1006, ""),
    (peer_hangs_up_in_the_middle_of_a_message, 1006, ""),
    (peer_is_not_masked, 1002, "a frame that is not masked"),
    (peer_sends_no_utf_8, 1007, "invalid UTF-8"),
    (peer_sends_too_much, 1009, "message_bytes"),
    (peer_says_that_it_sends_too_much, 1009, "message_bytes"),
]


@pytest.mark.parametrize(("way", "code", "reason"), WAYS, ids=[way.__name__ for way, _, _ in WAYS])
async def test_an_application_hears_how_its_connection_has_ended(
    way: Callable[[RawClient], Awaitable[None]], code: int, reason: str
) -> None:
    app = Application(hold)
    async with native_server(app, ws_max_size=65_536) as port:
        raw = await RawClient.connect(port, "/")
        await way(raw)
        await eventually(lambda: app.disconnects)
        raw.hang_up()
    assert app.disconnects == [(code, reason)]


async def test_a_client_that_keeps_sending_still_reads_why_it_was_ended() -> None:
    app = Application(hold)
    async with native_server(app, ws_max_size=1_000) as port:
        raw = await RawClient.connect(port, "/")
        await raw.send_frame(TEXT, b"x" * 1_001)
        for _ in range(100):
            await raw.send_frame(TEXT, b"x" * 10_000)
        assert await raw.receive_close() == Close(1009, "message_bytes")
        await raw.receive_end()
        raw.hang_up()


async def test_sends_after_the_end_raise_an_oserror_and_receives_tell_of_it_again() -> None:
    tried: asyncio.Queue[Any] = asyncio.Queue()

    async def endpoint(scope: Event, receive: Receive, send: Send) -> None:
        await hold(scope, receive, send)
        for _ in range(2):
            try:
                await send(message("x"))
            except OSError as error:
                tried.put_nowait(error)
            tried.put_nowait(await receive())

    async with native_server(endpoint) as port:
        async with client(port, "/") as connected:
            await connected.close(4001)
        for _ in range(2):
            assert isinstance(await within(tried.get()), OSError)
            assert await within(tried.get()) == {"type": "websocket.disconnect", "code": 4001, "reason": ""}


# Handshakes that are none


FAULTS: list[tuple[bytes, bytes, bytes]] = [
    (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8", b"426"),
    (b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key: x", b"400"),
    (b"Sec-WebSocket-Key: ", b"X-Key: ", b"400"),
    (b"Host: 127.0.0.1\r\n", b"Host: 127.0.0.1\r\nSec-WebSocket-Protocol: \xff\xfe\r\n", b"400"),
    (b"Host: 127.0.0.1\r\n", b"Host: 127.0.0.1\r\nSec-WebSocket-Protocol: a,,a\r\n", b"400"),
    (b"Host: 127.0.0.1\r\n", b"Host: 127.0.0.1\r\nSec-WebSocket-Extensions: ;;\r\n", b"400"),
    (b"GET ", b"POST ", b"400"),
]


@pytest.mark.parametrize("http", HTTP_CLASSES)
async def test_a_faulty_handshake_never_opens_and_the_server_goes_on(http: str) -> None:
    async with native_server(echo, http=http) as port:
        for old, new, status in FAULTS:
            raw = await RawClient.dial(port)
            await raw.send_bytes(request("/").replace(old, new))
            head = await raw._read_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status), (new, head)
            assert b"connection: close" in head
            assert (status == b"426") == (b"sec-websocket-version: 13" in head)
            await raw.receive_end()
            raw.hang_up()
        async with client(port, "/") as connected:
            assert await connected.ask("still there") == "still there"


async def test_what_is_sent_before_the_handshake_is_answered_is_refused() -> None:
    asked = asyncio.Event()

    async def endpoint(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        assert (await receive())["code"] == 1006

    async with native_server(endpoint) as port:
        raw = await RawClient.dial(port)
        await raw.send_request("/")
        await within(asked.wait())
        await raw.send_frame(TEXT, b"too early")
        assert (await raw._read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 400")
        raw.hang_up()


# Flow control


async def push(scope: Event, receive: Receive, send: Send) -> None:
    """Send as fast as it goes, until the client is gone."""
    await receive()
    await send(ACCEPT)
    for number in range(500):
        await send(message(b"%08d" % number * 1_000))
    await send({"type": "websocket.close"})


async def stalled(port: int, app: Application) -> RawClient:
    """Connect somebody who does not read, and wait until the server notices."""
    raw = await RawClient.connect(port, "/", receive_buffer=SMALL_BUFFER)
    await eventually(lambda: app.transports and app.transports[-1]._is_congested)
    return raw


async def test_a_send_waits_for_the_client_to_read_and_then_nothing_is_missing() -> None:
    app = Application(push)
    async with native_server(app, send_buffer=SMALL_BUFFER) as port:
        raw = await stalled(port, app)
        assert app.transports[0]._tcp.get_write_buffer_size() < 100_000
        for number in range(500):
            assert await raw.receive_frame() == (BINARY, b"%08d" % number * 1_000)
        assert await raw.receive_close() == Close(1000, "")
        await raw.send_bytes(close_frame(1000))
        await raw.receive_end()
        raw.hang_up()


async def test_with_tls_a_send_waits_for_the_client_to_read_too(
    certificate: dict[str, Any], trusting: ssl.SSLContext
) -> None:
    app = Application(push)
    async with (
        native_server(app, send_buffer=SMALL_BUFFER, **certificate) as port,
        connect(f"wss://127.0.0.1:{port}/", ssl=trusting, proxy=None, compression=None, max_queue=1) as connected,
    ):
        await eventually(lambda: app.transports and app.transports[0]._is_congested)
        assert app.transports[0]._tcp.get_write_buffer_size() < 100_000
        for number in range(500):
            assert await within(connected.recv()) == b"%08d" % number * 1_000


async def test_a_send_that_waits_is_freed_when_the_client_vanishes() -> None:
    app = Application(push)
    async with native_server(app, send_buffer=SMALL_BUFFER) as port:
        raw = await stalled(port, app)
        raw.vanish()
        await eventually(lambda: app.errors)
    (error,) = app.errors
    assert isinstance(error, OSError)


async def test_an_application_that_does_not_receive_holds_its_client_back_within_a_bound() -> None:
    go_on = asyncio.Event()

    async def endpoint(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await go_on.wait()
        await hold_on(receive)

    async def hold_on(receive: Receive) -> None:
        while (await receive())["type"] == "websocket.receive":
            pass

    count, size = 2_000, 10_000
    app = Application(endpoint)
    async with native_server(app) as port:
        raw = await RawClient.connect(port, "/")
        sending = asyncio.create_task(raw.send_bytes(masked_frame(BINARY, b"x" * size) * count))
        await eventually(lambda: app.transports and not app.transports[0]._is_reading)
        bridge: Any = app.transports[0]._user
        assert bridge._bytes <= 65_536 + 262_144
        assert not sending.done()
        go_on.set()
        await within(sending)
        await raw.send_bytes(close_frame(1000))
        await raw.receive_close()
        raw.hang_up()
    messages = [event for event in app.received if event["type"] == "websocket.receive"]
    assert len(messages) == count


async def test_what_arrives_before_a_hub_takes_over_is_handed_over_in_order() -> None:
    count = 150
    hub = Hub(limits=Limits(messages_per_s=None))
    started = asyncio.Event()
    go_on = asyncio.Event()
    transports: list[NativeTransport] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        async def slowly(event: Event) -> None:
            await send(event)
            if event["type"] == "websocket.accept":
                transports.append(scope["extensions"]["hubbub"])
                started.set()
                await go_on.wait()

        await fastapi(scope, receive, slowly if scope["type"] == "websocket" else send)

    fastapi = FastAPI(lifespan=hub.lifespan)

    @fastapi.websocket("/")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        for number in range(count):
            assert await connection.receive() == str(number)
        await connection.send("all")

    async with native_server(app, lifespan="on") as port:
        raw = await RawClient.connect(port, "/")
        await within(started.wait())
        await raw.send_bytes(b"".join(masked_frame(TEXT, str(number).encode()) for number in range(count)))
        await eventually(lambda: not transports[0]._is_reading)
        go_on.set()
        assert await raw.receive_frame() == (TEXT, b"all")
        await raw.send_bytes(close_frame(1000))
        await raw.receive_end()
        raw.hang_up()


async def test_thousands_of_tiny_messages_at_once_arrive_all_and_in_order_beside_others() -> None:
    count = 20_000
    everything = asyncio.Event()
    heard: list[Any] = []
    hub = Hub(limits=Limits(messages_per_s=None))
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/burst")
    async def burst(connection: Annotated[Connection, Depends(hub)]) -> None:
        def note(connection: Connection, data: Any) -> None:
            heard.append(data)
            if len(heard) == count:
                everything.set()

        await connection.accept()
        connection.detach(on_message=note)

    @app.websocket("/echo")
    async def echoes(connection: Annotated[Connection, Depends(hub)]) -> None:
        async for text in connection:
            await connection.send(text)

    async with native_server(app, lifespan="on") as port, client(port, "/echo") as other:
        raw = await RawClient.connect(port, "/burst")
        sending = asyncio.create_task(
            raw.send_bytes(b"".join(masked_frame(TEXT, b"%d" % number) for number in range(count)))
        )
        while not everything.is_set():
            assert await other.ask("x") == "x"
        await within(sending)
        raw.hang_up()
    assert heard == [str(number) for number in range(count)]


# The heartbeat


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let deadlines be met at once, and not a quarter of a second later."""
    monkeypatch.setattr(shared, "TICK_S", 0.02)


BEAT = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.2}


@pytest.mark.usefixtures("fast")
async def test_a_client_that_answers_stays_and_its_round_trip_time_is_known() -> None:
    app = Application(echo)
    async with native_server(app, **BEAT) as port, client(port, "/") as connected:
        assert await connected.ask("x") == "x"
        for _ in range(3):
            app.transports[0].round_trip_s = None
            await eventually(lambda: app.transports[0].round_trip_s is not None)
        assert await connected.ask("x") == "x"


@pytest.mark.usefixtures("fast")
async def test_a_client_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "LINGER_S", 0.1)
    app = Application(hold)
    async with native_server(app, **BEAT) as port:
        raw = await RawClient.connect(port, "/")
        opcode, payload = await raw.receive_frame()
        assert (opcode, len(payload)) == (PING, 4)
        assert await raw.receive_close() == Close(1011, "heartbeat")
        await raw.receive_end()
        raw.hang_up()
    assert app.disconnects == [(1006, "heartbeat")]


@pytest.mark.usefixtures("fast")
async def test_a_client_that_takes_nothing_is_ended_and_its_descriptor_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "LINGER_S", 0.1)
    app = Application(push)
    async with native_server(app, send_buffer=SMALL_BUFFER, **BEAT) as port:
        raw = await stalled(port, app)
        await eventually(lambda: app.errors)
        await eventually(lambda: not any(remains().values()), remains)
        raw.hang_up()
    assert isinstance(app.errors[0], OSError)


# The close handshake


async def close_at_once(scope: Event, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    await send({"type": "websocket.close", "code": 4001, "reason": "enough"})


async def test_our_close_waits_for_the_clients() -> None:
    async with native_server(close_at_once) as port:
        raw = await RawClient.connect(port, "/")
        assert await raw.receive_close() == Close(4001, "enough")
        await raw.send_frame(TEXT, b"on its way")
        assert list(shared._all.values())[-1].open
        await raw.send_bytes(close_frame(4001))
        await raw.receive_end()
        raw.hang_up()


@pytest.mark.usefixtures("fast")
async def test_a_client_that_never_answers_our_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "CLOSE_DEADLINE_S", 0.1)
    async with native_server(close_at_once) as port:
        raw = await RawClient.connect(port, "/")
        assert await raw.receive_close() == Close(4001, "enough")
        await raw.receive_end()
        raw.hang_up()


async def test_a_client_still_gets_what_it_has_not_read_when_we_close() -> None:
    count = 50

    async def endpoint(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        scope["extensions"]["hubbub"]._tcp.set_write_buffer_limits(10_000_000)
        for _ in range(count):
            await send(message(b"x" * 10_000))
        await send({"type": "websocket.close", "code": 4001})

    app = Application(endpoint)
    async with native_server(app, send_buffer=SMALL_BUFFER) as port:
        raw = await RawClient.connect(port, "/", receive_buffer=SMALL_BUFFER)
        await eventually(lambda: app.transports and app.transports[0]._phase is native._Phase.CLOSING)
        for _ in range(count):
            assert await raw.receive_frame() == (BINARY, b"x" * 10_000)
        assert await raw.receive_close() == Close(4001, "")
        await raw.send_bytes(close_frame(4001))
        await raw.receive_end()
        raw.hang_up()


@pytest.mark.usefixtures("fast")
async def test_a_client_that_sends_fin_but_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "LINGER_S", 0.1)
    app = Application(push)
    async with native_server(app, send_buffer=SMALL_BUFFER, ws_ping_interval=None) as port:
        raw = await stalled(port, app)
        raw._socket.shutdown(1)
        await eventually(lambda: app.errors)
        await eventually(lambda: not any(remains().values()), remains)
        raw.hang_up()


@pytest.mark.usefixtures("fast")
async def test_a_slow_client_of_a_hub_is_gone_with_its_descriptor_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "CLOSE_DEADLINE_S", 0.1)
    hub = Hub(outbox=Outbox(bytes=65_536))
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        async for _ in connection:
            pass

    async with native_server(app, lifespan="on", send_buffer=SMALL_BUFFER) as port:
        files = open_files()
        raw = await RawClient.connect(port, "/", receive_buffer=SMALL_BUFFER)
        await eventually(lambda: hub.connections)
        while hub.connections:
            await hub.broadcast("x" * 10_000)
        await eventually(lambda: open_files() == files + 1, open_files)  # the client's own
        assert hub.statistics().closed == {3008: 1}
        raw.hang_up()


# Abuse


async def abused(app: Application, port: int, *parts: bytes) -> Close:
    """Connect, send this and return how the server ended it."""
    raw = await RawClient.connect(port, "/")
    try:
        with suppress(ConnectionError):
            for part in parts:
                await raw.send_bytes(part)
        while True:
            opcode, payload = await raw.receive_frame()
            if opcode == CLOSE:
                return Close(struct.unpack("!H", payload[:2])[0], payload[2:].decode())
            assert opcode == PONG
    finally:
        raw.hang_up()


@pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "tiny"])
async def test_fragments_without_end_are_limited_by_their_number(payload: bytes) -> None:
    app = Application(hold)
    async with native_server(app, ws_max_size=65_536) as port:
        rest = fragment(CONTINUATION, payload) * 100
        assert await abused(app, port, fragment(TEXT, payload), *[rest] * 42) == Close(1008, "message_fragments")
    assert app.disconnects == [(1008, "message_fragments")]


async def test_fragments_without_end_are_limited_by_their_size() -> None:
    app = Application(hold)
    async with native_server(app, ws_max_size=65_536) as port:
        parts = [fragment(BINARY), *[fragment(CONTINUATION, b"x" * 1_000)] * 100]
        assert await abused(app, port, *parts) == Close(1009, "message_bytes")


def deflated(size: int) -> bytes:
    """Return a compressed message of so many zeros: a thousandth of that."""
    compressor = zlib.compressobj(9, wbits=-15)
    parts = [compressor.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)]
    payload = b"".join([*parts, compressor.flush(zlib.Z_SYNC_FLUSH)]).removesuffix(b"\x00\x00\xff\xff")
    frame = masked_frame(BINARY, payload)
    return bytes([frame[0] | 0x40]) + frame[1:]


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    """Return a function that tells the most memory that was taken so far."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()


async def test_a_decompression_bomb_takes_no_more_memory_than_a_message_may(memory: Callable[[], int]) -> None:
    offer = b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    app = Application(hold)
    bomb = deflated(64_000_000)
    async with native_server(app, ws_max_size=1_000_000) as port:
        raw = await RawClient.dial(port)
        await raw.send_bytes(request("/").removesuffix(b"\r\n\r\n") + offer)
        assert b"permessage-deflate" in await raw._read_until(b"\r\n\r\n")
        tracemalloc.reset_peak()
        await raw.send_bytes(bomb)
        assert await raw.receive_close() == Close(1009, "message_bytes")
        raw.hang_up()
    assert memory() < 8_000_000
    assert app.disconnects == [(1009, "message_bytes")]


@pytest.mark.parametrize(("opcode", "payload"), [(PING, b""), (PING, b"x" * 125), (PONG, b""), (PONG, b"x" * 125)])
async def test_a_flood_of_control_frames_is_stopped(opcode: int, payload: bytes) -> None:
    app = Application(hold)
    async with native_server(app) as port:
        assert await abused(app, port, masked_frame(opcode, payload) * 1_000) == Close(1008, "messages_per_s")
    assert app.disconnects == [(1008, "messages_per_s")]


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_a_flood_of_control_frames_is_stopped_by_a_hub_too(opcode: int) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        connection.detach()

    async with native_server(app, lifespan="on") as port:
        end = await abused(Application(hold), port, masked_frame(opcode, b"x") * 1_000)
        assert end == Close(1008, "messages_per_s")


async def test_a_message_may_come_byte_by_byte() -> None:
    async with native_server(echo) as port:
        raw = await RawClient.connect(port, "/")
        for byte in fragment(TEXT, "é".encode()) + masked_frame(CONTINUATION, b"x" * 300):
            await raw.send_bytes(bytes([byte]))
        assert await raw.receive_frame() == (TEXT, "é".encode() + b"x" * 300)
        await raw.send_bytes(close_frame(1000))
        await raw.receive_end()
        raw.hang_up()


async def test_messages_that_are_never_finished_leave_nothing_behind(memory: Callable[[], int]) -> None:
    app = Application(hold)
    async with native_server(app, ws_max_size=1_000_000) as port:
        for number in range(20):
            raw = await RawClient.connect(port, "/")
            await raw.send_bytes(fragment(BINARY, b"x" * 500_000))
            await eventually(lambda: app.transports[-1]._parser is not None)
            (raw.vanish if number % 2 else raw.hang_up)()
            await eventually(lambda number=number: len(app.disconnects) > number)
        await eventually(lambda: not any(remains().values()), remains)
        gc.collect()
        assert len(app.transports) == 20  # an application may keep what it was given
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    assert app.disconnects == [(1006, "")] * 20


# The end of the server


class Running:
    """A server that the test stops, while its clients are still there."""

    def __init__(self, app: Any, **options: Any) -> None:
        self._context = serving(app, ws=NATIVE, **options)
        self._stopping: asyncio.Task[Any] | None = None

    async def start(self) -> int:
        return await self._context.__aenter__()

    def stop(self) -> None:
        self._stopping = asyncio.create_task(self._context.__aexit__(None, None, None))

    async def stopped(self) -> None:
        assert self._stopping is not None
        await within(self._stopping)


async def test_clients_are_told_to_come_back_when_the_server_stops() -> None:
    app = Application(hold)
    server = Running(app, lifespan="off")
    port = await server.start()
    async with client(port, "/") as first, client(port, "/") as second:
        await eventually(lambda: len(app.transports) == 2)
        server.stop()
        assert await first.closed() == Close(1012, "")
        assert await second.closed() == Close(1012, "")
        await server.stopped()
    assert app.disconnects == [(1012, "")] * 2
    assert not any(remains().values())


@pytest.mark.usefixtures("fast")
async def test_clients_that_do_not_answer_do_not_keep_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "DRAIN_DEADLINE_S", 0.1)
    app = Application(hold)
    server = Running(app, lifespan="off")
    raw = await RawClient.connect(await server.start(), "/")
    await eventually(lambda: app.transports)
    server.stop()
    await server.stopped()
    assert await raw.receive_close() == Close(1012, "")
    await raw.receive_end()
    raw.hang_up()
    assert not any(remains().values())


def hub_application(**options: Any) -> tuple[Hub, FastAPI]:
    hub = Hub(**options)
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        async for _ in connection:
            pass

    return hub, app


async def test_the_clients_of_a_hub_are_told_in_batches() -> None:
    hub, app = hub_application(drain=Drain(batch=2, window_s=0.3), heartbeat=Heartbeat(interval_s=None))
    server = Running(app)
    port = await server.start()
    raws = [await RawClient.connect(port, "/") for _ in range(6)]
    for raw in raws:
        await raw.send_frame(TEXT, b"here")
    await eventually(lambda: len(hub.connections) == 6)
    order: list[int] = []

    async def leave(number: int) -> None:
        assert await raws[number].receive_close() == Close(1012, "")
        order.append(number)
        await raws[number].send_bytes(close_frame(1012))
        await raws[number].receive_end()
        raws[number].hang_up()

    leaving = [asyncio.create_task(leave(number)) for number in range(6)]
    server.stop()
    await within(asyncio.gather(*leaving))
    await server.stopped()
    batches = [set(order[at : at + 2]) for at in (0, 2, 4)]
    assert batches == [{0, 1}, {2, 3}, {4, 5}]
    assert not any(remains().values())


async def test_a_handshake_that_waits_for_its_answer_is_refused_when_the_server_stops() -> None:
    asked = asyncio.Event()

    async def endpoint(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        assert (await receive())["code"] == 1006

    server = Running(endpoint, lifespan="off")
    raw = await RawClient.dial(await server.start())
    await raw.send_request("/")
    await within(asked.wait())
    server.stop()
    head = await raw._read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in head
    await server.stopped()
    raw.hang_up()


async def test_an_application_that_does_not_end_is_cancelled_when_the_time_is_up() -> None:
    async def endpoint(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await asyncio.Event().wait()

    app = Application(endpoint)
    server = Running(app, lifespan="off", timeout_graceful_shutdown=1)
    async with client(await server.start(), "/") as connected:
        await eventually(lambda: app.transports)
        server.stop()
        assert await connected.closed() == Close(1012, "")
        await server.stopped()
    (error,) = app.errors
    assert isinstance(error, asyncio.CancelledError)
