"""The tasks that a hub runs for itself: owned, and their death is told."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..errors import HubbubError

__all__ = ("Background",)

logger = logging.getLogger("hubbub")

T = TypeVar("T")


class Background:
    """Runs coroutines until they end or the hub does."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in a task and a context of its own; what it raises is logged, unless it is Hubbub's own."""
        task = asyncio.Task(coroutine, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, HubbubError):
            logger.error("a task of the hub has failed", exc_info=error)

    async def aclose(self) -> None:
        """Cancel what runs, and wait for its end."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
