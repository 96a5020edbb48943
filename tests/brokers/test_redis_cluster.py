"""A cluster of Redis as the broker: the contracts, and what happens when slots and masters change."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis.crc import key_slot

from hubbub.brokers import from_url
from hubbub.brokers.redis import RedisBroker, RedisPresenceStore, Timing
from hubbub.config import History
from hubbub.errors import BrokerUnavailable
from hubbub.interfaces import PresenceEntry, PresenceStore
from hubbub.testing import ManualClock
from hubbub.testing.conformance import (
    HistoryBrokerConformance,
    OpenHistoryBroker,
    OpenStore,
    PresenceStoreConformance,
    RecordingSink,
)
from tests.integration.deadline import eventually
from tests.redis_server import RedisCluster, RedisServer, redis_cluster, redis_server

QUICK = Timing(command_s=1.5, wait_s=1.0, beacon_s=0.1, beacon_deadline_s=0.6)
HISTORY = History(size=5)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """A cluster for the tests that do it no harm."""
    with redis_cluster() as running:
        yield running


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """A cluster for one test, with a replica of its first master."""
    with redis_cluster(replicas=1) as running:
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


def channels_of(cluster: RedisCluster, server: RedisServer, count: int = 1) -> list[str]:
    """Return channels that belong to a master at the beginning."""
    names = (f"channel-{number}" for number in range(1_000))
    return [name for name in names if cluster.master_of(slot(cluster, name)) is server][:count]


def slot(cluster: RedisCluster, channel: str) -> int:
    return key_slot(RedisBroker(cluster.url).names.channel(channel))


def subscribed(server: RedisServer) -> list[bytes]:
    return [name for name in server.command("PUBSUB", "SHARDCHANNELS") if b":beacon:" not in name]


async def refusal(call: asyncio.Future[object] | asyncio.Task[object]) -> BrokerUnavailable:
    with pytest.raises(BrokerUnavailable) as raised:
        await call
    return raised.value


class TestBroker(HistoryBrokerConformance):
    @pytest.fixture
    def open_broker(self, cluster: RedisCluster) -> OpenHistoryBroker:
        return lambda: RedisBroker(cluster.url)


class TestPresenceStore(PresenceStoreConformance):
    @pytest.fixture
    def open_store(self, cluster: RedisCluster) -> OpenStore:
        @asynccontextmanager
        async def store() -> AsyncIterator[PresenceStore]:
            async with running(cluster.url) as (broker, _):
                yield RedisPresenceStore(broker)

        return store


class TestRouting:
    async def test_brokers_by_different_nodes_meet(self, cluster: RedisCluster) -> None:
        names = [f"meet-{number}" for number in range(30)]
        one_url, other_url = cluster.url_of(cluster.masters[0]), cluster.url_of(*cluster.masters[1:])
        async with running(one_url, *names) as (one, here), running(other_url, *names) as (other, there):
            for name in names:
                await one.publish(name, b"one")
                await other.append(name, b"other", HISTORY)
                for sink in (here, there):
                    await sink.wait_for(name, b"other")
                    assert sink.payloads(name) == [b"one", b"other"]
                assert await one.audience(name) == 2
            assert here.gaps == there.gaps == []
            assert [len(subscribed(server)) > 0 for server in cluster.masters] == [True] * 3

    async def test_names_of_a_channel_are_in_one_slot(self, cluster: RedisCluster) -> None:
        names = RedisBroker(cluster.url).names
        for channel in ("a", "{a}{b", "}", "ñ"):
            every = (names.channel(channel), *names.history(channel), *names.presence(channel))
            assert len({key_slot(name) for name in every}) == 1
            assert names.channel(channel).endswith(channel.encode())

    async def test_one_node_that_is_there_is_enough(self, cluster: RedisCluster) -> None:
        url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster.masters[2].port}"
        async with running(url, "a") as (broker, _):
            assert broker.is_connected

    async def test_a_server_that_is_no_cluster(self) -> None:
        with redis_server() as single:
            async with running(f"redis+cluster://127.0.0.1:{single.port}", timing=Timing(wait_s=0.2)) as (broker, _):
                refused = await refusal(asyncio.create_task(broker.subscribe("a")))
                assert "cluster support disabled" in refused.reason

    async def test_nobody_is_there(self, caplog: pytest.LogCaptureFixture) -> None:
        async with running("redis+cluster://u:geheim@127.0.0.1:1/", timing=Timing(wait_s=0.2)) as (broker, _):
            assert not broker.is_connected
            async with asyncio.timeout(2):
                calls = (broker.subscribe("a"), broker.publish("a", b"x"), broker.read("a", HISTORY))
                for call in calls:
                    refused = await refusal(asyncio.ensure_future(call))
                    assert "127.0.0.1:1" in refused.reason
                    assert refused.published == "no"
                await broker.unsubscribe("a")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "geheim" not in caplog.text

    async def test_nothing_stays(self, cluster: RedisCluster) -> None:
        def clients() -> int:
            return sum(server.command("CLIENT", "LIST").count(b"cmd=") - 1 for server in cluster.masters)

        tasks, before = asyncio.all_tasks(), clients()
        async with running(cluster.url, "a") as (broker, _):
            await eventually(lambda: clients() == before + 6)
        assert asyncio.all_tasks() == tasks
        await eventually(lambda: clients() == before)
        assert (await refusal(asyncio.create_task(broker.publish("a", b"x")))).published == "no"

    @pytest.mark.parametrize("turns", range(0, 24, 3))
    async def test_closing_while_it_connects(self, cluster: RedisCluster, turns: int) -> None:
        broker = RedisBroker(cluster.url)
        starting = asyncio.create_task(broker.start(RecordingSink()))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        await broker.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_presence_in_many_channels(self, cluster: RedisCluster) -> None:
        entry = PresenceEntry("a", "ann", None, 1.0)
        async with running(cluster.url) as (broker, _):
            store = RedisPresenceStore(broker)
            channels = [f"room-{number}" for number in range(100)]
            assert await store.refresh({channel: [entry] for channel in channels}, 60) == []
            for channel in channels:
                assert await store.count(channel) == (1, 1)

    def test_addresses(self) -> None:
        with pytest.raises(ValueError, match="form of a redis") as raised:
            from_url("redis+cluster://u:geheim@h/3", clock=ManualClock())
        assert "geheim" not in str(raised.value)
        assert from_url("redis+cluster://h,g:1?prefix=app", clock=ManualClock()).broker.is_shared


class TestSubscriptions:
    async def test_a_killed_connection_tells_of_its_own_channels(self, cluster: RedisCluster) -> None:
        first, second, _ = cluster.masters
        ours, others = channels_of(cluster, first, 20), channels_of(cluster, second, 20)
        async with running(cluster.url, *ours, *others) as (broker, sink):
            first.command("CLIENT", "KILL", "TYPE", "pubsub")
            await eventually(lambda: sink.gaps)
            assert [sorted(channels) for channels in sink.gaps] == [sorted(ours)]
            assert broker.is_connected
            await broker.publish(ours[0], b"after")
            await sink.wait_for(ours[0], b"after")

    async def test_churn_leaves_no_subscription(self, cluster: RedisCluster) -> None:
        async with running(cluster.url) as (broker, sink):
            names = [f"churn-{number}" for number in range(1_000)]
            await asyncio.gather(*map(broker.subscribe, names))
            assert sum(len(subscribed(server)) for server in cluster.masters) == 1_000
            await asyncio.gather(*map(broker.unsubscribe, names))
            assert [subscribed(server) for server in cluster.masters] == [[], [], []]
            for turns in range(8):
                task = asyncio.create_task(broker.subscribe("a"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                await broker.unsubscribe("a")
            await broker.subscribe("a")
            await broker.publish("a", b"heard")
            await sink.wait_for("a", b"heard")


class TestMovingSlots:
    async def test_a_subscribed_channel_moves(self, cluster: RedisCluster) -> None:
        source, target, _ = cluster.masters
        moved, stays = channels_of(cluster, source, 2)
        number = slot(cluster, moved)
        async with running(cluster.url, moved, stays) as (broker, sink), running(cluster.url) as (other, _):
            before = (await broker.append(moved, b"before", HISTORY)).position
            cluster.move(number, source, target)
            try:
                await eventually(lambda: sink.gaps)
                assert sink.gaps == [[moved]]
                assert broker.is_connected
                after = (await other.append(moved, b"after", HISTORY)).position  # its map is of yesterday
                await sink.wait_for(moved, b"after")
                assert after.offset == before.offset + 1
                assert after.epoch != before.epoch
                assert [s.payload for s in (await broker.read(moved, HISTORY)).publications] == [b"before", b"after"]
                await other.publish(stays, b"x")
                await sink.wait_for(stays, b"x")
                assert len(subscribed(source)) == 1
            finally:
                cluster.move(number, target, source)
            await eventually(lambda: len(sink.gaps) == 2 and broker.is_connected)
            await broker.publish(moved, b"back")
            await sink.wait_for(moved, b"back")

    async def test_calls_wait_while_a_slot_is_moved(self, cluster: RedisCluster) -> None:
        source, target, _ = cluster.masters
        (channel,) = channels_of(cluster, source)
        number = slot(cluster, channel)
        async with running(cluster.url, channel, timing=Timing()) as (broker, sink):
            await broker.append(channel, b"before", HISTORY)
            cluster.begin_to_move(number, source, target)
            call = asyncio.create_task(broker.append(channel, b"after", HISTORY))
            await asyncio.sleep(0.3)
            assert not call.done()
            cluster.move(number, source, target)
            try:
                assert not (await call).is_repeat
                await broker.publish(channel, b"marker")
                await sink.wait_for(channel, b"marker")
                stored = (await broker.read(channel, HISTORY)).publications
                assert [publication.payload for publication in stored][-2:] == [b"before", b"after"]
            finally:
                cluster.move(number, target, source)

    async def test_a_slot_that_is_long_in_between_is_unavailable(self, cluster: RedisCluster) -> None:
        source, target, _ = cluster.masters
        (channel,) = channels_of(cluster, source)
        number = slot(cluster, channel)
        async with running(cluster.url) as (broker, _):
            await broker.append(channel, b"before", HISTORY)
            cluster.begin_to_move(number, source, target)
            try:
                async with asyncio.timeout(2 * QUICK.command_s):
                    refused = await refusal(asyncio.create_task(broker.append(channel, b"x", HISTORY)))
                assert refused.published == "no"
            finally:
                for server in (source, target):
                    server.command("CLUSTER", "SETSLOT", number, "STABLE")
            await broker.append(channel, b"after", HISTORY)

    async def test_subscribing_by_an_old_map(self, cluster: RedisCluster) -> None:
        source, target, _ = cluster.masters
        stays, channel = channels_of(cluster, source, 2)
        number = slot(cluster, channel)
        async with running(cluster.url, stays) as (broker, sink):
            cluster.move(number, source, target)
            try:
                await broker.subscribe(channel)
                await broker.publish(channel, b"x")
                await sink.wait_for(channel, b"x")
                assert sink.gaps == []
                await broker.unsubscribe(channel)
                assert subscribed(target) == []
            finally:
                cluster.move(number, target, source)

    async def test_the_slot_of_a_beacon_moves(self, cluster: RedisCluster) -> None:
        source, target, _ = cluster.masters
        async with running(cluster.url, *channels_of(cluster, source)) as (broker, sink):
            (beacon,) = source.command("PUBSUB", "SHARDCHANNELS", "*:beacon:*")
            cluster.move(key_slot(beacon), source, target)
            try:
                await eventually(lambda: source.command("PUBSUB", "SHARDCHANNELS", "*:beacon:*") not in ([], [beacon]))
                await asyncio.sleep(2 * QUICK.beacon_deadline_s)
                assert broker.is_connected
                assert sink.gaps == []
            finally:
                cluster.move(key_slot(beacon), target, source)

    async def test_a_slot_that_nobody_has(self, cluster: RedisCluster) -> None:
        owner, another, _ = cluster.masters
        (channel,), (there,) = channels_of(cluster, owner), channels_of(cluster, another)
        number = slot(cluster, channel)
        async with running(cluster.url, channel, there) as (broker, sink):
            for server in cluster.masters:
                server.command("CLUSTER", "DELSLOTS", number)
            try:
                await eventually(lambda: not broker.is_connected)
                async with asyncio.timeout(QUICK.command_s + QUICK.wait_s + 1):
                    refused = await refusal(asyncio.create_task(broker.append(channel, b"x", HISTORY)))
                assert refused.published == "no"
                await broker.append(there, b"x", HISTORY)
                await broker.unsubscribe(channel)
                await eventually(lambda: broker.is_connected)
                await refusal(asyncio.create_task(broker.subscribe(channel)))
                assert broker.is_connected
            finally:
                owner.command("CLUSTER", "ADDSLOTS", number)
            await broker.subscribe(channel)
            await broker.publish(channel, b"again")
            await sink.wait_for(channel, b"again")
            assert sink.gaps == []


class TestFailover:
    async def test_a_killed_master_takes_only_its_channels_along(
        self, own_cluster: RedisCluster, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "hubbub")
        lost, left, _ = own_cluster.masters[::-1]
        (away,), (there,) = channels_of(own_cluster, lost), channels_of(own_cluster, left)
        async with running(own_cluster.url, away, there) as (broker, sink):
            lost.stop()
            await eventually(lambda: not broker.is_connected)
            for _ in range(3):
                async with asyncio.timeout(QUICK.command_s + QUICK.wait_s + 1):
                    refused = await refusal(asyncio.create_task(broker.append(away, b"x", HISTORY)))
                assert refused.published == "no"
                assert str(lost.port) in refused.reason
                await broker.append(there, b"x", HISTORY)
            await sink.wait_for(there, b"x")
            assert sink.gaps == []
            lost.start()
            await eventually(lambda: broker.is_connected)
            assert sink.gaps == [[away]]
            await eventually(lambda: b"cluster_state:ok" in lost.command("CLUSTER", "INFO"))  # it is careful at first
            await broker.append(away, b"again", HISTORY)
            await sink.wait_for(away, b"again")
        assert f"127.0.0.1:{lost.port} of {own_cluster.url} is back" in caplog.text

    async def test_a_replica_takes_over_from_a_killed_master(self, own_cluster: RedisCluster) -> None:
        master, (replica,) = own_cluster.masters[0], own_cluster.replicas
        channel, unused = channels_of(own_cluster, master, 2)
        (other,) = channels_of(own_cluster, own_cluster.masters[1])
        async with running(own_cluster.url, channel, other) as (broker, sink):
            await broker.append(channel, b"kept", HISTORY)
            await eventually(lambda: replica.has_all_of(master))
            replica.freeze()
            master.command("CLIENT", "KILL", "TYPE", "replica")  # so that it lacks what comes now
            lost = (await broker.append(channel, b"lost", HISTORY)).position
            master.stop()
            replica.thaw()
            await eventually(lambda: sink.gaps)
            assert sink.gaps == [[channel]]
            await eventually(lambda: broker.is_connected)
            again = (await broker.append(channel, b"in its place", HISTORY)).position
            await sink.wait_for(channel, b"in its place")
            assert again.offset == lost.offset
            assert again.epoch != lost.epoch
            assert not (await broker.read(channel, HISTORY, since=lost)).is_complete
            assert (await broker.append(unused, b"x", HISTORY)).position.offset == 1

    async def test_there_and_back_again(self, own_cluster: RedisCluster) -> None:
        master, (replica,) = own_cluster.masters[0], own_cluster.replicas
        (channel,) = channels_of(own_cluster, master)
        async with running(own_cluster.url, channel) as (broker, sink):
            epochs = [(await broker.append(channel, b"x", HISTORY)).position.epoch]
            for number, taking_over in enumerate((replica, master), 1):
                await eventually(lambda server=taking_over: b"connected" in server.command("ROLE"))
                await eventually(lambda: replica.has_all_of(master))
                taking_over.command("CLUSTER", "FAILOVER", "TAKEOVER")
                await eventually(lambda number=number: len(sink.gaps) == number and broker.is_connected)
                epochs.append((await broker.append(channel, b"%d" % number, HISTORY)).position.epoch)
                await sink.wait_for(channel, b"%d" % number)
            assert len(set(epochs)) == 3
            assert sink.gaps == [[channel], [channel]]
