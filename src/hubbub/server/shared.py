"""What all connections of one server share: one timer for all deadlines, and the drain when the server stops."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable, Iterator
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from ..config import Drain, Heartbeat
from ..interfaces import TransportSettings
from ..state.wheel import TimingWheel

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ("Shared", "Timed", "shared_by")

_NEVER_S = 1e9
TICK_S = 0.25
"""By how much a deadline may be late."""
MESSAGE_FRAGMENTS = 4_096
"""Frames of one message at most, where the application has no hub; or one for each 64 bytes of `ws_max_size`."""
LAST_S = 1.0
"""What the last batch of a drain is left of the time that uvicorn waits: see `native.DRAIN_DEADLINE_S`."""


class Timed(Hashable, Protocol):
    """What can be due."""

    def due(self, now: float) -> None:
        """The time that it waited for has come."""


class Drained(Protocol):
    """What a drain ends: an open connection."""

    @property
    def settings(self) -> TransportSettings:
        """How its user wants it to be ended."""

    def drain(self) -> None:
        """It is this connection's turn."""


class Shared:
    """The deadlines and the drain of one server in one event loop.

    Args:
        loop: The event loop.
        connections: uvicorn's set of everything that is connected.
        config: uvicorn's configuration.

    Attributes:
        settings: What holds for connections that no hub has taken over.
        open: The connections whose handshake is done.
        is_draining: Whether the server stops: new handshakes are refused.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: set[Any], config: Config) -> None:
        self.connections = connections
        self.settings = _settings(config)
        self._config = config
        self.open: dict[Drained, None] = {}
        self.is_draining = False
        self._own_address: tuple[str, int | None] | None = None
        self._loop = loop
        self._grace_s = config.timeout_graceful_shutdown
        self._wheel: TimingWheel[Timed] = TimingWheel(TICK_S)
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # uvloop's handle does not say when, if the time has come already

    @cached_property
    def asgi(self) -> dict[str, str]:
        """The entry `asgi` of all scopes."""
        return {"version": self._config.asgi_version, "spec_version": "2.4"}

    def own_address(self, address: tuple[str, int | None] | None) -> tuple[str, int | None] | None:
        """Return `address`, as the same object for all connections that came in by it."""
        if address != self._own_address:
            self._own_address = address
        return self._own_address

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call a function in the loop's next turn."""
        self._loop.call_soon(callback, *arguments)

    # Deadlines

    def now(self) -> float:
        """Return the time of the deadlines, in seconds."""
        return self._loop.time()

    def call_due(self, item: Timed, when: float) -> int:
        """Call `item.due` soon after `when`; what this returns is for `forget`."""
        slot = self._wheel.add(item, when)
        self._arm()
        return slot

    def forget(self, item: Timed, slot: int) -> None:
        """Do not call `item.due`."""
        self._wheel.remove(item, slot)

    def _arm(self) -> None:
        when = self._wheel.next_due()
        if self._timer is not None:
            if when is not None and when >= self._timer_at:
                return  # it will look again when it is called
            self._timer.cancel()
        self._timer = None
        if when is not None:
            self._timer_at = when
            self._timer = self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        try:
            for item in self._wheel.expire(now):
                item.due(now)
        finally:
            self._timer = None
            self._arm()

    # The end of the server

    def begin_drain(self) -> None:
        """End all connections in batches, the first at once, the others spread over the window; once is enough."""
        if self.is_draining:
            return
        self.is_draining = True
        groups: dict[Drain, list[Drained]] = {}
        for connection in self.open:
            groups.setdefault(connection.settings.drain, []).append(connection)
        for settings, connections in groups.items():
            window_s = settings.window_s if self._grace_s is None else min(settings.window_s, self._grace_s - LAST_S)
            batches = math.ceil(len(connections) / settings.batch)
            self._next_batch(iter(connections), settings.batch, max(0.0, window_s) / batches)

    def _next_batch(self, waiting: Iterator[Drained], size: int, interval_s: float) -> None:
        batch = tuple(islice(waiting, size))
        if len(batch) == size:
            self._loop.call_later(interval_s, self._next_batch, waiting, size, interval_s)
        for connection in batch:
            connection.drain()


_all: WeakKeyDictionary[object, Shared] = WeakKeyDictionary()


def shared_by(server_state: ServerState, config: Config, loop: asyncio.AbstractEventLoop) -> Shared:
    """Return what the connections of a uvicorn server share."""
    shared = _all.get(server_state)
    if shared is None:
        shared = _all[server_state] = Shared(loop, server_state.connections, config)
    return shared


def _settings(config: Config) -> TransportSettings:
    return TransportSettings(
        message_bytes=config.ws_max_size,
        message_fragments=max(MESSAGE_FRAGMENTS, config.ws_max_size // 64),
        heartbeat=Heartbeat(
            interval_s=config.ws_ping_interval or None,
            timeout_s=config.ws_ping_timeout or _NEVER_S,
        ),
    )
