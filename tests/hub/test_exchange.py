"""Between hubs and their broker, of which the test says what it delivers, loses and refuses."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub.errors import BrokerUnavailable
from hubbub.hub import exchange, interest
from hubbub.hub.hub import CoreHub
from hubbub.hub.message import Disconnect, Form, Message, pack
from hubbub.model import Position
from hubbub.testing import ManualClock, RecordingTransport
from tests.hub.shared_store import Node, Store, options_of, turns


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
    nodes = [Node(store, ManualClock(1_000.0), options_of) for _ in range(3)]
    yield nodes
    for node in nodes:
        for broker_gate in node.broker.gates.values():
            broker_gate.set()
        await node.hub.close(1)


def offsets(transport: RecordingTransport) -> list[int]:
    return [message["offset"] for message in envelopes(transport)]


def envelopes(transport: RecordingTransport) -> list[dict[str, Any]]:
    return [json.loads(data) for data in transport.written]


async def listening(node: Node, channel: str = "room", form: Form = Form.PLAIN) -> tuple[Any, RecordingTransport]:
    """Return a connection that hears a channel, and what it is sent from now on."""
    connection, transport = await node.connected()
    await node.hub.join(connection, channel, form=form)
    transport.written.clear()  # where it is
    return connection, transport


# Out and back


@pytest.mark.parametrize("channel", ["room", "plain"])
async def test_all_hubs_deliver_in_the_brokers_order(nodes: list[Node], channel: str) -> None:
    transports = [(await listening(node, channel))[1] for node in nodes]
    for number in range(3):
        await asyncio.gather(*(node.hub.publish(channel, f"{number} of {n}") for n, node in enumerate(nodes)))
    await turns()
    first, second, third = (transport.written for transport in transports)
    assert first == second == third
    assert len(first) == 9


@pytest.mark.parametrize("channel", ["room", "plain"])
async def test_publish_returns_when_it_was_delivered_here(nodes: list[Node], channel: str) -> None:
    ours = nodes[0]
    _, transport = await listening(ours, channel)
    ours.broker.is_holding = True
    published = asyncio.ensure_future(ours.hub.publish(channel, "hi"))
    await turns()
    assert not published.done()
    ours.broker.deliver()
    await turns()
    assert published.done()
    assert transport.written == ["hi"]


@pytest.mark.parametrize("channel", ["room", "plain"])
async def test_publish_from_a_hub_that_does_not_listen_waits_for_nothing(nodes: list[Node], channel: str) -> None:
    _, transport = await listening(nodes[1], channel)
    nodes[1].broker.is_holding = True
    await asyncio.wait_for(nodes[0].hub.publish(channel, "hi"), 5)
    nodes[1].broker.deliver()
    await turns()
    assert transport.written == ["hi"]


@pytest.mark.parametrize("is_released_first", [True, False])
async def test_publish_does_not_wait_for_a_channel_that_the_last_one_leaves(
    nodes: list[Node], is_released_first: bool
) -> None:
    ours = nodes[0]
    connection, _ = await listening(ours, "plain")
    ours.broker.is_holding = True
    ours.broker.gate("unsubscribe")
    if is_released_first:
        ours.hub.leave(connection, "plain")
        published = asyncio.ensure_future(ours.hub.publish("plain", "hi"))
    else:
        published = asyncio.ensure_future(ours.hub.publish("plain", "hi"))
        await turns()
        ours.hub.leave(connection, "plain")
    await turns()
    assert published.done()
    ours.broker.gates["unsubscribe"].set()


async def test_publish_does_not_wait_for_ever(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "DELIVERY_S", 0)
    await listening(nodes[0], "plain")
    await listening(nodes[0], "room")
    nodes[0].broker.is_holding = True
    await asyncio.wait_for(nodes[0].hub.publish("plain", "hi"), 5)
    await asyncio.wait_for(nodes[0].hub.publish("room", "hi"), 5)
    assert not nodes[0].hub.exchange._under_way


async def test_a_gap_ends_the_waiting_for_what_may_be_lost(nodes: list[Node]) -> None:
    await listening(nodes[0], "plain")
    nodes[0].broker.is_holding = True
    published = asyncio.ensure_future(nodes[0].hub.publish("plain", "hi"))
    await turns()
    nodes[0].hub.exchange.gap(None)
    await turns()
    assert published.done()


@pytest.mark.parametrize(("channel", "call"), [("room", "append"), ("plain", "publish")])
async def test_what_the_broker_does_not_take_is_told(nodes: list[Node], channel: str, call: str) -> None:
    _, transport = await listening(nodes[0], channel)
    nodes[0].broker.away.add(call)
    with pytest.raises(BrokerUnavailable):
        await nodes[0].hub.publish(channel, "hi")
    assert transport.written == []
    assert not nodes[0].hub.exchange._under_way


async def test_a_connection_is_excluded_on_whatever_hub_it_is(nodes: list[Node]) -> None:
    joined = [await listening(node, "plain") for node in nodes]
    for number, (connection, _) in enumerate(joined):
        await nodes[number].hub.publish("plain", f"{number}", [connection])
    await nodes[1].hub.publish("plain", "3", [joined[0][0], joined[2][0]])
    await turns()
    assert [transport.written for _, transport in joined] == [["1", "2"], ["0", "2", "3"], ["0", "1"]]


async def test_a_user_is_disconnected_on_all_hubs(nodes: list[Node]) -> None:
    ann = [await node.connected("ann") for node in nodes]
    bob = [await node.connected("bob") for node in nodes]
    await nodes[0].hub.disconnect_user("ann", 4000, "gone")
    await turns()
    assert [transport.closed for _, transport in ann] == [(4000, "gone")] * 3
    assert [transport.closed for _, transport in bob] == [None] * 3


async def test_an_order_to_disconnect_holds_on_reserved_channels_only(nodes: list[Node], store: Store) -> None:
    _, transport = await listening(nodes[0])
    _, other = await listening(nodes[0], "plain")
    store.append("room", pack(Disconnect(4000, "gone")))
    store.publish("plain", pack(Disconnect(4000, "gone")), None)
    await nodes[0].hub.publish("room", "hi")
    await turns()
    assert transport.closed is other.closed is None
    assert transport.written == ["hi"]


async def test_nothing_is_asked_of_a_broker_that_has_not_started(store: Store) -> None:
    node = Node(store, ManualClock(), options_of)
    begin = asyncio.Event()
    start = node.broker.start

    async def slowly(sink: Any) -> None:
        await begin.wait()
        await start(sink)

    node.broker.start = slowly  # type: ignore[method-assign]
    connecting = [asyncio.ensure_future(node.connected(f"user{number}")) for number in range(3)]
    await turns()
    assert not any(task.done() for task in connecting)
    assert not node.broker.calls
    begin.set()
    await asyncio.gather(*connecting)
    await node.hub.close(1)


# What is missing


async def test_a_gap_is_closed_before_anything_newer_is_sent(nodes: list[Node], store: Store) -> None:
    ours = nodes[0]
    _, transport = await listening(ours, form=Form.ENVELOPE)
    ours.broker.is_holding = True
    reading = ours.broker.gate("read answer")
    for number in range(5):
        await nodes[1].hub.publish("room", number)
    ours.broker.deliver(1)
    ours.broker.drop(2)
    ours.broker.deliver(1)
    await turns()
    assert offsets(transport) == [1]
    await nodes[1].hub.publish("room", 5)
    ours.broker.deliver()
    await turns()
    assert offsets(transport) == [1]
    reading.set()
    await turns()
    assert [(message["offset"], message["data"]) for message in envelopes(transport)] == [
        (number + 1, number) for number in range(6)
    ]


async def test_what_comes_twice_is_sent_once(nodes: list[Node]) -> None:
    _, transport = await listening(nodes[0])
    nodes[0].broker.is_holding = True
    for number in range(3):
        await nodes[1].hub.publish("room", f"{number}")
    nodes[0].broker.deliver(times=3)
    await turns()
    assert transport.written == ["0", "1", "2"]
    assert nodes[0].hub.statistics().history_reads == 1  # the first position


async def test_the_last_publications_before_a_gap_are_found_when_it_is_told(nodes: list[Node]) -> None:
    _, transport = await listening(nodes[0])
    nodes[0].broker.is_holding = True
    for number in range(3):
        await nodes[1].hub.publish("room", f"{number}")
    nodes[0].broker.drop(3)
    nodes[0].hub.exchange.gap(None)
    await turns()
    assert transport.written == ["0", "1", "2"]
    assert nodes[0].hub.statistics().gaps == 1
    assert nodes[0].hub.statistics().unrecovered == 0


async def test_a_gap_that_cannot_be_read_is_read_again(nodes: list[Node]) -> None:
    _, transport = await listening(nodes[0])
    nodes[0].broker.is_holding = True
    nodes[0].broker.away.add("read")
    await nodes[1].hub.publish("room", "0")
    nodes[0].broker.drop()
    nodes[0].hub.exchange.gap(["room"])
    await turns()
    assert transport.written == []
    assert nodes[0].broker.calls["read"] > 3
    nodes[0].broker.away.clear()
    await turns()
    assert transport.written == ["0"]


async def test_a_loss_is_told_to_those_whose_form_can_say_it(nodes: list[Node], store: Store) -> None:
    _, plain = await listening(nodes[0])
    _, envelope = await listening(nodes[0], form=Form.ENVELOPE)
    _, event = await listening(nodes[0], form=Form.EVENTS)
    nodes[0].broker.is_holding = True
    for number in range(5):
        await nodes[1].hub.publish("room", f"{number}")
    nodes[0].broker.drop(5)
    store.trim("room", 2)
    nodes[0].hub.exchange.gap(["room"])
    await turns()
    assert plain.written == ["3", "4"]
    assert envelopes(envelope)[0] == {"channel": "room", "epoch": "e1", "offset": 3, "recovered": False}
    assert offsets(envelope) == [3, 4, 5]
    assert event.written[0] == "id: e1:3\nevent: reset\ndata: e1:3\n\n"
    assert nodes[0].hub.statistics().unrecovered == 1


async def test_a_history_that_begins_anew_is_delivered_from_its_beginning(nodes: list[Node], store: Store) -> None:
    """The data of a quiet channel end some time; who hears it misses nothing by that."""
    _, plain = await listening(nodes[0])
    _, envelope = await listening(nodes[0], form=Form.ENVELOPE)
    await nodes[1].hub.publish("room", "old")
    store.begin_anew("room")
    await nodes[1].hub.publish("room", "new")
    await turns()
    await nodes[0].hub.publish("room", "newer")
    await turns()
    assert plain.written == ["old", "new", "newer"]
    assert [(message["epoch"], message["offset"], message.get("recovered")) for message in envelopes(envelope)] == [
        ("e1", 1, None),
        ("e2", 0, False),
        ("e2", 1, None),
        ("e2", 2, None),
    ]


@pytest.mark.parametrize("kept", [2, 1])
async def test_a_history_that_goes_on_in_a_new_epoch_is_not_delivered_again(
    nodes: list[Node], store: Store, kept: int
) -> None:
    """A Redis that restarts has the old publications, or some of them, in the new epoch too."""
    _, envelope = await listening(nodes[0], form=Form.ENVELOPE)
    for text in ("one", "two"):
        await nodes[1].hub.publish("room", text)
    store.go_on("room", kept)
    nodes[0].hub.exchange.gap(None)
    await turns()
    for text in ("three", "four"):
        await nodes[1].hub.publish("room", text)
    await turns()
    assert [(message["offset"], message.get("data")) for message in envelopes(envelope)] == [
        (1, "one"),
        (2, "two"),
        (kept, None),
        (kept + 1, "three"),
        (kept + 2, "four"),
    ]


async def test_what_was_published_in_a_new_epoch_before_it_was_noticed_is_delivered(
    nodes: list[Node], store: Store
) -> None:
    _, plain = await listening(nodes[0])
    await nodes[1].hub.publish("room", "one")
    nodes[0].broker.is_holding = True
    store.go_on("room", 1)
    await nodes[1].hub.publish("room", "two")
    nodes[0].broker.drop(1)
    nodes[0].hub.exchange.gap(None)
    await turns()
    assert plain.written == ["one", "two"]


async def test_a_history_that_ends_in_this_process_is_delivered_from_its_beginning() -> None:
    clock = ManualClock(1_000.0)
    node = Node(Store(), clock, options_of)
    hub = CoreHub(
        clock=clock,
        admission=node.hub.admission,
        options_of=options_of,
        call_soon=asyncio.get_running_loop().call_soon,
    )
    node.hub = hub
    _, transport = await listening(node)
    await hub.publish("room", "old")
    clock.advance(100_000)
    await hub.publish("room", "new")
    await turns()
    assert transport.written == ["old", "new"]
    await hub.close(1)


async def test_nobody_gets_what_was_read_for_those_who_have_left(nodes: list[Node]) -> None:
    ours = nodes[0]
    connection, _ = await listening(ours)
    ours.broker.is_holding = True
    for number in range(3):
        await nodes[1].hub.publish("room", f"{number}")
    ours.broker.drop(3)
    reading = ours.broker.gate("read answer")
    ours.hub.exchange.gap(["room"])
    await turns()
    ours.hub.leave(connection, "room")
    await turns()
    del ours.broker.gates["read answer"]
    _, transport = await listening(ours)
    reading.set()
    await turns()
    assert transport.written == []
    await nodes[1].hub.publish("room", "3")
    ours.broker.deliver()
    await turns()
    assert transport.written == ["3"]


# What cannot be read

UNREADABLE = [b"", b"hello", b"t  \n\xff", b"j  \n{", b"x  \nhello", b"d  \n" + b"[" * 100_000]


@pytest.mark.parametrize("payload", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_what_cannot_be_read_is_counted_and_disturbs_nobody(
    nodes: list[Node], store: Store, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    _, room = await listening(nodes[0])
    _, plain = await listening(nodes[0], "plain")
    store.append("room", payload)
    store.publish("plain", payload, None)
    await nodes[1].hub.publish("room", "hi")
    await nodes[1].hub.publish("plain", "hi")
    await turns()
    assert room.written == plain.written == ["hi"]
    assert nodes[0].hub.statistics().malformed == 2
    assert nodes[0].hub.statistics().history_reads == 1
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_what_cannot_be_read_in_a_history_is_left_out(nodes: list[Node], store: Store) -> None:
    _, transport = await listening(nodes[0])
    nodes[0].broker.is_holding = True
    for payload in (pack(Message.of("0")), *UNREADABLE, pack(Message.of("1"))):
        store.append("room", payload)
    nodes[0].broker.drop(len(UNREADABLE) + 2)
    nodes[0].hub.exchange.gap(None)
    await turns()
    assert transport.written == ["0", "1"]
    found = await nodes[0].hub.history("room", None, None, False)
    assert [(data, position.offset) for data, position in found] == [("0", 1), ("1", len(UNREADABLE) + 2)]


async def test_a_publication_after_which_something_unreadable_comes_is_waited_for(
    nodes: list[Node], store: Store
) -> None:
    await listening(nodes[0])
    nodes[0].broker.is_holding = True
    published = asyncio.ensure_future(nodes[0].hub.publish("room", "hi"))
    await turns()
    nodes[0].broker.drop()
    store.append("room", b"")
    nodes[0].broker.deliver()
    await turns()
    assert published.done()


# Nothing stays


async def test_ten_thousand_joins_and_leaves_leave_nothing_behind(nodes: list[Node]) -> None:
    node = nodes[0]
    connections = [(await node.connected())[0] for _ in range(10)]
    for number in range(10_000):
        channel = f"{'room' if number % 2 else 'plain'}{number % 1_000}"
        connection = connections[number % 10]
        await node.hub.join(connection, channel)
        if number % 3:
            node.hub.leave(connection, channel)
        elif number % 5 == 0:
            for left in node.hub.channels_of(connection):
                node.hub.leave(connection, left)
    for connection in connections:
        for channel in node.hub.channels_of(connection):
            node.hub.leave(connection, channel)
    await turns()
    assert node.leftovers() == {}
    for connection in connections:
        connection.end(1000)
    await turns()
    assert not node.broker.subscribed
    assert not node.hub._options
    assert not node.hub.background._tasks


# Everything at once

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "publish",
                "publish",
                "deliver",
                "deliver",
                "drop",
                "twice",
                "gap",
                "away",
                "back",
                "turns",
                "join",
                "leave",
            ]
        ),
        st.integers(0, 2),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.integers(0, 3))
def test_whatever_happens_everyone_gets_everything_in_order_or_is_told(steps: list[Step], lag: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interest, "FIRST_RETRY_S", 0)
        patch.setattr(interest, "LAST_RETRY_S", 0)
        patch.setattr(exchange, "RETRY_S", 0)
        asyncio.run(whatever_happens(steps, lag))


async def whatever_happens(steps: list[Step], lag: int) -> None:
    store = Store()
    nodes = [Node(store, ManualClock(), options_of) for _ in range(3)]
    heard = []
    for node in nodes:
        node.broker.lag = lag
        node.broker.is_holding = True
        heard.append(await listening(node, form=Form.ENVELOPE))
    joins: list[asyncio.Task[Any]] = []
    publishing: list[asyncio.Task[Any]] = []
    starts: list[tuple[RecordingTransport, asyncio.Task[Any]]] = []
    for name, number in steps:
        node = nodes[number]
        broker = node.broker
        match name:
            case "publish":
                publishing.append(asyncio.ensure_future(node.hub.publish("room", len(publishing))))
            case "deliver" if broker.in_flight:
                broker.deliver(1)
            case "twice" if broker.in_flight:
                broker.deliver(1, times=2)
            case "drop" if broker.in_flight:
                broker.drop(1)
            case "gap":
                node.hub.exchange.gap(None)
            case "away":
                broker.away = {"read", "subscribe"}
            case "back":
                broker.away = set()
            case "turns":
                await turns(number + 1)
            case "join":
                connection, transport = await node.connected()
                joins.append(
                    asyncio.ensure_future(
                        node.hub.join(connection, "room", form=Form.ENVELOPE, since=Position("e1", number))
                    )
                )
                starts.append((transport, joins[-1]))
            case "leave":
                node.hub.leave(heard[number][0], "room")
                heard[number] = await node.connected()
                joins.append(asyncio.ensure_future(node.hub.join(heard[number][0], "room", form=Form.ENVELOPE)))
            case _:
                pass
    for node in nodes:
        node.broker.away = set()
        await turns()
        node.broker.deliver()
        node.broker.is_holding = False
        node.hub.exchange.gap(None)
    await turns(100)
    outcomes = await asyncio.gather(*joins, return_exceptions=True)
    assert all(not isinstance(o, Exception) or isinstance(o, BrokerUnavailable) for o in outcomes), outcomes
    await asyncio.gather(*publishing)
    await turns(60)
    top = len(store.stream("room").payloads)
    for transport, join in starts:
        if join.exception() is not None:
            continue
        joined, messages = join.result(), envelopes(transport)
        place = {"channel": "room", **asdict(joined.position), "recovered": joined.recovered}
        assert messages.pop(joined.missed) == place
        if joined.recovered:
            first = joined.position.offset - joined.missed + 1
            assert [message["offset"] for message in messages] == list(range(first, top + 1)), messages
    for _, transport in heard:
        last, is_lost = None, True
        for message in envelopes(transport):
            if "recovered" in message:
                is_lost = True
                last = message["offset"]
                continue
            assert last is None or message["offset"] == last + 1, envelopes(transport)
            last = message["offset"]
        assert last in (None, top)
        assert is_lost or last is None or last == top
    for node in nodes:
        await node.hub.close(1)
