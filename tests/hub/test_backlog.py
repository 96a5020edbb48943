"""What waits for one connection: messages in their order, and senders in theirs."""

import asyncio
import gc
import weakref

import pytest

from hubbub.hub.backlog import DIRECT_SHARE, Backlog
from hubbub.model import OutboxPolicy
from hubbub.state.outbox import ENTRY_BYTES, Offer
from hubbub.testing import ManualClock
from hubbub.wire.prepared import PreparedFrame

BOUND = 10 * (ENTRY_BYTES + 1)
"""Room for ten messages of one byte, and for five direct sends of them."""


def frame(text: str) -> PreparedFrame:
    return PreparedFrame(text)


def rest_of(backlog: Backlog) -> list[object]:
    """Take all messages out."""
    messages = []
    while (popped := backlog.pop()) is not None:
        messages.append(popped.data)
    return messages


class Ended(Exception):
    """What the senders are told."""


class Senders:
    """Direct sends that wait in a backlog, and their deadlines."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.clock = ManualClock()
        self.expired: list[str] = []
        self.waiters: dict[str, asyncio.Future[None]] = {}

    def wait(self, text: str) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadline = self.clock.call_at(10, lambda: self.expired.append(text))
        self.backlog.wait(frame(text), waiter, deadline)
        self.waiters[text] = waiter
        return waiter

    def late(self) -> list[str]:
        """Return whose deadlines have not been withdrawn."""
        self.clock.advance(100)
        return self.expired


@pytest.fixture
def backlog() -> Backlog:
    return Backlog(BOUND)


@pytest.fixture
def senders(backlog: Backlog) -> Senders:
    return Senders(backlog)


# Messages


def test_a_new_backlog_is_empty(backlog: Backlog) -> None:
    assert (len(backlog), backlog.bytes, backlog.has_waiting) == (0, 0, False)
    assert backlog.pop() is None
    assert backlog.first_waiting() is None


def test_direct_sends_and_publications_share_one_order(backlog: Backlog) -> None:
    backlog.put(frame("1"))
    assert backlog.offer(frame("2"), "news", "disconnect") == Offer(True, 0)
    backlog.put(frame("3"))
    assert (len(backlog), backlog.bytes) == (3, 3 * (ENTRY_BYTES + 1))
    assert rest_of(backlog) == ["1", "2", "3"]
    assert (len(backlog), backlog.bytes) == (0, 0)


def test_direct_sends_use_a_part_of_the_room_and_publications_all_of_it(backlog: Backlog) -> None:
    assert DIRECT_SHARE == 0.5
    for _ in range(5):
        assert backlog.has_room(frame("x"))
        backlog.put(frame("x"))
    assert not backlog.has_room(frame("x"))
    for _ in range(5):
        assert backlog.offer(frame("x"), "news", "disconnect").queued
    assert not backlog.offer(frame("x"), "news", "disconnect").queued


def test_a_message_larger_than_the_bound_has_room_where_nothing_waits(backlog: Backlog) -> None:
    large = frame("x" * BOUND)
    assert backlog.has_room(large)
    backlog.put(large)
    assert not backlog.has_room(frame("x"))


@pytest.mark.parametrize(
    ("policy", "offer", "rest"),
    [
        ("disconnect", Offer(False, 0), [*"0123456789"]),
        ("drop_newest", Offer(False, 1), [*"0123456789"]),
        ("drop_oldest", Offer(True, 1), [*"123456789x"]),
        ("latest", Offer(True, 1), ["x"]),
    ],
)
def test_a_publication_that_does_not_fit_meets_its_policy(
    backlog: Backlog, policy: OutboxPolicy, offer: Offer, rest: list[str]
) -> None:
    for number in range(10):
        backlog.offer(frame(f"{number}"), "news", policy)
    assert backlog.offer(frame("x"), "news", policy) == offer
    assert rest_of(backlog) == rest


@pytest.mark.parametrize(
    ("policy", "queued"), [("disconnect", 10), ("drop_newest", 5), ("drop_oldest", 5), ("latest", 1)]
)
async def test_while_a_sender_waits_publications_that_may_be_dropped_leave_it_its_room(
    backlog: Backlog, senders: Senders, policy: OutboxPolicy, queued: int
) -> None:
    senders.wait("direct")
    for _ in range(20):
        backlog.offer(frame("x"), "news", policy)
    assert len(backlog) == queued
    assert backlog.has_room(frame("")) is (policy == "latest")
    backlog.pop()
    assert backlog.has_room(frame("x")) is (policy != "disconnect")


# Senders


async def test_senders_are_let_in_in_the_order_in_which_they_came(backlog: Backlog, senders: Senders) -> None:
    waiters = [senders.wait(text) for text in "123"]
    assert backlog.has_waiting
    assert backlog.bytes == 3
    for index, waiter in enumerate(waiters):
        first = backlog.first_waiting()
        assert first is not None
        assert first.data == "123"[index]
        backlog.let_in()
        assert waiter.done()
        assert [later.done() for later in waiters[index + 1 :]] == [False] * (2 - index)
    assert (backlog.has_waiting, backlog.bytes, senders.late()) == (False, 0, [])


async def test_to_look_at_the_first_sender_does_not_let_it_in(backlog: Backlog, senders: Senders) -> None:
    waiter = senders.wait("1")
    assert backlog.first_waiting() is backlog.first_waiting() is not None
    assert not waiter.done()
    assert senders.late() == ["1"]


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_one_that_gives_up_holds_nobody_up(backlog: Backlog, senders: Senders, which: int) -> None:
    waiters = [senders.wait(text) for text in "123"]
    backlog.give_up(waiters[which])
    left = [text for index, text in enumerate("123") if index != which]
    assert backlog.bytes == 2
    for text in left:
        first = backlog.first_waiting()
        assert first is not None
        assert first.data == text
        backlog.let_in()
    assert backlog.first_waiting() is None
    assert not waiters[which].done()
    assert senders.late() == []


async def test_to_give_up_what_does_not_wait_changes_nothing(backlog: Backlog, senders: Senders) -> None:
    waiter = senders.wait("1")
    backlog.give_up(asyncio.get_running_loop().create_future())
    backlog.let_in()
    backlog.give_up(waiter)
    assert waiter.done()
    assert not backlog.has_waiting


async def test_one_whose_task_was_cancelled_is_passed_over(backlog: Backlog, senders: Senders) -> None:
    cancelled, other = senders.wait("1"), senders.wait("2")
    cancelled.cancel()
    first = backlog.first_waiting()
    assert first is not None
    assert first.data == "2"
    backlog.let_in()
    assert other.done()
    assert senders.late() == []


async def test_the_end_is_told_to_all_who_wait_each_by_an_error_of_its_own(backlog: Backlog, senders: Senders) -> None:
    waiters = [senders.wait(text) for text in "123"]
    waiters[1].cancel()
    backlog.put(frame("queued"))
    backlog.fail(Ended)
    first, second = waiters[0].exception(), waiters[2].exception()
    assert isinstance(first, Ended)
    assert isinstance(second, Ended)
    assert first is not second
    assert waiters[1].cancelled()
    assert (backlog.has_waiting, senders.late()) == (False, [])
    assert rest_of(backlog) == ["queued"]


async def test_nothing_is_kept_of_those_who_have_gone(backlog: Backlog, senders: Senders) -> None:
    gone = []
    for text in "123":
        senders.wait(text)
        gone.append(weakref.ref(senders.waiters[text]))
    backlog.let_in()
    backlog.give_up(senders.waiters["2"])
    backlog.fail(Ended)
    assert isinstance(senders.waiters["3"].exception(), Ended)
    senders.waiters.clear()
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3
