"""Who hears which channel: the two-way index of channels and subscribers."""

from __future__ import annotations

from collections.abc import Hashable, KeysView
from typing import Generic, NamedTuple, TypeVar

__all__ = ("Change", "ChannelIndex")

S = TypeVar("S", bound=Hashable)


class Change(NamedTuple):
    """What a join or leave did: whether anything changed, and whether it was the channel's first or last subscriber."""

    changed: bool
    edge: bool


class ChannelIndex(Generic[S]):
    """Channels and their subscribers, in the order in which they joined.

    Neither an empty channel nor a subscriber without a channel stays behind.
    """

    def __init__(self) -> None:
        self._subscribers: dict[str, dict[S, None]] = {}
        self._channels: dict[S, dict[str, None]] = {}

    def __len__(self) -> int:
        """The number of channels that somebody hears."""
        return len(self._subscribers)

    def join(self, channel: str, subscriber: S) -> Change:
        """Subscribe; `edge` says that the channel had nobody before."""
        subscribers = self._subscribers.setdefault(channel, {})
        if subscriber in subscribers:
            return Change(False, False)
        subscribers[subscriber] = None
        self._channels.setdefault(subscriber, {})[channel] = None
        return Change(True, len(subscribers) == 1)

    def leave(self, channel: str, subscriber: S) -> Change:
        """Unsubscribe; `edge` says that the channel has nobody now."""
        subscribers = self._subscribers.get(channel)
        if subscribers is None or subscriber not in subscribers:
            return Change(False, False)
        del subscribers[subscriber]
        channels = self._channels[subscriber]
        del channels[channel]
        if not channels:
            del self._channels[subscriber]
        if subscribers:
            return Change(True, False)
        del self._subscribers[channel]
        return Change(True, True)

    def remove(self, subscriber: S) -> tuple[str, ...]:
        """Unsubscribe from everything and return the channels that have nobody now."""
        return tuple(channel for channel in self.channels(subscriber) if self.leave(channel, subscriber).edge)

    def subscribers(self, channel: str) -> tuple[S, ...]:
        """Return those who hear `channel` now, a copy: delivering to one may remove it."""
        return tuple(self._subscribers.get(channel, ()))

    def count(self, channel: str) -> int:
        """Return how many hear `channel`."""
        return len(self._subscribers.get(channel, ()))

    def channels(self, subscriber: S) -> tuple[str, ...]:
        """Return what `subscriber` hears."""
        return tuple(self._channels.get(subscriber, ()))

    def contains(self, channel: str, subscriber: S) -> bool:
        """Return whether `subscriber` hears `channel`."""
        return channel in self._channels.get(subscriber, ())

    def names(self) -> KeysView[str]:
        """Return the channels that somebody hears, live."""
        return self._subscribers.keys()
