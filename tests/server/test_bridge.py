"""ASGI over a transport: what an application receives, how its sends wait, and how everything ends."""

import asyncio
from typing import Any

import pytest

from hubbub.model import CloseCode
from hubbub.server.bridge import AsgiBridge, ClientDisconnected, Event
from hubbub.wire.prepared import PreparedFrame
from tests.server.standins import User, turn

MESSAGES, BYTES = 64, 65_536
"""What the application may leave waiting before the reading stops."""


class Transport:
    """What the bridge does with its transport."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.is_reading = True
        self.is_over = False

    def write(self, frame: PreparedFrame) -> None:
        self.calls.append(frame.data)

    def close(self, code: int, reason: str) -> None:
        code.to_bytes(2, "big")
        reason.encode()
        self.calls.append(("close", code, reason))

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def bridge(transport: Transport) -> AsgiBridge:
    bridge = AsgiBridge()
    bridge.transport = transport  # type: ignore[assignment]
    return bridge


def message(**content: Any) -> Event:
    return {"type": "websocket.send", **content}


def closing(**content: Any) -> Event:
    return {"type": "websocket.close", **content}


def disconnect(code: int, reason: str = "") -> Event:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


# Receiving


async def test_messages_are_received_as_asgi_has_them(bridge: AsgiBridge) -> None:
    for data in ("text", b"bytes", "", b""):
        bridge.received(data)
    assert [await bridge.receive() for _ in range(4)] == [
        {"type": "websocket.receive", "text": "text"},
        {"type": "websocket.receive", "bytes": b"bytes"},
        {"type": "websocket.receive", "text": ""},
        {"type": "websocket.receive", "bytes": b""},
    ]


async def test_a_receive_waits_for_a_message(bridge: AsgiBridge) -> None:
    receiving = asyncio.ensure_future(bridge.receive())
    await turn()
    assert not receiving.done()
    bridge.received("x")
    assert (await receiving)["text"] == "x"


async def test_each_of_several_receivers_gets_a_message(bridge: AsgiBridge) -> None:
    receivers = [asyncio.ensure_future(bridge.receive()) for _ in range(3)]
    await turn()
    for data in ("1", "2", "3"):
        bridge.received(data)
    assert sorted([(await receiver)["text"] for receiver in receivers]) == ["1", "2", "3"]


async def test_a_receiver_that_is_cancelled_takes_nothing_away(bridge: AsgiBridge) -> None:
    receivers = [asyncio.ensure_future(bridge.receive()) for _ in range(2)]
    await turn()
    receivers[0].cancel()
    bridge.received("x")
    assert (await receivers[1])["text"] == "x"
    assert receivers[0].cancelled()


async def test_an_application_that_does_not_receive_stops_the_reading_by_number(
    bridge: AsgiBridge, transport: Transport
) -> None:
    for _ in range(MESSAGES - 1):
        bridge.received("")
    assert transport.is_reading
    bridge.received("")
    assert not transport.is_reading
    for _ in range(MESSAGES - 1):
        await bridge.receive()
    assert not transport.is_reading
    await bridge.receive()
    assert transport.is_reading


async def test_an_application_that_does_not_receive_stops_the_reading_by_bytes(
    bridge: AsgiBridge, transport: Transport
) -> None:
    for _ in range(3):
        bridge.received(b"x" * (BYTES - 1))
        assert transport.is_reading
        bridge.received(b"x")
        assert not transport.is_reading
        await bridge.receive()
        await bridge.receive()
        assert transport.is_reading


# Sending


@pytest.mark.parametrize(
    ("content", "written"),
    [
        ({"text": "x"}, "x"),
        ({"bytes": b"x"}, b"x"),
        ({"text": "", "bytes": None}, ""),
        ({"text": None, "bytes": b""}, b""),
        ({"bytes": bytearray(b"\xff")}, b"\xff"),
        ({"bytes": memoryview(b"\xff\x00")}, b"\xff\x00"),
    ],
)
async def test_messages_are_written(
    bridge: AsgiBridge, transport: Transport, content: Event, written: str | bytes
) -> None:
    await bridge.send(message(**content))
    assert transport.calls == [written]
    assert type(transport.calls[0]) is type(written)


@pytest.mark.parametrize(
    "event",
    [
        message(),
        message(text=None, bytes=None),
        {"type": "websocket.accept"},
        {"type": "websocket.http.response.start", "status": 200},
        {"type": "http.response.start", "status": 200},
    ],
)
async def test_what_cannot_be_sent_is_an_error_of_the_application(
    bridge: AsgiBridge, transport: Transport, event: Event
) -> None:
    with pytest.raises(RuntimeError, match=event["type"]):
        await bridge.send(event)
    assert transport.calls == []


async def test_a_text_that_has_no_utf_8_form_is_not_sent(bridge: AsgiBridge, transport: Transport) -> None:
    with pytest.raises(UnicodeEncodeError):
        await bridge.send(message(text="\ud800"))
    assert transport.calls == []


async def test_sends_wait_while_the_peer_does_not_read(bridge: AsgiBridge, transport: Transport) -> None:
    bridge.congested()
    sends = [asyncio.ensure_future(bridge.send(message(text=str(number)))) for number in range(3)]
    await turn()
    assert transport.calls == []
    bridge.writable()
    await asyncio.gather(*sends)
    assert transport.calls == ["0", "1", "2"]
    await bridge.send(message(text="3"))
    assert transport.calls[-1] == "3"


async def test_a_send_that_waits_is_freed_by_the_loss_of_the_connection(
    bridge: AsgiBridge, transport: Transport
) -> None:
    bridge.congested()
    sending = asyncio.ensure_future(bridge.send(message(text="x")))
    await turn()
    bridge.lost(1006, "")
    with pytest.raises(OSError, match="1006"):
        await sending
    assert transport.calls == []


async def test_a_close_waits_for_nothing(bridge: AsgiBridge, transport: Transport) -> None:
    bridge.congested()
    sending = asyncio.ensure_future(bridge.send(message(text="x")))
    await turn()
    await bridge.send(closing())
    assert transport.calls == [("close", 1000, "")]
    with pytest.raises(ClientDisconnected):
        await sending


async def test_a_send_that_was_cancelled_is_not_made_up_for(bridge: AsgiBridge, transport: Transport) -> None:
    bridge.congested()
    sending = asyncio.ensure_future(bridge.send(message(text="x")))
    await turn()
    sending.cancel()
    bridge.writable()
    await turn()
    assert transport.calls == []


# The end


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        ({}, 1000, ""),
        ({"code": 4001, "reason": "bye"}, 4001, "bye"),
        ({"code": None, "reason": None}, 1000, ""),
        ({"code": 1005}, 1005, ""),
    ],
)
async def test_the_application_closes(
    bridge: AsgiBridge, transport: Transport, content: Event, code: int, reason: str
) -> None:
    await bridge.send(closing(**content))
    assert transport.calls == [("close", code, reason)]
    assert await bridge.receive() == disconnect(code, reason)


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000, 65_536, -1])
async def test_a_close_code_that_nobody_may_send_is_an_error_of_the_application(
    bridge: AsgiBridge, transport: Transport, code: int
) -> None:
    with pytest.raises(RuntimeError, match=f"close code {code}"):
        await bridge.send(closing(code=code))
    assert transport.calls == []
    bridge.application_ended(1011)
    assert transport.calls == [("close", 1011, "")]


async def test_a_reason_that_has_no_utf_8_form_leaves_the_connection_to_be_closed_otherwise(
    bridge: AsgiBridge, transport: Transport
) -> None:
    with pytest.raises(UnicodeEncodeError):
        await bridge.send(closing(reason="\ud800"))
    bridge.application_ended(1011)
    assert transport.calls == [("close", 1011, "")]


async def end_by_the_peer(bridge: AsgiBridge) -> tuple[int, str]:
    bridge.lost(4000, "left")
    return 4000, "left"


async def end_by_the_application(bridge: AsgiBridge) -> tuple[int, str]:
    await bridge.send(closing(code=4001, reason="enough"))
    return 4001, "enough"


async def end_by_the_server(bridge: AsgiBridge) -> tuple[int, str]:
    bridge.draining()
    return 1012, ""


async def end_by_a_flood(bridge: AsgiBridge) -> tuple[int, str]:
    for _ in range(300):
        bridge.control_received()
    return 1008, "messages_per_s"


ENDS = [end_by_the_peer, end_by_the_application, end_by_the_server, end_by_a_flood]


@pytest.mark.parametrize("end", ENDS)
async def test_after_the_end_sends_are_refused_and_receives_tell_of_it_again_and_again(
    bridge: AsgiBridge, transport: Transport, end: Any
) -> None:
    code, reason = await end(bridge)
    calls = list(transport.calls)
    for _ in range(3):
        with pytest.raises(OSError, match=str(code)):
            await bridge.send(message(text="x"))
        assert await bridge.receive() == disconnect(code, reason)
    assert transport.calls == calls


@pytest.mark.parametrize("end", ENDS)
async def test_the_first_end_is_the_one_that_counts(bridge: AsgiBridge, transport: Transport, end: Any) -> None:
    code, reason = await end(bridge)
    calls = list(transport.calls)
    await bridge.send(closing(code=4002))
    bridge.draining()
    bridge.application_ended(1011)
    await end_by_a_flood(bridge)
    bridge.lost(1006, "")
    assert await bridge.receive() == disconnect(code, reason)
    assert transport.calls == calls


@pytest.mark.parametrize("end", ENDS)
async def test_the_end_wakes_all_who_wait_for_a_message(bridge: AsgiBridge, end: Any) -> None:
    receivers = [asyncio.ensure_future(bridge.receive()) for _ in range(2)]
    await turn()
    code, reason = await end(bridge)
    assert await asyncio.gather(*receivers) == [disconnect(code, reason)] * 2


async def test_what_arrived_before_the_end_is_received_before_it(bridge: AsgiBridge) -> None:
    bridge.received("1")
    bridge.lost(1001, "")
    assert (await bridge.receive())["text"] == "1"
    assert await bridge.receive() == disconnect(1001)


async def test_what_arrives_after_the_application_has_closed_is_dropped(
    bridge: AsgiBridge, transport: Transport
) -> None:
    await bridge.send(closing())
    for _ in range(2 * MESSAGES):
        bridge.received("x")
    assert transport.is_reading
    assert await bridge.receive() == disconnect(1000)


@pytest.mark.parametrize("code", [CloseCode.NORMAL, CloseCode.INTERNAL_ERROR])
async def test_the_end_of_the_application_closes(bridge: AsgiBridge, transport: Transport, code: int) -> None:
    bridge.application_ended(code)
    assert transport.calls == [("close", code, "")]


# Control frames


async def test_control_frames_within_the_rate_are_nothing_to_speak_of(bridge: AsgiBridge, transport: Transport) -> None:
    for _ in range(200):
        bridge.control_received()
    assert transport.calls == []


async def test_a_flood_of_control_frames_ends_the_connection_once(bridge: AsgiBridge, transport: Transport) -> None:
    for _ in range(1_000):
        bridge.control_received()
    assert transport.calls == [("close", 1008, "messages_per_s")]


# A hub takes over


async def test_what_has_arrived_is_handed_over_in_order(bridge: AsgiBridge) -> None:
    for data in ("1", b"2", "3"):
        bridge.received(data)
    user = User()
    bridge.hand_over(user)
    assert user.calls == ["1", b"2", "3"]


async def test_nothing_is_handed_over_where_nothing_has_arrived(bridge: AsgiBridge) -> None:
    user = User()
    bridge.hand_over(user)
    assert user.calls == []


async def test_the_reading_goes_on_when_much_is_handed_over(bridge: AsgiBridge, transport: Transport) -> None:
    for _ in range(MESSAGES):
        bridge.received("x")
    bridge.hand_over(User())
    assert transport.is_reading


async def test_the_one_who_takes_over_can_stop_the_reading(bridge: AsgiBridge, transport: Transport) -> None:
    for _ in range(MESSAGES):
        bridge.received("x")
    user = User()
    user.when_received = lambda data: transport.pause_reading()
    bridge.hand_over(user)
    assert not transport.is_reading


async def test_who_still_uses_asgi_after_a_hub_took_over_hears_of_the_end(
    bridge: AsgiBridge, transport: Transport
) -> None:
    bridge.hand_over(User())
    await bridge.send(message(text="beside the hub"))
    transport.is_over = True
    for _ in range(2):
        with pytest.raises(OSError, match="ended"):
            await bridge.send(message(text="too late"))
        assert await bridge.receive() == disconnect(1006)
    await bridge.send(closing())
    assert transport.calls == ["beside the hub"]
