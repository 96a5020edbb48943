"""The transport, between an event loop, a peer and a user that the test plays; the time is moved by hand."""

import asyncio
import os
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest
from uvicorn.server import ServerState

from hubbub.config import Drain, Heartbeat
from hubbub.interfaces import TransportSettings
from hubbub.model import CloseCode
from hubbub.server.native import CLOSE_DEADLINE_S, DRAIN_DEADLINE_S, LINGER_S, NativeTransport
from hubbub.server.shared import TICK_S, Shared
from hubbub.wire.frames import Opcode, close_payload
from hubbub.wire.parser import Parser
from hubbub.wire.prepared import PreparedFrame, deflated, plain
from tests.server.standins import HIGH, Loop, Tcp, User, frames, sent, shared_on, text, turn

INTERVAL_S, TIMEOUT_S = 20, 10
AT_ONCE = 8
"""Frames that the parser takes at once."""
NO_HEARTBEAT = TransportSettings(heartbeat=Heartbeat(interval_s=None))


class Predecessor(User):
    """The user before `start`, with what it has kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []
        self.ended: tuple[int, str] | None = None

    def hand_over(self, user: Any) -> None:
        for data in self.kept:
            user.received(data)
        if self.ended is not None:
            user.lost(*self.ended)

    def lost(self, code: int, reason: str) -> None:
        super().lost(code, reason)
        self.ended = (code, reason)


def make_parser(frames_at_once: int, max_bytes: int, max_fragments: int | None) -> Parser:
    return Parser(max_bytes=max_bytes, max_fragments=max_fragments, frames_at_once=frames_at_once)


@dataclass
class Line:
    """A connection with everything around it."""

    loop: Loop = field(default_factory=Loop)
    tcp: Tcp = field(default_factory=Tcp)
    state: ServerState = field(default_factory=ServerState)
    user: User = field(default_factory=Predecessor)
    shared: Shared = field(init=False)
    transport: NativeTransport = field(init=False)

    def __post_init__(self) -> None:
        self.shared = shared_on(self.loop, self.state)

    def connect(
        self,
        heartbeat: Heartbeat | None = None,
        max_bytes: int = 1_000,
        encoding: Any = plain,
        **settings: Any,
    ) -> NativeTransport:
        heartbeat = heartbeat or Heartbeat(interval_s=INTERVAL_S, timeout_s=TIMEOUT_S)
        self.transport = NativeTransport(
            self.tcp,
            self.shared,
            max_bytes,
            self.user,
            TransportSettings(heartbeat=heartbeat, **settings),
            partial(make_parser, AT_ONCE),
            encoding,
        )
        self.tcp.set_protocol(self.transport)
        return self.transport

    @property
    def sent(self) -> list[tuple[int, bytes]]:
        """What the peer was sent."""
        return frames(self.tcp.written)

    @property
    def closes(self) -> list[bytes]:
        """The payloads of the close frames that it was sent."""
        return [payload for opcode, payload in self.sent if opcode == Opcode.CLOSE]

    @property
    def pings(self) -> list[bytes]:
        return [payload for opcode, payload in self.sent if opcode == Opcode.PING]

    @property
    def lost(self) -> list[tuple[int, str]]:
        """How often, and how, the user was told of the end."""
        return [call[1:] for call in self.user.calls if isinstance(call, tuple) and call[0] == "lost"]

    @property
    def is_gone(self) -> bool:
        """Whether nothing of the connection is left: not with uvicorn, not in the drain, no deadline."""
        return not self.state.connections and not self.shared.open and not len(self.shared._wheel)

    def fill(self) -> None:
        """Make the connection congested: the peer takes nothing, and much is written."""
        self.tcp.is_stalled = True
        self.transport.write(PreparedFrame(b"x" * (HIGH + 1)))


@pytest.fixture
def line() -> Line:
    line = Line()
    line.connect()
    return line


# Messages


def test_it_is_known_to_uvicorn_and_to_the_drain_as_long_as_it_lives(line: Line) -> None:
    assert line.state.connections == {line.transport}
    assert list(line.shared.open) == [line.transport]
    line.tcp.lose()
    assert line.is_gone


def test_messages_that_arrive_are_delivered_in_order(line: Line) -> None:
    line.tcp.receive(text("1") + sent(Opcode.BINARY, b"2"))
    line.tcp.receive(sent(Opcode.TEXT, b"3", bits=0) + sent(Opcode.CONTINUATION, b"4"))
    assert line.user.calls == ["1", b"2", "34"]


def test_messages_are_written_as_they_are_given_without_anything_between(line: Line) -> None:
    line.transport.write(PreparedFrame("1"))
    line.transport.sharing.write_encoded(plain((PreparedFrame("2"), PreparedFrame(b"3"))))
    assert line.sent == [(Opcode.TEXT, b"1"), (Opcode.TEXT, b"2"), (Opcode.BINARY, b"3")]


def test_what_was_negotiated_is_how_messages_are_encoded() -> None:
    line = Line()
    transport = line.connect(encoding=deflated(15))
    frame = PreparedFrame("x" * 1_000)
    transport.write(frame)
    assert line.tcp.written == frame.deflated(15)


@pytest.mark.parametrize(("max_bytes", "own", "limit"), [(100, None, 100), (100, 50, 50), (50, 100, 50)])
def test_the_smaller_of_the_servers_and_the_users_sizes_holds(max_bytes: int, own: int | None, limit: int) -> None:
    for size, is_taken in ((limit, True), (limit + 1, False)):
        line = Line()
        line.connect(max_bytes=max_bytes, message_bytes=own)
        line.tcp.receive(text("x" * size))
        assert line.user.calls == (["x" * size] if is_taken else [("lost", 1009, "message_bytes")])


# The user is replaced


def test_a_new_user_hears_what_arrived_before_it_came_then_all_else(line: Line) -> None:
    line.user.kept = ["1", "2"]  # type: ignore[attr-defined]
    user = User()
    line.transport.start(user, NO_HEARTBEAT)
    line.tcp.receive(text("3"))
    line.tcp.lose()
    assert user.calls == ["1", "2", "3", ("lost", 1006, "")]
    assert line.user.calls == []


def test_a_new_user_of_a_congested_connection_hears_of_it_first(line: Line) -> None:
    line.user.kept = ["1"]  # type: ignore[attr-defined]
    line.fill()
    user = User()
    line.transport.start(user, NO_HEARTBEAT)
    assert user.calls == ["congested", "1"]
    line.tcp.take()
    assert user.calls == ["congested", "1", "writable"]


def test_a_new_users_limits_hold_from_then_on(line: Line) -> None:
    user = User()
    line.transport.start(user, TransportSettings(message_bytes=10, message_fragments=2))
    line.tcp.receive(text("x" * 11))
    assert user.calls == [("lost", 1009, "message_bytes")]


@pytest.mark.parametrize("interval_s", [5, None])
def test_a_new_users_heartbeat_takes_the_place_of_the_old_one(line: Line, interval_s: float | None) -> None:
    line.transport.start(User(), TransportSettings(heartbeat=Heartbeat(interval_s=interval_s, timeout_s=5)))
    line.loop.advance(6)
    assert len(line.pings) == (interval_s is not None)


def test_a_new_user_of_a_connection_that_has_ended_meanwhile_hears_what_had_come_and_how(line: Line) -> None:
    cast(Predecessor, line.user).kept = ["last words"]
    line.tcp.receive(sent(Opcode.CLOSE, close_payload(4000, "bye")))
    line.tcp.lose()
    user = User()
    line.transport.start(user, TransportSettings())
    assert user.calls == ["last words", ("lost", 4000, "bye")]
    assert line.is_gone


def test_a_new_user_of_a_connection_that_is_being_closed_hears_that_it_is_lost(line: Line) -> None:
    line.transport.close(1012, "")
    cast(Predecessor, line.user).ended = (1012, "")
    user = User()
    line.transport.start(user, TransportSettings())
    assert user.calls == [("lost", 1012, "")]
    line.tcp.receive(text("too late"))
    line.loop.advance(CLOSE_DEADLINE_S + TICK_S)
    assert line.tcp.log == ["abort"]
    assert user.calls == [("lost", 1012, "")]
    assert line.is_gone


# Writing


def test_the_user_hears_when_the_peer_takes_nothing_and_when_it_does_again(line: Line) -> None:
    line.fill()
    assert line.user.calls == ["congested"]
    line.tcp.take()
    assert line.user.calls == ["congested", "writable"]


def test_a_congested_connection_takes_what_is_written_all_the_same(line: Line) -> None:
    line.fill()
    line.transport.write(PreparedFrame("more"))
    assert line.sent[-1] == (Opcode.TEXT, b"more")


# Reading


async def test_what_arrives_while_the_reading_is_paused_stays_with_the_kernel(line: Line) -> None:
    line.transport.pause_reading()
    line.transport.pause_reading()
    assert not line.tcp.is_reading()
    line.transport.resume_reading()
    line.transport.resume_reading()
    assert line.tcp.is_reading()


async def test_many_frames_at_once_are_delivered_in_turns_and_in_order(line: Line) -> None:
    count = 10 * AT_ONCE + 1
    line.tcp.receive(b"".join(text(str(number)) for number in range(count)))
    turns = [len(line.user.calls)]
    while len(line.user.calls) < count:
        assert not line.tcp.is_reading()
        await turn()
        turns.append(len(line.user.calls))
    assert turns == [*range(AT_ONCE, count, AT_ONCE), count]
    assert line.user.calls == [str(number) for number in range(count)]
    assert line.tcp.is_reading()


async def test_a_user_can_pause_in_the_middle_of_many_frames(line: Line) -> None:
    line.user.when_received = lambda data: line.transport.pause_reading() if data == "9" else None
    line.tcp.receive(b"".join(text(str(number)) for number in range(40)))
    for _ in range(5):
        await turn()
    assert line.user.calls == [str(number) for number in range(2 * AT_ONCE)]
    assert not line.tcp.is_reading()
    line.transport.resume_reading()
    for _ in range(5):
        await turn()
    assert line.user.calls == [str(number) for number in range(40)]
    assert line.tcp.is_reading()


async def test_a_pause_that_comes_and_goes_between_two_turns_loses_no_frame(line: Line) -> None:
    line.tcp.receive(b"".join(text(str(number)) for number in range(40)))
    line.transport.pause_reading()
    line.transport.resume_reading()
    for _ in range(6):
        await turn()
    assert line.user.calls == [str(number) for number in range(40)]
    assert line.tcp.is_reading()


async def test_a_close_frame_behind_many_frames_comes_after_them(line: Line) -> None:
    line.tcp.receive(b"".join(text("x") for _ in range(2 * AT_ONCE)) + sent(Opcode.CLOSE, close_payload(1001)))
    for _ in range(4):
        await turn()
    assert line.user.calls == ["x"] * 2 * AT_ONCE + [("lost", 1001, "")]
    assert line.tcp.log == ["close"]


async def test_a_fault_behind_many_frames_comes_after_them(line: Line) -> None:
    line.tcp.receive(b"".join(text("x") for _ in range(2 * AT_ONCE)) + sent(Opcode.TEXT, b"\xff"))
    for _ in range(4):
        await turn()
    assert line.user.calls == ["x"] * 2 * AT_ONCE + [("lost", 1007, "invalid UTF-8")]
    assert line.tcp.is_reading()


async def test_many_frames_of_a_connection_that_is_lost_are_not_delivered_any_more(line: Line) -> None:
    line.tcp.receive(b"".join(text("x") for _ in range(3 * AT_ONCE)))
    line.tcp.lose()
    await turn()
    assert line.user.calls == ["x"] * AT_ONCE + [("lost", 1006, "")]


# The peer closes


@pytest.mark.parametrize(
    ("payload", "code", "reason", "answer"),
    [
        (close_payload(1000), 1000, "", close_payload(1000)),
        (close_payload(1001, "leaving"), 1001, "leaving", close_payload(1001)),
        (close_payload(4999, "é"), 4999, "é", close_payload(4999)),
        (b"", 1005, "", b""),
    ],
)
def test_the_peers_close_is_answered_and_told(
    line: Line, payload: bytes, code: int, reason: str, answer: bytes
) -> None:
    line.tcp.receive(sent(Opcode.CLOSE, payload))
    assert line.closes == [answer]
    assert line.lost == [(code, reason)]
    assert line.tcp.log == ["close"]
    line.tcp.lose()
    assert line.lost == [(code, reason)]
    assert line.is_gone


def test_a_close_in_the_middle_of_a_message_is_answered(line: Line) -> None:
    line.tcp.receive(sent(Opcode.TEXT, b"unfinished", bits=0) + sent(Opcode.CLOSE, close_payload(1001)))
    assert line.closes == [close_payload(1001)]
    assert line.user.calls == [("lost", 1001, "")]


def test_what_comes_after_the_peers_close_is_not_looked_at(line: Line) -> None:
    line.tcp.receive(sent(Opcode.CLOSE) + text("late"))
    line.transport.data_received(b"\xff" * 100)
    assert line.user.calls == [("lost", 1005, "")]
    assert line.closes == [b""]


def test_a_peer_that_does_not_take_the_end_of_its_connection_is_cut_off(line: Line) -> None:
    line.fill()
    line.tcp.receive(sent(Opcode.CLOSE))
    line.loop.advance(LINGER_S + TICK_S)
    assert line.tcp.log == ["close", "abort"]
    assert line.is_gone


def test_a_peer_that_vanishes_is_lost_with_1006(line: Line) -> None:
    line.tcp.lose(ConnectionResetError())
    assert line.user.calls == [("lost", 1006, "")]
    assert line.is_gone


def test_a_peer_that_sends_no_more_is_lost_at_once_and_cut_off_if_it_takes_no_more_either(line: Line) -> None:
    line.fill()
    line.tcp.end()
    assert line.lost == [(1006, "")]
    assert line.tcp.log == ["close"]
    line.loop.advance(LINGER_S + TICK_S)
    assert line.tcp.log == ["close", "abort"]
    assert line.lost == [(1006, "")]
    assert line.is_gone


# We close


def test_a_close_of_ours_waits_for_the_peers_and_ends_the_connection_then(line: Line) -> None:
    line.transport.close(1001, "bye")
    assert line.closes == [close_payload(1001, "bye")]
    assert (line.lost, line.tcp.log) == ([], [])
    line.tcp.receive(text("on its way") + sent(Opcode.CLOSE, close_payload(1001)))
    assert line.user.calls == ["on its way", ("lost", 1001, "")]
    assert line.closes == [close_payload(1001, "bye")]
    assert line.tcp.log == ["close"]
    line.tcp.lose()
    assert line.is_gone


def test_a_peer_that_does_not_answer_our_close_is_cut_off(line: Line) -> None:
    line.transport.close(1000, "")
    line.loop.advance(CLOSE_DEADLINE_S - TICK_S)
    assert (line.lost, line.tcp.log) == ([], [])
    line.loop.advance(2 * TICK_S)
    assert line.lost == [(1006, "")]
    assert line.tcp.log == ["abort"]
    assert line.is_gone


def test_a_close_waits_less_when_the_server_stops(line: Line) -> None:
    line.transport.shutdown()
    line.transport.close(1012, "")
    line.loop.advance(DRAIN_DEADLINE_S + TICK_S)
    assert line.tcp.log == ["abort"]


def test_only_the_first_close_counts(line: Line) -> None:
    line.transport.close(1000, "")
    line.transport.close(1011, "")
    line.tcp.receive(sent(Opcode.CLOSE))
    line.transport.close(1011, "")
    assert line.closes == [close_payload(1000)]


def test_a_close_reads_on_for_the_peers_answer(line: Line) -> None:
    line.transport.pause_reading()
    line.transport.close(1000, "")
    assert line.tcp.is_reading()


async def test_a_close_among_many_frames_reads_on_for_the_peers_answer(line: Line) -> None:
    line.user.when_received = lambda data: line.transport.pause_reading()
    line.tcp.receive(b"".join(text("x") for _ in range(AT_ONCE + 1)) + sent(Opcode.CLOSE))
    line.user.when_received = lambda data: None
    line.transport.close(1000, "")
    await turn()
    assert line.lost == [(1005, "")]
    assert line.tcp.log == ["close"]


def test_a_close_frame_without_a_code_has_no_payload(line: Line) -> None:
    line.transport.close(CloseCode.NO_STATUS, "")
    assert line.closes == [b""]


def test_a_close_that_cannot_be_said_leaves_the_connection_as_it_was(line: Line) -> None:
    with pytest.raises(OverflowError):
        line.transport.close(100_000, "")
    assert line.closes == []
    line.transport.close(1011, "a \ud800")
    assert line.closes == [close_payload(1011, "a ?")]


@pytest.mark.parametrize(
    ("data", "violations"),
    [
        (sent(Opcode.BINARY, b"x" * 11), ["message_bytes"]),
        (b"\x02\x80\0\0\0\0" + b"\0\x80\0\0\0\0" * 2, ["message_fragments"]),
        (b"\xff" * 10, []),
    ],
    ids=["bytes", "fragments", "another fault"],
)
def test_a_peer_that_goes_over_a_limit_of_the_transport_is_reported_under_its_name(
    line: Line, data: bytes, violations: list[str]
) -> None:
    line.transport.start(line.user, TransportSettings(message_bytes=10, message_fragments=2))
    line.tcp.receive(data)
    assert line.user.violations == violations


def test_pings_are_not_answered_after_our_close(line: Line) -> None:
    line.transport.close(1000, "")
    line.tcp.receive(sent(Opcode.PING, b"x"))
    assert (Opcode.PONG, b"x") not in line.sent


def test_a_peer_that_breaks_the_protocol_after_our_close_is_ended_without_another_one(line: Line) -> None:
    line.transport.close(1000, "")
    line.tcp.receive(b"\xff" * 10)
    assert len(line.closes) == 1
    assert len(line.lost) == 1
    assert line.tcp.log == ["write_eof"]


# An abort


def test_an_abort_ends_everything_before_it_returns(line: Line) -> None:
    line.transport.abort()
    assert line.user.calls == [("lost", 1006, "")]
    assert line.tcp.log == ["abort"]
    assert line.is_gone
    line.transport.abort()
    line.tcp.lose()
    assert line.user.calls == [("lost", 1006, "")]


@pytest.mark.parametrize("rest", [sent(Opcode.CLOSE), text("more"), sent(Opcode.PING), b"\xff" * 10])
def test_a_user_can_abort_while_it_is_given_a_message(line: Line, rest: bytes) -> None:
    line.user.when_received = lambda data: line.transport.abort()
    line.tcp.receive(text("1") + rest)
    assert line.user.calls == ["1", ("lost", 1006, "")]
    assert line.tcp.written == b""
    line.tcp.lose()
    assert line.is_gone


@pytest.mark.parametrize("rest", [sent(Opcode.CLOSE), b"\xff" * 10])
def test_a_user_can_close_while_it_is_given_a_message(line: Line, rest: bytes) -> None:
    line.user.when_received = lambda data: line.transport.close(1001, "")
    line.tcp.receive(text("1") + rest)
    assert line.closes == [close_payload(1001)]
    assert len(line.lost) == 1
    line.tcp.lose()
    assert line.is_gone


# Faults of the peer


FAULTS: list[tuple[bytes, int, str]] = [
    (b"\x81\x01x", 1002, "a frame that is not masked"),
    (sent(0x3), 1002, "an unknown opcode"),
    (sent(Opcode.CONTINUATION), 1002, "a fragment out of turn"),
    (sent(Opcode.TEXT, b"x", bits=0xC0), 1002, "a reserved bit"),
    (sent(Opcode.CLOSE, b"\x03\xed"), 1002, "a close code that nobody may send"),
    (sent(Opcode.TEXT, b"\xff"), 1007, "invalid UTF-8"),
    (sent(Opcode.CLOSE, b"\x03\xe8\xff"), 1007, "invalid UTF-8"),
    (text("x" * 1_001)[:8], 1009, "message_bytes"),
]


@pytest.mark.parametrize(("data", "code", "reason"), FAULTS)
def test_a_peer_that_breaks_the_protocol_is_told_so(line: Line, data: bytes, code: int, reason: str) -> None:
    line.tcp.receive(text("before") + data)
    assert line.user.calls == ["before", ("lost", code, reason)]
    assert line.closes == [close_payload(code, reason)]
    assert line.tcp.log == ["write_eof"]


def test_after_a_fault_the_connection_is_read_without_looking_until_the_peer_ends_it(line: Line) -> None:
    line.tcp.receive(b"\xff" * 10)
    for _ in range(10):
        line.tcp.receive(text("x") + sent(Opcode.PING) + sent(Opcode.CLOSE))
    assert len(line.sent) == len(line.lost) == len(line.user.calls) == 1
    line.tcp.end()
    line.tcp.lose()
    assert line.is_gone


def test_after_a_fault_the_peer_is_cut_off_if_it_does_not_end_the_connection(line: Line) -> None:
    line.tcp.receive(b"\xff" * 10)
    line.loop.advance(LINGER_S + TICK_S)
    assert line.tcp.log == ["write_eof", "abort"]
    assert line.is_gone


def test_what_a_fault_is_behind_is_read_although_the_user_has_paused(line: Line) -> None:
    line.user.when_received = lambda data: line.transport.pause_reading()
    line.tcp.receive(text("x") + b"\xff" * 10)
    assert line.tcp.is_reading()


def test_where_one_side_cannot_be_closed_alone_the_peer_still_has_its_time(line: Line) -> None:
    line.tcp.has_write_eof = False  # TLS
    line.tcp.receive(b"\xff" * 10)
    assert line.tcp.log == []
    line.loop.advance(LINGER_S + TICK_S)
    assert line.tcp.log == ["abort"]


# Control frames


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
def test_a_ping_is_answered_with_its_payload_and_counted(line: Line, payload: bytes) -> None:
    line.tcp.receive(sent(Opcode.PING, payload))
    assert line.sent == [(Opcode.PONG, payload)]
    assert line.user.calls == ["control"]


def test_a_ping_in_the_middle_of_a_message_is_answered_at_once(line: Line) -> None:
    line.tcp.receive(sent(Opcode.TEXT, b"1", bits=0) + sent(Opcode.PING, b"x"))
    assert line.sent == [(Opcode.PONG, b"x")]
    line.tcp.receive(sent(Opcode.CONTINUATION, b"2"))
    assert line.user.calls == ["control", "12"]


def test_a_pong_that_nobody_asked_for_is_counted(line: Line) -> None:
    line.tcp.receive(sent(Opcode.PONG, b"x"))
    assert (line.sent, line.user.calls) == ([], ["control"])


def test_a_peer_that_does_not_read_gets_an_answer_to_its_last_ping_only(line: Line) -> None:
    line.fill()
    for number in range(1_000):
        line.tcp.receive(sent(Opcode.PING, b"%d" % number))
    assert (Opcode.PONG, b"0") not in line.sent
    line.tcp.take()
    assert [payload for opcode, payload in line.sent if opcode == Opcode.PONG] == [b"999"]


def test_a_pong_that_is_owed_is_forgotten_when_we_close(line: Line) -> None:
    line.fill()
    line.tcp.receive(sent(Opcode.PING))
    line.transport.close(1000, "")
    line.tcp.take()
    assert line.sent[-1][0] == Opcode.CLOSE


# The heartbeat


def test_pings_have_payloads_that_cannot_be_guessed(line: Line) -> None:
    line.loop.advance(INTERVAL_S + TICK_S)
    line.tcp.receive(sent(Opcode.PONG, line.pings[0]))
    line.loop.advance(INTERVAL_S + TICK_S)
    assert len(line.pings) == len(set(line.pings)) == 2
    assert all(len(payload) == 4 for payload in line.pings)


def test_the_answer_to_a_ping_gives_the_round_trip_time_and_is_not_counted(line: Line) -> None:
    assert line.transport.round_trip_s is None
    line.loop.advance(INTERVAL_S + TICK_S)
    line.loop.advance(0.5)
    line.tcp.receive(sent(Opcode.PONG, line.pings[0]))
    assert line.transport.round_trip_s == pytest.approx(0.5, abs=TICK_S)
    assert line.user.calls == []


def test_a_peer_that_answers_is_asked_again_and_again(line: Line) -> None:
    for number in range(1, 6):
        line.loop.advance(INTERVAL_S + TICK_S)
        assert len(line.pings) == number
        line.tcp.receive(sent(Opcode.PONG, line.pings[-1]))
    assert (line.lost, line.tcp.log) == ([], [])


def test_a_peer_that_does_not_answer_is_told_lost_and_cut_off(line: Line) -> None:
    line.loop.advance(INTERVAL_S + TIMEOUT_S - TICK_S)
    assert line.lost == []
    line.loop.advance(3 * TICK_S)
    assert line.lost == [(1006, "heartbeat")]
    assert line.closes == [close_payload(1011, "heartbeat")]
    assert line.tcp.log == []
    line.loop.advance(LINGER_S + TICK_S)
    assert line.tcp.log == ["abort"]
    assert line.is_gone


def test_another_pong_is_no_answer(line: Line) -> None:
    line.loop.advance(INTERVAL_S + TICK_S)
    line.tcp.receive(sent(Opcode.PONG) + sent(Opcode.PONG, os.urandom(5)) + text("messages are none either"))
    line.loop.advance(TIMEOUT_S + TICK_S)
    assert line.lost == [(1006, "heartbeat")]


def test_an_old_answer_is_no_answer_to_the_next_ping(line: Line) -> None:
    line.loop.advance(INTERVAL_S + TICK_S)
    line.tcp.receive(sent(Opcode.PONG, line.pings[0]))
    line.loop.advance(INTERVAL_S)
    line.tcp.receive(sent(Opcode.PONG, line.pings[0]))
    line.loop.advance(TIMEOUT_S + TICK_S)
    assert line.lost == [(1006, "heartbeat")]


@pytest.mark.parametrize(("interval_s", "timeout_s"), [(1, 60), (60, 1), (5, 5)])
def test_interval_and_timeout_have_any_relation(interval_s: float, timeout_s: float) -> None:
    line = Line()
    line.connect(Heartbeat(interval_s=interval_s, timeout_s=timeout_s))
    line.loop.advance(interval_s + TICK_S)
    assert len(line.pings) == 1
    line.loop.advance(timeout_s - 2 * TICK_S)
    assert line.lost == []
    assert len(line.pings) == 1
    line.loop.advance(3 * TICK_S)
    assert line.lost == [(1006, "heartbeat")]


def test_without_an_interval_nobody_is_asked() -> None:
    line = Line()
    line.connect(Heartbeat(interval_s=None))
    line.loop.advance(1e6)
    assert (line.sent, line.user.calls, line.loop.due) == ([], [], [])


def test_an_answer_that_comes_very_late_but_in_time_does_not_stop_the_pings() -> None:
    line = Line()
    line.connect(Heartbeat(interval_s=5, timeout_s=1e9))  # what `ws_ping_timeout=None` becomes
    line.loop.advance(60)
    assert len(line.pings) == 1
    line.tcp.receive(sent(Opcode.PONG, line.pings[0]))
    line.loop.advance(5 + TICK_S)
    assert len(line.pings) == 2


def test_a_congestion_that_has_passed_does_not_stop_the_pings() -> None:
    line = Line()
    line.connect(Heartbeat(interval_s=5, timeout_s=1e9))
    line.fill()
    line.loop.advance(60)
    line.tcp.take()
    line.loop.advance(5 + TICK_S)
    assert len(line.pings) == 1


# The heartbeat of a peer that is behind


def test_a_congested_peer_that_takes_something_is_kept(line: Line) -> None:
    line.fill()
    for _ in range(20):
        line.loop.advance(TIMEOUT_S)
        line.tcp.take(1)
    assert (line.lost, line.tcp.log) == ([], [])
    assert line.pings == []


def test_a_congested_peer_that_takes_nothing_is_ended(line: Line) -> None:
    line.fill()
    line.loop.advance(INTERVAL_S + 2 * TIMEOUT_S)
    assert line.lost == [(1006, "heartbeat")]
    line.loop.advance(LINGER_S + TICK_S)
    assert line.tcp.log == ["abort"]
    assert line.is_gone


def test_a_congested_peer_is_ended_by_what_it_does_not_take_and_not_by_the_ping_before(line: Line) -> None:
    line.loop.advance(INTERVAL_S + TICK_S)
    line.fill()
    line.loop.advance(TIMEOUT_S + TICK_S)
    assert line.lost == []
    line.tcp.take(1)
    line.loop.advance(TIMEOUT_S + TICK_S)
    assert line.lost == []


def test_a_peer_that_took_all_and_is_behind_by_just_as_much_again_is_kept(line: Line) -> None:
    for _ in range(10):
        line.fill()
        line.loop.advance(INTERVAL_S)
        assert line.lost == []
        line.tcp.take()


def test_a_peer_that_has_caught_up_is_asked_again(line: Line) -> None:
    line.fill()
    line.loop.advance(INTERVAL_S + TICK_S)
    line.tcp.take()
    line.loop.advance(INTERVAL_S + TICK_S)
    assert len(line.pings) == 1
    line.loop.advance(TIMEOUT_S + TICK_S)
    assert line.lost == [(1006, "heartbeat")]


# The heartbeat while we do not read


def test_a_peer_whose_answer_we_do_not_read_is_kept(line: Line) -> None:
    line.transport.pause_reading()
    line.loop.advance(10 * INTERVAL_S)
    assert line.lost == []
    assert len(line.pings) == 1


def test_a_peer_has_its_time_to_answer_again_when_we_read_on(line: Line) -> None:
    line.transport.pause_reading()
    line.loop.advance(INTERVAL_S + 3 * TIMEOUT_S - TICK_S)
    line.transport.resume_reading()
    line.loop.advance(TIMEOUT_S - TICK_S)
    assert line.lost == []
    line.loop.advance(TIMEOUT_S + 2 * TICK_S)
    assert line.lost == [(1006, "heartbeat")]


# The end of the server


def test_shutdown_ends_all_connections_of_the_server_in_batches() -> None:
    loop, state = Loop(), ServerState()
    shared = shared_on(loop, state)
    lines = [Line(loop=loop, state=state) for _ in range(4)]
    for line in lines:
        line.shared = shared
        line.connect(drain=Drain(batch=2, window_s=4))
    for line in lines:
        line.transport.shutdown()
    assert [line.user.calls for line in lines] == [["draining"], ["draining"], [], []]
    loop.advance(2)
    assert [line.user.calls for line in lines] == [["draining"]] * 4


def test_a_connection_that_is_at_its_end_is_not_drained(line: Line) -> None:
    line.tcp.receive(sent(Opcode.CLOSE))
    line.transport.shutdown()
    line.transport.application_ended(1000)
    assert line.user.calls == [("lost", 1005, "")]


def test_the_user_hears_that_the_application_has_ended(line: Line) -> None:
    line.transport.application_ended(1011)
    assert line.user.calls == [("application_ended", 1011)]


# Other ends


async def test_nothing_is_asked_of_a_transport_that_is_closing(line: Line) -> None:
    line.tcp.receive(b"".join(text("x") for _ in range(AT_ONCE)) + text("y"))
    line.tcp.close()
    line.transport.pause_reading()
    line.transport.resume_reading()
    line.transport.close(1000, "")
    await turn()
    line.tcp.lose()
    assert line.is_gone


async def test_a_lost_connection_frees_what_holds_it() -> None:
    line = Line()
    line.connect()
    line.tcp.receive(text("x"))
    line.tcp.lose()
    await asyncio.sleep(0)
    assert line.loop.due in ([], [INTERVAL_S])  # the shared timer looks once more and finds nothing
    line.loop.advance(INTERVAL_S)
    assert line.loop.due == []
