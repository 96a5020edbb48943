"""The index of who hears what, against a list of pairs in the order in which they joined."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hubbub.state.index import Change, ChannelIndex

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

CHANNELS = ("a", "b", "c", "$all")
SUBSCRIBERS = range(5)


class AgainstPairs(RuleBasedStateMachine):
    """The model is a list of (channel, subscriber) without duplicates."""

    def __init__(self) -> None:
        super().__init__()
        self.index: ChannelIndex[int] = ChannelIndex()
        self.pairs: list[tuple[str, int]] = []

    def of_channel(self, channel: str) -> tuple[int, ...]:
        return tuple(subscriber for name, subscriber in self.pairs if name == channel)

    def of_subscriber(self, subscriber: int) -> tuple[str, ...]:
        return tuple(channel for channel, other in self.pairs if other == subscriber)

    @rule(channel=st.sampled_from(CHANNELS), subscriber=st.sampled_from(SUBSCRIBERS))
    def join(self, channel: str, subscriber: int) -> None:
        is_new = (channel, subscriber) not in self.pairs
        is_first = not self.of_channel(channel)
        assert self.index.join(channel, subscriber) == Change(changed=is_new, edge=is_first)
        if is_new:
            self.pairs.append((channel, subscriber))

    @rule(channel=st.sampled_from(CHANNELS), subscriber=st.sampled_from(SUBSCRIBERS))
    def leave(self, channel: str, subscriber: int) -> None:
        was_there = (channel, subscriber) in self.pairs
        was_last = self.of_channel(channel) == (subscriber,)
        assert self.index.leave(channel, subscriber) == Change(changed=was_there, edge=was_last)
        if was_there:
            self.pairs.remove((channel, subscriber))

    @rule(subscriber=st.sampled_from(SUBSCRIBERS))
    def remove(self, subscriber: int) -> None:
        emptied = tuple(name for name in self.of_subscriber(subscriber) if self.of_channel(name) == (subscriber,))
        assert self.index.remove(subscriber) == emptied
        self.pairs = [pair for pair in self.pairs if pair[1] != subscriber]

    @precondition(lambda self: self.pairs)
    @rule()
    def everyone_leaves(self) -> None:
        for channel, subscriber in self.pairs:
            self.index.leave(channel, subscriber)
        self.pairs = []

    @invariant()
    def the_channels_are_those_that_somebody_hears(self) -> None:
        assert set(self.index.names()) == {channel for channel, _ in self.pairs}
        assert len(self.index) == len(self.index.names())

    @invariant()
    def both_ways_agree_in_the_order_of_joining(self) -> None:
        for channel in CHANNELS:
            assert self.index.subscribers(channel) == self.of_channel(channel)
            assert self.index.count(channel) == len(self.of_channel(channel))
        for subscriber in SUBSCRIBERS:
            assert self.index.channels(subscriber) == self.of_subscriber(subscriber)

    @invariant()
    def contains_knows_exactly_the_pairs(self) -> None:
        for channel in CHANNELS:
            for subscriber in SUBSCRIBERS:
                assert self.index.contains(channel, subscriber) == ((channel, subscriber) in self.pairs)

    @invariant()
    def nothing_is_left_behind_when_it_is_empty(self) -> None:
        if not self.pairs:
            assert is_like_new(self.index)


def is_like_new(index: ChannelIndex[int]) -> bool:
    """Whether every collection that the index holds is empty, as those of a new one are."""
    return vars(index) == vars(ChannelIndex())


def test_any_history_agrees_with_a_list_of_pairs() -> None:
    run_state_machine_as_test(AgainstPairs, settings=settings(UNTIMED, max_examples=60, stateful_step_count=40))


def test_the_first_and_the_last_subscriber_are_edges() -> None:
    index: ChannelIndex[str] = ChannelIndex()
    assert index.join("news", "ann").edge
    assert not index.join("news", "bob").edge
    assert not index.leave("news", "ann").edge
    assert index.leave("news", "bob").edge
    assert index.join("news", "ann").edge


def test_what_changes_nothing_is_no_edge() -> None:
    index: ChannelIndex[str] = ChannelIndex()
    index.join("news", "ann")
    assert index.join("news", "ann") == Change(changed=False, edge=False)
    assert index.leave("news", "bob") == Change(changed=False, edge=False)
    assert index.leave("sport", "ann") == Change(changed=False, edge=False)


def test_asking_leaves_nothing_behind() -> None:
    index: ChannelIndex[int] = ChannelIndex()
    index.subscribers("x"), index.count("x"), index.channels(1), index.contains("x", 1)
    index.leave("x", 1), index.remove(1)
    assert is_like_new(index)


def test_subscribers_are_a_copy_that_a_departure_does_not_disturb() -> None:
    index: ChannelIndex[str] = ChannelIndex()
    for name in ("ann", "bob", "cid"):
        index.join("news", name)
    heard = []
    for name in index.subscribers("news"):
        heard.append(name)
        index.remove("bob")
    assert heard == ["ann", "bob", "cid"]
    assert index.subscribers("news") == ("ann", "cid")


def test_names_are_live() -> None:
    index: ChannelIndex[str] = ChannelIndex()
    names = index.names()
    index.join("news", "ann")
    assert set(names) == {"news"}
    index.remove("ann")
    assert not names


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]], ids=len)
def test_remove_returns_only_channels_that_nobody_hears_now(names: list[str]) -> None:
    index: ChannelIndex[str] = ChannelIndex()
    for name in names:
        index.join(name, "ann")
    index.join("shared", "ann")
    index.join("shared", "bob")
    assert index.remove("ann") == tuple(names)
    assert index.subscribers("shared") == ("bob",)
    assert index.channels("ann") == ()
