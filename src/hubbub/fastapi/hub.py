"""The hub: one for each application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ParamSpec, Self, get_args

import anyio.from_thread
from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from ..config import Limits, Outbox
from ..errors import Denied
from ..hub.admission import Admission, open_file_limit
from ..hub.connection import CoreConnection, Settings, current_connection
from ..hub.hub import EVERYONE, CoreHub, user_channel
from ..hub.origin import OriginPolicy
from ..hub.statistics import Counters, Statistics
from ..interfaces import Clock
from ..model import CloseCode, OnInvalid, OutboxPolicy
from ..state.pattern import ChannelPattern
from .channels import Channel, ChannelFamily, channel_name
from .connection import Connection, check_close
from .endpoint import EndpointEnd
from .typed import UNTYPED, MessageTypes, declared_types

__all__ = ("Endpoint", "FromThread", "Hub")

_SCOPE_KEY = "hubbub"
_STOP_DEADLINE_S = 5.0
_MEMORY = "memory://"

P = ParamSpec("P")


class Endpoint:
    """A dependency that gives the connection: the hub's own, or one endpoint's with settings of its own.

    Args:
        hub: The hub of the connections.
        limits: Limits of its connections.
        outbox: Outbox of its connections.
        on_invalid: What to do with an invalid message.
        admission: Makes the counts that hold beside the hub's, if the endpoint has its own.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        limits: Limits,
        outbox: Outbox,
        on_invalid: OnInvalid,
        admission: Callable[[], Admission] | None = None,
    ) -> None:
        if on_invalid not in get_args(OnInvalid):
            raise ValueError(f"on_invalid={on_invalid!r}: use one of {', '.join(get_args(OnInvalid))}")
        self.hub = hub
        self.limits = limits
        self.outbox = outbox
        self.on_invalid = on_invalid
        self._admission = admission
        self._settings: tuple[CoreHub, Settings] | None = None

    async def __call__(self, connection: HTTPConnection) -> Connection[Any, Any]:
        """Give the connection of the WebSocket that is being handled. Called by FastAPI, through `Depends`."""
        if not isinstance(connection, WebSocket):
            raise RuntimeError(
                "Depends(hub) is for WebSocket routes: in an HTTP route use the hub itself, hub.publish(…)"
            )
        return self.connect(connection)

    def connect(self, websocket: WebSocket) -> Connection[Any, Any]:
        """Return the connection of `websocket`, a new one at the first call.

        Raises:
            Denied: The page that connects is of a foreign origin.
        """
        known: dict[Hub, Connection[Any, Any]] = websocket.scope.setdefault(_SCOPE_KEY, {})
        core = self.hub.start()
        if self.hub not in known:
            known[self.hub] = self._new_connection(core, websocket)
        elif self is not self.hub.endpoint:
            if known[self.hub].is_admitted:
                raise RuntimeError("the connection is accepted already: nothing may use it before hub.connection(…)")
            known[self.hub].settings = self._settings_of(core)
        return known[self.hub]

    def _new_connection(self, core: CoreHub, websocket: WebSocket) -> Connection[Any, Any]:
        types = self.hub.types_of(websocket.scope)
        connection: Connection[Any, Any] = Connection(core, self._settings_of(core), websocket, types)
        end = EndpointEnd(connection, core)
        connection.refusal = end.refusal
        current_connection.set(connection)
        try:
            self.hub.origins.check(websocket.scope.get("scheme", "ws"), websocket.scope["headers"])
        except Denied as denied:
            raise end.refusal(denied) from None
        return connection

    def _settings_of(self, core: CoreHub) -> Settings:
        if self._settings is None or self._settings[0] is not core:
            own = () if self._admission is None else (self._admission(),)
            settings = Settings(self.limits, self.outbox, self.on_invalid, (core.admission, *own))
            self._settings = (core, settings)
        return self._settings[1]


class FromThread:
    """The hub's calls for code that runs in a thread, such as a sync `def` route. `hub.from_thread` gives it.

    Each waits until the call is done and raises what it raises.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def broadcast(self, message: object, *, exclude: CoreConnection | Iterable[CoreConnection] | None = None) -> None:
        """See `Hub.broadcast`."""
        self._run(self._hub.broadcast, message, exclude=exclude)

    def publish(
        self,
        channel: str | Channel,
        message: object,
        *,
        exclude: CoreConnection | Iterable[CoreConnection] | None = None,
    ) -> None:
        """See `Hub.publish`."""
        self._run(self._hub.publish, channel, message, exclude=exclude)

    def send(
        self, user: str, message: object, *, exclude: CoreConnection | Iterable[CoreConnection] | None = None
    ) -> None:
        """See `Hub.send`."""
        self._run(self._hub.send, user, message, exclude=exclude)

    def disconnect(self, user: str, code: int = CloseCode.DISCONNECTED, reason: str = "") -> None:
        """See `Hub.disconnect`."""
        self._run(self._hub.disconnect, user, code, reason)

    def _run(self, call: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
        async def run() -> None:
            await call(*args, **kwargs)

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(f"hub.from_thread is for threads: in async code write await hub.{call.__name__}(…)")
        loop = self._hub.loop
        if loop is not None and not loop.is_closed():
            asyncio.run_coroutine_threadsafe(run(), loop).result()
            return
        try:
            anyio.from_thread.run(run)
        except anyio.NoEventLoopError:
            raise RuntimeError(
                "the hub has not started: give the application lifespan=hub.lifespan, or use async with hub"
            ) from None


class _Connections(Mapping[str, Connection[Any, Any]]):
    """The open connections by id: always the present ones, and safe to iterate while they come and go."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def _present(self) -> Mapping[str, CoreConnection]:
        return self._hub.core.connections if self._hub.core is not None else {}

    def __getitem__(self, key: str) -> Connection[Any, Any]:
        connection = self._present()[key]
        assert isinstance(connection, Connection)
        return connection

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._present()))

    def __len__(self) -> int:
        return len(self._present())

    def __repr__(self) -> str:
        return f"<{len(self)} connections>"


class Hub:
    """Who is connected and who hears what: one for each application.

    `Depends(hub)` gives an endpoint its `Connection`. Give the application `lifespan=hub.lifespan`, or write
    `async with hub:` inside a lifespan of its own; a hub that has neither starts at its first use.

    A hub belongs to the event loop that it started in. If that loop is closed it starts afresh in the next one.

    Args:
        broker: Where the hub publishes. This version knows `memory://`, one process.
        limits: How much it takes from its clients.
        outbox: What it keeps for a client that reads slowly.
        allowed_origins: Origins whose pages may connect beside the application's own, such as
            `("https://app.example.com",)`; `("*",)` lets everyone in.
        on_invalid: What becomes of a message that does not fit `Connection[In]`: `reply` answers with a JSON error and
            goes on, `close` closes with 1007 for bad JSON and 1008 for a bad message, `raise` raises `InvalidMessage`.
        clock: The time; a test gives a `ManualClock`. The event loop's by default.

    Raises:
        ValueError: A value is not one of those above.
    """

    def __init__(
        self,
        broker: str = _MEMORY,
        *,
        limits: Limits = Limits(),
        outbox: Outbox = Outbox(),
        allowed_origins: Sequence[str] = (),
        on_invalid: OnInvalid = "reply",
        clock: Clock | None = None,
    ) -> None:
        if broker != _MEMORY:
            raise ValueError(f"broker {broker!r}: this version knows {_MEMORY!r} only")
        self.limits = limits
        self.outbox = outbox
        self.origins = OriginPolicy(allowed_origins)
        self.endpoint = Endpoint(self, limits=limits, outbox=outbox, on_invalid=on_invalid)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.core: CoreHub | None = None
        self._clock = clock
        self._families: list[ChannelFamily] = []
        self._types: dict[int, tuple[Dependant, MessageTypes]] = {}
        self._entered = 0

    def __repr__(self) -> str:
        return f"<Hub {_MEMORY} with {self.connections!r}>"

    # Connections

    async def __call__(self, connection: HTTPConnection) -> Connection[Any, Any]:
        """Give an endpoint its connection. Called by FastAPI, through `Depends(hub)`."""
        return await self.endpoint(connection)

    def connection(
        self, *, limits: Limits | None = None, outbox: Outbox | None = None, on_invalid: OnInvalid | None = None
    ) -> Endpoint:
        """Return a dependency like the hub itself, for one endpoint with settings of its own.

        Args:
            limits: Its limits. Those that count connections hold for the endpoint, beside the hub's; the others hold
                instead of the hub's.
            outbox: Its outbox, instead of the hub's.
            on_invalid: What to do with an invalid message, instead of the hub's.
        """
        return Endpoint(
            self,
            limits=limits or self.limits,
            outbox=outbox or self.outbox,
            on_invalid=on_invalid or self.endpoint.on_invalid,
            admission=None if limits is None else lambda: Admission(limits),
        )

    @property
    def connections(self) -> Mapping[str, Connection[Any, Any]]:
        """The open connections of this process by id, live; iterating is safe while they come and go."""
        return _Connections(self)

    def statistics(self) -> Statistics:
        """Return what this process has seen since the hub started, and what it holds now."""
        if self.core is None:
            return Counters().snapshot(connections=0, users=0, channels=0, queued_bytes=0)
        return self.core.statistics()

    def types_of(self, scope: Mapping[str, Any]) -> MessageTypes:
        """Return the `Connection[In, Out]` that the route of `scope` declares; read once for each route."""
        dependant = getattr(scope.get("route"), "dependant", None)
        if dependant is None:
            return UNTYPED
        # Neither a route nor its dependant can be a key; the entry keeps the dependant, so that its id stays its own.
        if id(dependant) not in self._types:
            self._types[id(dependant)] = (dependant, declared_types(dependant, self._gives, Connection))
        return self._types[id(dependant)][1]

    def _gives(self, call: object) -> bool:
        return call is self or (isinstance(call, Endpoint) and call.hub is self)

    # Messages

    async def broadcast(
        self, message: object, *, exclude: CoreConnection | Iterable[CoreConnection] | None = None
    ) -> None:
        """Send a message to everyone.

        Args:
            message: `str` goes as text, `bytes` as binary, anything else as JSON text; encoded once.
            exclude: A connection, or several, that are left out.

        Raises:
            TypeError: The message has no JSON form.
            ValueError: The message has no UTF-8 form.
        """
        await self._publish(EVERYONE, message, exclude)

    async def publish(
        self,
        channel: str | Channel,
        message: object,
        *,
        exclude: CoreConnection | Iterable[CoreConnection] | None = None,
    ) -> None:
        """Send a message to all who have joined a channel.

        Args:
            channel: Its name, or a `Channel`.
            message: As for `broadcast`.
            exclude: As for `broadcast`.

        Raises:
            TypeError: The message has no JSON form.
            ValueError: The message has no UTF-8 form, or the name is empty or begins with `$`.
        """
        await self._publish(channel_name(channel), message, exclude)

    async def send(
        self, user: str, message: object, *, exclude: CoreConnection | Iterable[CoreConnection] | None = None
    ) -> None:
        """Send a message to all connections of a user; if there is none, that is no error.

        Args:
            user: As in `connection.user`.
            message: As for `broadcast`.
            exclude: As for `broadcast`.

        Raises:
            TypeError: The message has no JSON form, or `user` is not a `str`.
            ValueError: The message has no UTF-8 form.
        """
        await self._publish(user_channel(_user(user)), message, exclude)

    async def disconnect(self, user: str, code: int = CloseCode.DISCONNECTED, reason: str = "") -> None:
        """Close all connections of a user, after what is queued for them; returns without waiting for them.

        Args:
            user: As in `connection.user`.
            code: The close code that they see.
            reason: At most 123 bytes.

        Raises:
            TypeError: `user` is not a `str`.
            ValueError: The code is not one to send, or the reason is too long.
        """
        check_close(code, reason)
        for connection in self.start().subscribers(user_channel(_user(user))):
            connection.end(code, reason)

    async def _publish(
        self, channel: str, message: object, exclude: CoreConnection | Iterable[CoreConnection] | None
    ) -> None:
        if self.start().publish(channel, message, _excluded(exclude)):
            # Somebody is behind: let the transports write before more is queued, or a producer that never waits
            # would overrun clients that are not slow at all.
            await asyncio.sleep(0)

    @property
    def from_thread(self) -> FromThread:
        """The same calls for sync code in threads."""
        return FromThread(self)

    # Channels

    def channel(self, name: str) -> Channel:
        """Return a channel by its name.

        Raises:
            ValueError: The name is empty or begins with `$`.
        """
        return Channel(name, self.publish)

    def channels(self, pattern: str, *, outbox: Outbox | None = None) -> ChannelFamily:
        """Declare a family of channels; calling what this returns gives one of them.

        Args:
            pattern: A name with parameters, such as `room:{room}`; each stands for one or more characters except `:`.
            outbox: With the policy for these channels' publications, such as `Outbox(policy="latest")`. The bound in
                bytes is the connection's.

        Raises:
            ValueError: The pattern is not one, overlaps with another family's, or the outbox has a bound of its own.
        """
        if outbox is not None and outbox.bytes != Outbox().bytes:
            raise ValueError("a channel family has a policy only: give the bound in bytes to Hub(outbox=…)")
        parsed = ChannelPattern(pattern)
        for family in self._families:
            if family.pattern.overlaps(parsed):
                raise ValueError(f"channels {pattern!r} overlaps with {family.pattern.pattern!r}: rename one")
        family = ChannelFamily(parsed, outbox.policy if outbox is not None else None, self.publish)
        self._families.append(family)
        return family

    def _policy_of(self, channel: str) -> OutboxPolicy | None:
        for family in self._families:
            if family.pattern.matches(channel):
                return family.policy
        return None

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
        limits = self.limits
        if limits.connections is None:
            limits = replace(limits, connections=open_file_limit())
        self.core = CoreHub(clock=self._clock or loop, admission=Admission(limits), policy_of=self._policy_of)
        return self.core

    async def __aenter__(self) -> Self:
        self.start()
        self._entered += 1
        return self

    async def __aexit__(self, *exc_info: object) -> None:
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

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Run the hub for as long as the application: `FastAPI(lifespan=hub.lifespan)`.

        With a lifespan of your own write `async with hub:` around its `yield`.
        """
        async with self:
            yield


def _user(user: str) -> str:
    if not isinstance(user, str):
        raise TypeError(f"user {user!r}: give the str that connection.user has")
    return user


def _excluded(exclude: CoreConnection | Iterable[CoreConnection] | None) -> Collection[CoreConnection]:
    if exclude is None:
        return ()
    excluded = (exclude,) if isinstance(exclude, CoreConnection) else frozenset(exclude)
    for connection in excluded:
        if not isinstance(connection, CoreConnection):
            raise TypeError(f"exclude: {connection!r} is not a Connection")
    return excluded
