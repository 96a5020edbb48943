"""What waits for a client that does not read fast enough: a queue bounded in bytes, and its policies.

Two kinds of messages share the queue and its order. Direct sends belong to no channel and are never dropped: whoever
sends waits until `has_room`. Publications belong to a channel, and a policy says what happens to one that does not fit:

    disconnect    it is not queued; the caller ends the connection
    drop_oldest   queued publications of the same channel make room, the oldest first
    drop_newest   it is dropped
    latest        it takes the place of the channel's queued publication, if there is one; it is dropped if even so it
                  does not fit

A message larger than the bound is taken when nothing else is queued, or nothing could ever be sent through.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, NamedTuple, TypeVar

from ..model import OutboxPolicy

__all__ = ("ENTRY_BYTES", "Offer", "OutboxQueue")

ENTRY_BYTES = 200
"""What a queued message costs beside its payload: OrderedDict node, entry and sequence number take 174 to 213 bytes by
tracemalloc on CPython 3.11. Counted, or a million one-byte messages would fit into the default bound."""

M = TypeVar("M")


class Offer(NamedTuple):
    """What became of a publication: whether it is queued, and how many publications were lost over it."""

    queued: bool
    lost: int


class _Entry(NamedTuple, Generic[M]):
    message: M
    channel: str | None
    cost: int


class _Channel:
    """The queued publications of one channel that may be dropped, the oldest first."""

    __slots__ = ("cost", "sequences")

    def __init__(self) -> None:
        self.sequences: deque[int] = deque()
        self.cost = 0


class OutboxQueue(Generic[M]):
    """The queue of one connection.

    Args:
        bound: Bytes that it may hold, `ENTRY_BYTES` for each message included.
    """

    __slots__ = ("_channels", "_entries", "_next", "bound", "bytes")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.bytes = 0
        self._entries: OrderedDict[int, _Entry[M]] = OrderedDict()
        self._channels: dict[str, _Channel] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def has_room(self, size: int, share: float = 1.0) -> bool:
        """Return whether a message of `size` bytes fits into `share` of the bound; into an empty queue any does."""
        return self._fits(size + ENTRY_BYTES, self.bound * share)

    def put(self, message: M, size: int) -> None:
        """Queue a direct send of `size` bytes. The caller has asked `has_room`."""
        self._append(_Entry(message, None, size + ENTRY_BYTES))

    def offer(self, message: M, size: int, channel: str, policy: OutboxPolicy, share: float = 1.0) -> Offer:
        """Queue a publication of `channel`, of `size` bytes, as far as `policy` allows in `share` of the bound."""
        bound = self.bound * share
        entry = _Entry(message, channel, size + ENTRY_BYTES)
        if policy == "latest" and channel in self._channels:
            return self._replace(entry, self._channels[channel], bound)
        if policy == "drop_oldest":
            return self._push_out(entry, channel, bound)
        if not self._fits(entry.cost, bound):
            return Offer(False, 0 if policy == "disconnect" else 1)
        self._append(entry)
        if policy == "latest":
            self._track(channel, entry)
        return Offer(True, 0)

    def pop(self) -> M | None:
        """Take the oldest message, or `None` when there is none."""
        if not self._entries:
            return None
        sequence, entry = self._entries.popitem(last=False)
        self.bytes -= entry.cost
        channel = self._channels.get(entry.channel) if entry.channel is not None else None
        if channel is not None and channel.sequences[0] == sequence:
            self._untrack_oldest(entry)
        return entry.message

    def _fits(self, cost: int, bound: float) -> bool:
        return not self._entries or self.bytes + cost <= bound

    def _append(self, entry: _Entry[M]) -> None:
        self._entries[self._next] = entry
        self._next += 1
        self.bytes += entry.cost

    def _track(self, name: str, entry: _Entry[M]) -> None:
        channel = self._channels.setdefault(name, _Channel())
        channel.sequences.append(self._next - 1)
        channel.cost += entry.cost

    def _untrack_oldest(self, entry: _Entry[M]) -> None:
        assert entry.channel is not None
        channel = self._channels[entry.channel]
        channel.sequences.popleft()
        channel.cost -= entry.cost
        if not channel.sequences:
            del self._channels[entry.channel]

    def _replace(self, entry: _Entry[M], channel: _Channel, bound: float) -> Offer:
        sequence = channel.sequences[-1]
        old = self._entries[sequence]
        after = self.bytes - old.cost + entry.cost
        if after > bound and len(self._entries) > 1:
            return Offer(False, 1)
        self._entries[sequence] = entry
        self.bytes = after
        channel.cost += entry.cost - old.cost
        return Offer(True, 1)

    def _push_out(self, entry: _Entry[M], name: str, bound: float) -> Offer:
        channel = self._channels.get(name)
        own = channel.cost if channel is not None else 0
        others = self.bytes - own
        if others and others + entry.cost > bound:
            return Offer(False, 1)
        lost = 0
        while not self._fits(entry.cost, bound):
            assert channel is not None
            oldest = self._entries.pop(channel.sequences[0])
            self.bytes -= oldest.cost
            self._untrack_oldest(oldest)
            lost += 1
        self._append(entry)
        self._track(name, entry)
        return Offer(True, lost)
