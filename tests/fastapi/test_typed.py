"""Typed messages: what is taken, what is refused and why, and that nothing of a bad message is quoted."""

import dataclasses
import datetime
import decimal
import enum
import functools
import ipaddress
import json
import types
import uuid
import zoneinfo
from typing import Annotated, Any, Generic, Literal, TypeVar

import pydantic
import pytest
from fastapi import Depends
from fastapi.dependencies.utils import get_dependant, get_parameterless_sub_dependant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType, TypedDict

from hubbub.errors import InvalidMessage
from hubbub.fastapi.typed import UNTYPED, MessageTypes, declared_types, validates_outgoing

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

MARKER = "MARKERmarker"
"""Stands for what a client would not like to see quoted; letters only, so that no escaping can hide it."""


class Say(pydantic.BaseModel):
    type: Literal["say"]
    text: str


class Move(pydantic.BaseModel):
    type: Literal["move"]
    x: int
    y: int = 0


class Node(pydantic.BaseModel):
    children: list["Node"] = []


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    text: str = ""


class Entry(TypedDict):
    id: int


@dataclasses.dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = "red"


Tagged = Annotated[Say | Move, pydantic.Field(discriminator="type")]


def decode(incoming: Any, data: str | bytes) -> Any:
    return MessageTypes(incoming).decode(data)


def refusal(incoming: Any, data: str | bytes) -> InvalidMessage:
    """Return why a message is refused, and hold the errors against what is promised of all of them."""
    with pytest.raises(InvalidMessage) as refused:
        decode(incoming, data)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    assert 1 <= len(refused.value.errors) <= 16
    for error in refused.value.errors:
        assert set(error) == {"type", "loc", "msg"}
        assert all(isinstance(key, int) or len(key) <= 64 for key in error["loc"])
    json.dumps(refused.value.errors)
    return refused.value


def verdict(incoming: Any, data: str | bytes) -> InvalidMessage | None:
    """Return why a message is refused, or `None` where it is taken."""
    try:
        decode(incoming, data)
    except InvalidMessage as invalid:
        return invalid
    return None


def kinds(invalid: InvalidMessage) -> list[str]:
    return [error["type"] for error in invalid.errors]


# Messages as they are


@pytest.mark.parametrize(
    ("incoming", "text", "binary"),
    [
        (Any, True, True),
        (str, True, False),
        (bytes, False, True),
        (str | bytes, True, True),
        (bytes | str, True, True),
        (Say, True, True),
        (list[int], True, True),
    ],
    ids=str,
)
def test_which_kinds_of_message_are_taken(incoming: Any, text: bool, binary: bool) -> None:
    # A binary message where JSON is due is taken too, for `decode` to say what is wrong with it.
    assert MessageTypes(incoming).takes("x") is text
    assert MessageTypes(incoming).takes(b"x") is binary


@pytest.mark.parametrize(
    ("incoming", "data"),
    [
        (Any, "not JSON"),
        (Any, b"\xff"),
        (str, "not JSON"),
        (str, '"quoted"'),
        (bytes, b"\xff"),
        (str | bytes, "not JSON"),
        (str | bytes, b"\xff"),
    ],
)
def test_raw_messages_come_as_they_are(incoming: Any, data: str | bytes) -> None:
    assert decode(incoming, data) is data


def test_the_default_is_untyped() -> None:
    assert MessageTypes() == UNTYPED
    assert (UNTYPED.incoming, UNTYPED.outgoing) == (Any, Any)


# Messages that are JSON


@pytest.mark.parametrize(
    ("incoming", "data", "expected"),
    [
        (Say, '{"type":"say","text":"hi"}', Say(type="say", text="hi")),
        (Say | Move, '{"type":"move","x":1}', Move(type="move", x=1)),
        (Say | Move, '{"type":"say","text":"hi"}', Say(type="say", text="hi")),
        (Tagged, '{"type":"move","x":1}', Move(type="move", x=1)),
        (Tagged, '{"type":"say","text":"hi"}', Say(type="say", text="hi")),
        (Say | str, '"hi"', "hi"),
        (str | None, '"hi"', "hi"),
        (str | None, "null", None),
        (str | int, "5", 5),
        (int, "5", 5),
        (bool, "true", True),
        (None, "null", None),
        (list[int], "[1,2]", [1, 2]),
        (dict[str, int], '{"a":1}', {"a": 1}),
        (Entry, '{"id":1}', {"id": 1}),
        (Point, '{"x":1}', Point(1)),
        (Literal["a", "b"], '"b"', "b"),
        (Colour, '"red"', Colour.RED),
        (Annotated[str, pydantic.Field(max_length=3)], '"abc"', "abc"),
        (pydantic.JsonValue, '[1,{"a":null}]', [1, {"a": None}]),
        (Node, '{"children":[{"children":[]}]}', Node(children=[Node()])),
        (Say, ' \n{"text":"\\u00e9\\ud83d\\ude00","type":"say"} ', Say(type="say", text="é\U0001f600")),
    ],
    ids=str,
)
def test_json_comes_as_its_type(incoming: Any, data: str, expected: object) -> None:
    message = decode(incoming, data)
    assert message == expected
    assert type(message) is type(expected)


@pytest.mark.parametrize(
    ("incoming", "data", "expected"),
    [
        (list[str], '["a"]', ["a"]),
        (dict[str, str], '{"a":"b"}', {"a": "b"}),
        (set[str], '["a"]', {"a"}),
        (list[bytes], '["a"]', [b"a"]),
        (dict[str, bytes], '{"a":"b"}', {"a": b"b"}),
        (dict[str, str | bytes], '{"a":"b"}', {"a": "b"}),
    ],
    ids=str,
)
def test_a_container_of_texts_is_json_and_not_a_raw_message(incoming: Any, data: str, expected: object) -> None:
    assert decode(incoming, data) == expected
    assert refusal(incoming, "not JSON").close_code == 1007
    assert refusal(incoming, b"x").close_code == 1003


@pytest.mark.parametrize(
    ("incoming", "data", "expected"),
    [
        (Annotated[str, {"title": "A text"}], '"a"', "a"),
        (Annotated[Say | Move, {"examples": []}], '{"type":"move","x":1}', Move(type="move", x=1)),
        (list[Annotated[int, []]], "[1]", [1]),
    ],
)
def test_an_annotation_may_carry_any_metadata(incoming: Any, data: str, expected: object) -> None:
    # PEP 593 asks nothing of metadata, not even that it can be hashed.
    assert decode(incoming, data) == expected


def test_of_a_key_that_comes_twice_the_last_one_counts() -> None:
    assert decode(Move, '{"type":"move","x":1,"x":2}').x == 2
    assert kinds(refusal(Move, f'{{"type":"move","x":1,"x":"{MARKER}"}}')) == ["int_parsing"]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_nan_and_infinity_are_numbers_for_float_only_as_in_pydantic(text: str) -> None:
    assert decode(float, text) != decode(float, text) or abs(decode(float, text)) == float("inf")
    assert kinds(refusal(int, text)) == ["finite_number"]
    assert kinds(refusal(pydantic.FiniteFloat, text)) == ["finite_number"]


def test_a_large_number_is_kept_exactly_and_a_huge_one_is_refused() -> None:
    assert decode(int, "9" * 4_000) == 10**4_000 - 1
    assert refusal(int, "9" * 60_000).close_code == 1007
    assert refusal(dict[str, pydantic.JsonValue], f'{{"a":-{"9" * 60_000}}}').close_code == 1007


# Messages that are refused


@pytest.mark.parametrize("incoming", [Say, int, Say | Move, Tagged, list[int], pydantic.JsonValue], ids=str)
@pytest.mark.parametrize(
    "data",
    [
        "",
        " ",
        "{",
        "[1,",
        '{"a"',
        '{"a":1,}',
        "[1,]",
        "{'a':1}",
        "nul",
        "undefined",
        "01",
        "1 2",
        "{}{}",
        "\ufeff{}",
        '"\x00"',
        '"\n"',
        '"\\x41"',
        '"\\ud800"',
        '"\\udc00"',
        '"\\ud800\\ud800"',
        '{"\\ud800":1}',
        "// comment\n1",
    ],
    ids=ascii,
)
def test_malformed_json_is_1007(incoming: Any, data: str) -> None:
    invalid = refusal(incoming, data)
    assert invalid.close_code == 1007
    assert kinds(invalid) == ["json_invalid"]
    assert invalid.errors[0]["loc"] == ()


@pytest.mark.parametrize("data", ["[" * 100_000, '{"children":[' * 100_000, "[" * 100_000 + "]" * 100_000], ids=len)
@pytest.mark.parametrize("incoming", [Node, pydantic.JsonValue, int, list[Any]], ids=str)
def test_100_000_levels_are_malformed_and_nothing_worse(incoming: Any, data: str) -> None:
    invalid = refusal(incoming, data)
    assert invalid.close_code == 1007
    assert "recursion limit" in invalid.errors[0]["msg"]


@pytest.mark.parametrize(
    ("incoming", "data", "expected"),
    [
        (Say, "{}", ["missing", "missing"]),
        (Say, "[]", ["model_type"]),
        (Say, "null", ["model_type"]),
        (Say, '{"type":"say","text":5}', ["string_type"]),
        (Say, '{"type":"move","text":""}', ["literal_error"]),
        (Say | Move, "1", ["model_type", "model_type"]),
        (Tagged, "{}", ["union_tag_not_found"]),
        (Tagged, '{"type":"shout"}', ["union_tag_invalid"]),
        (Tagged, '{"type":"move"}', ["missing"]),
        (str | None, "1", ["string_type"]),
        (Strict, '{"more":1}', ["extra_forbidden"]),
        (list[int], '[1,"x"]', ["int_parsing"]),
        (None, "1", ["none_required"]),
    ],
    ids=str,
)
def test_json_that_does_not_fit_is_1008(incoming: Any, data: str, expected: list[str]) -> None:
    invalid = refusal(incoming, data)
    assert invalid.close_code == 1008
    assert kinds(invalid) == expected


@pytest.mark.parametrize("incoming", [Say, int, Say | Move, Tagged, list[int], str | None], ids=str)
@pytest.mark.parametrize("data", [b"", b'{"type":"say","text":"hi"}', b"\xff", MARKER.encode()])
def test_binary_where_json_is_due_is_1003(incoming: Any, data: bytes) -> None:
    invalid = refusal(incoming, data)
    assert invalid.close_code == 1003
    assert kinds(invalid) == ["binary"]
    assert "text message" in str(invalid)


def test_json_inside_a_json_text_that_is_malformed_is_no_malformed_message() -> None:
    class Wrapped(pydantic.BaseModel):
        payload: pydantic.Json[int]

    invalid = refusal(Wrapped, '{"payload":"not JSON"}')
    assert invalid.errors[0]["loc"] == ("payload",)
    assert invalid.close_code == 1008


def test_where_a_fault_is_is_said() -> None:
    class Outer(pydantic.BaseModel):
        points: dict[str, list[Move]]

    invalid = refusal(Outer, '{"points":{"a":[{"type":"move","x":1},{"type":"move","x":"?"}]}}')
    assert [error["loc"] for error in invalid.errors] == [("points", "a", 1, "x")]
    assert "points.a.1.x" in str(invalid)


@pytest.mark.parametrize("count", [1, 16, 17, 1_000])
def test_at_most_16_faults_are_listed(count: int) -> None:
    invalid = refusal(list[int], json.dumps(["x"] * count))
    assert [error["loc"] for error in invalid.errors] == [(index,) for index in range(min(count, 16))]


# Nothing of the message is quoted


def unhelpful(value: Any) -> Any:
    """Refuse with a reason that says nothing of the value, as a validator of an application should."""
    raise ValueError("not this one")


def quoting(value: Any) -> Any:
    """Refuse with a reason that quotes the value, as `int("x")` and many others do."""
    raise ValueError(f"cannot use {value!r}")


def asserting(value: Any) -> Any:
    raise AssertionError("something else is due")


def custom(value: Any) -> Any:
    raise PydanticCustomError("custom", "a reason of its own")


def quoting_custom(value: Any) -> Any:
    raise PydanticCustomError("custom", "cannot use {value}", {"value": value})


QUOTING = {
    "int": int,
    "float": float,
    "bool": bool,
    "decimal": decimal.Decimal,
    "datetime": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "aware": pydantic.AwareDatetime,
    "past": pydantic.PastDate,
    "uuid": uuid.UUID,
    "enum": Colour,
    "literal": Literal["a", "b"],
    "none": type(None),
    "model": Say,
    "strict model": Strict,
    "typed dict": Entry,
    "dataclass": Point,
    "union": Say | Move | int,
    "tagged union": Tagged,
    "list": list[int],
    "set": set[int],
    "tuple": tuple[int, int],
    "dict of int": dict[str, int],
    "url": pydantic.HttpUrl,
    "ip address": ipaddress.IPv4Address,
    "ip network": ipaddress.IPv6Network,
    "any ip": pydantic.IPvAnyAddress,
    "json": pydantic.Json[int],
    "pattern": Annotated[str, pydantic.StringConstraints(pattern="^a$")],
    "length": Annotated[str, pydantic.Field(max_length=3)],
    "constrained": Annotated[int, pydantic.Field(gt=3)],
    "strict int": pydantic.StrictInt,
    "base64": pydantic.Base64Bytes,
    "byte size": pydantic.ByteSize,
    "time zone": zoneinfo.ZoneInfo,
    "validator": Annotated[Any, pydantic.AfterValidator(unhelpful)],
    "quoting validator": Annotated[Any, pydantic.AfterValidator(quoting)],
    "quoting custom error": Annotated[Any, pydantic.AfterValidator(quoting_custom)],
    "module": pydantic.ImportString,
    "assertion": Annotated[Any, pydantic.AfterValidator(asserting)],
    "custom error": Annotated[Any, pydantic.AfterValidator(custom)],
}
"""Types by the kind of error that they give."""

POSITIONS = {
    "bare": lambda text: json.dumps(text),
    "after a number": lambda text: json.dumps(f"1 {text}"),
    "after a word": lambda text: json.dumps(f"a{text}"),
    "in a list": lambda text: json.dumps([text, [text], {"a": text}]),
    "as a value": lambda text: json.dumps({"type": text, "x": text, "id": text, "text": [text]}),
    "under a known tag": lambda text: json.dumps({"type": "move", "x": text, "y": {"z": text}}),
    "in many values": lambda text: json.dumps([text] * 40),
    "not quoted": lambda text: text,
    "cut off": lambda text: f'{{"type":"{text}',
    "after a bad escape": lambda text: f'"\\q{text}"',
    "after the end": lambda text: f"1 {text}",
    "in a comment": lambda text: f"1 // {text}",
}
"""Messages with a text in a value, or where none should be; texts in keys are another test."""


@pytest.mark.parametrize("incoming", QUOTING.values(), ids=QUOTING.keys())
def test_no_error_quotes_a_value_of_the_message(incoming: Any) -> None:
    verdicts = {name: verdict(incoming, position(MARKER)) for name, position in POSITIONS.items()}
    refusals = {name: invalid for name, invalid in verdicts.items() if invalid is not None}
    assert refusals.keys() >= {"not quoted", "cut off", "after a bad escape", "after the end", "in a comment"}
    for name, invalid in refusals.items():
        assert MARKER not in repr(invalid.errors), name
        assert MARKER not in str(invalid), name


@pytest.mark.parametrize(
    ("incoming", "message"),
    [
        (Strict, {MARKER: 1}),
        (dict[str, int], {MARKER: "x"}),
        (dict[int, int], {MARKER: 1}),
        (dict[str, dict[str, int]], {"a": {MARKER: "x"}}),
        (dict[str, list[int]], {MARKER: ["x"]}),
    ],
    ids=str,
)
def test_a_key_of_the_message_is_quoted_in_the_location_only(incoming: Any, message: object) -> None:
    for error in refusal(incoming, json.dumps(message)).errors:
        assert MARKER in error["loc"]
        assert MARKER not in error["msg"]
        assert MARKER not in error["type"]


@pytest.mark.parametrize("character", ["k", "é", "\U0001f600"])
def test_of_a_long_key_the_location_has_the_first_64_characters(character: str) -> None:
    invalid = refusal(dict[str, int], json.dumps({character * 1_000: "x"}))
    assert invalid.errors[0]["loc"] == (character * 64,)


def test_a_tag_that_is_not_expected_is_answered_with_those_that_are() -> None:
    (error,) = refusal(Tagged, json.dumps({"type": MARKER})).errors
    assert error["msg"] == "The tag does not match any of the expected tags: 'say', 'move'"


@pytest.mark.parametrize(
    ("validator", "reason"),
    [
        (unhelpful, "Value error, not this one"),
        (asserting, "Assertion failed, something else is due"),
        (custom, "a reason of its own"),
    ],
)
def test_the_reason_of_an_applications_own_validator_is_passed_on(validator: Any, reason: str) -> None:
    (error,) = refusal(Annotated[str, pydantic.AfterValidator(validator)], '"hello"').errors
    assert error["msg"] == reason


@pytest.mark.parametrize(
    ("incoming", "message", "reason"),
    [
        (Annotated[str, pydantic.Field(max_length=3)], "you should have characters", "at most 3 characters"),
        (int, "a valid integer", "unable to parse string as an integer"),
        (Strict, {"text": ["a valid string"]}, "Input should be a valid string"),
        (Move, {"type": "move", "y": 1, "z": "Field required"}, "Field required"),
        (Literal["left", "right"], "either left or right", "Input should be 'left' or 'right'"),
    ],
    ids=str,
)
def test_a_reason_is_kept_though_the_message_has_some_of_its_words(incoming: Any, message: object, reason: str) -> None:
    (error,) = refusal(incoming, json.dumps(message)).errors
    assert reason in error["msg"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=10,
)


@UNTIMED
@given(JSON.map(json.dumps) | st.text(st.characters(exclude_categories=("Cs",))) | st.binary())
def test_any_message_is_taken_or_invalid_and_nothing_else(message: str | bytes) -> None:
    for incoming in (Say | Move, Tagged, Strict, Node, dict[str, int], list[float]):
        invalid = verdict(incoming, message)
        if invalid is not None:
            assert invalid.close_code in (1003, 1007, 1008)
            assert 1 <= len(invalid.errors) <= 16


# What goes out


@pytest.mark.parametrize(
    ("outgoing", "message"),
    [
        (Any, Colour),
        (Say, Say(type="say", text="hi")),
        (Say | Move, Move(type="move", x=1)),
        (Tagged, Say(type="say", text="hi")),
        (str, "hi"),
        (bytes, b"hi"),
        (str | bytes, b"hi"),
        (dict[str, int], {"a": 1}),
        (Point, Point(1)),
        (Entry, {"id": 1}),
    ],
    ids=str,
)
def test_what_is_of_the_declared_type_passes(outgoing: Any, message: object) -> None:
    MessageTypes(Any, outgoing).check(message)


@pytest.mark.parametrize(
    ("outgoing", "message"),
    [
        (Say, Move(type="move", x=1)),
        (Say, "hi"),
        (Say | Move, {"type": "shout"}),
        (str, 1),
        (str, None),
        (bytes, 1),
        (dict[str, int], {"a": "x"}),
        (Point, Say(type="say", text="hi")),
    ],
    ids=str,
)
def test_what_is_not_of_the_declared_type_is_a_type_error_that_shows_both(outgoing: Any, message: object) -> None:
    with pytest.raises(TypeError, match="not what Connection") as refused:
        MessageTypes(Any, outgoing).check(message)
    assert repr(message) in str(refused.value)
    assert str(outgoing) in str(refused.value)


@pytest.mark.parametrize(("outgoing", "message"), [(str, b"binary"), (bytes, "text")], ids=str)
def test_text_is_not_binary_and_binary_is_not_text(outgoing: Any, message: object) -> None:
    # What is declared as text would go out as a binary frame, or the other way round.
    with pytest.raises(TypeError, match="not what Connection"):
        MessageTypes(Any, outgoing).check(message)


@pytest.mark.parametrize(
    ("debug", "dev_mode", "expected"),
    [(False, False, False), (True, False, True), (False, True, True), (None, False, False), (None, True, True)],
)
def test_what_goes_out_is_checked_in_development_only(
    monkeypatch: pytest.MonkeyPatch, debug: bool | None, dev_mode: bool, expected: bool
) -> None:
    system = types.SimpleNamespace(flags=types.SimpleNamespace(dev_mode=dev_mode))
    monkeypatch.setattr("hubbub.fastapi.typed.sys", system)
    scope = {} if debug is None else {"app": types.SimpleNamespace(debug=debug)}
    assert validates_outgoing(scope) is expected


# Equality, and where the types are declared


def test_message_types_are_values_that_cannot_be_hashed() -> None:
    assert MessageTypes(int, str) == MessageTypes(int, str)
    assert MessageTypes(int, str) != MessageTypes(int, bytes)
    assert MessageTypes(int, str) != MessageTypes(float, str)
    assert MessageTypes() != object()
    with pytest.raises(TypeError, match="unhashable"):
        hash(MessageTypes())


In = TypeVar("In")
Out = TypeVar("Out")


class Socket(Generic[In, Out]):
    """Stands for `Connection`."""


class Provider:
    """Stands for the dependency of a hub."""

    def __init__(self, runtime: object) -> None:
        self._runtime = runtime

    def __call__(self) -> None: ...


RUNTIME = object()
here, there = Provider(RUNTIME), Provider(object())
IntAndStr = TypeAliasType("IntAndStr", Socket[int, str])
Provided = TypeAliasType("Provided", Annotated[IntAndStr, "provided"])


class Later(pydantic.BaseModel):
    """Named in quotes where it is used."""


Untyped = Annotated[Socket, Depends(here)]
Ours = Annotated[Socket[int, str], Depends(here)]
Different = Annotated[Socket[int, bytes], Depends(here)]
Theirs = Annotated[Socket[int, bytes], Depends(there)]


def nothing() -> None: ...
def bare(socket: Untyped) -> None: ...
def annotated(socket: Ours) -> None: ...
def by_default_value(socket: Socket[int, str] = Depends(here)) -> None: ...  # noqa: B008
def in_quotes(socket: "Annotated[Socket[int, str], Depends(here)]") -> None: ...
def inside_in_quotes(socket: Annotated[Socket["Later", "str"], Depends(here)]) -> None: ...
def by_an_alias(socket: Annotated[IntAndStr, Depends(here)]) -> None: ...
def by_an_alias_of_an_alias(socket: Annotated[Provided, Depends(here)]) -> None: ...
def unrelated(found: Annotated[list[int], Depends(bare)]) -> None: ...
def of_no_such_name(found: Annotated[list["Missing"], Depends(nothing)]) -> None: ...  # noqa: F821
def nested(found: Annotated[None, Depends(annotated)]) -> None: ...
def passed_on(socket: Annotated[Socket[int, str], Depends(bare)]) -> None: ...
def twice_the_same(found: Annotated[None, Depends(annotated)], socket: Ours) -> None: ...
def beside_a_bare_one(found: Annotated[None, Depends(bare)], socket: Ours) -> None: ...
def only_of_another_hub(socket: Theirs) -> None: ...
def in_a_list(found: Annotated[list[Socket[int, str]], Depends(nothing)]) -> None: ...
def in_a_union(found: Annotated[int | str, Depends(nothing)]) -> None: ...
def of_two_hubs(other: Theirs, socket: Ours) -> None: ...
def bare_beside_another_hub(other: Theirs, socket: Untyped) -> None: ...
def or_none(socket: Annotated[Socket[int, str] | None, Depends(here)]) -> None: ...
def in_two_ways(other: Different, socket: Ours) -> None: ...
def in_two_places(found: Annotated[None, Depends(annotated)], socket: Different) -> None: ...


class Callable:
    """An endpoint that is an object."""

    def __call__(self, socket: "Annotated[Socket[int, str], Depends(here)]") -> None: ...


@functools.wraps(inside_in_quotes)
def wrapped(*args: Any, **kwargs: Any) -> None: ...


FOUND: dict[Any, MessageTypes] = {
    nothing: UNTYPED,
    bare: UNTYPED,
    unrelated: UNTYPED,
    of_no_such_name: UNTYPED,
    annotated: MessageTypes(int, str),
    by_default_value: MessageTypes(int, str),
    in_quotes: MessageTypes(int, str),
    inside_in_quotes: MessageTypes(Later, str),
    wrapped: MessageTypes(Later, str),
    by_an_alias: MessageTypes(int, str),
    by_an_alias_of_an_alias: MessageTypes(int, str),
    Callable(): MessageTypes(int, str),
    nested: MessageTypes(int, str),
    passed_on: MessageTypes(int, str),
    twice_the_same: MessageTypes(int, str),
    beside_a_bare_one: MessageTypes(int, str),
    in_a_list: UNTYPED,
    in_a_union: UNTYPED,
    only_of_another_hub: MessageTypes(int, bytes),
    of_two_hubs: MessageTypes(int, str),
    bare_beside_another_hub: UNTYPED,
}
"""Endpoints, and what a hub finds declared in them; its own connections come before those of others."""


@pytest.mark.parametrize(
    "endpoint",
    FOUND,
    ids=[getattr(endpoint, "__name__", "an object") if endpoint is not wrapped else "wrapped" for endpoint in FOUND],
)
def test_types_are_found_where_a_route_or_its_dependencies_ask_for_the_connection(endpoint: Any) -> None:
    assert declared_types(get_dependant(path="/ws", call=endpoint), RUNTIME, Socket) == FOUND[endpoint]


def test_a_dependency_of_the_route_itself_is_looked_into_though_it_has_no_parameter() -> None:
    dependant = get_dependant(path="/ws", call=nothing)
    dependant.dependencies.append(get_parameterless_sub_dependant(depends=Depends(annotated), path="/ws"))
    assert declared_types(dependant, RUNTIME, Socket) == MessageTypes(int, str)


@pytest.mark.parametrize("endpoint", [in_two_ways, in_two_places])
def test_two_declarations_that_differ_are_an_error_that_names_the_route_and_both(endpoint: Any) -> None:
    with pytest.raises(TypeError, match=r"^/ws: .*different types") as refused:
        declared_types(get_dependant(path="/ws", call=endpoint), RUNTIME, Socket)
    for argument in (int, str, bytes):
        assert str(argument) in str(refused.value)


def test_a_declaration_that_cannot_be_read_is_an_error_that_names_the_route_and_the_parameter() -> None:
    with pytest.raises(TypeError, match=r"^/ws: socket: .*cannot be read"):
        declared_types(get_dependant(path="/ws", call=or_none), RUNTIME, Socket)
