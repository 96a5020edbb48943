"""Between the hub and its broker: publications out, publications in, and what is missing of them.

Theory of operation. On a broker that other processes share, what is published goes to the broker only, and comes back
through this hub's own subscription to its own connections too: so all hubs deliver in the broker's order. A publication
carries a token by which its hub knows it again, and the call that has published it returns when it was delivered here.
A broker that nobody shares is asked to number and remember; the hub hands on by itself, in the same step.

A channel with history that somebody hears has a `Line`: what arrives passes through its `Recovery`, and where that has
a gap, one task for the channel reads from history what is missing, and passes it on before anything newer.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple, Protocol

from ..config import History
from ..errors import BrokerUnavailable
from ..interfaces import HistoryBroker, StoredPublication
from ..model import Data, Position
from .background import Background
from .interest import Interest
from .line import Line, Publications
from .message import UNREADABLE, Disconnect, Message, pack, unpack
from .statistics import Counters

__all__ = ("Exchange", "Host")

logger = logging.getLogger("hubbub")

DELIVERY_S = 5.0
"""How long a publication that the broker has taken waits to come back to its own hub."""
RETRY_S = 0.5
"""When a history that could not be read is read again, at the latest."""
READS_AT_ONCE = 32
"""Histories that are read at a time after a gap."""


class Host(Protocol):
    """What the exchange asks of the hub."""

    def hand_on(self, channel: str, message: Message, position: Position | None, exclude: Collection[str]) -> None:
        """Give a publication to all who hear the channel, but the connections with the ids in `exclude`."""

    def tell_loss(self, channel: str, position: Position) -> None:
        """Tell all who hear the channel that something before `position` is lost."""

    def disconnect(self, channel: str, order: Disconnect) -> None:
        """Close the connections that hear a reserved channel."""


class _Read(NamedTuple):
    """What was read of a history, for all who have asked for it."""

    position: Position
    is_complete: bool
    publications: Publications


class Exchange:
    """The hub's side of its broker; it is the broker's `BrokerSink`.

    Args:
        broker: The broker.
        host: The hub.
        counters: Where gaps and the like are counted.
        background: Runs its tasks.
    """

    def __init__(self, broker: HistoryBroker, host: Host, counters: Counters, background: Background) -> None:
        self.broker = broker
        self._host = host
        self._counters = counters
        self._background = background
        self._interest = Interest(broker, background, self._subscribed_late) if broker.is_shared else None
        self._lines: dict[str, Line] = {}
        self._tokens = count()
        self._node = secrets.token_hex(8)
        self._under_way: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._reads: dict[tuple[str, Position], asyncio.Future[_Read]] = {}
        self._turn = asyncio.Semaphore(READS_AT_ONCE)

    @property
    def is_shared(self) -> bool:
        """Whether there may be other hubs."""
        return self._interest is not None

    async def start(self) -> None:
        """Begin to hear the broker."""
        await self.broker.start(self)

    # Which channels

    def want(self, channel: str, history: History | None) -> None:
        """Somebody is about to hear a channel."""
        if history is not None:
            self._lines[channel] = Line(history)
        if self._interest is not None:
            self._interest.want(channel)

    def release(self, channel: str) -> None:
        """Nobody hears it any more."""
        line = self._lines.pop(channel, None)
        if line is not None:
            line.wake()
        if self._interest is not None:
            self._interest.release(channel)
        self._expect_nothing((channel,))

    async def ready(self, channel: str) -> Line | None:
        """Return when a channel that is wanted is heard, and its position is known; return its line, if it has one.

        Raises:
            BrokerUnavailable: The broker is away; it goes on to try.
        """
        if self._interest is not None:
            await self._interest.ready(channel)
        line = self._lines.get(channel)
        if line is not None and line.position is None:
            await self._first_position(channel, line)
        return line

    async def _first_position(self, channel: str, line: Line) -> None:
        if not self.is_shared:  # there is nothing to wait for, and nobody else
            line.recovery.begin_reading()
            found = await self.broker.read(channel, line.history, limit=0)
            line.recovery.read(found.position, (), True)
            return
        self._repair(channel, line)
        await line.reaches(0)
        if line.position is None:
            raise BrokerUnavailable(f"the history of channel {channel} cannot be read")

    def line(self, channel: str) -> Line | None:
        """Return the line of a channel with history that somebody hears."""
        return self._lines.get(channel)

    # Out

    async def publish(
        self,
        channel: str,
        content: Message | Disconnect,
        *,
        exclude: Collection[str] = (),
        history: History | None = None,
        idempotency_key: str | None = None,
    ) -> Position | None:
        """Publish; return the position where the channel has history.

        Raises:
            BrokerUnavailable: The broker is away, or has not answered in time.
        """
        if history is not None:
            return await self._append(channel, content, history, idempotency_key)
        token = f"{self._node}.{next(self._tokens)}" if self._is_heard(channel) else ""
        delivered = self._expect(token, channel) if token else None
        try:
            await self.broker.publish(channel, pack(content, token, exclude))
            if delivered is not None:
                await _wait_for(delivered)
        finally:
            self._under_way.pop(token, None)
        return None

    async def _append(
        self, channel: str, content: Message | Disconnect, history: History, idempotency_key: str | None
    ) -> Position:
        position, is_repeat = await self.broker.append(channel, pack(content), history, idempotency_key)
        if not self.is_shared:
            if not is_repeat and isinstance(content, Message):
                self._arrived(channel, content, position)
            return position
        line = self._lines.get(channel)
        ours = None if line is None else line.position
        if line is not None and ours is not None and ours.epoch == position.epoch and ours.offset < position.offset:
            await _wait_for(line.reaches(position.offset))
        return position

    def _is_heard(self, channel: str) -> bool:
        return self._interest is not None and self._interest.hears(channel)

    def _expect(self, token: str, channel: str) -> asyncio.Future[None]:
        delivered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way[token] = channel, delivered
        return delivered

    def _expect_nothing(self, channels: Collection[str] | None) -> None:
        """What was published on these channels, `None` for all, may not come back: let nobody wait for it."""
        for channel, delivered in self._under_way.values():
            if (channels is None or channel in channels) and not delivered.done():
                delivered.set_result(None)

    # In

    def deliver(self, channel: str, payload: bytes, position: Position | None) -> None:
        """See `BrokerSink`."""
        try:
            content, origin, exclude = unpack(payload)
        except ValueError as error:
            self._unreadable(channel, position, error)
            return
        if isinstance(content, Disconnect):
            self._host.disconnect(channel, content)
        elif position is None:
            self._host.hand_on(channel, content, None, exclude)
        else:
            self._arrived(channel, content, position)
        _, delivered = self._under_way.get(origin, ("", None))
        if delivered is not None and not delivered.done():
            delivered.set_result(None)

    def _unreadable(self, channel: str, position: Position | None, error: ValueError) -> None:
        self._counters.malformed += 1
        logger.warning("a payload on channel %r cannot be read and is dropped: %s", channel, error)
        if position is not None:
            self._arrived(channel, UNREADABLE, position)

    def _arrived(self, channel: str, message: Message, position: Position) -> None:
        line = self._lines.get(channel)
        if line is None:
            return
        if line.recovery.arrived(position, message, message.frame.size):
            self._pass_on(channel, line, message, position)
        else:
            self._repair_if_broken(channel, line)

    def _pass_on(self, channel: str, line: Line, message: Message, position: Position) -> None:
        line.passed_on(position.offset, message)
        if message is not UNREADABLE:
            self._host.hand_on(channel, message, position, ())

    def gap(self, channels: Collection[str] | None) -> None:
        """See `BrokerSink`."""
        self._counters.gaps += 1
        self._expect_nothing(channels)
        for channel in tuple(self._lines) if channels is None else channels:
            line = self._lines.get(channel)
            if line is not None:
                line.recovery.suspect()
                self._repair(channel, line)

    def _subscribed_late(self, channel: str) -> None:
        self.gap((channel,))

    # What is missing

    def _repair_if_broken(self, channel: str, line: Line) -> None:
        if line.recovery.is_broken and line.position is not None:
            self._repair(channel, line)

    def _repair(self, channel: str, line: Line) -> None:
        if not line.is_repairing:
            line.is_repairing = True
            self._background.start(self._read_what_is_missing(channel, line))

    async def _read_what_is_missing(self, channel: str, line: Line) -> None:
        try:
            while line.recovery.is_broken and self._lines.get(channel) is line:
                try:
                    async with self._turn:
                        await self._read_once(channel, line)
                except BrokerUnavailable as error:
                    line.recovery.end_reading()
                    line.wake()
                    logger.debug("the history of channel %r cannot be read: %s", channel, error)
                    await asyncio.sleep(RETRY_S * random.uniform(0.5, 1))
        finally:
            line.is_repairing = False
            line.wake()

    async def _read_once(self, channel: str, line: Line) -> None:
        before = line.position
        line.recovery.begin_reading()
        self._counters.history_reads += 1
        found = await self.broker.read(channel, line.history, since=before, limit=0 if before is None else None)
        is_complete = found.is_complete
        if not is_complete:  # what is left of it is as good as live: in a new epoch it is all that was published
            found = await self.broker.read(channel, line.history)
            if before is not None and before.epoch != found.position.epoch:
                news = [stored for stored in found.publications if stored.offset > found.floor]
                found = replace(found, publications=news)
        if self._lines.get(channel) is not line:  # who hears the channel now has come after all this
            return
        recovered = line.recovery.read(found.position, self._unpacked(found.publications), is_complete)
        epoch, publications = found.position.epoch, recovered.publications
        if recovered.is_lost or line.is_incomplete:
            line.is_incomplete = False
            line.drop_tail()
            self._counters.unrecovered += 1
            self._host.tell_loss(channel, Position(epoch, publications[0][0] - 1) if publications else found.position)
        for offset, message in publications:
            self._pass_on(channel, line, message, Position(epoch, offset))
        line.wake()

    async def missed(self, channel: str, line: Line, since: Position) -> Publications | None:
        """Return what the connections of this hub have got after `since`, or `None` where something of it is lost.

        Whoever asks keeps the line's tail.

        Raises:
            BrokerUnavailable: The broker is away.
        """
        publications: list[tuple[int, Message]] = []
        have = since
        while line.position is not None:
            if line.position.epoch != have.epoch:
                if not await self._begins_anew(channel, line, have):
                    return None
                continue
            position = line.position
            if position.offset < have.offset:
                if not await self._reaches(channel, line, have):
                    return None
                continue
            tail = line.after(have.offset)
            if tail is not None:
                return [*publications, *tail]
            found = await self._shared_read(channel, line, have)
            if not found.is_complete:
                return None
            if line.position is None or line.position.epoch != have.epoch:
                continue
            # What is newer than the position is still to be passed on, and will be in the tail.
            newest = line.position.offset
            news = [entry for entry in found.publications if entry[0] <= newest]
            line.found(news)
            publications += news
            if not news:
                return None
            have = Position(have.epoch, news[-1][0])
        return None

    async def _begins_anew(self, channel: str, line: Line, position: Position) -> bool:
        """Return whether a client is in a new epoch of the history; this hub is in it then too."""
        found = await self._shared_read(channel, line, position)
        if not found.is_complete:
            return False
        line.recovery.suspect()
        self._repair(channel, line)
        await _wait_for(line.reaches(position.offset))
        return line.position is not None and line.position.epoch == position.epoch

    async def _reaches(self, channel: str, line: Line, position: Position) -> bool:
        """Wait until this hub is where the client was on another one already; return whether it came there."""
        found = await self._shared_read(channel, line, position)
        if found.position.epoch != position.epoch or found.position.offset < position.offset:
            return False
        line.recovery.suspect()
        self._repair(channel, line)
        await _wait_for(line.reaches(position.offset))
        return line.position is not None and line.position.offset >= position.offset

    async def history(
        self, channel: str, history: History, since: Position | None, limit: int | None, reverse: bool
    ) -> Sequence[tuple[Data, Position]]:
        """Read a channel's history; payloads that cannot be read are left out.

        Raises:
            BrokerUnavailable: The broker is away.
        """
        self._counters.history_reads += 1
        found = await self.broker.read(channel, history, since=since, limit=limit, reverse=reverse)
        epoch = found.position.epoch
        return [
            (message.frame.data, Position(epoch, offset))
            for offset, message in self._unpacked(found.publications)
            if message is not UNREADABLE
        ]

    async def _shared_read(self, channel: str, line: Line, since: Position) -> _Read:
        """Read history; those who ask for the same at a time get one answer."""
        key = (channel, since)
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = self._background.start(self._read(channel, line, since))
            reading.add_done_callback(lambda _: self._reads.pop(key))
        return await asyncio.shield(reading)

    async def _read(self, channel: str, line: Line, since: Position) -> _Read:
        self._counters.history_reads += 1
        found = await self.broker.read(channel, line.history, since=since)
        return _Read(found.position, found.is_complete, self._unpacked(found.publications))

    def _unpacked(self, publications: Collection[StoredPublication]) -> Publications:
        return [(offset, self._stored(payload)) for offset, payload in publications]

    def _stored(self, payload: bytes) -> Message:
        try:
            content = unpack(payload).content
        except ValueError as error:
            self._counters.malformed += 1
            logger.warning("a payload in a history cannot be read and is left out: %s", error)
            return UNREADABLE
        return content if isinstance(content, Message) else UNREADABLE


async def _wait_for(delivered: asyncio.Future[None]) -> None:
    """Wait until a publication has come back; it is published all the same if it does not, in a gap."""
    try:
        async with asyncio.timeout(DELIVERY_S):
            await delivered
    except TimeoutError:
        logger.debug("a publication has not come back in %g s", DELIVERY_S)
