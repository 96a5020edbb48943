"""The bounds on the head of a request: with a transport, a time and an application that we play, and then for real."""

import asyncio
import gc
import heapq
import itertools
import logging
import subprocess
import sys
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from hubbub.server.http import H11Protocol, HTTPProtocol
from tests.integration.clients import client, request
from tests.integration.deadline import eventually, within
from tests.integration.servers import serving

CLASSES = (HTTPProtocol, H11Protocol)
KEEP_ALIVE_S = 5
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK"
TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
UPGRADE = request("/ws").lower().replace(b"get", b"GET").replace(b"http/1.1", b"HTTP/1.1")


class Timer:
    """What `call_later` returns."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """The loop, with a time that the test moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    @property
    def due(self) -> list[float]:
        """The delays of the timers that run."""
        return sorted(when - self.time for when, _, timer in self._timers if timer.callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.time + delay, next(self._numbers), timer))
        return timer

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine)

    def advance(self, seconds: float) -> None:
        until = self.time + seconds
        while self._timers and self._timers[0][0] <= until:
            self.time, _, timer = heapq.heappop(self._timers)
            if timer.callback:
                timer.callback()
        self.time = until


class Transport(asyncio.Transport):
    """A connection whose peer reads everything."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.reading = True
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


class WebSocket(asyncio.Protocol):
    """What a `--ws` class is told."""

    def __init__(self, **_: Any) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


class Application:
    """An ASGI application that answers when it has the body and may."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.lost = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.reads = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests.append(scope)
        if self.reads:
            body, more = b"", True
            while more:
                event = await receive()
                if event["type"] == "http.disconnect":
                    self.lost += 1
                    return
                body += event["body"]
                more = event["more_body"]
            self.bodies.append(body)
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Connection:
    """One connection to one of the classes."""

    def __init__(self, protocol_class: Any) -> None:
        self.loop = Loop()
        self.transport = Transport()
        self.application = Application()
        self.state = ServerState()
        self.state.default_headers = [(b"server", b"uvicorn")]
        config = uvicorn.Config(
            self.application, ws=WebSocket, lifespan="off", log_config=None, timeout_keep_alive=KEEP_ALIVE_S
        )
        config.load()
        self.protocol = protocol_class(config, self.state, {}, _loop=self.loop)
        self.protocol.connection_made(self.transport)

    @property
    def answers(self) -> bytes:
        return self.transport.written

    def feed(self, data: bytes) -> None:
        assert not self.transport.closed
        self.protocol.data_received(data)

    def dribble(self, data: bytes, seconds: float) -> int:
        """Send a byte every so many seconds, until the connection is closed; return how many were sent."""
        for count in range(len(data)):
            if self.transport.closed:
                return count
            self.feed(data[count : count + 1])
            self.loop.advance(seconds)
        return len(data)

    async def finished(self) -> None:
        """Wait for the application to be done with what it has."""
        await eventually(lambda: not self.state.tasks)

    async def ask(self, data: bytes = GET) -> bytes:
        before = len(self.answers)
        self.feed(data)
        await self.finished()
        return self.answers[before:]

    def lose(self) -> None:
        self.transport.closed = True
        self.protocol.connection_lost(None)


@pytest.fixture(params=CLASSES, ids=lambda protocol_class: protocol_class.__name__)
async def connection(request: pytest.FixtureRequest) -> Connection:
    return Connection(request.param)


def head_of(size: int) -> bytes:
    """A head of so many bytes."""
    return GET[:-2] + b"x: " + b"y" * (size - len(GET) - 5) + b"\r\n\r\n"


def head_with(fields: int, head: bytes = GET) -> bytes:
    """A head with so many fields."""
    there = head.count(b"\r\n") - 2
    return head[:-2] + b"x: y\r\n" * (fields - there) + b"\r\n"


def assert_refused(connection: Connection, status_line: bytes) -> None:
    assert connection.answers.startswith(status_line)
    assert connection.answers.endswith(b"\r\nserver: uvicorn\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert connection.answers.count(b"HTTP/1.1") == 1
    assert connection.transport.closed
    assert connection.loop.due == []
    assert connection.application.requests == []


# The deadline


async def test_a_silent_connection_is_closed_without_an_answer(connection: Connection) -> None:
    connection.loop.advance(9.9)
    assert not connection.transport.closed
    connection.loop.advance(0.2)
    assert connection.transport.closed
    assert connection.answers == b""
    assert connection.loop.due == []


async def test_a_head_that_dribbles_in_gets_408_ten_seconds_after_the_connection(connection: Connection) -> None:
    connection.loop.advance(4)
    assert connection.dribble(UPGRADE, 1) == 6
    assert_refused(connection, TIMEOUT)


async def test_what_comes_after_a_refusal_is_thrown_away(connection: Connection) -> None:
    connection.dribble(UPGRADE, 1)
    connection.protocol.data_received(GET)
    assert_refused(connection, TIMEOUT)


async def test_a_head_in_time_stops_the_clock(connection: Connection) -> None:
    connection.application.may_answer.clear()
    connection.feed(GET[:10])
    connection.loop.advance(9)
    connection.feed(GET[10:])
    assert connection.loop.due == []
    connection.loop.advance(3_600)
    connection.application.may_answer.set()
    await connection.finished()
    assert connection.answers.startswith(OK)


async def test_a_body_may_take_its_time(connection: Connection) -> None:
    connection.feed(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")
    assert connection.dribble(b"x" * 100, 60) == 100
    await connection.finished()
    assert connection.answers.startswith(OK)
    assert connection.application.bodies == [b"x" * 100]


async def test_between_requests_only_the_timer_of_uvicorn_runs(connection: Connection) -> None:
    assert (await connection.ask()).startswith(OK)
    assert connection.loop.due == [KEEP_ALIVE_S]
    connection.loop.advance(KEEP_ALIVE_S)
    assert connection.transport.closed
    assert connection.answers.count(b"HTTP/1.1") == 1


async def test_the_next_head_has_its_deadline_from_its_first_byte_on(connection: Connection) -> None:
    await connection.ask()
    connection.loop.advance(4)
    before = len(connection.answers)
    assert connection.dribble(GET, 1) == 10
    assert connection.answers[before:].startswith(TIMEOUT)
    assert connection.loop.due == []


async def test_the_next_request_in_one_piece_needs_no_timer(connection: Connection) -> None:
    await connection.ask()
    connection.feed(GET)
    assert connection.loop.due == []
    await connection.finished()
    assert connection.answers.count(OK) == 2


async def test_blank_lines_are_no_head(connection: Connection) -> None:
    await connection.ask()
    connection.dribble(b"\r\n" * 20, 1)
    assert connection.transport.closed
    assert connection.loop.time <= 10


async def test_a_head_that_begins_while_an_answer_is_awaited(connection: Connection) -> None:
    # Nothing may be written into the answer that is under way, and the head has all of its time after it.
    connection.application.may_answer.clear()
    connection.feed(GET + GET[:10])
    connection.loop.advance(60)
    assert connection.answers == b""
    connection.application.may_answer.set()
    await connection.finished()
    assert connection.answers.count(b"HTTP/1.1") == 1
    connection.loop.advance(KEEP_ALIVE_S - 1)
    connection.feed(GET[10:12])
    connection.loop.advance(9.9)
    assert not connection.transport.closed
    connection.loop.advance(0.2)
    assert TIMEOUT in connection.answers
    assert connection.transport.closed


async def test_an_answer_before_the_end_of_the_body_leaves_no_connection_without_a_timer(
    connection: Connection,
) -> None:
    # uvicorn stops its own timer when the rest of the body comes, and does not start it again.
    connection.application.reads = False
    await connection.ask(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n")
    connection.feed(b"xx")
    assert connection.loop.due == [10]
    connection.loop.advance(10)
    assert connection.transport.closed
    assert connection.answers.count(b"HTTP/1.1") == 1


async def test_a_lost_connection_has_no_timer(connection: Connection) -> None:
    connection.lose()
    assert connection.loop.due == []


async def test_shutdown_leaves_no_timer(connection: Connection) -> None:
    connection.protocol.shutdown()
    assert connection.transport.closed
    connection.lose()
    assert connection.loop.due == []


async def test_the_deadline_of_a_connection_that_is_closing_writes_nothing(connection: Connection) -> None:
    connection.feed(GET[:10])
    connection.transport.close()
    connection.loop.advance(10)
    assert connection.answers == b""


# The size


async def test_a_head_may_be_16_kib(connection: Connection) -> None:
    head = head_of(16_384)
    assert len(head) == 16_384
    assert (await connection.ask(head)).startswith(OK)


@pytest.mark.parametrize("size", [16_385, 40_000, 1_000_000])
async def test_a_larger_head_gets_431(connection: Connection, size: int) -> None:
    connection.feed(head_of(size))
    assert_refused(connection, TOO_LARGE)


async def test_an_endless_line_is_refused_as_it_comes_in(connection: Connection) -> None:
    sent = connection.dribble(GET[:-2] + b"x: " + b"y" * 20_000, 0)
    assert sent == 16_384
    assert_refused(connection, TOO_LARGE)


async def test_an_endless_path_is_refused_as_it_comes_in(connection: Connection) -> None:
    assert connection.dribble(b"GET /" + b"y" * 20_000, 0) == 16_384
    assert_refused(connection, TOO_LARGE)


async def test_each_head_of_a_connection_has_its_own_count(connection: Connection) -> None:
    for _ in range(5):
        assert (await connection.ask(head_of(16_384))).startswith(OK)


async def test_the_bytes_of_a_body_are_not_counted(connection: Connection) -> None:
    body = b"x" * 1_000_000
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"
    connection.feed(head + body[:250_000])
    connection.feed(body[250_000:])
    connection.feed(GET)
    await connection.finished()
    assert connection.answers.count(OK) == 2
    assert connection.application.bodies == [body, b""]


async def test_a_chunked_body_may_be_long(connection: Connection) -> None:
    connection.feed(CHUNKED)
    for _ in range(100):
        connection.feed(b"1000\r\n" + b"x" * 4_096 + b"\r\n")
    connection.feed(b"0\r\n\r\n")
    await connection.finished()
    assert connection.answers.startswith(OK)
    assert connection.application.bodies == [b"x" * 409_600]


async def test_small_trailers_pass(connection: Connection) -> None:
    answer = await connection.ask(CHUNKED + b"1\r\nx\r\n0\r\ndigest: 1\r\n\r\n")
    assert answer.startswith(OK)


async def test_trailers_without_an_end_end_the_connection(connection: Connection) -> None:
    connection.feed(CHUNKED + b"1\r\nx\r\n0\r\n")
    assert connection.dribble(b"x: " + b"y" * 20_000, 0) <= 16_400
    assert connection.transport.closed
    connection.lose()
    await connection.finished()
    assert connection.application.bodies == []


# The number of fields


async def test_a_head_may_have_100_fields(connection: Connection) -> None:
    assert (await connection.ask(head_with(100))).startswith(OK)
    assert len(connection.application.requests[0]["headers"]) == 100


@pytest.mark.parametrize("head", [GET, UPGRADE, CHUNKED])
async def test_more_fields_get_431(connection: Connection, head: bytes) -> None:
    connection.feed(head_with(101, head))
    assert_refused(connection, TOO_LARGE)
    assert connection.transport.protocol is None


async def test_more_fields_are_refused_before_the_head_is_complete() -> None:
    connection = Connection(HTTPProtocol)
    connection.feed(head_with(100)[:-2])
    assert not connection.transport.closed
    connection.feed(b"x: y\r\nx")
    assert_refused(connection, TOO_LARGE)


# Pipelining


async def test_pipelined_requests_are_answered_in_order(connection: Connection) -> None:
    paths = [b"/%d" % number for number in range(20)]
    connection.feed(b"".join(GET.replace(b"/ ", path + b" ") for path in paths))
    await connection.finished()
    assert connection.answers.count(OK) == 20
    assert [scope["raw_path"] for scope in connection.application.requests] == paths
    assert connection.loop.due == [KEEP_ALIVE_S]


@pytest.mark.parametrize("bad", [head_with(101), head_of(40_000)], ids=["fields", "size"])
async def test_the_answer_to_an_earlier_request_comes_before_the_end(connection: Connection, bad: bytes) -> None:
    connection.application.may_answer.clear()
    connection.feed(GET + bad)
    assert connection.answers == b""
    connection.application.may_answer.set()
    await connection.finished()
    assert connection.answers.startswith(OK)
    assert connection.answers.count(OK) == 1
    assert connection.transport.closed
    assert len(connection.application.requests) == 1


async def test_what_is_no_http_is_answered_once(connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    connection.feed(b"\0" * 100_000)
    assert connection.answers.startswith(b"HTTP/1.1 400 ")
    assert connection.answers.count(b"HTTP/1.1") == 1
    assert connection.loop.due == []
    assert [record.message for record in caplog.records] == ["Invalid HTTP request received."]


# Upgrades


async def test_a_websocket_has_no_timer(connection: Connection) -> None:
    connection.feed(UPGRADE[:50])
    connection.feed(UPGRADE[50:])
    assert connection.loop.due == []
    assert isinstance(connection.transport.protocol, WebSocket)
    assert connection.transport.protocol.data == UPGRADE
    connection.loop.advance(3_600)
    assert not connection.transport.closed


async def test_what_comes_with_the_head_of_a_websocket_reaches_no_parser(connection: Connection) -> None:
    connection.feed(UPGRADE + b"\0" * 100_000)
    assert isinstance(connection.transport.protocol, WebSocket)
    assert connection.answers == b""
    assert not connection.transport.closed


async def test_an_upgraded_connection_leaves_nothing_for_the_garbage_collector() -> None:
    connection = Connection(HTTPProtocol)
    gc.disable()
    try:
        connection.feed(UPGRADE)
        protocol = weakref.ref(connection.protocol)
        connection.protocol = None
        assert protocol() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "head",
    [
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE[:-2] + b"content-length: 5\r\n\r\nhello",
        UPGRADE[:-2] + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["HTTP/1.0", "a body", "a body in chunks"],
)
async def test_what_can_be_no_websocket_is_a_request(connection: Connection, head: bytes) -> None:
    connection.feed(head)
    assert not isinstance(connection.transport.protocol, WebSocket)


async def test_an_upgrade_with_an_empty_body_is_one(connection: Connection) -> None:
    connection.feed(UPGRADE[:-2] + b"content-length: 0\r\n\r\n")
    assert isinstance(connection.transport.protocol, WebSocket)


async def test_an_upgrade_while_an_answer_is_still_to_come_is_a_request(connection: Connection) -> None:
    connection.feed(GET + UPGRADE)
    assert not isinstance(connection.transport.protocol, WebSocket)


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket2"])
async def test_an_upgrade_to_something_else_is_a_request(connection: Connection, upgrade: bytes) -> None:
    answer = await connection.ask(UPGRADE.replace(b"websocket\r\n", upgrade + b"\r\n"))
    assert answer.startswith(OK)


# What is logged and chosen


async def test_a_refusal_is_logged(connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "uvicorn.error"):
        connection.dribble(GET, 1)
    assert "Refused the head of a request: 408 Request Timeout." in caplog.text


def test_the_class_on_httptools_is_taken_where_it_is_installed() -> None:
    assert HTTPProtocol.__name__ == "HttpToolsProtocol"


def test_without_httptools_the_class_on_h11_is_taken() -> None:
    program = (
        "import sys; sys.modules['httptools'] = None; "
        "from hubbub.server.http import H11Protocol, HTTPProtocol; sys.exit(HTTPProtocol is not H11Protocol)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0


def test_the_package_does_not_need_uvicorn() -> None:
    program = "import sys, hubbub, hubbub.server; sys.exit('uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0


# Real connections


@pytest.fixture(params=CLASSES, ids=lambda protocol_class: protocol_class.__name__)
def short(request: pytest.FixtureRequest) -> Any:
    """One of the classes, with a deadline that a test can wait for."""
    return type("Short", (request.param,), {"head_s": 0.2})


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Echo, by HTTP and by WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        event = await receive()
        await send({"type": "websocket.send", "text": event["text"]})
        await receive()
        return
    size, more = 0, True
    while more:
        event = await receive()
        size += len(event.get("body", b""))
        more = event.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d bytes" % size})


def serve(http: Any) -> Any:
    return serving(application, http=http, ws="websockets-sansio", lifespan="off")


async def answer(port: int, *pieces: bytes) -> bytes:
    """Send pieces and return all that comes until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await within(writer.drain())
        return await within(reader.read())
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_handshake_that_does_not_end(short: Any) -> None:
    async with serve(short) as port:
        assert (await answer(port, request("/ws")[:-4])).startswith(TIMEOUT)


async def test_a_handshake_that_dribbles_in(short: Any) -> None:
    async with serve(short) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ended = asyncio.create_task(reader.read())
        for byte in request("/ws"):
            writer.write(bytes([byte]))
            if (await asyncio.wait([ended], timeout=0.02))[0]:
                break
        assert ended.done()
        with suppress(ConnectionResetError):  # a byte that crosses the answer makes the kernel throw the answer away
            assert (await ended).startswith(TIMEOUT)
        writer.close()


async def test_a_connection_that_says_nothing(short: Any) -> None:
    async with serve(short) as port:
        assert await answer(port) == b""


async def test_a_large_head(short: Any) -> None:
    async with serve(short) as port:
        assert (await answer(port, head_of(16_384 + 1))).startswith(TOO_LARGE)


async def test_a_websocket_outlives_the_deadline(short: Any) -> None:
    async with serve(short) as port, client(port, "/ws") as ada:
        assert (await answer(port)) == b""  # so long does the deadline of another connection take
        assert await ada.ask("Hello") == "Hello"


async def test_an_upload_outlives_the_deadline(short: Any) -> None:
    async with serve(short) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2000000\r\n\r\n")
        writer.write(b"x" * 1_000_000)
        assert (await answer(port)) == b""
        writer.write(b"x" * 1_000_000)
        assert (await within(reader.read())).endswith(b"2000000 bytes\r\n0\r\n\r\n")
        writer.close()
