"""Runs a coroutine in the turn in which it is made, and gives it a task only if it has to wait.

Most message handlers do not wait: a task for each costs more than the rest of the way through the hub. But code in a
handler may ask for the task that it runs in (`asyncio.timeout`, task groups and anyio do), so there has to be one from
the first step on. Theory of operation: one spare task waits, with nothing to do. A coroutine takes its first step as if
it ran in the spare task. If it ends there, the task is spare still. If not, the task gets the rest of it to do, and the
next coroutine a new one.

Python 3.12 has tasks that start eagerly (`asyncio.eager_task_factory`); this does the same from 3.11 on, with the calls
that asyncio documents for it ("Extending", task lifetime support).
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import tasks
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any

__all__ = ("Eager",)


class Eager:
    """Runs coroutines in one event loop."""

    def __init__(self) -> None:
        self._spare: _Spare | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def run(
        self,
        coroutine: Coroutine[Any, Any, None],
        context: contextvars.Context,
        finish: Callable[[Awaitable[None]], Coroutine[Any, Any, None]],
    ) -> bool:
        """Run a coroutine and return whether it has ended; if not, `finish` is to await the rest, in a task.

        Args:
            coroutine: What to run; what it raises before it waits is raised here.
            context: The context that it runs in.
            finish: Gets the rest of the coroutine and makes of it what the task runs.
        """
        spare = self._spare
        if spare is None:
            spare = self._spare = _Spare(asyncio.get_running_loop())
        try:
            tasks._enter_task(spare.loop, spare.task)
        except RuntimeError:  # this is done in a task already
            self.keep(spare.loop.create_task(finish(coroutine), context=context))
            return False
        try:
            waits_for = context.run(coroutine.send, None)
        except StopIteration:
            return True
        finally:
            tasks._leave_task(spare.loop, spare.task)
            if spare.task.cancelling():
                self._spare = None  # it was cancelled from within, and ends
        self._spare = None
        self.keep(spare.task)
        spare.work.set_result(finish(_Rest(coroutine, waits_for, context)))
        return False

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it is done: the loop alone would not."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for the tasks that go on with what has been run."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Let go of the spare task."""
        if self._spare is not None:
            self._spare.task.cancel()
            self._spare = None


class _Spare:
    """A task that waits for something to do."""

    __slots__ = ("loop", "task", "work")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.work: asyncio.Future[Coroutine[Any, Any, None]] = loop.create_future()
        self.task = loop.create_task(self._run(), context=contextvars.Context())

    async def _run(self) -> None:
        try:
            await self.work  # type: ignore[unused-coroutine]  # for its being there
        except asyncio.CancelledError:
            if self.work.cancelled() or not self.work.done():
                raise
            # What it has to do was cancelled before it could go on: that is for the coroutine to hear.
            self.task.uncancel()
            self.task.cancel()
        await self.work.result()


class _Rest:
    """A coroutine that has taken its first step and waits for something."""

    __slots__ = ("_context", "_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any, context: contextvars.Context) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._context = context

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            step: Callable[[], Any]
            try:
                step = partial(self._coroutine.send, (yield waits_for))
            except BaseException as error:
                step = partial(self._coroutine.throw, error)
            try:
                waits_for = self._context.run(step)
            except StopIteration:
                return
