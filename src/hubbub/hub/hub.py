"""The core of a hub: the connections of this process and the channels that they hear.

Everyone hears `$all`, the connections of a user hear `$user:<id>`; a broadcast and a send to a user are publications
on these reserved channels, so there is one way to reach many.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from ..errors import Denied
from ..interfaces import Clock, Timer
from ..model import OutboxPolicy
from ..state.index import ChannelIndex
from ..wire.prepared import payload_size
from .admission import Admission
from .connection import CoreConnection
from .eager import Eager
from .fanout import Fanout, prepare
from .statistics import Counters, Statistics

__all__ = ("EVERYONE", "CoreHub", "user_channel")

logger = logging.getLogger("hubbub")

EVERYONE = "$all"
_USER = "$user:"


def user_channel(user: str) -> str:
    """Return the reserved channel that the connections of `user` hear."""
    return _USER + user


class CoreHub:
    """Who is connected and who hears what, in this process.

    Args:
        clock: The time, and calls at a time.
        admission: The counts against the hub's own limits.
        policy_of: The policy that a channel's family has declared, or `None`.
        call_soon: Calls a function in one of the loop's next turns.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        admission: Admission,
        policy_of: Callable[[str], OutboxPolicy | None],
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self.clock = clock
        self.admission = admission
        self.counters = Counters()
        self.connections: dict[str, CoreConnection] = {}
        self.is_draining = False
        self.held: dict[CoreConnection, None] = {}
        self._policy_of = policy_of
        self._policies: dict[str, OutboxPolicy | None] = {}
        self._index: ChannelIndex[CoreConnection] = ChannelIndex()
        self._fanout = Fanout(self._index, self.counters, call_soon)
        self.runs: Collection[object] = self._fanout.runs
        self.eager = Eager()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once in so many seconds."""
        return self.clock.call_at(self.clock.time() + seconds, callback)

    async def close(self, deadline_s: float) -> None:
        """Wait for handlers that are at work, cancel those that go on after so many seconds, and keep nothing."""
        try:
            async with asyncio.timeout(deadline_s):
                await self.eager.finish()
        except TimeoutError:
            logger.warning("handlers of detached connections are cancelled after %g s: the hub ends", deadline_s)
        finally:
            await self.eager.close()

    # Coming and going

    def admit(self, connection: CoreConnection) -> None:
        """Count a connection that is about to be accepted; `released` takes it back.

        Raises:
            Denied: The hub is draining, or a limit is reached; nothing has changed then.
        """
        user, address = connection.user, connection.address
        if self.is_draining:
            raise Denied("Shutting down", limit="draining", status=503, headers={"Retry-After": "1"})
        for admission in connection.settings.admissions:
            admission.check(user, address)
        for admission in connection.settings.admissions:
            admission.enter(user, address)
        connection.is_admitted = True

    def refused(self, denied: Denied) -> None:
        """Count a refused handshake."""
        self.counters.refused[denied.limit or "denied"] += 1

    def opened(self, connection: CoreConnection) -> None:
        """An admitted connection is open: it is found, and hears what is meant for everyone and for its user."""
        self.counters.accepted += 1
        self.connections[connection.id] = connection
        self.held[connection] = None
        self._join(connection, EVERYONE)
        if connection.user is not None:
            self._join(connection, user_channel(connection.user))

    def ended(self, connection: CoreConnection) -> None:
        """A connection is open no more: nobody finds it, and it hears nothing."""
        self.counters.closed[int(connection.close_code)] += 1
        del self.connections[connection.id]
        self.flow_changed(connection)
        for channel in self._index.remove(connection):
            del self._policies[channel]

    def released(self, connection: CoreConnection) -> None:
        """A connection holds nothing any more."""
        connection.let_go()
        if not connection.is_admitted:
            return
        connection.is_admitted = False
        self.held.pop(connection, None)
        for admission in connection.settings.admissions:
            admission.leave(connection.user, connection.address)

    # Channels

    def join(self, connection: CoreConnection, channel: str) -> None:
        """Let a connection hear a public channel; joining twice is joining once.

        Raises:
            Denied: The name is too long, or the connection hears as many channels as it may.
            ValueError: The name is empty or reserved.
        """
        limits = connection.settings.limits
        check_channel(channel)
        name_bytes = limits.channel_name_bytes
        if name_bytes is not None and payload_size(channel) > name_bytes:
            raise self._over("channel_name_bytes", f"A channel's name may have {name_bytes} bytes")
        if self._index.contains(channel, connection):
            return
        most = limits.channels_per_connection
        if most is not None and len(self.channels_of(connection)) >= most:
            raise self._over("channels_per_connection", f"A connection may join {most} channels")
        self._join(connection, channel)

    def leave(self, connection: CoreConnection, channel: str) -> None:
        """Let a connection hear a channel no more; leaving one that it does not hear does nothing."""
        self._fanout.settle(connection)
        self._fanout.forget_plans((channel,))
        if self._index.leave(channel, connection).edge:
            del self._policies[channel]

    @property
    def is_full(self) -> bool:
        """Whether so much is published and waits to leave that producers are to wait."""
        return self._fanout.is_full

    def settle(self, connection: CoreConnection) -> None:
        """Hand over what is published to a connection and waits for the end of the loop's turn."""
        self._fanout.settle(connection)

    def flow_changed(self, connection: CoreConnection) -> None:
        """A connection has become congested, or writable."""
        self._fanout.forget_plans(self._index.channels(connection))

    def channels_of(self, connection: CoreConnection) -> frozenset[str]:
        """Return the public channels that a connection hears."""
        return frozenset(channel for channel in self._index.channels(connection) if not channel.startswith("$"))

    def hears(self, connection: CoreConnection, channel: str) -> bool:
        """Return whether a connection hears a channel."""
        return self._index.contains(channel, connection)

    def subscribers(self, channel: str) -> tuple[CoreConnection, ...]:
        """Return the connections that hear a channel now."""
        return self._index.subscribers(channel)

    def publish(self, channel: str, message: object, exclude: Collection[CoreConnection] = ()) -> bool:
        """Hand a message to all who hear a channel; return whether the loop should run before more is published.

        Raises:
            TypeError: The message has no JSON form.
            ValueError: It has no UTF-8 form.
        """
        frame = prepare(message)
        self.counters.published += 1
        if not self._index.count(channel):
            return False
        return self._fanout.publish(channel, frame, self._policies[channel], exclude)

    def statistics(self) -> Statistics:
        """Return what the hub has seen and what it holds now."""
        names = tuple(self._index.names())  # copies, since a sync route asks from a thread
        return self.counters.snapshot(
            connections=len(self.connections),
            users=sum(name.startswith(_USER) for name in names),
            channels=sum(not name.startswith("$") for name in names),
            queued_bytes=sum(connection.queued_bytes for connection in tuple(self.held)),
        )

    def _join(self, connection: CoreConnection, channel: str) -> None:
        change = self._index.join(channel, connection)
        if change.changed:
            self._fanout.joined(connection, channel)
        if change.edge:
            self._policies[channel] = None if channel.startswith("$") else self._policy_of(channel)

    def _over(self, limit: str, reason: str) -> Denied:
        self.counters.violations[limit] += 1
        return Denied(reason, limit=limit)


def check_channel(channel: str) -> None:
    """Refuse a name that is no public channel's.

    Raises:
        ValueError: It is empty, begins with `$`, or has no UTF-8 form.
    """
    if not isinstance(channel, str) or not channel or channel.startswith("$"):
        raise ValueError(f"channel {channel!r}: give a non-empty string that does not begin with '$'")
    try:
        payload_size(channel)
    except UnicodeEncodeError:
        raise ValueError(f"channel {channel!r}: the name has no UTF-8 form") from None
