"""Which channels this hub hears from its broker: those that its connections hear, and no others.

Theory of operation. What is wanted changes at once and without waiting; what is subscribed follows, by one task for
each channel that is behind, which goes on until both agree. So there are never two calls of the broker for one channel
at a time, and a first join during the last leave finds the subscription made anew after it: nobody is deaf, and nothing
is left behind. A subscription that fails is tried again for as long as it is wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..errors import BrokerUnavailable
from ..interfaces import Broker
from .background import Background

__all__ = ("Interest",)

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 2.0


class Interest:
    """The subscriptions of one hub.

    Args:
        broker: Where it subscribes.
        background: Runs its tasks.
        late: Told of a channel whose subscription has come later than it was wanted: publications may be missing.
    """

    def __init__(self, broker: Broker, background: Background, late: Callable[[str], None]) -> None:
        self._broker = broker
        self._background = background
        self._late = late
        self._wanted: set[str] = set()
        self._subscribed: set[str] = set()
        self._settling: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def __len__(self) -> int:
        """The channels that are subscribed, or about to be."""
        return len(self._subscribed | self._settling)

    def hears(self, channel: str) -> bool:
        """Return whether a channel is subscribed, and will be."""
        return channel in self._subscribed and channel in self._wanted

    def want(self, channel: str) -> None:
        """Hear a channel."""
        self._wanted.add(channel)
        self._start(channel)

    def release(self, channel: str) -> None:
        """Hear it no more."""
        self._wanted.discard(channel)
        self._start(channel)

    async def ready(self, channel: str) -> None:
        """Return when a channel that is wanted is subscribed.

        Raises:
            BrokerUnavailable: That has failed, and is tried again; or the hub has ended.
        """
        while channel in self._wanted and (channel not in self._subscribed or channel in self._settling):
            if channel not in self._settling:  # its task has been cancelled, or has failed by a fault of the broker
                raise BrokerUnavailable(f"channel {channel} is not subscribed")
            if channel not in self._waiting:
                self._waiting[channel] = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiting[channel])

    def _start(self, channel: str) -> None:
        if channel not in self._settling and not self._is_settled(channel):
            self._settling.add(channel)
            self._background.start(self._settle(channel))

    def _is_settled(self, channel: str) -> bool:
        return (channel in self._wanted) == (channel in self._subscribed)

    async def _settle(self, channel: str) -> None:
        retry_s = FIRST_RETRY_S
        is_late = False
        try:
            while not self._is_settled(channel):
                if channel not in self._wanted:
                    self._subscribed.discard(channel)
                    await self._broker.unsubscribe(channel)
                    continue
                try:
                    await self._broker.subscribe(channel)
                except BrokerUnavailable as error:
                    is_late = True
                    self._wake(channel, error)
                    await asyncio.sleep(retry_s)
                    retry_s = min(2 * retry_s, LAST_RETRY_S)
                    continue
                self._subscribed.add(channel)
        finally:
            self._settling.discard(channel)
            self._wake(channel, None)
        if is_late and channel in self._wanted:
            self._late(channel)

    def _wake(self, channel: str, error: BrokerUnavailable | None) -> None:
        waiting = self._waiting.pop(channel, None)
        if waiting is None or waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(BrokerUnavailable(error.reason))
            waiting.exception()  # whoever waited may have been cancelled
