"""The clock that stands still until it is moved."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.interfaces import Clock
from hubbub.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def calls() -> list[tuple[str, float]]:
    return []


def note(clock: Clock, calls: list[tuple[str, float]], name: str) -> Callable[[], None]:
    """Return a callback that notes its name and the time at which it was called."""
    return lambda: calls.append((name, clock.time()))


def test_it_starts_at_zero_or_where_it_is_told() -> None:
    assert ManualClock().time() == 0
    assert ManualClock(1_000.5).time() == 1_000.5


async def test_it_stands_still_by_itself(clock: ManualClock) -> None:
    called = []
    clock.call_at(0, lambda: called.append(True))
    for _ in range(10):
        await asyncio.sleep(0)
    assert clock.time() == 0
    assert called == []


@pytest.mark.parametrize("steps", [[3.5], [1, 2, 0.5], [0, 3.5, 0]])
def test_it_moves_by_as_much_as_it_is_moved(clock: ManualClock, steps: list[float]) -> None:
    for step in steps:
        clock.advance(step)
    assert clock.time() == 3.5


def test_a_call_is_made_when_its_time_has_come_and_once(clock: ManualClock, calls: list[tuple[str, float]]) -> None:
    clock.call_at(2, note(clock, calls, "a"))
    clock.advance(1.999)
    assert calls == []
    clock.advance(0.001)
    assert calls == [("a", 2)]
    clock.advance(100)
    assert calls == [("a", 2)]


def test_calls_are_made_in_order_of_time_and_each_at_its_own(
    clock: ManualClock, calls: list[tuple[str, float]]
) -> None:
    for when in (3, 1, 2):
        clock.call_at(when, note(clock, calls, str(when)))
    clock.advance(10)
    assert calls == [("1", 1), ("2", 2), ("3", 3)]
    assert clock.time() == 10


def test_calls_of_one_time_are_made_in_the_order_in_which_they_were_asked_for(
    clock: ManualClock, calls: list[tuple[str, float]]
) -> None:
    for name in "cab":
        clock.call_at(1, note(clock, calls, name))
    clock.advance(1)
    assert calls == [("c", 1), ("a", 1), ("b", 1)]


@pytest.mark.parametrize("when", [-5, 0])
def test_a_call_that_is_late_is_made_at_the_next_move_and_time_does_not_go_back(
    clock: ManualClock, calls: list[tuple[str, float]], when: float
) -> None:
    clock.advance(7)
    clock.call_at(when, note(clock, calls, "late"))
    assert calls == []
    clock.advance(0)
    assert calls == [("late", 7)]


def test_a_call_that_was_withdrawn_is_not_made(clock: ManualClock, calls: list[tuple[str, float]]) -> None:
    timer = clock.call_at(1, note(clock, calls, "withdrawn"))
    clock.call_at(1, note(clock, calls, "made"))
    timer.cancel()
    timer.cancel()
    clock.advance(1)
    assert calls == [("made", 1)]


def test_to_withdraw_a_call_that_was_made_does_nothing(clock: ManualClock, calls: list[tuple[str, float]]) -> None:
    timer = clock.call_at(1, note(clock, calls, "made"))
    clock.advance(1)
    timer.cancel()
    assert calls == [("made", 1)]


def test_a_call_may_withdraw_another_of_the_same_time(clock: ManualClock, calls: list[tuple[str, float]]) -> None:
    clock.call_at(1, lambda: other.cancel())
    other = clock.call_at(1, note(clock, calls, "withdrawn"))
    clock.advance(1)
    assert calls == []


def test_a_call_may_ask_for_another_and_both_are_made_if_both_are_due(
    clock: ManualClock, calls: list[tuple[str, float]]
) -> None:
    def again() -> None:
        calls.append(("again", clock.time()))
        clock.call_at(clock.time() + 2, again)

    clock.call_at(1, again)
    clock.advance(6)
    assert calls == [("again", 1), ("again", 3), ("again", 5)]
    clock.advance(1)
    assert calls[3:] == [("again", 7)]


def test_a_call_that_raises_raises_where_the_clock_is_moved_and_the_others_are_still_due(
    clock: ManualClock, calls: list[tuple[str, float]]
) -> None:
    def fail() -> None:
        raise OSError("on purpose")

    clock.call_at(1, fail)
    clock.call_at(2, note(clock, calls, "later"))
    with pytest.raises(OSError, match="on purpose"):
        clock.advance(5)
    assert (clock.time(), calls) == (1, [])
    clock.advance(1)
    assert calls == [("later", 2)]


@pytest.mark.parametrize("seconds", [-1, -1e-9])
def test_time_does_not_go_back(clock: ManualClock, seconds: float) -> None:
    clock.advance(5)
    with pytest.raises(ValueError, match=rf"advance\({seconds}\): time does not go back"):
        clock.advance(seconds)
    assert clock.time() == 5


def test_time_does_not_go_back_when_a_call_moves_the_clock(clock: ManualClock) -> None:
    clock.call_at(1, lambda: clock.advance(10))
    clock.advance(2)
    assert clock.time() >= 11


@given(
    whens=st.lists(st.floats(0, 100), max_size=20),
    steps=st.lists(st.floats(0, 50), max_size=10),
)
def test_every_call_is_made_once_in_order_and_never_early(whens: list[float], steps: list[float]) -> None:
    clock = ManualClock()
    made: list[tuple[float, int]] = []
    times: list[float] = []

    def make(when: float, index: int) -> None:
        made.append((when, index))
        times.append(clock.time())

    for index, when in enumerate(whens):
        clock.call_at(when, lambda when=when, index=index: make(when, index))  # type: ignore[misc]
    for step in steps:
        clock.advance(step)
        due = sorted((when, index) for index, when in enumerate(whens) if when <= clock.time())
        assert made == due
    assert times == [when for when, _ in made]
