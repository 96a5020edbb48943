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

    Neither an empty channel nor a subscriber without a channel stays behind. There are many subscribers with few
    channels each: theirs are tuples, which take a quarter of what dictionaries take.
    """

    def __init__(self) -> None:
        self._subscribers: dict[str, dict[S, None]] = {}
        self._channels: dict[S, tuple[str, ...]] = {}

    def __len__(self) -> int:
        """The number of channels that somebody hears."""
        return len(self._subscribers)

    def join(self, channel: str, subscriber: S) -> Change:
        """Subscribe; `edge` says that the channel had nobody before."""
        subscribers = self._subscribers.setdefault(channel, {})
        if subscriber in subscribers:
            return Change(False, False)
        subscribers[subscriber] = None
        self._channels[subscriber] = (*self._channels.get(subscriber, ()), channel)
        return Change(True, len(subscribers) == 1)

    def leave(self, channel: str, subscriber: S) -> Change:
        """Unsubscribe; `edge` says that the channel has nobody now."""
        subscribers = self._subscribers.get(channel)
        if subscribers is None or subscriber not in subscribers:
            return Change(False, False)
        channels = tuple(other for other in self._channels[subscriber] if other != channel)
        if channels:
            self._channels[subscriber] = channels
        else:
            del self._channels[subscriber]
        return Change(True, self._take_out(channel, subscriber))

    def remove(self, subscriber: S) -> tuple[str, ...]:
        """Unsubscribe from everything and return the channels that have nobody now."""
        channels = self._channels.pop(subscriber, ())
        return tuple(channel for channel in channels if self._take_out(channel, subscriber))

    def _take_out(self, channel: str, subscriber: S) -> bool:
        """Take a subscriber out of a channel and return whether nobody hears it now."""
        subscribers = self._subscribers[channel]
        del subscribers[subscriber]
        if not subscribers:
            del self._subscribers[channel]
        return not subscribers

    def subscribers(self, channel: str) -> tuple[S, ...]:
        """Return those who hear `channel` now, a copy: delivering to one may remove it."""
        return tuple(self._subscribers.get(channel, ()))

    def count(self, channel: str) -> int:
        """Return how many hear `channel`."""
        return len(self._subscribers.get(channel, ()))

    def channels(self, subscriber: S) -> tuple[str, ...]:
        """Return what `subscriber` hears."""
        return self._channels.get(subscriber, ())

    def contains(self, channel: str, subscriber: S) -> bool:
        """Return whether `subscriber` hears `channel`."""
        return subscriber in self._subscribers.get(channel, ())

    def names(self) -> KeysView[str]:
        """Return the channels that somebody hears, live."""
        return self._subscribers.keys()
