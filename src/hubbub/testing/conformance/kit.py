"""What the suites share: payloads and names of every kind, a sink that records, brokers that are closed in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest

from ...interfaces import Broker, HistoryBroker, PresenceStore
from ...model import Position

__all__ = (
    "LONG_S",
    "SHORT_S",
    "Delivery",
    "OpenBroker",
    "OpenHistoryBroker",
    "OpenStore",
    "RecordingSink",
    "all_started",
    "any_name",
    "anything",
    "eventually",
    "needs_shared",
    "started",
)

OpenBroker = Callable[[], Broker]
"""Returns a new broker, not started, that meets the others of the same test."""
OpenHistoryBroker = Callable[[], HistoryBroker]
"""The same for a broker with history."""
OpenStore = Callable[[], AbstractAsyncContextManager[PresenceStore]]
"""Opens and closes a new presence store, with the same contents as the others of the same test."""

DEADLINE_S = 10.0
SHORT_S = 0.2
LONG_S = 60.0
MEGABYTE = 1_048_576

PAYLOADS = {
    "empty": b"",
    "NUL": b"\0",
    "all bytes": bytes(range(256)),
    "no UTF-8": b"\xff\xfe\xc3\x28",
    "lines": b"a\r\nb\n\n$3\r\nfoo\r\n",
    "a megabyte": b"\0\xffhubbub\r\n" * (MEGABYTE // 10),
}
NAMES = {
    "letters": "Größe-ñ-本-😀",
    "spaces": " two words ",
    "braces": "{a}{b",
    "pattern": "a*?[b]^c\\",
    "separators": "a:b/c|d,e;f=g&h#i",
    "control": "a\r\nb\tc\0d",
    "quotes": "'\"`$(x)%s%",
    "long": "n" * 200,
}

anything = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
any_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())


class Delivery(NamedTuple):
    """One call of `BrokerSink.deliver`."""

    channel: str
    payload: bytes
    position: Position | None


class RecordingSink:
    """A `BrokerSink` that remembers what it is given.

    Attributes:
        deliveries: What was delivered, in order.
        gaps: What `gap` was called with, in order.
    """

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.gaps: list[Collection[str] | None] = []
        self._news = asyncio.Event()

    def deliver(self, channel: str, payload: bytes, position: Position | None) -> None:
        """Remember a delivery."""
        self.deliveries.append(Delivery(channel, payload, position))
        self._news.set()

    def gap(self, channels: Collection[str] | None) -> None:
        """Remember a gap."""
        self.gaps.append(channels)

    def payloads(self, channel: str) -> list[bytes]:
        """Return what was delivered on a channel."""
        return [delivery.payload for delivery in self.deliveries if delivery.channel == channel]

    async def wait_for(self, channel: str, payload: bytes) -> Delivery:
        """Wait for a publication and return it as it was delivered first.

        Raises:
            TimeoutError: It has not come within 10 s.
        """
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for delivery in self.deliveries:
                    if delivery.channel == channel and delivery.payload == payload:
                        return delivery
                self._news.clear()
                await self._news.wait()


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so; `TimeoutError` if it is not within 10 s."""
    async with asyncio.timeout(DEADLINE_S):
        while not await is_so():  # noqa: ASYNC110 -- what is asked is elsewhere, and cannot set an event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def started(broker: Broker, *channels: str) -> AsyncIterator[RecordingSink]:
    """Start a broker on a sink and subscribe to channels; close it in the end."""
    sink = RecordingSink()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(broker.aclose)
        await broker.start(sink)
        for channel in channels:
            await broker.subscribe(channel)
        yield sink


@asynccontextmanager
async def all_started(brokers: Iterable[Broker], *channels: str) -> AsyncIterator[list[RecordingSink]]:
    """Start several brokers like `started`."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(started(broker, *channels)) for broker in brokers]


def needs_shared(broker: Broker) -> None:
    """Skip a test for which two brokers have to meet."""
    if not broker.is_shared:
        pytest.skip(f"{type(broker).__name__}.is_shared is False: it meets no other broker")
