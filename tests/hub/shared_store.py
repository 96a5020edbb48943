"""A broker that several hubs of one test share: the test says what is delivered when, what is lost, and what fails."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from hubbub.config import History, Limits, Outbox
from hubbub.errors import BrokerUnavailable
from hubbub.hub.admission import Admission
from hubbub.hub.connection import CoreConnection, Settings
from hubbub.hub.hub import PLAIN, ChannelOptions, CoreHub
from hubbub.interfaces import Appended, BrokerSink, HistorySlice, StoredPublication
from hubbub.model import Position
from hubbub.testing import ManualClock, RecordingTransport

Delivery = tuple[str, bytes, Position | None]

REMEMBERS = ChannelOptions(history=History())


def options_of(channel: str) -> ChannelOptions:
    """Return what the family of a channel has declared: those that begin with `room` have history."""
    return REMEMBERS if channel.startswith("room") else PLAIN


async def turns(number: int = 30) -> None:
    """Let the loop run: by default until all has come to rest that waits for nothing from outside."""
    for _ in range(number):
        await asyncio.sleep(0)


class Stored:
    """The history of one channel."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.payloads: list[bytes] = []
        self.trimmed = 0
        self.floor = 0

    @property
    def position(self) -> Position:
        return Position(self.epoch, len(self.payloads))


class Store:
    """What the brokers of all hubs have in common."""

    def __init__(self) -> None:
        self.brokers: list[SharedBroker] = []
        self.streams: dict[str, Stored] = {}
        self._epochs = count(1)

    def broker(self) -> SharedBroker:
        self.brokers.append(SharedBroker(self))
        return self.brokers[-1]

    def stream(self, channel: str) -> Stored:
        if channel not in self.streams:
            self.streams[channel] = Stored(f"e{next(self._epochs)}")
        return self.streams[channel]

    def trim(self, channel: str, keep: int = 0) -> None:
        """Keep the last publications only."""
        stream = self.stream(channel)
        stream.trimmed = len(stream.payloads) - keep

    def begin_anew(self, channel: str) -> None:
        """Lose the channel's data."""
        del self.streams[channel]

    def go_on(self, channel: str, kept: int) -> None:
        """Keep the first publications only, and go on in a new epoch, as a server that has restarted."""
        old = self.streams.pop(channel)
        new = self.stream(channel)
        new.payloads = old.payloads[:kept]
        new.floor = kept

    def append(self, channel: str, payload: bytes) -> Position:
        """Publish on a channel with history, as anybody may who reaches the broker."""
        stream = self.stream(channel)
        stream.payloads.append(payload)
        self.publish(channel, payload, stream.position)
        return stream.position

    def publish(self, channel: str, payload: bytes, position: Position | None) -> None:
        for broker in self.brokers:
            broker.take(channel, payload, position)


class SharedBroker:
    """A `HistoryBroker` for one hub.

    Attributes:
        is_holding: Whether deliveries wait in `in_flight` until the test lets them go.
        away: The names of the calls that fail, once each if they stand in `fails_once`.
        gates: Where calls wait: before they take effect under their name, afterwards under `name answer`.
    """

    is_shared = True
    is_connected = True

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sink: BrokerSink | None = None
        self.subscribed: set[str] = set()
        self.is_holding = False
        self.in_flight: deque[Delivery] = deque()
        self.away: set[str] = set()
        self.gates: dict[str, asyncio.Event] = {}
        self.lag: int = 0
        self.calls: Counter[str] = Counter()

    # What a test does

    def gate(self, name: str) -> asyncio.Event:
        self.gates[name] = asyncio.Event()
        return self.gates[name]

    def take(self, channel: str, payload: bytes, position: Position | None) -> None:
        if channel in self.subscribed:
            self.in_flight.append((channel, payload, position))
            if not self.is_holding:
                self.deliver()

    def deliver(self, number: int | None = None, times: int = 1) -> None:
        """Deliver so many of what is in flight, or all."""
        for _ in range(len(self.in_flight) if number is None else number):
            delivery = self.in_flight.popleft()
            assert self.sink is not None
            for _ in range(times):
                self.sink.deliver(*delivery)

    def drop(self, number: int = 1) -> None:
        for _ in range(number):
            self.in_flight.popleft()

    async def _call(self, name: str) -> None:
        self.calls[name] += 1
        for _ in range(self.lag):
            await asyncio.sleep(0)
        if name in self.gates:
            await self.gates[name].wait()
        if name in self.away:
            raise BrokerUnavailable(f"{name}: away")

    async def _answer(self, name: str) -> None:
        for _ in range(self.lag):
            await asyncio.sleep(0)
        if f"{name} answer" in self.gates:
            await self.gates[f"{name} answer"].wait()

    # What the hub does

    async def start(self, sink: BrokerSink) -> None:
        self.sink = sink

    async def subscribe(self, channel: str) -> None:
        await self._call("subscribe")
        assert channel not in self.subscribed
        self.subscribed.add(channel)
        await self._answer("subscribe")

    async def unsubscribe(self, channel: str) -> None:
        await self._call("unsubscribe")
        self.subscribed.remove(channel)
        await self._answer("unsubscribe")

    async def publish(self, channel: str, payload: bytes) -> None:
        await self._call("publish")
        self.store.publish(channel, payload, None)
        await self._answer("publish")

    async def append(
        self, channel: str, payload: bytes, history: History, idempotency_key: str | None = None
    ) -> Appended:
        await self._call("append")
        position = self.store.append(channel, payload)
        await self._answer("append")
        return Appended(position, False)

    async def read(
        self,
        channel: str,
        history: History,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistorySlice:
        await self._call("read")
        stream = self.store.stream(channel)
        first = stream.trimmed
        is_complete = True
        if since is not None:
            is_complete = since.epoch == stream.epoch and stream.trimmed <= since.offset <= len(stream.payloads)
            first = since.offset
        kept = list(enumerate(stream.payloads, 1))[first:] if is_complete else []
        found = [StoredPublication(*one) for one in kept[:limit]]
        answer = HistorySlice(stream.position, found, is_complete, stream.floor)
        await self._answer("read")
        return answer

    async def audience(self, channel: str) -> int:
        await self._call("audience")
        return sum(channel in broker.subscribed for broker in self.store.brokers)

    async def forget(self, channel: str) -> None:
        self.store.begin_anew(channel)

    async def aclose(self) -> None:
        self.subscribed.clear()


class Node:
    """One hub with its broker."""

    def __init__(self, store: Store, clock: ManualClock, options_of: Callable[[str], ChannelOptions]) -> None:
        self.broker = store.broker()
        self.clock = clock
        self.hub = CoreHub(
            clock=clock,
            admission=Admission(Limits()),
            options_of=options_of,
            call_soon=asyncio.get_running_loop().call_soon,
            broker=self.broker,
        )

    async def connected(
        self, user: str | None = None, outbox: Outbox = Outbox(), limits: Limits = Limits()
    ) -> tuple[CoreConnection, RecordingTransport]:
        """Return an open connection, and the transport that carries it."""
        connection = CoreConnection(self.hub, Settings(limits, outbox, "reply", (self.hub.admission,)), None)
        connection.user = user
        self.hub.admit(connection)
        await self.hub.arrive(connection)
        transport = RecordingTransport()
        connection.open(transport)
        return connection, transport

    def leftovers(self) -> dict[str, Any]:
        """Return what the hub holds of public channels: nothing, when nobody hears one."""
        hub, exchange = self.hub, self.hub.exchange
        assert exchange._interest is not None
        held: dict[str, Iterable[object]] = {
            "options": hub._options,
            "lines": exchange._lines,
            "reads": exchange._reads,
            "under way": exchange._under_way,
            "joins": hub._joins,
            "wanted": exchange._interest._wanted,
            "waiting": exchange._interest._waiting,
            "subscribed": self.broker.subscribed,
            "index": set(hub._index.names()),
            "plans": hub._fanout._plans,
        }
        return {
            name: public for name, names in held.items() if (public := [x for x in names if not str(x).startswith("$")])
        }
