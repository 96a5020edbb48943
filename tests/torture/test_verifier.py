"""The verifier of the torture run: what it lets pass, and that it complains of everything else."""

import pytest

from hubbub import Position
from torture.verifier import COMPLAINTS, Follower, Tally


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def follower(tally: Tally) -> Follower:
    """Return one that has joined at the beginning and got 1, 2 and 3."""
    follower = Follower("client 0 on room:0", tally)
    follower.joined(Position("a", 0))
    receive(follower, 1, 2, 3)
    return follower


def receive(follower: Follower, *numbers: int, epoch: str = "a", shift: int = 0, attempt: int = 1) -> None:
    """Receive numbers, each at the offset that is higher by `shift`."""
    for number in numbers:
        follower.received(Position(epoch, number + shift), number, attempt)


def test_numbers_in_order_are_delivered(follower: Follower, tally: Tally) -> None:
    follower.ends(3)
    assert tally.is_clean
    assert (tally.delivered, tally.complaints) == (3, [])
    assert follower.position == Position("a", 3)


def test_a_resumed_join_goes_on(follower: Follower, tally: Tally) -> None:
    receive(follower, 4)
    follower.joined(Position("a", 4))
    receive(follower, 5)
    follower.ends(5)
    assert tally.is_clean


def test_a_number_that_never_comes_is_lost(follower: Follower, tally: Tally) -> None:
    receive(follower, 6)
    assert (tally.lost, tally.is_clean) == (2, False)
    assert tally.complaints[0] == "client 0 on room:0 gets 6 after 3 at a:3: 2 lost"


def test_the_last_numbers_can_be_lost_too(follower: Follower, tally: Tally) -> None:
    follower.ends(5)
    assert (tally.lost, tally.is_clean) == (2, False)


@pytest.mark.parametrize("number", [3, 1])
def test_a_number_that_comes_twice_is_duplicated(follower: Follower, tally: Tally, number: int) -> None:
    receive(follower, number)
    assert (tally.duplicated, tally.is_clean) == (1, False)
    receive(follower, 4)
    assert tally.delivered == 4


def test_another_attempt_is_no_excuse_in_the_same_epoch(follower: Follower, tally: Tally) -> None:
    receive(follower, 3, attempt=2)
    assert tally.duplicated == 1


def test_a_number_that_comes_late_is_reordered_and_not_lost(follower: Follower, tally: Tally) -> None:
    receive(follower, 5, 4, 6)
    assert (tally.reordered, tally.lost, tally.duplicated, tally.is_clean) == (1, 0, 0, False)


def test_an_offset_that_does_not_follow_contradicts(follower: Follower, tally: Tally) -> None:
    receive(follower, 4, shift=1)
    assert (tally.contradicted, tally.lost, tally.is_clean) == (1, 0, False)


def test_a_new_epoch_without_a_word_contradicts(follower: Follower, tally: Tally) -> None:
    receive(follower, 4, epoch="b", shift=-3)
    assert (tally.contradicted, tally.is_clean) == (1, False)


def test_a_join_that_recovered_less_than_it_says_contradicts(follower: Follower, tally: Tally) -> None:
    follower.joined(Position("a", 5))
    assert (tally.contradicted, tally.is_clean) == (1, False)


def test_after_a_declared_loss_numbers_may_be_missing(follower: Follower, tally: Tally) -> None:
    follower.told(Position("b", 2), is_due=True)
    receive(follower, 6, epoch="b", shift=-3)
    assert tally.is_clean
    assert (tally.declared, tally.missed) == (1, 2)


def test_one_declaration_excuses_one_hole(follower: Follower, tally: Tally) -> None:
    follower.told(Position("b", 0), is_due=True)
    receive(follower, 4, 6, epoch="b", shift=-3)
    assert (tally.lost, tally.is_clean) == (1, False)


def test_what_was_declared_as_missing_may_not_come_late(follower: Follower, tally: Tally) -> None:
    follower.told(Position("b", 2), is_due=True)
    receive(follower, 6, 5, epoch="b", shift=-3)
    assert (tally.reordered, tally.missed, tally.is_clean) == (1, 1, False)


def test_a_declaration_without_a_cause_is_undue(follower: Follower, tally: Tally) -> None:
    follower.told(Position("a", 5), is_due=False)
    receive(follower, 6)
    assert (tally.undue, tally.declared, tally.lost, tally.is_clean) == (1, 0, 0, False)


def test_what_was_under_way_may_come_again_when_its_key_is_lost(follower: Follower, tally: Tally) -> None:
    follower.told(Position("b", 0), is_due=True)
    receive(follower, 3, epoch="b", shift=-2, attempt=2)
    receive(follower, 4, epoch="b", shift=-2)
    assert tally.is_clean
    assert tally.repeated == 1


@pytest.mark.parametrize(("number", "attempt"), [(3, 1), (2, 2)])
def test_nothing_else_may_come_again(follower: Follower, tally: Tally, number: int, attempt: int) -> None:
    follower.told(Position("b", 0), is_due=True)
    receive(follower, number, epoch="b", attempt=attempt)
    assert (tally.duplicated, tally.repeated) == (1, 0)


def test_it_does_not_complain_for_ever(follower: Follower, tally: Tally) -> None:
    for _ in range(2 * COMPLAINTS):
        receive(follower, 3)
    assert len(tally.complaints) == COMPLAINTS
    assert tally.duplicated == 2 * COMPLAINTS
