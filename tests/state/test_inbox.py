"""The inbox alone: limits, order, and when to read."""

import pytest

from hubbub.config import Limits
from hubbub.state.inbox import INBOX_BYTES, INBOX_MESSAGES, PAUSE_S, Arrival, Inbox


def unlimited() -> Inbox[str]:
    return Inbox(Limits(messages_per_s=None, message_bytes=None), 0.0)


def filled(inbox: Inbox[str], now: float = 0.0) -> Inbox[str]:
    while not inbox.is_paused:
        inbox.put(str(len(inbox)), 1, now)
    return inbox


def test_messages_are_taken_in_the_order_of_their_arrival() -> None:
    inbox = unlimited()
    assert [inbox.put(text, 1, 0.0) for text in "abc"] == [Arrival.TAKEN] * 3
    assert [inbox.take(0.0) for _ in range(3)] == ["a", "b", "c"]
    assert len(inbox) == 0


@pytest.mark.parametrize(("size", "fills_at"), [(0, INBOX_MESSAGES), (INBOX_BYTES, 1), (INBOX_BYTES // 4, 4)])
def test_the_message_that_fills_it_stops_the_reading_once(size: int, fills_at: int) -> None:
    inbox = unlimited()
    arrivals = [inbox.put("x", size, 0.0) for _ in range(fills_at + 1)]
    assert arrivals == [*[Arrival.TAKEN] * (fills_at - 1), Arrival.FILLED, Arrival.TAKEN]
    assert inbox.is_paused


@pytest.mark.parametrize(("size", "arrival"), [(10, Arrival.TAKEN), (11, Arrival.TOO_BIG)])
def test_a_message_above_the_limit_is_not_taken(size: int, arrival: Arrival) -> None:
    inbox: Inbox[str] = Inbox(Limits(message_bytes=10), 0.0)
    assert inbox.put("x", size, 0.0) is arrival
    assert len(inbox) == (arrival is Arrival.TAKEN)


def test_messages_above_the_rate_are_not_taken() -> None:
    inbox: Inbox[str] = Inbox(Limits(messages_per_s=1, message_burst=2), 0.0)
    assert [inbox.put("x", 1, 0.0) for _ in range(3)] == [Arrival.TAKEN, Arrival.TAKEN, Arrival.TOO_MANY]
    assert inbox.put("x", 1, 1.0) is Arrival.TAKEN


def test_a_pause_is_not_held_against_the_rate() -> None:
    inbox: Inbox[str] = Inbox(Limits(messages_per_s=10, message_burst=INBOX_MESSAGES), 0.0)
    filled(inbox)
    inbox.clear()
    inbox.resume(4.0)
    assert [inbox.put("x", 0, 4.0) for _ in range(41)] == [Arrival.TAKEN] * 40 + [Arrival.TOO_MANY]


def test_a_pause_lasts_until_nothing_has_been_taken_for_so_long() -> None:
    inbox = filled(unlimited(), now=1.0)
    assert inbox.pause_ends_at() == 1.0 + PAUSE_S
    inbox.take(3.0)
    assert inbox.pause_ends_at() == 3.0 + PAUSE_S


def test_what_does_not_fit_is_discarded_until_it_has_been_emptied() -> None:
    inbox = filled(unlimited())
    inbox.discard()
    inbox.resume(PAUSE_S)
    assert inbox.put("x", 1, PAUSE_S) is Arrival.DISCARDED
    inbox.take(PAUSE_S)
    assert inbox.put("fits", 1, PAUSE_S) is Arrival.TAKEN
    assert inbox.put("x", 1, PAUSE_S) is Arrival.DISCARDED
    assert [inbox.take(PAUSE_S) for _ in range(INBOX_MESSAGES)][-1] == "fits"
    assert filled(inbox).is_paused


def test_clearing_it_tells_how_many_there_were() -> None:
    inbox = filled(unlimited())
    assert (inbox.clear(), inbox.clear(), len(inbox)) == (INBOX_MESSAGES, 0, 0)
    assert inbox.put("x", INBOX_BYTES - 1, 0.0) is Arrival.TAKEN
