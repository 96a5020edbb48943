"""A channel as Server-Sent Events, through the application and without a server."""

import asyncio
import contextlib
import gc
import inspect
import json
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from hubbub import (
    BrokerUnavailable,
    Connection,
    Denied,
    Drain,
    Heartbeat,
    History,
    Hub,
    Limits,
    Outbox,
    Peer,
    Position,
    Presence,
)
from hubbub.brokers.memory import MemoryPresenceStore
from hubbub.testing import Client, ManualClock
from tests.redis_server import redis_server

DEADLINE_S = 20.0
ENDED = ""
"""In the place of a block: the body has ended."""


class Listener:
    """A client of an application, which takes one response part by part.

    Args:
        app: The application.
        path: What it asks for, with a query.
        last_event_id: Where it was.
        method: How it asks.
        address: Where it is.
    """

    def __init__(
        self,
        app: FastAPI,
        path: str,
        last_event_id: str | None = None,
        *,
        method: str = "GET",
        address: str = "127.0.0.1",
    ) -> None:
        self._app = app
        path, _, query = path.partition("?")
        headers = [(b"host", b"test"), (b"accept-encoding", b"gzip")]
        if last_event_id is not None:
            headers.append((b"last-event-id", last_event_id.encode("latin-1")))
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers,
            "client": (address, 1),
            "server": ("test", 80),
            "state": {},
        }
        self._requests = 0
        self._is_gone = asyncio.Event()
        self._begun = asyncio.Event()
        self._reads = asyncio.Event()
        self._reads.set()
        self._blocks: asyncio.Queue[str] = asyncio.Queue()
        self._rest = b""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.has_ended = False

    async def __aenter__(self) -> "Listener":
        self.task = asyncio.create_task(self._app(self._scope, self._receive, self._send))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.leave()
        self.read()
        if not self.task.cancelled():
            await within(self.task)

    async def _receive(self) -> dict[str, Any]:
        self._requests += 1
        if self._requests == 1:
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._is_gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self._reads.wait()
        if self._is_gone.is_set():
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self.body += message.get("body", b"")
        *blocks, self._rest = (self._rest + message.get("body", b"")).split(b"\n\n")
        for block in blocks:
            self._blocks.put_nowait(block.decode())
        self._begun.set()
        if not message.get("more_body"):
            self.has_ended = True
            self._blocks.put_nowait(ENDED)

    async def begun(self) -> None:
        """Return when a part of the body has come."""
        await within(self._begun.wait())

    async def next(self) -> str:
        """Return the next block."""
        block: str = await within(self._blocks.get())
        return block

    async def take(self, number: int) -> list[str]:
        """Return the next blocks."""
        return [await self.next() for _ in range(number)]

    async def json(self) -> Any:
        """Return the whole body of a response that ends."""
        await within(self.task)
        return json.loads(self.body)

    def stall(self) -> None:
        """Read no more."""
        self._reads.clear()

    def read(self) -> None:
        """Read on."""
        self._reads.set()

    def leave(self) -> None:
        """Hang up."""
        self._is_gone.set()


async def within(awaitable: Any) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        return await awaitable


async def until(condition: Callable[[], object]) -> None:
    """Let the loop go on until something is the case."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never was the case")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hub(clock: ManualClock) -> Hub:
    return Hub(clock=clock)


def application(hub: Hub, **options: Any) -> FastAPI:
    """An application whose `/events/{channel}` is a channel, for the user that the query names."""
    app = FastAPI(**options)

    @app.get("/events/{channel}")
    async def events(request: Request, channel: str, user: str | None = None) -> Response:
        return hub.events(request, channel, user=user, info=request.query_params.get("info"))

    return app


@pytest.fixture
def app(hub: Hub) -> FastAPI:
    hub.channels("news:{name}", history=History(size=3))
    hub.channels("room:{name}", presence=Presence(grace_s=5))
    return application(hub)


@contextlib.asynccontextmanager
async def listening(app: FastAPI, path: str, last_event_id: str | None = None) -> AsyncIterator[Listener]:
    """Listen, from when the first words have come."""
    async with Listener(app, path, last_event_id) as listener:
        await listener.begun()
        yield listener


def core(hub: Hub) -> Any:
    return hub._runtime.core


def assert_empty(hub: Hub) -> None:
    """Nothing of a connection is left."""
    inside = core(hub)
    assert not inside.streams
    assert not inside.held
    assert not list(inside._index.names())
    assert not inside._joins
    assert not inside.admission._total
    assert not inside.admission._users
    assert not inside.admission._addresses
    assert hub.statistics().queued_bytes == 0


# What the client gets


async def test_it_is_an_event_stream(app: FastAPI) -> None:
    async with listening(app, "/events/plain") as listener:
        assert listener.status == 200
        assert listener.headers == {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-store",
            "x-accel-buffering": "no",
        }


async def test_the_data_of_an_event_are_the_message_as_on_a_socket(hub: Hub, app: FastAPI) -> None:
    async with listening(app, "/events/plain") as listener:
        for message in ("hello", {"text": "héllo\nyou"}, "a\nb\r\nc\rd\n", b"\x00\xff", "", " spaced"):
            await hub.publish("plain", message)
        assert await listener.take(7) == [
            ":",
            "data: hello",
            'data: {"text":"héllo\\nyou"}',
            "data: a\ndata: b\ndata: c\ndata: d\ndata: ",
            "data: AP8=",
            "data: ",
            "data:  spaced",
        ]


async def test_a_channel_without_history_has_no_ids_and_ignores_where_the_client_was(hub: Hub, app: FastAPI) -> None:
    async with listening(app, "/events/plain", "epoch:1") as listener:
        await hub.publish("plain", "one")
        assert await listener.take(2) == [":", "data: one"]


async def test_a_stream_starts_at_now_and_knows_where_that_is(hub: Hub, app: FastAPI) -> None:
    before = await hub.publish("news:a", "before")
    async with listening(app, "/events/news:a") as listener:
        after = await hub.publish("news:a", "after")
        assert await listener.take(2) == [f"id: {before}", f"id: {after}\ndata: after"]
    assert hub.statistics().resumed == 0


async def test_a_stream_goes_on_where_the_client_was(hub: Hub, app: FastAPI) -> None:
    positions = [await hub.publish("news:a", str(number)) for number in range(3)]
    async with listening(app, "/events/news:a", str(positions[0])) as listener:
        assert await listener.take(2) == [f"id: {positions[1]}\ndata: 1", f"id: {positions[2]}\ndata: 2"]
        third = await hub.publish("news:a", "3")
        assert await listener.next() == f"id: {third}\ndata: 3"
    assert hub.statistics().resumed == 1


@pytest.mark.parametrize(
    "where",
    [
        "x",
        "1:2:3",
        "{epoch}:01",
        "{epoch}:-1",
        "{epoch}:99999999999999999999",
        "é:1",
        "a" * 10_000,
        "other:4",
        "{epoch}:1",
        "{epoch}:9",
        "{epoch}:9223372036854775807",
    ],
    ids=["word", "colons", "zero", "negative", "huge", "latin", "long", "epoch", "stale", "future", "largest"],
)
async def test_a_gap_that_cannot_be_closed_is_told_as_a_reset(hub: Hub, app: FastAPI, where: str) -> None:
    for number in range(5):
        now = await hub.publish("news:a", str(number))
    assert now is not None
    async with listening(app, "/events/news:a", where.format(epoch=now.epoch)) as listener:
        after = await hub.publish("news:a", "after")
        assert await listener.take(2) == [f"id: {now}\nevent: reset\ndata: {now}", f"id: {after}\ndata: after"]


async def test_an_empty_id_says_nothing(app: FastAPI) -> None:
    async with listening(app, "/events/news:a", "") as listener:
        assert (await listener.next()).startswith("id: ")


async def test_the_position_comes_before_anything_newer(
    hub: Hub, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the client would come back with a position before what it has got, and get that twice."""
    hub.channels("both:{name}", history=History(), presence=True)
    entering = asyncio.Event()
    may_enter = asyncio.Event()
    enter = MemoryPresenceStore.enter

    async def slow_enter(*args: Any) -> Any:
        entering.set()
        await may_enter.wait()
        return await enter(*args)

    monkeypatch.setattr(MemoryPresenceStore, "enter", slow_enter)
    async with Listener(app, "/events/both:a?user=ann") as listener:
        await within(entering.wait())
        position = await hub.publish("both:a", "one")
        may_enter.set()
        assert position is not None
        assert await listener.take(2) == [f"id: {position.epoch}:0", f"id: {position}\ndata: one"]


async def test_it_hears_its_channel_only(hub: Hub, app: FastAPI) -> None:
    async with listening(app, "/events/plain?user=ann") as listener:
        await hub.broadcast("everyone")
        await hub.send("ann", "you")
        await hub.publish("other", "others")
        await hub.publish("plain", "this")
        assert await listener.take(2) == [":", "data: this"]
        assert not hub.connections


async def test_streams_and_sockets_hear_the_same(hub: Hub, app: FastAPI) -> None:
    @app.websocket("/ws")
    async def endpoint(connection: Annotated[Connection, Depends(hub)]) -> None:
        await connection.join("news:a")
        await connection.send("joined")
        await hub.publish("news:a", {"a": 1})
        await connection.receive()

    async with (
        listening(app, "/events/news:a") as listener,
        Client(app) as client,
        client.connect("/ws") as socket,
    ):
        await socket.assert_received("joined", '{"a":1}')
        assert (await listener.take(2))[1].endswith('data: {"a":1}')


# Who may listen


async def test_the_family_is_asked(hub: Hub) -> None:
    rooms = hub.channels("room:{room}")
    asked = []

    @rooms.on_join
    async def may_join(peer: Peer, room: str) -> None:
        asked.append((peer.user, room, peer.query_params["user"], peer.client and peer.client.host))
        if room == "cellar":
            raise Denied("Nobody may go there", headers={"X-Why": "dark"})
        if room == "attic":
            raise HTTPException(401, "Who are you?")

    app = application(hub)
    async with Listener(app, "/events/room:cellar?user=ann") as listener:
        assert await listener.json() == {"detail": "Nobody may go there", "limit": None}
        assert (listener.status, listener.headers["x-why"]) == (403, "dark")
    async with Listener(app, "/events/room:attic?user=ann") as listener:
        assert await listener.json() == {"detail": "Who are you?", "limit": None}
        assert listener.status == 401
    async with listening(app, "/events/room:kitchen?user=ann") as listener:
        assert listener.status == 200
    assert asked == [("ann", room, "ann", "127.0.0.1") for room in ("cellar", "attic", "kitchen")]
    assert hub.statistics().accepted == 1
    assert hub.statistics().refused == {"denied": 2}
    assert_empty(hub)


async def test_a_handler_that_fails_is_an_error_of_the_application(hub: Hub) -> None:
    @hub.channels("room:{room}").on_join
    async def may_join(room: str) -> None:
        raise ZeroDivisionError

    listener = Listener(application(hub), "/events/room:a")
    with pytest.raises(ZeroDivisionError):
        async with listener:
            await within(listener.task)
    assert listener.status == 500
    assert_empty(hub)


@pytest.mark.parametrize(
    ("limits", "path", "limit", "status"),
    [
        (Limits(connections=1), "/events/plain", "connections", 503),
        (Limits(connections_per_user=1), "/events/plain?user=ann", "connections_per_user", 429),
        (Limits(connections_per_address=1), "/events/plain", "connections_per_address", 429),
    ],
)
async def test_the_limits_hold(limits: Limits, path: str, limit: str, status: int) -> None:
    hub = Hub(limits=limits)
    app = application(hub)
    async with listening(app, path), Listener(app, path) as second:
        assert (await second.json())["limit"] == limit
        assert second.status == status
        assert second.headers["retry-after"] == "10"
    assert_empty(hub)
    async with listening(app, path) as third:
        assert third.status == 200
    statistics = hub.statistics()
    assert (statistics.accepted, statistics.refused) == (2, {limit: 1})


async def test_a_name_that_is_too_long_is_refused_before_anything_begins(hub: Hub, app: FastAPI) -> None:
    async with Listener(app, "/events/" + "a" * 256) as listener:
        assert (await listener.json())["limit"] == "channel_name_bytes"
        assert listener.status == 403
    statistics = hub.statistics()
    assert (statistics.accepted, statistics.closed, statistics.refused) == (0, {}, {"channel_name_bytes": 1})
    assert_empty(hub)


async def test_a_stream_is_not_silent_for_too_long(clock: ManualClock) -> None:
    """It cannot say anything."""
    hub = Hub(limits=Limits(first_message_s=1, idle_s=1), heartbeat=Heartbeat(interval_s=None), clock=clock)
    async with listening(application(hub), "/events/plain") as listener:
        clock.advance(60)
        await hub.publish("plain", "still here")
        assert await listener.take(2) == [":", "data: still here"]


async def test_hub_events_is_no_coroutine_and_refuses_what_is_no_channel(hub: Hub) -> None:
    assert not inspect.iscoroutinefunction(hub.events)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""})
    assert isinstance(hub.events(request, "plain"), Response)
    for channel, user in (("", None), ("$all", None), ("plain", "")):
        with pytest.raises(ValueError, match="non-empty"):
            hub.events(request, channel, user=user)
    with pytest.raises(TypeError):
        hub.events(request, "plain", info=object())
    with pytest.raises(TypeError, match="give the str"):
        hub.events(request, "plain", user=7)  # type: ignore[arg-type]


# Presence


async def test_a_stream_is_present_for_as_long_as_it_goes_on(hub: Hub, app: FastAPI, clock: ManualClock) -> None:
    async with listening(app, "/events/room:a?user=ann&info=phone"):
        await until(lambda: core(hub).attendance._entries)
        members = await hub.presence("room:a")
        assert list(members) == ["ann"]
        assert [one.info for one in members["ann"]] == ["phone"]
    assert list(await hub.presence("room:a")) == ["ann"]
    clock.advance(5)
    assert not core(hub).attendance._entries
    await until(lambda: not core(hub).background._tasks)
    assert await hub.presence("room:a") == {}


async def test_the_family_hears_of_a_stream_that_comes_and_goes(hub: Hub, clock: ManualClock) -> None:
    rooms = hub.channels("hall:{name}", presence=Presence(grace_s=5))
    heard = []

    @rooms.on_first
    async def first(name: str) -> None:
        heard.append("first")

    @rooms.on_user_joined
    async def came(name: str, user: str) -> None:
        heard.append(f"{user} came")

    @rooms.on_leave
    async def leaves(peer: Peer, name: str, request_path: Annotated[str, Depends(path_of)]) -> None:
        heard.append(f"{peer.user} leaves {request_path}")

    @rooms.on_last
    async def last(name: str) -> None:
        heard.append("last")

    @rooms.on_user_left
    async def went(name: str, user: str) -> None:
        heard.append(f"{user} went")

    app = application(hub)
    async with listening(app, "/events/hall:a?user=ann"):
        await until(lambda: len(heard) == 2)
    await until(lambda: len(heard) == 4)
    clock.advance(5)
    await until(lambda: len(heard) == 5)
    assert heard == ["first", "ann came", "ann leaves /events/hall:a", "last", "ann went"]


async def path_of(request: Request) -> str:
    return request.url.path


# The end


async def test_nothing_is_left_when_the_client_has_gone(hub: Hub, app: FastAPI, clock: ManualClock) -> None:
    tasks = asyncio.all_tasks()
    async with listening(app, "/events/news:a?user=ann") as listener:
        response = weakref.ref(next(iter(core(hub).streams.values())))
        assert hub.statistics().channels == 1
        listener.leave()
        await within(listener.task)
    assert_empty(hub)
    assert not any(call.callback for *_, call in clock._calls)
    assert asyncio.all_tasks() == tasks
    assert hub.statistics().closed == {1006: 1}
    gc.collect()
    assert response() is None


async def test_a_client_may_be_gone_before_the_first_byte(hub: Hub, app: FastAPI) -> None:
    listener = Listener(app, "/events/news:a?user=ann")
    listener.leave()
    async with listener:
        await within(listener.task)
    assert_empty(hub)


async def test_a_client_may_go_while_it_is_asked_for(hub: Hub) -> None:
    asked = asyncio.Event()
    answer = asyncio.Event()

    @hub.channels("room:{room}").on_join
    async def may_join(room: str) -> None:
        asked.set()
        await answer.wait()

    async with Listener(application(hub), "/events/room:a") as listener:
        await within(asked.wait())
        listener.leave()
        answer.set()
        await within(listener.task)
    assert_empty(hub)


async def test_a_request_may_be_cancelled(hub: Hub, app: FastAPI, clock: ManualClock) -> None:
    async with listening(app, "/events/news:a") as listener:
        listener.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(listener.task)
        await until(lambda: not core(hub).held)
        assert_empty(hub)
        assert not any(call.callback for *_, call in clock._calls)


async def test_disconnecting_a_user_ends_its_streams(hub: Hub, app: FastAPI) -> None:
    async with listening(app, "/events/plain?user=ann") as ann, listening(app, "/events/plain?user=bob") as bob:
        await hub.publish("plain", "last words")
        await hub.disconnect("ann")
        assert await ann.take(3) == [":", "data: last words", ENDED]
        await within(ann.task)
        assert not bob.has_ended
    assert hub.statistics().closed == {3503: 1, 1006: 1}


async def test_a_slow_client_is_cut_off_and_its_memory_freed(clock: ManualClock) -> None:
    hub = Hub(outbox=Outbox(bytes=10_000), clock=clock)
    app = application(hub)
    async with listening(app, "/events/plain") as slow:
        slow.stall()
        for _ in range(12):
            await hub.publish("plain", "x" * 1_000)
        await within(slow.task)
        assert hub.statistics().closed == {3008: 1}
        assert_empty(hub)
        assert not slow.has_ended
        assert not any(call.callback for *_, call in clock._calls)


async def test_a_slow_client_may_lose_some_where_the_policy_says_so(hub: Hub) -> None:
    hub.channels("price:{name}", outbox=Outbox(policy="latest"))
    async with listening(application(hub), "/events/price:a") as slow:
        await slow.next()
        slow.stall()
        for price in range(50):
            await hub.publish("price:a", price)
        slow.read()
        blocks = [await slow.next()]
        while blocks[-1] != "data: 49":
            blocks.append(await slow.next())
        assert len(blocks) <= 3


async def test_when_the_server_stops_the_client_is_told_when_to_come_back() -> None:
    hub = Hub(drain=Drain(window_s=2))
    app = application(hub)
    async with listening(app, "/events/plain") as listener:
        hub._runtime._end_streams()
        _, retry, end = await listener.take(3)
        assert 200 <= int(retry.removeprefix("retry: ")) <= 2_000
        assert end == ENDED
        await within(listener.task)
    assert hub.statistics().closed == {1012: 1}
    assert_empty(hub)


async def test_who_comes_then_is_sent_away_in_a_way_that_a_browser_comes_back_from(hub: Hub, app: FastAPI) -> None:
    """At any other status than 200 it would give up for good."""
    async with hub:
        hub._runtime._end_streams()
        async with Listener(app, "/events/plain") as listener:
            await assert_comes_back(listener)
    async with Listener(app, "/events/plain") as listener:  # and when the hub has ended
        await assert_comes_back(listener)
    assert hub.statistics().refused == {"draining": 2}
    assert_empty(hub)


async def assert_comes_back(listener: Listener) -> None:
    retry, end = await listener.take(2)
    assert listener.status == 200
    assert retry.startswith("retry: ")
    assert end == ENDED


async def test_the_end_may_come_while_a_stream_begins(hub: Hub, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    hub._runtime.start()
    arriving = asyncio.Event()
    may_arrive = asyncio.Event()

    async def arrive(connection: object) -> None:
        arriving.set()
        await may_arrive.wait()

    monkeypatch.setattr(core(hub), "arrive", arrive)
    async with Listener(app, "/events/plain") as listener:
        await within(arriving.wait())
        hub._runtime._end_streams()
        may_arrive.set()
        await assert_comes_back(listener)
    assert_empty(hub)


async def test_a_client_that_reads_nothing_does_not_keep_the_server(clock: ManualClock) -> None:
    hub = Hub(clock=clock)
    async with listening(application(hub), "/events/plain") as stalled:
        stalled.stall()
        await hub.publish("plain", "one")
        await hub.publish("plain", "two")
        hub._runtime._end_streams()
        clock.advance(1)
        await within(stalled.task)
    assert_empty(hub)


async def test_the_hubs_end_ends_the_streams(hub: Hub, app: FastAPI) -> None:
    async with hub:
        listener = Listener(app, "/events/plain")
        await listener.__aenter__()
        await listener.begun()
    assert (await listener.take(3))[1].startswith("retry: ")
    await listener.__aexit__()
    assert_empty(hub)


# Keeping alive


async def test_a_comment_keeps_the_connection_in_use(clock: ManualClock) -> None:
    hub = Hub(heartbeat=Heartbeat(interval_s=10), clock=clock)
    async with listening(application(hub), "/events/plain") as listener:
        await until(lambda: clock._calls)
        assert listener.body == b":\n\n"
        clock.advance(9.9)
        await hub.publish("plain", "one")
        assert await listener.take(2) == [":", "data: one"]
        clock.advance(0.1)
        assert await listener.next() == ":"
        clock.advance(10)
        assert await listener.next() == ":"


async def test_without_a_heartbeat_there_is_no_comment(clock: ManualClock) -> None:
    hub = Hub(heartbeat=Heartbeat(interval_s=None), clock=clock)
    async with listening(application(hub), "/events/plain") as listener:
        clock.advance(3_600)
        await hub.publish("plain", "one")
        assert await listener.take(2) == [":", "data: one"]


# The response as any other


async def test_a_sync_route_may_return_it(hub: Hub) -> None:
    """It runs in a thread, which has no loop."""
    app = FastAPI()

    @app.get("/events")
    def events(request: Request) -> Response:
        return hub.events(request, "plain", user="ann")

    async with listening(app, "/events") as listener:
        await hub.publish("plain", "one")
        assert await listener.take(2) == [":", "data: one"]


async def test_head_asks_for_the_headers_only(hub: Hub) -> None:
    app = FastAPI()

    @app.api_route("/events", methods=["GET", "HEAD"])
    async def events(request: Request) -> Response:
        return hub.events(request, "plain")

    async with Listener(app, "/events", method="HEAD") as listener:
        await within(listener.task)
        assert (listener.status, listener.body, listener.has_ended) == (200, b"", True)
        assert listener.headers["content-type"].startswith("text/event-stream")
    assert hub.statistics().accepted == 0


async def test_the_application_may_add_headers_and_tasks(hub: Hub) -> None:
    app = FastAPI()
    done: list[str] = []

    @app.get("/events")
    async def events(request: Request, tasks: BackgroundTasks) -> Response:
        tasks.add_task(done.append, "done")
        response = hub.events(request, "plain")
        response.headers["x-own"] = "yes"
        response.set_cookie("seen", "1")
        return response

    async with listening(app, "/events") as listener:
        assert listener.headers["x-own"] == "yes"
        assert listener.headers["set-cookie"].startswith("seen=1")
        assert not done
        listener.leave()
        await within(listener.task)
    assert done == ["done"]


async def test_middleware_in_front(hub: Hub, app: FastAPI) -> None:
    async def passes(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-passed"] = "yes"
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=passes)
    app.add_middleware(GZipMiddleware, minimum_size=1)
    async with listening(app, "/events/plain?user=ann") as listener:
        await hub.publish("plain", "one")
        assert await listener.take(2) == [":", "data: one"]
        assert listener.headers["x-passed"] == "yes"
        listener.leave()
        await within(listener.task)
        assert_empty(hub)
    async with listening(app, "/events/plain?user=ann") as listener:
        hub._runtime._end_streams()
        assert (await listener.take(3))[2] == ENDED
    assert_empty(hub)


# While the broker is away


@contextlib.asynccontextmanager
async def away() -> AsyncIterator[tuple[Hub, FastAPI, Any]]:
    with redis_server() as redis:
        hub = Hub(redis.url)
        hub.channels("news:{name}", history=History())
        async with hub:
            yield hub, application(hub), redis


async def test_a_client_that_comes_back_while_the_broker_is_away_is_to_come_later() -> None:
    async with away() as (hub, app, redis):
        position = await hub.publish("news:a", "one")
        redis.stop()
        async with Listener(app, "/events/news:a", str(position)) as listener:
            await assert_comes_back(listener)


async def test_a_new_client_is_let_in_while_the_broker_is_away_and_told_of_the_gap() -> None:
    async with away() as (_, app, redis):
        redis.stop()
        async with listening(app, "/events/news:a") as listener:
            assert await listener.next() == ":"
            redis.start()
            reset = await listener.next()
            position = Position.parse(reset.rpartition("data: ")[2])
            assert reset == f"id: {position}\nevent: reset\ndata: {position}"


async def test_nothing_is_missing_when_the_connection_to_the_broker_was_lost() -> None:
    async with away() as (hub, app, redis):
        first = await hub.publish("news:a", "one")
        async with listening(app, "/events/news:a") as listener:
            assert await listener.next() == f"id: {first}"
            redis.command("CLIENT", "KILL", "TYPE", "pubsub")
            redis.command("CLIENT", "KILL", "TYPE", "normal")
            second = await published(hub, "news:a", "two")
            assert await listener.next() == f"id: {second}\ndata: two"
        async with listening(app, "/events/news:a", str(first)) as listener:
            assert await listener.next() == f"id: {second}\ndata: two"


async def test_history_that_is_gone_with_the_broker_is_told_as_a_reset() -> None:
    async with away() as (hub, app, redis):
        first = await hub.publish("news:a", "one")
        async with listening(app, "/events/news:a") as listener:
            assert await listener.next() == f"id: {first}"
            redis.restart()
            assert "\nevent: reset\n" in await listener.next()


async def published(hub: Hub, channel: str, message: str) -> Position | None:
    """Publish as soon as the broker is there again."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await hub.publish(channel, message)
            except BrokerUnavailable:
                await asyncio.sleep(0.01)
