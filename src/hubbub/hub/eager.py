"""Runs a coroutine in the turn in which it is made, and gives it a task only if it has to wait.

Most message handlers do not wait: a task for each costs more than the rest of the way through the hub. But code in a
handler may ask for the task that it runs in (`asyncio.timeout`, task groups and anyio do), so there has to be one from
the first step on. Theory of operation: one spare task waits, with nothing to do. A coroutine takes its first step as if
it ran in the spare task. If it ends there, the task is spare still. If not, the task gets the rest of it to do, and the
next coroutine a new one.

A task can be cancelled before it has taken the rest over, also by the coroutine itself: a task group does that when a
child fails at once. The coroutine hears it then where it waits, as in any task; one that ends without waiting does not.
The next one has nothing to do with it: a spare task that has been cancelled gets nothing to do any more, and ends.

Python 3.12 has tasks that start eagerly (`asyncio.eager_task_factory`); this does the same from 3.11 on, with the calls
that asyncio documents for it ("Extending", task lifetime support).
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from asyncio import _enter_task, _leave_task
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any

__all__ = ("Eager",)

CANCEL_S = 1.0
"""How long a cancelled handler has for its end."""


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
        if spare is None or spare.task.cancelling():
            spare = self._spare = _Spare(asyncio.get_running_loop())
        try:
            _enter_task(spare.loop, spare.task)
        except RuntimeError:
            if asyncio.current_task() is None:  # asked only here: it takes as long as all the rest
                raise
            self.keep(spare.loop.create_task(finish(coroutine), context=context))
            return False
        try:
            waits_for = context.run(coroutine.send, None)
        except StopIteration:
            return True
        finally:
            _leave_task(spare.loop, spare.task)
        if self._spare is spare:
            self._spare = None
        self.keep(spare.task)
        spare.go_on(finish(_Rest(coroutine, waits_for, context)))
        return False

    def start(self, coroutine: Coroutine[Any, Any, None], context: contextvars.Context) -> None:
        """Run a coroutine in a task of its own, which begins in one of the loop's next turns and never in this one."""
        # Not with `create_task`: an eager task factory would begin at once.
        self.keep(asyncio.Task(coroutine, context=context))

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it is done: the loop alone would not."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for the tasks that go on with what has been run."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Let go of the spare task, cancel the others, and wait for their end, for a moment."""
        if self._spare is not None:
            self.keep(self._spare.task)
            self._spare = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_S)


class _Spare:
    """A task that waits for something to do."""

    __slots__ = ("_rest", "_wake", "loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._rest: Coroutine[Any, Any, None] | None = None
        self._wake: asyncio.Future[None] = loop.create_future()
        coroutine = self._run()
        # A task that is cancelled before its first step does not begin its coroutine: this one has begun, and hears it.
        coroutine.send(None)
        # Not with `create_task`: a task factory may wrap the coroutine, and so put it off again.
        self.task = asyncio.Task(coroutine, loop=loop, context=contextvars.Context())

    def go_on(self, rest: Coroutine[Any, Any, None]) -> None:
        """Do this."""
        self._rest = rest
        if not self._wake.done():  # else it was cancelled, and wakes the task too
            self._wake.set_result(None)

    async def _run(self) -> None:
        waits_for: Awaitable[None] = _first_step()
        while self._rest is None:
            try:
                await waits_for
            except asyncio.CancelledError as cancelled:
                # If nobody asks for it any more, it was taken back in the very step that had asked (see `uncancel`).
                if self.task.cancelling():
                    if self._rest is None:
                        raise
                    self.task.uncancel()
                    self.task.cancel(*cancelled.args)  # to be heard where the coroutine waits
            if self._wake.cancelled():
                self._wake = self.loop.create_future()
            waits_for = self._wake
        await self._rest


@types.coroutine
def _first_step() -> Generator[None, None, None]:
    """Wait for the first step of the task."""
    yield


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
