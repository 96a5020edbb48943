"""One master of a cluster, with its connections.

A subscription ends when its slot goes to another master. The server says so with a `sunsubscribe` that nobody asked
for, or refuses an `ssubscribe`. Such channels are strays: the cluster finds out where they belong now, and has them
adopted there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hiredis import ReplyError

from .address import Address
from .commands import ELSEWHERE, Commands, Elsewhere, code_of
from .dialect import SHARDED
from .link import Journal
from .subscriptions import Subscriptions, Timing
from .wire import Wire

__all__ = ("Shard", "ShardSubscriptions")


class ShardSubscriptions(Subscriptions):
    """Hears channels of one master of a cluster.

    Args:
        address: Where it is.
        commands: The other connection.
        journal: Whom to tell of what goes wrong.
        beacon: The channel of the signs of life, in a slot of this master.
        timing: How long to wait.
        deliver: Called with the channel and what was published there.
        gap: Called with channels that are subscribed again after something may have been lost.
        strayed: Called with the name and the channel of a subscription that has ended, since its slot is elsewhere; or
            with the beacon's name and `None`.
    """

    def __init__(
        self,
        address: Address,
        commands: Commands,
        journal: Journal,
        *,
        beacon: bytes,
        timing: Timing,
        deliver: Callable[[str, bytes], None],
        gap: Callable[[Collection[str] | None], None],
        strayed: Callable[[bytes, str | None], None],
    ) -> None:
        super().__init__(
            address, commands, journal, beacon=beacon, timing=timing, deliver=deliver, gap=gap, dialect=SHARDED
        )
        self._strayed = strayed
        self._has_beacon = True
        self._expected: deque[tuple[bytes, bytes]] = deque()  # each command has one name, and gets one reply
        self._missed: set[bytes] = set()

    def has(self, name: bytes) -> bool:
        """Whether a channel is subscribed here, or is about to be."""
        return name in self._wanted

    def adopt(self, channels: Mapping[bytes, str]) -> None:
        """Hear channels that were subscribed elsewhere; the gap is told when that is done."""
        self._wanted.update(channels)
        if self._link.wire is not None:
            self._up.clear()
            self._missed.update(channels)
            self._restoring.update(channels)
            for name in channels:
                self._do(SHARDED.subscribe, name)

    def release(self, is_here: Callable[[bytes], bool]) -> dict[bytes, str]:
        """Give up the channels that are not here any more, and return them."""
        gone = {name: channel for name, channel in self._wanted.items() if not is_here(name)}
        for name in gone:
            self.forget(name)
        return gone

    def forget(self, name: bytes) -> None:
        """Hear a channel no more; nobody waits for that."""
        if self._wanted.pop(name, None) is not None:
            self._do(SHARDED.unsubscribe, name)

    def hold(self, beacon: bytes) -> None:
        """Send signs of life on this channel, and subscribe to it unless it is subscribed."""
        if beacon != self._beacon or not self._has_beacon:
            self._beacon = beacon
            self._has_beacon = True
            self._do(SHARDED.subscribe, beacon)

    @property
    def beacon(self) -> bytes:
        """The channel of the signs of life."""
        return self._beacon

    def opened(self, wire: Wire) -> None:
        """Subscribe to everything again."""
        self._missed.update(self._wanted)
        self._has_beacon = True
        super().opened(wire)

    def lost(self, reason: str) -> None:
        """Whatever waits for a confirmation waits in vain."""
        self._expected.clear()
        self._missed.clear()
        super().lost(reason)

    def received(self, reply: Any) -> None:
        """Deliver a publication, or take note of a confirmation, a refusal, or the end of a subscription."""
        if isinstance(reply, ReplyError):
            self._refused(reply)
        elif reply[0] == SHARDED.message:
            super().received(reply)
        else:
            self._told(reply[0], reply[1])

    def _expect(self, verb: bytes, name: bytes) -> Any:
        self._expected.append((verb, name))
        return super()._expect(verb, name)

    def _told(self, kind: bytes, name: bytes) -> None:
        if self._expected and self._expected[0] == (kind, name):
            self._expected.popleft()
            self._confirm(kind, name)
        elif kind == SHARDED.unsubscribe:
            self._stray(name)

    def _refused(self, error: ReplyError) -> None:
        if code_of(error) not in ELSEWHERE or not self._expected:
            self._link.drop(str(error))
            return
        verb, name = self._expected.popleft()
        if verb == SHARDED.unsubscribe:  # it has ended with the slot's leaving
            self._confirm(verb, name)
            return
        confirmation = self._confirmations.pop((verb, name), None)
        if confirmation is not None and confirmation.waiters:
            confirmation.fail(Elsewhere(f"Redis at {self._shown}: {error}"))
        else:
            self._stray(name)
        self._restore(name)

    def _stray(self, name: bytes) -> None:
        channel = self._wanted.pop(name, None)
        if name == self._beacon:
            self._has_beacon = False
        if channel is not None or name == self._beacon:
            self._strayed(name, channel)

    def _restored(self) -> None:
        self._up.set()
        self._journal.back(self._link)
        channels = [self._wanted[name] for name in self._missed if name in self._wanted]
        self._missed.clear()
        if channels:
            self._gap(channels)


@dataclass(frozen=True, slots=True)
class Shard:
    """The two connections to one master."""

    commands: Commands
    subscriptions: ShardSubscriptions

    def start(self) -> None:
        """Connect from now on."""
        self.commands.start()
        self.subscriptions.start()

    async def aclose(self) -> None:
        """End; every call that is under way raises."""
        await self.subscriptions.aclose()
        await self.commands.aclose()
