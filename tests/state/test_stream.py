"""The history of one channel, against a list of all that was ever published in it."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hubbub.config import History
from hubbub.model import Position
from hubbub.state.stream import Slice, Stream

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

HISTORY = History(size=3, ttl_s=10, idempotency_ttl_s=20, idempotency_keys=2)
KEYS = ("a", "b", "c", "d", "")
EPOCH = "epoch"


class Published(NamedTuple):
    offset: int
    payload: bytes
    when: float
    key: str | None


class AgainstAList(RuleBasedStateMachine):
    """The model keeps everything, and works out from the times what should still be there."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream(EPOCH)
        self.published: list[Published] = []
        self.expired = 0  # how many of them had expired when one was published
        self.now = 100.0

    def kept(self) -> list[tuple[int, bytes]]:
        if not self.published or self.published[-1].when + HISTORY.ttl_s <= self.now:
            return []
        return [(one.offset, one.payload) for one in self.published[self.expired :][-HISTORY.size :]]

    def keys(self) -> dict[str, int]:
        newest = [one for one in self.published if one.key is not None][-HISTORY.idempotency_keys :]
        return {
            one.key: one.offset
            for one in newest
            if one.key is not None and self.now < one.when + HISTORY.idempotency_ttl_s
        }

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 10.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(payload=st.binary(max_size=3), key=st.sampled_from([None, *KEYS]))
    def append(self, payload: bytes, key: str | None) -> None:
        if key is not None and key in self.keys():
            return
        if not self.kept():
            self.expired = len(self.published)
        offset = len(self.published) + 1
        assert self.stream.append(payload, HISTORY, self.now, key) == Position(EPOCH, offset)
        self.published.append(Published(offset, payload, self.now, key))

    @rule(
        epoch=st.sampled_from([EPOCH, EPOCH, EPOCH, "another"]),
        back=st.integers(-2, 8),
        limit=st.sampled_from([None, 0, 1, 2, 100]),
        reverse=st.booleans(),
    )
    def read_since(self, epoch: str, back: int, limit: int | None, reverse: bool) -> None:
        top = len(self.published)
        since = Position(epoch, max(top - back, 0))
        is_complete = epoch == EPOCH and since.offset <= top
        if reverse:
            expected = [one for one in reversed(self.kept()) if one[0] < since.offset]
        else:
            expected = [one for one in self.kept() if one[0] > since.offset]
            is_complete = is_complete and len(expected) == top - since.offset
        found = self.stream.read(since, limit, reverse, self.now)
        assert found == Slice(Position(EPOCH, top), expected[:limit] if is_complete else [], is_complete)

    @rule(limit=st.sampled_from([None, 0, 1, 2, 100]), reverse=st.booleans())
    def read_all(self, limit: int | None, reverse: bool) -> None:
        expected = self.kept()[:: -1 if reverse else 1][:limit]
        found = self.stream.read(None, limit, reverse, self.now)
        assert found == Slice(Position(EPOCH, len(self.published)), expected, True)

    @rule()
    def expire(self) -> None:
        self.stream.expire(self.now)
        assert len(self.stream) == len(self.kept())

    @invariant()
    def keys_are_known_as_long_as_they_should_be(self) -> None:
        known = {key: self.stream.find(key, self.now) for key in KEYS}
        assert {key: at.offset for key, at in known.items() if at is not None} == self.keys()

    @invariant()
    def it_holds_no_more_than_it_may(self) -> None:
        assert len(self.kept()) <= len(self.stream) <= HISTORY.size
        assert len(self.stream._keys) <= HISTORY.idempotency_keys
        assert self.stream.position == Position(EPOCH, len(self.published))


def test_against_a_list() -> None:
    run_state_machine_as_test(AgainstAList, settings=UNTIMED)


def filled(count: int, now: float = 0.0) -> Stream:
    stream = Stream(EPOCH)
    for number in range(1, count + 1):
        stream.append(b"%d" % number, HISTORY, now)
    return stream


def offsets(found: Slice) -> Sequence[int]:
    return [offset for offset, _ in found.publications]


def test_an_epoch_has_a_form() -> None:
    with pytest.raises(ValueError, match="epoch"):
        _ = Stream("not an epoch").position


def test_an_empty_stream() -> None:
    stream = Stream(EPOCH)
    nothing = Slice(Position(EPOCH, 0), [], True)
    for since in (None, Position(EPOCH, 0)):
        for reverse in (False, True):
            assert stream.read(since, None, reverse, 0.0) == nothing
    assert not stream.read(Position(EPOCH, 1), None, False, 0.0).is_complete
    assert stream.find("key", 0.0) is None


@pytest.mark.parametrize(
    ("since", "reverse", "expected", "is_complete"),
    [
        (Position(EPOCH, 1), False, [], False),  # 2 is gone
        (Position(EPOCH, 2), False, [3, 4, 5], True),
        (Position(EPOCH, 4), False, [5], True),
        (Position(EPOCH, 5), False, [], True),
        (Position(EPOCH, 6), False, [], False),
        (Position(EPOCH, 2**63 - 1), False, [], False),
        (Position("another", 4), False, [], False),
        (None, False, [3, 4, 5], True),
        (Position(EPOCH, 0), True, [], True),
        (Position(EPOCH, 3), True, [], True),
        (Position(EPOCH, 4), True, [3], True),
        (Position(EPOCH, 5), True, [4, 3], True),
        (Position(EPOCH, 6), True, [], False),
        (Position("another", 4), True, [], False),
        (None, True, [5, 4, 3], True),
    ],
)
def test_ranges(since: Position | None, reverse: bool, expected: list[int], is_complete: bool) -> None:
    found = filled(5).read(since, None, reverse, 0.0)
    assert (found.position, offsets(found), found.is_complete) == (Position(EPOCH, 5), expected, is_complete)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_limit_makes_nothing_incomplete(reverse: bool) -> None:
    for limit in (0, 1, 2, 10**30):
        found = filled(5).read(None, limit, reverse, 0.0)
        assert (offsets(found), found.is_complete) == (([5, 4, 3] if reverse else [3, 4, 5])[:limit], True)


def test_all_expires_when_the_last_one_does() -> None:
    stream = filled(2, now=0.0)
    stream.append(b"3", HISTORY, 9.5)
    assert offsets(stream.read(None, None, False, 19.0)) == [1, 2, 3]
    assert stream.expires_at == 19.5
    assert offsets(stream.read(None, None, False, 19.5)) == []
    assert stream.read(Position(EPOCH, 3), None, False, 19.5).is_complete
    assert not stream.read(Position(EPOCH, 2), None, False, 19.5).is_complete
    assert stream.append(b"4", HISTORY, 30.0) == Position(EPOCH, 4)
    assert offsets(stream.read(None, None, True, 30.0)) == [4]


def test_what_has_expired_does_not_come_back_with_the_next_one() -> None:
    stream = filled(2, now=0.0)
    stream.append(b"3", HISTORY, 10.0)
    assert offsets(stream.read(None, None, False, 10.0)) == [3]


def test_a_smaller_size_holds_at_once() -> None:
    stream = filled(3)
    stream.append(b"4", History(size=1), 0.0)
    assert offsets(stream.read(None, None, False, 0.0)) == [4]


def test_a_key_that_is_used_again_is_the_newest() -> None:
    """With times to live that change, a key can end before an older one."""
    history = History(idempotency_keys=3)
    stream = Stream(EPOCH)
    stream.append(b"1", history, 0.0, "oldest")
    stream.append(b"2", History(idempotency_ttl_s=1), 0.0, "short")
    stream.append(b"3", history, 0.0, "middle")
    assert stream.find("short", 1.0) is None
    stream.append(b"4", history, 1.0, "short")
    for number in (5, 6):  # which push out the two that are the oldest now
        stream.append(b"more", history, 1.0, f"key {number}")
    assert stream.find("oldest", 1.0) is None
    assert stream.find("middle", 1.0) is None
    assert stream.find("short", 1.0) == Position(EPOCH, 4)


def test_keys_leave_with_time() -> None:
    stream = Stream(EPOCH)
    stream.append(b"1", HISTORY, 0.0, "a")
    stream.append(b"2", HISTORY, 5.0, "b")
    stream.expire(20.0)
    assert list(stream._keys) == ["b"]
    stream.expire(25.0)
    assert list(stream._keys) == []
