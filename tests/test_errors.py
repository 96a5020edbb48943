"""Every error is a `HubbubError`, carries its data, and reads as one sentence."""

import pytest

from hubbub.errors import Denied, HubbubError, InvalidMessage
from hubbub.model import CloseCode


@pytest.mark.parametrize("error", [Denied("no"), InvalidMessage([], CloseCode.INVALID_PAYLOAD)])
def test_every_error_can_be_caught_as_a_hubbub_error(error: Exception) -> None:
    assert isinstance(error, HubbubError)


def test_a_refusal_is_a_403_without_a_limit_unless_told() -> None:
    denied = Denied("not on the list")
    assert (denied.reason, denied.limit, denied.status, dict(denied.headers)) == ("not on the list", None, 403, {})
    assert str(denied) == "not on the list"


def test_a_refusal_carries_what_it_is_given() -> None:
    denied = Denied("full", limit="connections", status=503, headers={"Retry-After": "10"})
    assert (denied.limit, denied.status, denied.headers) == ("connections", 503, {"Retry-After": "10"})


def test_refusals_share_no_headers_that_could_be_changed() -> None:
    with pytest.raises(TypeError):
        Denied("no").headers["X-Leak"] = "1"  # type: ignore[index]


def test_an_invalid_message_is_a_value_error_with_its_faults_and_close_code() -> None:
    faults = [{"type": "missing", "loc": ("text",), "msg": "Field required"}]
    invalid = InvalidMessage(faults, CloseCode.POLICY_VIOLATION)
    assert isinstance(invalid, ValueError)
    assert invalid.errors == faults
    assert invalid.close_code == 1008


@pytest.mark.parametrize(
    ("faults", "text"),
    [
        (
            [{"loc": ("a", 0, "b"), "msg": "Field required"}, {"loc": ("c",), "msg": "too long"}],
            "the client sent an invalid message (a.0.b: Field required; c: too long)",
        ),
        ([{"loc": (), "msg": "Invalid JSON"}], "the client sent an invalid message (message: Invalid JSON)"),
        ([], "the client sent an invalid message ()"),
    ],
    ids=["in places", "as a whole", "without faults"],
)
def test_an_invalid_message_says_where_and_why(faults: list[dict[str, object]], text: str) -> None:
    assert str(InvalidMessage(faults, CloseCode.POLICY_VIOLATION)) == text
