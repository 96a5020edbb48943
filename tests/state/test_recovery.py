"""What one hub has of a channel with history, against a broker that drops, repeats and delays."""

from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from hubbub.model import Position
from hubbub.state.recovery import Recovered, Recovery

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

BUFFER = 30
"""Bytes of the buffer: three messages of ten."""


def at(offset: int, epoch: str = "e") -> Position:
    return Position(epoch, offset)


def listening(offset: int = 0, buffer_bytes: int = BUFFER) -> Recovery[str]:
    """Return the recovery of a channel whose position is known."""
    recovery: Recovery[str] = Recovery(buffer_bytes)
    recovery.begin_reading()
    recovery.read(at(offset), (), True)
    return recovery


def named(*offsets: int) -> list[tuple[int, str]]:
    return [(offset, f"m{offset}") for offset in offsets]


# Live


def test_nothing_is_passed_on_before_the_position_is_known() -> None:
    recovery: Recovery[str] = Recovery(BUFFER)
    assert recovery.is_broken
    assert recovery.position is None
    assert not recovery.arrived(at(1), "m1", 1)
    recovery.begin_reading()
    assert recovery.read(at(1), (), True) == Recovered([], False)
    assert vars(recovery)["position"] == at(1)
    assert not vars(recovery)["is_broken"]


def test_what_arrives_during_the_first_reading_comes_after_it() -> None:
    recovery: Recovery[str] = Recovery(BUFFER)
    recovery.begin_reading()
    for offset in (4, 5, 6):
        assert not recovery.arrived(at(offset), f"m{offset}", 1)
    assert recovery.read(at(5), (), True) == Recovered(named(6), False)
    assert (recovery.position, recovery.is_broken) == (at(6), False)


def test_the_next_one_is_passed_on_and_an_earlier_one_is_a_duplicate() -> None:
    recovery = listening(4)
    assert recovery.arrived(at(5), "m5", 1)
    assert not recovery.arrived(at(5), "m5", 1)
    assert not recovery.arrived(at(1), "m1", 1)
    assert (recovery.position, recovery.is_broken) == (at(5), False)


@pytest.mark.parametrize("position", [at(6), at(100), at(1, "other"), at(5, "other")])
def test_anything_else_breaks_it(position: Position) -> None:
    recovery = listening(4)
    assert not recovery.arrived(position, "m", 1)
    assert (recovery.position, recovery.is_broken) == (at(4), True)
    assert not recovery.arrived(at(5), "m5", 1)  # it is in what will be read


def test_a_suspicion_breaks_it() -> None:
    recovery = listening(4)
    recovery.suspect()
    assert recovery.is_broken
    recovery.begin_reading()
    assert recovery.read(at(4), (), True) == Recovered([], False)
    assert not recovery.is_broken


# Readings


def test_a_gap_is_closed_by_what_was_read_and_then_by_what_has_arrived() -> None:
    recovery = listening(4)
    recovery.arrived(at(7), "m7", 1)
    recovery.begin_reading()
    for offset in (7, 8, 9):
        recovery.arrived(at(offset), f"m{offset}", 1)
    assert recovery.read(at(8), named(5, 6, 7, 8), True) == Recovered(named(5, 6, 7, 8, 9), False)
    assert (recovery.position, recovery.is_broken) == (at(9), False)


def test_a_gap_in_what_has_arrived_meanwhile_is_read_again() -> None:
    recovery = listening(4)
    recovery.suspect()
    recovery.begin_reading()
    recovery.arrived(at(7), "m7", 1)
    recovery.arrived(at(8), "m8", 1)
    assert recovery.read(at(5), named(5), True) == Recovered(named(5), False)
    assert (recovery.position, recovery.is_broken) == (at(5), True)
    recovery.begin_reading()
    assert recovery.read(at(8), named(6, 7, 8), True) == Recovered(named(6, 7, 8), False)
    assert not recovery.is_broken


def test_a_suspicion_during_a_reading_is_read_again() -> None:
    recovery = listening(4)
    recovery.suspect()
    recovery.begin_reading()
    recovery.arrived(at(5), "m5", 1)
    recovery.suspect()
    recovery.arrived(at(6), "m6", 1)
    assert recovery.read(at(4), (), True) == Recovered([], False)
    assert (recovery.position, recovery.is_broken) == (at(4), True)


def test_a_buffer_that_overflows_is_read_again() -> None:
    recovery = listening(4)
    recovery.suspect()
    recovery.begin_reading()
    for offset in (5, 6, 7, 8, 9):
        recovery.arrived(at(offset), f"m{offset}", 10)
    assert recovery.read(at(5), named(5), True) == Recovered(named(5), False)
    assert (recovery.position, recovery.is_broken) == (at(5), True)
    recovery.begin_reading()
    assert recovery.read(at(9), named(6, 7, 8, 9), True) == Recovered(named(6, 7, 8, 9), False)
    assert not recovery.is_broken


def test_a_buffer_may_be_full_to_the_byte() -> None:
    recovery = listening(4)
    recovery.suspect()
    recovery.begin_reading()
    for offset in (5, 6, 7):
        recovery.arrived(at(offset), f"m{offset}", 10)
    assert recovery.read(at(4), (), True) == Recovered(named(5, 6, 7), False)
    assert not recovery.is_broken


def test_a_reading_that_failed_leaves_nothing_behind() -> None:
    recovery = listening(4)
    recovery.suspect()
    recovery.begin_reading()
    recovery.arrived(at(5), "m5", 10)
    recovery.end_reading()
    assert (recovery.position, recovery.is_broken) == (at(4), True)
    recovery.arrived(at(6), "m6", 10**9)  # no buffer takes it
    recovery.begin_reading()
    assert recovery.read(at(6), named(5, 6), True) == Recovered(named(5, 6), False)
    assert not recovery.is_broken


# Losses


def test_what_is_left_of_a_history_comes_after_the_loss() -> None:
    recovery = listening(4)
    recovery.suspect()
    recovery.begin_reading()
    recovery.arrived(at(13), "m13", 1)
    assert recovery.read(at(12), named(10, 11, 12), False) == Recovered(named(10, 11, 12, 13), True)
    assert (recovery.position, recovery.is_broken) == (at(13), False)


def test_a_history_that_has_begun_anew_is_passed_on_from_its_beginning() -> None:
    recovery = listening(4)
    assert not recovery.arrived(at(1, "new"), "n1", 1)
    recovery.begin_reading()
    assert recovery.read(at(2, "new"), [(1, "n1"), (2, "n2")], False) == Recovered([(1, "n1"), (2, "n2")], True)
    assert (recovery.position, recovery.is_broken) == (at(2, "new"), False)


def test_what_is_left_may_have_been_passed_on_already() -> None:
    """The history of a broker that has failed over may end before what was delivered of it."""
    recovery = listening(9)
    recovery.suspect()
    recovery.begin_reading()
    assert recovery.read(at(6), named(4, 5, 6), False) == Recovered([], True)
    assert (recovery.position, recovery.is_broken) == (at(6), False)


def test_a_late_message_of_an_earlier_epoch_is_not_passed_on() -> None:
    recovery = listening(4)
    recovery.begin_reading()
    recovery.read(at(0, "new"), (), False)
    assert not recovery.arrived(at(5), "m5", 1)
    recovery.begin_reading()
    recovery.arrived(at(6), "m6", 1)
    assert recovery.read(at(0, "new"), (), True) == Recovered([], False)
    assert recovery.is_broken
    recovery.begin_reading()
    assert recovery.read(at(0, "new"), (), True) == Recovered([], False)
    assert not recovery.is_broken


class AgainstABroker(RuleBasedStateMachine):
    """What a hub does with its recovery, on a broker whose deliveries fail as they may.

    What is passed on has to be in the broker's order, once, and complete unless a loss was told at that place. A loss
    that history could still have closed must not be told.
    """

    SIZE = 4

    def __init__(self) -> None:
        super().__init__()
        self.recovery: Recovery[int] = Recovery(BUFFER)
        self.epoch = 1
        self.history: list[int] = []  # all of this epoch, of which the newest are kept
        self.published: list[int] = []  # of all epochs
        self.in_flight: deque[tuple[Position, int]] = deque()
        self.passed: list[int | None] = []  # None is a loss that was told
        self.first: int | None = None  # how many were published when the position was known
        self.reading: tuple[Position, Sequence[tuple[int, int]], bool] | None = None
        self.is_reading = False
        self.is_dropped = False

    @property
    def top(self) -> Position:
        return Position(f"e{self.epoch}", len(self.history))

    @rule(is_dropped=st.booleans(), is_twice=st.booleans(), count=st.integers(1, 6))
    def publish(self, is_dropped: bool, is_twice: bool, count: int) -> None:
        for _ in range(count):
            number = len(self.published)
            self.published.append(number)
            self.history.append(number)
            self.is_dropped |= is_dropped
            self.in_flight.extend([(self.top, number)] * (0 if is_dropped else 1 + is_twice))

    @rule()
    def begin_anew(self) -> None:
        self.epoch += 1
        self.history = []

    @rule(size=st.sampled_from([1, 10, 16, 100]))
    @precondition(lambda self: self.in_flight)
    def deliver(self, size: int) -> None:
        position, number = self.in_flight.popleft()
        if self.recovery.arrived(position, number, size):
            self.passed.append(number)

    @rule()
    def suspect(self) -> None:
        self.recovery.suspect()

    @rule()
    @precondition(lambda self: self.recovery.is_broken and not self.is_reading)
    def ask(self) -> None:
        self.recovery.begin_reading()
        self.is_reading, self.reading = True, None

    @rule()
    @precondition(lambda self: self.is_reading)
    def read(self) -> None:
        """The moment at which the broker looks."""
        ours = self.recovery.position
        oldest = max(0, len(self.history) - self.SIZE)
        kept = [(offset + 1, number) for offset, number in enumerate(self.history)][oldest:]
        if ours is None:
            self.reading = self.top, (), True
            self.first = len(self.published)
            return
        is_complete = ours.epoch == self.top.epoch and oldest <= ours.offset <= len(self.history)
        self.reading = self.top, [one for one in kept if not is_complete or one[0] > ours.offset], is_complete

    @rule()
    @precondition(lambda self: self.reading is not None)
    def answer(self) -> None:
        assert self.reading is not None
        recovered = self.recovery.read(*self.reading)
        assert recovered.is_lost == (not self.reading[2])
        if recovered.is_lost:
            self.passed.append(None)
        self.passed += [number for _, number in recovered.publications]
        self.is_reading, self.reading = False, None
        self.check()

    @rule()
    @precondition(lambda self: self.is_reading)
    def fail(self) -> None:
        self.recovery.end_reading()
        self.is_reading, self.reading = False, None

    def check(self) -> None:
        assert self.first is not None
        last, is_lost = self.first - 1, False
        for number in self.passed:
            if number is None:
                is_lost = True
                continue
            assert number == last + 1 or (is_lost and number > last), self.passed
            last, is_lost = number, False

    def teardown(self) -> None:
        while self.in_flight:
            self.deliver(1)
        if self.is_dropped or self.recovery.position is None or self.recovery.position.epoch != self.top.epoch:
            self.recovery.suspect()
        for _ in range(2):  # what was under way when it was suspected; and once more
            if self.recovery.is_broken:
                if not self.is_reading:
                    self.ask()
                if self.reading is None:
                    self.read()
                self.answer()
        assert not self.recovery.is_broken
        assert self.recovery.position == self.top
        self.check()
        if None not in self.passed:
            assert self.first is not None
            assert self.passed == list(range(self.first, len(self.published)))


def test_whatever_happens_on_the_way_the_order_holds_and_no_loss_goes_untold() -> None:
    run_state_machine_as_test(AgainstABroker, settings=settings(UNTIMED, max_examples=300, stateful_step_count=40))
