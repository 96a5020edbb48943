"""A connection to Redis that is opened again whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import Any, Protocol

from .address import Address, AddressError
from .wire import Wire

__all__ = ("Journal", "Link", "LinkUser")

logger = logging.getLogger("hubbub")

FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 1.0
_CLOSE_S = 1.0  # for the loop to close a socket that was dropped; it takes one turn


class LinkUser(Protocol):
    """What uses a link. None of these raises, none waits."""

    def opened(self, wire: Wire) -> None:
        """There is a connection."""

    def received(self, reply: Any) -> None:
        """A reply has come in."""

    def writable(self) -> None:
        """There is room again to write."""

    def lost(self, reason: str) -> None:
        """The connection is over; nothing that was not answered will be."""


class Journal:
    """Tells the log once that Redis is away and once that it is back, however many links there are."""

    def __init__(self, address: Address) -> None:
        self.shown = address.shown
        self._away: set[object] = set()

    def away(self, link: object, reason: str) -> None:
        """A link has no connection."""
        if not self._away:
            logger.warning("Redis at %s is away: %s", self.shown, reason)
        self._away.add(link)

    def back(self, link: object) -> None:
        """A link does its work, perhaps again."""
        if link in self._away:
            self._away.remove(link)
            if not self._away:
                logger.info("Redis at %s is back", self.shown)


class Link:
    """Keeps one connection open from `start` to `aclose`.

    Args:
        address: Where Redis is.
        user: Whom the connection is for.
        journal: Whom to tell of what goes wrong.

    Attributes:
        wire: The connection while there is one.
        fault: Why there is none.
    """

    def __init__(self, address: Address, user: LinkUser, journal: Journal) -> None:
        self._address = address
        self._user = user
        self._journal = journal
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._hurry = asyncio.Event()
        self.wire: Wire | None = None
        self.fault = "not connected yet"

    def start(self) -> None:
        """Connect from now on."""
        self._task = asyncio.create_task(self._run())

    def hurry(self) -> None:
        """Try at once to connect: another link has succeeded."""
        self._hurry.set()

    def drop(self, reason: str) -> None:
        """Give up the connection, if there is one, and open another one."""
        if self.wire is not None:
            self.wire.drop(reason)

    async def aclose(self) -> None:
        """End it; `LinkUser.lost` is called before this returns if there was a connection."""
        wire = self.wire
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.drop("closed")
        self.fault = "closed"
        if wire is not None:
            await asyncio.wait([wire.closed], timeout=_CLOSE_S)
        await asyncio.sleep(0)  # for what was just being opened

    async def _run(self) -> None:
        delay = FIRST_DELAY_S
        while not self._is_closed:
            if await self._serve():
                delay = FIRST_DELAY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay * random.uniform(0.5, 1)):
                    await self._hurry.wait()
            self._hurry.clear()
            delay = min(2 * delay, LONGEST_DELAY_S)

    async def _serve(self) -> bool:
        """Connect and wait for the end; return whether that was long enough to call it a success."""
        try:
            streams = await self._address.connect()
        except AddressError as error:
            self._fail(str(error))
            return False
        except Exception as error:  # a link that ends leaves its worker deaf, or dumb
            logger.exception("connecting to Redis has failed in a way that was not expected")
            self._fail(type(error).__name__)
            return False
        if self._is_closed:  # asyncio.wait_for, which redis-py uses, may lose a cancellation before Python 3.12
            streams[1].transport.abort()
            return False
        self.wire = wire = Wire(streams, self._user.received, self._lost, self._user.writable)
        since = wire.heard_at
        self._user.opened(wire)
        await asyncio.shield(wire.closed)
        return wire.heard_at - since > LONGEST_DELAY_S

    def _lost(self, reason: str) -> None:
        self.wire = None
        self._user.lost(reason)
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        self.fault = reason
        if not self._is_closed:
            self._journal.away(self, reason)
