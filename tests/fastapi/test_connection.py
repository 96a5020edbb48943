"""The connection that an endpoint gets: its handshake, its messages, and their types."""

import asyncio
import dataclasses
import datetime
import json
import math
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from types import FunctionType
from typing import Annotated, Any, Literal, NewType

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from pydantic import BaseModel, Discriminator, Field, Tag
from starlette.websockets import WebSocketDisconnect
from typing_extensions import TypeAliasType, TypedDict

from hubbub import Connection, Denied, Hub, InvalidMessage, Limits, Outbox
from hubbub.testing import Client, ManualClock, RecordingTransport, Refused

Event = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]
Endpoint = Callable[[Connection], Awaitable[None]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hub(clock: ManualClock) -> Hub:
    return Hub(clock=clock)


def serve(hub: Hub, endpoint: Endpoint, *, debug: bool = False, **settings: Any) -> FastAPI:
    """Return an application whose `/ws` is `endpoint`, called with the connection alone."""
    app = FastAPI(lifespan=hub.lifespan, debug=debug)
    dependency = hub.connection(**settings) if settings else hub

    @app.websocket("/ws")
    async def route(connection: Annotated[Connection, Depends(dependency)]) -> None:
        await endpoint(connection)

    return app


class Gate:
    """Around an application: holds acceptances back until it is opened, and counts them."""

    def __init__(self, app: App, error: Exception | None = None) -> None:
        self.app = app
        self.accepts = 0
        self.reached = asyncio.Event()
        self.is_open = asyncio.Event()
        self.error = error

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:
        async def hold(event: Event) -> None:
            if event["type"] == "websocket.accept":
                self.accepts += 1
                self.reached.set()
                await self.is_open.wait()
                if self.error is not None:
                    raise self.error
            await send(event)

        await self.app(scope, receive, hold)


async def turns(number: int = 10) -> None:
    """Let every task that can go on do so."""
    for _ in range(number):
        await asyncio.sleep(0)


async def refusal(client: Client, path: str = "/ws", **handshake: Any) -> Refused:
    """Return how the handshake is refused."""
    with pytest.raises(Refused) as refused:
        await client.connect(path, **handshake).__aenter__()
    return refused.value


async def converse(app: App, *messages: Any) -> tuple[list[Any], int]:
    """Connect, send all, and return what came until the application closed, and with which code.

    Raises what the endpoint raised. A refused handshake is a close with 0.
    """
    received: list[Any] = []
    async with Client(app) as client:
        try:
            ann = await client.connect("/ws").__aenter__()
            for message in messages:
                await ann.send(message)
            while True:
                received.append(await ann.receive())
        except Refused:
            code = 0
        except WebSocketDisconnect as ended:
            code = ended.code
    return received, code


# Acceptance


FIRST_USES: dict[str, Endpoint] = {
    "send": lambda connection: connection.send("first"),
    "receive": lambda connection: connection.receive(),
    "iterate": lambda connection: anext(aiter(connection)),  # type: ignore[arg-type]
    "join": lambda connection: connection.join("room"),
    "accept": lambda connection: connection.accept(),
}


@pytest.mark.parametrize("use", FIRST_USES.values(), ids=FIRST_USES.keys())
async def test_the_first_use_accepts_and_registers(hub: Hub, use: Endpoint) -> None:
    registered = asyncio.get_running_loop().create_future()

    async def endpoint(connection: Connection) -> None:
        assert not hub.connections
        await use(connection)
        registered.set_result(dict(hub.connections))
        await connection.receive()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.send("one")
        await ann.send("two")
        assert len(await registered) == 1
        assert hub.statistics().accepted == 1


async def test_leaving_a_channel_and_looking_at_the_connection_do_not_accept(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.leave("room")
        assert connection.channels == frozenset()
        assert "connecting" in repr(connection)

    async with Client(serve(hub, endpoint)) as client:
        await refusal(client)
    assert hub.statistics().accepted == 0


async def test_headers_that_cannot_be_sent_are_an_error_and_the_handshake_can_still_be_answered(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        with pytest.raises(ValueError, match="latin-1"):
            await connection.accept(headers={"X-Name": "雪"})
        await connection.accept()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_closed(1000)


async def test_an_accepted_subprotocol_reaches_the_client(hub: Hub) -> None:
    async with (
        Client(serve(hub, lambda connection: connection.accept(subprotocol="v2"))) as client,
        client.connect("/ws", subprotocols=["v1", "v2"]) as ann,
    ):
        assert ann.subprotocol == "v2"


@pytest.mark.parametrize("offered", [[], ["v1"]], ids=["nothing offered", "another offered"])
async def test_a_subprotocol_that_was_not_offered_is_an_error_and_another_can_still_be_accepted(
    hub: Hub, offered: list[str]
) -> None:
    async def endpoint(connection: Connection) -> None:
        with pytest.raises(ValueError, match="v2"):
            await connection.accept(subprotocol="v2")
        assert not hub.connections
        await connection.accept()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", subprotocols=offered) as ann:
        assert ann.subprotocol is None


@pytest.mark.parametrize(
    "headers",
    [{"Set-Cookie": "a=1", "X-Name": "Zoë"}, [(b"set-cookie", b"a=1"), (b"x-name", "Zoë".encode("latin-1"))]],
    ids=["mapping", "pairs"],
)
async def test_headers_of_the_acceptance_reach_the_client(hub: Hub, headers: Any) -> None:
    async with (
        Client(serve(hub, lambda connection: connection.accept(headers=headers))) as client,
        client.connect("/ws") as ann,
    ):
        assert ann.accept_headers == [(b"set-cookie", b"a=1"), (b"x-name", b"Zo\xeb")]


async def test_two_cookies_are_two_pairs(hub: Hub) -> None:
    pairs = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    async with (
        Client(serve(hub, lambda connection: connection.accept(headers=iter(pairs)))) as client,
        client.connect("/ws") as ann,
    ):
        assert ann.accept_headers == pairs


async def test_the_user_given_at_accept_hears_what_is_sent_to_that_user(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept(user="ann")
        assert connection.user == "ann"
        await hub.send("ann", "hello ann")
        await hub.send("bob", "hello bob")

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("hello ann")
        await ann.assert_closed(1000)


async def test_accepting_without_a_user_keeps_the_one_that_a_dependency_has_set(hub: Hub) -> None:
    async def authenticated(connection: Annotated[Connection, Depends(hub)]) -> Connection:
        connection.user = "ann"
        return connection

    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(authenticated)]) -> None:
        await connection.accept()
        await connection.send(connection.user)

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_received("ann")


@pytest.mark.parametrize("user", ["", 1, b"ann"])
async def test_a_user_is_a_non_empty_str(hub: Hub, user: Any) -> None:
    async def endpoint(connection: Connection) -> None:
        with pytest.raises(ValueError, match="non-empty str"):
            connection.user = user
        with pytest.raises(ValueError, match="non-empty str"):
            await connection.accept(user=user)
        assert connection.user is None
        await connection.accept()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_closed(1000)


async def test_the_user_is_settled_once_accepted(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept(user="ann")
        with pytest.raises(RuntimeError, match="settled"):
            connection.user = "bob"
        with pytest.raises(RuntimeError, match="settled"):
            connection.user = None
        assert connection.user == "ann"

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_closed(1000)


async def test_concurrent_first_uses_accept_once_and_keep_their_order(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await asyncio.gather(connection.send("a"), connection.send("b"), connection.join("room"), connection.send("c"))
        assert connection.channels == {"room"}

    app = Gate(serve(hub, endpoint))
    async with Client(app) as client:
        connecting = asyncio.create_task(client.connect("/ws").__aenter__())
        await app.reached.wait()
        await turns()
        app.is_open.set()
        ann = await connecting
        await ann.assert_received("a", "b", "c")
    assert app.accepts == 1


async def test_accept_while_another_task_accepts_is_an_error(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        first = asyncio.create_task(connection.accept())
        await app.reached.wait()
        with pytest.raises(RuntimeError, match="already"):
            await connection.accept()
        app.is_open.set()
        await first

    app = Gate(serve(hub, endpoint))
    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_closed(1000)
    assert app.accepts == 1


@pytest.mark.parametrize("error", [OSError("gone"), ConnectionResetError("gone")])
async def test_a_client_that_is_gone_when_it_is_accepted_is_a_disconnect_for_all_who_wait(
    hub: Hub, error: Exception
) -> None:
    seen: list[BaseException] = []

    async def endpoint(connection: Connection) -> None:
        uses = (connection.send("x"), connection.receive(), connection.join("room"))
        seen.extend(await asyncio.gather(*uses, return_exceptions=True))

    app = Gate(serve(hub, endpoint, limits=Limits(connections=1)), error)
    app.is_open.set()
    async with Client(app) as client:
        for _ in range(2):  # the first one must not be counted any more
            await refusal(client)
    assert [type(error) for error in seen if not isinstance(error, WebSocketDisconnect)] == []
    assert [error.code for error in seen] == [1006] * 6  # type: ignore[attr-defined]
    assert not hub.connections


async def test_a_fault_of_the_server_while_accepting_reaches_the_caller(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        with pytest.raises(ZeroDivisionError):
            await connection.accept()
        with pytest.raises(WebSocketDisconnect):
            await connection.send("x")

    app = Gate(serve(hub, endpoint), ZeroDivisionError())
    app.is_open.set()
    async with Client(app) as client:
        await refusal(client)
    assert app.accepts == 1


async def test_a_cancelled_acceptance_leaves_nothing_behind(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        accepting = asyncio.create_task(connection.accept())
        await app.reached.wait()
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        with pytest.raises(WebSocketDisconnect):
            await connection.receive()

    app = Gate(serve(hub, endpoint, limits=Limits(connections=1)))
    async with Client(app) as client:
        for _ in range(2):  # the first one must not be counted any more
            await refusal(client)
            app.reached.clear()
    assert hub.statistics().accepted == 0


async def test_accepting_twice_is_an_error_and_the_connection_goes_on(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.send("one")
        with pytest.raises(RuntimeError, match="already"):
            await connection.accept()
        await connection.send("two")

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("one", "two")


async def test_a_raw_accept_before_the_hubs_is_an_error_that_says_what_to_do(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.websocket.accept()
        with pytest.raises(RuntimeError, match=r"connection\.accept\(\) once, and not websocket\.accept\(\)"):
            await connection.send("x")
        assert not hub.connections

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.close()


async def test_accepting_after_a_raw_refusal_is_an_error(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.websocket.close(1008)
        with pytest.raises(RuntimeError, match="already"):
            await connection.accept()

    async with Client(serve(hub, endpoint)) as client:
        await refusal(client)
    assert hub.statistics().accepted == 0


async def test_fan_out_reaches_accepted_connections_only(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        connection.user = "ann"
        await hub.broadcast("too early")
        await hub.send("ann", "too early")
        assert not hub.connections
        await connection.accept()
        await hub.broadcast("in time")
        await hub.send("ann", "in time for ann")

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("in time", "in time for ann")
        await ann.assert_closed(1000)


async def test_a_limit_reached_at_accept_can_be_answered_by_the_endpoint(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        try:
            await connection.accept(user="ann")
        except Denied as denied:
            await connection.accept(user="guest")
            await connection.send(denied.limit)
        await connection.send(connection.user)
        await connection.receive()

    app = serve(hub, endpoint, limits=Limits(connections_per_user=1))
    async with Client(app) as client, client.connect("/ws") as first, client.connect("/ws") as second:
        await first.assert_received("ann")
        await second.assert_received("connections_per_user", "guest")


# What is known of a connection


async def test_a_connection_knows_its_handshake(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws/{number}")
    async def endpoint(websocket: WebSocket, number: int, connection: Annotated[Connection, Depends(hub)]) -> None:
        connection.state.mine = "kept"
        assert connection.websocket is websocket
        await connection.send(
            {
                "header": connection.headers["x-name"],
                "query": connection.query_params.getlist("q"),
                "path": dict(connection.path_params),
                "client": connection.client,
                "state": websocket.state.mine,
                "user": connection.user,
            }
        )

    async with (
        Client(app) as client,
        client.connect("/ws/7?q=1&q=2", headers={"X-Name": "ann"}, client=("192.0.2.1", 4)) as ann,
    ):
        await ann.assert_received(
            {
                "header": "ann",
                "query": ["1", "2"],
                "path": {"number": "7"},
                "client": ["192.0.2.1", 4],
                "state": "kept",
                "user": None,
            }
        )


async def test_a_client_without_an_address_can_connect(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.send(connection.client)

    async with Client(serve(hub, endpoint), client=None) as client, client.connect("/ws") as ann:
        await ann.assert_received(None)


async def test_ids_differ_and_name_the_connection_in_the_hub(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        assert hub.connections[connection.id] is connection
        assert connection.id in repr(connection)
        await connection.send(connection.id)
        await connection.receive()

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann, client.connect("/ws") as bob:
        assert {await ann.receive(), await bob.receive()} == set(hub.connections)


async def test_a_connection_says_whether_it_is_open_and_how_it_has_ended(hub: Hub) -> None:
    seen: list[Any] = []

    async def endpoint(connection: Connection) -> None:
        seen.append((connection.is_open, connection.close_code, connection.close_reason))
        await connection.accept()
        seen.append((connection.is_open, connection.close_code, connection.close_reason))
        await connection.close(4000, "over")
        seen.append((connection.is_open, connection.close_code, connection.close_reason))

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_closed(4000)
    assert seen == [(False, None, ""), (True, None, ""), (False, 4000, "over")]


# Messages


class Note(BaseModel):
    text: str = Field(alias="theText")
    at: datetime.date


@dataclasses.dataclass
class Point:
    x: int
    y: float


SENT: dict[str, tuple[Any, str | bytes]] = {
    "text": ("hello", "hello"),
    "text that looks like JSON": ('{"a": 1}', '{"a": 1}'),
    "empty text": ("", ""),
    "astral text": ("ü😀", "ü😀"),
    "bytes": (b"\x00\xff", b"\x00\xff"),
    "empty bytes": (b"", b""),
    "bytearray": (bytearray(b"abc"), b"abc"),
    "memoryview": (memoryview(b"abc"), b"abc"),
    "dict": ({"a": [1, None, True]}, '{"a":[1,null,true]}'),
    "list": ([1, "ü"], '[1,"ü"]'),
    "tuple": ((1, 2), "[1,2]"),
    "number": (7, "7"),
    "none": (None, "null"),
    "false": (False, "false"),
    "not a number": ({"x": math.nan, "y": -math.inf}, '{"x":null,"y":null}'),
    "model": (Note(theText="hi", at=datetime.date(2026, 1, 2)), '{"theText":"hi","at":"2026-01-02"}'),
    "models in a list": ([Note(theText="hi", at=datetime.date(2026, 1, 2))], '[{"theText":"hi","at":"2026-01-02"}]'),
    "dataclass": (Point(1, 2.5), '{"x":1,"y":2.5}'),
}


@pytest.mark.parametrize(("message", "expected"), SENT.values(), ids=SENT.keys())
async def test_a_message_goes_out_as_text_as_binary_or_as_json(hub: Hub, message: Any, expected: str | bytes) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.send(message)
        await hub.broadcast(message)

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received(expected, expected)
        await ann.assert_closed(1000)


def contains_itself() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


UNSENDABLE: dict[str, tuple[Any, type[Exception]]] = {
    "an object": (object(), TypeError),
    "an object in a dict": ({"a": object()}, TypeError),
    "bytes that are not text in a dict": ({"a": b"\xff"}, TypeError),
    "a lone surrogate": ("\ud800", ValueError),
    "a lone surrogate in a dict": ({"a": "\ud800"}, ValueError),
    "a lone surrogate as a key": ({"\ud800": 1}, ValueError),
    "a list in itself": (contains_itself(), ValueError),
}


@pytest.mark.parametrize(("message", "error"), UNSENDABLE.values(), ids=UNSENDABLE.keys())
async def test_what_cannot_be_sent_is_the_callers_error_and_the_connection_goes_on(
    hub: Hub, message: Any, error: type[Exception]
) -> None:
    async def endpoint(connection: Connection) -> None:
        with pytest.raises(error):
            await connection.send(message)
        assert not hub.connections, "what cannot be sent does not accept either"
        await connection.accept()
        for send in (connection.send, hub.broadcast):
            with pytest.raises(error):
                await send(message)
        await connection.send("still here")

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("still here")
        await ann.assert_closed(1000)


class BothKeys:
    """Around an application: a server that gives both keys, one of them `None`, as the ASGI specification lets it."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:
        async def both() -> Event:
            event = await receive()
            return {"text": None, "bytes": None, **event} if event["type"] == "websocket.receive" else event

        await self.app(scope, both, send)


@pytest.mark.parametrize("server", [lambda app: app, BothKeys], ids=["one key", "both keys"])
async def test_text_and_binary_messages_come_in_as_they_are(hub: Hub, server: Callable[[App], App]) -> None:
    received: list[str | bytes] = []

    async def endpoint(connection: Connection) -> None:
        async for message in connection:
            received.append(message)
            if message == "end":
                return

    sent = ["hello", b"\x00\xff", "", b"", '{"a": 1}', "end"]
    async with Client(server(serve(hub, endpoint))) as client, client.connect("/ws") as ann:
        for message in sent:
            await ann.send(message)
        await ann.assert_closed(1000)
    assert received == sent


async def test_a_second_task_that_receives_gets_an_error_and_the_first_one_goes_on(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        first = asyncio.create_task(connection.receive())
        await turns()
        with pytest.raises(RuntimeError, match="another task"):
            await connection.receive()
        await connection.send("ready")
        await connection.send(await first)

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("ready")
        await ann.send("for the first")
        await ann.assert_received("for the first")


async def test_a_cancelled_receive_loses_no_message(hub: Hub) -> None:
    transport = RecordingTransport()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        waiting = asyncio.create_task(connection.receive())
        await turns()
        transport.receive("one")
        waiting.cancel()  # in the same turn: the message has arrived, its task has not run
        with pytest.raises(asyncio.CancelledError):
            await waiting
        transport.receive("two")
        await connection.send([await connection.receive(), await connection.receive()])
        ended.set()

    ended = asyncio.Event()
    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=transport):
        await ended.wait()
    assert transport.written == ['["one","two"]']


async def test_what_the_client_sent_before_it_closed_is_still_received(hub: Hub) -> None:
    received: list[Any] = []
    closed = asyncio.Event()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        await closed.wait()
        await turns()
        assert not hub.connections
        received.extend([message async for message in connection])
        received.append((connection.close_code, connection.close_reason))

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.send("one")
        await ann.send("two")
        await ann.close(4001, "bye")
        closed.set()
    assert received == ["one", "two", (4001, "bye")]


async def test_once_the_client_is_gone_its_own_endpoint_hears_of_it_at_every_call(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        assert [message async for message in connection] == []
        assert [message async for message in connection] == []
        for call in (connection.receive, lambda: connection.send("x"), lambda: connection.join("room")):
            with pytest.raises(WebSocketDisconnect, match=r"4002 \(later\)") as ended:
                await call()
            assert (ended.value.code, ended.value.reason) == (4002, "later")
        await connection.leave("room")
        await connection.close(4003)
        assert connection.close_code == 4002
        assert connection.channels == frozenset()
        heard.set_result(True)

    heard = asyncio.get_running_loop().create_future()
    async with Client(serve(hub, endpoint)) as client:
        async with client.connect("/ws") as ann:
            await ann.close(4002, "later")
        assert heard.done()


async def test_a_client_that_vanishes_ends_with_1006(hub: Hub) -> None:
    codes: list[int] = []

    async def endpoint(connection: Connection) -> None:
        async for _ in connection:
            pass
        codes.append(connection.close_code)

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.abort()
    assert codes == [1006]


async def test_a_message_on_its_way_does_not_hide_with_which_code_the_client_closed(hub: Hub) -> None:
    codes: list[int] = []

    async def endpoint(connection: Connection) -> None:
        async for _ in connection:
            pass
        codes.append(connection.close_code)

    app = serve(hub, endpoint)
    async with Client(app) as client, client.connect("/ws") as ann:
        await turns()
        await hub.broadcast("never read")
        await ann.close(4001)
    assert codes == [4001]


async def test_only_the_own_endpoint_and_its_tasks_hear_that_a_send_was_too_late(hub: Hub) -> None:
    left = asyncio.Event()

    async def endpoint(connection: Connection) -> None:
        app.state.connection = connection
        async for _ in connection:
            pass
        with pytest.raises(WebSocketDisconnect):
            await asyncio.create_task(connection.send("from a task of its own"))
        left.set()

    app = serve(hub, endpoint)

    @app.websocket("/other")
    async def other(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        await left.wait()
        await app.state.connection.send("to one that is gone")
        await connection.send("no error")

    async with Client(app) as client, client.connect("/other") as bob:
        async with client.connect("/ws"):
            pass
        await bob.assert_received("no error")
    assert hub.statistics().undelivered == 2


async def test_a_stream_to_a_client_that_leaves_ends_the_endpoint(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        while True:
            await connection.send("tick")
            await asyncio.sleep(0)

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("tick")
    assert not hub.connections


# Sends that wait


async def test_a_send_waits_for_room_and_goes_on_in_order(hub: Hub) -> None:
    transport = RecordingTransport()
    sent: list[int] = []

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        transport.buffered_bytes = 100_000
        for number in range(4):
            await connection.send(str(number) * 300)
            sent.append(number)

    app = serve(hub, endpoint, outbox=Outbox(bytes=2_000))
    async with Client(app) as client, client.connect("/ws", transport=transport):
        await turns()
        assert sent == [0, 1], "half of the outbox is for direct sends"
        assert transport.written == []
        transport.buffered_bytes = 0
        await turns()
        assert sent == [0, 1, 2, 3]
    assert [data[0] for data in transport.written] == list("0123")


async def test_a_send_that_waits_ten_seconds_closes_the_connection_as_slow(hub: Hub, clock: ManualClock) -> None:
    transport = RecordingTransport()
    endings: list[int] = []

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        transport.buffered_bytes = 100_000
        await connection.send("x" * 1_000)
        try:
            await connection.send("no room")
        except WebSocketDisconnect as ended:
            endings.append(ended.code)

    app = serve(hub, endpoint, outbox=Outbox(bytes=1_000))
    async with Client(app) as client, client.connect("/ws", transport=transport):
        await turns()
        clock.advance(9.9)
        await turns()
        assert endings == []
        clock.advance(0.1)
        await turns()
        assert endings == [3008]
    assert transport.closed == (3008, "slow")
    assert hub.statistics().closed == {3008: 1}


async def test_a_send_of_somebody_else_that_waits_is_no_error_when_the_client_goes(hub: Hub) -> None:
    transport = RecordingTransport()

    async def endpoint(connection: Connection) -> None:
        app.state.connection = connection
        await connection.receive()

    app = serve(hub, endpoint, outbox=Outbox(bytes=1_000))

    async with Client(app) as client, client.connect("/ws", transport=transport):
        await turns()
        transport.buffered_bytes = 100_000
        await app.state.connection.send("x" * 1_000)
        sending = asyncio.create_task(app.state.connection.send("no room"))
        await turns()
        assert not sending.done()
        transport.lose()
        await sending
    assert hub.statistics().undelivered == 1


async def test_a_cancelled_send_that_waits_is_not_sent(hub: Hub) -> None:
    transport = RecordingTransport()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        transport.buffered_bytes = 100_000
        await connection.send("x" * 1_000)
        waiting = [asyncio.create_task(connection.send(text)) for text in ("cancelled", "kept")]
        await turns()
        waiting[0].cancel()
        await turns()
        transport.buffered_bytes = 0
        await waiting[1]
        ended.set()

    ended = asyncio.Event()
    app = serve(hub, endpoint, outbox=Outbox(bytes=1_000))
    async with Client(app) as client, client.connect("/ws", transport=transport):
        await ended.wait()
    assert transport.written == ["x" * 1_000, "kept"]


# Closing


async def test_close_says_1000_and_ends_the_loop(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        await connection.close()
        assert [message async for message in connection] == []

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_closed(1000, "")
        assert not hub.connections


async def test_close_flushes_what_was_sent_and_gives_code_and_reason(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        for number in range(100):
            await connection.send(str(number))
        await hub.broadcast("last")
        await connection.close(4999, "r" * 123)
        with pytest.raises(WebSocketDisconnect) as ended:
            await connection.send("too late")
        assert ended.value.code == 4999

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received(*map(str, range(100)), "last")
        await ann.assert_closed(4999, "r" * 123)


@pytest.mark.parametrize("code", [0, -1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
async def test_a_close_code_that_may_not_be_sent_is_an_error_and_nothing_is_closed(hub: Hub, code: int) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        with pytest.raises(ValueError, match="close code"):
            await connection.close(code)
        with pytest.raises(ValueError, match="close code"):
            await hub.disconnect("ann", code)
        await connection.send("open")

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("open")


@pytest.mark.parametrize("reason", ["r" * 124, "ü" * 62])
async def test_a_close_reason_of_more_than_123_bytes_is_an_error(hub: Hub, reason: str) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        with pytest.raises(ValueError, match="124 bytes"):
            await connection.close(4000, reason)
        await connection.send("open")

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("open")


@pytest.mark.parametrize(
    ("reason", "detail"), [("members only", "members only"), ("", "The server refused the connection")]
)
async def test_close_before_acceptance_refuses_with_403(hub: Hub, reason: str, detail: str) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.close(1000, reason)

    async with Client(serve(hub, endpoint)) as client:
        refused = await refusal(client)
    assert (refused.status, refused.json()) == (403, {"detail": detail, "limit": None})


async def test_close_while_another_task_accepts_waits_for_that_and_closes(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        sending = asyncio.create_task(connection.send("hello"))
        await app.reached.wait()
        closing = asyncio.create_task(connection.close(4000))
        await turns()
        app.is_open.set()
        await asyncio.gather(sending, closing)

    app = Gate(serve(hub, endpoint))
    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_received("hello")
        await ann.assert_closed(4000)


async def test_two_closes_at_once_close_once_and_both_return(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        await asyncio.gather(connection.close(4000), connection.close(4001))

    async with Client(serve(hub, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_closed(4000)
    assert hub.statistics().closed == {4000: 1}


async def test_a_close_waits_five_seconds_for_a_client_that_does_not_read(hub: Hub, clock: ManualClock) -> None:
    transport = RecordingTransport()

    async def endpoint(connection: Connection) -> None:
        await connection.accept()
        transport.buffered_bytes = 100_000
        await connection.send("never read")
        await connection.close(4000)
        ended.set()

    ended = asyncio.Event()
    async with Client(serve(hub, endpoint)) as client, client.connect("/ws", transport=transport):
        await turns()
        assert not hub.connections, "out of the hub at once"
        clock.advance(4.9)
        await turns()
        assert not ended.is_set()
        clock.advance(0.1)
        await ended.wait()
    assert transport.written == []
    assert transport.closed is None, "aborted"


# Typed messages


class Say(BaseModel):
    type: Literal["say"] = "say"
    text: str


class Move(BaseModel):
    type: Literal["move"]
    x: int


class Said(BaseModel):
    text: str


@dataclasses.dataclass
class Shape:
    sides: int


class Person(TypedDict):
    name: str


def kind_of(value: Any) -> str:
    return "say" if isinstance(value, dict) and "text" in value else "move"


UserId = NewType("UserId", int)

TYPES: dict[str, tuple[Any, str, Any]] = {
    "model": (Say, '{"text": "hi"}', Say(text="hi")),
    "union": (Say | Move, '{"type": "move", "x": 1}', Move(type="move", x=1)),
    "union by a field": (
        Annotated[Say | Move, Field(discriminator="type")],
        '{"type": "move", "x": 1}',
        Move(type="move", x=1),
    ),
    "union by a function": (
        Annotated[Annotated[Say, Tag("say")] | Annotated[Move, Tag("move")], Discriminator(kind_of)],
        '{"type": "move", "x": 1}',
        Move(type="move", x=1),
    ),
    "dataclass": (Shape, '{"sides": 3}', Shape(3)),
    "typed dict": (Person, '{"name": "ann"}', {"name": "ann"}),
    "list of models": (list[Say], '[{"text": "hi"}]', [Say(text="hi")]),
    "list of numbers": (list[int], "[1, 2]", [1, 2]),
    "list of texts": (list[str], '["a", "b"]', ["a", "b"]),
    "tuple of texts": (tuple[str, str], '["a", "b"]', ("a", "b")),
    "set of texts": (set[str], '["a"]', {"a"}),
    "texts by text": (dict[str, str], '{"a": "b"}', {"a": "b"}),
    "numbers by text": (dict[str, int], '{"a": 1}', {"a": 1}),
    "text or nothing": (str | None, '"a"', "a"),
    "constrained text": (Annotated[str, Field(max_length=3)], '"abc"', "abc"),
    "literal texts": (Literal["on", "off"], '"on"', "on"),
    "number": (int, "7", 7),
    "new type": (UserId, "7", 7),
    "any dict": (dict, '{"a": [1]}', {"a": [1]}),
    "nothing": (None, "null", None),
}


@pytest.mark.parametrize(("declared", "sent", "expected"), TYPES.values(), ids=TYPES.keys())
async def test_a_declared_type_is_what_the_endpoint_receives(
    hub: Hub, declared: Any, sent: str, expected: object
) -> None:
    app = FastAPI(lifespan=hub.lifespan)
    received: list[object] = []

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[declared], Depends(hub)]) -> None:
        received.append(await connection.receive())

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send(sent)
        await ann.assert_closed(1000)
    assert received == [expected]
    assert type(received[0]) is type(expected)


@pytest.mark.parametrize("declared", [Any, str | bytes, str, bytes], ids=str)
async def test_an_undeclared_or_raw_type_takes_messages_as_they_are(hub: Hub, declared: Any) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[declared], Depends(hub)]) -> None:
        async for message in connection:
            await connection.send(message)

    message = b'{"a"' if declared is bytes else '{"a"'
    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send(message)
        await ann.assert_received(message)


@pytest.mark.parametrize(
    ("declared", "wrong", "reason"), [(str, b"x", "text expected"), (bytes, "x", "binary expected")]
)
async def test_a_raw_type_closes_with_1003_on_the_other_kind(hub: Hub, declared: Any, wrong: Any, reason: str) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[declared], Depends(hub)]) -> None:
        assert [message async for message in connection] == []

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send(wrong)
        await ann.send("x")
        await ann.assert_closed(1003, reason)
    assert hub.statistics().invalid_messages == 1


def typed(hub: Hub, declared: Any, **settings: Any) -> FastAPI:
    """Return an application whose endpoint answers each message with what it received."""
    app = FastAPI(lifespan=hub.lifespan)
    dependency = hub.connection(**settings) if settings else hub

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[declared], Depends(dependency)]) -> None:
        while True:
            try:
                message = await connection.receive()
            except InvalidMessage as invalid:
                await connection.send(f"caught: {invalid}")
            else:
                await connection.send(message)

    return app


async def test_an_invalid_message_is_answered_and_the_connection_goes_on(hub: Hub) -> None:
    async with Client(typed(hub, Say)) as client, client.connect("/ws") as ann:
        await ann.send('{"text": 1}')
        await ann.assert_received(
            {
                "type": "error",
                "code": "invalid_message",
                "errors": [{"type": "string_type", "loc": ["text"], "msg": "Input should be a valid string"}],
            }
        )
        await ann.send('{"text": "better"}')
        await ann.assert_received({"type": "say", "text": "better"})
    assert hub.statistics().invalid_messages == 1


INVALID: dict[str, tuple[Any, Any]] = {
    "not JSON": (Say, "secret"),
    "truncated JSON": (Say, '{"text": "secret'),
    "empty": (Say, ""),
    "binary": (Say, b'{"text": "secret"}'),
    "wrong type": (Say, '{"text": ["secret"]}'),
    "unknown tag": (Annotated[Say | Move, Field(discriminator="type")], '{"type": "secret"}'),
    "no variant": (Say | Move, '{"type": "secret"}'),
    "not a literal": (Literal["a"], '"secret"'),
    "too deep": (Say, "[" * 10_000 + '"secret"'),
    "not a number": (int, '"secret"'),
    "not a date": (datetime.datetime, '"secret"'),
    "too long": (Annotated[str, Field(max_length=3)], '"secret"'),
    "no pattern": (Annotated[str, Field(pattern="^a$")], '"secret"'),
    "a thousand faults": (list[int], json.dumps(["secret"] * 1_000)),
    "lone surrogate": (Say, '{"text": "\\ud800secret"}'),
    "infinite": (Annotated[float, Field(allow_inf_nan=False)], "Infinity"),
}


@pytest.mark.parametrize(("declared", "message"), INVALID.values(), ids=INVALID.keys())
async def test_the_answer_to_an_invalid_message_names_place_and_reason_and_echoes_nothing(
    hub: Hub, declared: Any, message: Any
) -> None:
    async with Client(typed(hub, declared)) as client, client.connect("/ws") as ann:
        await ann.send(message)
        text = await ann.receive()
        assert "secret" not in text
        answer = json.loads(text)
        assert (answer["type"], answer["code"]) == ("error", "invalid_message")
        assert 1 <= len(answer["errors"]) <= 16
        assert all(error.keys() == {"type", "loc", "msg"} for error in answer["errors"])
    assert hub.statistics().closed == {1000: 1}


async def test_a_key_of_the_clients_own_is_echoed_shortened(hub: Hub) -> None:
    class Strict(BaseModel, extra="forbid"):
        a: int = 0

    async with Client(typed(hub, Strict)) as client, client.connect("/ws") as ann:
        await ann.send(json.dumps({"k" * 10_000: 1}))
        assert (await ann.receive_json())["errors"][0]["loc"] == ["k" * 64]


CLOSES = {
    "bad JSON": ("{", 1007),
    "bad message": ('{"text": 1}', 1008),
    "binary": (b"{}", 1003),
}


@pytest.mark.parametrize(("message", "code"), CLOSES.values(), ids=CLOSES.keys())
@pytest.mark.parametrize("whose", ["hub", "endpoint"])
async def test_on_invalid_close_closes_with_a_code_of_its_own(whose: str, message: Any, code: int) -> None:
    hub = Hub(on_invalid="close") if whose == "hub" else Hub()
    app = typed(hub, Say) if whose == "hub" else typed(hub, Say, on_invalid="close")
    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send(message)
        await ann.assert_closed(code, "invalid_message")
    assert hub.statistics().invalid_messages == 1


@pytest.mark.parametrize("whose", ["hub", "endpoint"])
async def test_on_invalid_raise_raises_in_the_endpoint_and_the_connection_goes_on(whose: str) -> None:
    hub = Hub(on_invalid="raise") if whose == "hub" else Hub()
    app = typed(hub, Say) if whose == "hub" else typed(hub, Say, on_invalid="raise")
    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send('{"text": 1}')
        await ann.assert_received("caught: the client sent an invalid message (text: Input should be a valid string)")
        await ann.send("")
        assert "(message: Invalid JSON" in await ann.receive()
        await ann.send('{"text": "better"}')
        await ann.assert_received({"type": "say", "text": "better"})


async def test_one_endpoint_can_reply_where_its_hub_closes() -> None:
    async with (
        Client(typed(Hub(on_invalid="close"), Say, on_invalid="reply")) as client,
        client.connect("/ws") as ann,
    ):
        await ann.send("{")
        assert (await ann.receive_json())["code"] == "invalid_message"


async def test_an_uncaught_invalid_message_is_the_endpoints_error() -> None:
    hub = Hub(on_invalid="raise")
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[Say], Depends(hub)]) -> None:
        async for _ in connection:
            pass

    with pytest.raises(InvalidMessage):
        await converse(app, "{")


@pytest.mark.parametrize("on_invalid", ["ignore", None, "Reply"])
def test_on_invalid_is_one_of_three(on_invalid: Any) -> None:
    with pytest.raises(ValueError, match="reply, close, raise"):
        Hub(on_invalid=on_invalid)


def test_on_invalid_of_an_endpoint_is_one_of_three(hub: Hub) -> None:
    with pytest.raises(ValueError, match="reply, close, raise"):
        hub.connection(on_invalid="ignore")  # type: ignore[arg-type]


# Where the types are declared


async def answer_to(app: App, message: Any = '{"text": "hi"}', path: str = "/ws") -> str:
    async with Client(app) as client, client.connect(path) as ann:
        await ann.send(message)
        return str(await ann.receive())


def postponed(source: str, **names: Any) -> FunctionType:
    """Return the function `endpoint` of a module that begins with `from __future__ import annotations`."""
    names = {"Annotated": Annotated, "Connection": Connection, "Depends": Depends, "Say": Say, **names}
    exec("from __future__ import annotations\n" + source, names)
    function = names["endpoint"]
    assert isinstance(function, FunctionType)
    return function


async def answer_repr(connection: Connection) -> None:
    await connection.send(repr(await connection.receive()))


async def test_types_are_read_from_a_default_value_of_depends(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Connection[Say] = Depends(hub)) -> None:  # noqa: B008
        await answer_repr(connection)

    assert await answer_to(app) == "Say(type='say', text='hi')"


@pytest.mark.parametrize(
    "parameter",
    [
        "connection: Annotated[Connection[Say], Depends(hub)]",
        "connection: Connection[Say] = Depends(hub)",
        "connection: Shared",
    ],
)
async def test_types_are_read_from_postponed_annotations(hub: Hub, parameter: str) -> None:
    app = FastAPI(lifespan=hub.lifespan)
    source = (
        f"Shared = Annotated[Connection[Say], Depends(hub)]\nasync def endpoint({parameter}): await answer(connection)"
    )
    app.websocket("/ws")(postponed(source, hub=hub, answer=answer_repr))
    assert await answer_to(app) == "Say(type='say', text='hi')"


async def test_types_in_quotes_within_annotated_are_read_too(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated["Connection[Say]", Depends(hub)]) -> None:
        await answer_repr(connection)

    assert await answer_to(app) == "Say(type='say', text='hi')"


async def test_a_type_in_quotes_as_the_parameter_of_connection_is_read_too(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection["Say"], Depends(hub)]) -> None:
        await answer_repr(connection)

    assert await answer_to(app) == "Say(type='say', text='hi')"


def aliases(hub: Hub) -> dict[str, Any]:
    """What `type Alias = …` gives on Python 3.12, which FastAPI looks through."""
    return {
        "of Connection": Annotated[TypeAliasType("Alias", Connection[Say]), Depends(hub)],
        "of Annotated": TypeAliasType("Alias", Annotated[Connection[Say], Depends(hub)]),
    }


@pytest.mark.parametrize("alias", ["of Connection", "of Annotated"])
async def test_types_are_read_through_a_type_alias(hub: Hub, alias: str) -> None:
    app = FastAPI(lifespan=hub.lifespan)
    annotation = aliases(hub)[alias]

    @app.websocket("/ws")
    async def endpoint(connection: annotation) -> None:
        await answer_repr(connection)

    assert await answer_to(app) == "Say(type='say', text='hi')"


async def test_an_annotation_of_another_dependency_that_cannot_be_resolved_is_none_of_the_hubs_business(
    hub: Hub,
) -> None:
    """FastAPI does not mind either: the type behind a `Depends` may be imported for type checkers only."""
    app = FastAPI(lifespan=hub.lifespan)

    async def name() -> str:
        return "ann"

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection[Say], Depends(hub)],
        name: Annotated["OnlyForTypeCheckers", Depends(name)],  # noqa: F821
    ) -> None:
        await connection.send(name)
        await answer_repr(connection)

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send('{"text": "hi"}')
        await ann.assert_received("ann", "Say(type='say', text='hi')")


async def test_a_postponed_annotation_of_another_dependency_that_cannot_be_resolved_is_none_of_the_hubs_business(
    hub: Hub,
) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    async def name() -> str:
        return "ann"

    source = (
        "async def endpoint(connection: Connection[Say] = Depends(hub), who: OnlyForTypeCheckers = Depends(name)):\n"
        "    await answer(connection)\n"
    )
    app.websocket("/ws")(postponed(source, hub=hub, name=name, answer=answer_repr))
    assert await answer_to(app) == "Say(type='say', text='hi')"


async def test_types_are_read_from_a_sub_dependency(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    async def player(connection: Annotated[Connection[Say], Depends(hub)]) -> Connection[Say]:
        return connection

    async def ready(player: Annotated[Connection[Say], Depends(player)]) -> Connection[Say]:
        return player

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[Say], Depends(ready)]) -> None:
        await answer_repr(connection)

    assert await answer_to(app) == "Say(type='say', text='hi')"


async def test_types_are_read_from_a_class_as_a_dependency(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    class Player:
        def __init__(self, connection: Annotated[Connection[Say], Depends(hub)]) -> None:
            self.connection = connection

    @app.websocket("/ws")
    async def endpoint(player: Annotated[Player, Depends()]) -> None:
        await answer_repr(player.connection)

    assert await answer_to(app) == "Say(type='say', text='hi')"


async def test_types_of_the_endpoint_hold_beside_a_dependency_that_declares_none(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    async def authenticated(connection: Annotated[Connection, Depends(hub)]) -> None:
        connection.user = "ann"

    @app.websocket("/ws", dependencies=[Depends(authenticated), Depends(hub)])
    async def endpoint(connection: Annotated[Connection[Say], Depends(hub)]) -> None:
        await answer_repr(connection)

    assert await answer_to(app) == "Say(type='say', text='hi')"


async def test_types_hold_on_an_included_router_and_on_a_mounted_application(hub: Hub) -> None:
    router, mounted, app = APIRouter(prefix="/inner"), FastAPI(), FastAPI(lifespan=hub.lifespan)

    @router.websocket("/ws")
    @mounted.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[Say], Depends(hub)]) -> None:
        await answer_repr(connection)

    app.include_router(router, prefix="/outer")
    app.mount("/mounted", mounted)
    for path in ("/outer/inner/ws", "/mounted/ws"):
        assert await answer_to(app, path=path) == "Say(type='say', text='hi')"


async def test_two_endpoints_have_types_of_their_own(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/numbers")
    async def numbers(connection: Annotated[Connection[int], Depends(hub)]) -> None:
        await answer_repr(connection)

    @app.websocket("/texts")
    async def texts(connection: Annotated[Connection[str], Depends(hub)]) -> None:
        await answer_repr(connection)

    assert await answer_to(app, "7", "/numbers") == "7"
    assert await answer_to(app, "7", "/texts") == "'7'"


async def test_the_same_types_in_two_places_are_no_conflict(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    async def dependency(connection: Annotated[Connection[Say, Said], Depends(hub)]) -> None: ...

    @app.websocket("/ws", dependencies=[Depends(dependency)])
    async def endpoint(connection: Connection[Say, Said] = Depends(hub)) -> None:  # noqa: B008
        await connection.send(Said(text=(await connection.receive()).text))

    assert await answer_to(app) == '{"text":"hi"}'


@pytest.mark.parametrize("other", [int, Any], ids=str)
async def test_different_types_in_two_places_are_an_error_that_names_them(hub: Hub, other: Any) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    async def dependency(connection: Annotated[Connection[other, Said], Depends(hub)]) -> None: ...

    @app.websocket("/ws", dependencies=[Depends(dependency)])
    async def endpoint(connection: Annotated[Connection[Say], Depends(hub)]) -> None:
        await connection.accept()

    with pytest.raises(TypeError, match=r"/ws: .*different types.*Said.* and .*Say"):
        await converse(app)


async def test_another_hubs_declaration_is_none_of_this_hubs(hub: Hub) -> None:
    other = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    async def dependency(connection: Annotated[Connection[int], Depends(other)]) -> None: ...

    @app.websocket("/ws", dependencies=[Depends(dependency)])
    async def endpoint(connection: Annotated[Connection[Say], Depends(hub)]) -> None:
        await answer_repr(connection)

    assert await answer_to(app) == "Say(type='say', text='hi')"


async def test_a_hub_that_overrides_another_in_a_test_keeps_the_declared_types(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[Say], Depends(hub)]) -> None:
        await answer_repr(connection)

    app.dependency_overrides[hub] = Hub()
    assert await answer_to(app) == "Say(type='say', text='hi')"


# What goes out, in development


def sends(hub: Hub, declared: Any, message: Any, *, debug: bool) -> FastAPI:
    app = FastAPI(lifespan=hub.lifespan, debug=debug)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[Any, declared], Depends(hub)]) -> None:
        await connection.send(message)

    return app


@pytest.mark.parametrize("message", [Said(text="hi"), {"text": "hi"}], ids=["model", "dict"])
async def test_in_debug_mode_a_message_that_fits_is_sent(hub: Hub, message: Any) -> None:
    async with Client(sends(hub, Said | Move, message, debug=True)) as client, client.connect("/ws") as ann:
        await ann.assert_received({"text": "hi"})


async def test_in_debug_mode_a_message_that_does_not_fit_is_an_error_of_the_endpoint(hub: Hub) -> None:
    with pytest.raises(TypeError, match="Connection"):
        await converse(sends(hub, Said, {"txt": "hi"}, debug=True))


@pytest.mark.parametrize(
    ("declared", "message", "fits"),
    [(str, "text", True), (str, b"x", False), (bytes, b"x", True), (bytes, "text", False), (str | bytes, {}, False)],
)
async def test_in_debug_mode_text_and_binary_are_held_apart(hub: Hub, declared: Any, message: Any, fits: bool) -> None:
    app = sends(hub, declared, message, debug=True)
    if fits:
        assert await converse(app) == ([message], 1000)
    else:
        with pytest.raises(TypeError, match="Connection"):
            await converse(app)


async def test_outside_of_debug_mode_what_goes_out_is_not_checked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flags:
        dev_mode = False

    monkeypatch.setattr(sys, "flags", Flags)
    async with Client(sends(hub, Said, {"txt": "hi"}, debug=False)) as client, client.connect("/ws") as ann:
        await ann.assert_received({"txt": "hi"})


async def test_in_pythons_development_mode_what_goes_out_is_checked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flags:
        dev_mode = True

    monkeypatch.setattr(sys, "flags", Flags)
    with pytest.raises(TypeError, match="Connection"):
        await converse(sends(hub, Said, {"txt": "hi"}, debug=False))


async def test_in_debug_mode_a_connection_without_an_outgoing_type_sends_anything(hub: Hub) -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.send({"anything": 1})

    async with Client(serve(hub, endpoint, debug=True)) as client, client.connect("/ws") as ann:
        await ann.assert_received({"anything": 1})


async def test_the_answer_to_an_invalid_message_is_not_held_against_the_outgoing_type(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan, debug=True)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[Say, Said], Depends(hub)]) -> None:
        async for _ in connection:
            pass

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send("{")
        assert (await ann.receive_json())["code"] == "invalid_message"


# Starlette's own close


@pytest.mark.parametrize("code", [999, 1004, 1006, 1015, 5_000, 70_000])
async def test_a_raw_close_with_a_code_that_cannot_be_sent_is_an_error(hub: Hub, code: int) -> None:
    errors: list[str] = []
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        try:
            await websocket.close(code)
        except RuntimeError as error:
            errors.append(str(error))

    async with Client(app) as client, client.connect("/ws") as someone:
        await someone.assert_closed(1000)
    assert errors == [f"websocket.close: close code {code} cannot be sent"]
