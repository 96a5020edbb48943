"""Channels by name, and families of channels that are declared like routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..hub.hub import check_channel
from ..state.pattern import ChannelPattern
from .connection import Exclude

__all__ = ("Channel", "ChannelFamily")

Publish = Callable[..., Awaitable[None]]


class Channel:
    """One channel. `hub.channel(name)` and a family's call give it."""

    def __init__(self, name: str, publish: Publish) -> None:
        check_channel(name)
        self.name = name
        self._publish = publish

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Channel {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    async def publish(self, message: object, *, exclude: Exclude = None) -> None:
        """Send a message to all who have joined the channel: see `Hub.publish`."""
        await self._publish(self.name, message, exclude=exclude)


class ChannelFamily:
    """The channels of one pattern, with their options. `hub.channels(pattern, …)` gives it; call it for a channel."""

    def __init__(self, pattern: ChannelPattern, publish: Publish) -> None:
        self._pattern = pattern
        self._publish = publish

    def __repr__(self) -> str:
        return f"<ChannelFamily {self._pattern.pattern}>"

    def __call__(self, **parameters: object) -> Channel:
        """Return the channel of these parameters.

        Raises:
            TypeError: A parameter is missing or unknown.
            ValueError: A parameter is empty or contains `:`.
        """
        return Channel(self._pattern.name(parameters), self._publish)
