"""The connection for subscriptions, which says when something may have been lost.

Every loss of the connection is a gap, told when all channels are subscribed again. A connection that is dead without
having been closed is found out by a beacon: the broker publishes on a channel of its own by the other connection, and
when nothing has come in here for `beacon_deadline_s` this one is dead. That also finds a subscription that stayed
behind on a server which is no longer the one that takes the commands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hiredis import ReplyError

from ...errors import BrokerUnavailable
from .address import Address
from .commands import COMMAND_S, WAIT_S, Commands
from .dialect import PLAIN, Dialect
from .link import Journal, Link
from .wire import Wire, packed

__all__ = ("BEACON_DEADLINE_S", "BEACON_S", "Subscriptions", "Timing")

BEACON_S = 1.5
"""Seconds from one sign of life to the next."""

BEACON_DEADLINE_S = 5.0
"""Seconds of silence after which a connection is dead."""

_SECOND_LOOK_S = 0.05  # after a stall of this process, its loop may look at the time before it looks at the socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a broker waits.

    Args:
        command_s: Seconds for one command.
        wait_s: Seconds that a call waits for a connection while there is none.
        beacon_s: Seconds from one sign of life to the next.
        beacon_deadline_s: Seconds of silence after which a connection is dead.
    """

    command_s: float = COMMAND_S
    wait_s: float = WAIT_S
    beacon_s: float = BEACON_S
    beacon_deadline_s: float = BEACON_DEADLINE_S


class _Confirmation:
    """How many confirmations of one kind are due for a name, and whoever waits for the last of them."""

    __slots__ = ("due", "waiters")

    def __init__(self) -> None:
        self.due = 0
        self.waiters: list[asyncio.Future[None]] = []

    def succeed(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: BrokerUnavailable) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)


class Subscriptions:
    """Hears channels of Redis.

    Args:
        address: Where Redis is.
        commands: The other connection.
        journal: Whom to tell of what goes wrong.
        beacon: The channel of the signs of life.
        timing: How long to wait.
        deliver: Called with the channel and what was published there.
        gap: Called when something may have been lost and all channels are subscribed again; see `BrokerSink.gap`.
        dialect: What the commands are called.
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
        dialect: Dialect = PLAIN,
    ) -> None:
        self._shown = address.shown
        self._commands = commands
        self._journal = journal
        self._beacon = beacon
        self._timing = timing
        self._deliver = deliver
        self._gap = gap
        self._dialect = dialect
        self._link = Link(address, self, journal)
        self._wanted: dict[bytes, str] = {}
        self._operations: list[tuple[bytes, bytes]] = []
        self._confirmations: dict[tuple[bytes, bytes], _Confirmation] = {}
        self._restoring: set[bytes] = set()
        self._has_missed = False
        self._opened = asyncio.Event()
        self._up = asyncio.Event()
        self._away_since = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def start(self) -> None:
        """Connect from now on."""
        self._loop = asyncio.get_running_loop()
        self._away_since = self._loop.time()
        self._link.start()
        self._beat()

    async def aclose(self) -> None:
        """End; every call that is under way ends too."""
        await self._link.aclose()
        for timer in self._timers.values():
            timer.cancel()

    async def up_once(self) -> None:
        """Wait until it is up, `wait_s` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.wait_s):
                await self._up.wait()

    @property
    def is_up(self) -> bool:
        """Whether all channels are subscribed, as far as is known."""
        return self._up.is_set()

    async def subscribe(self, name: bytes, channel: str) -> None:
        """Hear a channel from when this returns.

        Args:
            name: What Redis calls it.
            channel: What it is delivered as.

        Raises:
            BrokerUnavailable: Redis is away, or has not confirmed it in time; it is not heard then.
        """
        await self._connection()
        self._wanted[name] = channel
        try:
            await self._confirmed(self._dialect.subscribe, name)
        except (asyncio.CancelledError, BrokerUnavailable):
            self._wanted.pop(name, None)
            self._do(self._dialect.unsubscribe, name)
            raise

    async def unsubscribe(self, name: bytes) -> None:
        """Hear a channel no more."""
        self._wanted.pop(name, None)
        if self._link.wire is None:
            return
        try:
            await self._confirmed(self._dialect.unsubscribe, name)
        except BrokerUnavailable as error:
            self._link.drop(error.reason)  # with the connection, the subscription ends

    async def _connection(self) -> None:
        patience_s = self._away_since + self._timing.wait_s - self._loop.time()
        try:
            async with asyncio.timeout(max(0, patience_s) if self._link.wire is None else None):
                await self._opened.wait()
        except TimeoutError:
            raise self._unavailable(self._link.fault) from None

    async def _confirmed(self, verb: bytes, name: bytes) -> None:
        """Send a command for a name and wait until it is confirmed, and every earlier one with it."""
        confirmation = self._do(verb, name)
        if confirmation is None:
            raise self._unavailable(self._link.fault)
        waiter: asyncio.Future[None] = self._loop.create_future()
        confirmation.waiters.append(waiter)
        try:
            async with asyncio.timeout(self._timing.command_s):
                await waiter
        except TimeoutError:
            raise self._unavailable(f"no answer within {self._timing.command_s:g} s") from None

    def _unavailable(self, reason: str) -> BrokerUnavailable:
        return BrokerUnavailable(f"Redis at {self._shown}: {reason}")

    def _do(self, verb: bytes, name: bytes) -> _Confirmation | None:
        """Send a command with the others of this turn, if there is a connection."""
        if self._link.wire is None:
            return None
        if not self._operations:
            self._loop.call_soon(self._flush)
        self._operations.append((verb, name))
        return self._expect(verb, name)

    def _expect(self, verb: bytes, name: bytes) -> _Confirmation:
        """Count on the confirmation of a command; called in the order in which commands are sent."""
        confirmation = self._confirmations.setdefault((verb, name), _Confirmation())
        confirmation.due += 1
        return confirmation

    def _flush(self) -> None:
        operations, self._operations = self._operations, []
        wire = self._link.wire
        if wire is not None:
            for verb, group in groupby(operations, lambda operation: operation[0]):
                for packet in self._commands_for(verb, (name for _, name in group)):
                    wire.write(packet)

    def _commands_for(self, verb: bytes, names: Iterable[bytes]) -> Iterator[bytes]:
        listed, most = list(names), self._dialect.names_at_once
        for start in range(0, len(listed), most):
            yield packed((verb, *listed[start : start + most]))

    def opened(self, wire: Wire) -> None:
        """Subscribe to everything again."""
        names = [self._beacon, *self._wanted]
        self._has_missed = self._has_missed or len(self._wanted) > 0
        self._restoring = set(names)
        for packet in self._commands_for(self._dialect.subscribe, names):
            wire.write(packet)
        for name in names:
            self._expect(self._dialect.subscribe, name)
        self._opened.set()
        self._commands.hurry()  # who hears of the gap has something to ask
        self._listen(wire)

    def received(self, reply: Any) -> None:
        """Deliver a publication, or take note of a confirmation."""
        if isinstance(reply, ReplyError):
            self._link.drop(str(reply))  # a name that may not be subscribed: nothing says which
            return
        kind, name, data = reply
        if kind == self._dialect.message:
            channel = self._wanted.get(name)
            if channel is not None:
                self._deliver(channel, data)
        else:
            self._confirm(kind, name)

    def _confirm(self, verb: bytes, name: bytes) -> None:
        confirmation = self._confirmations.get((verb, name))
        if confirmation is None:
            return
        confirmation.due -= 1
        if not confirmation.due:
            del self._confirmations[verb, name]
            confirmation.succeed()
        if verb == self._dialect.subscribe:
            self._restore(name)

    def _restore(self, name: bytes) -> None:
        """Wait no longer for a name that was subscribed when the connection was opened."""
        if self._restoring:
            self._restoring.discard(name)
            if not self._restoring:
                self._restored()

    def _restored(self) -> None:
        self._up.set()
        self._journal.back(self._link)
        if self._has_missed:
            self._gap(None)
        self._has_missed = True  # whatever comes after the first connection is another one

    def writable(self) -> None:
        """There is room again. Nothing waits for that: whoever sends waits for the confirmation."""

    def lost(self, reason: str) -> None:
        """Whatever waits for a confirmation waits in vain."""
        self._up.clear()
        self._opened.clear()
        self._away_since = self._loop.time()
        self._operations.clear()
        self._restoring.clear()
        confirmations, self._confirmations = self._confirmations, {}
        for confirmation in confirmations.values():
            confirmation.fail(self._unavailable(reason))

    def _beat(self) -> None:
        """Publish a sign of life; it is of no interest whether that has worked, but whether it arrives."""
        self._commands.send(self._dialect.publish, self._beacon, b"").add_done_callback(_disregard)
        self._timers["beat"] = self._loop.call_later(self._timing.beacon_s, self._beat)

    def _listen(self, wire: Wire) -> None:
        """See to it that something comes in on this connection."""
        due = wire.heard_at + self._timing.beacon_deadline_s
        if self._loop.time() < due:
            self._timers["listen"] = self._loop.call_at(due, self._listen, wire)
        elif wire.is_open:
            self._timers["listen"] = self._loop.call_later(_SECOND_LOOK_S, self._look_again, wire)

    def _look_again(self, wire: Wire) -> None:
        if wire.heard_at + self._timing.beacon_deadline_s <= self._loop.time():
            wire.drop(f"nothing heard for {self._timing.beacon_deadline_s:g} s")
        else:
            self._listen(wire)


def _disregard(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
