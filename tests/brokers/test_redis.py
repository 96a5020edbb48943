"""Redis as the broker: the contracts, and everything that may happen to the connections."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from hubbub.brokers import from_url
from hubbub.brokers.redis import RedisBroker, RedisPresenceStore, Timing
from hubbub.config import History
from hubbub.errors import BrokerUnavailable
from hubbub.interfaces import Departure, PresenceEntry, PresenceStore
from hubbub.model import Position
from hubbub.testing import ManualClock
from hubbub.testing.conformance import (
    HistoryBrokerConformance,
    OpenHistoryBroker,
    OpenStore,
    PresenceStoreConformance,
    RecordingSink,
)
from tests.fault_proxy import FaultProxy, Way, fault_proxy
from tests.integration.deadline import eventually
from tests.redis_server import RedisServer, redis_server, sentinel, with_tls

QUICK = Timing(command_s=0.6, wait_s=0.4, beacon_s=0.1, beacon_deadline_s=0.6)
HISTORY = History(size=5)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server for the tests that do it no harm."""
    with redis_server() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server for one test."""
    with redis_server() as running:
        yield running


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[FaultProxy]:
    """A network between the broker and the server."""
    async with fault_proxy(server.port) as running:
        yield running


@asynccontextmanager
async def running(url: str, *channels: str, timing: Timing = QUICK) -> AsyncIterator[tuple[RedisBroker, RecordingSink]]:
    """Start a broker and subscribe to channels."""
    broker, sink = RedisBroker(url, timing), RecordingSink()
    try:
        await broker.start(sink)
        for channel in channels:
            await broker.subscribe(channel)
        yield broker, sink
    finally:
        async with asyncio.timeout(2):
            await broker.aclose()


async def refusal(call: asyncio.Future[object] | asyncio.Task[object]) -> BrokerUnavailable:
    with pytest.raises(BrokerUnavailable) as raised:
        await call
    return raised.value


def subscribed(server: RedisServer) -> list[bytes]:
    return [name for name in server.command("PUBSUB", "CHANNELS") if b":beacon:" not in name]


def clients(server: RedisServer) -> int:
    """Count the connections besides the one that asks."""
    return len(server.command("CLIENT", "LIST").splitlines()) - 1


class TestBroker(HistoryBrokerConformance):
    @pytest.fixture
    def open_broker(self, server: RedisServer) -> OpenHistoryBroker:
        return lambda: RedisBroker(server.url)


class TestBrokerOnUnixSocket(HistoryBrokerConformance):
    @pytest.fixture
    def open_broker(self, server: RedisServer) -> OpenHistoryBroker:
        return lambda: RedisBroker(f"unix://{server.path}?db=2&prefix=socket")


class TestPresenceStore(PresenceStoreConformance):
    @pytest.fixture
    def open_store(self, server: RedisServer) -> OpenStore:
        @asynccontextmanager
        async def store() -> AsyncIterator[PresenceStore]:
            async with running(server.url) as (broker, _):
                yield RedisPresenceStore(broker)

        return store


class TestSubscriptions:
    async def test_killed_connections_come_back_with_a_gap(self, server: RedisServer) -> None:
        async with running(server.url, "a", "b") as (broker, sink):
            assert sink.gaps == []
            for kind in ("pubsub", "normal"):
                server.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            await eventually(lambda: sink.gaps == [None])
            assert broker.is_connected
            await broker.publish("b", b"after")
            await sink.wait_for("b", b"after")
            assert len(subscribed(server)) == 2

    async def test_it_is_not_connected_while_it_is_away(self, own_server: RedisServer) -> None:
        async with running(own_server.url, "a") as (broker, sink):
            own_server.stop()
            await eventually(lambda: not broker.is_connected)
            own_server.start()
            await eventually(lambda: sink.gaps == [None])
            assert broker.is_connected

    async def test_a_black_hole_is_noticed(self, server: RedisServer, proxy: FaultProxy) -> None:
        async with running(server.url_at(proxy.port), "a") as (broker, sink):
            proxy.swallow()
            async with asyncio.timeout(QUICK.beacon_deadline_s + QUICK.beacon_s + 0.5):
                while broker.is_connected:  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(0.01)
            assert sink.gaps == []
            proxy.cut()
            proxy.heal()
            await eventually(lambda: sink.gaps == [None])
            await broker.publish("a", b"after")
            await sink.wait_for("a", b"after")

    async def test_silence_in_one_direction_is_noticed(self, server: RedisServer, proxy: FaultProxy) -> None:
        async with running(server.url_at(proxy.port), "a") as (broker, sink):
            proxy.swallow(Way.TO_CLIENT)
            await eventually(lambda: not broker.is_connected)
            proxy.heal()
            await eventually(lambda: broker.is_connected and sink.gaps)

    async def test_a_half_closed_connection_is_over(self, server: RedisServer, proxy: FaultProxy) -> None:
        async with running(server.url_at(proxy.port), "a") as (broker, sink):
            proxy.half_close()
            await eventually(lambda: sink.gaps == [None])
            assert broker.is_connected

    async def test_a_quiet_connection_is_kept(self, server: RedisServer, proxy: FaultProxy) -> None:
        async with running(server.url_at(proxy.port), "a") as (_, sink):
            accepted = proxy.accepted
            await asyncio.sleep(3 * QUICK.beacon_deadline_s)
            assert (proxy.accepted, sink.gaps) == (accepted, [])

    async def test_subscribing_while_it_is_away_fails_in_time(self, proxy: FaultProxy, server: RedisServer) -> None:
        async with running(server.url_at(proxy.port)) as (broker, _):
            proxy.is_refusing = True
            proxy.cut()
            await eventually(lambda: not broker.is_connected)
            async with asyncio.timeout(1):
                await refusal(asyncio.create_task(broker.subscribe("a")))
                await refusal(asyncio.create_task(broker.subscribe("a")))
                await broker.unsubscribe("a")
            proxy.is_refusing = False
            await eventually(lambda: broker.is_connected)
            assert subscribed(server) == []

    async def test_subscribing_without_an_answer_fails_in_time(self, proxy: FaultProxy, server: RedisServer) -> None:
        async with running(server.url_at(proxy.port)) as (broker, _):
            proxy.swallow(Way.TO_CLIENT)
            async with asyncio.timeout(2):
                await refusal(asyncio.create_task(broker.subscribe("a")))
            proxy.heal()
            await eventually(lambda: broker.is_connected)
            await broker.subscribe("b")
            assert [name for name in subscribed(server) if name.endswith(b":a")] == []

    async def test_a_short_absence_is_waited_for(self, server: RedisServer, proxy: FaultProxy) -> None:
        async with running(server.url_at(proxy.port), timing=Timing(wait_s=5)) as (broker, _):
            proxy.cut()
            await eventually(lambda: not broker.is_connected)
            await broker.subscribe("a")
            await broker.publish("a", b"x")

    async def test_churn_leaves_no_subscription(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, _):
            names = [f"churn-{number}" for number in range(1_000)]
            await asyncio.gather(*map(broker.subscribe, names))
            assert len(subscribed(server)) == 1_000
            await asyncio.gather(*map(broker.unsubscribe, names))
            assert subscribed(server) == []

    async def test_cancelled_subscriptions_leave_none(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, sink):
            for turns in range(8):
                task = asyncio.create_task(broker.subscribe("a"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                await broker.unsubscribe("a")
                assert subscribed(server) == []
            await broker.subscribe("a")
            await broker.publish("a", b"heard")
            await sink.wait_for("a", b"heard")

    async def test_unsubscribed_while_it_is_away(self, own_server: RedisServer) -> None:
        async with running(own_server.url, "a", "b") as (broker, sink):
            own_server.stop()
            await eventually(lambda: not broker.is_connected)
            await broker.unsubscribe("a")
            own_server.start()
            await eventually(lambda: sink.gaps == [None])
            assert len(subscribed(own_server)) == 1

    async def test_many_channels_are_restored(self, server: RedisServer) -> None:
        names = [f"many-{number}" for number in range(2_500)]
        async with running(server.url) as (broker, sink):
            await asyncio.gather(*map(broker.subscribe, names))
            server.command("CLIENT", "KILL", "TYPE", "pubsub")
            await eventually(lambda: sink.gaps == [None])
            assert len(subscribed(server)) == 2_500

    async def test_started_while_it_is_away(self, own_server: RedisServer) -> None:
        own_server.stop()
        async with running(own_server.url) as (broker, sink):
            assert not broker.is_connected
            own_server.start()
            await eventually(lambda: broker.is_connected)
            assert sink.gaps == []
            await broker.subscribe("a")
            await broker.publish("a", b"x")
            await sink.wait_for("a", b"x")

    @pytest.mark.parametrize(
        "data",
        [b"plain", b"", b"\x02", b"\x02no position\nrest", b"\x02epoch:-1\nrest", b"\x02epoch:1", b"\x02\xff:1\n"],
    )
    async def test_what_a_stranger_publishes_is_delivered_as_it_is(self, server: RedisServer, data: bytes) -> None:
        async with running(server.url, "a") as (_, sink):
            server.command("PUBLISH", "hubbub:0:channel:a", data)
            assert (await sink.wait_for("a", data)).position is None

    async def test_databases_do_not_hear_each_other(self, server: RedisServer) -> None:
        async with running(server.url, "a") as (one, here), running(server.url[:-1] + "1", "a") as (other, there):
            await one.publish("a", b"one")
            await other.publish("a", b"other")
            await here.wait_for("a", b"one")
            await there.wait_for("a", b"other")
            assert (here.payloads("a"), there.payloads("a")) == ([b"one"], [b"other"])


class TestCommands:
    async def test_publishing_while_it_is_away(self, own_server: RedisServer) -> None:
        async with running(own_server.url) as (broker, _):
            own_server.stop()
            await eventually(lambda: not broker.is_connected)
            async with asyncio.timeout(3 * QUICK.wait_s):
                for call in (broker.publish("a", b"x"), broker.append("a", b"x", HISTORY)):
                    assert (await refusal(asyncio.create_task(call))).published == "no"
            assert str(own_server.port) in str(await refusal(asyncio.create_task(broker.publish("a", b"x"))))

    async def test_a_lost_answer(self, server: RedisServer, proxy: FaultProxy) -> None:
        async with running(server.url, "once") as (_, sink), running(server.url_at(proxy.port)) as (broker, _):
            await broker.append("another", b"x", HISTORY)  # so that Redis has the script
            proxy.swallow(Way.TO_CLIENT)
            lost = await refusal(asyncio.create_task(broker.append("once", b"x", HISTORY, "key")))
            assert lost.published == "unknown"
            proxy.heal()
            await eventually(lambda: broker.is_connected)
            again = await broker.append("once", b"x", HISTORY, "key")
            assert (again.is_repeat, again.position.offset) == (True, 1)
            await broker.publish("once", b"marker")
            await sink.wait_for("once", b"marker")
            assert sink.payloads("once") == [b"x", b"marker"]

    async def test_cancelled_calls_shift_no_reply(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, _):
            echoes = [asyncio.create_task(broker.commands.call("ECHO", number)) for number in range(300)]
            await asyncio.sleep(0)
            for number in range(0, 300, 3):
                echoes[number].cancel()
            await asyncio.sleep(0)
            for number in range(1, 300, 3):
                echoes[number].cancel()
            await asyncio.wait(echoes)
            for number in range(2, 300, 3):
                assert echoes[number].result() == b"%d" % number
            assert await broker.commands.call("ECHO", "after") == b"after"

    async def test_calls_keep_their_order(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, _):
            appended = await asyncio.gather(*(broker.append("order", b"%d" % n, HISTORY) for n in range(500)))
            assert [position.offset for position, _ in appended] == list(range(1, 501))

    async def test_a_script_that_is_not_there_is_brought(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, _):
            await broker.append("scripts", b"x", HISTORY)
            server.command("SCRIPT", "FLUSH")
            assert (await broker.append("scripts", b"y", HISTORY)).position.offset == 2
            assert len((await broker.read("scripts", HISTORY)).publications) == 2

    async def test_a_refusal_by_the_server_is_passed_on(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, _):
            position, _ = await broker.append("wrong", b"x", HISTORY)
            stream = broker.names.history("wrong")[1]
            server.command("DEL", stream)
            server.command("SET", stream, "a stranger's")
            refused = await refusal(asyncio.create_task(broker.append("wrong", b"y", HISTORY)))
            assert refused.published == "no"
            assert "WRONGTYPE" in refused.reason
            server.command("DEL", stream)
            assert (await broker.append("wrong", b"z", HISTORY)).position == Position(position.epoch, 2)

    async def test_a_full_server_refuses(self) -> None:
        with redis_server(None, "--maxmemory", "1") as full:
            async with running(full.url) as (broker, _):
                refused = await refusal(asyncio.create_task(broker.append("a", b"x", HISTORY)))
                assert refused.published == "no"
                assert "OOM" in refused.reason
                assert broker.is_connected

    async def test_a_replica_is_left(self, own_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
        async with running(own_server.url) as (broker, _):
            own_server.command("REPLICAOF", "127.0.0.1", 1)
            refused = await refusal(asyncio.create_task(broker.append("a", b"x", HISTORY)))
            assert refused.published == "no"
            assert "READONLY" in refused.reason
            own_server.command("REPLICAOF", "NO", "ONE")
            await eventually(lambda: broker.commands._link.wire is not None)
            assert (await broker.append("a", b"x", HISTORY)).position.offset == 1

    async def test_what_is_under_way_is_bounded(
        self, server: RedisServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hubbub.brokers.redis.commands.QUEUE_BYTES", 10_000)
        async with running(server.url_at(proxy.port)) as (broker, _):
            proxy.swallow(Way.TO_CLIENT)
            calls = [asyncio.create_task(broker.publish("a", bytes(1_000))) for _ in range(20)]
            refused = [(await refusal(call)).published for call in calls]
            assert refused == ["unknown"] * refused.count("unknown") + ["no"] * refused.count("no")
            assert 5 <= refused.count("unknown") <= 10
            proxy.heal()
            await eventually(lambda: broker.is_connected)
            await broker.publish("a", b"x")

    async def test_a_frozen_server(self, own_server: RedisServer) -> None:
        async with running(own_server.url, "a") as (broker, sink):
            own_server.freeze()
            try:
                async with asyncio.timeout(2):
                    frozen = await refusal(asyncio.create_task(broker.publish("a", bytes(8_000_000))))
                assert frozen.published == "unknown"
                await eventually(lambda: not broker.is_connected)
            finally:
                own_server.thaw()
            await eventually(lambda: broker.is_connected)
            assert sink.gaps == [None]


class TestHistory:
    async def test_lost_data_begin_a_new_epoch(self, own_server: RedisServer) -> None:
        async with running(own_server.url, "a") as (broker, sink):
            before = (await broker.append("a", b"x", HISTORY)).position
            own_server.restart()
            await eventually(lambda: broker.is_connected and sink.gaps)
            found = await broker.read("a", HISTORY, since=before)
            assert (found.is_complete, found.publications) == (False, [])
            assert found.position == Position(found.position.epoch, 0)
            assert found.position.epoch != before.epoch
            assert (await broker.append("a", b"y", HISTORY)).position == Position(found.position.epoch, 1)

    async def test_a_server_that_lost_its_last_writes_begins_a_new_epoch(self, own_server: RedisServer) -> None:
        async with running(own_server.url, "a") as (broker, sink):
            await broker.append("a", b"kept", HISTORY)
            own_server.command("SAVE")
            lost = (await broker.append("a", b"lost", HISTORY)).position
            own_server.kill()
            own_server.start()
            await eventually(lambda: broker.is_connected and sink.gaps)
            again = (await broker.append("a", b"in its place", HISTORY)).position
            assert again.offset == lost.offset
            assert again.epoch != lost.epoch
            assert not (await broker.read("a", HISTORY, since=lost)).is_complete
            found = await broker.read("a", HISTORY)
            assert [stored.payload for stored in found.publications] == [b"kept", b"in its place"]
            assert (found.floor, found.position.offset) == (1, 2)

    async def test_the_new_epoch_is_one_for_all(self, own_server: RedisServer) -> None:
        async with running(own_server.url, "a") as (one, told), running(own_server.url, "a") as (other, too):
            first = (await one.append("a", b"x", HISTORY, "key")).position
            own_server.restart(keep=True)
            await eventually(lambda: told.gaps and too.gaps)
            brokers = (one, other) * 10
            appended = await asyncio.gather(*(broker.append("a", b"y", HISTORY) for broker in brokers))
            assert len({position.epoch for position, _ in appended} | {first.epoch}) == 2
            assert sorted(position.offset for position, _ in appended) == [*range(2, 22)]
            for broker in brokers:
                assert (await broker.read("a", HISTORY)).position == Position(appended[0].position.epoch, 21)
            repeat = await one.append("a", b"x", HISTORY, "key")
            assert repeat == (Position(appended[0].position.epoch, first.offset), True)

    async def test_an_evicted_meta_key_begins_a_new_epoch(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, _):
            before = (await broker.append("evicted", b"x", HISTORY, "key")).position
            server.command("DEL", broker.names.history("evicted")[0])
            position, is_repeat = await broker.append("evicted", b"y", HISTORY, "key")
            assert (position.offset, is_repeat) == (1, False)
            assert position.epoch != before.epoch
            assert [stored.payload for stored in (await broker.read("evicted", HISTORY)).publications] == [b"y"]

    async def test_an_evicted_stream_is_a_loss(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, _):
            before = (await broker.append("stream", b"x", HISTORY)).position
            await broker.append("stream", b"y", HISTORY)
            server.command("DEL", broker.names.history("stream")[1])
            found = await broker.read("stream", HISTORY, since=before)
            assert (found.is_complete, found.publications, found.position) == (False, [], Position(before.epoch, 2))

    async def test_large_offsets_stay_exact(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, _):
            epoch = (await broker.append("large", b"x", HISTORY)).position.epoch
            meta, stream, *_ = broker.names.history("large")
            server.command("HSET", meta, "offset", 10**15)
            assert (await broker.append("large", b"y", HISTORY)).position.offset == 10**15 + 1
            found = await broker.read("large", HISTORY, since=Position(epoch, 10**15))
            assert [stored.offset for stored in found.publications] == [10**15 + 1]
            server.command("DEL", stream)

    async def test_everything_expires_by_itself(self, server: RedisServer) -> None:
        async with running(server.url + "?prefix=expiring") as (broker, _):
            await broker.append("a", b"x", HISTORY, "key")
            await broker.read("b", HISTORY)
            await RedisPresenceStore(broker).enter("a", PresenceEntry("c", "user", None, 1.0), 30)
            names = server.command("KEYS", "expiring:*")
            assert len(names) == 4 + 1 + 3
            assert [name for name in names if server.command("PTTL", name) <= 0] == []


class TestPresence:
    async def test_ten_thousand_members(self, server: RedisServer) -> None:
        entries = [PresenceEntry(f"connection-{n}", f"user-{n % 5_000}", {"n": n}, float(n)) for n in range(10_000)]
        async with running(server.url, timing=Timing()) as (broker, _):
            store: PresenceStore = RedisPresenceStore(broker)
            assert await store.refresh({"crowd": entries}, 0.5) == []
            assert list(await store.members("crowd")) == entries
            assert await store.count("crowd") == (10_000, 5_000)
            await asyncio.sleep(0.6)
            assert await store.count("crowd") == (0, 0)
            departed = await store.refresh({"crowd": ()}, 60)
            assert len(departed) == 5_000
            assert Departure("crowd", "user-7") in departed
            assert server.command("EXISTS", *broker.names.presence("crowd")) == 0

    async def test_an_empty_channel_leaves_no_key(self, server: RedisServer) -> None:
        async with running(server.url) as (broker, _):
            store = RedisPresenceStore(broker)
            for connection, user in (("a", "ann"), ("b", None)):
                await store.enter("room", PresenceEntry(connection, user, None, 1.0), 60)
            for connection in ("a", "b"):
                await store.leave("room", connection)
            assert server.command("EXISTS", *broker.names.presence("room")) == 0

    async def test_departures_of_a_refresh_that_has_failed_are_told_later(self, server: RedisServer) -> None:
        entry = PresenceEntry("a", "ann", None, 1.0)
        async with running(server.url) as (broker, _):
            store = RedisPresenceStore(broker)
            leases = broker.names.presence("broken")[1]
            server.command("SET", leases, "a stranger's")
            await store.enter("left", entry, 0.02)
            await asyncio.sleep(0.05)
            await refusal(asyncio.create_task(store.refresh({"broken": [entry], "left": ()}, 60)))
            server.command("DEL", leases)
            assert await store.refresh({"broken": ()}, 60) == [Departure("left", "ann")]
            assert await store.refresh({"left": ()}, 60) == []

    async def test_many_channels_take_one_round_trip(self, server: RedisServer, proxy: FaultProxy) -> None:
        entry = PresenceEntry("a", "ann", None, 1.0)
        async with running(server.url_at(proxy.port), timing=Timing()) as (broker, _):
            store = RedisPresenceStore(broker)
            await store.refresh({"warm": [entry]}, 60)
            proxy.delay_s = 0.2
            async with asyncio.timeout(1):
                await store.refresh({f"room-{number}": [entry] for number in range(100)}, 60)


class TestClosing:
    async def test_nothing_stays(self, server: RedisServer) -> None:
        tasks, before, files = asyncio.all_tasks(), clients(server), len(os.listdir("/proc/self/fd"))
        async with running(server.url, "a") as (broker, _):
            assert clients(server) == before + 2
            call = asyncio.create_task(broker.commands.call("BLPOP", "nothing", 0))
            await asyncio.sleep(0)
        assert (await refusal(call)).published == "unknown"
        assert asyncio.all_tasks() == tasks
        await eventually(lambda: clients(server) == before)
        assert len(os.listdir("/proc/self/fd")) == files
        assert (await refusal(asyncio.create_task(broker.publish("a", b"x")))).published == "no"

    @pytest.mark.parametrize("turns", range(12))
    async def test_while_it_connects(self, server: RedisServer, turns: int) -> None:
        broker = RedisBroker(server.url)
        starting = asyncio.create_task(broker.start(RecordingSink()))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        await broker.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_into_a_black_hole(self, server: RedisServer, proxy: FaultProxy) -> None:
        async with running(server.url_at(proxy.port), "a") as (broker, _):
            proxy.swallow()
            calls = [asyncio.create_task(broker.publish("a", bytes(1_000_000))) for _ in range(20)]
            await asyncio.sleep(0.05)
            async with asyncio.timeout(0.3):
                await broker.aclose()
            for call in calls:
                await refusal(call)

    async def test_before_it_was_started(self) -> None:
        await RedisBroker("redis://127.0.0.1:1").aclose()


class TestCredentials:
    async def test_a_password(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "hubbub")
        with redis_server("geheim") as locked:
            async with running(locked.url, "a") as (broker, sink):
                await broker.append("a", b"x", HISTORY)
                locked.stop()
                await eventually(lambda: not broker.is_connected)
                refused = await refusal(asyncio.create_task(broker.publish("a", b"x")))
                locked.start()
                await eventually(lambda: sink.gaps == [None])
                await eventually(lambda: "back" in caplog.text)
                shown = f"{broker!r} {broker._address!r} {refused!r} {caplog.text}"
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        assert f"redis://127.0.0.1:{locked.port}/0" in caplog.text
        assert "geheim" not in shown

    @pytest.mark.parametrize("credentials", [":wrong-word@", "nobody:wrong-word@", ""])
    async def test_a_wrong_password(self, credentials: str, caplog: pytest.LogCaptureFixture) -> None:
        with redis_server("geheim") as locked:
            async with running(f"redis://{credentials}127.0.0.1:{locked.port}") as (broker, _):
                refused = await refusal(asyncio.create_task(broker.subscribe("a")))
                unpublished = await refusal(asyncio.create_task(broker.publish("a", b"x")))
        said = "invalid username-password pair" if credentials else "uthentication required"
        for text in (refused.reason, unpublished.reason, caplog.text):
            assert said in text
            assert "wrong-word" not in text
        assert unpublished.published == "no"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class TestTls:
    @pytest.fixture
    def encrypted(self, authority: trustme.CA, tmp_path: Path) -> Iterator[RedisServer]:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
        with redis_server("geheim", *with_tls(tmp_path / "server.pem", tmp_path / "server.pem")) as running_:
            yield running_

    async def test_a_server_that_is_trusted(
        self, encrypted: RedisServer, authority: trustme.CA, tmp_path: Path
    ) -> None:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        url = f"rediss://:geheim@127.0.0.1:{encrypted.tls_port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        async with running(url, "a") as (broker, sink):
            await broker.append("a", b"x" * 1_000_000, HISTORY)
            await sink.wait_for("a", b"x" * 1_000_000)
            encrypted.restart()
            await eventually(lambda: sink.gaps == [None])
            await broker.publish("a", b"after")
            await sink.wait_for("a", b"after")

    async def test_a_server_that_nobody_vouches_for(self, encrypted: RedisServer, tmp_path: Path) -> None:
        trustme.CA().cert_pem.write_to_path(tmp_path / "another.pem")
        url = f"rediss://:geheim@127.0.0.1:{encrypted.tls_port}?ssl_ca_certs={tmp_path / 'another.pem'}"
        async with running(url) as (broker, _):
            refused = await refusal(asyncio.create_task(broker.publish("a", b"x")))
            assert "CERTIFICATE_VERIFY_FAILED" in refused.reason
            assert refused.published == "no"


class TestSentinel:
    async def test_a_failover(self) -> None:
        with sentinel() as (watching, master, replica):
            url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{watching.port}/main/0"
            async with running(url, "a") as (broker, sink), running(url, "a") as (other, _):
                before = (await broker.append("a", b"x", HISTORY)).position
                await broker.append("a", b"y", HISTORY)
                await eventually(lambda: replica.has_all_of(master))
                watching.fail_over()
                await eventually(lambda: replica.command("ROLE")[0] == b"master")
                await eventually(lambda: master.command("ROLE")[0] == b"slave")
                await eventually(lambda: broker.is_connected and other.is_connected and sink.gaps)
                assert set(sink.gaps) == {None}
                after = (await other.append("a", b"z", HISTORY)).position
                await sink.wait_for("a", b"z")
                assert (after.offset, after.epoch != before.epoch) == (3, True)
                found = await broker.read("a", HISTORY, since=before)
                assert (found.is_complete, found.floor, found.position) == (False, 2, after)

    async def test_a_master_that_dies(self) -> None:
        with sentinel() as (watching, master, replica):
            url = f"redis+sentinel://127.0.0.1:{watching.port}/main/0"
            async with running(url, "a") as (broker, sink):
                master.stop()
                refused = await refusal(asyncio.create_task(broker.append("a", b"x", HISTORY)))
                assert refused.published in ("no", "unknown")
                await eventually(lambda: replica.command("ROLE")[0] == b"master")
                await eventually(lambda: broker.is_connected and sink.gaps)
                await broker.append("a", b"y", HISTORY)
                await sink.wait_for("a", b"y")


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "redis://u:geheim@h:x/0",
            "redis://u:geheim@h/?prefix={}",
            "redis+sentinel://u:geheim@h",
            "rediss://:geheim@h:1:2",
        ],
    )
    def test_a_bad_one(self, url: str) -> None:
        with pytest.raises(ValueError) as raised:  # noqa: PT011 - the text varies
            from_url(url, clock=ManualClock())
        assert "geheim" not in str(raised.value)

    def test_an_unknown_scheme(self) -> None:
        with pytest.raises(ValueError, match="memory://, redis://") as raised:
            from_url("amqp://u:geheim@h", clock=ManualClock())
        assert "geheim" not in str(raised.value)

    def test_names(self) -> None:
        names = RedisBroker("redis://h/3?prefix=app").names
        assert names.channel("a") == b"app:3:channel:a"
        assert names.history("{a}")[0].startswith(b"app:{")
        assert names.history("{a}")[0].endswith(b"}:meta:{a}")

    @pytest.mark.parametrize("url", ["redis://h", "rediss://h:1/2", "unix:///run/redis?db=1", "memory://"])
    def test_the_engine_of(self, url: str) -> None:
        engine = from_url(url, clock=ManualClock())
        assert engine.broker.is_shared == (url != "memory://")
