"""A stream that survives its listeners: an iterator's items as publications of a channel with history.

Theory of operation. One task goes through the iterator, so that what it holds open (timeouts, task groups) stays with
one task; another looks whether anybody listens. Each publication has an idempotency key: what may have been published
when the broker went away is published again under the same key, once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import Any

from ..errors import BrokerUnavailable
from ..hub.hub import CoreHub
from ..model import Position

__all__ = ("stream",)

logger = logging.getLogger("hubbub")

_POLLS = 4
"""How often in the grace period it is asked whether anybody listens."""
_LAST_WORD_S = 1.0
"""How long a stream that is cancelled has to say so."""
_CLOSE_S = 5.0
"""How long an iterator has to close."""
_RETRY_S = 0.2


async def stream(core: CoreHub, channel: str, items: AsyncIterable[Any], grace_s: float) -> Position:
    """Publish each item, and a marker at the end: see `Channel.stream`."""
    if core.options(channel).history is None:
        raise ValueError(f"channel {channel!r} has no history: declare it with hub.channels(…, history=History())")
    if not isinstance(items, AsyncIterable):
        raise TypeError(
            f"{type(items).__name__} is no async iterable: give an async generator, such as a model's output"
        )
    if isinstance(grace_s, bool) or not isinstance(grace_s, int | float) or not grace_s > 0:
        raise ValueError(f"grace_s={grace_s!r}: give a number above 0")
    return await _Stream(core, channel, grace_s).run(items)


class _Stream:
    def __init__(self, core: CoreHub, channel: str, grace_s: float) -> None:
        self._core = core
        self._channel = channel
        self._grace_s = grace_s
        self._id = secrets.token_hex(8)
        self._count = 0
        self._is_over = False

    async def run(self, items: AsyncIterable[Any]) -> Position:
        producer = asyncio.ensure_future(self._publish_all(items))
        silence = asyncio.ensure_future(self._silence())
        try:
            await asyncio.wait((producer, silence), return_when=asyncio.FIRST_COMPLETED)
            is_abandoned = not producer.done()
        except asyncio.CancelledError:
            self._is_over = True
            await _end(producer, silence)
            await self._last_word()
            raise
        if is_abandoned:
            self._is_over = True
            await _end(producer)
            silence.result()
            return await self._publish({"type": "abandoned"})
        await _end(silence)
        try:
            await producer
        except (Exception, asyncio.CancelledError):  # the iterator's own: it may have waited for a task
            await self._last_word()
            raise
        return await self._publish({"type": "end"})

    async def _last_word(self) -> None:
        with suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await self._publish({"type": "error"})

    async def _publish_all(self, items: AsyncIterable[Any]) -> None:
        try:
            async for item in items:
                if self._is_over:  # it has taken a cancellation for something else
                    return
                await self._publish({"type": "item", "item": item})
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    async def _publish(self, message: object) -> Position:
        """Publish once, for as long as it takes the broker to come back, within the grace period."""
        self._count += 1
        key = f"{self._id}.{self._count}"
        deadline = self._core.clock.time() + self._grace_s
        while True:
            try:
                position = await self._core.publish(self._channel, message, idempotency_key=key)
                assert position is not None
                return position
            except BrokerUnavailable:
                if self._core.clock.time() >= deadline:
                    raise
                await asyncio.sleep(_RETRY_S)

    async def _silence(self) -> None:
        """Return when nobody has listened for the grace period."""
        heard_at = self._core.clock.time()
        while self._core.clock.time() - heard_at < self._grace_s:
            await asyncio.sleep(self._grace_s / _POLLS)
            try:
                if await self._core.has_audience(self._channel):
                    heard_at = self._core.clock.time()
            except BrokerUnavailable:
                heard_at = self._core.clock.time()  # nobody knows


async def _end(*tasks: asyncio.Future[None]) -> None:
    """Cancel tasks and wait for their end, but not for ever: an iterator may do as it likes."""
    for task in tasks:
        task.cancel()
    done, still = await asyncio.wait(tasks, timeout=_CLOSE_S)
    if still:
        logger.error("a stream's iterator goes on after it was cancelled: it must let CancelledError pass")
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a stream's iterator has failed while it was closed", exc_info=error)
