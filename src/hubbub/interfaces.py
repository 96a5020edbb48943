"""The seams: what one part of Hubbub asks of another, as contracts.

All calls here are made in the event loop's thread. Those that are no coroutine functions do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from .config import Drain, Heartbeat, History
from .model import Data, Position
from .wire.prepared import Encoding, PreparedFrame

__all__ = (
    "Appended",
    "Broker",
    "BrokerSink",
    "Clock",
    "Departure",
    "Entered",
    "HistoryBroker",
    "HistorySlice",
    "PresenceEntry",
    "PresenceStore",
    "Sharing",
    "StoredPublication",
    "Timer",
    "Transport",
    "TransportSettings",
    "TransportUser",
)


class Timer(Protocol):
    """A call that is due."""

    def cancel(self) -> None:
        """Withdraw the call. Does nothing when it was made or withdrawn already."""


class Clock(Protocol):
    """Time in seconds, from an arbitrary start, and calls at a time. `asyncio` loops and `ManualClock` give one."""

    def time(self) -> float:
        """Return the time now; it never goes back."""

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once when the time is `when`, in order of time."""


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """What a hub asks of the transports of its connections; each does what it can.

    Args:
        message_bytes: Size of a message from the peer at most, or `None` for any.
        message_fragments: Frames that a message may come in, or `None` for any.
        heartbeat: When to ask whether the peer is there.
        drain: How to end many connections when the server stops.
    """

    message_bytes: int | None = None
    message_fragments: int | None = None
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    drain: Drain = field(default_factory=Drain)


class Sharing(Protocol):
    """What a transport can do that takes messages which were encoded once for many connections."""

    @property
    def encoding(self) -> Encoding:
        """What makes of messages what `write_encoded` takes; does not change after `Transport.start`."""

    @property
    def write_encoded(self) -> Callable[[bytes], object]:
        """Like `Transport.write`, for several messages at once that have been through `encoding`."""


class Transport(Protocol):
    """One accepted WebSocket, as its hub sees it.

    Messages leave in the order of `write` and `Sharing.write_encoded`. What was written is lost when the connection is.
    """

    @property
    def sharing(self) -> Sharing | None:
        """How it takes what was encoded for many, or `None` where it has to be given messages one by one."""

    def start(self, user: TransportUser, settings: TransportSettings) -> None:
        """Deliver what arrives to `user` from now on. Called once, before anything else."""

    def write(self, frame: PreparedFrame) -> None:
        """Take a message to be sent. May call `user.congested()` before it returns; takes it even when congested."""

    def close(self, code: int, reason: str) -> None:
        """End the connection at once with this close code, and call `user.lost`, perhaps before returning.

        What was written and has not left yet may be lost: whoever wants it delivered waits for `writable` first.
        """

    def abort(self) -> None:
        """End the connection without a close frame and call `user.lost` before returning, unless it has been."""

    def pause_reading(self) -> None:
        """Deliver no more messages, though some that are already on their way may still come."""

    def resume_reading(self) -> None:
        """Deliver messages again."""

    @property
    def round_trip_s(self) -> float | None:
        """How long the last answer to the heartbeat took, or `None` where that is not known."""


class TransportUser(Protocol):
    """The counterpart of a `Transport`: the connection that it carries."""

    def received(self, data: Data) -> None:
        """A message has arrived."""

    def control_received(self) -> None:
        """A ping has arrived, or a pong that was not asked for. It has been answered, but counts as a message does."""

    def violated(self, limit: str) -> None:
        """The peer has gone over a limit that the transport holds; it is closed for that, and `lost` follows."""

    def congested(self) -> None:
        """What is written from now on waits in the transport; write no more until `writable`."""

    def writable(self) -> None:
        """The transport has room again."""

    def draining(self) -> None:
        """The server stops: it is this connection's turn to be closed with 1012."""

    def application_ended(self, code: int) -> None:
        """The application's call for this connection is over: close it with `code`, unless it is to outlive that."""

    def lost(self, code: int, reason: str) -> None:
        """The connection has ended, with the peer's close code or 1006. Comes exactly once, and nothing after it."""


class BrokerSink(Protocol):
    """What a broker delivers to: the hub. None of these raises, none waits."""

    def deliver(self, channel: str, payload: bytes, position: Position | None) -> None:
        """Something was published on a channel that is subscribed, or was until a moment ago.

        Calls for one channel come in the broker's order, which is the same for all its subscribers.

        Args:
            channel: The channel.
            payload: What was given to `publish` or `append`; or anything else, if a stranger has published.
            position: Where `append` has put it, or `None` after a `publish`.
        """

    def gap(self, channels: Collection[str] | None) -> None:
        """Publications may have been lost; the subscriptions are in place again. `None` means on all channels."""


class Broker(Protocol):
    """Carries publications between hubs, as bytes that it does not look into.

    A publication reaches every subscriber that is subscribed when it is published, at most once; what may have been
    lost on the way is told by `BrokerSink.gap`, and what the broker knows to be unsent raises `BrokerUnavailable`.
    Calls for different channels may overlap. Those of `subscribe` and `unsubscribe` for one channel do not.
    Every call is bounded in time. Cancelling one leaves it open whether it has taken effect.
    """

    is_shared: bool
    """Whether hubs of other processes can be on the same broker."""

    async def start(self, sink: BrokerSink) -> None:
        """Begin. Called once, before anything else; succeeds while the broker is away, and connects by itself then."""

    async def subscribe(self, channel: str) -> None:
        """Hear a channel: what is published after this has returned is delivered, across reconnections too.

        Raises:
            BrokerUnavailable: It is away; nothing is subscribed then.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Hear a channel no more; what is on its way may still be delivered. Succeeds while the broker is away."""

    async def publish(self, channel: str, payload: bytes) -> None:
        """Publish; return when the broker has it.

        Raises:
            BrokerUnavailable: It is away, or has not answered in time: see `published`.
        """

    @property
    def is_connected(self) -> bool:
        """Whether publications of others arrive, as far as it knows."""

    async def aclose(self) -> None:
        """End: no subscription, task or connection stays, and nothing is delivered any more."""


class Appended(NamedTuple):
    """What `HistoryBroker.append` has done: the publication's position, and whether its key was there already."""

    position: Position
    is_repeat: bool


class StoredPublication(NamedTuple):
    """One publication of a history."""

    offset: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class HistorySlice:
    """What `HistoryBroker.read` has found.

    Args:
        position: The position of the channel's last publication at the time of the reading; offset 0 before the first.
        publications: What was asked for, in the order that was asked for.
        is_complete: Whether nothing was lost between `since` and the first of them: `since` is of this epoch, not from
            the future, and whatever comes after it is still there. `True` without `since`.
        floor: The last offset that is of an earlier epoch, where the data of that are still there and the offsets have
            gone on; what comes after it was published in this one.
    """

    position: Position
    publications: Sequence[StoredPublication]
    is_complete: bool
    floor: int = 0


class HistoryBroker(Broker, Protocol):
    """A `Broker` that numbers and keeps publications."""

    async def append(
        self, channel: str, payload: bytes, history: History, idempotency_key: str | None = None
    ) -> Appended:
        """Number, store and publish in one atomic step; the offsets of an epoch are 1, 2, 3, … without a hole.

        A channel that has no epoch, since it is new or its data was lost, gets a new one. With a key that was used
        within `history.idempotency_ttl_s` nothing happens, and the position of the first time is returned.

        Raises:
            BrokerUnavailable: It is away, or has not answered in time: see `published`.
        """

    async def read(
        self,
        channel: str,
        history: History,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistorySlice:
        """Read publications in one atomic step; gives a channel without one an epoch.

        Args:
            channel: The channel.
            history: Its settings.
            since: Read what comes after this position, or with `reverse` what came before it. Without it, all.
            limit: The most publications to return, 0 or more, or `None` for all.
            reverse: From the newest to the oldest.

        Raises:
            BrokerUnavailable: It is away.
        """

    async def audience(self, channel: str) -> int:
        """Return how many hubs are subscribed to a channel.

        Raises:
            BrokerUnavailable: It is away.
        """

    async def forget(self, channel: str) -> None:
        """Delete a channel's history: it begins anew with the next epoch.

        Raises:
            BrokerUnavailable: It is away.
        """


@dataclass(frozen=True, slots=True)
class PresenceEntry:
    """One connection in a channel.

    Args:
        connection: Its id, unique across all workers.
        user: Who it is, or `None` for nobody in particular.
        info: What the application says of it, as JSON has it.
        since: When it joined, in seconds since 1970.
    """

    connection: str
    user: str | None
    info: Any
    since: float


class Entered(NamedTuple):
    """What `PresenceStore.enter` has done: whether the user was not there before, and the user's connections now."""

    is_first: bool
    connections: int


class Departure(NamedTuple):
    """A user is in a channel no more."""

    channel: str
    user: str


class PresenceStore(Protocol):
    """Who is in which channel, across workers; each connection by a lease, which ends unless it is refreshed.

    Entries without a user count as connections only: they are not listed, `is_first` is `False` and they depart
    unseen. Each call is atomic and bounded in time.
    """

    async def enter(self, channel: str, entry: PresenceEntry, lease_s: float) -> Entered:
        """Put a connection in a channel; entering again replaces the entry.

        Raises:
            BrokerUnavailable: It is away.
        """

    async def leave(self, channel: str, connection: str) -> Departure | None:
        """Take a connection out; return the user if that was the last connection of one.

        Raises:
            BrokerUnavailable: It is away.
        """

    async def refresh(self, entries: Mapping[str, Collection[PresenceEntry]], lease_s: float) -> Sequence[Departure]:
        """Renew the leases of all connections of this worker, by channel, in one round trip; enter those that are
        missing. Take out whose lease has ended in these channels, and return users that are gone with that; each is
        returned by one call only, whichever worker has made it.

        Raises:
            BrokerUnavailable: It is away.
        """

    async def members(self, channel: str) -> Sequence[PresenceEntry]:
        """Return the connections of users, the earliest first, without those whose lease has ended.

        Raises:
            BrokerUnavailable: It is away.
        """

    async def count(self, channel: str) -> tuple[int, int]:
        """Return the numbers of connections and of users, without those whose lease has ended.

        Raises:
            BrokerUnavailable: It is away.
        """

    async def aclose(self) -> None:
        """End."""
