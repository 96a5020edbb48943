"""The transport that records, with a user that records too."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from hubbub.interfaces import TransportSettings
from hubbub.model import Data
from hubbub.testing import RecordingTransport
from hubbub.wire.prepared import PreparedFrame

HIGH = 65_536
"""The high water mark where the test names none."""


class User:
    """A `TransportUser` that remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.when_lost: Callable[[], None] = lambda: None

    def received(self, data: Data) -> None:
        self.calls.append(data)

    def congested(self) -> None:
        self.calls.append("congested")

    def writable(self) -> None:
        self.calls.append("writable")

    def lost(self, code: int, reason: str) -> None:
        self.calls.append(("lost", code, reason))
        self.when_lost()


@pytest.fixture
def user() -> User:
    return User()


@pytest.fixture
def transport(user: User) -> RecordingTransport:
    transport = RecordingTransport()
    transport.start(user, TransportSettings())
    return transport


def test_a_new_transport_has_seen_nothing_and_reads() -> None:
    transport = RecordingTransport()
    assert (transport.written, transport.closed, transport.buffered_bytes) == ([], None, 0)
    assert transport.is_reading


def test_what_is_written_is_recorded_in_order(transport: RecordingTransport, user: User) -> None:
    for data in ("1", b"2", ""):
        transport.write(PreparedFrame(data))
    assert transport.written == ["1", b"2", ""]
    assert (transport.buffered_bytes, user.calls) == (0, [])


def test_a_congested_transport_takes_what_is_written_all_the_same(transport: RecordingTransport) -> None:
    transport.buffered_bytes = HIGH
    transport.write(PreparedFrame("x"))
    assert transport.written == ["x"]


def test_what_arrives_is_delivered(transport: RecordingTransport, user: User) -> None:
    transport.receive("1")
    transport.receive(b"2")
    assert user.calls == ["1", b"2"]


@pytest.mark.parametrize(
    ("levels", "calls"),
    [
        ([HIGH - 1], []),
        ([HIGH], ["congested"]),
        ([HIGH + 1], ["congested"]),
        ([HIGH, HIGH, HIGH + 1], ["congested"]),
        ([HIGH, HIGH - 1], ["congested", "writable"]),
        ([HIGH, HIGH - 1, 0], ["congested", "writable"]),
        ([HIGH, 0, HIGH, 0], ["congested", "writable", "congested", "writable"]),
        ([0, 1, 0], []),
    ],
)
def test_crossing_the_high_water_mark_is_told_and_nothing_else_is(
    transport: RecordingTransport, user: User, levels: list[int], calls: list[str]
) -> None:
    for level in levels:
        transport.buffered_bytes = level
        assert transport.buffered_bytes == level
    assert user.calls == calls


def test_the_high_water_mark_can_be_chosen(user: User) -> None:
    transport = RecordingTransport(high_water=10)
    transport.start(user, TransportSettings())
    transport.buffered_bytes = 9
    assert user.calls == []
    transport.buffered_bytes = 10
    assert user.calls == ["congested"]


def test_the_level_is_the_new_one_when_the_user_hears_of_it(transport: RecordingTransport, user: User) -> None:
    levels = []
    user.congested = lambda: levels.append(transport.buffered_bytes)  # type: ignore[method-assign]
    transport.buffered_bytes = HIGH + 5
    assert levels == [HIGH + 5]


def test_whether_the_hub_wants_messages_is_recorded(transport: RecordingTransport) -> None:
    transport.pause_reading()
    assert not transport.is_reading
    transport.resume_reading()
    assert transport.is_reading


@pytest.mark.parametrize(
    ("arguments", "lost"),
    [((), ("lost", 1006, "")), ((1001,), ("lost", 1001, "")), ((1001, "away"), ("lost", 1001, "away"))],
)
def test_the_peer_may_vanish_or_close(
    transport: RecordingTransport, user: User, arguments: tuple[Any, ...], lost: tuple[str, int, str]
) -> None:
    transport.lose(*arguments)
    assert user.calls == [lost]
    assert transport.closed is None


def test_a_close_of_the_hub_is_recorded_and_is_the_end(transport: RecordingTransport, user: User) -> None:
    transport.close(4000, "bye")
    assert transport.closed == (4000, "bye")
    assert user.calls == [("lost", 4000, "bye")]


def test_an_abort_of_the_hub_is_the_end_without_a_close(transport: RecordingTransport, user: User) -> None:
    transport.abort()
    assert transport.closed is None
    assert user.calls == [("lost", 1006, "")]


ENDS: dict[str, Callable[[RecordingTransport], None]] = {
    "lose": lambda transport: transport.lose(1001, "first"),
    "close": lambda transport: transport.close(1001, "first"),
    "abort": lambda transport: transport.abort(),
}


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
@pytest.mark.parametrize("from_within", [False, True])
def test_the_connection_is_lost_once(
    transport: RecordingTransport, user: User, first: str, second: str, from_within: bool
) -> None:
    if from_within:
        user.when_lost = lambda: ENDS[second](transport)
    ENDS[first](transport)
    closed = transport.closed
    ENDS[second](transport)
    transport.close(4000, "late")
    assert user.calls == [("lost", 1006, "") if first == "abort" else ("lost", 1001, "first")]
    assert transport.closed == closed == ((1001, "first") if first == "close" else None)


@pytest.mark.parametrize(
    ("level", "late"),
    [
        (0, lambda transport: transport.receive("late")),
        (0, lambda transport: setattr(transport, "buffered_bytes", HIGH)),
        (HIGH, lambda transport: setattr(transport, "buffered_bytes", 0)),
    ],
    ids=["receive", "fill", "drain"],
)
@pytest.mark.parametrize("end", ENDS)
def test_nothing_comes_after_the_connection_is_lost(
    transport: RecordingTransport, user: User, end: str, level: int, late: Callable[[RecordingTransport], None]
) -> None:
    transport.buffered_bytes = level
    ENDS[end](transport)
    user.calls.clear()
    late(transport)
    assert user.calls == []


@pytest.mark.parametrize(
    "act",
    [
        lambda transport: transport.receive("x"),
        lambda transport: transport.lose(),
        lambda transport: transport.abort(),
        lambda transport: transport.close(1000, ""),
        lambda transport: setattr(transport, "buffered_bytes", HIGH),
    ],
    ids=["receive", "lose", "abort", "close", "buffered_bytes"],
)
def test_before_the_connection_is_accepted_the_test_is_told_to_accept_it(
    act: Callable[[RecordingTransport], None],
) -> None:
    message = "the transport carries no connection yet: accept it first"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        act(RecordingTransport())
