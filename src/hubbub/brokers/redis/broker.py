"""Hubs of many processes on one Redis."""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection

from ...config import History
from ...interfaces import Appended, BrokerSink, HistorySlice, StoredPublication
from ...model import Position
from .address import Address
from .cluster import Cluster
from .commands import Commands
from .dialect import PLAIN, SHARDED
from .link import Journal
from .names import Names
from .script import Script
from .subscriptions import Subscriptions, Timing

__all__ = ("KEPT_S", "RedisBroker", "milliseconds")

KEPT_S = 3_600
"""Seconds for which a history that nobody uses keeps its epoch and its offset when all else of it has ended."""

# Each publication begins with one of these, so that what a stranger has published is not taken for a position.
_PLAIN = b"\x01"
_NUMBERED = b"\x02"

_APPEND = Script("life", "append")
_READ = Script("life", "read")

_HEADER_BYTES = 100  # more than the longest epoch and the longest offset need
_LONGEST_S = 1e9  # 31 years: Redis counts milliseconds since 1970 in 64 bits


class RedisBroker:
    """A `HistoryBroker` on Redis 6.2 or later, or on a cluster of Redis 7.

    Publications go by pub/sub, and those with a position are also in a stream, which one script writes and publishes
    from, so the order is the same everywhere. Redis tells nobody what it has lost; see `Subscriptions` for how a gap is
    found. When Redis has lost its data, or has evicted them, the history begins anew with another epoch. For what it
    may have lost in a restart or a failover, see life.lua.

    Args:
        url: See `Address.parse`.
        timing: How long to wait.

    Raises:
        ValueError: The URL is none.
    """

    is_shared: bool = True

    def __init__(self, url: str, timing: Timing = Timing()) -> None:  # noqa: B008 - it is frozen
        self._address = Address.parse(url)
        self._journal = Journal(self._address)
        self._timing = timing
        is_sharded = bool(self._address.seeds)
        self._dialect = SHARDED if is_sharded else PLAIN
        self.names = Names(self._address.prefix, self._address.database, is_sharded=is_sharded)
        self._identity = secrets.token_hex(8)
        self.commands: Commands | Cluster = self._cluster() if is_sharded else self._server()
        self._subscriptions: Subscriptions | Cluster | None = None
        self._sink: BrokerSink | None = None

    def __repr__(self) -> str:
        return f"<RedisBroker {self._address.shown}>"

    async def start(self, sink: BrokerSink) -> None:
        """Connect and deliver to `sink` from now on; while Redis is away, that goes on after this has returned."""
        self._sink = sink
        self.commands.start()
        if isinstance(self.commands, Cluster):
            self._subscriptions = self.commands
        else:
            self._subscriptions = self._heard_by(self.commands)
            self._subscriptions.start()
        await self._subscriptions.up_once()

    def _cluster(self) -> Cluster:
        return Cluster(
            self._address,
            self._journal,
            beacon=lambda number: self.names.beacon(f"{self._identity}.{number}"),
            timing=self._timing,
            deliver=self._deliver,
            gap=self._gap,
        )

    def _server(self) -> Commands:
        return Commands(self._address, self._journal, self._timing.command_s, self._timing.wait_s)

    def _heard_by(self, commands: Commands) -> Subscriptions:
        return Subscriptions(
            self._address,
            commands,
            self._journal,
            beacon=self.names.beacon(self._identity),
            timing=self._timing,
            deliver=self._deliver,
            gap=self._gap,
        )

    async def subscribe(self, channel: str) -> None:
        """Hear a channel from when Redis has confirmed it; see `Broker.subscribe`."""
        await self._started.subscribe(self.names.channel(channel), channel)

    async def unsubscribe(self, channel: str) -> None:
        """Hear a channel no more."""
        await self._started.unsubscribe(self.names.channel(channel))

    async def publish(self, channel: str, payload: bytes) -> None:
        """Publish, and return when Redis has it; see `Broker.publish`."""
        await self.commands.call(self._dialect.publish, self.names.channel(channel), _PLAIN + payload)

    @property
    def is_connected(self) -> bool:
        """Whether all channels are subscribed, as far as is known."""
        return self._subscriptions is not None and self._subscriptions.is_up

    async def aclose(self) -> None:
        """End."""
        self._sink = None
        if self._subscriptions is not None:
            await self._subscriptions.aclose()
        await self.commands.aclose()

    async def append(
        self, channel: str, payload: bytes, history: History, idempotency_key: str | None = None
    ) -> Appended:
        """Number, store and publish in one step; see `HistoryBroker.append`."""
        key: tuple[bytes | int, ...] = ()
        if idempotency_key is not None:
            key_ms = milliseconds(history.idempotency_ttl_s)
            key = (idempotency_key.encode("utf-8", "surrogatepass"), key_ms, history.idempotency_keys)
        epoch, offset, is_repeat = await self.commands.run(
            _APPEND,
            self.names.history(channel),
            self._dialect.publish,
            self.names.channel(channel),
            payload,
            _NUMBERED,
            secrets.token_hex(8),
            history.size,
            milliseconds(history.ttl_s),
            _meta_ms(history),
            *key,
        )
        return Appended(Position(epoch.decode(), int(offset)), is_repeat == 1)

    async def read(
        self,
        channel: str,
        history: History,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistorySlice:
        """Read publications in one step; see `HistoryBroker.read`."""
        epoch, top, is_complete, entries, floor = await self.commands.run(
            _READ,
            self.names.history(channel),
            secrets.token_hex(8),
            _meta_ms(history),
            since.epoch if since is not None else "",
            since.offset if since is not None else "",
            limit if limit is not None else -1,
            int(reverse),
        )
        publications = [StoredPublication(int(id_.partition(b"-")[0]), fields[1]) for id_, fields in entries]
        return HistorySlice(Position(epoch.decode(), int(top)), publications, is_complete == 1, int(floor))

    async def audience(self, channel: str) -> int:
        """Return how many hubs are subscribed to a channel; one that was cut off counts until Redis notices."""
        _, subscribers = await self.commands.call(b"PUBSUB", self._dialect.subscribers, self.names.channel(channel))
        return int(subscribers)

    async def forget(self, channel: str) -> None:
        """Delete a channel's history."""
        await self.commands.call("DEL", *self.names.history(channel))

    @property
    def _started(self) -> Subscriptions | Cluster:
        if self._subscriptions is None:
            raise RuntimeError("start the broker before using it")
        return self._subscriptions

    def _deliver(self, channel: str, data: bytes) -> None:
        if self._sink is not None:
            self._sink.deliver(channel, *_taken_apart(data))

    def _gap(self, channels: Collection[str] | None) -> None:
        if self._sink is not None:
            self._sink.gap(channels)


def milliseconds(seconds: float) -> int:
    """Return a time to live as Redis takes it."""
    return math.ceil(min(seconds, _LONGEST_S) * 1000)


def _meta_ms(history: History) -> int:
    return milliseconds(max(history.ttl_s, history.idempotency_ttl_s) + KEPT_S)


def _taken_apart(data: bytes) -> tuple[bytes, Position | None]:
    """Return the payload and the position of a publication; what is not one of ours is a payload as it is."""
    if data.startswith(_PLAIN):
        return data[1:], None
    end = data.find(b"\n", 1, _HEADER_BYTES)
    if data.startswith(_NUMBERED) and end > 0:
        try:
            return data[end + 1 :], Position.parse(data[1:end].decode("ascii"))
        except ValueError:
            pass
    return data, None
