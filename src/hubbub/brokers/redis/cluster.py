"""A cluster: what belongs to a channel lies in one slot, each slot has one master, and each master is a shard.

The names of a channel share a hash tag, so that one script can store and publish; publications go by sharded pub/sub,
which stays within a shard. Which master has which slot is asked at the start and every `MAP_S`, and at once when there
is a reason to doubt it: a refusal, a lost connection, a subscription that the server has ended. Whatever was refused
has not been executed and is tried again with the next map, while there is time.

While a slot is being moved, some of its keys are here and some there, and both nodes refuse a script that takes
several (TRYAGAIN): calls for its channels wait for the end of that, as long as a call may wait. `ASK` is not followed,
since the other node could only refuse, too. When it is over, subscriptions are moved, and the gap is told for their
channels. A history has another epoch then, as it is in another server's life.

As with any failover of Redis: what is published without a history at a master that has been replaced, and does not
know that yet, reaches those only who have not heard of it either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Any, TypeVar

from ...errors import BrokerUnavailable
from .address import Address, AddressError
from .commands import Argument, Commands, Elsewhere
from .link import Journal
from .script import Script
from .shard import Shard, ShardSubscriptions
from .slots import Node, SlotMap, ask
from .subscriptions import Timing

__all__ = ("MAP_S", "Cluster")

logger = logging.getLogger("hubbub")

MAP_S = 10.0
"""Seconds from one look at the slots to the next, when nothing happens."""

_LOOK_S = 0.1  # between two looks, when much happens
_BEACONS = 200_000  # to try for a slot of a master; one of a master's only slot is found among them, nearly surely

T = TypeVar("T")


class Cluster:
    """Does for a cluster what `Commands` and `Subscriptions` do for a server.

    Args:
        address: Its seeds.
        journal: Whom to tell of what goes wrong with all of it; each shard has its own.
        beacon: Returns the channel of the signs of life of a number.
        timing: How long to wait.
        deliver: See `Subscriptions`.
        gap: Called with the channels for which something may have been lost, when they are subscribed again.
    """

    def __init__(
        self,
        address: Address,
        journal: Journal,
        *,
        beacon: Callable[[int], bytes],
        timing: Timing,
        deliver: Callable[[str, bytes], None],
        gap: Callable[[Collection[str] | None], None],
    ) -> None:
        self._address = address
        self._journal = journal
        self._beacon = beacon
        self._timing = timing
        self._deliver = deliver
        self._gap = gap
        self._fault = "not connected yet"
        self._map = SlotMap()
        self._shards: dict[Node, Shard] = {}
        self._strays: dict[bytes, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._doubted = asyncio.Event()
        self._looked = asyncio.Event()  # another one for each look
        self._is_closed = False

    def start(self) -> None:
        """Look at the slots and connect from now on."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._keep_looking())

    async def up_once(self) -> None:
        """Wait until it is up, `wait_s` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.wait_s):
                while not self._shards:
                    await self._looked.wait()
                await asyncio.gather(*(shard.subscriptions.up_once() for shard in self._shards.values()))

    async def aclose(self) -> None:
        """End; every call that is under way raises."""
        self._is_closed = True
        self._fault = "closed"
        if self._task is not None:
            self._task.cancel()
            self._doubted.set()  # for the case that this is lost: see `Link`
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._looked.set()
        await asyncio.gather(*(shard.aclose() for shard in self._shards.values()), *self._closing)

    @property
    def is_up(self) -> bool:
        """Whether all channels are subscribed, as far as is known."""
        shards = self._shards.values()
        return bool(shards) and not self._strays and all(shard.subscriptions.is_up for shard in shards)

    async def subscribe(self, name: bytes, channel: str) -> None:
        """Hear a channel from when this returns; see `Subscriptions.subscribe`."""
        try:
            await self._routed(name, lambda shard: shard.subscriptions.subscribe(name, channel))
        except (asyncio.CancelledError, BrokerUnavailable):
            self._give_up(name)
            raise

    async def unsubscribe(self, name: bytes) -> None:
        """Hear a channel no more."""
        self._strays.pop(name, None)
        for shard in tuple(self._shards.values()):
            if shard.subscriptions.has(name):
                await shard.subscriptions.unsubscribe(name)

    async def call(self, *arguments: Argument) -> Any:
        """Send a command to the master that has its key, and return the reply.

        Raises:
            BrokerUnavailable: It was refused, or could not be sent, or has not been answered.
        """
        return await self._routed(_key_of(arguments), lambda shard: shard.commands.call(*arguments))

    async def run(self, script: Script, keys: Iterable[bytes], *arguments: Argument) -> Any:
        """Run a script at the master that has its keys, and return the reply.

        Raises:
            BrokerUnavailable: It was refused, or could not be sent, or has not been answered.
        """
        keys = tuple(keys)
        return await self._routed(keys[0], lambda shard: shard.commands.run(script, keys, *arguments))

    async def _routed(self, name: bytes, call: Callable[[Shard], Awaitable[T]]) -> T:
        """Make a call to the master that has a name; again, if it was refused and another one has the name by now."""
        now = self._loop.time()
        found_by, over_by = now + self._timing.wait_s, now + self._timing.command_s
        while True:
            shard = self._shard(name)
            if shard is None:
                await self._next_look(found_by)
                continue
            try:
                return await call(shard)
            except BrokerUnavailable as error:
                is_elsewhere = isinstance(error, Elsewhere)
                may_retry = is_elsewhere or (error.published == "no" and self._shard(name) is not shard)
                if not may_retry or self._is_closed or self._loop.time() >= over_by:
                    raise
                if is_elsewhere:
                    with contextlib.suppress(BrokerUnavailable):  # try once more in any case
                        await self._next_look(over_by)

    def _shard(self, name: bytes) -> Shard | None:
        owner = self._map.owner(name)
        return self._shards.get(owner) if owner is not None else None

    async def _next_look(self, deadline: float) -> None:
        self._doubted.set()
        try:
            async with asyncio.timeout_at(deadline):
                await self._looked.wait()
        except TimeoutError:
            pass
        else:
            if not self._is_closed:
                return
        raise BrokerUnavailable(f"Redis at {self._address.shown}: {self._fault}")

    def _give_up(self, name: bytes) -> None:
        self._strays.pop(name, None)
        for shard in self._shards.values():
            shard.subscriptions.forget(name)

    # The map

    async def _keep_looking(self) -> None:
        while not self._is_closed:
            self._doubted.clear()
            await self._look()
            looked, self._looked = self._looked, asyncio.Event()
            looked.set()
            if self._strays:
                self._doubted.set()
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAP_S):
                    await self._doubted.wait()

    async def _look(self) -> None:
        known = list(self._map.nodes)
        random.shuffle(known)
        try:
            found = await ask(self._address, [*known, *self._address.seeds])
        except AddressError as error:
            self._fault = str(error)
            self._journal.away(self, self._fault)
        except Exception as error:  # without its map, this worker would be deaf sooner or later
            self._fault = type(error).__name__
            logger.exception("looking at the slots of Redis has failed in a way that was not expected")
        else:
            if not self._is_closed:
                self._fault = "no node has the slot of this channel"
                self._journal.back(self)
                self._take(found)

    def _take(self, found: SlotMap) -> None:
        """Go by another map: connect to masters that are new, move what they have now, and let go of the others."""
        before, self._map = self._map, found
        for node in found.masters - self._shards.keys():
            self._shards[node] = self._opened(node)
        if found.owners != before.owners:
            for node, shard in self._shards.items():
                self._strays |= shard.subscriptions.release(partial(found.is_at, node))
        self._settle()
        for node in self._shards.keys() - found.masters:
            self._close(self._shards.pop(node))
        for node, shard in self._shards.items():
            shard.subscriptions.hold(self._beacon_at(node, shard.subscriptions.beacon))

    def _settle(self) -> None:
        """Have every stray adopted where it belongs."""
        adopted: dict[Node, dict[bytes, str]] = {}
        for name, channel in self._strays.items():
            owner = self._map.owner(name)
            if owner is not None:
                adopted.setdefault(owner, {})[name] = channel
        for owner, channels in adopted.items():
            self._shards[owner].subscriptions.adopt(channels)
            for name in channels:
                del self._strays[name]

    def _opened(self, node: Node) -> Shard:
        address = self._address.at(*node)
        journal = _Alarm(address, self._doubted.set)
        commands = Commands(address, journal, self._timing.command_s, self._timing.wait_s)
        subscriptions = ShardSubscriptions(
            address,
            commands,
            journal,
            beacon=self._beacon_at(node),
            timing=self._timing,
            deliver=self._deliver,
            gap=self._gap,
            strayed=self._strayed,
        )
        shard = Shard(commands, subscriptions)
        shard.start()
        return shard

    def _close(self, shard: Shard) -> None:
        task = asyncio.create_task(shard.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _strayed(self, name: bytes, channel: str | None) -> None:
        if channel is not None:
            self._strays[name] = channel
        self._doubted.set()

    def _beacon_at(self, node: Node, present: bytes | None = None) -> bytes:
        """Return the name of a beacon in a slot of a master: the present one while it is."""
        if present is not None and self._map.owner(present) == node:
            return present
        names = map(self._beacon, range(_BEACONS))
        return next((name for name in names if self._map.owner(name) == node), self._beacon(0))


class _Alarm(Journal):
    """A journal of a shard, which makes the cluster look at the slots as soon as anything is wrong."""

    def __init__(self, address: Address, alarm: Callable[[], None]) -> None:
        super().__init__(address)
        self._alarm = alarm

    def away(self, link: object, reason: str) -> None:
        """A link has no connection."""
        super().away(link, reason)
        self._alarm()


def _key_of(arguments: tuple[Argument, ...]) -> bytes:
    """Return what of a command says which slot it is for."""
    key = arguments[2] if arguments[0] == b"PUBSUB" else arguments[1]
    if not isinstance(key, bytes):
        raise TypeError(f"no command of one slot: {arguments[0]!r}")
    return key
