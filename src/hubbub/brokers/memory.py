"""One process alone: what is published reaches the hub in the same call, and all state is in memory."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice

from ..config import History
from ..interfaces import (
    Appended,
    BrokerSink,
    Clock,
    Departure,
    Entered,
    HistorySlice,
    PresenceEntry,
    StoredPublication,
)
from ..model import Position
from ..state.roster import Roster
from ..state.stream import Stream
from ..state.wheel import TimingWheel

__all__ = ("KEPT_S", "MemoryBroker", "MemoryPresenceStore")

KEPT_S = 3_600
"""Seconds for which a channel that nobody uses keeps its epoch and its offset when all else of its history has ended:
a client that comes back within them, and has missed nothing, is told so."""

_TICK_S = 1.0
_SWEPT = 100  # channels looked at in one call: more than one call adds, so they never pile up, and no call takes long
_LOOKED_AT_S = 86_400.0  # at the latest, since a time to live may be infinite


def _new_epoch() -> str:
    return secrets.token_hex(8)


class MemoryBroker:
    """A `HistoryBroker` for one hub.

    Args:
        clock: The time.
        new_epoch: Makes the name of a new history, from 1 to 64 of `A–Z a–z 0–9 _ -`, another one each time.
    """

    is_shared: bool = False

    def __init__(self, clock: Clock, new_epoch: Callable[[], str] = _new_epoch) -> None:
        self._clock = clock
        self._streams = _Streams(new_epoch)
        self._subscribed: set[str] = set()
        self._sink: BrokerSink | None = None

    async def start(self, sink: BrokerSink) -> None:
        """Deliver to `sink` from now on."""
        self._sink = sink

    async def subscribe(self, channel: str) -> None:
        """Hear a channel."""
        self._subscribed.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        """Hear a channel no more."""
        self._subscribed.discard(channel)

    async def publish(self, channel: str, payload: bytes) -> None:
        """Deliver before this returns."""
        self._deliver(channel, payload, None)

    @property
    def is_connected(self) -> bool:
        """Whether it is open."""
        return self._sink is not None

    async def aclose(self) -> None:
        """Forget everything."""
        self._sink = None
        self._subscribed.clear()
        self._streams.clear()

    async def append(
        self, channel: str, payload: bytes, history: History, idempotency_key: str | None = None
    ) -> Appended:
        """Number, store and deliver before this returns; see `HistoryBroker.append`."""
        appended = self._streams.append(channel, payload, history, idempotency_key, self._clock.time())
        if not appended.is_repeat:
            self._deliver(channel, payload, appended.position)
        return appended

    async def read(
        self,
        channel: str,
        history: History,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistorySlice:
        """Read publications; see `HistoryBroker.read`."""
        now = self._clock.time()
        position, publications, is_complete = self._streams.use(channel, history, now).read(since, limit, reverse, now)
        return HistorySlice(position, [StoredPublication(*stored) for stored in publications], is_complete)

    async def audience(self, channel: str) -> int:
        """Return 1 if the hub is subscribed to a channel, or else 0."""
        return int(channel in self._subscribed)

    async def forget(self, channel: str) -> None:
        """Delete a channel's history."""
        self._streams.forget(channel)

    def _deliver(self, channel: str, payload: bytes, position: Position | None) -> None:
        if self._sink is not None and channel in self._subscribed:
            self._sink.deliver(channel, payload, position)


class _Kept:
    """A stream, until when it is kept, and the slot of the wheel in which it waits to be looked at."""

    __slots__ = ("slot", "stream", "until")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.until = 0.0
        self.slot = 0


class _Streams:
    """The streams of all channels, each until nobody has used it for long.

    No task watches over them: every use looks at some that are due. A stream is due when its publications expire, which
    are taken out then, and later when it is to be forgotten. Its slot is only moved when it has to be looked at
    earlier; one that was used meanwhile is put back.
    """

    def __init__(self, new_epoch: Callable[[], str]) -> None:
        self._new_epoch = new_epoch
        self.clear()

    def clear(self) -> None:
        """Forget all of them."""
        self._kept: dict[str, _Kept] = {}
        self._wheel: TimingWheel[str] = TimingWheel(_TICK_S)

    def __len__(self) -> int:
        return len(self._kept)

    def use(self, channel: str, history: History, now: float) -> Stream:
        """Return the stream of a channel, a new one if there is none, and keep it from now on as `history` says."""
        return self._use(channel, history, now).stream

    def append(self, channel: str, payload: bytes, history: History, key: str | None, now: float) -> Appended:
        """Append to a channel's stream, unless `key` tells a repetition."""
        kept = self._use(channel, history, now)
        repeated = kept.stream.find(key, now) if key is not None else None
        if repeated is not None:
            return Appended(repeated, True)
        was_empty = not kept.stream
        position = kept.stream.append(payload, history, now, key)
        if was_empty:
            self._wheel.remove(channel, kept.slot)
            self._wait(channel, kept, now)
        return Appended(position, False)

    def forget(self, channel: str) -> None:
        """Forget the stream of a channel, if there is one."""
        kept = self._kept.pop(channel, None)
        if kept is not None:
            self._wheel.remove(channel, kept.slot)

    def _use(self, channel: str, history: History, now: float) -> _Kept:
        self._sweep(now)
        kept = self._kept.get(channel)
        is_new = kept is None
        if kept is None:
            kept = self._kept[channel] = _Kept(Stream(self._new_epoch()))
        kept.until = max(kept.until, now + max(history.ttl_s, history.idempotency_ttl_s) + KEPT_S)
        if is_new:
            self._wait(channel, kept, now)
        return kept

    def _sweep(self, now: float) -> None:
        for channel in islice(self._wheel.expire(now), _SWEPT):
            kept = self._kept[channel]
            if kept.until <= now:
                del self._kept[channel]
            else:
                kept.stream.expire(now)
                self._wait(channel, kept, now)

    def _wait(self, channel: str, kept: _Kept, now: float) -> None:
        due = kept.stream.expires_at if kept.stream else kept.until
        kept.slot = self._wheel.add(channel, min(due, now + _LOOKED_AT_S))


class MemoryPresenceStore:
    """A `PresenceStore` for one process.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rosters: dict[str, Roster[PresenceEntry]] = {}

    async def enter(self, channel: str, entry: PresenceEntry, lease_s: float) -> Entered:
        """Put a connection in a channel; see `PresenceStore.enter`."""
        now = self._clock.time()
        return Entered(*self._rosters.setdefault(channel, Roster()).enter(entry, now + lease_s, now))

    async def leave(self, channel: str, connection: str) -> Departure | None:
        """Take a connection out; see `PresenceStore.leave`."""
        roster = self._rosters.get(channel)
        user = roster.leave(connection, self._clock.time()) if roster is not None else None
        self._tidy(channel)
        return Departure(channel, user) if user is not None else None

    async def refresh(self, entries: Mapping[str, Collection[PresenceEntry]], lease_s: float) -> Sequence[Departure]:
        """Renew leases and take out those that have ended; see `PresenceStore.refresh`."""
        now = self._clock.time()
        return [
            Departure(channel, user)
            for channel, renewed in entries.items()
            for user in self._refresh(channel, renewed, now + lease_s, now)
        ]

    def _refresh(self, channel: str, entries: Collection[PresenceEntry], until: float, now: float) -> list[str]:
        roster = self._rosters.setdefault(channel, Roster())
        for entry in entries:
            roster.enter(entry, until, now)
        departed = roster.expire(now)
        self._tidy(channel)
        return departed

    async def members(self, channel: str) -> Sequence[PresenceEntry]:
        """Return the connections of users, the earliest first."""
        roster = self._rosters.get(channel)
        return roster.members(self._clock.time()) if roster is not None else []

    async def count(self, channel: str) -> tuple[int, int]:
        """Return the numbers of connections and of users."""
        roster = self._rosters.get(channel)
        return roster.count(self._clock.time()) if roster is not None else (0, 0)

    async def aclose(self) -> None:
        """Forget everything."""
        self._rosters.clear()

    def _tidy(self, channel: str) -> None:
        """Keep no roster of a channel that nobody is in."""
        if channel in self._rosters and not self._rosters[channel]:
            del self._rosters[channel]
