"""Channels by name, and families of channels that are declared like routes."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..hub.hub import check_channel
from ..model import Position
from .connection import Exclude
from .families import Event, Family
from .records import PresenceCount, Publication, UserPresence

__all__ = ("Calls", "Channel", "ChannelFamily")

F = TypeVar("F", bound=Callable[..., Any])


class Calls(Protocol):
    """The hub's own calls that a channel passes on: see `Hub`."""

    async def publish(
        self, channel: str, message: object, *, exclude: Exclude = None, idempotency_key: str | None = None
    ) -> Position | None:
        """See `Hub.publish`."""

    async def history(
        self, channel: str, since: Position | None = None, limit: int | None = None, *, reverse: bool = False
    ) -> Sequence[Publication]:
        """See `Hub.history`."""

    async def presence(self, channel: str) -> Mapping[str, UserPresence]:
        """See `Hub.presence`."""

    async def presence_count(self, channel: str) -> PresenceCount:
        """See `Hub.presence_count`."""

    async def stream(self, channel: str, items: AsyncIterable[Any], *, grace_s: float) -> Position:
        """See `Channel.stream`."""


class Channel:
    """One channel. `hub.channel(name)` and a family's call give it."""

    def __init__(self, name: str, hub: Calls) -> None:
        check_channel(name)
        self.name = name
        self._hub = hub

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Channel {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    async def publish(
        self, message: object, *, exclude: Exclude = None, idempotency_key: str | None = None
    ) -> Position | None:
        """Send a message to all who have joined the channel: see `Hub.publish`."""
        return await self._hub.publish(self.name, message, exclude=exclude, idempotency_key=idempotency_key)

    async def history(
        self, since: Position | None = None, limit: int | None = None, *, reverse: bool = False
    ) -> Sequence[Publication]:
        """Return what was published on the channel: see `Hub.history`."""
        return await self._hub.history(self.name, since, limit, reverse=reverse)

    async def presence(self) -> Mapping[str, UserPresence]:
        """Return who is in the channel: see `Hub.presence`."""
        return await self._hub.presence(self.name)

    async def presence_count(self) -> PresenceCount:
        """Return how many are in the channel: see `Hub.presence_count`."""
        return await self._hub.presence_count(self.name)

    async def stream(self, items: AsyncIterable[Any], *, grace_s: float = 30) -> Position:
        """Publish each item of an iterator, and a marker at its end, so that a client that reloads misses nothing.

        An item goes out as `{"type": "item", "item": …}`, the end as `{"type": "end"}`; if the iterator raises, that is
        `{"type": "error"}`, without the reason, and is raised here. The channel needs a history that is long enough for
        what may be missed. A stream goes on while nobody listens, for a while; then the iterator is closed and the end
        is `{"type": "abandoned"}`.

        Args:
            items: The iterator, such as an async generator. It is closed in the end, however that comes.
            grace_s: Seconds that nobody may listen for, on whatever worker.

        Returns:
            The position of the last publication.

        Raises:
            BrokerUnavailable: The broker has been away for longer than `grace_s`.
            TypeError: `items` is no async iterable.
            ValueError: The channel has no history, or `grace_s` is not a positive number.
            Exception: What the iterator has raised.
        """
        return await self._hub.stream(self.name, items, grace_s=grace_s)


class ChannelFamily:
    """The channels of one pattern, with their options. `hub.channels(pattern, …)` gives it; call it for a channel."""

    def __init__(self, family: Family, hub: Calls) -> None:
        self._family = family
        self._hub = hub

    def __repr__(self) -> str:
        return f"<ChannelFamily {self._family.pattern.pattern}>"

    def __call__(self, **parameters: object) -> Channel:
        """Return the channel of these parameters.

        Raises:
            TypeError: A parameter is missing or unknown.
            ValueError: A parameter is empty or contains `:`.
        """
        return Channel(self._family.pattern.name(parameters), self._hub)

    # Handlers: decorators, each for one function. It gets the channel's parameters by name, validated, and FastAPI
    # dependencies that are opened and closed for that one call; to refuse it raises `Denied`.

    def on_join(self, handler: F) -> F:
        """Ask this before a peer joins or resumes: `handler(peer, …)`.

        It is asked for history and presence too, where the family has no handler of its own for these.

        Raises:
            TypeError: A parameter of the handler does not say where it comes from.
            ValueError: The family has such a handler already.
        """
        return self._add(Event.JOIN, handler)

    def on_publish(self, handler: F) -> F:
        """Ask this before a peer publishes: `handler(peer, message, …)`; what it returns is published, if anything.

        Raises:
            TypeError, ValueError: As for `on_join`.
        """
        return self._add(Event.PUBLISH, handler)

    def on_history(self, handler: F) -> F:
        """Ask this before a peer reads history: `handler(peer, …)`.

        Raises:
            TypeError, ValueError: As for `on_join`.
        """
        return self._add(Event.HISTORY, handler)

    def on_presence(self, handler: F) -> F:
        """Ask this before a peer asks who is there: `handler(peer, …)`.

        Raises:
            TypeError, ValueError: As for `on_join`.
        """
        return self._add(Event.PRESENCE, handler)

    def on_leave(self, handler: F) -> F:
        """Tell this when a peer has left, however that came: `handler(peer, …)`. What it raises is logged.

        Raises:
            TypeError, ValueError: As for `on_join`.
        """
        return self._add(Event.LEAVE, handler)

    def on_first(self, handler: F) -> F:
        """Tell this when the first peer of this worker comes to a channel: `handler(…)`. What it raises is logged.

        Raises:
            TypeError, ValueError: As for `on_join`.
        """
        return self._add(Event.FIRST, handler)

    def on_last(self, handler: F) -> F:
        """Tell this when the last peer of this worker has left a channel: `handler(…)`. What it raises is logged.

        Raises:
            TypeError, ValueError: As for `on_join`.
        """
        return self._add(Event.LAST, handler)

    def on_user_joined(self, handler: F) -> F:
        """Tell this when a user has come to a channel: `handler(user, …)`, on one worker. What it raises is logged.

        A user with several connections comes with the first one. The family needs `presence=True`.

        Raises:
            TypeError, ValueError: As for `on_join`.
        """
        return self._add(Event.USER_JOINED, handler)

    def on_user_left(self, handler: F) -> F:
        """Tell this when a user has been away from a channel for the grace period: see `on_user_joined`.

        Raises:
            TypeError, ValueError: As for `on_join`.
        """
        return self._add(Event.USER_LEFT, handler)

    def _add(self, event: Event, handler: F) -> F:
        self._family.add(event, handler)
        return handler
