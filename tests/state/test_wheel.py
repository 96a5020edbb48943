"""A timing wheel: nothing is due early, nothing late by more than a tick, and nothing that was removed."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from hubbub.state.wheel import TimingWheel

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

TICK = 0.25
TIMES = st.floats(0, 1e6)


def test_an_empty_wheel_has_nothing_due() -> None:
    wheel = TimingWheel[str](TICK)
    assert (len(wheel), wheel.next_due(), list(wheel.expire(1e9))) == (0, None, [])


def test_what_falls_between_two_ticks_is_due_at_the_later_one() -> None:
    wheel = TimingWheel[str](TICK)
    slots = {wheel.add(name, when) for name, when in (("a", 1.01), ("b", 1.2), ("c", 1.25))}
    assert len(slots) == 1
    assert wheel.next_due() == 1.25
    assert list(wheel.expire(1.24)) == []
    assert set(wheel.expire(1.25)) == {"a", "b", "c"}
    assert (len(wheel), wheel.next_due()) == (0, None)


def test_the_earlier_slots_come_first_whatever_the_order_of_adding() -> None:
    wheel = TimingWheel[str](TICK)
    for name, when in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        wheel.add(name, when)
    assert list(wheel.expire(2.5)) == ["a", "b"]
    assert (len(wheel), wheel.next_due()) == (1, 3.0)


def test_what_was_removed_is_not_due_and_does_not_wake_anyone() -> None:
    wheel = TimingWheel[str](TICK)
    wheel.remove("a", wheel.add("a", 1.0))
    wheel.add("b", 2.0)
    assert (len(wheel), wheel.next_due()) == (1, 2.0)
    assert list(wheel.expire(5.0)) == ["b"]


def test_what_was_removed_can_be_added_again() -> None:
    wheel = TimingWheel[str](TICK)
    wheel.remove("a", wheel.add("a", 1.0))
    wheel.add("a", 1.0)
    assert list(wheel.expire(1.0)) == ["a"]


def test_what_is_not_in_its_slot_cannot_be_removed() -> None:
    wheel = TimingWheel[str](TICK)
    slot = wheel.add("a", 1.0)
    with pytest.raises(KeyError):
        wheel.remove("b", slot)


def test_what_is_removed_by_something_else_that_is_due_is_not_due_any_more() -> None:
    wheel = TimingWheel[str](TICK)
    slots = {name: wheel.add(name, when) for name, when in (("a", 1.0), ("b", 1.0), ("later", 1.5))}
    due = []
    for name in wheel.expire(2.0):
        due.append(name)
        for other in slots.keys() - set(due):
            wheel.remove(other, slots.pop(other))
    assert len(due) == 1
    assert (len(wheel), wheel.next_due()) == (0, None)


def test_what_is_added_anew_while_it_is_due_waits_for_the_next_tick() -> None:
    wheel = TimingWheel[str](TICK)
    wheel.add("a", 1.0)
    due = []
    for name in wheel.expire(1.0):
        due.append(name)
        wheel.add(name, 1.0)
    assert due == ["a"]
    assert wheel.next_due() == 1.0 + TICK


def test_what_is_left_when_something_due_fails_is_still_due() -> None:
    wheel = TimingWheel[str](TICK)
    for name in ("a", "b", "c"):
        wheel.add(name, 1.0)
    first = next(iter(wheel.expire(1.0)))
    assert {first, *wheel.expire(1.0)} == {"a", "b", "c"}


@UNTIMED
@given(st.lists(TIMES, max_size=100), TIMES)
def test_nothing_is_due_early_and_nothing_late_by_a_tick_or_more(times: list[float], now: float) -> None:
    wheel = TimingWheel[int](TICK)
    for item, when in enumerate(times):
        wheel.add(item, when)
    due = set(wheel.expire(now))
    assert all(times[item] <= now for item in due)
    assert all(now < when + TICK for item, when in enumerate(times) if item not in due)


@UNTIMED
@given(st.lists(TIMES, min_size=1, max_size=100))
def test_the_next_time_is_that_of_the_earliest_item(times: list[float]) -> None:
    wheel = TimingWheel[int](TICK)
    for item, when in enumerate(times):
        wheel.add(item, when)
    due = wheel.next_due()
    assert due is not None
    assert min(times) <= due <= min(times) + TICK
    assert list(wheel.expire(math.nextafter(due, -1))) == []
    assert list(wheel.expire(due))


class Wheel(RuleBasedStateMachine):
    """Any order of calls, beside a plain dictionary of what waits until when."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = TimingWheel[int](TICK)
        self.waiting: dict[int, float] = {}
        self.count = 0
        self.now = 0.0

    items = Bundle("items")

    @rule(target=items, delay=st.floats(0, 10))
    def add(self, delay: float) -> tuple[int, int]:
        self.count += 1
        self.waiting[self.count] = self.now + delay
        return self.count, self.wheel.add(self.count, self.now + delay)

    @rule(item=consumes(items))
    def remove(self, item: tuple[int, int]) -> None:
        number, slot = item
        if self.waiting.pop(number, None) is not None:
            self.wheel.remove(number, slot)

    @rule(delay=st.floats(0, 5))
    def move(self, delay: float) -> None:
        self.now += delay
        for number in self.wheel.expire(self.now):
            assert self.waiting.pop(number) <= self.now

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert len(self.wheel) == len(self.waiting)
        due = self.wheel.next_due()
        assert (due is None) == (not self.waiting)
        if due is not None:
            assert due < min(self.waiting.values()) + 2 * TICK


TestWheel = Wheel.TestCase
TestWheel.settings = UNTIMED
