"""Who of this hub's connections is in which channel, kept alive in the store; and who has come and gone.

Theory of operation. An entry lives by a lease in the store, so that those of a hub that dies go by themselves; this hub
renews all of its own in one go, three times in a lease. An entry that the store has lost comes back that way too. A
connection that has ended keeps its entry for the grace period: a user that comes back within it has not left.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence

from ..config import Presence
from ..errors import BrokerUnavailable
from ..interfaces import Clock, Departure, PresenceEntry, PresenceStore, Timer
from .background import Background

__all__ = ("Attendance",)

logger = logging.getLogger("hubbub")

LAST_LEAVES_S = 1.0
"""How long the end waits for those who are just leaving."""
REFRESHES = 3
"""How often in a lease it is renewed."""


class Attendance:
    """The presence entries of one hub.

    Args:
        store: Where they are kept.
        clock: The time.
        background: Runs its calls of the store.
        came: Told of a channel and a user that was not there before.
        went: Told of a channel and a user that is there no more.
    """

    def __init__(
        self,
        store: PresenceStore,
        clock: Clock,
        background: Background,
        came: Callable[[str, str], None],
        went: Callable[[str, str], None],
    ) -> None:
        self.store = store
        self._clock = clock
        self._background = background
        self._came = came
        self._went = went
        self._entries: dict[str, dict[str, PresenceEntry]] = {}
        self._settings: dict[str, Presence] = {}
        self._leaving: dict[tuple[str, str], Timer] = {}
        self._was_away = False
        self._is_closed = False
        self._leaves: set[asyncio.Task[None]] = set()
        self._refresh: Timer | None = None
        self._refresh_at = 0.0

    async def enter(self, channel: str, entry: PresenceEntry, settings: Presence) -> int:
        """Put a connection in a channel; return how many connections its user has there.

        While the broker is away that is done at the next renewal, and the return value is 0.
        """
        leaving = self._leaving.pop((channel, entry.connection), None)
        if leaving is not None:
            leaving.cancel()
        self._entries.setdefault(channel, {})[entry.connection] = entry
        self._settings[channel] = settings
        self._plan_refresh(settings.lease_s)
        try:
            entered = await self.store.enter(channel, entry, settings.lease_s)
        except BrokerUnavailable as error:
            logger.debug("presence in %r is entered later: %s", channel, error)
            return 0
        if entered.is_first and entry.user is not None:
            self._came(channel, entry.user)
        if not self._is_here(channel, entry.connection):  # it left meanwhile
            await self._take_out(channel, entry.connection)
        return entered.connections

    def leave(self, channel: str, connection: str, *, at_once: bool) -> None:
        """Take a connection out of a channel: now, or after the grace period. One that is not there is no matter."""
        entry = self._entries.get(channel, {}).get(connection)
        if entry is None or (channel, connection) in self._leaving:
            return
        if at_once or entry.user is None:
            self._end(channel, connection)
        else:
            when = self._clock.time() + self._settings[channel].grace_s
            self._leaving[channel, connection] = self._clock.call_at(when, lambda: self._end(channel, connection))

    def _end(self, channel: str, connection: str) -> None:
        self._leaving.pop((channel, connection), None)
        entries = self._entries[channel]
        del entries[connection]
        if not entries:
            del self._entries[channel]
            del self._settings[channel]
        if not self._entries and self._refresh is not None:
            self._refresh.cancel()
            self._refresh = None
        leave = self._background.start(self._take_out(channel, connection))
        self._leaves.add(leave)
        leave.add_done_callback(self._leaves.discard)

    def _is_here(self, channel: str, connection: str) -> bool:
        return connection in self._entries.get(channel, ())

    async def _take_out(self, channel: str, connection: str) -> None:
        if self._is_here(channel, connection):  # it has come back before this has begun
            return
        try:
            departure = await self.store.leave(channel, connection)
        except BrokerUnavailable as error:
            logger.debug("presence in %r ends with its lease: %s", channel, error)
            return
        if departure is not None:
            self._went(departure.channel, departure.user)

    def _plan_refresh(self, lease_s: float) -> None:
        when = self._clock.time() + lease_s / REFRESHES
        if self._refresh is not None:
            if self._refresh_at <= when:
                return
            self._refresh.cancel()
        self._refresh_at = when
        # In a context of its own: it goes on and on, and would keep that of the request which has come first.
        self._refresh = contextvars.Context().run(self._clock.call_at, when, self._start_refresh)

    def _start_refresh(self) -> None:
        self._refresh = None
        self._background.start(self._renew())
        self._plan_refresh(min(settings.lease_s for settings in self._settings.values()))

    async def _renew(self) -> None:
        was_away, self._was_away = self._was_away, False
        for lease_s in {settings.lease_s for settings in self._settings.values()}:
            # Read just before the call: an entry that has been taken out must not come back.
            entries = {
                channel: tuple(entries.values())
                for channel, entries in self._entries.items()
                if self._settings[channel].lease_s == lease_s
            }
            try:
                departures = await self.store.refresh(entries, lease_s)
            except BrokerUnavailable as error:
                self._was_away = True
                logger.debug("presence is renewed later: %s", error)
                continue
            if was_away and departures:
                self._tell_later(departures, lease_s)
            else:
                self._tell(departures)

    def _tell_later(self, departures: Sequence[Departure], lease_s: float) -> None:
        """The broker was away for everyone, so that leases have ended of those who are there: give them time."""
        when = self._clock.time() + 2 * lease_s / REFRESHES
        self._clock.call_at(when, lambda: self._find_out_who_is_gone(departures))

    def _find_out_who_is_gone(self, departures: Sequence[Departure]) -> None:
        if not self._is_closed:
            self._background.start(self._tell_who_is_gone(departures))

    async def _tell_who_is_gone(self, departures: Sequence[Departure]) -> None:
        for departure in departures:
            try:
                members = await self.store.members(departure.channel)
            except BrokerUnavailable as error:
                logger.debug("nobody knows who is in %r: %s", departure.channel, error)
                continue
            if departure.user not in {member.user for member in members}:
                self._tell((departure,))

    def _tell(self, departures: Sequence[Departure]) -> None:
        for channel, user in departures:
            self._went(channel, user)

    async def aclose(self) -> None:
        """Leave with the grace period as the last lease: users that come back to another worker have not left."""
        for timer in (*self._leaving.values(), self._refresh):
            if timer is not None:
                timer.cancel()
        self._leaving.clear()
        self._is_closed = True
        if self._leaves:
            await asyncio.wait(self._leaves, timeout=LAST_LEAVES_S)
        entries_of, self._entries = self._entries, {}
        by_grace: dict[float, dict[str, Sequence[PresenceEntry]]] = {}
        for channel, entries in entries_of.items():
            by_grace.setdefault(self._settings[channel].grace_s, {})[channel] = tuple(entries.values())
        for grace_s, those in by_grace.items():
            try:
                await self.store.refresh(those, grace_s)
            except BrokerUnavailable as error:
                logger.debug("presence ends with its leases: %s", error)
