"""A publication as hubs give it to a broker, and in the forms in which it is sent."""

import json
import math
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.hub.message import Disconnect, Form, Kind, Message, lost, pack, place, unpack
from hubbub.model import Position
from hubbub.wire.frames import CLOSE_CODES

HERE = Position("e1", 7)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
MESSAGES = TEXTS | st.binary() | JSON.filter(lambda value: not isinstance(value, str))
CHANNELS = TEXTS.filter(bool)
IDS = st.lists(st.from_regex(r"[0-9a-f]{16}", fullmatch=True), max_size=3).map(tuple)


# On a broker


@given(MESSAGES, st.from_regex(r"([0-9a-f]{16}\.[0-9]{1,6})?", fullmatch=True), IDS)
def test_a_message_arrives_as_it_was_sent(message: object, origin: str, exclude: tuple[str, ...]) -> None:
    sent = Message.of(message)
    content, from_where, without = unpack(pack(sent, origin, exclude))
    assert isinstance(content, Message)
    assert (content.kind, content.frame.data, content.frame.size) == (sent.kind, sent.frame.data, sent.frame.size)
    assert (from_where, tuple(without)) == (origin, exclude)


@given(st.sampled_from(sorted(CLOSE_CODES)), TEXTS.filter(lambda text: len(text.encode()) <= 123))
def test_an_order_to_disconnect_arrives_as_it_was_sent(code: int, reason: str) -> None:
    assert unpack(pack(Disconnect(code, reason), "a.1")) == (Disconnect(code, reason), "a.1", ())


def test_what_is_excluded_has_a_bound_that_is_told() -> None:
    some = ["0123456789abcdef"] * 3_000
    assert len(unpack(pack(Message.of("hi"), "", some)).exclude) == 3_000
    with pytest.raises(ValueError, match="exclude names 70000 connections"):
        pack(Message.of("hi"), "", ["0123456789abcdef"] * 70_000)


def test_the_longest_first_line_that_is_packed_is_unpacked() -> None:
    for spare in range(3):
        exclude = ("x" * (1_048_576 - len("t  \n") - spare),)
        assert unpack(pack(Message.of("hi"), "", exclude)).exclude == exclude


@pytest.mark.parametrize("depth", [1, 200, 240])
def test_what_can_be_published_can_be_read(depth: int) -> None:
    message: list[Any] = []
    for _ in range(depth):
        message = [message]
    content = unpack(pack(Message.of(message))).content
    assert isinstance(content, Message)


MALFORMED = {
    "nothing": b"",
    "no first line": b"t  hello",
    "a first line that does not end": b"t" + b" " * 70_000 + b"\nhello",
    "too few words": b"t \nhello",
    "too many words": b"t   \nhello",
    "no kind": b"  \nhello",
    "another kind": b"x  \nhello",
    "a kind in capitals": b"T  \nhello",
    "two kinds": b"tj  \nhello",
    "an origin that is none": b"t a/b \nhello",
    "an id that is none": b"t  a,b;c\nhello",
    "a first line that is not ASCII": "t ü \nhello".encode(),
    "text that is not UTF-8": b"t  \n\xff\xfe",
    "JSON that is not UTF-8": b'j  \n"\xff"',
    "JSON that is none": b"j  \nhello",
    "JSON of nothing": b"j  \n",
    "JSON with more behind it": b'j  \n1,"offset":2',
    "JSON without a number": b"j  \nNaN",
    "JSON without an end": b"j  \nInfinity",
    "JSON of great depth": b"j  \n" + b"[" * 100_000,
    "JSON of great depth that is whole": b"j  \n" + b"[" * 100_000 + b"]" * 100_000,
    "an order that is no JSON": b"d  \n{",
    "an order of nothing": b"d  \n",
    "an order of great depth": b"d  \n" + b"[" * 100_000,
    "an order of great depth that is whole": b"d  \n" + b"[" * 100_000 + b"]" * 100_000,
    "an order as an object": b'd  \n{"code":1000,"reason":""}',
    "an order without a reason": b"d  \n[1000]",
    "an order with more": b'd  \n[1000,"",1]',
    "an order with true": b'd  \n[true,""]',
    "an order with a fraction": b'd  \n[1000.0,""]',
    "an order with a text": b'd  \n["1000",""]',
    "an order without a number": b'd  \n[NaN,""]',
    "an order with a number of 10,000 digits": b"d  \n[" + b"1" * 10_000 + b',""]',
    "an order with a code that is not sent": b'd  \n[1005,""]',
    "an order with a code that is none": b'd  \n[-1,""]',
    "an order with a reason that is too long": b'd  \n[1000,"' + b"x" * 124 + b'"]',
    "an order with a reason that is none": b"d  \n[1000,null]",
    "an order with a lone surrogate": b'd  \n[1000,"\\ud800"]',
    "an order that is not UTF-8": b'd  \n[1000,"\xff"]',
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
def test_what_pack_does_not_make_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        unpack(payload)


def whatever_comes(payload: bytes) -> None:
    try:
        content, _, _ = unpack(payload)
    except ValueError:
        return
    if isinstance(content, Message):
        assert data_of(envelope(content)) is not None or content.kind is Kind.JSON
        list(events(content.form(Form.EVENTS, "c", HERE).data))


@given(st.binary())
def test_nothing_but_a_value_error_comes_of_random_bytes(payload: bytes) -> None:
    whatever_comes(payload)


@given(st.sampled_from([*Kind, "x", ""]), st.text(max_size=5), st.text(max_size=5), st.binary())
def test_nothing_but_a_value_error_comes_of_what_looks_almost_right(
    kind: str, origin: str, exclude: str, body: bytes
) -> None:
    whatever_comes(f"{kind} {origin} {exclude}\n".encode(errors="surrogatepass") + body)


@given(JSON | st.tuples(st.integers(), TEXTS))
def test_nothing_but_a_value_error_comes_of_an_order_with_any_json(order: object) -> None:
    whatever_comes(b"d  \n" + json.dumps(order).encode())


# As it is sent


def envelope(message: Message, channel: str = "c", position: Position | None = HERE) -> dict[str, Any]:
    found = json.loads(message.form(Form.ENVELOPE, channel, position).data)
    assert isinstance(found, dict)
    return found


def data_of(found: dict[str, Any]) -> Any:
    return b64decode(found["data"], validate=True) if found.get("encoding") == "base64" else found["data"]


@given(MESSAGES, CHANNELS, st.none() | st.just(HERE))
def test_an_envelope_says_what_came_where(message: object, channel: str, position: Position | None) -> None:
    found = envelope(Message.of(message), channel, position)
    assert data_of(found) == message
    assert found["channel"] == channel
    assert (found.get("epoch"), found.get("offset")) == ((None, None) if position is None else ("e1", 7))
    assert found.keys() <= {"channel", "epoch", "offset", "data", "encoding"}


@given(MESSAGES, CHANNELS)
def test_an_envelope_is_the_same_after_the_way_over_a_broker(message: object, channel: str) -> None:
    sent = Message.of(message)
    came = unpack(pack(sent)).content
    assert isinstance(came, Message)
    for form in (Form.PLAIN, Form.ENVELOPE, Form.EVENTS):
        assert came.form(form, channel, HERE).data == sent.form(form, channel, HERE).data


def test_a_text_that_is_json_stays_a_text() -> None:
    assert envelope(Message.of('{"a": 1}'))["data"] == '{"a": 1}'
    assert envelope(Message.of({"a": 1}))["data"] == {"a": 1}


def test_what_has_no_number_in_json_is_null() -> None:
    assert envelope(Message.of([math.nan, math.inf]))["data"] == [None, None]


@pytest.mark.parametrize("message", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_of_all_kinds_are_base64(message: object) -> None:
    assert envelope(Message.of(message)) == {
        "channel": "c",
        "epoch": "e1",
        "offset": 7,
        "encoding": "base64",
        "data": "AP8=",
    }


def test_each_form_is_made_once() -> None:
    message = Message.of("hi")
    assert message.form(Form.PLAIN, "c", HERE) is message.frame
    for form in (Form.ENVELOPE, Form.EVENTS):
        assert message.form(form, "c", HERE) is message.form(form, "c", HERE)


def events(stream: object) -> list[dict[str, str]]:
    """Parse a stream as browsers do (HTML Living Standard, 9.2.6)."""
    assert isinstance(stream, str)
    found: list[dict[str, str]] = []
    data, kind, last = "", "", ""
    for line in stream.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        if not line:
            if data:
                found.append({"id": last, "event": kind or "message", "data": data[:-1]})
            data, kind = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                data += value + "\n"
            case "event":
                kind = value
            case "id" if "\0" not in value:
                last = value
            case _:
                raise AssertionError(f"{line!r} is no field")
    assert not data, "the last event does not end"
    return found


@given(MESSAGES | st.text(st.sampled_from("\r\n :ab")), st.none() | st.just(HERE))
def test_a_browser_gets_a_message_out_of_an_event(message: object, position: Position | None) -> None:
    sent = Message.of(message)
    [event] = events(sent.form(Form.EVENTS, "c", position).data)
    assert (event["id"], event["event"]) == ("" if position is None else "e1:7", "message")
    if isinstance(message, bytes):
        assert b64decode(event["data"], validate=True) == message
    else:
        assert isinstance(sent.frame.data, str)
        assert event["data"] == sent.frame.data.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("text", ["", " ", "  a", "\n", "\n\n", "a\n", "\na", "data: x\n\ndata: y", "id: 1", ":"])
def test_a_text_that_looks_like_the_format_is_a_text(text: str) -> None:
    assert events(Message.of(text).form(Form.EVENTS, "c", HERE).data) == [
        {"id": "e1:7", "event": "message", "data": text}
    ]


@given(CHANNELS)
def test_a_loss_is_told_where_the_form_can_say_it(channel: str) -> None:
    told = {form: lost(form, channel, HERE) for form in Form}
    frames = {form: frame for form, frame in told.items() if frame is not None}
    assert set(frames) == {Form.ENVELOPE, Form.EVENTS}
    assert json.loads(frames[Form.ENVELOPE].data) == {
        "channel": channel,
        "epoch": "e1",
        "offset": 7,
        "recovered": False,
    }
    assert events(frames[Form.EVENTS].data) == [{"id": "e1:7", "event": "reset", "data": "e1:7"}]


@given(CHANNELS, st.booleans())
def test_a_place_says_where_the_client_is(channel: str, is_recovered: bool) -> None:
    assert json.loads(place(channel, HERE, is_recovered).data) == {
        "channel": channel,
        "epoch": "e1",
        "offset": 7,
        "recovered": is_recovered,
    }


def test_a_message_without_a_form_is_refused() -> None:
    with pytest.raises(TypeError):
        Message.of(object())
    with pytest.raises(ValueError, match="surrogate"):
        Message.of("\ud800")
