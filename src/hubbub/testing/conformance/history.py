"""The contract of `HistoryBroker` as tests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest

from ...config import History
from ...interfaces import Appended, HistoryBroker
from ...model import Position
from .broker import BrokerConformance
from .kit import (
    SHORT_S,
    Delivery,
    OpenHistoryBroker,
    all_started,
    any_name,
    anything,
    eventually,
    needs_shared,
    started,
)

__all__ = ("HistoryBrokerConformance",)


class HistoryBrokerConformance(BrokerConformance):
    """What every `HistoryBroker` does, also as a `Broker`. Override the fixture `open_broker`."""

    history = History()
    """The settings that the tests use and change; times to live of 0.2 s among them."""

    @pytest.fixture
    def open_broker(self) -> OpenHistoryBroker:
        """Return what opens a broker."""
        pytest.fail("override the fixture open_broker: let it return a function that returns a new broker")

    async def _filled(self, broker: HistoryBroker, channel: str, count: int, **settings: Any) -> str:
        """Append the decimal numbers from 1 to `count` and return the epoch."""
        history = replace(self.history, **settings)
        for number in range(1, count + 1):
            appended = await broker.append(channel, b"%d" % number, history)
            assert appended.position.offset == number
            assert not appended.is_repeat
        return (await broker.read(channel, history, limit=0)).position.epoch

    async def _offsets(self, broker: HistoryBroker, channel: str, **arguments: Any) -> list[int]:
        """Read a history that `_filled` has filled, which has to be complete, and return the offsets."""
        found = await broker.read(channel, self.history, **arguments)
        assert found.is_complete
        assert all(payload == b"%d" % offset for offset, payload in found.publications)
        return [offset for offset, _ in found.publications]

    async def _has_lost(self, broker: HistoryBroker, channel: str, since: Position, reverse: bool = False) -> bool:
        found = await broker.read(channel, self.history, since=since, reverse=reverse)
        return not found.is_complete and not found.publications

    # Appending

    async def test_append_numbers_stores_and_delivers(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker, channel) as sink:
            first = await broker.append(channel, b"a", self.history)
            epoch = first.position.epoch
            second = await broker.append(channel, b"b", self.history)
            await sink.wait_for(channel, b"b")
            found = await broker.read(channel, self.history)
        assert (first, second) == (Appended(Position(epoch, 1), False), Appended(Position(epoch, 2), False))
        assert sink.deliveries == [
            Delivery(channel, b"a", Position(epoch, 1)),
            Delivery(channel, b"b", Position(epoch, 2)),
        ]
        assert found.position == Position(epoch, 2)
        assert [tuple(stored) for stored in found.publications] == [(1, b"a"), (2, b"b")]
        assert found.is_complete

    async def test_append_without_a_subscriber_stores_only(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker, heard = open_broker(), f"{channel}.heard"
        async with started(broker, heard) as sink:
            await self._filled(broker, channel, 2)
            await broker.append(heard, b"marker", self.history)
            await sink.wait_for(heard, b"marker")
            assert await self._offsets(broker, channel) == [1, 2]
        assert [delivery.payload for delivery in sink.deliveries] == [b"marker"]

    async def test_publish_is_not_numbered(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker, channel) as sink:
            await self._filled(broker, channel, 1)
            await broker.publish(channel, b"unnumbered")
            assert await sink.wait_for(channel, b"unnumbered") == Delivery(channel, b"unnumbered", None)
            assert await self._offsets(broker, channel) == [1]

    async def test_overlapping_appends_leave_no_hole(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        await self._append_at_once(channel, open_broker())

    async def test_overlapping_appends_of_two_brokers(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        brokers = open_broker(), open_broker()
        needs_shared(brokers[0])
        await self._append_at_once(channel, *brokers)

    async def _append_at_once(self, channel: str, *brokers: HistoryBroker) -> None:
        payloads = [b"%d by %d" % (number, who) for number in range(100) for who in range(len(brokers))]
        async with all_started(brokers, channel) as sinks:
            calls = (broker.append(channel, b, self.history) for b, broker in zip(payloads, cycle(brokers)))
            positions = [position for position, is_repeat in await asyncio.gather(*calls) if not is_repeat]
            marker = await brokers[0].append(channel, b"marker", self.history)
            for sink in sinks:
                await sink.wait_for(channel, b"marker")
        epoch, last = marker.position.epoch, len(payloads) + 1
        expected = sorted(zip(positions, payloads, strict=True), key=lambda pair: pair[0].offset)
        expected.append((Position(epoch, last), b"marker"))
        assert [position for position, _ in expected] == [Position(epoch, offset) for offset in range(1, last + 1)]
        for sink in sinks:
            assert sink.deliveries == [Delivery(channel, payload, position) for position, payload in expected]

    async def test_reading_is_one_step(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            appends = (broker.append(channel, b"%d" % number, self.history) for number in range(50))
            reads = (broker.read(channel, self.history) for _ in range(50))
            pairs = zip(appends, reads, strict=True)
            found = await asyncio.gather(*(asyncio.gather(append, read) for append, read in pairs))
        for _, read in found:
            assert [offset for offset, _ in read.publications] == list(range(1, read.position.offset + 1))

    @anything
    async def test_a_history_keeps_any_bytes(
        self, open_broker: OpenHistoryBroker, channel: str, payload: bytes
    ) -> None:
        broker = open_broker()
        async with started(broker, channel) as sink:
            appended = await broker.append(channel, payload, self.history)
            assert await sink.wait_for(channel, payload) == Delivery(channel, payload, appended.position)
            found = await broker.read(channel, self.history)
        assert [tuple(stored) for stored in found.publications] == [(1, payload)]

    @any_name
    async def test_a_history_has_any_name(self, open_broker: OpenHistoryBroker, channel: str, name: str) -> None:
        broker, channel = open_broker(), f"{name}{channel}{name}"
        async with started(broker, channel) as sink:
            await broker.append(channel, b"1", self.history, name)
            await sink.wait_for(channel, b"1")
            assert await self._offsets(broker, channel) == [1]
            await broker.forget(channel)
            assert await self._offsets(broker, channel) == []

    # Reading

    async def test_reading_gives_an_epoch_that_stays(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            readings = await asyncio.gather(*(broker.read(channel, self.history) for _ in range(10)))
            appended = await broker.append(channel, b"1", self.history)
        epoch = readings[0].position.epoch
        assert all(found.position == Position(epoch, 0) for found in readings)
        assert all(found.is_complete and not found.publications for found in readings)
        assert appended.position == Position(epoch, 1)

    async def test_two_channels_have_two_epochs(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            one = await broker.read(channel, self.history)
            other = await broker.read(f"{channel}.other", self.history)
        assert one.position.epoch != other.position.epoch

    async def test_ranges(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            epoch = await self._filled(broker, channel, 5)
            assert await self._offsets(broker, channel) == [1, 2, 3, 4, 5]
            assert await self._offsets(broker, channel, reverse=True) == [5, 4, 3, 2, 1]
            for offset in range(6):
                since = Position(epoch, offset)
                after, before = list(range(offset + 1, 6)), list(range(offset - 1, 0, -1))
                assert await self._offsets(broker, channel, since=since) == after
                assert await self._offsets(broker, channel, since=since, reverse=True) == before

    @pytest.mark.parametrize("limit", [0, 1, 2, 1_000_000])
    async def test_limits(self, open_broker: OpenHistoryBroker, channel: str, limit: int) -> None:
        broker = open_broker()
        async with started(broker):
            epoch = await self._filled(broker, channel, 5)
            since = Position(epoch, 2)
            assert await self._offsets(broker, channel, limit=limit) == [1, 2, 3, 4, 5][:limit]
            assert await self._offsets(broker, channel, limit=limit, since=since) == [3, 4, 5][:limit]
            assert await self._offsets(broker, channel, limit=limit, reverse=True) == [5, 4, 3, 2, 1][:limit]
            assert await self._offsets(broker, channel, limit=limit, since=since, reverse=True) == [1][:limit]
            assert (await broker.read(channel, self.history, limit=limit)).position == Position(epoch, 5)

    @pytest.mark.parametrize("reverse", [False, True])
    async def test_a_position_of_another_epoch(
        self, open_broker: OpenHistoryBroker, channel: str, reverse: bool
    ) -> None:
        broker = open_broker()
        async with started(broker):
            await self._filled(broker, channel, 3)
            other = await self._filled(broker, f"{channel}.other", 3)
            for offset in (0, 2, 3, 4):
                assert await self._has_lost(broker, channel, Position(other, offset), reverse)
                assert await self._has_lost(broker, channel, Position("forged", offset), reverse)

    @pytest.mark.parametrize("reverse", [False, True])
    async def test_a_position_from_the_future(
        self, open_broker: OpenHistoryBroker, channel: str, reverse: bool
    ) -> None:
        broker = open_broker()
        async with started(broker):
            epoch = await self._filled(broker, channel, 3)
            for offset in (4, 2**31, 2**53, 2**63 - 1):
                assert await self._has_lost(broker, channel, Position(epoch, offset), reverse)

    async def test_a_position_in_a_channel_without_history(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            for offset in (0, 3):
                assert await self._has_lost(broker, channel, Position("forged", offset))

    async def test_the_size_bounds_a_history(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            epoch = await self._filled(broker, channel, 5, size=3)
            assert await self._offsets(broker, channel) == [3, 4, 5]
            assert await self._offsets(broker, channel, reverse=True) == [5, 4, 3]
            assert await self._offsets(broker, channel, since=Position(epoch, 2)) == [3, 4, 5]
            for offset in (0, 1):
                assert await self._has_lost(broker, channel, Position(epoch, offset))
                assert await self._offsets(broker, channel, since=Position(epoch, offset), reverse=True) == []

    async def test_a_history_of_one(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            await self._filled(broker, channel, 3, size=1)
            assert await self._offsets(broker, channel) == [3]

    async def test_publications_expire_and_numbers_go_on(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            epoch = await self._filled(broker, channel, 3, ttl_s=SHORT_S)
            await eventually(lambda: self._is_empty(broker, channel))
            assert await self._offsets(broker, channel, since=Position(epoch, 3)) == []
            assert await self._has_lost(broker, channel, Position(epoch, 2))
            appended = await broker.append(channel, b"4", self.history)
            assert appended.position == Position(epoch, 4)
            assert await self._offsets(broker, channel, since=Position(epoch, 3)) == [4]
            assert await self._has_lost(broker, channel, Position(epoch, 2))

    async def _is_empty(self, broker: HistoryBroker, channel: str) -> bool:
        return not (await broker.read(channel, replace(self.history, ttl_s=SHORT_S))).publications

    async def test_the_last_publication_keeps_the_others(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            await self._filled(broker, channel, 2, ttl_s=SHORT_S)
            await broker.append(channel, b"3", self.history)
            kept = await self._offsets(broker, channel)  # had the machine paused here, the two would be gone rightly
            await self._filled(broker, f"{channel}.marker", 1, ttl_s=SHORT_S)
            await eventually(lambda: self._is_empty(broker, f"{channel}.marker"))
            assert await self._offsets(broker, channel) == kept

    async def test_forgetting_begins_a_new_epoch(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker, channel) as sink:
            old = (await broker.append(channel, b"old", self.history, "key")).position
            await broker.forget(channel)
            found = await broker.read(channel, self.history)
            new = await broker.append(channel, b"new", self.history, "key")
            await sink.wait_for(channel, b"new")
            assert await self._has_lost(broker, channel, old)
        assert found.position.epoch != old.epoch
        assert (found.position.offset, list(found.publications), found.is_complete) == (0, [], True)
        assert new == Appended(Position(found.position.epoch, 1), False)

    async def test_an_append_begins_a_new_epoch_too(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            old = await self._filled(broker, channel, 2)
            await broker.forget(channel)
            appended = await broker.append(channel, b"new", self.history)
        assert appended.position.epoch != old
        assert appended.position.offset == 1

    async def test_forgetting_what_is_not_there_does_nothing(
        self, open_broker: OpenHistoryBroker, channel: str
    ) -> None:
        broker = open_broker()
        async with started(broker):
            await broker.forget(channel)
            await self._filled(broker, channel, 1)

    # Idempotency

    @any_name
    async def test_a_repetition_does_nothing(self, open_broker: OpenHistoryBroker, channel: str, name: str) -> None:
        broker = open_broker()
        async with started(broker, channel) as sink:
            first = await broker.append(channel, b"first", self.history, name)
            await broker.append(channel, b"second", self.history)
            repeated = await broker.append(channel, b"other", self.history, name)
            await broker.append(channel, b"marker", self.history)
            await sink.wait_for(channel, b"marker")
            found = await broker.read(channel, self.history)
        assert (first.is_repeat, repeated) == (False, Appended(first.position, True))
        assert sink.payloads(channel) == [b"first", b"second", b"marker"]
        assert [payload for _, payload in found.publications] == [b"first", b"second", b"marker"]

    async def test_an_empty_key_is_a_key(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            first = await broker.append(channel, b"first", self.history, "")
            assert await broker.append(channel, b"again", self.history, "") == Appended(first.position, True)

    async def test_a_key_is_known_in_one_channel(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker):
            one = await broker.append(channel, b"1", self.history, "key")
            other = await broker.append(f"{channel}.other", b"1", self.history, "key")
        assert not one.is_repeat
        assert not other.is_repeat

    async def test_overlapping_repetitions(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        await self._repeat_at_once(channel, open_broker())

    async def test_overlapping_repetitions_on_two_brokers(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        brokers = open_broker(), open_broker()
        needs_shared(brokers[0])
        await self._repeat_at_once(channel, *brokers)

    async def _repeat_at_once(self, channel: str, *brokers: HistoryBroker) -> None:
        async with all_started(brokers, channel) as sinks:
            calls = (broker.append(channel, b"once", self.history, "key") for _ in range(20) for broker in brokers)
            appended = await asyncio.gather(*calls)
            marker = await brokers[0].append(channel, b"marker", self.history)
            for sink in sinks:
                await sink.wait_for(channel, b"marker")
        first = Position(marker.position.epoch, 1)
        assert sorted(appended, key=lambda one: one.is_repeat) == [Appended(first, False)] + [Appended(first, True)] * (
            len(appended) - 1
        )
        assert marker.position == Position(first.epoch, 2)
        for sink in sinks:
            assert sink.payloads(channel) == [b"once", b"marker"]

    async def test_keys_are_forgotten_after_their_time(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker, history = open_broker(), replace(self.history, idempotency_ttl_s=SHORT_S)
        async with started(broker):
            await broker.append(channel, b"1", history, "key")

            async def is_forgotten() -> bool:
                appended = await broker.append(channel, b"2", history, "key")
                assert appended.position.offset == (1 if appended.is_repeat else 2)
                return not appended.is_repeat

            await eventually(is_forgotten)
            assert await self._offsets(broker, channel) == [1, 2]

    async def test_keys_outlive_the_publications(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker, history = open_broker(), replace(self.history, ttl_s=SHORT_S)
        async with started(broker):
            first = await broker.append(channel, b"1", history, "key")
            await eventually(lambda: self._is_empty(broker, channel))
            assert await broker.append(channel, b"1", history, "key") == Appended(first.position, True)

    async def test_the_newest_keys_are_kept(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker, history = open_broker(), replace(self.history, idempotency_keys=2)
        async with started(broker):
            for key in ("oldest", "middle", "newest"):
                await broker.append(channel, b"first", history, key)
            assert (await broker.append(channel, b"again", history, "newest")).is_repeat
            assert (await broker.append(channel, b"again", history, "middle")).is_repeat
            assert not (await broker.append(channel, b"again", history, "oldest")).is_repeat

    # Audience

    async def test_the_audience_is_who_has_subscribed(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker, channel, channel):
            assert await broker.audience(channel) == 1
            assert await broker.audience(f"{channel}.other") == 0
            await broker.unsubscribe(channel)
            await eventually(lambda: self._has_audience(broker, channel, 0))

    async def _has_audience(self, broker: HistoryBroker, channel: str, hubs: int) -> bool:
        return await broker.audience(channel) == hubs

    async def test_the_audience_of_two_brokers(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        one, other = open_broker(), open_broker()
        needs_shared(one)
        async with started(one, channel):
            async with started(other, channel):
                assert await one.audience(channel) == 2
                assert await other.audience(channel) == 2
            await eventually(lambda: self._has_audience(one, channel, 1))

    # Two brokers

    async def test_two_brokers_have_one_history(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        one, other = open_broker(), open_broker()
        needs_shared(one)
        async with started(one, channel) as here, started(other, channel) as there:
            readings = await asyncio.gather(*(broker.read(channel, self.history) for broker in (one, other)))
            first = await one.append(channel, b"1", self.history, "key")
            repeated = await other.append(channel, b"1", self.history, "key")
            second = await other.append(channel, b"2", self.history)
            await asyncio.gather(here.wait_for(channel, b"2"), there.wait_for(channel, b"2"))
            assert await self._offsets(one, channel) == await self._offsets(other, channel) == [1, 2]
        assert {found.position for found in readings} == {Position(first.position.epoch, 0)}
        assert repeated == Appended(first.position, True)
        assert second.position == Position(first.position.epoch, 2)
        assert here.deliveries == there.deliveries

    async def test_a_history_outlives_its_brokers(self, open_broker: OpenHistoryBroker, channel: str) -> None:
        one, other = open_broker(), open_broker()
        needs_shared(one)
        async with started(one):
            epoch = await self._filled(one, channel, 2)
        async with started(other):
            assert await self._offsets(other, channel, since=Position(epoch, 1)) == [2]
