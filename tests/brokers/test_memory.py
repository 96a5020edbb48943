"""Memory as a broker and as a presence store: the contracts, how time passes, and what is left behind."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from hubbub.brokers.memory import KEPT_S, MemoryBroker, MemoryPresenceStore
from hubbub.config import History
from hubbub.interfaces import Appended, Departure, PresenceEntry, PresenceStore
from hubbub.model import Position
from hubbub.testing import ManualClock
from hubbub.testing.conformance import (
    Delivery,
    HistoryBrokerConformance,
    OpenHistoryBroker,
    OpenStore,
    PresenceStoreConformance,
    RecordingSink,
)

HISTORY = History(size=3, ttl_s=300, idempotency_ttl_s=300)
ANN = PresenceEntry("a", "ann", None, 1.0)


class TestMemoryBrokerConforms(HistoryBrokerConformance):
    @pytest.fixture
    def open_broker(self) -> OpenHistoryBroker:
        return lambda: MemoryBroker(asyncio.get_running_loop())


class TestMemoryPresenceStoreConforms(PresenceStoreConformance):
    is_shared = False

    @pytest.fixture
    def open_store(self) -> OpenStore:
        @asynccontextmanager
        async def open_one() -> AsyncIterator[PresenceStore]:
            store = MemoryPresenceStore(asyncio.get_running_loop())
            yield store
            await store.aclose()

        return open_one


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000.0)


@pytest.fixture
def broker(clock: ManualClock) -> MemoryBroker:
    numbers = count(1)
    return MemoryBroker(clock, new_epoch=lambda: f"e{next(numbers)}")


@pytest.fixture
def store(clock: ManualClock) -> MemoryPresenceStore:
    return MemoryPresenceStore(clock)


async def test_it_delivers_within_the_call(broker: MemoryBroker) -> None:
    sink = RecordingSink()
    await broker.start(sink)
    await broker.subscribe("news")
    await broker.publish("news", b"a")
    assert sink.deliveries == [Delivery("news", b"a", None)]
    await broker.append("news", b"b", HISTORY)
    assert sink.deliveries[1:] == [Delivery("news", b"b", Position("e1", 1))]
    await broker.unsubscribe("news")
    await broker.publish("news", b"c")
    await broker.append("news", b"c", HISTORY)
    assert len(sink.deliveries) == 2


async def test_it_is_connected_between_start_and_end(broker: MemoryBroker) -> None:
    assert not broker.is_connected
    await broker.start(RecordingSink())
    assert broker.is_connected
    await broker.aclose()
    assert not broker.is_connected
    assert not broker.is_shared


async def test_epochs_differ_by_themselves(clock: ManualClock) -> None:
    brokers = [MemoryBroker(clock) for _ in range(2)]
    epochs = {(await broker.read(name, HISTORY)).position.epoch for broker in brokers for name in "ab"}
    assert len(epochs) == 4


async def test_publications_expire_together(broker: MemoryBroker, clock: ManualClock) -> None:
    await broker.append("news", b"a", HISTORY)
    clock.advance(299)
    await broker.append("news", b"b", HISTORY)
    clock.advance(299)
    assert [tuple(one) for one in (await broker.read("news", HISTORY)).publications] == [(1, b"a"), (2, b"b")]
    clock.advance(1)
    found = await broker.read("news", HISTORY)
    assert (found.position, list(found.publications), found.is_complete) == (Position("e1", 2), [], True)


async def test_a_key_ends_at_its_time(broker: MemoryBroker, clock: ManualClock) -> None:
    await broker.append("news", b"a", HISTORY, "key")
    clock.advance(299)
    assert await broker.append("news", b"a", HISTORY, "key") == Appended(Position("e1", 1), True)
    clock.advance(1)
    assert await broker.append("news", b"a", HISTORY, "key") == Appended(Position("e1", 2), False)


async def test_a_channel_is_forgotten_when_nobody_has_used_it_for_long(
    broker: MemoryBroker, clock: ManualClock
) -> None:
    await broker.append("news", b"a", HISTORY)
    clock.advance(300 + KEPT_S - 1)
    assert (await broker.read("news", HISTORY)).position == Position("e1", 1)  # which counts as a use
    clock.advance(300 + KEPT_S - 1)
    assert (await broker.read("news", HISTORY)).position == Position("e1", 1)
    clock.advance(300 + KEPT_S + 1)
    assert (await broker.read("news", HISTORY)).position == Position("e2", 0)


async def test_keys_keep_their_channel(broker: MemoryBroker, clock: ManualClock) -> None:
    history = History(ttl_s=1, idempotency_ttl_s=100_000)
    await broker.append("news", b"a", history, "key")
    clock.advance(99_999)
    assert await broker.append("news", b"a", history, "key") == Appended(Position("e1", 1), True)


async def test_channels_that_nobody_uses_leave_nothing(broker: MemoryBroker, clock: ManualClock) -> None:
    for number in range(1_000):
        await broker.append(f"channel {number}", b"a", HISTORY)
        await broker.read(f"other {number}", HISTORY)
    assert len(broker._streams) == 2_000
    clock.advance(300 + KEPT_S + 1)
    for _ in range(50):
        await broker.read("in use", HISTORY)
    assert len(broker._streams) == 1
    assert len(broker._streams._wheel) == 1


async def test_payloads_go_long_before_their_channel(broker: MemoryBroker, clock: ManualClock) -> None:
    """Also those of a channel that was empty for a while."""
    await broker.read("news", HISTORY)
    clock.advance(1_000)
    for _ in range(2):
        await broker.append("news", b"a", HISTORY)
        clock.advance(200)
        await broker.append("news", b"b", HISTORY)
        clock.advance(200)
        await broker.read("in use", HISTORY)
        assert len(broker._streams._kept["news"].stream) > 0
        clock.advance(101)
        await broker.read("in use", HISTORY)
        assert len(broker._streams._kept["news"].stream) == 0


async def test_forgetting_leaves_nothing(broker: MemoryBroker) -> None:
    for _ in range(100):
        await broker.append("news", b"a", HISTORY, "key")
        await broker.forget("news")
    assert len(broker._streams) == 0
    assert len(broker._streams._wheel) == 0


async def test_closing_leaves_nothing(broker: MemoryBroker) -> None:
    sink = RecordingSink()
    await broker.start(sink)
    await broker.subscribe("news")
    await broker.append("news", b"a", HISTORY)
    await broker.aclose()
    assert len(broker._streams) == len(broker._streams._wheel) == len(broker._subscribed) == 0
    await broker.publish("news", b"late")
    assert len(sink.deliveries) == 1


async def test_a_history_may_last_for_ever(broker: MemoryBroker, clock: ManualClock) -> None:
    history = History(ttl_s=math.inf, idempotency_ttl_s=math.inf)
    await broker.append("news", b"a", history, "key")
    for _ in range(3):
        clock.advance(1e7)
        assert len((await broker.read("news", history)).publications) == 1


async def test_a_lease_ends_at_its_time(store: MemoryPresenceStore, clock: ManualClock) -> None:
    await store.enter("room", ANN, 30)
    clock.advance(29.9)
    assert await store.members("room") == [ANN]
    clock.advance(0.1)
    assert await store.members("room") == []
    assert await store.count("room") == (0, 0)
    assert await store.refresh({"room": ()}, 30) == [Departure("room", "ann")]
    assert await store.refresh({"room": ()}, 30) == []


async def test_a_refreshed_lease_begins_again(store: MemoryPresenceStore, clock: ManualClock) -> None:
    await store.enter("room", ANN, 30)
    for _ in range(10):
        clock.advance(29)
        assert await store.refresh({"room": [ANN]}, 30) == []
    assert await store.members("room") == [ANN]


async def test_a_channel_that_nobody_is_in_leaves_nothing(store: MemoryPresenceStore, clock: ManualClock) -> None:
    await store.enter("left", ANN, 30)
    await store.enter("expired", ANN, 30)
    await store.leave("left", "a")
    await store.leave("never entered", "a")
    clock.advance(30)
    await store.refresh({"expired": (), "empty": ()}, 30)
    await store.members("looked at")
    await store.count("counted")
    assert store._rosters == {}


async def test_closing_a_store_leaves_nothing(store: MemoryPresenceStore) -> None:
    await store.enter("room", ANN, 30)
    await store.aclose()
    assert store._rosters == {}
