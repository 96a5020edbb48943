"""Workers on one Redis: applications with hubs of their own, as they are in processes of their own."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

import pytest
from fastapi import Depends, FastAPI, WebSocketDisconnect

import hubbub.brokers.redis
from hubbub import BrokerUnavailable, Connection, Denied, History, Hub, Joined, Limits, Peer, Position, Presence
from hubbub.brokers.redis import RedisBroker, Timing
from hubbub.testing import Client, ClientConnection
from tests.fault_proxy import FaultProxy, Way, fault_proxy
from tests.integration.deadline import eventually, within
from tests.redis_server import RedisServer, redis_server

QUICK = Timing(command_s=0.6, wait_s=0.3, beacon_s=0.1, beacon_deadline_s=0.6)
BOUND_S = 8.0
"""Within this a call has an answer, whatever has become of Redis: a command has 5 seconds, a connection 1."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server for the tests that do it no harm."""
    with redis_server() as running:
        yield running


@pytest.fixture(autouse=True)
def empty(server: RedisServer) -> None:
    server.command("FLUSHALL")


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server for one test."""
    with redis_server() as running:
        yield running


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[FaultProxy]:
    """A network between a worker and the server."""
    async with fault_proxy(server.port) as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hubs wait for Redis less long."""
    monkeypatch.setattr(hubbub.brokers.redis, "RedisBroker", partial(RedisBroker, timing=QUICK))


class Socket:
    """A client, and its connection on the worker."""

    def __init__(self, client: ClientConnection, connection: Connection) -> None:
        self.client = client
        self.connection = connection
        self.join = connection.join
        self.leave = connection.leave

    async def heard(self, *messages: object) -> None:
        for message in messages:
            data = await self.client.receive(20)
            assert (data if isinstance(message, str | bytes) else json.loads(data)) == message

    async def texts(self, count: int) -> list[str | bytes]:
        return [await self.client.receive(20) for _ in range(count)]

    async def nothing_before(self, worker: "Worker", channel: str) -> None:
        """Have nothing but what is published on this channel now."""
        await worker.hub.publish(channel, "the next")
        await self.heard("the next")


def place(channel: str, position: Position | None, recovered: bool = True) -> dict[str, object]:
    """What tells a client where it is."""
    assert position is not None
    return {"channel": channel, "epoch": position.epoch, "offset": position.offset, "recovered": recovered}


class Worker:
    """One application with a hub of its own; a test acts through the connections of its clients."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.hub = Hub(url, **settings)
        self.rooms = self.hub.channels("room:{room}", history=History(size=100), presence=True)
        self.logs = self.hub.channels("log:{log}", history=History(size=10_000))
        self.seats = self.hub.channels("seat:{seat}", presence=Presence(grace_s=0.2, lease_s=1))
        self.came: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.app = FastAPI(lifespan=self.hub.lifespan)
        self._client = Client(self.app, timeout_s=20)
        self._arrivals: asyncio.Queue[Connection] = asyncio.Queue()
        self._stack = AsyncExitStack()

        @self.app.websocket("/ws")
        async def endpoint(connection: Annotated[Connection, Depends(self.hub)], user: str | None = None) -> None:
            await connection.accept(user=user)
            self._arrivals.put_nowait(connection)
            async for _ in connection:
                pass

        @self.seats.on_user_joined
        async def came(user: str) -> None:
            self.came.put_nowait(("came", user))

        @self.seats.on_user_left
        async def left(user: str) -> None:
            self.came.put_nowait(("left", user))

    async def __aenter__(self) -> "Worker":
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        try:
            await self._stack.aclose()
        finally:
            await self._client.__aexit__(*exc_info)

    async def connect(self, user: str | None = None) -> Socket:
        query = "" if user is None else f"?user={quote(user)}"
        client = await self._stack.enter_async_context(self._client.connect(f"/ws{query}"))
        return Socket(client, await within(self._arrivals.get()))

    async def refused(self, user: str) -> Any:
        return await self._client.refused(f"/ws?user={quote(user)}")


@asynccontextmanager
async def workers(*urls: str, **settings: Any) -> AsyncIterator[list[Worker]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Worker(url, **settings)) for url in urls]


@asynccontextmanager
async def two(server: RedisServer, **settings: Any) -> AsyncIterator[tuple[Worker, Worker]]:
    async with workers(server.url, server.url, **settings) as (one, other):
        yield one, other


def heard_by(server: RedisServer) -> dict[bytes, int]:
    """Return our channels that are subscribed, with the number of workers that hear each."""
    answer = server.command("PUBSUB", "NUMSUB", *ours(server))
    return dict(zip(answer[::2], answer[1::2], strict=True))


def ours(server: RedisServer) -> list[bytes]:
    """Return the channels that are subscribed, without the signs of life."""
    return [name for name in server.command("PUBSUB", "CHANNELS") if b":beacon:" not in name]


async def until(worker: Worker, channel: str, users: dict[str, int]) -> None:
    """Wait until so many connections of these users are in a channel."""
    present: dict[str, int] = {}
    try:
        async with asyncio.timeout(20):
            while present != users or not users:
                await asyncio.sleep(0.01)
                present = {user: len(entries) for user, entries in (await worker.hub.presence(channel)).items()}
                if present == users:
                    return
    except TimeoutError:
        raise AssertionError(f"in {channel} are {present}, not {users}") from None


async def unavailable(call: Awaitable[Any], seconds: float = BOUND_S) -> str:
    """Have a call say that the broker is away; return whether it has published."""
    with pytest.raises(BrokerUnavailable) as raised:
        await within(call, seconds)
    return raised.value.published


# Two workers


async def test_everything_reaches_the_clients_of_both_workers(server: RedisServer) -> None:
    async with two(server) as (one, other):
        ann, bob, again = await one.connect("ann"), await other.connect("bob"), await other.connect("ann")
        for message in ("text", b"\x00\xff", {"json": ["ü", None]}):
            await one.hub.broadcast(message)
            await other.hub.broadcast(message)
            for socket in (ann, bob, again):
                await socket.heard(message, message)
            await other.hub.send("ann", message)
            for socket in (ann, again):
                await socket.heard(message)
        await one.hub.broadcast("but not her", exclude=ann.connection)
        await other.hub.broadcast("nor him", exclude=[bob.connection, again.connection])
        await other.hub.send("ann", "only the first", exclude=again.connection)
        await ann.heard("nor him", "only the first")
        await bob.heard("but not her")
        await again.heard("but not her")
        for socket in (ann, bob, again):
            await socket.join("news")
        await one.hub.publish("news", "tea")
        await again.leave("news")
        await bob.connection.publish("news", "cake")
        await ann.heard("tea", "cake")
        await bob.heard("tea", "cake")
        await again.heard("tea")
        await other.hub.disconnect("ann", 4001, "enough")
        for socket in (ann, again):
            await socket.client.assert_closed(4001, "enough")
        await one.hub.broadcast("who is left")
        await bob.heard("who is left")
        assert one.hub.statistics().connections == 0
        assert one.hub.statistics().gaps == other.hub.statistics().gaps == 0


async def test_presence_is_of_both_workers(server: RedisServer) -> None:
    async with two(server) as (one, other):
        ann, again, nobody = await one.connect("ann"), await other.connect("ann"), await other.connect()
        await ann.join("room:1", info={"tab": 1})
        await again.join("room:1", info={"tab": 2})
        await nobody.join("room:1")
        for worker in (one, other):
            presence = await worker.hub.presence("room:1")
            assert [(entry.id, entry.info) for entry in presence["ann"]] == [
                (ann.connection.id, {"tab": 1}),
                (again.connection.id, {"tab": 2}),
            ]
            assert list(presence) == ["ann"]
            count = await worker.hub.presence_count("room:1")
            assert (count.connections, count.users) == (3, 1)
        await again.leave("room:1")
        await until(one, "room:1", {"ann": 1})


async def test_a_user_comes_and_goes_once_on_all_workers(server: RedisServer) -> None:
    async with two(server) as (one, other):
        ann, again = await one.connect("ann"), await other.connect("ann")
        await ann.join("seat:1")
        await again.join("seat:1")
        assert await within(one.came.get()) == ("came", "ann")
        await ann.leave("seat:1")
        await again.client.close()
        assert await within(other.came.get()) == ("left", "ann")
        assert one.came.empty()
        assert other.came.empty()
        assert await one.hub.presence("seat:1") == {}


async def test_a_user_has_so_many_connections_on_all_workers(server: RedisServer) -> None:
    async with two(server, limits=Limits(connections_per_user=2)) as (one, other):
        first, second = await one.connect("ann"), await other.connect("ann")
        for worker in (one, other):
            refused = await worker.refused("ann")
            assert refused.status == 429
            assert refused.json()["limit"] == "connections_per_user"
        await other.connect("bob")
        await one.hub.send("ann", "still here")
        for socket in (first, second):
            await socket.heard("still here")
        await first.client.close()
        await eventually(lambda: one.hub.statistics().connections == 0)
        await until_counted(server, b"$user:ann", 1)
        third = await other.connect("ann")
        await one.hub.send("ann", "again")
        await third.heard("again")


async def test_of_many_handshakes_of_a_user_at_a_time_only_so_many_are_accepted(server: RedisServer) -> None:
    async with two(server, limits=Limits(connections_per_user=3)) as (one, other):
        for _ in range(3):
            results = await asyncio.gather(
                *(worker.connect("ann") for worker in (one, other) for _ in range(6)), return_exceptions=True
            )
            accepted = [result for result in results if isinstance(result, Socket)]
            assert len(accepted) == 3
            assert all(isinstance(result, Socket) or "connections_per_user" in str(result) for result in results)
            await other.hub.send("ann", "hello")
            for socket in accepted:
                await socket.heard("hello")
                await socket.client.close()
            await until_counted(server, b"$user:ann", 0)


@pytest.mark.parametrize("user", ["a:b", "1:2", "3:", "$all", "ü😀", "a\nb", "{x}", "x" * 1_000])
async def test_a_user_may_have_any_name(server: RedisServer, user: str) -> None:
    async with two(server, limits=Limits(connections_per_user=2)) as (one, other):
        ann, again = await one.connect(user), await other.connect(user)
        assert (await one.refused(user)).status == 429
        for number, socket in enumerate((ann, again)):
            await socket.join("seat:1", info=number)
        assert await within(one.came.get()) == ("came", user)
        assert [entry.info for entry in (await other.hub.presence("seat:1"))[user]] == [0, 1]
        await other.hub.send(user, "hello")
        for socket in (ann, again):
            await socket.heard("hello")
            await socket.leave("seat:1")
        assert await within(_first(one.came.get(), other.came.get())) == ("left", user)


async def _first(*calls: Coroutine[Any, Any, Any]) -> Any:
    tasks = [asyncio.ensure_future(call) for call in calls]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return next(iter(done)).result()


async def until_counted(server: RedisServer, channel: bytes, connections: int) -> None:
    def count() -> int:
        return sum(server.command("HLEN", key) for key in server.command("KEYS", b"*:members:" + channel))

    await eventually(lambda: count() == connections, count)


@pytest.mark.parametrize("channel", ["news", "room:1", None])
async def test_all_workers_see_one_order(server: RedisServer, channel: str | None) -> None:
    async with two(server) as (one, other):
        sockets = [await worker.connect() for worker in (one, other) for _ in range(2)]
        if channel is not None:
            for socket in sockets:
                await socket.join(channel)

        async def publish(worker: Worker, name: str) -> None:
            for number in range(50):
                if channel is None:
                    await worker.hub.broadcast(f"{name}{number}")
                else:
                    await worker.hub.publish(channel, f"{name}{number}")

        producers = [publish(worker, name) for worker, name in ((one, "a"), (other, "b"), (one, "c"), (other, "d"))]
        async with asyncio.timeout(20):
            await asyncio.gather(*producers)
        first = await sockets[0].texts(200)
        for socket in sockets[1:]:
            assert await socket.texts(200) == first
        for name in "abcd":
            assert [text for text in first if str(text).startswith(name)] == [f"{name}{n}" for n in range(50)]


async def test_what_is_sent_after_what_was_published_comes_after_it(server: RedisServer) -> None:
    async with two(server) as (one, other):
        ann, bob = await one.connect("ann"), await other.connect("bob")
        for socket in (ann, bob):
            await socket.join("news")
            await socket.join("room:1")
        for number in range(20):
            await one.hub.broadcast(f"broadcast {number}")
            await ann.connection.send("then")
            await one.hub.publish("news", f"publish {number}")
            await ann.connection.send("then")
            await one.hub.publish("room:1", f"history {number}")
            await ann.connection.send("then")
            await one.hub.send("ann", f"user {number}")
            await ann.connection.send("then")
            for kind in ("broadcast", "publish", "history", "user"):
                await ann.heard(f"{kind} {number}", "then")
            await bob.heard(f"broadcast {number}", f"publish {number}", f"history {number}")


async def test_what_the_endpoint_broadcasts_first_reaches_its_own_client(server: RedisServer) -> None:
    async with two(server) as (one, other):
        for number in range(20):
            socket = await (one, other)[number % 2].connect("ann")
            await (one, other)[number % 2].hub.broadcast(f"{number} is here")
            await socket.heard(f"{number} is here")
            await other.hub.send("ann", f"hello {number}")
            await socket.heard(f"hello {number}")
            await socket.client.close()
            await eventually(lambda: not one.hub.connections and not other.hub.connections)


# Resume


async def test_a_client_resumes_on_the_other_worker(server: RedisServer) -> None:
    async with two(server) as (one, other):
        ann = await one.connect("ann")
        position = (await ann.join("room:1")).position
        assert position is not None
        assert position.offset == 0
        for number in range(10):
            await other.hub.publish("room:1", str(number))
        again = await other.connect("ann")
        assert await again.join("room:1", since=position) == Joined(True, 10, Position(position.epoch, 10))
        await again.heard(*map(str, range(10)))
        await one.hub.publish("room:1", "live")
        await again.heard("live")
        for since in (Position("forged", 3), Position(position.epoch, 2**63 - 1), Position(position.epoch, 12)):
            assert await again.join("room:1", since=since) == Joined(False, 0, Position(position.epoch, 11))
        await again.join("news")
        await again.nothing_before(one, "news")


async def test_a_client_moves_to_and_fro_while_much_is_published_and_misses_nothing(server: RedisServer) -> None:
    async with two(server) as (one, other):
        watcher = await one.connect()
        position = (await watcher.join("room:1")).position
        total = 300

        async def publish() -> None:
            for number in range(total):
                await (one, other)[number % 2].hub.publish("room:1", str(number))

        producer = asyncio.create_task(publish())
        received: list[str] = []
        turn = 0
        while len(received) < total:
            turn += 1
            socket = await (one, other)[turn % 2].connect()
            joined = await socket.join("room:1", since=position, envelope=True)
            live = min(5, total - len(received) - joined.missed)
            messages = [json.loads(text) for text in await socket.texts(joined.missed + 1 + live)]
            assert messages.pop(joined.missed) == place("room:1", joined.position)
            received += [message["data"] for message in messages]
            position = Position(messages[-1]["epoch"], messages[-1]["offset"])
            await socket.client.close()
        await producer
        assert received == [str(number) for number in range(total)]


async def test_history_and_its_limits_are_those_of_redis_too(server: RedisServer) -> None:
    async with two(server) as (one, other):
        positions = [await one.hub.publish("room:1", str(number)) for number in range(5)]
        for limit in (1_000_000, 10**30, None):
            found = await within(other.hub.history("room:1", limit=limit))
            assert [(p.data, p.position) for p in found] == [(str(n), positions[n]) for n in range(5)]
        first = positions[0]
        assert first is not None
        assert await other.hub.history("room:1", Position(first.epoch, 2**63 - 1)) == []
        assert await other.hub.history("room:1", Position("forged", 1)) == []
        assert await one.hub.publish("room:1", "x", idempotency_key="k") == await other.hub.publish(
            "room:1", "y", idempotency_key="k"
        )


async def test_a_stream_is_resumed_on_the_other_worker(server: RedisServer) -> None:
    async with two(server) as (one, other):
        items: asyncio.Queue[int | None] = asyncio.Queue()

        async def source() -> AsyncIterator[int]:
            while (item := await items.get()) is not None:
                yield item

        ann = await one.connect()
        joined = await ann.join("room:1", envelope=True)
        stream = asyncio.create_task(one.hub.stream("room:1", source(), grace_s=2))
        for number in range(5):
            items.put_nowait(number)
        offsets = [json.loads(await ann.client.receive(20))["offset"] for _ in range(4)]
        assert offsets == [0, 1, 2, 3]
        assert joined.position is not None
        await ann.client.close()
        again = await other.connect()
        await again.join("room:1", since=Position(joined.position.epoch, 3))
        items.put_nowait(5)
        items.put_nowait(None)
        end = await within(stream)
        await again.heard(*({"type": "item", "item": number} for number in (3, 4, 5)), {"type": "end"})
        assert end.offset == 7


def questions(server: RedisServer) -> int:
    """Return how often Redis was asked how many hubs hear a channel."""
    statistics = server.command("INFO", "commandstats").decode()
    found = re.search(r"cmdstat_pubsub\|numsub:calls=(\d+)", statistics)
    return 0 if found is None else int(found[1])


async def test_a_stream_is_heard_by_the_audience_of_other_workers_and_abandoned_without(server: RedisServer) -> None:
    async with two(server) as (one, other):
        items: asyncio.Queue[int] = asyncio.Queue()
        is_closed = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            try:
                while True:
                    yield await items.get()
            finally:
                is_closed.set()

        ann = await other.connect()
        await ann.join("room:1")
        server.command("CONFIG", "RESETSTAT")
        stream = asyncio.create_task(one.hub.stream("room:1", source(), grace_s=0.2))
        await eventually(lambda: questions(server) > 8)  # twice as long as nobody may listen
        assert not stream.done()
        items.put_nowait(1)
        await ann.heard({"type": "item", "item": 1})
        await ann.leave("room:1")
        await within(stream)
        assert is_closed.is_set()
        assert (await other.hub.history("room:1"))[-1].json() == {"type": "abandoned"}


# Joins that take a while


@pytest.mark.usefixtures("quick")
async def test_of_two_joins_of_one_channel_at_a_time_the_second_is_an_error(server: RedisServer) -> None:
    async with two(server) as (one, _):
        ann = await one.connect("ann")
        results = await asyncio.gather(ann.join("room:1"), ann.join("room:1"), return_exceptions=True)
        assert isinstance(results[0], Joined)
        assert isinstance(results[1], RuntimeError)
        assert ann.connection.channels == {"room:1"}


async def test_the_limit_of_channels_counts_joins_in_progress(server: RedisServer) -> None:
    async with two(server, limits=Limits(channels_per_connection=3)) as (one, _):
        ann = await one.connect("ann")
        for round_ in range(3):
            results = await asyncio.gather(
                *(ann.join(f"{kind}:{n}") for n in range(5) for kind in ("room", "seat", "news")),
                return_exceptions=True,
            )
            assert sum(isinstance(result, Joined) for result in results) == 3, results
            assert sum(isinstance(result, Denied) for result in results) == 12
            for channel in ann.connection.channels:
                await ann.leave(channel)
            assert one.hub.statistics().violations == {"channels_per_connection": 12 * (round_ + 1)}
        await eventually(
            lambda: b"hubbub:0:channel:$all" in ours(server) and len(ours(server)) == 2, lambda: ours(server)
        )


@pytest.mark.parametrize("how", ["leave", "cancel", "close", "leave and join"])
@pytest.mark.parametrize("channel", ["room:1", "seat:1", "news"])
async def test_a_join_that_comes_to_nothing_leaves_nothing_behind(
    server: RedisServer, proxy: FaultProxy, how: str, channel: str
) -> None:
    async with workers(server.url_at(proxy.port), server.url) as (one, other):
        ann, _ = await one.connect("ann"), await one.connect("ann")
        before = set(ours(server))
        proxy.swallow()
        join = asyncio.ensure_future(ann.join(channel))
        await eventually(lambda: one.hub.statistics().channels)
        match how:
            case "leave":
                await ann.leave(channel)
            case "leave and join":
                await ann.leave(channel)
                again = asyncio.ensure_future(ann.join(channel))
                await asyncio.sleep(0)
            case "cancel":
                join.cancel()
            case "close":
                await ann.client.close()
                await eventually(lambda: not ann.connection.is_open)
        proxy.heal()
        match how:
            case "leave" | "leave and join":
                assert await within(join) == Joined(False, 0, None)
            case "cancel":
                with pytest.raises(asyncio.CancelledError):
                    await within(join)
            case "close":
                with pytest.raises(WebSocketDisconnect):
                    await within(join)
        if how == "leave and join":
            assert (await within(again)).recovered
        else:
            assert ann.connection.channels == frozenset()
            await eventually(lambda: set(ours(server)) == before, lambda: ours(server))
            if channel != "news":
                assert await other.hub.presence(channel) == {}
        if how != "close":
            assert (await ann.join(channel)).recovered
            await other.hub.publish(channel, "heard")
            await ann.heard("heard")
            await ann.nothing_before(other, channel)


# Strangers


JUNK = [
    b"",
    b"\x00",
    b"hello",
    b"\x01",
    b"\x02",
    b"\x01hello",
    b"\x01t  ",
    b"\x01t a b c\n",
    b"\x01t  \n\xff\xfe",
    b"\x01j  \n{",
    b"\x01j  \nNaN",
    b"\x01j  \n" + b"[" * 100_000,
    b'\x01d  \n[1005, ""]',
    b"\x01d  \n{}",
    b"\x01d  \n[4000]",
    b'\x01d  \n[true, ""]',
    b'\x01d  \n[4000.0, ""]',
    b"\x01x  \nhello",
    b"\x01t \xff \nhello",
    b"\x01" + b"t" * 100_000,
    b"\x02abc:1\n",
    b"\x02abc\nt  \nhello",
    b"\x02:1\nt  \nhello",
    b"\x02abc:-1\nt  \nhello",
    b"\x02abc:99999999999999999999999\nt  \nhello",
]


@pytest.mark.parametrize("channel", ["$all", "$user:ann", "news", "room:1", "seat:1"])
async def test_what_a_stranger_publishes_is_counted_and_dropped(server: RedisServer, channel: str) -> None:
    async with two(server) as (one, other):
        sockets = [await one.connect("ann"), await other.connect("ann")]
        for socket in sockets:
            for name in ("news", "room:1", "seat:1"):
                await socket.join(name)
        await one.hub.publish("room:1", "before")
        for junk in JUNK:
            assert server.command("PUBLISH", f"hubbub:0:channel:{channel}", junk) == 2
        await eventually(lambda: all(w.hub.statistics().malformed == len(JUNK) for w in (one, other)))
        await other.hub.publish("room:1", "after")
        await one.hub.broadcast("all")
        await other.hub.send("ann", "user")
        await one.hub.publish("news", "news")
        await one.hub.publish("seat:1", "seat")
        for socket in sockets:
            await socket.heard("before", "after", "all", "user", "news", "seat")
            assert socket.connection.is_open


async def test_a_stranger_cannot_disconnect_by_a_public_channel(server: RedisServer) -> None:
    async with two(server) as (one, other):
        ann = await one.connect("ann")
        for name in ("news", "room:1", "seat:1"):
            await ann.join(name)
            server.command("PUBLISH", f"hubbub:0:channel:{name}", b'\x01d  \n[4000, "out"]')
        await other.hub.broadcast("still here")
        await ann.heard("still here")


async def test_a_forged_publication_without_a_position_does_not_break_a_history(server: RedisServer) -> None:
    async with two(server) as (one, other):
        ann = await one.connect("ann")
        joined = await ann.join("room:1", envelope=True)
        epoch = joined.position.epoch if joined.position is not None else ""
        await other.hub.publish("room:1", "one")
        forged = b"\x02forged:7\nt  \nforged"
        ahead = f"\x02{epoch}:9\nt  \nahead".encode()
        for payload in (forged, ahead):
            server.command("PUBLISH", "hubbub:0:channel:room:1", payload)
        await other.hub.publish("room:1", "two")
        received: list[Any] = []
        while not received or received[-1].get("data") != "two":
            received.append(json.loads(await ann.client.receive(20)))
        assert [message["data"] for message in received if message.get("data") in ("one", "two")] == ["one", "two"]


async def test_junk_in_a_history_is_left_out(server: RedisServer) -> None:
    async with two(server) as (one, other):
        ann = await one.connect("ann")
        position = (await ann.join("room:1")).position
        await one.hub.publish("room:1", "one")
        (stream,) = server.command("KEYS", "*:stream:room:1")
        meta = stream.replace(b":stream:", b":meta:")
        server.command("XADD", stream, "2-0", "p", b"junk")
        server.command("HINCRBY", meta, "offset", 1)
        await other.hub.publish("room:1", "three")
        await ann.heard("one", "three")
        again = await other.connect("ann")
        assert (await again.join("room:1", since=position)).recovered
        await again.heard("one", "three")
        assert [p.data for p in await other.hub.history("room:1")] == ["one", "three"]


# Redis goes away


async def check_all_calls_raise(worker: Worker, published: str = "no") -> None:
    hub = worker.hub
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: hub.broadcast("lost"),
        lambda: hub.publish("news", "lost"),
        lambda: hub.publish("room:1", "lost"),
        lambda: hub.publish("room:1", "lost", idempotency_key="k"),
        lambda: hub.send("ann", "lost"),
        lambda: hub.disconnect("ann"),
        lambda: hub.presence("room:1"),
        lambda: hub.presence_count("room:1"),
        lambda: hub.history("room:1"),
    ]
    for call in calls:
        assert await unavailable(call()) == published


@pytest.mark.parametrize("how", ["stopped", "refused"])
async def test_while_redis_is_away_calls_say_so_and_afterwards_all_goes_on(own_server: RedisServer, how: str) -> None:
    async with (
        fault_proxy(own_server.port) as proxy,
        workers(own_server.url_at(proxy.port), own_server.url_at(proxy.port)) as (one, other),
    ):
        ann, bob = await one.connect("ann"), await other.connect("bob")
        for socket in (ann, bob):
            for channel in ("news", "room:1", "seat:1"):
                await socket.join(channel)
        position = await one.hub.publish("room:1", "before")
        if how == "stopped":
            own_server.stop(keep=True)
        else:
            proxy.is_refusing = True
            proxy.cut()
        await eventually(lambda: not one.hub.statistics().is_broker_connected)
        await check_all_calls_raise(one)
        # What needs no Redis goes on.
        await ann.connection.send("still here")
        await ann.heard("before", "still here")
        carl = await within(one.connect("carl"), BOUND_S)
        joined = await within(carl.join("news"), BOUND_S)
        assert joined == Joined(True, 0, None)
        for channel in ("room:2", "seat:2"):
            await within(carl.join(channel), BOUND_S)
        assert await unavailable(carl.join("room:3", since=position)) == "no"
        assert carl.connection.channels == {"news", "room:2", "seat:2"}
        if how == "stopped":
            own_server.start()
        else:
            proxy.is_refusing = False
        await eventually(lambda: all(w.hub.statistics().is_broker_connected for w in (one, other)))
        await within(other.hub.broadcast("back"))
        await other.hub.send("ann", "hello")
        await other.hub.publish("news", "tea")
        await other.hub.publish("room:1", "after")
        await other.hub.publish("room:2", "to the new")
        await ann.heard("back", "hello", "tea", "after")
        await carl.heard("back", "tea", "to the new")
        await bob.heard("before", "back", "tea", "after")
        await until(other, "seat:2", {"carl": 1})
        await until(other, "seat:1", {"ann": 1, "bob": 1})
        joined = await within(carl.join("room:1", since=position))
        assert joined.recovered is (how == "refused")  # a server that has restarted has begun a new epoch
        if joined.recovered:
            await carl.heard("after")
        await carl.nothing_before(one, "room:1")


async def test_a_hub_that_starts_while_redis_is_away_works_when_it_comes(own_server: RedisServer) -> None:
    own_server.stop()
    async with workers(own_server.url) as (worker,):
        ann = await within(worker.connect("ann"), BOUND_S)
        await within(ann.join("room:1", envelope=True), BOUND_S)
        await within(ann.join("news"), BOUND_S)
        await check_all_calls_raise(worker)
        own_server.start()
        await eventually(lambda: worker.hub.statistics().is_broker_connected)
        await eventually(lambda: b"hubbub:0:channel:room:1" in ours(own_server))
        await within(worker.hub.broadcast("back"))
        await worker.hub.publish("room:1", "first")
        received: list[Any] = []
        while not received or received[-1] != "first":
            message = await ann.client.receive(20)
            received.append(message if message == "back" else json.loads(message).get("data", "lost"))
        assert received in (["back", "lost", "first"], ["lost", "back", "first"])


async def test_a_link_that_swallows_everything_is_noticed_and_what_was_missed_is_delivered(
    server: RedisServer, proxy: FaultProxy
) -> None:
    async with workers(server.url_at(proxy.port), server.url) as (one, other):
        sockets = [await one.connect("ann") for _ in range(3)]
        for number, socket in enumerate(sockets):
            joined = await socket.join("room:1", envelope=number == 0)
            await socket.join("room:2")
        await sockets[0].heard(place("room:1", joined.position))
        loop = asyncio.get_running_loop()
        start = loop.time()
        proxy.swallow()
        for number in range(50):
            await other.hub.publish("room:1", str(number))
        await eventually(lambda: not one.hub.statistics().is_broker_connected)
        assert loop.time() - start < 6
        for number in range(50, 60):
            await other.hub.publish("room:1", str(number))
        proxy.heal()
        await eventually(lambda: one.hub.statistics().is_broker_connected)
        for number in range(60, 70):
            await one.hub.publish("room:1", str(number))
        wanted = [str(number) for number in range(70)]
        assert [json.loads(text)["data"] for text in await sockets[0].texts(70)] == wanted
        for socket in sockets[1:]:
            assert await socket.texts(70) == wanted
            await socket.nothing_before(other, "room:2")
        assert one.hub.statistics().unrecovered == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("ways", [(), (Way.TO_CLIENT,), (Way.TO_SERVER,)])
async def test_publishing_into_a_dead_link_ends_and_a_key_publishes_once(
    server: RedisServer, proxy: FaultProxy, ways: tuple[Way, ...]
) -> None:
    async with workers(server.url_at(proxy.port), server.url) as (one, other):
        ann, bob = await one.connect("ann"), await other.connect("bob")
        for socket in (ann, bob):
            await socket.join("room:1")
        proxy.swallow(*ways)
        assert await unavailable(one.hub.publish("room:1", "once", idempotency_key="k"), 3) == "unknown"
        assert await unavailable(one.hub.history("room:1"), 3) in ("no", "unknown")
        proxy.heal()
        await eventually(lambda: one.hub.statistics().is_broker_connected)
        await within(one.hub.publish("room:1", "once", idempotency_key="k"))
        await within(one.hub.publish("room:1", "next"))
        for socket in (ann, bob):
            await socket.heard("once", "next")


@pytest.mark.usefixtures("quick")
async def test_a_stream_goes_on_when_redis_has_been_away_for_a_while(server: RedisServer, proxy: FaultProxy) -> None:
    async with workers(server.url_at(proxy.port), server.url) as (one, other):
        items: asyncio.Queue[int | None] = asyncio.Queue()

        async def source() -> AsyncIterator[int]:
            while (item := await items.get()) is not None:
                yield item

        ann, bob = await one.connect(), await other.connect()
        for socket in (ann, bob):
            await socket.join("room:1")
        stream = asyncio.create_task(one.hub.stream("room:1", source(), grace_s=20))
        items.put_nowait(0)
        await bob.heard({"type": "item", "item": 0})
        proxy.is_refusing = True
        proxy.cut()
        for number in range(1, 5):
            items.put_nowait(number)
        items.put_nowait(None)
        await eventually(lambda: not one.hub.statistics().is_broker_connected)
        await unavailable(one.hub.broadcast("lost"), 3)
        proxy.is_refusing = False
        await within(stream)
        await bob.heard(*({"type": "item", "item": number} for number in range(1, 5)), {"type": "end"})
        await ann.heard(*({"type": "item", "item": number} for number in range(5)), {"type": "end"})


@pytest.mark.usefixtures("quick")
async def test_a_stream_without_redis_for_longer_than_its_grace_period_raises(
    server: RedisServer, proxy: FaultProxy
) -> None:
    is_closed = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(1_000_000):
                yield number
        finally:
            is_closed.set()

    async with workers(server.url_at(proxy.port)) as (one,):
        ann = await one.connect()
        await ann.join("room:1")
        stream = one.hub.stream("room:1", source(), grace_s=1)
        task = asyncio.ensure_future(stream)
        await ann.heard({"type": "item", "item": 0})
        proxy.is_refusing = True
        proxy.cut()
        await unavailable(task, 10)
        assert is_closed.is_set()


async def test_when_redis_has_lost_its_data_envelope_clients_hear_of_it(own_server: RedisServer) -> None:
    async with two(own_server) as (one, other):
        ann, bob, plain = await one.connect(), await other.connect(), await one.connect()
        position = (await ann.join("room:1", envelope=True)).position
        await bob.join("room:1", envelope=True)
        await plain.join("room:1")
        await one.hub.publish("room:1", "one")
        for socket in (ann, bob):
            await socket.heard(place("room:1", position))
            assert json.loads(await socket.client.receive(20))["offset"] == 1
        await plain.heard("one")
        own_server.restart()
        for socket in (ann, bob):
            message = json.loads(await socket.client.receive(20))
            assert message["recovered"] is False
            assert position is not None
            assert message["epoch"] != position.epoch
        await within(other.hub.publish("room:1", "two"))
        for socket in (ann, bob):
            message = json.loads(await socket.client.receive(20))
            assert (message["data"], message["offset"]) == ("two", 1)
        await plain.heard("two")
        joined = await ann.join("room:1", since=position, envelope=True)
        assert joined.recovered is False
        await ann.heard(place("room:1", joined.position, recovered=False))


# Nothing left behind


@pytest.mark.timeout(120)
async def test_after_ten_thousand_joins_and_leaves_nothing_is_left(server: RedisServer) -> None:
    limits = Limits(channels_per_connection=None)
    async with two(server, limits=limits) as (one, other):
        sockets = [await worker.connect(user) for worker in (one, other) for user in ("ann", "bob", None)]

        async def come_and_go(socket: Socket, kind: str, first: int) -> None:
            for number in range(first, first + 1_000, 10):
                channels = [f"{kind}:{(number + more) % 1_000}" for more in range(10)]
                await asyncio.gather(*map(socket.join, channels))
                for channel in channels:
                    await socket.leave(channel)

        async with asyncio.timeout(100):
            await asyncio.gather(
                *(
                    come_and_go(socket, kind, 100 * number)
                    for number, socket in enumerate(sockets)
                    for kind in ("seat", "news")
                )
            )
        for socket in sockets:
            await socket.client.close()
        await eventually(lambda: ours(server) == [], lambda: ours(server))
        await eventually(lambda: keys(server, "presence") == [], lambda: keys(server, "presence"))


def keys(server: RedisServer, kind: str) -> list[bytes]:
    kinds = {"presence": (":members:", ":leases:", ":users:")}[kind]
    return [key for name in kinds for key in server.command("KEYS", f"hubbub:*{name}*")]


@pytest.mark.usefixtures("quick")
async def test_the_presence_of_a_worker_that_died_ends_with_its_lease(server: RedisServer, proxy: FaultProxy) -> None:
    async with workers(server.url) as (other,):
        bob = await other.connect("bob")
        await bob.join("seat:1")
        assert await within(other.came.get()) == ("came", "bob")
        async with workers(server.url_at(proxy.port)) as (one,):
            ann = await one.connect("ann")
            await ann.join("seat:1")
            assert await within(one.came.get()) == ("came", "ann")
            assert set(await other.hub.presence("seat:1")) == {"ann", "bob"}
            proxy.is_refusing = True
            proxy.cut()
            start = asyncio.get_running_loop().time()
            assert await within(other.came.get(), 4) == ("left", "ann")
            assert asyncio.get_running_loop().time() - start < 2
            assert set(await other.hub.presence("seat:1")) == {"bob"}


async def test_handlers_of_a_peer_are_asked_on_its_own_worker(server: RedisServer) -> None:
    async with two(server) as (one, other):

        @one.rooms.on_publish
        async def say(peer: Peer, message: str) -> str:
            return f"{peer.user}: {message}"

        ann, bob = await one.connect("ann"), await other.connect("bob")
        for socket in (ann, bob):
            await socket.join("room:1")
        await ann.connection.publish("room:1", "hello")
        await bob.connection.publish("room:1", "hello")
        for socket in (ann, bob):
            await socket.heard("ann: hello", "hello")


@pytest.mark.parametrize(
    "name", ["ü😀", " ", "a b", "a\nb", "{room}", "x" * 255, "room:ü😀", "room:a\x00b", "room:{1}"]
)
async def test_any_name_is_one_channel_on_all_workers(server: RedisServer, name: str) -> None:
    async with two(server) as (one, other):
        ann, bob = await one.connect("ann"), await other.connect("ü:😀")
        for socket in (ann, bob):
            await socket.join(name)
        await one.hub.publish(name, "hello")
        await ann.heard("hello")
        await bob.heard("hello")


# The end of a worker


async def test_who_was_on_a_worker_that_ends_leaves_and_others_hear_of_it(server: RedisServer) -> None:
    async with workers(server.url) as (other,):
        bob = await other.connect("bob")
        for channel in ("seat:1", "room:1"):
            await bob.join(channel)
        assert await within(other.came.get()) == ("came", "bob")
        async with workers(server.url) as (one,):

            @one.rooms.on_leave
            async def leave(peer: Peer, room: str) -> None:
                await one.hub.publish(f"room:{room}", f"{peer.user} has left")

            ann = await one.connect("ann")
            for channel in ("seat:1", "room:1"):
                await ann.join(channel)
            assert await within(one.came.get()) == ("came", "ann")
            await one.hub.__aexit__(None, None, None)
            await bob.heard("ann has left")
            assert await within(other.came.get()) == ("left", "ann")
            assert set(await other.hub.presence("seat:1")) == {"bob"}
            await eventually(lambda: b"hubbub:0:channel:$user:ann" not in ours(server))
            await one.hub.__aenter__()


async def test_a_hub_begins_anew_after_its_end(server: RedisServer) -> None:
    worker = Worker(server.url)
    for life in range(3):
        async with worker:
            ann = await worker.connect("ann")
            await ann.join("room:1")
            await worker.hub.publish("room:1", f"life {life}")
            await ann.heard(f"life {life}")
            assert [p.data for p in await worker.hub.history("room:1")] == [f"life {n}" for n in range(life + 1)]
        assert ours(server) == []


@pytest.mark.usefixtures("quick")
async def test_a_worker_ends_in_time_while_redis_answers_nothing(own_server: RedisServer) -> None:
    try:
        async with asyncio.timeout(15):
            async with workers(own_server.url) as (worker,):
                ann = await worker.connect("ann")
                for channel in ("room:1", "seat:1", "news"):
                    await ann.join(channel)
                own_server.freeze()
                joins = [asyncio.ensure_future(ann.join(f"room:{n}")) for n in range(2, 5)]
                publishing = asyncio.ensure_future(worker.hub.publish("room:1", "lost"))
                await asyncio.sleep(0)
        results = await within(asyncio.gather(*joins, publishing, return_exceptions=True))
        assert all(isinstance(result, BrokerUnavailable | WebSocketDisconnect | Joined) for result in results), results
    finally:
        own_server.thaw()


# Much at a time


async def trouble(proxy: FaultProxy, chance: random.Random, is_over: asyncio.Event) -> None:
    """Cut, refuse and swallow at random, each for a while, until it is over."""
    while not is_over.is_set():
        match chance.choice(("cut", "refuse", "swallow", "half")):
            case "cut":
                proxy.cut()
            case "refuse":
                proxy.is_refusing = True
                proxy.cut()
            case "swallow":
                proxy.swallow(*chance.choice(((), (Way.TO_CLIENT,), (Way.TO_SERVER,))))
            case "half":
                proxy.half_close(chance.choice(list(Way)))
        await asyncio.sleep(chance.uniform(0, 0.3))
        proxy.is_refusing = False
        proxy.heal()
        await asyncio.sleep(chance.uniform(0, 0.3))


async def test_a_worker_is_connected_from_the_start(own_server: RedisServer) -> None:
    hub = Hub(own_server.url)
    async with hub:
        assert hub.statistics().is_broker_connected


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", range(4))
async def test_joins_and_leaves_in_a_bad_network_come_to_what_they_say(own_server: RedisServer, seed: int) -> None:
    chance = random.Random(seed)
    channels = [f"{kind}:{number}" for kind in ("room", "seat", "news") for number in range(3)]
    async with (
        fault_proxy(own_server.port) as proxy,
        workers(own_server.url_at(proxy.port), own_server.url) as (one, other),
    ):
        sockets = [await worker.connect(user) for worker in (one, other) for user in ("ann", "bob", None)]
        is_over = asyncio.Event()
        troubling = asyncio.create_task(trouble(proxy, chance, is_over))

        async def act(socket: Socket) -> None:
            for _ in range(60):
                channel = chance.choice(channels)
                try:
                    match chance.randrange(5):
                        case 0 | 1:
                            await socket.join(channel, envelope=chance.random() < 0.5)
                        case 2:
                            await socket.leave(channel)
                        case 3 if channel.startswith("room"):
                            await socket.join(channel, since=Position("forged", 1))
                        case _:
                            await socket.connection.publish(channel, "noise")
                except BrokerUnavailable:
                    pass

        async with asyncio.timeout(50):
            await asyncio.gather(*map(act, sockets))
            is_over.set()
            await troubling
        await eventually(lambda: all(worker.hub.statistics().is_broker_connected for worker in (one, other)))
        wanted = {b"hubbub:0:channel:$all": 2, b"hubbub:0:channel:$user:ann": 2, b"hubbub:0:channel:$user:bob": 2}
        for channel in channels:
            hearing = [any(channel in s.connection.channels for s in half) for half in (sockets[:3], sockets[3:])]
            if any(hearing):
                wanted[f"hubbub:0:channel:{channel}".encode()] = sum(hearing)
        await eventually(lambda: heard_by(own_server) == wanted, lambda: (heard_by(own_server), wanted))
        for worker in (one, other):
            for channel in channels:
                await within(worker.hub.publish(channel, f"the end of {channel}"))
            await within(worker.hub.broadcast("the end"))
        for socket in sockets:
            ends: list[str] = []
            while len(ends) < 2 or ends[-1] != "the end" or ends.count("the end") < 2:
                text = str(await socket.client.receive(20))
                data = json.loads(text).get("data", "") if text.startswith("{") else text
                if data.startswith("the end"):
                    ends.append(data)
            expected = [f"the end of {channel}" for channel in channels if channel in socket.connection.channels]
            assert ends == [*expected, "the end", *expected, "the end"]
        for channel in ("seat:0", "seat:1", "seat:2"):
            users: dict[str, int] = {}
            for socket in sockets:
                user = socket.connection.user
                if user is not None and channel in socket.connection.channels:
                    users[user] = users.get(user, 0) + 1
            await until(other, channel, users)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", range(3))
async def test_in_a_bad_network_a_channel_with_history_loses_nothing(own_server: RedisServer, seed: int) -> None:
    chance = random.Random(seed)
    total = 2_000
    async with (
        fault_proxy(own_server.port) as proxy,
        workers(own_server.url_at(proxy.port), own_server.url) as (one, other),
    ):
        sockets = [await worker.connect() for worker in (one, one, other)]
        for number, socket in enumerate(sockets):
            joined = await socket.join("log:1", envelope=number == 0)
        await sockets[0].heard(place("log:1", joined.position))
        is_over = asyncio.Event()
        troubling = asyncio.create_task(trouble(proxy, chance, is_over))

        async def publish(worker: Worker, name: str) -> None:
            for number in range(total):
                while True:
                    try:
                        await worker.hub.publish("log:1", f"{name}{number}", idempotency_key=f"{name}{number}")
                        break
                    except BrokerUnavailable:
                        await asyncio.sleep(0.01)
                if number % 100 == 0:
                    await asyncio.sleep(0.05)

        async with asyncio.timeout(50):
            await asyncio.gather(publish(one, "a"), publish(other, "b"))
            is_over.set()
            await troubling
        transcripts = [await socket.texts(2 * total) for socket in sockets]
        first = [json.loads(text) for text in transcripts[0]]
        assert [message["offset"] for message in first] == list(range(1, 2 * total + 1))
        assert [message["data"] for message in first] == transcripts[1] == transcripts[2]
        for name in "ab":
            published = [text for text in transcripts[1] if str(text).startswith(name)]
            assert published == [f"{name}{number}" for number in range(total)]
        assert one.hub.statistics().unrecovered == 0
        assert one.hub.statistics().gaps > 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("keep", [False, True])
async def test_each_loss_of_data_is_told_and_nothing_else_is_missing(own_server: RedisServer, keep: bool) -> None:
    total = 600
    async with two(own_server) as (one, other):
        sockets = [await worker.connect() for worker in (one, other)]
        for socket in sockets:
            await socket.join("log:1", envelope=True)
        at: dict[Position, str] = {}

        async def publish(worker: Worker, name: str) -> None:
            for number in range(total):
                while True:
                    try:
                        position = await worker.hub.publish("log:1", f"{name}{number}")
                        assert position is not None
                        assert position not in at
                        at[position] = f"{name}{number}"
                        break
                    except BrokerUnavailable:
                        await asyncio.sleep(0.01)

        async def more_than(count: int) -> None:
            await eventually(lambda: len(at) > count)

        async def restart() -> None:
            for count in (150, 400, 700):
                await more_than(count)
                own_server.restart(keep=keep)

        async with asyncio.timeout(50):
            await asyncio.gather(publish(one, "a"), publish(other, "b"), restart())
        await eventually(lambda: all(worker.hub.statistics().is_broker_connected for worker in (one, other)))
        last = await within(one.hub.publish("log:1", "the end"))
        for socket in sockets:
            before: Position | None = None
            while before != last:
                message = json.loads(await socket.client.receive(20))
                position = Position(message["epoch"], message["offset"])
                if "recovered" not in message:
                    assert message["data"] == at.get(position, message["data"])
                    if before is not None:
                        assert position == Position(before.epoch, before.offset + 1)
                before = position
