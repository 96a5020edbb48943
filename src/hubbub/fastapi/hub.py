"""The hub: one for each application."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    ItemsView,
    Iterator,
    Mapping,
    Sequence,
    ValuesView,
)
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, Self

import anyio.from_thread
from starlette.requests import HTTPConnection

from ..config import Drain, Heartbeat, Limits, Outbox
from ..hub.admission import Admission
from ..hub.connection import CoreConnection
from ..hub.hub import EVERYONE, user_channel
from ..hub.statistics import Counters, Statistics
from ..interfaces import Clock
from ..model import CloseCode, OnInvalid
from ..state.pattern import ChannelPattern
from .channels import Channel, ChannelFamily
from .connection import Connection, Exclude, NamedChannel, channel_name, check_close, core_of
from .dependency import ConnectionDependency
from .runtime import Runtime

__all__ = ("FromThread", "Hub")

_MEMORY = "memory://"


P = ParamSpec("P")


class FromThread:
    """The hub's calls for code that runs in a thread, such as a sync `def` route. `hub.from_thread` gives it.

    Each waits until the call is done and raises what it raises.
    """

    def __init__(self, hub: Hub, runtime: Runtime) -> None:
        self._hub = hub
        self._runtime = runtime

    def broadcast(self, message: object, *, exclude: Exclude = None) -> None:
        """See `Hub.broadcast`."""
        self._run(self._hub.broadcast, message, exclude=exclude)

    def publish(
        self,
        channel: str | NamedChannel,
        message: object,
        *,
        exclude: Exclude = None,
    ) -> None:
        """See `Hub.publish`."""
        self._run(self._hub.publish, channel, message, exclude=exclude)

    def send(self, user: str, message: object, *, exclude: Exclude = None) -> None:
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
        loop = self._runtime.running_loop
        if loop is not None:
            asyncio.run_coroutine_threadsafe(run(), loop).result()
            return
        try:
            anyio.from_thread.run(run)
        except anyio.NoEventLoopError:
            raise RuntimeError(
                "the hub has not started, or has ended: give the application lifespan=hub.lifespan"
            ) from None


class _Connections(Mapping[str, Connection[Any, Any]]):
    """The open connections by id: always the present ones, and safe to iterate while they come and go."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def _present(self) -> Mapping[str, CoreConnection]:
        return self._runtime.core.connections if self._runtime.core is not None else {}

    def _copy(self) -> dict[str, Connection[Any, Any]]:
        return {key: _facade(connection) for key, connection in dict(self._present()).items()}

    def __getitem__(self, key: str) -> Connection[Any, Any]:
        return _facade(self._present()[key])

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._present()))

    def __len__(self) -> int:
        return len(self._present())

    def values(self) -> ValuesView[Connection[Any, Any]]:
        return self._copy().values()

    def items(self) -> ItemsView[str, Connection[Any, Any]]:
        return self._copy().items()

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
        heartbeat: How the server asks whether a client is there.
        drain: How the server ends the connections when it stops.
        allowed_origins: Origins whose pages may connect beside the application's own, such as
            `("https://app.example.com",)`; `("*",)` lets everyone in.
        on_invalid: What becomes of a message that does not fit `Connection[In]`: `reply` answers with a JSON error and
            goes on, `close` closes with 1007 for bad JSON and 1008 for a bad message, `raise` raises `InvalidMessage`.
        clock: The time; a test gives a `ManualClock`. The event loop's by default.

    Raises:
        TypeError: `allowed_origins` is a single string, or a setting is not of its class.
        ValueError: A value is not one of those above.
    """

    def __init__(
        self,
        broker: str = _MEMORY,
        *,
        limits: Limits = Limits(),
        outbox: Outbox = Outbox(),
        heartbeat: Heartbeat = Heartbeat(),
        drain: Drain = Drain(),
        allowed_origins: Sequence[str] = (),
        on_invalid: OnInvalid = "reply",
        clock: Clock | None = None,
    ) -> None:
        if broker != _MEMORY:
            raise ValueError(f"broker {broker!r}: this version knows {_MEMORY!r} only; limits are given by name")
        for name, value, kind in (
            ("limits", limits, Limits),
            ("outbox", outbox, Outbox),
            ("heartbeat", heartbeat, Heartbeat),
            ("drain", drain, Drain),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name}={value!r}: give the settings as {name}={kind.__name__}(…)")
        self.limits = limits
        self.outbox = outbox
        self._on_invalid = on_invalid
        self._runtime = Runtime(limits, heartbeat, drain, allowed_origins, clock)
        self._endpoint = ConnectionDependency(
            self._runtime, limits=limits, outbox=outbox, on_invalid=on_invalid, is_default=True
        )

    def __repr__(self) -> str:
        return f"<Hub {_MEMORY} with {self.connections!r}>"

    # Connections

    async def __call__(self, connection: HTTPConnection) -> Connection[Any, Any]:
        """Give an endpoint its connection. Called by FastAPI, through `Depends(hub)`."""
        return await self._endpoint(connection)

    def connection(
        self, *, limits: Limits | None = None, outbox: Outbox | None = None, on_invalid: OnInvalid | None = None
    ) -> ConnectionDependency:
        """Return a dependency like the hub itself, for one endpoint with settings of its own.

        Args:
            limits: Its limits. Those that count connections hold for the endpoint, beside the hub's; the others hold
                instead of the hub's.
            outbox: Its outbox, instead of the hub's.
            on_invalid: What to do with an invalid message, instead of the hub's.

        Raises:
            ValueError: `on_invalid` is not one of the three.
        """
        return ConnectionDependency(
            self._runtime,
            limits=limits or self.limits,
            outbox=outbox or self.outbox,
            on_invalid=on_invalid or self._on_invalid,
            admission=None if limits is None else lambda: Admission(limits),
        )

    @property
    def connections(self) -> Mapping[str, Connection[Any, Any]]:
        """The open connections of this process by id, live; iterating is safe while they come and go."""
        return _Connections(self._runtime)

    def statistics(self) -> Statistics:
        """Return what this process has seen since the hub started, and what it holds now."""
        core = self._runtime.core
        if core is None:
            return Counters().snapshot(connections=0, users=0, channels=0, queued_bytes=0)
        return core.statistics()

    # Messages

    async def broadcast(self, message: object, *, exclude: Exclude = None) -> None:
        """Send a message to everyone.

        Args:
            message: `str` goes as text, `bytes` as binary, anything else as JSON text; encoded once.
            exclude: A connection, or several, that are left out.

        Raises:
            RuntimeError: The hub belongs to another event loop.
            TypeError: The message has no JSON form, or `exclude` names something else than connections.
            ValueError: The message has no UTF-8 form, or contains itself.
        """
        await self._publish(EVERYONE, message, exclude)

    async def publish(
        self,
        channel: str | NamedChannel,
        message: object,
        *,
        exclude: Exclude = None,
    ) -> None:
        """Send a message to all who have joined a channel.

        Args:
            channel: Its name, or a `Channel`.
            message: As for `broadcast`.
            exclude: As for `broadcast`.

        Raises:
            RuntimeError, TypeError: As for `broadcast`.
            ValueError: As for `broadcast`, or the name is empty or begins with `$`.
        """
        await self._publish(channel_name(channel), message, exclude)

    async def send(self, user: str, message: object, *, exclude: Exclude = None) -> None:
        """Send a message to all connections of a user; if there is none, that is no error.

        Args:
            user: As in `connection.user`.
            message: As for `broadcast`.
            exclude: As for `broadcast`.

        Raises:
            RuntimeError, ValueError: As for `broadcast`.
            TypeError: As for `broadcast`, or `user` is not a `str`.
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
        for connection in self._runtime.start().subscribers(user_channel(_user(user))):
            connection.end(code, reason)

    async def _publish(self, channel: str, message: object, exclude: Exclude) -> None:
        core = self._runtime.start()
        is_behind = core.publish(channel, message, _excluded(exclude))
        # Let the transports write before more is queued, or a producer that never waits would overrun clients that are
        # not slow at all, and memory.
        while is_behind or core.is_full:
            is_behind = False
            await asyncio.sleep(0)

    @property
    def from_thread(self) -> FromThread:
        """The same calls for sync code in threads."""
        return FromThread(self, self._runtime)

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
        self._runtime.declare(parsed, outbox.policy if outbox is not None else None)
        return ChannelFamily(parsed, self.publish)

    # Its life

    async def __aenter__(self) -> Self:
        self._runtime.enter()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runtime.leave()

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


def _excluded(exclude: Exclude) -> Collection[CoreConnection]:
    if exclude is None:
        return ()
    connections = [exclude] if isinstance(exclude, Connection) else list(exclude)
    for connection in connections:
        if not isinstance(connection, Connection):
            raise TypeError(f"exclude: {connection!r} is not a Connection")
    return frozenset(map(core_of, connections))


def _facade(connection: CoreConnection) -> Connection[Any, Any]:
    assert isinstance(connection.facade, Connection)
    return connection.facade
