"""The counters, and the record of them that users see."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fastapi.encoders import jsonable_encoder
from pydantic_core import to_json

from hubbub.hub.statistics import Counters, Statistics

NOW = ("connections", "users", "channels", "queued_bytes", "is_broker_connected")
FIELDS = [field.name for field in dataclasses.fields(Statistics)]


def snapshot(counters: Counters) -> Statistics:
    return counters.snapshot(connections=1, users=2, channels=3, queued_bytes=4, is_broker_connected=False)


def test_new_counters_have_seen_nothing() -> None:
    record = Counters().snapshot(connections=0, users=0, channels=0, queued_bytes=0)
    assert {name: getattr(record, name) for name in FIELDS if getattr(record, name)} == {"is_broker_connected": True}


def test_what_only_the_hub_can_count_is_passed_on() -> None:
    record = snapshot(Counters())
    assert [getattr(record, name) for name in NOW] == [1, 2, 3, 4, False]


def test_every_counter_is_in_the_record_and_every_field_is_counted() -> None:
    counters = [field.name for field in dataclasses.fields(Counters)]
    assert sorted(FIELDS) == sorted([*NOW, *counters])


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Counters)])
def test_each_counter_arrives_in_the_field_of_its_name_and_in_no_other(name: str) -> None:
    counters = Counters()
    if isinstance(getattr(counters, name), Mapping):
        getattr(counters, name)["key"] += 7
        expected: Any = {"key": 7}
    else:
        setattr(counters, name, 7)
        expected = 7
    before, after = snapshot(Counters()), snapshot(counters)
    changed = {field: getattr(after, field) for field in FIELDS if getattr(after, field) != getattr(before, field)}
    assert changed == {name: expected}


def test_a_record_does_not_change_while_the_counting_goes_on() -> None:
    counters = Counters()
    counters.refused["connections"] += 1
    record = snapshot(counters)
    counters.accepted += 1
    counters.refused["connections"] += 1
    counters.closed[1000] += 1
    assert (record.accepted, record.refused, record.closed) == (0, {"connections": 1}, {})


@pytest.mark.parametrize("name", FIELDS)
def test_a_record_cannot_be_changed(name: str) -> None:
    record = snapshot(Counters())
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, 1)
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize(
    "encode",
    [dataclasses.asdict, jsonable_encoder, lambda record: json.loads(to_json(record))],
    ids=["asdict", "as a FastAPI route does", "as a message"],
)
def test_a_record_has_a_json_form(encode: Callable[[Statistics], dict[str, Any]]) -> None:
    counters = Counters(accepted=2)
    counters.refused["connections"] += 1
    encoded = encode(snapshot(counters))
    assert list(encoded) == FIELDS
    assert (encoded["accepted"], encoded["refused"], encoded["closed"]) == (2, {"connections": 1}, {})


def test_two_hubs_share_no_counters() -> None:
    first, second = Counters(), Counters()
    first.dropped["latest"] += 1
    first.violations["idle_s"] += 1
    assert second == Counters()
