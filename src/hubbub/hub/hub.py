"""The core of a hub: the connections of this process and the channels that they hear.

Everyone hears `$all`, the connections of a user hear `$user:<id>`; a broadcast and a send to a user are publications
on these reserved channels, so there is one way to reach many. In the index a channel stands under its name for those
who get publications as they are, and once more for each other form (`Form`); under `Form.SILENT` stand those who are
about to hear it, so that it is subscribed already, and counted against their limits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from ..brokers.memory import MemoryBroker, MemoryPresenceStore
from ..config import History, Presence
from ..errors import BrokerUnavailable, Denied
from ..interfaces import Clock, HistoryBroker, PresenceEntry, PresenceStore, Timer
from ..model import Data, Joined, OutboxPolicy, Position
from ..state.index import ChannelIndex
from ..wire.prepared import payload_size
from .admission import Admission, too_many_of_user
from .background import Background
from .connection import ConnectionEnded, CoreConnection, Phase
from .eager import Eager
from .exchange import Exchange
from .fanout import Fanout
from .message import Disconnect, Form, Message, lost, place
from .presence import Attendance
from .resume import Join, Resume, Withdrawn
from .statistics import Counters, Statistics

__all__ = ("EVERYONE", "PLAIN", "ChannelOptions", "CoreHub", "Witness", "check_channel", "user_channel")

logger = logging.getLogger("hubbub")

EVERYONE = "$all"
_USER = "$user:"
_FORMS = (Form.PLAIN, Form.ENVELOPE, Form.EVENTS)
_ALL = (*_FORMS, Form.SILENT)
_LARGEST_LIMIT = 2**31
"""No history is as long, and brokers do not count any further than 64 bits."""
_USER_LEASE = Presence()
"""The lease by which the connections of users are counted across hubs."""


def user_channel(user: str) -> str:
    """Return the reserved channel that the connections of `user` hear."""
    return _USER + user


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What a channel's family has declared.

    Args:
        policy: What happens to publications for slow clients, or `None` for what holds for the connection.
        history: What the channel remembers, or `None` for nothing.
        presence: Whether it is known who is in it, across workers.
    """

    policy: OutboxPolicy | None = None
    history: History | None = None
    presence: Presence | None = None


PLAIN = ChannelOptions()


class Witness(Protocol):
    """What the application hears of channels."""

    def left(self, connection: CoreConnection, channel: str) -> None:
        """A connection hears a channel no more."""

    def first(self, channel: str) -> None:
        """The first connection of this hub is about to hear a channel."""

    def last(self, channel: str) -> None:
        """The last connection of this hub hears a channel no more."""

    def came(self, channel: str, user: str) -> None:
        """A user has come, on whatever hub, and this hub is the one to tell."""

    def went(self, channel: str, user: str) -> None:
        """A user has gone, likewise."""


class _Nobody:
    """A `Witness` that does not care."""

    def left(self, connection: CoreConnection, channel: str) -> None:
        pass

    def first(self, channel: str) -> None:
        pass

    def last(self, channel: str) -> None:
        pass

    def came(self, channel: str, user: str) -> None:
        pass

    def went(self, channel: str, user: str) -> None:
        pass


class CoreHub:
    """Who is connected and who hears what, in this process.

    Args:
        clock: The time, and calls at a time.
        admission: The counts against the hub's own limits.
        options_of: What the family of a channel has declared.
        call_soon: Calls a function in one of the loop's next turns.
        broker: What carries publications between hubs, and remembers them; by default this process.
        presence: Where it is kept who is in which channel; by default in this process.
        witness: What hears of channels that begin and end, and of users that come and go.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        admission: Admission,
        options_of: Callable[[str], ChannelOptions],
        call_soon: Callable[[Callable[[], None]], object],
        broker: HistoryBroker | None = None,
        presence: PresenceStore | None = None,
        witness: Witness | None = None,
    ) -> None:
        self.clock = clock
        self.admission = admission
        self.counters = Counters()
        self.connections: dict[str, CoreConnection] = {}
        self.streams: dict[str, CoreConnection] = {}
        self.is_draining = False
        self.ends_streams = False
        self.held: dict[CoreConnection, None] = {}
        self._options_of = options_of
        self._options: dict[str, ChannelOptions] = {}
        self._index: ChannelIndex[CoreConnection] = ChannelIndex()
        self._fanout = Fanout(self._index, self.counters, call_soon)
        self.runs: Collection[object] = self._fanout.runs
        self.eager = Eager()
        self.background = Background()
        self._witness = witness = witness or _Nobody()
        self.exchange = Exchange(broker or MemoryBroker(clock), self, self.counters, self.background)
        store = presence or MemoryPresenceStore(clock)
        self.attendance = Attendance(store, clock, self.background, witness.came, witness.went)
        self._resume = Resume(self.exchange, self.counters, self.call_later)
        self._starting = asyncio.Lock()
        self._is_started = False
        self._joins: dict[tuple[CoreConnection, str], Join] = {}

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once in so many seconds."""
        return self.clock.call_at(self.clock.time() + seconds, callback)

    async def start(self) -> None:
        """Begin to hear the broker; once is enough."""
        async with self._starting:  # who comes meanwhile waits too: nothing is asked of a broker before
            if not self._is_started:
                self._is_started = True
                await self.exchange.start()

    async def close(self, deadline_s: float) -> None:
        """Wait for handlers that are at work, cancel those that go on after so many seconds, and keep nothing."""
        try:
            async with asyncio.timeout(deadline_s):
                await self.eager.finish()
        except TimeoutError:
            logger.warning("handlers of detached connections are cancelled after %g s: the hub ends", deadline_s)
        finally:
            async with AsyncExitStack() as stack:  # the last one first, and each whatever becomes of the others
                stack.push_async_callback(self.exchange.broker.aclose)
                stack.push_async_callback(self.attendance.store.aclose)
                stack.push_async_callback(self.background.aclose)
                stack.push_async_callback(self.attendance.aclose)
                stack.push_async_callback(self.eager.close)

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

    def end_streams(self) -> None:
        """The server stops: end the event streams, which would keep it from that, and refuse new ones."""
        self.ends_streams = True
        for connection in tuple(self.streams.values()):
            connection.draining()

    async def arrive(self, connection: CoreConnection) -> None:
        """Make an admitted connection known to other hubs, before its handshake is answered.

        What is for everyone is subscribed then, or what the endpoint broadcasts first would pass its own client by.

        Raises:
            Denied: Its user has as many connections as it may, on all hubs.
        """
        await self.start()
        if not self.exchange.is_shared:
            return
        if not connection.settings.is_quiet:
            self._enter(connection, EVERYONE, Form.SILENT)
            await self._reach(EVERYONE)
        user = connection.user
        if user is None:
            return
        channel = user_channel(user)
        self._enter(connection, channel, Form.SILENT)
        most = self.admission.limits.connections_per_user
        if most is not None:
            entry = PresenceEntry(connection.id, user, None, time.time())
            if await self.attendance.enter(channel, entry, _USER_LEASE) > most:
                self.counters.violations["connections_per_user"] += 1
                raise too_many_of_user()
        await self._reach(channel)

    async def _reach(self, channel: str) -> None:
        try:
            await self.exchange.ready(channel)
        except BrokerUnavailable as error:
            logger.debug("channel %r is heard later: %s", channel, error)

    def refused(self, denied: Denied) -> None:
        """Count a refused handshake."""
        self.counters.refused[denied.limit or "denied"] += 1

    def opened(self, connection: CoreConnection) -> None:
        """An admitted connection is open: it is found, and hears what is meant for everyone and for its user."""
        self.counters.accepted += 1
        self.held[connection] = None
        if connection.settings.is_quiet:
            self.streams[connection.id] = connection
        else:
            self.connections[connection.id] = connection
            self._enter(connection, EVERYONE, Form.PLAIN)
            if self._index.contains(Form.SILENT + EVERYONE, connection):
                self._leave(connection, EVERYONE, Form.SILENT)
        if connection.user is not None:
            channel = user_channel(connection.user)
            form = Form.SILENT if connection.settings.is_quiet else Form.PLAIN
            self._enter(connection, channel, form)
            if form is Form.PLAIN and self._index.contains(Form.SILENT + channel, connection):
                self._leave(connection, channel, Form.SILENT)

    def ended(self, connection: CoreConnection) -> None:
        """A connection is open no more: nobody finds it, and it hears nothing."""
        self.counters.closed[int(connection.close_code)] += 1
        del (self.streams if connection.settings.is_quiet else self.connections)[connection.id]
        self.flow_changed(connection)
        self._forget(connection)

    def _forget(self, connection: CoreConnection) -> None:
        names = self._index.channels(connection)
        emptied = self._index.remove(connection)
        for name in names:
            channel = _public(name)
            join = self._joins.get((connection, channel))
            was_heard = not name.startswith(Form.SILENT) or (join is not None and join.was_heard)
            if was_heard and self._options[channel] is not PLAIN:
                self._witness.left(connection, channel)
            if join is not None:
                join.was_heard = False
            self.attendance.leave(channel, connection.id, at_once=channel.startswith("$"))
        for name in emptied:
            self._release(_public(name))

    def released(self, connection: CoreConnection) -> None:
        """A connection holds nothing any more."""
        connection.let_go()
        self.turned_away(connection)

    def turned_away(self, connection: CoreConnection) -> None:
        """A connection is counted no more, and known to nobody."""
        if not connection.is_admitted:
            return
        connection.is_admitted = False
        self.held.pop(connection, None)
        self._forget(connection)
        for admission in connection.settings.admissions:
            admission.leave(connection.user, connection.address)

    # Channels

    async def join(
        self,
        connection: CoreConnection,
        channel: str,
        *,
        since: Position | None = None,
        form: Form = Form.PLAIN,
        info: Any = None,
    ) -> Joined:
        """Let an open connection hear a public channel, after what it has missed since a position.

        Joining twice is joining once, unless it is with a position: then nothing comes before what was missed. Whoever
        gets the envelope is told where it is, after what it has missed and before anything live. Whoever leaves while
        it joins has not joined.

        Raises:
            BrokerUnavailable: The broker is away, and a position was given.
            ConnectionEnded: The connection has ended meanwhile.
            Denied: The name is too long, or the connection hears as many channels as it may.
            RuntimeError: It is joining this channel already, in another task.
            ValueError: The name is empty or reserved; or a position was given and the channel has no history.
        """
        is_new = since is not None or not self._index.contains(form + channel, connection)
        joined = await self.listen(connection, channel, since=since, form=form)
        if is_new:
            await self.attend(connection, channel, info)
        return joined

    async def listen(
        self, connection: CoreConnection, channel: str, *, since: Position | None = None, form: Form = Form.PLAIN
    ) -> Joined:
        """Join as `join` does, but for the presence; does not wait once the connection hears the channel."""
        options = self.check_join(connection, channel, since)
        if options is PLAIN and not self.exchange.is_shared:
            self._hear(connection, channel, form, options)
            return Joined(True, 0, None)
        if self._index.contains(form + channel, connection) and since is None:
            line = self.exchange.line(channel)
            return Joined(True, 0, None if line is None else line.position)
        return await self._join(connection, channel, since, form, options)

    async def attend(self, connection: CoreConnection, channel: str, info: Any) -> None:
        """Make known that a connection that hears a channel is in it, where that is to be known."""
        presence = self.options(channel).presence
        if presence is not None and self.hears(connection, channel):
            entry = PresenceEntry(connection.id, connection.user, info, time.time())
            await self.attendance.enter(channel, entry, presence)

    async def _join(
        self,
        connection: CoreConnection,
        channel: str,
        since: Position | None,
        form: Form,
        options: ChannelOptions,
    ) -> Joined:
        key = connection, channel
        join = self._joins[key] = Join(connection, channel, form, self.hear)
        self._enter(connection, channel, Form.SILENT, options)
        join.was_heard = since is not None and self._stop_hearing(connection, channel)
        try:
            return await self._resume.join(join, since)
        except Withdrawn:
            return Joined(False, 0, None)
        finally:
            if self._joins.get(key) is join:
                del self._joins[key]
                self._leave(connection, channel, Form.SILENT)
            if join.was_heard and not self.hears(connection, channel):
                self._has_left(connection, channel, options)

    def join_here(self, connection: CoreConnection, channel: str) -> None:
        """Let a connection hear what this hub publishes on a channel that remembers nothing. Raises as `join`."""
        options = self.check_join(connection, channel)
        self._hear(connection, channel, Form.PLAIN, options)

    def check_join(self, connection: CoreConnection, channel: str, since: Position | None = None) -> ChannelOptions:
        """See whether a connection may join, and return what the channel's family has declared. Raises as `join`."""
        limits = connection.settings.limits
        check_channel(channel)
        name_bytes = limits.channel_name_bytes
        if name_bytes is not None and payload_size(channel) > name_bytes:
            raise self._over("channel_name_bytes", f"A channel's name may have {name_bytes} bytes")
        options = self.options(channel)
        if since is not None and options.history is None:
            raise ValueError(f"channel {channel!r} has no history to resume from: declare it with history=History()")
        if self._index.contains(Form.SILENT + channel, connection):
            raise RuntimeError(f"the connection is joining {channel!r} already: await one join before the next")
        most = limits.channels_per_connection
        is_new = not self.hears(connection, channel)
        if is_new and most is not None and len(self.channels_of(connection)) >= most:
            raise self._over("channels_per_connection", f"A connection may join {most} channels")
        return options

    def hear(self, connection: CoreConnection, channel: str, form: Form, joined: Joined) -> None:
        """Let a connection hear a channel in a form, and in no other; with an envelope it is told where it is."""
        options = self.options(channel)
        self._hear(connection, channel, form, options)
        if form is Form.ENVELOPE and joined.position is not None:
            self._settle(connection)  # publications of other channels that are still waiting go first
            connection.deliver(place(channel, joined.position, joined.recovered), channel, options.policy)

    def _hear(self, connection: CoreConnection, channel: str, form: Form, options: ChannelOptions) -> None:
        others = [other for other in _FORMS if other is not form and self._index.contains(other + channel, connection)]
        if others:
            self._settle(connection)
        self._enter(connection, channel, form, options)
        for other in others:
            self._leave(connection, channel, other)

    def _stop_hearing(self, connection: CoreConnection, channel: str) -> bool:
        """Let a connection that is joining anew hear nothing meanwhile; return whether it has heard the channel."""
        self._fanout.settle(connection)
        heard = [form for form in _FORMS if self._index.contains(form + channel, connection)]
        for form in heard:
            self._leave(connection, channel, form)
        return bool(heard)

    def _has_left(self, connection: CoreConnection, channel: str, options: ChannelOptions) -> None:
        if options is not PLAIN:
            self._witness.left(connection, channel)
        self.attendance.leave(channel, connection.id, at_once=True)

    def _settle(self, connection: CoreConnection) -> None:
        self._fanout.settle(connection)
        if connection.phase is not Phase.OPEN:  # that was too much for it
            raise ConnectionEnded(connection.close_code, connection.close_reason)

    def leave(self, connection: CoreConnection, channel: str) -> None:
        """Let a connection hear a channel no more; leaving one that it does not hear does nothing."""
        self._fanout.settle(connection)
        join = self._joins.pop((connection, channel), None)
        if join is not None:
            join.is_withdrawn = True
        for form in _ALL:
            if self._index.contains(form + channel, connection):
                if self._options[channel] is not PLAIN and form is not Form.SILENT:
                    self._witness.left(connection, channel)
                self._leave(connection, channel, form)
        self.attendance.leave(channel, connection.id, at_once=True)

    def _enter(self, connection: CoreConnection, channel: str, form: Form, options: ChannelOptions = PLAIN) -> None:
        name = form + channel
        if channel not in self._options:
            self._begin(channel, options)
        if self._index.join(name, connection).changed and form is not Form.SILENT:
            self._fanout.joined(connection, name)

    def _leave(self, connection: CoreConnection, channel: str, form: Form) -> None:
        name = form + channel
        self._fanout.forget_plans((name,))
        if self._index.leave(name, connection).edge:
            self._release(channel)

    def _begin(self, channel: str, options: ChannelOptions) -> None:
        self._options[channel] = options
        self.exchange.want(channel, options.history)
        if options is not PLAIN:
            self._witness.first(channel)

    def _release(self, channel: str) -> None:
        if channel not in self._options or any(self._index.count(form + channel) for form in _ALL):
            return
        options = self._options.pop(channel)
        self.exchange.release(channel)
        if options is not PLAIN:
            self._witness.last(channel)

    def options(self, channel: str) -> ChannelOptions:
        """Return what the family of a channel has declared."""
        options = self._options.get(channel)
        return self._options_of(channel) if options is None else options

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
        """Return the public channels that a connection hears, or is about to."""
        channels = map(_public, self._index.channels(connection))
        return frozenset(channel for channel in channels if not channel.startswith("$"))

    def hears(self, connection: CoreConnection, channel: str) -> bool:
        """Return whether a connection hears a channel, or is about to."""
        return any(self._index.contains(form + channel, connection) for form in _ALL)

    def subscribers(self, channel: str) -> tuple[CoreConnection, ...]:
        """Return the connections that hear a channel now."""
        return tuple(connection for form in _FORMS for connection in self._index.subscribers(form + channel))

    # Publications

    async def publish(
        self,
        channel: str,
        message: object,
        exclude: Collection[CoreConnection] = (),
        idempotency_key: str | None = None,
    ) -> Position | None:
        """Hand a message to all who hear a channel, on all hubs; return its position where the channel has history.

        Returns when the connections of this hub have it, and the loop has room for more.

        Raises:
            BrokerUnavailable: The broker is away, or has not answered in time.
            TypeError: The message has no JSON form.
            ValueError: It has no UTF-8 form; or something was asked for that the channel cannot do.
        """
        options = PLAIN if channel.startswith("$") else self.options(channel)
        if options.history is not None and exclude:
            raise ValueError(f"channel {channel!r} has history, where exclude= cannot hold: put an id in the message")
        if options.history is None and idempotency_key is not None:
            raise ValueError(f"channel {channel!r} has no history, which an idempotency key needs")
        position, is_behind = None, False
        if options.history is None and not self.exchange.is_shared:
            is_behind = self.publish_here(channel, message, exclude)
        else:
            content = Message.of(message)
            self.counters.published += 1
            await self.start()
            ids = [connection.id for connection in exclude]
            position = await self.exchange.publish(
                channel, content, exclude=ids, history=options.history, idempotency_key=idempotency_key
            )
        # Let the transports write before more is queued, or a producer that never waits would overrun clients that are
        # not slow at all, and memory.
        while is_behind or self._fanout.is_full:
            is_behind = False
            await asyncio.sleep(0)
        return position

    async def has_audience(self, channel: str) -> bool:
        """Return whether anybody hears a channel, on all hubs.

        Raises:
            BrokerUnavailable: The broker is away, and nobody hears it here.
        """
        if channel in self._options:
            return True
        await self.start()
        return self.exchange.is_shared and await self.exchange.broker.audience(channel) > 0

    def publish_here(self, channel: str, message: object, exclude: Collection[CoreConnection] = ()) -> bool:
        """Hand a message to all connections of this hub that hear a channel; return whether the loop should run before
        more is published.

        Raises:
            TypeError, ValueError: As for `publish`.
        """
        content = Message.of(message)
        self.counters.published += 1
        return self._hand_on(channel, content, None, exclude)

    async def history(
        self, channel: str, since: Position | None, limit: int | None, reverse: bool
    ) -> Sequence[tuple[Data, Position]]:
        """Return what was published on a channel, with positions; payloads that cannot be read are left out.

        Raises:
            BrokerUnavailable: The broker is away.
            ValueError: The channel has no history, or the limit is not a number above 0.
        """
        check_channel(channel)
        history = self.options(channel).history
        if history is None:
            raise ValueError(f"channel {channel!r} has no history: declare it with hub.channels(…, history=History())")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ValueError(f"limit={limit!r:.50}: give a whole number above 0, or None for all")
        if limit is not None:
            limit = min(limit, _LARGEST_LIMIT)
        await self.start()
        return await self.exchange.history(channel, history, since, limit, reverse)

    async def members(self, channel: str) -> Sequence[PresenceEntry]:
        """Return the connections of users in a channel, on all hubs.

        Raises:
            BrokerUnavailable: The broker is away.
            ValueError: The channel has no presence.
        """
        self._check_presence(channel)
        await self.start()
        return await self.attendance.store.members(channel)

    async def count(self, channel: str) -> tuple[int, int]:
        """Return how many connections and users are in a channel, on all hubs. Raises as `members`."""
        self._check_presence(channel)
        await self.start()
        return await self.attendance.store.count(channel)

    def _check_presence(self, channel: str) -> None:
        check_channel(channel)
        if self.options(channel).presence is None:
            raise ValueError(f"channel {channel!r} has no presence: declare it with hub.channels(…, presence=True)")

    async def disconnect_user(self, user: str, code: int, reason: str) -> None:
        """Close all connections of a user, on all hubs."""
        channel, order = user_channel(user), Disconnect(code, reason)
        if self.exchange.is_shared:
            await self.start()
            await self.exchange.publish(channel, order)
        else:
            self.disconnect(channel, order)

    def hand_on(self, channel: str, message: Message, position: Position | None, exclude: Collection[str]) -> None:
        """A publication has come from the broker (see `exchange.Host`)."""
        connections = self.connections
        self._hand_on(channel, message, position, {connections[id_] for id_ in exclude if id_ in connections})

    def _hand_on(
        self, channel: str, message: Message, position: Position | None, exclude: Collection[CoreConnection]
    ) -> bool:
        is_behind = False
        for form in _FORMS:
            name = form + channel
            if self._index.count(name):
                frame = message.form(form, channel, position)
                is_behind |= self._fanout.publish(name, frame, self._options[channel].policy, exclude)
        return is_behind

    def tell_loss(self, channel: str, position: Position) -> None:
        """See `exchange.Host`."""
        for form in _FORMS:
            frame = lost(form, channel, position)
            if frame is not None and self._index.count(form + channel):
                self._fanout.publish(form + channel, frame, self._options[channel].policy, ())

    def disconnect(self, channel: str, order: Disconnect) -> None:
        """See `exchange.Host`."""
        if channel.startswith("$"):
            for form in (Form.PLAIN, Form.SILENT):
                for connection in self._index.subscribers(form + channel):
                    connection.end(order.code, order.reason)

    def statistics(self) -> Statistics:
        """Return what the hub has seen and what it holds now."""
        names = {_public(name) for name in tuple(self._index.names())}  # copies, since a sync route asks from a thread
        return self.counters.snapshot(
            connections=len(self.connections),
            users=sum(name.startswith(_USER) for name in names),
            channels=sum(not name.startswith("$") for name in names),
            queued_bytes=sum(connection.queued_bytes for connection in tuple(self.held)),
            is_broker_connected=not self.exchange.is_shared or self.exchange.broker.is_connected,
        )

    def _over(self, limit: str, reason: str) -> Denied:
        self.counters.violations[limit] += 1
        return Denied(reason, limit=limit)


def _public(name: str) -> str:
    """Return the channel of a name in the index."""
    for form in (Form.ENVELOPE, Form.EVENTS, Form.SILENT):
        if name.startswith(form):
            return name[len(form) :]
    return name


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
