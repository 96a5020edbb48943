"""Who is where, for all workers on one Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...interfaces import Departure, Entered, PresenceEntry
from .broker import RedisBroker, milliseconds
from .script import Script

__all__ = ("RedisPresenceStore",)

_ENTER = Script("roster", "enter")
_LEAVE = Script("roster", "leave")
_REFRESH = Script("roster", "refresh")
_MEMBERS = Script("roster", "members")
_COUNT = Script("roster", "count")


class RedisPresenceStore:
    """A `PresenceStore` on the same Redis, by the same connection, as a broker.

    The clock of Redis says when a lease ends, so those of the workers may differ.

    Args:
        broker: The broker; the store works between its `start` and its `aclose`.
    """

    def __init__(self, broker: RedisBroker) -> None:
        self._commands = broker.commands
        self._names = broker.names
        self._untold: list[Departure] = []

    async def enter(self, channel: str, entry: PresenceEntry, lease_s: float) -> Entered:
        """Put a connection in a channel; see `PresenceStore.enter`."""
        keys = self._names.presence(channel)
        lease_ms = milliseconds(lease_s)
        is_first, connections = await self._commands.run(
            _ENTER, keys, lease_ms, _bytes(entry.connection), _value(entry)
        )
        return Entered(is_first == 1, connections)

    async def leave(self, channel: str, connection: str) -> Departure | None:
        """Take a connection out; see `PresenceStore.leave`."""
        user = await self._commands.run(_LEAVE, self._names.presence(channel), _bytes(connection))
        return Departure(channel, _text(user)) if user is not None else None

    async def refresh(self, entries: Mapping[str, Collection[PresenceEntry]], lease_s: float) -> Sequence[Departure]:
        """Renew leases and take out those that have ended; see `PresenceStore.refresh`."""
        # All of these are written in the first turn of the loop, hence one round trip, or one for each shard at a time.
        calls = (self._refresh(channel, entries[channel], lease_s) for channel in entries)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for outcome in outcomes:
            if not isinstance(outcome, BaseException):
                self._untold += outcome
        for outcome in outcomes:  # nobody else is told of those who are gone: they have to wait for the next time
            if isinstance(outcome, BaseException):
                raise outcome
        departures, self._untold = self._untold, []
        return departures

    async def _refresh(self, channel: str, entries: Collection[PresenceEntry], lease_s: float) -> list[Departure]:
        arguments = [part for entry in entries for part in (_bytes(entry.connection), _value(entry))]
        users: list[bytes] = await self._commands.run(
            _REFRESH, self._names.presence(channel), milliseconds(lease_s), *arguments
        )
        return [Departure(channel, _text(user)) for user in users]

    async def members(self, channel: str) -> Sequence[PresenceEntry]:
        """Return the connections of users, the earliest first."""
        ended, flat = await self._commands.run(_MEMBERS, self._names.presence(channel))
        away = frozenset(ended)
        connections = zip(flat[::2], flat[1::2], strict=True)
        present = [_entry(connection, value) for connection, value in connections if connection not in away]
        return sorted(present, key=lambda entry: entry.since)

    async def count(self, channel: str) -> tuple[int, int]:
        """Return the numbers of connections and of users."""
        connections, users = await self._commands.run(_COUNT, self._names.presence(channel))
        return connections, users

    async def aclose(self) -> None:
        """Do nothing: the connection is the broker's."""


def _value(entry: PresenceEntry) -> bytes:
    """Return what is stored: the user, for the scripts, and JSON for the rest; nothing without a user."""
    if entry.user is None:
        return b""
    user = _bytes(entry.user)
    return b"%d:%b%b" % (len(user), user, json.dumps([entry.since, entry.info], separators=(",", ":")).encode())


def _entry(connection: bytes, value: bytes) -> PresenceEntry:
    length, _, rest = value.partition(b":")
    user, described = rest[: int(length)], rest[int(length) :]
    since, info = json.loads(described)
    return PresenceEntry(_text(connection), _text(user), info, since)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: Any) -> str:
    return bytes(data).decode("utf-8", "surrogatepass")
