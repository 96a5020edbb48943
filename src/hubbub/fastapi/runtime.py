"""What a hub consists of at run time: its core in one event loop, its origins, its families, its routes' types."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi.dependencies.models import Dependant

from ..brokers import from_url
from ..config import Drain, Heartbeat, Limits
from ..hub.admission import Admission, open_file_limit
from ..hub.hub import CoreHub
from ..hub.origin import OriginPolicy
from ..interfaces import Clock
from ..model import CloseCode
from .families import Families
from .signals import hear_of_the_end
from .typed import UNTYPED, MessageTypes, declared_types

__all__ = ("Runtime",)

_STOP_DEADLINE_S = 1.0
"""How long the end of the hub waits for its clients to take what is queued and the close. On granian, which has stopped
to write by then, they never do."""

_HANDLERS_DEADLINE_S = 10.0
"""How long the handlers of detached connections have that are at work when the hub ends: as long as an endpoint has on
`hubbub run`."""


class _Life(enum.Enum):
    """Where a hub is in its life. A handshake is refused from `ENDING` on; a new loop, or `enter`, starts afresh."""

    IDLE = "idle"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


class Runtime:
    """The inside of one `Hub`.

    Args:
        limits: The hub's limits.
        heartbeat: How the server asks whether a client is there.
        drain: How the server ends the connections when it stops.
        allowed_origins: The origins beside the application's own.
        clock: The time, or `None` for the event loop's.
        broker: The address of the broker.

    Attributes:
        limits: As given.
        core: The core of the loop that it has started in last, or `None`.
        loop: The loop that it belongs to, or `None`.
        origins: Which pages may connect.
        families: The families of channels that are declared.
    """

    def __init__(
        self,
        limits: Limits,
        heartbeat: Heartbeat,
        drain: Drain,
        allowed_origins: Sequence[str],
        clock: Clock | None,
        broker: str,
    ) -> None:
        self.families = Families()
        self._broker = broker
        self.heartbeat = heartbeat
        self.drain = drain
        self.core: CoreHub | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.origins = OriginPolicy(allowed_origins)
        self.limits = limits
        self._clock = clock
        self._types: dict[int, tuple[Dependant, MessageTypes]] = {}
        self._entered = 0
        self._life = _Life.IDLE
        self._stop_hearing: Callable[[], None] = _nothing

    # Its life

    def start(self) -> CoreHub:
        """Return the core for the running event loop; the hub starts with the first call.

        After the hub has ended in this loop that is the core that has ended, which refuses handshakes.

        Raises:
            RuntimeError: The hub has started in another loop that is still open.
        """
        loop = asyncio.get_running_loop()
        if self.core is None or self.loop is not loop:
            self._begin(loop)
        assert self.core is not None
        return self.core

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.loop is not None and not self.loop.is_closed() and self._life is not _Life.ENDED:
            raise RuntimeError(
                "the hub belongs to another event loop that is still open; from sync code use hub.from_thread, and in "
                "a test keep one loop for all requests: with TestClient(app) as client:"
            )
        self.loop = loop
        limits = self.limits
        if limits.connections is None:
            limits = replace(limits, connections=open_file_limit())
        clock = self._clock or loop
        engine = from_url(self._broker, clock=clock)
        self.core = CoreHub(
            clock=clock,
            admission=Admission(limits),
            options_of=self.families.options_of,
            # Not in the next turn, but in the one after it: what was read in this turn is published by endpoints in the
            # next one, and should go out together. Without that, 16 messages in flight to 500 subscribers settle into
            # runs of 8, at 0.48 µs of CPU a delivery instead of 0.27.
            call_soon=lambda call: loop.call_soon(lambda: loop.call_soon(call)),
            broker=engine.broker,
            presence=engine.presence,
            witness=self.families,
        )
        self.families.keep = self.core.eager.keep
        self._entered = 0
        self._stop_hearing()
        self._life = _Life.RUNNING

    def enter(self) -> None:
        """Start, afresh if the hub has ended, and stay until the last `leave`.

        Raises:
            RuntimeError: The hub is just ending, or belongs to another loop.
        """
        loop = asyncio.get_running_loop()
        if self._life is _Life.ENDING and self.loop is loop:
            raise RuntimeError("the hub is ending: wait for that before it is entered again")
        if self._life is _Life.ENDED or self.loop is not loop:
            self._begin(loop)
        self._entered += 1
        if self._entered == 1:
            self._stop_hearing = hear_of_the_end(self._end_streams)

    async def leave(self) -> None:
        """End with the last one: refuse handshakes, close all connections with 1012, wait for them for a while."""
        self._entered -= 1
        core = self.core
        if self._entered or core is None:
            return
        self._life = _Life.ENDING
        core.is_draining = True
        try:
            for connection in [*core.held]:
                connection.end(CloseCode.SERVICE_RESTART)
            async with asyncio.timeout(_STOP_DEADLINE_S):
                while core.held:
                    await asyncio.gather(*(connection.wait_closed() for connection in core.held))
        except TimeoutError:
            pass
        finally:
            for connection in [*core.held]:
                connection.abort()
            self._stop_hearing()
            await core.close(_HANDLERS_DEADLINE_S)
            self._life = _Life.ENDED

    def _end_streams(self) -> None:
        """The server is about to stop: end what would keep it from that."""
        if self.core is not None:
            self.core.end_streams()

    @property
    def running_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop of a hub that is running, for calls from threads."""
        is_running = self._life is _Life.RUNNING and self.loop is not None and self.loop.is_running()
        return self.loop if is_running else None

    # What was declared

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


def _nothing() -> None:
    pass
