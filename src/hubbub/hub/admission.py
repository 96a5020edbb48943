"""How many may be connected at a time: in total, for each user, from each address."""

from __future__ import annotations

import logging
import sys
from collections import Counter

from ..config import Limits
from ..errors import Denied

__all__ = ("Admission", "open_file_limit", "too_many_of_user")

logger = logging.getLogger("hubbub")

_RESERVED_FILES = 64
RETRY_AFTER = {"Retry-After": "10"}


def open_file_limit() -> int | None:
    """Return how many connections the open-file limit of the process leaves room for, or `None` for any number."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(1, soft - _RESERVED_FILES)


def too_many_of_user() -> Denied:
    """Return the refusal of a user that has as many connections as it may."""
    return Denied("Too many connections of this user", limit="connections_per_user", status=429, headers=RETRY_AFTER)


class Admission:
    """Counts connections against the limits of a hub or of one endpoint.

    Args:
        limits: Of which `connections`, `connections_per_user` and `connections_per_address` are held here.
        status: HTTP status of the refusal when `connections` is reached.
        detail: Its text.
    """

    def __init__(self, limits: Limits, *, status: int = 503, detail: str = "Too many connections") -> None:
        self.limits = limits
        self._status = status
        self._detail = detail
        self._total = 0
        self._users: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()

    def check(self, user: str | None, address: str | None) -> None:
        """See whether one more may connect; nothing changes.

        Raises:
            Denied: A limit is reached; it carries the limit's name and the HTTP status.
        """
        limits = self.limits
        if _reached(self._total, limits.connections):
            raise Denied(self._detail, limit="connections", status=self._status, headers=RETRY_AFTER)
        if user is not None and _reached(self._users[user], limits.connections_per_user):
            raise too_many_of_user()
        if address is not None and _reached(self._addresses[address], limits.connections_per_address):
            logger.warning(
                "refused a WebSocket from %s: %d connections from that address are open; if it is a proxy's, start the "
                "server with --forwarded-allow-ips",
                address,
                self._addresses[address],
            )
            raise Denied(
                "Too many connections from this address",
                limit="connections_per_address",
                status=429,
                headers=RETRY_AFTER,
            )

    def enter(self, user: str | None, address: str | None) -> None:
        """Count one more."""
        self._total += 1
        if user is not None:
            self._users[user] += 1
        if address is not None:
            self._addresses[address] += 1

    def leave(self, user: str | None, address: str | None) -> None:
        """Count one less."""
        self._total -= 1
        for counter, key in ((self._users, user), (self._addresses, address)):
            if key is not None:
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit
