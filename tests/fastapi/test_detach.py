"""A connection that outlives its endpoint: its handlers, its limits, its end, and what is let go of."""

import asyncio
import contextlib
import gc
import logging
import sys
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

import hubbub
from hubbub import Connection, Denied, Drain, Heartbeat, Hub, Limits, Outbox
from hubbub.fastapi import runtime
from hubbub.fastapi.connection import socket_of
from hubbub.interfaces import TransportSettings, TransportUser
from hubbub.model import Data
from hubbub.state.inbox import INBOX_BYTES, INBOX_MESSAGES, PAUSE_S
from hubbub.testing import Client, ClientConnection, ManualClock, RecordingTransport

Event = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]

FULL = 65_536
"""A buffer level at which a `RecordingTransport` is congested."""
VIAS = ("fallback", "in a task", "in the loop")
"""What carries the connection: ASGI, or a transport of ours that is called by a task or, as on a server, the loop."""


class Carrier(RecordingTransport):
    """Remembers what the hub asks of it, and is told when the application's call is over."""

    settings: TransportSettings

    def __init__(self, *, in_task: bool = True) -> None:
        super().__init__()
        self.in_task = in_task

    def start(self, user: TransportUser, settings: TransportSettings) -> None:
        super().start(user, settings)
        self.settings = settings

    def application_ended(self, code: int) -> None:
        """Do what the server class does when the application has returned."""
        if not self._is_lost:
            self._the_user().application_ended(code)


class Server:
    """Around an application: tells a transport of ours how the application's call ended, as the server class does."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:
        carrier = scope.get("extensions", {}).get("hubbub")
        code = 1011
        try:
            await self.app(scope, receive, send)
            code = 1000
        finally:
            if carrier is not None:
                carrier.application_ended(code)


async def until(condition: Callable[[], object]) -> None:
    """Let the tasks go on until something holds."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("what was waited for has not come")


async def turns(number: int = 50) -> None:
    """Let every task that can go on do so."""
    for _ in range(number):
        await asyncio.sleep(0)


class Peer:
    """The client's end, whatever carries the connection."""

    def __init__(self, client: ClientConnection, carrier: Carrier | None) -> None:
        self.client = client
        self.carrier = carrier

    async def send(self, *messages: Data) -> None:
        for message in messages:
            if self.carrier is None:
                await self.client.send(message)
            elif self.carrier.in_task:
                self.carrier.receive(message)
            else:
                asyncio.get_running_loop().call_soon(self.carrier.receive, message)
        await asyncio.sleep(0)

    async def hears(self, *messages: str) -> None:
        """Assert that these messages come next."""
        carrier = self.carrier
        if carrier is None:
            await self.client.assert_received(*messages)
            return
        await until(lambda: len(carrier.written) >= len(messages))
        assert carrier.written[: len(messages)] == [*messages]
        del carrier.written[: len(messages)]

    async def is_closed(self, code: int, reason: str = "") -> None:
        """Assert that the hub closes with this code."""
        carrier = self.carrier
        if carrier is None:
            await self.client.assert_closed(code, reason)
            return
        await until(lambda: carrier.closed is not None)
        assert carrier.closed == (code, reason)

    async def leave(self, code: int = 1001, reason: str = "") -> None:
        """Close from the client's side."""
        await self.client.close(code, reason)


class Heard:
    """Handlers that write down what they are called with."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.closes: list[tuple[int, str]] = []

    def message(self, connection: Connection, message: Any) -> None:
        self.messages.append(message)

    async def message_async(self, connection: Connection, message: Any) -> None:
        await asyncio.sleep(0)
        self.messages.append(message)

    async def message_without_waiting(self, connection: Connection, message: Any) -> None:
        self.messages.append(message)

    def close(self, connection: Connection, code: int, reason: str) -> None:
        self.closes.append((code, reason))

    async def close_async(self, connection: Connection, code: int, reason: str) -> None:
        await asyncio.sleep(0)
        self.closes.append((code, reason))


MESSAGE_HANDLERS = ("message", "message_async", "message_without_waiting")
CLOSE_HANDLERS = ("close", "close_async")


class Slow:
    """A handler that waits until it may go on, message by message."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.ended: list[Any] = []
        self.gate = asyncio.Semaphore(0)

    async def message(self, connection: Connection, message: Any) -> None:
        self.began.append(message)
        await self.gate.acquire()
        self.ended.append(message)

    def let_go(self, count: int = 1) -> None:
        for _ in range(count):
            self.gate.release()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hub(clock: ManualClock) -> Hub:
    return Hub(clock=clock)


@pytest.fixture(params=VIAS)
def carrier(request: pytest.FixtureRequest) -> Carrier | None:
    return None if request.param == "fallback" else Carrier(in_task=request.param == "in a task")


@pytest.fixture
def heard() -> Heard:
    return Heard()


def serve(
    hub: Hub, endpoint: Callable[[Any], Awaitable[None]], types: Any = Connection, lifespan: Any = ..., **settings: Any
) -> Server:
    """Return an application whose `/ws` is `endpoint`, called with the connection alone."""
    app = FastAPI(lifespan=hub.lifespan if lifespan is ... else lifespan)
    dependency = hub.connection(**settings) if settings else hub

    @app.websocket("/ws")
    async def route(connection: Annotated[types, Depends(dependency)]) -> None:
        await endpoint(connection)

    return Server(app)


@contextlib.asynccontextmanager
async def detached(
    hub: Hub,
    carrier: Carrier | None,
    on_message: Any = None,
    on_close: Any = None,
    *,
    prepare: Callable[[Connection], Awaitable[None]] | None = None,
    types: Any = Connection,
    **settings: Any,
) -> AsyncIterator[tuple[Connection, Peer]]:
    """Connect to an endpoint that detaches; give its connection when it has returned."""
    returned: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        if prepare is not None:
            await prepare(connection)
        connection.detach(on_message, on_close)
        returned.set_result(connection)

    server = serve(hub, endpoint, types, **settings)
    async with Client(server) as client, client.connect("/ws", transport=carrier) as ann:
        connection = await returned
        await until(lambda: socket_of(connection) is None)
        await turns(3)  # from the next one on messages go to the handler as they come
        yield connection, Peer(ann, carrier)


# It stays


async def test_the_endpoint_returns_and_the_connection_stays(hub: Hub, carrier: Carrier | None) -> None:
    async with detached(hub, carrier) as (connection, peer):
        assert connection.is_open
        assert [*hub.connections.values()] == [connection]
        await connection.send("direct")
        await peer.hears("direct")


async def test_it_hears_what_any_connection_hears(hub: Hub, carrier: Carrier | None) -> None:
    async def prepare(connection: Connection) -> None:
        await connection.join("room")

    async with detached(hub, carrier, prepare=prepare) as (connection, peer):
        await hub.publish("room", "1")
        await hub.broadcast("2")
        await connection.join("later")
        await hub.publish("later", "3")
        await connection.leave("room")
        await hub.publish("room", "not this one")
        await hub.broadcast("4")
        await peer.hears("1", "2", "3", "4")
        assert connection.channels == {"later"}


async def test_its_user_is_found_and_can_be_disconnected(hub: Hub, carrier: Carrier | None, heard: Heard) -> None:
    returned = asyncio.Event()

    async def endpoint(connection: Connection) -> None:
        await connection.accept(user="ann")
        connection.detach(on_close=heard.close)
        returned.set()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier) as ann:
        await returned.wait()
        await hub.send("ann", "hello")
        peer = Peer(ann, carrier)
        await peer.hears("hello")
        await hub.disconnect("ann", reason="enough")
        await peer.is_closed(3503, "enough")
        await until(lambda: heard.closes)
        assert (heard.closes, dict(hub.connections)) == ([(3503, "enough")], {})


async def test_the_dependencies_of_the_endpoint_are_closed_when_it_returns(hub: Hub, carrier: Carrier | None) -> None:
    log: list[str] = []

    async def resource() -> AsyncIterator[None]:
        log.append("opened")
        yield
        log.append("closed")

    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def route(
        connection: Annotated[Connection, Depends(hub)], resource: Annotated[None, Depends(resource)]
    ) -> None:
        await connection.accept()
        connection.detach()
        log.append("returned")

    async with Client(Server(app)) as client, client.connect("/ws", transport=carrier):
        await until(lambda: log == ["opened", "returned", "closed"])
        assert len(hub.connections) == 1


# Its messages


@pytest.mark.parametrize("handler", MESSAGE_HANDLERS)
async def test_messages_go_to_the_handler_in_order(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str
) -> None:
    async with detached(hub, carrier, getattr(heard, handler)) as (_, peer):
        await peer.send("1", b"2", "3")
        await until(lambda: len(heard.messages) == 3)
        await peer.send("4")
        await until(lambda: len(heard.messages) == 4)
        assert heard.messages == ["1", b"2", "3", "4"]


async def test_a_handler_gets_the_connection_and_can_use_it(hub: Hub, carrier: Carrier | None) -> None:
    given: list[Connection] = []

    async def echo(connection: Connection, message: str) -> None:
        given.append(connection)
        await connection.send(message.upper())

    async with detached(hub, carrier, echo) as (connection, peer):
        for message in "abc":
            await peer.send(message)
        await peer.hears("A", "B", "C")
        assert given == [connection] * 3


@pytest.mark.parametrize("handler", MESSAGE_HANDLERS)
async def test_what_had_arrived_before_goes_to_the_handler_first(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str
) -> None:
    async def wait_for_three(connection: Connection) -> None:
        await accepted.put(connection)
        await until(lambda: hub.statistics().messages_received == 4)
        assert await connection.receive() == "1"

    accepted: asyncio.Queue[Connection] = asyncio.Queue()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        await wait_for_three(connection)
        connection.detach(getattr(heard, handler))

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier) as ann:
        await accepted.get()
        peer = Peer(ann, carrier)
        await peer.send("1", "2", "3", "4")
        await until(lambda: heard.messages == ["2", "3", "4"])
        await peer.send("5")
        await until(lambda: heard.messages == ["2", "3", "4", "5"])


async def test_one_message_is_handled_at_a_time(hub: Hub, carrier: Carrier | None) -> None:
    slow = Slow()
    async with detached(hub, carrier, slow.message) as (_, peer):
        await peer.send("1", "2", "3")
        for count in range(1, 4):
            await until(lambda count=count: len(slow.began) == count)
            await turns()
            assert (len(slow.began), len(slow.ended)) == (count, count - 1)
            slow.let_go()
        await until(lambda: slow.ended == ["1", "2", "3"])


async def test_two_connections_are_handled_at_the_same_time(hub: Hub) -> None:
    slow = Slow()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        connection.detach(slow.message)

    async with (
        Client(serve(hub, endpoint)) as client,
        client.connect("/ws") as ann,
        client.connect("/ws") as bob,
    ):
        await ann.send("ann's")
        await bob.send("bob's")
        await until(lambda: len(slow.began) == 2)
        slow.let_go(2)
        await until(lambda: len(slow.ended) == 2)


async def test_while_a_handler_waits_the_reading_stops_at_the_bound(hub: Hub, carrier: Carrier | None) -> None:
    slow = Slow()
    count = INBOX_MESSAGES + 20
    async with detached(hub, carrier, slow.message) as (_, peer):
        await peer.send("first")
        await until(lambda: slow.began == ["first"])
        if carrier is None:
            await peer.send(*(str(number) for number in range(count)))
            await turns(500)
            assert hub.statistics().messages_received == 1 + INBOX_MESSAGES
        else:
            for number in range(count):
                await peer.send(str(number))
                if not carrier.is_reading:
                    break
            assert hub.statistics().messages_received == 1 + INBOX_MESSAGES
            await peer.send(*(str(number) for number in range(INBOX_MESSAGES, count)))
        slow.let_go(1 + count)
        await until(lambda: len(slow.ended) == 1 + count)
        assert slow.ended == ["first", *(str(number) for number in range(count))]
        assert carrier is None or carrier.is_reading
        assert hub.statistics().discarded == 0


@pytest.mark.parametrize("handler", MESSAGE_HANDLERS)
async def test_a_message_as_large_as_the_bound_stops_nothing(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str
) -> None:
    async with detached(hub, carrier, getattr(heard, handler)) as (_, peer):
        for count in range(1, 4):
            await peer.send("x" * INBOX_BYTES)
            await until(lambda count=count: len(heard.messages) == count)
            await turns()
            assert carrier is None or carrier.is_reading
        await peer.send("small")
        await until(lambda: heard.messages[3:] == ["small"])


async def test_a_handler_that_waits_for_long_does_not_keep_the_dead(hub: Hub, heard: Heard, clock: ManualClock) -> None:
    slow, carrier = Slow(), Carrier()
    async with detached(hub, carrier, slow.message, heard.close) as (connection, peer):
        await peer.send(*(str(number) for number in range(1 + INBOX_MESSAGES)))
        assert not carrier.is_reading
        clock.advance(PAUSE_S)
        assert carrier.is_reading
        await peer.send("more", "than fits")
        assert hub.statistics().discarded == 2
        await peer.leave()
        assert not connection.is_open
        slow.let_go(1 + INBOX_MESSAGES)
        await until(lambda: heard.closes)
        assert slow.ended == [str(number) for number in range(1 + INBOX_MESSAGES)]


async def test_without_a_handler_messages_are_discarded_and_counted(hub: Hub, carrier: Carrier | None) -> None:
    async with detached(hub, carrier) as (connection, peer):
        await peer.send(*("x" for _ in range(100)))
        await until(lambda: hub.statistics().discarded == 100)
        assert connection.is_open
        assert hub.statistics().messages_received == 100


async def test_a_handler_may_sometimes_wait_and_sometimes_not(hub: Hub, carrier: Carrier | None) -> None:
    slow = Slow()
    seen: list[str] = []

    def handler(connection: Connection, message: str) -> Awaitable[None] | None:
        seen.append(message)
        return slow.message(connection, message) if message.startswith("slow") else None

    async with detached(hub, carrier, handler) as (_, peer):
        await peer.send("slow 1", "2", "3", "slow 4", "5", "6")
        await until(lambda: seen == ["slow 1"])
        slow.let_go()
        await until(lambda: seen == ["slow 1", "2", "3", "slow 4"])
        slow.let_go()
        await until(lambda: seen == ["slow 1", "2", "3", "slow 4", "5", "6"])


async def test_a_handler_may_return_any_awaitable(hub: Hub, carrier: Carrier | None) -> None:
    futures: list[asyncio.Future[None]] = []

    def handler(connection: Connection, message: str) -> Awaitable[None]:
        futures.append(asyncio.get_running_loop().create_future())
        return futures[-1]

    async with detached(hub, carrier, handler) as (_, peer):
        await peer.send("1", "2")
        await until(lambda: futures)
        await turns()
        assert len(futures) == 1
        futures[0].set_result(None)
        await until(lambda: len(futures) == 2)
        futures[1].set_result(None)


async def test_a_handler_has_a_task_of_its_own_to_time_out_in(hub: Hub, carrier: Carrier | None) -> None:
    timed_out: list[str] = []

    async def handler(connection: Connection, message: str) -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            timed_out.append(message)

    async with detached(hub, carrier, handler) as (connection, peer):
        await peer.send("1", "2")
        await until(lambda: timed_out == ["1", "2"])
        assert connection.is_open


# Typed connections


class Move(BaseModel):
    x: int


@pytest.mark.parametrize("handler", MESSAGE_HANDLERS)
async def test_an_invalid_message_is_answered_and_the_others_are_handled(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str
) -> None:
    async with detached(hub, carrier, getattr(heard, handler), types=Connection[Move]) as (_, peer):
        await peer.send('{"x":1}', '{"x":"no"}', '{"x":2}', '{"x":3}', "no JSON", '{"x":4}', '{"x":5}')
        await until(lambda: len(heard.messages) == 5)
        assert heard.messages == [Move(x=x) for x in range(1, 6)]
        assert hub.statistics().invalid_messages == 2
        if carrier is None:
            answers = [await peer.client.receive_json() for _ in range(2)]
            assert [answer["code"] for answer in answers] == ["invalid_message"] * 2
        else:
            assert [str(message)[:41] for message in carrier.written] == [
                '{"type":"error","code":"invalid_message",'
            ] * 2


@pytest.mark.parametrize("handler", MESSAGE_HANDLERS)
@pytest.mark.parametrize(
    ("invalid", "types", "code", "reason"),
    [
        ('{"x":"no"}', Connection[Move], 1008, "invalid_message"),
        ("no JSON", Connection[Move], 1007, "invalid_message"),
        (b"binary", Connection[str], 1003, "text expected"),
        ("text", Connection[bytes], 1003, "binary expected"),
    ],
)
async def test_an_invalid_message_may_close(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str, invalid: Data, types: Any, code: int, reason: str
) -> None:
    async with detached(hub, carrier, getattr(heard, handler), heard.close, types=types, on_invalid="close") as (
        _,
        peer,
    ):
        await peer.send(invalid)
        await peer.is_closed(code, reason)
        await until(lambda: heard.closes)
        assert (heard.messages, heard.closes) == ([], [(code, reason)])


@pytest.mark.parametrize("handler", MESSAGE_HANDLERS)
async def test_an_invalid_message_closes_where_nobody_could_catch_it(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with detached(
        hub, carrier, getattr(heard, handler), heard.close, types=Connection[Move], on_invalid="raise"
    ) as (_, peer):
        await peer.send('{"x":"no"}')
        await peer.is_closed(1008, "invalid_message")
        await until(lambda: heard.closes)
    assert not caplog.records


# Exceptions


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Denied("no", limit="mine"), "mine"),
        (Denied("é" * 100), "é" * 61),
        (HTTPException(403, "forbidden"), "forbidden"),
    ],
    ids=["a limit", "a long reason", "an HTTPException"],
)
async def test_a_refusal_in_a_handler_closes_as_one_in_an_endpoint_does(
    hub: Hub, carrier: Carrier | None, heard: Heard, caplog: pytest.LogCaptureFixture, error: Exception, reason: str
) -> None:
    async def refuse(connection: Connection, message: str) -> None:
        raise error

    async with detached(hub, carrier, refuse, heard.close_async) as (_, peer):
        await peer.send("1")
        await peer.is_closed(1008, reason)
        await until(lambda: heard.closes)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["sync", "async", "after waiting"])
@pytest.mark.parametrize("error", [ValueError("wrong"), asyncio.CancelledError()], ids=["an error", "a cancellation"])
async def test_what_a_handler_raises_is_logged_and_closes(
    hub: Hub,
    carrier: Carrier | None,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    error: BaseException,
) -> None:
    calls: list[str] = []

    def sync(connection: Connection, message: str) -> None:
        calls.append(message)
        raise error

    async def later(connection: Connection, message: str) -> None:
        if kind == "after waiting":
            await turns()
        sync(connection, message)

    handler = sync if kind == "sync" else later
    async with detached(hub, carrier, handler, heard.close_async) as (connection, peer):
        await peer.send("1")
        await until(lambda: heard.closes)
        assert not connection.is_open
        if isinstance(error, Exception):
            await peer.is_closed(1011)
            assert heard.closes == [(1011, "")]
        await turns()
        assert len(heard.closes) == 1
    assert calls == ["1"]
    if isinstance(error, Exception):
        assert "wrong" in caplog.text
        assert connection.id in caplog.text
    else:
        assert heard.closes == [(1006, "")]
        assert caplog.text == ""
    assert dict(hub.connections) == {}


@pytest.mark.parametrize("kind", ["sync", "async", "after waiting"])
async def test_after_a_failure_nothing_more_is_handled_whoever_has_closed(
    hub: Hub, carrier: Carrier | None, heard: Heard, kind: str
) -> None:
    slow = Slow()
    calls: list[str] = []

    def handler(connection: Connection, message: str) -> Awaitable[None] | None:
        if message == "slow":
            return slow.message(connection, message)
        calls.append(message)
        if kind == "sync":
            raise ValueError(message)
        return fail()

    async def fail() -> None:
        if kind == "after waiting":
            await turns()
        raise ValueError("wrong")

    async with detached(hub, carrier, handler, heard.close) as (_, peer):
        await peer.send("slow", "1", "2", "3")
        await until(lambda: hub.statistics().messages_received == 4)
        await peer.leave(1001)
        await until(lambda: not hub.connections)
        assert heard.closes == []
        slow.let_go()
        await until(lambda: heard.closes)
    assert (calls, heard.closes) == (["1"], [(1001, "")])
    assert hub.statistics().discarded == 2


# Its end


async def ends(how: str, hub: Hub, connection: Connection, peer: Peer, clock: ManualClock) -> None:
    """End a connection in one of many ways."""
    match how:
        case "the client closes":
            await peer.leave(1001, "away")
        case "the client vanishes":
            await peer.client.abort()
        case "closed":
            await connection.close(4000, "ours")
        case "disconnected":
            await hub.disconnect("ann")
        case "too large":
            await peer.send("x" * 1_001)
        case "too many":
            await peer.send(*("x" for _ in range(6)))
        case "idle":
            clock.advance(61)
        case "slow":
            stall(peer)
            for _ in range(4):
                await hub.broadcast("x" * 300)


def stall(peer: Peer) -> None:
    """Let the client take nothing more."""
    if peer.carrier is None:
        peer.client.stall()
    else:
        peer.carrier.buffered_bytes = FULL


WAYS = {
    "the client closes": (1001, "away"),
    "the client vanishes": (1006, ""),
    "closed": (4000, "ours"),
    "disconnected": (3503, ""),
    "too large": (1009, "message_bytes"),
    "too many": (1008, "messages_per_s"),
    "idle": (1008, "idle_s"),
    "slow": (3008, "slow"),
}
STRICT = Limits(message_bytes=1_000, messages_per_s=1, message_burst=5, idle_s=60)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("handler", CLOSE_HANDLERS)
async def test_on_close_is_called_once_however_it_ends(
    hub: Hub, carrier: Carrier | None, heard: Heard, clock: ManualClock, how: str, handler: str
) -> None:
    slow = Slow()
    async with user_detached(hub, carrier, slow.message, getattr(heard, handler)) as (connection, peer):
        await ends(how, hub, connection, peer, clock)
        slow.let_go(10)
        await until(lambda: heard.closes)
        await connection.close()
        await turns()
        assert heard.closes == [WAYS[how]]
        assert (connection.close_code, connection.close_reason) == WAYS[how]
        assert dict(hub.connections) == {}


@contextlib.asynccontextmanager
async def user_detached(
    hub: Hub, carrier: Carrier | None, on_message: Any, on_close: Any
) -> AsyncIterator[tuple[Connection, Peer]]:
    """Connect as Ann to an endpoint with strict limits that detaches."""
    returned: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def endpoint(connection: Connection) -> None:
        await connection.accept(user="ann")
        connection.detach(on_message, on_close)
        returned.set_result(connection)

    server = serve(hub, endpoint, limits=STRICT, outbox=Outbox(bytes=1_000))
    async with Client(server) as client, client.connect("/ws", transport=carrier) as ann:
        connection = await returned
        await until(lambda: socket_of(connection) is None)
        await turns(3)  # from the next one on messages go to the handler as they come
        yield connection, Peer(ann, carrier)


@pytest.mark.parametrize("how", WAYS)
async def test_on_close_waits_for_the_handler_that_is_under_way(
    hub: Hub, carrier: Carrier | None, heard: Heard, clock: ManualClock, how: str
) -> None:
    slow = Slow()
    async with user_detached(hub, carrier, slow.message, heard.close) as (connection, peer):
        await peer.send("1")
        await until(lambda: slow.began)
        await ends(how, hub, connection, peer, clock)
        await until(lambda: not connection.is_open)
        await turns()
        assert heard.closes == []
        slow.let_go(10)
        await until(lambda: heard.closes)
        assert heard.closes == [WAYS[how]]
        assert slow.ended == ["1"]


async def test_a_handler_may_close_its_connection(hub: Hub, carrier: Carrier | None, heard: Heard) -> None:
    after: list[bool] = []

    async def close(connection: Connection, message: str) -> None:
        await connection.close(4000, message)
        after.append(connection.is_open)

    async with detached(hub, carrier, close, heard.close) as (_, peer):
        await peer.send("bye", "too late")
        await peer.is_closed(4000, "bye")
        await until(lambda: heard.closes)
        assert (after, heard.closes) == ([False], [(4000, "bye")])


async def test_a_server_that_cancels_the_call_of_the_application_ends_the_connection(hub: Hub, heard: Heard) -> None:
    slow = Slow()
    async with detached(hub, None, slow.message, heard.close) as (connection, peer):
        assert peer.client._task is not None
        peer.client._task.cancel()
        await until(lambda: heard.closes)
        assert heard.closes == [(1006, "")]
        assert not connection.is_open


async def test_its_place_is_taken_until_it_has_ended(hub: Hub, carrier: Carrier | None) -> None:
    returned = asyncio.Event()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        connection.detach()
        returned.set()

    async with Client(serve(hub, endpoint, limits=Limits(connections=1))) as client:
        async with client.connect("/ws", transport=carrier):
            await returned.wait()
            await turns()
            assert (await client.refused("/ws")).json()["limit"] == "connections"
        async with client.connect("/ws"):
            await until(lambda: hub.connections)


async def test_what_the_client_sent_before_it_closed_is_handled_first(
    hub: Hub, carrier: Carrier | None, heard: Heard
) -> None:
    slow = Slow()
    async with detached(hub, carrier, slow.message, heard.close) as (_, peer):
        await peer.send("1", "2", "3")
        await until(lambda: hub.statistics().messages_received == 3)
        await peer.leave()
        await until(lambda: not hub.connections)
        slow.let_go(2)
        await until(lambda: slow.ended == ["1", "2"])
        await turns()
        assert heard.closes == []
        slow.let_go()
        await until(lambda: heard.closes)
        assert slow.ended == ["1", "2", "3"]


@pytest.mark.parametrize("handler", CLOSE_HANDLERS)
@pytest.mark.parametrize("leaves", [True, False], ids=["the client", "the endpoint"])
async def test_on_close_is_called_for_one_that_had_ended_when_it_was_detached(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str, leaves: bool
) -> None:
    accepted = asyncio.Event()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        accepted.set()
        if leaves:
            await until(lambda: not connection.is_open)
        else:
            await connection.close(1001, "away")
        connection.detach(heard.message, getattr(heard, handler))

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier) as ann:
        await accepted.wait()
        if leaves:
            await Peer(ann, carrier).leave(1001, "away")
        await until(lambda: heard.closes)
        await turns()
    assert heard.closes == [(1001, "away")]


async def test_on_close_is_called_when_the_hub_ends(hub: Hub, carrier: Carrier | None, heard: Heard) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        connection.detach(on_close=heard.close_async)

    async with Client(serve(hub, endpoint, lifespan=None)) as client:
        async with hub:
            ann = await client.connect("/ws", transport=carrier).__aenter__()
            await until(lambda: hub.connections)
        await Peer(ann, carrier).is_closed(1012)
        await until(lambda: heard.closes)
        await turns()
    assert heard.closes == [(1012, "")]


async def test_the_end_of_a_hub_waits_for_handlers_and_cancels_those_that_go_on(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_HANDLERS_DEADLINE_S", 0.05)
    ended: list[str] = []
    for_ever = asyncio.Event()

    async def close(connection: Connection, code: int, reason: str) -> None:
        await turns()
        ended.append("on_close")

    async def stay(connection: Connection, message: str) -> None:
        try:
            await for_ever.wait()
        finally:
            ended.append("on_message")

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        connection.detach(stay, close)

    async with Client(serve(hub, endpoint, lifespan=None)) as client:
        async with hub:
            busy = await client.connect("/ws").__aenter__()
            await client.connect("/ws").__aenter__()
            await busy.send("work")
            await until(lambda: hub.statistics().messages_received)
            await turns()
        assert ended == ["on_close", "on_message"]


@pytest.mark.parametrize("kind", CLOSE_HANDLERS)
async def test_what_on_close_raises_is_logged(
    hub: Hub, carrier: Carrier | None, heard: Heard, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: Connection, code: int, reason: str) -> Awaitable[None] | None:
        if kind == "close":
            raise ValueError("wrong")
        return fail_later()

    async def fail_later() -> None:
        raise ValueError("wrong")

    async with detached(hub, carrier, on_close=fail) as (connection, peer):
        await peer.leave()
        await until(lambda: "wrong" in caplog.text)
        assert connection.id in caplog.text


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ValueError("wrong"), 1011, ""),
        (HTTPException(403, "forbidden"), 1008, "forbidden"),
        (Denied("no", limit="mine"), 1008, "mine"),
    ],
    ids=["an error", "an HTTPException", "a Denied"],
)
async def test_an_endpoint_that_raises_after_it_has_detached_closes(
    hub: Hub, carrier: Carrier | None, heard: Heard, error: Exception, code: int, reason: str
) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        connection.detach(heard.message, heard.close)
        raise error

    async with Client(serve(hub, endpoint), raise_app_exceptions=False) as client:
        ann = await client.connect("/ws", transport=carrier).__aenter__()
        await Peer(ann, carrier).is_closed(code, reason)
        await until(lambda: heard.closes)
        await turns()
    assert heard.closes == [(code, reason)]


# Its limits


@pytest.mark.parametrize("how", ["too large", "too many", "idle"])
async def test_the_limits_go_on(hub: Hub, carrier: Carrier | None, heard: Heard, clock: ManualClock, how: str) -> None:
    async with user_detached(hub, carrier, heard.message, heard.close) as (connection, peer):
        await ends(how, hub, connection, peer, clock)
        await peer.is_closed(*WAYS[how])
        assert hub.statistics().violations == {WAYS[how][1]: 1}
        assert len(heard.messages) == (5 if how == "too many" else 0)


async def test_the_first_message_has_to_come_in_time(
    hub: Hub, carrier: Carrier | None, heard: Heard, clock: ManualClock
) -> None:
    async with detached(hub, carrier, heard.message, heard.close, limits=Limits(first_message_s=5)) as (_, peer):
        clock.advance(5)
        await peer.is_closed(1008, "first_message_s")


async def test_one_that_talks_is_not_idle(hub: Hub, carrier: Carrier | None, heard: Heard, clock: ManualClock) -> None:
    limits = Limits(first_message_s=5, idle_s=10)
    async with detached(hub, carrier, heard.message, heard.close, limits=limits) as (connection, peer):
        for count in range(1, 6):
            clock.advance(4)
            await peer.send("x")
            await until(lambda count=count: len(heard.messages) == count)
        clock.advance(9)
        assert connection.is_open
        clock.advance(1)
        await peer.is_closed(1008, "idle_s")


# What is let go of


async def test_what_the_endpoint_had_is_gone_and_what_the_connection_is_stays(
    hub: Hub, carrier: Carrier | None
) -> None:
    async def prepare(connection: Connection) -> None:
        connection.state.name = "Ann"
        assert connection.headers["x-name"] == "ann"

    returned: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def endpoint(connection: Connection) -> None:
        await connection.accept(user="ann")
        await prepare(connection)
        connection.detach()
        assert socket_of(connection) is not None
        assert connection.query_params["q"] == "1"
        returned.set_result(connection)

    async with (
        Client(serve(hub, endpoint), client=("203.0.113.7", 4711)) as client,
        client.connect("/ws?q=1", headers={"X-Name": "ann"}, transport=carrier) as ann,
    ):
        connection = await returned
        identity = connection.id
        await until(lambda: socket_of(connection) is None)
        uses: list[Callable[[], object]] = [
            lambda: connection.websocket,
            lambda: connection.headers,
            lambda: connection.query_params,
            lambda: connection.path_params,
        ]
        for use in uses:
            with pytest.raises(RuntimeError, match=r"detached.*connection\.state"):
                use()
        assert (connection.id, connection.user, connection.close_code) == (identity, "ann", None)
        assert connection.client is not None
        assert (connection.client.host, connection.client.port) == ("203.0.113.7", 4711)
        assert connection.state.name == "Ann"
        assert identity in repr(connection)
        await Peer(ann, carrier).leave(1001, "away")
        await until(lambda: not connection.is_open)
        assert (connection.close_code, connection.close_reason) == (1001, "away")
        assert (connection.user, connection.state.name) == ("ann", "Ann")


async def test_it_is_gone_too_when_the_client_has_left_before_the_endpoint_returned(
    hub: Hub, carrier: Carrier | None, heard: Heard
) -> None:
    detached: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        connection.detach(on_close=heard.close)
        detached.set_result(connection)
        await until(lambda: heard.closes)

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier) as ann:
        connection = await detached
        await Peer(ann, carrier).leave()
        await until(lambda: socket_of(connection) is None)
        assert heard.closes == [(1001, "")]


async def test_the_state_that_middleware_has_set_stays_although_nobody_has_looked(
    hub: Hub, carrier: Carrier | None
) -> None:
    returned: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def endpoint(connection: Connection) -> None:
        connection.websocket.scope["state"]["name"] = "Ann"
        await connection.accept()
        connection.detach()
        returned.set_result(connection)

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier):
        connection = await returned
        await until(lambda: socket_of(connection) is None)
        assert connection.state.name == "Ann"
        connection.state.more = 1
        assert connection.state.more == 1


class Belonging:
    """Something that an endpoint has, and one can see whether anybody keeps it."""


@pytest.mark.parametrize("handler", MESSAGE_HANDLERS)
async def test_nothing_of_the_endpoint_is_kept(hub: Hub, heard: Heard, handler: str) -> None:
    kept: list[weakref.ref[Any]] = []

    async def resource() -> AsyncIterator[Belonging]:
        yield Belonging()

    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def route(
        connection: Annotated[Connection, Depends(hub)], belonging: Annotated[Belonging, Depends(resource)]
    ) -> None:
        await connection.accept()
        task = asyncio.current_task()
        connection.websocket.scope["belonging"] = own = Belonging()
        kept.extend(weakref.ref(thing) for thing in (belonging, own, connection.websocket, task))
        connection.detach(getattr(heard, handler), heard.close)

    carrier = Carrier()
    async with Client(Server(app)) as client, client.connect("/ws", transport=carrier) as ann:
        await until(lambda: len(kept) == 4)
        task, ann._task = ann._task, None
        assert task is not None
        await task
        scope, ann._scope = ann._scope, {"path": "/ws"}
        del task, scope
        carrier.receive("1")
        await until(lambda: heard.messages)
        await turns()
        gc.collect()
        assert [reference() for reference in kept] == [None] * 4
        assert len(hub.connections) == 1


@pytest.mark.parametrize("how", ["closed", "lost", "failed"])
@pytest.mark.parametrize("handler", MESSAGE_HANDLERS)
async def test_nothing_keeps_a_connection_that_has_ended(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str, how: str
) -> None:
    gone: list[weakref.ref[Any]] = []
    closed = asyncio.Event()

    async def on_close(connection: Connection, code: int, reason: str) -> None:
        closed.set()

    async def on_message(connection: Connection, message: str) -> None:
        if message == "fail":
            raise WebSocketDisconnect(1000)
        await connection.send(message)

    async def endpoint(connection: Connection) -> None:
        await connection.join("room")
        connection.detach(on_message, on_close)
        gone.append(weakref.ref(connection))

    async with Client(serve(hub, endpoint)) as client:
        async with client.connect("/ws", transport=carrier) as ann:
            peer = Peer(ann, carrier)
            await until(lambda: gone)
            await peer.send("hello")
            await peer.hears("hello")
            if how == "failed":
                await peer.send("fail")
            elif how == "closed":
                await hub.connections[next(iter(hub.connections))].close()
            else:
                await peer.leave()
            await closed.wait()
        client._connections.clear()
        del ann, peer
        if carrier is not None:
            carrier._user = None
        await turns()
        gc.collect()
        assert gone[0]() is None
        now = hub.statistics()
        assert (now.connections, now.channels, now.queued_bytes) == (0, 0, 0)


# What is a mistake


async def test_to_receive_from_one_that_is_detached_is_an_error(hub: Hub, carrier: Carrier | None) -> None:
    slow = Slow()
    tried = asyncio.Event()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        connection.detach(slow.message)
        await until(lambda: hub.statistics().messages_received == 3)
        for use in (
            connection.receive,
            lambda: anext(aiter(connection)),
            lambda: connection.websocket.receive(),
            lambda: connection.websocket.receive_text(),
        ):
            with pytest.raises(RuntimeError, match=r"detached.*on_message"):
                await use()
        tried.set()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier) as ann:
        await until(lambda: hub.connections)
        peer = Peer(ann, carrier)
        await peer.send("1", "2", "3")
        await tried.wait()
        slow.let_go(3)
        await until(lambda: slow.ended == ["1", "2", "3"])


async def test_to_detach_twice_is_an_error_and_changes_nothing(hub: Hub, carrier: Carrier | None, heard: Heard) -> None:
    other = Heard()

    async def prepare(connection: Connection) -> None:
        connection.detach(heard.message, heard.close)
        with pytest.raises(RuntimeError, match="detached already"):
            connection.detach(other.message, other.close)

    done = asyncio.Event()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        await prepare(connection)
        done.set()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier) as ann:
        await done.wait()
        peer = Peer(ann, carrier)
        await peer.send("1")
        await until(lambda: heard.messages)
        await peer.leave()
        await until(lambda: heard.closes)
    assert (other.messages, other.closes) == ([], [])


async def test_to_detach_before_the_acceptance_is_an_error(hub: Hub, carrier: Carrier | None) -> None:
    async def endpoint(connection: Connection) -> None:
        with pytest.raises(RuntimeError, match="not accepted yet"):
            connection.detach()
        await connection.send("still there")

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier) as ann:
        await Peer(ann, carrier).hears("still there")


async def test_to_detach_while_a_task_receives_is_an_error(hub: Hub, carrier: Carrier | None) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        receiving = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="receiving"):
            connection.detach()
        receiving.cancel()
        await asyncio.wait([receiving])
        connection.detach()
        await connection.send("detached")

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier) as ann:
        await Peer(ann, carrier).hears("detached")
        assert len(hub.connections) == 1


async def test_to_detach_in_plain_starlette_on_a_server_of_others_is_an_error(hub: Hub) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        connection = await hub(websocket)
        await connection.accept()
        with pytest.raises(RuntimeError, match="FastAPI route"):
            connection.detach()
        await connection.send("still there")
        await connection.receive()

    app = Starlette(routes=[WebSocketRoute("/ws", endpoint)])
    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_received("still there")
        await ann.send("bye")


async def test_plain_starlette_detaches_on_a_transport_of_ours(hub: Hub, heard: Heard) -> None:
    returned = asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        connection = await hub(websocket)
        await connection.accept()
        connection.detach(heard.message, heard.close)
        returned.set()

    carrier = Carrier()
    app = Server(Starlette(routes=[WebSocketRoute("/ws", endpoint)]))
    async with Client(app) as client, client.connect("/ws", transport=carrier):
        await returned.wait()
        await turns()
        (connection,) = hub.connections.values()
        assert socket_of(connection) is None
        carrier.receive("1")
        await until(lambda: heard.messages == ["1"])
        carrier.lose(1001)
        await until(lambda: heard.closes == [(1001, "")])


@pytest.mark.parametrize(("detaches", "fails", "code"), [(True, True, 1011), (False, False, 1000), (False, True, 1011)])
async def test_plain_starlette_ends_the_connection_where_it_has_failed_or_not_detached(
    hub: Hub, heard: Heard, detaches: bool, fails: bool, code: int
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        connection = await hub(websocket)
        await connection.accept()
        if detaches:
            connection.detach(heard.message, heard.close)
        if fails:
            raise ValueError("wrong")

    carrier = Carrier()
    app = Server(Starlette(routes=[WebSocketRoute("/ws", endpoint)]))
    async with Client(app, raise_app_exceptions=False) as client:
        await client.connect("/ws", transport=carrier).__aenter__()
        await until(lambda: carrier.closed is not None)
        await turns()
    assert carrier.closed == (code, "")
    assert heard.closes == [(code, "")] * detaches


# A send after the end


@pytest.mark.parametrize("earlier", [0, 1, 2], ids=["the first", "the second", "the third"])
async def test_a_handler_hears_of_the_end_by_its_own_send(
    hub: Hub, carrier: Carrier | None, heard: Heard, caplog: pytest.LogCaptureFixture, earlier: int
) -> None:
    slow = Slow()
    outcomes: list[object] = []

    async def handler(connection: Connection, message: str) -> None:
        await slow.message(connection, message)
        if len(slow.ended) <= earlier:
            return
        try:
            await connection.send("too late")
            outcomes.append("sent")
        except WebSocketDisconnect as ended:
            outcomes.append(ended.code)
            raise

    async with detached(hub, carrier, handler, heard.close) as (connection, peer):
        await peer.send(*(str(number) for number in range(earlier + 1)))
        await until(lambda: hub.statistics().messages_received == earlier + 1)
        await peer.leave(1001)
        await until(lambda: not connection.is_open)
        slow.let_go(earlier + 1)
        await until(lambda: heard.closes)
        assert outcomes == [1001]
        assert hub.statistics().undelivered == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_task_that_a_handler_has_started_hears_of_the_end_too(
    hub: Hub, carrier: Carrier | None, kind: str
) -> None:
    gate = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def later(connection: Connection) -> None:
        await gate.wait()
        await connection.send("too late")

    def handler(connection: Connection, message: str) -> None:
        tasks.append(asyncio.create_task(later(connection)))

    async def handler_async(connection: Connection, message: str) -> None:
        handler(connection, message)

    async with detached(hub, carrier, handler if kind == "sync" else handler_async) as (connection, peer):
        await peer.send("1")
        await until(lambda: tasks)
        await peer.leave()
        await until(lambda: not connection.is_open)
        gate.set()
        await asyncio.wait(tasks)
        assert isinstance(tasks[0].exception(), WebSocketDisconnect)


async def test_the_handler_of_another_connection_is_anybody_else(hub: Hub) -> None:
    sent = asyncio.Event()
    others: list[Connection] = []

    async def tell_the_others(connection: Connection, message: str) -> None:
        for other in others:
            if other is not connection:
                await other.send(message)
        sent.set()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        others.append(connection)
        connection.detach(tell_the_others)

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        async with client.connect("/ws"):
            await until(lambda: len(others) == 2)
        await until(lambda: len(hub.connections) == 1)
        await ann.send("anybody there?")
        await sent.wait()
        assert hub.statistics().undelivered == 1
        assert others[0].is_open


@pytest.mark.parametrize("handler", ["message", "close"])
async def test_handlers_do_not_run_as_the_endpoint_of_whoever_has_ended_the_connection(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str
) -> None:
    """A send to one that is gone must not raise in a handler because that one's endpoint has led to the call."""
    outcomes: list[str] = []
    victims: list[Connection] = []

    async def send_to_the_other(connection: Connection, *rest: object) -> None:
        await connection.state.other.send("x")
        outcomes.append("no error")

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        if not victims:
            connection.detach(on_close=send_to_the_other)
            victims.append(connection)
            return
        victims[0].state.other = connection
        await connection.close()
        await victims[0].close()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier):
        await until(lambda: victims)
        async with client.connect("/ws"):
            await until(lambda: outcomes)
    assert outcomes == ["no error"]


# Cancellations


@pytest.mark.parametrize("earlier", [0, 1], ids=["the first", "the second"])
async def test_a_handler_that_cancels_itself_hears_it_where_it_waits_and_that_ends_the_connection(
    hub: Hub, carrier: Carrier | None, heard: Heard, caplog: pytest.LogCaptureFixture, earlier: int
) -> None:
    cancelled: list[str] = []

    async def handler(connection: Connection, message: str) -> None:
        if message != "cancel":
            return
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(message)
            raise

    async with detached(hub, carrier, handler, heard.close_async) as (connection, peer):
        await peer.send(*["before"] * earlier)
        await until(lambda: hub.statistics().messages_received == earlier)
        await turns()
        await peer.send("cancel", "after")
        await until(lambda: heard.closes)
        assert not connection.is_open
        await turns()
    assert (cancelled, heard.closes) == (["cancel"], [(1006, "")])
    assert dict(hub.connections) == {}
    assert caplog.text == ""


async def test_a_handler_that_is_cancelled_from_outside_ends_the_connection_and_stays_cancelled(
    hub: Hub, carrier: Carrier | None, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow()
    tasks: list[asyncio.Task[Any] | None] = []

    async def handler(connection: Connection, message: str) -> None:
        tasks.append(asyncio.current_task())
        await slow.message(connection, message)

    async with detached(hub, carrier, handler, heard.close_async) as (connection, peer):
        await peer.send("1", "2")
        await until(lambda: tasks and hub.statistics().messages_received == 2)
        (task,) = tasks
        assert task is not None
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not connection.is_open
        await until(lambda: heard.closes)
        await turns()
    assert (slow.began, slow.ended, heard.closes) == (["1"], [], [(1006, "")])
    assert hub.statistics().discarded == 1
    assert caplog.text == ""


# What handlers return


@pytest.mark.parametrize("returned", [5, "", [None], asyncio.sleep], ids=["5", "text", "a list", "a function"])
async def test_a_message_handler_that_returns_what_cannot_be_awaited_is_told_so(
    hub: Hub, carrier: Carrier | None, heard: Heard, caplog: pytest.LogCaptureFixture, returned: object
) -> None:
    async with detached(hub, carrier, lambda connection, message: returned, heard.close) as (_, peer):
        await peer.send("1")
        await peer.is_closed(1011)
        await until(lambda: heard.closes)
    assert f"TypeError: on_message returned {returned!r}: return None or an awaitable" in caplog.text


async def test_a_close_handler_that_returns_what_cannot_be_awaited_is_told_so(
    hub: Hub, carrier: Carrier | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with detached(hub, carrier, on_close=lambda connection, code, reason: code) as (_, peer):
        await peer.leave(1001)
        await until(lambda: "TypeError: on_close returned 1001: return None or an awaitable" in caplog.text)


# Where tasks begin at once


@pytest.fixture
async def eagerly() -> None:
    """Let the loop's tasks begin at once."""
    if sys.version_info < (3, 12):
        pytest.skip("eager task factories came with Python 3.12")
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)


def hub_calls() -> set[str]:
    """Return the functions of the package that have led to this call."""
    package = str(Path(hubbub.__file__).parent)
    return {frame.name for frame in traceback.extract_stack() if frame.filename.startswith(package)}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", CLOSE_HANDLERS)
async def test_on_close_never_runs_inside_the_call_that_ends_the_connection(
    hub: Hub, carrier: Carrier | None, clock: ManualClock, how: str, kind: str
) -> None:
    calls: list[set[str]] = []
    slow = Slow()
    slow.let_go(10)

    def on_close(connection: Connection, code: int, reason: str) -> Awaitable[None] | None:
        calls.append(hub_calls())
        return None if kind == "close" else asyncio.sleep(0)

    async with user_detached(hub, carrier, slow.message, on_close) as (connection, peer):
        await ends(how, hub, connection, peer, clock)
        await until(lambda: calls)
        await turns()
    assert calls == [{"_call_closed", "closed"}]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("handler", MESSAGE_HANDLERS)
async def test_messages_go_to_the_handler_in_order_also_there(
    hub: Hub, carrier: Carrier | None, heard: Heard, handler: str
) -> None:
    async with detached(hub, carrier, getattr(heard, handler), heard.close_async) as (connection, peer):
        await peer.send("1", "2", "3")
        await until(lambda: len(heard.messages) == 3)
        await connection.send("4")
        await connection.send("5")
        await peer.hears("4", "5")
        await peer.leave(1001)
        await until(lambda: heard.closes)
    assert (heard.messages, heard.closes) == (["1", "2", "3"], [(1001, "")])


# What a hub asks of its transports


async def test_the_settings_of_the_hub_reach_the_transport() -> None:
    hub = Hub(
        heartbeat=Heartbeat(interval_s=7, timeout_s=3),
        drain=Drain(window_s=2, batch=5),
        limits=Limits(message_bytes=1_234, message_fragments=9),
    )
    carrier = Carrier()
    async with detached(hub, carrier):
        assert carrier.settings == TransportSettings(
            message_bytes=1_234,
            message_fragments=9,
            heartbeat=Heartbeat(interval_s=7, timeout_s=3),
            drain=Drain(window_s=2, batch=5),
        )


async def test_the_limits_of_an_endpoint_reach_the_transport(hub: Hub) -> None:
    carrier = Carrier()
    async with detached(hub, carrier, limits=Limits(message_bytes=None, message_fragments=2)):
        assert carrier.settings == TransportSettings(message_bytes=None, message_fragments=2)


@pytest.mark.parametrize(("name", "kind"), [("heartbeat", "Heartbeat"), ("drain", "Drain")])
@pytest.mark.parametrize("value", [None, 25, {}])
def test_a_setting_of_another_kind_is_refused(name: str, kind: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"{name}={kind}\("):
        Hub(**{name: value})


async def test_the_round_trip_is_what_the_transport_has_measured(hub: Hub) -> None:
    carrier = Carrier()
    before: list[float | None] = []

    async def endpoint(connection: Connection) -> None:
        before.append(connection.round_trip_s)
        await connection.accept()
        connection.detach()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=carrier):
        await until(lambda: hub.connections)
        (connection,) = hub.connections.values()
        assert (before, connection.round_trip_s) == ([None], None)
        carrier.round_trip_s = 0.125
        assert connection.round_trip_s == 0.125
        carrier.lose()
        assert connection.round_trip_s == 0.125
