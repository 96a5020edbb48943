"""Families of channels with handlers, history and presence, as an application and its clients meet them."""

import asyncio
import contextlib
import gc
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, TypeVar

import pydantic
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, WebSocketDisconnect
from pydantic import BaseModel

from hubbub import Connection, Denied, History, Hub, Joined, Limits, Outbox, Peer, Position, Presence
from hubbub.errors import InvalidMessage
from hubbub.fastapi import runtime
from hubbub.testing import Client, ClientConnection, ManualClock, RecordingTransport

T = TypeVar("T")
DEADLINE_S = 5.0


async def within(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(DEADLINE_S):
        return await awaitable


class Calls:
    """What handlers have been called with, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def __call__(self, call: Any) -> None:
        self._queue.put_nowait(call)

    async def next(self) -> Any:
        return await within(self._queue.get())

    async def expect(self, *calls: Any) -> None:
        for call in calls:
            assert await self.next() == call

    async def nothing(self) -> None:
        """Let the loop do what there is to do, and see that no handler has been called."""
        for _ in range(200):
            await asyncio.sleep(0)
        assert self._queue.empty(), self._queue.get_nowait()


class Application:
    """A hub and an application whose sockets do nothing by themselves: a test acts through their connections."""

    def __init__(self, **settings: Any) -> None:
        self.hub = Hub(**settings)
        self.app = FastAPI(lifespan=self.hub.lifespan)
        self._arrivals: asyncio.Queue[Connection] = asyncio.Queue()

        @self.app.websocket("/ws")
        async def endpoint(connection: Annotated[Connection, Depends(self.hub)], user: str | None = None) -> None:
            await connection.accept(user=user)
            self._arrivals.put_nowait(connection)
            async for _ in connection:
                pass

        @self.app.websocket("/detached")
        async def detached(connection: Annotated[Connection, Depends(self.hub)], user: str | None = None) -> None:
            await connection.accept(user=user)
            connection.detach()
            self._arrivals.put_nowait(connection)

        @self.app.websocket("/join/{channel}")
        async def joins(
            connection: Annotated[Connection, Depends(self.hub)], channel: str, since: str | None = None
        ) -> None:
            await connection.join(channel, since=None if since is None else Position.parse(since))
            self._arrivals.put_nowait(connection)
            async for _ in connection:
                pass

    async def arrived(self) -> Connection:
        return await within(self._arrivals.get())

    @asynccontextmanager
    async def client(
        self, client: Client, user: str | None = None, path: str = "/ws", **options: Any
    ) -> AsyncIterator[tuple[ClientConnection, Connection]]:
        query = "" if user is None else f"?user={user}"
        async with client.connect(path + query, **options) as socket:
            yield socket, await self.arrived()


@asynccontextmanager
async def one(
    application: Application, user: str | None = None, path: str = "/ws", **options: Any
) -> AsyncIterator[tuple[ClientConnection, Connection]]:
    """Run the application with one client, and give both ends."""
    async with Client(application.app) as client, application.client(client, user, path, **options) as both:
        yield both


def remembering(**settings: Any) -> Application:
    """Return an application whose channels `room:…` remember."""
    application = Application(**settings)
    application.hub.channels("room:{room}", history=History(size=10))
    return application


# What handlers are asked


@pytest.mark.parametrize("since", ["", "?since=abc:3"])
async def test_a_refused_join_before_acceptance_is_a_403_with_the_reason(since: str) -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}", history=History())

    @rooms.on_join
    async def may_join(peer: Peer, room: str) -> None:
        raise Denied(f"not into {room}")

    async with Client(application.app) as client:
        refused = await client.refused(f"/join/room:1{since}")
        assert refused.status == 403
        assert refused.json() == {"detail": "not into 1", "limit": None}
        assert application.hub.statistics().channels == 0
        assert application.hub.statistics().connections == 0
        assert application.hub.statistics().refused == {"denied": 1}


async def test_an_http_exception_of_a_handler_refuses_the_handshake_with_its_status() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}")

    @rooms.on_join
    def may_join(room: str) -> None:
        raise HTTPException(402, "pay first")

    async with Client(application.app) as client:
        refused = await client.refused("/join/room:1")
        assert (refused.status, refused.json()["detail"]) == (402, "pay first")


async def test_a_handler_that_fails_refuses_the_handshake_and_lets_nobody_in() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}")

    @rooms.on_join
    async def may_join(room: str) -> None:
        raise LookupError("a bug")

    async with Client(application.app, raise_app_exceptions=False) as client:
        assert (await client.refused("/join/room:1")).status == 500
        assert application.hub.statistics().channels == 0


@pytest.mark.parametrize("kind", ["plain", "with a dependency"])
async def test_a_typed_parameter_refuses_a_channel_whose_name_does_not_fit(kind: str) -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}")
    asked: list[int] = []

    if kind == "plain":

        @rooms.on_join
        async def may_join(room: int) -> None:
            asked.append(room)
    else:

        @rooms.on_join
        async def may_join_with(room: int, host: Annotated[str, Header()]) -> None:
            asked.append(room)

    async with Client(application.app) as client:
        refused = await client.refused("/join/room:one")
        assert refused.status == 422
        assert "room" in refused.json()["detail"]
        assert "one" not in refused.json()["detail"]
        async with application.client(client) as (_, connection):
            with pytest.raises(Denied):
                await connection.join("room:one")
            assert (await connection.join("room:1")).recovered
            assert connection.channels == {"room:1"}
    assert asked == [1]


async def test_after_acceptance_a_refusal_is_raised_and_the_connection_goes_on() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}", history=History())

    @rooms.on_join
    async def may_join(room: str) -> None:
        if room != "open":
            raise Denied("private")

    async with one(application) as (socket, connection):
        for since in (None, Position("abc", 0)):
            with pytest.raises(Denied, match="private"):
                await connection.join(rooms(room="secret"), since=since)
        assert connection.channels == frozenset()
        await application.hub.publish(rooms(room="secret"), "not for you")
        await connection.join(rooms(room="open"))
        await application.hub.publish(rooms(room="open"), "for all")
        await socket.assert_received("for all")


@pytest.mark.parametrize("path", ["/ws", "/detached"])
async def test_who_is_refused_when_it_joins_again_hears_on_what_it_hears(path: str) -> None:
    application = remembering()
    allowed = True
    hub = application.hub
    halls = hub.channels("hall:{hall}", history=History())

    @halls.on_join
    async def may_join(hall: str) -> None:
        if not allowed:
            raise Denied("closed")

    async with one(application, path=path) as (socket, connection):
        joined = await connection.join("hall:1")
        allowed = False
        with pytest.raises(Denied):
            await connection.join("hall:1", since=joined.position)
        await hub.publish("hall:1", "still")
        await socket.assert_received("still")


async def test_history_and_presence_ask_on_join_unless_they_have_a_handler_of_their_own() -> None:
    application = Application()
    hub = application.hub
    rooms = hub.channels("room:{room}", history=History(), presence=True)
    halls = hub.channels("hall:{hall}", history=History(), presence=True)
    asked = Calls()

    @rooms.on_join
    async def may_join_room(peer: Peer, room: str) -> None:
        asked(("room", peer.user, room))
        raise Denied("no")

    @halls.on_join
    async def may_join_hall(hall: str) -> None:
        asked("join")

    @halls.on_history
    async def may_read(hall: str) -> None:
        asked("history")
        raise Denied("no history")

    @halls.on_presence
    async def may_see(hall: str) -> None:
        asked("presence")
        raise Denied("no presence")

    async with one(application, "ann") as (_, connection):
        for call in (connection.history, connection.presence):
            with pytest.raises(Denied, match=r"^no$"):
                await call("room:1")
            await asked.expect(("room", "ann", "1"))
        with pytest.raises(Denied, match="no history"):
            await connection.history("hall:1")
        with pytest.raises(Denied, match="no presence"):
            await connection.presence(halls(hall=1))
        await asked.expect("history", "presence")
        await connection.join("hall:1")
        await asked.expect("join")
        await asked.nothing()


async def test_the_hub_and_its_channels_ask_nobody() -> None:
    application = Application()
    hub = application.hub
    rooms = hub.channels("room:{room}", history=History(), presence=True)

    @rooms.on_join
    @rooms.on_history
    @rooms.on_presence
    async def never(peer: Peer) -> None:
        raise Denied("never")

    @rooms.on_publish
    async def never_either(message: Any) -> None:
        raise Denied("never")

    async with one(application) as (_, connection):
        for channel in (rooms(room=1), hub.channel("room:1")):
            position = await channel.publish("one")
            assert await hub.publish(channel, "two") == Position(position.epoch, position.offset + 1)  # type: ignore[union-attr]
            assert [p.data for p in await channel.history(limit=2, reverse=True)] == ["two", "one"]
            assert await hub.history("room:1") == await channel.history()
            assert await channel.presence() == await hub.presence(channel) == {}
            assert (await channel.presence_count()).connections == (await hub.presence_count("room:1")).users == 0
        with pytest.raises(Denied):
            await connection.publish("room:1", "three")


class Say(pydantic.BaseModel):
    text: Annotated[str, pydantic.StringConstraints(max_length=10)]


class Said(pydantic.BaseModel):
    user: str | None
    text: str


async def test_on_publish_validates_changes_and_refuses() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}", history=History())

    @rooms.on_publish
    async def say(peer: Peer, room: int, message: Say) -> Said:
        if message.text == "spam":
            raise Denied("no spam")
        return Said(user=peer.user, text=message.text)

    async with one(application, "ann") as (socket, connection):
        await connection.join("room:1")
        position = await connection.publish("room:1", '{"text": "hello", "user": "eve"}')
        await socket.assert_received({"user": "ann", "text": "hello"})
        assert position is not None
        assert position.offset == 1
        await connection.publish(rooms(room=1), Say(text="a model"))
        await connection.publish(rooms(room=1), {"text": "a dict"})
        await socket.assert_received({"user": "ann", "text": "a model"}, {"user": "ann", "text": "a dict"})
        for invalid in (
            '{"text": 1}',
            "no JSON",
            {"text": "much too long a text"},
            b"\xff",
            None,
            '{"text": "\\ud800"}',
        ):
            with pytest.raises(InvalidMessage):
                await connection.publish("room:1", invalid)
        with pytest.raises(Denied, match="no spam"):
            await connection.publish("room:1", {"text": "spam"})
        with pytest.raises(Denied):
            await connection.publish("room:one", {"text": "hello"})
        await socket.assert_nothing()
        assert len(await application.hub.history("room:1")) == 3
        assert not await application.hub.history("room:one")


async def test_a_handler_that_returns_nothing_lets_the_message_pass() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}")
    seen = Calls()

    @rooms.on_publish
    def look(message: Any) -> None:
        seen(message)

    async with one(application) as (socket, connection):
        await connection.join("room:1")
        for message in ("text", b"bytes", {"a": 1}):
            assert await connection.publish("room:1", message) is None
            await socket.assert_received(message)
            await seen.expect(message)


async def test_a_handler_that_returns_nothing_lets_nothing_pass_that_was_not_validated() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}")

    class Said(BaseModel):
        text: str

    @rooms.on_publish
    async def look(message: Said) -> None: ...

    async with one(application) as (socket, connection):
        await connection.join("room:1")
        await connection.publish("room:1", '{"text": "hi", "is_admin": true}')
        await socket.assert_received({"text": "hi"})


@pytest.mark.parametrize("empty", ["", [], {}, 0, False])
async def test_a_handler_may_return_what_is_empty(empty: object) -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}")

    @rooms.on_publish
    def instead(message: Any) -> object:
        return empty

    async with one(application) as (socket, connection):
        await connection.join("room:1")
        await connection.publish("room:1", "something")
        await socket.assert_received(empty)


@pytest.mark.parametrize("path", ["/ws", "/detached"])
async def test_a_dependency_with_yield_lives_for_one_call(path: str) -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}", history=History())
    calls = Calls()

    async def session(room: str, host: Annotated[str, Header()]) -> AsyncIterator[str]:
        calls(("opened", room, host))
        try:
            yield "session"
        except Denied:
            calls("refused")
            raise
        finally:
            calls("closed")

    @rooms.on_join
    async def may_join(peer: Peer, room: str, session: Annotated[str, Depends(session)]) -> None:
        calls(("join", session))
        if room == "secret":
            raise Denied("no")

    @rooms.on_publish
    async def say(message: str, session: Annotated[str, Depends(session)]) -> str:
        calls(("publish", session))
        return message + "!"

    async with one(application, path=path) as (socket, connection):
        opened = ("opened", "1", "testserver")
        await connection.join("room:1")
        await calls.expect(opened, ("join", "session"), "closed")
        with pytest.raises(Denied):
            await connection.join("room:secret")
        await calls.expect(("opened", "secret", "testserver"), ("join", "session"), "refused", "closed")
        await connection.publish("room:1", "hello")
        await calls.expect(opened, ("publish", "session"), "closed")
        await connection.history("room:1")
        await calls.expect(opened, ("join", "session"), "closed")
        await socket.assert_received("hello!")
        assert connection.headers["host"] == "testserver"  # stays, since a handler reads it
        await calls.nothing()


async def test_without_handlers_that_read_it_a_detached_connection_keeps_no_handshake() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}")

    @rooms.on_join
    async def may_join(peer: Peer, room: int) -> None:
        if peer.user != "ann":
            raise Denied("only ann")

    async with one(application, "ann", "/detached") as (socket, connection):
        await socket.assert_nothing()  # the endpoint has returned
        with pytest.raises(RuntimeError):
            _ = connection.headers
        await connection.join("room:1")
        with pytest.raises(Denied):
            await connection.join("room:one")
        await application.hub.publish("room:1", "hello")
        await socket.assert_received("hello")


async def test_a_handler_sees_the_dependency_overrides_of_the_application() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}")
    seen = Calls()

    def real() -> str:
        raise AssertionError("not in a test")

    @rooms.on_join
    async def may_join(database: Annotated[str, Depends(real)]) -> None:
        seen(("join", database))

    @rooms.on_first
    async def first(room: str, database: Annotated[str, Depends(real)]) -> None:
        seen(("first", database))

    @rooms.on_leave
    async def leave(peer: Peer, database: Annotated[str, Depends(real)]) -> None:
        seen(("leave", database))

    application.app.dependency_overrides[real] = lambda: "fake"
    async with one(application, path="/detached") as (_, connection):
        await connection.join("room:1")
        await seen.expect(("join", "fake"), ("first", "fake"))
        await connection.leave("room:1")
        await seen.expect(("leave", "fake"))


async def test_who_has_gone_while_a_handler_was_asked_does_not_join() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}", history=History(), presence=True)
    asked, go_on = asyncio.Event(), asyncio.Event()

    @rooms.on_join
    async def may_join(room: str) -> None:
        asked.set()
        await go_on.wait()

    async with one(application, "ann", "/detached") as (socket, connection):
        join = asyncio.create_task(connection.join("room:1"))
        await within(asked.wait())
        await socket.close()
        await socket.finish(raises=True)
        go_on.set()
        with pytest.raises(WebSocketDisconnect):
            await within(join)
        assert application.hub.statistics().channels == 0
        assert await application.hub.presence("room:1") == {}


async def test_a_handler_of_an_event_can_be_declared_once() -> None:
    rooms = Hub().channels("room:{room}")
    rooms.on_join(lambda room: None)
    with pytest.raises(ValueError, match="on_join"):
        rooms.on_join(lambda room: None)


# Channels that begin and end


def told(application: Application, calls: Calls, pattern: str = "room:{room}", **options: Any) -> None:
    """Declare a family that tells `calls` of everything that happens."""
    rooms = application.hub.channels(pattern, **options)

    @rooms.on_first
    async def first(room: str) -> None:
        calls(("first", room))

    @rooms.on_last
    def last(room: str) -> None:
        calls(("last", room))

    @rooms.on_leave
    async def leave(peer: Peer, room: str) -> None:
        calls(("leave", peer.user, room))


@pytest.mark.parametrize(
    "options", [{}, {"history": History()}, {"presence": True}, {"outbox": Outbox(policy="latest")}]
)
async def test_first_leave_and_last_come_in_this_order_once(options: Any) -> None:
    application, calls = Application(), Calls()
    told(application, calls, **options)
    async with Client(application.app) as client, application.client(client, "ann") as (socket, ann):
        await ann.join("room:1")
        await ann.join("room:1")
        async with application.client(client, "bob") as (_, bob):
            await bob.join("room:1", envelope=True)
            await bob.join("room:1")
            await calls.expect(("first", "1"))
            await calls.nothing()
        await calls.expect(("leave", "bob", "1"))
        await ann.leave("room:1")
        await ann.leave("room:1")
        await calls.expect(("leave", "ann", "1"), ("last", "1"))
        await ann.join("room:1")
        await socket.abort()
        await calls.expect(("first", "1"), ("leave", "ann", "1"), ("last", "1"))
        await calls.nothing()


async def test_a_channel_without_options_tells_too() -> None:
    application, calls = Application(), Calls()
    told(application, calls)
    async with one(application, "ann") as (_, connection):
        await connection.join("room:1")
        await calls.expect(("first", "1"))
        await connection.leave("room:1")
        await calls.expect(("leave", "ann", "1"), ("last", "1"))


@pytest.mark.parametrize("path", ["/ws", "/detached"])
async def test_first_leave_and_last_are_called_at_shutdown_too_and_are_waited_for(path: str) -> None:
    application, calls = Application(), Calls()
    rooms = application.hub.channels("room:{room}", presence=True)

    async def session(host: Annotated[str, Header()]) -> AsyncIterator[str]:
        yield host
        calls("closed")

    @rooms.on_leave
    async def leave(peer: Peer, room: int, host: Annotated[str, Depends(session)]) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        calls(("leave", peer.user, room, host))

    @rooms.on_last
    async def last(room: int) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        calls(("last", room))

    client = Client(application.app)
    async with client:
        socket = client.connect(f"{path}?user=ann")
        await socket.__aenter__()
        connection = await application.arrived()
        await connection.join("room:1")
        await application.hub.__aexit__(None, None, None)
        await calls.expect(("leave", "ann", 1, "testserver"), "closed", ("last", 1))
        await application.hub.__aenter__()


async def test_what_these_handlers_raise_is_logged_and_the_next_are_called(caplog: pytest.LogCaptureFixture) -> None:
    application, calls = Application(), Calls()
    rooms = application.hub.channels("room:{room}", presence=Presence(grace_s=0.001))

    @rooms.on_first
    async def first(room: int) -> None:
        calls("first")
        raise LookupError("first")

    @rooms.on_leave
    def leave(peer: Peer) -> None:
        calls("leave")
        raise LookupError("leave")

    @rooms.on_last
    async def last() -> None:
        calls("last")
        raise HTTPException(500, "last")

    @rooms.on_user_joined
    async def came(user: str) -> None:
        calls("came")
        raise Denied("came")

    with caplog.at_level(logging.ERROR, "hubbub"):
        async with one(application, "ann") as (socket, connection):
            await connection.join("room:1")
            await calls.expect("first", "came")
            await connection.leave("room:1")
            await calls.expect("leave", "last")
            await calls.nothing()
            assert connection.is_open
            await connection.send("still there")
            await socket.assert_received("still there")
    assert len([record for record in caplog.records if "room:1" in record.getMessage()]) == 4
    assert all(record.exc_info for record in caplog.records)


async def test_the_handlers_of_a_channel_are_called_one_after_the_other() -> None:
    application, calls = Application(), Calls()
    rooms = application.hub.channels("room:{room}")
    go_on = asyncio.Event()

    @rooms.on_first
    async def first(room: str) -> None:
        calls(f"first {room}")
        if room == "1":
            await go_on.wait()
        calls(f"first {room} done")

    @rooms.on_last
    async def last(room: str) -> None:
        calls(f"last {room}")

    async with one(application) as (_, connection):
        await connection.join("room:1")
        await connection.leave("room:1")
        await connection.join("room:2")
        await connection.leave("room:2")
        await calls.expect("first 1", "first 2", "first 2 done", "last 2")
        await calls.nothing()
        go_on.set()
        await calls.expect("first 1 done", "last 1")


async def test_handlers_that_hang_are_cancelled_at_shutdown_and_so_are_those_that_wait_for_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "_HANDLERS_DEADLINE_S", 0.01)
    application, calls = Application(), Calls()
    rooms = application.hub.channels("room:{room}")

    @rooms.on_first
    async def first(room: str) -> None:
        calls("first")
        await asyncio.Event().wait()

    @rooms.on_leave
    async def leave(peer: Peer) -> None:
        calls("leave")

    @rooms.on_last
    async def last(room: str) -> None:
        calls("last")

    async with one(application) as (_, connection):
        await connection.join("room:1")
        await calls.expect("first")
        await connection.leave("room:1")
    await calls.nothing()
    gc.collect()  # would complain of coroutines that nobody has awaited


async def test_a_handler_may_publish_on_its_own_channel_and_disconnect_its_peer() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}", history=History())

    @rooms.on_join
    async def may_join(peer: Connection, room: str) -> None:
        await application.hub.publish(f"room:{room}", f"{peer.user} comes")
        if room == "trap":
            await peer.close(4000, "caught")

    @rooms.on_leave
    async def leave(peer: Peer, room: str) -> None:
        await application.hub.publish(f"room:{room}", f"{peer.user} has left")

    async with Client(application.app) as client, application.client(client, "ann") as (socket, ann):
        await ann.join("room:1")
        async with application.client(client, "bob") as (_, bob):
            await bob.join("room:1")
        await socket.assert_received("bob comes", "bob has left")
        with pytest.raises(WebSocketDisconnect):
            await ann.join("room:trap")
        await socket.assert_closed(4000, "caught")


async def test_who_has_left_is_known_to_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    application, calls = Application(), Calls()
    rooms = application.hub.channels("room:{room}")

    @rooms.on_leave
    async def leave(peer: Connection, room: str) -> None:
        calls((peer.user, peer.state.name, peer.client, peer.is_open))

    async with Client(application.app) as client:
        for path in ("/ws", "/detached"):
            async with application.client(client, "ann", path) as (socket, connection):
                connection.state.name = "Ann"
                await connection.join("room:1")
                await socket.abort()
                await calls.expect(("ann", "Ann", ("testclient", 50_000), False))
    assert not caplog.records


# Users that come and go


def present(clock: ManualClock, calls: Calls, **settings: Any) -> Application:
    application = Application(clock=clock)
    rooms = application.hub.channels("room:{room}", presence=Presence(grace_s=5, lease_s=30), **settings)

    @rooms.on_user_joined
    async def came(user: str, room: int) -> None:
        calls(("came", user, room))

    @rooms.on_user_left
    async def went(user: str, room: int) -> None:
        calls(("went", user, room))

    return application


async def test_a_user_with_three_tabs_comes_once_and_goes_after_the_grace_period() -> None:
    clock, calls = ManualClock(), Calls()
    application = present(clock, calls)
    hub = application.hub
    async with Client(application.app) as client:
        async with contextlib.AsyncExitStack() as tabs:
            for number in range(3):
                _, tab = await tabs.enter_async_context(application.client(client, "ann"))
                await tab.join("room:1", info={"tab": number})
            await calls.expect(("came", "ann", 1))
            assert [c.info for c in (await hub.presence("room:1"))["ann"]] == [{"tab": 0}, {"tab": 1}, {"tab": 2}]
            assert (await hub.presence_count("room:1")) == await hub.channel("room:1").presence_count()
            count = await hub.presence_count("room:1")
            assert (count.connections, count.users) == (3, 1)
            await tab.leave("room:1")
            await calls.nothing()
            assert (await hub.presence_count("room:1")).connections == 2
        clock.advance(4.9)
        await calls.nothing()
        assert "ann" in await hub.presence("room:1")
        async with application.client(client, "ann") as (_, tab):  # back within the grace period
            await tab.join("room:1")
            clock.advance(5)
            await calls.nothing()
            assert len((await hub.presence("room:1"))["ann"]) == 1
        clock.advance(4.9)
        await calls.nothing()
        clock.advance(0.1)
        await calls.expect(("went", "ann", 1))
        assert await hub.presence("room:1") == {}
        clock.advance(100)
        await calls.nothing()


async def test_a_user_that_leaves_has_gone_at_once_and_presence_outlives_its_leases() -> None:
    clock, calls = ManualClock(), Calls()
    application = present(clock, calls)
    async with one(application, "ann") as (_, connection):
        await connection.join("room:1")
        await calls.expect(("came", "ann", 1))
        for _ in range(10):
            clock.advance(10)
            await calls.nothing()
            assert "ann" in await application.hub.presence("room:1")
        await connection.leave("room:1")
        await calls.expect(("went", "ann", 1))
        await connection.join("room:1")
        await calls.expect(("came", "ann", 1))


async def test_who_nobody_is_counts_and_has_no_name() -> None:
    clock, calls = ManualClock(), Calls()
    application = present(clock, calls)
    hub = application.hub
    async with Client(application.app) as client:
        async with application.client(client) as (_, nobody), application.client(client, "ann") as (_, ann):
            await nobody.join("room:1", info="hidden")
            await ann.join("room:1")
            await calls.expect(("came", "ann", 1))
            count = await hub.presence_count("room:1")
            assert (count.connections, count.users) == (2, 1)
            presence = await nobody.presence("room:1")
            assert list(presence) == ["ann"]
            (entry,) = presence["ann"]
            assert (entry.id, entry.info) == (ann.id, None)
        await asyncio.sleep(0)
        count = await hub.presence_count("room:1")
        assert (count.connections, count.users) == (1, 1)  # ann's grace period


@pytest.mark.parametrize("info", [{"a": [1, None, "ü"]}, "text", 0, [], Say(text="model")])
async def test_presence_says_what_join_has_given(info: Any) -> None:
    application = Application()
    application.hub.channels("room:{room}", presence=True)
    async with one(application, "ann") as (_, connection):
        await connection.join("room:1", info=info)
        ((entry,),) = (await application.hub.presence("room:1")).values()
        assert entry.info == (info.model_dump() if isinstance(info, pydantic.BaseModel) else info)
        assert entry.since > 1_700_000_000


async def test_info_without_a_json_form_is_a_type_error_and_joins_nothing() -> None:
    application = Application()
    application.hub.channels("room:{room}", presence=True)
    async with one(application, "ann") as (_, connection):
        with pytest.raises(TypeError, match="info="):
            await connection.join("room:1", info=object())
        assert connection.channels == frozenset()


async def test_presence_and_history_of_what_was_not_declared_are_value_errors_with_the_remedy() -> None:
    application = Application()
    hub = application.hub
    hub.channels("room:{room}")
    async with one(application, "ann") as (_, connection):
        for channel in ("room:1", "other"):
            for presence in (hub.presence, hub.presence_count, connection.presence):
                with pytest.raises(ValueError, match="presence=True"):
                    await presence(channel)
            for history in (hub.history, connection.history):
                with pytest.raises(ValueError, match="history=History"):
                    await history(channel)
            with pytest.raises(ValueError, match="history=History"):
                await connection.join(channel, since=Position("abc", 1))
            assert connection.channels == frozenset()


@pytest.mark.parametrize("channel", ["", "$all", "$user:ann", "$", None, 3, "\ud800"])
async def test_reserved_names_are_refused_by_every_call(channel: Any) -> None:
    application = Application()
    hub = application.hub
    hub.channels("{everything}", history=History(), presence=True)

    async def items() -> AsyncIterator[int]:
        yield 1

    async with one(application, "ann") as (_, connection):
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: connection.join(channel),
            lambda: connection.leave(channel),
            lambda: connection.publish(channel, "x"),
            lambda: connection.history(channel),
            lambda: connection.presence(channel),
            lambda: hub.publish(channel, "x"),
            lambda: hub.history(channel),
            lambda: hub.presence(channel),
            lambda: hub.presence_count(channel),
            lambda: hub.stream(channel, items()),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="channel"):
                await call()


# Declarations


def test_a_family_with_history_loses_nothing_by_its_policy() -> None:
    for policy in ("drop_oldest", "drop_newest", "latest"):
        with pytest.raises(ValueError, match="history"):
            Hub().channels("room:{room}", history=History(), outbox=Outbox(policy=policy))
    Hub().channels("room:{room}", history=History(), outbox=Outbox(policy="disconnect"))


@pytest.mark.parametrize("settings", [{"history": True}, {"history": 100}, {"presence": 5}, {"presence": "yes"}])
def test_settings_of_another_class_are_type_errors(settings: Any) -> None:
    hub = Hub()
    with pytest.raises(TypeError):
        hub.channels("room:{room}", **settings)
    hub.channels("room:{room}")  # nothing was declared


def test_overlapping_families_are_an_error_whatever_their_options() -> None:
    hub = Hub()
    hub.channels("room:{room}", history=History())
    with pytest.raises(ValueError, match="overlaps"):
        hub.channels("{kind}:1", presence=True)
    hub.channels("room:{room}:{part}")


# What is published


async def test_exclude_on_a_channel_with_history_is_a_value_error_with_the_remedy() -> None:
    application = remembering()
    async with one(application) as (socket, connection):
        await connection.join("room:1")
        with pytest.raises(ValueError, match=r"exclude=.*put an id in the message"):
            await application.hub.publish("room:1", "x", exclude=connection)
        await application.hub.publish("room:1", "y", exclude=[])
        await socket.assert_received("y")


async def test_a_key_on_a_channel_without_history_is_a_value_error() -> None:
    application = Application()
    async with one(application) as (_, connection):
        for publish in (application.hub.publish, connection.publish):
            with pytest.raises(ValueError, match="idempotency"):
                await publish("room:1", "x", idempotency_key="k")


async def test_a_repeated_key_delivers_nothing_and_returns_the_first_position() -> None:
    clock = ManualClock()
    application = Application(clock=clock)
    hub = application.hub
    hub.channels("room:{room}", history=History(idempotency_ttl_s=60))
    async with one(application) as (socket, connection):
        await connection.join("room:1")
        first = await hub.publish("room:1", "one", idempotency_key="k")
        await hub.publish("room:1", "two", idempotency_key="l")
        assert await hub.publish("room:1", "another text", idempotency_key="k") == first
        assert await connection.publish("room:1", "another text", idempotency_key="k") == first
        assert await hub.publish("room:2", "elsewhere", idempotency_key="k") != first
        await socket.assert_received("one", "two")
        await socket.assert_nothing()
        assert [p.data for p in await hub.history("room:1")] == ["one", "two"]
        clock.advance(61)
        assert await hub.publish("room:1", "three", idempotency_key="k") != first
        await socket.assert_received("three")


@pytest.mark.parametrize("key", ["", "ü😀", "a b\nc", "x" * 10_000])
async def test_any_text_is_a_key(key: str) -> None:
    application = remembering()
    async with Client(application.app):
        hub = application.hub
        first = await hub.publish("room:1", "one", idempotency_key=key)
        assert await hub.publish("room:1", "one", idempotency_key=key) == first


# Joining


async def test_joined_says_what_was_specified() -> None:
    application = remembering()
    hub = application.hub
    async with Client(application.app) as client, application.client(client) as (_socket, connection):
        joined = await connection.join("room:1")
        assert joined.position is not None
        epoch = joined.position.epoch
        assert joined == Joined(recovered=True, missed=0, position=Position(epoch, 0))
        assert await connection.join("elsewhere") == Joined(recovered=True, missed=0, position=None)
        await hub.publish("room:1", "one")
        assert await connection.join("room:1") == Joined(True, 0, Position(epoch, 1))
        async with application.client(client) as (other_socket, other):
            assert await other.join("room:1") == Joined(True, 0, Position(epoch, 1))
            assert await other.join("room:1", since=Position(epoch, 0)) == Joined(True, 1, Position(epoch, 1))
            await other_socket.assert_received("one")
            assert await other.join("room:1", since=Position(epoch, 1)) == Joined(True, 0, Position(epoch, 1))
            await other_socket.assert_nothing()


async def test_a_client_gets_what_it_has_missed_before_what_is_new() -> None:
    application = remembering()
    hub = application.hub
    async with Client(application.app) as client, application.client(client) as (_, first):
        position = (await first.join("room:1")).position
        for number in range(5):
            await hub.publish("room:1", str(number))
        async with application.client(client) as (socket, second):
            join = asyncio.create_task(second.join("room:1", since=position))
            for number in range(5, 10):
                await hub.publish("room:1", str(number))
            joined = await within(join)
            await hub.publish("room:1", "10")
            assert joined.recovered
            await socket.assert_received(*map(str, range(11)))
            await socket.assert_nothing()


def other_epoch(position: Position) -> Position:
    return Position("forged", position.offset)


def future(position: Position) -> Position:
    return Position(position.epoch, position.offset + 1)


def far_future(position: Position) -> Position:
    return Position(position.epoch, 2**63 - 1)


def stale(position: Position) -> Position:
    return Position(position.epoch, 4)


@pytest.mark.parametrize("change", [other_epoch, future, far_future, stale])
@pytest.mark.parametrize("is_joined", [False, True])
async def test_a_position_that_leads_nowhere_recovers_nothing_and_sends_nothing(
    change: Callable[[Position], Position], is_joined: bool
) -> None:
    application = remembering()
    hub = application.hub
    async with one(application) as (socket, connection):
        for number in range(15):
            position = await hub.publish("room:1", str(number))
        assert position is not None
        if is_joined:
            await connection.join("room:1")
        assert await connection.join("room:1", since=change(position)) == Joined(False, 0, position)
        await socket.assert_nothing()
        await hub.publish("room:1", "live")
        await socket.assert_received("live")
        assert hub.statistics().channels == 1


async def test_the_oldest_position_that_history_reaches_back_to_recovers() -> None:
    application = remembering()
    hub = application.hub
    async with one(application) as (socket, connection):
        for number in range(15):
            position = await hub.publish("room:1", str(number))
        assert position is not None
        assert await connection.join("room:1", since=Position(position.epoch, 5)) == Joined(True, 10, position)
        await socket.assert_received(*map(str, range(5, 15)))


@pytest.mark.parametrize("since", ["abc:1", ("abc", 1), {"epoch": "abc", "offset": 1}, 3, True])
async def test_since_takes_positions_only(since: Any) -> None:
    application = remembering()
    async with one(application) as (_, connection):
        with pytest.raises(TypeError, match=r"Position\.parse"):
            await connection.join("room:1", since=since)
        assert connection.channels == frozenset()


async def test_joining_again_changes_the_form_and_delivers_once() -> None:
    application = remembering()
    hub = application.hub
    async with one(application) as (socket, connection):
        for channel in ("room:1", "elsewhere"):
            await connection.join(channel)
            await hub.publish(channel, "plain")
            await socket.assert_received("plain")
            await connection.join(channel, envelope=True)
            assert connection.channels == {channel}
            position = await hub.publish(channel, {"a": 1})
            where = {} if position is None else {"epoch": position.epoch, "offset": position.offset}
            if position is not None:
                await socket.assert_received({"channel": channel, **where, "offset": 1, "recovered": True})
            await socket.assert_received({"channel": channel, **where, "data": {"a": 1}})
            await hub.publish(channel, b"\x00")
            message = await socket.receive_json()
            assert (message["encoding"], message["data"]) == ("base64", "AA==")
            await connection.join(channel)
            await hub.publish(channel, "plain again")
            await socket.assert_received("plain again")
            await connection.leave(channel)
            await hub.publish(channel, "gone")
            await socket.assert_nothing()
        assert hub.statistics().channels == 0


async def test_joining_with_a_position_while_joined_sends_that_once_more_and_nothing_twice_after_it() -> None:
    application = remembering()
    hub = application.hub
    async with one(application) as (socket, connection):
        start = (await connection.join("room:1")).position
        await hub.publish("room:1", "one")
        await hub.publish("room:1", "two")
        assert (await connection.join("room:1", since=start, envelope=True)).missed == 2
        await hub.publish("room:1", "three")
        await socket.assert_received("one", "two")
        messages = [await socket.receive_json() for _ in range(4)]
        assert [message.get("data", message["offset"]) for message in messages] == ["one", "two", 2, "three"]
        await socket.assert_nothing()


async def test_whoever_gets_the_envelope_is_told_where_it_is() -> None:
    application = remembering()
    hub = application.hub
    async with one(application) as (socket, connection):
        joined = await connection.join("room:1", envelope=True)
        assert joined.position is not None
        epoch = joined.position.epoch
        here = {"channel": "room:1", "epoch": epoch, "recovered": True}
        await socket.assert_received({**here, "offset": 0})
        await connection.join("room:1", envelope=True)
        await hub.publish("room:1", "one")
        await hub.publish("room:1", "two")
        await connection.join("room:1", since=Position(epoch, 1), envelope=True)
        assert [(await socket.receive_json())["data"] for _ in range(3)] == ["one", "two", "two"]
        await socket.assert_received({**here, "offset": 2})
        for since in (Position(epoch, 9), Position("forged", 0)):
            assert await connection.join("room:1", since=since, envelope=True) == Joined(False, 0, Position(epoch, 2))
            await socket.assert_received({**here, "offset": 2, "recovered": False})
        await connection.join("elsewhere", envelope=True)
        await connection.join("room:1")
        await connection.join("room:1", since=Position(epoch, 2))
        await socket.assert_nothing()


async def test_a_client_that_comes_while_much_is_published_is_told_where_it_is_between_old_and_new() -> None:
    application = Application()
    hub = application.hub
    hub.channels("room:{room}", history=History(size=100_000))
    start = (await hub.publish("room:1", "1")) or Position("never", 0)
    is_over = False

    async def publish() -> None:
        number = 1
        while not is_over:
            number += 1
            await hub.publish("room:1", str(number))
            await asyncio.sleep(0)

    async with Client(application.app) as client:
        producer = asyncio.create_task(publish())
        position = start
        for _ in range(20):
            async with application.client(client) as (socket, connection):
                joined = await connection.join("room:1", since=position, envelope=True)
                messages = [await socket.receive_json() for _ in range(joined.missed + 4)]
                place = messages.pop(joined.missed)
                assert joined.position == Position(place["epoch"], place["offset"])
                assert place["recovered"] is joined.recovered is True
                numbers = [int(message["data"]) for message in messages]
                assert numbers == list(range(position.offset + 1, position.offset + len(numbers) + 1))
                assert numbers[joined.missed] == place["offset"] + 1
                position = Position(place["epoch"], numbers[-1])
        is_over = True
        await within(producer)


async def test_the_limit_of_channels_counts_joins_in_progress() -> None:
    application = Application(limits=Limits(channels_per_connection=3))
    application.hub.channels("room:{room}", history=History(), presence=True)
    async with one(application, "ann") as (_, connection):
        results = await asyncio.gather(*(connection.join(f"room:{n}") for n in range(10)), return_exceptions=True)
        assert sum(isinstance(result, Joined) for result in results) == 3
        refused = [result for result in results if isinstance(result, Denied)]
        assert [denied.limit for denied in refused] == ["channels_per_connection"] * 7
        assert len(connection.channels) == 3
        assert application.hub.statistics().channels == 3
        assert (await connection.join("room:0")).recovered  # one that it hears already is no new one
        assert (await connection.join("room:0", since=Position("abc", 0))).recovered is False
        assert application.hub.statistics().violations == {"channels_per_connection": 7}


async def test_the_limit_counts_bytes_of_the_name() -> None:
    application = Application(limits=Limits(channel_name_bytes=7))
    application.hub.channels("room:{room}", history=History())
    async with one(application) as (_, connection):
        await connection.join("room:ü")
        with pytest.raises(Denied) as denied:
            await connection.join("room:üü")
        assert denied.value.limit == "channel_name_bytes"


async def test_what_a_slow_client_has_missed_waits_for_room_and_comes_before_what_is_new() -> None:
    application = Application(outbox=Outbox(bytes=1_000))
    hub = application.hub
    hub.channels("room:{room}", history=History(size=100))
    transport = RecordingTransport()
    async with Client(application.app) as client:
        first = await hub.publish("room:1", "before")
        for number in range(20):
            await hub.publish("room:1", f"{number:500}")
        async with application.client(client, transport=transport) as (_, connection):
            transport.buffered_bytes = 100_000
            join = asyncio.create_task(connection.join("room:1", since=first))
            for number in range(20, 40):
                await asyncio.sleep(0)
                await hub.publish("room:1", f"{number:500}")
            assert not join.done()
            assert transport.written == []
            transport.buffered_bytes = 0
            joined = await within(join)
            assert joined.recovered
            await hub.publish("room:1", "live")
            await connection.send("direct")
            assert transport.written == [*(f"{number:500}" for number in range(40)), "live", "direct"]
            assert joined.missed == 40


async def test_who_takes_nothing_while_it_joins_is_closed_as_slow() -> None:
    clock = ManualClock()
    application = Application(clock=clock, outbox=Outbox(bytes=1_000))
    hub = application.hub
    hub.channels("room:{room}", history=History(size=100), presence=True)
    transport = RecordingTransport()
    async with Client(application.app) as client:
        first = await hub.publish("room:1", "before")
        for number in range(20):
            await hub.publish("room:1", f"{number:500}")
        async with application.client(client, "ann", transport=transport) as (_, connection):
            transport.buffered_bytes = 100_000
            join = asyncio.create_task(connection.join("room:1", since=first))
            for _ in range(20):
                await asyncio.sleep(0)
            clock.advance(10)
            with pytest.raises(WebSocketDisconnect) as ended:
                await within(join)
            assert ended.value.code == 3008
            assert hub.statistics().channels == 0
            assert await hub.presence("room:1") == {}


# Reading history


@pytest.mark.parametrize("limit", [1_000_000, 10**30, None])
async def test_a_limit_may_be_larger_than_any_history(limit: int | None) -> None:
    application = remembering()
    hub = application.hub
    async with Client(application.app):
        positions = [await hub.publish("room:1", str(number)) for number in range(15)]
        found = await hub.history("room:1", limit=limit)
        assert [(p.data, p.position) for p in found] == [(str(n), positions[n]) for n in range(5, 15)]
        found = await hub.history("room:1", positions[10], limit)
        assert [p.data for p in found] == ["11", "12", "13", "14"]
        found = await hub.history("room:1", positions[7], limit, reverse=True)
        assert [p.data for p in found] == ["6", "5"]
        for lost in (positions[2], Position("forged", 3), far_future(positions[0])):  # type: ignore[arg-type]
            assert await hub.history("room:1", lost, limit) == []


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "10"])
async def test_a_limit_is_a_number_above_0(limit: Any) -> None:
    application = remembering()
    async with one(application) as (_, connection):
        for history in (application.hub.history, connection.history):
            with pytest.raises(ValueError, match="limit="):
                await history("room:1", limit=limit)


async def test_history_has_the_data_as_it_was_sent() -> None:
    application = remembering()
    async with Client(application.app):
        for message in ("text", {"a": [1]}, b"\x00\xff", "", Say(text="model")):
            await application.hub.publish("room:1", message)
        found = await application.hub.history("room:1")
        assert [p.data for p in found] == ["text", '{"a":[1]}', b"\x00\xff", "", '{"text":"model"}']
        assert found[1].json() == {"a": [1]}
        with pytest.raises(json.JSONDecodeError):
            found[0].json()


async def test_history_ends_after_its_time_to_live() -> None:
    clock = ManualClock()
    application = Application(clock=clock)
    hub = application.hub
    hub.channels("room:{room}", history=History(ttl_s=60))
    async with one(application) as (socket, connection):
        first = await hub.publish("room:1", "one")
        clock.advance(61)
        assert await hub.history("room:1") == []
        assert first is not None
        joined = await connection.join("room:1", since=Position(first.epoch, 0))
        assert (joined.recovered, joined.missed) == (False, 0)
        await socket.assert_nothing()


# From threads


async def test_threads_have_the_same_calls() -> None:
    application = Application()
    hub = application.hub
    rooms = hub.channels("room:{room}", history=History(), presence=True)
    async with one(application, "ann") as (socket, connection):
        await connection.join("room:1", info="here")

        def work() -> None:
            thread = hub.from_thread
            position = thread.publish("room:1", "one", idempotency_key="k")
            assert thread.publish(rooms(room=1), "one", idempotency_key="k") == position
            assert [p.data for p in thread.history("room:1")] == ["one"]
            assert [p.data for p in thread.history("room:1", limit=1, reverse=True)] == ["one"]
            assert thread.history("room:1", position) == []
            assert [c.info for c in thread.presence("room:1")["ann"]] == ["here"]
            assert thread.presence_count(rooms(room=1)).connections == 1
            with pytest.raises(ValueError, match="exclude"):
                thread.publish("room:1", "x", exclude=connection)
            with pytest.raises(ValueError, match="limit"):
                thread.history("room:1", limit=0)

        await within(asyncio.to_thread(work))
        await socket.assert_received("one")
        with pytest.raises(RuntimeError, match=r"await hub\.history"):
            hub.from_thread.history("room:1")


async def test_a_sync_handler_may_call_the_hub_from_its_thread() -> None:
    application = Application()
    hub = application.hub
    rooms = hub.channels("room:{room}", history=History())

    @rooms.on_publish
    def say(room: str, message: str) -> str:
        return f"{message} after {len(hub.from_thread.history(f'room:{room}'))}"

    async with one(application) as (socket, connection):
        await connection.join("room:1")
        await within(connection.publish("room:1", "a"))
        await within(connection.publish("room:1", "b"))
        await socket.assert_received("a after 0", "b after 1")


# Streams


class Source:
    """An iterator whose items the test gives, and that notes that it was closed."""

    def __init__(self) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self.is_closed = asyncio.Event()

    def give(self, *items: Any) -> None:
        for item in items:
            self._items.put_nowait(item)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        item = await self._items.get()
        if item is StopAsyncIteration:
            raise StopAsyncIteration
        if isinstance(item, BaseException):
            raise item
        return item

    async def aclose(self) -> None:
        self.is_closed.set()


def item(value: object) -> dict[str, object]:
    return {"type": "item", "item": value}


async def test_a_stream_is_its_items_and_an_end() -> None:
    application = remembering()
    source = Source()
    async with one(application) as (socket, connection):
        await connection.join("room:1")
        source.give("one", {"two": 2}, Say(text="three"), None, StopAsyncIteration)
        position = await within(application.hub.channel("room:1").stream(source))
        await socket.assert_received(
            item("one"), item({"two": 2}), item({"text": "three"}), item(None), {"type": "end"}
        )
        await socket.assert_nothing()
        assert position.offset == 5
        assert source.is_closed.is_set()


async def test_an_async_generator_and_an_iterator_without_aclose_are_streams() -> None:
    application = remembering()

    async def generate() -> AsyncIterator[int]:
        yield 1

    class Bare:
        def __init__(self) -> None:
            self._is_done = False

        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            if self._is_done:
                raise StopAsyncIteration
            self._is_done = True
            return 1

    async with one(application) as (socket, connection):
        await connection.join("room:1")
        for items in (generate(), Bare()):
            await within(application.hub.stream("room:1", items))
            await socket.assert_received(item(1), {"type": "end"})


async def test_an_iterable_that_makes_a_new_iterator_has_that_closed() -> None:
    application = remembering()
    closed = asyncio.Event()

    class Iterable:
        async def __aiter__(self) -> AsyncIterator[int]:
            try:
                yield 1
                raise LookupError("a bug")
            finally:
                closed.set()

    async with one(application) as (socket, connection):
        await connection.join("room:1")
        with pytest.raises(LookupError):
            await within(application.hub.stream("room:1", Iterable()))
        assert closed.is_set()
        await socket.assert_received(item(1), {"type": "error"})


@pytest.mark.parametrize("error", [LookupError("secret"), Denied("secret"), asyncio.CancelledError()])
async def test_an_iterator_that_fails_ends_the_stream_with_an_error_that_says_nothing(error: BaseException) -> None:
    application = remembering()
    source = Source()
    async with one(application) as (socket, connection):
        await connection.join("room:1")
        source.give("one", error)
        with pytest.raises(type(error)):
            await within(application.hub.stream("room:1", source))
        await socket.assert_received(item("one"), {"type": "error"})
        assert source.is_closed.is_set()


async def test_an_item_without_a_json_form_ends_the_stream_with_an_error() -> None:
    application = remembering()
    source = Source()
    async with one(application) as (socket, connection):
        await connection.join("room:1")
        source.give(object(), "never")
        with pytest.raises(TypeError):
            await within(application.hub.stream("room:1", source))
        await socket.assert_received({"type": "error"})
        assert source.is_closed.is_set()


async def test_a_stream_that_is_cancelled_says_so_and_closes_its_iterator() -> None:
    application = remembering()
    source = Source()
    async with one(application) as (socket, connection):
        await connection.join("room:1")
        source.give("one")
        stream = asyncio.create_task(application.hub.stream("room:1", source))
        await socket.assert_received(item("one"))
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(stream)
        await socket.assert_received({"type": "error"})
        assert source.is_closed.is_set()


@pytest.mark.parametrize("turns", range(4))
async def test_a_stream_that_is_cancelled_early_closes_its_iterator(turns: int) -> None:
    application = remembering()
    source = Source()
    async with Client(application.app):
        stream = asyncio.create_task(application.hub.stream("room:1", source))
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(stream)
        assert source.is_closed.is_set()


async def test_a_stream_that_nobody_hears_is_abandoned_after_the_grace_period() -> None:
    application = remembering()
    source = Source()
    async with one(application) as (socket, connection):
        await connection.join("room:1")
        source.give("one")
        stream = asyncio.create_task(application.hub.stream("room:1", source, grace_s=0.1))
        await socket.assert_received(item("one"))
        await connection.leave("room:1")
        position = await within(stream)
        assert source.is_closed.is_set()
        found = await application.hub.history("room:1")
        assert [p.json()["type"] for p in found] == ["item", "abandoned"]
        assert found[-1].position == position


async def test_a_stream_that_somebody_hears_is_not_abandoned() -> None:
    clock = ManualClock()
    application = Application(clock=clock)
    application.hub.channels("room:{room}", history=History())
    source = Source()
    async with one(application) as (socket, connection):
        joined = await connection.join("room:1")
        stream = asyncio.create_task(application.hub.stream("room:1", source, grace_s=0.01))
        for number in range(5):
            clock.advance(0.009)
            source.give(number)
            await socket.assert_received(item(number))
        await connection.leave("room:1")
        clock.advance(0.009)
        await connection.join("room:1", since=joined.position)
        await socket.assert_received(*map(item, range(5)))  # resumed in the middle
        source.give("last", StopAsyncIteration)
        await within(stream)
        await socket.assert_received(item("last"), {"type": "end"})


class Stubborn:
    """An iterator that takes a cancellation for something else."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_asked_again = asyncio.Event()

    def __aiter__(self) -> "Stubborn":
        return self

    async def __anext__(self) -> int:
        self.asked += 1
        if self.asked > 2:
            self.is_asked_again.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02)
        return self.asked


async def test_a_stream_ends_though_its_iterator_eats_the_cancellation() -> None:
    application = Application()
    answers = application.hub.channels("answer:{answer}", history=History(size=1_000))
    items = Stubborn()
    async with one(application):
        stream = asyncio.create_task(answers(answer=1).stream(items))
        await asyncio.wait_for(items.is_asked_again.wait(), 5)
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream
        (last,) = await answers(answer=1).history(limit=1, reverse=True)
        assert last.json() == {"type": "error"}
        assert not any("_publish_all" in repr(task) for task in asyncio.all_tasks())


async def test_what_is_not_the_same_when_it_is_validated_twice_is_validated_once() -> None:
    application = Application()
    rooms = application.hub.channels("room:{room}")
    seen = Calls()

    @rooms.on_publish
    async def look(message: Annotated[int, pydantic.AfterValidator(lambda number: number + 1)]) -> None:
        seen(message)

    async with one(application) as (socket, connection):
        await connection.join("room:1")
        await connection.publish("room:1", 1)
        await seen.expect(2)
        await socket.assert_received("2")


async def test_a_stream_takes_an_async_iterable() -> None:
    application = Application()
    answers = application.hub.channels("answer:{answer}", history=History())
    async with one(application):
        with pytest.raises(TypeError, match="list is no async iterable"):
            await answers(answer=1).stream([1, 2])  # type: ignore[arg-type]
        assert not await answers(answer=1).history()


async def test_a_stream_takes_a_channel_with_history_and_a_grace_period_above_0() -> None:
    application = remembering()
    async with Client(application.app):
        with pytest.raises(ValueError, match="history=History"):
            await application.hub.stream("elsewhere", Source())
        for grace_s in (0, -1, True, float("nan"), "30", None):
            with pytest.raises(ValueError, match="grace_s="):
                await application.hub.stream("room:1", Source(), grace_s=grace_s)  # type: ignore[arg-type]


async def test_the_end_of_the_application_does_not_wait_for_a_stream_for_ever() -> None:
    application = remembering()
    source = Source()
    async with Client(application.app):
        stream = asyncio.create_task(application.hub.stream("room:1", source))
        source.give("one")
        for _ in range(20):
            await asyncio.sleep(0)
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(stream)
    assert source.is_closed.is_set()


async def test_the_envelope_of_a_stream_has_its_positions() -> None:
    application = remembering()
    source = Source()
    async with one(application) as (socket, connection):
        await connection.join("room:1", envelope=True)
        source.give("one", StopAsyncIteration)
        await within(application.hub.stream("room:1", source))
        messages = [json.loads(await socket.receive()) for _ in range(3)]
        assert [message["offset"] for message in messages] == [0, 1, 2]
        assert [message.get("data") for message in messages] == [None, item("one"), {"type": "end"}]
