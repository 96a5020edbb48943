"""The hub: one for each application."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    ValuesView,
)
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, ParamSpec, Self, TypeVar

import anyio.from_thread
from fastapi import APIRouter
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from ..brokers import check_url
from ..config import Drain, Heartbeat, History, Limits, Outbox, Presence
from ..hub.admission import Admission
from ..hub.connection import CoreConnection, Settings
from ..hub.hub import EVERYONE, ChannelOptions, CoreHub, user_channel
from ..hub.statistics import Counters, Statistics
from ..interfaces import Clock
from ..model import CloseCode, OnInvalid, Position
from ..state.pattern import ChannelPattern
from .asyncapi.router import docs_router
from .channels import Channel, ChannelFamily
from .connection import Connection, Exclude, NamedChannel, channel_name, check_close, core_of
from .dependency import ConnectionDependency
from .events import EventsResponse
from .families import Family
from .records import PresenceCount, Publication, UserPresence, as_json, by_user, publications
from .runtime import Runtime
from .stream import stream

__all__ = ("FromThread", "Hub", "families", "hubs", "is_shared")

P = ParamSpec("P")
R = TypeVar("R")


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
        idempotency_key: str | None = None,
    ) -> Position | None:
        """See `Hub.publish`."""
        return self._run(self._hub.publish, channel, message, exclude=exclude, idempotency_key=idempotency_key)

    def history(
        self,
        channel: str | NamedChannel,
        since: Position | None = None,
        limit: int | None = None,
        *,
        reverse: bool = False,
    ) -> Sequence[Publication]:
        """See `Hub.history`."""
        return self._run(self._hub.history, channel, since, limit, reverse=reverse)

    def presence(self, channel: str | NamedChannel) -> Mapping[str, UserPresence]:
        """See `Hub.presence`."""
        return self._run(self._hub.presence, channel)

    def presence_count(self, channel: str | NamedChannel) -> PresenceCount:
        """See `Hub.presence_count`."""
        return self._run(self._hub.presence_count, channel)

    def send(self, user: str, message: object, *, exclude: Exclude = None) -> None:
        """See `Hub.send`."""
        self._run(self._hub.send, user, message, exclude=exclude)

    def disconnect(self, user: str, code: int = CloseCode.DISCONNECTED, reason: str = "") -> None:
        """See `Hub.disconnect`."""
        self._run(self._hub.disconnect, user, code, reason)

    def _run(self, call: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        async def run() -> R:
            return await call(*args, **kwargs)

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(f"hub.from_thread is for threads: in async code write await hub.{call.__name__}(…)")
        loop = self._runtime.running_loop
        if loop is not None:
            return asyncio.run_coroutine_threadsafe(run(), loop).result()
        try:
            return anyio.from_thread.run(run)
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
        broker: Where the hub publishes: `memory://`, one process; or Redis, for as many workers as you like:
            `redis://host:6379`, `rediss://…` with TLS, `unix://path`, `redis+sentinel://host:26379,…/service`,
            `redis+cluster://host:6379,…`.
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
        broker: str = "memory://",
        *,
        limits: Limits = Limits(),
        outbox: Outbox = Outbox(),
        heartbeat: Heartbeat = Heartbeat(),
        drain: Drain = Drain(),
        allowed_origins: Sequence[str] = (),
        on_invalid: OnInvalid = "reply",
        clock: Clock | None = None,
    ) -> None:
        self._scheme = check_url(broker)
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
        self._runtime = Runtime(limits, heartbeat, drain, allowed_origins, clock, broker)
        self._endpoint = ConnectionDependency(
            self._runtime, limits=limits, outbox=outbox, on_invalid=on_invalid, is_default=True
        )
        _hubs[next(_numbers)] = self

    def __repr__(self) -> str:
        return f"<Hub {self._scheme}:// with {self.connections!r}>"

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
            BrokerUnavailable: The broker is away, or has not answered in time: see its `published`.
            RuntimeError: The hub belongs to another event loop.
            TypeError: The message has no JSON form, or `exclude` names something else than connections.
            ValueError: The message has no UTF-8 form, or contains itself.
        """
        await self._runtime.start().publish(EVERYONE, message, _excluded(exclude))

    async def publish(
        self,
        channel: str | NamedChannel,
        message: object,
        *,
        exclude: Exclude = None,
        idempotency_key: str | None = None,
    ) -> Position | None:
        """Send a message to all who have joined a channel, on all workers; no handler is asked.

        Args:
            channel: Its name, or a `Channel`.
            message: As for `broadcast`.
            exclude: As for `broadcast`; a channel with history has none.
            idempotency_key: Publish once under this name: a repeat within the history's `idempotency_ttl_s` delivers
                nothing and returns the first position.

        Returns:
            The position of the publication, where the channel has history.

        Raises:
            BrokerUnavailable, RuntimeError, TypeError: As for `broadcast`.
            ValueError: As for `broadcast`; the name is empty or begins with `$`; `exclude` on a channel with history,
                or a key on one without.
        """
        core = self._runtime.start()
        return await core.publish(channel_name(channel), message, _excluded(exclude), idempotency_key)

    async def history(
        self,
        channel: str | NamedChannel,
        since: Position | None = None,
        limit: int | None = None,
        *,
        reverse: bool = False,
    ) -> Sequence[Publication]:
        """Return what was published on a channel with history.

        Args:
            channel: Its name, or a `Channel`.
            since: Only what comes after this position, or with `reverse` what came before it. Where history does not
                reach back so far, or the position is of another epoch, that is nothing.
            limit: The most publications to return; all that is kept by default.
            reverse: From the newest to the oldest.

        Raises:
            BrokerUnavailable: The broker is away.
            ValueError: The channel has no history, or the limit is not a number above 0.
        """
        return publications(await self._runtime.start().history(channel_name(channel), since, limit, reverse))

    async def presence(self, channel: str | NamedChannel) -> Mapping[str, UserPresence]:
        """Return who is in a channel, on all workers: each user's connections. Nobody in particular is not listed.

        A user that is gone stays for the grace period.

        Raises:
            BrokerUnavailable: The broker is away.
            ValueError: The channel has no presence.
        """
        return by_user(await self._runtime.start().members(channel_name(channel)))

    async def presence_count(self, channel: str | NamedChannel) -> PresenceCount:
        """Return how many are in a channel, on all workers.

        Raises:
            BrokerUnavailable, ValueError: As for `presence`.
        """
        return PresenceCount(*await self._runtime.start().count(channel_name(channel)))

    async def send(self, user: str, message: object, *, exclude: Exclude = None) -> None:
        """Send a message to all connections of a user, on all workers; if there is none, that is no error.

        Args:
            user: As in `connection.user`.
            message: As for `broadcast`.
            exclude: As for `broadcast`.

        Raises:
            BrokerUnavailable, RuntimeError, ValueError: As for `broadcast`.
            TypeError: As for `broadcast`, or `user` is not a `str`.
        """
        await self._runtime.start().publish(user_channel(_user(user)), message, _excluded(exclude))

    async def stream(self, channel: str | NamedChannel, items: AsyncIterable[Any], *, grace_s: float = 30) -> Position:
        """Publish each item of an iterator on a channel with history, and a marker at its end: see `Channel.stream`."""
        return await stream(self._runtime.start(), channel_name(channel), items, grace_s)

    async def disconnect(self, user: str, code: int = CloseCode.DISCONNECTED, reason: str = "") -> None:
        """Close all connections of a user, on all workers, after what is queued for them; does not wait for them.

        Args:
            user: As in `connection.user`.
            code: The close code that they see.
            reason: At most 123 bytes.

        Raises:
            BrokerUnavailable: As for `broadcast`.
            TypeError: `user` is not a `str`.
            ValueError: The code is not one to send, or the reason is too long.
        """
        check_close(code, reason)
        await self._runtime.start().disconnect_user(_user(user), code, reason)

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
        return Channel(name, self)

    def channels(
        self,
        pattern: str,
        *,
        outbox: Outbox | None = None,
        history: History | None = None,
        presence: Presence | bool = False,
    ) -> ChannelFamily:
        """Declare a family of channels; calling what this returns gives one of them.

        What it returns has decorators for handlers, such as `on_join`.

        Args:
            pattern: A name with parameters, such as `room:{room}`; each stands for one or more characters except `:`.
            outbox: With the policy for these channels' publications, such as `Outbox(policy="latest")`. The bound in
                bytes is the connection's.
            history: What the channels remember, so that clients that come back get what they have missed.
            presence: Whether it is known who is in them, on all workers: `True`, or with settings of its own.

        Raises:
            TypeError: A setting is not of its class.
            ValueError: The pattern is not one, or overlaps with another family's; the outbox has a bound of its own; or
                it drops messages, and the channels have history.
        """
        if outbox is not None and outbox.bytes != Outbox().bytes:
            raise ValueError("a channel family has a policy only: give the bound in bytes to Hub(outbox=…)")
        if history is not None and not isinstance(history, History):
            raise TypeError(f"history={history!r}: give the settings as history=History(…)")
        if not isinstance(presence, bool | Presence):
            raise TypeError(f"presence={presence!r}: give True, or the settings as presence=Presence(…)")
        policy = None if outbox is None else outbox.policy
        if history is not None:
            if policy not in (None, "disconnect"):
                raise ValueError(
                    f"channels {pattern!r} with history cannot have the policy {policy!r}: a client that loses some is "
                    "disconnected, and resumes"
                )
            policy = "disconnect"
        if isinstance(presence, bool):
            options = ChannelOptions(policy, history, Presence() if presence else None)
        else:
            options = ChannelOptions(policy, history, presence)
        family = Family(ChannelPattern(pattern), options)
        self._runtime.families.declare(family)
        return ChannelFamily(family, self)

    def events(
        self, request: Request, channel: str | NamedChannel, *, user: str | None = None, info: Any = None
    ) -> Response:
        """Return a channel as Server-Sent Events: `return hub.events(request, channel)` in a `GET` route.

        The family's `on_join` is asked. With history each event has its position as `id`, and a browser that comes back
        gets what it has missed; where that is not possible, an event `reset`. The data of an event is the message as on
        a socket, of binary ones in Base64. A client over a limit gets 429 or 503, one that is refused 403.

        Args:
            request: The request; its `Last-Event-ID` says where the client was.
            channel: Its name, or a `Channel`.
            user: Who listens, for presence, limits and `hub.disconnect`; `hub.send` does not reach streams.
            info: As for `Connection.join`.

        Raises:
            TypeError: `info` has no JSON form, or `user` is not a `str`.
            ValueError: The name is empty or begins with `$`, or the user is empty.
        """
        if user is not None and not _user(user):
            raise ValueError("user '': give a non-empty str, such as str(account.id), or None")
        families = self._runtime.families
        return EventsResponse(self._start_stream, families, request, channel_name(channel), user, as_json(info))

    def docs(self) -> APIRouter:
        """Return the documentation of the WebSocket endpoints: `app.include_router(hub.docs())`.

        It has `/asyncapi.json`, an AsyncAPI 3.0 document of all WebSocket endpoints of the application that includes
        it, mounted ones too, and of the families of channels of this hub and of those that the endpoints use; and
        `/realtime`, a page that shows them and tries them out. Whoever sees them knows your limits: give
        `include_router` dependencies to guard them, and a prefix to move them.

        The document is made at the first request, as FastAPI does with OpenAPI. What cannot become a schema is named
        there, and on the page.
        """
        return docs_router(self._runtime.families)

    def _start_stream(self) -> tuple[CoreHub, Settings]:
        core = self._runtime.start()
        return core, self._endpoint.settings_of(core)

    # Its life

    async def __aenter__(self) -> Self:
        self._runtime.enter()
        try:
            await self._runtime.start().start()
        except BaseException:
            await self._runtime.leave()
            raise
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


_hubs: weakref.WeakValueDictionary[int, Hub] = weakref.WeakValueDictionary()
_numbers = count()


def hubs() -> Collection[Hub]:
    """Return all hubs of this process that somebody still has, in the order in which they were made.

    They may be started or not; those of managers are there too.
    """
    return tuple(hub for _, hub in sorted(_hubs.items()))


def is_shared(hub: Hub) -> bool:
    """Whether hubs of other processes hear what a hub publishes."""
    return hub._scheme != "memory"


def families(hub: Hub) -> Iterable[Family]:
    """Return the families of a hub's channels."""
    return hub._runtime.families


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
