"""One connection, between a transport that the test plays and a clock that the test moves."""

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from starlette.websockets import WebSocketDisconnect

from hubbub.config import Limits, Outbox
from hubbub.hub.admission import Admission
from hubbub.hub.backlog import DIRECT_SHARE
from hubbub.hub.connection import (
    CLOSE_DEADLINE_S,
    SEND_DEADLINE_S,
    ConnectionEnded,
    CoreConnection,
    Phase,
    Settings,
    current_connections,
)
from hubbub.hub.hub import EVERYONE, PLAIN, ChannelOptions, CoreHub
from hubbub.interfaces import Timer, TransportSettings
from hubbub.model import OutboxPolicy
from hubbub.state.inbox import INBOX_BYTES, INBOX_MESSAGES, PAUSE_S
from hubbub.state.outbox import ENTRY_BYTES
from hubbub.testing import ManualClock, RecordingTransport
from hubbub.wire.prepared import PreparedFrame

FULL = 65_536
"""A buffer level at which a `RecordingTransport` is congested."""

POLICIES: dict[str, OutboxPolicy] = {
    "orders": "disconnect",
    "oldest": "drop_oldest",
    "newest": "drop_newest",
    "latest": "latest",
}
"""The policies of channels in these tests; any other channel takes the connection's."""

T = TypeVar("T", bound=RecordingTransport)


def options_of(channel: str) -> ChannelOptions:
    return ChannelOptions(POLICIES[channel]) if channel in POLICIES else PLAIN


def at_once(call: Callable[[], None]) -> None:
    """Do what a hub does at the end of the loop's turn: these tests have no loop."""
    call()


class Clock(ManualClock):
    """A clock that knows which calls are still to be made."""

    def __init__(self) -> None:
        super().__init__(1_000.0)
        self.pending: set[object] = set()

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        def call() -> None:
            self.pending.discard(timer)
            callback()

        timer = Withdrawable(super().call_at(when, call), self.pending)
        self.pending.add(timer)
        return timer


@dataclass(frozen=True, eq=False)
class Withdrawable:
    """A timer that is pending no more when it is withdrawn."""

    timer: Timer
    pending: set[object]

    def cancel(self) -> None:
        self.pending.discard(self)
        self.timer.cancel()


class CountingAdmission(Admission):
    """Remembers who is admitted now."""

    def __init__(self) -> None:
        super().__init__(Limits())
        self.present: Counter[tuple[str | None, str | None]] = Counter()

    def enter(self, user: str | None, address: str | None) -> None:
        self.present[user, address] += 1
        super().enter(user, address)

    def leave(self, user: str | None, address: str | None) -> None:
        self.present[user, address] -= 1
        super().leave(user, address)


class Hub(CoreHub):
    """A hub that remembers what its connections told it."""

    def __init__(self, clock: Clock) -> None:
        self.pending = clock.pending
        self.counting = CountingAdmission()
        super().__init__(clock=clock, admission=self.counting, options_of=options_of, call_soon=at_once)
        self.told: list[str] = []

    def opened(self, connection: CoreConnection) -> None:
        self.told.append("opened")
        super().opened(connection)

    def ended(self, connection: CoreConnection) -> None:
        self.told.append("ended")
        super().ended(connection)

    def released(self, connection: CoreConnection) -> None:
        self.told.append("released")
        super().released(connection)


class Window(RecordingTransport):
    """Takes so many messages and is congested then, until it is given more room."""

    def __init__(self, room: int = 1) -> None:
        super().__init__(high_water=1)
        self.room = room

    def write(self, frame: PreparedFrame) -> None:
        super().write(frame)
        self.room -= 1
        if self.room <= 0:
            self.buffered_bytes = 1

    def give(self, room: int) -> None:
        """Take so many messages more."""
        self.room = room
        self.buffered_bytes = 0

    def fill(self) -> None:
        """Take none for now."""
        self.room = 0
        self.buffered_bytes = 1


class Unhurried(RecordingTransport):
    """Lets go of a closed connection only when the test says so, as one does that waits for the peer's reply."""

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


class Dying(RecordingTransport):
    """Loses the connection inside one of the hub's own calls."""

    def __init__(self, inside: str) -> None:
        super().__init__()
        self._inside = inside

    def start(self, user: Any, settings: TransportSettings) -> None:
        super().start(user, settings)
        self._die_in("start")

    def write(self, frame: PreparedFrame) -> None:
        super().write(frame)
        self._die_in("write")

    def pause_reading(self) -> None:
        super().pause_reading()
        self._die_in("pause_reading")

    def resume_reading(self) -> None:
        super().resume_reading()
        self._die_in("resume_reading")

    def _die_in(self, call: str) -> None:
        if call == self._inside:
            self.lose(1006, "died")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Hub:
    return Hub(clock)


def connecting(hub: CoreHub, limits: Limits = Limits(), outbox: Outbox = Outbox()) -> CoreConnection:
    """Return a connection before its handshake."""
    return CoreConnection(hub, Settings(limits, outbox, "reply", (hub.admission,)), "203.0.113.7")


def connected(
    hub: CoreHub, transport: T, limits: Limits = Limits(), outbox: Outbox = Outbox()
) -> tuple[CoreConnection, T]:
    """Return an open connection, and the transport that carries it."""
    connection = connecting(hub, limits, outbox)
    hub.admit(connection)
    connection.open(transport)
    return connection, transport


def congested(
    hub: CoreHub, bound: int = 1_048_576, policy: OutboxPolicy = "disconnect"
) -> tuple[CoreConnection, RecordingTransport]:
    """Return an open connection whose transport takes nothing for now, with an outbox of `bound` bytes."""
    connection, transport = connected(hub, RecordingTransport(), outbox=Outbox(bytes=bound, policy=policy))
    transport.buffered_bytes = FULL
    return connection, transport


def room_for(*sizes: int) -> int:
    """Return the bytes that messages of these sizes take in an outbox."""
    return sum(size + ENTRY_BYTES for size in sizes)


def sized(text: str, size: int) -> str:
    """Return a message of `size` bytes that begins with `text`."""
    return text.ljust(size, ".")


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def sending(connection: CoreConnection, *messages: str) -> list[asyncio.Task[None]]:
    """Send each message in a task of its own; return the tasks when each has sent or waits for room."""
    tasks = []
    for message in messages:
        tasks.append(asyncio.create_task(connection.send_frame(PreparedFrame(message))))
        await settle()
    return tasks


async def in_endpoint_of(connection: CoreConnection, call: Coroutine[Any, Any, None]) -> None:
    """Await `call` as the endpoint of `connection` would."""

    async def endpoint() -> None:
        current_connections.set((connection.id,))
        await call

    await asyncio.create_task(endpoint())


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def assert_nothing_is_left(hub: Hub) -> None:
    """Assert that the hub holds nothing of any connection."""
    now = hub.statistics()
    assert (now.connections, now.users, now.channels, now.queued_bytes) == (0, 0, 0, 0)
    assert hub.connections == {}
    assert hub.subscribers(EVERYONE) == ()
    assert hub.counting.present.total() == 0
    assert hub.pending == set()


# The life of a connection


def begin(connection: CoreConnection, transport: RecordingTransport, phase: Phase) -> None:
    """Bring a new connection into `phase`."""
    if phase is Phase.CONNECTING:
        return
    connection.open(transport)
    if phase is Phase.CLOSING:
        connection.end(4000, "ours")
    elif phase is Phase.CLOSED:
        transport.lose(4001, "theirs")


@pytest.mark.parametrize(
    ("phase", "event", "outcome"),
    [
        (Phase.CONNECTING, "open", Phase.OPEN),
        (Phase.CONNECTING, "end", Phase.CONNECTING),
        (Phase.CONNECTING, "abort", Phase.CONNECTING),
        (Phase.CONNECTING, "fail", Phase.CLOSED),
        (Phase.OPEN, "open", AssertionError),
        (Phase.OPEN, "end", Phase.CLOSING),
        (Phase.OPEN, "abort", Phase.CLOSED),
        (Phase.OPEN, "lost", Phase.CLOSED),
        (Phase.CLOSING, "open", AssertionError),
        (Phase.CLOSING, "end", Phase.CLOSING),
        (Phase.CLOSING, "abort", Phase.CLOSED),
        (Phase.CLOSING, "lost", Phase.CLOSED),
        (Phase.CLOSED, "open", AssertionError),
        (Phase.CLOSED, "end", Phase.CLOSED),
        (Phase.CLOSED, "abort", Phase.CLOSED),
        (Phase.CLOSED, "lost", AssertionError),
        (Phase.CLOSED, "fail", AssertionError),
    ],
)
def test_what_an_event_does_in_each_phase(
    hub: Hub, phase: Phase, event: str, outcome: Phase | type[AssertionError]
) -> None:
    connection, transport = connecting(hub), Unhurried()
    hub.admit(connection)
    begin(connection, transport, phase)
    assert connection.phase is phase
    act: dict[str, Callable[[], None]] = {
        "open": lambda: connection.open(RecordingTransport()),
        "end": lambda: connection.end(4002, "event"),
        "abort": connection.abort,
        "fail": connection.fail,
        "lost": lambda: connection.lost(4003, "event"),
    }
    if isinstance(outcome, Phase):
        act[event]()
        assert connection.phase is outcome
    else:
        with pytest.raises(outcome):
            act[event]()
        assert connection.phase is phase


def test_a_handshake_that_failed_leaves_nothing(hub: Hub) -> None:
    connection = connecting(hub)
    hub.admit(connection)
    connection.fail()
    assert connection.phase is Phase.CLOSED
    assert (connection.close_code, connection.close_reason) == (1006, "")
    assert hub.told == ["released"]
    assert hub.statistics().accepted == 0
    assert_nothing_is_left(hub)


@pytest.mark.parametrize("phase", [Phase.CLOSING, Phase.CLOSED])
@pytest.mark.parametrize("event", ["end", "abort"])
def test_how_it_ended_is_settled_by_the_first_end(hub: Hub, phase: Phase, event: str) -> None:
    connection, transport = connecting(hub), Unhurried()
    hub.admit(connection)
    begin(connection, transport, phase)
    first = (connection.close_code, connection.close_reason)
    assert first == ((4000, "ours") if phase is Phase.CLOSING else (4001, "theirs"))
    connection.end(4002, "event") if event == "end" else connection.abort()
    assert (connection.close_code, connection.close_reason) == first
    assert hub.statistics().closed == {first[0]: 1}


def test_every_connection_has_a_name_of_its_own(hub: Hub) -> None:
    assert len({connecting(hub).id for _ in range(100)}) == 100


@pytest.mark.parametrize("user", ["ann", "$all", "ü", None])
def test_the_user_can_be_set_before_the_handshake(hub: Hub, user: str | None) -> None:
    connection = connecting(hub)
    connection.user = "somebody"
    connection.user = user
    assert connection.user == user


@pytest.mark.parametrize("user", ["", 7, b"ann", True])
def test_a_user_is_a_text_that_is_not_empty(hub: Hub, user: Any) -> None:
    connection = connecting(hub)
    connection.user = "ann"
    with pytest.raises(ValueError, match="non-empty str"):
        connection.user = user
    assert connection.user == "ann"


@pytest.mark.parametrize("moment", ["admitted", Phase.OPEN, Phase.CLOSING, Phase.CLOSED])
def test_the_user_is_settled_from_admission_on(hub: Hub, moment: str | Phase) -> None:
    connection = connecting(hub)
    connection.user = "ann"
    hub.admit(connection)
    if isinstance(moment, Phase):
        begin(connection, Unhurried(), moment)
    with pytest.raises(RuntimeError, match="accept"):
        connection.user = "bob"
    assert connection.user == "ann"


def test_the_end_of_a_connection_is_a_disconnect_as_starlettes_is() -> None:
    ended = ConnectionEnded(3008, "slow")
    assert isinstance(ended, WebSocketDisconnect)
    assert (ended.code, ended.reason) == (3008, "slow")
    assert str(ended) == "the connection has ended with close code 3008 (slow)"
    assert str(ConnectionEnded(1000, "")) == "the connection has ended with close code 1000"


# Order


async def test_sends_and_publications_arrive_in_the_order_of_the_calls(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    hub.publish_here(EVERYONE, "1")
    await connection.send_frame(PreparedFrame("2"))
    hub.publish_here(EVERYONE, b"3")
    assert transport.written == ["1", "2", b"3"]


async def test_the_order_stays_across_congestion(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    hub.publish_here(EVERYONE, "1")
    transport.buffered_bytes = FULL
    await connection.send_frame(PreparedFrame("2"))
    hub.publish_here(EVERYONE, "3")
    await connection.send_frame(PreparedFrame("4"))
    assert transport.written == ["1"]
    transport.buffered_bytes = 0
    hub.publish_here(EVERYONE, "5")
    await connection.send_frame(PreparedFrame("6"))
    assert transport.written == ["1", "2", "3", "4", "5", "6"]


async def test_the_order_stays_when_the_transport_drains_in_steps(hub: Hub) -> None:
    connection, transport = connected(hub, Window())
    for number in range(0, 10, 2):
        hub.publish_here(EVERYONE, str(number))
        await connection.send_frame(PreparedFrame(str(number + 1)))
    written = []
    while hub.statistics().queued_bytes:
        written.append(len(transport.written))
        transport.give(2)
    assert written == [1, 3, 5, 7, 9]
    assert transport.written == [str(number) for number in range(10)]


async def test_a_transport_that_drains_within_a_write_keeps_the_order(hub: Hub) -> None:
    class Instant(RecordingTransport):
        def write(self, frame: PreparedFrame) -> None:
            super().write(frame)
            if self.buffered_bytes == 0:
                self.buffered_bytes = FULL
                self.buffered_bytes = 0

    connection, transport = connected(hub, Instant())
    transport.buffered_bytes = FULL
    for number in range(5):
        await connection.send_frame(PreparedFrame(str(number)))
    transport.buffered_bytes = 0
    assert transport.written == ["0", "1", "2", "3", "4"]
    assert connection.queued_bytes == 0


@pytest.mark.parametrize(("level", "queued_bytes"), [(0, 0), (FULL, room_for(2, 3))])
async def test_what_was_sent_is_counted_with_its_bytes(hub: Hub, level: int, queued_bytes: int) -> None:
    connection, transport = connected(hub, RecordingTransport())
    transport.buffered_bytes = level
    hub.publish_here(EVERYONE, "ü")
    await connection.send_frame(PreparedFrame(b"123"))
    now = hub.statistics()
    assert (now.deliveries, now.bytes_sent, now.published, now.queued_bytes) == (2, 5, 1, queued_bytes)
    transport.buffered_bytes = 0
    now = hub.statistics()
    assert (now.deliveries, now.bytes_sent, now.published, now.queued_bytes) == (2, 5, 1, 0)


@pytest.mark.parametrize("ends_unseen", [False, True])
async def test_where_nobody_sees_the_endpoint_return_the_transport_gets_a_turn_with_each_message(
    hub: Hub, ends_unseen: bool
) -> None:
    connection, _ = connected(hub, RecordingTransport())
    connection.ends_unseen = ends_unseen
    assert hub.publish_here(EVERYONE, "1") is ends_unseen
    turns: list[bool] = []
    asyncio.get_running_loop().call_soon(turns.append, True)
    await connection.send_frame(PreparedFrame("2"))
    assert any(turns) is ends_unseen


# The outbox and its policies


@pytest.mark.parametrize(
    ("policy", "arrives", "deliveries", "dropped"),
    [
        ("drop_oldest", ["2", "3"], 3, {"drop_oldest": 1}),
        ("drop_newest", ["1", "2"], 2, {"drop_newest": 1}),
        ("latest", ["3"], 3, {"latest": 2}),
    ],
)
@pytest.mark.parametrize("declared_by", ["connection", "channel"])
def test_an_overflow_costs_what_the_policy_says_and_is_counted(
    hub: Hub, policy: OutboxPolicy, declared_by: str, arrives: list[str], deliveries: int, dropped: dict[str, int]
) -> None:
    own = policy if declared_by == "connection" else "disconnect"
    channel = "plain" if declared_by == "connection" else {p: name for name, p in POLICIES.items()}[policy]
    connection, transport = congested(hub, room_for(100, 100), own)
    hub.join_here(connection, channel)
    assert [hub.publish_here(channel, sized(text, 100)) for text in "123"] == [True, True, True]
    assert connection.phase is Phase.OPEN
    transport.buffered_bytes = 0
    assert transport.written == [sized(text, 100) for text in arrives]
    now = hub.statistics()
    assert (now.deliveries, now.bytes_sent, now.dropped) == (deliveries, deliveries * 100, dropped)
    assert (now.discarded, now.undelivered, now.violations, now.closed) == (0, 0, {}, {})


@pytest.mark.parametrize("declared_by", ["connection", "channel"])
def test_an_overflow_under_disconnect_ends_the_connection_as_slow_at_once(hub: Hub, declared_by: str) -> None:
    own: OutboxPolicy = "disconnect" if declared_by == "connection" else "drop_oldest"
    connection, transport = congested(hub, room_for(100, 100), own)
    hub.join_here(connection, "orders")
    for text in "12":
        hub.publish_here("orders", sized(text, 100))
    assert connection.phase is Phase.OPEN
    assert hub.publish_here("orders", sized("3", 100))
    assert connection.phase is Phase.CLOSED
    assert (connection.close_code, connection.close_reason) == (3008, "slow")
    assert transport.closed == (3008, "slow")
    assert transport.written == []
    now = hub.statistics()
    assert (now.deliveries, now.discarded, now.closed) == (2, 2, {3008: 1})
    assert (now.dropped, now.undelivered, now.violations) == ({}, 0, {})
    assert_nothing_is_left(hub)


@pytest.mark.parametrize("channel", ["oldest", "newest", "latest"])
async def test_a_policy_drops_publications_of_its_own_channel_only(hub: Hub, channel: str) -> None:
    connection, transport = congested(hub, room_for(100, 100, 100, 100))
    hub.join_here(connection, channel)
    hub.join_here(connection, "orders")
    await connection.send_frame(PreparedFrame(sized("direct", 100)))
    hub.publish_here("orders", sized("order", 100))
    for number in range(20):
        hub.publish_here(channel, sized(f"{number}", 100))
    transport.buffered_bytes = 0
    own = {"oldest": ["18", "19"], "newest": ["0", "1"], "latest": ["19"]}[channel]
    assert [text.rstrip(".") for text in transport.written] == ["direct", "order", *own]
    assert hub.statistics().dropped == {POLICIES[channel]: 20 - len(own)}


def test_latest_keeps_the_newest_of_each_channel_in_the_place_of_the_first(hub: Hub) -> None:
    connection, transport = congested(hub, policy="latest")
    for channel in ("a", "b"):
        hub.join_here(connection, channel)
    for channel, text in (("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"), ("a", "a3")):
        hub.publish_here(channel, text)
    transport.buffered_bytes = 0
    assert transport.written == ["a3", "b2"]
    assert hub.statistics().dropped == {"latest": 3}


@pytest.mark.parametrize("policy", ["disconnect", "drop_oldest", "drop_newest", "latest"])
def test_a_publication_larger_than_the_outbox_is_taken_when_nothing_else_is_queued(
    hub: Hub, policy: OutboxPolicy
) -> None:
    connection, transport = congested(hub, 1, policy)
    assert hub.publish_here(EVERYONE, "larger")
    assert connection.phase is Phase.OPEN
    transport.buffered_bytes = 0
    assert transport.written == ["larger"]


async def test_a_send_larger_than_the_outbox_is_taken_when_nothing_else_is_queued(hub: Hub) -> None:
    connection, transport = congested(hub, 1)
    first, second = await sending(connection, "larger", "another")
    assert first.done()
    assert not second.done()
    transport.buffered_bytes = 0
    await second
    assert transport.written == ["larger", "another"]


async def test_sends_leave_half_of_the_outbox_to_publications(hub: Hub) -> None:
    connection, transport = congested(hub, room_for(100, 100, 100, 100))
    assert DIRECT_SHARE == 0.5
    sends = await sending(connection, *(sized(text, 100) for text in "123"))
    assert [send.done() for send in sends] == [True, True, False]
    for text in "45":
        hub.publish_here(EVERYONE, sized(text, 100))
    assert connection.phase is Phase.OPEN
    transport.buffered_bytes = 0
    await asyncio.gather(*sends)
    assert [text[0] for text in transport.written] == list("12453")


async def test_an_endpoint_that_streams_does_not_get_its_client_closed_by_a_broadcast(hub: Hub) -> None:
    connection, transport = connected(hub, Window(), outbox=Outbox(bytes=room_for(10, 10, 10, 10)))
    sends = await sending(connection, *(sized(str(number), 10) for number in range(10)))
    hub.publish_here(EVERYONE, "to all")
    while transport.buffered_bytes and len(transport.written) < 11:
        transport.give(1)
    await asyncio.gather(*sends)
    assert connection.phase is Phase.OPEN
    assert len(transport.written) == 11


# Senders that wait


async def test_a_send_waits_for_room_and_is_let_in_when_the_transport_drains(hub: Hub) -> None:
    connection, transport = congested(hub, room_for(100, 100))
    sent, waiting = await sending(connection, sized("1", 100), sized("2", 100))
    assert sent.done()
    assert not waiting.done()
    assert hub.statistics().deliveries == 1
    transport.buffered_bytes = 0
    assert [text[0] for text in transport.written] == ["1", "2"]
    await waiting
    assert hub.statistics().deliveries == 2


async def test_waiting_senders_are_served_first_come_first_served(hub: Hub) -> None:
    connection, transport = connected(hub, Window(), outbox=Outbox(bytes=1))
    texts = [str(number) for number in range(8)]
    sends = await sending(connection, *texts)
    done = []
    while len(transport.written) < len(texts):
        done.append(sum(send.done() for send in sends))
        transport.give(1)
        await settle()
    assert transport.written == texts
    assert done == [2, 3, 4, 5, 6, 7, 8]


async def test_a_small_message_does_not_overtake_a_large_one_that_waits(hub: Hub) -> None:
    connection, transport = congested(hub, room_for(100, 100, 100, 100))
    sends = await sending(connection, sized("1", 100), sized("2", 300), "3")
    assert [send.done() for send in sends] == [True, False, False]
    transport.buffered_bytes = 0
    await asyncio.gather(*sends)
    assert [text[0] for text in transport.written] == ["1", "2", "3"]


async def test_the_place_in_the_order_is_given_with_the_room_and_not_when_the_sender_wakes(hub: Hub) -> None:
    connection, transport = congested(hub, room_for(100, 100))
    _, waiting = await sending(connection, sized("1", 100), sized("2", 100))
    transport.buffered_bytes = 0
    assert not waiting.done()
    hub.publish_here(EVERYONE, "3")
    await waiting
    assert [text[0] for text in transport.written] == ["1", "2", "3"]


async def test_a_sender_that_is_let_in_may_congest_the_transport_for_those_behind_it(hub: Hub) -> None:
    connection, transport = connected(hub, Window(), outbox=Outbox(bytes=room_for(100, 100)))
    sends = await sending(connection, *(sized(text, 100) for text in "1234"))
    assert [send.done() for send in sends] == [True, True, False, False]
    transport.give(1)
    await settle()
    assert [send.done() for send in sends] == [True, True, True, False]
    assert [text[0] for text in transport.written] == ["1", "2"]
    transport.give(5)
    await asyncio.gather(*sends)
    assert [text[0] for text in transport.written] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("channel", ["latest", "oldest"])
async def test_a_sender_is_let_in_by_the_policy_that_makes_room(hub: Hub, channel: str) -> None:
    connection, transport = congested(hub, room_for(100, 700))
    hub.join_here(connection, channel)
    hub.publish_here(channel, sized("large", 700))
    [waiting] = await sending(connection, "direct")
    assert not waiting.done()
    hub.publish_here(channel, sized("small", 150))
    await settle()
    assert waiting.done(), "the publication that was dropped has left room"
    transport.buffered_bytes = 0
    assert [text.rstrip(".") for text in transport.written] == ["small", "direct"]


async def test_a_cancelled_sender_sends_nothing_and_nobody_else_loses_anything(hub: Hub) -> None:
    connection, transport = congested(hub, room_for(100, 100))
    sends = await sending(connection, *(sized(text, 100) for text in "12345"))
    await cancelled(sends[1], sends[3])
    transport.buffered_bytes = 0
    await asyncio.gather(sends[0], sends[2], sends[4])
    assert [text[0] for text in transport.written] == ["1", "3", "5"]
    now = hub.statistics()
    assert (now.deliveries, now.undelivered, now.discarded) == (3, 0, 0)


async def test_a_sender_that_is_cancelled_after_it_was_let_in_has_sent(hub: Hub) -> None:
    connection, transport = congested(hub, room_for(100, 100))
    _, waiting = await sending(connection, sized("1", 100), sized("2", 100))
    transport.buffered_bytes = 0
    await cancelled(waiting)
    assert [text[0] for text in transport.written] == ["1", "2"]
    assert hub.statistics().deliveries == 2


async def test_a_cancelled_sender_does_not_hold_up_those_behind_it(hub: Hub) -> None:
    connection, transport = congested(hub, room_for(100, 100, 100, 100))
    _, large, small = await sending(connection, sized("1", 100), sized("2", 300), sized("3", 100))
    assert not small.done()
    await cancelled(large)
    await settle()
    assert small.done(), "nobody waits before it and there is room for it"
    transport.buffered_bytes = 0
    assert [text[0] for text in transport.written] == ["1", "3"]


async def test_a_cancelled_sender_does_not_hold_up_those_that_come_later(hub: Hub) -> None:
    connection, _ = congested(hub, room_for(100, 100, 100, 100))
    _, large = await sending(connection, sized("1", 100), sized("2", 300))
    await cancelled(large)
    [later] = await sending(connection, sized("3", 100))
    assert later.done(), "nobody waits before it and there is room for it"


async def test_a_cancelled_sender_does_not_hold_up_those_behind_it_when_the_transport_drains_in_steps(
    hub: Hub, clock: Clock
) -> None:
    connection, transport = connected(hub, Window(), outbox=Outbox(bytes=room_for(100, 100, 100, 100)))
    sends = await sending(connection, *(sized(text, 100) for text in "123"), sized("4", 300), sized("5", 100))
    await cancelled(sends[3])
    transport.give(1)
    await settle()
    assert sends[4].done(), "one message is queued, and there is room for another"


@pytest.mark.parametrize("others", [0, 1])
async def test_senders_that_give_up_leave_nothing_behind(hub: Hub, others: int) -> None:
    class Text(str):
        """A `str` that can be watched."""

    connection, transport = congested(hub, 1)
    sends = await sending(connection, "1", *"2" * others)

    async def give_up() -> weakref.ref[Text]:
        text = Text("3")
        task = asyncio.create_task(connection.send_frame(PreparedFrame(text)))
        await settle()
        await cancelled(task)
        return weakref.ref(text)

    given_up = [await give_up() for _ in range(3)]
    await settle()
    gc.collect()
    assert [text() for text in given_up] == [None, None, None]
    assert len(hub.pending) == others
    transport.lose()
    await asyncio.gather(*sends)


async def test_a_send_that_waits_for_ten_seconds_ends_the_connection_as_slow(hub: Hub, clock: Clock) -> None:
    connection, transport = congested(hub, 1)
    assert SEND_DEADLINE_S == 10
    _, waiting = await sending(connection, "1", "2")
    clock.advance(9.99)
    await settle()
    assert connection.phase is Phase.OPEN
    assert not waiting.done()
    clock.advance(0.01)
    await waiting
    assert transport.closed == (3008, "slow")
    assert transport.written == []
    now = hub.statistics()
    assert (now.closed, now.discarded, now.undelivered, now.deliveries) == ({3008: 1}, 1, 1, 1)
    assert_nothing_is_left(hub)


async def test_each_waiting_send_has_a_deadline_of_its_own(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, Window(), outbox=Outbox(bytes=1))
    await sending(connection, "1", "2")
    [first] = await sending(connection, "3")
    clock.advance(6)
    [second] = await sending(connection, "4")
    transport.give(1)
    await first
    clock.advance(9.99)
    assert connection.phase is Phase.OPEN
    assert not second.done()
    clock.advance(0.01)
    assert connection.phase is Phase.CLOSED
    await second


@pytest.mark.parametrize("how", ["let in", "cancelled"])
async def test_the_deadline_is_gone_with_the_wait(hub: Hub, clock: Clock, how: str) -> None:
    connection, transport = congested(hub, 1)
    _, waiting = await sending(connection, "1", "2")
    if how == "let in":
        transport.buffered_bytes = 0
        await waiting
    else:
        await cancelled(waiting)
    clock.advance(100)
    assert connection.phase is Phase.OPEN


@pytest.mark.parametrize("how", ["let in", "cancelled"])
async def test_the_deadline_is_gone_with_the_wait_even_before_the_sender_wakes(
    hub: Hub, clock: Clock, how: str
) -> None:
    connection, transport = congested(hub, 1)
    _, waiting = await sending(connection, "1", "2")
    if how == "let in":
        transport.buffered_bytes = 0
    else:
        waiting.cancel()
    clock.advance(SEND_DEADLINE_S)
    assert connection.phase is Phase.OPEN
    await asyncio.wait([waiting])


# Sending to one that has ended


def close_from_here(connection: CoreConnection, transport: RecordingTransport) -> None:
    connection.end(4000, "done")


def close_from_there(connection: CoreConnection, transport: RecordingTransport) -> None:
    transport.lose(4000, "done")


def begin_to_close(connection: CoreConnection, transport: RecordingTransport) -> None:
    transport.buffered_bytes = FULL
    connection.end(4000, "done")


ENDS = [close_from_here, close_from_there, begin_to_close]


@pytest.mark.parametrize("end", ENDS)
async def test_its_own_endpoint_hears_that_the_connection_has_ended(hub: Hub, end: Callable[..., None]) -> None:
    connection, transport = connected(hub, RecordingTransport())
    end(connection, transport)
    with pytest.raises(ConnectionEnded) as caught:
        await in_endpoint_of(connection, connection.send_frame(PreparedFrame("late")))
    assert (caught.value.code, caught.value.reason) == (4000, "done")
    assert hub.statistics().undelivered == 1
    assert transport.written == []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("sender", ["nobody's endpoint", "another's endpoint"])
async def test_to_anybody_else_a_send_to_one_that_is_gone_is_counted_and_no_error(
    hub: Hub, end: Callable[..., None], sender: str
) -> None:
    connection, transport = connected(hub, RecordingTransport())
    other, _ = connected(hub, RecordingTransport())
    end(connection, transport)
    send = connection.send_frame(PreparedFrame("late"))
    await (send if sender == "nobody's endpoint" else in_endpoint_of(other, send))
    assert hub.statistics().undelivered == 1
    assert transport.written == []


async def test_the_tasks_that_an_endpoint_started_hear_of_the_end_too(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())

    async def start_a_task() -> None:
        await asyncio.create_task(connection.send_frame(PreparedFrame("late")))

    transport.lose()
    with pytest.raises(ConnectionEnded):
        await in_endpoint_of(connection, start_a_task())


async def test_an_endpoint_with_connections_of_two_hubs_hears_of_the_end_of_each(hub: Hub, clock: Clock) -> None:
    pairs = [connected(each, RecordingTransport()) for each in (hub, Hub(clock))]

    async def endpoint(connection: CoreConnection) -> None:
        current_connections.set(tuple(known.id for known, _ in pairs))
        await connection.send_frame(PreparedFrame("late"))

    for connection, transport in pairs:
        await asyncio.create_task(endpoint(connection))
        transport.lose()
        with pytest.raises(ConnectionEnded):
            await asyncio.create_task(endpoint(connection))


@pytest.mark.parametrize("end", ENDS)
async def test_a_waiting_sender_is_freed_by_the_end(hub: Hub, end: Callable[..., None]) -> None:
    connection, transport = congested(hub, 1)
    _, others = await sending(connection, "1", "2")
    own = asyncio.create_task(in_endpoint_of(connection, connection.send_frame(PreparedFrame("3"))))
    await settle()
    end(connection, transport)
    await others
    with pytest.raises(ConnectionEnded) as caught:
        await own
    assert (caught.value.code, caught.value.reason) == (4000, "done")
    assert hub.statistics().undelivered == 2


async def test_a_sender_that_is_cancelled_when_the_connection_ends_is_just_cancelled(hub: Hub) -> None:
    connection, transport = congested(hub, 1)
    _, before, after = await sending(connection, "1", "2", "3")
    before.cancel()
    transport.lose()
    after.cancel()
    await asyncio.wait([before, after])
    assert before.cancelled()
    assert after.cancelled()
    assert_nothing_is_left(hub)


@pytest.mark.parametrize("end", ENDS)
def test_a_publication_for_one_that_has_ended_goes_nowhere(hub: Hub, end: Callable[..., None]) -> None:
    connection, transport = connected(hub, RecordingTransport())
    end(connection, transport)
    connection.deliver(PreparedFrame("late"), EVERYONE, None)
    assert transport.written == []
    assert hub.statistics().deliveries == 0


# The end


@pytest.mark.parametrize("code", [1000, 1012, 3008, 4000])
def test_the_end_of_an_idle_connection_closes_it_at_once(hub: Hub, code: int) -> None:
    connection, transport = connected(hub, RecordingTransport())
    connection.end(code, "why")
    assert transport.closed == (code, "why")
    assert connection.phase is Phase.CLOSED
    assert hub.statistics().closed == {code: 1}
    assert hub.told == ["opened", "ended", "released"]


async def test_the_end_waits_for_what_is_queued_before_it(hub: Hub) -> None:
    connection, transport = connected(hub, Window())
    await sending(connection, "1", "2", "3")
    connection.end(1000, "bye")
    assert (connection.phase, transport.closed, transport.written) == (Phase.CLOSING, None, ["1"])
    transport.give(1)
    assert (connection.phase, transport.closed, transport.written) == (Phase.CLOSING, None, ["1", "2"])
    transport.give(1)
    assert (connection.phase, transport.closed, transport.written) == (Phase.CLOSING, None, ["1", "2", "3"])
    transport.give(1)
    assert (connection.phase, transport.closed) == (Phase.CLOSED, (1000, "bye"))
    assert hub.statistics().discarded == 0


def test_the_end_waits_for_what_is_under_way_although_nothing_is_queued(hub: Hub) -> None:
    connection, transport = congested(hub)
    connection.end(1000)
    assert (connection.phase, transport.closed) == (Phase.CLOSING, None)
    transport.buffered_bytes = 0
    assert (connection.phase, transport.closed) == (Phase.CLOSED, (1000, ""))


def test_a_connection_that_is_closing_is_found_no_more_and_still_takes_part_in_the_limits(hub: Hub) -> None:
    connection, transport = congested(hub)
    hub.publish_here(EVERYONE, "queued")
    connection.end(1000)
    assert hub.connections == {}
    assert hub.subscribers(EVERYONE) == ()
    assert hub.counting.present.total() == 1
    transport.lose()
    assert_nothing_is_left(hub)


def test_a_close_that_is_not_done_in_five_seconds_is_aborted(hub: Hub, clock: Clock) -> None:
    connection, transport = congested(hub)
    hub.publish_here(EVERYONE, "queued")
    assert CLOSE_DEADLINE_S == 5
    connection.end(1000)
    clock.advance(4.99)
    assert connection.phase is Phase.CLOSING
    clock.advance(0.01)
    assert connection.phase is Phase.CLOSED
    assert (transport.closed, transport.written) == (None, [])
    assert (connection.close_code, hub.statistics().closed) == (1000, {1000: 1})
    assert hub.statistics().discarded == 1
    assert_nothing_is_left(hub)


def test_a_peer_that_does_not_answer_the_close_is_aborted_too(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, Unhurried())
    connection.end(1000)
    assert (connection.phase, transport.closed) == (Phase.CLOSING, (1000, ""))
    clock.advance(CLOSE_DEADLINE_S)
    assert connection.phase is Phase.CLOSED


def test_the_deadline_of_a_close_is_gone_when_the_peer_answers(hub: Hub, clock: Clock) -> None:
    class CountsAborts(Unhurried):
        aborts = 0

        def abort(self) -> None:
            self.aborts += 1
            super().abort()

    connection, transport = connected(hub, CountsAborts())
    connection.end(1000)
    transport.lose(1000)
    clock.advance(100)
    assert transport.aborts == 0


def test_a_slow_client_is_not_waited_for(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, Unhurried())
    transport.buffered_bytes = FULL
    hub.publish_here(EVERYONE, "queued")
    connection.end(3008, "slow")
    assert transport.closed == (3008, "slow")
    assert connection.queued_bytes == 0
    assert hub.statistics().discarded == 1
    clock.advance(CLOSE_DEADLINE_S)
    assert connection.phase is Phase.CLOSED


@pytest.mark.parametrize("how", ["end", "abort", "peer"])
async def test_all_who_wait_for_the_end_hear_of_it(hub: Hub, how: str) -> None:
    connection, transport = connected(hub, Unhurried())
    waiting = [asyncio.create_task(connection.wait_closed()) for _ in range(3)]
    await settle()
    await cancelled(waiting[0])
    assert not waiting[1].done()
    if how == "end":
        connection.end(1000)
        await settle()
        assert not waiting[1].done()
    if how == "abort":
        connection.abort()
    else:
        transport.lose()
    await asyncio.gather(*waiting[1:])
    await connection.wait_closed()


async def test_there_is_no_end_to_wait_for_before_the_handshake(hub: Hub) -> None:
    await connecting(hub).wait_closed()


@pytest.mark.parametrize("inside", ["start", "write", "pause_reading", "resume_reading"])
async def test_a_transport_may_lose_the_connection_inside_any_call(hub: Hub, inside: str) -> None:
    connection, transport = connected(hub, Dying(inside), Limits(message_burst=1_000))
    if inside == "write":
        hub.publish_here(EVERYONE, "1")
    elif inside != "start":
        for number in range(INBOX_MESSAGES):
            transport.receive(str(number))
        received = [await connection.take() for _ in range(INBOX_MESSAGES)]
        assert received == [str(number) for number in range(INBOX_MESSAGES)]
    assert connection.phase is Phase.CLOSED
    assert (connection.close_code, connection.close_reason) == (1006, "died")
    assert hub.told == ["opened", "ended", "released"]
    assert_nothing_is_left(hub)


@pytest.mark.parametrize("in_line", ["queued", "waiting", "closing"])
async def test_a_transport_may_lose_the_connection_while_the_outbox_drains_into_it(hub: Hub, in_line: str) -> None:
    connection, transport = connected(hub, Dying("write"), outbox=Outbox(bytes=1))
    transport.buffered_bytes = FULL
    sends = await sending(connection, "1", "2", "3")
    if in_line == "queued":
        await cancelled(sends[1], sends[2])
    elif in_line == "closing":
        connection.end(1000)
    transport.buffered_bytes = 0
    await asyncio.wait(sends)
    assert transport.written == ["1"]
    assert connection.phase is Phase.CLOSED
    assert hub.told == ["opened", "ended", "released"]
    undelivered = 0 if in_line == "queued" else 2
    assert (hub.statistics().deliveries, hub.statistics().undelivered) == (1, undelivered)
    assert_nothing_is_left(hub)


async def test_a_transport_may_lose_the_connection_while_it_lets_a_waiting_sender_in(hub: Hub) -> None:
    class DiesOnTheSecond(RecordingTransport):
        def write(self, frame: PreparedFrame) -> None:
            super().write(frame)
            if len(self.written) == 2:
                self.lose()

    connection, transport = connected(hub, DiesOnTheSecond(), outbox=Outbox(bytes=1))
    transport.buffered_bytes = FULL
    sends = await sending(connection, "1", "2", "3")
    transport.buffered_bytes = 0
    await asyncio.gather(*sends)
    assert transport.written == ["1", "2"]
    assert (hub.statistics().deliveries, hub.statistics().undelivered) == (2, 1)
    assert_nothing_is_left(hub)


@pytest.mark.parametrize("policy", ["disconnect", "drop_oldest"])
async def test_a_loss_throws_away_what_is_queued_and_counts_it(hub: Hub, policy: OutboxPolicy) -> None:
    connection, transport = congested(hub, policy=policy)
    hub.publish_here(EVERYONE, "1")
    await connection.send_frame(PreparedFrame("2"))
    transport.lose(1001, "gone")
    assert transport.written == []
    now = hub.statistics()
    assert (now.deliveries, now.discarded, now.dropped, now.closed) == (2, 2, {}, {1001: 1})
    assert_nothing_is_left(hub)


# Coming in


async def test_a_message_is_received_by_the_one_who_waits_for_it(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    receiving = asyncio.create_task(connection.take())
    await settle()
    assert not receiving.done()
    transport.receive("text")
    assert await receiving == "text"
    transport.receive(b"binary")
    assert await connection.take() == b"binary"
    now = hub.statistics()
    assert (now.messages_received, now.bytes_received, now.discarded) == (2, 10, 0)


async def test_several_messages_wake_a_receiver_once_and_none_is_lost(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    receiving = asyncio.create_task(connection.take())
    await settle()
    for text in "123":
        transport.receive(text)
    assert await receiving == "1"
    assert [await connection.take(), await connection.take()] == ["2", "3"]


async def test_a_second_receiver_is_told_that_there_is_one(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    first = asyncio.create_task(connection.take())
    await settle()
    with pytest.raises(RuntimeError, match="another task is receiving"):
        await connection.take()
    transport.receive("for the first")
    assert await first == "for the first"


@pytest.mark.parametrize("arrives", ["before", "after"])
async def test_a_cancelled_receiver_loses_no_message_and_makes_room_for_the_next(hub: Hub, arrives: str) -> None:
    connection, transport = connected(hub, RecordingTransport())
    receiving = asyncio.create_task(connection.take())
    await settle()
    if arrives == "before":
        transport.receive("1")
    await cancelled(receiving)
    assert receiving.cancelled()
    if arrives == "after":
        transport.receive("1")
    assert await connection.take() == "1"


async def test_a_message_is_for_the_task_that_waits_for_it_and_the_next_for_the_next(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    first = asyncio.create_task(connection.take())
    await settle()
    transport.receive("1")
    second = asyncio.create_task(connection.take())
    assert await first == "1"
    await settle()
    assert not second.done()
    transport.receive("2")
    assert await second == "2"


async def test_a_receiver_that_is_cancelled_after_its_message_has_come_leaves_it_to_the_next(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    receiving = asyncio.create_task(connection.take())
    await settle()
    transport.receive("1")
    transport.receive("2")
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert [await connection.take(), await connection.take()] == ["1", "2"]


async def test_what_the_peer_sent_before_it_closed_is_still_received(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    transport.receive("1")
    transport.receive("2")
    transport.lose(1001, "going away")
    connection.end(1000)
    assert [await connection.take(), await connection.take()] == ["1", "2"]
    with pytest.raises(ConnectionEnded) as caught:
        await connection.take()
    assert (caught.value.code, caught.value.reason) == (1001, "going away")
    assert hub.statistics().discarded == 0


async def test_what_nobody_will_receive_is_thrown_away_and_counted(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    transport.receive("1")
    transport.receive("2")
    transport.lose(1001)
    assert await connection.take() == "1"
    for _ in range(2):
        connection.discard_inbox()
        assert hub.statistics().discarded == 1
    with pytest.raises(ConnectionEnded):
        await connection.take()


@pytest.mark.parametrize("is_congested", [False, True])
async def test_after_an_end_of_our_making_nothing_is_received(hub: Hub, is_congested: bool) -> None:
    connection, transport = connected(hub, Unhurried())
    transport.receive("1")
    transport.receive("2")
    if is_congested:
        transport.buffered_bytes = FULL
    connection.end(4000, "ours")
    transport.receive("3")
    transport.lose(1001)
    with pytest.raises(ConnectionEnded) as caught:
        await connection.take()
    assert (caught.value.code, caught.value.reason) == (4000, "ours")
    assert (hub.statistics().messages_received, hub.statistics().discarded) == (2, 3)


@pytest.mark.parametrize("end", ENDS)
async def test_a_waiting_receiver_hears_of_the_end(hub: Hub, end: Callable[..., None]) -> None:
    connection, transport = connected(hub, RecordingTransport())
    receiving = asyncio.create_task(connection.take())
    await settle()
    end(connection, transport)
    with pytest.raises(ConnectionEnded) as caught:
        await receiving
    assert (caught.value.code, caught.value.reason) == (4000, "done")


@pytest.mark.parametrize(
    ("count", "size"),
    [(INBOX_MESSAGES, 1), (2, INBOX_BYTES // 2), (1, INBOX_BYTES), (1, INBOX_BYTES + 1)],
    ids=["64 messages", "two of 32 KiB", "one of 64 KiB", "one larger"],
)
async def test_a_full_inbox_stops_the_reading_until_it_is_empty(hub: Hub, count: int, size: int) -> None:
    assert (INBOX_MESSAGES, INBOX_BYTES) == (64, 65_536)
    connection, transport = connected(hub, RecordingTransport(), Limits(message_bytes=None))
    for number in range(count):
        assert transport.is_reading
        transport.receive(sized(str(number), size))
    assert not transport.is_reading
    transport.receive("on its way already")
    for number in range(count):
        assert await connection.take() == sized(str(number), size)
        assert not transport.is_reading
    assert await connection.take() == "on its way already"
    assert transport.is_reading


async def test_a_message_less_than_a_full_inbox_does_not_stop_the_reading(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    for _ in range(INBOX_MESSAGES - 1):
        transport.receive("x")
    assert transport.is_reading
    for _ in range(INBOX_MESSAGES - 1):
        await connection.take()
    for _ in range(3):
        transport.receive(sized("x", INBOX_BYTES - 1))
        assert transport.is_reading
        await connection.take()


async def test_the_reading_stops_and_goes_on_as_often_as_it_must(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(messages_per_s=None))
    for _ in range(3):
        for _ in range(INBOX_MESSAGES):
            transport.receive("x")
        assert not transport.is_reading
        for _ in range(INBOX_MESSAGES):
            await connection.take()
        assert transport.is_reading


async def test_the_reading_does_not_go_on_for_a_peer_that_has_closed(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport())
    for _ in range(INBOX_MESSAGES):
        transport.receive("x")
    transport.lose()
    for _ in range(INBOX_MESSAGES):
        await connection.take()
    assert not transport.is_reading


# The limits on what comes in


@pytest.mark.parametrize(
    ("message", "closed"),
    [
        ("ten bytes!", None),
        ("eleven byte", (1009, "message_bytes")),
        (b"0123456789", None),
        (b"0123456789A", (1009, "message_bytes")),
        ("ü" * 5, None),
        ("ü" * 6, (1009, "message_bytes")),
    ],
)
async def test_a_message_over_message_bytes_closes_with_1009(
    hub: Hub, message: str | bytes, closed: tuple[int, str] | None
) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(message_bytes=10))
    transport.receive("fine")
    transport.receive(message)
    assert transport.closed == closed
    if closed is None:
        assert [await connection.take(), await connection.take()] == ["fine", message]
        return
    assert hub.statistics().violations == {"message_bytes": 1}
    assert hub.statistics().closed == {1009: 1}
    with pytest.raises(ConnectionEnded):
        await connection.take()


@pytest.mark.parametrize("message_bytes", [None, 100_000])
async def test_without_a_limit_a_message_may_be_as_large_as_it_likes(hub: Hub, message_bytes: int | None) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(message_bytes=message_bytes))
    transport.receive("x" * 100_000)
    assert transport.closed is None
    assert len(await connection.take()) == 100_000


async def receive_all(connection: CoreConnection, transport: RecordingTransport, count: int) -> None:
    """Let the peer send `count` messages and the endpoint receive them."""
    for _ in range(count):
        transport.receive("x")
        await connection.take()


async def test_messages_over_the_rate_close_with_1008(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(messages_per_s=2, message_burst=3))
    await receive_all(connection, transport, 3)
    clock.advance(0.5)
    await receive_all(connection, transport, 1)
    clock.advance(0.49)
    assert connection.phase is Phase.OPEN
    transport.receive("too early")
    assert transport.closed == (1008, "messages_per_s")
    assert hub.statistics().violations == {"messages_per_s": 1}


async def test_without_a_rate_any_number_of_messages_is_let_in(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(messages_per_s=None, message_burst=1))
    await receive_all(connection, transport, 1_000)
    assert connection.phase is Phase.OPEN


async def test_what_came_while_we_did_not_read_is_not_held_against_the_rate(hub: Hub, clock: Clock) -> None:
    limits = Limits(messages_per_s=10, message_burst=INBOX_MESSAGES)
    connection, transport = connected(hub, RecordingTransport(), limits)
    for _ in range(INBOX_MESSAGES):
        transport.receive("x")
    clock.advance(2)
    transport.receive("on its way already")
    assert not transport.is_reading
    clock.advance(2)
    for _ in range(INBOX_MESSAGES + 1):
        await connection.take()
    assert transport.is_reading
    await receive_all(connection, transport, 4 * 10)
    assert connection.phase is Phase.OPEN
    for _ in range(INBOX_MESSAGES):
        transport.receive("too many")
    assert transport.closed == (1008, "messages_per_s")


def test_a_client_that_says_nothing_at_first_is_closed_with_1008(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(first_message_s=5))
    clock.advance(4.99)
    assert connection.phase is Phase.OPEN
    clock.advance(0.01)
    assert transport.closed == (1008, "first_message_s")
    assert hub.statistics().violations == {"first_message_s": 1}


def test_a_client_that_has_spoken_once_may_be_silent(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(first_message_s=5))
    clock.advance(4.99)
    transport.receive("x")
    clock.advance(1_000)
    assert connection.phase is Phase.OPEN


def test_a_client_that_falls_silent_is_closed_with_1008(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(idle_s=5))
    for _ in range(4):
        clock.advance(4.99)
        assert connection.phase is Phase.OPEN
        transport.receive("x")
    clock.advance(4.99)
    assert connection.phase is Phase.OPEN
    clock.advance(0.01)
    assert transport.closed == (1008, "idle_s")
    assert hub.statistics().violations == {"idle_s": 1}


@pytest.mark.parametrize(
    ("first_message_s", "idle_s", "reason"), [(3, 5, "first_message_s"), (5, 3, "idle_s"), (3, None, "first_message_s")]
)
def test_the_shorter_patience_decides(
    hub: Hub, clock: Clock, first_message_s: float, idle_s: float | None, reason: str
) -> None:
    limits = Limits(first_message_s=first_message_s, idle_s=idle_s)
    connection, transport = connected(hub, RecordingTransport(), limits)
    clock.advance(2.99)
    assert connection.phase is Phase.OPEN
    clock.advance(0.01)
    assert transport.closed == (1008, reason)


def test_idleness_counts_on_after_the_first_message(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(first_message_s=3, idle_s=10))
    clock.advance(2)
    transport.receive("x")
    clock.advance(9.99)
    assert connection.phase is Phase.OPEN
    clock.advance(0.01)
    assert transport.closed == (1008, "idle_s")


def test_what_we_send_is_no_sign_of_life_of_the_client(hub: Hub, clock: Clock) -> None:
    connection, _ = connected(hub, RecordingTransport(), Limits(idle_s=5))
    clock.advance(3)
    hub.publish_here(EVERYONE, "x")
    clock.advance(2)
    assert connection.phase is Phase.CLOSED


async def test_a_client_that_we_do_not_read_is_not_idle(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(idle_s=3))
    for _ in range(INBOX_MESSAGES):
        transport.receive("x")
    clock.advance(PAUSE_S - 0.01)
    assert connection.phase is Phase.OPEN
    for _ in range(INBOX_MESSAGES):
        await connection.take()
    clock.advance(2.99)
    assert connection.phase is Phase.OPEN
    clock.advance(0.01)
    assert transport.closed == (1008, "idle_s")


async def test_an_endpoint_that_takes_nothing_stops_the_reading_for_a_while_only(hub: Hub, clock: Clock) -> None:
    """The end of the peer can only be read."""
    connection, transport = connected(hub, RecordingTransport(), Limits(messages_per_s=None))
    await receive_all(connection, transport, 3)
    for number in range(INBOX_MESSAGES):
        transport.receive(str(number))
    clock.advance(PAUSE_S - 0.01)
    assert not transport.is_reading
    clock.advance(0.01)
    assert transport.is_reading
    for _ in range(1_000):
        transport.receive("does not fit")
    assert hub.statistics().discarded == 1_000
    assert [await connection.take() for _ in range(INBOX_MESSAGES)] == [str(n) for n in range(INBOX_MESSAGES)]
    transport.receive("fits again")
    assert await connection.take() == "fits again"
    transport.lose(1001)
    assert hub.statistics().connections == 0


async def test_an_endpoint_that_takes_slowly_stops_the_reading_for_as_long_as_it_needs(hub: Hub, clock: Clock) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(messages_per_s=None))
    for _ in range(INBOX_MESSAGES):
        transport.receive("x")
    for _ in range(INBOX_MESSAGES - 1):
        clock.advance(PAUSE_S - 0.01)
        await connection.take()
        assert not transport.is_reading
    assert hub.statistics().discarded == 0


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_publications_that_may_be_dropped_do_not_keep_a_direct_send_out(hub: Hub, policy: OutboxPolicy) -> None:
    """A client that reads, though slower than is published, must not be closed as slow."""
    connection, transport = connected(hub, Window(), outbox=Outbox(bytes=10_000, policy=policy))
    transport.fill()
    for _ in range(100):
        hub.publish_here(EVERYONE, "x" * 100)
    sending = asyncio.create_task(connection.send_frame(PreparedFrame("direct")))
    await asyncio.sleep(0)
    for _ in range(100):
        for _ in range(2):
            hub.publish_here(EVERYONE, "x" * 100)
        transport.give(1)
    await sending
    assert connection.phase is Phase.OPEN


@pytest.mark.parametrize("end", ENDS)
def test_silence_is_nothing_to_one_that_has_ended(hub: Hub, clock: Clock, end: Callable[..., None]) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(first_message_s=2, idle_s=3))
    end(connection, transport)
    clock.advance(100)
    assert connection.close_code == 4000
    assert hub.statistics().violations == {}


def test_a_violation_under_congestion_waits_for_what_is_queued_before_it(hub: Hub) -> None:
    connection, transport = connected(hub, RecordingTransport(), Limits(message_bytes=1))
    transport.buffered_bytes = FULL
    hub.publish_here(EVERYONE, "before")
    transport.receive("too large")
    assert (connection.phase, transport.closed) == (Phase.CLOSING, None)
    transport.buffered_bytes = 0
    assert (transport.written, transport.closed) == (["before"], (1009, "message_bytes"))


# Any order of events


BOUND = 2_000
SIZES = st.integers(0, 20) | st.integers(0, 800) | st.integers(0, BOUND + 500)


@dataclass
class Queued:
    """One message in line."""

    text: str
    channel: str | None

    @property
    def cost(self) -> int:
        return room_for(len(self.text))


@dataclass
class Model:
    """What a connection with an outbox of `BOUND` bytes is to do, in the words of the design."""

    phase: Phase = Phase.OPEN
    room: int = 1
    now: float = 0.0
    abort_at: float = float("inf")
    written: list[str] = field(default_factory=list)
    queue: list[Queued] = field(default_factory=list)
    waiting: list[tuple[Queued, float]] = field(default_factory=list)
    deliveries: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    discarded: int = 0
    undelivered: int = 0
    closed: Counter[int] = field(default_factory=Counter)

    @property
    def queue_bytes(self) -> int:
        return sum(message.cost for message in self.queue)

    @property
    def queued_bytes(self) -> int:
        return self.queue_bytes + sum(message.cost - ENTRY_BYTES for message, _ in self.waiting)

    def publish(self, message: Queued, policy: str) -> None:
        if self.phase is not Phase.OPEN:
            return
        own = [queued for queued in self.queue if queued.channel == message.channel]
        share = DIRECT_SHARE if self.waiting and policy != "disconnect" else 1.0
        if policy == "latest" and own and self.room <= 0:
            self._replace(own[0], message, share)
        elif self.room > 0 or self._fits(message, share):
            self._accept(message)
        elif policy == "disconnect":
            self.end(3008)
        elif policy == "drop_oldest":
            self._push_out(own, message, share)
        else:
            self.dropped[policy] += 1
        self._let_in()

    def _replace(self, old: Queued, message: Queued, share: float) -> None:
        others = self.queue_bytes - old.cost
        self.dropped["latest"] += 1
        if not others or others + message.cost <= BOUND * share:
            self.queue[self.queue.index(old)] = message
            self.deliveries += 1

    def _push_out(self, own: list[Queued], message: Queued, share: float) -> None:
        others = self.queue_bytes - sum(queued.cost for queued in own)
        if others and others + message.cost > BOUND * share:
            self.dropped["drop_oldest"] += 1
            return
        while not self._fits(message, share):
            self.queue.remove(own.pop(0))
            self.dropped["drop_oldest"] += 1
        self._accept(message)

    def send(self, message: Queued) -> None:
        if self.phase is not Phase.OPEN:
            self.undelivered += 1
        else:
            self.waiting.append((message, self.now + SEND_DEADLINE_S))
            self._let_in()

    def give_up(self, index: int) -> None:
        del self.waiting[index]
        self._let_in()

    def relieve(self, room: int) -> None:
        self.room = room
        while self.queue and self.room > 0:
            self._write(self.queue.pop(0))
        self._let_in()
        if self.phase is Phase.CLOSING and self.room > 0:
            self.phase = Phase.CLOSED

    def end(self, code: int) -> None:
        if self.phase is not Phase.OPEN:
            return
        self._leave(code)
        self.phase = Phase.CLOSING
        if code == 3008 or self.room > 0:
            self.lose()
        else:
            self.abort_at = self.now + CLOSE_DEADLINE_S

    def lose(self) -> None:
        if self.phase is Phase.OPEN:
            self._leave(1006)
        self.phase = Phase.CLOSED
        self.discarded += len(self.queue)
        self.queue.clear()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        if any(deadline <= self.now for _, deadline in self.waiting):
            self.end(3008)
        elif self.phase is Phase.CLOSING and self.abort_at <= self.now:
            self.lose()

    def _leave(self, code: int) -> None:
        self.closed[code] += 1
        self.undelivered += len(self.waiting)
        self.waiting.clear()

    def _let_in(self) -> None:
        while self.waiting and (self.room > 0 or self._fits(self.waiting[0][0], DIRECT_SHARE)):
            self._accept(self.waiting.pop(0)[0])

    def _fits(self, message: Queued, share: float = 1.0) -> bool:
        return not self.queue or self.queue_bytes + message.cost <= BOUND * share

    def _accept(self, message: Queued) -> None:
        self.deliveries += 1
        if self.room > 0:
            self._write(message)
        else:
            self.queue.append(message)

    def _write(self, message: Queued) -> None:
        self.room -= 1
        self.written.append(message.text)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: one order of messages, and each of them is accounted for once."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.hub = Hub(self.clock)
        self.model = Model()
        self.senders: list[tuple[str, asyncio.Task[None]]] = []
        self.messages = 0

    @initialize(policy=st.sampled_from(get_args(OutboxPolicy)), ends_after=st.integers(0, 30))
    def connect(self, policy: OutboxPolicy, ends_after: int) -> None:
        self.policies = {"plain": policy, **POLICIES}
        self.ends_after = ends_after
        self.connection, self.transport = connected(self.hub, Window(1), outbox=Outbox(bytes=BOUND, policy=policy))
        for channel in self.policies:
            self.hub.join_here(self.connection, channel)

    def message(self, channel: str | None, size: int) -> Queued:
        self.messages += 1
        return Queued(sized(f"{self.messages}", size), channel)

    def may_end(self) -> bool:
        return self.messages >= self.ends_after

    @rule(channel=st.sampled_from(["plain", *POLICIES]), size=SIZES)
    def publish(self, channel: str, size: int) -> None:
        message = self.message(channel, size)
        self.model.publish(message, self.policies[channel])
        self.hub.publish_here(channel, message.text)

    @rule(size=SIZES)
    def send(self, size: int) -> None:
        message = self.message(None, size)
        self.model.send(message)
        self.runner.run(self._send(message.text))

    async def _send(self, text: str) -> None:
        self.senders.append((text, *await sending(self.connection, text)))

    @precondition(lambda self: self.model.waiting)
    @rule(which=st.integers(0, 10))
    def give_up(self, which: int) -> None:
        index = which % len(self.model.waiting)
        text = self.model.waiting[index][0].text
        self.model.give_up(index)
        self.runner.run(cancelled(*(task for sent, task in self.senders if sent == text)))

    @precondition(lambda self: self.model.phase is not Phase.CLOSED and self.model.room > 0)
    @rule()
    def congest(self) -> None:
        self.model.room = 0
        self.transport.fill()

    @precondition(lambda self: self.model.phase is not Phase.CLOSED and self.model.room <= 0)
    @rule(room=st.integers(1, 5))
    def relieve(self, room: int) -> None:
        self.model.relieve(room)
        self.transport.give(room)

    @precondition(may_end)
    @rule(code=st.sampled_from([1000, 1012, 3008]))
    def end(self, code: int) -> None:
        self.model.end(code)
        self.connection.end(code)

    @precondition(may_end)
    @rule()
    def lose(self) -> None:
        self.model.lose()
        self.transport.lose()

    @rule(seconds=st.sampled_from([1, 4, 7]))
    def advance(self, seconds: float) -> None:
        self.model.advance(seconds)
        self.clock.advance(seconds)

    @invariant()
    def what_was_accepted_is_written_in_order_or_counted(self) -> None:
        if any(not task.done() for _, task in self.senders):
            self.runner.run(settle())
        now, model = self.hub.statistics(), self.model
        assert self.connection.phase is model.phase
        assert self.transport.written == model.written
        assert self.connection.queued_bytes == model.queued_bytes
        assert (now.deliveries, now.discarded, now.undelivered) == (
            model.deliveries,
            model.discarded,
            model.undelivered,
        )
        assert (now.dropped, now.closed) == (model.dropped, model.closed)
        waiting = [text for text, task in self.senders if not task.done()]
        assert waiting == [message.text for message, _ in model.waiting]

    @invariant()
    def a_connection_that_is_not_open_is_found_no_more(self) -> None:
        is_open = self.model.phase is Phase.OPEN
        assert len(self.hub.connections) == len(self.hub.subscribers(EVERYONE)) == is_open
        assert self.hub.counting.present.total() == (self.model.phase is not Phase.CLOSED)

    def teardown(self) -> None:
        self.transport.lose()
        self.runner.run(settle())
        try:
            assert_nothing_is_left(self.hub)
            assert self.hub.told == ["opened", "ended", "released"]
            for _, task in self.senders:
                assert task.done()
                assert task.cancelled() or task.exception() is None
        finally:
            self.runner.close()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, report_multiple_bugs=False)
