"""The hub: who hears what, its life and its loop, the view that it gives, and the way in from threads."""

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import re
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Annotated, Any

import anyio.to_thread
import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from pydantic import BaseModel, model_serializer
from starlette.testclient import TestClient, WebSocketDenialResponse

from hubbub import Connection, ConnectionManager, Hub, Limits, Outbox
from hubbub.fastapi.hub import hubs, is_shared
from hubbub.testing import Client, ClientConnection, ManualClock, RecordingTransport, Refused
from tests.redis_server import redis_server

Event = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hub(clock: ManualClock) -> Hub:
    return Hub(clock=clock)


@pytest.fixture
def app(hub: Hub) -> FastAPI:
    """An application whose `/ws` waits for its client to leave, as the user and in the rooms that the query names."""
    return application(hub)


def application(hub: Hub, **options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.websocket("/ws")
    async def endpoint(
        connection: Annotated[Connection, Depends(hub)], user: str | None = None, rooms: str = ""
    ) -> None:
        await connection.accept(user=user)
        for room in filter(None, rooms.split(",")):
            await connection.join(room)
        async for message in connection:
            await connection.send(f"echo {message!r}")

    return app


@contextlib.asynccontextmanager
async def clients(app: App, *paths: str) -> AsyncIterator[list[ClientConnection]]:
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(app))
        yield [await stack.enter_async_context(client.connect(path)) for path in paths]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something is the case."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never was the case")


async def present(hub: Hub, number: int) -> None:
    """Wait until so many connections are open: a client is let in a moment before its connection is registered."""
    await until(lambda: len(hub.connections) == number)


async def joined(hub: Hub, room: str, number: int) -> None:
    """Wait until so many connections have joined."""
    await until(lambda: sum(room in one.channels for one in hub.connections.values()) == number)


def of(hub: Hub, user: str) -> Connection:
    """Return the connection of a user."""
    return next(hub.connections[key] for key in hub.connections if hub.connections[key].user == user)


async def turns(number: int = 10) -> None:
    """Let every task that can go on do so."""
    for _ in range(number):
        await asyncio.sleep(0)


# Who hears what


async def test_a_broadcast_reaches_everyone_and_each_only_once(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws", "/ws?user=ann&rooms=a,b", "/ws?user=ann") as everyone:
        await joined(hub, "b", 1)
        await present(hub, 3)
        await hub.broadcast("hello")
        await hub.broadcast(b"bytes")
        for one in everyone:
            await one.assert_received("hello", b"bytes")
            await one.assert_nothing()


async def test_publishing_reaches_those_who_have_joined_and_not_left(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws?user=ann&rooms=room", "/ws?user=bob&rooms=room", "/ws") as (ann, bob, eve):
        await joined(hub, "room", 2)
        await hub.publish("room", "one")
        await of(hub, "bob").leave("room")
        await hub.publish("room", "two")
        await ann.assert_received("one", "two")
        await bob.assert_received("one")
        await bob.assert_nothing()
        await eve.assert_nothing()


async def test_joining_twice_is_hearing_once_and_leaving_once_is_leaving(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws?user=ann&rooms=room,room") as (ann,):
        await joined(hub, "room", 1)
        await hub.publish("room", "one")
        await of(hub, "ann").leave("room")
        await of(hub, "ann").leave("room")
        await hub.publish("room", "two")
        await ann.assert_received("one")
        await ann.assert_nothing()


async def test_a_user_hears_in_all_tabs_and_nobody_else_does(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws?user=ann", "/ws?user=ann", "/ws?user=bob", "/ws") as (one, two, bob, nobody):
        await present(hub, 4)
        await hub.send("ann", {"for": "ann"})
        await hub.send("nobody at all", "lost")
        for tab in (one, two):
            await tab.assert_received({"for": "ann"})
        for other in (bob, nobody):
            await other.assert_nothing()
        assert hub.statistics().users == 2


@pytest.mark.parametrize("user", ["$all", "a:b", "$user:ann", "ü😀", "None", " ", "x" * 10_000])
async def test_any_text_can_name_a_user_and_is_that_user_only(hub: Hub, user: str) -> None:
    app = FastAPI()

    @app.websocket("/ws/{number}")
    async def endpoint(connection: Annotated[Connection, Depends(hub)], number: int) -> None:
        await connection.accept(user=[user, "ann", None][number])
        await connection.receive()

    async with clients(app, "/ws/0", "/ws/1", "/ws/2") as (odd, ann, nobody):
        await present(hub, 3)
        await hub.send(user, "for the odd one")
        await odd.assert_received("for the odd one")
        for other in (ann, nobody):
            await other.assert_nothing()


@pytest.mark.parametrize("user", [None, 1, b"ann", ["ann"]])
async def test_a_user_that_is_no_str_is_a_type_error(hub: Hub, user: Any) -> None:
    with pytest.raises(TypeError, match="user"):
        await hub.send(user, "hello")
    with pytest.raises(TypeError, match="user"):
        await hub.disconnect(user)


async def test_broadcast_then_send_then_publish_arrive_in_that_order(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws?user=ann&rooms=room") as (ann,):
        await joined(hub, "room", 1)
        expected = []
        for number in range(100):
            await hub.broadcast(f"{number} broadcast")
            await of(hub, "ann").send(f"{number} send")
            await hub.publish("room", f"{number} publish")
            await hub.send("ann", f"{number} user")
            expected += [f"{number} {kind}" for kind in ("broadcast", "send", "publish", "user")]
        await ann.assert_received(*expected)


async def test_publications_of_several_tasks_reach_everyone_in_one_order(hub: Hub, app: FastAPI) -> None:
    async with clients(app, *["/ws?rooms=room"] * 3) as everyone:
        await joined(hub, "room", 3)

        async def publish(name: str) -> None:
            for number in range(50):
                await hub.publish("room", f"{name}{number}")
                await asyncio.sleep(0)

        await asyncio.gather(*map(publish, "abc"))
        heard = [[await one.receive() for _ in range(150)] for one in everyone]
        assert heard[0] == heard[1] == heard[2]
        for name in "abc":
            assert [message for message in heard[0] if name in str(message)] == [f"{name}{n}" for n in range(50)]


async def test_a_message_is_encoded_once_however_many_hear_it(hub: Hub, app: FastAPI) -> None:
    encoded = itertools.count()

    class Message(BaseModel):
        @model_serializer
        def serialise(self) -> dict[str, int]:
            return {"times": next(encoded)}

    async with clients(app, *["/ws"] * 10) as everyone:
        await present(hub, 10)
        await hub.broadcast(Message())
        for one in everyone:
            await one.assert_received({"times": 0})
    assert next(encoded) == 1


async def test_a_publication_that_nobody_hears_is_no_error_but_must_be_sendable(hub: Hub) -> None:
    await hub.broadcast("nobody")
    await hub.publish("room", "nobody")
    with pytest.raises(TypeError, match="JSON"):
        await hub.broadcast(object())


# Exclude


EXCLUDES: dict[str, tuple[Callable[[Connection, Connection], Any], int]] = {
    "one": (lambda ann, bob: ann, 1),
    "list": (lambda ann, bob: [ann], 1),
    "tuple of two": (lambda ann, bob: (ann, bob), 2),
    "set": (lambda ann, bob: {ann, bob}, 2),
    "generator": (lambda ann, bob: (connection for connection in (ann, bob)), 2),
    "twice the same": (lambda ann, bob: [ann, ann], 1),
    "nothing": (lambda ann, bob: None, 0),
    "an empty list": (lambda ann, bob: [], 0),
    "values of a dict": (lambda ann, bob: {1: bob}.values(), 1),
}


@pytest.mark.parametrize(("exclude", "excluded"), EXCLUDES.values(), ids=EXCLUDES.keys())
@pytest.mark.parametrize("way", ["broadcast", "publish", "send", "channel"])
async def test_exclude_leaves_out_one_or_several_however_they_are_given(
    hub: Hub, app: FastAPI, way: str, exclude: Callable[[Connection, Connection], Any], excluded: int
) -> None:
    async with clients(app, *["/ws?user=ann&rooms=room"] * 3) as (*_, eve):
        await joined(hub, "room", 3)
        first, second, _ = hub.connections.values()
        given = exclude(first, second)
        match way:
            case "broadcast":
                await hub.broadcast("hello", exclude=given)
            case "publish":
                await hub.publish("room", "hello", exclude=given)
            case "send":
                await hub.send("ann", "hello", exclude=given)
            case "channel":
                await hub.channel("room").publish("hello", exclude=given)
        await eve.assert_received("hello")
        assert hub.statistics().deliveries == 3 - excluded


@pytest.mark.parametrize("exclude", ["ann", ["ann"], [None], 7, [7], {"id": 7}], ids=repr)
async def test_excluding_what_is_no_connection_is_a_type_error_and_sends_nothing(
    hub: Hub, app: FastAPI, exclude: Any
) -> None:
    async with clients(app, "/ws?user=ann&rooms=room") as (ann,):
        await joined(hub, "room", 1)
        for send in (hub.broadcast, lambda m, **k: hub.publish("room", m, **k), lambda m, **k: hub.send("ann", m, **k)):
            with pytest.raises(TypeError):
                await send("hello", exclude=exclude)
        await ann.assert_nothing()


async def test_excluding_a_websocket_says_that_a_connection_is_wanted(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws"):
        await present(hub, 1)
        (connection,) = hub.connections.values()
        with pytest.raises(TypeError, match="not a Connection"):
            await hub.broadcast("hello", exclude=connection.websocket)  # type: ignore[arg-type]


async def test_excluding_one_that_is_gone_leaves_out_nobody(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws?user=ann", "/ws?user=bob") as (ann, bob):
        await present(hub, 2)
        gone = of(hub, "ann")
        await ann.close()
        await present(hub, 1)
        await hub.broadcast("hello", exclude=gone)
        await bob.assert_received("hello")


# Reserved names


NAMES = ["$all", "$user:ann", "$", "$node:1", ""]


@pytest.mark.parametrize("name", [*NAMES, None, 1, b"room", ["room"]], ids=repr)
async def test_reserved_and_impossible_channel_names_are_refused_everywhere(hub: Hub, app: FastAPI, name: Any) -> None:
    async with clients(app, "/ws?user=ann") as (ann,):
        await present(hub, 1)
        connection = of(hub, "ann")
        for call in (
            lambda: connection.join(name),
            lambda: connection.leave(name),
            lambda: hub.publish(name, "hello"),
            lambda: asyncio.to_thread(hub.from_thread.publish, name, "hello"),
        ):
            with pytest.raises(ValueError, match="channel"):
                await call()
        with pytest.raises(ValueError, match="channel"):
            hub.channel(name)
        await ann.assert_nothing()
        assert connection.channels == frozenset()
        await hub.broadcast("still in everyone's channel")
        await ann.assert_received("still in everyone's channel")


@pytest.mark.parametrize("pattern", [*NAMES, "$room:{room}"])
def test_reserved_patterns_are_refused(hub: Hub, pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        hub.channels(pattern)


# Disconnecting a user


async def test_disconnecting_a_user_closes_all_tabs_after_what_is_queued(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws?user=ann", "/ws?user=ann", "/ws?user=bob", "/ws") as (one, two, bob, nobody):
        await present(hub, 4)
        await hub.send("ann", "last")
        await hub.disconnect("ann")
        assert {connection.user for connection in hub.connections.values()} == {"bob", None}
        for tab in (one, two):
            await tab.assert_received("last")
            await tab.assert_closed(3503, "")
        await hub.disconnect("ann")
        await hub.disconnect("bob", 4001, "banned")
        await bob.assert_closed(4001, "banned")
        await nobody.assert_nothing()
        assert hub.statistics().closed == {3503: 2, 4001: 1}


async def test_disconnecting_does_not_wait_for_a_client_that_does_not_read(
    hub: Hub, app: FastAPI, clock: ManualClock
) -> None:
    transport = RecordingTransport()
    async with Client(app) as client, client.connect("/ws?user=ann", transport=transport):
        await present(hub, 1)
        transport.buffered_bytes = 100_000
        await hub.send("ann", "never read")
        await hub.disconnect("ann")
        assert not hub.connections
        assert transport.closed is None
        clock.advance(5)
        assert hub.statistics().closed == {3503: 1}


async def test_disconnecting_nobody_in_particular_is_no_error(hub: Hub) -> None:
    await hub.disconnect("ann")
    with pytest.raises(ValueError, match="close code"):
        await hub.disconnect("ann", 1006)
    with pytest.raises(ValueError, match="124 bytes"):
        await hub.disconnect("ann", 4000, "r" * 124)


# The view of the connections


async def test_the_connections_are_a_live_mapping_by_id(hub: Hub, app: FastAPI) -> None:
    view = hub.connections
    assert len(view) == 0
    assert not view
    async with clients(app, "/ws?user=ann", "/ws?user=bob") as (ann, _):
        await present(hub, 2)
        connection = of(hub, "ann")
        assert len(view) == 2
        assert view[connection.id] is connection
        assert view.get("unknown") is None
        assert connection.id in view
        assert "unknown" not in view
        assert {one.user for one in view.values()} == {"ann", "bob"}
        assert dict(view) == dict(view.items())
        assert "2 connections" in repr(view)
        assert "2 connections" in repr(hub)
        with pytest.raises(KeyError):
            view["unknown"]
        await ann.close()
        await present(hub, 1)
        assert connection.id not in view


@pytest.mark.parametrize("way", ["keys", "values", "items"])
async def test_iterating_the_connections_is_safe_while_they_come_and_go(hub: Hub, app: FastAPI, way: str) -> None:
    async with Client(app) as client:
        everyone = [await client.connect("/ws").__aenter__() for _ in range(3)]
        await present(hub, 3)
        seen = 0
        for _ in getattr(hub.connections, way)():
            seen += 1
            for one in everyone:
                await one.close()
            await present(hub, 0)
            async with client.connect("/ws"):
                await present(hub, 1)
            await present(hub, 0)
        assert 1 <= seen <= 3


async def test_the_connections_cannot_be_changed(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws"):
        await present(hub, 1)
        for name in ("pop", "clear", "update", "__setitem__", "__delitem__"):
            assert not hasattr(hub.connections, name)


# Statistics


async def test_statistics_count_what_has_happened(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws?user=ann&rooms=a,b", "/ws?user=ann&rooms=b", "/ws") as (ann, two, _):
        await joined(hub, "b", 2)
        await present(hub, 3)
        await hub.broadcast("1234")
        await hub.publish("b", "ü")
        await hub.publish("empty", "x")
        await ann.send("in")
        await ann.assert_received("1234", "ü", "echo 'in'")
        await two.close(4004)
        await present(hub, 2)
        statistics = hub.statistics()
    assert {field.name: getattr(statistics, field.name) for field in dataclasses.fields(statistics)} == {
        "connections": 2,
        "users": 1,
        "channels": 2,
        "queued_bytes": 0,
        "accepted": 3,
        "refused": {},
        "closed": {4004: 1},
        "messages_received": 1,
        "bytes_received": 2,
        "published": 3,
        "deliveries": 3 + 2 + 1,
        "bytes_sent": 3 * 4 + 2 * 2 + len("echo 'in'"),
        "dropped": {},
        "undelivered": 0,
        "discarded": 0,
        "invalid_messages": 0,
        "violations": {},
        "is_broker_connected": True,
        "gaps": 0,
        "unrecovered": 0,
        "resumed": 0,
        "not_resumed": 0,
        "history_reads": 0,
        "malformed": 0,
    }


async def test_statistics_can_be_returned_from_a_route(hub: Hub, app: FastAPI) -> None:
    @app.get("/statistics")
    async def statistics() -> Any:
        return hub.statistics()

    async with (
        clients(app, "/ws"),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http,
    ):
        await present(hub, 1)
        assert (await http.get("/statistics")).json()["accepted"] == 1


async def test_statistics_can_be_sent_to_a_client(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws") as (ann,):
        await present(hub, 1)
        await hub.broadcast(hub.statistics())
        assert (await ann.receive_json())["accepted"] == 1


async def test_a_record_of_statistics_is_frozen(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws") as (ann,):
        await present(hub, 1)
        before = hub.statistics()
        await ann.close()
        await present(hub, 0)
        assert before.connections == 1
        assert before.closed == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.connections = 7  # type: ignore[misc]
    assert hub.statistics().closed is not before.closed


def test_a_hub_that_has_not_started_has_empty_statistics_and_no_connections(hub: Hub) -> None:
    assert hub.statistics().accepted == 0
    assert dict(hub.connections) == {}


# A slow client


async def test_publishing_gives_the_loop_back_once_when_something_had_to_be_queued(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws", "/ws") as (ann, bob):
        await present(hub, 2)
        turned: list[str] = []
        loop = asyncio.get_running_loop()

        loop.call_soon(turned.append, "turned")
        await hub.broadcast("1")
        assert turned == [], "everything was written at once"

        await ann.assert_received("1")
        await bob.assert_received("1")
        bob.stall()
        await hub.broadcast("2")
        await ann.assert_received("2")
        turned.clear()
        loop.call_soon(turned.append, "turned")
        loop.call_soon(lambda: loop.call_soon(turned.append, "turned twice"))
        await hub.broadcast("3")
        assert turned == ["turned"]


async def test_a_stalled_client_is_disconnected_as_slow_and_the_others_get_everything(
    hub: Hub, clock: ManualClock
) -> None:
    codes: list[int] = []
    app = FastAPI()

    @app.websocket("/ws/{name}")
    async def endpoint(
        name: str, connection: Annotated[Connection, Depends(hub.connection(outbox=Outbox(bytes=50_000)))]
    ) -> None:
        await connection.accept(user=name)
        async for _ in connection:
            pass
        codes.append(connection.close_code)

    async with clients(app, "/ws/ann", "/ws/bob", "/ws/eve") as (ann, bob, eve):
        await present(hub, 3)
        eve.stall()
        for number in range(200):
            await hub.broadcast(f"{number:04}" + "x" * 1_000)
        await turns()
        assert codes == [3008]
        assert {connection.user for connection in hub.connections.values()} == {"ann", "bob"}
        for one in (ann, bob):
            for number in range(200):
                assert str(await one.receive()).startswith(f"{number:04}")
        statistics = hub.statistics()
        assert statistics.closed == {3008: 1}
        assert statistics.queued_bytes == 0


async def test_a_tight_loop_of_small_broadcasts_disconnects_no_healthy_client(hub: Hub, app: FastAPI) -> None:
    async with clients(app, *["/ws"] * 5) as everyone:
        await present(hub, 5)
        for number in range(5_000):
            await hub.broadcast(str(number))
        for one in everyone:
            for number in range(5_000):
                assert await one.receive() == str(number)
        assert hub.statistics().closed == {}


async def test_a_tight_loop_of_sends_to_a_user_from_an_endpoint_disconnects_nobody(hub: Hub, app: FastAPI) -> None:
    @app.websocket("/loud")
    async def loud(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()
        for number in range(5_000):
            await connection.send(str(number))
            await hub.send("ann", str(number))

    async with clients(app, "/ws?user=ann", "/loud") as (ann, bob):
        for one in (ann, bob):
            for number in range(5_000):
                assert await one.receive() == str(number)
        await bob.assert_closed(1000)
        assert hub.statistics().closed == {1000: 1}


# Settings of one endpoint


async def test_two_endpoints_have_counts_of_their_own_beside_the_hubs(clock: ManualClock) -> None:
    hub = Hub(limits=Limits(connections=3), clock=clock)
    app = FastAPI()
    small, large = hub.connection(limits=Limits(connections=1)), hub.connection(limits=Limits(connections=5))

    @app.websocket("/small")
    async def on_small(connection: Annotated[Connection, Depends(small)]) -> None:
        await connection.receive()

    @app.websocket("/large")
    async def on_large(connection: Annotated[Connection, Depends(large)]) -> None:
        await connection.receive()

    async with Client(app) as client, client.connect("/small"), client.connect("/large"):
        with pytest.raises(Refused):
            await client.connect("/small").__aenter__()
        async with client.connect("/large"):
            with pytest.raises(Refused):
                await client.connect("/large").__aenter__()
            assert len(hub.connections) == 3
        await present(hub, 2)
        async with client.connect("/large"):
            await present(hub, 3)


async def test_other_limits_of_an_endpoint_hold_instead_of_the_hubs(clock: ManualClock) -> None:
    hub = Hub(limits=Limits(message_bytes=10), clock=clock)
    app = application(hub)

    @app.websocket("/large")
    async def large(
        connection: Annotated[Connection, Depends(hub.connection(limits=Limits(message_bytes=20)))],
    ) -> None:
        await connection.send(len(await connection.receive()))

    async with clients(app, "/ws", "/large") as (small, large_one):
        await small.send("x" * 11)
        await small.assert_closed(1009, "message_bytes")
        await large_one.send("x" * 20)
        await large_one.assert_received(20)


VIOLATIONS: dict[str, tuple[Limits, int]] = {
    "message_bytes": (Limits(message_bytes=3), 1009),
    "messages_per_s": (Limits(messages_per_s=1, message_burst=1), 1008),
    "first_message_s": (Limits(first_message_s=3), 1008),
    "idle_s": (Limits(idle_s=3), 1008),
}


@pytest.mark.parametrize("limit", VIOLATIONS)
@pytest.mark.parametrize("whose", ["hub", "endpoint"])
async def test_going_over_a_limit_closes_with_its_name(clock: ManualClock, whose: str, limit: str) -> None:
    limits, code = VIOLATIONS[limit]
    hub = Hub(limits=limits, clock=clock) if whose == "hub" else Hub(clock=clock)
    dependency = hub if whose == "hub" else hub.connection(limits=limits)
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(dependency)]) -> None:
        async for _ in connection:
            pass

    async with clients(app, "/ws") as (ann,):
        await present(hub, 1)
        if limit == "message_bytes":
            await ann.send("üü")
        elif limit == "messages_per_s":
            await ann.send("1")
            await ann.send("2")
        else:
            clock.advance(3)
        await ann.assert_closed(code, limit)
        assert hub.statistics().violations == {limit: 1}


@pytest.mark.parametrize("limits", [Limits(first_message_s=3), Limits(idle_s=3)], ids=["first", "idle"])
async def test_a_client_that_speaks_in_time_stays(clock: ManualClock, limits: Limits) -> None:
    hub = Hub(limits=limits, clock=clock)
    async with clients(application(hub), "/ws") as (ann,):
        await present(hub, 1)
        for _ in range(3):
            clock.advance(2)
            await ann.send("here")
            await ann.assert_received("echo 'here'")
        assert hub.statistics().closed == {}


@pytest.mark.parametrize(
    "settings", [{}, {"outbox": Outbox(bytes=5_000)}, {"on_invalid": "raise"}], ids=["none", "outbox", "on_invalid"]
)
async def test_the_limits_that_an_endpoint_does_not_set_are_the_hubs(settings: dict[str, Any]) -> None:
    hub = Hub(limits=Limits(message_bytes=10))
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub.connection(**settings))]) -> None:
        await connection.accept()
        await connection.receive()

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send("x" * 11)
        await ann.assert_closed(1009, "message_bytes")


async def test_the_answer_to_invalid_messages_that_an_endpoint_does_not_set_is_the_hubs() -> None:
    hub = Hub(on_invalid="close")
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection[int], Depends(hub.connection(limits=Limits()))]) -> None:
        await connection.accept()
        await connection.receive()

    async with Client(app) as client, client.connect("/ws") as ann:
        await ann.send("{")
        await ann.assert_closed(1007, "invalid_message")


async def test_settings_on_the_decorator_hold_for_the_endpoints_own_connection(hub: Hub) -> None:
    app = FastAPI()
    strict = hub.connection(limits=Limits(message_bytes=3))

    @app.websocket("/ws", dependencies=[Depends(strict)])
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.receive()

    async with clients(app, "/ws") as (ann,):
        await ann.send("long")
        await ann.assert_closed(1009, "message_bytes")


async def test_settings_hold_also_when_a_dependency_has_seen_the_connection_before(hub: Hub) -> None:
    app = FastAPI()

    async def named(connection: Annotated[Connection, Depends(hub)]) -> None:
        connection.user = "ann"

    @app.websocket("/ws", dependencies=[Depends(named)])
    async def endpoint(
        connection: Annotated[Connection, Depends(hub.connection(limits=Limits(message_bytes=3)))],
    ) -> None:
        await connection.send(connection.user)
        await connection.receive()

    async with clients(app, "/ws") as (ann,):
        await ann.assert_received("ann")
        await ann.send("long")
        await ann.assert_closed(1009, "message_bytes")


async def test_settings_that_come_after_acceptance_are_an_error(hub: Hub) -> None:
    app = FastAPI()

    async def accepted(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.accept()

    @app.websocket("/ws", dependencies=[Depends(accepted)])
    async def endpoint(connection: Annotated[Connection, Depends(hub.connection(limits=Limits()))]) -> None: ...

    client = Client(app, raise_app_exceptions=False)
    async with client, client.connect("/ws") as ann:
        await ann.assert_closed(1011)
    with pytest.raises(RuntimeError, match=r"accepted already.*hub\.connection"):
        async with Client(app) as client, client.connect("/ws"):
            await present(hub, 0)


async def test_an_outbox_of_an_endpoint_holds_for_its_clients(hub: Hub) -> None:
    app = application(hub)

    @app.websocket("/small")
    async def small(connection: Annotated[Connection, Depends(hub.connection(outbox=Outbox(bytes=1_000)))]) -> None:
        await connection.receive()

    async with clients(app, "/ws", "/small") as both:
        await present(hub, 2)
        for one in both:
            one.stall()
        for _ in range(10):
            await hub.broadcast("x" * 500)
        assert hub.statistics().closed == {3008: 1}


# Constructing


def test_a_broker_that_this_version_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="redis://"):
        Hub("nats://localhost")


async def test_what_an_endpoint_broadcasts_first_reaches_its_own_client_by_a_broker_too() -> None:
    with redis_server() as redis:
        hub = Hub(redis.url)
        app = FastAPI(lifespan=hub.lifespan)

        @app.websocket("/ws")
        async def ws(connection: Annotated[Connection, Depends(hub)]) -> None:
            await connection.accept()
            await hub.broadcast("joined")
            async for _ in connection:
                pass

        async with Client(app) as client:
            for _ in range(3):  # nobody else is there to hear for
                async with client.connect("/ws") as ann:
                    await ann.assert_received("joined")
                await present(hub, 0)


def test_all_hubs_are_known_while_somebody_has_them() -> None:
    alone, shared, manager = Hub(), Hub("redis://localhost"), ConnectionManager()
    assert {alone, shared, manager.hub} <= {*hubs()}
    assert [is_shared(hub) for hub in (alone, shared, manager.hub)] == [False, True, False]
    gone = weakref.ref(shared)
    del shared
    gc.collect()
    assert gone() is None


def test_allowed_origins_as_one_str_are_an_error() -> None:
    with pytest.raises(TypeError, match=r"\('https://app.example',\)"):
        Hub(allowed_origins="https://app.example")


async def test_a_second_hub_shares_nothing_with_the_first(hub: Hub, app: FastAPI) -> None:
    other = Hub()
    both = FastAPI()
    both.mount("/one", app)
    both.mount("/two", application(other))
    async with clients(both, "/one/ws?user=ann&rooms=room", "/two/ws?user=ann&rooms=room") as (one, two):
        await joined(hub, "room", 1)
        await joined(other, "room", 1)
        await hub.broadcast("first")
        await hub.publish("room", "first")
        await hub.send("ann", "first")
        await one.assert_received("first", "first", "first")
        await two.assert_nothing()
        await other.disconnect("ann")
        await two.assert_closed(3503)
        await one.assert_nothing()
        assert len(hub.connections) == 1


# HTTP routes


async def test_an_async_route_reaches_the_sockets(hub: Hub, app: FastAPI) -> None:
    class Note(BaseModel):
        text: str

    @app.post("/notify/{user}")
    async def notify(user: str, note: Note) -> None:
        await hub.send(user, note)

    async with (
        clients(app, "/ws?user=ann", "/ws?user=bob") as (ann, bob),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http,
    ):
        await present(hub, 2)
        assert (await http.post("/notify/ann", json={"text": "hi"})).status_code == 200
        await ann.assert_received({"text": "hi"})
        await bob.assert_nothing()


async def test_a_sync_route_reaches_the_sockets_through_from_thread(hub: Hub, app: FastAPI) -> None:
    @app.post("/all")
    def to_all() -> None:
        hub.from_thread.broadcast("all", exclude=of(hub, "eve"))
        hub.from_thread.publish("room", "room")
        hub.from_thread.publish(hub.channel("room"), "channel")
        hub.from_thread.send("ann", {"for": "ann"})
        hub.from_thread.disconnect("ann", 4005, "bye")

    async with (
        clients(app, "/ws?user=ann&rooms=room", "/ws?user=eve") as (ann, eve),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http,
    ):
        await joined(hub, "room", 1)
        await present(hub, 2)
        assert (await http.post("/all")).status_code == 200
        await ann.assert_received("all", "room", "channel", {"for": "ann"})
        await ann.assert_closed(4005, "bye")
        await eve.assert_nothing()


async def test_depends_hub_in_an_http_route_says_what_to_use_instead(hub: Hub, app: FastAPI) -> None:
    @app.get("/")
    async def route(connection: Annotated[Connection, Depends(hub)]) -> None: ...

    @app.get("/own")
    async def own(connection: Annotated[Connection, Depends(hub.connection(limits=Limits()))]) -> None: ...

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        for path in ("/", "/own"):
            with pytest.raises(RuntimeError, match=r"WebSocket routes.*hub\.publish"):
                await http.get(path)


# Threads


async def test_a_foreign_thread_reaches_the_sockets(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws?user=ann") as (ann,):
        await present(hub, 1)
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            hub.from_thread.broadcast("from afar")
            loop.call_soon_threadsafe(done.set)

        thread = threading.Thread(target=work)
        thread.start()
        await done.wait()
        thread.join()
        await ann.assert_received("from afar")


async def test_what_a_call_from_a_thread_raises_is_raised_in_the_thread(hub: Hub) -> None:
    await hub.broadcast("the hub starts")
    with pytest.raises(TypeError, match="JSON"):
        await asyncio.to_thread(hub.from_thread.broadcast, object())
    with pytest.raises(TypeError, match="user"):
        await asyncio.to_thread(hub.from_thread.send, 1, "hello")
    with pytest.raises(ValueError, match="close code"):
        await asyncio.to_thread(hub.from_thread.disconnect, "ann", 1)
    with pytest.raises(TypeError):
        await asyncio.to_thread(hub.from_thread.broadcast, "hello", exclude=7)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda threads: threads.broadcast("x"), "broadcast"),
        (lambda threads: threads.publish("room", "x"), "publish"),
        (lambda threads: threads.send("ann", "x"), "send"),
        (lambda threads: threads.disconnect("ann"), "disconnect"),
    ],
)
async def test_from_thread_in_the_loop_is_an_error_that_names_the_call_to_await(
    hub: Hub, call: Callable[[Any], None], name: str
) -> None:
    await hub.broadcast("the hub starts")
    with pytest.raises(RuntimeError, match=rf"await hub\.{name}"):
        call(hub.from_thread)


async def test_a_worker_thread_of_the_loop_starts_a_hub_that_has_not_started(hub: Hub) -> None:
    await anyio.to_thread.run_sync(hub.from_thread.broadcast, "nobody yet")
    assert hub.statistics().published == 1
    await hub.broadcast("it started in this loop")
    assert hub.statistics().published == 2


def test_a_foreign_thread_cannot_start_a_hub(hub: Hub) -> None:
    with pytest.raises(RuntimeError, match=r"has not started.*lifespan"):
        hub.from_thread.broadcast("nobody")


def test_a_thread_is_told_when_the_hubs_loop_stands_still_and_does_not_wait_for_ever(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def would_wait_for_ever(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        coroutine.close()
        pytest.fail("it waits for a loop that does not run")

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(hub.broadcast("nobody"))
        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", would_wait_for_ever)
        with pytest.raises(RuntimeError):
            hub.from_thread.broadcast("nobody")
    finally:
        loop.close()


async def test_a_foreign_thread_after_the_end_is_told_that_the_hub_does_not_run(hub: Hub) -> None:
    async with hub:
        pass
    with pytest.raises(RuntimeError, match="has not started"):
        await asyncio.to_thread(hub.from_thread.broadcast, "nobody")


# Its life


async def test_the_lifespan_ends_all_connections_with_1012_after_what_is_queued(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws", "/ws") as everyone:
        async with hub.lifespan(app):
            await present(hub, 2)
            await hub.broadcast("last")
        for one in everyone:
            await one.assert_received("last")
            await one.assert_closed(1012)
        assert hub.statistics().closed == {1012: 2}


async def test_a_lifespan_of_the_applications_own_runs_the_hub_inside(hub: Hub) -> None:
    journal: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        journal.append("before")
        async with hub as started:
            assert started is hub
            yield {"mine": "state"}
            journal.append(f"{len(hub.connections)} open")
        journal.append(f"{len(hub.connections)} open")

    app = application(hub, lifespan=lifespan)

    @app.websocket("/state")
    async def state(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.send(connection.state.mine)

    async with clients(app, "/state", "/ws") as (ann, _):
        await ann.assert_received("state")
    assert journal == ["before", "0 open", "0 open"]


async def test_an_inner_async_with_does_not_end_the_hub(hub: Hub, app: FastAPI) -> None:
    async with hub:
        async with hub, hub:
            pass
        async with clients(app, "/ws") as (ann,):
            await present(hub, 1)
            async with hub:
                pass
            await hub.broadcast("still here")
            await ann.assert_received("still here")


async def test_a_hub_that_was_started_by_its_first_use_can_be_entered(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws") as (ann,):
        await present(hub, 1)
        async with hub:
            await hub.broadcast("same hub")
            await ann.assert_received("same hub")
        await ann.assert_closed(1012)


async def test_a_hub_can_be_entered_again_after_it_has_ended(hub: Hub, app: FastAPI) -> None:
    for _ in range(2):
        async with hub:
            assert hub.statistics().accepted == 0
            async with clients(app, "/ws") as (ann,):
                await present(hub, 1)
                await hub.broadcast("hello")
                await ann.assert_received("hello")


async def test_a_body_that_raises_ends_the_hub_too(hub: Hub, app: FastAPI) -> None:
    async with clients(app, "/ws") as (ann,):
        await present(hub, 1)
        with pytest.raises(ZeroDivisionError):
            async with hub:
                raise ZeroDivisionError
        await ann.assert_closed(1012)


async def test_a_handshake_during_the_drain_is_refused_with_503(hub: Hub, app: FastAPI) -> None:
    transport = RecordingTransport()
    async with Client(app) as client, client.connect("/ws", transport=transport):
        await present(hub, 1)
        transport.buffered_bytes = 100_000
        await hub.broadcast("on its way")
        await hub.__aenter__()
        ending = asyncio.create_task(hub.__aexit__(None, None, None))
        await turns()
        assert not ending.done()
        with pytest.raises(Refused) as refused:
            await client.connect("/ws").__aenter__()
        assert refused.value.status == 503
        assert refused.value.json() == {"detail": "Shutting down", "limit": "draining"}
        assert refused.value.headers["retry-after"] == "1"
        assert hub.statistics().refused == {"draining": 1}
        transport.buffered_bytes = 0
        await ending
    assert transport.written == ["on its way"]
    assert transport.closed == (1012, "")


async def test_the_end_of_a_hub_does_not_wait_for_ever_for_a_client_that_does_not_read(
    hub: Hub, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub.fastapi.runtime._STOP_DEADLINE_S", 0)
    transport = RecordingTransport()
    async with Client(app) as client, client.connect("/ws", transport=transport):
        await present(hub, 1)
        transport.buffered_bytes = 100_000
        await hub.broadcast("never read")
        async with hub:
            pass
        assert transport.closed is None
    assert transport.written == []
    assert hub.statistics().closed == {1012: 1}


class Gate:
    """Around an application: holds acceptances back until it is opened."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.reached = asyncio.Event()
        self.is_open = asyncio.Event()

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:
        async def hold(event: Event) -> None:
            if event["type"] == "websocket.accept":
                self.reached.set()
                await self.is_open.wait()
            await send(event)

        await self.app(scope, receive, hold)


async def test_a_handshake_that_is_being_accepted_when_the_hub_ends_does_not_outlive_it(hub: Hub, app: FastAPI) -> None:
    gate = Gate(app)
    async with Client(gate) as client:
        async with hub:
            connecting = asyncio.create_task(client.connect("/ws").__aenter__())
            await gate.reached.wait()
        gate.is_open.set()
        try:
            ann = await connecting
        except Refused:
            return
        await ann.assert_closed(1012)


async def test_endpoints_can_still_broadcast_when_their_clients_have_left(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        async for _ in connection:
            pass
        await hub.broadcast("somebody left")
        said.append(hub.statistics().published)

    said: list[int] = []
    async with clients(app, "/ws", "/ws"):
        await present(hub, 2)
    assert said == [1, 2]


# The loop that it belongs to


def test_a_hub_starts_afresh_when_its_loop_is_closed(hub: Hub, app: FastAPI) -> None:
    async def use() -> tuple[int, int]:
        async with clients(app, "/ws") as (ann,):
            await present(hub, 1)
            await hub.broadcast("hello")
            await ann.assert_received("hello")
            return hub.statistics().accepted, len(hub.connections)

    assert asyncio.run(use()) == (1, 1)
    assert asyncio.run(use()) == (1, 1)


def test_a_loop_that_is_closed_with_connections_open_leaves_none_of_them_to_the_next(hub: Hub, app: FastAPI) -> None:
    async def forget() -> None:
        await Client(app).connect("/ws").__aenter__()
        await present(hub, 1)

    async def look() -> int:
        await hub.broadcast("nobody is left")
        return len(hub.connections)

    asyncio.run(forget())
    assert asyncio.run(look()) == 0


async def test_a_second_loop_is_an_error_that_names_the_test_client(hub: Hub) -> None:
    await hub.broadcast("the hub starts")

    def elsewhere() -> None:
        asyncio.run(hub.broadcast("hello"))

    with pytest.raises(RuntimeError, match=r"with TestClient\(app\) as client:"):
        await asyncio.to_thread(elsewhere)
    await hub.broadcast("the first loop goes on")


def test_starlettes_test_client_works_with_the_lifespan_again_and_again(hub: Hub) -> None:
    app = application(hub, lifespan=hub.lifespan)

    @app.post("/all")
    def to_all() -> None:
        hub.from_thread.broadcast("hello")

    for _ in range(2):
        with TestClient(app) as client, client.websocket_connect("/ws") as ann:
            ann.send_text("x")
            assert ann.receive_text() == "echo 'x'"
            client.post("/all")
            assert ann.receive_text() == "hello"


def test_starlettes_test_client_without_its_context_is_an_error_that_names_it(hub: Hub, app: FastAPI) -> None:
    @app.post("/all")
    async def to_all() -> None:
        await hub.broadcast("hello")

    client = TestClient(app)
    with client.websocket_connect("/ws") as ann:
        ann.send_text("x")
        assert ann.receive_text() == "echo 'x'"
        with pytest.raises(RuntimeError, match=r"with TestClient\(app\) as client:"):
            client.post("/all")


def test_starlettes_test_client_sees_a_refusal_as_a_response() -> None:
    hub = Hub(limits=Limits(connections=1))
    app = application(hub, lifespan=hub.lifespan)
    with TestClient(app) as client, client.websocket_connect("/ws") as ann:
        ann.send_text("x")
        assert ann.receive_text() == "echo 'x'"
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws"):
            pass
        assert denied.value.status_code == 503
        assert denied.value.json()["limit"] == "connections"


def test_a_websocket_as_a_parameter_beside_the_connection_is_the_same_one(hub: Hub) -> None:
    app = FastAPI(lifespan=hub.lifespan)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.send(str(connection.websocket is websocket))

    with TestClient(app) as client, client.websocket_connect("/ws") as ann:
        assert ann.receive_text() == "True"


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("limits", {"connections": 3}, "limits=Limits(…)"),
        ("outbox", 1_000, "outbox=Outbox(…)"),
        ("heartbeat", 25, "heartbeat=Heartbeat(…)"),
        ("drain", 5, "drain=Drain(…)"),
    ],
)
def test_settings_of_another_class_are_refused_at_once(name: str, value: Any, remedy: str) -> None:
    with pytest.raises(TypeError, match=re.escape(remedy)):
        Hub(**{name: value})
