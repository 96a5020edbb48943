"""The drop-in for the tutorial's `ConnectionManager`: the same methods with the same meaning, and none of its holes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from starlette.testclient import TestClient
from starlette.websockets import WebSocketState

from hubbub import ConnectionManager, Denied, Hub, Limits, Outbox
from hubbub.testing import Client, ClientConnection, RecordingTransport, Refused
from tests.redis_server import redis_server

App = Callable[..., Awaitable[None]]


@pytest.fixture
def manager() -> ConnectionManager:
    return ConnectionManager()


def tutorial(manager: ConnectionManager) -> FastAPI:
    """Return the tutorial's application as it stands there, without its class and its page."""
    app = FastAPI()

    @app.websocket("/ws/{client_id}")
    async def websocket_endpoint(websocket: WebSocket, client_id: int) -> None:
        await manager.connect(websocket)
        try:
            while True:
                data = await websocket.receive_text()
                await manager.send_personal_message(f"You wrote: {data}", websocket)
                await manager.broadcast(f"Client #{client_id} says: {data}")
        except WebSocketDisconnect:
            manager.disconnect(websocket)
            await manager.broadcast(f"Client #{client_id} left the chat")

    return app


def serve(manager: ConnectionManager, endpoint: Callable[[WebSocket], Awaitable[None]]) -> FastAPI:
    """Return an application whose `/ws` connects to the manager and goes on as `endpoint`."""
    app = FastAPI()

    @app.websocket("/ws")
    async def route(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        await endpoint(websocket)

    return app


async def waits(websocket: WebSocket) -> None:
    async for _ in websocket.iter_text():
        pass


@contextlib.asynccontextmanager
async def sockets(manager: ConnectionManager, number: int) -> AsyncIterator[list[ClientConnection]]:
    """Open so many connections that wait for their clients to leave."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(serve(manager, waits)))
        opened = [await stack.enter_async_context(client.connect("/ws")) for _ in range(number)]
        await present(manager, number)
        yield opened


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something is the case."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never was the case")


async def present(manager: ConnectionManager, number: int) -> None:
    """Wait until so many sockets are active: a client is let in a moment before it is one of them."""
    await until(lambda: len(manager.active_connections) == number)


async def refusal(opener: Client, path: str = "/ws", **handshake: Any) -> Refused:
    """Return how the handshake is refused."""
    with pytest.raises(Refused) as refused:
        await opener.connect(path, **handshake).__aenter__()
    return refused.value


# The tutorial


async def test_the_tutorials_application_runs_unchanged(manager: ConnectionManager) -> None:
    async with (
        Client(tutorial(manager)) as client,
        client.connect("/ws/1") as ann,
        client.connect("/ws/2") as bob,
    ):
        await ann.send("hello")
        await ann.assert_received("You wrote: hello", "Client #1 says: hello")
        await bob.assert_received("Client #1 says: hello")
        await bob.close()
        await ann.assert_received("Client #2 left the chat")
        await ann.assert_nothing()
        assert len(manager.active_connections) == 1


def test_the_tutorials_application_runs_unchanged_in_starlettes_test_client(manager: ConnectionManager) -> None:
    with (
        TestClient(tutorial(manager)) as client,
        client.websocket_connect("/ws/1") as ann,
        client.websocket_connect("/ws/2") as bob,
    ):
        ann.send_text("hello")
        assert [ann.receive_text(), ann.receive_text()] == ["You wrote: hello", "Client #1 says: hello"]
        bob.send_text("bye")
        assert ann.receive_text() == "Client #2 says: bye"


def test_sockets_one_after_the_other_work_without_the_test_clients_context(manager: ConnectionManager) -> None:
    client = TestClient(tutorial(manager))
    for number in (1, 2):
        with client.websocket_connect(f"/ws/{number}") as ann:
            ann.send_text("hello")
            assert ann.receive_text() == "You wrote: hello"


async def test_a_path_parameter_of_the_wrong_type_is_refused_at_the_handshake(manager: ConnectionManager) -> None:
    async with Client(tutorial(manager)) as client:
        assert (await refusal(client, "/ws/one")).status == 403
    assert manager.hub.statistics().accepted == 0


async def test_the_hub_behind_it_can_be_the_lifespan(manager: ConnectionManager) -> None:
    app = FastAPI(lifespan=manager.hub.lifespan)
    app.mount("/in", tutorial(manager))
    async with Client(app) as client, client.connect("/in/ws/1") as ann:
        await present(manager, 1)
        async with manager.hub.lifespan(app):
            pass
        await ann.send("still open: the application's own lifespan goes on")
        await ann.assert_received(
            "You wrote: still open: the application's own lifespan goes on",
            "Client #1 says: still open: the application's own lifespan goes on",
        )


# connect


async def test_connect_accepts_and_keeps_the_order_in_which_sockets_came(manager: ConnectionManager) -> None:
    came: list[WebSocket] = []

    async def endpoint(websocket: WebSocket) -> None:
        assert websocket in manager.active_connections
        assert websocket.application_state is WebSocketState.CONNECTED
        came.append(websocket)
        await waits(websocket)

    async with (
        Client(serve(manager, endpoint)) as client,
        client.connect("/ws"),
        client.connect("/ws"),
        client.connect("/ws"),
    ):
        await until(lambda: len(came) == 3)
        assert [*manager.active_connections] == came


async def test_connecting_twice_is_an_error_and_the_socket_goes_on(manager: ConnectionManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        with pytest.raises(RuntimeError, match="already"):
            await manager.connect(websocket)
        assert len(manager.active_connections) == 1
        await websocket.send_text("still here")

    async with Client(serve(manager, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("still here")
        await ann.assert_closed(1000)


async def test_connecting_a_socket_that_was_accepted_raw_is_an_error(manager: ConnectionManager) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(RuntimeError, match=r"not websocket\.accept"):
            await manager.connect(websocket)
        assert len(manager.active_connections) == 0
        await websocket.close()

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_closed(1000)


async def test_connect_can_say_who_the_user_is(manager: ConnectionManager) -> None:
    app = FastAPI()

    @app.websocket("/ws/{user}")
    async def endpoint(websocket: WebSocket, user: str) -> None:
        await manager.connect(websocket, user=user)
        await waits(websocket)

    async with Client(app) as client, client.connect("/ws/ann") as ann, client.connect("/ws/bob") as bob:
        await present(manager, 2)
        await manager.hub.send("ann", "for ann")
        await ann.assert_received("for ann")
        await manager.hub.disconnect("bob")
        await bob.assert_closed(3503)


async def test_what_an_endpoint_raises_before_connecting_refuses_the_handshake(manager: ConnectionManager) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        if "token" not in websocket.query_params:
            raise HTTPException(401, "no token")
        await manager.connect(websocket)
        await waits(websocket)

    async with Client(app) as client, client.connect("/ws?token=1"):
        response = await refusal(client)
        assert (response.status, response.json()) == (401, {"detail": "no token"})


async def test_a_class_of_the_applications_own_can_extend_it() -> None:
    class Named(ConnectionManager):
        def __init__(self) -> None:
            super().__init__(max_connections=2)
            self.names: dict[WebSocket, str] = {}

        async def connect(self, websocket: WebSocket) -> None:
            await super().connect(websocket)
            self.names[websocket] = websocket.query_params["name"]

        def disconnect(self, websocket: WebSocket) -> None:
            super().disconnect(websocket)
            del self.names[websocket]

    manager = Named()
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        await waits(websocket)
        manager.disconnect(websocket)

    async with Client(app) as client:
        async with client.connect("/ws?name=ann"), client.connect("/ws?name=bob"):
            await until(lambda: len(manager.names) == 2)
            assert [manager.names[socket] for socket in manager.active_connections] == ["ann", "bob"]
        assert manager.names == {}


# disconnect


async def test_disconnect_takes_a_socket_out_of_broadcasts_and_leaves_it_open(manager: ConnectionManager) -> None:
    async with sockets(manager, 2) as (ann, bob):
        first = manager.active_connections[0]
        manager.disconnect(first)
        assert first not in manager.active_connections
        assert len(manager.active_connections) == 1
        await manager.broadcast("not for ann")
        await bob.assert_received("not for ann")
        await manager.send_personal_message("for ann alone", first)
        await first.send_text("raw for ann")
        await ann.assert_received("for ann alone", "raw for ann")


async def test_disconnecting_twice_or_one_that_is_gone_is_no_error(manager: ConnectionManager) -> None:
    async with sockets(manager, 2) as (ann, bob):
        first, second = manager.active_connections
        manager.disconnect(first)
        manager.disconnect(first)
        await bob.abort()
        await present(manager, 0)
        manager.disconnect(second)
        await manager.broadcast("nobody")
        await ann.assert_nothing()


async def test_disconnecting_a_socket_that_was_never_connected_is_no_error(manager: ConnectionManager) -> None:
    app = FastAPI()
    another = ConnectionManager()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        manager.disconnect(websocket)
        await another.connect(websocket)
        manager.disconnect(websocket)
        await another.broadcast("still in the other one")

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_received("still in the other one")
        await ann.assert_closed(1000)


async def test_disconnect_after_a_refused_connect_is_no_error() -> None:
    manager = ConnectionManager(max_connections=1)
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        try:
            await manager.connect(websocket)
            await waits(websocket)
        finally:
            manager.disconnect(websocket)

    async with Client(app) as client, client.connect("/ws") as ann:
        assert (await refusal(client)).status == 503
        await manager.broadcast("hello")
        await ann.assert_received("hello")


async def test_connecting_again_after_disconnect_is_an_error_as_in_the_tutorial(manager: ConnectionManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        manager.disconnect(websocket)
        with pytest.raises(RuntimeError, match="already"):
            await manager.connect(websocket)

    async with Client(serve(manager, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_closed(1000)


# send_personal_message


@pytest.mark.parametrize(
    ("message", "expected"), [("text", "text"), (b"bytes", b"bytes"), ({"a": 1}, '{"a":1}'), ([1], "[1]")]
)
async def test_a_message_goes_out_as_text_as_binary_or_as_json(
    manager: ConnectionManager, message: Any, expected: Any
) -> None:
    async with sockets(manager, 1) as (ann,):
        await manager.send_personal_message(message, manager.active_connections[0])
        await manager.broadcast(message)
        await ann.assert_received(expected, expected)


async def test_a_personal_message_to_a_socket_that_the_manager_does_not_know_is_an_error(
    manager: ConnectionManager,
) -> None:
    app = FastAPI()
    another = ConnectionManager()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        with pytest.raises(RuntimeError, match="connect"):
            await manager.send_personal_message("hello", websocket)
        await another.connect(websocket)
        with pytest.raises(RuntimeError, match="connect"):
            await manager.send_personal_message("hello", websocket)

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_closed(1000)


async def test_a_personal_message_to_one_that_is_gone_is_an_error_in_its_own_endpoint_only(
    manager: ConnectionManager,
) -> None:
    app = tutorial(manager)
    heard: list[int] = []

    @app.websocket("/own")
    async def own(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        await waits(websocket)
        with pytest.raises(WebSocketDisconnect) as ended:
            await manager.send_personal_message("too late", websocket)
        heard.append(ended.value.code)

    async with Client(app) as client:
        ann = await client.connect("/own").__aenter__()
        await present(manager, 1)
        (socket,) = manager.active_connections
        await ann.close(4000)
        await ann.finish(raises=True)
        await manager.send_personal_message("too late", socket)
        await socket.send_text("raw and too late")
    assert heard == [4000]
    assert manager.hub.statistics().undelivered == 3


# broadcast


EXCLUDES: dict[str, tuple[Callable[[WebSocket, WebSocket], Any], int]] = {
    "nothing": (lambda ann, bob: None, 3),
    "one": (lambda ann, bob: ann, 2),
    "list": (lambda ann, bob: [ann], 2),
    "tuple of two": (lambda ann, bob: (ann, bob), 1),
    "set": (lambda ann, bob: {ann, bob}, 1),
    "generator": (lambda ann, bob: (socket for socket in (ann, bob)), 1),
    "an empty list": (lambda ann, bob: [], 3),
}


@pytest.mark.parametrize(("exclude", "heard"), EXCLUDES.values(), ids=EXCLUDES.keys())
async def test_exclude_leaves_out_one_or_several_sockets_however_they_are_given(
    manager: ConnectionManager, exclude: Callable[[WebSocket, WebSocket], Any], heard: int
) -> None:
    async with sockets(manager, 3) as (*_, eve):
        first, second, _third = manager.active_connections
        await manager.broadcast("hello", exclude=exclude(first, second))
        await eve.assert_received("hello")
        assert manager.hub.statistics().deliveries == heard


async def test_excluding_the_active_connections_themselves_leaves_out_everyone(manager: ConnectionManager) -> None:
    async with sockets(manager, 2):
        await manager.broadcast("hello", exclude=manager.active_connections)
        assert manager.hub.statistics().deliveries == 0


async def test_excluding_a_socket_that_the_manager_does_not_know_leaves_out_nobody(manager: ConnectionManager) -> None:
    another = ConnectionManager()
    async with sockets(manager, 1) as (ann,), sockets(another, 1):
        await manager.broadcast("hello", exclude=another.active_connections[0])
        await ann.assert_received("hello")


@pytest.mark.parametrize("wrong", ["text", "number", "connection", "connections"])
async def test_excluding_what_is_no_websocket_is_a_type_error_and_sends_nothing(
    manager: ConnectionManager, wrong: str
) -> None:
    async with sockets(manager, 1) as (ann,):
        (connection,) = manager.hub.connections.values()
        exclude: Any = {"text": "ann", "number": 7, "connection": connection, "connections": [connection]}[wrong]
        with pytest.raises(TypeError):
            await manager.broadcast("hello", exclude=exclude)
        await ann.assert_nothing()


async def test_a_broadcast_reaches_the_others_past_dead_and_stalled_sockets(manager: ConnectionManager) -> None:
    transport = RecordingTransport()
    app = serve(manager, waits)
    async with Client(app) as client, client.connect("/ws") as ann, client.connect("/ws", transport=transport):
        dead = await client.connect("/ws").__aenter__()
        bob = await client.connect("/ws").__aenter__()
        await present(manager, 4)
        transport.buffered_bytes = 100_000
        await dead.abort()
        for number in range(100):
            await manager.broadcast(str(number))
        for one in (ann, bob):
            await one.assert_received(*map(str, range(100)))
        assert len(manager.active_connections) == 3
        assert transport.written == []
        assert manager.hub.statistics().queued_bytes > 0


async def test_a_client_too_slow_for_its_outbox_is_closed_and_leaves_the_active_connections() -> None:
    manager = ConnectionManager(outbox=Outbox(bytes=10_000))
    ends: list[int] = []

    async def endpoint(websocket: WebSocket) -> None:
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as ended:
            ends.append(ended.code)

    app = serve(manager, endpoint)
    async with Client(app) as client, client.connect("/ws") as ann, client.connect("/ws") as bob:
        await present(manager, 2)
        bob.stall()
        for number in range(100):
            await manager.broadcast(f"{number:03}" + "x" * 1_000)
        for number in range(100):
            assert str(await ann.receive()).startswith(f"{number:03}")
        assert len(manager.active_connections) == 1
        assert ends == [3008]


async def test_the_tutorials_loop_over_active_connections_survives_one_that_leaves(manager: ConnectionManager) -> None:
    async with sockets(manager, 3) as (ann, bob, eve):
        for number, socket in enumerate(manager.active_connections):
            if number == 0:
                await bob.abort()
                await present(manager, 2)
            await socket.send_text("hello")
        for one in (ann, eve):
            await one.assert_received("hello")


async def test_a_tight_loop_of_broadcasts_disconnects_no_healthy_client(manager: ConnectionManager) -> None:
    async with sockets(manager, 3) as everyone:
        for number in range(5_000):
            await manager.broadcast(str(number))
        for one in everyone:
            for number in range(5_000):
                assert await one.receive() == str(number)
        assert len(manager.active_connections) == 3


async def test_an_http_route_can_broadcast(manager: ConnectionManager) -> None:
    app = serve(manager, waits)

    @app.post("/all")
    async def to_all() -> None:
        await manager.broadcast("hello")

    async with (
        Client(app) as client,
        client.connect("/ws") as ann,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http,
    ):
        await present(manager, 1)
        assert (await http.post("/all")).status_code == 200
        await ann.assert_received("hello")


async def test_two_managers_share_nothing(manager: ConnectionManager) -> None:
    another = ConnectionManager()
    async with sockets(manager, 1) as (ann,), sockets(another, 1) as (bob,):
        await manager.broadcast("one")
        await ann.assert_received("one")
        await bob.assert_nothing()
        assert manager.active_connections[0] not in another.active_connections


# active_connections


async def test_the_active_connections_are_a_live_sequence_of_websockets(manager: ConnectionManager) -> None:
    view = manager.active_connections
    assert not view
    assert len(view) == 0
    assert [*view] == []
    assert repr(view) == "[]"
    async with sockets(manager, 3) as (_, bob, _):
        assert view
        assert len(view) == 3
        first, second, third = view
        assert view[0] is first
        assert view[-1] is third
        assert [*view[1:]] == [second, third]
        assert [*view[::-1]] == [*reversed(view)] == [third, second, first]
        assert view.index(second) == 1
        assert view.count(second) == 1
        assert second in view
        assert isinstance(second, WebSocket)
        assert "WebSocket" in repr(view)
        with pytest.raises(IndexError):
            view[3]
        await bob.close()
        await present(manager, 2)
        assert second not in view
        assert [*view] == [first, third]
    assert not view


@pytest.mark.parametrize("other", [None, "websocket", 7, {}])
async def test_what_is_no_websocket_is_not_among_the_active_connections(manager: ConnectionManager, other: Any) -> None:
    async with sockets(manager, 1):
        assert other not in manager.active_connections


async def test_a_hub_connection_is_not_among_the_active_connections(manager: ConnectionManager) -> None:
    async with sockets(manager, 1):
        (connection,) = manager.hub.connections.values()
        assert connection not in manager.active_connections
        assert connection.websocket in manager.active_connections


async def test_iterating_is_safe_while_connections_come_and_go(manager: ConnectionManager) -> None:
    async with Client(serve(manager, waits)) as client:
        opened = [await client.connect("/ws").__aenter__() for _ in range(3)]
        await present(manager, 3)
        seen = []
        for socket in manager.active_connections:
            seen.append(socket)
            for one in opened:
                await one.close()
            await present(manager, 0)
            opened = [await client.connect("/ws").__aenter__()]
            await present(manager, 1)
        assert len(seen) == 3


async def test_one_that_is_closed_by_the_hub_leaves_the_active_connections_at_once(manager: ConnectionManager) -> None:
    async with sockets(manager, 1) as (ann,):
        (connection,) = manager.hub.connections.values()
        closing = asyncio.ensure_future(connection.close(4000))
        await asyncio.sleep(0)
        assert len(manager.active_connections) == 0
        await ann.assert_closed(4000)
        await closing


# Limits and origins


@pytest.mark.parametrize(
    ("settings", "status", "detail"),
    [
        ({}, 503, "Too many connections"),
        ({"max_connections_status": 400}, 400, "Too many connections"),
        ({"max_connections_status": 429, "max_connections_detail": "Voll"}, 429, "Voll"),
    ],
    ids=["default", "as in the tutorial", "own"],
)
async def test_max_connections_refuses_the_next_handshake_until_one_leaves(
    settings: dict[str, Any], status: int, detail: str
) -> None:
    manager = ConnectionManager(max_connections=2, **settings)
    async with sockets(manager, 2) as (ann, _), Client(serve(manager, waits)) as client:
        response = await refusal(client)
        assert (response.status, response.json()) == (status, {"detail": detail, "limit": "connections"})
        assert len(manager.active_connections) == 2
        assert manager.hub.statistics().refused == {"connections": 1}
        await ann.close()
        await present(manager, 1)
        async with client.connect("/ws"):
            await present(manager, 2)


async def test_a_refused_connect_can_be_caught_and_answered_by_the_endpoint() -> None:
    manager = ConnectionManager(max_connections=1)
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        try:
            await manager.connect(websocket)
        except Denied as denied:
            raise HTTPException(400, f"full: {denied.limit}") from None
        await waits(websocket)

    async with Client(app) as client, client.connect("/ws"):
        response = await refusal(client)
        assert (response.status, response.json()) == (400, {"detail": "full: connections"})


async def test_a_socket_that_is_disconnected_but_open_still_counts() -> None:
    manager = ConnectionManager(max_connections=1)
    async with sockets(manager, 1):
        manager.disconnect(manager.active_connections[0])
        async with Client(serve(manager, waits)) as client:
            assert (await refusal(client)).status == 503


async def test_the_tutorials_own_count_of_connections_works(manager: ConnectionManager) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        if len(manager.active_connections) >= 1:
            raise HTTPException(400, "Too many connections")
        await manager.connect(websocket)
        await waits(websocket)

    async with Client(app) as client, client.connect("/ws"):
        await present(manager, 1)
        response = await refusal(client)
        assert (response.status, response.json()) == (400, {"detail": "Too many connections"})


@pytest.mark.parametrize("status", [200, 399, 600, 1008])
def test_the_status_of_a_refusal_is_an_error_status(status: int) -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        ConnectionManager(max_connections_status=status)


@pytest.mark.parametrize("number", [0, -1, True, 1.5])
def test_max_connections_is_a_whole_number_above_0(number: Any) -> None:
    with pytest.raises(ValueError, match="connections"):
        ConnectionManager(max_connections=number)


async def test_other_limits_hold_as_on_a_hub() -> None:
    manager = ConnectionManager(limits=Limits(connections_per_address=1, message_bytes=3))
    ends: list[Any] = []

    async def endpoint(websocket: WebSocket) -> None:
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as ended:
            ends.append((ended.code, ended.reason))

    async with Client(serve(manager, endpoint)) as client, client.connect("/ws") as ann:
        response = await refusal(client)
        assert (response.status, response.json()["limit"]) == (429, "connections_per_address")
        await ann.send("long")
        await ann.assert_closed(1009, "message_bytes")
    assert ends == [(1009, "message_bytes")]


async def test_the_smaller_of_max_connections_and_the_limit_in_limits_holds() -> None:
    for manager in (
        ConnectionManager(max_connections=5, limits=Limits(connections=1)),
        ConnectionManager(max_connections=1, limits=Limits(connections=5)),
    ):
        async with sockets(manager, 1), Client(serve(manager, waits)) as client:
            assert (await refusal(client)).status == 503


async def test_a_foreign_origin_is_refused_and_an_allowed_one_is_not() -> None:
    manager = ConnectionManager(allowed_origins=("https://app.example",))
    async with Client(serve(manager, waits)) as client:
        response = await refusal(client, headers={"Origin": "https://evil.example"})
        assert response.status == 403
        assert response.json() == {"detail": "This origin may not connect", "limit": "allowed_origins"}
        for origin in ("https://app.example", "http://testserver"):
            async with client.connect("/ws", headers={"Origin": origin}):
                await present(manager, 1)
            await present(manager, 0)


# Raw calls on the socket, mixed with the manager's


async def test_raw_sends_and_broadcasts_keep_their_order(manager: ConnectionManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        for number in range(50):
            await websocket.send_text(f"raw {number}")
            await manager.broadcast(f"all {number}")
            await websocket.send_json({"raw": number})
            await manager.send_personal_message(f"personal {number}", websocket)
            await websocket.send_bytes(b"%d" % number)

    async with Client(serve(manager, endpoint)) as client, client.connect("/ws") as ann:
        for number in range(50):
            await ann.assert_received(
                f"raw {number}", f"all {number}", {"raw": number}, f"personal {number}", b"%d" % number
            )
        await ann.assert_closed(1000)


async def test_raw_sends_and_broadcasts_keep_their_order_to_a_client_that_stalls(manager: ConnectionManager) -> None:
    async with sockets(manager, 1) as (ann,):
        (socket,) = manager.active_connections
        ann.stall()
        for number in range(50):
            await socket.send_text(f"raw {number}")
            await manager.broadcast(f"all {number}")
        ann.resume()
        for number in range(50):
            await ann.assert_received(f"raw {number}", f"all {number}")


async def test_every_raw_way_to_receive_works(manager: ConnectionManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        received: list[Any] = [
            await websocket.receive_text(),
            (await websocket.receive_bytes()).decode(),
            await websocket.receive_json(),
            await websocket.receive_json(mode="binary"),
            await websocket.receive(),
        ]
        async for text in websocket.iter_text():
            received.append(text)
            if text == "end of text":
                break
        async for data in websocket.iter_bytes():
            received.append(data.decode())
            if data == b"end of bytes":
                break
        received.extend([value async for value in websocket.iter_json()])
        results.append(received)

    results: list[Any] = []
    async with Client(serve(manager, endpoint)) as client, client.connect("/ws") as ann:
        sent = [
            "text",
            b"bytes",
            '{"a": 1}',
            b'{"b": 2}',
            "event",
            "t",
            "end of text",
            b"b",
            b"end of bytes",
            "[1]",
            "2",
        ]
        for message in sent:
            await ann.send(message)
    assert results == [
        [
            "text",
            "bytes",
            {"a": 1},
            {"b": 2},
            {"type": "websocket.receive", "text": "event"},
            "t",
            "end of text",
            "b",
            "end of bytes",
            [1],
            2,
        ]
    ]


async def test_a_raw_receive_raises_the_clients_code_and_reason(manager: ConnectionManager) -> None:
    ends: list[Any] = []

    async def endpoint(websocket: WebSocket) -> None:
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as ended:
            ends.append((ended.code, ended.reason, websocket.client_state))

    async with Client(serve(manager, endpoint)) as client, client.connect("/ws") as ann:
        await ann.close(4001, "bye")
    assert ends == [(4001, "bye", WebSocketState.DISCONNECTED)]


async def test_a_raw_close_comes_after_what_was_sent_with_code_and_reason(manager: ConnectionManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.send_text("one")
        await manager.broadcast("two")
        await websocket.close(4000, "over")
        assert len(manager.active_connections) == 0
        with pytest.raises(RuntimeError):
            await websocket.send_text("three")
        manager.disconnect(websocket)
        await manager.broadcast("three")

    async with Client(serve(manager, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("one", "two")
        await ann.assert_closed(4000, "over")


async def test_a_raw_close_without_arguments_closes_with_1000(manager: ConnectionManager) -> None:
    async with (
        Client(serve(manager, lambda websocket: websocket.close())) as client,
        client.connect("/ws") as ann,
    ):
        await ann.assert_closed(1000, "")


async def test_a_raw_close_of_one_that_is_gone_is_no_error(manager: ConnectionManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await waits(websocket)
        await websocket.close()
        done.set()

    done = asyncio.Event()
    async with Client(serve(manager, endpoint)) as client, client.connect("/ws"):
        pass
    assert done.is_set()


async def test_a_raw_send_to_a_client_that_has_left_raises_in_its_own_endpoint(manager: ConnectionManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0)

    async with Client(serve(manager, endpoint)) as client, client.connect("/ws") as ann:
        await ann.assert_received("tick")
    assert len(manager.active_connections) == 0


# What is left behind


async def forgets(websocket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        await websocket.receive_text()


async def returns(websocket: WebSocket) -> None: ...


async def is_refused(websocket: WebSocket) -> None:
    raise HTTPException(403)


async def closes(websocket: WebSocket) -> None:
    await websocket.close(4000)


async def lets_the_disconnect_through(websocket: WebSocket) -> None:
    await websocket.receive_text()


@pytest.mark.parametrize(
    "endpoint", [forgets, returns, is_refused, closes, lets_the_disconnect_through], ids=lambda one: one.__name__
)
async def test_an_endpoint_that_forgets_disconnect_leaves_nothing_behind(
    manager: ConnectionManager, endpoint: Callable[[WebSocket], Awaitable[None]]
) -> None:
    async with Client(serve(manager, endpoint)) as client:
        before = asyncio.all_tasks()
        for _ in range(10):
            async with client.connect("/ws"):
                pass
        await present(manager, 0)
        await until(lambda: asyncio.all_tasks() == before)
        statistics = manager.hub.statistics()
        assert (statistics.accepted, statistics.connections, statistics.queued_bytes) == (10, 0, 0)
        await manager.broadcast("nobody")
        assert manager.hub.statistics().deliveries == 0


async def test_an_endpoint_that_fails_closes_with_1011_and_leaves_nothing_behind(manager: ConnectionManager) -> None:
    async def fails(websocket: WebSocket) -> None:
        raise ZeroDivisionError

    client = Client(serve(manager, fails), raise_app_exceptions=False)
    async with client, client.connect("/ws") as ann:
        await ann.assert_closed(1011)
        assert len(manager.active_connections) == 0


# Together with a hub


async def test_a_manager_takes_the_broker_that_a_hub_takes() -> None:
    ConnectionManager("memory://")
    manager = ConnectionManager("redis://localhost:6379", max_connections=10)
    assert repr(manager.hub) == "<Hub redis:// with <0 connections>>"
    with pytest.raises(ValueError, match="redis://"):
        ConnectionManager("nats://localhost")


async def test_managers_of_several_workers_share_a_broker() -> None:
    app = FastAPI()
    with redis_server() as redis:
        managers = [ConnectionManager(redis.url, max_connections=1) for _ in range(2)]

        @app.websocket("/ws/{worker}")
        async def route(websocket: WebSocket, worker: int) -> None:
            await managers[worker].connect(websocket)
            await managers[worker].broadcast(f"{worker} came")
            async for text in websocket.iter_text():
                managers[worker].disconnect(websocket)
                await managers[worker].broadcast(text)

        async with managers[0].hub, managers[1].hub, Client(app) as client, client.connect("/ws/0") as ann:
            await ann.assert_received("0 came")
            async with client.connect("/ws/1") as bob:
                await ann.assert_received("1 came")
                await bob.assert_received("1 came")
                with pytest.raises(Refused) as refused:
                    await client.connect("/ws/1").__aenter__()
                assert refused.value.status == 503
                assert [len(manager.active_connections) for manager in managers] == [1, 1]
                await ann.send("ann hears no more")
                await bob.assert_received("ann hears no more")
                await ann.assert_nothing()


async def test_the_hub_behind_it_reaches_the_sockets_too(manager: ConnectionManager) -> None:
    async with sockets(manager, 1) as (ann,):
        assert isinstance(manager.hub, Hub)
        await manager.hub.broadcast("from the hub")
        (connection,) = manager.hub.connections.values()
        await connection.join("room")
        await manager.hub.publish("room", "in the room")
        await ann.assert_received("from the hub", "in the room")


# What people have made of the class


async def test_a_manager_of_ones_own_is_a_subclass() -> None:
    class Rooms(ConnectionManager):
        def __init__(self) -> None:
            super().__init__()
            self.rooms: dict[str, list[WebSocket]] = {}

        async def connect(self, websocket: WebSocket, room: str) -> None:  # type: ignore[override]
            await super().connect(websocket, user=room)
            self.rooms.setdefault(room, []).append(websocket)

    manager = Rooms()
    app = FastAPI()

    @app.websocket("/{room}")
    async def endpoint(websocket: WebSocket, room: str) -> None:
        await manager.connect(websocket, room)
        async for text in websocket.iter_text():
            await manager.hub.send(room, text)

    async with Client(app) as client, client.connect("/a") as ann, client.connect("/b") as bob:
        await ann.send("hello")
        await ann.assert_received("hello")
        await bob.assert_nothing()
        assert list(manager.rooms) == ["a", "b"]


def test_the_list_of_connections_is_the_managers_own() -> None:
    with pytest.raises(AttributeError, match="another name"):
        ConnectionManager().active_connections = {}  # type: ignore[assignment]


async def test_a_socket_belongs_to_one_manager() -> None:
    one, other = ConnectionManager(), ConnectionManager()
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await one.connect(websocket)
        with pytest.raises(RuntimeError, match="one manager"):
            await other.connect(websocket)
        await one.send_personal_message("still here", websocket)

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.assert_received("still here")


async def test_swapped_arguments_of_a_personal_message_are_named() -> None:
    with pytest.raises(TypeError, match=r"send_personal_message\(message, websocket\)"):
        await ConnectionManager().send_personal_message("message", "socket")  # type: ignore[arg-type]
