"""The contract of `Broker` as tests."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from ...interfaces import Broker
from .kit import Delivery, OpenBroker, RecordingSink, any_name, anything, eventually, needs_shared, started

__all__ = ("BrokerConformance",)


class BrokerConformance:
    """What every `Broker` does. Override the fixture `open_broker`."""

    @pytest.fixture
    def open_broker(self) -> OpenBroker:
        """Return what opens a broker."""
        pytest.fail("override the fixture open_broker: let it return a function that returns a new broker")

    @pytest.fixture
    def channel(self) -> str:
        """Return a channel that no other test uses."""
        return f"conformance-{uuid4().hex}"

    async def test_publications_arrive_once_and_in_order(self, open_broker: OpenBroker, channel: str) -> None:
        sent = [b"%d" % number for number in range(200)]
        broker = open_broker()
        async with started(broker, channel) as sink:
            gaps = len(sink.gaps)  # it may have told one when it connected
            for payload in sent:
                await broker.publish(channel, payload)
            await sink.wait_for(channel, sent[-1])
            await broker.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")
        assert sink.deliveries == [Delivery(channel, payload, None) for payload in [*sent, b"marker"]]
        assert len(sink.gaps) == gaps

    async def test_subscribing_twice_delivers_once(self, open_broker: OpenBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker, channel, channel) as sink:
            await broker.publish(channel, b"once")
            await broker.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")
        assert sink.payloads(channel) == [b"once", b"marker"]

    async def test_only_subscribed_channels_are_heard(self, open_broker: OpenBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker, channel) as sink:
            for other in (f"{channel}.other", f"{channel}0", channel[:-1], channel.upper()):
                await broker.publish(other, b"unheard")
            await broker.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")
        assert [delivery.payload for delivery in sink.deliveries] == [b"marker"]

    async def test_a_name_is_no_pattern(self, open_broker: OpenBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker, f"{channel}*", f"{channel}?", f"{channel}[a]") as sink:
            await broker.publish(f"{channel}a", b"unheard")
            await broker.publish(f"{channel}*", b"marker")
            await sink.wait_for(f"{channel}*", b"marker")
        assert [delivery.payload for delivery in sink.deliveries] == [b"marker"]

    async def test_what_came_before_is_not_delivered(self, open_broker: OpenBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker) as sink:
            await broker.publish(channel, b"before")
            await broker.subscribe(channel)
            await broker.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")
        assert sink.payloads(channel) == [b"marker"]

    async def test_an_unsubscribed_channel_falls_silent(self, open_broker: OpenBroker, channel: str) -> None:
        broker, left = open_broker(), f"{channel}.left"
        async with started(broker, channel, left) as sink:
            await broker.unsubscribe(left)
            await eventually(lambda: self._is_silent(broker, sink, left, channel))
            heard = sink.payloads(left)
            await broker.publish(left, b"unheard")
            await broker.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")
            assert sink.payloads(left) == heard

    async def _is_silent(self, broker: Broker, sink: RecordingSink, channel: str, other: str) -> bool:
        """Publish on a channel and then on another that is heard; what is on its way may still be delivered."""
        marker = uuid4().bytes
        await broker.publish(channel, marker)
        await broker.publish(other, marker)
        await sink.wait_for(other, marker)
        return marker not in sink.payloads(channel)

    async def test_a_channel_is_heard_again(self, open_broker: OpenBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker, channel) as sink:
            await broker.unsubscribe(channel)
            await broker.subscribe(channel)
            await broker.publish(channel, b"again")
            await broker.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")
        assert sink.payloads(channel) == [b"again", b"marker"]

    async def test_unsubscribing_what_is_not_subscribed_does_nothing(
        self, open_broker: OpenBroker, channel: str
    ) -> None:
        broker = open_broker()
        async with started(broker, channel) as sink:
            await broker.unsubscribe(f"{channel}.other")
            await broker.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")

    async def test_calls_for_different_channels_may_overlap(self, open_broker: OpenBroker, channel: str) -> None:
        broker = open_broker()
        channels = [f"{channel}.{number}" for number in range(50)]
        kept, left = channels[::2], channels[1::2]
        async with started(broker, *left) as sink:
            await asyncio.gather(*map(broker.subscribe, kept), *map(broker.unsubscribe, left))
            await asyncio.gather(*(broker.publish(name, name.encode()) for name in kept))
            await asyncio.gather(*(sink.wait_for(name, name.encode()) for name in kept))
        assert sorted(delivery.channel for delivery in sink.deliveries) == sorted(kept)

    @anything
    async def test_a_payload_is_any_bytes(self, open_broker: OpenBroker, channel: str, payload: bytes) -> None:
        broker = open_broker()
        async with started(broker, channel) as sink:
            await broker.publish(channel, payload)
            delivery = await sink.wait_for(channel, payload)
        assert type(delivery.payload) is bytes

    @any_name
    async def test_a_channel_has_any_name(self, open_broker: OpenBroker, channel: str, name: str) -> None:
        broker, channel = open_broker(), f"{name}{channel}{name}"
        async with started(broker, channel) as sink:
            await broker.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")

    async def test_it_is_connected_while_it_is_open(self, open_broker: OpenBroker, channel: str) -> None:
        broker = open_broker()
        async with started(broker, channel):
            assert broker.is_connected
        assert not broker.is_connected

    async def test_closing_leaves_no_task(self, open_broker: OpenBroker, channel: str) -> None:
        before = asyncio.all_tasks()
        broker = open_broker()
        async with started(broker, channel) as sink:
            await broker.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")
        assert asyncio.all_tasks() <= before

    async def test_publications_reach_the_other_brokers(self, open_broker: OpenBroker, channel: str) -> None:
        one, other = open_broker(), open_broker()
        needs_shared(one)
        async with started(one, channel) as here, started(other, channel) as there, started(open_broker()) as silent:
            await one.publish(channel, b"first")
            await asyncio.gather(here.wait_for(channel, b"first"), there.wait_for(channel, b"first"))
            await other.publish(channel, b"second")
            await asyncio.gather(here.wait_for(channel, b"second"), there.wait_for(channel, b"second"))
        assert here.deliveries == there.deliveries == [Delivery(channel, b, None) for b in (b"first", b"second")]
        assert silent.deliveries == []

    async def test_all_subscribers_hear_the_same_order(self, open_broker: OpenBroker, channel: str) -> None:
        one, other = open_broker(), open_broker()
        needs_shared(one)
        async with started(one, channel) as here, started(other, channel) as there:
            await asyncio.gather(
                *(broker.publish(channel, b"%d" % number) for number in range(100) for broker in (one, other))
            )
            await one.publish(channel, b"marker")
            await asyncio.gather(here.wait_for(channel, b"marker"), there.wait_for(channel, b"marker"))
        assert here.deliveries == there.deliveries
        assert len(here.deliveries) == 201

    async def test_a_closed_broker_delivers_nothing(self, open_broker: OpenBroker, channel: str) -> None:
        closed, open_ = open_broker(), open_broker()
        needs_shared(closed)
        async with started(open_, channel) as sink:
            async with started(closed, channel) as silent:
                pass
            await open_.publish(channel, b"marker")
            await sink.wait_for(channel, b"marker")
        assert silent.deliveries == []
