"""Configuration says what is wrong with it when it is built, and never changes afterwards."""

import dataclasses
import math
from typing import Any

import pytest

from hubbub.config import Drain, Heartbeat, Limits, Outbox

COUNTS = (
    "connections",
    "connections_per_user",
    "connections_per_address",
    "channels_per_connection",
    "channel_name_bytes",
    "message_bytes",
    "message_fragments",
)
RATES = ("messages_per_s", "first_message_s", "idle_s")


def test_every_limit_is_tested_here() -> None:
    assert {field.name for field in dataclasses.fields(Limits)} == {*COUNTS, *RATES, "message_burst"}


def test_the_defaults_are_those_of_the_design() -> None:
    assert Limits() == Limits(
        connections=None,
        connections_per_user=None,
        connections_per_address=1_000,
        channels_per_connection=128,
        channel_name_bytes=255,
        message_bytes=65_536,
        message_fragments=4_096,
        messages_per_s=100,
        message_burst=200,
        first_message_s=None,
        idle_s=None,
    )
    assert Outbox() == Outbox(bytes=1_048_576, policy="disconnect")
    assert Heartbeat() == Heartbeat(interval_s=25, timeout_s=10)
    assert Drain() == Drain(window_s=5, batch=500)


@pytest.mark.parametrize("name", [*COUNTS, *RATES])
@pytest.mark.parametrize("value", [None, 1, 10**9])
def test_a_limit_takes_a_whole_number_or_none(name: str, value: int | None) -> None:
    assert getattr(Limits(**{name: value}), name) == value


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("value", [0.5, 1e-9, 3.25])
def test_a_rate_and_a_time_take_a_fraction(name: str, value: float) -> None:
    assert getattr(Limits(**{name: value}), name) == value


@pytest.mark.parametrize("name", [*COUNTS, *RATES, "message_burst"])
@pytest.mark.parametrize("value", [0, -1, 0.0, -0.5, math.nan, -math.inf, True, False, "1", b"1", [1]], ids=repr)
def test_what_is_no_positive_number_is_refused_by_name_and_value(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as refused:
        Limits(**{name: value})
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize("name", [*COUNTS, "message_burst"])
@pytest.mark.parametrize("value", [1.0, 1.5, math.inf])
def test_what_counts_things_takes_no_fraction(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="whole number above 0"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", [*COUNTS, *RATES])
def test_the_error_says_that_none_means_no_limit(name: str) -> None:
    with pytest.raises(ValueError, match="or None for no limit"):
        Limits(**{name: 0})


def test_a_burst_must_be_given_and_the_error_does_not_offer_none() -> None:
    with pytest.raises(ValueError, match="message_burst=None") as refused:
        Limits(message_burst=None)  # type: ignore[arg-type]
    assert "or None" not in str(refused.value)


@pytest.mark.parametrize("value", [1, 2**40])
def test_the_bound_of_an_outbox_may_be_any_positive_whole_number(value: int) -> None:
    assert Outbox(bytes=value).bytes == value


@pytest.mark.parametrize("value", [0, -1, 1.0, math.nan, None, True, "1024"])
def test_the_bound_of_an_outbox_is_a_positive_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"Outbox\(bytes="):
        Outbox(bytes=value)


@pytest.mark.parametrize("policy", ["disconnect", "drop_oldest", "drop_newest", "latest"])
def test_the_four_policies_are_known(policy: Any) -> None:
    assert Outbox(policy=policy).policy == policy


@pytest.mark.parametrize("policy", ["", "Latest", "drop", None, 1, ["latest"]])
def test_another_policy_is_refused_with_the_list_of_those_that_exist(policy: Any) -> None:
    with pytest.raises(ValueError, match="disconnect, drop_oldest, drop_newest, latest"):
        Outbox(policy=policy)


@pytest.mark.parametrize("value", [Limits(), Outbox()], ids=["Limits", "Outbox"])
def test_configuration_is_frozen_by_keyword_only_and_a_value(value: Any) -> None:
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, 1)
    with pytest.raises(TypeError):
        type(value)(1)
    assert hash(value) == hash(type(value)())
    assert not hasattr(value, "__dict__")


def test_replace_checks_again() -> None:
    with pytest.raises(ValueError, match="idle_s"):
        dataclasses.replace(Limits(), idle_s=-1)


@pytest.mark.parametrize("value", [0, -1, math.nan, True, "1"], ids=repr)
@pytest.mark.parametrize(
    ("kind", "name"),
    [(Heartbeat, "interval_s"), (Heartbeat, "timeout_s"), (Drain, "window_s"), (Drain, "batch")],
)
def test_a_time_or_a_batch_is_a_positive_number(kind: type, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\({name}=") as refused:
        kind(**{name: value})
    assert repr(value) in str(refused.value)


def test_only_what_may_be_missing_can_be_none() -> None:
    assert Heartbeat(interval_s=None).interval_s is None
    for kind, name in ((Heartbeat, "timeout_s"), (Drain, "window_s"), (Drain, "batch")):
        with pytest.raises(ValueError, match=r"number above 0$"):
            kind(**{name: None})


def test_a_batch_is_a_whole_number() -> None:
    with pytest.raises(ValueError, match=r"whole number above 0$"):
        Drain(batch=1.5)  # type: ignore[arg-type]
