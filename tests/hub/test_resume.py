"""A connection joins a channel: what it has missed and what is live, in whatever order it all happens."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubbub.config import Outbox
from hubbub.errors import BrokerUnavailable
from hubbub.hub import exchange, interest
from hubbub.hub.connection import ConnectionEnded, CoreConnection
from hubbub.hub.line import LINGER_S, TAIL_BYTES
from hubbub.hub.message import Form, Message
from hubbub.model import Joined, Position
from hubbub.testing import ManualClock, RecordingTransport
from hubbub.wire.prepared import plain
from tests.hub.shared_store import Node, Store, options_of, turns

FULL = 65_536


@pytest.fixture(autouse=True)
def _tries_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interest, "FIRST_RETRY_S", 0)
    monkeypatch.setattr(interest, "LAST_RETRY_S", 0)
    monkeypatch.setattr(exchange, "RETRY_S", 0)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def nodes(store: Store) -> AsyncIterator[list[Node]]:
    nodes = [Node(store, ManualClock(1_000.0), options_of) for _ in range(2)]
    yield nodes
    for node in nodes:
        for gate in node.broker.gates.values():
            gate.set()
        node.broker.away.clear()
        node.clock.advance(LINGER_S)
        for connection in tuple(node.hub.connections.values()):
            connection.abort()
        await turns()
        assert node.leftovers() == {}
        await node.hub.close(1)


def at(offset: int, epoch: str = "e1") -> Position:
    return Position(epoch, offset)


def joining(
    node: Node,
    connection: CoreConnection,
    since: Position | None = None,
    form: Form = Form.PLAIN,
    channel: str = "room",
) -> asyncio.Task[Joined]:
    return asyncio.ensure_future(node.hub.join(connection, channel, since=since, form=form))


async def published(node: Node, count: int, first: int = 1) -> None:
    """Publish numbers, so that each says its own offset."""
    for number in range(first, first + count):
        await node.hub.publish("room", f"{number}")


async def listening(node: Node) -> tuple[CoreConnection, RecordingTransport]:
    connection, transport = await node.connected()
    await node.hub.join(connection, "room")
    return connection, transport


def numbers(transport: RecordingTransport) -> list[int]:
    return [int(data) for data in transport.written]


def told(transport: RecordingTransport) -> list[Any]:
    """Return what came in envelopes: offsets of publications, each of which says its own, and where the client is."""
    messages = [json.loads(data) for data in transport.written]
    assert all(message.get("data", str(message["offset"])) == str(message["offset"]) for message in messages)
    return [message["offset"] if "data" in message else message for message in messages]


def where(offset: int, recovered: bool = True, epoch: str = "e1") -> dict[str, object]:
    return {"channel": "room", "epoch": epoch, "offset": offset, "recovered": recovered}


# All is well


@pytest.mark.parametrize("is_heard", [True, False])
@pytest.mark.parametrize(("since", "missed"), [(0, 5), (2, 3), (4, 1), (5, 0)])
async def test_what_was_missed_comes_first_and_then_what_is_live(
    nodes: list[Node], since: int, missed: int, is_heard: bool
) -> None:
    ours, other = nodes
    if is_heard:
        await listening(ours)
    await published(other, 5)
    connection, transport = await ours.connected()
    assert await joining(ours, connection, at(since)) == Joined(True, missed, at(5))
    await published(other, 2, 6)
    await turns()
    assert numbers(transport) == list(range(since + 1, 8))
    assert ours.hub.statistics().resumed == 1


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize("since", [0, 3])
@pytest.mark.parametrize("is_heard", [True, False])
async def test_publications_go_on_at_every_point_of_a_join(
    nodes: list[Node], lag: int, since: int, is_heard: bool
) -> None:
    """Two publications, each after so many turns of the loop; nothing comes twice, late or not at all."""
    ours, other = nodes
    if is_heard:
        await listening(ours)
    await published(other, 3)
    done = 3
    ours.broker.lag = lag
    for before in range(0, 14):
        for between in range(0, 8, 1 + lag):
            connection, transport = await ours.connected()
            join = joining(ours, connection, at(since))
            await turns(before)
            await published(other, 1, done + 1)
            await turns(between)
            await published(other, 1, done + 2)
            done += 2
            await turns(60)
            assert join.result().recovered
            assert numbers(transport) == list(range(since + 1, done + 1)), (before, between)
            connection.end(1000)
            since = max(since, done - 5)


async def test_deliveries_are_late_at_every_point_of_a_join(nodes: list[Node]) -> None:
    ours, other = nodes
    await listening(ours)
    await published(other, 3)
    done = 3
    for before in range(14):
        for lost in range(3):
            ours.broker.lag = 2
            ours.broker.is_holding = True
            connection, transport = await ours.connected()
            await published(other, 3, done + 1)
            join = joining(ours, connection, at(done - 3))
            await turns(before)
            if lost:
                ours.broker.drop(lost)
            ours.broker.deliver()
            ours.broker.is_holding = False
            await turns(60)
            assert join.result().recovered
            assert numbers(transport) == list(range(done - 2, done + 4)), (before, lost)
            connection.end(1000)
            done += 3


async def test_many_that_come_back_share_one_reading(nodes: list[Node]) -> None:
    ours, other = nodes
    await listening(ours)
    await published(other, 5)
    ours.broker.lag = 3
    before = ours.broker.calls["read"]
    came = [await ours.connected() for _ in range(100)]
    joins = [joining(ours, connection, at(2)) for connection, _ in came]
    await turns(60)
    assert all(join.result() == Joined(True, 3, at(5)) for join in joins)
    assert all(numbers(transport) == [3, 4, 5] for _, transport in came)
    assert ours.broker.calls["read"] == before + 1
    connection, _ = await ours.connected()
    assert await joining(ours, connection, at(3)) == Joined(True, 2, at(5))
    assert ours.broker.calls["read"] == before + 1


async def test_a_client_may_be_ahead_of_this_hub(nodes: list[Node]) -> None:
    ours, other = nodes
    _, beside = await listening(ours)
    ours.broker.is_holding = True
    await published(other, 5)
    ours.broker.deliver(2)
    connection, transport = await ours.connected()
    assert await joining(ours, connection, at(4)) == Joined(True, 1, at(5))
    assert numbers(transport) == [5]
    assert numbers(beside) == [1, 2, 3, 4, 5]
    ours.broker.deliver()
    await published(other, 1, 6)
    ours.broker.deliver()
    await turns()
    assert numbers(transport) == [5, 6]


async def test_joining_again_with_a_position_sends_nothing_live_before_what_was_missed(nodes: list[Node]) -> None:
    ours, other = nodes
    connection, transport = await listening(ours)
    await published(other, 5)
    await turns()
    transport.written.clear()
    reading = ours.broker.gate("read")
    join = joining(ours, connection, at(2))
    await turns()
    await published(other, 2, 6)
    await turns()
    assert transport.written == []
    reading.set()
    assert await join == Joined(True, 5, at(7))
    await published(other, 1, 8)
    await turns()
    assert numbers(transport) == [3, 4, 5, 6, 7, 8]


class Together:
    """What is joined to one write, for a transport that takes it so."""

    encoding = staticmethod(plain)

    def __init__(self, transport: RecordingTransport) -> None:
        self.write_encoded = transport.written.append


async def test_what_was_published_before_a_change_of_the_form_is_sent_in_the_old_one(nodes: list[Node]) -> None:
    ours, _ = nodes
    connection, transport = await listening(ours)
    transport.sharing = Together(transport)
    ours.hub.hand_on("room", Message.of("1"), at(1), ())
    ours.hub.hear(connection, "room", Form.ENVELOPE, Joined(True, 0, None))
    ours.hub.hand_on("room", Message.of("2"), at(2), ())
    await turns()
    assert transport.written == [
        b"\x81\x011",
        b'\x815{"channel":"room","epoch":"e1","offset":2,"data":"2"}',
    ]


# Who gets the envelope is told where it is


@pytest.mark.parametrize("is_heard", [True, False])
@pytest.mark.parametrize(("since", "missed"), [(None, []), (0, [1, 2, 3]), (2, [3]), (3, [])])
async def test_where_a_client_is_comes_after_what_it_has_missed_and_before_what_is_live(
    nodes: list[Node], since: int | None, missed: list[int], is_heard: bool
) -> None:
    ours, other = nodes
    if is_heard:
        await listening(ours)
    await published(other, 3)
    connection, transport = await ours.connected()
    before = ours.hub.counters.deliveries
    joined = await joining(ours, connection, None if since is None else at(since), Form.ENVELOPE)
    assert joined == Joined(True, len(missed), at(3))
    assert told(transport) == [*missed, where(3)]
    assert ours.hub.counters.deliveries == before + len(missed) + 1
    await published(other, 2, 4)
    await turns()
    assert told(transport) == [*missed, where(3), 4, 5]


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize("is_resumed", [True, False])
@pytest.mark.parametrize("is_heard", [True, False])
async def test_where_a_client_is_holds_whatever_is_published_meanwhile(
    nodes: list[Node], lag: int, is_resumed: bool, is_heard: bool
) -> None:
    ours, other = nodes
    if is_heard:
        await listening(ours)
    await published(other, 3)
    done = 3
    ours.broker.lag = lag
    for before in range(0, 14):
        for between in range(0, 8, 1 + lag):
            connection, transport = await ours.connected()
            since = done - 2
            join = joining(ours, connection, at(since) if is_resumed else None, Form.ENVELOPE)
            await turns(before)
            await published(other, 1, done + 1)
            await turns(between)
            await published(other, 1, done + 2)
            await turns(60)
            here = join.result().position
            assert here is not None
            missed = range(since + 1, here.offset + 1) if is_resumed else ()
            assert join.result() == Joined(True, len(missed), here)
            done += 2
            live = range(here.offset + 1, done + 1)
            assert told(transport) == [*missed, where(here.offset), *live], (before, between)
            connection.end(1000)


@pytest.mark.parametrize("since", [at(3, "forged"), at(6), at(2)], ids=["epoch", "6", "2"])
async def test_who_has_lost_something_is_told_at_once(nodes: list[Node], store: Store, since: Position) -> None:
    ours, other = nodes
    await published(other, 5)
    store.trim("room", 2)
    connection, transport = await ours.connected()
    assert await joining(ours, connection, since, Form.ENVELOPE) == Joined(False, 0, at(5))
    assert told(transport) == [where(5, False)]
    await published(other, 1, 6)
    await turns()
    assert told(transport) == [where(5, False), 6]


async def test_a_history_of_nothing_has_a_position_too(nodes: list[Node]) -> None:
    connection, transport = await nodes[0].connected()
    assert await joining(nodes[0], connection, form=Form.ENVELOPE) == Joined(True, 0, at(0))
    assert told(transport) == [where(0)]


@pytest.mark.parametrize(
    ("form", "channel"), [(Form.ENVELOPE, "plain"), (Form.PLAIN, "room"), (Form.EVENTS, "room"), (Form.SILENT, "room")]
)
async def test_nobody_else_is_told_anything(nodes: list[Node], form: Form, channel: str) -> None:
    connection, transport = await nodes[0].connected()
    await joining(nodes[0], connection, form=form, channel=channel)
    await turns()
    assert transport.written == []


async def test_joining_again_tells_where_a_client_is_if_that_begins_anything(nodes: list[Node]) -> None:
    ours, other = nodes
    connection, transport = await ours.connected()
    await joining(ours, connection, form=Form.ENVELOPE)
    await published(other, 2)
    await turns()
    assert told(transport) == [where(0), 1, 2]
    assert await joining(ours, connection, form=Form.ENVELOPE) == Joined(True, 0, at(2))
    assert told(transport) == [where(0), 1, 2]
    assert await joining(ours, connection, at(1), Form.ENVELOPE) == Joined(True, 1, at(2))
    assert told(transport) == [where(0), 1, 2, 2, where(2)]
    await joining(ours, connection)
    transport.written.clear()
    await joining(ours, connection, form=Form.ENVELOPE)
    assert told(transport) == [where(2)]
    ours.hub.leave(connection, "room")
    await joining(ours, connection, form=Form.ENVELOPE)
    assert told(transport) == [where(2), where(2)]


async def test_what_was_published_before_on_another_channel_comes_before(nodes: list[Node]) -> None:
    ours, _ = nodes
    await listening(ours)
    connection, transport = await ours.connected()
    await joining(ours, connection, channel="plain")
    transport.sharing = Together(transport)
    ours.hub.hand_on("plain", Message.of("a"), None, ())
    await ours.hub.join(connection, "room", form=Form.ENVELOPE)
    ours.hub.hand_on("plain", Message.of("b"), None, ())
    await turns()
    first, here, last = transport.written
    assert (first, last) == (b"\x81\x01a", b"\x81\x01b")
    assert json.loads(here) == where(0)


async def test_one_that_is_behind_is_told_in_its_turn(nodes: list[Node]) -> None:
    ours, other = nodes
    await listening(ours)
    await published(other, 3)
    connection, transport = await ours.connected()
    transport.buffered_bytes = FULL
    assert await joining(ours, connection, at(0), Form.ENVELOPE) == Joined(True, 3, at(3))
    await published(other, 1, 4)
    await turns()
    transport.buffered_bytes = 0
    assert told(transport) == [1, 2, 3, where(3), 4]
    assert connection.queued_bytes == 0


@pytest.mark.parametrize("was_heard", [True, False])
async def test_one_that_has_no_room_for_it_is_closed_and_leaves_nothing_behind(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch, was_heard: bool
) -> None:
    ours, other = nodes
    await published(other, 1)
    witness = Gone()
    monkeypatch.setattr(ours.hub._witness, "left", witness.left)
    connection, transport = await ours.connected(outbox=Outbox(bytes=300))
    if was_heard:
        await joining(ours, connection)
    transport.buffered_bytes = FULL
    with pytest.raises(ConnectionEnded) as ended:
        await joining(ours, connection, at(0), Form.ENVELOPE)
    assert ended.value.code == 3008
    assert transport.closed == (3008, "slow")
    assert witness.left_by == [connection.id]
    assert ours.hub.counters.closed == {3008: 1}
    await turns()
    assert ours.leftovers() == {}


# Nothing is sent in part


@pytest.mark.parametrize(
    "since", [at(3, "forged"), at(0, "forged"), at(6), at(2**63 - 1), at(2)], ids=["epoch", "epoch 0", "6", "max", "2"]
)
@pytest.mark.parametrize("is_heard", [True, False])
async def test_what_history_does_not_reach_is_not_sent_in_part(
    nodes: list[Node], store: Store, since: Position, is_heard: bool
) -> None:
    ours, other = nodes
    if is_heard:
        await listening(ours)
    await published(other, 5)
    store.trim("room", 2)
    connection, transport = await ours.connected()
    assert await joining(ours, connection, since) == Joined(False, 0, at(5))
    await published(other, 1, 6)
    await turns()
    assert numbers(transport) == [6]
    assert ours.hub.statistics().not_resumed == 1


async def test_a_history_may_end_while_it_is_read(nodes: list[Node], store: Store) -> None:
    ours, other = nodes
    await listening(ours)
    await published(other, 5)
    reading = ours.broker.gate("read")
    connection, transport = await ours.connected()
    join = joining(ours, connection, at(2))
    await turns()
    store.begin_anew("room")
    await published(other, 1, 1)
    reading.set()
    await turns()
    assert join.result() == Joined(False, 0, Position("e2", 1))
    await published(other, 1, 2)
    await turns()
    assert numbers(transport) in ([2], [1, 2])


@pytest.mark.parametrize("payload", [b"", b"j  \n{"])
@pytest.mark.parametrize("is_heard", [True, False])
@pytest.mark.parametrize("is_last", [True, False])
async def test_what_cannot_be_read_holds_nobody_up(
    nodes: list[Node], store: Store, payload: bytes, is_heard: bool, is_last: bool
) -> None:
    ours, other = nodes
    await published(other, 2)
    if is_heard:
        connection, _ = await ours.connected()
        await joining(ours, connection, at(0))  # and so there is a tail
    store.append("room", payload)
    if not is_last:
        await published(other, 1, 4)
    connection, transport = await ours.connected()
    joined = await joining(ours, connection, at(2))
    expected = [] if is_last else [4]
    assert joined == Joined(True, len(expected), at(3 if is_last else 4))
    assert numbers(transport) == expected


# The broker is away


async def test_a_join_with_a_position_fails_while_the_broker_is_away(nodes: list[Node]) -> None:
    ours, other = nodes
    await published(other, 3)
    for call in ("subscribe", "read"):
        ours.broker.away = {call}
        connection, transport = await ours.connected()
        with pytest.raises(BrokerUnavailable):
            await joining(ours, connection, at(1))
        assert not ours.hub.hears(connection, "room")
        await turns()
        ours.broker.away = set()
        await turns()
        assert ours.leftovers() == {}
        assert await joining(ours, connection, at(1)) == Joined(True, 2, at(3))
        assert numbers(transport) == [2, 3]
        ours.hub.leave(connection, "room")
        await turns()


@pytest.mark.parametrize("call", ["subscribe", "read"])
async def test_a_join_without_a_position_waits_for_no_broker_and_is_told_of_the_loss(
    nodes: list[Node], call: str
) -> None:
    ours, other = nodes
    ours.broker.away = {call}
    connection, transport = await ours.connected()
    ours.broker.away = {call}
    assert await joining(ours, connection, form=Form.ENVELOPE) == Joined(False, 0, None)
    assert transport.written == []
    await published(other, 2)
    ours.broker.away = set()
    await turns()
    await published(other, 1, 3)
    await turns()
    first, *rest = [json.loads(data) for data in transport.written]
    assert first == {"channel": "room", "epoch": "e1", "offset": 2, "recovered": False}
    assert [message["offset"] for message in rest] == [3]
    assert ours.hub.statistics().unrecovered == 1


@pytest.mark.parametrize(("channel", "position"), [("room", at(3)), ("plain", None)])
async def test_a_join_without_a_position_that_need_not_wait_for_the_broker_is_as_any(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch, channel: str, position: Position | None
) -> None:
    async def unready(_: str) -> None:
        raise BrokerUnavailable("away, but for what is known")

    ours, other = nodes
    await listening(ours)
    await published(other, 3)
    monkeypatch.setattr(ours.hub.exchange, "ready", unready)
    connection, transport = await ours.connected()
    joined = await joining(ours, connection, form=Form.ENVELOPE, channel=channel)
    assert joined == Joined(True, 0, position)
    assert told(transport) == ([] if position is None else [where(3)])
    assert ours.hub.exchange.line("room").is_incomplete is False  # type: ignore[union-attr]  # it is heard


async def test_nobody_is_told_of_a_loss_twice(nodes: list[Node]) -> None:
    ours, other = nodes
    ours.broker.away = {"subscribe"}
    connection, transport = await ours.connected()
    await joining(ours, connection, form=Form.ENVELOPE)
    ours.broker.away = set()
    await turns()
    await published(other, 1)
    ours.hub.exchange.gap(None)
    await turns()
    assert [json.loads(data).get("recovered") for data in transport.written] == [False, None]


async def test_a_client_that_knows_the_new_epoch_gets_nothing_again_where_it_is_not_known_yet(
    nodes: list[Node], store: Store
) -> None:
    ours, other = nodes
    await listening(ours)
    await published(other, 2)
    ours.broker.is_holding = True
    store.go_on("room", 2)
    await published(other, 2, first=3)
    ours.broker.drop(2)
    connection, transport = await ours.connected()
    assert await joining(ours, connection, at(3, "e2")) == Joined(True, 1, at(4, "e2"))
    await turns()
    assert numbers(transport) == [4]


async def test_a_fault_of_the_broker_lets_no_join_wait_for_ever(
    nodes: list[Node], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def faulty(*_: Any, **__: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(nodes[0].broker, "read", faulty)
    connection, _ = await nodes[0].connected()
    joined = await asyncio.wait_for(joining(nodes[0], connection), 5)
    assert not joined.recovered
    assert "a task of the hub has failed" in caplog.text
    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(joining(nodes[0], connection, at(0)), 5)


# The end of a join before it is done

GATES = ["subscribe", "subscribe answer", "read", "read answer"]


async def stopped_at(node: Node, gate: str, since: Position | None) -> tuple[CoreConnection, asyncio.Task[Joined]]:
    """Return a connection whose join waits at a gate of the broker."""
    connection, _ = await node.connected()
    node.broker.gate(gate)
    join = joining(node, connection, since)
    await turns()
    assert not join.done()
    assert node.hub.channels_of(connection) == {"room"}
    return connection, join


async def gone_on(node: Node, gate: str) -> None:
    node.broker.gates.pop(gate).set()
    await turns()
    assert node.leftovers() == {}


@pytest.mark.parametrize("since", [None, at(1)])
@pytest.mark.parametrize("gate", GATES)
async def test_a_join_that_is_cancelled_leaves_nothing_behind(
    nodes: list[Node], gate: str, since: Position | None
) -> None:
    await published(nodes[1], 3)
    connection, join = await stopped_at(nodes[0], gate, since)
    join.cancel()
    await turns()
    assert join.cancelled()
    assert not nodes[0].hub.hears(connection, "room")
    await gone_on(nodes[0], gate)


@pytest.mark.parametrize("since", [None, at(1)])
@pytest.mark.parametrize("gate", GATES)
async def test_a_connection_that_is_lost_while_it_joins_leaves_nothing_behind(
    nodes: list[Node], gate: str, since: Position | None
) -> None:
    await published(nodes[1], 3)
    connection, join = await stopped_at(nodes[0], gate, since)
    connection.abort()
    await gone_on(nodes[0], gate)
    with pytest.raises(ConnectionEnded):
        await join


@pytest.mark.parametrize("since", [None, at(1)])
@pytest.mark.parametrize("gate", GATES)
async def test_whoever_leaves_while_it_joins_has_not_joined(
    nodes: list[Node], gate: str, since: Position | None
) -> None:
    await published(nodes[1], 3)
    connection, join = await stopped_at(nodes[0], gate, since)
    nodes[0].hub.leave(connection, "room")
    assert not nodes[0].hub.hears(connection, "room")
    await gone_on(nodes[0], gate)
    assert await join == Joined(False, 0, None)
    assert not nodes[0].hub.hears(connection, "room")


@pytest.mark.parametrize("gate", GATES)
async def test_whoever_leaves_while_it_joins_can_join_again(nodes: list[Node], gate: str) -> None:
    ours, other = nodes
    await published(other, 3)
    connection, join = await stopped_at(ours, gate, at(1))
    ours.hub.leave(connection, "room")
    again = joining(ours, connection, at(0), Form.ENVELOPE)
    await turns()
    ours.broker.gates.pop(gate).set()
    await turns()
    assert await join == Joined(False, 0, None)
    assert await again == Joined(True, 3, at(3))
    await published(other, 1, 4)
    await turns()
    assert ours.hub.channels_of(connection) == {"room"}
    written = connection.transport.written  # type: ignore[attr-defined]
    assert [json.loads(data)["offset"] for data in written] == [1, 2, 3, 3, 4]


async def test_two_joins_at_a_time_are_refused(nodes: list[Node]) -> None:
    connection, join = await stopped_at(nodes[0], "read", None)
    with pytest.raises(RuntimeError, match="joining 'room' already"):
        await nodes[0].hub.join(connection, "room")
    nodes[0].broker.gates.pop("read").set()
    assert (await join).recovered


async def test_one_that_gives_up_disturbs_nobody_who_waits_for_the_same(nodes: list[Node]) -> None:
    ours, other = nodes
    await listening(ours)
    await published(other, 3)
    first, join = await stopped_at(ours, "read", at(1))
    connection, transport = await ours.connected()
    second = joining(ours, connection, at(1))
    await turns()
    join.cancel()
    first.abort()
    await turns()
    ours.broker.gates.pop("read").set()
    assert await second == Joined(True, 2, at(3))
    assert numbers(transport) == [2, 3]


# Slow clients


async def test_a_slow_client_gets_all_as_it_reads(nodes: list[Node]) -> None:
    ours, other = nodes
    await listening(ours)
    for number in range(1, 41):
        await other.hub.publish("room", f"{number:0200}")
    connection, transport = await ours.connected(outbox=Outbox(bytes=4_000))
    transport.buffered_bytes = FULL
    join = joining(ours, connection, at(0))
    await turns()
    assert not join.done()
    for number in range(41, 51):
        await other.hub.publish("room", f"{number:0200}")
    while not join.done():
        transport.buffered_bytes = 0
        await turns(3)
        transport.buffered_bytes = FULL
    transport.buffered_bytes = 0
    await turns()
    assert join.result() == Joined(True, 50, at(50))
    assert numbers(transport) == list(range(1, 51))


async def test_a_client_that_history_leaves_behind_is_closed_as_slow(nodes: list[Node], store: Store) -> None:
    ours, other = nodes
    await listening(ours)
    await published(other, 3)
    connection, transport = await ours.connected(outbox=Outbox(bytes=1))
    transport.buffered_bytes = FULL
    join = joining(ours, connection, at(0))
    await turns()
    await other.hub.publish("room", b"x" * (TAIL_BYTES - 1_000))
    await other.hub.publish("room", b"x" * (TAIL_BYTES - 1_000))
    store.trim("room", 1)
    for _ in range(10):
        transport.buffered_bytes = 0
        await turns(3)
        transport.buffered_bytes = FULL
    with pytest.raises(ConnectionEnded):
        await join
    assert transport.closed == (3008, "slow")


async def test_a_client_that_does_not_read_is_closed_in_the_middle(nodes: list[Node]) -> None:
    ours, other = nodes
    await listening(ours)
    await published(other, 3)
    connection, transport = await ours.connected(outbox=Outbox(bytes=1))
    transport.buffered_bytes = FULL
    join = joining(ours, connection, at(0))
    await turns()
    ours.clock.advance(60)
    with pytest.raises(ConnectionEnded):
        await join
    assert transport.closed == (3008, "slow")


async def test_nothing_is_kept_when_all_have_caught_up(nodes: list[Node]) -> None:
    ours, other = nodes
    await listening(ours)
    await published(other, 5)
    connection, _ = await ours.connected()
    await joining(ours, connection, at(0))
    line = ours.hub.exchange.line("room")
    assert line is not None
    assert line._tail
    ours.clock.advance(LINGER_S)
    assert not line._tail
    assert line._tail_bytes == 0
    await published(other, 5, 6)
    assert not line._tail
    assert not line._waiting


class Gone:
    """A witness that counts who has left."""

    def __init__(self) -> None:
        self.left_by: list[str] = []

    def left(self, connection: CoreConnection, channel: str) -> None:
        self.left_by.append(connection.id)


@pytest.mark.parametrize("how", ["fails", "leaves", "ends", "is cancelled"])
async def test_one_that_hears_and_does_not_come_to_join_again_has_left_once(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    ours, other = nodes
    connection, _ = await listening(ours)
    witness = Gone()
    monkeypatch.setattr(ours.hub._witness, "left", witness.left)
    await published(other, 3)
    reading = ours.broker.gate("read")
    join = joining(ours, connection, at(1))
    await turns()
    match how:
        case "fails":
            ours.broker.away = {"read"}
        case "leaves":
            ours.hub.leave(connection, "room")
        case "ends":
            connection.end(1000)
        case _:
            join.cancel()
    reading.set()
    await turns()
    assert join.done()
    assert witness.left_by == [connection.id]
    assert not ours.hub.hears(connection, "room")
    await asyncio.gather(join, return_exceptions=True)
