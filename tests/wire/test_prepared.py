"""A frame knows its size on the wire."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hubbub.wire.prepared import PreparedFrame, payload_size

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

ENCODABLE = st.text(st.characters(exclude_categories=("Cs",)))


@UNTIMED
@given(ENCODABLE)
@example("")
@example("ascii")
@example("\x7f\x80")
@example("\u07ff\u0800")
@example("\uffff\U00010000")
def test_a_text_has_the_size_of_its_utf_8_form(text: str) -> None:
    assert payload_size(text) == len(text.encode("utf-8"))


@UNTIMED
@given(st.binary())
def test_bytes_have_their_own_size(data: bytes) -> None:
    assert payload_size(data) == len(data)


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d\ude00", "é" * 1000 + "\udc80"])
def test_a_lone_surrogate_has_no_size(text: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        payload_size(text)
    with pytest.raises(UnicodeEncodeError):
        PreparedFrame(text)


@UNTIMED
@given(ENCODABLE | st.binary())
def test_a_frame_keeps_the_message_and_its_size(data: str | bytes) -> None:
    frame = PreparedFrame(data)
    assert frame.data is data
    assert frame.size == payload_size(data)


def test_a_size_that_is_known_is_not_computed_again() -> None:
    assert PreparedFrame("é", 2).size == 2
    assert PreparedFrame("\ud800", 0).size == 0


def test_a_frame_has_no_room_for_more() -> None:
    with pytest.raises(AttributeError):
        PreparedFrame("x").extra = 1  # type: ignore[attr-defined]
