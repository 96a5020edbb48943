"""From a message to a frame, once; from a frame to everybody who is not excluded."""

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub.hub.fanout import prepare
from hubbub.wire.prepared import PreparedFrame

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
