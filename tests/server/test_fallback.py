"""The transport over any ASGI server, between a server and a user that the test plays."""

import asyncio
import contextvars
import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from hubbub.config import Limits, Outbox
from hubbub.hub.admission import Admission
from hubbub.hub.connection import CoreConnection, Phase, Settings
from hubbub.hub.hub import EVERYONE, PLAIN, CoreHub
from hubbub.interfaces import TransportSettings
from hubbub.model import Data
from hubbub.server.fallback import AsgiTransport
from hubbub.testing import ManualClock
from hubbub.wire.prepared import PreparedFrame

Event = MutableMapping[str, Any]
Logged = Callable[[], list[logging.LogRecord]]

CLOSE = {"type": "websocket.close", "code": 1000, "reason": "bye"}


class Server:
    """An ASGI server: what it hands out, what it was given, and whether it takes anything now."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.under_way = 0
        self.most_under_way = 0
        self.receive_error: BaseException | None = None
        self.send_error: BaseException | None = None
        self.asked = 0
        self._incoming: asyncio.Queue[Event] = asyncio.Queue()
        self._takes = asyncio.Event()
        self._takes.set()

    @property
    def sent(self) -> list[Event]:
        return [event for event in self.log if isinstance(event, dict)]

    def stall(self) -> None:
        """Take nothing, as long as the peer does not read."""
        self._takes.clear()

    def go_on(self) -> None:
        """Take everything again."""
        self._takes.set()

    def take_one(self) -> None:
        """Take what is under way and stall again."""
        self._takes.set()
        self._takes.clear()

    def arrive(self, *events: Event) -> None:
        """Let events of the peer arrive."""
        for event in events:
            self._incoming.put_nowait(event)

    async def receive(self) -> Event:
        self.asked += 1
        if self.receive_error is not None:
            raise self.receive_error
        try:
            return await self._incoming.get()
        except asyncio.CancelledError:
            self.log.append("reading stopped")
            raise

    async def send(self, event: Event) -> None:
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            await self._takes.wait()
            if self.send_error is not None:
                raise self.send_error
            self.log.append(event)
        finally:
            self.under_way -= 1


class User:
    """A `TransportUser` that remembers its calls, and reacts to them as the test says."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.reactions: dict[str, Callable[[], object]] = {}

    def received(self, data: Data) -> None:
        self._called(data)

    def congested(self) -> None:
        self._called("congested")

    def writable(self) -> None:
        self._called("writable")

    def lost(self, code: int, reason: str) -> None:
        self._called(("lost", code, reason))

    def _called(self, call: Any) -> None:
        self.calls.append(call)
        name = call[0] if isinstance(call, tuple) else call
        self.reactions.get(name, lambda: None)()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def user() -> User:
    return User()


@pytest.fixture
def transport(server: Server) -> AsgiTransport:
    return AsgiTransport(server.receive, server.send)


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Logged]:
    """Gives what was logged; nothing is logged in a test that does not ask."""

    def take() -> list[logging.LogRecord]:
        records = [*caplog.records]
        caplog.clear()
        return records

    yield take
    assert [record.getMessage() for record in caplog.get_records("call")] == []


def text(data: str) -> Event:
    return {"type": "websocket.receive", "text": data}


def disconnect(**more: Any) -> Event:
    return {"type": "websocket.disconnect", **more}


def message(data: Data) -> Event:
    return {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}


def tasks() -> int:
    """Return how many tasks there are beside the test's own."""
    return len(asyncio.all_tasks()) - 1


def at_once(call: Callable[[], None]) -> None:
    """Do what a hub does at the end of the loop's turn: these tests have no loop."""
    call()


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def started(transport: AsgiTransport, user: User) -> None:
    """Start the transport and wait until it reads."""
    transport.start(user, TransportSettings())
    await settle()


# Reading


async def test_what_arrives_is_delivered_in_order(server: Server, user: User, transport: AsgiTransport) -> None:
    transport.start(user, TransportSettings())
    server.arrive(
        text("1"),
        {"type": "websocket.receive", "bytes": b"2"},
        {"type": "websocket.receive", "text": None, "bytes": b"3"},
        {"type": "websocket.receive", "text": "4", "bytes": None},
        {"type": "websocket.receive", "text": ""},
        {"type": "websocket.receive", "bytes": b""},
    )
    await settle()
    assert user.calls == ["1", b"2", b"3", "4", "", b""]


async def test_nothing_is_read_before_the_start(server: Server, user: User, transport: AsgiTransport) -> None:
    server.arrive(text("1"))
    await settle()
    assert (server.asked, tasks()) == (0, 0)
    await started(transport, user)
    assert user.calls == ["1"]


@pytest.mark.parametrize(
    ("event", "lost"),
    [
        (disconnect(code=1001, reason="away"), ("lost", 1001, "away")),
        (disconnect(code=1001), ("lost", 1001, "")),
        (disconnect(code=1001, reason=None), ("lost", 1001, "")),
        (disconnect(), ("lost", 1006, "")),
        (disconnect(code=None), ("lost", 1006, "")),
    ],
)
async def test_a_disconnect_is_the_end(
    server: Server, user: User, transport: AsgiTransport, event: Event, lost: tuple[str, int, str]
) -> None:
    await started(transport, user)
    server.arrive(text("last"), event, text("after the end"))
    await settle()
    assert user.calls == ["last", lost]
    assert tasks() == 0


async def test_a_paused_transport_asks_the_server_for_nothing(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    user.reactions["1"] = transport.pause_reading
    await started(transport, user)
    server.arrive(text("1"), text("2"), text("3"))
    await settle()
    assert (user.calls, server.asked) == (["1"], 1)
    transport.resume_reading()
    await settle()
    assert user.calls == ["1", "2", "3"]


async def test_a_message_that_is_on_its_way_when_reading_is_paused_still_comes(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    transport.pause_reading()
    server.arrive(text("1"), text("2"))
    await settle()
    assert user.calls == ["1"]
    transport.resume_reading()
    await settle()
    assert user.calls == ["1", "2"]


async def test_pausing_and_resuming_may_come_in_any_number(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    transport.resume_reading()
    await started(transport, user)
    transport.resume_reading()
    server.arrive(text("1"))
    await settle()
    for _ in range(2):
        transport.pause_reading()
    server.arrive(text("2"), text("3"))
    await settle()
    assert user.calls == ["1", "2"]
    for _ in range(2):
        transport.resume_reading()
    await settle()
    assert user.calls == ["1", "2", "3"]
    transport.pause_reading()
    transport.resume_reading()
    server.arrive(text("4"), text("5"))
    await settle()
    assert user.calls == ["1", "2", "3", "4", "5"]
    transport.pause_reading()
    server.arrive(text("6"), text("7"))
    await settle()
    assert user.calls == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("end", ["abort", "close"])
async def test_a_paused_transport_ends_like_any_other(
    server: Server, user: User, transport: AsgiTransport, end: str
) -> None:
    await started(transport, user)
    transport.pause_reading()
    server.arrive(text("1"), text("2"))
    await settle()
    transport.abort() if end == "abort" else transport.close(1000, "bye")
    await settle()
    assert user.calls == ["1", ("lost", 1006, "") if end == "abort" else ("lost", 1000, "bye")]
    assert tasks() == 0


# Writing


async def test_messages_leave_in_the_order_of_write_as_what_they_are(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    for data in ("1", b"2", "", b"", "ü"):
        transport.write(PreparedFrame(data))
    await settle()
    assert server.sent == [message("1"), message(b"2"), message(""), message(b""), message("ü")]


async def test_each_recipient_gets_an_event_of_its_own(server: Server, user: User, transport: AsgiTransport) -> None:
    other_server, other_user = Server(), User()
    other = AsgiTransport(other_server.receive, other_server.send)
    await started(transport, user)
    await started(other, other_user)
    frame = PreparedFrame("x")
    transport.write(frame)
    other.write(frame)
    await settle()
    assert server.sent[0] == other_server.sent[0]
    assert server.sent[0] is not other_server.sent[0]


async def test_one_message_is_under_way_at_a_time(server: Server, user: User, transport: AsgiTransport) -> None:
    await started(transport, user)
    server.stall()
    for number in range(3):
        transport.write(PreparedFrame(str(number)))
    for number in range(3):
        await settle()
        assert server.under_way == 1
        assert len(server.sent) == number
        server.take_one()
    await settle()
    assert server.most_under_way == 1
    assert server.sent == [message("0"), message("1"), message("2")]


async def test_a_writer_exists_only_while_there_is_something_to_write(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    assert tasks() == 1
    for _ in range(3):
        server.stall()
        transport.write(PreparedFrame("x"))
        transport.write(PreparedFrame("y"))
        await settle()
        assert tasks() == 2
        server.go_on()
        await settle()
        assert tasks() == 1


async def test_the_transport_is_congested_from_write_until_everything_is_sent(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    server.stall()
    transport.write(PreparedFrame("1"))
    assert user.calls == ["congested"]
    transport.write(PreparedFrame("2"))
    await settle()
    server.take_one()
    await settle()
    assert user.calls == ["congested", "congested"]
    server.take_one()
    await settle()
    assert user.calls == ["congested", "congested", "writable"]


async def test_buffered_bytes_are_those_that_the_server_has_not_taken(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    assert transport.buffered_bytes == 0
    server.stall()
    transport.write(PreparedFrame("ü"))
    transport.write(PreparedFrame(b"12345"))
    assert transport.buffered_bytes == 7
    await settle()
    assert transport.buffered_bytes == 7
    server.take_one()
    await settle()
    assert transport.buffered_bytes == 5
    server.take_one()
    await settle()
    assert transport.buffered_bytes == 0


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_nothing_is_buffered_after_the_end(
    server: Server, user: User, transport: AsgiTransport, how: str
) -> None:
    await started(transport, user)
    server.stall()
    transport.write(PreparedFrame("1"))
    transport.write(PreparedFrame("2"))
    await settle()
    transport.abort() if how == "abort" else transport.close(1000, "bye")
    await settle()
    assert transport.buffered_bytes == 0


@pytest.mark.parametrize("reaction", ["congested", "writable"])
async def test_a_user_may_write_in_any_of_its_calls(
    server: Server, user: User, transport: AsgiTransport, reaction: str
) -> None:
    more = iter("23456")

    def write_more() -> None:
        if (data := next(more, None)) is not None:
            transport.write(PreparedFrame(data))

    user.reactions[reaction] = write_more
    await started(transport, user)
    transport.write(PreparedFrame("1"))
    await settle()
    assert server.sent == [message(data) for data in "123456"]
    assert server.most_under_way == 1
    assert tasks() == 1


async def test_a_user_may_write_when_it_receives(server: Server, user: User, transport: AsgiTransport) -> None:
    user.reactions["ping"] = lambda: transport.write(PreparedFrame("pong"))
    await started(transport, user)
    server.arrive(text("ping"), text("ping"))
    await settle()
    assert server.sent == [message("pong"), message("pong")]


async def test_the_server_is_called_in_the_context_of_the_connection_whoever_writes(server: Server, user: User) -> None:
    task_of = contextvars.ContextVar("task_of", default="nobody")
    seen = []

    async def receive() -> Event:
        seen.append(("receive", task_of.get()))
        return await server.receive()

    async def send(event: Event) -> None:
        seen.append((event["type"], task_of.get()))
        await server.send(event)

    transport = AsgiTransport(receive, send)

    async def act(name: str, call: Callable[[], None]) -> None:
        task_of.set(name)
        call()
        await settle()

    await asyncio.create_task(act("the endpoint", lambda: transport.start(user, TransportSettings())))
    await asyncio.create_task(act("a broadcast", lambda: transport.write(PreparedFrame("x"))))
    await asyncio.create_task(act("a kick", lambda: transport.close(1000, "bye")))
    assert seen == [(what, "the endpoint") for what in ("receive", "websocket.send", "websocket.close")]


# Failures


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (OSError("gone"), ("lost", 1006, "")),
        (ConnectionResetError(), ("lost", 1006, "")),
        (RuntimeError("Unexpected ASGI message after close"), ("lost", 1006, "")),
        (WebSocketDisconnect(1001, "away"), ("lost", 1001, "away")),
        (WebSocketDisconnect(1001), ("lost", 1001, "")),
    ],
    ids=repr,
)
@pytest.mark.parametrize("of", ["send", "receive", "close"])
async def test_a_server_may_say_in_many_ways_that_the_peer_is_gone(
    server: Server, user: User, transport: AsgiTransport, of: str, error: Exception, lost: tuple[str, int, str]
) -> None:
    await ended_by_an_error(server, user, transport, of, error)
    assert user.calls[-1] == lost
    assert tasks() == 0


@pytest.mark.parametrize("of", ["send", "receive", "close"])
async def test_any_other_error_of_the_server_is_a_fault_and_logged_once(
    server: Server, user: User, transport: AsgiTransport, of: str, logged: Logged
) -> None:
    error = ValueError("a fault")
    await ended_by_an_error(server, user, transport, of, error)
    assert user.calls[-1] == ("lost", 1006, "")
    assert tasks() == 0
    [record] = logged()
    assert (record.name, record.levelno) == ("hubbub", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("of", ["send", "receive", "close"])
async def test_a_call_that_the_server_cancels_is_the_end_too(
    server: Server, user: User, transport: AsgiTransport, of: str
) -> None:
    await ended_by_an_error(server, user, transport, of, asyncio.CancelledError())
    assert [call for call in user.calls if call[0] == "lost"] == [("lost", 1006, "")]
    assert tasks() == 0


async def ended_by_an_error(
    server: Server, user: User, transport: AsgiTransport, of: str, error: BaseException
) -> None:
    """Let the server raise `error` in one of its calls."""
    if of == "receive":
        server.receive_error = error
    await started(transport, user)
    if of == "send":
        server.send_error = error
        transport.write(PreparedFrame("1"))
        transport.write(PreparedFrame("2"))
    elif of == "close":
        server.send_error = error
        transport.close(1000, "bye")
    await settle()
    assert server.sent == []


@pytest.mark.parametrize("is_paused", [False, True])
async def test_a_send_that_fails_because_the_peer_has_closed_is_a_loss_with_the_peers_code(
    server: Server, user: User, transport: AsgiTransport, is_paused: bool
) -> None:
    await started(transport, user)
    if is_paused:
        user.reactions["x"] = transport.pause_reading
        server.arrive(text("x"))
        await settle()
        user.calls.clear()
    server.stall()
    server.send_error = OSError("gone")
    transport.write(PreparedFrame("1"))
    await settle()
    server.arrive(disconnect(code=1001, reason="away"))
    server.go_on()
    await settle()
    assert user.calls == ["congested", ("lost", 1001, "away")]
    assert tasks() == 0


@pytest.mark.parametrize("was_paused", [False, True])
async def test_what_came_before_the_peer_closed_is_delivered_although_a_send_fails_first(
    server: Server, user: User, transport: AsgiTransport, was_paused: bool
) -> None:
    await started(transport, user)
    if was_paused:
        transport.pause_reading()
        transport.resume_reading()
    server.stall()
    server.send_error = OSError("gone")
    transport.write(PreparedFrame("x"))
    await settle()
    server.go_on()
    server.arrive(text("1"), text("2"), disconnect(code=1001, reason="away"))
    await settle()
    assert user.calls == ["congested", "1", "2", ("lost", 1001, "away")]


async def test_a_paused_transport_delivers_no_more_messages_although_a_send_fails(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    user.reactions["1"] = transport.pause_reading
    await started(transport, user)
    server.arrive(*(text(str(number)) for number in range(1, 10)), disconnect(code=1001))
    await settle()
    server.send_error = OSError("gone")
    transport.write(PreparedFrame("x"))
    await settle()
    assert user.calls[:2] == ["1", "congested"]
    assert [call for call in user.calls[2:] if isinstance(call, str)] in ([], ["2"]), "one may be on its way already"
    assert user.calls[-1][0] == "lost"
    assert tasks() == 0


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("late", ["write", "close", "abort", "peer leaves"])
async def test_whatever_happens_just_after_a_send_has_failed_the_connection_is_lost_once(
    server: Server, user: User, transport: AsgiTransport, late: str, turns: int
) -> None:
    await started(transport, user)
    server.stall()
    server.send_error = OSError("gone")
    transport.write(PreparedFrame("1"))
    await settle()
    server.go_on()
    for _ in range(turns):
        await asyncio.sleep(0)
    acts: dict[str, Callable[[], None]] = {
        "write": lambda: transport.write(PreparedFrame("2")),
        "close": lambda: transport.close(1000, "bye"),
        "abort": transport.abort,
        "peer leaves": lambda: server.arrive(disconnect(code=1001)),
    }
    acts[late]()
    await settle()
    assert [call[0] for call in user.calls if isinstance(call, tuple)] == ["lost"]
    assert isinstance(user.calls[-1], tuple)
    assert (server.sent, transport.buffered_bytes, tasks()) == ([], 0, 0)


@pytest.mark.parametrize("event", [{"type": "websocket.receive"}, {}, None], ids=["no data", "no type", "none"])
async def test_an_event_that_is_none_is_a_fault_of_the_server(
    server: Server, user: User, transport: AsgiTransport, event: Any, logged: Logged
) -> None:
    await started(transport, user)
    server.arrive(event)
    await settle()
    assert user.calls == [("lost", 1006, "")]
    assert len(logged()) == 1
    assert tasks() == 0


@pytest.mark.parametrize("call", ["x", "writable"])
async def test_an_error_of_the_user_is_logged_and_ends_the_connection(
    server: Server, user: User, transport: AsgiTransport, call: str, logged: Logged
) -> None:
    def fail() -> None:
        raise ValueError("a fault")

    user.reactions[call] = fail
    await started(transport, user)
    if call == "x":
        server.arrive(text("x"))
    else:
        transport.write(PreparedFrame("x"))
    await settle()
    assert user.calls[-1] == ("lost", 1006, "")
    assert len(logged()) == 1
    assert tasks() == 0


# The end


async def test_an_idle_transport_sends_the_close_when_it_has_stopped_reading(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    transport.close(1000, "bye")
    await settle()
    assert server.log == ["reading stopped", CLOSE]
    assert user.calls == [("lost", 1000, "bye")]
    assert tasks() == 0


async def test_the_connection_is_not_lost_before_the_close_has_been_taken(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    server.stall()
    transport.close(1000, "bye")
    await settle()
    assert (server.under_way, user.calls) == (1, [])
    server.go_on()
    await settle()
    assert user.calls == [("lost", 1000, "bye")]


async def test_a_close_before_the_reader_has_run_is_a_close(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    transport.start(user, TransportSettings())
    transport.close(1000, "bye")
    await settle()
    assert server.log == ["reading stopped", CLOSE]
    assert user.calls == [("lost", 1000, "bye")]
    assert tasks() == 0


async def test_a_close_lets_go_of_a_message_that_is_under_way_and_says_so_at_once(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    server.stall()
    transport.write(PreparedFrame("1"))
    transport.write(PreparedFrame("2"))
    await settle()
    user.calls.clear()
    transport.close(3008, "slow")
    assert user.calls == [("lost", 3008, "slow")]
    await settle()
    assert (server.under_way, server.sent, tasks()) == (0, [], 0)


async def test_a_close_overtakes_what_the_server_has_not_been_given(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    transport.write(PreparedFrame("1"))
    transport.write(PreparedFrame("2"))
    transport.close(1000, "bye")
    await settle()
    assert server.sent == [CLOSE]
    assert user.calls == ["congested", "congested", ("lost", 1000, "bye")]
    assert tasks() == 0


@pytest.mark.parametrize("turns", [0, 20], ids=["before the close is sent", "while the close is sent"])
async def test_the_first_close_is_the_one_that_counts_and_nothing_is_written_after_it(
    server: Server, user: User, transport: AsgiTransport, turns: int
) -> None:
    await started(transport, user)
    server.stall()
    transport.close(1000, "bye")
    for _ in range(turns):
        await asyncio.sleep(0)
    transport.close(4000, "late")
    transport.write(PreparedFrame("late"))
    assert user.calls == []
    server.go_on()
    await settle()
    assert server.sent == [CLOSE]
    assert user.calls == [("lost", 1000, "bye")]


async def test_a_close_in_writable_comes_after_everything_that_was_written(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    user.reactions["writable"] = lambda: transport.close(1000, "bye")
    await started(transport, user)
    transport.write(PreparedFrame("1"))
    transport.write(PreparedFrame("2"))
    await settle()
    assert server.sent == [message("1"), message("2"), CLOSE]
    assert user.calls == ["congested", "congested", "writable", ("lost", 1000, "bye")]
    assert tasks() == 0


async def test_a_close_in_received_is_a_close(server: Server, user: User, transport: AsgiTransport) -> None:
    user.reactions["1"] = lambda: transport.close(1009, "message_bytes")
    await started(transport, user)
    server.arrive(text("1"))
    await settle()
    assert server.sent == [{"type": "websocket.close", "code": 1009, "reason": "message_bytes"}]
    assert user.calls == ["1", ("lost", 1009, "message_bytes")]
    assert tasks() == 0


async def test_an_abort_says_so_at_once_and_sends_nothing(server: Server, user: User, transport: AsgiTransport) -> None:
    await started(transport, user)
    server.stall()
    transport.write(PreparedFrame("1"))
    await settle()
    transport.abort()
    assert user.calls == ["congested", ("lost", 1006, "")]
    await settle()
    assert (server.sent, server.under_way, tasks()) == ([], 0, 0)


@pytest.mark.parametrize("taken", [False, True], ids=["before the close is sent", "while the close is sent"])
async def test_an_abort_ends_a_close(server: Server, user: User, transport: AsgiTransport, taken: bool) -> None:
    await started(transport, user)
    server.stall()
    transport.close(1000, "bye")
    if taken:
        await settle()
        assert server.under_way == 1
    transport.abort()
    assert user.calls == [("lost", 1006, "")]
    await settle()
    assert (server.sent, server.under_way, tasks()) == ([], 0, 0)


async def test_an_abort_from_a_timer_is_an_abort(server: Server, user: User, transport: AsgiTransport) -> None:
    await started(transport, user)
    asyncio.get_running_loop().call_soon(transport.abort)
    await settle()
    assert user.calls == [("lost", 1006, "")]
    assert tasks() == 0


def nothing(server: Server, transport: AsgiTransport) -> None:
    pass


def stuck(server: Server, transport: AsgiTransport) -> None:
    server.stall()
    transport.write(PreparedFrame("x"))


def paused(server: Server, transport: AsgiTransport) -> None:
    transport.pause_reading()


def peer_leaves(server: Server, transport: AsgiTransport) -> None:
    server.arrive(disconnect(code=1001))


def close(server: Server, transport: AsgiTransport) -> None:
    transport.close(1000, "bye")


def abort(server: Server, transport: AsgiTransport) -> None:
    transport.abort()


ENDS = [peer_leaves, close, abort]


@pytest.mark.parametrize("before", [nothing, stuck, paused])
@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
@pytest.mark.parametrize("turns", [0, 1, 2, 20])
async def test_lost_comes_once_and_nothing_after_it_however_the_ends_meet(
    server: Server,
    user: User,
    transport: AsgiTransport,
    before: Callable[..., None],
    first: Callable[..., None],
    second: Callable[..., None],
    turns: int,
) -> None:
    await started(transport, user)
    before(server, transport)
    await settle()
    first(server, transport)
    for _ in range(turns):
        await asyncio.sleep(0)
    second(server, transport)
    await settle()
    if peer_leaves in (first, second) and before is paused:
        transport.resume_reading()
        await settle()
    assert [call for call in user.calls if call[0] == "lost"] == user.calls[-1:]
    assert len(user.calls[-1]) == 3
    # Whatever comes now comes too late.
    calls, log = [*user.calls], [*server.log]
    server.go_on()
    server.arrive(text("late"))
    transport.write(PreparedFrame("late"))
    transport.pause_reading()
    transport.resume_reading()
    transport.close(4000, "late")
    transport.abort()
    await settle()
    assert (user.calls, server.log) == (calls, log)
    assert (tasks(), transport.buffered_bytes) == (0, 0)


@pytest.mark.parametrize("call", ["received", "congested", "writable", "lost"])
@pytest.mark.parametrize("act", [close, abort])
async def test_a_user_may_end_the_connection_in_any_of_its_calls(
    server: Server, user: User, transport: AsgiTransport, call: str, act: Callable[..., None]
) -> None:
    user.reactions["x" if call == "received" else call] = lambda: act(server, transport)
    await started(transport, user)
    if call == "lost":
        transport.abort()
    elif call == "received":
        server.arrive(text("x"))
    else:
        transport.write(PreparedFrame("y"))
    await settle()
    server.arrive(text("late"))
    await settle()
    code = ("lost", 1000, "bye") if act is close and call != "lost" else ("lost", 1006, "")
    assert user.calls[-1] == code
    assert user.calls.count(code) == 1
    assert tasks() == 0


async def test_an_abort_after_a_close_sends_no_close_although_both_are_made_in_writable(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    def close_and_abort() -> None:
        transport.close(1000, "bye")
        transport.abort()

    user.reactions["writable"] = close_and_abort
    await started(transport, user)
    transport.write(PreparedFrame("1"))
    await settle()
    assert server.sent == [message("1")]
    assert user.calls == ["congested", "writable", ("lost", 1006, "")]
    assert tasks() == 0


async def test_the_peer_may_leave_while_a_message_is_under_way(
    server: Server, user: User, transport: AsgiTransport
) -> None:
    await started(transport, user)
    server.stall()
    transport.write(PreparedFrame("1"))
    await settle()
    server.arrive(disconnect(code=1001, reason="away"))
    await settle()
    assert user.calls == ["congested", ("lost", 1001, "away")]
    assert (server.under_way, tasks()) == (0, 0)


async def test_nothing_happens_before_the_start(server: Server, user: User, transport: AsgiTransport) -> None:
    transport.write(PreparedFrame("1"))
    transport.close(1000, "bye")
    transport.abort()
    await settle()
    assert (server.log, server.asked, tasks(), transport.buffered_bytes) == ([], 0, 0, 0)


# With a connection of a hub


def connected(
    transport: AsgiTransport, limits: Limits = Limits(), outbox: Outbox = Outbox()
) -> tuple[CoreHub, ManualClock, CoreConnection]:
    """Return a hub with one open connection on `transport`."""
    clock = ManualClock()
    hub = CoreHub(clock=clock, admission=Admission(limits), options_of=lambda channel: PLAIN, call_soon=at_once)
    connection = CoreConnection(hub, Settings(limits, outbox, "reply", (hub.admission,)), None)
    hub.admit(connection)
    connection.open(transport)
    return hub, clock, connection


async def test_sends_and_publications_keep_their_order(server: Server, transport: AsgiTransport) -> None:
    hub, _, connection = connected(transport)
    for number in range(0, 10, 2):
        hub.publish_here(EVERYONE, str(number))
        await connection.send_frame(PreparedFrame(str(number + 1)))
    connection.end(1000, "bye")
    await connection.wait_closed()
    assert server.sent == [*(message(str(number)) for number in range(10)), CLOSE]
    assert tasks() == 0


@pytest.mark.parametrize("how", ["send", "publish"])
async def test_where_nobody_sees_the_endpoint_return_the_server_has_what_was_sent_before(
    server: Server, transport: AsgiTransport, how: str
) -> None:
    hub, _, connection = connected(transport)
    assert not connection.ends_unseen
    connection.ends_unseen = True
    for number in range(3):
        if how == "send":
            await connection.send_frame(PreparedFrame(str(number)))
        else:
            assert hub.publish_here(EVERYONE, str(number)), "the publisher is told to let the loop run"
            await asyncio.sleep(0)
        assert server.sent[number:] == [message(str(number))]
    connection.abort()


async def test_one_message_is_in_the_transport_and_the_others_in_the_outbox(
    server: Server, transport: AsgiTransport
) -> None:
    hub, _, connection = connected(transport)
    server.stall()
    for number in range(100):
        hub.publish_here(EVERYONE, str(number))
    await settle()
    assert transport.buffered_bytes == 1
    server.go_on()
    await settle()
    while connection.queued_bytes:
        await settle()
    assert server.sent == [message(str(number)) for number in range(100)]


@pytest.fixture
async def eagerly() -> None:
    """Let the loop's tasks begin at once."""
    if sys.version_info < (3, 12):
        pytest.skip("eager task factories came with Python 3.12")
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)


@pytest.mark.usefixtures("eagerly")
async def test_where_tasks_begin_at_once_nothing_is_sent_inside_a_fan_out_and_all_is_sent(
    server: Server, transport: AsgiTransport
) -> None:
    hub, _, connection = connected(transport)
    assert server.asked == 0
    for number in range(3):
        hub.publish_here(EVERYONE, str(number))
        assert len(server.sent) == number
        await settle()
        assert server.sent == [message(str(each)) for each in range(number + 1)]
    connection.end(4000, "bye")
    assert connection.phase is Phase.CLOSING
    await connection.wait_closed()
    await settle()
    assert server.sent[3:] == [{"type": "websocket.close", "code": 4000, "reason": "bye"}]
    assert tasks() == 0


async def test_a_client_that_is_slow_is_let_go_at_once(server: Server, transport: AsgiTransport) -> None:
    hub, _, connection = connected(transport, outbox=Outbox(bytes=1))
    server.stall()
    hub.publish_here(EVERYONE, "under way")
    await settle()
    hub.publish_here(EVERYONE, "queued")
    hub.publish_here(EVERYONE, "too much")
    assert connection.phase is Phase.CLOSED
    assert hub.statistics().closed == {3008: 1}
    await settle()
    assert (server.sent, tasks()) == ([], 0)


async def test_a_client_that_violates_a_limit_while_it_does_not_read_is_aborted_after_the_deadline(
    server: Server, transport: AsgiTransport
) -> None:
    hub, clock, connection = connected(transport, Limits(message_bytes=3))
    server.stall()
    hub.publish_here(EVERYONE, "under way")
    await settle()
    server.arrive(text("larger"), text("x"))
    await settle()
    assert connection.phase is Phase.CLOSING
    clock.advance(5)
    assert connection.phase is Phase.CLOSED
    await settle()
    assert (server.sent, tasks()) == ([], 0)
    assert hub.statistics().closed == {1009: 1}


async def test_a_client_that_violates_a_limit_gets_the_close_after_what_is_queued(
    server: Server, transport: AsgiTransport
) -> None:
    hub, _, connection = connected(transport, Limits(message_bytes=3))
    await settle()
    hub.publish_here(EVERYONE, "1")
    hub.publish_here(EVERYONE, "2")
    server.arrive(text("larger"))
    await connection.wait_closed()
    close_event = {"type": "websocket.close", "code": 1009, "reason": "message_bytes"}
    assert server.sent == [message("1"), message("2"), close_event]
    await settle()
    assert tasks() == 0


async def test_what_the_peer_sent_before_it_left_is_received_although_a_send_finds_it_gone(
    server: Server, transport: AsgiTransport
) -> None:
    hub, _, connection = connected(transport, Limits(messages_per_s=1, message_burst=100))
    server.arrive(*(text(str(number)) for number in range(200)), disconnect(code=1001))
    await settle()
    server.send_error = OSError("gone")
    hub.publish_here(EVERYONE, "x")
    await settle()
    assert connection.phase is Phase.CLOSED
    assert hub.statistics().violations == {}, "the peer kept to the rate: it was us who did not read"
    assert [await connection.take() for _ in range(64)] == [str(number) for number in range(64)]
