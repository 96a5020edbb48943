"""From a message to a frame, once; from a frame to everybody who is not excluded."""

import dataclasses
import datetime
import decimal
import enum
import gc
import json
import math
import uuid
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hubbub.config import Limits, Outbox
from hubbub.hub import fanout
from hubbub.hub.admission import Admission
from hubbub.hub.connection import CoreConnection, Settings
from hubbub.hub.fanout import prepare
from hubbub.hub.hub import EVERYONE, PLAIN, ChannelOptions, CoreHub, user_channel
from hubbub.model import Data, OutboxPolicy
from hubbub.state.outbox import ENTRY_BYTES
from hubbub.testing import ManualClock, RecordingTransport
from hubbub.wire.prepared import Encoding, PreparedFrame, deflated, plain

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

SURROGATE = "\ud800"


class Colour(enum.Enum):
    RED = "red"


class Rank(enum.IntEnum):
    FIRST = 1


class Note(pydantic.BaseModel):
    text: str
    at: datetime.datetime | None = None
    value: float = 0.0
    inner: Any = None


class Aliased(pydantic.BaseModel):
    client_id: int = pydantic.Field(serialization_alias="clientId")


@dataclasses.dataclass
class Point:
    x: float
    y: object = None


@pydantic.dataclasses.dataclass
class Typed:
    id: int


NOON = datetime.datetime(2024, 5, 6, 12, 0, tzinfo=datetime.UTC)
NIL = uuid.UUID(int=0)


# From a message to a frame


@pytest.mark.parametrize("text", ["", "hello", "é", "\U0001f600", '"quoted"', "null", "\x00"])
def test_a_text_goes_as_it_is_and_not_as_json(text: str) -> None:
    frame = prepare(text)
    assert (frame.data, frame.size) == (text, len(text.encode()))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"hello"])
def test_bytes_of_any_kind_go_as_binary(kind: type, content: bytes) -> None:
    frame = prepare(kind(content))
    assert type(frame.data) is bytes
    assert (frame.data, frame.size) == (content, len(content))


def test_bytes_that_change_later_were_copied() -> None:
    changing = bytearray(b"before")
    frame, view = prepare(changing), prepare(memoryview(changing))
    changing[:] = b"after!"
    assert (frame.data, view.data) == (b"before", b"before")


def test_a_view_with_steps_goes_as_what_it_shows() -> None:
    assert prepare(memoryview(b"abcdef")[::2]).data == b"ace"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0, "0"),
        (10**30, "1" + "0" * 30),
        (1.5, "1.5"),
        ([], "[]"),
        ([1, "a", None], '[1,"a",null]'),
        ((1, 2), "[1,2]"),
        ({1}, "[1]"),
        (frozenset({1}), "[1]"),
        ({}, "{}"),
        ({"a": {"b": [1]}}, '{"a":{"b":[1]}}'),
        ({1: "a"}, '{"1":"a"}'),
        (["é\U0001f600"], '["é\U0001f600"]'),
        (["\x00\n"], '["\\u0000\\n"]'),
        (Note(text="hi"), '{"text":"hi","at":null,"value":0.0,"inner":null}'),
        (Aliased(client_id=7), '{"clientId":7}'),
        (Point(1.0), '{"x":1.0,"y":null}'),
        (Typed(id=1), '{"id":1}'),
        ([Point(1.0, Note(text="hi", at=NOON))], None),
        (NOON, '"2024-05-06T12:00:00Z"'),
        (NOON.date(), '"2024-05-06"'),
        (datetime.timedelta(hours=1), '"PT1H"'),
        (NIL, '"00000000-0000-0000-0000-000000000000"'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (Colour.RED, '"red"'),
        (Rank.FIRST, "1"),
        ({"at": NOON, "id": NIL, "price": decimal.Decimal("1"), "colour": Colour.RED}, None),
        ({Colour.RED: 1}, '{"red":1}'),
    ],
    ids=repr,
)
def test_anything_else_goes_as_compact_json_text(message: object, text: str | None) -> None:
    frame = prepare(message)
    assert isinstance(frame.data, str)
    assert frame.size == len(frame.data.encode())
    assert json.loads(frame.data) == json.loads(text or json.dumps(expected_json(message)))
    assert text is None or frame.data == text


def expected_json(message: object) -> object:
    """Say what a nested message is in JSON, by hand."""
    match message:
        case [Point()]:
            inner = {"text": "hi", "at": "2024-05-06T12:00:00Z", "value": 0.0, "inner": None}
            return [{"x": 1.0, "y": inner}]
        case {"at": _}:
            return {"at": "2024-05-06T12:00:00Z", "id": str(NIL), "price": "1", "colour": "red"}
    raise AssertionError(message)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
    max_leaves=20,
)


@UNTIMED
@given(JSON.filter(lambda value: not isinstance(value, str)))
def test_what_json_can_say_comes_back_the_same(value: object) -> None:
    frame = prepare(value)
    assert isinstance(frame.data, str)
    assert json.loads(frame.data) == value
    assert frame.size == len(frame.data.encode())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("message", "text"),
    [
        (lambda value: value, "null"),
        (lambda value: [value, 1], "[null,1]"),
        (lambda value: {"deep": [{"x": value}]}, '{"deep":[{"x":null}]}'),
        (lambda value: Point(value), '{"x":null,"y":null}'),
        (lambda value: Note(text="", value=value), '{"text":"","at":null,"value":null,"inner":null}'),
        (lambda value: Note(text="", inner=[value]), '{"text":"","at":null,"value":0.0,"inner":[null]}'),
    ],
    ids=["bare", "list", "dict", "dataclass", "model", "model's Any"],
)
def test_nan_and_infinity_become_null(value: float, message: Any, text: str) -> None:
    assert prepare(message(value)).data == text


def test_a_prepared_frame_is_not_prepared_again() -> None:
    frame = PreparedFrame("x")
    assert prepare(frame) is frame


# What cannot be sent


class Unsendable:
    """A class that JSON knows nothing of."""


@pytest.mark.parametrize(
    ("message", "outer", "inner"),
    [
        (Unsendable(), "Unsendable", "Unsendable"),
        ([Unsendable()], "list", "Unsendable"),
        ({"a": {"b": Unsendable()}}, "dict", "Unsendable"),
        ({Unsendable(): 1}, "dict", "Unsendable"),
        (Note(text="", inner=Unsendable()), "Note", "Unsendable"),
        (Point(0.0, Unsendable()), "Point", "Unsendable"),
        (print, "builtin_function_or_method", "builtin_function_or_method"),
        (Unsendable, "type", "type"),
        (ValueError("x"), "ValueError", "ValueError"),
        ({"a": b"\xff"}, "dict", "utf-8"),
    ],
    ids=[
        "bare",
        "in a list",
        "deep in a dict",
        "as a key",
        "in a model",
        "in a dataclass",
        "a function",
        "a class",
        "an exception",
        "bytes that are no text",
    ],
)
def test_what_has_no_json_form_is_a_type_error_that_names_the_types(message: object, outer: str, inner: str) -> None:
    with pytest.raises(TypeError, match=f"^{outer} cannot be sent as JSON") as refused:
        prepare(message)
    assert inner in str(refused.value)


def selves() -> dict[str, object]:
    """Return messages that contain themselves, by kind."""
    in_list: list[object] = []
    in_list.append(in_list)
    in_dict: dict[str, object] = {}
    in_dict["self"] = {"deeper": in_dict}
    in_model = Note(text="")
    in_model.inner = in_model
    in_dataclass = Point(0.0)
    in_dataclass.y = [in_dataclass]
    return {"list": in_list, "dict": in_dict, "model": in_model, "dataclass": in_dataclass}


@pytest.mark.parametrize("kind", ["list", "dict", "model", "dataclass"])
def test_a_message_that_contains_itself_is_a_value_error(kind: str) -> None:
    with pytest.raises(ValueError, match="Circular reference"):
        prepare(selves()[kind])


def test_a_message_that_is_too_deep_is_a_clear_error() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises((TypeError, ValueError), match="depth"):
        prepare(deep)


@pytest.mark.parametrize(
    "message",
    [SURROGATE, "a" + SURROGATE, [SURROGATE], {"a": {"b": SURROGATE}}, {SURROGATE: 1}, Note(text=SURROGATE)],
    ids=["text", "after a letter", "in a list", "deep in a dict", "as a key", "in a model"],
)
def test_a_lone_surrogate_is_a_value_error(message: object) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        prepare(message)


@pytest.mark.parametrize(
    "message", ["x" + SURROGATE, Unsendable(), [Unsendable()], {"a": SURROGATE}], ids=["text", "bare", "list", "dict"]
)
def test_an_error_comes_without_the_chain_of_errors_behind_it(message: object) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        prepare(message)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


# From a frame to everybody: what a turn of the loop has published goes out as one write


class Loop:
    """The loop as far as a fan-out sees it: calls that are made at the end of the turn."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], None]] = deque()

    def call_soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        """Make the calls that are there now."""
        for _ in range(len(self.calls)):
            self.calls.popleft()()

    def finish(self) -> None:
        """Make all calls, and those that come of them."""
        while self.calls:
            self.turn()


def messages_in(data: bytes) -> Iterator[Data]:
    """Read the frames of a server."""
    while data:
        first, size, start = data[0], data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        payload, data = data[start : start + size], data[start + size :]
        if first & 0x40:
            payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
        yield payload.decode() if first & 0x0F == 1 else payload


class SharingTransport(RecordingTransport):
    """Takes what was encoded for many.

    Args:
        encoding: What makes it of messages.
        room: Writes after which it is congested, until it is given more room; `None` for never.

    Attributes:
        writes: What it was given, write by write.
        messages: The messages in it.
    """

    def __init__(self, encoding: Encoding = plain, room: int | None = None) -> None:
        super().__init__(high_water=1)
        self.sharing = self
        self.encoding = encoding
        self.room = room
        self.writes: list[bytes] = []
        self.messages: list[Data] = []

    def write(self, frame: PreparedFrame) -> None:
        self.write_encoded(self.encoding((frame,)))

    def write_encoded(self, encoded: bytes) -> None:
        self.writes.append(encoded)
        self.messages.extend(messages_in(encoded))
        if self.room is not None:
            self.room -= 1
            if self.room <= 0:
                self.buffered_bytes = 1

    def give(self, room: int | None = None) -> None:
        """Take so many writes more."""
        self.room = room
        self.buffered_bytes = 0


class SingleTransport(SharingTransport):
    """Like it, but has to be given messages one by one."""

    def __init__(self, room: int | None = None) -> None:
        super().__init__(room=room)
        self.sharing = None  # type: ignore[assignment]


class Counted:
    """An encoding that counts how often it is asked."""

    def __init__(self, encoding: Encoding = plain) -> None:
        self.calls: list[int] = []
        self._encoding = encoding

    def __call__(self, frames: tuple[PreparedFrame, ...]) -> bytes:
        self.calls.append(len(frames))
        return self._encoding(frames)


POLICIES: dict[str, OutboxPolicy] = {"oldest": "drop_oldest", "newest": "drop_newest", "latest": "latest"}


def options_of(channel: str) -> ChannelOptions:
    return ChannelOptions(POLICIES[channel]) if channel in POLICIES else PLAIN


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def hub(loop: Loop) -> CoreHub:
    return hub_in(loop)


def hub_in(loop: Loop) -> CoreHub:
    """Return a hub that hands over at the end of the turns of `loop`."""
    return CoreHub(clock=ManualClock(), admission=Admission(Limits()), options_of=options_of, call_soon=loop.call_soon)


def connected(
    hub: CoreHub,
    *channels: str,
    transport: SharingTransport | None = None,
    outbox: Outbox = Outbox(),
    user: str | None = None,
) -> tuple[CoreConnection, SharingTransport]:
    """Return an open connection that has joined `channels`, and the transport that carries it."""
    connection = CoreConnection(hub, Settings(Limits(), outbox, "reply", (hub.admission,)), None)
    connection.user = user
    transport = SharingTransport() if transport is None else transport
    hub.admit(connection)
    connection.open(transport)
    for channel in channels:
        hub.join_here(connection, channel)
    return connection, transport


def send(connection: CoreConnection, message: Data) -> None:
    """Send to one connection as its endpoint does; there is room."""
    frame = PreparedFrame(message)
    if not connection.send_now(frame):
        sending = connection.send_frame(frame)
        with pytest.raises(StopIteration):
            sending.send(None)


def publish(hub: CoreHub, channel: str, *messages: object, exclude: Iterable[CoreConnection] = ()) -> None:
    """Publish several messages."""
    for message in messages:
        hub.publish_here(channel, message, tuple(exclude))


def test_a_publication_leaves_at_the_end_of_the_turn(hub: CoreHub, loop: Loop) -> None:
    _, transport = connected(hub, "news")
    hub.publish_here("news", "1")
    assert (transport.writes, hub.counters.published, hub.counters.deliveries) == ([], 1, 0)
    loop.turn()
    assert transport.messages == ["1"]
    assert not loop.calls


def test_the_publications_of_one_turn_are_one_write_for_each_who_hears_them(hub: CoreHub, loop: Loop) -> None:
    transports = [connected(hub, "news")[1] for _ in range(3)]
    publish(hub, "news", "1", b"2", {"n": 3})
    loop.turn()
    assert [transport.writes for transport in transports] == [[b'\x81\x011\x82\x012\x81\x07{"n":3}']] * 3
    first, *others = (transport.writes[0] for transport in transports)
    assert all(other is first for other in others)


def test_the_end_of_the_turn_is_asked_for_once(hub: CoreHub, loop: Loop) -> None:
    connected(hub, "news", "other")
    publish(hub, "news", "1", "2")
    publish(hub, "other", "3")
    assert len(loop.calls) == 1
    loop.turn()
    publish(hub, "news", "4")
    assert len(loop.calls) == 1


def test_each_encoding_is_asked_once_whoever_takes_it(hub: CoreHub, loop: Loop) -> None:
    one, other = Counted(), Counted(deflated(15))
    transports = [connected(hub, "news", transport=SharingTransport(encoding))[1] for encoding in (one, other) * 3]
    publish(hub, "news", "1", "x" * 200)
    loop.turn()
    assert (one.calls, other.calls) == ([2], [2])
    assert all(transport.messages == ["1", "x" * 200] for transport in transports)
    assert len(transports[1].writes[0]) < len(transports[0].writes[0])


def test_several_who_are_handed_something_one_by_one_share_the_encoding_too(hub: CoreHub, loop: Loop) -> None:
    encoding = Counted()
    author, *_ = (connected(hub, "news", transport=SharingTransport(encoding))[0] for _ in range(5))
    hub.publish_here("news", "1", (author,))
    loop.turn()
    assert encoding.calls == [1]


def test_publications_that_alternate_between_channels_keep_their_order(hub: CoreHub, loop: Loop) -> None:
    _, both = connected(hub, "a", "b")
    _, only = connected(hub, "b")
    for channel, message in (("a", "1"), ("b", "2"), ("b", "3"), ("a", "4"), (EVERYONE, "5"), ("b", "6")):
        hub.publish_here(channel, message)
    loop.turn()
    assert both.messages == ["1", "2", "3", "4", "5", "6"]
    assert only.messages == ["2", "3", "5", "6"]
    assert [len(transport.writes) for transport in (both, only)] == [5, 3]


def test_what_is_meant_for_a_user_keeps_its_place_too(hub: CoreHub, loop: Loop) -> None:
    _, ann = connected(hub, user="ann")
    _, bob = connected(hub, user="bob")
    publish(hub, EVERYONE, "1")
    publish(hub, user_channel("ann"), "2")
    publish(hub, EVERYONE, "3")
    loop.turn()
    assert (ann.messages, bob.messages) == (["1", "2", "3"], ["1", "3"])


# Not all get all of it


def test_the_excluded_get_the_rest_of_the_turn(hub: CoreHub, loop: Loop) -> None:
    (ann, heard_by_ann), (bob, heard_by_bob), (_, heard_by_all) = (connected(hub, "news") for _ in range(3))
    publish(hub, "news", "1")
    publish(hub, "news", "2", exclude=[ann])
    publish(hub, "news", "3", exclude=[ann, bob])
    publish(hub, "news", "4")
    loop.turn()
    assert heard_by_all.messages == ["1", "2", "3", "4"]
    assert (heard_by_ann.messages, heard_by_bob.messages) == (["1", "4"], ["1", "2", "4"])
    assert [len(transport.writes) for transport in (heard_by_all, heard_by_ann, heard_by_bob)] == [1, 1, 1]


def test_one_who_is_excluded_from_all_of_it_is_not_written_to(hub: CoreHub, loop: Loop) -> None:
    author, transport = connected(hub, "news")
    publish(hub, "news", "1", "2", exclude=[author])
    loop.turn()
    assert transport.writes == []


def test_who_joins_later_gets_what_comes_after(hub: CoreHub, loop: Loop) -> None:
    _, old = connected(hub, "news")
    publish(hub, "news", "1")
    late, new = connected(hub, "news")
    publish(hub, "news", "2")
    publish(hub, "news", "3", exclude=[late])
    loop.turn()
    assert (old.messages, new.messages) == (["1", "2", "3"], ["2"])


def test_who_joins_between_two_turns_gets_what_comes_after(hub: CoreHub, loop: Loop) -> None:
    connected(hub, "news")
    publish(hub, "news", "1")
    loop.turn()
    _, new = connected(hub, "news")
    publish(hub, "news", "2")
    loop.turn()
    assert new.messages == ["2"]


def test_who_was_excluded_before_joining_gets_what_comes_after(hub: CoreHub, loop: Loop) -> None:
    connected(hub, "news")
    late, transport = connected(hub)
    publish(hub, "news", "1", "2", exclude=[late])
    publish(hub, "news", "3")
    hub.join_here(late, "news")
    publish(hub, "news", "4")
    loop.turn()
    assert transport.messages == ["4"]


def test_who_leaves_has_got_what_came_before(hub: CoreHub, loop: Loop) -> None:
    connection, transport = connected(hub, "news", "other")
    _, stays = connected(hub, "news")
    publish(hub, "news", "1", "2")
    publish(hub, "other", "3")
    hub.leave(connection, "news")
    assert transport.messages == ["1", "2", "3"]
    publish(hub, "news", "4")
    publish(hub, "other", "5")
    loop.turn()
    assert (transport.messages, stays.messages) == (["1", "2", "3", "5"], ["1", "2", "4"])


def test_who_leaves_and_joins_again_misses_what_came_between(hub: CoreHub, loop: Loop) -> None:
    connected(hub, "news")
    connection, transport = connected(hub, "news")
    publish(hub, "news", "1")
    hub.leave(connection, "news")
    publish(hub, "news", "2")
    hub.join_here(connection, "news")
    publish(hub, "news", "3")
    loop.turn()
    assert transport.messages == ["1", "3"]


def test_a_channel_that_all_have_left_is_handed_to_nobody_else(hub: CoreHub, loop: Loop) -> None:
    connection, before = connected(hub, "news")
    publish(hub, "news", "1")
    hub.leave(connection, "news")
    _, after = connected(hub, "news")
    publish(hub, "news", "2")
    loop.turn()
    assert (before.messages, after.messages) == (["1"], ["2"])


def test_a_direct_send_comes_after_what_was_published_before_it(hub: CoreHub, loop: Loop) -> None:
    connection, transport = connected(hub, "a", "b")
    _, other = connected(hub, "a")
    publish(hub, "a", "1", "2")
    publish(hub, "b", "3")
    send(connection, "4")
    assert transport.messages == ["1", "2", "3", "4"]
    assert other.messages == []
    publish(hub, "b", "5")
    send(connection, "6")
    send(connection, "7")
    loop.turn()
    assert (transport.messages, other.messages) == (["1", "2", "3", "4", "5", "6", "7"], ["1", "2"])


@pytest.mark.parametrize("code", [1000, 1012, 3008])
def test_the_end_of_a_connection_comes_after_what_was_published_before_it(hub: CoreHub, loop: Loop, code: int) -> None:
    connection, transport = connected(hub, "news")
    _, other = connected(hub, "news")
    publish(hub, "news", "1", "2")
    connection.end(code)
    assert (transport.messages, transport.closed) == (["1", "2"], (code, ""))
    publish(hub, "news", "3")
    loop.turn()
    assert (transport.messages, other.messages) == (["1", "2"], ["1", "2", "3"])


def test_one_that_was_lost_gets_nothing_more_and_the_others_get_theirs(hub: CoreHub, loop: Loop) -> None:
    (_, lost), (_, other) = connected(hub, "news"), connected(hub, "news")
    publish(hub, "news", "1")
    lost.lose()
    publish(hub, "news", "2")
    loop.turn()
    assert (lost.writes, other.messages) == ([], ["1", "2"])
    assert hub.counters.deliveries == 2


# Congestion


def test_who_is_congested_gets_it_when_there_is_room_and_in_order(hub: CoreHub, loop: Loop) -> None:
    connection, slow = connected(hub, "news", transport=SharingTransport(room=0))
    _, other = connected(hub, "news")
    slow.buffered_bytes = 1
    publish(hub, "news", "1", "2")
    loop.turn()
    send(connection, "3")
    publish(hub, "news", "4")
    assert other.writes == [b"\x81\x011\x81\x012"]
    slow.give()
    assert slow.messages == ["1", "2", "3"]
    loop.turn()
    assert (slow.messages, other.messages) == (["1", "2", "3", "4"], ["1", "2", "4"])


def test_one_that_becomes_congested_in_the_middle_of_a_fan_out_keeps_the_order(hub: CoreHub, loop: Loop) -> None:
    _, slow = connected(hub, "a", "b", transport=SharingTransport(room=1))
    _, other = connected(hub, "a", "b")
    publish(hub, "a", "1", "2")
    publish(hub, "b", "3")
    publish(hub, "a", "4")
    loop.turn()
    assert (slow.messages, other.messages) == (["1", "2"], ["1", "2", "3", "4"])
    slow.give()
    assert slow.messages == ["1", "2", "3", "4"]
    publish(hub, "a", "5", "6")
    loop.turn()
    assert slow.writes[-1] == b"\x81\x015\x81\x016"


def test_a_publisher_hears_whether_the_loop_should_run_first(hub: CoreHub, loop: Loop) -> None:
    _, transport = connected(hub, "news")
    assert hub.publish_here("news", "1") is False
    transport.buffered_bytes = 1
    assert hub.publish_here("news", "2") is True
    transport.give()
    assert hub.publish_here("news", "3") is False
    assert not hub.is_full
    hub.publish_here("news", "x" * fanout.RUN_BYTES)
    assert hub.is_full


@pytest.mark.parametrize("what", ["a fan-out", "a direct send", "its end", "leaving"])
def test_one_for_whom_it_is_too_much_is_ended_as_slow_and_the_others_get_theirs(
    hub: CoreHub, loop: Loop, what: str
) -> None:
    _, before = connected(hub, "a", "b")
    slow, full = connected(hub, "a", "b", outbox=Outbox(bytes=2 * (ENTRY_BYTES + 1)))
    _, after = connected(hub, "a", "b")
    full.buffered_bytes = 1
    publish(hub, "a", "1", "2", "3")
    publish(hub, "b", "4")
    match what:
        case "a direct send":
            send(slow, "5")
        case "its end":
            slow.end(1000)
        case "leaving":
            hub.leave(slow, "a")
    loop.finish()
    assert before.messages == after.messages == ["1", "2", "3", "4"]
    assert (full.messages, full.closed) == ([], (3008, "slow"))
    now = hub.statistics()
    assert now.closed == {3008: 1}
    assert now.deliveries == 8 + now.discarded
    assert now.undelivered == (what == "a direct send")


@pytest.mark.parametrize(
    ("channel", "heard", "dropped"),
    [("oldest", ["3", "4"], 2), ("newest", ["1", "2"], 2), ("latest", ["4"], 3)],
)
@pytest.mark.parametrize("settles", [False, True])
def test_the_policy_of_the_channel_holds_for_each_message_of_a_run(
    hub: CoreHub, loop: Loop, channel: str, heard: list[str], dropped: int, settles: bool
) -> None:
    connection, slow = connected(hub, channel, outbox=Outbox(bytes=2 * (ENTRY_BYTES + 1)))
    _, other = connected(hub, channel)
    slow.buffered_bytes = 1
    publish(hub, channel, "1", "2", "3", "4")
    if settles:
        hub.settle(connection)
    loop.finish()
    slow.give()
    assert (slow.messages, other.messages) == (heard, ["1", "2", "3", "4"])
    assert hub.statistics().dropped == {POLICIES[channel]: dropped}
    queued = 4 if channel == "latest" else 2 + (channel == "oldest") * 2
    assert hub.statistics().deliveries == 4 + queued


# Transports that take messages one by one


def test_a_transport_that_takes_messages_one_by_one_gets_each_at_once(hub: CoreHub, loop: Loop) -> None:
    _, single = connected(hub, "news", transport=SingleTransport())
    publish(hub, "news", "1", "2")
    assert single.writes == [b"\x81\x011", b"\x81\x012"]
    assert not loop.calls


def test_where_both_kinds_hear_a_channel_the_order_across_channels_stays(hub: CoreHub, loop: Loop) -> None:
    _, sharing = connected(hub, "a", "b")
    _, single = connected(hub, "b", transport=SingleTransport())
    publish(hub, "a", "1")
    publish(hub, "b", "2")
    assert (sharing.messages, single.messages) == (["1", "2"], ["2"])
    loop.finish()
    assert (sharing.messages, single.messages) == (["1", "2"], ["2"])


# Slices


@pytest.fixture
def small_slices() -> Iterator[None]:
    with mock.patch.object(fanout, "SLICE", 3):
        yield


@pytest.mark.usefixtures("small_slices")
def test_a_very_large_fan_out_gives_the_loop_back(hub: CoreHub, loop: Loop) -> None:
    pairs = [connected(hub, "news") for _ in range(8)]
    publish(hub, "news", "1", "2")
    progress = []
    while loop.calls:
        loop.turn()
        progress.append(sum(bool(transport.writes) for _, transport in pairs))
    assert progress == [3, 6, 8]
    assert all(transport.messages == ["1", "2"] for _, transport in pairs)
    assert (hub.counters.deliveries, hub.counters.bytes_sent) == (16, 16)


@pytest.mark.usefixtures("small_slices")
def test_many_small_fan_outs_give_the_loop_back_too(hub: CoreHub, loop: Loop) -> None:
    transports = [connected(hub, f"{number}")[1] for number in range(8)]
    for number in range(8):
        hub.publish_here(f"{number}", "1")
    progress = []
    while loop.calls:
        loop.turn()
        progress.append(sum(bool(transport.writes) for transport in transports))
    assert progress == [3, 6, 8]


@pytest.mark.usefixtures("small_slices")
def test_between_slices_everything_keeps_its_order(hub: CoreHub, loop: Loop) -> None:
    pairs = [connected(hub, "news") for _ in range(8)]
    publish(hub, "news", "1")
    loop.turn()
    publish(hub, "news", "2", exclude=[pairs[6][0]])
    early, late = pairs[0], pairs[7]
    send(early[0], "to the early one")
    send(late[0], "to the late one")
    hub.leave(pairs[5][0], "news")
    joined, new = connected(hub, "news")
    publish(hub, "news", "3")
    loop.turn()
    send(joined, "to the new one")
    loop.finish()
    assert early[1].messages == ["1", "2", "to the early one", "3"]
    assert late[1].messages == ["1", "2", "to the late one", "3"]
    assert (pairs[5][1].messages, pairs[6][1].messages) == (["1", "2"], ["1", "3"])
    assert new.messages == ["3", "to the new one"]
    assert all(transport.messages == ["1", "2", "3"] for _, transport in pairs[1:5])


@pytest.mark.usefixtures("small_slices")
def test_between_slices_the_excluded_are_excluded_still(hub: CoreHub, loop: Loop) -> None:
    pairs = [connected(hub, "news") for _ in range(8)]
    author, transport = pairs[7]
    publish(hub, "news", "1", exclude=[author, pairs[6][0]])
    publish(hub, "news", "2")
    loop.turn()
    send(author, "3")
    assert transport.messages == ["2", "3"]
    loop.finish()
    assert (transport.messages, pairs[6][1].messages) == (["2", "3"], ["2"])


@pytest.mark.usefixtures("small_slices")
def test_one_that_ends_between_slices_has_got_what_was_published_before(hub: CoreHub, loop: Loop) -> None:
    pairs = [connected(hub, "news") for _ in range(8)]
    publish(hub, "news", "1")
    loop.turn()
    pairs[7][0].end(1000)
    pairs[6][1].lose()
    loop.finish()
    assert (pairs[7][1].messages, pairs[6][1].messages) == (["1"], [])
    assert hub.counters.deliveries == 7


@pytest.mark.usefixtures("small_slices")
def test_a_run_whose_last_recipients_have_all_got_it_already_holds_nobody_up(hub: CoreHub, loop: Loop) -> None:
    pairs = [connected(hub, "news", "other") for _ in range(5)]
    publish(hub, "news", "1")
    loop.turn()
    publish(hub, "other", "2")
    for connection, _ in pairs:
        hub.settle(connection)
    loop.finish()
    assert all(transport.messages == ["1", "2"] for _, transport in pairs)
    assert not hub.runs


# What waits is bounded, counted, and let go


def test_what_waits_is_bounded_in_bytes(hub: CoreHub, loop: Loop) -> None:
    _, transport = connected(hub, "a", "b")
    size = fanout.RUN_BYTES // 4 - ENTRY_BYTES
    publish(hub, "a", *(f"{number}".ljust(size) for number in range(2)))
    publish(hub, "b", *(f"{number}".ljust(size) for number in range(2, 4)))
    assert transport.messages == []
    assert not hub.is_full
    publish(hub, "b", "one too many")
    assert hub.is_full
    loop.finish()
    assert not hub.is_full
    assert [str(message).strip() for message in transport.messages] == ["0", "1", "2", "3", "one too many"]
    assert not hub.runs


def test_a_run_that_is_full_gets_no_more(hub: CoreHub, loop: Loop) -> None:
    _, transport = connected(hub, "news")
    publish(hub, "news", "x" * fanout.RUN_BYTES, "1", "2")
    loop.finish()
    assert [len(write) for write in transport.writes] == [fanout.RUN_BYTES + 10, 6]


def test_the_bound_starts_anew_with_each_turn(hub: CoreHub, loop: Loop) -> None:
    _, transport = connected(hub, "a")
    for _ in range(5):
        publish(hub, "a", "x" * (fanout.RUN_BYTES - ENTRY_BYTES))
        before = len(transport.writes)
        assert not hub.runs or before == len(transport.writes)
        loop.turn()
        assert len(transport.writes) == before + 1


def test_what_was_handed_over_is_counted_with_its_bytes(hub: CoreHub, loop: Loop) -> None:
    (ann, _), (_, slow), *_ = (connected(hub, "news") for _ in range(4))
    slow.buffered_bytes = 1
    publish(hub, "news", "ü", b"123")
    publish(hub, "news", "12345", exclude=[ann])
    loop.turn()
    now = hub.statistics()
    assert (now.published, now.deliveries, now.bytes_sent) == (3, 4 * 3 - 1, 4 * 10 - 5)
    assert (now.dropped, now.discarded, now.queued_bytes) == ({}, 0, 10 + 3 * ENTRY_BYTES)


class Name(str):
    """The name of a channel, and one can see whether anybody keeps it."""


@pytest.mark.parametrize("how", ["left", "ended", "lost"])
@pytest.mark.parametrize("turns", [0, 1])
def test_nothing_keeps_what_has_gone_once_the_turn_is_over(hub: CoreHub, loop: Loop, how: str, turns: int) -> None:
    other, _ = connected(hub, "other")

    def come_and_go() -> tuple[weakref.ref[CoreConnection], weakref.ref[Name]]:
        channel = Name("news")
        connection, transport = connected(hub, channel, "other")
        publish(hub, channel, "1")
        publish(hub, "other", "2", exclude=[connection])
        for _ in range(turns):
            loop.turn()
        publish(hub, channel, "3")
        if how == "left":
            hub.leave(connection, channel)
        connection.end(1000) if how == "ended" else transport.lose()
        return weakref.ref(connection), weakref.ref(channel)

    gone = come_and_go()
    loop.finish()
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert not hub.runs
    assert hub.hears(other, "other")


# Whatever happens in whatever order

CHANNELS = ("a", "b", "c")
NAMES = (*CHANNELS, EVERYONE, user_channel("ann"))


def room_of(message: Data) -> int:
    """Return the bytes that a message takes in an outbox; it is ASCII."""
    return len(message) + ENTRY_BYTES


@dataclasses.dataclass
class Client:
    """What a connection is to hear: what was accepted for it, in the order in which that was."""

    connection: CoreConnection
    transport: SharingTransport
    is_open: bool = True
    expected: list[Data] = dataclasses.field(default_factory=list)


class AnyOrder(RuleBasedStateMachine):
    """Each connection gets what was accepted for it, whenever the loop's turns end."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.hub = hub_in(self.loop)
        self.clients: list[Client] = []
        self.heard: dict[str, list[Client]] = {name: [] for name in NAMES}
        self.count = 0
        self.lost_bytes = 0
        self.small = mock.patch.multiple(fanout, SLICE=mock.DEFAULT, RUN_BYTES=5 * ENTRY_BYTES)
        self.small.start()

    def teardown(self) -> None:
        try:
            self.end_all()
        finally:
            self.small.stop()

    def end_all(self) -> None:
        self.loop.finish()
        for client in self.clients:
            client.transport.give()
            assert client.transport.messages == client.expected
        assert not self.hub.runs
        for client in self.clients:
            client.connection.end(1000)
        assert not self.hub.connections

    def message(self, size: int) -> str:
        self.count += 1
        return f"{self.count}".ljust(size, ".")

    def chosen(self, number: int) -> Client:
        return self.clients[number % len(self.clients)]

    @initialize(
        kinds=st.sampled_from([("sharing", "deflating"), ("single",), ("sharing", "deflating", "single")]),
        slices=st.sampled_from([2, 3, 1_000]),
    )
    def begin(self, kinds: tuple[str, ...], slices: int) -> None:
        fanout.SLICE = slices
        self.kinds = kinds
        for index in range(3):
            self.connect(index, "ann" if index else None, None)

    @precondition(lambda self: len(self.clients) < 8)
    @rule(kind=st.integers(0, 2), user=st.sampled_from(["ann", None]), room=st.none() | st.integers(1, 3))
    def connect(self, kind: int, user: str | None, room: int | None) -> None:
        transports: dict[str, Callable[[], SharingTransport]] = {
            "sharing": lambda: SharingTransport(room=room),
            "deflating": lambda: SharingTransport(deflated(15), room),
            "single": lambda: SingleTransport(room),
        }
        transport = transports[self.kinds[kind % len(self.kinds)]]()
        client = Client(*connected(self.hub, transport=transport, user=user))
        self.clients.append(client)
        self.heard[EVERYONE].append(client)
        if user is not None:
            self.heard[user_channel(user)].append(client)

    @rule(number=st.integers(0, 7), channel=st.sampled_from(CHANNELS))
    def join(self, number: int, channel: str) -> None:
        client = self.chosen(number)
        if client.is_open:
            self.hub.join_here(client.connection, channel)
            if client not in self.heard[channel]:
                self.heard[channel].append(client)

    @rule(number=st.integers(0, 7), channel=st.sampled_from(CHANNELS))
    def leave(self, number: int, channel: str) -> None:
        client = self.chosen(number)
        self.hub.leave(client.connection, channel)
        if client in self.heard[channel]:
            self.heard[channel].remove(client)

    @rule(
        channel=st.sampled_from(NAMES),
        size=st.sampled_from([1, 100, 700]),
        excluded=st.sets(st.integers(0, 7), max_size=3),
    )
    def publish(self, channel: str, size: int, excluded: set[int]) -> None:
        message = self.message(size)
        left_out = [self.chosen(number) for number in excluded]
        for client in self.heard[channel]:
            if client not in left_out:
                client.expected.append(message)
        self.hub.publish_here(channel, message, tuple(client.connection for client in left_out))
        while self.hub.is_full:  # as `Hub.publish` does
            self.loop.turn()

    @rule(number=st.integers(0, 7), size=st.sampled_from([1, 100]))
    def send(self, number: int, size: int) -> None:
        client = self.chosen(number)
        message = self.message(size)
        if client.is_open:
            client.expected.append(message)
        send(client.connection, message)

    @rule(number=st.integers(0, 7))
    def congest(self, number: int) -> None:
        self.chosen(number).transport.buffered_bytes = 1

    @rule(number=st.integers(0, 7), room=st.none() | st.integers(1, 3))
    def relieve(self, number: int, room: int | None) -> None:
        self.chosen(number).transport.give(room)

    @rule()
    def turn(self) -> None:
        self.loop.turn()

    @rule(number=st.integers(0, 7))
    def end(self, number: int) -> None:
        client = self.chosen(number)
        client.connection.end(1000)
        self.forget(client)

    @rule(number=st.integers(0, 7))
    def lose(self, number: int) -> None:
        client = self.chosen(number)
        self.lost_bytes += client.connection.queued_bytes
        client.transport.lose()
        client.expected = list(client.transport.messages)
        self.forget(client)

    def forget(self, client: Client) -> None:
        client.is_open = False
        for clients in self.heard.values():
            if client in clients:
                clients.remove(client)

    @invariant()
    def nobody_has_heard_anything_else(self) -> None:
        for client in self.clients:
            assert client.transport.messages == client.expected[: len(client.transport.messages)]

    @invariant()
    def each_delivery_is_counted_once_with_its_bytes(self) -> None:
        counters = self.hub.counters
        written = sum(room_of(message) for client in self.clients for message in client.transport.messages)
        counted = counters.deliveries * ENTRY_BYTES + counters.bytes_sent
        assert counted == written + self.hub.statistics().queued_bytes + self.lost_bytes
        assert not counters.dropped
        assert not counters.closed[3008]

    @invariant()
    def what_waits_is_bounded(self) -> None:
        assert len(self.hub.runs) <= 6


AnyOrder.TestCase.settings = settings(UNTIMED, max_examples=60, stateful_step_count=60)
TestAnyOrder = AnyOrder.TestCase
