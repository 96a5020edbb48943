"""Who is in one channel: connections with leases, and the users behind them.

A user comes with the first connection and goes with the last one, and these two alternate. A connection whose lease has
ended is neither listed nor counted, but its user has not gone before `leave` or `expire` has said so: whoever comes
back in between has never been away.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

__all__ = ("Entry", "Roster")


class Entry(Protocol):
    """What a roster asks of its entries."""

    @property
    def connection(self) -> str:
        """The id of the connection."""

    @property
    def user(self) -> str | None:
        """Who it is, or `None` for nobody in particular, who is counted as a connection only."""

    @property
    def since(self) -> float:
        """When it joined, in seconds."""


E = TypeVar("E", bound=Entry)


class _Lease(NamedTuple, Generic[E]):
    entry: E
    until: float


class Roster(Generic[E]):
    """The entries of one channel. Times are seconds from any start; a lease has ended when its end comes."""

    def __init__(self) -> None:
        self._leases: dict[str, _Lease[E]] = {}
        self._users: dict[str, set[str]] = {}

    def __len__(self) -> int:
        """How many connections it holds, those included that `expire` would take out."""
        return len(self._leases)

    def enter(self, entry: E, until: float, now: float) -> tuple[bool, int]:
        """Put a connection in, or replace its entry and its lease.

        Args:
            entry: The entry.
            until: The end of the lease.
            now: The time.

        Returns:
            Whether the user was not there before, and the user's connections now; without a user `False` and 0.
        """
        is_first = entry.user is not None and entry.user not in self._users
        self._take_out(entry.connection)
        self._leases[entry.connection] = _Lease(entry, until)
        if entry.user is None:
            return False, 0
        self._users.setdefault(entry.user, set()).add(entry.connection)
        return is_first, self._connections(entry.user, now)

    def leave(self, connection: str, now: float) -> str | None:
        """Take a connection out, and return its user if no other one of them has a lease."""
        lease = self._take_out(connection)
        user = lease.entry.user if lease is not None else None
        if user is None or self._connections(user, now):
            return None
        for ended in tuple(self._users.get(user, ())):
            self._take_out(ended)
        return user

    def expire(self, now: float) -> list[str]:
        """Take out the connections whose lease has ended, and return the users who are gone with that."""
        ended = [lease.entry for lease in self._leases.values() if lease.until <= now]
        for entry in ended:
            self._take_out(entry.connection)
        users = dict.fromkeys(entry.user for entry in ended if entry.user is not None)
        return [user for user in users if user not in self._users]

    def members(self, now: float) -> list[E]:
        """Return the connections of users, the earliest first, without those whose lease has ended."""
        present = (lease.entry for lease in self._leases.values() if now < lease.until and lease.entry.user is not None)
        return sorted(present, key=lambda entry: entry.since)

    def count(self, now: float) -> tuple[int, int]:
        """Return the numbers of connections and of users, without those whose lease has ended."""
        users = [lease.entry.user for lease in self._leases.values() if now < lease.until]
        return len(users), len(set(users) - {None})

    def _connections(self, user: str, now: float) -> int:
        return sum(now < self._leases[connection].until for connection in self._users.get(user, ()))

    def _take_out(self, connection: str) -> _Lease[E] | None:
        lease = self._leases.pop(connection, None)
        if lease is not None and lease.entry.user is not None:
            connections = self._users[lease.entry.user]
            connections.remove(connection)
            if not connections:
                del self._users[lease.entry.user]
        return lease
