"""Coroutines that run in the turn in which they are made: their task, context, cancellation and end."""

import asyncio
import contextvars
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hubbub.hub.eager import Eager

SPARES = ("fresh", "waiting")
"""What the spare task has done before a coroutine runs in it: nothing, or its first step."""
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")


class Ground:
    """Runs coroutines as the loop does when it has read something: outside of every task.

    Attributes:
        eager: What is tested.
        context: The context of the coroutines.
        outcomes: What the coroutines that had to wait have ended with, in order.
    """

    def __init__(self) -> None:
        self.eager = Eager()
        self.context = contextvars.copy_context()
        self.outcomes: list[object] = []

    async def in_loop(self, call: Callable[[], Any]) -> Any:
        """Return what `call` returns, or raise what it raises, when the loop itself calls it."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def make() -> None:
            assert asyncio.current_task() is None
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            assert asyncio.current_task() is None

        asyncio.get_running_loop().call_soon(make)
        return await future

    def run_now(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        return self.eager.run(coroutine, self.context, self._finish)

    async def run(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Run a coroutine and return whether it has ended."""
        has_ended: bool = await self.in_loop(lambda: self.run_now(coroutine))
        return has_ended

    async def _finish(self, rest: Awaitable[None]) -> None:
        try:
            await rest
        except BaseException as error:
            self.outcomes.append(error)
            raise
        self.outcomes.append("ended")

    async def have_spare(self, spare: str) -> None:
        """Have a spare task of this kind."""
        if spare == "waiting":
            assert await self.run(nothing())
            await turn()

    @property
    def outcome(self) -> object:
        (outcome,) = self.outcomes
        return outcome


async def nothing() -> None:
    """End at once."""


async def turn() -> None:
    """Let everything run that the loop has been given so far."""
    for _ in range(3):
        await asyncio.sleep(0)


def current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    """Give a ground on which nothing is left behind."""
    before = asyncio.all_tasks()
    ground = Ground()
    yield ground
    async with asyncio.timeout(5):
        await ground.eager.finish()
        await ground.eager.close()
    assert asyncio.all_tasks() <= {*before, current()}


@pytest.fixture(params=SPARES)
async def spare(request: pytest.FixtureRequest, ground: Ground) -> str:
    """Have each kind of spare task in turn."""
    kind: str = request.param
    await ground.have_spare(kind)
    return kind


# It ends, or waits


async def test_what_does_not_wait_has_ended_when_the_call_returns(ground: Ground, spare: str) -> None:
    steps: list[str] = []

    async def step() -> None:
        steps.append("done")

    def call() -> list[str]:
        assert ground.run_now(step())
        return [*steps]

    assert await ground.in_loop(call) == ["done"]
    assert ground.outcomes == []


async def test_what_waits_goes_on_in_a_task(ground: Ground, spare: str) -> None:
    steps: list[str] = []
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        steps.append("first")
        steps.append(await gate)
        await asyncio.sleep(0)
        steps.append("last")

    def call() -> list[str]:
        assert not ground.run_now(wait())
        return [*steps]

    assert await ground.in_loop(call) == ["first"]
    gate.set_result("second")
    await ground.eager.finish()
    assert steps == ["first", "second", "last"]
    assert ground.outcome == "ended"


async def test_what_it_waits_for_may_come_before_the_task_goes_on(ground: Ground, spare: str) -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    heard: list[str] = []

    async def wait() -> None:
        heard.append(await gate)

    def call() -> None:
        ground.run_now(wait())
        gate.set_result("at once")

    await ground.in_loop(call)
    await ground.eager.finish()
    assert heard == ["at once"]


async def test_what_is_raised_in_the_first_step_is_raised_by_the_call(ground: Ground, spare: str) -> None:
    async def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await ground.run(fail())
    assert await ground.run(nothing())
    assert ground.outcomes == []


async def test_what_is_raised_later_is_raised_where_the_rest_is_awaited(ground: Ground, spare: str) -> None:
    error = ValueError("wrong")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    async def finish(rest: Awaitable[None]) -> None:
        with pytest.raises(ValueError, match="wrong"):
            await rest
        ground.outcomes.append("heard")

    assert not await ground.in_loop(lambda: ground.eager.run(fail(), ground.context, finish))
    await ground.eager.finish()
    assert ground.outcome == "heard"


async def test_what_it_waits_for_may_fail(ground: Ground, spare: str) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    heard: list[str] = []

    async def wait() -> None:
        try:
            await gate
        except OSError as error:
            heard.append(str(error))
            await asyncio.sleep(0)

    await ground.run(wait())
    gate.set_exception(OSError("gone"))
    await ground.eager.finish()
    assert (heard, ground.outcome) == (["gone"], "ended")


async def test_many_can_wait_at_the_same_time(ground: Ground) -> None:
    ended: list[int] = []
    gate = asyncio.Event()

    async def wait(number: int) -> None:
        await gate.wait()
        ended.append(number)

    def call() -> None:
        for number in range(5):
            assert not ground.run_now(wait(number))
            assert ground.run_now(nothing())

    await ground.in_loop(call)
    gate.set()
    await ground.eager.finish()
    assert ended == [*range(5)]


# Its task


async def test_the_task_is_the_same_in_all_steps(ground: Ground, spare: str) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def wait() -> None:
        for _ in range(3):
            tasks.append(current())
            await asyncio.sleep(0)

    await ground.run(wait())
    await ground.eager.finish()
    assert len({*tasks}) == 1
    assert tasks[0].done()


async def test_what_does_not_wait_shares_a_task_and_what_waits_has_one_of_its_own(ground: Ground) -> None:
    tasks: list[asyncio.Task[Any]] = []
    gate = asyncio.Event()

    async def step() -> None:
        tasks.append(current())

    async def wait() -> None:
        tasks.append(current())
        await gate.wait()

    def call() -> None:
        for coroutine in (step(), step(), wait(), wait(), step()):
            ground.run_now(coroutine)

    await ground.in_loop(call)
    assert tasks[0] is tasks[1] is tasks[2]
    assert tasks[3] is not tasks[2]
    assert tasks[4] not in tasks[:4]
    gate.set()


async def test_within_a_task_it_runs_in_another_one_later(ground: Ground, spare: str) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def step() -> None:
        tasks.append(current())
        variable.set("the coroutine's")

    assert not ground.run_now(step())
    assert tasks == []
    await ground.eager.finish()
    assert tasks != [current()]
    assert (ground.outcome, ground.context[variable], variable.get()) == ("ended", "the coroutine's", "nobody's")


async def test_within_a_first_step_another_one_runs_later(ground: Ground, spare: str) -> None:
    log: list[str] = []

    async def inner() -> None:
        log.append("inner")

    async def outer() -> None:
        assert not ground.eager.run(inner(), contextvars.Context(), ground._finish)
        log.append("outer")

    assert await ground.run(outer())
    await ground.eager.finish()
    assert log == ["outer", "inner"]


async def test_what_is_to_begin_later_does_so_in_a_task_and_a_context(ground: Ground) -> None:
    log: list[object] = []

    async def begin() -> None:
        log.append(current())
        variable.set("its own")

    def call() -> int:
        ground.eager.start(begin(), ground.context)
        return len(log)

    assert await ground.in_loop(call) == 0
    await ground.eager.finish()
    assert len(log) == 1
    assert ground.context[variable] == "its own"


# Its context


async def test_all_steps_run_in_the_context_that_is_given(ground: Ground, spare: str) -> None:
    seen: list[str] = []

    async def wait() -> None:
        seen.append(variable.get())
        variable.set("first")
        await asyncio.sleep(0)
        seen.append(variable.get())
        variable.set("second")
        await asyncio.sleep(0)
        seen.append(variable.get())

    ground.context.run(variable.set, "given")
    await ground.run(wait())
    await ground.eager.finish()
    assert seen == ["given", "first", "second"]
    assert (ground.context[variable], variable.get()) == ("second", "nobody's")


async def test_one_context_does_for_many_coroutines(ground: Ground) -> None:
    async def note(name: str, *, waits: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        variable.set(variable.get() + name)

    ground.context.run(variable.set, "")
    for name, waits in (("1", False), ("2", True), ("3", False), ("4", True)):
        await ground.run(note(name, waits=waits))
        await ground.eager.finish()
    assert ground.context[variable] == "1234"


async def test_the_tasks_of_what_waits_have_nothing_of_whoever_made_them(ground: Ground) -> None:
    seen: list[str] = []

    async def wait() -> None:
        seen.append(variable.get())
        await asyncio.sleep(0)
        seen.append(variable.get())

    def call() -> None:
        variable.set("the caller's")
        ground.eager.run(wait(), contextvars.Context(), ground._finish)

    await ground.in_loop(call)
    await ground.eager.finish()
    assert seen == ["nobody's", "nobody's"]


# A cancellation from within


class Cancels:
    """A coroutine that cancels its own task in its first step, and notes what it hears of it."""

    def __init__(self, times: int = 1, message: str | None = None) -> None:
        self.times = times
        self.message = message
        self.task: asyncio.Task[Any]
        self.heard: list[tuple[object, ...]] = []
        self.cancelling = 0

    def cancel(self) -> None:
        self.task = current()
        for _ in range(self.times):
            self.task.cancel(self.message)

    async def wait(self, awaitable: Awaitable[object]) -> None:
        self.cancel()
        try:
            await awaitable
        except asyncio.CancelledError as error:
            self.heard.append(error.args)
            self.cancelling = current().cancelling()
            raise

    async def end(self) -> None:
        self.cancel()

    async def fail(self) -> None:
        self.cancel()
        raise ValueError("wrong")


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("message", [None, "enough"])
@pytest.mark.parametrize("waits_for", ["a future", "a turn", "what is there already"])
async def test_one_that_cancels_itself_hears_it_where_it_waits(
    ground: Ground, spare: str, times: int, message: str | None, waits_for: str
) -> None:
    cancels = Cancels(times, message)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    awaitable: Awaitable[object] = asyncio.sleep(0) if waits_for == "a turn" else future

    def call() -> None:
        assert not ground.run_now(cancels.wait(awaitable))
        if waits_for == "what is there already":
            future.set_result(None)

    await ground.in_loop(call)
    await ground.eager.finish()
    assert len(cancels.heard) == 1
    assert waits_for != "a future" or cancels.heard == [(() if message is None else (message,))]
    assert cancels.cancelling == times
    assert isinstance(ground.outcome, asyncio.CancelledError)
    assert cancels.task.cancelled()
    assert await ground.run(nothing())


async def test_one_that_cancels_itself_may_go_on(ground: Ground, spare: str) -> None:
    steps: list[str] = []

    async def survive() -> None:
        current().cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        current().uncancel()
        await asyncio.sleep(0)
        steps.append("on")

    await ground.run(survive())
    await ground.eager.finish()
    assert (steps, ground.outcome) == (["on"], "ended")


@pytest.mark.parametrize("fails", [False, True])
async def test_one_that_cancels_itself_and_does_not_wait_leaves_the_next_alone(
    ground: Ground, spare: str, fails: bool
) -> None:
    first = Cancels()
    tasks: list[asyncio.Task[Any]] = []

    async def wait() -> None:
        tasks.append(current())
        await asyncio.sleep(0)

    def call() -> None:
        if fails:
            with pytest.raises(ValueError, match="wrong"):
                ground.run_now(first.fail())
        else:
            assert ground.run_now(first.end())
        assert ground.run_now(nothing())
        assert not ground.run_now(wait())

    await ground.in_loop(call)
    await ground.eager.finish()
    assert ground.outcome == "ended"
    assert tasks != [first.task]
    assert first.task.cancelled()


@pytest.mark.parametrize("later", [False, True], ids=["in the same turn", "later"])
async def test_one_that_takes_its_cancellation_back_leaves_the_next_alone(
    ground: Ground, spare: str, later: bool
) -> None:
    async def change_its_mind() -> None:
        current().cancel()
        current().uncancel()

    async def wait() -> None:
        await asyncio.sleep(0)

    if later:
        assert await ground.run(change_its_mind())
        await turn()
        assert not await ground.run(wait())
    else:
        await ground.in_loop(lambda: (ground.run_now(change_its_mind()), ground.run_now(wait())))
    await ground.eager.finish()
    assert ground.outcome == "ended"


async def test_a_cancellation_that_is_taken_back_before_it_waits_is_not_heard(ground: Ground, spare: str) -> None:
    async def change_its_mind() -> None:
        current().cancel()
        current().uncancel()
        await asyncio.sleep(0)

    await ground.run(change_its_mind())
    await ground.eager.finish()
    assert ground.outcome == "ended"


async def test_within_one_that_has_cancelled_itself_another_one_runs(ground: Ground, spare: str) -> None:
    log: list[str] = []

    async def inner() -> None:
        log.append("inner")

    async def outer() -> None:
        current().cancel()
        ground.eager.run(inner(), contextvars.Context(), ground._finish)
        await asyncio.sleep(0)

    await ground.run(outer())
    await ground.eager.finish()
    assert log == ["inner"]
    assert {type(outcome) for outcome in ground.outcomes} == {str, asyncio.CancelledError}


# A cancellation from outside


@pytest.mark.parametrize("when", ["between the steps", "later"])
async def test_it_hears_a_cancellation_from_outside(ground: Ground, spare: str, when: str) -> None:
    tasks: list[asyncio.Task[Any]] = []
    heard: list[tuple[object, ...]] = []

    async def wait() -> None:
        tasks.append(current())
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError as error:
            heard.append(error.args)
            raise

    def call() -> None:
        assert not ground.run_now(wait())
        if when == "between the steps":
            tasks[0].cancel("outside")

    await ground.in_loop(call)
    if when == "later":
        await turn()
        tasks[0].cancel("outside")
    await ground.eager.finish()
    assert heard == [("outside",)]
    assert tasks[0].cancelled()
    assert isinstance(ground.outcome, asyncio.CancelledError)


@pytest.mark.parametrize("when", ["in the same turn", "later"])
async def test_a_spare_task_that_is_cancelled_from_outside_is_replaced(ground: Ground, when: str) -> None:
    before = asyncio.all_tasks()
    await ground.have_spare("waiting")
    (task,) = asyncio.all_tasks() - before
    steps: list[str] = []

    async def wait() -> None:
        await asyncio.sleep(0)
        steps.append("done")

    if when == "later":
        task.cancel()
        await turn()
        assert not await ground.run(wait())
    else:
        await ground.in_loop(lambda: (task.cancel(), ground.run_now(wait())))
    await ground.eager.finish()
    assert (steps, ground.outcome) == (["done"], "ended")
    assert task.cancelled()


# What asks for the task that it runs in


async def test_a_timeout_holds(ground: Ground, spare: str) -> None:
    heard: list[str] = []

    async def wait() -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            heard.append("late")
        await asyncio.sleep(0)
        assert current().cancelling() == 0

    await ground.run(wait())
    await ground.eager.finish()
    assert (heard, ground.outcome) == (["late"], "ended")


async def test_a_timeout_that_is_not_needed_does_no_harm(ground: Ground, spare: str) -> None:
    async def step() -> None:
        async with asyncio.timeout(0):  # noqa: ASYNC100  # that there is nothing to wait for is the point
            pass

    assert await ground.run(step())
    await turn()
    assert not await ground.run(asyncio.sleep(0))
    await ground.eager.finish()
    assert ground.outcome == "ended"


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_group_works(ground: Ground, spare: str, fails: bool) -> None:
    log: list[str] = []

    async def child() -> None:
        if fails:
            raise ValueError("wrong")
        log.append("child")

    async def wait() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                if fails:
                    await asyncio.get_running_loop().create_future()
        except ExceptionGroup as errors:
            log.append(str(errors.exceptions[0]))
        await asyncio.sleep(0)

    await ground.run(wait())
    await ground.eager.finish()
    assert (log, ground.outcome) == (["wrong" if fails else "child"], "ended")


async def test_fail_after_of_anyio_holds(ground: Ground, spare: str) -> None:
    heard: list[str] = []

    async def wait() -> None:
        try:
            with anyio.fail_after(0):
                await anyio.sleep_forever()
        except TimeoutError:
            heard.append("late")
        await anyio.lowlevel.checkpoint()

    await ground.run(wait())
    await ground.eager.finish()
    assert (heard, ground.outcome) == (["late"], "ended")


@pytest.mark.parametrize("waits", [False, True])
async def test_a_cancel_scope_of_anyio_ends_what_is_in_it_only(ground: Ground, spare: str, waits: bool) -> None:
    log: list[str] = []

    async def wait() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            if waits:
                await anyio.sleep_forever()
                log.append("not this")
        log.append("after")

    assert await ground.run(wait()) is not waits
    await turn()
    assert not await ground.run(anyio.lowlevel.checkpoint())
    await ground.eager.finish()
    assert log == ["after"]
    assert ground.outcomes == ["ended"] * (1 + waits)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_group_of_anyio_works(ground: Ground, spare: str, fails: bool) -> None:
    log: list[str] = []

    async def child() -> None:
        if fails:
            raise ValueError("wrong")
        log.append("child")

    async def wait() -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                if fails:
                    await anyio.sleep_forever()
        except ExceptionGroup as errors:
            log.append(str(errors.exceptions[0]))
        await anyio.lowlevel.checkpoint()

    await ground.run(wait())
    await ground.eager.finish()
    assert (log, ground.outcome) == (["wrong" if fails else "child"], "ended")


# Task factories


@pytest.fixture
async def eagerly() -> None:
    """Let the loop's tasks begin at once."""
    if sys.version_info < (3, 12):
        pytest.skip("eager task factories came with Python 3.12")
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("waits", [False, True])
async def test_where_tasks_begin_at_once_it_is_all_the_same(ground: Ground, spare: str, waits: bool) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def step() -> None:
        tasks.append(current())
        if waits:
            await asyncio.sleep(0)
            tasks.append(current())

    assert await ground.run(step()) is not waits
    await ground.eager.finish()
    assert len({*tasks}) == 1
    assert ground.outcomes == ["ended"] * waits


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("waits", [False, True])
async def test_where_tasks_begin_at_once_it_may_end_within_the_call_in_a_task(ground: Ground, waits: bool) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def step() -> None:
        tasks.append(current())
        if waits:
            await asyncio.sleep(0)

    assert not ground.run_now(step())
    assert len(tasks) == 1
    assert tasks != [current()]
    await ground.eager.finish()
    assert ground.outcome == "ended"


@pytest.mark.usefixtures("eagerly")
async def test_where_tasks_begin_at_once_a_later_one_does_not(ground: Ground) -> None:
    log: list[str] = []

    async def begin() -> None:
        log.append("begun")

    def call() -> list[str]:
        ground.eager.start(begin(), ground.context)
        return [*log]

    assert await ground.in_loop(call) == []
    await ground.eager.finish()
    assert log == ["begun"]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("waits", [False, True])
async def test_a_task_group_whose_child_fails_at_once_cancels_what_made_it(
    ground: Ground, spare: str, waits: bool
) -> None:
    heard: list[str] = []

    async def fail() -> None:
        raise ValueError("wrong")

    async def wait() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                if waits:
                    await asyncio.get_running_loop().create_future()
        except ExceptionGroup as errors:
            heard.append(str(errors.exceptions[0]))

    assert await ground.run(wait()) is not waits
    assert not await ground.run(asyncio.sleep(0))
    await ground.eager.finish()
    assert heard == ["wrong"]
    assert ground.outcomes == ["ended"] * (1 + waits)


async def test_a_factory_that_wraps_coroutines_does_no_harm(ground: Ground) -> None:
    """As those of tools do that measure how long a task takes."""

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        async def wrapped() -> Any:
            return await coroutine

        return asyncio.Task(wrapped(), loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(factory)
    for spare in SPARES:
        await ground.have_spare(spare)
        cancels = Cancels()
        await ground.run(cancels.wait(asyncio.get_running_loop().create_future()))
        ground.run_now(nothing())
        await ground.eager.finish()
        assert len(cancels.heard) == 1
    assert len(ground.outcomes) == 4


# The end


async def test_finish_waits_for_all_that_goes_on_also_for_what_that_begins(ground: Ground) -> None:
    ended: list[str] = []

    async def second() -> None:
        await asyncio.sleep(0)
        ended.append("second")

    async def first() -> None:
        await asyncio.sleep(0)
        ground.eager.start(second(), contextvars.Context())
        ended.append("first")

    await ground.run(first())
    await ground.eager.finish()
    assert ended == ["first", "second"]


async def test_finish_returns_at_once_where_nothing_goes_on(ground: Ground, spare: str) -> None:
    with pytest.raises(StopIteration):
        ground.eager.finish().send(None)


async def test_close_cancels_what_goes_on_and_lets_go_of_the_spare_task(ground: Ground) -> None:
    before = asyncio.all_tasks()
    await ground.have_spare("waiting")

    def call() -> None:
        ground.run_now(asyncio.sleep(3600))
        ground.run_now(nothing())

    await ground.in_loop(call)
    await ground.eager.close()
    assert isinstance(ground.outcome, asyncio.CancelledError)
    assert asyncio.all_tasks() <= before
    await ground.eager.close()


async def test_close_within_a_first_step_cancels_that_too(ground: Ground, spare: str) -> None:
    async def close() -> None:
        await ground.eager.close()

    await ground.run(close())
    await ground.eager.finish()
    assert isinstance(ground.outcome, asyncio.CancelledError)


async def test_after_close_it_can_be_used_again(ground: Ground, spare: str) -> None:
    await ground.eager.close()
    assert await ground.run(nothing())
    assert not await ground.run(asyncio.sleep(0))
    await ground.eager.finish()
    assert ground.outcome == "ended"


def test_a_loop_that_is_shut_down_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    ground = Ground()

    async def main() -> None:
        await ground.run(asyncio.sleep(3600))
        await ground.run(nothing())

    asyncio.run(main())
    assert isinstance(ground.outcome, asyncio.CancelledError)
    assert caplog.records == []
