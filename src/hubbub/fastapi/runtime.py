"""What a hub consists of at run time: its core in one event loop, its origins, its families, its routes' types."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi.dependencies.models import Dependant

from ..config import Limits
from ..hub.admission import Admission, open_file_limit
from ..hub.hub import CoreHub
from ..hub.origin import OriginPolicy
from ..interfaces import Clock
from ..model import CloseCode, OutboxPolicy
from ..state.pattern import ChannelPattern
from .typed import UNTYPED, MessageTypes, declared_types

__all__ = ("Runtime",)

_STOP_DEADLINE_S = 1.0
"""How long the end of the hub waits for its clients to take what is queued and the close. On granian, which has stopped
to write by then, they never do."""


class Runtime:
    """The inside of one `Hub`.

    Args:
        limits: The hub's limits.
        allowed_origins: The origins beside the application's own.
        clock: The time, or `None` for the event loop's.

    Attributes:
        core: The core of the loop that it has started in last, or `None`.
        loop: The loop that it belongs to, or `None`.
        origins: Which pages may connect.
    """

    def __init__(self, limits: Limits, allowed_origins: Sequence[str], clock: Clock | None) -> None:
        self.core: CoreHub | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.origins = OriginPolicy(allowed_origins)
        self._limits = limits
        self._clock = clock
        self._families: list[tuple[ChannelPattern, OutboxPolicy | None]] = []
        self._types: dict[int, tuple[Dependant, MessageTypes]] = {}
        self._entered = 0

    # Its life

    def start(self) -> CoreHub:
        """Return the core for the running event loop; the hub starts with the first call.

        Raises:
            RuntimeError: The hub has started in another loop that is still open.
        """
        loop = asyncio.get_running_loop()
        if self.core is not None and self.loop is loop:
            return self.core
        if self.loop is not None and not self.loop.is_closed():
            raise RuntimeError(
                "the hub belongs to another event loop that is still open; in a test, keep one loop for all requests: "
                "with TestClient(app) as client:"
            )
        self.loop = loop
        limits = self._limits
        if limits.connections is None:
            limits = replace(limits, connections=open_file_limit())
        self.core = CoreHub(clock=self._clock or loop, admission=Admission(limits), policy_of=self._policy_of)
        return self.core

    def enter(self) -> None:
        """Start, and stay until the last `leave`."""
        self.start()
        self._entered += 1

    async def leave(self) -> None:
        """Stop with the last one: refuse handshakes, close all connections with 1012, wait for them for a while."""
        self._entered -= 1
        if self._entered:
            return
        core = self.start()
        core.is_draining = True
        connections = [*core.connections.values()]
        for connection in connections:
            connection.end(CloseCode.SERVICE_RESTART)
        try:
            async with asyncio.timeout(_STOP_DEADLINE_S):
                await asyncio.gather(*(connection.wait_closed() for connection in connections))
        except TimeoutError:
            for connection in connections:
                connection.abort()
        self.loop = None

    # What was declared

    def declare(self, pattern: ChannelPattern, policy: OutboxPolicy | None) -> None:
        """Add a family of channels.

        Raises:
            ValueError: A name could belong to it and to another family.
        """
        for other, _ in self._families:
            if other.overlaps(pattern):
                raise ValueError(f"channels {pattern.pattern!r} overlaps with {other.pattern!r}: rename one")
        self._families.append((pattern, policy))

    def _policy_of(self, channel: str) -> OutboxPolicy | None:
        for pattern, policy in self._families:
            if pattern.matches(channel):
                return policy
        return None

    def types_of(self, scope: Mapping[str, Any], generic: type) -> MessageTypes:
        """Return the `Connection[In, Out]` that the route of `scope` declares; read once for each route.

        Raises:
            TypeError: Two places declare different types.
        """
        dependant = getattr(scope.get("route"), "dependant", None)
        if dependant is None:
            return UNTYPED
        # Neither a route nor its dependant can be a key; the entry keeps the dependant, so that its id stays its own.
        if id(dependant) not in self._types:
            self._types[id(dependant)] = (dependant, declared_types(dependant, self, generic))
        return self._types[id(dependant)][1]
