"""The families of channels that an application has declared, and the handlers that are asked for them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from enum import StrEnum
from functools import partial
from typing import Any

from starlette.types import Scope

from ..hub.connection import CoreConnection
from ..hub.hub import PLAIN, ChannelOptions
from ..state.pattern import ChannelPattern
from .handlers import Handler, requestless_scope
from .peer import Peer

__all__ = ("Event", "Families", "Family")

logger = logging.getLogger("hubbub")


class Event(StrEnum):
    """What a family's handlers are called for; each is the name of its decorator."""

    JOIN = "on_join"
    LEAVE = "on_leave"
    PUBLISH = "on_publish"
    HISTORY = "on_history"
    PRESENCE = "on_presence"
    FIRST = "on_first"
    LAST = "on_last"
    USER_JOINED = "on_user_joined"
    USER_LEFT = "on_user_left"


_WITHOUT_PEER = frozenset({Event.FIRST, Event.LAST, Event.USER_JOINED, Event.USER_LEFT})
_TAKES = {Event.PUBLISH: "message", Event.USER_JOINED: "user", Event.USER_LEFT: "user"}
_LIKE_JOIN = frozenset({Event.HISTORY, Event.PRESENCE})


class Family:
    """One family: its pattern, its options and its handlers."""

    def __init__(self, pattern: ChannelPattern, options: ChannelOptions) -> None:
        self.pattern = pattern
        self.options = options
        self._handlers: dict[Event, Handler] = {}

    def add(self, event: Event, function: Callable[..., Any]) -> None:
        """Set the handler of an event.

        Raises:
            TypeError: It is not a function for that.
            ValueError: There is one already.
        """
        if event in self._handlers:
            raise ValueError(f"channels {self.pattern.pattern!r} have a handler {event} already")
        pattern = self.pattern
        self._handlers[event] = Handler(
            function, pattern, takes=_TAKES.get(event), takes_peer=event not in _WITHOUT_PEER
        )

    def handler(self, event: Event) -> Handler | None:
        """Return what is called for an event."""
        handler = self._handlers.get(event)
        return self._handlers.get(Event.JOIN) if handler is None and event in _LIKE_JOIN else handler

    @property
    def handlers(self) -> Collection[Handler]:
        """Its handlers, in the order in which they were declared."""
        return self._handlers.values()

    @property
    def needs_scope(self) -> bool:
        """Whether a handler reads the peer's handshake."""
        return any(handler.needs_scope for handler in self._handlers.values())


class Families:
    """All families of one hub; also the `Witness` of its core.

    Attributes:
        app: The application, once it is known.
        keep: Holds a task until it is done.
    """

    def __init__(self) -> None:
        self._families: list[Family] = []
        self._busy: dict[str, asyncio.Task[None]] = {}
        self.app: object | None = None
        self.keep: Callable[[asyncio.Task[None]], None] = lambda task: None

    def declare(self, family: Family) -> None:
        """Add a family.

        Raises:
            ValueError: A name could belong to it and to another family.
        """
        for other in self._families:
            if other.pattern.overlaps(family.pattern):
                raise ValueError(
                    f"channels {family.pattern.pattern!r} overlaps with {other.pattern.pattern!r}: rename one"
                )
        self._families.append(family)

    def __iter__(self) -> Iterator[Family]:
        """Iterate over the families in the order in which they were declared."""
        return iter(self._families)

    def of(self, channel: str) -> Family | None:
        """Return the family of a channel."""
        return next((family for family in self._families if family.pattern.matches(channel)), None)

    def options_of(self, channel: str) -> ChannelOptions:
        """Return what the family of a channel has declared."""
        family = self.of(channel)
        return PLAIN if family is None else family.options

    @property
    def needs_scope(self) -> bool:
        """Whether a handler reads the peer's handshake: then it stays with a detached connection."""
        return any(family.needs_scope for family in self._families)

    async def _ask(self, event: Event, channel: str, peer: Peer, message: object = None) -> Any:
        """Call the handler of an event, if there is one; return what it returns, or for no handler the message."""
        family = self.of(channel)
        handler = None if family is None else family.handler(event)
        if family is None or handler is None:
            return message
        parameters = family.pattern.parameters_of(channel) or {}
        message = handler.validated(message)  # which is what goes out where the handler returns nothing
        scope = _scope_of(peer) if handler.needs_scope else None
        answer = await handler.call_with(peer, scope, parameters, message)
        return message if answer is None else answer

    async def may_join(self, channel: str, peer: Peer) -> None:
        """See `Permission`."""
        await self._ask(Event.JOIN, channel, peer)

    async def to_publish(self, channel: str, peer: Peer, message: object) -> object:
        """See `Permission`."""
        return await self._ask(Event.PUBLISH, channel, peer, message)

    async def may_read(self, channel: str, peer: Peer) -> None:
        """See `Permission`."""
        await self._ask(Event.HISTORY, channel, peer)

    async def may_see(self, channel: str, peer: Peer) -> None:
        """See `Permission`."""
        await self._ask(Event.PRESENCE, channel, peer)

    # What the core tells

    def first(self, channel: str) -> None:
        """See `Witness`."""
        self._tell(Event.FIRST, channel)

    def last(self, channel: str) -> None:
        """See `Witness`."""
        self._tell(Event.LAST, channel)

    def came(self, channel: str, user: str) -> None:
        """See `Witness`."""
        self._tell(Event.USER_JOINED, channel, message=user)

    def went(self, channel: str, user: str) -> None:
        """See `Witness`."""
        self._tell(Event.USER_LEFT, channel, message=user)

    def left(self, connection: CoreConnection, channel: str) -> None:
        """See `Witness`."""
        family = self.of(channel)
        handler = None if family is None else family.handler(Event.LEAVE)
        peer: Any = connection.facade
        if family is not None and handler is not None and peer is not None:
            self._start(channel, partial(self._call, handler, family, channel, peer, _scope_of(peer)))

    def _tell(self, event: Event, channel: str, message: object = None) -> None:
        family = self.of(channel)
        handler = None if family is None else family.handler(event)
        if family is not None and handler is not None:
            scope = requestless_scope(self.app)
            self._start(channel, partial(self._call, handler, family, channel, None, scope, message))

    def _start(self, channel: str, call: Callable[[], Awaitable[None]]) -> None:
        """Run a call in a task, after those of the same channel that were started before."""
        task = asyncio.Task(_after(self._busy.get(channel), call), context=contextvars.Context())
        self._busy[channel] = task
        task.add_done_callback(lambda done: self._ended(channel, done))
        self.keep(task)

    def _ended(self, channel: str, task: asyncio.Task[None]) -> None:
        if self._busy.get(channel) is task:
            del self._busy[channel]

    async def _call(
        self,
        handler: Handler,
        family: Family,
        channel: str,
        peer: Peer | None,
        scope: Scope | None,
        message: object = None,
    ) -> None:
        try:
            await handler.call(peer, scope, family.pattern.parameters_of(channel) or {}, message)
        except Exception:
            logger.exception("a handler of channel %s has failed", channel)


def _scope_of(peer: Any) -> Scope | None:
    scope: Scope | None = peer.scope()
    return scope


async def _after(earlier: asyncio.Task[None] | None, call: Callable[[], Awaitable[None]]) -> None:
    if earlier is not None:
        await asyncio.wait((earlier,))
    await call()
