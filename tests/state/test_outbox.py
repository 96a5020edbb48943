"""The outbox queue, against a plain list of what must still be in it."""

import dataclasses
import gc
import tracemalloc

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hubbub.config import Outbox
from hubbub.model import OutboxPolicy
from hubbub.state.outbox import ENTRY_BYTES, Offer, OutboxQueue

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

BOUND = 6 * ENTRY_BYTES
POLICIES: tuple[OutboxPolicy, ...] = ("disconnect", "drop_oldest", "drop_newest", "latest")
DROPPING: tuple[OutboxPolicy, ...] = ("drop_oldest", "drop_newest", "latest")
CHANNELS: dict[str, OutboxPolicy] = {
    "goodbye": "disconnect",
    "newest": "drop_newest",
    "oldest-1": "drop_oldest",
    "oldest-2": "drop_oldest",
    "latest-1": "latest",
    "latest-2": "latest",
}
SHARES = st.sampled_from([0.5, 1.0, 1.0])
SIZES = st.sampled_from([0, 0, 1, ENTRY_BYTES, 2 * ENTRY_BYTES, 5 * ENTRY_BYTES, 10 * BOUND])


@dataclasses.dataclass(frozen=True)
class Queued:
    """What the model knows of a message."""

    number: int
    size: int
    channel: str | None

    @property
    def cost(self) -> int:
        return self.size + ENTRY_BYTES


class AgainstAList(RuleBasedStateMachine):
    """The model says in plain words what each policy does; every channel keeps to one policy, as in a hub."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: OutboxQueue[Queued] = OutboxQueue(BOUND)
        self.expected: list[Queued] = []
        self.given = self.popped = self.lost = self.turned_away = 0

    def fits(self, message: Queued, beside: list[Queued], share: float) -> bool:
        return not beside or sum(other.cost for other in beside) + message.cost <= BOUND * share

    def new(self, size: int, channel: str | None) -> Queued:
        self.given += 1
        return Queued(self.given, size, channel)

    def of_channel(self, channel: str) -> list[Queued]:
        return [message for message in self.expected if message.channel == channel]

    @rule(size=SIZES, share=SHARES)
    def send(self, size: int, share: float) -> None:
        has_room = self.queue.has_room(size, share)
        assert has_room == self.fits(Queued(0, size, None), self.expected, share)
        if has_room:
            message = self.new(size, None)
            self.queue.put(message, size)
            self.expected.append(message)

    @rule(size=SIZES, channel=st.sampled_from(sorted(CHANNELS)), share=SHARES)
    def publish(self, size: int, channel: str, share: float) -> None:
        message = self.new(size, channel)
        offer = self.queue.offer(message, size, channel, CHANNELS[channel], share)
        assert offer == getattr(self, CHANNELS[channel])(message, share)
        self.lost += offer.lost
        self.turned_away += not offer.queued and not offer.lost

    def disconnect(self, message: Queued, share: float) -> Offer:
        return self.queue_it(message) if self.fits(message, self.expected, share) else Offer(queued=False, lost=0)

    def drop_newest(self, message: Queued, share: float) -> Offer:
        return self.queue_it(message) if self.fits(message, self.expected, share) else Offer(queued=False, lost=1)

    def drop_oldest(self, message: Queued, share: float) -> Offer:
        own = self.of_channel(message.channel or "")
        if not self.fits(message, [other for other in self.expected if other not in own], share):
            return Offer(queued=False, lost=1)
        lost = 0
        while not self.fits(message, self.expected, share):
            self.expected.remove(own.pop(0))
            lost += 1
        self.queue_it(message)
        return Offer(queued=True, lost=lost)

    def latest(self, message: Queued, share: float) -> Offer:
        own = self.of_channel(message.channel or "")
        if not own:
            return self.drop_newest(message, share)
        if not self.fits(message, [other for other in self.expected if other not in own], share):
            return Offer(queued=False, lost=1)
        self.expected[self.expected.index(own[0])] = message
        return Offer(queued=True, lost=1)

    def queue_it(self, message: Queued) -> Offer:
        self.expected.append(message)
        return Offer(queued=True, lost=0)

    @rule()
    def pop(self) -> None:
        self.popped += bool(self.expected)
        assert self.queue.pop() == (self.expected.pop(0) if self.expected else None)

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert len(self.queue) == len(self.expected)
        assert self.queue.bytes == sum(message.cost for message in self.expected)

    @invariant()
    def the_bound_holds_unless_there_is_exactly_one_message(self) -> None:
        assert self.queue.bytes <= BOUND or len(self.queue) == 1

    @invariant()
    def latest_keeps_one_publication_of_a_channel(self) -> None:
        for channel in CHANNELS:
            assert CHANNELS[channel] != "latest" or len(self.of_channel(channel)) <= 1

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        assert self.given == len(self.queue) + self.popped + self.lost + self.turned_away

    @invariant()
    def an_empty_queue_keeps_no_state(self) -> None:
        if not self.expected:
            assert is_like_new(self.queue)

    def teardown(self) -> None:
        assert [self.queue.pop() for _ in self.expected] == self.expected
        assert self.queue.pop() is None
        assert is_like_new(self.queue)


def is_like_new(queue: OutboxQueue[Queued]) -> bool:
    """Whether the queue's collections are empty and its counts zero; only the next sequence number goes on."""
    names = [name for name in OutboxQueue.__slots__ if name not in ("_next", "bound")]
    return [getattr(queue, name) for name in names] == [getattr(OutboxQueue(1), name) for name in names]


def test_any_history_agrees_with_a_list() -> None:
    run_state_machine_as_test(AgainstAList, settings=settings(UNTIMED, max_examples=100, stateful_step_count=50))


def queue_of(*messages: tuple[str, str | None], bound: int) -> OutboxQueue[str]:
    """Return a queue with messages of no size; those of a channel are offered under `drop_oldest`."""
    queue: OutboxQueue[str] = OutboxQueue(bound * ENTRY_BYTES)
    for message, channel in messages:
        if channel is None:
            queue.put(message, 0)
        else:
            assert queue.offer(message, 0, channel, "drop_oldest") == Offer(queued=True, lost=0)
    return queue


def drained(queue: OutboxQueue[str]) -> list[str | None]:
    return [queue.pop() for _ in range(len(queue))]


def test_messages_leave_in_the_order_in_which_they_came() -> None:
    queue = queue_of(("1", None), ("2", "a"), ("3", "b"), ("4", None), ("5", "a"), bound=5)
    assert drained(queue) == ["1", "2", "3", "4", "5"]
    assert queue.pop() is None


def test_drop_oldest_makes_room_with_the_oldest_of_its_own_channel_only() -> None:
    queue = queue_of(("direct", None), ("b1", "b"), ("a1", "a"), ("a2", "a"), ("b2", "b"), bound=5)
    assert queue.offer("a3", ENTRY_BYTES, "a", "drop_oldest") == Offer(queued=True, lost=2)
    assert drained(queue) == ["direct", "b1", "b2", "a3"]


def test_drop_oldest_drops_the_new_one_where_its_own_channel_could_not_make_room() -> None:
    queue = queue_of(("direct", None), ("a1", "a"), ("b1", "b"), bound=3)
    assert queue.offer("a2", ENTRY_BYTES, "a", "drop_oldest") == Offer(queued=False, lost=1)
    assert queue.offer("c1", 0, "c", "drop_oldest") == Offer(queued=False, lost=1)
    assert drained(queue) == ["direct", "a1", "b1"]


@pytest.mark.parametrize("gone", [1, 2])
def test_what_has_left_is_no_room_that_drop_oldest_could_make(gone: int) -> None:
    queue = queue_of(("a1", "a"), ("a2", "a"), ("a3", "a"), bound=4)
    for _ in range(gone):
        queue.pop()
    for _ in range(gone):
        queue.put("direct", 0)
    assert queue.offer("a4", (4 - gone) * ENTRY_BYTES, "a", "drop_oldest") == Offer(queued=False, lost=1)
    assert queue.offer("a5", (3 - gone) * ENTRY_BYTES, "a", "drop_oldest") == Offer(queued=True, lost=3 - gone)
    assert drained(queue) == ["direct"] * gone + ["a5"]


@pytest.mark.parametrize("size", [0, ENTRY_BYTES, 2 * ENTRY_BYTES])
def test_the_bound_holds_where_a_channel_changes_its_policy(size: int) -> None:
    queue: OutboxQueue[str] = OutboxQueue(5 * ENTRY_BYTES)
    queue.offer("a1", ENTRY_BYTES, "a", "latest")
    queue.offer("a2", size, "a", "latest")
    queue.put("direct", 0)
    assert queue.offer("a3", 4 * ENTRY_BYTES, "a", "drop_oldest") == Offer(queued=False, lost=1)
    assert queue.offer("a4", 3 * ENTRY_BYTES, "a", "drop_oldest") == Offer(queued=True, lost=1)
    assert drained(queue) == ["direct", "a4"]


def test_drop_newest_drops_the_new_one() -> None:
    queue = queue_of(("a1", "a"), ("a2", "a"), bound=2)
    assert queue.offer("a3", 0, "a", "drop_newest") == Offer(queued=False, lost=1)
    assert drained(queue) == ["a1", "a2"]


def test_disconnect_queues_nothing_and_loses_nothing() -> None:
    queue = queue_of(("a1", "a"), bound=1)
    assert queue.offer("a2", 0, "a", "disconnect") == Offer(queued=False, lost=0)
    assert drained(queue) == ["a1"]


def test_latest_takes_the_place_of_the_one_it_replaces() -> None:
    queue: OutboxQueue[str] = OutboxQueue(10 * ENTRY_BYTES)
    for message, channel in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("a3", "a")]:
        queue.offer(message, 0, channel, "latest")
    assert drained(queue) == ["a3", "b2"]


def test_latest_starts_anew_once_its_publication_has_left() -> None:
    queue: OutboxQueue[str] = OutboxQueue(10 * ENTRY_BYTES)
    queue.offer("a1", 0, "a", "latest")
    queue.put("direct", 0)
    assert queue.pop() == "a1"
    assert queue.offer("a2", 0, "a", "latest") == Offer(queued=True, lost=0)
    assert drained(queue) == ["direct", "a2"]


def test_latest_replaces_its_publication_by_one_larger_than_the_bound_when_nothing_else_is_queued() -> None:
    queue: OutboxQueue[str] = OutboxQueue(2 * ENTRY_BYTES)
    queue.offer("a1", 0, "a", "latest")
    assert queue.offer("a2", 10 * ENTRY_BYTES, "a", "latest") == Offer(queued=True, lost=1)
    assert queue.offer("b1", 0, "b", "latest") == Offer(queued=False, lost=1)
    assert drained(queue) == ["a2"]


def test_latest_keeps_its_publication_where_a_newer_one_does_not_fit_beside_the_others() -> None:
    queue: OutboxQueue[str] = OutboxQueue(2 * ENTRY_BYTES)
    queue.offer("a1", 0, "a", "latest")
    queue.put("direct", 0)
    assert queue.offer("a2", 1, "a", "latest") == Offer(queued=False, lost=1)
    assert drained(queue) == ["a1", "direct"]


@pytest.mark.parametrize("kept", ["disconnect", "drop_newest"])
def test_a_publication_that_may_not_be_dropped_is_none_of_those_that_may(kept: OutboxPolicy) -> None:
    queue: OutboxQueue[str] = OutboxQueue(3 * ENTRY_BYTES)
    queue.offer("a1", 0, "a", kept)
    queue.offer("a2", 0, "a", "drop_oldest")
    queue.offer("a3", 0, "a", "drop_oldest")
    assert queue.pop() == "a1"
    assert queue.offer("a4", 2 * ENTRY_BYTES, "a", "drop_oldest") == Offer(queued=True, lost=2)
    assert drained(queue) == ["a4"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_message_larger_than_the_bound_is_taken_when_nothing_else_is_queued(policy: OutboxPolicy) -> None:
    queue: OutboxQueue[str] = OutboxQueue(1)
    assert queue.has_room(10**9)
    assert queue.offer("huge", 10**9, "a", policy) == Offer(queued=True, lost=0)
    assert not queue.has_room(0)
    assert queue.bytes == 10**9 + ENTRY_BYTES
    assert drained(queue) == ["huge"]
    assert queue.bytes == 0


def test_direct_sends_may_be_held_to_a_share_of_the_bound() -> None:
    queue: OutboxQueue[str] = OutboxQueue(4 * ENTRY_BYTES)
    assert queue.has_room(10 * ENTRY_BYTES, share=0.5)
    queue.put("one", 0)
    assert queue.has_room(0, share=0.5)
    assert not queue.has_room(1, share=0.5)
    assert queue.has_room(2 * ENTRY_BYTES)
    assert not queue.has_room(2 * ENTRY_BYTES + 1)


@pytest.mark.parametrize(
    ("policy", "offer", "kept"),
    [
        ("disconnect", Offer(queued=False, lost=0), ["a1", "a2"]),
        ("drop_oldest", Offer(queued=True, lost=1), ["a2", "a3"]),
        ("drop_newest", Offer(queued=False, lost=1), ["a1", "a2"]),
    ],
)
def test_publications_may_be_held_to_a_share_of_the_bound(policy: OutboxPolicy, offer: Offer, kept: list[str]) -> None:
    queue: OutboxQueue[str] = OutboxQueue(4 * ENTRY_BYTES)
    for message in ("a1", "a2"):
        assert queue.offer(message, 0, "a", policy, share=0.5) == Offer(queued=True, lost=0)
    assert queue.offer("a3", 0, "a", policy, share=0.5) == offer
    assert drained(queue) == kept


@pytest.mark.parametrize("channels", [1, 128])
@pytest.mark.parametrize("policy", DROPPING)
def test_a_stalled_queue_that_takes_100_000_publications_stays_bounded(policy: OutboxPolicy, channels: int) -> None:
    offered, bound = 100_000, 100_000
    queue: OutboxQueue[bytes] = OutboxQueue(bound)
    lost = offer_many(queue, offered, policy, channels)
    assert 0 < len(queue) <= bound // ENTRY_BYTES
    assert queue.bytes <= bound
    assert len(queue) + lost == offered


@pytest.mark.parametrize("channels", [1, 128])
@pytest.mark.parametrize("policy", DROPPING)
def test_the_memory_of_a_stalled_queue_is_near_its_bound(policy: OutboxPolicy, channels: int) -> None:
    bound = Outbox().bytes
    gc.collect()
    tracemalloc.start()
    try:
        queue: OutboxQueue[bytes] = OutboxQueue(bound)
        offer_many(queue, 10_000, policy, channels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < peak < 2 * bound


@pytest.mark.parametrize("policy", [None, "disconnect", "drop_oldest", "drop_newest"], ids=str)
def test_entry_bytes_is_about_what_an_entry_costs_on_this_python(policy: OutboxPolicy | None) -> None:
    count = 2_000
    gc.collect()
    tracemalloc.start()
    try:
        queue: OutboxQueue[str] = OutboxQueue(10**9)
        for _ in range(count):
            if policy is None:
                queue.put("x", 1)
            else:
                queue.offer("x", 1, "channel", policy)
        measured, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(queue) == count
    assert 0.5 * ENTRY_BYTES < measured / count < 1.5 * ENTRY_BYTES


def offer_many(queue: OutboxQueue[bytes], count: int, policy: OutboxPolicy, channels: int) -> int:
    """Offer publications of 100 bytes, each an object of its own, to the channels in turn; return how many are lost."""
    names = [f"channel-{number}" for number in range(channels)]
    return sum(queue.offer(bytes(100), 100, names[number % channels], policy).lost for number in range(count))
